"""Joins columns of year, month and day, and of hour, minute and second, to one column of times. Reads no file."""

import polars as pl

from ema_assets.files.cells import Table

_DAY = ("year", "month", "day")
_CLOCK = ("hour", "minute", "second")
# Other names of these columns, as `plain` spells them.
_NAMES = {"yyyy": "year", "yr": "year", "mm": "month", "dd": "day", "hh": "hour", "minutes": "minute"}
_DATE, _TIME, _TS = "date", "time", "ts"


def with_joined_dates(table: Table) -> Table:
    """Return `table` with the parts of its times in one column in the place of the year.

    It is called `date` beside a column `time`, otherwise `ts`. The names of the other parts begin with `part: `, so
    that they have no role. A table without a year, a month and a day, each once, is returned unchanged, and so is one
    that has a whole time beside them.
    """
    # Beside a low, `min` is no price.
    others = _NAMES | {"min": "minute"} if {"hour", "low"} <= set(table.names) else _NAMES
    names = [others.get(name, name) for name in table.names]
    are_parts = all(names.count(name) == 1 for name in _DAY) and all(names.count(name) <= 1 for name in _CLOCK)
    if not are_parts or any(name in names for name in (_DATE, _TS, "datetime", "timestamp")):
        return table
    has_time = _TIME in names
    clock = [] if has_time else [name for name in _CLOCK if name in names]
    year, month, day, *rest = (_digits(names.index(name), 4 if name == "year" else 2) for name in (*_DAY, *clock))
    text = pl.concat_str(year, month, day, separator="-")
    if rest:
        missing = [pl.lit("00")] * (2 - len(rest))
        text = pl.concat_str(text, pl.concat_str(*rest, *missing, separator=":"), separator=" ")
    head = list(table.heads[-1])
    for name in (*_DAY, *clock):
        head[names.index(name)] = f"part: {name}"
    head[names.index("year")] = _DATE if has_time else _TS
    cells = table.cells.with_columns(text.alias(str(names.index("year"))))
    return Table(cells, (*table.heads[:-1], tuple(head)), table.form, table.notes, table.facts)


def _digits(place: int, width: int) -> pl.Expr:
    """Return the whole numbers of a column as text of `width` digits; other text unchanged, so that it is refused."""
    text = pl.col(str(place)).cast(pl.String).str.strip_chars()
    return text.str.replace(r"^(\d+)\.0+$", "$1").str.zfill(width)
