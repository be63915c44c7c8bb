"""Options of a strategy as keywords, with one value each or several to try, and the variants they make. No I/O."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from ema_assets.model.errors import ConfigurationError, UnfitParameters, did_you_mean, not_one_of
from ema_assets.strategies.rule import Rule
from ema_assets.strategies.variant import OPTIONS, Variant
from ema_assets.strategies.watchlist_rows import variant_of

_WHERE = "backtest"


@dataclass(frozen=True, slots=True)
class Choice:
    """One choice of options: the values of the varied ones, and the resulting variant."""

    varied: Mapping[str, Any]
    variant: Variant


def single(rule: str, options: Mapping[str, Any], rules: Mapping[str, Rule]) -> Choice:
    """Return the choice made by `options` with a single value each.

    Raises:
        ConfigurationError: naming the option, what was received and what is allowed.
    """
    varied = _varied(options)
    if varied:
        raise ConfigurationError(
            f"{_WHERE}: `{next(iter(varied))}` must be one value here, received {options[next(iter(varied))]!r}; "
            "`sweep` tries several"
        )
    return _choice(rule, options, {}, 1, rules)


def several(rule: str, options: Mapping[str, Any], rules: Mapping[str, Rule]) -> list[Choice]:
    """Return every combination of one value per option with several values, except those that do not fit together.

    Raises:
        ConfigurationError: when nothing is varied, when nothing fits together, or as in `single`.
    """
    varied = _varied(options)
    if not varied:
        raise ConfigurationError(f"{_WHERE}: at least one option must have several values, such as fast=[5, 9, 12]")
    for name, values in varied.items():
        if not values:
            raise ConfigurationError(f"{_WHERE}: `{name}` must have at least one value, received {options[name]!r}")
        if repeated := [value for place, value in enumerate(values) if value in values[:place]]:
            raise ConfigurationError(
                f"{_WHERE}: `{name}` has the value {_plain(repeated[0])!r} twice; leave one of them"
            )
    found, unfit = [], None
    for number, chosen in enumerate(product(*varied.values()), start=1):
        try:
            found.append(_choice(rule, options, dict(zip(varied, chosen, strict=True)), number, rules))
        except UnfitParameters as error:
            unfit = unfit or error
    if not found and unfit is not None:
        raise unfit
    return found


def option_column(name: str, others: Collection[str]) -> str:
    """Return the column for the values of the option `name`: `others` are the columns that a table has besides."""
    return f"{name}_option" if name in others else name


def _choice(
    rule: str, options: Mapping[str, Any], chosen: Mapping[str, Any], number: int, rules: Mapping[str, Rule]
) -> Choice:
    if rule not in rules:
        raise not_one_of("rule", str(rule), rules)
    allowed = (*OPTIONS, *rules[rule].params)
    for name in options:
        if name not in allowed:
            raise ConfigurationError(
                f"{_WHERE}: `{name}` is not an option of {rule}, which has {', '.join(allowed)}"
                f"{did_you_mean(name, allowed)}"
            )
    given = {name: _plain(value) for name, value in {**options, **chosen}.items()}
    # None stands for the default, as if the option were not named.
    row = {"rule": rule, **{name: value for name, value in given.items() if value is not None}}
    return Choice({name: given[name] for name in chosen}, variant_of(row, f"choice_{number}", rules, _WHERE))


def _varied(options: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {name: list(value) for name, value in options.items() if _is_several(value)}


def _is_several(value: object) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)


def _plain(value: Any) -> Any:
    """Return a numpy number as a Python number, and any other value as it is."""
    return value.item() if hasattr(value, "item") and not isinstance(value, Sequence) else value
