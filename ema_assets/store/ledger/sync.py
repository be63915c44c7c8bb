"""Bringing the ledger in line with the configuration: instruments, assets, inputs, rows, code versions. SQL only."""

from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from ema_assets.model.asset_names import OHLC
from ema_assets.model.schemas import GRAPH_ASSETS_SCHEMA, GRAPH_INPUTS_SCHEMA, check_frame
from ema_assets.model.symbols import Instrument
from ema_assets.model.timeframes import FETCHED
from ema_assets.store.advisory_locks import AdvisoryLock
from ema_assets.store.database import Transaction
from ema_assets.store.ledger.begin_again import ask_for_all, start_on_calendar
from ema_assets.store.ledger.row import BEGINNING, IN_ORDER

# With more new symbols than this in one sync, Postgres needs new statistics of the ledger to plan its queries well.
_MANY_SYMBOLS = 100


def wait_for_syncs(transaction: Transaction) -> None:
    """Wait until no other sync writes. What a sync must lock depends on what the one before it has written."""
    transaction.execute("SELECT pg_advisory_xact_lock($1)", int(AdvisoryLock.SYNC))


def keep_syncs_away(transaction: Transaction) -> None:
    """Wait for a sync that writes, and have the next one wait until `transaction` has ended.

    For what uses calendars that it has read before it locks series. Call it first: a sync waits in this order, too.
    """
    transaction.execute("SELECT pg_advisory_xact_lock_shared($1)", int(AdvisoryLock.SYNC))


def lock_changes(
    transaction: Transaction,
    instruments: Sequence[Instrument],
    calendars: Sequence[str],
    versions: Mapping[str, str],
    affected: Sequence[str],
    deeper: Sequence[str],
) -> None:
    """Lock every series that a sync will write.

    It is one of `instruments`, changed sessions of `calendars`, code `versions`, assets that are `affected`, because
    their table is made again or they have new readers, and timeframes whose fetched bars are to reach back further
    (`deeper`) or less far.

    A sync writes in several statements, and changes tables before the last ones. If it did not lock all series at its
    start, a run that waits for one statement could hold what the next one waits for.
    """
    transaction.execute(
        f"""
        SELECT count(*) FROM (
            SELECT FROM market.series_state s
            JOIN market.asset a USING (asset)
            JOIN market.instrument i USING (symbol)
            LEFT JOIN unnest($1::text[], $2::text[], $3::boolean[], $4::text[], $5::text[])
                      AS n(symbol, calendar, is_fetched, timeframes, bars_only) USING (symbol)
            LEFT JOIN unnest($6::text[], $7::text[]) AS v(asset, version) USING (asset)
            WHERE i.calendar <> n.calendar
               OR (n.is_fetched AND NOT i.is_fetched AND s.asset = $9)
               OR s.is_on <> (s.timeframe = ANY (n.timeframes::text[])
                              AND (s.asset = $9 OR s.timeframe <> ALL (n.bars_only::text[])))
               OR i.calendar = ANY ($8::text[])
               -- Bars of files are rolled up again, and new rows depend on what their inputs have.
               OR (n.symbol IS NOT NULL AND NOT i.is_active)
               OR (i.timeframes, i.bars_only) <> (n.timeframes::text[], n.bars_only::text[])
               OR (s.failures > 0 AND NOT a.is_on)
               -- All of the asset: until then, a run may compute more of its series in the old way.
               OR a.code_version <> v.version OR s.code_version <> v.version
               OR s.asset = ANY ($10::text[])
               OR (s.asset = $9 AND s.timeframe = ANY ($11::text[]))
            {IN_ORDER}
        ) locked
        """,
        [each.symbol for each in instruments],
        [each.calendar for each in instruments],
        [each.is_fetched for each in instruments],
        *_timeframes(instruments),
        list(versions),
        list(versions.values()),
        list(calendars),
        OHLC,
        list(affected),
        list(deeper),
    )


def sync_instruments(transaction: Transaction, instruments: Sequence[Instrument]) -> tuple[list[str], list[str]]:
    """Make the active instruments equal `instruments`; return the symbols added and those taken off.

    A new symbol gets its ledger rows. A symbol that is taken off keeps its data and its inactive rows; so does a
    timeframe that is switched off. A timeframe that is switched on again is computed from the beginning. A symbol that
    moves to another calendar loses the bars that do not exist there, and starts again; sessions must be stored before.
    The whole history of a symbol that is no longer fed from files is requested.
    """
    symbols = [each.symbol for each in instruments]
    before = transaction.query("SELECT symbol FROM market.instrument WHERE is_active")["symbol"].to_list()
    changes = transaction.query(
        """
        SELECT i.symbol, i.calendar <> n.calendar AS is_moved, n.is_fetched AND NOT i.is_fetched AS is_handed_over
        FROM unnest($1::text[], $2::text[], $3::boolean[]) AS n(symbol, calendar, is_fetched)
        JOIN market.instrument i USING (symbol) ORDER BY 1
        """,
        symbols,
        [each.calendar for each in instruments],
        [each.is_fetched for each in instruments],
    )
    moved = changes.filter("is_moved")["symbol"].to_list()
    handed_over = changes.filter("is_handed_over")["symbol"].to_list()
    switched = _write_instruments(transaction, instruments)
    transaction.execute(
        "UPDATE market.instrument SET is_active = false WHERE is_active AND symbol <> ALL ($1::text[])", symbols
    )
    add_rows(transaction, symbols)
    if switched:
        _switch(transaction, switched)
    if moved:
        start_on_calendar(transaction, moved)
    if handed_over:
        ask_for_all(transaction, handed_over)
    added = sorted(set(symbols) - set(before))
    if len(added) > _MANY_SYMBOLS:
        # Autovacuum comes within a minute or two; until then, every query would be planned for the few earlier series.
        transaction.execute("ANALYZE market.instrument, market.series_state")
    return added, sorted(set(before) - set(symbols))


def _write_instruments(transaction: Transaction, instruments: Sequence[Instrument]) -> list[str]:
    """Write `instruments`, all active; return the symbols whose timeframes have changed."""
    symbols = [each.symbol for each in instruments]
    timeframes = _timeframes(instruments)
    switched = transaction.query(
        """
        SELECT i.symbol FROM unnest($1::text[], $2::text[], $3::text[]) AS n(symbol, timeframes, bars_only)
        JOIN market.instrument i USING (symbol)
        WHERE (i.timeframes, i.bars_only) <> (n.timeframes::text[], n.bars_only::text[])
        """,
        symbols,
        *timeframes,
    )["symbol"].to_list()
    transaction.execute(
        """
        INSERT INTO market.instrument AS i
               (symbol, calendar, is_fetched, provider, allow_negative, timeframes, bars_only)
        SELECT symbol, calendar, is_fetched, nullif(provider, ''), allow_negative,
               timeframes::text[], bars_only::text[]
        FROM unnest($1::text[], $2::text[], $3::boolean[], $4::text[], $5::boolean[], $6::text[], $7::text[])
             AS n(symbol, calendar, is_fetched, provider, allow_negative, timeframes, bars_only)
        ORDER BY symbol
        ON CONFLICT (symbol) DO UPDATE
        SET calendar = excluded.calendar, is_fetched = excluded.is_fetched, provider = excluded.provider,
            delay_seconds = CASE WHEN i.provider IS DISTINCT FROM excluded.provider THEN 0 ELSE i.delay_seconds END,
            described_at = CASE WHEN i.provider IS NOT DISTINCT FROM excluded.provider THEN i.described_at END,
            actions_through = CASE WHEN i.provider IS NOT DISTINCT FROM excluded.provider THEN i.actions_through END,
            state = CASE WHEN i.provider IS NOT DISTINCT FROM excluded.provider THEN i.state END,
            allow_negative = excluded.allow_negative, timeframes = excluded.timeframes,
            bars_only = excluded.bars_only, is_active = true
        WHERE (i.calendar, i.is_fetched, i.provider, i.allow_negative, i.timeframes, i.bars_only, i.is_active)
              IS DISTINCT FROM
              (excluded.calendar, excluded.is_fetched, excluded.provider, excluded.allow_negative,
               excluded.timeframes, excluded.bars_only, true)
        """,
        symbols,
        [each.calendar for each in instruments],
        [each.is_fetched for each in instruments],
        [each.provider or "" for each in instruments],
        [each.allow_negative for each in instruments],
        *timeframes,
    )
    return list(switched)


def _timeframes(instruments: Sequence[Instrument]) -> tuple[list[str], list[str]]:
    """Return the timeframes of each of `instruments` with bars, and those with bars only, as arrays of PostgreSQL."""
    return (
        ["{" + ",".join(each.key for each in one.with_bars) + "}" for one in instruments],
        ["{" + ",".join(each.key for each in one.bars_only) + "}" for one in instruments],
    )


def _switch(transaction: Transaction, symbols: Sequence[str]) -> None:
    """Switch the rows of `symbols` on or off, as their timeframes say; rows switched on are computed from the start."""
    transaction.execute(
        """
        WITH wanted AS (
            SELECT s.asset, s.symbol, s.timeframe,
                   s.timeframe = ANY (i.timeframes) AND (s.asset = $1 OR s.timeframe <> ALL (i.bars_only)) AS is_on,
                   s.asset <> $1 OR t.source IS NOT NULL AS is_computed
            FROM market.series_state s
            JOIN market.instrument i USING (symbol)
            LEFT JOIN market.timeframe t USING (timeframe)
            WHERE s.symbol = ANY ($3::text[])
        )
        UPDATE market.series_state s
        SET is_on = w.is_on,
            dirty_from = CASE WHEN w.is_on AND w.is_computed THEN $2::timestamptz ELSE s.dirty_from END,
            dirty_end = CASE WHEN w.is_on AND w.is_computed AND s.asset = $1 THEN $2::timestamptz
                             ELSE s.dirty_end END,
            updated_at = clock_timestamp()
        FROM wanted w
        WHERE s.asset = w.asset AND s.symbol = w.symbol AND s.timeframe = w.timeframe AND s.is_on <> w.is_on
        """,
        OHLC,
        BEGINNING,
        list(symbols),
    )


def sync_assets(transaction: Transaction, assets: pl.DataFrame, inputs: pl.DataFrame) -> None:
    """Make the graph of assets the configured one.

    In `assets` (GRAPH_ASSETS_SCHEMA) each asset comes after its inputs; assets that are not in it are switched off.
    `inputs` follows GRAPH_INPUTS_SCHEMA. An asset that is switched off is still marked dirty by its input, so that it
    has only the difference to compute when it is switched on again; so is one on a timeframe that nobody uses any more.

    Raises:
        SchemaMismatch: when a frame does not have the required columns.
    """
    check_frame("assets", assets, GRAPH_ASSETS_SCHEMA)
    check_frame("inputs of assets", inputs, GRAPH_INPUTS_SCHEMA)
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
          -- Not on a timeframe that nobody uses any more: a run may be computing it.
          AND i.timeframe = ANY ($3::text[])
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

    A row of an asset whose input already has data starts dirty: that is how a new asset computes its past.
    """
    transaction.execute(
        """
        -- Found first: to try all rows and have nearly all of them refused takes ten times as long.
        WITH missing AS MATERIALIZED (
            SELECT a.asset, s.symbol, t.timeframe, t.source
            FROM market.instrument s
            JOIN market.asset a ON a.is_on
            JOIN market.timeframe t
              ON t.timeframe = ANY (s.timeframes) AND (a.asset = $3 OR t.timeframe <> ALL (s.bars_only))
            WHERE s.symbol = ANY ($1::text[]) AND NOT EXISTS (
                SELECT FROM market.series_state x
                WHERE x.asset = a.asset AND x.symbol = s.symbol AND x.timeframe = t.timeframe)
        )
        INSERT INTO market.series_state (asset, symbol, timeframe, dirty_from, dirty_end)
        SELECT m.asset, m.symbol, m.timeframe,
               CASE WHEN up.last_ts IS NOT NULL THEN $2::timestamptz END,
               CASE WHEN up.last_ts IS NOT NULL AND m.asset = $3 THEN $2::timestamptz END
        FROM missing m
        LEFT JOIN market.asset_input i ON i.asset = m.asset AND i.timeframe = m.timeframe AND i.is_main
        -- How bars are rolled up from bars is not in asset_input.
        LEFT JOIN market.series_state up
               ON up.symbol = m.symbol
              AND (up.asset, up.timeframe) = (coalesce(i.reads, $3), coalesce(i.reads_timeframe, m.source))
        ORDER BY m.asset, m.symbol, m.timeframe
        ON CONFLICT DO NOTHING
        """,
        sorted(symbols),
        BEGINNING,
        OHLC,
    )


def start_again(transaction: Transaction, assets: Sequence[str]) -> None:
    """Have every series of `assets` computed from the beginning."""
    transaction.execute(
        f"""
        WITH chosen AS MATERIALIZED (
            SELECT s.asset, s.symbol, s.timeframe FROM market.series_state s JOIN market.asset a USING (asset)
            WHERE s.asset = ANY ($1::text[]) AND s.last_ts IS NOT NULL {IN_ORDER}
        )
        UPDATE market.series_state s SET dirty_from = $2, updated_at = clock_timestamp()
        FROM chosen c WHERE (s.asset, s.symbol, s.timeframe) = (c.asset, c.symbol, c.timeframe)
        """,
        list(assets),
        BEGINNING,
    )


def adopt_code_versions(transaction: Transaction, versions: Mapping[str, str]) -> int:
    """Mark every series computed by another version of its asset's code dirty from the beginning; return how many.

    A row keeps the version that computed it until it is computed again. Fetched bars are not computed here: they adopt
    the new version unchanged, and that is reported to Dagster.
    """
    transaction.execute(
        """
        UPDATE market.series_state SET code_version = $1, recorded_at = NULL
        WHERE asset = $2 AND timeframe = ANY ($3::text[]) AND code_version <> $1
        """,
        versions.get(OHLC),
        OHLC,
        [timeframe.key for timeframe in FETCHED],
    )
    transaction.execute(
        """
        UPDATE market.asset a SET code_version = v.version FROM unnest($1::text[], $2::text[]) AS v(asset, version)
        WHERE a.asset = v.asset AND a.code_version IS DISTINCT FROM v.version
        """,
        list(versions),
        list(versions.values()),
    )
    changed = transaction.query(
        f"""
        WITH chosen AS MATERIALIZED (
            SELECT s.asset, s.symbol, s.timeframe
            FROM unnest($1::text[], $2::text[]) AS v(asset, version)
            JOIN market.asset a USING (asset)
            JOIN market.series_state s ON s.asset = v.asset AND s.code_version <> v.version
            WHERE s.dirty_from IS DISTINCT FROM $3::timestamptz
              AND NOT (s.asset = $4 AND s.timeframe = ANY ($5::text[])) {IN_ORDER}
        )
        UPDATE market.series_state s
        SET dirty_from = $3::timestamptz, dirty_end = CASE WHEN s.asset = $4 THEN $3::timestamptz END,
            updated_at = clock_timestamp()
        FROM chosen c WHERE (s.asset, s.symbol, s.timeframe) = (c.asset, c.symbol, c.timeframe)
        RETURNING s.symbol
        """,
        list(versions),
        list(versions.values()),
        BEGINNING,
        OHLC,
        [timeframe.key for timeframe in FETCHED],
    )
    return changed.height
