CREATE VIEW results.screener AS
WITH latest AS (
    SELECT s.symbol, s.timeframe, s.last_ts AS ts, t.trend, t.bars_since_cross, t.spread_pct, i.silent_since,
           i.allow_negative,
           {is_preliminary} AS is_preliminary
    FROM market.series_state s
    JOIN {frame} ON f.timeframe = s.timeframe
    JOIN market.instrument i ON i.symbol = s.symbol AND i.is_active
    JOIN market.ema_trend t ON t.symbol = s.symbol AND t.timeframe = s.timeframe AND t.ts = s.last_ts
    LEFT JOIN market.series_state base
           ON base.asset = 'ohlc' AND base.symbol = s.symbol AND base.timeframe = f.source
    WHERE s.asset = 'ema_trend'
), per_symbol AS (
    SELECT symbol, {frames},
           count(*) FILTER (WHERE trend = 'up') - count(*) FILTER (WHERE trend = 'down') AS alignment
    FROM latest GROUP BY symbol
), crossing AS (
    -- The close p at which both EMAs would be equal after the next bar: a9·p + (1-a9)·E9 = a30·p + (1-a30)·E30, with
    -- a = 2/(n+1).
    SELECT l.*, b.close, e.ema_9, e.ema_30, e.warming_up,
           ((1 - 2.0::float8 / 31) * e.ema_30 - (1 - 2.0::float8 / 10) * e.ema_9)
           / (2.0::float8 / 10 - 2.0::float8 / 31) AS cross_at
    FROM latest l
    JOIN market.ohlc b ON b.symbol = l.symbol AND b.timeframe = l.timeframe AND b.ts = l.ts
    JOIN market.ema_signals e ON e.symbol = l.symbol AND e.timeframe = l.timeframe AND e.ts = l.ts
)
SELECT l.symbol, l.timeframe, l.ts, l.close, l.trend, l.bars_since_cross, l.spread_pct, l.ema_9, l.ema_30,
       -- Where no price is below zero, such a trend cannot flip at the next bar. What is not above zero is no percentage.
       CASE WHEN l.cross_at > 0 OR l.allow_negative THEN l.cross_at END AS cross_price,
       CASE WHEN l.cross_at > 0 AND l.close > 0 THEN (l.cross_at / l.close - 1) * 100 END AS cross_distance_pct,
       p.alignment, {trends},
       {rsi} AS rsi, {atr} AS atr_pct,
       o.side AS trade_side, o.entry_ts AS trade_since, o.entry_price AS trade_price, o.return_pct AS trade_return_pct,
       o.stop_now AS stop_price, 
       CASE WHEN l.close > 0 AND o.stop_now > 0 THEN (l.close / o.stop_now - 1) * 100 END AS stop_distance_pct,
       l.is_preliminary, l.warming_up AS is_warming_up, l.silent_since
FROM crossing l
JOIN per_symbol p ON p.symbol = l.symbol
{open_trade}
