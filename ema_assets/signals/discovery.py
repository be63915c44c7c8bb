"""Discovers the signals: the modules of this package that declare one, and a user's folder. Reads nothing else."""

import keyword
import pkgutil
import re
from collections.abc import Collection, Iterator, Mapping
from importlib import import_module
from itertools import chain
from pathlib import Path

from ema_assets import signals
from ema_assets.model.asset_names import ENDS_OF_TABLES, OHLC
from ema_assets.model.averages import EMA, WMA, averaged
from ema_assets.model.declarations import (
    problem_with_identifier,
    problems_with_columns,
    problems_with_params,
    problems_with_reads,
    problems_with_texts,
)
from ema_assets.model.errors import ConfigurationError
from ema_assets.model.own_modules import files_of, limited, load, told
from ema_assets.model.reserved_words import RESERVED_WORDS
from ema_assets.signals.declaration import Signal
from ema_assets.signals.own_compute import checked

OHLC_COLUMNS = ("open", "high", "low", "close", "volume")

# Names of assets and tables that are not signals. The partitions of a table are named after it and a timeframe.
_TAKEN = re.compile(
    r"(ema|wma)_[0-9]+|ema_trend_[0-9]+_[0-9]+"
    r"|(ohlc|strategy|bar|provider|asset|performance|alert)(_.*)?|instrument|session|close_latency|migration|screener"
    r"|trade|watchlist|calendar|corporate_action|dagster_storage|file_span|history_depth|long_bar|older_history|source"
    rf"|special_day|timeframe|.*{ENDS_OF_TABLES}"
)
# Names that Dagster or SQL does not accept.
_RESERVED = {
    *keyword.kwlist,
    *RESERVED_WORDS,
    *("arg_dict", "bool", "conf", "config", "context", "dict", "float", "input", "input_arg_dict", "int", "meta"),
    *("output", "output_arg_dict", "str", "type"),
}
# The key of each table, the columns that the engine adds to tables and to the columns read, and the columns that the
# views add to each row: its bar, of which they may show more than the close one day, and whether it may still change.
_TAKEN_COLUMNS = (
    *("symbol", "timeframe", "ts", *OHLC_COLUMNS, "is_preliminary", "warming_up"),
    *("is_new", "from_ts", "calendar", "session", "is_session_last", "ts_end", "higher_trend"),
)
# Every signal that counts bars has the same number for a bar, so it does not matter whose number is shown.
_SHARED_COLUMN = "bar_number"
_FIRST = ("ema_signals", "ema_trend")


def discover(folder: Path | None = None, without: Collection[Path] = ()) -> dict[str, Signal]:
    """Return every signal by name. Each one comes after the signals that it reads.

    `ema_signals` and `ema_trend` come first, then the others by depth and name.

    Args:
        folder: The folder of a user's own signals, one per *.py file. Names that start with `_` or `.` are ignored.
        without: Files in the folder that are also ignored.

    Raises:
        ConfigurationError: when a file cannot be imported or declares no signal, or when a declaration is invalid. The
            message names the file and what is wrong.
    """
    origins: dict[str, str] = {}
    found: dict[str, Signal] = {}
    for origin, signal in (*_of_package(), *_of_folder(folder, without)):
        with limited(origin):
            problem = next(_problems(signal), None)
        if problem:
            raise ConfigurationError(f"{origin}: {problem}")
        if signal.name in found:
            raise ConfigurationError(
                f"{origin}: there is a signal `{signal.name}` already, in {origins[signal.name]}; names must differ"
            )
        is_own = origin.endswith(".py")
        found[signal.name], origins[signal.name] = checked(signal, origin) if is_own else signal, origin
    owners: dict[str, str] = {}
    for name, signal in found.items():
        problem = next(chain(_problems_of_reads(signal, found), _problems_of_shared(signal, owners, origins)), None)
        if problem:
            raise ConfigurationError(f"{origins[name]}: signal `{name}`: {problem}")
    depths = {name: _depth(name, found, origins, ()) for name in found}
    places = {name: place for place, name in enumerate(_FIRST)}
    order = sorted(found, key=lambda name: (places.get(name, len(_FIRST)), depths[name], name))
    return {name: found[name] for name in order}


# --- modules ----------------------------------------------------------------------------------------------------------


def _of_package() -> Iterator[tuple[str, Signal]]:
    for module in sorted(pkgutil.iter_modules(signals.__path__), key=lambda each: each.name):
        path = f"{signals.__name__}.{module.name}"
        declared = getattr(import_module(path), "SIGNAL", None)
        if declared is not None:
            yield path, declared


def _of_folder(folder: Path | None, without: Collection[Path]) -> Iterator[tuple[str, Signal]]:
    for path in () if folder is None else files_of(folder, "signals", without):
        declared = getattr(load(path, "signal"), "SIGNAL", None)
        if not isinstance(declared, Signal):
            received = "none" if declared is None else f"a {type(declared).__name__}"
            raise ConfigurationError(
                f"{path}: must declare `SIGNAL`, a Signal of ema_assets.signals.declaration; found {received}"
            )
        yield str(path), declared


def is_taken(name: str) -> bool:
    """Return whether no signal can be named `name`: an asset or table has it, or Dagster or SQL reserves it."""
    return name in _RESERVED or _TAKEN.fullmatch(name) is not None


# --- declarations -----------------------------------------------------------------------------------------------------


def _problems(signal: Signal) -> Iterator[str]:
    """Yield what is wrong with a declaration on its own, worst first."""
    problem = problem_with_identifier("`name`", signal.name)
    if problem:
        yield problem
        return
    if is_taken(signal.name):
        yield f"`name` must not be that of another asset or table, or be reserved; received {signal.name!r}"
    problems = (
        *problems_with_texts({"description": signal.description, "version": signal.version}),
        *filter(None, [problem_with_identifier("`group`", signal.group)]),
        *problems_with_columns(signal.columns, taken=_TAKEN_COLUMNS),
        *_problems_of_names("carries", signal.carries, signal),
        *_problems_of_names("shown", signal.shown, signal),
        *problems_with_params(signal.params),
    )
    # The functions are called with the default parameters, so the parameters are checked first.
    for each in problems or (*_problems_of_bar_number(signal), *_problems_of_functions(signal)):
        yield f"signal `{signal.name}`: {each}"


def _problems_of_names(field: str, names: tuple[str, ...], signal: Signal) -> Iterator[str]:
    """Yield what is wrong with a field that names columns of the signal."""
    if isinstance(names, str):
        yield f"`{field}` must be a tuple of names, received the text {names!r}"
        return
    if not isinstance(names, tuple | list):
        yield f"`{field}` must be a tuple of names, received {names!r}"
        return
    unknown = [name for name in names if name not in [column.name for column in signal.columns]]
    if unknown:
        yield f"`{field}` must name columns of its own, received {', '.join(map(repr, unknown))}"


def _problems_of_bar_number(signal: Signal) -> Iterator[str]:
    kind = next((column.kind for column in signal.columns if column.name == _SHARED_COLUMN), None)
    if kind is not None and kind != "int8":
        yield f"`{_SHARED_COLUMN}` is the number of the bar in its series and must be an int8, received {kind}"
    bars = signal.converged_after
    if bars is None:
        return
    if not isinstance(bars, int) or bars < 0:
        yield f"`converged_after` must be a number of bars or None, received {bars!r}"
    if kind is None:
        yield f"`converged_after` needs a column `{_SHARED_COLUMN}`"


def _problems_of_functions(signal: Signal) -> Iterator[str]:
    for name in ("compute", "bars_before", "check"):
        if not callable(getattr(signal, name)):
            yield f"`{name}` must be a function, received {getattr(signal, name)!r}"
            return
    try:
        bars, conflict = signal.bars_before(signal.defaults), signal.check(signal.defaults)
    except Exception as error:  # noqa: BLE001 - whatever a user's function raises is reported, without a traceback
        yield f"`bars_before` and `check` must take the defaults: {told(error)}"
        return
    if not isinstance(bars, int) or bars < 0:
        yield f"`bars_before` must give a number of bars, received {bars!r}"
    if conflict:
        yield f"its defaults do not fit together: {conflict}"


def _problems_of_reads(signal: Signal, found: Mapping[str, Signal]) -> Iterator[str]:
    """Yield what is wrong with `reads`, given all signals."""
    if not isinstance(signal.reads, Mapping) or not signal.reads:
        yield "`reads` must name at least one asset and its columns"
        return
    known = {OHLC: OHLC_COLUMNS, **{name: found[name].column_names for name in sorted(found)}}
    yield from problems_with_reads(signal.reads, known)


def _problems_of_shared(signal: Signal, owners: dict[str, str], origins: Mapping[str, str]) -> Iterator[str]:
    """Yield columns of the signal whose name is taken by another signal or an average; record the rest in `owners`.

    `results.signals` has the columns of all signals side by side, so one of two equal names would be left out.
    """
    for column in signal.column_names:
        if column == _SHARED_COLUMN:
            continue
        owner = owners.setdefault(column, signal.name)
        said = averaged(column)
        if owner != signal.name:
            yield f"the signal `{owner}` has a column {column!r} already, in {origins[owner]}; names must differ"
        elif said is not None and said.kind in {EMA, WMA} and not origins[signal.name].startswith(signals.__name__):
            yield f"column {column!r} has the name of an average that a strategy may read; choose another one"


def _depth(name: str, found: Mapping[str, Signal], origins: Mapping[str, str], above: tuple[str, ...]) -> int:
    """Return 0 for `ohlc`, 1 for signals that read only `ohlc`, and so on."""
    if name == OHLC:
        return 0
    if name in above:
        circle = above[above.index(name) :]
        raise ConfigurationError(
            f"{', '.join(origins[each] for each in circle)}: signals must not read one another in a circle: "
            f"{' → '.join([*circle, name])}"
        )
    return 1 + max(_depth(asset, found, origins, (*above, name)) for asset in found[name].reads)
