"""Columns whose role their names do not tell: an index without names, a date beside a time of day, bid and ask."""

from collections.abc import Mapping

import polars as pl

from ema_assets.files.cells import Table
from ema_assets.files.options import IGNORED
from ema_assets.model.errors import AmbiguousBarFile, FileReading

# How a time begins that has a date: a digit, or the name of a month.
BEGINS_LIKE_A_TIME = r"^\W*(\d|(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec))"
_TIME_OF_DAY = r"^\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?$"
_DAY = ("date", "day")
# Sides of a quote, and the names of their prices. Bars of trades have none of these words.
_SIDES = ("mid", "bid", "ask")
_PRICES = {"open": ("open", "o"), "high": ("high", "h"), "low": ("low", "l"), "close": ("close", "c")}


def with_roles_of_values(table: Table, found: Mapping[str, int]) -> dict[str, int]:
    """Return the columns in `found` (places by role), corrected by what the columns hold.

    Raises:
        AmbiguousBarFile: when there are prices of bid or ask, and nothing says which of them is meant.
    """
    roles = {**found, **_of_side(table, found)}
    if table.names[:2] == ["", ""] and roles.get("ts") == 0 and _are_no_times(table.cells["0"]):
        # The index of a frame with a row per symbol and time, which pandas wrote without names.
        return roles | {"symbol": 0, "ts": 1}
    day = next((table.names.index(name) for name in _DAY if name in table.names), None)
    if (
        "ts" in roles
        and day is not None
        and day != roles["ts"]
        and _all_match(table.cells[str(roles["ts"])], _TIME_OF_DAY)
    ):
        # A date, and a time of day that is called timestamp.
        roles["time"] = roles.pop("ts")
        roles["date"] = day
    return roles


def _are_no_times(column: pl.Series) -> bool:
    return column.dtype == pl.String and not _all_match(column, BEGINS_LIKE_A_TIME)


def _all_match(column: pl.Series, pattern: str) -> bool:
    """Return whether `column` has texts, and all of them match `pattern`."""
    texts = column.drop_nulls()
    return column.dtype == pl.String and len(texts) > 0 and bool(texts.str.contains(pattern).all())


def _of_side(table: Table, found: Mapping[str, int]) -> dict[str, int]:
    """Return the middle prices of a file of quotes, such as `mid.o`; none when prices are named as usual."""
    if _PRICES.keys() & found.keys():
        return {}
    sides = {}
    for side in _SIDES:
        places = {
            role: table.names.index(name)
            for role, words in _PRICES.items()
            for word in words
            for name in (f"{side} {word}", f"{word} {side}")
            if name in table.names
        }
        if places.keys() == _PRICES.keys():
            sides[side] = places
    if not sides.keys() - {"mid"}:
        return sides.get("mid", {})
    readings = []
    for side, places in sides.items():
        by_place = {place: role for role, place in {**found, **places}.items()}
        columns = ",".join(by_place.get(place, IGNORED) for place in range(len(table.names)))
        readings.append(FileReading(f"as the prices of {side}", (("columns", columns),)))
    raise AmbiguousBarFile(f"has prices of {' and of '.join(sides)}", readings)
