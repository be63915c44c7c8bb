"""The long bars of the history before the first bars of fetched series. SQL only."""

import polars as pl

from ema_assets.model.schemas import BAR_SCHEMA, check_frame
from ema_assets.model.timeframes import Timeframe
from ema_assets.store.database import Transaction
from ema_assets.store.older_history import LOCKED
from ema_assets.store.tables import STORED_BARS, source_id

_VALUES = ("open", "high", "low", "close", "volume")


def bars_between(transaction: Transaction, timeframe: Timeframe, spans: pl.DataFrame) -> pl.DataFrame:
    """Return stored bars that open within `spans` (symbol, start, end; end excluded): symbol, ts and the values.

    Sorted by symbol and ts.
    """
    return transaction.query(
        f"""
        SELECT o.symbol, o.ts, {", ".join(f"o.{name}" for name in _VALUES)}
        FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[]) AS d(symbol, start_ts, end_ts)
        JOIN {STORED_BARS.part(timeframe)} o
            ON o.symbol = d.symbol AND o.timeframe = $4 AND o.ts >= d.start_ts AND o.ts < d.end_ts
        """,
        spans["symbol"],
        spans["start"],
        spans["end"],
        timeframe.key,
    ).sort("symbol", "ts")


def write_long_bars(
    transaction: Transaction, timeframe: Timeframe, length: Timeframe, bars: pl.DataFrame, source: str
) -> None:
    """Store `bars` (BAR_SCHEMA and ts_end), each `length` long, before the series of `timeframe`.

    They replace stored long bars that open at the same times, and all those of another length.

    Raises:
        SchemaMismatch: when `bars` does not have the required columns.
    """
    check_frame("long bars", bars, BAR_SCHEMA)
    if bars.is_empty():
        return
    ends = bars.group_by("symbol").agg(last_end=pl.col("ts_end").max()).sort("symbol")
    transaction.execute(
        """
        DELETE FROM market.long_bar b USING market.older_history h
        WHERE b.timeframe = $1 AND b.symbol = ANY ($2::text[]) AND h.symbol = b.symbol AND h.timeframe = b.timeframe
              AND h.bars <> $3
        """,
        timeframe.key,
        ends["symbol"],
        length.key,
    )
    transaction.execute(
        f"""
        WITH {LOCKED}
        UPDATE market.older_history h SET bars = $4,
               last_end = CASE WHEN h.bars = $4 THEN greatest(h.last_end, e.last_end) ELSE e.last_end END
        FROM unnest($2::text[], $3::timestamptz[]) AS e(symbol, last_end) JOIN locked USING (symbol)
        WHERE h.timeframe = $1 AND h.symbol = e.symbol
        """,
        timeframe.key,
        ends["symbol"],
        ends["last_end"],
        length.key,
    )
    names = ", ".join(_VALUES)
    with transaction.staged(bars.select("symbol", "ts", *_VALUES)) as staged:
        transaction.execute(
            f"""
            INSERT INTO market.long_bar AS b (symbol, timeframe, ts, {names}, source_id)
            SELECT symbol, $1, ts, {names}, $2::smallint FROM pg_temp.{staged} ORDER BY symbol, ts
            ON CONFLICT (symbol, timeframe, ts) DO UPDATE
            SET {", ".join(f"{name} = excluded.{name}" for name in _VALUES)}, source_id = excluded.source_id
            WHERE ({", ".join(f"b.{name}" for name in _VALUES)})
                  IS DISTINCT FROM ({", ".join(f"excluded.{name}" for name in _VALUES)})
            """,
            timeframe.key,
            source_id(transaction, source),
        )


def long_bars(transaction: Transaction, timeframe: Timeframe, starts: pl.DataFrame) -> pl.DataFrame:
    """Return long bars before the series of `timeframe`, of each symbol of `starts` (symbol, from_ts) from from_ts on.

    Columns: symbol, ts, open, high, low, close, volume, bars (the key of their timeframe), source (its name); sorted by
    symbol and ts.
    """
    return transaction.query(
        f"""
        SELECT b.symbol, b.ts, {", ".join(f"b.{name}" for name in _VALUES)}, h.bars, n.name AS source
        FROM unnest($1::text[], $2::timestamptz[]) AS d(symbol, from_ts)
        JOIN market.older_history h ON h.symbol = d.symbol AND h.timeframe = $3
        JOIN market.long_bar b ON b.symbol = d.symbol AND b.timeframe = $3 AND b.ts >= d.from_ts
        JOIN market.source n ON n.id = b.source_id
        """,
        starts["symbol"],
        starts["from_ts"],
        timeframe.key,
    ).sort("symbol", "ts")


def rescale(transaction: Transaction, timeframe: Timeframe, bars: pl.DataFrame) -> None:
    """Update the stored long bars before the series of `timeframe` to the values of `bars` (symbol, ts, values)."""
    with transaction.staged(bars.select("symbol", "ts", *_VALUES)) as staged:
        transaction.execute(
            f"""
            UPDATE market.long_bar b SET {", ".join(f"{name} = s.{name}" for name in _VALUES)}
            FROM pg_temp.{staged} s WHERE b.symbol = s.symbol AND b.timeframe = $1 AND b.ts = s.ts
            """,
            timeframe.key,
        )
