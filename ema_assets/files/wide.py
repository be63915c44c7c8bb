"""Converts tables with one column per price and ticker, named in one or two rows, to one row per bar. Reads no file."""

import re
from collections.abc import Mapping, Sequence

import polars as pl

from ema_assets.files.cells import LINE, Table
from ema_assets.files.columns import plain
from ema_assets.files.options import IGNORED
from ema_assets.model.errors import AmbiguousBarFile, FileReading

_PRICE, _TICKER = "price", "ticker"
# Column names in the converted table, by which its layout is recognised.
DATE, SYMBOL = "wide date", "wide ticker"
JOINED_DATE, JOINED_SYMBOL = "joined date", "joined ticker"
# `AAPL.Open` is how R's quantmod names columns. `Open_AAPL` comes from flattened pandas tables.
_FIELD = r"(?P<field>(?i:open|high|low|close|volume|adj(?:usted)?\.?(?:[ ._]?close)?|dividends|stock[ _]splits))"
_NAME = r"(?P<ticker>\^?(?=[0-9.]*[A-Z])[A-Z0-9][A-Z0-9.=^-]*)"
_JOINED = (re.compile(rf"{_NAME}[._ |:]{_FIELD}"), re.compile(rf"{_FIELD}[._ |:]{_NAME}"))
_PRICES = frozenset({"open", "high", "low", "close"})
# A ticker as the name of a column of prices, and how many of them are shown.
_TICKER_ALONE = re.compile(r"\^?(?=.*[A-Z])[A-Z0-9][A-Z0-9.=^&-]*")
_SHOWN = 3
# A time and four prices.
_FEWEST_NAMES = 5
# Words before a price that are not tickers.
_KINDS = frozenset({"BID", "ASK", "MID", "ADJ", "AVG", "RAW", "DAY", "PRE", "PREV", "PX", "LAST", "PRICE"})


def unpivoted(table: Table) -> Table:
    """Return `table` with one row per bar if its rows of names begin with `Price`, `Ticker` and `Date`; else unchanged.

    The first two may also be unnamed, as in files of older versions of yfinance.

    Rows without any value for a ticker, such as holidays of its exchange, are left out.
    """
    rows = {plain(row[0]): row for row in table.heads} | _unnamed(table.heads)
    if _PRICE not in rows:
        return _of_joined(_of_tuples(table))
    prices = rows[_PRICE]
    tickers = rows.get(_TICKER)
    if tickers is None:
        # The table has one ticker and does not name it: `Price,Close,…` above `Date,,,`.
        return Table(table.cells, ((DATE, *prices[1:]),), table.form, table.notes, table.facts)
    return _stacked(table, prices[1:], tickers[1:])


def check_names_prices(table: Table, found: Mapping[str, int]) -> None:
    """Check that `table` is not one with a column per ticker that does not say which price it holds.

    `found` are the places of its columns by role.

    Raises:
        AmbiguousBarFile: when it is; it says how the closes of one ticker are read.
    """
    time = next((role for role in ("ts", "date") if role in found), None)
    names = table.heads[-1] if table.heads else ()
    tickers = [name.strip() for place, name in enumerate(names) if place not in found.values()]
    if time is None or _PRICES & found.keys() or len(tickers) < 2 or not all(map(_TICKER_ALONE.fullmatch, tickers)):
        return
    readings = []
    for ticker in tickers[:_SHOWN]:
        columns = [
            time if found[time] == place else "close" if name.strip() == ticker else IGNORED
            for place, name in enumerate(names)
        ]
        readings.append(FileReading(f"as the closes of {ticker}", (("symbol", ticker), ("columns", ",".join(columns)))))
    raise AmbiguousBarFile("has a column per symbol and does not say which of its prices that holds", readings)


def _unnamed(heads: Sequence[Sequence[str]]) -> dict[str, Sequence[str]]:
    """Return the rows of prices and of tickers, if these are the first two and only the third begins with a name."""
    if len(heads) != 3 or heads[0][0] or heads[1][0] or any(heads[2][1:]):
        return {}
    are_prices = [{plain(name) for name in row} >= _PRICES for row in heads[:2]]
    if are_prices == [True, False]:
        return {_PRICE: heads[0], _TICKER: heads[1]}
    return {_PRICE: heads[1], _TICKER: heads[0]} if are_prices == [False, True] else {}


def _of_tuples(table: Table) -> Table:
    """Convert a table from a Parquet file, whose names are pairs as Python prints them: `('Close', 'AAPL')`."""
    if not table.heads or not any(name.startswith("('") for name in table.heads[-1]):
        return table
    first, *rest = table.heads[-1]
    if first.startswith("('"):
        # pandas stores the index after the columns.
        *rest, first = table.heads[-1]
        names = table.cells.columns
        table = Table(
            table.cells.select(names[-2], *names[:-2], names[-1]).rename(
                dict(zip((names[-2], *names[:-2]), names[:-1], strict=True))
            ),
            table.heads,
            table.form,
            table.notes,
            table.facts,
        )
    pairs = [name.strip("()").replace("'", "").split(", ") for name in rest]
    if not all(len(pair) == 2 for pair in pairs):
        return table
    are_prices_first = any(plain(pair[0]) == "close" for pair in pairs)
    firsts, seconds = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    prices, tickers = (firsts, seconds) if are_prices_first else (seconds, firsts)
    return _stacked(table, prices, tickers)


def _of_joined(table: Table) -> Table:
    """Convert a table whose names join ticker and price: `AAPL.Open` or `Open_AAPL`."""
    if not table.heads or len(table.heads[-1]) < _FEWEST_NAMES:
        return table
    names = table.heads[-1][1:]
    for form in _JOINED:
        found = [match for name in names if (match := form.fullmatch(name.strip()))]
        tickers = [match["ticker"] for match in found]
        fields = ["Adj Close" if plain(match["field"]).startswith("adj") else match["field"] for match in found]
        is_whole = len(found) == len(names) and {plain(each) for each in fields} >= _PRICES
        if is_whole and not _KINDS & set(tickers):
            return _stacked(table, fields, tickers, (JOINED_DATE, JOINED_SYMBOL))
    return table


def _stacked(
    table: Table, prices: Sequence[str], tickers: Sequence[str], keys: tuple[str, str] = (DATE, SYMBOL)
) -> Table:
    fields = list(dict.fromkeys(prices))
    parts = []
    for ticker in dict.fromkeys(name for name in tickers if name):
        places = {
            price: str(place)
            for place, (price, own) in enumerate(zip(prices, tickers, strict=True), 1)
            if own == ticker
        }
        cells = table.cells.select(
            pl.col("0"),
            pl.lit(ticker).alias("1"),
            *(
                (pl.col(places[name]) if name in places else pl.lit(None, pl.String)).alias(str(place))
                for place, name in enumerate(fields, 2)
            ),
            pl.col(LINE),
        )
        parts.append(
            cells.filter(~pl.all_horizontal(pl.col(str(place)).is_null() for place in range(2, len(fields) + 2)))
        )
    # The volumes of one ticker may be integers, and those of another floats.
    stacked = pl.concat(parts, how="vertical_relaxed")
    return Table(stacked, ((*keys, *fields),), table.form, table.notes, table.facts)
