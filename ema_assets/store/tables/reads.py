"""Reading bars and what is computed from them: deltas, ranges, pages, as of a moment. SQL only.

A batch has one timeframe and many symbols, so every statement names the partition itself.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import polars as pl

from ema_assets.model.timeframes import Timeframe
from ema_assets.store.database import Transaction, identifier
from ema_assets.store.tables.table import BARS, Table


def has_part(transaction: Transaction, table: Table, timeframe: Timeframe) -> bool:
    """Return whether `table` has a partition for `timeframe`: it has none for one that was never switched on."""
    return bool(transaction.query("SELECT to_regclass($1) IS NOT NULL AS there", table.part(timeframe)).item())


def row_counts(transaction: Transaction, table: Table, timeframe: Timeframe, symbols: Sequence[str]) -> dict[str, int]:
    """Return the number of rows of each of `symbols`. It takes about 1 ms per series of a few thousand rows."""
    found = transaction.query(
        f"SELECT symbol, count(*) AS n FROM {table.part(timeframe)} WHERE symbol = ANY ($1::text[]) GROUP BY 1",
        list(symbols),
    )
    return {**dict.fromkeys(symbols, 0), **dict(found.iter_rows())}


def read_since(
    transaction: Transaction, table: Table, timeframe: Timeframe, starts: pl.DataFrame, values: tuple[str, ...]
) -> pl.DataFrame:
    """Return rows of each symbol of `starts` (symbol, from_ts) from from_ts on: symbol, the table's time, `values`.

    Sorted by symbol and time.
    """
    columns = ", ".join(identifier(name) for name in values)
    return transaction.query(
        f"""
        SELECT d.symbol, r.* FROM unnest($1::text[], $2::timestamptz[]) AS d(symbol, from_ts)
        CROSS JOIN LATERAL (
            SELECT {table.time}, {columns} FROM {table.part(timeframe)} t
            WHERE t.symbol = d.symbol AND t.timeframe = $3 AND t.{table.time} >= d.from_ts ORDER BY t.{table.time}
        ) r
        """,
        starts["symbol"],
        starts["from_ts"],
        timeframe.key,
    ).sort("symbol", table.time)


def read_before(
    transaction: Transaction, table: Table, timeframe: Timeframe, starts: pl.DataFrame, values: tuple[str, ...]
) -> pl.DataFrame:
    """Return the last row, if any, of each symbol of `starts` (symbol, from_ts) before from_ts: symbol, `values`."""
    columns = ", ".join(identifier(name) for name in values)
    return transaction.query(
        f"""
        SELECT d.symbol, r.* FROM unnest($1::text[], $2::timestamptz[]) AS d(symbol, from_ts)
        CROSS JOIN LATERAL (
            SELECT {columns} FROM {table.part(timeframe)} t
            WHERE t.symbol = d.symbol AND t.timeframe = $3 AND t.{table.time} < d.from_ts
            ORDER BY t.{table.time} DESC LIMIT 1
        ) r
        """,
        starts["symbol"],
        starts["from_ts"],
        timeframe.key,
    )


def earlier(
    transaction: Transaction, table: Table, timeframe: Timeframe, starts: pl.DataFrame, rows: int
) -> pl.DataFrame:
    """Return `starts` (symbol, from_ts), each moved back by `rows` rows of `table`, or to its first row."""
    return transaction.query(
        f"""
        SELECT d.symbol, coalesce(r.from_ts, d.from_ts) AS from_ts
        FROM unnest($1::text[], $2::timestamptz[]) AS d(symbol, from_ts)
        CROSS JOIN LATERAL (
            SELECT min({table.time}) AS from_ts FROM (
                SELECT {table.time} FROM {table.part(timeframe)} t
                WHERE t.symbol = d.symbol AND t.timeframe = $3 AND t.{table.time} < d.from_ts
                ORDER BY t.{table.time} DESC LIMIT $4) before
        ) r
        """,
        starts["symbol"],
        starts["from_ts"],
        timeframe.key,
        rows,
    )


def newest_rows(
    transaction: Transaction,
    table: Table,
    timeframe: Timeframe,
    symbols: Sequence[str],
    values: tuple[str, ...],
    rows: int = 1,
) -> pl.DataFrame:
    """Return the last `rows` rows of each symbol: symbol, the table's time, `values`; sorted by symbol and time."""
    columns = ", ".join(identifier(name) for name in (table.time, *values))
    return transaction.query(
        f"""
        SELECT d.symbol, r.* FROM unnest($1::text[]) AS d(symbol)
        CROSS JOIN LATERAL (
            SELECT {columns} FROM {table.part(timeframe)} t
            WHERE t.symbol = d.symbol AND t.timeframe = $2 ORDER BY t.{table.time} DESC LIMIT $3
        ) r
        """,
        list(symbols),
        timeframe.key,
        rows,
    ).sort("symbol", table.time)


def read_range(
    transaction: Transaction,
    table: Table,
    timeframe: Timeframe,
    symbols: Sequence[str] | None,
    start: datetime | None,
    end: datetime | None,
) -> pl.DataFrame:
    """Return rows of `symbols` (None: all) from `start` to before `end` (None: open).

    Columns: symbol, the table's time, its values; sorted by symbol and time.
    """
    return transaction.query(
        f"""
        SELECT symbol, {table.time}, {", ".join(table.values)} FROM {table.part(timeframe)}
        WHERE ($1 OR symbol = ANY ($2::text[]))
          AND ($3::timestamptz IS NULL OR {table.time} >= $3::timestamptz)
          AND ($4::timestamptz IS NULL OR {table.time} < $4::timestamptz)
        """,
        symbols is None,
        list(symbols or ()),
        start,
        end,
    ).sort("symbol", table.time)


def pages(
    transaction: Transaction, table: Table, timeframe: Timeframe, symbols: Sequence[str] | None, rows: int
) -> Iterator[pl.DataFrame]:
    """Yield all rows as `read_range` does, at most `rows` per page. Each page continues in the index after the last."""
    after = ("", datetime(1, 1, 1, tzinfo=UTC))
    while True:
        page = transaction.query(
            f"""
            SELECT symbol, {table.time}, {", ".join(table.values)} FROM {table.part(timeframe)}
            WHERE (symbol, timeframe, {table.time}) > ($3, $4, $5) AND timeframe = $4
              AND ($1 OR symbol = ANY ($2::text[]))
            ORDER BY symbol, timeframe, {table.time} LIMIT $6
            """,
            symbols is None,
            list(symbols or ()),
            after[0],
            timeframe.key,
            after[1],
            rows,
        )
        if not page.is_empty():
            yield page
        if page.height < rows:
            return
        symbol, moment = page.select("symbol", table.time).row(-1)
        after = (symbol, moment)


def bars_as_of(
    transaction: Transaction, timeframe: Timeframe, symbols: Sequence[str] | None, moment: datetime
) -> pl.DataFrame:
    """Return the bars of `symbols` (None: all) as known at `moment`: symbol, ts, and a bar's values; sorted."""
    return transaction.query(
        f"""
        SELECT symbol, ts, {", ".join(BARS.values)} FROM market.ohlc_as_of($1)
        WHERE timeframe = $2 AND ($3 OR symbol = ANY ($4::text[]))
        """,
        moment,
        timeframe.key,
        symbols is None,
        list(symbols or ()),
    ).sort("symbol", "ts")


def first_stored(transaction: Transaction, timeframe: Timeframe, symbols: Sequence[str] | None) -> datetime | None:
    """Return when the first bar of `symbols` (None: all) was stored, UTC; None without bars. It reads all of them."""
    found = transaction.query(
        f"""
        SELECT min(stored_at) AS first FROM {BARS.part(timeframe)}
        WHERE timeframe = $1 AND ($2 OR symbol = ANY ($3::text[]))
        """,
        timeframe.key,
        symbols is None,
        list(symbols or ()),
    ).item()
    assert found is None or isinstance(found, datetime)
    return found


def closes_between(transaction: Transaction, timeframe: Timeframe, spans: pl.DataFrame) -> pl.DataFrame:
    """Return stored bars of each symbol of `spans` (symbol, first, last) from first to last, both included.

    STORED_CLOSE_SCHEMA, sorted by symbol and ts.
    """
    return _between(transaction, timeframe, spans, ("ts", "close", "volume"))


def bars_between(transaction: Transaction, timeframe: Timeframe, spans: pl.DataFrame) -> pl.DataFrame:
    """Return the bars of `closes_between` with all values: symbol, ts, and the values of BARS."""
    return _between(transaction, timeframe, spans, ("ts", *BARS.values))


def _between(
    transaction: Transaction, timeframe: Timeframe, spans: pl.DataFrame, columns: Sequence[str]
) -> pl.DataFrame:
    return transaction.query(
        f"""
        SELECT d.symbol, r.*
        FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[]) AS d(symbol, first, last)
        -- Span by span: Postgres takes the few bars of each for hundreds, and may read the whole table.
        CROSS JOIN LATERAL (
            SELECT {", ".join(columns)} FROM {BARS.part(timeframe)} t
            WHERE t.symbol = d.symbol AND t.timeframe = $4 AND t.ts BETWEEN d.first AND d.last ORDER BY t.ts
        ) r
        """,
        spans["symbol"],
        spans["first"],
        spans["last"],
        timeframe.key,
    ).sort("symbol", "ts")


def closes_around(transaction: Transaction, timeframe: Timeframe, spans: pl.DataFrame, bars: int) -> pl.DataFrame:
    """Return the last `bars` stored bars before each of `spans` (symbol, first, last) and the first one after it.

    STORED_CLOSE_SCHEMA, sorted by symbol and ts.
    """
    return transaction.query(
        f"""
        SELECT d.symbol, r.*
        FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[]) AS d(symbol, first, last)
        CROSS JOIN LATERAL (
            (SELECT ts, close, volume FROM {BARS.part(timeframe)} t
             WHERE t.symbol = d.symbol AND t.timeframe = $4 AND t.ts < d.first ORDER BY t.ts DESC LIMIT $5)
            UNION ALL
            (SELECT ts, close, volume FROM {BARS.part(timeframe)} t
             WHERE t.symbol = d.symbol AND t.timeframe = $4 AND t.ts > d.last ORDER BY t.ts LIMIT 1)
        ) r
        """,
        spans["symbol"],
        spans["first"],
        spans["last"],
        timeframe.key,
        bars,
    ).sort("symbol", "ts")
