"""Overviews of all series: their state, how far they were requested, what changed. SQL only."""

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from ema_assets.model.asset_names import EMA_TREND, OHLC
from ema_assets.model.averages import trend_spans
from ema_assets.model.timeframes import Timeframe
from ema_assets.store.database import Transaction, identifier
from ema_assets.store.results import screener_view


def mark(transaction: Transaction) -> str:
    """Return a text that changes as soon as a series, the watchlist or the state of a provider changes."""
    found = transaction.query(
        """
        SELECT concat_ws(' ', s.series, s.revisions, s.failures, s.updated_at, i.symbols, p.updated_at, r.refreshed_at,
                         v.newest, g.gaps) AS mark
        FROM (SELECT count(*) FILTER (WHERE is_on) AS series, sum(revision) AS revisions, sum(failures) AS failures,
                     max(updated_at) AS updated_at FROM market.series_state) s,
             (SELECT count(*) FILTER (WHERE is_active) || ' ' || count(silent_since) || ' ' || count(state) AS symbols
              FROM market.instrument) i,
             (SELECT max(updated_at) AS updated_at FROM market.provider_state) p,
             (SELECT max(refreshed_at) AS refreshed_at FROM market.performance_refresh) r,
             (SELECT max(id) AS newest FROM market.bar_revision) v,
             (SELECT count(*) AS gaps FROM market.bar_gap WHERE status = 'open') g
        """
    )
    return str(found.item())


def revisions(transaction: Transaction, symbol: str, timeframe: str) -> str:
    """Return a text that changes as soon as any asset of a series, or its row in the ledger, changes."""
    found = transaction.query(
        """
        SELECT string_agg(concat_ws(' ', asset, revision, failures, updated_at), ',' ORDER BY asset) AS mark
        FROM market.series_state
        WHERE asset IN (SELECT asset FROM market.asset) AND symbol = $1 AND timeframe = $2
        """,
        symbol,
        timeframe,
    )
    return str(found.item())


def has_screener(transaction: Transaction, spans: tuple[int, int]) -> bool:
    """Return whether the screener for the EMAs of these spans exists: the next sync of the watchlist creates it."""
    return bool(transaction.query("SELECT to_regclass($1) IS NOT NULL AS found", screener_view(spans)).item())


def nearest_crosses(transaction: Transaction, timeframe: Timeframe, rows: int, spans: tuple[int, int]) -> pl.DataFrame:
    """Return the `rows` symbols whose trend on `timeframe` would flip by the smallest move, nearest first.

    The trend is that of the EMAs of these spans. Symbols whose trend an unchanged close would flip come first.

    Columns: symbol, ts, close, trend, bars_since_cross, cross_price, cross_distance_pct, alignment.
    """
    return transaction.query(
        f"""
        SELECT symbol, ts, close, trend, bars_since_cross, cross_price, cross_distance_pct, alignment
        FROM {screener_view(spans)}
        WHERE timeframe = $1 AND cross_distance_pct IS NOT NULL AND silent_since IS NULL
        ORDER BY CASE trend WHEN 'up' THEN -cross_distance_pct ELSE cross_distance_pct END, symbol LIMIT $2
        """,
        timeframe.key,
        rows,
    )


def screened(transaction: Transaction, trend: str = EMA_TREND) -> pl.DataFrame:
    """Return every series that has a `trend`, from the view of its screener, unsorted.

    Columns: symbol, timeframe, ts, close, trend, bars_since_cross, spread_pct, cross_price, cross_distance_pct,
    alignment, is_warming_up, revision (of the trend).
    """
    spans = trend_spans(trend)
    assert spans is not None
    return transaction.query(
        f"""
        SELECT c.symbol, c.timeframe, c.ts, c.close, c.trend, c.bars_since_cross, c.spread_pct, c.cross_price,
               c.cross_distance_pct, c.alignment, c.is_warming_up, s.revision
        FROM {screener_view(spans)} c
        JOIN market.series_state s ON s.asset = $1 AND s.symbol = c.symbol AND s.timeframe = c.timeframe
        """,
        trend,
    )


def computed_series(transaction: Transaction) -> pl.DataFrame:
    """Return every series of an active symbol on which something is computed, with what decides whether it is fresh.

    Columns: symbol, timeframe, calendar, provider (null for the default one), delay_seconds, is_fetched, silent_since,
    state (according to the provider), last_ts, base_last_ts and checked_through (the newest bar, and the last close
    requested, of the fetched bars that it comes from), asked_at, failures, next_attempt_at, last_error (its own, or
    those of the fetched bars), source (the timeframe that its bars are rolled up from; null when they are fetched).
    """
    return transaction.query(
        """
        SELECT s.symbol, s.timeframe, i.calendar, i.provider, i.delay_seconds::bigint AS delay_seconds, i.is_fetched,
               i.silent_since, i.state, s.last_ts, b.last_ts AS base_last_ts, b.checked_through, b.asked_at,
               greatest(s.failures, b.failures) AS failures,
               CASE WHEN s.failures > 0 THEN s.next_attempt_at ELSE b.next_attempt_at END AS next_attempt_at,
               CASE WHEN s.failures > 0 THEN s.last_error ELSE b.last_error END AS last_error,
               t.source
        FROM market.series_state s
        JOIN market.instrument i ON i.symbol = s.symbol AND i.is_active
        LEFT JOIN market.timeframe t ON t.timeframe = s.timeframe
        JOIN market.series_state b
          ON b.asset = $1 AND b.symbol = s.symbol AND b.timeframe = coalesce(t.source, s.timeframe)
        WHERE s.asset = $1 AND s.is_on AND NOT s.timeframe = ANY (i.bars_only)
        """,
        OHLC,
    )


def to_compute(transaction: Transaction) -> pl.DataFrame:
    """Return series with an asset that waits to be computed or fails, one row per series.

    Columns: symbol, timeframe, waiting_since, failures, last_error, next_attempt_at, averages_waiting_since and
    averages_failures (of EMAs and the trends of them alone).
    """
    return transaction.query(
        r"""
        SELECT s.symbol, s.timeframe,
               min(s.updated_at) FILTER (WHERE s.dirty_from IS NOT NULL AND s.failures = 0) AS waiting_since,
               max(s.failures) AS failures, min(s.asset || ': ' || s.last_error) AS last_error,
               min(s.next_attempt_at) FILTER (WHERE s.failures > 0) AS next_attempt_at,
               min(s.updated_at) FILTER (
                   WHERE s.dirty_from IS NOT NULL AND s.failures = 0 AND s.asset LIKE 'ema\_%'
               ) AS averages_waiting_since,
               coalesce(max(s.failures) FILTER (WHERE s.asset LIKE 'ema\_%'), 0) AS averages_failures
        FROM market.series_state s
        JOIN market.asset a ON a.asset = s.asset AND a.is_on
        WHERE s.asset <> $1 AND (s.dirty_from IS NOT NULL OR s.failures > 0) AND s.is_on
        GROUP BY 1, 2
        """,
        OHLC,
    )


def last_work(transaction: Transaction) -> datetime | None:
    """Return when bars of any series were last brought up to date, by the machine's clock (UTC); None if never."""
    found = transaction.query("SELECT max(computed_at) AS at FROM market.series_state WHERE asset = $1", OHLC)
    at: datetime | None = found.item()
    return at


def chain(transaction: Transaction, symbol: str, timeframe: str) -> pl.DataFrame:
    """Return the assets of one series in the order of their lineage.

    Columns: asset, last_ts, revision, computed_at, recorded_at, dirty_from, is_forming (what is dirty is the beginning
    of a rolled-up bar, whose other bars have not been stored yet), failures, next_attempt_at, last_error, code_version.
    """
    return transaction.query(
        """
        SELECT s.asset, s.last_ts, s.revision, s.computed_at, s.recorded_at, s.dirty_from,
               coalesce(s.asset = $3 AND s.dirty_end > base.checked_through, false) AS is_forming,
               s.failures, s.next_attempt_at, s.last_error, s.code_version
        FROM market.series_state s
        JOIN market.asset a ON a.asset = s.asset AND a.is_on
        LEFT JOIN market.timeframe t ON t.timeframe = s.timeframe
        LEFT JOIN market.series_state base
            ON base.asset = s.asset AND base.symbol = s.symbol AND base.timeframe = t.source
        WHERE s.symbol = $1 AND s.timeframe = $2 AND s.is_on ORDER BY a.position, s.asset
        """,
        symbol,
        timeframe,
        OHLC,
    )


def crossovers(
    transaction: Transaction,
    timeframes: Sequence[str],
    symbols: Sequence[str] | None,
    limit: int,
    offset: int,
    trend: str = EMA_TREND,
) -> pl.DataFrame:
    """Return the latest crossovers of `trend`, of active `symbols` (None: all), newest first.

    Columns: symbol, timeframe, ts, crossover, spread_pct, close.
    """
    return transaction.query(
        f"""
        SELECT t.symbol, t.timeframe, t.ts, t.crossover, t.spread_pct, b.close
        FROM (
            SELECT x.symbol, x.timeframe, x.ts, x.crossover, x.spread_pct
            FROM market.{identifier(trend)} x JOIN market.instrument i ON i.symbol = x.symbol AND i.is_active
            WHERE x.crossover IS NOT NULL AND x.timeframe = ANY ($1::text[])
              AND ($2::text[] IS NULL OR x.symbol = ANY ($2::text[]))
            ORDER BY x.ts DESC, x.symbol, x.timeframe LIMIT $3 OFFSET $4
        ) t
        LEFT JOIN market.ohlc b ON b.symbol = t.symbol AND b.timeframe = t.timeframe AND b.ts = t.ts
        ORDER BY t.ts DESC, t.symbol, t.timeframe
        """,
        list(timeframes),
        None if symbols is None else list(symbols),
        limit,
        offset,
    )


def crossovers_in_all(
    transaction: Transaction, timeframes: Sequence[str], symbols: Sequence[str] | None, trend: str = EMA_TREND
) -> int:
    """Return the number of all `crossovers`. It reads an index entry for each of them."""
    found = transaction.query(
        f"""
        SELECT count(*) AS n
        FROM market.{identifier(trend)} x JOIN market.instrument i ON i.symbol = x.symbol AND i.is_active
        WHERE x.crossover IS NOT NULL AND x.timeframe = ANY ($1::text[])
          AND ($2::text[] IS NULL OR x.symbol = ANY ($2::text[]))
        """,
        list(timeframes),
        None if symbols is None else list(symbols),
    )
    return int(found.item())
