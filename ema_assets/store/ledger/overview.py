"""How far each series has got, for reports and messages. SQL only."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import polars as pl

from ema_assets.model.asset_names import OHLC
from ema_assets.model.timeframes import FETCHED, Timeframe
from ema_assets.store.database import Transaction


def instruments(transaction: Transaction, timeframe: Timeframe, symbols: Sequence[str]) -> pl.DataFrame:
    """Return the known ones of `symbols`: symbol, calendar, is_fetched, first_ts, checked_through; sorted by symbol.

    The last two are those of their `timeframe` bars.
    """
    return transaction.query(
        """
        SELECT i.symbol, i.calendar, i.is_fetched, s.first_ts, s.checked_through
        FROM market.instrument i
        LEFT JOIN market.series_state s ON s.asset = $1 AND s.symbol = i.symbol AND s.timeframe = $2
        WHERE i.symbol = ANY ($3::text[]) ORDER BY i.symbol
        """,
        OHLC,
        timeframe.key,
        list(symbols),
    )


def watched(transaction: Transaction) -> pl.DataFrame:
    """Return the active symbols as written by the last sync; sorted.

    Columns: symbol, calendar, provider (null for the default one), allow_negative, timeframes and bars_only (keys).
    """
    return transaction.query(
        """
        SELECT symbol, calendar, provider, allow_negative, timeframes, bars_only
        FROM market.instrument WHERE is_active ORDER BY symbol
        """
    )


def failing(transaction: Transaction, asset: str | None = None) -> pl.DataFrame:
    """Return series whose last attempt failed: asset, symbol, timeframe, failures, next_attempt_at, last_error.

    Sorted by the first three; all assets when `asset` is None.
    """
    return transaction.query(
        """
        SELECT s.asset, s.symbol, s.timeframe, s.failures, s.next_attempt_at, s.last_error
        FROM market.series_state s
        JOIN market.asset a ON a.asset = s.asset AND a.is_on
        JOIN market.instrument i ON i.symbol = s.symbol AND i.is_active
        WHERE s.failures > 0 AND s.is_on AND ($1::text IS NULL OR s.asset = $1)
        ORDER BY 1, 2, 3
        """,
        asset,
    )


def assets(transaction: Transaction) -> list[str]:
    """Return the assets that are switched on, each after its inputs."""
    found = transaction.query("SELECT asset FROM market.asset WHERE is_on ORDER BY position, asset")
    return [str(asset) for asset in found["asset"]]


def adopted_code_version(transaction: Transaction, asset: str) -> str | None:
    """Return the code version by which `asset` is to be computed since the last sync; None if there is none yet."""
    found = transaction.query("SELECT code_version FROM market.asset WHERE asset = $1", asset)
    version = found["code_version"].first()
    return None if version is None else str(version)


def not_adopted(transaction: Transaction, code_versions: Mapping[str, str]) -> list[str]:
    """Return the assets of `code_versions` for which the last sync adopted another version; sorted."""
    found = transaction.query("SELECT asset, code_version FROM market.asset WHERE code_version IS NOT NULL ORDER BY 1")
    return [asset for asset, version in found.rows() if code_versions.get(asset, version) != version]


def summary(transaction: Transaction, symbols: Sequence[str] | None = None) -> pl.DataFrame:
    """Return counts of active series: asset, timeframe, series, never_computed, without_bars, failing, newest_ts.

    One row per timeframe of each asset that is on, unsorted. Counts all symbols, or only `symbols`. A series that is
    fed from files counts once it has bars. One of which the provider has no bars, or that would be rolled up from such
    bars, is not among those never computed: there is nothing to compute.
    """
    return transaction.query(
        """
        SELECT s.asset, s.timeframe, count(*) AS series,
               count(*) FILTER (WHERE has_none = false) AS never_computed,
               count(*) FILTER (WHERE has_none) AS without_bars,
               count(*) FILTER (WHERE s.failures > 0) AS failing,
               max(s.last_ts) AS newest_ts
        FROM market.series_state s
        JOIN market.asset a ON a.asset = s.asset AND a.is_on
        JOIN market.instrument i ON i.symbol = s.symbol AND i.is_active
        JOIN market.series_state bars ON bars.asset = $1 AND bars.symbol = s.symbol AND bars.timeframe = s.timeframe
        CROSS JOIN LATERAL (
            -- Looked up only for series without a row of their own, which are few.
            SELECT CASE WHEN s.last_ts IS NULL THEN bars.last_ts IS NULL AND EXISTS (
                SELECT FROM market.series_state base
                WHERE base.asset = $1 AND base.symbol = s.symbol AND base.timeframe = coalesce(
                          (SELECT t.source FROM market.timeframe t WHERE t.timeframe = s.timeframe), s.timeframe)
                      AND base.checked_through IS NOT NULL AND base.last_ts IS NULL) END AS has_none
        ) h
        WHERE s.is_on AND (i.is_fetched OR bars.last_ts IS NOT NULL)
          AND ($2::text[] IS NULL OR s.symbol = ANY ($2::text[]))
        GROUP BY 1, 2
        """,
        OHLC,
        None if symbols is None else list(symbols),
    )


def attempts(transaction: Transaction, symbols: Sequence[str]) -> pl.DataFrame:
    """Return how far each series of `symbols` has got: asset, symbol, timeframe, checked_through, last_error."""
    return transaction.query(
        """
        SELECT asset, symbol, timeframe, checked_through, last_error FROM market.series_state
        WHERE symbol = ANY ($1::text[])
        """,
        list(symbols),
    )


def late(transaction: Transaction, limits: pl.DataFrame) -> pl.DataFrame:
    """Return fetched series last checked before their limit, of silent symbols, without a bar, or lacking newest bars.

    A series lacks its newest bars when an open gap after the last bar has at least `most_missing` bars. Silent symbols
    that their provider calls halted are left out. `limits` has calendar, provider (null for the default one),
    delay_seconds, timeframe, late_before, most_missing. Columns: symbol, timeframe, asked_through, last_bar,
    missing_bars (after the last one), silent_since, state (according to the provider, or null), last_error; sorted by
    symbol and timeframe.
    """
    return transaction.query(
        """
        SELECT s.symbol, s.timeframe, s.checked_through AS asked_through, s.last_ts AS last_bar, g.missing_bars,
               i.silent_since, i.state, s.last_error
        FROM unnest($1::text[], $2::text[], $3::timestamptz[], $5::text[], $6::bigint[], $7::bigint[])
             AS c(calendar, timeframe, late_before, provider, delay_seconds, most_missing)
        JOIN market.instrument i ON i.calendar = c.calendar AND i.is_active AND i.is_fetched
             AND coalesce(i.provider, '') = c.provider AND i.delay_seconds = c.delay_seconds
        JOIN market.series_state s ON s.asset = $4 AND s.symbol = i.symbol AND s.timeframe = c.timeframe
        LEFT JOIN (
            SELECT o.symbol, o.timeframe, sum(o.bars) AS missing_bars
            FROM market.bar_gap o
            JOIN market.series_state k ON k.asset = $4 AND k.symbol = o.symbol AND k.timeframe = o.timeframe
            WHERE o.status = 'open' AND o.first_ts > k.last_ts
            GROUP BY 1, 2
        ) g ON g.symbol = s.symbol AND g.timeframe = s.timeframe
        WHERE s.is_on AND (s.checked_through < c.late_before OR i.silent_since IS NOT NULL
                           OR g.missing_bars >= c.most_missing
                           OR (s.checked_through IS NOT NULL AND s.last_ts IS NULL))
          AND (i.silent_since IS NULL OR i.state IS DISTINCT FROM 'halted')
        ORDER BY 1, 2
        """,
        limits["calendar"],
        limits["timeframe"],
        limits["late_before"],
        OHLC,
        limits["provider"].fill_null(""),
        limits["delay_seconds"],
        limits["most_missing"],
    )


def waiting_since(transaction: Transaction, since: datetime) -> pl.DataFrame:
    """Return computed series that have been dirty since before `since`: asset, symbol, timeframe, waiting_since."""
    return transaction.query(
        """
        SELECT s.asset, s.symbol, s.timeframe, s.updated_at AS waiting_since
        FROM market.series_state s
        JOIN market.asset a ON a.asset = s.asset AND a.is_on
        JOIN market.instrument i ON i.symbol = s.symbol AND i.is_active
        WHERE s.asset <> $1 AND s.dirty_from IS NOT NULL AND s.updated_at < $2 AND s.is_on
        ORDER BY 1, 2, 3
        """,
        OHLC,
        since,
    )


# Each series of an active symbol, and whether it is done in all assets. A series of which the provider has no bars is
# done, as is one that would be rolled up from it, and one that is fed from files counts once it has bars.
_EACH_SERIES = """
    SELECT s.symbol, s.timeframe,
           bool_and(s.recorded_at IS NOT NULL)
           OR bool_or(s.last_ts IS NULL AND base.checked_through IS NOT NULL AND base.last_ts IS NULL) AS is_done,
           bool_and(s.computed_at IS NOT NULL) AS is_computed,
           count(*) FILTER (WHERE s.recorded_at IS NULL AND s.loaded_at IS NULL AND s.failures = 0) AS rows_left,
           count(*) FILTER (WHERE s.recorded_at IS NOT NULL AND s.loaded_at > $2) AS rows_loaded
    FROM market.series_state s
    JOIN market.asset a ON a.asset = s.asset AND a.is_on
    JOIN market.instrument i ON i.symbol = s.symbol AND i.is_active
    LEFT JOIN market.timeframe t ON t.timeframe = s.timeframe
    LEFT JOIN market.series_state base
        ON s.asset = $1 AND base.asset = $1 AND base.symbol = s.symbol
           AND base.timeframe = coalesce(t.source, s.timeframe)
    WHERE s.is_on
    GROUP BY 1, 2
    HAVING bool_or(i.is_fetched) OR bool_or(s.asset = $1 AND s.last_ts IS NOT NULL)
"""


def progress(transaction: Transaction, since: datetime) -> pl.DataFrame:
    """Return how many series of each timeframe have been computed to the end and recorded.

    Columns: timeframe, done, series; unrecorded (series computed to the end but not recorded); rows_left (ledger rows
    of series that are not done; rows that were recorded before or fail are left out), rows_loaded (ledger rows first
    recorded after `since`). Recording a row again, such as after a restore, is quick and does not count.
    """
    return transaction.query(
        f"""
        SELECT timeframe, count(*) FILTER (WHERE is_done) AS done, count(*) AS series,
               count(*) FILTER (WHERE is_computed AND NOT is_done) AS unrecorded,
               coalesce(sum(rows_left) FILTER (WHERE NOT is_done), 0)::bigint AS rows_left,
               sum(rows_loaded)::bigint AS rows_loaded
        FROM ({_EACH_SERIES}) each_series
        GROUP BY 1
        """,
        OHLC,
        since,
    )


def loading_since(transaction: Transaction) -> datetime | None:
    """Return when the oldest fetched series was added that was never up to date and is not failing; None without."""
    since: datetime | None = transaction.query(
        """
        SELECT min(s.added_at) AS since
        FROM market.series_state s
        JOIN market.asset a ON a.asset = s.asset AND a.is_on
        JOIN market.instrument i ON i.symbol = s.symbol AND i.is_active AND i.is_fetched
        WHERE s.is_on AND s.recorded_at IS NULL AND s.loaded_at IS NULL AND s.failures = 0
        """
    ).item()
    return since


def symbols_active(transaction: Transaction) -> int:
    """Return the number of active symbols."""
    found: int = transaction.query("SELECT count(*) AS n FROM market.instrument WHERE is_active").item()
    return found


def without_bars(transaction: Transaction) -> list[str]:
    """Return series that the provider was asked for but has no bar of, usually of a mistyped symbol; sorted."""
    found = transaction.query(
        """
        SELECT s.symbol || '|' || s.timeframe AS series
        FROM market.series_state s
        JOIN market.instrument i ON i.symbol = s.symbol AND i.is_active AND i.is_fetched
        WHERE s.asset = $1 AND s.timeframe = ANY ($2::text[]) AND s.is_on
              AND s.checked_through IS NOT NULL AND s.last_ts IS NULL
        ORDER BY 1
        """,
        OHLC,
        [timeframe.key for timeframe in FETCHED],
    )
    return found["series"].to_list()


def warming_up(transaction: Transaction, asset: str) -> pl.DataFrame:
    """Count active series whose EMAs of `asset` have not converged: timeframe, symbols, most_bars (of any of them)."""
    if transaction.query("SELECT to_regclass('market.' || $1::text) IS NULL AS gone", asset).item():
        return pl.DataFrame(schema={"timeframe": pl.String(), "symbols": pl.Int64(), "most_bars": pl.Int64()})
    return transaction.query(
        f"""
        SELECT s.timeframe, count(*) AS symbols, max(e.bar_number) AS most_bars
        FROM market.series_state s
        JOIN market.instrument i ON i.symbol = s.symbol AND i.is_active
        JOIN market.{asset} e ON e.symbol = s.symbol AND e.timeframe = s.timeframe AND e.ts = s.last_ts
        WHERE s.asset = $1 AND s.is_on AND e.warming_up GROUP BY 1
        """,
        asset,
    )


def newest_checked_through(transaction: Transaction) -> datetime | None:
    """Return the latest close (UTC) up to which any series has been checked; None when none has."""
    newest: datetime | None = transaction.query("SELECT max(checked_through) AS newest FROM market.series_state").item()
    return newest


def revisions(transaction: Transaction, asset: str, timeframe: Timeframe, symbols: Sequence[str]) -> dict[str, int]:
    """Return the revision of each of `symbols` that has rows of `asset` on `timeframe`, sorted by symbol."""
    found = transaction.query(
        """
        SELECT symbol, revision FROM market.series_state
        WHERE asset = $1 AND timeframe = $2 AND symbol = ANY ($3::text[]) AND last_ts IS NOT NULL ORDER BY symbol
        """,
        asset,
        timeframe.key,
        list(symbols),
    )
    return dict(found.iter_rows())


def began(transaction: Transaction) -> str:
    """Return when the database was created, as text: it distinguishes one database from another."""
    found = transaction.query("SELECT min(applied_at)::text AS began FROM ema_assets.migration")
    return str(found.item())


def incarnation(transaction: Transaction) -> int:
    """Return the OID of the ledger's table in the catalog, which changes with a restored backup.

    After a restore, revisions continue from those of the backup and mean other rows than the same numbers did before.
    """
    return int(transaction.query("SELECT 'market.series_state'::regclass::oid::bigint AS number").item())


def unknown_symbols(transaction: Transaction, symbols: Sequence[str]) -> list[str]:
    """Return those of `symbols` that were never on the watchlist."""
    found = transaction.query(
        """
        SELECT s.symbol FROM unnest($1::text[]) AS s(symbol)
        WHERE NOT EXISTS (SELECT FROM market.instrument i WHERE i.symbol = s.symbol)
        """,
        list(symbols),
    )
    return found["symbol"].to_list()


def known_symbols(transaction: Transaction) -> list[str]:
    """Return all symbols that are or were on the watchlist; sorted."""
    return transaction.query("SELECT symbol FROM market.instrument ORDER BY 1")["symbol"].to_list()
