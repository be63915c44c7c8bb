"""Lists of trades: open ones with their stops, and the results of all trades of a strategy. SQL only."""

from collections.abc import Sequence

import polars as pl

from ema_assets.store.database import Transaction


def open_trades(
    transaction: Transaction, strategies: Sequence[str], timeframes: Sequence[str], symbols: Sequence[str] | None
) -> pl.DataFrame:
    """Return the open trades of active symbols, unsorted.

    Columns: strategy, symbol, timeframe, side, entry_ts, entry_price, last_ts, last_price, return_pct, bars_held,
    stop_price (at entry), stop_now, target_price, r_multiple, stop_distance_pct (how far the last price is above the
    stop, or below it when negative; null without a stop, and where a price is not above zero).
    """
    return transaction.query(
        """
        SELECT t.strategy, t.symbol, t.timeframe, t.side, t.entry_ts, t.entry_price, t.last_ts, t.last_price,
               t.return_pct, t.bars_held, t.stop_price, t.stop_now, t.target_price, t.r_multiple,
               CASE WHEN t.last_price > 0 AND t.stop_now > 0 THEN (t.last_price / t.stop_now - 1) * 100 END
               AS stop_distance_pct
        FROM market.trade t JOIN market.instrument i ON i.symbol = t.symbol AND i.is_active
        WHERE t.status = 'open' AND t.strategy = ANY ($1::text[]) AND t.timeframe = ANY ($2::text[])
          AND ($3::text[] IS NULL OR t.symbol = ANY ($3::text[]))
        """,
        list(strategies),
        list(timeframes),
        None if symbols is None else list(symbols),
    )


def steps(transaction: Transaction, strategy: str, timeframe: str, symbols: Sequence[str] | None) -> pl.DataFrame:
    """Return the result of every trade of a strategy on a timeframe.

    Columns: symbol, entry_ts, side, entry_price, ts (opening time of the bar of the exit, or of the newest one),
    net_return_pct (null where a price, or a close within the trade, was not above zero), entry_cost (as a fraction of
    the equity at entry), is_open; sorted by symbol and entry_ts.
    """
    return transaction.query(
        """
        SELECT t.symbol, t.entry_ts, t.side, t.entry_price, t.last_ts AS ts,
               CASE WHEN t.bar_returns_sum IS NOT NULL THEN t.net_return_pct END AS net_return_pct,
               -- The exit cost as much per unit of value as the entry, of what the position was worth then.
               coalesce((t.return_pct - t.net_return_pct) / 100
                   / (1 + CASE WHEN t.status = 'open' THEN 0 ELSE t.last_price / nullif(t.entry_price, 0) END), 0)
                   AS entry_cost,
               t.status = 'open' AS is_open
        FROM market.trade t JOIN market.instrument i ON i.symbol = t.symbol AND i.is_active
        WHERE t.strategy = $1 AND t.timeframe = $2 AND ($3::text[] IS NULL OR t.symbol = ANY ($3::text[]))
        ORDER BY t.symbol, t.entry_ts
        """,
        strategy,
        timeframe,
        None if symbols is None else list(symbols),
    )


def first_bars(transaction: Transaction, strategy: str, timeframe: str, symbols: Sequence[str] | None) -> pl.DataFrame:
    """Return the first and last bar of each series that `strategy` was computed on: symbol, first_ts, last_ts."""
    return transaction.query(
        """
        SELECT s.symbol, b.first_ts, s.last_ts
        FROM market.series_state s
        JOIN market.instrument i ON i.symbol = s.symbol AND i.is_active
        JOIN market.series_state b ON b.asset = 'ohlc' AND b.symbol = s.symbol AND b.timeframe = s.timeframe
        WHERE s.asset = $1 AND s.timeframe = $2 AND s.is_on AND s.computed_at IS NOT NULL AND b.first_ts IS NOT NULL
          AND ($3::text[] IS NULL OR s.symbol = ANY ($3::text[]))
        ORDER BY 1
        """,
        strategy,
        timeframe,
        None if symbols is None else list(symbols),
    )


def closes_at(transaction: Transaction, timeframe: str, moments: pl.DataFrame) -> pl.DataFrame:
    """Return the close of each symbol of `moments` (symbol, at) in the last bar that opened at `at` or before.

    Columns: symbol, at, close; one row for each of `moments` that has such a bar.
    """
    return transaction.query(
        """
        SELECT d.symbol, d.at, b.close
        FROM unnest($1::text[], $2::timestamptz[]) AS d(symbol, at)
        CROSS JOIN LATERAL (
            SELECT o.close FROM market.ohlc o
            WHERE o.symbol = d.symbol AND o.timeframe = $3 AND o.ts <= d.at ORDER BY o.ts DESC LIMIT 1
        ) b
        """,
        moments["symbol"],
        moments["at"],
        timeframe,
    )
