"""Joins columns of year, month and day, and of hour, minute and second, to one column of times. Reads no file."""

import polars as pl

from ema_assets.files.cells import Table

_DAY = ("year", "month", "day")
_CLOCK = ("hour", "minute", "second")
# Other names of these columns, as `plain` spells them.
_NAMES = {"yyyy": "year", "yr": "year", "mm": "month", "dd": "day", "hh": "hour", "minutes": "minute"}
_TS = "ts"


def with_joined_dates(table: Table) -> Table:
    """Return `table` with the parts of its times in one column, `ts`, in the place of the year.

    The names of the other parts begin with `part: `, so that they have no role. A table without a year, a month and a
    day, each once, is returned unchanged, and so is one that has a date beside them.
    """
    # Beside a low, `min` is no price.
    names = _NAMES | {"min": "minute"} if {"hour", "low"} <= set(table.names) else _NAMES
    places = {names.get(name, name): place for place, name in enumerate(table.names)}
    parts = [name for name in (*_DAY, *_CLOCK) if name in places]
    has_others = any(name in table.names for name in (_TS, "date", "time", "datetime", "timestamp"))
    if not set(_DAY) <= places.keys() or len(places) < len(table.names) or has_others:
        return table
    columns = [_digits(str(places[name]), 4 if name == "year" else 2) for name in parts]
    clock = [pl.lit("00")] * (2 - len(columns[3:])) if len(columns) > len(_DAY) else []
    text = pl.concat_str(columns[:3], separator="-")
    if len(columns) > len(_DAY):
        text = pl.concat_str(text, pl.concat_str([*columns[3:], *clock], separator=":"), separator=" ")
    head = list(table.heads[-1])
    for name in parts:
        head[places[name]] = f"part: {name}"
    head[places["year"]] = _TS
    cells = table.cells.with_columns(text.alias(str(places["year"])))
    return Table(cells, (*table.heads[:-1], tuple(head)), table.form, table.notes, table.facts)


def _digits(column: str, width: int) -> pl.Expr:
    """Return the whole numbers of a column as text of `width` digits; other text unchanged, so that it is refused."""
    text = pl.col(column).cast(pl.String).str.strip_chars()
    return text.str.replace(r"^(\d+)\.0+$", "$1").str.zfill(width)
