"""Parsing of a watchlist's `[[strategy]]` rows into variants. No I/O."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ema_assets.model.declarations import Param, Params, conflict_between
from ema_assets.model.errors import (
    ConfigurationError,
    InvalidKeyError,
    UnfitParameters,
    did_you_mean,
    not_one_of,
)
from ema_assets.model.symbols import parse_timeframe
from ema_assets.model.timeframes import by_key
from ema_assets.strategies.rule import Rule
from ema_assets.strategies.rule_discovery import TABLE_PREFIX, VARIANT_NAME, discover, problem_with_table
from ema_assets.strategies.trade_columns import LONG, SHORT
from ema_assets.strategies.variant import OPTIONS, ROW_KEYS, Variant

_ENABLED = Param(True, "False switches the variant off")


def parse_variants(tables: Sequence[Mapping[str, Any]], where: str, folder: Path | None = None) -> tuple[Variant, ...]:
    """Parse the `[[strategy]]` rows of a configuration.

    A rule that declares a table has a variant without any row. A row with the name of such a rule changes the options
    of that variant. A row with another name adds a variant. `enabled = false` switches a variant off.

    Args:
        tables: The rows.
        where: The name of the configuration in errors.
        folder: The folder with the user's own rules.

    Returns:
        The variants that need no row, in the order of `discover`, then the others in the order of the rows. Variants
        that are switched off are left out.

    Raises:
        ConfigurationError: when a row or a rule is invalid. The message names the row, the key, what was received and
            what is allowed, or the file of the rule.
    """
    return variants_of(tables, where, discover(folder))


def variants_of(tables: Sequence[Mapping[str, Any]], where: str, rules: Mapping[str, Rule]) -> tuple[Variant, ...]:
    """Return the variants as `parse_variants` does, for rules that are already discovered."""
    found: dict[str, Variant | None] = dict(built_in(rules))
    seen: set[str] = set()
    for number, table in enumerate(tables, start=1):
        if not isinstance(table, Mapping):
            raise ConfigurationError(f"{where}: strategies are written `[[strategy]]`, with two brackets on each side")
        row = f"{where}: strategy {table.get('name', number)!r}"
        if "rule" in table:
            # The parameters of a rule that does not exist, such as one whose file was removed, are no unknown keys.
            _rule(table, None, rules, row)
        _only(table, dict.fromkeys((*ROW_KEYS, *(name for rule in rules.values() for name in rule.params))), row)
        name = _name(table, rules, row)
        if name in seen:
            raise ConfigurationError(f"{row}: the name {name!r} is used twice; keep one of them")
        seen.add(name)
        variant = variant_of(table, name, rules, row)
        found[name] = variant if _value(table, "enabled", _ENABLED, row) else None
    return tuple(variant for variant in found.values() if variant is not None)


def built_in(rules: Mapping[str, Rule]) -> dict[str, Variant]:
    """Return the variants that exist without any configuration, by their name in the watchlist."""
    return {name: Variant(rule.table, rule) for name, rule in rules.items() if rule.table is not None}


def _only(table: Mapping[str, Any], allowed: Iterable[str], where: str) -> None:
    for key in table:
        if key not in allowed:
            hint = did_you_mean(key, allowed)
            raise ConfigurationError(f"{where}: unknown key `{key}`, allowed are {', '.join(allowed)}{hint}")


def _name(table: Mapping[str, Any], rules: Mapping[str, Rule], where: str) -> str:
    name = table.get("name")
    if not isinstance(name, str) or not VARIANT_NAME.fullmatch(name):
        raise ConfigurationError(
            f"{where}: `name` must be 1 to 24 lower-case letters, digits or _ and start with a letter, "
            f"received {name!r}"
        )
    if problem := problem_with_table(f"{TABLE_PREFIX}{name}"):
        raise ConfigurationError(f"{where}: the table of a `name` {problem}, received {name!r}")
    for owner, variant in built_in(rules).items():
        if variant.name == f"{TABLE_PREFIX}{name}" and owner != name:
            raise ConfigurationError(
                f"{where}: `name` {name!r} would be the table of the default variant, which is called {owner!r}"
            )
    return name


def _conflict(rule: Rule, params: Params, where: str) -> str | None:
    try:
        return conflict_between(params, rule.check)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}, rule {rule.name!r}: {error}") from error


def variant_of(table: Mapping[str, Any], name: str, rules: Mapping[str, Rule], where: str) -> Variant:
    """Return the variant `name` that one row describes. Every error message begins with `where`.

    Raises:
        UnfitParameters: when the parameters of the rule are each within their limits, but do not fit together.
        ConfigurationError: when anything else is wrong.
    """
    existing = built_in(rules).get(name)
    rule = _rule(table, None if existing is None else existing.rule, rules, where)
    if existing is not None and rule is not existing.rule:
        raise ConfigurationError(
            f"{where}: `rule` of the variant {name!r} is {existing.rule.name!r}, received {rule.name!r}; "
            "give it another name"
        )
    _only(table, (*ROW_KEYS, *rule.params), f"{where}, rule {rule.name!r}")
    options = {key: _value(table, key, param, where) for key, param in OPTIONS.items()}
    params = {key: _value(table, key, param, where) for key, param in rule.params.items()}
    if problem := _conflict(rule, params, where):
        raise UnfitParameters(f"{where}: {problem}")
    higher = options["higher_timeframe"]
    return Variant(
        name=f"{TABLE_PREFIX}{name}" if existing is None else existing.name,
        rule=rule,
        allow_long=options["side"] != SHORT,
        allow_short=options["side"] != LONG,
        fill=options["fill"],
        entries=options["entries"],
        cost_bps=options["cost_bps"],
        min_spread_pct=options["min_spread_pct"],
        higher_timeframe=by_key(higher) if higher else None,
        atr_stop=options["atr_stop"] or None,
        atr_target=options["atr_target"] or None,
        exit_at_session_end=options["exit_at_session_end"],
        params=params,
    )


def _rule(table: Mapping[str, Any], default: Rule | None, rules: Mapping[str, Rule], where: str) -> Rule:
    if "rule" not in table:
        if default is None:
            raise ConfigurationError(f"{where}: `rule` must be one of {', '.join(rules)}, it is missing")
        return default
    name = table["rule"]
    if not isinstance(name, str) or name not in rules:
        raise ConfigurationError(f"{where}: {not_one_of('rule', str(name), rules)}")
    return rules[name]


def _value(table: Mapping[str, Any], key: str, param: Param, where: str) -> Any:
    if key not in table:
        return param.default
    if key == "higher_timeframe" and isinstance(table[key], str):
        return _timeframe(table[key], key, where)
    if problem := param.problem_with(table[key]):
        raise ConfigurationError(f"{where}: `{key}` {problem}")
    # An integer for a float option is converted, so that `2` and `2.0` give the same code version.
    return type(param.default)(table[key])


def _timeframe(text: str, key: str, where: str) -> str:
    """Return the key of a timeframe, or an empty text for none."""
    try:
        return parse_timeframe(text, key).key if text else text
    except InvalidKeyError as error:
        raise ConfigurationError(f"{where}: {error}") from None
