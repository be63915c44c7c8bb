"""Writing bars and what is computed from them: bulk, incremental, only rows that differ. SQL only."""

import polars as pl

from ema_assets.model.asset_names import OHLC
from ema_assets.model.schemas import (
    BAR_CHANGE_SCHEMA,
    BAR_SCHEMA,
    KINDS,
    UTC_TIME,
    check_frame,
    with_numbers_only,
)
from ema_assets.model.timeframes import Timeframe
from ema_assets.store.database import Transaction, is_bound
from ema_assets.store.tables.table import CROSSOVERS, SOURCE_ID, STORED_BARS, TRADES, Table

# The number of crossovers or trades up to last_ts that differ when the given rows replace the rows from from_ts on. A
# trade that continues, or that a new bar closes, does not differ.
_FLIPS = {
    CROSSOVERS: """
        SELECT d.symbol, count(*) AS flipped
        FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[]) AS d(symbol, from_ts, last_ts)
        JOIN {given} ON g.symbol = d.symbol AND g.ts <= d.last_ts
        LEFT JOIN {part} t ON t.symbol = g.symbol AND t.timeframe = $4 AND t.ts = g.ts
        WHERE t.crossover IS DISTINCT FROM g.crossover
        GROUP BY 1
        """,
    TRADES: """
        WITH d AS (
            SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[]) AS d(symbol, from_ts, last_ts)
        )
        SELECT symbol, count(*) AS flipped
        FROM (
            SELECT d.symbol
            FROM d JOIN {part} t ON t.symbol = d.symbol AND t.timeframe = $4 AND t.entry_ts >= d.from_ts
            WHERE NOT EXISTS (
                SELECT FROM {given} WHERE g.symbol = t.symbol AND g.entry_ts = t.entry_ts)
            UNION ALL
            SELECT d.symbol
            FROM d JOIN {given} ON g.symbol = d.symbol AND g.entry_ts <= d.last_ts
            LEFT JOIN {part} t ON t.symbol = g.symbol AND t.timeframe = $4 AND t.entry_ts = g.entry_ts
            WHERE t.entry_ts IS NULL
               OR (t.exit_ts IS DISTINCT FROM g.exit_ts AND least(t.exit_ts, g.exit_ts) <= d.last_ts)
        ) trade
        GROUP BY 1
        """,
}


# The number of crossovers or trades of each symbol that differ from before.
NOTHING_FLIPPED = pl.Schema({"symbol": pl.String(), "flipped": pl.Int64()})

_WRITTEN_BAR_SCHEMA = pl.Schema({name: dtype for name, dtype in BAR_SCHEMA.items() if name != "timeframe"})


def write_bars(transaction: Transaction, timeframe: Timeframe, bars: pl.DataFrame, source: str) -> pl.DataFrame:
    """Insert or correct `bars` (symbol, ts, open, high, low, close, volume; one row per key) from `source`.

    Rolled-up bars have missing_bars, too. The old values of a corrected bar and their source are moved to
    `bar_correction`; an equal bar is not touched.

    Returns:
        One row per symbol that changed: symbol, changed_from (earliest changed ts), written, corrected, late (the
        number of new bars before the last bar in the ledger, or within what was requested before).

    Raises:
        SchemaMismatch: when `bars` does not have the required columns.
    """
    check_frame("bars to be stored", bars, _WRITTEN_BAR_SCHEMA)
    if bars.is_empty():
        return BAR_CHANGE_SCHEMA.to_frame()
    part = STORED_BARS.part(timeframe)
    if "missing_bars" not in bars.columns:
        bars = bars.with_columns(missing_bars=pl.lit(None, pl.Int16))
    bars = bars.with_columns(pl.lit(source_id(transaction, source), pl.Int16).alias(SOURCE_ID))
    if not is_bound(bars):
        spans = bars.group_by("symbol").agg(pl.col("ts").min().alias("first"), pl.col("ts").max().alias("last"))
        if not _has_rows(transaction, STORED_BARS, timeframe, spans):
            return _append_bars(transaction, timeframe, bars)
    with transaction.given(bars.select("symbol", "ts", *STORED_BARS.values)) as given:
        # All parts of the statement see the bars as they were before the statement.
        return transaction.query(
            f"""
            WITH kept AS (
                INSERT INTO market.bar_correction
                    (symbol, timeframe, ts, open, high, low, close, volume, corrected_at, source_id)
                SELECT t.symbol, t.timeframe, t.ts, t.open, t.high, t.low, t.close, t.volume, clock_timestamp(),
                       t.{SOURCE_ID}
                FROM {given.after(3)} JOIN {part} t ON t.symbol = g.symbol AND t.timeframe = $1 AND t.ts = g.ts
                WHERE (t.open, t.high, t.low, t.close, t.volume)
                      IS DISTINCT FROM (g.open, g.high, g.low, g.close, g.volume)
                RETURNING symbol
            ), corrected AS (
                SELECT symbol, count(*) AS bars FROM kept GROUP BY 1
            ), written AS (
                {_upsert(STORED_BARS, timeframe, given.after(3))}
                RETURNING t.symbol, t.ts, xmax = 0 AS is_new
            )
            SELECT w.symbol, min(w.ts) AS changed_from, count(*) AS written, coalesce(min(c.bars), 0) AS corrected,
                   count(*) FILTER (
                       -- A bar later than any stored one may be late as well: bars were rolled up without it.
                       WHERE is_new AND w.ts < greatest(k.last_ts, CASE WHEN $3 THEN k.checked_through END)) AS late
            FROM written w
            LEFT JOIN corrected c ON c.symbol = w.symbol
            LEFT JOIN market.series_state k ON k.asset = $2 AND k.symbol = w.symbol AND k.timeframe = $1
            GROUP BY 1 ORDER BY 1
            """,
            timeframe.key,
            OHLC,
            timeframe.is_fetched,
            *given.values,
        )


def write_computed(
    transaction: Transaction,
    table: Table,
    timeframe: Timeframe,
    rows: pl.DataFrame,
    starts: pl.DataFrame,
    past: pl.DataFrame | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Replace the rows of each symbol of `starts` (symbol, from_ts) from its from_ts on by `rows`.

    Equal rows are not touched; rows that no longer exist are deleted. A row before from_ts replaces its predecessor.

    Args:
        transaction: any.
        table: one that is computed.
        timeframe: of all rows.
        rows: symbol, the table's time column and values.
        starts: symbol, from_ts.
        past: symbol, from_ts, last_ts of series whose rows up to last_ts exist and are computed again.

    Returns:
        One row per symbol that changed: symbol, changed_from (earliest changed ts), written. Then one row per symbol of
        `past` with crossovers or trades that differ from before: symbol, flipped.

    Raises:
        SchemaMismatch: when `rows` does not have the columns of `table`, or has an infinite value.
    """
    check_frame(f"rows of {table.name}", rows, _schema_of(table))
    rows = with_numbers_only(f"rows of {table.name}", rows)
    part = table.part(timeframe)
    flipped = NOTHING_FLIPPED.to_frame()
    if not is_bound(rows):
        spans = _spans_of(rows, table, starts)
        if not _has_rows(transaction, table, timeframe, spans):
            _append(transaction, table, timeframe, rows)
            changes = rows.group_by("symbol").agg(
                changed_from=pl.col(table.time).min(), written=pl.len().cast(pl.Int64)
            )
            return changes.sort("symbol"), flipped
    with transaction.given(rows.select("symbol", table.time, *table.values)) as given:
        if past is not None and not past.is_empty() and table.flips is not None:
            flipped = transaction.query(
                _FLIPS[table.flips].format(part=part, given=given.after(4)),
                past["symbol"],
                past["from_ts"],
                past["last_ts"],
                timeframe.key,
                *given.values,
            )
        changes = transaction.query(
            f"""
            WITH gone AS (
                DELETE FROM {part} t
                USING unnest($2::text[], $3::timestamptz[]) AS d(symbol, from_ts)
                WHERE t.symbol = d.symbol AND t.timeframe = $1 AND t.{table.time} >= d.from_ts
                  AND NOT EXISTS (
                      SELECT FROM {given.after(3)} WHERE g.symbol = t.symbol AND g.{table.time} = t.{table.time})
                RETURNING t.symbol, t.{table.time} AS changed
            ), written AS (
                {_upsert(table, timeframe, given.after(3))}
                RETURNING t.symbol, t.{table.time} AS changed
            )
            SELECT symbol, min(changed) AS changed_from, count(*) AS written
            FROM (SELECT * FROM gone UNION ALL SELECT * FROM written) c GROUP BY 1 ORDER BY 1
            """,
            timeframe.key,
            starts["symbol"],
            starts["from_ts"],
            *given.values,
        )
    return changes, flipped


def _spans_of(rows: pl.DataFrame, table: Table, starts: pl.DataFrame) -> pl.DataFrame:
    """Return from when on each symbol of `starts` must have no row for `rows` to be new: symbol, first, last (null).

    A trade that goes on was entered before from_ts, and has a row already.
    """
    earliest = rows.group_by("symbol").agg(earliest=pl.col(table.time).min())
    first = pl.min_horizontal("from_ts", "earliest")
    return starts.join(earliest, on="symbol", how="left").select("symbol", first=first, last=pl.lit(None, UTC_TIME))


def _has_rows(transaction: Transaction, table: Table, timeframe: Timeframe, spans: pl.DataFrame) -> bool:
    """Return whether any symbol of `spans` (symbol, first, last; null `last` is open) has a row within its span."""
    found = transaction.query(
        f"""
        SELECT EXISTS (
            SELECT FROM unnest($2::text[], $3::timestamptz[], $4::timestamptz[]) AS d(symbol, first, last)
            CROSS JOIN LATERAL (
                SELECT FROM {table.part(timeframe)} t
                WHERE t.symbol = d.symbol AND t.timeframe = $1
                  AND t.{table.time} BETWEEN d.first AND coalesce(d.last, 'infinity')
                LIMIT 1
            ) stored
        ) AS has_rows
        """,
        timeframe.key,
        spans["symbol"],
        spans["first"],
        spans["last"],
    )
    return bool(found.item())


def _append(transaction: Transaction, table: Table, timeframe: Timeframe, rows: pl.DataFrame) -> None:
    """Write rows where their series have none yet. This is a third of the work of comparing them with nothing."""
    rows = rows.with_columns(timeframe=pl.lit(timeframe.key)).sort("symbol", table.time)
    transaction.append(table.part(timeframe), rows.select("symbol", "timeframe", table.time, *table.values))


def _append_bars(transaction: Transaction, timeframe: Timeframe, bars: pl.DataFrame) -> pl.DataFrame:
    """Do as `write_bars` when none of `bars` can be a correction."""
    _append(transaction, STORED_BARS, timeframe, bars)
    known = transaction.query(
        """
        SELECT symbol, greatest(last_ts, CASE WHEN $3 THEN checked_through END) AS known_to
        FROM market.series_state WHERE asset = $1 AND timeframe = $2 AND symbol = ANY ($4::text[])
        """,
        OHLC,
        timeframe.key,
        timeframe.is_fetched,
        bars["symbol"].unique(),
    )
    return (
        bars.select("symbol", "ts")
        .join(known, on="symbol", how="left")
        .group_by("symbol")
        .agg(
            changed_from=pl.col("ts").min(),
            written=pl.len().cast(pl.Int64),
            corrected=pl.lit(0, pl.Int64),
            late=(pl.col("ts") < pl.col("known_to")).sum().cast(pl.Int64),
        )
        .sort("symbol")
    )


def _schema_of(table: Table) -> dict[str, pl.DataType]:
    columns = {column.name: KINDS[column.kind] for column in table.columns}
    return {"symbol": pl.String(), table.time: UTC_TIME, **columns}


def thin_out(
    transaction: Transaction, table: Table, timeframe: Timeframe, symbols: pl.Series, newest: int, every: int
) -> None:
    """Delete rows of `symbols`, except the `newest` ones and those whose bar_number is a multiple of `every`.

    Looks only at the last 4 * `newest` rows per symbol: earlier rows have been thinned out before.
    """
    transaction.execute(
        f"""
        DELETE FROM {table.part(timeframe)} t
        USING unnest($1::text[]) AS d(symbol)
        CROSS JOIN LATERAL (
            SELECT r.ts FROM (
                SELECT n.ts, n.bar_number, row_number() OVER (ORDER BY n.ts DESC) AS place
                FROM (SELECT ts, bar_number FROM {table.part(timeframe)}
                      WHERE symbol = d.symbol AND timeframe = $2 ORDER BY ts DESC LIMIT 4 * $3) n
            ) r WHERE r.place > $3 AND r.bar_number % $4 <> 0
        ) old
        WHERE t.symbol = d.symbol AND t.timeframe = $2 AND t.ts = old.ts
        """,
        symbols,
        timeframe.key,
        newest,
        every,
    )


def reject(transaction: Transaction, rejected: pl.DataFrame, source: str) -> None:
    """Store `rejected` bars (symbol, timeframe, ts, prices, volume, reason) with their source."""
    if rejected.is_empty():
        return
    with transaction.given(rejected) as given:
        # A bad bar that comes again with the overlap of the next request is not stored twice.
        transaction.execute(
            f"""
            INSERT INTO market.bar_rejected (symbol, timeframe, ts, open, high, low, close, volume, reason, source)
            SELECT symbol, timeframe, ts, open, high, low, close, volume, reason, $1 FROM {given.after(1)}
            WHERE NOT EXISTS (
                SELECT FROM market.bar_rejected r
                WHERE r.symbol = g.symbol AND r.timeframe = g.timeframe
                  AND (r.ts = g.ts OR (r.ts IS NULL AND g.ts IS NULL))
                  AND r.reason = g.reason AND r.source = $1
                  AND (r.open, r.high, r.low, r.close, r.volume)
                      IS NOT DISTINCT FROM (g.open, g.high, g.low, g.close, g.volume))
            """,
            source,
            *given.values,
        )


# The most sources that have an id of their own: ids have two bytes. One file per day and symbol reaches this in years.
MOST_SOURCES = 32_000
# The common name of all further sources.
FURTHER_SOURCES = "a further file"


def source_id(transaction: Transaction, name: str) -> int:
    """Return the id of the source `name`; a new source gets one.

    Beyond MOST_SOURCES, all new sources share the id of FURTHER_SOURCES.
    """
    known = _known_source(transaction, name)
    if known is None:
        count = transaction.query("SELECT count(*) AS sources FROM market.source").item()
        name = name if count < MOST_SOURCES else FURTHER_SOURCES
        # Look up again under the final name: an insert consumes an id even if it then does nothing.
        known = _known_source(transaction, name)
    if known is None:
        transaction.execute("INSERT INTO market.source (name) VALUES ($1) ON CONFLICT DO NOTHING", name)
        known = _known_source(transaction, name)
    assert known is not None
    return known


def _known_source(transaction: Transaction, name: str) -> int | None:
    found = transaction.query("SELECT id FROM market.source WHERE name = $1", name)
    return None if found.is_empty() else int(found.item())


def _upsert(table: Table, timeframe: Timeframe, given: str) -> str:
    """Return the statement that writes the rows of `given` that differ from those of `table`; $1 is the timeframe."""
    names = ", ".join(table.values)
    # A bar with another source only is not written again. A user's signal may have a column of that name.
    compared = [name for name in table.values if table != STORED_BARS or name != SOURCE_ID]
    # Sorted, because two writers that meet rows in different orders would deadlock.
    return f"""
        INSERT INTO {table.part(timeframe)} AS t (symbol, timeframe, {table.time}, {names})
        SELECT symbol, $1, {table.time}, {names} FROM {given} ORDER BY symbol, {table.time}
        ON CONFLICT (symbol, timeframe, {table.time}) DO UPDATE
        SET {", ".join(f"{name} = excluded.{name}" for name in table.values)}
        WHERE ({", ".join(f"t.{name}" for name in compared)})
              IS DISTINCT FROM ({", ".join(f"excluded.{name}" for name in compared)})
        """
