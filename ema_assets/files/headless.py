"""Files without names of columns that no layout claims: what their columns seem to be. Decides nothing."""

import polars as pl

from ema_assets.files.cells import Table, numbers_of
from ema_assets.files.times import joined, read_times
from ema_assets.model.errors import BarFileError, FileReading

_SHOWN = 50


def guessed_columns(table: Table) -> tuple[str, list[FileReading]]:
    """How to say that a file has no head, and the likeliest `--columns`, with what speaks for it.

    Raises:
        BarFileError: when there is nothing to guess by; without the path of the file.
    """
    rows = [[float(cell) if _is_plain(cell) else None for cell in row] for row in table.sample(_SHOWN)]
    texts = table.sample(1)[0]
    width = len(texts)
    start = _first_price(texts)
    times = ["ts"] if start == 1 else ["date", "time"] if start == 2 else ["symbol", "date", "time"][: max(start, 0)]
    prices = width - start
    written = joined(
        [pl.Series(part) for part in zip(*(row[:start][-2:] for row in table.sample(_SHOWN)), strict=True)]
    )
    if read_times(written, "dmy").wall.null_count() * 2 > len(written):
        raise BarFileError(f"holds no table of bars: its first row is {' '.join(texts).strip()[:80]!r}")
    if prices in (2, 3):
        raise BarFileError("has no head that names its columns; `--columns` says what each of them is")
    names = ["close"] if prices == 1 else ["open", "high", "low", "close", "volume"][:prices]
    evidence = "its columns are in the usual order"
    if prices >= 4:
        values = [[cell for cell in row[start : start + 4] if cell is not None] for row in rows]
        full = [row for row in values if len(row) == 4]
        high, low = _extreme(full, max), _extreme(full, min)
        if high is not None and low is not None and high != low:
            names = [*_named(high, low), *["volume"] * (prices > 4)]
            evidence = f"column {start + high + 1} is the highest and column {start + low + 1} the lowest of each row"
    columns = [*times, *names, *["-"] * (width - len(times) - len(names))]
    return "has no head that names its columns", [FileReading(evidence, (("columns", ",".join(columns)),))]


def _is_plain(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _first_price(texts: list[str]) -> int:
    """The place of the first price: behind a time, or a day and a time, or a symbol too."""
    for place in range(1, min(4, len(texts))):
        rest = texts[place:]
        has_separators = any(sign in texts[place] for sign in (":", "/")) or texts[place].count("-") > 1
        is_compact = (
            texts[place].isdigit() and len(texts[place]) in (4, 6, 8) and place < 3 and "." in "".join(rest[1:])
        )
        if numbers_of(rest) == len(rest) and not has_separators and not (is_compact and len(rest) > 5):
            return place
    return 1


def _extreme(rows: list[list[float]], pick: object) -> int | None:
    for place in range(4):
        if rows and all(row[place] == pick(row) for row in rows):  # type: ignore[operator]
            return place
    return None


def _named(high: int, low: int) -> list[str]:
    rest = iter(["open", "close"])
    return ["high" if place == high else "low" if place == low else next(rest) for place in range(4)]
