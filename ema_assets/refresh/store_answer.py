"""Answers into the store: sift, judge, recognise splits, write, and keep account of gaps, flags and revisions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

from ema_assets.market import corporate_actions, gaps
from ema_assets.market.outliers import CONTEXT_BARS, judge
from ema_assets.market.rollups import CODE_VERSION, dirty_buckets
from ema_assets.market.validation import BAR_SCHEMA, PRICES, sift
from ema_assets.model.asset_names import OHLC
from ema_assets.model.schemas import UTC_TIME
from ema_assets.model.timeframes import Timeframe
from ema_assets.store import ledger, quality, sessions, tables
from ema_assets.store.database import Transaction

# How much of its series' history an answer is, and what a split in it therefore means.
PART, WHOLE, GAP, FILE = "part", "whole", "gap", "file"


@dataclass(frozen=True, slots=True)
class Answer:
    """Bars as they came (BAR_SCHEMA, one timeframe) from `source`, and how to take them.

    `extent` says whether they are a PART of each series from some start on, its WHOLE history, a GAP within it, or a
    FILE: anything from one more bar to all there is, on the scale that all of the series shall have.
    Bars that close after `closed_by` are put aside. `suspects` has symbol, ratio, split of series whose whole history
    is here because a split is suspected.
    """

    bars: pl.DataFrame
    source: str
    closed_by: datetime
    extent: str
    suspects: pl.DataFrame | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of the bars of an answer, by symbol.

    `changes` has symbol, changed_from, written, corrected, late; `rejected` and `put_aside` hold the bars with a
    reason; `flags` symbol, ts, reason, detail. `missing` has symbol, bars: how many bars of the span that was looked
    at do not exist. `suspected` has symbol, ratio, split of series of which nothing was stored, because their vendor
    seems to have re-adjusted all of history; `splits` are those where that is certain, and the ratio; `rescaled` has
    symbol, bars: how many of their stored bars, beside those of the answer, were brought to the new scale, which
    `changes` counts as well. `refused` says why a series was not stored.
    """

    accepted: pl.DataFrame
    changes: pl.DataFrame
    rejected: pl.DataFrame
    put_aside: pl.DataFrame
    flags: pl.DataFrame
    missing: pl.DataFrame
    suspected: pl.DataFrame
    rescaled: pl.DataFrame
    splits: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def store_bars(
    transaction: Transaction,
    timeframe: Timeframe,
    answer: Answer,
    asked: pl.DataFrame,
    trading: pl.DataFrame,
    now: datetime,
) -> Stored:
    """Store the sound bars of `answer`, which is all there is about the spans `asked`.

    Args:
        transaction: everything is written in this one.
        timeframe: of all bars.
        answer: all its bars are of this timeframe.
        asked: symbol, calendar, is_fetched (whether a provider can be asked again for what is missing), start, end and
            checked_through; one row a symbol. Instead of the last three, `advances`: the bars themselves say how far
            they reach, and the ledger is told so or not.
        trading: SESSION_SCHEMA, covering the bars.
        now: UTC.
    """
    sifted = sift(answer.bars, timeframe, asked.select("symbol", "calendar"), trading, answer.closed_by)
    held = ledger.lock(transaction, OHLC, timeframe, sorted(asked["symbol"]))
    known = held.filter(pl.col("last_ts").is_not_null())["symbol"]
    spans = _spans(sifted.accepted).filter(pl.col("symbol").is_in(known.implode()))
    context = stored = pl.DataFrame(schema={"symbol": pl.String(), "ts": UTC_TIME, "close": pl.Float64()})
    if not spans.is_empty():
        stored = tables.closes_between(transaction, timeframe, spans)
        if answer.extent != WHOLE:
            context = tables.closes_around(transaction, timeframe, spans, CONTEXT_BARS)
    judged = judge(sifted.accepted, context)
    compared = corporate_actions.compare(stored, judged.kept, answer.suspects)
    suspected = found = compared.clear()
    refused: dict[str, str] = {}
    if answer.extent in (WHOLE, FILE):
        found = corporate_actions.confirmed(compared)
        # The bars around a file on another scale are about to be brought to it: they tell nothing.
        judged = judge(sifted.accepted, context.join(found, on="symbol", how="anti")) if found.height else judged
        if answer.suspects is not None:
            half = corporate_actions.half_done(compared).join(answer.suspects, on="symbol", how="semi")
            refused = {row["symbol"]: _half_done(row) for row in half.iter_rows(named=True)}
    else:
        suspected = corporate_actions.suspected(compared)
    left_out = pl.col("symbol").is_in([*suspected["symbol"], *refused])
    accepted = judged.kept.filter(~left_out)
    put_aside = pl.concat([sifted.put_aside, judged.held.select(sifted.put_aside.columns)]).filter(~left_out)
    rejected = pl.concat([sifted.rejected, judged.rejected.select(sifted.rejected.columns)]).filter(~left_out)
    flags = judged.flags.filter(~left_out)
    asked = _with_extent(asked.filter(~left_out), accepted)
    # What the vendor no longer serves is brought to the new scale by ourselves: a cliff would be a false trade.
    leftover = _rescaled(transaction, timeframe, found, accepted)
    tables.reject(transaction, rejected, answer.source)
    quality.put_aside(transaction, put_aside, answer.source)
    quality.flag(
        transaction, timeframe, pl.concat([accepted, rejected, put_aside], how="diagonal").select("symbol", "ts"), flags
    )
    changes = save_bars(transaction, timeframe, pl.concat([accepted, leftover], how="diagonal"), asked, trading, held)
    quality.record_revisions(transaction, timeframe, _revisions(changes, found), answer.source)
    missing = _account_for_gaps(transaction, timeframe, accepted, asked, held, trading, now)
    return Stored(
        accepted=accepted,
        changes=changes,
        rejected=rejected,
        put_aside=put_aside,
        flags=flags,
        missing=missing,
        suspected=suspected.select("symbol", "ratio", "split"),
        rescaled=leftover.group_by("symbol").agg(bars=pl.len()),
        splits=dict(found.select("symbol", "split").iter_rows()),
        refused=refused,
    )


def save_bars(
    transaction: Transaction,
    timeframe: Timeframe,
    bars: pl.DataFrame,
    asked: pl.DataFrame,
    trading: pl.DataFrame,
    held: pl.DataFrame,
) -> pl.DataFrame:
    """Write sound `bars` and their ledger rows, and mark what is computed from them; return the changes.

    `asked` has symbol, calendar and checked_through; `held` is what `ledger.lock` returned.
    """
    changes = tables.write_bars(transaction, timeframe, bars)
    spans = bars.group_by("symbol").agg(first_ts=pl.col("ts").min(), last_ts=pl.col("ts").max())
    results = (
        asked.select("symbol", "calendar", "checked_through")
        .join(changes.select("symbol", "changed_from"), on="symbol", how="left")
        .join(spans, on="symbol", how="left")
        # Rolled-up bars that were ingested leave what waits to be rolled up as it is.
        .join(held.select("symbol", "dirty_from", "dirty_end"), on="symbol", how="left")
        .sort("symbol")
    )
    ledger.complete(transaction, OHLC, timeframe, results, CODE_VERSION)
    changed = results.filter(pl.col("changed_from").is_not_null())
    if timeframe.feeds and not changed.is_empty():
        # A split rescales bars older than any that was asked for.
        trading = _reaching(transaction, trading, changed["changed_from"].min(), changed["calendar"])
        for rolled_up in timeframe.feeds:
            starts = dirty_buckets(changed.select("symbol", "calendar", "changed_from"), rolled_up, trading)
            ledger.mark_dirty(transaction, OHLC, rolled_up, starts)
    return changes


def _half_done(row: Mapping[str, object]) -> str:
    return (
        f"the newest bars are re-adjusted for a {row['split']} split, but of {row['older']} stored bars only "
        f"{row['agreeing']}; all is kept as it was and asked for again later"
    )


def _with_extent(asked: pl.DataFrame, accepted: pl.DataFrame) -> pl.DataFrame:
    """`asked` with start, end and checked_through; bars from a file reach from the first to the last accepted one."""
    if "advances" not in asked.columns:
        return asked
    reach = accepted.group_by("symbol").agg(start=pl.col("ts").min(), end=pl.col("ts_end").max())
    return asked.join(reach, on="symbol", how="inner").with_columns(checked_through=pl.when("advances").then("end"))


def _spans(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.group_by("symbol").agg(first=pl.col("ts").min(), last=pl.col("ts").max()).sort("symbol")


def _reaching(transaction: Transaction, trading: pl.DataFrame, start: object, calendars: pl.Series) -> pl.DataFrame:
    """`trading`, or when it does not reach back to `start` the sessions that do."""
    assert isinstance(start, datetime)
    if not trading.is_empty() and trading["open"].min() <= start:  # type: ignore[operator]
        return trading
    latest = trading["close"].max() if not trading.is_empty() else start
    assert isinstance(latest, datetime)
    return sessions.between(transaction, calendars.unique().to_list(), start, max(latest, start))


def _rescaled(
    transaction: Transaction, timeframe: Timeframe, found: pl.DataFrame, accepted: pl.DataFrame
) -> pl.DataFrame:
    """Stored bars of the split series `found` that the vendor did not serve, on the new scale."""
    if found.is_empty():
        return accepted.clear()
    starts = found.select("symbol", from_ts=pl.lit(ledger.BEGINNING, UTC_TIME))
    stored = tables.read_since(transaction, tables.BARS, timeframe, starts, tables.BARS.values)
    return (
        stored.join(accepted, on=["symbol", "ts"], how="anti")
        .join(found.select("symbol", "ratio", "last_ts"), on="symbol")
        .filter(pl.col("ts") <= pl.col("last_ts"))
        .select(
            "symbol",
            pl.lit(timeframe.value).alias("timeframe"),
            "ts",
            *(pl.col(name) / pl.col("ratio") for name in PRICES),
            pl.col("volume") * pl.col("ratio"),
        )
        .select(list(BAR_SCHEMA))
    )


def _revisions(changes: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    past = changes.filter((pl.col("corrected") > 0) | (pl.col("late") > 0))
    is_split = pl.col("split").is_not_null()
    corrected = pl.col("corrected") > 0
    return past.join(found.select("symbol", "split"), on="symbol", how="left").select(
        "symbol",
        "changed_from",
        "corrected",
        "late",
        kind=pl.when(is_split)
        .then(pl.lit("split"))
        .when(corrected)
        .then(pl.lit("correction"))
        .otherwise(pl.lit("late bars")),
        detail=pl.when(is_split)
        .then(pl.format("the vendor re-adjusted history for a {} split", "split"))
        .when(corrected)
        .then(pl.lit("the source changed bars that were stored"))
        .otherwise(pl.lit("the source sent bars that were missing")),
    )


def _account_for_gaps(
    transaction: Transaction,
    timeframe: Timeframe,
    accepted: pl.DataFrame,
    asked: pl.DataFrame,
    held: pl.DataFrame,
    trading: pl.DataFrame,
    now: datetime,
) -> pl.DataFrame:
    """Bring the gaps within the spans `asked` up to date; return symbol and bars, how many are missing there."""
    firsts = asked.join(_spans(accepted), on="symbol", how="left").join(held, on="symbol", how="left")
    # Between two files of a series there may be a hole; a provider's own history has none before its first bar.
    firsts = firsts.with_columns(
        start=pl.when("is_fetched").then("start").otherwise(pl.min_horizontal("start", "last_ts")),
        end=pl.when("is_fetched").then("end").otherwise(pl.max_horizontal("end", "first_ts")),
    )
    windows = (
        firsts.with_columns(start=pl.max_horizontal("start", pl.min_horizontal("first", "first_ts")))
        .filter(pl.min_horizontal("first", "first_ts").is_not_null(), pl.col("start") < pl.col("end"))
        .select("symbol", "calendar", "start", "end", "is_fetched")
    )
    nothing = pl.DataFrame(schema={"symbol": pl.String(), "bars": pl.Int64()})
    if windows.is_empty():
        return nothing
    known = quality.gaps_within(transaction, timeframe, windows)
    # A gap that reaches beyond what was asked for is looked at as a whole.
    reach = known.group_by("symbol").agg(low=pl.col("first_ts").min(), high=pl.col("last_ts").max())
    just_after = pl.col("high") + pl.lit(timeframe.duration)
    windows = windows.join(reach, on="symbol", how="left").with_columns(
        pl.min_horizontal("start", "low").alias("start"), pl.max_horizontal("end", just_after).alias("end")
    )
    trading = _reaching(transaction, trading, windows["start"].min(), windows["calendar"])
    expected = _expected(windows, accepted, trading, timeframe)
    candidates = expected.join(accepted, on=["symbol", "ts"], how="anti")
    if candidates.is_empty() and known.is_empty():
        return nothing
    present = tables.closes_between(transaction, timeframe, _spans(candidates))
    missing = candidates.join(present, on=["symbol", "ts"], how="anti")
    after = gaps.reconcile(missing, known, timeframe, now, is_asked=windows.select("symbol", "is_fetched"))
    known = known.match_to_schema(gaps.GAP_SCHEMA, integer_cast="upcast")
    columns = list(gaps.GAP_SCHEMA)
    quality.replace_gaps(
        transaction,
        timeframe,
        known.join(after, on=columns, how="anti", nulls_equal=True),
        after.join(known, on=columns, how="anti", nulls_equal=True),
    )
    return after.group_by("symbol").agg(pl.col("bars").sum())


def _expected(
    windows: pl.DataFrame, accepted: pl.DataFrame, trading: pl.DataFrame, timeframe: Timeframe
) -> pl.DataFrame:
    """The bars that should exist in `windows`, on the grid that the series' own bars follow."""
    sessions_near = trading.filter(pl.col("close") > windows["start"].min(), pl.col("open") < windows["end"].max())
    by_session = gaps.grid_with_slots(sessions_near, timeframe)
    if timeframe.is_fetched:
        return gaps.expected(windows, by_session)
    # Files of rolled-up timeframes come cut by the session or by the clock.
    by_clock = gaps.grid_with_slots(sessions_near, timeframe, by_clock=True)
    placed = accepted.join(windows.select("symbol", "calendar"), on="symbol")
    count = pl.len().alias("bars")
    on_session = placed.join(by_session, on=["calendar", "ts"], how="semi").group_by("symbol").agg(count)
    on_clock = placed.join(by_clock, on=["calendar", "ts"], how="semi").group_by("symbol").agg(count)
    clocked = on_clock.join(on_session, on="symbol", how="left", suffix="_session").filter(
        pl.col("bars") > pl.col("bars_session").fill_null(0)
    )
    is_clocked = pl.col("symbol").is_in(clocked["symbol"].implode())
    return pl.concat(
        [
            gaps.expected(windows.filter(~is_clocked), by_session),
            gaps.expected(windows.filter(is_clocked), by_clock),
        ]
    )
