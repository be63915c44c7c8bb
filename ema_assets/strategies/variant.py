"""A variant: one rule with its parameters and the options of every variant, its code version and what it reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ema_assets.model.asset_names import EMA_TREND, OHLC
from ema_assets.model.averages import asset_of
from ema_assets.model.declarations import Param, Params, changed_params, with_params
from ema_assets.model.timeframes import USUAL, Timeframe
from ema_assets.strategies.rule import Rule
from ema_assets.strategies.trade_columns import LONG, SHORT

CLOSE, NEXT_OPEN = "close", "next_open"
FILLS = (CLOSE, NEXT_OPEN)
CONVERGED, ALL = "converged", "all"
BOTH = "both"
SIDES = (LONG, SHORT, BOTH)

# The options of every variant, as a `[[strategy]]` row writes them. A default that means "none" is an empty text or 0.
OPTIONS: Mapping[str, Param] = {
    "side": Param(LONG, "Which trades are made", choices=SIDES),
    "fill": Param(CLOSE, "Where a signal is executed", choices=FILLS),
    "entries": Param(CONVERGED, "After which bars a trade may begin", choices=(CONVERGED, ALL)),
    "cost_bps": Param(0.0, "Costs per side of a trade, in basis points of the traded value", least=0),
    "min_spread_pct": Param(0.0, "Least distance of the fast EMA from the slow one, in percent", least=0, most=100),
    "higher_timeframe": Param("", "Timeframe whose trend must agree", choices=tuple(each.key for each in USUAL[1:])),
    "atr_stop": Param(0.0, "Distance of the stop from the entry, in ATRs", least=0.01, most=100),
    "atr_target": Param(0.0, "Distance of the target from the entry, in ATRs", least=0.01, most=100),
    "exit_at_session_end": Param(False, "No trade stays open overnight"),
}
# All keys of such a row, except the parameters of its rule.
ROW_KEYS = ("name", "rule", "enabled", *OPTIONS)

# Raised when the simulator would make other trades; every series of every variant is then computed again.
CODE_VERSION = "3"

# Values that a code version omits. A change here changes the versions of all variants that have such a value.
_NOT_NAMED: Mapping[str, Any] = {
    "rule": "crossover",
    "side": LONG,
    "fill": CLOSE,
    "entries": CONVERGED,
    "cost_bps": 0.0,
    "min_spread_pct": 0.0,
    "higher_timeframe": None,
    "atr_stop": None,
    "atr_target": None,
    "exit_at_session_end": False,
}

# The columns of a trend that the simulator itself reads for every rule.
_READ_BY_ALL = ("spread_pct", "bar_number")
_PRICES = ("open", "high", "low", "close")


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to trade a rule. docs/STRATEGIES.md says what each option does.

    Attributes:
        name: The name of the asset and of its table.
        rule: The rule that decides when to enter and to exit.
        allow_long: Whether a trade may be long.
        allow_short: Whether a trade may be short.
        fill: Where a signal is executed: at the `close` of its bar, or at the `next_open`.
        cost_bps: Costs per side of a trade, in hundredths of a percent of the traded value.
        min_spread_pct: Entries only while the EMAs of `trend` are at least this far apart, in percent of the slow one.
        higher_timeframe: Entries only in the direction of `trend` on this timeframe.
        atr_stop: Distance of the stop from the entry price, in ATRs of the signal bar.
        atr_target: Distance of the target from the entry price, in ATRs of the signal bar.
        exit_at_session_end: Whether no trade stays open overnight.
        params: Parameters of the rule. Missing ones take the rule's defaults.
        entries: After which bars a trade may begin: `converged` for bars whose averages have converged, or `all`.
        converged_after: With `converged`, the number of the first bar of a series with converged averages; 0 for all.
    """

    name: str
    rule: Rule
    allow_long: bool = True
    allow_short: bool = False
    fill: str = CLOSE
    cost_bps: float = 0.0
    min_spread_pct: float = 0.0
    higher_timeframe: Timeframe | None = None
    atr_stop: float | None = None
    atr_target: float | None = None
    exit_at_session_end: bool = False
    params: Params = field(default_factory=dict)
    entries: str = CONVERGED
    converged_after: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "params", {**self.rule.defaults, **self.params})

    @property
    def side(self) -> str:
        """`long`, `short` or `both`."""
        if self.allow_long:
            return BOTH if self.allow_short else LONG
        return SHORT

    @property
    def cost(self) -> float:
        """The costs per side of a trade, as a fraction of the traded value."""
        return self.cost_bps / 10_000

    @property
    def rule_reads(self) -> Mapping[str, tuple[str, ...]]:
        """The columns that the rule reads with these parameters, by asset."""
        return self.rule.reads_with(self.params)

    @property
    def trend(self) -> str:
        """The asset with the trend that the filters use."""
        return asset_of(with_params(self.rule.trend, self.params))

    @property
    def is_filtered_by_trend(self) -> bool:
        """Whether entries depend on the spread of the trend, or on the trend of a higher timeframe."""
        return self.min_spread_pct > 0 or self.higher_timeframe is not None

    @property
    def fills_at_open(self) -> bool:
        """Whether a signal is executed at the open of the next bar."""
        return self.fill == NEXT_OPEN

    @property
    def uses_atr(self) -> bool:
        """Whether a stop or a target is a multiple of the ATR."""
        return self.atr_stop is not None or self.atr_target is not None

    @property
    def reads_sessions(self) -> bool:
        """Whether the variant needs to know to which session a bar belongs, or when it closes."""
        return self.exit_at_session_end or self.higher_timeframe is not None

    def on(self, timeframe: Timeframe) -> "Variant":
        """Return the variant as it trades on `timeframe`.

        A `higher_timeframe` that is not higher than `timeframe` is dropped. Where a bar is a whole session or longer,
        `exit_at_session_end` is dropped, because no trade could begin with it.
        """
        higher = self.higher_timeframe
        return replace(
            self,
            higher_timeframe=higher if higher is not None and timeframe < higher else None,
            exit_at_session_end=self.exit_at_session_end and timeframe.is_intraday,
        )

    def longer_trend(self, timeframe: Timeframe) -> tuple[str, Timeframe] | None:
        """Return the asset and the longer timeframe whose trend filters entries on `timeframe`, or None."""
        higher = self.on(timeframe).higher_timeframe
        return None if higher is None else (self.trend, higher)


def code_version(variant: Variant) -> str:
    """Return the simulator's version, followed by every parameter and option that is not the default."""
    named = {
        "rule": variant.rule.versioned_name,
        "side": variant.side,
        "fill": variant.fill,
        "entries": variant.entries,
        "cost_bps": variant.cost_bps,
        "min_spread_pct": variant.min_spread_pct,
        "higher_timeframe": variant.higher_timeframe,
        "atr_stop": variant.atr_stop,
        "atr_target": variant.atr_target,
        "exit_at_session_end": variant.exit_at_session_end,
        **variant.params,
    }
    return " ".join([CODE_VERSION, *changed_params(named, {**variant.rule.defaults, **_NOT_NAMED})])


def reads(variant: Variant) -> Mapping[str, tuple[str, ...]]:
    """Return the columns that `simulate` needs of the same series, by asset: first prices, then what the rule reads."""
    atr = {"atr": ("atr",)} if variant.uses_atr else {}
    # Without a filter, only the bar number is needed, and `ema_trend`, which always exists, has it.
    trend = variant.trend if variant.is_filtered_by_trend or variant.trend in variant.rule_reads else EMA_TREND
    wanted: dict[str, tuple[str, ...]] = {OHLC: _PRICES}
    for source in (variant.rule_reads, {trend: _READ_BY_ALL}, atr):
        for asset, columns in source.items():
            wanted[asset] = tuple(dict.fromkeys((*wanted.get(asset, ()), *columns)))
    return wanted
