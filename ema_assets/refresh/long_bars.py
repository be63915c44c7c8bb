"""Rolls up bars from stored long history where a series has no shorter bars. Nothing is requested here.

A session belongs to the shorter bars if they begin no later in it than the long bars, otherwise to long history. So
each bar is rolled up from one of the two, and the result depends only on what is stored, not on what was stored first.
"""

from datetime import UTC, datetime

import polars as pl

from ema_assets.market.calendars import latest_of
from ema_assets.market.rollups import roll_up
from ema_assets.model.schemas import BAR_CHANGE_SCHEMA, UTC_TIME
from ema_assets.model.timeframes import Timeframe, by_key, rolled_up_from
from ema_assets.refresh.take_over import delete, together
from ema_assets.store import file_spans, ledger, long_history, sessions, tables
from ema_assets.store.database import Transaction

# Long bars are complete: they are requested only when they have closed.
_COMPLETE_THROUGH = datetime(2200, 1, 1, tzinfo=UTC)


def _reaching(claimed: pl.DataFrame) -> pl.DataFrame:
    """Return the series of `claimed` (`ledger.claim`) that are rolled up again from within their long history."""
    return claimed.filter(pl.col("asked_from").is_not_null(), pl.col("from_ts") < pl.col("long_end"))


def starts(claimed: pl.DataFrame) -> pl.DataFrame:
    """Return from when on the shorter bars of `claimed` (`ledger.claim`) are to be read: symbol, from_ts.

    They are read from the first bar on if long history is rolled up again, which is rare: only the beginning of a
    session shows to which bars it belongs.
    """
    reaching = _reaching(claimed)
    is_reaching = pl.col("symbol").is_in(reaching["symbol"].implode())
    beginning = pl.when(is_reaching).then(pl.lit(ledger.BEGINNING, UTC_TIME)).otherwise("from_ts")
    return claimed.select("symbol", from_ts=beginning)


def put_before(
    transaction: Transaction, timeframe: Timeframe, claimed: pl.DataFrame, shorter: pl.DataFrame, closed: pl.DataFrame
) -> pl.DataFrame:
    """Return the `closed` bars of `timeframe` with the bars from long history, without those that these replace.

    Args:
        transaction: in which long history and sessions are read.
        timeframe: a rolled-up timeframe.
        claimed: as `ledger.claim` returns it.
        shorter: symbol, ts, …: the bars from which `closed` was rolled up, read from `starts` on.
        closed: BAR_SCHEMA and missing_bars.

    Returns:
        The bars with `source`, the origin of each bar; sorted by symbol and ts.
    """
    closed = closed.with_columns(source=pl.lit(rolled_up_from(timeframe.source)))
    reaching = _reaching(claimed)
    if reaching.is_empty():
        return closed
    wanted = reaching.select("symbol", from_ts="asked_from")
    long = long_history.long_bars(transaction, timeframe.source, wanted)
    if long.is_empty():
        return closed
    calendars = reaching.select("symbol", "calendar")
    times = pl.concat([long["ts"], shorter["ts"], closed["ts"]])
    first, last = times.min(), times.max()
    assert isinstance(first, datetime) and isinstance(last, datetime)  # noqa: PT018 - for the type checker
    trading = sessions.between(transaction, calendars["calendar"].unique().to_list(), first, last)
    opens = trading.select("calendar", session="open").sort("session")

    def placed(bars: pl.DataFrame) -> pl.DataFrame:
        return latest_of(bars.join(calendars, on="symbol", maintain_order="left"), opens, "session")

    long = placed(long)
    begins = placed(shorter).group_by("symbol", "session").agg(begins=pl.col("ts").min())
    theirs = (
        long.group_by("symbol", "session")
        .agg(long_begins=pl.col("ts").min())
        .join(begins, on=["symbol", "session"], how="left")
        .filter((pl.col("begins") > pl.col("long_begins")).fill_null(True))
        .select("symbol", "session")
    )
    parts = [
        closed.join(calendars, on="symbol", how="anti"),
        placed(closed).join(theirs, on=["symbol", "session"], how="anti").select(closed.columns),
    ]
    used = long.join(theirs, on=["symbol", "session"], how="semi")
    for (key, source), bars in used.partition_by("bars", "source", as_dict=True).items():
        length = by_key(key)
        rolled, _ = roll_up(
            bars.drop("session", "bars", "source").sort("symbol", "ts"),
            timeframe,
            trading,
            calendars.select("symbol", complete_through=pl.lit(_COMPLETE_THROUGH, UTC_TIME)),
            length,
        )
        brought = source if length is timeframe else rolled_up_from(length)
        parts.append(rolled.with_columns(source=pl.lit(brought)).select(closed.columns))
    return pl.concat(parts).sort("symbol", "ts")


def write(transaction: Transaction, timeframe: Timeframe, claimed: pl.DataFrame, closed: pl.DataFrame) -> pl.DataFrame:
    """Store `closed` (as `put_before` returns it); return what changed (BAR_CHANGE_SCHEMA, one row per symbol).

    Rolled-up bars that were stored before the end of long history and are not in `closed` are deleted.
    """
    parts = [_delete_others(transaction, timeframe, _reaching(claimed), closed)]
    for (source,), bars in closed.partition_by("source", as_dict=True, maintain_order=True).items():
        parts.append(tables.write_bars(transaction, timeframe, bars.drop("source"), str(source)))
    return together(*parts)


def _delete_others(
    transaction: Transaction, timeframe: Timeframe, reaching: pl.DataFrame, closed: pl.DataFrame
) -> pl.DataFrame:
    """Delete stored rolled-up bars up to the end of long history that are not in `closed`; return BAR_CHANGE_SCHEMA."""
    if reaching.is_empty():
        return BAR_CHANGE_SCHEMA.to_frame()
    spans = reaching.select("symbol", first_ts=pl.lit(ledger.BEGINNING, UTC_TIME), last_end="long_end")
    stored = file_spans.bars_within(transaction, timeframe, spans).filter("is_rolled_up")
    gone = stored.join(closed, on=["symbol", "ts"], how="anti")
    return delete(transaction, timeframe, gone)
