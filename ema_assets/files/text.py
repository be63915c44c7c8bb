"""Delimited text: encoding, delimiter, head, and the cells by Polars' CSV reader. Does not interpret the cells."""

import csv
import re
from collections.abc import Sequence
from io import BytesIO

import polars as pl

from ema_assets.files.cells import BY_COMMAS, LINE, SAMPLED_ROWS, Table, filled, find_head, heads_of, numbers_of
from ema_assets.files.encodings import as_utf8
from ema_assets.model.counts import counted
from ema_assets.model.errors import BarFileError

# In order of preference when several fit: next to a semicolon, a comma is a decimal or thousands separator.
_DELIMITERS = {"\t": "tab", ";": "semicolon", "|": "bar", ",": "comma"}
_SAMPLED_BYTES = 200_000
# The most lines below a table that are not bars: a source, a count, a copyright.
_MOST_FOOTERS = 20


def read_text(data: bytes) -> Table:
    """Return the table of delimited text in any usual encoding, with or without a head, banners and footers.

    Raises:
        BarFileError: when there is no table, or a row has more cells than the others. The message does not name the
            file.
    """
    text, encoding = as_utf8(data)
    text = _with_newlines(text)
    lines = _lines(text[:_SAMPLED_BYTES])[:SAMPLED_ROWS]
    delimiter = _delimiter(lines)
    if delimiter is None:
        text, delimiter, name = _without_runs_of_spaces(text, lines), "\t", "spaces"
        lines = _lines(text[:_SAMPLED_BYTES])[:SAMPLED_ROWS]
    else:
        name = _DELIMITERS[delimiter]
    rows = [_cells(line, delimiter) for line in lines]
    head, first = find_head(rows)
    width = len(rows[first]) if first < len(rows) else len(rows[head])
    notes = [f"{name} separated"] if name != "comma" else []
    notes += [encoding] if encoding else []
    if banners := sum(bool(line.strip()) for line in lines[:head]):
        notes.append(f"{counted(banners, 'line')} above the table left out")
    whole = _without_cut_line(text, delimiter, rows[first:])
    if len(whole) < len(text):
        notes.append("the last line left out: it is cut off, as in a file that is not complete")
    return Table(
        cells=_read(whole, delimiter, first, width),
        heads=heads_of(rows[head:first], width),
        form=BY_COMMAS if name == "comma" else "text",
        notes=tuple(notes),
    )


def _with_newlines(text: bytes) -> bytes:
    """Replace line ends that are a return alone, or several returns before a newline, by newlines."""
    returns, pairs = text.count(b"\r"), text.count(b"\r\n")
    if b"\r\r\n" in text or returns - pairs > text.count(b"\n"):
        return re.sub(rb"\r+\n|\r", b"\n", text)
    return text


def _lines(text: bytes) -> list[str]:
    # Counted as the CSV reader counts lines: only a newline ends a line.
    return [line.replace("\r", " ") for line in text.decode("utf-8", "replace").removesuffix("\n").split("\n")]


def _cells(line: str, delimiter: str) -> list[str]:
    # A quotation mark that is never closed is an ordinary character. So is one in a line that is too long for `csv`.
    if line.count('"') % 2 or len(line) > csv.field_size_limit():
        return [cell.strip().strip('"') for cell in line.split(delimiter)]
    return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]


def _delimiter(lines: Sequence[str]) -> str | None:
    """Return the delimiter that gives the most rows of one width with numbers; None for columns separated by spaces."""
    scores = {delimiter: _score([_cells(line, delimiter) for line in lines]) for delimiter in _DELIMITERS}
    best = max(scores, key=lambda each: scores[each])
    if scores[best] > 0:
        return best
    if any(numbers_of(re.split(r"\s+", line)) >= 2 for line in lines):
        return None
    return next((each for each in _DELIMITERS if any(each in line for line in lines)), ",")


def _score(rows: Sequence[Sequence[str]]) -> int:
    # A row of a day and a number has two cells. At least a quarter of the cells after the first must be numbers.
    wide = [row for row in rows if len(row) > 1]
    widths = [len(row) for row in wide if numbers_of(row) >= max(1, (len(row) - 1) // 4)]
    return max((widths.count(width) for width in set(widths)), default=0)


def _without_runs_of_spaces(text: bytes, lines: Sequence[str]) -> bytes:
    """Replace spaces by tabs: runs of at least two spaces when that gives columns, otherwise all runs."""
    wide = [row for row in (re.split(r"\s{2,}", line.strip()) for line in lines) if numbers_of(row) >= 2]
    pattern = rb"[^\S\r\n]{2,}" if wide and len(wide) * 2 >= len(lines) else rb"[^\S\r\n]+"
    # A pandas index without a name makes the head begin with spaces.
    indented = re.sub(rb"(?m)^[^\S\r\n]{2,}(?=[A-Za-z])", b"\t", text)
    return re.sub(pattern, b"\t", re.sub(rb"(?m)^ +|[^\S\r\n]+$", b"", indented))


def _without_cut_line(text: bytes, delimiter: str, rows: Sequence[Sequence[str]]) -> bytes:
    """Return `text` without its last line if that has no line end and only some of the cells that all `rows` have.

    The last price or volume of such a line may lack digits, for example while the file is still being written.
    """
    end = text.rfind(b"\n") + 1
    cells = _cells(_lines(text[end:])[0], delimiter)
    if not end or len(cells) < 3 or numbers_of(cells) < 2:  # not a bar, but a line below the table
        return text
    # The last of the rows may be this line.
    widths = {len(row) for row in rows[:-1]}
    return text[:end] if len(widths) == 1 and len(cells) < min(widths) else text


def _read(text: bytes, delimiter: str, first: int, width: int) -> pl.DataFrame:
    """Return the cells of the rows from line `first` on, counted from 0, without empty rows."""
    schema = {str(place): pl.String() for place in range(width)}
    if not text.strip():
        return pl.DataFrame(schema={**schema, LINE: pl.Int64()})

    def read(*, truncate: bool, quote: str | None = '"') -> pl.DataFrame:
        return pl.read_csv(
            BytesIO(text),
            separator=delimiter,
            has_header=False,
            skip_lines=first,
            schema=schema,
            quote_char=quote,
            truncate_ragged_lines=truncate,
        )

    try:
        cells = read(truncate=False)
    except pl.exceptions.NoDataError:
        return pl.DataFrame(schema={**schema, LINE: pl.Int64()})
    except pl.exceptions.ComputeError:
        _check_widths(text, delimiter, first, width)
        cells = read(truncate=True)
    cells = cells.with_columns(pl.all().str.strip_chars().replace("", None))
    return filled(cells, first)


def _check_widths(text: bytes, delimiter: str, first: int, width: int) -> None:
    """Refuse a row with more cells than the others, unless the extra cells are empty or the row is below the table."""
    lines = _lines(text)
    last = len(lines) - _MOST_FOOTERS
    for number, line in enumerate(lines[first:], start=first):
        cells = _cells(line, delimiter)
        if len(cells) > width and any(cells[width:]) and (number < last or numbers_of(cells) >= 2):
            hint = " (numbers with a decimal comma must be quoted)" if delimiter == "," else ""
            raise BarFileError(f"line {number + 1} has {len(cells)} cells where the others have {width}{hint}")
