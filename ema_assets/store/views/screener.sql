CREATE VIEW {view} AS
WITH latest AS (
    SELECT s.symbol, s.timeframe, s.last_ts AS ts, t.trend, t.bars_since_cross, t.spread_pct, i.silent_since,
           i.allow_negative,
           {is_preliminary} AS is_preliminary
    FROM market.series_state s
    JOIN {frame} ON f.timeframe = s.timeframe
    JOIN market.instrument i ON i.symbol = s.symbol AND i.is_active
    -- One row is looked up for each series, here and below: a join reads all rows where the tables are not yet large.
    CROSS JOIN LATERAL (
        SELECT trend, bars_since_cross, spread_pct FROM market.{trend} x
        WHERE x.symbol = s.symbol AND x.timeframe = s.timeframe AND x.ts = s.last_ts LIMIT 1
    ) t
    LEFT JOIN market.series_state base
           ON base.asset = 'ohlc' AND base.symbol = s.symbol AND base.timeframe = f.source
    WHERE s.asset = '{trend}'
), beside AS (
    -- Windows, and nothing that is read twice: so a query of one symbol reads nothing of the others.
    SELECT latest.*, {frames},
           count(*) FILTER (WHERE trend = 'up') OVER own - count(*) FILTER (WHERE trend = 'down') OVER own AS alignment
    FROM latest WINDOW own AS (PARTITION BY symbol)
), crossing AS (
    -- The close p at which both EMAs would be equal after the next bar: f·p + (1-f)·F = s·p + (1-s)·S, with f and s
    -- being 2/(n+1).
    SELECT l.*, b.close, {fast_from}.{fast}, s.{slow}, s.warming_up,
           ((1 - 2.0::float8 / {slow_more}) * s.{slow} - (1 - 2.0::float8 / {fast_more}) * {fast_from}.{fast})
           / (2.0::float8 / {fast_more} - 2.0::float8 / {slow_more}) AS cross_at
    FROM beside l
    CROSS JOIN LATERAL {bar} b
    CROSS JOIN LATERAL {slow_row} s
    {join_fast}
)
SELECT l.symbol, l.timeframe, l.ts, l.close, l.trend, l.bars_since_cross, l.spread_pct, l.{fast}, l.{slow},
       -- Where no price is below zero, such a trend cannot flip at the next bar. What is not above zero is no percentage.
       CASE WHEN l.cross_at > 0 OR l.allow_negative THEN l.cross_at END AS cross_price,
       CASE WHEN l.cross_at > 0 AND l.close > 0 THEN (l.cross_at / l.close - 1) * 100 END AS cross_distance_pct,
       l.alignment, {trends},
       {rsi} AS rsi, {atr} AS atr_pct,
       o.side AS trade_side, o.entry_ts AS trade_since, o.entry_price AS trade_price, o.return_pct AS trade_return_pct,
       o.stop_now AS stop_price, 
       CASE WHEN l.close > 0 AND o.stop_now > 0 THEN (l.close / o.stop_now - 1) * 100 END AS stop_distance_pct,
       l.is_preliminary, l.warming_up AS is_warming_up, l.silent_since
FROM crossing l
{open_trade}
