"""What a strategy rule declares. From it come its variants, what they read, and how they trade. No I/O."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ema_assets.model.declarations import Param, Params
from ema_assets.strategies.simulator.layout import Sides

if TYPE_CHECKING:
    from ema_assets.strategies.simulator.bars import Bars
    from ema_assets.strategies.simulator.book import Book
    from ema_assets.strategies.variant import Variant

# Everything that the module of a rule needs to declare it.
__all__ = ["BySide", "Evaluation", "Param", "Params", "Rule"]

_FIRST_VERSION = "1"


class BySide(NamedTuple):
    """A word for long trades and one for short trades."""

    long: str
    short: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a rule says about each bar, one entry per bar. A side is 1 for long, -1 for short, 0 for neither; int8.

    Attributes:
        direction: The side that the bar favours.
        entry: The side for which the bar asks for an entry, before the variant's filters.
        marks: More arrays with one entry per bar, by name, for the rule's own functions.
    """

    direction: Sides
    entry: Sides
    marks: Mapping[str, npt.NDArray[np.generic]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rule:
    """When to enter and when to exit. Costs, filters, ATR stops, targets and sessions belong to the variant.

    Attributes:
        name: What `rule` is in the watchlist: a lower-case identifier.
        title: What the UI calls the strategy: "Trades of the <title> strategy".
        description: One sentence for the UI: when the rule enters and exits.
        version: Raised when the rule would make other trades; all its variants are then computed again.
        reads: Which columns of which assets `evaluate` needs, apart from prices: `{"ema_trend": ("crossover",)}`.
        evaluate: Bars and parameters to an Evaluation; see below.
        fill_orders: Fills what was ordered before these bars; see below.
        at_close: Decides at the close of these bars; see below.
        entry_reasons: The `entry_reason` of its long and its short trades.
        exit_reasons: The `exit_reason` of trades that the rule itself closes, long and short.
        params: What a `[[strategy]]` row may change beside the keys of every variant. They must not share a name.
        check: What is wrong with parameters that are each within their limits, in one sentence; None when nothing is.
        sets_stops: True when its entries have a stop of their own.
        table: The asset and table of a variant that exists without any configuration and is called like the rule in
            the watchlist; None when the rule trades only where the watchlist names it.

    All three functions are pure apart from the book, and use no clock.

    `evaluate(bars, params)` gets one row per bar, sorted by symbol and ts, with `symbol`, `ts`, `open`, `high`, `low`,
    `close` and the columns of `reads`. It returns one entry per row in the same order. Each entry must follow from its
    own row: the simulator starts in the middle of a history. What needs earlier bars belongs into a signal.

    `fill_orders(bars, book, start, end)` and `at_close(bars, book, start, end, variant)` are called once per step. A
    step is the next bar of every series that has one: the rows from `start` to `end` of `bars`. Row `start + rank`
    belongs to the series `rank` of `book`. `bars.entry` is the entry that the variant's filters let through. The module
    simulator.orders has the usual ways to fill an order, to enter and to exit.
    """

    name: str
    title: str
    description: str
    version: str
    reads: Mapping[str, tuple[str, ...]]
    evaluate: Callable[[pl.DataFrame, Params], Evaluation]
    fill_orders: Callable[["Bars", "Book", int, int], None]
    at_close: Callable[["Bars", "Book", int, int, "Variant"], None]
    entry_reasons: BySide
    exit_reasons: BySide
    params: Mapping[str, Param] = field(default_factory=dict)
    check: Callable[[Params], str | None] = lambda _: None
    sets_stops: bool = False
    table: str | None = None

    @property
    def defaults(self) -> dict[str, Any]:
        """The parameters as declared."""
        return {name: param.default for name, param in self.params.items()}

    @property
    def versioned_name(self) -> str:
        """The name, with the version once it is not the first."""
        return self.name if self.version == _FIRST_VERSION else f"{self.name}@{self.version}"
