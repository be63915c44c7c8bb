"""Converts tables with one row per price, such as those of `pandas.melt`, to one row per bar. Reads no file."""

from collections.abc import Mapping, Sequence

import polars as pl

from ema_assets.files.cells import LINE, Table
from ema_assets.files.columns import is_known, plain, roles
from ema_assets.files.declaration import BY_NAME
from ema_assets.model.counts import counted, noun
from ema_assets.model.errors import BarFileError

# Roles of the columns that identify a bar.
_KEYS = ("ts", "date", "time", "symbol", "timeframe")
_PRICES = frozenset({"open", "high", "low", "close"})
# Names of the column of numbers, as `plain` spells them. Without one, it is the price, or the only remaining column.
_VALUES = ("value", "values", "val")
# A column with more distinct texts has symbols or times, but not names of fields.
_MOST_FIELDS = 50
_SAMPLED_ROWS = 200
# The name of a column that has no role. `plain` never returns it.
_NO_ROLE = " "
_FIELD = "field"


def pivoted(table: Table) -> Table:
    """Return `table` with one row per bar if one of its columns names the field of each row; else unchanged.

    The line of a bar is that of its first field. Columns that do not identify a bar are left out, and so are rows of
    fields that no bar has.

    Raises:
        BarFileError: when two rows have different values of the same field. The message does not name the file.
    """
    for place in range(len(table.names)):
        fields = _fields(table.cells[str(place)])
        if fields and (columns := _columns(table.names, place)) is not None:
            return _pivoted(table, place, fields, *columns)
    return table


def _fields(column: pl.Series) -> Mapping[str, str]:
    """Return the names of fields, as `plain` spells them, by the texts of a column; empty for any other column.

    Two prices must be among them, or all must be known and one be the close.
    """
    if column.dtype != pl.String or column.head(_SAMPLED_ROWS).n_unique() > _MOST_FIELDS:
        return {}
    texts = column.unique().drop_nulls()
    if not 1 < len(texts) <= _MOST_FIELDS:
        return {}
    fields = {text: plain(text) for text in texts}
    found = roles(sorted(set(fields.values())), BY_NAME).keys()
    are_all_known = all(is_known(name) for name in fields.values())
    is_kind_of_price = len(found & _PRICES) > 1 or ("close" in found and are_all_known)
    return {text: name for text, name in fields.items() if is_known(name)} if is_kind_of_price else {}


def _columns(names: Sequence[str], field: int) -> tuple[list[int], int] | None:
    """Return the places of the columns that identify a bar and of that of the numbers.

    Return None when either is unclear, or when every price has a column of its own.
    """
    others = [_NO_ROLE if place == field else name for place, name in enumerate(names)]
    values = [place for place, name in enumerate(others) if name in _VALUES]
    found = roles(others, BY_NAME)
    if found.keys() >= _PRICES:
        return None
    keys = sorted(place for role, place in found.items() if role in _KEYS)
    values = values or ([found["close"]] if "close" in found else [])
    values = values or [place for place in range(len(names)) if place not in (field, *keys)]
    return (keys, values[0]) if len(values) == 1 and {"ts", "date"} & found.keys() else None


def _pivoted(table: Table, place: int, fields: Mapping[str, str], keys: Sequence[int], value: int) -> Table:
    key, cell = [str(each) for each in keys], pl.col(str(value))
    rows = table.cells.filter(pl.col(str(place)).is_in(list(fields))).with_columns(
        pl.col(str(place)).replace(fields).alias(_FIELD)
    )
    twice = rows.filter(cell.is_not_null()).filter((cell != cell.first()).over(*key, _FIELD))
    if not twice.is_empty():
        line, name = twice.select(LINE, _FIELD).row(0)
        raise BarFileError(f"line {line}: a second, different {name} of the same bar")
    names = list(rows[_FIELD].unique(maintain_order=True))
    bars = rows.group_by(key, maintain_order=True).agg(
        *(cell.filter(pl.col(_FIELD) == name).drop_nulls().first().alias(name) for name in names),
        pl.col(LINE).first(),
    )
    cells = bars.rename(dict(zip(bars.columns, (*map(str, range(len(key) + len(names))), LINE), strict=True)))
    notes = [*table.notes, f"one row per field: {', '.join(names)}"]
    if others := table.cells.height - rows.height:
        notes.append(f"{counted(others, 'row')} of other fields {noun(others, 'is', 'are')} left out")
    head = (*(table.heads[-1][each] for each in keys), *names)
    return Table(cells, (head,), table.form, tuple(notes), table.facts)
