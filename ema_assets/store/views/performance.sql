CREATE MATERIALIZED VIEW market.strategy_performance AS
WITH series AS (
    -- How long each series has been traded: from its first bar to the newest one that the strategy has seen.
    SELECT s.asset AS strategy, s.symbol, s.timeframe, s.first_ts, s.last_ts, i.calendar, t.bar_number AS bars,
           (b.close / a.close - 1) * 100 AS buy_and_hold_pct
    FROM market.series_state s
    JOIN market.instrument i ON i.symbol = s.symbol AND i.is_active
    JOIN market.ema_trend t ON t.symbol = s.symbol AND t.timeframe = s.timeframe AND t.ts = s.last_ts
    JOIN market.ohlc a ON a.symbol = s.symbol AND a.timeframe = s.timeframe AND a.ts = s.first_ts
    JOIN market.ohlc b ON b.symbol = s.symbol AND b.timeframe = s.timeframe AND b.ts = s.last_ts
    WHERE s.asset IN (SELECT asset FROM market.asset WHERE is_on)
      AND s.asset LIKE 'strategy\_%'
), calendar_year AS (
    -- Bars a year, from the stored sessions: a year from the last closed one back, or what there is of it.
    SELECT s.calendar, f.timeframe,
           sum(CASE WHEN f.minutes >= 1440 THEN 1
                    ELSE ceil(extract(epoch FROM s.close - s.open
                                      - coalesce(s.break_end - s.break_start, interval '0')) / 60 / f.minutes) END)
           / (greatest(extract(epoch FROM max(s.close) - min(s.open)), 86400) / 86400 / 365.25) AS bars
    FROM market.session s
    CROSS JOIN (VALUES ('5m', 5), ('15m', 15), ('30m', 30), ('1h', 60), ('4h', 240), ('1d', 1440)) AS f(timeframe, minutes)
    WHERE s.session > current_date AND s.session <= current_date + 365
    GROUP BY 1, 2
), ordered AS (
    -- What equity was when each trade began, as a multiple of what it was at first, and its highest up to then.
    SELECT t.*, greatest(1 + net_return_pct / 100, 0) AS factor,
           market.product(greatest(1 + net_return_pct / 100, 0)) OVER before AS equity,
           row_number() OVER (PARTITION BY strategy, symbol, timeframe ORDER BY entry_ts) AS place
    FROM market.trade t
    WINDOW before AS (PARTITION BY strategy, symbol, timeframe ORDER BY entry_ts
                      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
), equity AS (
    SELECT o.*, coalesce(o.equity, 1) AS equity_before,
           greatest(1, max(coalesce(o.equity, 1) * o.equity_peak) OVER before) AS peak_before
    FROM ordered o
    WINDOW before AS (PARTITION BY strategy, symbol, timeframe ORDER BY place
                      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
), fallen AS (
    SELECT e.*, 1 - equity_before * equity_trough / peak_before AS fall_from_before,
           greatest(drawdown, 1 - equity_before * equity_trough / peak_before) AS fall
    FROM equity e
), deepest AS (
    SELECT DISTINCT ON (strategy, symbol, timeframe) strategy, symbol, timeframe, place, fall, peak_before,
           fall > drawdown AS is_from_before, drawdown_peak_ts, drawdown_trough_ts, equity_trough_ts
    FROM fallen ORDER BY strategy, symbol, timeframe, fall DESC, place
), fall_start AS (
    -- Where the deepest fall began, when that was in an earlier trade.
    SELECT DISTINCT ON (strategy, symbol, timeframe) strategy, symbol, timeframe, e.equity_peak_ts
    FROM deepest d JOIN equity e USING (strategy, symbol, timeframe)
    WHERE d.is_from_before AND e.place < d.place AND e.equity_before * e.equity_peak >= d.peak_before
    ORDER BY strategy, symbol, timeframe, e.place
), runs AS (
    -- Islands of won and of lost trades: within one, both row numbers go on together.
    SELECT strategy, symbol, timeframe, won, count(*) AS length
    FROM (
        SELECT strategy, symbol, timeframe, net_return_pct > 0 AS won,
               row_number() OVER (PARTITION BY strategy, symbol, timeframe ORDER BY place)
               - row_number() OVER (PARTITION BY strategy, symbol, timeframe, net_return_pct > 0 ORDER BY place) AS island
        FROM ordered WHERE status = 'closed'
    ) each_trade
    GROUP BY strategy, symbol, timeframe, won, island
), streaks AS (
    SELECT strategy, symbol, timeframe, max(length) FILTER (WHERE won) AS most_won,
           max(length) FILTER (WHERE NOT won) AS most_lost
    FROM runs GROUP BY 1, 2, 3
), summed AS (
    SELECT strategy, symbol, timeframe,
           count(*) FILTER (WHERE status = 'closed') AS trades,
           count(*) FILTER (WHERE status = 'open') AS open_trades,
           count(*) FILTER (WHERE status = 'closed' AND net_return_pct > 0) AS won,
           avg(net_return_pct) FILTER (WHERE status = 'closed' AND net_return_pct > 0) AS average_win_pct,
           avg(net_return_pct) FILTER (WHERE status = 'closed' AND net_return_pct <= 0) AS average_loss_pct,
           sum(net_return_pct) FILTER (WHERE status = 'closed' AND net_return_pct > 0) AS gained,
           -sum(net_return_pct) FILTER (WHERE status = 'closed' AND net_return_pct <= 0) AS lost,
           avg(net_return_pct) FILTER (WHERE status = 'closed') AS expectancy_pct,
           max(net_return_pct) FILTER (WHERE status = 'closed') AS best_trade_pct,
           min(net_return_pct) FILTER (WHERE status = 'closed') AS worst_trade_pct,
           avg(r_multiple) FILTER (WHERE status = 'closed') AS average_r,
           avg(bars_held) FILTER (WHERE status = 'closed') AS average_bars_held,
           sum(return_pct - net_return_pct) AS costs_pct,
           market.product(factor ORDER BY place) AS growth,
           sum(bars_held) AS bars_in_trades,
           sum(bar_returns_sum) AS returns, sum(bar_returns_square_sum) AS squares,
           sum(bar_returns_negative_square_sum) AS negative_squares
    FROM ordered GROUP BY 1, 2, 3
), measured AS (
    SELECT s.strategy, s.symbol, s.timeframe, s.first_ts, s.last_ts, s.bars, y.bars AS bars_a_year,
           coalesce(t.trades, 0) AS trades, coalesce(t.open_trades, 0) AS open_trades,
           coalesce(t.won, 0) AS won, t.average_win_pct, t.average_loss_pct, t.gained, t.lost, t.expectancy_pct,
           t.best_trade_pct, t.worst_trade_pct, t.average_r, t.average_bars_held, coalesce(t.costs_pct, 0) AS costs_pct,
           coalesce(t.growth, 1) AS growth, coalesce(t.bars_in_trades, 0) AS bars_in_trades,
           coalesce(t.returns, 0) / s.bars AS mean_return,
           -- The variance of a sample, as for any Sharpe ratio of returns a bar.
           (coalesce(t.squares, 0) - coalesce(t.returns, 0) ^ 2 / s.bars) / nullif(s.bars - 1, 0) AS variance,
           coalesce(t.negative_squares, 0) / s.bars AS downside,
           coalesce(d.fall, 0) AS fall,
           CASE WHEN d.is_from_before THEN coalesce(f.equity_peak_ts, s.first_ts) ELSE d.drawdown_peak_ts END AS fall_from,
           CASE WHEN d.is_from_before THEN d.equity_trough_ts ELSE d.drawdown_trough_ts END AS fall_to,
           k.most_won, k.most_lost, s.buy_and_hold_pct
    FROM series s
    LEFT JOIN calendar_year y USING (calendar, timeframe)
    LEFT JOIN summed t USING (strategy, symbol, timeframe)
    LEFT JOIN deepest d USING (strategy, symbol, timeframe)
    LEFT JOIN fall_start f USING (strategy, symbol, timeframe)
    LEFT JOIN streaks k USING (strategy, symbol, timeframe)
), judged AS (
    SELECT m.*, m.trades >= {fewest} AS is_enough,
           (m.growth ^ (m.bars_a_year / m.bars)::float8 - 1) * 100 AS annualized
    FROM measured m
)
SELECT strategy, symbol, timeframe, first_ts, last_ts, bars, trades, open_trades,
       won::float8 / nullif(trades, 0) * 100 AS win_rate_pct, average_win_pct, average_loss_pct,
       best_trade_pct, worst_trade_pct, expectancy_pct,
       CASE WHEN is_enough THEN gained / nullif(lost, 0) END AS profit_factor,
       average_r, average_bars_held::float8 AS average_bars_held,
       (growth - 1) * 100 AS total_return_pct,
       CASE WHEN is_enough THEN annualized END AS annualized_return_pct,
       fall * 100 AS max_drawdown_pct, fall_from AS max_drawdown_from, fall_to AS max_drawdown_to,
       bars_in_trades::float8 / bars * 100 AS exposure_pct,
       CASE WHEN is_enough THEN mean_return / nullif(sqrt(greatest(variance, 0)), 0) * sqrt(bars_a_year)::float8 END AS sharpe,
       CASE WHEN is_enough THEN mean_return / nullif(sqrt(downside), 0) * sqrt(bars_a_year)::float8 END AS sortino,
       CASE WHEN is_enough THEN annualized / nullif(fall * 100, 0) END AS calmar,
       most_won, most_lost, costs_pct, buy_and_hold_pct,
       CASE WHEN buy_and_hold_pct > -100
            THEN ((1 + buy_and_hold_pct / 100) ^ (bars_a_year / bars)::float8 - 1) * 100 END AS buy_and_hold_annualized_pct,
       CASE WHEN NOT is_enough THEN 'too few trades' END AS remark
FROM judged
