"""What a kind of alert declares: what raises it, its parameters, and its text. Nothing is looked up here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import polars as pl

from ema_assets.model.declarations import Param, Params
from ema_assets.model.prices import price_text

# In place of an asset: the kind is about the trades of every strategy.
STRATEGIES = "strategies"
# The same for every trend: EMA 9 and 30, and the trends of strategies with other spans.
TRENDS = "trends"

# Keys of an `[[alert]]` that narrow what it is about, if that is a series.
_OF_SERIES = ("symbols", "groups", "timeframes")

# A found row as it is passed to `say`: the columns that `find` returned, and symbol, timeframe, strategy, ts, close
# and, for a trend, `fast_span` and `slow_span`.
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Batch:
    """What was computed of one asset on one timeframe in one transaction, for series that had been computed before.

    Attributes:
        rows: the written rows, the newest of which may be new; with known_through (the last bar that had been computed
            before) and newest (the last one now), and the columns of the newest bar that the kind `reads`.
        flipped: symbol, flipped (crossovers or trades that are not what they were), from_ts (the first changed bar).
        now: the market's time, UTC.
        spans: the spans of the EMAs that a trend compares.
    """

    rows: pl.DataFrame
    flipped: pl.DataFrame
    now: datetime
    spans: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class SeriesKind:
    """An alert about a bar that has just closed, found in what a run computes, or about a correction.

    Attributes:
        name: its name in the watchlist.
        titles: how one and how several are called in the title of a message.
        description: when it is raised, in a sentence.
        asset: the asset whose rows it looks at, or STRATEGIES, or TRENDS.
        find: takes a batch and the parameters; returns what is to be reported: symbol, ts (the bar), and whatever `say`
            needs; with `occurrence` (text) where something other than the bar identifies the same occurrence.
        say: takes one of these rows; returns a sentence without symbol and timeframe.
        reads: columns of other assets at the newest bar that `find` needs; they are read in each run.
        reads_averages: for TRENDS: `find` also needs both averages at the newest bar, as `fast` and `slow`.
        params: parameters that a subscription may set.
        is_of_corrections: it is raised for `flipped`, about bars that were known before.
        is_per_leg: for TRENDS: it is raised once between two crossovers.
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
    is_per_leg: bool = False

    @property
    def filters(self) -> tuple[str, ...]:
        """The keys of an `[[alert]]` that narrow which alerts of this kind are sent."""
        # Averages are those that strategies compare, so strategies narrow these as well.
        more = {STRATEGIES: ("strategies",), TRENDS: ("strategies", "averages")}
        return (*_OF_SERIES, *more.get(self.asset, ()))


class Conditions(Protocol):
    """The state of the whole product at a moment, for kinds of trouble. Each is read at most once."""

    def failing_series(self) -> pl.DataFrame:
        """Return asset, symbol, timeframe, failures, next_attempt_at, last_error."""

    def silent_providers(self) -> pl.DataFrame:
        """Return provider, failures, open_until, last_error for the providers that did not answer the last request."""

    def freshness(self) -> pl.DataFrame:
        """Return one row: fresh, late (numbers of fetched series), asked_through (of the last requested series)."""

    def failed_runs(self) -> pl.DataFrame:
        """Return run_id, job, of_timeframe, backfill, ended_at of failed runs that are not tried again; oldest first.

        Runs with of_timeframe are included until a run for it has succeeded since; all others if they failed in the
        last hour.
        """


@dataclass(frozen=True, slots=True)
class TroubleKind:
    """An alert about the product itself. The process that delivers alerts looks for trouble; runs know nothing of it.

    Attributes:
        name: its name in the watchlist.
        titles: how one and how several are called in the title of a message.
        description: when it is raised, in a sentence.
        find: returns what is wrong now: subject (text) and whatever `say` needs; with symbol and timeframe if it is
            about a series. The first row of a subject counts. It is reported once until it is over, and its end is
            reported as well. If a column `is_lasting` is false, its subject is reported once, and only to
            subscriptions that wanted the kind before the time in a column `at`.
        say: takes one of these rows; returns a sentence.
        params: parameters that a subscription may set.
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
        """The keys of an `[[alert]]` that narrow which alerts of this kind are sent."""
        return _OF_SERIES if self.is_of_series else ()


Kind = SeriesKind | TroubleKind


def averages(row: Row) -> tuple[str, str]:
    """Return the names of both averages of a trend: `EMA 9`, `EMA 30`."""
    return f"EMA {row['fast_span']}", f"EMA {row['slow_span']}"


def price(value: float | None) -> str:
    """Return a price as a person reads it; `?` for None."""
    return "?" if value is None else price_text(value)
