"""Columns and parameters, which both signals and strategy rules declare, and the checks of these. No I/O."""

import math
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ema_assets.model.errors import ConfigurationError, did_you_mean
from ema_assets.model.own_modules import told
from ema_assets.model.reserved_words import RESERVED_WORDS
from ema_assets.model.schemas import KINDS

# Parameters by name, as the configuration or the declaration's defaults give them.
Params = Mapping[str, Any]

# The largest whole number that columns and kernels can hold.
_MOST_WHOLE = 2**63 - 1
_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,47}")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        name: a lower-case identifier.
        kind: one of schemas.KINDS.
        description: the text in the UI's catalog.
        is_nullable: False when every row has a value.
        choices: the only values that a text may have; empty if any text is allowed.
    """

    name: str
    kind: str
    description: str
    is_nullable: bool = True
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter: its default, which also determines its type, and what is allowed.

    A number lies between `least` and `most`, a text is one of `choices`.
    """

    default: int | float | str | bool
    description: str
    least: float = 1
    most: float = 1_000
    choices: tuple[str, ...] = ()

    def problem_with(self, value: object) -> str | None:
        """Return what is wrong with `value`, worded to follow the parameter's name, or None."""
        if isinstance(self.default, bool):
            return None if isinstance(value, bool) else f"must be true or false, received {value!r}"
        if isinstance(self.default, str):
            if value in self.choices:
                return None
            hint = did_you_mean(value, self.choices) if isinstance(value, str) else ""
            return f"must be one of {', '.join(self.choices)}, received {value!r}{hint}"
        is_whole = isinstance(self.default, int)
        # In Python a bool is also an int.
        if (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and (isinstance(value, int) or not is_whole)
            and self.least <= value <= self.most
            # Limits may allow `inf`, but nothing can be computed with it.
            and abs(value) <= (_MOST_WHOLE if is_whole else sys.float_info.max)
        ):
            return None
        received = "a longer number" if isinstance(value, int) and abs(value) > _MOST_WHOLE else repr(value)
        return f"must be {self._allowed}, received {received}"

    @property
    def _allowed(self) -> str:
        """What is allowed, such as `a whole number from 1 to 1000`."""
        kind = "a whole number" if isinstance(self.default, int) else "a number"
        if math.isfinite(self.least) and math.isfinite(self.most):
            return f"{kind} from {self.least:g} to {self.most:g}"
        if math.isfinite(self.least):
            return f"{kind}, {self.least:g} or more"
        return f"{kind}, {self.most:g} or less" if math.isfinite(self.most) else kind


def with_params(text: str, params: Params) -> str:
    """Return `text` with the name of each of `params` in braces replaced by its value, as in `over {span} bars`."""
    for name, value in params.items():
        text = text.replace(f"{{{name}}}", f"{value:g}" if isinstance(value, float) else str(value))
    return text


def problem_with_identifier(what: str, name: object) -> str | None:
    """Return why `name` cannot name an asset, a column or a parameter, or None; `what` says which it should name."""
    if isinstance(name, str) and _IDENTIFIER.fullmatch(name):
        return None
    return f"{what} must be 1 to 48 lower-case letters, digits or _ and start with a letter, received {name!r}"


def problems_with_texts(texts: Mapping[str, object]) -> Iterator[str]:
    """Yield a problem for each of `texts`, by the name of its field, that is not a text or is empty."""
    for name, text in texts.items():
        if not isinstance(text, str) or not text.strip():
            yield f"`{name}` must be a text, received {text!r}"


def problems_with_columns(columns: Sequence[Column], taken: Sequence[str] = ()) -> Iterator[str]:
    """Yield what is wrong with the columns of a table. None may have a name among `taken`."""
    if not isinstance(columns, tuple) or not all(isinstance(column, Column) for column in columns) or not columns:
        yield "`columns` must be a tuple of at least one Column"
        return
    seen: set[str] = set()
    for column in columns:
        problem = problem_with_identifier("the name of a column", column.name)
        if problem:
            yield problem
            continue
        if column.name in taken:
            yield f"a column must not be called {', '.join(taken)}, received {column.name!r}"
        if column.name in RESERVED_WORDS:
            yield f"a column must not be called by a word that SQL reserves, received {column.name!r}"
        if column.name in seen:
            yield f"column {column.name!r} is declared twice"
        if problem := _problem_with_values(column):
            yield problem
        seen.add(column.name)


def _problem_with_values(column: Column) -> str | None:
    """Return what is wrong with the kind, the description or the choices of a column, or None."""
    name, kind = column.name, column.kind
    if not isinstance(kind, str) or kind not in KINDS:
        return f"the kind of column {name!r} must be one of {', '.join(KINDS)}, received {kind!r}"
    if not isinstance(column.description, str):
        return f"the description of column {name!r} must be a text, received {column.description!r}"
    if not isinstance(column.choices, tuple | list) or not _are_texts(column.choices):
        return f"`choices` of column {name!r} must be a tuple of texts, received {column.choices!r}"
    if column.choices and kind != "text":
        return f"column {name!r} must be a text to have `choices`, received the kind {kind!r}"
    return None


def problems_with_params(params: Mapping[str, Param]) -> Iterator[str]:
    """Yield what is wrong with the declared parameters."""
    if not isinstance(params, Mapping):
        yield f"`params` must give a Param by name, received {params!r}"
        return
    for name, param in params.items():
        problem = problem_with_identifier("the name of a parameter", name)
        if problem:
            yield problem
        elif not isinstance(param, Param):
            yield f"parameter `{name}` must be a Param, received {param!r}"
            return
        elif problem := _problem_with_choices(name, param) or _problem_with_limits(name, param):
            yield problem


def _problem_with_choices(name: str, param: Param) -> str | None:
    """Return what is wrong with the choices of a parameter or with a default that is a text, or None."""
    if not _are_texts(param.choices):
        return f"`choices` of `{name}` must be a tuple of texts, received {param.choices!r}"
    if not isinstance(param.default, str) or param.default in param.choices:
        return None
    allowed = ", ".join(param.choices) or "its `choices`, and it has none"
    return f"the default of `{name}` must be one of {allowed}, received {param.default!r}"


def _are_texts(choices: object) -> bool:
    """Return whether `choices` are several texts. A text is not: `("up")` is no tuple, and one of letters only."""
    return (
        isinstance(choices, Collection)
        and not isinstance(choices, str)
        and all(isinstance(choice, str) for choice in choices)
    )


def _problem_with_limits(name: str, param: Param) -> str | None:
    """Return what is wrong with a default that is not a text or with its limits, or None."""
    if isinstance(param.default, str | bool):
        return None
    if not isinstance(param.default, int | float):
        return f"the default of `{name}` must be a number, a text, True or False, received {param.default!r}"
    if not all(isinstance(limit, int | float) for limit in (param.least, param.most)):
        return f"`least` and `most` of `{name}` must be numbers, received {param.least!r} and {param.most!r}"
    if not param.least <= param.default <= param.most or not math.isfinite(param.default):
        return f"the default of `{name}` must be {param.least} to {param.most}, received {param.default}"
    return None


def problem_with_columns_read(asset: object, columns: object) -> str | None:
    """Return why `columns` is not a tuple or list of the names of columns of `asset`, or None."""
    if isinstance(columns, tuple | list) and columns and all(isinstance(column, str) for column in columns):
        return None
    return f"`reads` must give a tuple of column names for `{asset}`, received {columns!r}"


def problems_with_reads(reads: Mapping[str, tuple[str, ...]], known: Mapping[str, Collection[str]]) -> Iterator[str]:
    """Yield what is wrong with the columns read of each asset; `known` has all columns by asset."""
    read: set[str] = set()
    for asset, columns in reads.items():
        if asset not in known:
            hint = did_you_mean(asset, known) if isinstance(asset, str) else ""
            yield f"`reads` must name assets among {', '.join(known)}, received {asset!r}{hint}"
            continue
        if problem := problem_with_columns_read(asset, columns):
            yield problem
            continue
        for column in columns:
            if column not in known[asset]:
                hint = did_you_mean(column, known[asset])
                yield f"`{asset}` has no column {column!r} to read; it has {', '.join(known[asset])}{hint}"
            if column in read:
                yield f"column {column!r} is read twice; names must differ between assets"
            read.add(column)


def conflict_between(params: Params, check: Callable[[Params], object]) -> str | None:
    """Return what the `check` of a declaration says is wrong with `params`; None when nothing is.

    Raises:
        ConfigurationError: when `check` fails, or says anything that is not a text.
    """
    try:
        said = check(params)
    except Exception as error:
        raise ConfigurationError(f"`check` must take these parameters: {told(error)}") from error
    if said and not isinstance(said, str):
        raise ConfigurationError(f"`check` must say in a text what is wrong, or None, received {said!r}")
    return str(said) if said else None


def changed_params(params: Params, defaults: Params) -> list[str]:
    """Return `name=value` of each parameter that is not the default, sorted by name, for the code version."""
    return [f"{name}={value}" for name, value in sorted(params.items()) if value != defaults[name]]
