CREATE MATERIALIZED VIEW market.strategy_performance AS
WITH series AS (
    -- How long each series has been traded: from its first bar to the newest one that the strategy has seen. Bars that
    -- the ledger names may be gone, when a symbol moved to another exchange: the bars themselves are asked.
    SELECT s.asset AS strategy, s.symbol, s.timeframe, a.ts AS first_ts, t.ts AS last_ts, i.calendar,
           t.bar_number AS bars,
           -- A price of zero or less is no multiple of another, and who holds through one has lost more than all.
           CASE WHEN a.close > 0 AND b.close > 0
                     AND NOT (i.allow_negative AND EXISTS (
                         SELECT FROM market.ohlc x
                         WHERE x.symbol = s.symbol AND x.timeframe = s.timeframe AND x.ts <= t.ts AND x.close <= 0))
                THEN (b.close / a.close - 1) * 100 END AS buy_and_hold_pct
    FROM market.series_state s
    JOIN market.instrument i ON i.symbol = s.symbol AND i.is_active
    CROSS JOIN LATERAL (
        SELECT ts, bar_number FROM market.ema_trend x
        WHERE x.symbol = s.symbol AND x.timeframe = s.timeframe AND x.ts <= s.last_ts ORDER BY ts DESC LIMIT 1
    ) t
    CROSS JOIN LATERAL (
        SELECT ts, close FROM market.ohlc x
        WHERE x.symbol = s.symbol AND x.timeframe = s.timeframe ORDER BY ts LIMIT 1
    ) a
    -- A join would read all bars.
    CROSS JOIN LATERAL (
        SELECT close FROM market.ohlc x
        WHERE x.symbol = s.symbol AND x.timeframe = s.timeframe AND x.ts = t.ts LIMIT 1
    ) b
    WHERE s.asset IN (SELECT asset FROM market.asset WHERE is_on)
      AND s.asset LIKE 'strategy\_%'
), calendar_year AS (
    {calendar_year}
), levelled AS (
    -- What equity was when each trade began, as a multiple of what it was at first. The symbol comes first, for by it
    -- rows are sorted fastest.
    SELECT strategy, symbol, timeframe, entry_ts, status = 'closed' AS is_closed, net_return_pct,
           return_pct - net_return_pct AS costs_pct, r_multiple, bars_held,
           bar_returns_sum, bar_returns_square_sum, bar_returns_negative_square_sum,
           equity_peak, equity_peak_ts, equity_trough, equity_trough_ts, drawdown, drawdown_peak_ts, drawdown_trough_ts,
           -- A sum of logarithms: Postgres fails when a product becomes too small. Below e^-300 it is as good as nothing.
           CASE WHEN bool_or(is_lost) OVER before THEN 0
                ELSE exp(greatest(coalesce(sum(growth_log) OVER before, 0), -300)) END AS equity, growth_log, is_lost,
           row_number() OVER before AS place,
           -- A price of zero or less on its way: at the entry, the exit or a close.
           net_return_pct IS NULL OR bar_returns_sum IS NULL AS is_undefined
    FROM (
        SELECT *, net_return_pct <= -100 AS is_lost,
               CASE WHEN net_return_pct > -100 THEN ln(1 + net_return_pct / 100) END AS growth_log
        FROM market.trade
    ) t
    WINDOW before AS (PARTITION BY symbol, timeframe, strategy ORDER BY entry_ts
                      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
), peaked AS (
    -- The highest that equity was before each trade, and when, as one array: arrays are compared from the left, so of
    -- equal peaks the first is the greatest. And the last trade won and lost before, by which streaks are counted.
    -- A trade that never rose above its start has no peak of its own.
    SELECT *, max(CASE WHEN equity_peak > 1 + 1e-12
                       THEN ARRAY[equity * equity_peak, -date_part('epoch', equity_peak_ts)] END) OVER before AS peak,
           coalesce(max(place) FILTER (WHERE net_return_pct > 0) OVER before, 0) AS last_won,
           coalesce(max(place) FILTER (WHERE net_return_pct <= 0) OVER before, 0) AS last_lost
    FROM levelled
    WINDOW before AS (PARTITION BY symbol, timeframe, strategy ORDER BY entry_ts
                      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
), compared AS (
    -- A peak that is not above the start is none: the start came first. A trade that never fell below its own start
    -- falls no deeper than what came before. Of nothing there is nothing to lose.
    SELECT *, greatest(1, peak[1]) AS peak_before,
           CASE WHEN equity > 0 AND equity_trough < 1 - 1e-12
                THEN 1 - equity * equity_trough / greatest(1, peak[1]) ELSE 0 END AS fall_from_before,
           CASE WHEN equity > 0 THEN drawdown ELSE 0 END AS fall_within
    FROM peaked
), fallen AS (
    -- The deeper fall of each trade, from a peak before it or within it. Both are the same when they begin at equal
    -- peaks, and when everything is lost: then it began at whichever peak is higher, of equal ones the one before.
    SELECT *, CASE
               WHEN greatest(fall_from_before, fall_within) <= 0 THEN NULL
               WHEN fall_from_before > fall_within + 1e-12
                    OR (fall_from_before > fall_within - 1e-12 AND equity * equity_peak <= peak_before * (1 + 1e-12))
               THEN ARRAY[fall_from_before, -place, CASE WHEN peak[1] > 1 THEN -peak[2] END,
                          date_part('epoch', equity_trough_ts)]
               ELSE ARRAY[fall_within, -place, date_part('epoch', drawdown_peak_ts),
                          date_part('epoch', drawdown_trough_ts)]
           END AS fall
    FROM compared
), summed AS (
    SELECT strategy, symbol, timeframe,
           count(*) FILTER (WHERE is_closed) AS trades,
           count(*) FILTER (WHERE NOT is_closed) AS open_trades,
           count(*) FILTER (WHERE is_closed AND net_return_pct > 0) AS won,
           avg(net_return_pct) FILTER (WHERE is_closed AND net_return_pct > 0) AS average_win_pct,
           avg(net_return_pct) FILTER (WHERE is_closed AND net_return_pct <= 0) AS average_loss_pct,
           sum(net_return_pct) FILTER (WHERE is_closed AND net_return_pct > 0) AS gained,
           -sum(net_return_pct) FILTER (WHERE is_closed AND net_return_pct <= 0) AS lost,
           avg(net_return_pct) FILTER (WHERE is_closed) AS expectancy_pct,
           max(net_return_pct) FILTER (WHERE is_closed) AS best_trade_pct,
           min(net_return_pct) FILTER (WHERE is_closed) AS worst_trade_pct,
           avg(r_multiple) FILTER (WHERE is_closed) AS average_r,
           avg(bars_held) FILTER (WHERE is_closed) AS average_bars_held,
           max(place - last_lost) FILTER (WHERE is_closed AND net_return_pct > 0) AS most_won,
           max(place - last_won) FILTER (WHERE is_closed AND net_return_pct <= 0) AS most_lost,
           sum(costs_pct) AS costs_pct,
           CASE WHEN bool_or(is_lost) THEN 0 ELSE exp(greatest(sum(growth_log), -300)) END AS growth,
           sum(bars_held) AS bars_in_trades,
           -- Once all is lost, no bar has a return.
           sum(bar_returns_sum) FILTER (WHERE equity > 0) AS returns,
           sum(bar_returns_square_sum) FILTER (WHERE equity > 0) AS squares,
           sum(bar_returns_negative_square_sum) FILTER (WHERE equity > 0) AS negative_squares,
           max(fall) AS fall,
           count(*) FILTER (WHERE is_undefined) AS undefined_returns,
           count(*) FILTER (WHERE is_closed AND net_return_pct IS NULL) AS undefined_closed
    FROM fallen GROUP BY symbol, timeframe, strategy
), measured AS (
    SELECT s.*,
           -- By bars as a rule. A history with holes has taken longer than its bars. How many a year has is not known of
           -- a timeframe that is no longer on: there one bar has taken no time.
           nullif(greatest(s.bars / y.bars, extract(epoch FROM s.last_ts - s.first_ts)::float8 / (365.25 * 86400)),
                  0) AS years,
           coalesce(t.trades, 0) AS trades, coalesce(t.open_trades, 0) AS open_trades,
           coalesce(t.won, 0) AS won, t.average_win_pct, t.average_loss_pct, t.gained, t.lost, t.expectancy_pct,
           t.best_trade_pct, t.worst_trade_pct, t.average_r, t.average_bars_held,
           CASE WHEN t.undefined_returns > 0 THEN NULL ELSE coalesce(t.costs_pct, 0) END AS costs_pct,
           coalesce(t.undefined_returns, 0) AS undefined_returns, coalesce(t.undefined_closed, 0) AS undefined_closed,
           -- What adds up over all trades is not known when one of them is not.
           CASE WHEN t.undefined_returns > 0 THEN NULL ELSE coalesce(t.growth, 1) END AS growth, coalesce(t.bars_in_trades, 0) AS bars_in_trades,
           CASE WHEN t.undefined_returns > 0 THEN NULL ELSE coalesce(t.returns, 0) / s.bars END AS mean_return,
           -- The variance of a sample, as for any Sharpe ratio of returns a bar.
           (coalesce(t.squares, 0) - coalesce(t.returns, 0) ^ 2 / s.bars) / nullif(s.bars - 1, 0) AS variance,
           greatest(coalesce(t.negative_squares, 0), 0) / s.bars AS downside,
           CASE WHEN t.undefined_returns > 0 THEN NULL ELSE coalesce(t.fall[1], 0) END AS fall,
           CASE WHEN t.undefined_returns = 0 THEN to_timestamp(t.fall[4]) END AS fall_to,
           CASE WHEN t.fall IS NOT NULL AND t.undefined_returns = 0
                THEN coalesce(to_timestamp(t.fall[3]), s.first_ts) END AS fall_from,
           CASE WHEN t.undefined_returns > 0 THEN NULL ELSE coalesce(t.most_won, 0) END AS most_won,
           CASE WHEN t.undefined_returns > 0 THEN NULL ELSE coalesce(t.most_lost, 0) END AS most_lost
    FROM series s
    LEFT JOIN calendar_year y USING (calendar, timeframe)
    LEFT JOIN summed t USING (strategy, symbol, timeframe)
), judged AS (
    SELECT m.*, m.trades - m.undefined_closed >= {fewest} AS is_enough,
           -- A few hours scaled up to a year may not fit into a number: such a figure says nothing.
           CASE WHEN m.growth = 0 THEN -100
                WHEN ln(m.growth) / m.years < 50
                THEN (exp(greatest(ln(m.growth) / m.years, -50)) - 1) * 100 END AS annualized,
           -- Where a price is less than 1e-16 of the first one, the loss is rounded to 100 %, which has no logarithm.
           CASE WHEN buy_and_hold_pct <= -100 THEN -100
                WHEN ln(1 + buy_and_hold_pct / 100) / m.years < 50
                THEN (exp(greatest(ln(1 + buy_and_hold_pct / 100) / m.years, -50)) - 1) * 100 END AS held_annualized
    FROM measured m
)
SELECT strategy, symbol, timeframe, first_ts, last_ts, bars, trades, open_trades,
       won::float8 / nullif(trades - undefined_closed, 0) * 100 AS win_rate_pct, average_win_pct, average_loss_pct,
       best_trade_pct, worst_trade_pct, expectancy_pct,
       CASE WHEN is_enough THEN coalesce(gained, 0) / nullif(lost, 0) END AS profit_factor,
       average_r, average_bars_held::float8 AS average_bars_held,
       (growth - 1) * 100 AS total_return_pct,
       CASE WHEN is_enough THEN annualized END AS annualized_return_pct,
       fall * 100 AS max_drawdown_pct, fall_from AS max_drawdown_from, fall_to AS max_drawdown_to,
       bars_in_trades::float8 / bars * 100 AS exposure_pct,
       CASE WHEN is_enough THEN mean_return / nullif(sqrt(greatest(variance, 0)), 0) * sqrt(bars / years) END AS sharpe,
       CASE WHEN is_enough THEN mean_return / nullif(sqrt(downside), 0) * sqrt(bars / years) END AS sortino,
       CASE WHEN is_enough THEN annualized / nullif(fall * 100, 0) END AS calmar,
       most_won, most_lost, costs_pct, buy_and_hold_pct,
       held_annualized AS buy_and_hold_annualized_pct,
       CASE WHEN undefined_returns > 0 THEN 'prices of zero or less' WHEN NOT is_enough THEN 'too few trades' END AS remark,
       undefined_returns
FROM judged
