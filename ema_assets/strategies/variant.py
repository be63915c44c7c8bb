"""A variant of the strategy: its parameters, what it reads, and how a configuration writes it. No I/O."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from ema_assets.model.errors import ConfigurationError, did_you_mean
from ema_assets.model.timeframes import ORDER, Timeframe, by_key

CROSSOVER, PULLBACK = "crossover", "pullback"
RULES = (CROSSOVER, PULLBACK)
CLOSE, NEXT_OPEN = "close", "next_open"
FILLS = (CLOSE, NEXT_OPEN)
LONG, SHORT, BOTH = "long", "short", "both"
SIDES = (LONG, SHORT, BOTH)

# Raised when `simulate` would give other trades; every series of every variant is then computed again.
CODE_VERSION = "2"

_PREFIX = "strategy_9_30_"
DEFAULT_TABLE = f"{_PREFIX}ema"
# With the prefix, a timeframe and a suffix it must fit into the 63 characters of an identifier.
_NAME = re.compile(r"[a-z][a-z0-9_]{0,23}")
_KEYS = (
    "name",
    "rule",
    "enabled",
    "side",
    "fill",
    "cost_bps",
    "min_spread_pct",
    "higher_timeframe",
    "atr_stop",
    "atr_target",
    "exit_at_session_end",
)
_HIGHER = tuple(timeframe.key for timeframe in ORDER[1:])
# The least and the most that is allowed.
_NUMBERS = {"cost_bps": (0, 1_000), "min_spread_pct": (0, 100), "atr_stop": (0.01, 100), "atr_target": (0.01, 100)}

_PRICES = ("open", "high", "low", "close")


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to trade the 9-30 strategy. docs/STRATEGIES.md says what each parameter does.

    Attributes:
        name: of the asset and of its table.
        rule: `crossover` or `pullback`.
        allow_long: a trade may be long.
        allow_short: a trade may be short.
        fill: what a signal is done at: the `close` of its bar, or the `next_open`.
        cost_bps: of the traded value, for each side of a trade, in hundredths of a per cent.
        min_spread_pct: entries only while ema_9 is at least this far from ema_30, in per cent of ema_30.
        higher_timeframe: entries only in the direction of this timeframe's trend.
        atr_stop: distance of the stop from the entry price, in ATRs of the signal bar.
        atr_target: the same for the target.
        exit_at_session_end: no trade is held overnight.
    """

    name: str
    rule: str = CROSSOVER
    allow_long: bool = True
    allow_short: bool = False
    fill: str = CLOSE
    cost_bps: float = 0.0
    min_spread_pct: float = 0.0
    higher_timeframe: Timeframe | None = None
    atr_stop: float | None = None
    atr_target: float | None = None
    exit_at_session_end: bool = False

    @property
    def side(self) -> str:
        """`long`, `short` or `both`."""
        if self.allow_long:
            return BOTH if self.allow_short else LONG
        return SHORT

    @property
    def uses_atr(self) -> bool:
        """True when a stop or a target is a multiple of the ATR."""
        return self.atr_stop is not None or self.atr_target is not None

    def on(self, timeframe: Timeframe) -> "Variant":
        """What of it counts on `timeframe`: a higher timeframe only when it is higher, sessions not on `1d`.

        A daily bar is a session: a trade that ends with it could not begin.
        """
        higher = self.higher_timeframe
        return replace(
            self,
            higher_timeframe=higher if higher is not None and higher.rank > timeframe.rank else None,
            exit_at_session_end=self.exit_at_session_end and not timeframe.is_session,
        )


DEFAULT = Variant(DEFAULT_TABLE)
_NAMED = {CROSSOVER: DEFAULT, PULLBACK: Variant(f"{_PREFIX}{PULLBACK}", PULLBACK)}


def code_version(variant: Variant) -> str:
    """The version with the parameters of `variant`: those that are not the default are named in it."""
    changed = [
        f"{field.name}={getattr(variant, field.name)}"
        for field in fields(Variant)
        if field.name not in ("name", "allow_long", "allow_short")
        and getattr(variant, field.name) != getattr(DEFAULT, field.name)
    ]
    if variant.side != DEFAULT.side:
        changed.append(f"side={variant.side}")
    return " ".join([CODE_VERSION, *sorted(changed)])


def reads(variant: Variant) -> Mapping[str, tuple[str, ...]]:
    """Which columns of which assets `simulate` wants to see, of the same series. Their names differ between assets."""
    if variant.rule == CROSSOVER:
        wanted = {"ohlc": _PRICES, "ema_trend": ("crossover", "spread_pct", "bar_number")}
    else:
        wanted = {
            "ohlc": _PRICES,
            "ema_signals": ("ema_9",),
            "wma": ("wma_30",),
            "ema_trend": ("spread_pct", "bar_number"),
        }
    return {**wanted, "atr": ("atr",)} if variant.uses_atr else wanted


def parse_variants(tables: Sequence[Mapping[str, Any]], where: str) -> tuple[Variant, ...]:
    """Read the `[[strategy]]` rows of a configuration; `where` names it in errors.

    A row with the name `crossover` or `pullback` changes the parameters of that one, another name adds a variant, and
    `enabled = false` switches one off.

    Returns:
        `crossover`, `pullback`, then the others in the order of the rows; without those that are switched off.

    Raises:
        ConfigurationError: naming the row, the key, what was received and what is allowed.
    """
    found: dict[str, Variant | None] = dict(_NAMED)
    seen: set[str] = set()
    for number, table in enumerate(tables, start=1):
        if not isinstance(table, Mapping):
            raise ConfigurationError(f"{where}: strategies are written `[[strategy]]`, with two brackets on each side")
        row = f"{where}: strategy {table.get('name', number)!r}"
        _only(table, _KEYS, row)
        name = _name(table, row)
        if name in seen:
            raise ConfigurationError(f"{row}: the name {name!r} is used twice; keep one of them")
        seen.add(name)
        variant = _variant(table, name, row)
        found[name] = variant if _flag(table, "enabled", row, default=True) else None
    return tuple(variant for variant in found.values() if variant is not None)


def _only(table: Mapping[str, Any], allowed: Iterable[str], where: str) -> None:
    for key in table:
        if key not in allowed:
            hint = did_you_mean(key, allowed)
            raise ConfigurationError(f"{where}: unknown key `{key}`, allowed are {', '.join(allowed)}{hint}")


def _name(table: Mapping[str, Any], where: str) -> str:
    name = table.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{where}: `name` must be 1 to 24 lower-case letters, digits or _ and start with a letter, "
            f"received {name!r}"
        )
    if f"{_PREFIX}{name}" == DEFAULT_TABLE:
        raise ConfigurationError(
            f"{where}: `name` {name!r} would be the table of the default variant, which is called {CROSSOVER!r}"
        )
    return name


def _variant(table: Mapping[str, Any], name: str, where: str) -> Variant:
    named = _NAMED.get(name)
    rule = _choice(table, "rule", RULES, where, None if named is None else named.rule)
    if named is not None and rule != named.rule:
        raise ConfigurationError(
            f"{where}: `rule` of the variant {name!r} is {named.rule!r}, received {rule!r}; give it another name"
        )
    side = _choice(table, "side", SIDES, where, LONG)
    higher = _choice(table, "higher_timeframe", _HIGHER, where, "") if "higher_timeframe" in table else None
    return Variant(
        name=f"{_PREFIX}{name}" if named is None else named.name,
        rule=rule,
        allow_long=side != SHORT,
        allow_short=side != LONG,
        fill=_choice(table, "fill", FILLS, where, CLOSE),
        cost_bps=_number(table, "cost_bps", where) or 0.0,
        min_spread_pct=_number(table, "min_spread_pct", where) or 0.0,
        higher_timeframe=None if higher is None else by_key(higher),
        atr_stop=_number(table, "atr_stop", where),
        atr_target=_number(table, "atr_target", where),
        exit_at_session_end=_flag(table, "exit_at_session_end", where, default=False),
    )


def _choice(table: Mapping[str, Any], key: str, allowed: Sequence[str], where: str, default: str | None) -> str:
    value = table.get(key, default)
    if value not in allowed:
        received = f"received {value!r}" if key in table else "it is missing"
        raise ConfigurationError(f"{where}: `{key}` must be one of {', '.join(allowed)}, {received}")
    return str(value)


def _number(table: Mapping[str, Any], key: str, where: str) -> float | None:
    if key not in table:
        return None
    value, (least, most) = table[key], _NUMBERS[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ConfigurationError(f"{where}: `{key}` must be a number from {least} to {most}, received {value!r}")
    return float(value)


def _flag(table: Mapping[str, Any], key: str, where: str, *, default: bool) -> bool:
    value = table.get(key, default)
    if not isinstance(value, bool):
        raise ConfigurationError(f"{where}: `{key}` must be true or false, received {value!r}")
    return value
