"""The work on series: lock, claim and complete them, and mark their readers dirty. SQL only."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import polars as pl

from ema_assets.model.asset_names import OHLC
from ema_assets.model.schemas import COMPLETED_SCHEMA, check_frame
from ema_assets.model.timeframes import FETCHED, Timeframe
from ema_assets.store.database import Transaction
from ema_assets.store.ledger.row import (
    BEGINNING,
    CLOCK_SLACK_SECONDS,
    DIRTY_SINCE,
    PAUSE_HOURS,
    SILENT_SESSIONS,
)
from ema_assets.store.tables import BARS


def fetch_state(transaction: Transaction, timeframe: Timeframe, symbols: Sequence[str]) -> pl.DataFrame:
    """Return the ledger of fetched bars of `symbols`; sorted by symbol.

    Columns: symbol, calendar, provider (null for the default one), delay_seconds, checked_through, asked_at, asked_from
    (how far back the series was requested so far; null for a new one), first_ts, last_ts, older_due_at (when older bars
    are due; null when none are, or the series has no bar), begun_again (how often the series has begun again),
    next_attempt_at (no earlier than PAUSE_HOURS after the last attempt for a symbol that is silent or has ended),
    last_error (null when the last attempt did not fail).
    """
    return transaction.query(
        f"""
        SELECT s.symbol, i.calendar, i.provider, i.delay_seconds::bigint AS delay_seconds,
               s.checked_through, s.asked_at, s.asked_from, s.first_ts, s.last_ts, s.begun_again,
               greatest(s.next_attempt_at, s.asked_at + make_interval(hours => {PAUSE_HOURS}))
               AS next_attempt_at,
               CASE WHEN s.last_ts IS NOT NULL THEN h.due_at END AS older_due_at,
               CASE WHEN s.failures > 0 THEN s.last_error END AS last_error
        FROM market.series_state s JOIN market.instrument i ON i.symbol = s.symbol AND i.is_active AND i.is_fetched
        LEFT JOIN market.older_history h ON h.symbol = s.symbol AND h.timeframe = s.timeframe
        WHERE s.asset = $1 AND s.timeframe = $2 AND s.symbol = ANY ($3::text[]) AND s.is_on
        ORDER BY s.symbol
        """,
        OHLC,
        timeframe.key,
        list(symbols),
    )


def is_any_well(transaction: Transaction, provider: str | None) -> bool:
    """Return whether bars of any symbol of `provider` (None for the default one) were received at the last attempt."""
    found = transaction.query(
        """
        SELECT EXISTS (
            SELECT FROM market.series_state s JOIN market.instrument i ON i.symbol = s.symbol
            WHERE s.asset = $1 AND s.is_on AND s.failures = 0 AND s.asked_at IS NOT NULL
              AND i.is_active AND i.is_fetched AND i.provider IS NOT DISTINCT FROM $2)
        """,
        OHLC,
        provider,
    )
    return bool(found.item())


def take_back(transaction: Transaction, timeframe: Timeframe, symbols: Sequence[str], now: datetime) -> None:
    """Forget requests for bars that have not closed at `now`.

    They came from a clock that was ahead, and would prevent further requests until that time. Everything since the
    newest stored bar is requested again.
    """
    transaction.execute(
        f"""
        WITH early AS (
            SELECT asset, symbol, timeframe FROM market.series_state
            WHERE asset = $1 AND timeframe = $2 AND symbol = ANY ($3::text[])
              AND checked_through > $4 + make_interval(secs => {CLOCK_SLACK_SECONDS})
            ORDER BY symbol FOR UPDATE
        )
        UPDATE market.series_state s
        SET checked_through = s.last_ts, asked_at = least(s.asked_at, s.last_ts),
            final_through = least(s.final_through, s.last_ts)
        FROM early WHERE (s.asset, s.symbol, s.timeframe) = (early.asset, early.symbol, early.timeframe)
        """,
        OHLC,
        timeframe.key,
        list(symbols),
        now,
    )


def lock(transaction: Transaction, asset: str, timeframe: Timeframe, symbols: Sequence[str]) -> pl.DataFrame:
    """Lock the ledger rows of `symbols` until the transaction ends, waiting for other transactions to release them.

    Returns symbol, the current dirty_from, dirty_end, first_ts, last_ts and begun_again, allow_negative, and feeds (the
    keys of the timeframes that are rolled up from this one); sorted by symbol.
    """
    return transaction.query(
        """
        SELECT s.symbol, s.dirty_from, s.dirty_end, s.first_ts, s.last_ts, s.begun_again, i.allow_negative,
               array(SELECT t.timeframe FROM market.timeframe t
                     WHERE t.source = $2 AND t.timeframe = ANY (i.timeframes)) AS feeds
        FROM market.series_state s JOIN market.instrument i USING (symbol)
        WHERE s.asset = $1 AND s.timeframe = $2 AND s.symbol = ANY ($3::text[]) ORDER BY s.symbol FOR UPDATE OF s
        """,
        asset,
        timeframe.key,
        list(symbols),
    )


def pending(
    transaction: Transaction,
    asset: str,
    timeframe: Timeframe,
    symbols: Sequence[str],
    now: datetime,
    *,
    everything: bool,
    code: str | None = None,
) -> pl.DataFrame:
    """Return which of `symbols` need work for `asset`: symbol, rows (of its main input, at most); sorted by symbol.

    With `everything`, all symbols that have input, from the beginning. Else symbols that pause at `now` after a failure
    of the same `code` (see `fail`) are left out. The number of rows is for splitting the work into batches: it is
    calculated as if the market never closed.
    """
    source = timeframe.source if asset == OHLC else timeframe
    return transaction.query(
        """
        SELECT s.symbol,
               1 + greatest(0, coalesce(trunc(extract(epoch FROM
                   up.last_ts - greatest(CASE WHEN $6 THEN $7::timestamptz ELSE s.dirty_from END, up.first_ts)
               ) / 60 / $8), 0))::bigint AS rows
        FROM market.series_state s
        JOIN market.instrument n ON n.symbol = s.symbol AND n.is_active
        LEFT JOIN market.asset_input i ON i.asset = s.asset AND i.timeframe = s.timeframe AND i.is_main
        JOIN market.series_state up
          ON up.asset = coalesce(i.reads, $4) AND up.timeframe = coalesce(i.reads_timeframe, $5)
         AND up.symbol = s.symbol
        WHERE s.asset = $1 AND s.timeframe = $2 AND s.symbol = ANY ($3::text[]) AND s.is_on
          AND ((s.dirty_from IS NOT NULL AND (s.dirty_end IS NULL OR s.dirty_end <= up.checked_through))
               OR ($6 AND up.last_ts IS NOT NULL))
          AND ($6 OR coalesce(s.failed_code <> $9 OR s.next_attempt_at <= $10::timestamptz, true))
        ORDER BY s.symbol
        """,
        asset,
        timeframe.key,
        list(symbols),
        # Bars that are rolled up have no row in asset_input.
        OHLC,
        timeframe.base.key,
        everything,
        BEGINNING,
        source.minutes,
        code,
        now,
    )


def claim(
    transaction: Transaction, asset: str, timeframe: Timeframe, symbols: Sequence[str], *, everything: bool
) -> pl.DataFrame:
    """Lock those of `symbols` that need work and are not locked by others.

    Returns symbol, calendar, from_ts (where to start), last_ts (up to where it was computed before), code_version (by
    which it was computed before), adopted (the version of the asset since the last sync, null before one), and for
    rolled-up bars complete_through (the checked_through of the bars they are made from), asked_from (from when on they
    are made of long history, null when they are not) and long_end (where the stored long history ends); sorted by
    symbol. With `everything`, from_ts is the beginning and fresh series are claimed too.
    """
    return transaction.query(
        """
        SELECT s.symbol, i.calendar,
               CASE WHEN $4 THEN $5::timestamptz ELSE s.dirty_from END AS from_ts,
               s.last_ts, s.code_version, a.code_version AS adopted, base.checked_through AS complete_through,
               s.asked_from, h.last_end AS long_end
        FROM market.series_state s
        JOIN market.instrument i ON i.symbol = s.symbol AND i.is_active
        LEFT JOIN market.asset a ON a.asset = s.asset
        JOIN market.series_state base ON base.asset = $6 AND base.symbol = s.symbol AND base.timeframe = $7
        LEFT JOIN market.older_history h ON h.symbol = s.symbol AND h.timeframe = $7
        WHERE s.asset = $1 AND s.timeframe = $2 AND s.symbol = ANY ($3::text[]) AND s.is_on
          AND ($4 OR (s.dirty_from IS NOT NULL AND (s.dirty_end IS NULL OR s.dirty_end <= base.checked_through)))
        ORDER BY s.symbol
        FOR UPDATE OF s SKIP LOCKED
        """,
        asset,
        timeframe.key,
        list(symbols),
        everything,
        BEGINNING,
        OHLC,
        timeframe.base.key,
    )


_COMPLETE = f"""
WITH read AS (
    -- A change of an input waits for the lock on this series before it is committed, so these are the revisions
    -- that were read.
    SELECT up.symbol, jsonb_object_agg(i.reads || '|' || i.reads_timeframe, up.revision) AS inputs
    FROM market.asset_input i
    JOIN market.series_state up ON up.asset = i.reads AND up.timeframe = i.reads_timeframe
    WHERE i.asset = $1 AND i.timeframe = $2 AND up.symbol = ANY ($3::text[])
    GROUP BY up.symbol
), results AS (
    SELECT * FROM unnest(
        $3::text[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[], $7::timestamptz[],
        $9::timestamptz[], $10::timestamptz[], $11::timestamptz[], $12::timestamptz[])
        AS r(symbol, changed_from, first_ts, last_ts, checked_through, dirty_from, dirty_end, asked_at,
             final_through)
), reading AS MATERIALIZED (
    -- Locked in the order of the graph, row by row: a run has locked what it computes, and then locks what reads that.
    -- Two runs that meet in another order would deadlock.
    SELECT o.* FROM (
        SELECT i.asset, i.timeframe, a.is_on, c.symbol, c.changed_from
        FROM market.asset_input i
        JOIN market.asset a ON a.asset = i.asset
        CROSS JOIN results c
        WHERE i.reads = $1 AND i.reads_timeframe = $2 AND c.changed_from IS NOT NULL
        ORDER BY a.position, i.timeframe, c.symbol
    ) o
    CROSS JOIN LATERAL (
        SELECT FROM market.series_state s
        WHERE s.asset = o.asset AND s.timeframe = o.timeframe AND s.symbol = o.symbol FOR NO KEY UPDATE
    ) locked
), readers AS (
    -- Also where nothing is pulled down, for the update then waits for a run that computes this series at the
    -- moment, and that may have read the input of before. What is switched off is computed by nobody.
    UPDATE market.series_state s
    SET dirty_from = least(s.dirty_from, c.changed_from), {DIRTY_SINCE}
    FROM reading c
    WHERE s.asset = c.asset AND s.timeframe = c.timeframe AND s.symbol = c.symbol
      AND (c.is_on OR s.dirty_from IS NULL OR s.dirty_from > c.changed_from)
)
UPDATE market.series_state s
SET revision = s.revision + CASE WHEN r.changed_from IS NULL THEN 0 ELSE 1 END,
    inputs = read.inputs,
    first_ts = least(s.first_ts, r.first_ts),
    last_ts = greatest(s.last_ts, r.last_ts),
    checked_through = greatest(s.checked_through, r.checked_through),
    asked_at = coalesce(r.asked_at, s.asked_at),
    final_through = greatest(s.final_through, r.final_through),
    -- A sync that has adopted another version meanwhile wants the whole series computed by that one, and not by the one
    -- of before again.
    dirty_from = CASE WHEN s.asset <> $13 AND a.code_version <> $8 AND s.code_version IS DISTINCT FROM a.code_version
                      THEN $14::timestamptz ELSE r.dirty_from END,
    dirty_end = r.dirty_end,
    code_version = $8, failures = 0, next_attempt_at = NULL, last_error = NULL,
    computed_at = clock_timestamp(), updated_at = clock_timestamp()
FROM results r
LEFT JOIN read ON read.symbol = r.symbol
LEFT JOIN market.asset a ON a.asset = $1
WHERE s.asset = $1 AND s.timeframe = $2 AND s.symbol = r.symbol
"""


def complete(
    transaction: Transaction, asset: str, timeframe: Timeframe, results: pl.DataFrame, code_version: str
) -> None:
    """Write that the series in `results` (COMPLETED_SCHEMA) are up to date.

    A changed series gets the next revision, and every asset that reads it becomes dirty from `changed_from`.

    Raises:
        SchemaMismatch: when `results` does not have the required columns.
    """
    check_frame(f"completed series of {asset}", results, COMPLETED_SCHEMA)
    transaction.execute(
        _COMPLETE,
        asset,
        timeframe.key,
        results["symbol"],
        results["changed_from"],
        results["first_ts"],
        results["last_ts"],
        results["checked_through"],
        code_version,
        results["dirty_from"],
        results["dirty_end"],
        results["asked_at"],
        results["final_through"],
        OHLC,
        BEGINNING,
    )


def find_ends(
    transaction: Transaction, timeframe: Timeframe, symbols: Sequence[str], *, is_revision: bool = False
) -> None:
    """Write again which bars are the first and the last of `symbols`, some of whose bars were deleted.

    What reads them follows with its next row. Locking it here could deadlock with a run that computes it. With
    `is_revision`, the series get their next revision, because nothing else writes that they have changed.
    """
    if symbols:
        transaction.execute(
            f"""
            UPDATE market.series_state s
            SET first_ts = b.first_ts, last_ts = b.last_ts, revision = s.revision + $4::integer,
                computed_at = CASE WHEN $4 > 0 THEN clock_timestamp() ELSE s.computed_at END
            FROM unnest($1::text[]) AS t(symbol)
            CROSS JOIN LATERAL (
                SELECT min(ts) AS first_ts, max(ts) AS last_ts FROM {BARS.part(timeframe)}
                WHERE symbol = t.symbol AND timeframe = $2
            ) b
            WHERE s.symbol = t.symbol AND s.timeframe = $2 AND s.asset = $3
            """,
            list(symbols),
            timeframe.key,
            OHLC,
            int(is_revision),
        )


def note_delays(transaction: Transaction, provider: str | None, seconds: Mapping[str, int]) -> None:
    """Write by how many `seconds` `provider` is behind the exchange of each symbol, at most a day.

    None is the default provider. Symbols that have another one by now are left out.
    """
    if seconds:
        transaction.execute(
            """
            WITH delayed AS MATERIALIZED (
                -- Sorted, because runs of several timeframes learn the delays of the same symbols.
                SELECT i.symbol, d.seconds FROM unnest($1::text[], $2::bigint[]) AS d(symbol, seconds)
                JOIN market.instrument i USING (symbol)
                WHERE i.provider IS NOT DISTINCT FROM $3 ORDER BY i.symbol FOR NO KEY UPDATE OF i
            )
            UPDATE market.instrument i SET delay_seconds = least(d.seconds, 86400)
            FROM delayed d WHERE i.symbol = d.symbol
            """,
            list(seconds),
            list(seconds.values()),
            provider,
        )


# A provider may lack daily bars of a symbol whose other bars continue, so the newest bar of all timeframes counts.
_NOTE_SILENCE = """
UPDATE market.instrument i SET silent_since = CASE WHEN n.sessions >= $4 THEN n.since END
FROM (
    SELECT b.symbol,
           greatest(b.last_day, (SELECT max(c.regular_open) FROM market.session c
                                 WHERE c.calendar = b.calendar AND c.session >= (b.newest - interval '10 days')::date
                                   AND c.regular_open <= b.newest)) AS since,
           (SELECT count(*) FROM market.session c
            WHERE c.calendar = b.calendar AND c.session >= (b.newest - interval '2 days')::date
              AND c.regular_open > b.newest AND c.regular_close <= b.checked_through) AS sessions
    FROM (
        SELECT s.symbol, k.calendar,
               max(s.last_ts) AS newest,
               max(s.last_ts) FILTER (WHERE s.timeframe = ANY ($2::text[])) AS last_day,
               max(s.checked_through) FILTER (WHERE s.timeframe = ANY ($2::text[])) AS checked_through
        FROM market.series_state s JOIN market.instrument k USING (symbol)
        WHERE s.asset = $1 AND s.symbol = ANY ($3::text[]) AND k.is_fetched AND ($5 OR k.silent_since IS NOT NULL)
        GROUP BY s.symbol, k.calendar
    ) b
) n
WHERE i.symbol = n.symbol AND i.silent_since IS DISTINCT FROM CASE WHEN n.sessions >= $4 THEN n.since END
"""


def note_silence(transaction: Transaction, symbols: Sequence[str]) -> None:
    """Write which of `symbols` are silent: SILENT_SESSIONS or more have closed since the last bar of any timeframe.

    Only sessions whose daily bar was requested count. A symbol that trades again is no longer silent.
    """
    transaction.execute(_NOTE_SILENCE, OHLC, _days(), list(symbols), SILENT_SESSIONS, True)


def end_silence(transaction: Transaction, symbols: Sequence[str]) -> None:
    """Do as `note_silence`, but only for those of `symbols` that are silent: usually there is none."""
    transaction.execute(_NOTE_SILENCE, OHLC, _days(), list(symbols), SILENT_SESSIONS, False)


def _days() -> list[str]:
    return [timeframe.key for timeframe in FETCHED if timeframe.is_session]


def mark_dirty(transaction: Transaction, asset: str, starts: pl.DataFrame) -> None:
    """Move `dirty_from` of `asset` back to `starts` (symbol, timeframe, dirty_from, dirty_end); never forward."""
    if starts.is_empty():
        return
    transaction.execute(
        f"""
        UPDATE market.series_state s
        SET dirty_end = CASE WHEN s.dirty_from < d.dirty_from THEN s.dirty_end ELSE d.dirty_end END,
            dirty_from = least(s.dirty_from, d.dirty_from), {DIRTY_SINCE}
        FROM unnest($2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[])
             AS d(symbol, timeframe, dirty_from, dirty_end)
        WHERE s.asset = $1 AND s.timeframe = d.timeframe AND s.symbol = d.symbol
        """,
        asset,
        starts["symbol"],
        starts["timeframe"],
        starts["dirty_from"],
        starts["dirty_end"],
    )
