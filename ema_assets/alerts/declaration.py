"""What a kind of alert declares: what it is raised for, its parameters, and what it says. Nothing is looked up here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import polars as pl

from ema_assets.model.declarations import Param, Params
from ema_assets.model.prices import price_text

# In place of an asset: the kind is about the trades of every strategy.
STRATEGIES = "strategies"
# The same for every trend: EMA 9 and 30, and those of strategies with other spans.
TRENDS = "trends"

# Keys of an `[[alert]]` that narrow what it is about, where that is a series.
_OF_SERIES = ("symbols", "groups", "timeframes")

# The row of what was found, as it is said: what `find` returned, and symbol, timeframe, strategy, ts, close and, of a
# trend, `fast_span` and `slow_span`.
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Batch:
    """What was computed of one asset on one timeframe in one transaction, of series that had been computed before.

    Attributes:
        rows: as they were written, the newest ones among them not known before; with known_through (the last bar that
            had been computed before) and newest (the last one now), and what the kind `reads` of the newest bar.
        flipped: symbol, flipped (crossovers or trades that are not what they were), from_ts (the first changed bar).
        now: the market's time, UTC.
        spans: of the EMAs that a trend compares.
    """

    rows: pl.DataFrame
    flipped: pl.DataFrame
    now: datetime
    spans: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class SeriesKind:
    """An alert about a bar that has just closed, found in what a run computes, or about a correction.

    Attributes:
        name: what the watchlist calls it.
        titles: what one and what several are called in the title of a message.
        description: when it is raised, in a sentence.
        asset: whose rows it looks at, or STRATEGIES, or TRENDS.
        find: from a batch and the parameters to what is to be told: symbol, ts (the bar), and whatever `say` needs;
            with `occurrence` (text) where something else than the bar says that it is the same one again.
        say: from one of these rows to a sentence without symbol and timeframe.
        reads: columns of other assets at the newest bar that `find` needs; they are read in each run.
        reads_averages: of TRENDS: `find` needs both averages at the newest bar as well, as `fast` and `slow`.
        params: that a subscription may set.
        is_of_corrections: it is raised for `flipped`, about bars that were known before.
    """

    name: str
    titles: tuple[str, str]
    description: str
    asset: str
    find: Callable[[Batch, Params], pl.DataFrame]
    say: Callable[[Row], str]
    reads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reads_averages: bool = False
    params: Mapping[str, Param] = field(default_factory=dict)
    is_of_corrections: bool = False

    @property
    def filters(self) -> tuple[str, ...]:
        """The keys of an `[[alert]]` that narrow what of it is told."""
        # Averages are those that strategies compare, so strategies narrow these as well.
        more = {STRATEGIES: ("strategies",), TRENDS: ("strategies", "averages")}
        return (*_OF_SERIES, *more.get(self.asset, ()))


class Conditions(Protocol):
    """How the whole stands at a moment, for kinds of trouble. Each is asked for once at most."""

    def failing_series(self) -> pl.DataFrame:
        """asset, symbol, timeframe, failures, next_attempt_at, last_error."""

    def silent_providers(self) -> pl.DataFrame:
        """provider, failures, open_until, last_error: those that did not answer when they were last asked."""

    def freshness(self) -> pl.DataFrame:
        """One row: fresh, late (numbers of fetched series), asked_through (of the one that was asked for last)."""

    def failed_runs(self) -> pl.DataFrame:
        """run_id, job, of_timeframe, backfill, ended_at: runs that failed and are not tried again; the oldest first.

        Those with of_timeframe, while none for it has ended well since; all others when they failed in the last hour.
        """


@dataclass(frozen=True, slots=True)
class TroubleKind:
    """An alert about the product itself. Whoever delivers alerts looks for trouble, a run knows nothing of it.

    Attributes:
        name: what the watchlist calls it.
        titles: what one and what several are called in the title of a message.
        description: when it is raised, in a sentence.
        find: what is wrong now: subject (text) and whatever `say` needs; with symbol and timeframe where it is about a
            series. It is told once until it is over, and its end is told as well. Where a column `is_lasting` says
            false, its subject is told once.
        say: from one of these rows to a sentence.
        params: that a subscription may set.
        is_of_series: it is about a series: subscriptions to other symbols or timeframes do not get it.
    """

    name: str
    titles: tuple[str, str]
    description: str
    find: Callable[[Conditions, Params], pl.DataFrame]
    say: Callable[[Row], str]
    params: Mapping[str, Param] = field(default_factory=dict)
    is_of_series: bool = False

    @property
    def filters(self) -> tuple[str, ...]:
        """The keys of an `[[alert]]` that narrow what of it is told."""
        return _OF_SERIES if self.is_of_series else ()


Kind = SeriesKind | TroubleKind


def averages(row: Row) -> tuple[str, str]:
    """How both averages of a trend are called: `EMA 9`, `EMA 30`."""
    return f"EMA {row['fast_span']}", f"EMA {row['slow_span']}"


def price(value: float | None) -> str:
    """A price as a person reads it."""
    return "?" if value is None else price_text(value)
