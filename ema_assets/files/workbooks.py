"""Excel workbooks: their sheets as tables. Does not know what the cells mean."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import polars as pl

from ema_assets.files.cells import SAMPLED_ROWS, Table, filled, find_head, heads_of
from ema_assets.model.errors import BarFileError, first_of

# A message names at most this many sheets.
_NAMED = 5


def read_workbook(data: bytes) -> Table:
    """Return the first sheet with a table.

    Every cell is read as text, like the cells of other files. Sheets with other columns than the first table, such as
    notes and dividends, are ignored.

    Raises:
        BarFileError: when it holds no table, or when a second sheet has the same columns, because its bars would be
            lost without notice.
    """
    alike, found = _tables(_opened(data))
    if len(alike) > 1:
        raise BarFileError(f"has tables of the same columns in the sheets {first_of(alike, _NAMED)}; name one of them")
    return found


def sheets_of(data: bytes) -> tuple[Mapping[str, Callable[[], Table]], list[str]]:
    """Return a function per sheet that reads it, by name, and the names of the sheets with the first table's columns.

    A single sheet is not read here.

    Raises:
        BarFileError: when it is not a workbook, or none of its sheets has a table.
    """
    book = _opened(data)
    names: list[str] = book.sheet_names
    alike = _tables(book)[0] if len(names) > 1 else names
    return {name: partial(_loaded, book, name) for name in names}, alike


def _opened(data: bytes) -> Any:
    import fastexcel

    try:
        return fastexcel.read_excel(data)
    except fastexcel.FastExcelError as error:
        raise BarFileError(f"cannot be read as Excel: {str(error).strip().splitlines()[0]}") from None


def _tables(book: Any) -> tuple[list[str], Table]:
    """Return the names of all sheets with the columns of the first table, and this table."""
    refusal: BarFileError | None = None
    found: Table | None = None
    alike: list[str] = []
    for name in book.sheet_names:
        try:
            table = _loaded(book, name)
        except BarFileError as error:
            refusal = refusal or error
            continue
        if found is None:
            note = (f"sheet {name!r} of {len(book.sheet_names)}",) if len(book.sheet_names) > 1 else ()
            found = Table(table.cells, table.heads, table.form, note + table.notes)
        if table.heads == found.heads:
            alike.append(name)
    if found is None:
        raise refusal or BarFileError("holds no sheet")
    return alike, found


def _loaded(book: Any, name: str) -> Table:
    sheet = book.load_sheet(name, header_row=None, dtypes="string").to_polars()
    sheet = sheet.select(
        pl.col(name).cast(pl.String).str.strip_chars().replace("", None).alias(str(place))
        for place, name in enumerate(sheet.columns)
    )
    sheet = sheet.select(each for each in sheet if each.null_count() < sheet.height)
    if sheet.is_empty():
        raise BarFileError("holds no table of bars: the sheet is empty")
    rows = [[cell or "" for cell in row] for row in sheet.head(SAMPLED_ROWS).rows()]
    trimmed = [_without_end(row) for row in rows]
    head, first = find_head(trimmed)
    width = sheet.width
    cells = sheet.slice(first).rename({name: str(place) for place, name in enumerate(sheet.columns)})
    return Table(filled(cells, first), heads_of(trimmed[head:first], width), "Excel")


def _without_end(row: list[str]) -> list[str]:
    while row and not row[-1]:
        row = row[:-1]
    return row
