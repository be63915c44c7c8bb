"""The names of columns that vendors use, and the role of each column of a file. Reads no values."""

import re
from collections.abc import Mapping, Sequence

from ema_assets.files.declaration import Layout
from ema_assets.files.options import IGNORED
from ema_assets.model.counts import noun
from ema_assets.model.errors import AmbiguousBarFile, BarFileError, FileReading

_PRICES = ("open", "high", "low", "close")

# Zones in the names of columns of times, as in `Time (EET)`. They do not say whether summer time is meant.
_ZONES = ("utc", "gmt", "eet", "cet", "est", "et", "ny", "local")

# Column names by role, as `plain` spells them, in the order in which they are tried.
_ALIASES: Mapping[str, tuple[str, ...]] = {
    "ts": (
        *("ts", "timestamp", "datetime", "date time", "opentime", "open time", "time period start"),
        *("time open", "timeopen", "time left"),
        *("starttime", "start time", "start", "begin", "begins at", "bartime", "bar time", "unix", "unix timestamp"),
        *("gmt time", "utc time", "utc", "local time", "observation date", "exchange date"),
        *(f"{name} {zone}" for name in ("datetime", "date time", "timestamp") for zone in _ZONES),
        *("window start", "time key", "snapped at", "mts", "t"),
    ),
    "date": (
        *("date", "dates", "day", "tradedate", "trade date", "datum", "data", "fecha"),
        *(f"date {zone}" for zone in _ZONES),
    ),
    "time": ("time", "hour", "zeit", *(f"time {zone}" for zone in _ZONES)),
    "open": (
        *("open", "o", "1 open", "open price", "openprice", "price open", "trade open", "first", "px open"),
        "opening price",
    ),
    "high": (
        *("high", "h", "2 high", "high price", "highprice", "price high", "trade high", "max", "px high"),
        "highest price",
    ),
    "low": (
        *("low", "l", "3 low", "low price", "lowprice", "price low", "trade low", "min", "px low"),
        "lowest price",
    ),
    "close": (
        *("close", "c", "4 close", "close price", "closeprice", "price close", "trade close", "close last", "px last"),
        *("closing price", "last", "last price", "latest", "price", "settle", "value"),
    ),
    "volume": (
        *("volume", "v", "vol", "5 volume", "6 volume", "shares traded", "no of shares", "total volume"),
        *("tradedvolume", "total traded quantity", "quantity", "qty", "tick volume", "tickvolume", "px volume"),
        *("trade volume", "number of shares", "volume traded", "size"),
        # Of CryptoCompare: in the base currency, beside `volumeto` in the quote currency.
        "volumefrom",
    ),
    "symbol": (
        *("symbol", "ticker", "instrument", "sym", "s", "code", "pair", "name", "tradingsymbol", "ticker symbol"),
        "secid",
    ),
    "timeframe": ("timeframe", "time frame", "tf", "interval", "period", "per", "resolution", "granularity", "barsize"),
}
# Words after `volume` in the names of columns with money, averages and other things.
_NO_UNITS = frozenset(
    {
        *("usd", "usdt", "usdc", "busd", "eur", "gbp", "jpy", "krw", "currency", "quote", "money", "notional", "value"),
        *("ma", "sma", "ema", "avg", "average", "change", "chg", "weighted", "price", "buy", "sell", "bid", "ask"),
        *("up", "down", "delta", "ratio", "percent", "profile", "oscillator", "yesterday", "previous"),
    }
)
# Names of columns that contain symbols in some files, and company names or a single word in others.
_MAYBE_SYMBOLS = (
    *("ric", "act symbol", "stock symbol", "ts code", "tic", "product id", "epic", "stock code", "security code"),
    *("scrip code", "instrument code", "stock", "security", "scrip", "asset", "instrument name"),
)
# Names of prices that are adjusted for dividends. Stored prices are not.
ADJUSTED = ("adj close", "adjusted close", "5 adjusted close", "adjclose")
_PANDAS_INDEX = "index level 0"
# Names of an index that was saved without a name.
UNNAMED = ("", "unnamed 0", _PANDAS_INDEX, "index")


def plain(name: str) -> str:
    """Normalise the name of a column for comparison: lower case, words of letters and digits with one space between."""
    split = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name) if re.search(r"[a-z][A-Z][a-z]", name) else name
    words: list[str] = re.findall(r"[^\W_]+", split.lower())
    return " ".join(words)


def is_known(name: str) -> bool:
    """Return whether `name` (as `plain` spells it) is a usual name of a column."""
    return name in ADJUSTED or any(name in names for names in _ALIASES.values())


def roles(names: Sequence[str], layout: Layout) -> dict[str, int]:
    """Return the position of the column of each role, from the `names` (as `plain` spells them) of all columns.

    Roles are `ts`, or `date` with or without `time`, and the others of `options.ROLES`. Roles without a column are
    missing. A file with one price per row has it as `close` only. If the name of the column of `symbol` is one of
    `may_be_symbols`, the caller must check its values.

    Raises:
        BarFileError: when a needed name occurs twice. The message does not name the file.
    """
    found: dict[str, int] = {}
    for role, aliases in _ALIASES.items():
        own = layout.columns.get(role)
        if own == ():
            continue
        for alias in (*((own,) if isinstance(own, str) else own or ()), *aliases):
            if alias in names and names.index(alias) not in found.values():
                if names.count(alias) > 1:
                    raise BarFileError(f"two columns are called {alias}; leave one of them")
                found[role] = names.index(alias)
                break
    found = _with_one_time(found, names, layout)
    if "volume" not in found:
        found |= _volume_of_unit(names)
    if "close" not in found:
        found |= _single_value(names, found)
    maybe = [names.index(each) for each in _MAYBE_SYMBOLS if names.count(each) == 1]
    left = [place for place in maybe if place not in found.values()]
    return found if "symbol" in found or "symbol" in layout.columns or not left else found | {"symbol": left[0]}


def _with_one_time(found: Mapping[str, int], names: Sequence[str], layout: Layout) -> dict[str, int]:
    """Return the columns with `ts`, or `date` with or without `time`, and not both; neither when there is none."""
    left = dict(found)
    if "ts" in left and not {"ts", "date"} & layout.columns.keys():
        # A column with the full time needs no further columns.
        left.pop("date", None)
        left.pop("time", None)
    elif "date" in left:
        left.pop("ts", None)
    elif "time" in left:
        left["ts"] = left.pop("time")
    elif "ts" not in left and names and names[0] in UNNAMED:
        left["ts"] = 0
    elif "ts" not in left and names and names[-1] == _PANDAS_INDEX:
        # pandas stores an index without a name behind the columns of a Parquet file.
        left["ts"] = len(names) - 1
    return left


def _volume_of_unit(names: Sequence[str]) -> dict[str, int]:
    """Return the first volume that is called by its unit, as in `Volume_(BTC)`; not one in money, nor an average."""
    for place, name in enumerate(names):
        if name.startswith("volume ") and not set(name.split()[1:]) & _NO_UNITS:
            return {"volume": place}
    return {}


def may_be_symbols(name: str) -> bool:
    """Return whether a column of this `name` (as `plain` spells it) may contain symbols or something else."""
    return name in _MAYBE_SYMBOLS


def _single_value(names: Sequence[str], found: Mapping[str, int]) -> dict[str, int]:
    """Return the close of a file with two columns, a day and a value, whatever the second one is called."""
    rest = [place for place in range(len(names)) if place not in found.values()]
    has_time = {"ts", "date"} & found.keys()
    return {"close": rest[0]} if has_time and len(names) == 2 and len(rest) == 1 else {}


def check_prices(found: Mapping[str, int], names: Sequence[str]) -> None:
    """Check that there are a time and prices: all four, or only a close that is not adjusted for dividends.

    Raises:
        AmbiguousBarFile: when the only price is adjusted for dividends.
        BarFileError: when a column is missing. The message names the missing and the present columns, not the file.
    """
    missing = [] if {"ts", "date"} & found.keys() else ["ts"]
    prices = [role for role in _PRICES if role in found]
    if prices != ["close"]:
        missing += [role for role in _PRICES if role not in found]
    if not missing and names[found["close"]] in ADJUSTED:
        by_place = {place: role for role, place in found.items()}
        columns = ",".join(by_place.get(place, IGNORED) for place in range(len(names)))
        raise AmbiguousBarFile(
            f"its only price is {names[found['close']].title()}, which is adjusted for dividends, and stored prices "
            "are not; get a file with Close",
            [FileReading("stored as the close anyway", (("columns", columns),))],
        )
    if missing and not any(is_known(name) for name in names):
        raise BarFileError("holds no table of bars: no column has a name that is known; `--columns` says what each is")
    if missing:
        shown = ", ".join(name or "(unnamed)" for name in names)
        raise BarFileError(
            f"lacks the {noun(len(missing), 'column')} {', '.join(missing)}; needed are ts (or date and "
            f"time), open, high, low, close, found are {shown}; `--columns` says what each column is"
        )


def volume_columns(names: Sequence[str], layout: Layout) -> list[int]:
    """Return the places of all columns that may contain the volume, the likeliest first."""
    own = layout.columns.get("volume", ())
    aliases = (*((own,) if isinstance(own, str) else own), *_ALIASES["volume"])
    return [names.index(alias) for alias in aliases if alias in names]
