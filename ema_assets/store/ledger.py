"""The series ledger: what is stale, who works on it, how far it got. SQL around `market.series_state`.

Every function takes a Transaction, so that the ledger is written together with the data it speaks of.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

import polars as pl

from ema_assets.model.asset_names import OHLC
from ema_assets.model.symbols import Instrument
from ema_assets.model.timeframes import BASE, FETCHED, ORDER, ROLLED_UP, Timeframe
from ema_assets.store.database import Transaction

# "The beginning of time" for a series to be computed from nothing. Not -infinity, which polars cannot hold.
BEGINNING = datetime(1900, 1, 1, tzinfo=UTC)

FIRST_PAUSE_SECONDS = 30
LONGEST_PAUSE_SECONDS = 3600
# A run tells Dagster within a second or two of its commit; later than this, it died in between.
RECORDING_GRACE_SECONDS = 60

# Of a dirty series, updated_at says since when it has been waiting.
_DIRTY_SINCE = "updated_at = CASE WHEN s.dirty_from IS NULL THEN clock_timestamp() ELSE s.updated_at END"


def sync_instruments(transaction: Transaction, instruments: Sequence[Instrument]) -> tuple[list[str], list[str]]:
    """Make the active instruments equal `instruments`; return the symbols added and those taken off.

    A new symbol gets its ledger rows. One that is taken off keeps its data and its rows, not active. One that moves to
    another calendar loses the bars that do not exist there, and starts again; sessions must be stored before.
    """
    symbols = [each.symbol for each in instruments]
    before = transaction.query("SELECT symbol FROM market.instrument WHERE is_active")["symbol"].to_list()
    moved = transaction.query(
        """
        SELECT i.symbol FROM unnest($1::text[], $2::text[]) AS n(symbol, calendar)
        JOIN market.instrument i USING (symbol) WHERE i.calendar <> n.calendar ORDER BY 1
        """,
        symbols,
        [each.calendar for each in instruments],
    )["symbol"].to_list()
    transaction.execute(
        """
        INSERT INTO market.instrument AS i (symbol, calendar, is_fetched, provider)
        SELECT symbol, calendar, is_fetched, nullif(provider, '')
        FROM unnest($1::text[], $2::text[], $3::boolean[], $4::text[]) AS n(symbol, calendar, is_fetched, provider)
        ORDER BY symbol
        ON CONFLICT (symbol) DO UPDATE
        SET calendar = excluded.calendar, is_fetched = excluded.is_fetched, provider = excluded.provider,
            is_active = true
        WHERE (i.calendar, i.is_fetched, i.provider, i.is_active)
              IS DISTINCT FROM (excluded.calendar, excluded.is_fetched, excluded.provider, true)
        """,
        symbols,
        [each.calendar for each in instruments],
        [each.is_fetched for each in instruments],
        [each.provider or "" for each in instruments],
    )
    transaction.execute(
        "UPDATE market.instrument SET is_active = false WHERE is_active AND symbol <> ALL ($1::text[])", symbols
    )
    add_rows(transaction, symbols)
    if moved:
        _start_again(transaction, moved)
    return sorted(set(symbols) - set(before)), sorted(set(before) - set(symbols))


def _start_again(transaction: Transaction, symbols: Sequence[str]) -> None:
    """Drop the bars of `symbols` that their calendar does not have, and have the rest fetched and computed again."""
    for timeframe in ORDER:
        if timeframe.is_fetched:
            # What is older than any stored session stays: nothing is known against it.
            is_on = "s.regular_open = o.ts"
            if timeframe is BASE:
                is_on = """o.ts >= s.open AND o.ts < s.close
                           AND NOT coalesce(o.ts >= s.break_start AND o.ts < s.break_end, false)"""
            transaction.execute(
                f"""
                DELETE FROM market.ohlc_{timeframe.value} o USING market.instrument i
                WHERE i.symbol = o.symbol AND o.symbol = ANY ($1::text[])
                  AND o.ts >= (SELECT min(s.open) FROM market.session s WHERE s.calendar = i.calendar)
                  AND NOT EXISTS (SELECT FROM market.session s WHERE s.calendar = i.calendar AND {is_on})
                """,
                list(symbols),
            )
        else:
            transaction.execute(
                f"DELETE FROM market.ohlc_{timeframe.value} WHERE symbol = ANY ($1::text[])", list(symbols)
            )
    transaction.execute("DELETE FROM market.bar_gap WHERE symbol = ANY ($1::text[])", list(symbols))
    transaction.execute(
        """
        UPDATE market.series_state s
        SET checked_through = CASE WHEN i.is_fetched AND s.timeframe = ANY ($3::text[]) THEN NULL
                                   ELSE s.checked_through END,
            dirty_from = CASE WHEN s.asset = $2 AND s.timeframe = ANY ($3::text[]) THEN NULL ELSE $4::timestamptz END,
            dirty_end = CASE WHEN s.asset = $2 AND s.timeframe <> ALL ($3::text[]) THEN $4::timestamptz END,
            first_ts = CASE WHEN s.asset = $2 THEN b.first_ts ELSE s.first_ts END,
            last_ts = CASE WHEN s.asset = $2 THEN b.last_ts ELSE s.last_ts END,
            failures = 0, next_attempt_at = NULL, last_error = NULL, updated_at = clock_timestamp()
        FROM market.instrument i
        CROSS JOIN unnest($5::text[]) AS t(timeframe)
        LEFT JOIN LATERAL (
            SELECT min(o.ts) AS first_ts, max(o.ts) AS last_ts FROM market.ohlc o
            WHERE o.symbol = i.symbol AND o.timeframe = t.timeframe
        ) b ON true
        WHERE i.symbol = s.symbol AND s.timeframe = t.timeframe AND s.symbol = ANY ($1::text[])
        """,
        list(symbols),
        OHLC,
        [timeframe.value for timeframe in FETCHED],
        BEGINNING,
        [timeframe.value for timeframe in ORDER],
    )


def sync_assets(transaction: Transaction, assets: pl.DataFrame, inputs: pl.DataFrame) -> None:
    """Make the graph of assets the configured one.

    `assets` has asset and is_on, each after what it reads; what is not in it is switched off. `inputs` has asset,
    timeframe, reads, reads_timeframe and is_main. An asset that is switched off is still marked dirty by its input, so
    that it has only the difference to compute when it is switched on again.
    """
    transaction.execute(
        """
        INSERT INTO market.asset AS a (asset, position, is_on)
        SELECT asset, ordinality::integer - 1, is_on
        FROM unnest($1::text[], $2::boolean[]) WITH ORDINALITY AS n(asset, is_on, ordinality)
        ON CONFLICT (asset) DO UPDATE SET position = excluded.position, is_on = excluded.is_on
        WHERE (a.position, a.is_on) IS DISTINCT FROM (excluded.position, excluded.is_on)
        """,
        assets["asset"],
        assets["is_on"],
    )
    transaction.execute(
        "UPDATE market.asset SET is_on = false WHERE is_on AND asset <> ALL ($1::text[])", assets["asset"]
    )
    names = ("asset", "timeframe", "reads", "reads_timeframe")
    wanted = [inputs[name] for name in names]
    transaction.execute(
        """
        DELETE FROM market.asset_input i
        WHERE i.asset = ANY ($1::text[]) AND NOT EXISTS (
            SELECT FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS n(asset, timeframe, reads, frame)
            WHERE (n.asset, n.timeframe, n.reads, n.frame) = (i.asset, i.timeframe, i.reads, i.reads_timeframe))
        """,
        assets["asset"],
        *wanted,
    )
    transaction.execute(
        f"""
        INSERT INTO market.asset_input AS i ({", ".join(names)}, is_main)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::boolean[])
        ON CONFLICT ({", ".join(names)}) DO UPDATE SET is_main = excluded.is_main
        WHERE i.is_main <> excluded.is_main
        """,
        *wanted,
        inputs["is_main"],
    )


def add_rows(transaction: Transaction, symbols: Iterable[str]) -> None:
    """Give each of `symbols` its ledger rows of every asset that is on, where they are missing.

    A row of an asset whose input already holds data starts dirty: that is how a new asset computes its past.
    """
    transaction.execute(
        """
        INSERT INTO market.series_state (asset, symbol, timeframe, dirty_from)
        SELECT a.asset, s.symbol, t.timeframe,
               CASE WHEN up.last_ts IS NOT NULL THEN $2::timestamptz END
        FROM unnest($1::text[]) AS s(symbol)
        JOIN market.asset a ON a.is_on
        CROSS JOIN unnest($3::text[]) AS t(timeframe)
        LEFT JOIN market.asset_input i ON i.asset = a.asset AND i.timeframe = t.timeframe AND i.is_main
        LEFT JOIN market.series_state up
               ON up.asset = i.reads AND up.symbol = s.symbol AND up.timeframe = i.reads_timeframe
        ORDER BY a.asset, s.symbol, t.timeframe
        ON CONFLICT DO NOTHING
        """,
        sorted(symbols),
        BEGINNING,
        [timeframe.value for timeframe in ORDER],
    )


def start_again(transaction: Transaction, assets: Sequence[str]) -> None:
    """Have every series of `assets` computed from the beginning."""
    transaction.execute(
        """
        UPDATE market.series_state SET dirty_from = $2, updated_at = clock_timestamp()
        WHERE asset = ANY ($1::text[]) AND last_ts IS NOT NULL
        """,
        list(assets),
        BEGINNING,
    )


def adopt_code_versions(transaction: Transaction, versions: Mapping[str, str]) -> int:
    """Mark every series dirty from the beginning that another version of its asset's code computed; return how many.

    A row keeps the version that computed it until it is computed again. Fetched bars are not computed by us: they take
    the new version over as they are, and Dagster is told of that.
    """
    transaction.execute(
        """
        UPDATE market.series_state SET code_version = $1, recorded_at = NULL
        WHERE asset = $2 AND timeframe = ANY ($3::text[]) AND code_version <> $1
        """,
        versions.get(OHLC),
        OHLC,
        [timeframe.value for timeframe in FETCHED],
    )
    changed = transaction.query(
        """
        UPDATE market.series_state s
        SET dirty_from = $3::timestamptz, dirty_end = CASE WHEN s.asset = $4 THEN $3::timestamptz END,
            updated_at = clock_timestamp()
        FROM unnest($1::text[], $2::text[]) AS v(asset, version)
        WHERE s.asset = v.asset AND s.code_version <> v.version AND s.dirty_from IS DISTINCT FROM $3::timestamptz
          AND NOT (s.asset = $4 AND s.timeframe = ANY ($5::text[]))
        RETURNING s.symbol
        """,
        list(versions),
        list(versions.values()),
        BEGINNING,
        OHLC,
        [timeframe.value for timeframe in FETCHED],
    )
    return changed.height


def stale(transaction: Transaction, closed: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Every series of every asset that wants work at `now`.

    Args:
        transaction: any.
        closed: calendar, timeframe, ts_end: closing time of the last bar of each calendar and timeframe.
        now: UTC; series whose next attempt is later are left out.

    Returns:
        asset, symbol, timeframe, reason (`bar closed`, `never asked`, `bars missing`, `input changed`, `not
        recorded`), since (the closing time, gap or dirty_from behind the reason), failures; sorted by asset, timeframe
        and symbol. A series has one row for each reason.
    """
    return transaction.query(
        """
        WITH closed AS (
            SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS c(calendar, timeframe, ts_end)
        )
        SELECT s.asset, s.symbol, s.timeframe,
               CASE WHEN s.checked_through IS NULL THEN 'never asked' ELSE 'bar closed' END AS reason,
               c.ts_end AS since, s.failures
        FROM closed c
        CROSS JOIN LATERAL (
            SELECT * FROM market.series_state k
            WHERE k.asset = $5 AND k.timeframe = c.timeframe
              AND (k.checked_through IS NULL OR k.checked_through < c.ts_end)
              AND (k.next_attempt_at IS NULL OR k.next_attempt_at <= $4)
            -- Planned by itself: Postgres takes a third of all series for stale, and would look each of them up.
            OFFSET 0
        ) s
        JOIN market.instrument i ON i.symbol = s.symbol AND i.calendar = c.calendar AND i.is_active AND i.is_fetched
        WHERE c.timeframe = ANY ($6::text[])
        UNION ALL
        SELECT s.asset, s.symbol, s.timeframe, 'input changed', s.dirty_from, s.failures
        FROM market.series_state s
        JOIN market.asset a ON a.asset = s.asset AND a.is_on
        JOIN market.instrument i ON i.symbol = s.symbol AND i.is_active
        LEFT JOIN market.series_state base
               ON base.asset = $5 AND base.symbol = s.symbol AND base.timeframe = $7
        WHERE s.dirty_from IS NOT NULL
          AND (s.asset <> $5 OR (s.timeframe <> ALL ($6::text[]) AND s.dirty_end <= base.checked_through))
          AND (s.next_attempt_at IS NULL OR s.next_attempt_at <= $4)
        UNION ALL
        SELECT s.asset, s.symbol, s.timeframe, 'bars missing', min(g.first_ts), s.failures
        FROM market.bar_gap g
        JOIN market.instrument i ON i.symbol = g.symbol AND i.is_active AND i.is_fetched
        JOIN market.series_state s ON s.asset = $5 AND s.symbol = g.symbol AND s.timeframe = g.timeframe
        WHERE g.status = 'open' AND g.next_attempt_at <= $4 AND g.timeframe = ANY ($2::text[])
          AND (s.next_attempt_at IS NULL OR s.next_attempt_at <= $4)
        GROUP BY s.asset, s.symbol, s.timeframe, s.failures
        UNION ALL
        SELECT s.asset, s.symbol, s.timeframe, 'not recorded', s.computed_at, s.failures
        FROM market.series_state s
        JOIN market.asset a ON a.asset = s.asset AND a.is_on
        JOIN market.instrument i ON i.symbol = s.symbol AND i.is_active
        WHERE s.computed_at < clock_timestamp() - make_interval(secs => $8::float8)
          AND (s.recorded_at IS NULL OR s.recorded_at < s.computed_at)
          AND s.dirty_from IS NULL
        ORDER BY 1, 3, 2
        """,
        closed["calendar"],
        closed["timeframe"],
        closed["ts_end"],
        now,
        OHLC,
        [timeframe.value for timeframe in FETCHED],
        BASE.value,
        float(RECORDING_GRACE_SECONDS),
    )


def expected_rollups(transaction: Transaction, closed: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Rolled-up series whose bar has just closed but whose last 5m bars are still to be asked for.

    `closed` as in `stale`. A series whose 5m bars fail at present is left out. Returns symbol, timeframe, since.
    """
    return transaction.query(
        """
        WITH closed AS (
            SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS c(calendar, timeframe, ts_end)
        )
        SELECT i.symbol, c.timeframe, c.ts_end AS since
        FROM closed c
        JOIN market.instrument i ON i.calendar = c.calendar AND i.is_active AND i.is_fetched
        JOIN market.series_state base ON base.asset = $4 AND base.symbol = i.symbol AND base.timeframe = $5
        WHERE c.timeframe = ANY ($6::text[])
          AND base.checked_through < c.ts_end
          AND (base.next_attempt_at IS NULL OR base.next_attempt_at <= $7)
        ORDER BY 2, 1
        """,
        closed["calendar"],
        closed["timeframe"],
        closed["ts_end"],
        OHLC,
        BASE.value,
        [timeframe.value for timeframe in ROLLED_UP],
        now,
    )


def base_behind(transaction: Transaction, symbols: Sequence[str], closed: pl.DataFrame, now: datetime) -> int:
    """How many of `symbols` still wait for 5m bars up to `closed` (calendar, ts_end). Failing ones do not count."""
    found = transaction.query(
        """
        SELECT count(*) AS n
        FROM unnest($1::text[], $2::timestamptz[]) AS c(calendar, ts_end)
        JOIN market.instrument i
          ON i.calendar = c.calendar AND i.is_active AND i.is_fetched AND i.symbol = ANY ($3::text[])
        JOIN market.series_state base ON base.asset = $4 AND base.symbol = i.symbol AND base.timeframe = $5
        WHERE (base.checked_through IS NULL OR base.checked_through < c.ts_end)
          AND (base.next_attempt_at IS NULL OR base.next_attempt_at <= $6)
        """,
        closed["calendar"],
        closed["ts_end"],
        list(symbols),
        OHLC,
        BASE.value,
        now,
    )
    return int(found["n"][0])


def fetch_state(transaction: Transaction, timeframe: Timeframe, symbols: Sequence[str]) -> pl.DataFrame:
    """Ledger of fetched bars; sorted by symbol.

    Columns: symbol, calendar, provider (null for the configured one), checked_through, first_ts, next_attempt_at.
    """
    return transaction.query(
        """
        SELECT s.symbol, i.calendar, i.provider, s.checked_through, s.first_ts, s.next_attempt_at
        FROM market.series_state s JOIN market.instrument i USING (symbol)
        WHERE s.asset = $1 AND s.timeframe = $2 AND s.symbol = ANY ($3::text[]) AND i.is_fetched
        ORDER BY s.symbol
        """,
        OHLC,
        timeframe.value,
        list(symbols),
    )


def instruments(transaction: Transaction, timeframe: Timeframe, symbols: Sequence[str]) -> pl.DataFrame:
    """Those of `symbols` that are known: symbol, calendar, is_fetched, checked_through of their bars; sorted."""
    return transaction.query(
        """
        SELECT i.symbol, i.calendar, i.is_fetched, s.checked_through
        FROM market.instrument i
        LEFT JOIN market.series_state s ON s.asset = $1 AND s.symbol = i.symbol AND s.timeframe = $2
        WHERE i.symbol = ANY ($3::text[]) ORDER BY i.symbol
        """,
        OHLC,
        timeframe.value,
        list(symbols),
    )


def lock(transaction: Transaction, asset: str, timeframe: Timeframe, symbols: Sequence[str]) -> pl.DataFrame:
    """Hold the ledger rows of `symbols` until the transaction ends, waiting for whoever holds them now.

    Returns symbol, dirty_from, dirty_end, first_ts, last_ts as they stand; sorted by symbol.
    """
    return transaction.query(
        """
        SELECT symbol, dirty_from, dirty_end, first_ts, last_ts FROM market.series_state
        WHERE asset = $1 AND timeframe = $2 AND symbol = ANY ($3::text[]) ORDER BY symbol FOR UPDATE
        """,
        asset,
        timeframe.value,
        list(symbols),
    )


def pending(
    transaction: Transaction, asset: str, timeframe: Timeframe, symbols: Sequence[str], *, everything: bool
) -> pl.DataFrame:
    """The work there is for `asset` among `symbols`: symbol and `since`, the first ts to be read; sorted by symbol.

    With `everything`, all symbols that have input, from the beginning. The main input's first and last ts come along
    (`input_first`, `input_last`) so that the caller can cut the work into batches of bounded size.
    """
    return transaction.query(
        """
        SELECT s.symbol,
               CASE WHEN $6 THEN $7::timestamptz ELSE s.dirty_from END AS since,
               up.first_ts AS input_first, up.last_ts AS input_last
        FROM market.series_state s
        LEFT JOIN market.asset_input i ON i.asset = s.asset AND i.timeframe = s.timeframe AND i.is_main
        JOIN market.series_state up
          ON up.asset = coalesce(i.reads, $4) AND up.timeframe = coalesce(i.reads_timeframe, $5)
         AND up.symbol = s.symbol
        WHERE s.asset = $1 AND s.timeframe = $2 AND s.symbol = ANY ($3::text[])
          AND ((s.dirty_from IS NOT NULL AND (s.dirty_end IS NULL OR s.dirty_end <= up.checked_through))
               OR ($6 AND up.last_ts IS NOT NULL))
        ORDER BY s.symbol
        """,
        asset,
        timeframe.value,
        list(symbols),
        # Bars that are rolled up have no row in asset_input.
        OHLC,
        BASE.value,
        everything,
        BEGINNING,
    )


def claim(
    transaction: Transaction, asset: str, timeframe: Timeframe, symbols: Sequence[str], *, everything: bool
) -> pl.DataFrame:
    """Lock those of `symbols` that want work and that nobody else works on.

    Returns symbol, calendar, from_ts (where to start), last_ts (up to where it was computed before), and for rolled-up
    bars `complete_through` of their 5m input; sorted by symbol. With `everything`, from_ts is the beginning and fresh
    series are claimed too.
    """
    return transaction.query(
        """
        SELECT s.symbol, i.calendar,
               CASE WHEN $4 THEN $5::timestamptz ELSE s.dirty_from END AS from_ts,
               s.last_ts, base.checked_through AS complete_through
        FROM market.series_state s
        JOIN market.instrument i ON i.symbol = s.symbol
        JOIN market.series_state base ON base.asset = $6 AND base.symbol = s.symbol AND base.timeframe = $7
        WHERE s.asset = $1 AND s.timeframe = $2 AND s.symbol = ANY ($3::text[])
          AND ($4 OR (s.dirty_from IS NOT NULL AND (s.dirty_end IS NULL OR s.dirty_end <= base.checked_through)))
        ORDER BY s.symbol
        FOR UPDATE OF s SKIP LOCKED
        """,
        asset,
        timeframe.value,
        list(symbols),
        everything,
        BEGINNING,
        OHLC,
        BASE.value,
    )


def complete(
    transaction: Transaction, asset: str, timeframe: Timeframe, results: pl.DataFrame, code_version: str
) -> None:
    """Write that the series in `results` are up to date.

    `results` has symbol, changed_from (null when nothing changed), first_ts, last_ts, checked_through, dirty_from and
    dirty_end (what is left dirty, null as a rule). A changed series gets the next revision, and every asset that
    reads it becomes dirty from `changed_from`.
    """
    transaction.execute(
        """
        WITH read AS (
            -- A change of an input waits for the lock on this series before it is committed, so these are the revisions
            -- that were read.
            SELECT up.symbol, jsonb_object_agg(i.reads || '|' || i.reads_timeframe, up.revision) AS inputs
            FROM market.asset_input i
            JOIN market.series_state up ON up.asset = i.reads AND up.timeframe = i.reads_timeframe
            WHERE i.asset = $1 AND i.timeframe = $2 AND up.symbol = ANY ($3::text[])
            GROUP BY up.symbol
        )
        UPDATE market.series_state s
        SET revision = s.revision + CASE WHEN r.changed_from IS NULL THEN 0 ELSE 1 END,
            inputs = read.inputs,
            first_ts = least(s.first_ts, r.first_ts),
            last_ts = greatest(s.last_ts, r.last_ts),
            checked_through = greatest(s.checked_through, r.checked_through),
            dirty_from = r.dirty_from, dirty_end = r.dirty_end,
            code_version = $8, failures = 0, next_attempt_at = NULL, last_error = NULL,
            computed_at = clock_timestamp(), updated_at = clock_timestamp()
        FROM unnest($3::text[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[], $7::timestamptz[],
                    $9::timestamptz[], $10::timestamptz[])
             AS r(symbol, changed_from, first_ts, last_ts, checked_through, dirty_from, dirty_end)
        LEFT JOIN read ON read.symbol = r.symbol
        WHERE s.asset = $1 AND s.timeframe = $2 AND s.symbol = r.symbol
        """,
        asset,
        timeframe.value,
        results["symbol"],
        results["changed_from"],
        results["first_ts"],
        results["last_ts"],
        results["checked_through"],
        code_version,
        results["dirty_from"],
        results["dirty_end"],
    )
    changed = results.filter(pl.col("changed_from").is_not_null())
    if changed.is_empty():
        return
    # Also where nothing is pulled down, for the update then waits for a run that computes this series at the moment,
    # and that may have read the input of before. What is switched off is computed by nobody.
    transaction.execute(
        f"""
        UPDATE market.series_state s
        SET dirty_from = least(s.dirty_from, c.changed_from), {_DIRTY_SINCE}
        FROM market.asset_input i
        JOIN market.asset a ON a.asset = i.asset
        CROSS JOIN unnest($3::text[], $4::timestamptz[]) AS c(symbol, changed_from)
        WHERE i.reads = $1 AND i.reads_timeframe = $2
          AND s.asset = i.asset AND s.timeframe = i.timeframe AND s.symbol = c.symbol
          AND (a.is_on OR s.dirty_from IS NULL OR s.dirty_from > c.changed_from)
        """,
        asset,
        timeframe.value,
        changed["symbol"],
        changed["changed_from"],
    )


def mark_dirty(transaction: Transaction, asset: str, timeframe: Timeframe, starts: pl.DataFrame) -> None:
    """Pull `dirty_from` of `asset` down to `starts` (symbol, dirty_from, dirty_end); never up."""
    if starts.is_empty():
        return
    transaction.execute(
        f"""
        UPDATE market.series_state s
        SET dirty_end = CASE WHEN s.dirty_from < d.dirty_from THEN s.dirty_end ELSE d.dirty_end END,
            dirty_from = least(s.dirty_from, d.dirty_from), {_DIRTY_SINCE}
        FROM unnest($3::text[], $4::timestamptz[], $5::timestamptz[]) AS d(symbol, dirty_from, dirty_end)
        WHERE s.asset = $1 AND s.timeframe = $2 AND s.symbol = d.symbol
        """,
        asset,
        timeframe.value,
        starts["symbol"],
        starts["dirty_from"],
        starts["dirty_end"],
    )


def fail(
    transaction: Transaction,
    asset: str,
    timeframe: Timeframe,
    errors: Mapping[str, str],
    now: datetime,
    until: datetime | None = None,
) -> None:
    """Write that the symbols of `errors` could not be brought up to date, and why.

    The next attempt waits 30 s, twice as long after each further failure, an hour at most, give or take a quarter; or
    until `until`, when all of them wait for the same thing.
    """
    if not errors:
        return
    transaction.execute(
        """
        UPDATE market.series_state s
        SET failures = s.failures + 1, last_error = e.message, updated_at = clock_timestamp(),
            next_attempt_at = coalesce($8::timestamptz, $5 + make_interval(secs =>
                least($6::float8 * 2 ^ least(s.failures, 20), $7::float8) * (0.75 + random() / 2)))
        FROM unnest($3::text[], $4::text[]) AS e(symbol, message)
        WHERE s.asset = $1 AND s.timeframe = $2 AND s.symbol = e.symbol
        """,
        asset,
        timeframe.value,
        list(errors),
        [message[:1000] for message in errors.values()],
        now,
        float(FIRST_PAUSE_SECONDS),
        float(LONGEST_PAUSE_SECONDS),
        until,
    )


def lock_recording(transaction: Transaction, asset: str, timeframe: Timeframe) -> None:
    """Wait until nobody else tells Dagster of `asset` on `timeframe`, and keep others waiting until the end.

    Without it an older revision could be logged after a newer one.
    """
    transaction.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('ema_assets recording ' || $1 || '|' || $2, 0))",
        asset,
        timeframe.value,
    )


def to_record(
    transaction: Transaction, asset: str, timeframe: Timeframe, symbols: Sequence[str], *, everything: bool = False
) -> pl.DataFrame:
    """Those of `symbols` that were brought up to date and that Dagster has not been told of; with `everything`, all.

    Returns:
        symbol, provider, revision, code_version (null when it was never computed), first_ts, last_ts, last_close (of
        the bar at last_ts), computed_at; what it was computed from as lists: reads (assets), read_versions (their
        revisions, two with a comma where it reads two timeframes of one), read_events (a place in Dagster's event log
        behind the event of what was read, and before the next one that is different); untold (`ohlc|5m`: inputs of
        which Dagster is to be told first). Sorted by symbol.
    """
    return transaction.query(
        """
        WITH chosen AS (
            SELECT s.*, coalesce(s.inputs, CASE WHEN s.computed_at IS NULL THEN (
                       SELECT jsonb_object_agg(i.reads || '|' || i.reads_timeframe, 0) FROM market.asset_input i
                       WHERE i.asset = $1 AND i.timeframe = $2
                   ) END) AS was_read
            FROM market.series_state s
            WHERE s.asset = $1 AND s.timeframe = $2 AND s.symbol = ANY ($3::text[])
              AND ($4 OR (s.computed_at IS NOT NULL AND (s.recorded_at IS NULL OR s.recorded_at < s.computed_at)))
        ), each AS (
            SELECT c.symbol, split_part(e.key, '|', 1) AS asset, split_part(e.key, '|', 2) AS timeframe, e.key,
                   e.value::bigint AS revision
            FROM chosen c CROSS JOIN LATERAL jsonb_each_text(c.was_read) AS e(key, value)
        ), per_asset AS (
            SELECT each.symbol, each.asset,
                   string_agg(each.revision::text, ',' ORDER BY each.timeframe <> $2, each.timeframe) AS version,
                   -- An input that has changed since makes the series stale, so the place is before that change.
                   coalesce(min(up.recorded_first_event - 1) FILTER (WHERE up.recorded_revision > each.revision),
                            max(up.recorded_event), 1) AS event,
                   array_agg(each.key) FILTER (
                       WHERE up.computed_at IS NOT NULL AND coalesce(up.recorded_revision < each.revision, true)
                   ) AS untold
            FROM each
            LEFT JOIN LATERAL (
                SELECT k.computed_at, k.recorded_revision, k.recorded_event, k.recorded_first_event
                FROM market.series_state k
                WHERE k.asset = each.asset AND k.symbol = each.symbol AND k.timeframe = each.timeframe
                -- Row by row: Postgres takes the inputs for a hundred times as many and would read the whole ledger.
                OFFSET 0
            ) up ON true
            GROUP BY each.symbol, each.asset
        ), per_symbol AS (
            SELECT symbol, array_agg(asset ORDER BY asset) AS reads, array_agg(version ORDER BY asset) AS read_versions,
                   array_agg(event ORDER BY asset) AS read_events,
                   string_to_array(string_agg(array_to_string(untold, ' '), ' '), ' ') AS untold
            FROM per_asset GROUP BY symbol
        )
        SELECT c.symbol, i.provider, c.revision, c.code_version, c.first_ts, c.last_ts, o.close AS last_close,
               c.computed_at, p.reads, p.read_versions, p.read_events, p.untold
        FROM chosen c
        JOIN market.instrument i ON i.symbol = c.symbol
        LEFT JOIN market.ohlc o ON o.symbol = c.symbol AND o.timeframe = $2 AND o.ts = c.last_ts
        LEFT JOIN per_symbol p ON p.symbol = c.symbol
        ORDER BY c.symbol
        """,
        asset,
        timeframe.value,
        list(symbols),
        everything,
    )


def mark_recorded(transaction: Transaction, asset: str, timeframe: Timeframe, told: pl.DataFrame) -> None:
    """Write that Dagster has been told of `told`: symbol, computed_at, revision, and event, its id in Dagster's log."""
    transaction.execute(
        """
        UPDATE market.series_state s
        SET recorded_at = t.computed_at, recorded_revision = t.revision, recorded_event = t.event,
            recorded_first_event = CASE WHEN s.recorded_revision = t.revision THEN s.recorded_first_event
                                        ELSE t.event END
        FROM unnest($3::text[], $4::timestamptz[], $5::bigint[], $6::bigint[])
             AS t(symbol, computed_at, revision, event)
        WHERE s.asset = $1 AND s.timeframe = $2 AND s.symbol = t.symbol
        """,
        asset,
        timeframe.value,
        told["symbol"],
        told["computed_at"],
        told["revision"],
        told["event"],
    )


def failing(transaction: Transaction, asset: str | None = None) -> pl.DataFrame:
    """Series whose last attempt failed: asset, symbol, timeframe, failures, next_attempt_at, last_error."""
    return transaction.query(
        """
        SELECT s.asset, s.symbol, s.timeframe, s.failures, s.next_attempt_at, s.last_error
        FROM market.series_state s
        JOIN market.asset a ON a.asset = s.asset AND a.is_on
        JOIN market.instrument i ON i.symbol = s.symbol AND i.is_active
        WHERE s.failures > 0 AND ($1::text IS NULL OR s.asset = $1) ORDER BY 1, 2, 3
        """,
        asset,
    )


def assets(transaction: Transaction) -> list[str]:
    """The assets that are switched on, each after what it reads."""
    found = transaction.query("SELECT asset FROM market.asset WHERE is_on ORDER BY position, asset")
    return [str(asset) for asset in found["asset"]]


def summary(transaction: Transaction) -> pl.DataFrame:
    """Per asset that is on and timeframe of active instruments: series, never_computed, failing, newest_ts.

    A series that is fed from files counts once it has bars.
    """
    return transaction.query(
        """
        SELECT s.asset, s.timeframe, count(*) AS series,
               count(*) FILTER (WHERE s.last_ts IS NULL) AS never_computed,
               count(*) FILTER (WHERE s.failures > 0) AS failing,
               max(s.last_ts) AS newest_ts
        FROM market.series_state s
        JOIN market.asset a ON a.asset = s.asset AND a.is_on
        JOIN market.instrument i ON i.symbol = s.symbol AND i.is_active
        JOIN market.series_state bars ON bars.asset = $1 AND bars.symbol = s.symbol AND bars.timeframe = s.timeframe
        WHERE i.is_fetched OR bars.last_ts IS NOT NULL
        GROUP BY 1, 2
        """,
        OHLC,
    )


def attempts(transaction: Transaction, symbols: Sequence[str]) -> pl.DataFrame:
    """How far each series of `symbols` has got: asset, symbol, timeframe, checked_through, last_error."""
    return transaction.query(
        """
        SELECT asset, symbol, timeframe, checked_through, last_error FROM market.series_state
        WHERE symbol = ANY ($1::text[])
        """,
        list(symbols),
    )
