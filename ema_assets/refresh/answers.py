"""Records of what a provider or a file answered and of what was stored. The work is done in store_answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

import polars as pl

from ema_assets.market.calendars import reach
from ema_assets.model.schemas import ACTION_SCHEMA
from ema_assets.model.timeframes import Timeframe
from ema_assets.store import sessions
from ema_assets.store.database import Transaction


class Extent(StrEnum):
    """How much of the history of its series an answer contains. This decides what a split's ratio in it means."""

    PART = "part"
    """The bars from some time on. If they suggest a split, the whole history is requested."""

    WHOLE = "whole"
    """The whole history, as far as the provider serves it. It confirms or refutes a split."""

    GAP = "gap"
    """The bars in and around a gap. They may suggest a split, as a part may."""

    OLDER = "older"
    """Bars before the first stored one, and a few stored ones. They may suggest a split, as a part may."""

    LONG = "long"
    """Long history of another timeframe than the series. It is compared with the series and stored separately."""

    FILE = "file"
    """Anything from one bar to the whole history, on the scale that the whole series is to have."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Bars as they were received, and how they are to be interpreted.

    Attributes:
        bars: BAR_SCHEMA, all of one timeframe, unchecked.
        asked: ASKED_SCHEMA, the requested spans; no bars other than `bars` exist in them.
        source: the provider or the file.
        closed_by: bars that close later are skipped.
        extent: how much of the history of each series `bars` contain.
        suspects: SUSPECT_SCHEMA, the series whose whole history was requested because a split is suspected.
        actions: ACTION_SCHEMA, corporate actions that came with the bars.
        begun_again: how often each series had begun again when it was asked about. Nothing is stored of a series that
            has begun again since: the answer is about other sessions. Empty if no sync can come between.
    """

    bars: pl.DataFrame
    asked: pl.DataFrame
    source: str
    closed_by: datetime
    extent: Extent
    suspects: pl.DataFrame | None = None
    actions: pl.DataFrame = field(default_factory=ACTION_SCHEMA.to_frame)
    begun_again: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of the bars of an answer.

    Attributes:
        accepted: BAR_SCHEMA and ts_end: bars that are stored now, new or not.
        changes: BAR_CHANGE_SCHEMA.
        rejected: REFUSED_BAR_SCHEMA: bars that cannot be true.
        skipped: REFUSED_BAR_SCHEMA: sound bars that do not belong in the table.
        flags: FLAG_SCHEMA: accepted bars that look suspicious, and stored bars whose price jumps after an accepted bar.
        missing: symbol, bars: how many bars of the requested spans do not exist.
        suspected: SUSPECT_SCHEMA: series of which nothing was stored, because their vendor seems to have re-adjusted
            their history.
        rescaled: symbol, bars: how many stored bars that are not in the answer were converted to the scale of a split.
            `changes` counts them as well.
        splits: by symbol, the confirmed split, such as `7:1`.
        refused: by symbol, why nothing of the series was stored.
        outdated: series of which nothing was stored, because they have begun again since they were asked about.
    """

    accepted: pl.DataFrame
    changes: pl.DataFrame
    rejected: pl.DataFrame
    skipped: pl.DataFrame
    flags: pl.DataFrame
    missing: pl.DataFrame
    suspected: pl.DataFrame
    rescaled: pl.DataFrame
    splits: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    outdated: Sequence[str] = ()

    @property
    def left_out(self) -> list[str]:
        """The series of which nothing was stored."""
        return [*self.suspected["symbol"], *self.refused, *self.outdated]


@dataclass(frozen=True, slots=True)
class Storing:
    """What every step of storing an answer needs.

    Attributes:
        transaction: everything is read and written in this one.
        timeframe: the timeframe of all bars.
        answer: the answer to be stored.
        trading: SESSION_SCHEMA, covering the bars of the answer.
        now: UTC.
        locked: what `ledger.lock` returned for the series; their rows are locked until the transaction ends.
    """

    transaction: Transaction
    timeframe: Timeframe
    answer: Answer
    trading: pl.DataFrame
    now: datetime
    locked: pl.DataFrame

    @property
    def instruments(self) -> pl.DataFrame:
        """The requested instruments: symbol, calendar, allow_negative; in the order of `answer.asked`."""
        return self.answer.asked.select("symbol", "calendar").join(
            self.locked.select("symbol", "allow_negative"), on="symbol", how="left", maintain_order="left"
        )

    def through_zero(self, *frames: pl.DataFrame) -> pl.Series:
        """Return the symbols that allow prices of zero or less and have one in `frames` (symbol, close); sorted.

        Ratios of their prices are meaningless.
        """
        may_be = self.locked.filter("allow_negative")["symbol"]
        if may_be.is_empty():
            return may_be
        below = pl.concat(frame.filter(pl.col("close") <= 0).select("symbol") for frame in frames)
        return below.filter(pl.col("symbol").is_in(may_be.implode()))["symbol"].unique().sort()

    def sessions_from(self, start: object, calendars: pl.Series) -> pl.DataFrame:
        """Return `trading`, or the stored sessions of `calendars` if `trading` does not reach back to `start`."""
        assert isinstance(start, datetime)
        trading = self.trading
        if not trading.is_empty() and trading["open"].min() <= start:  # type: ignore[operator]
            return trading
        latest = trading["close"].max() if not trading.is_empty() else start
        assert isinstance(latest, datetime)
        return sessions.between(self.transaction, calendars.unique().to_list(), start, max(latest, start))

    def sessions_around(self, times: pl.Series, calendars: pl.Series, timeframe: Timeframe) -> pl.DataFrame:
        """Return the sessions from the first of `times` on, with all sessions of the `timeframe` bars at `times`."""
        first, last = times.min(), times.max()
        assert isinstance(first, datetime) and isinstance(last, datetime)  # noqa: PT018 - for the type checker
        if timeframe.period is None:
            return self.sessions_from(first, calendars)
        around = reach(timeframe)
        return sessions.between(self.transaction, calendars.unique().to_list(), first - around, last + around)


def spans_of(bars: pl.DataFrame) -> pl.DataFrame:
    """Return the opening times of the first and the last bar of each symbol: symbol, first, last; sorted."""
    return bars.group_by("symbol").agg(first=pl.col("ts").min(), last=pl.col("ts").max()).sort("symbol")


def outdated(series: pl.DataFrame, begun_again: Mapping[str, int]) -> list[str]:
    """Return the series that have begun again since `begun_again` was read.

    `series` have symbol and begun_again, as `ledger.lock` and `ledger.fetch_state` return them.
    """
    now = series.select("symbol", "begun_again").iter_rows()
    return [symbol for symbol, times in now if begun_again.get(symbol, times) != times]
