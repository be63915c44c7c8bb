"""Discovers and validates the rules: the modules of `strategies.rules` and the files in a user's folder."""

import pkgutil
import re
from collections.abc import Collection, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType

from ema_assets.model.asset_names import EMA_TREND, ENDS_OF_TABLES, PERFORMANCE
from ema_assets.model.averages import trend_spans
from ema_assets.model.declarations import (
    problem_with_columns_read,
    problem_with_identifier,
    problems_with_params,
    problems_with_texts,
    with_params,
)
from ema_assets.model.errors import ConfigurationError
from ema_assets.model.own_modules import files_of, limited, load, told
from ema_assets.strategies import rules
from ema_assets.strategies.rule import BySide, Rule
from ema_assets.strategies.trade_columns import SESSION_END, SESSION_MISSED, STOP, TARGET, TRAILING_STOP, WINDOW_END
from ema_assets.strategies.variant import ROW_KEYS

# The tables of all variants are named with this prefix and a name.
TABLE_PREFIX = "strategy_"
# With the prefix, a timeframe and a suffix, a name must fit into the 63 characters of a PostgreSQL identifier.
VARIANT_NAME = re.compile(r"[a-z][a-z0-9_]{0,23}")
_TABLE = re.compile(rf"{TABLE_PREFIX}[a-z0-9][a-z0-9_]{{0,23}}")

# Exit reasons that trades of any rule can have.
_REASONS_OF_ALL = (STOP, TRAILING_STOP, TARGET, SESSION_END, SESSION_MISSED, WINDOW_END)

_IN_BRACES = re.compile(r"\{([^{}]*)\}")

# Columns that the engine adds to the columns read, or joins on.
_ADDED_COLUMNS = ("symbol", "timeframe", "ts", "calendar", "ts_end", "session", "is_session_last", "higher_trend")


def discover(folder: Path | None = None, without: Collection[Path] = ()) -> dict[str, Rule]:
    """Return every rule, keyed and sorted by name.

    Args:
        folder: The folder of a user's own rules, one per *.py file. Names that start with `_` or `.` are ignored.
        without: Files in the folder that are also ignored.

    Raises:
        ConfigurationError: when a file cannot be imported, a module declares no rule, or a declaration is invalid. The
            message names the module or file and what is wrong.
    """
    found: dict[str, Rule] = {}
    origins: dict[str, str] = {}
    for path, module in (*_of_package(), *_of_folder(folder, without)):
        rule = getattr(module, "RULE", None)
        if not isinstance(rule, Rule):
            received = "nothing" if rule is None else f"a {type(rule).__name__}"
            raise ConfigurationError(
                f"{path}: must declare `RULE`, a Rule of ema_assets.strategies.rule; it declares {received}"
            )
        with limited(path):
            problem = next(_problems(rule), None)
        problem = problem or _clash(rule, found, origins)
        if problem:
            raise ConfigurationError(f"{path}: {problem}")
        found[rule.name], origins[rule.name] = rule, path
    return dict(sorted(found.items()))


def _of_package() -> Iterator[tuple[str, ModuleType]]:
    for module in pkgutil.iter_modules(rules.__path__):
        path = f"{rules.__name__}.{module.name}"
        yield path, import_module(path)


def _of_folder(folder: Path | None, without: Collection[Path]) -> Iterator[tuple[str, ModuleType]]:
    for path in () if folder is None else files_of(folder, "strategies", without):
        yield str(path), load(path, "rule")


def _clash(rule: Rule, found: Mapping[str, Rule], origins: Mapping[str, str]) -> str | None:
    if rule.name in found:
        return f"there is a rule `{rule.name}` already, in {origins[rule.name]}; names must differ"
    for other in found.values():
        if rule.table is not None and rule.table == other.table:
            return f"the table {rule.table!r} is that of the rule `{other.name}` already, in {origins[other.name]}"
    return None


def _problems(rule: Rule) -> Iterator[str]:
    """Yield what is wrong with a declaration on its own, worst first."""
    if not isinstance(rule.name, str) or not VARIANT_NAME.fullmatch(rule.name):
        yield (
            f"`name` must be 1 to 24 lower-case letters, digits or _ and start with a letter, received {rule.name!r}"
        )
        return
    problems = (
        *problems_with_texts({name: getattr(rule, name) for name in ("title", "description", "version")}),
        *_problems_with_reads(rule),
        *problems_with_params(rule.params),
        *_problems_with_names(rule),
    )
    # The functions are called with the default parameters, so the parameters are checked first.
    for each in problems or (*_problems_with_braces(rule), *_problems_with_functions(rule)):
        yield f"rule `{rule.name}`: {each}"


def _problems_with_reads(rule: Rule) -> Iterator[str]:
    if not isinstance(rule.reads, Mapping):
        yield f"`reads` must give columns by asset, received {rule.reads!r}"
        return
    for asset, columns in rule.reads.items():
        if not isinstance(asset, str):
            yield f"`reads` must give columns by the name of an asset, received {asset!r}"
        if problem := problem_with_columns_read(asset, columns):
            yield problem
            continue
        for column in columns:
            if column in _ADDED_COLUMNS:
                yield f"`reads` must not name {', '.join(_ADDED_COLUMNS)}, received {column!r} of `{asset}`"


def _problems_with_braces(rule: Rule) -> Iterator[str]:
    """Yield names with anything but a whole-number parameter in braces, and what is wrong with the trend."""
    whole = {
        name: param.default
        for name, param in rule.params.items()
        if isinstance(param.default, int) and not isinstance(param.default, bool)
    }
    read = [("reads", name) for asset, columns in rule.reads.items() for name in (asset, *columns)]
    for field, name in (*read, ("trend", rule.trend)):
        for param in _IN_BRACES.findall(str(name)):
            if param not in whole:
                yield f"`{field}` must have only whole numbers among `params` in braces, received {name!r}"
    if trend_spans(with_params(str(rule.trend), whole)) is None:
        yield f"`trend` must be {EMA_TREND}, or such as {EMA_TREND}_{{fast}}_{{slow}}, received {rule.trend!r}"


def _problems_with_names(rule: Rule) -> Iterator[str]:
    for name in rule.params if isinstance(rule.params, Mapping) else ():
        if name in ROW_KEYS:
            yield f"a parameter must not have the name of a key of every variant, received {name!r}"
    for field in ("entry_reasons", "exit_reasons"):
        reasons = getattr(rule, field)
        if not isinstance(reasons, BySide):
            yield f"`{field}` must be a BySide, received {reasons!r}"
            continue
        for reason in reasons:
            problem = problem_with_identifier(f"a word of `{field}`", reason)
            if problem:
                yield problem
            elif reason in _REASONS_OF_ALL:
                yield f"a word of `{field}` must not be one that every rule has, received {reason!r}"
    if rule.table is not None and (problem := problem_with_table(rule.table)):
        yield f"`table` {problem}, received {rule.table!r}"


def problem_with_table(table: str) -> str | None:
    """Return why the table of a variant must not be called `table`; None when it may be."""
    if not isinstance(table, str) or not _TABLE.fullmatch(table):
        return f"must be {TABLE_PREFIX} and a name of 1 to 24 characters"
    if table == PERFORMANCE:
        return f"must not be {PERFORMANCE}, which is another asset"
    if end := re.search(f"{ENDS_OF_TABLES}$", table):
        return f"must not end in {end[0]}, as the tables of timeframes and states do"
    return None


def _problems_with_functions(rule: Rule) -> Iterator[str]:
    for name in ("evaluate", "check"):
        if not callable(getattr(rule, name)):
            yield f"`{name}` must be a function, received {getattr(rule, name)!r}"
            return
    try:
        conflict = rule.check(rule.defaults)
    except Exception as error:  # noqa: BLE001 - whatever a user's function raises is reported, without a traceback
        yield f"`check` must take the defaults: {told(error)}"
        return
    if conflict:
        yield f"its defaults do not fit together: {conflict}"
