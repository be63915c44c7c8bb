"""Rolls up bars of files to timeframes that nothing else makes, for symbols whose bars come only from files.

Providers are asked for bars of 1m, 5m and 1d, and runs roll up all others from these. A symbol without a provider may
have files of 1m only, or of 15m: its 5m and 1d, or its 30m to 1d, are made here. What follows from them is up to runs.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from ema_assets.market.calendars import bar_grid, stretch_of
from ema_assets.market.rollups import buckets_of, roll_up, without_owned
from ema_assets.model.asset_names import OHLC
from ema_assets.model.schemas import ASKED_SCHEMA, BAR_CHANGE_SCHEMA, UTC_TIME
from ema_assets.model.symbols import FROM_FILES
from ema_assets.model.timeframes import FETCHED, Timeframe, by_key, rolled_up_from, source_named
from ema_assets.refresh.account_for_gaps import account_for_gaps
from ema_assets.refresh.answers import Answer, Extent, Storing, spans_of
from ema_assets.refresh.outcome import batches
from ema_assets.refresh.persist_answer import write_bars
from ema_assets.store import file_spans, ledger, sessions, tables
from ema_assets.store.database import Database, Transaction

# Read at once, at most; one series is never cut.
_BARS_A_BATCH = 500_000
# How far before the changed bars those of two files are compared.
_COMPARED = timedelta(days=14)
# Prices of two files of one instrument differ by less; splits are larger.
_SAME_SCALE = math.log(1.1)


@dataclass(frozen=True, slots=True)
class RolledUpSeries:
    """How many bars of a series were rolled up from files of `source`, and how many of them are new or corrected.

    `missing` counts bars that should be between them but are not stored. With `is_rescaled`, none is stored, because
    files of `timeframe` itself have prices on another scale.
    """

    symbol: str
    timeframe: Timeframe
    source: Timeframe
    bars: int
    stored: int = 0
    corrected: int = 0
    missing: int = 0
    is_rescaled: bool = False


def targets(timeframes: Iterable[Timeframe], source: Timeframe) -> tuple[Timeframe, ...]:
    """Return those of `timeframes` that are rolled up here from files of `source`, shortest first.

    Not those that runs roll up, from `source` or from one of the returned.
    """
    found: list[Timeframe] = []
    for each in sorted(timeframes):
        is_longer = source.is_intraday and each.period is None and each > source
        if not is_longer or (not each.is_fetched and each.source in (source, *found)):
            continue
        if each.is_session or each.minutes % source.minutes == 0:
            found.append(each)
    return tuple(found)


def roll_up_ingested(
    database: Database, source: Timeframe, starts: pl.DataFrame, now: datetime
) -> list[RolledUpSeries]:
    """Roll up the `source` bars of files from `starts` (symbol, from_ts) on.

    Each longer timeframe has a transaction, or several if many bars are read for it. Symbols that have a provider are
    left out.
    """
    with database.transaction() as transaction:
        planned = list(_planned(transaction, source, starts))
    found = []
    for target, given in planned:
        with database.transaction() as transaction:
            ledger.keep_syncs_away(transaction)
            # A sync that has moved a symbol to another calendar meanwhile has rolled up its bars again.
            known = ledger.instruments(transaction, target, given["symbol"].to_list())
            unmoved = given.join(known, on=["symbol", "calendar"], how="semi", maintain_order="left")
            if not unmoved.is_empty():
                found += _roll_up(transaction, source, target, unmoved, now)
    return found


def roll_up_again(transaction: Transaction, symbols: Sequence[str], now: datetime) -> None:
    """Roll up all bars of files of `symbols`, whose calendar, sessions or timeframes have changed.

    The ledger rows of these series must be locked. Symbols that have a provider are left out.
    """
    if not symbols:
        return
    own = {by_key(key) for key in file_spans.timeframes(transaction, symbols)}
    starts = pl.DataFrame({"symbol": sorted(symbols)}).with_columns(from_ts=pl.lit(ledger.BEGINNING, UTC_TIME))
    for source in sorted(own.union(FETCHED)):
        for target, given in _planned(transaction, source, starts):
            _roll_up(transaction, source, target, given, now)


def _planned(
    transaction: Transaction, source: Timeframe, starts: pl.DataFrame
) -> Iterator[tuple[Timeframe, pl.DataFrame]]:
    """Yield the timeframes to which `source` bars are rolled up, shortest first, with their series (`_with_reach`).

    A timeframe comes several times if that many bars would be read for it.
    """
    symbols: dict[Timeframe, list[str]] = defaultdict(list)
    watched = ledger.watched(transaction).filter(pl.col("provider") == FROM_FILES)
    for symbol, keys in watched.join(starts, on="symbol", how="semi").select("symbol", "timeframes").iter_rows():
        for target in targets(map(by_key, keys), source):
            symbols[target].append(symbol)
    for target in sorted(symbols):
        given = _with_reach(transaction, source, target, starts.filter(pl.col("symbol").is_in(symbols[target])))
        length = pl.col("complete_through") - pl.col("first_read")
        # As if the market never closed.
        for batch in batches(given.select("symbol", rows=length.dt.total_minutes() // source.minutes), _BARS_A_BATCH):
            yield target, given.filter(pl.col("symbol").is_in(batch))


def _roll_up(
    transaction: Transaction, source: Timeframe, target: Timeframe, given: pl.DataFrame, now: datetime
) -> list[RolledUpSeries]:
    """Roll up `source` bars of the series in `given` (`_with_reach`), of which there is at least one."""
    low, high = given["first_read"].min(), given["complete_through"].max()
    assert isinstance(low, datetime) and isinstance(high, datetime)  # noqa: PT018 - for the type checker
    trading = sessions.between(transaction, given["calendar"].unique().to_list(), low, high)
    locked = ledger.lock(transaction, OHLC, target, given["symbol"].to_list())
    bars = _bars_of(transaction, source, _from_buckets(given, target, trading))
    bars = _fitting(bars, source, target, trading)
    closed, _ = roll_up(bars, target, trading, given.select("symbol", "complete_through"), source)
    # A session may have more bars that are cut by the clock than there are on our grid.
    closed = closed.with_columns(pl.col("missing_bars").clip(lower_bound=0))
    changed = buckets_of(given.with_columns(ts="from_ts"), target, trading)
    closed = closed.join(
        changed.select("symbol", "calendar", start=pl.coalesce("bucket", "ts")), on="symbol", maintain_order="left"
    )
    stored = _stored(transaction, target, closed)
    if lagging := _lagging(closed, stored, source):
        return _roll_up(transaction, source, target, _from_the_first(given, lagging), now)
    better = _better(stored, source)
    rescaled = _on_another_scale(closed, better)
    closed = closed.filter(pl.col("ts") >= pl.col("start")).drop("start")
    is_rescaled = pl.col("symbol").is_in(rescaled)
    left_out = closed.filter(is_rescaled).group_by("symbol").agg(bars=pl.len()).sort("symbol")
    closed = closed.filter(~is_rescaled).join(better, on=["symbol", "ts"], how="anti", maintain_order="left")
    if not target.is_fetched:
        closed = without_owned(closed, file_spans.owned(transaction, target, given["symbol"]), target)
    answer = Answer(closed, ASKED_SCHEMA.to_frame(), rolled_up_from(source), closed_by=now, extent=Extent.FILE)
    counts = _written(Storing(transaction, target, answer, trading, now, locked))
    return [
        *(RolledUpSeries(symbol, target, source, *numbers) for symbol, *numbers in counts.iter_rows()),
        *(RolledUpSeries(symbol, target, source, bars, is_rescaled=True) for symbol, bars in left_out.iter_rows()),
    ]


def _with_reach(transaction: Transaction, source: Timeframe, target: Timeframe, starts: pl.DataFrame) -> pl.DataFrame:
    """Return the series of `starts` that have bars of files, sorted by symbol.

    Columns: symbol, calendar, from_ts, first_read (from when on bars are read: some time before it), first_ts (the
    first bar) and complete_through (the end of the last bar). None of them is before `first_ts`.
    """
    known = ledger.instruments(transaction, source, starts["symbol"].to_list())
    made = ledger.instruments(transaction, target, known["symbol"].to_list())
    if not source.is_fetched:
        spans = file_spans.owned(transaction, source, known["symbol"])
        reach = spans.group_by("symbol").agg(pl.col("first_ts").min(), checked_through=pl.col("last_end").max())
        known = known.drop("first_ts", "checked_through").join(reach, on="symbol")
    # The last bar of an earlier file may not have been complete until this file said that nothing came after it.
    begin = pl.min_horizontal("from_ts", pl.col("made_through").fill_null(pl.col("first_ts")))
    return (
        known.rename({"checked_through": "complete_through"})
        .join(starts, on="symbol")
        .join(made.select("symbol", made_through="checked_through"), on="symbol")
        .drop_nulls(["first_ts", "complete_through"])
        .with_columns(from_ts=pl.max_horizontal(begin, "first_ts"))
        .with_columns(first_read=pl.max_horizontal(pl.col("from_ts") - _COMPARED, "first_ts"))
        .select("symbol", "calendar", "from_ts", "first_read", "first_ts", "complete_through")
        .sort("symbol")
    )


def _from_buckets(given: pl.DataFrame, target: Timeframe, trading: pl.DataFrame) -> pl.DataFrame:
    """Return `given` with `first_read` at the start of a whole `target` bar: one that has the first bar has a part."""
    begun = buckets_of(given.with_columns(ts="first_read"), target, trading)
    after = pl.when(pl.col("bucket") < pl.col("first_ts")).then("bucket_end").otherwise("bucket")
    return begun.with_columns(first_read=pl.coalesce(after, "first_read")).select(given.columns)


def _bars_of(transaction: Transaction, source: Timeframe, given: pl.DataFrame) -> pl.DataFrame:
    """Return the `source` bars of `given` from its first_read on, with the calendar; sorted by symbol and ts.

    Of a rolled-up timeframe, only those of files: the others are rolled up from shorter ones, as longer bars are.
    """
    calendars = given.select("symbol", "calendar")
    if source.is_fetched:
        starts = given.select("symbol", from_ts="first_read")
        bars = tables.read_since(transaction, tables.BARS, source, starts, tables.BARS.values)
        return bars.join(calendars, on="symbol", maintain_order="left")
    bars = file_spans.bars_of_files(transaction, source, given["symbol"]).drop("span")
    bars = bars.join(given.select("symbol", "calendar", "first_read"), on="symbol", maintain_order="left")
    return bars.filter(pl.col("ts") >= pl.col("first_read")).drop("first_read")


def _fitting(bars: pl.DataFrame, source: Timeframe, target: Timeframe, trading: pl.DataFrame) -> pl.DataFrame:
    """Return `bars` (calendar, ts, …) without the sessions in which some reach over the end of a `target` bar.

    Hours that are cut by the clock do: they begin at other times than on our grid. A whole session consists of them all
    the same, also of one that begins before its open. Bars of a fetched timeframe are always on the grid.
    """
    if source.is_fetched:
        return bars
    opens = trading.select("calendar", "regular_open", session_open="open")
    placed = stretch_of(bars, source, trading).join(
        opens, on=["calendar", "session_open"], how="left", maintain_order="left"
    )
    if target.is_session:
        # With extended hours, an hour may begin before the regular session and end in it.
        regular = pl.col("regular_open")
        off = placed.filter(regular > pl.col("session_open"), pl.col("ts") < regular, pl.col("ts_end") > regular)
        placed = placed.with_columns(ts=pl.max_horizontal("ts", "session_open"))
    else:
        off = placed.join(bar_grid(trading, source), on=["calendar", "ts"], how="anti")
    odd = off.select("symbol", "session_open").unique()
    return placed.join(odd, on=["symbol", "session_open"], how="anti", maintain_order="left").select(bars.columns)


def _stored(transaction: Transaction, target: Timeframe, closed: pl.DataFrame) -> pl.DataFrame:
    """Return the stored bars within the times of `closed`: symbol, ts, is_rolled_up, source (its name), close."""
    spans = spans_of(closed)
    stored = file_spans.bars_within(
        transaction, target, spans.select("symbol", first_ts="first", last_end=pl.col("last") + target.duration)
    )
    return stored.join(tables.closes_between(transaction, target, spans), on=["symbol", "ts"])


def _lagging(closed: pl.DataFrame, stored: pl.DataFrame, source: Timeframe) -> list[str]:
    """Return the symbols whose `stored` bars before `start` were rolled up from other `source` bars than there are now.

    Files are stored first and rolled up then. What lies between may be lost with the database, after a file has brought
    all bars before it to its scale; when the file is ingested again, those bars do not change any more.
    """
    same = stored.filter("is_rolled_up", source=rolled_up_from(source))
    return (
        closed.filter(pl.col("ts") < pl.col("start"))
        .join(same, on=["symbol", "ts"], suffix="_stored")
        .filter(pl.col("close") != pl.col("close_stored"))["symbol"]
        .unique()
        .to_list()
    )


def _from_the_first(given: pl.DataFrame, symbols: Sequence[str]) -> pl.DataFrame:
    """Return `given` with all bars of `symbols` to be rolled up."""
    is_meant = pl.col("symbol").is_in(list(symbols))
    return given.with_columns(
        pl.when(is_meant).then("first_ts").otherwise(name).alias(name) for name in ("from_ts", "first_read")
    )


def _better(stored: pl.DataFrame, source: Timeframe) -> pl.DataFrame:
    """Return the `stored` bars that bars rolled up from `source` must not replace: symbol, ts, close.

    They are bars of files of their own timeframe, and those that are rolled up from shorter bars than `source`.
    """
    origins = {name: source_named(name) for name in stored.filter("is_rolled_up")["source"].unique()}
    shorter = [name for name, origin in origins.items() if origin is not None and origin < source]
    better = stored.filter(~pl.col("is_rolled_up") | pl.col("source").is_in(shorter))
    return better.select("symbol", "ts", "close")


def _on_another_scale(closed: pl.DataFrame, better: pl.DataFrame) -> list[str]:
    """Return the symbols whose `closed` bars have other closes than the `better` ones of the same times."""
    ratio = (pl.col("close") / pl.col("close_better")).log().abs()
    return (
        closed.join(better, on=["symbol", "ts"], suffix="_better")
        .filter(pl.col("close") > 0, pl.col("close_better") > 0)
        .group_by("symbol")
        .agg(ratio.median().alias("ratio"))
        .filter(pl.col("ratio") > _SAME_SCALE)["symbol"]
        .to_list()
    )


def _written(storing: Storing) -> pl.DataFrame:
    """Write the bars of the answer, with calendar, and the gaps between them; return what RolledUpSeries counts.

    Columns: symbol, bars, written, corrected, missing; sorted by symbol.
    """
    closed = storing.answer.bars
    if closed.is_empty():
        return pl.DataFrame(schema={name: pl.Int64() for name in ("symbol", "bars", "written", "corrected", "missing")})
    asked = (
        buckets_of(closed, storing.timeframe, storing.trading)
        .group_by("symbol", "calendar")
        .agg(start=pl.col("ts").min(), end=pl.col("bucket_end").max())
        .with_columns(is_fetched=False, advances=True, checked_through="end")
        .match_to_schema({**ASKED_SCHEMA, "checked_through": UTC_TIME}, missing_columns="insert")
        .sort("symbol")
    )
    closed = closed.drop("calendar")
    changes = write_bars(storing, closed, asked, BAR_CHANGE_SCHEMA.to_frame())
    counts = closed.group_by("symbol").agg(bars=pl.len()).join(changes, on="symbol", how="left")
    if storing.timeframe.is_fetched:
        missing = account_for_gaps(storing, closed, asked).rename({"bars": "missing"})
        counts = counts.join(missing, on="symbol", how="left")
    else:
        # They are gaps of the bars from which it is rolled up.
        counts = counts.with_columns(missing=0)
    return counts.select("symbol", "bars", pl.col("written", "corrected", "missing").fill_null(0)).sort("symbol")
