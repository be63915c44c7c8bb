CREATE VIEW results.screener AS
WITH frame(timeframe, length, source, is_session, period) AS (VALUES {lengths}),
latest AS (
    SELECT s.symbol, s.timeframe, s.last_ts AS ts, t.trend, t.bars_since_cross, t.spread_pct, i.silent_since,
           -- Bars of files are final. One that closed later than all final ones of its source may still change.
           i.is_fetched AND coalesce(base.final_through < CASE WHEN f.period IS NOT NULL THEN last_day.regular_close
                                                               WHEN f.is_session THEN day.regular_close
                                                               ELSE least(s.last_ts + f.length, day.close) END, true)
           AS is_preliminary
    FROM market.series_state s
    JOIN frame f ON f.timeframe = s.timeframe
    JOIN market.instrument i ON i.symbol = s.symbol AND i.is_active
    JOIN market.ema_trend t ON t.symbol = s.symbol AND t.timeframe = s.timeframe AND t.ts = s.last_ts
    CROSS JOIN LATERAL (
        -- Where trading weeks begin on a Sunday, it belongs to the Monday behind it.
        SELECT CASE WHEN f.period = 'week' AND i.calendar IN ({begin_on_sunday}) THEN 1 ELSE 0 END AS days
    ) shift
    LEFT JOIN market.series_state base
           ON base.asset = 'ohlc' AND base.symbol = s.symbol AND base.timeframe = f.source
    LEFT JOIN LATERAL (
        SELECT d.session, d.close, d.regular_close FROM market.session d
        WHERE d.calendar = i.calendar AND d.open <= s.last_ts
          AND d.session BETWEEN (s.last_ts - interval '3 days')::date AND (s.last_ts + interval '1 day')::date
        ORDER BY d.open DESC LIMIT 1
    ) day ON true
    LEFT JOIN LATERAL (
        -- A bar of a week, month or year ends with its last session.
        SELECT max(d.regular_close) AS regular_close FROM market.session d
        WHERE f.period IS NOT NULL AND d.calendar = i.calendar AND d.session >= day.session
          AND date_trunc(f.period, d.session + shift.days) = date_trunc(f.period, day.session + shift.days)
          AND d.session < day.session + 367
    ) last_day ON true
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
       -- No price is below zero: such a trend cannot flip at the next bar.
       CASE WHEN l.cross_at > 0 THEN l.cross_at END AS cross_price,
       CASE WHEN l.cross_at > 0 THEN (l.cross_at / l.close - 1) * 100 END AS cross_distance_pct,
       p.alignment, {trends},
       {rsi} AS rsi, {atr} AS atr_pct,
       o.side AS trade_side, o.entry_ts AS trade_since, o.entry_price AS trade_price, o.return_pct AS trade_return_pct,
       o.stop_now AS stop_price, (l.close / o.stop_now - 1) * 100 AS stop_distance_pct,
       l.is_preliminary, l.warming_up AS is_warming_up, l.silent_since
FROM crossing l
JOIN per_symbol p ON p.symbol = l.symbol
{open_trade}
