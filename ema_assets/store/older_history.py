"""History before the first bars of fetched series: what was requested, and the long bars themselves. SQL only."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import polars as pl

from ema_assets.model.asset_names import OHLC
from ema_assets.model.schemas import BAR_SCHEMA, check_frame
from ema_assets.model.timeframes import Timeframe, by_key
from ema_assets.store.database import Transaction
from ema_assets.store.ledger.row import DIRTY_SINCE, FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS
from ema_assets.store.tables import STORED_BARS, source_id

_VALUES = ("open", "high", "low", "close", "volume")


def begin(transaction: Transaction, timeframe: Timeframe, asked: pl.DataFrame, now: datetime, *, is_anew: bool) -> None:
    """Write how far back the series of `asked` (symbol, start) were requested, and that older bars are due at `now`.

    With `is_anew`, the series were loaded again, and their long history must be requested again.
    """
    transaction.execute(
        """
        WITH asked AS (
            SELECT * FROM unnest($2::text[], $3::timestamptz[]) AS a(symbol, start)
        ), noted AS (
            UPDATE market.series_state s SET asked_from = least(s.asked_from, a.start)
            FROM asked a WHERE s.asset = $4 AND s.timeframe = $1 AND s.symbol = a.symbol
        )
        INSERT INTO market.older_history AS h (symbol, timeframe, due_at)
        SELECT symbol, $1, $5 FROM asked ORDER BY symbol
        ON CONFLICT (symbol, timeframe) DO UPDATE
        SET due_at = excluded.due_at, asked_from = CASE WHEN $6 THEN NULL ELSE h.asked_from END
        """,
        timeframe.key,
        asked["symbol"],
        asked["start"],
        OHLC,
        now,
        is_anew,
    )


def sync_depth(transaction: Transaction, wanted: Mapping[str, str], now: datetime) -> None:
    """Make the older bars of all series due at `now` on timeframes whose `wanted` depth (in words) has changed."""
    transaction.execute(
        """
        WITH changed AS (
            INSERT INTO market.history_depth AS d (timeframe, wanted)
            SELECT timeframe, wanted FROM unnest($1::text[], $2::text[]) AS w(timeframe, wanted)
            ON CONFLICT (timeframe) DO UPDATE SET wanted = excluded.wanted WHERE d.wanted <> excluded.wanted
            RETURNING timeframe
        )
        UPDATE market.older_history h
        SET due_at = least(h.due_at, $3), failures = 0, note = CASE WHEN h.failures = 0 THEN h.note END
        FROM changed c WHERE h.timeframe = c.timeframe
        """,
        list(wanted),
        list(wanted.values()),
        now,
    )


def due(
    transaction: Transaction, timeframe: Timeframe, symbols: Sequence[str], now: datetime, *, everything: bool = False
) -> pl.DataFrame:
    """Return those of `symbols` whose older bars are due; with `everything`, all that have bars. Sorted by symbol.

    Columns: symbol, calendar, provider (null for the default one), delay_seconds, first_ts, checked_through, asked_from
    (of the series itself), long_from (of its long history, null when that was not requested).
    """
    return transaction.query(
        """
        SELECT s.symbol, i.calendar, i.provider, i.delay_seconds::bigint AS delay_seconds, s.first_ts,
               s.checked_through, s.asked_from, h.asked_from AS long_from
        FROM market.series_state s
        JOIN market.instrument i USING (symbol)
        LEFT JOIN market.older_history h ON h.symbol = s.symbol AND h.timeframe = s.timeframe
        WHERE s.asset = $1 AND s.timeframe = $2 AND s.symbol = ANY ($3::text[]) AND s.is_on
          AND i.is_active AND i.is_fetched AND i.silent_since IS NULL AND s.checked_through IS NOT NULL
          AND s.first_ts IS NOT NULL AND (h.due_at <= $4 OR $5)
        ORDER BY s.symbol
        """,
        OHLC,
        timeframe.key,
        list(symbols),
        now,
        everything,
    )


def series_of(transaction: Transaction, symbols: Sequence[str]) -> pl.DataFrame:
    """Return all series of bars of `symbols`: symbol, timeframe; sorted."""
    return transaction.query(
        """
        SELECT symbol, timeframe FROM market.series_state
        WHERE asset = $1 AND symbol = ANY ($2::text[]) AND is_on ORDER BY 1, 2
        """,
        OHLC,
        list(symbols),
    )


def reaches(transaction: Transaction, symbols: Sequence[str]) -> pl.DataFrame:
    """Return how far back the series of `symbols` were requested, or begin with long history if they are rolled up.

    Columns: symbol, timeframe, asked_from; sorted by the first two. Series without a value are left out.
    """
    return transaction.query(
        """
        SELECT symbol, timeframe, asked_from FROM market.series_state
        WHERE asset = $1 AND symbol = ANY ($2::text[]) AND asked_from IS NOT NULL ORDER BY 1, 2
        """,
        OHLC,
        list(symbols),
    )


def settle(transaction: Transaction, timeframe: Timeframe, settled: pl.DataFrame, now: datetime) -> None:
    """Write that the series in `settled` need no older bars at present.

    Columns: symbol; asked_from (how far back the series was requested), long_from (how far back its long history was)
    and note, each null where it stays unchanged.
    """
    if settled.is_empty():
        return
    transaction.execute(
        """
        WITH settled AS (
            SELECT * FROM unnest($2::text[], $3::timestamptz[], $4::timestamptz[], $5::text[])
                          AS t(symbol, asked_from, long_from, note)
        ), noted AS (
            UPDATE market.series_state s SET asked_from = least(s.asked_from, t.asked_from)
            FROM settled t WHERE s.asset = $6 AND s.timeframe = $1 AND s.symbol = t.symbol AND t.asked_from IS NOT NULL
        )
        INSERT INTO market.older_history AS h (symbol, timeframe, asked_from, asked_at, note)
        SELECT symbol, $1, long_from, CASE WHEN long_from IS NOT NULL THEN $7::timestamptz END, note
        FROM settled ORDER BY symbol
        ON CONFLICT (symbol, timeframe) DO UPDATE
        SET due_at = NULL, failures = 0, asked_from = least(h.asked_from, excluded.asked_from),
            asked_at = coalesce(excluded.asked_at, h.asked_at),
            -- What went wrong the last time is over.
            note = coalesce(excluded.note, CASE WHEN h.failures = 0 THEN h.note END)
        """,
        timeframe.key,
        settled["symbol"],
        settled["asked_from"],
        settled["long_from"],
        settled["note"],
        OHLC,
        now,
    )


def fail(
    transaction: Transaction,
    timeframe: Timeframe,
    errors: Mapping[str, str],
    now: datetime,
    until: datetime | None = None,
) -> None:
    """Write that older bars of the symbols of `errors` could not be fetched, and why; pauses are as in the ledger."""
    if not errors:
        return
    transaction.execute(
        """
        UPDATE market.older_history h
        SET failures = h.failures + 1, note = e.message,
            due_at = coalesce($7::timestamptz, $4 + make_interval(secs =>
                least($5::float8 * 2 ^ least(h.failures, 20), $6::float8) * (0.75 + random() / 2)))
        FROM unnest($2::text[], $3::text[]) AS e(symbol, message)
        WHERE h.timeframe = $1 AND h.symbol = e.symbol
        """,
        timeframe.key,
        list(errors),
        [message[:1000] for message in errors.values()],
        now,
        float(FIRST_PAUSE_SECONDS),
        float(LONGEST_PAUSE_SECONDS),
        until,
    )


def end_pauses(
    transaction: Transaction, symbols: Sequence[str], timeframes: Sequence[Timeframe], now: datetime
) -> None:
    """Make older bars of `symbols` that could not be fetched due at `now`."""
    transaction.execute(
        """
        UPDATE market.older_history SET due_at = least(due_at, $3)
        WHERE failures > 0 AND due_at IS NOT NULL AND symbol = ANY ($1::text[]) AND timeframe = ANY ($2::text[])
        """,
        list(symbols),
        [timeframe.key for timeframe in timeframes],
        now,
    )


def ask_again(transaction: Transaction, timeframe: Timeframe, symbols: Sequence[str], now: datetime) -> None:
    """Have the whole long history of `symbols`, where there is one, requested again."""
    transaction.execute(
        """
        UPDATE market.older_history SET due_at = $3, asked_from = NULL
        WHERE timeframe = $1 AND symbol = ANY ($2::text[]) AND asked_from IS NOT NULL
        """,
        timeframe.key,
        list(symbols),
        now,
    )


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
        """
        UPDATE market.older_history h SET bars = $4,
               last_end = CASE WHEN h.bars = $4 THEN greatest(h.last_end, e.last_end) ELSE e.last_end END
        FROM unnest($2::text[], $3::timestamptz[]) AS e(symbol, last_end)
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


def reach_back(transaction: Transaction, reaching: pl.DataFrame) -> None:
    """Have each rolled-up series of `reaching` (symbol, timeframe, from_ts) begin with long history at from_ts.

    A series whose long history begins earlier keeps that beginning. Its bars are rolled up again from there.
    """
    if reaching.is_empty():
        return
    transaction.execute(
        f"""
        UPDATE market.series_state s
        SET asked_from = least(s.asked_from, r.from_ts),
            dirty_end = CASE WHEN s.dirty_from < least(s.asked_from, r.from_ts) THEN s.dirty_end
                             ELSE least(s.asked_from, r.from_ts) END,
            dirty_from = least(s.dirty_from, s.asked_from, r.from_ts), {DIRTY_SINCE}
        FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS r(symbol, timeframe, from_ts)
        WHERE s.asset = $4 AND s.symbol = r.symbol AND s.timeframe = r.timeframe
        """,
        reaching["symbol"],
        reaching["timeframe"],
        reaching["from_ts"],
        OHLC,
    )


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


def mark_dirty(transaction: Transaction, timeframe: Timeframe, symbols: Sequence[str]) -> None:
    """Have series of `symbols` that begin with the long history before `timeframe` rolled up again from its start."""
    series = series_of(transaction, symbols)
    keys = [key for key in series["timeframe"].unique() if by_key(key).base is timeframe]
    transaction.execute(
        f"""
        UPDATE market.series_state s
        SET dirty_end = CASE WHEN s.dirty_from < s.asked_from THEN s.dirty_end ELSE s.asked_from END,
            dirty_from = least(s.dirty_from, s.asked_from), {DIRTY_SINCE}
        WHERE s.asset = $1 AND s.symbol = ANY ($2::text[]) AND s.timeframe = ANY ($3::text[])
              AND s.timeframe <> $4 AND s.asked_from IS NOT NULL
        """,
        OHLC,
        list(symbols),
        keys,
        timeframe.key,
    )


def notes(transaction: Transaction, symbol: str) -> pl.DataFrame:
    """Return the notes on older bars of `symbol`, if any: timeframe, note, failures, due_at; sorted by timeframe."""
    return transaction.query(
        """
        SELECT timeframe, note, failures, due_at FROM market.older_history
        WHERE symbol = $1 AND note IS NOT NULL ORDER BY 1
        """,
        symbol,
    )
