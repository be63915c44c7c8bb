"""The table of a file before its interpretation: cells, the names above them, and facts from around it. No I/O."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from ema_assets.files.columns import UNNAMED, is_known, plain
from ema_assets.model.errors import BarFileError

# The number of first rows in which the head is searched. Vendors' banners are a few lines long.
SAMPLED_ROWS = 200
# The column with the row of the file, counted from 1, that each row of a table comes from.
LINE = "line"
_NUMBER = re.compile(r"[-+]?\s*[$€£¥₹]?\s*[-+]?\d[\d.,'\u00a0\u202f ]*(?:[eE][-+]?\d+)?\s*[KMBkmb%$€£¥₹]?")
# What vendors write where there is no number.
MISSING_MARKS = ("", ".", "-", "--", "n/a", "na", "nan", "null", "none", "#n/a", "#n/a n/a", "<na>", "nat")


def numbered(before: int = 0) -> pl.Expr:
    """Return the column LINE of rows that follow `before` rows of the file."""
    return pl.int_range(pl.len(), dtype=pl.Int64).alias(LINE) + before + 1


def filled(cells: pl.DataFrame, before: int) -> pl.DataFrame:
    """Return `cells` with the column LINE, as `numbered` counts it, without rows that have no value."""
    return cells.with_columns(numbered(before)).filter(~pl.all_horizontal(pl.exclude(LINE).is_null()))


# The form of text whose cells are separated by commas.
BY_COMMAS = "CSV"


@dataclass(frozen=True, slots=True)
class Table:
    """The cells of a file.

    Attributes:
        cells: Columns `0`, `1`, … from the left, and `line`. The columns are strings, except that columns of Parquet
            and Feather keep their dtype.
        heads: Rows of names above the cells; none for a file that begins with its first bar.
        form: The kind of file, such as `CSV`.
        notes: Remarks for a person on how the file was read, such as the delimiter.
        facts: Facts from outside the table: `symbol`, `timeframe`, or the `zone` of its times.
    """

    cells: pl.DataFrame
    heads: tuple[tuple[str, ...], ...]
    form: str
    notes: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The names of the columns as `plain` spells them; empty for a file without a head."""
        return [plain(name) for name in self.heads[-1]] if self.heads else []

    def sample(self, rows: int = 50) -> list[list[str]]:
        """Return the first rows as text."""
        part = self.cells.drop(LINE).head(rows).select(pl.all().cast(pl.String, strict=False).fill_null(""))
        return [list(row) for row in part.rows()]


def numbers_of(row: Sequence[str]) -> int:
    """Return how many cells of `row` contain a number."""
    return sum(bool(_NUMBER.fullmatch(cell.strip())) for cell in row)


def find_head(rows: Sequence[Sequence[str]]) -> tuple[int, int]:
    """Return the indices in `rows`, the first rows of a file, where the names and the bars begin; equal without names.

    Bars are rows of the usual width that contain numbers. Names are the rows of that width directly above them.

    Raises:
        BarFileError: when there is no table of bars. The message does not name the file.
    """
    width = _usual_width(rows)
    first = next((place for place, row in enumerate(rows) if _is_bar(row, width)), None)
    if first is None:
        named = next((place for place, row in enumerate(rows) if sum(is_known(plain(c)) for c in row) >= 3), None)
        if named is None:
            raise BarFileError(_no_table(rows))
        return named, named + 1
    while first and _is_empty_bar(rows[first - 1], width):
        first -= 1
    above = _top_of_head(rows, first, width)
    if above == first and (below := _below_banners(rows, first, width)) is not None:
        return below
    return above, first


def _top_of_head(rows: Sequence[Sequence[str]], first: int, width: int) -> int:
    """Return the index of the uppermost row of names above the bar at `first`; `first` when there is none."""
    above = first
    for place in range(first - 1, -1, -1):
        # pandas prints the name of its index on a line of its own.
        if not any(rows[place]) or (len(rows[place]) == 1 and is_known(plain(rows[place][0]))):
            continue
        # R omits the name of the column of row names. A trailing delimiter makes a column without a name.
        if len(rows[place]) not in (width - 1, width, width + 1) or not _is_head(rows[place]):
            break
        above = place
    return above


def _below_banners(rows: Sequence[Sequence[str]], first: int, width: int) -> tuple[int, int] | None:
    """Return where names and bars begin when the rows from `first` on are banners, such as `Account,1234,,,,`.

    Spreadsheets fill each row of a banner up to the width of the table. The rows above the names are banners when they
    have fewer numbers than the bars below; otherwise they are bars, and the result is None.
    """
    names = next((place for place in range(first, len(rows)) if _is_full_head(rows[place], width)), len(rows))
    bars = next((place for place in range(names, len(rows)) if _is_bar(rows[place], width)), len(rows))
    if bars == len(rows) or max(map(numbers_of, rows[first:names])) >= numbers_of(rows[bars]):
        return None
    return _top_of_head(rows, bars, width), bars


def _usual_width(rows: Sequence[Sequence[str]]) -> int:
    widths = [len(row) for row in rows if len(row) > 1 and numbers_of(row) >= max(1, len(row) // 4)]
    return max(sorted(set(widths), reverse=True), key=widths.count, default=0)


def _is_bar(row: Sequence[str], width: int) -> bool:
    # A row of a day and a value has two cells, and the day may not look like a number.
    return len(row) == width > 1 and numbers_of(row) >= max(1, (width - 1) // 4) and not _is_head(row)


def _is_empty_bar(row: Sequence[str], width: int) -> bool:
    """Return whether a row is a time without prices, as before an instrument's first day, and not a row of names."""
    return (
        len(row) == width > 1
        and row[0][:1].isdigit()
        and all(cell[:1].isdigit() or cell.lower() in MISSING_MARKS for cell in row)
    )


def _is_head(row: Sequence[str]) -> bool:
    known = sum(is_known(plain(cell)) for cell in row if cell.strip())
    return known >= 2 or (numbers_of(row) == 0 and any(cell.strip() for cell in row) and len(row) > 1)


def _is_full_head(row: Sequence[str], width: int) -> bool:
    """Return whether a row has words in all columns, as the names of a table in any language, and no banner."""
    # A trailing delimiter makes a column without a name.
    return len(row) == width > 2 and numbers_of(row) == 0 and all(row[:-1]) and not _is_empty_bar(row, width)


def _no_table(rows: Sequence[Sequence[str]]) -> str:
    shown = next((" ".join(row).strip() for row in rows if any(cell.strip() for cell in row)), "")
    if re.match(r"<(!doctype|html|\?xml|head|body)", shown, re.IGNORECASE):
        return "is a web page, not bars; download the file itself"
    found = f"its first line is {shown[:80]!r}" if shown else "it is empty"
    return f"holds no table of bars: {found}"


def heads_of(rows: Sequence[Sequence[str]], width: int) -> tuple[tuple[str, ...], ...]:
    """Return the rows of names among `rows`, each with `width` names."""
    return tuple(_with_row_names(row, width) for row in rows if any(row) and (len(row) > 1 or width == 1))


def _with_row_names(head: Sequence[str], width: int) -> tuple[str, ...]:
    """Return the names of `width` columns. R omits the name of the first column, its row names."""
    if len(head) == width - 1 and plain(head[0]) not in UNNAMED:
        return ("", *head)
    return (*head, *[""] * (width - len(head)))[:width]
