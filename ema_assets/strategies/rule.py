"""The declaration of a strategy rule, which determines its variants, what they read and how they trade. No I/O."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import polars as pl

from ema_assets.model.asset_names import EMA_TREND
from ema_assets.model.averages import asset_of
from ema_assets.model.declarations import Param, Params, with_params

# Everything that a rule's module needs for its declaration.
__all__ = ["BySide", "Param", "Params", "Rule"]

_FIRST_VERSION = "1"

# The columns that `evaluate` may return. In a flag, null means false; in a price, null means that there is none.
FLAGS = ("enter_long", "enter_short", "leave_long", "leave_short", "cancel_long", "cancel_short")
PRICES = ("order_long", "order_short", "stop_long", "stop_short", "trail_long", "trail_short")


class BySide(NamedTuple):
    """A word for long trades and one for short trades."""

    long: str
    short: str


@dataclass(frozen=True, slots=True)
class Rule:
    """Rules for entries and exits. Costs, filters, ATR stops, targets and sessions belong to the variant.

    Attributes:
        name: The value of `rule` in the watchlist: a lower-case identifier.
        title: The strategy's title in the UI: "Trades of the <title> strategy".
        description: One sentence for the UI: when the rule enters and exits. Here and in the title, `{span}` stands for
            the value of the parameter `span`.
        version: Raised when the rule would make other trades; all its variants are then computed again.
        reads: Which columns of which assets `evaluate` needs, apart from prices: `{"ema_trend": ("crossover",)}`. Names
            may contain whole-number parameters in braces: `{"ema_{span}": ("ema_{span}",)}` reads the EMA of any span,
            and `ema_trend_{fast}_{slow}` compares two. Such assets are created where they are missing.
        evaluate: A function of bars and parameters that returns what each bar requests; see below.
        entry_reasons: The `entry_reason` of its long and its short trades.
        exit_reasons: The `exit_reason` of trades that the rule itself closes, long and short.
        params: The keys that a `[[strategy]]` row may have in addition to the keys of every variant. They must not
            share a name.
        check: A function of the parameters, each of which is within its limits. It returns one sentence that says why
            they do not fit together, or None when they do.
        trend: The trend that the filters of a variant use: `ema_trend`, or a comparison of other EMAs, as in `reads`.
        table: The asset and table of a variant that exists without any configuration and has the rule's name in the
            watchlist; None when the rule trades only where the watchlist names it.

    `evaluate(bars, params)` is pure and uses no clock. It gets one row per bar, sorted by symbol and ts, with `symbol`,
    `ts`, `open`, `high`, `low`, `close` and the columns of `reads`. It returns one row per bar in the same order, with
    any of these columns, all of which are optional:

    enter_long, enter_short: The bar requests an entry. It is made at the close or at the next open, depending on the
        `fill` of the variant. A bar that requests both sides enters neither.
    leave_long, leave_short: An open trade ends, at the close or at the next open.
    order_long, order_short: With one of these columns, entries are made by stop orders instead: at this price, good for
        the next bars, while there is no open trade. A later bar that requests an entry replaces the order.
    cancel_long, cancel_short: A pending order to buy, or to sell, is cancelled.
    stop_long, stop_short: The stop of the trade that this bar requests. `atr_stop` of a variant replaces it.
    trail_long, trail_short: The stop of an open trade moves to this price, but never away from the market.

    Each row must follow from its own bar, because the simulator starts in the middle of a history. A computation that
    needs earlier bars belongs in a signal.
    """

    name: str
    title: str
    description: str
    version: str
    reads: Mapping[str, tuple[str, ...]]
    evaluate: Callable[[pl.DataFrame, Params], pl.DataFrame]
    entry_reasons: BySide
    exit_reasons: BySide
    params: Mapping[str, Param] = field(default_factory=dict)
    check: Callable[[Params], str | None] = lambda _: None
    trend: str = EMA_TREND
    table: str | None = None

    @property
    def defaults(self) -> dict[str, Any]:
        """The default value of each parameter."""
        return {name: param.default for name, param in self.params.items()}

    def reads_with(self, params: Params) -> Mapping[str, tuple[str, ...]]:
        """Return `reads` with the values of `params` filled in, keyed by the assets that have these columns."""
        found: dict[str, tuple[str, ...]] = {}
        for name, columns in self.reads.items():
            asset = asset_of(with_params(name, params))
            named = (with_params(column, params) for column in columns)
            found[asset] = tuple(dict.fromkeys((*found.get(asset, ()), *named)))
        return found

    @property
    def place(self) -> str:
        """Where `evaluate` is, such as ` in mine.py, line 8`, to follow the name in a sentence; empty when unknown."""
        code = getattr(self.evaluate, "__code__", None)
        return "" if code is None else f" in {code.co_filename}, line {code.co_firstlineno}"

    @property
    def versioned_name(self) -> str:
        """The name, followed by `@` and the version unless it is the first version."""
        return self.name if self.version == _FIRST_VERSION else f"{self.name}@{self.version}"
