"""Files without column names: checks whether prices are in the order of a layout, and guesses the columns."""

import re
from collections.abc import Sequence
from itertools import takewhile

import polars as pl

from ema_assets.files.cells import Table, numbers_of
from ema_assets.files.joined_times import joined
from ema_assets.files.options import IGNORED
from ema_assets.files.times import read_times
from ema_assets.files.words import timeframe_key
from ema_assets.model.errors import AmbiguousBarFile, BarFileError, FileReading

_SHOWN = 50
# The highest price of a bar is at most this many times its lowest.
_MOST_APART = 2
# It takes more rows than these to tell an open from a close.
_FEW = 5
# What may stand before the prices of a row; tried in this order when it is not what the first row suggests.
_BEGINNINGS = (
    ("symbol", "ts"),
    ("symbol", "date", "time"),
    ("symbol", "timeframe", "ts"),
    ("symbol", "timeframe", "date", "time"),
    ("ts",),
    ("date", "time"),
)
_DAY = re.compile(r"\d{8}|\d{4}[-/.]\d{2}[-/.]\d{2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}")
_TIME_OF_DAY = re.compile(r"(?:[1-9]|1\d|2[0-3])[0-5]\d|[0-5]?\d")
_USUAL_ORDER = ("open", "high", "low", "close")
# The percentage of rows that must fit an unusual order, among the rows that fit only that or only the usual order.
_NEARLY_ALL = 95


def are_prices_in_order(table: Table, columns: Sequence[str]) -> bool:
    """Return whether the prices of `table`, which has no head, are in the order of `columns`, roles from the left.

    A bar whose prices are all equal fits every order, so the other bars decide. If there are none, only the usual order
    is accepted.
    """
    places = [place for place, role in enumerate(columns) if role in _USUAL_ORDER]
    roles = [role for role in columns if role in _USUAL_ORDER]
    prices = _numbers(table, places).drop_nulls()
    flags = prices.select(
        own=_fits(dict(zip(roles, prices.columns, strict=True))),
        usual=_fits(dict(zip(_USUAL_ORDER, prices.columns, strict=True))),
        is_telling=_is_telling(prices.columns),
    ).filter("is_telling")
    if int(flags["own"].sum()) * 2 < flags.height:
        return False
    if tuple(roles) == _USUAL_ORDER:
        return True
    own_only = flags.filter(pl.col("own") & ~pl.col("usual")).height
    usual_only = flags.filter(pl.col("usual") & ~pl.col("own")).height
    return own_only > 0 and own_only * 100 >= (own_only + usual_only) * _NEARLY_ALL


def _numbers(table: Table, places: Sequence[int]) -> pl.DataFrame:
    return table.cells.select(pl.col(str(place)).cast(pl.Float64, strict=False) for place in places)


def _fits(column: dict[str, str]) -> pl.Expr:
    """Return whether the high is the highest price of a bar and the low the lowest. `column` is by role."""
    every = list(column.values())
    return (pl.col(column["high"]) == pl.max_horizontal(every)) & (pl.col(column["low"]) == pl.min_horizontal(every))


def _is_telling(names: Sequence[str]) -> pl.Expr:
    return pl.max_horizontal(*names) > pl.min_horizontal(*names)


def guessed_columns(table: Table) -> tuple[str, list[FileReading]]:
    """Return a message that the file has no head, and the likeliest `--columns` with the evidence for it.

    Raises:
        BarFileError: when there is no basis for a guess. The message does not name the file.
    """
    texts = table.sample(1)[0]
    width = len(texts)
    start, prices = _first_price(texts)
    rows = table.sample(_SHOWN)
    if start == 1 and width > 2 and _are_times_of_day(rows):
        start, prices = 2, prices - 1
    times = ["ts"] if start == 1 else ["date", "time"] if start == 2 else ["symbol", "date", "time"][: max(start, 0)]
    if _are_no_times(rows, times):
        possible = [each for each in _BEGINNINGS if _begins(rows, each)]
        if not possible:
            raise BarFileError(f"holds no table of bars: its first row is {' '.join(texts).strip()[:80]!r}")
        times = list(next((each for each in possible if _have_usual_order(rows, len(each))), possible[0]))
        start = len(times)
        prices = len(_numbers_at_start(texts[start:]))
    if prices in (2, 3):
        raise BarFileError("has no head that names its columns; `--columns` says what each of them is")
    names = ["close"] if prices == 1 else [*_USUAL_ORDER, "volume"][:prices]
    evidence = "its columns are in the usual order"
    if prices >= 4:
        ahead = _columns_ahead(table, start, prices)
        first = start + ahead
        full = _telling_prices(table, first)
        high, low = _extreme(full, max), _extreme(full, min)
        if high is not None and low is not None and high != low:
            direction = _direction(rows, times)
            named = _named(high, low, is_close_first=_begin_with_closes(table, first, (high, low), direction))
            after = _after_prices(table, first, high, low, prices - 4) if not ahead else []
            names = [*["volume", *[IGNORED] * ahead][:ahead], *named, *after]
            evidence = f"column {first + high + 1} is the highest and column {first + low + 1} the lowest of each row"
    columns = [*times, *names, *[IGNORED] * (width - len(times) - len(names))]
    return "has no head that names its columns", [FileReading(evidence, (("columns", ",".join(columns)),))]


def _are_times_of_day(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether days stand first and times of day such as 930 second: no two rows of a day have the same."""
    begin = [row[:2] for row in rows]
    are_of_form = all(_DAY.fullmatch(day) and _TIME_OF_DAY.fullmatch(clock) for day, clock in begin)
    return are_of_form and len({day for day, _ in begin}) < len(begin) == len(set(map(tuple, begin)))


def _begins(rows: Sequence[Sequence[str]], roles: Sequence[str]) -> bool:
    """Return whether `rows` begin with columns of these `roles`, and prices follow."""
    start = len(roles)
    return (
        all(_numbers_at_start(row[start:]) for row in rows)
        and not _are_no_times(rows, roles)
        and ("symbol" not in roles or not any(numbers_of(row[:1]) for row in rows))
        and ("timeframe" not in roles or all(timeframe_key(row[1]) for row in rows))
    )


def _have_usual_order(rows: Sequence[Sequence[str]], start: int) -> bool:
    if any(len(row) < start + 4 for row in rows):
        return False
    frame = pl.DataFrame(
        [row[start : start + 4] for row in rows], orient="row", schema=list(_USUAL_ORDER), strict=False
    )
    prices = frame.select(pl.all().cast(pl.Float64, strict=False)).drop_nulls()
    return prices.height > 0 and bool(prices.select(_fits({role: role for role in _USUAL_ORDER}).all()).item())


def _numbers_at_start(texts: Sequence[str]) -> list[str]:
    return list(takewhile(lambda each: numbers_of([each]), texts))


def _times(rows: Sequence[Sequence[str]], roles: Sequence[str]) -> pl.Series:
    places = [place for place, role in enumerate(roles) if role in ("ts", "date", "time")]
    return joined([pl.Series([row[place] for row in rows], dtype=pl.String) for place in places])


def _are_no_times(rows: Sequence[Sequence[str]], roles: Sequence[str]) -> bool:
    texts = _times(rows, roles)
    try:
        return read_times(texts, None).wall.null_count() * 2 > len(texts)
    except AmbiguousBarFile:
        # Dates with an unclear order are times, too. The order is decided once the columns are known.
        return False


def _telling_prices(table: Table, start: int) -> list[list[float]]:
    """Return the four prices from column `start` on, of the first rows in which they are not all equal."""
    prices = _numbers(table, range(start, start + 4)).drop_nulls()
    return [list(row) for row in prices.filter(_is_telling(prices.columns)).head(_SHOWN).rows()]


def _first_price(texts: list[str]) -> tuple[int, int]:
    """Return the place of the first price, and how many numbers there are from it on.

    Before it there is a time, or a day and a time, and possibly a symbol. After the numbers there may be words, such as
    a currency, and empty cells.
    """
    for place in range(1, min(4, len(texts))):
        numbers = _numbers_at_start(texts[place:])
        has_separators = any(sign in texts[place] for sign in (":", "/")) or texts[place].count("-") > 1
        is_compact = (
            texts[place].isdigit() and len(texts[place]) in (4, 6, 8) and place < 3 and "." in "".join(numbers[1:])
        )
        if numbers and not has_separators and not (is_compact and len(numbers) > 5):
            return place, len(numbers)
    return 1, len(texts) - 1


def _after_prices(table: Table, start: int, high: int, low: int, count: int) -> list[str]:
    """Return the roles of the first of the `count` numbers that follow the prices of each row.

    A number that is always between low and high is the average price of the bar. The volume follows it.
    """
    numbers = _numbers(table, range(start, start + 4 + min(count, 2))).drop_nulls().head(_SHOWN).rows()
    is_average = count > 1 and bool(numbers) and all(row[low] <= row[4] <= row[high] for row in numbers)
    return [IGNORED, "volume"] if is_average else ["volume"][:count]


def _extreme(rows: list[list[float]], pick: object) -> int | None:
    for place in range(4):
        if rows and all(row[place] == pick(row) for row in rows):  # type: ignore[operator]
            return place
    return None


def _columns_ahead(table: Table, start: int, count: int) -> int:
    """Return how many of the `count` numbers from column `start` on precede the prices, such as a volume.

    The prices of a bar are near one another.
    """
    for ahead in range(count - 3):
        rows = _telling_prices(table, start + ahead)
        # Prices that are all equal are near one another, too.
        if all(0 < max(row) <= min(row) * _MOST_APART for row in rows):
            return ahead
    return 0


def _begin_with_closes(table: Table, first: int, extremes: tuple[int, int], direction: int) -> bool:
    """Return whether the first of the two prices that are neither high nor low (`extremes`) is the close.

    A bar opens near the close of the one before. `direction` is 1 when that is in the row above, and 0 when unknown.
    """
    left, right = (place for place in range(4) if place not in extremes)
    prices = _numbers(table, [first + left, first + right]).drop_nulls().head(_SHOWN)
    one, two = prices.columns
    # In rows in the order of time, the second price leads to the first of the next row if it is the close.
    onward = float(prices.select((pl.col(one).shift(-1) - pl.col(two)).abs().sum()).item())
    back = float(prices.select((pl.col(two).shift(-1) - pl.col(one)).abs().sum()).item())
    return prices.height > _FEW and (back - onward) * direction < 0


def _direction(rows: Sequence[Sequence[str]], roles: Sequence[str]) -> int:
    """Return 1 when the rows begin with the oldest bar, -1 when they begin with the newest one, and else 0."""
    try:
        wall = read_times(_times(rows, roles), None).wall.drop_nulls()
    except AmbiguousBarFile:
        return 0
    return int(wall.is_sorted()) - int(wall.is_sorted(descending=True))


def _named(high: int, low: int, *, is_close_first: bool = False) -> list[str]:
    rest = iter(["close", "open"] if is_close_first else ["open", "close"])
    return ["high" if place == high else "low" if place == low else next(rest) for place in range(4)]
