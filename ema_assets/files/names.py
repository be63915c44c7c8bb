"""Symbol and timeframe from the name of a file, which may also have dates and words of vendors. Opens no file."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ema_assets.files.discovery import discover
from ema_assets.files.words import seconds, timeframe_of

_ENDINGS = re.compile(
    r"(\.(csv|tsv|txt|json|ndjson|jsonl|xlsx|xls|parquet|pq|feather|arrow|gz|zip|bz2|xz|tar|tgz|dat|prn|asc))+$",
    re.IGNORECASE,
)
# Archives and workbooks. Their names count for the files and sheets in them.
_CONTAINER = re.compile(r"\.(zip|tar|tgz|tar\.(gz|bz2|xz)|xlsx|xls)$", re.IGNORECASE)
# The number that browsers append to a second download, a date, a range of dates, a record number, a year.
_NOISE = re.compile(r"\(\d+\)|\d{4}([-.]?\d{2}){1,2}([-.]?\d{2}){0,3}|\d{5,}|(19|20)\d{2}")
_PLAIN_WORDS = frozenset(
    {
        *("data", "download", "downloads", "export", "exports", "historical", "historicaldata", "history", "hist"),
        *("prices", "price", "quotes", "quote", "bars", "bar", "candles", "candle", "ohlc", "ohlcv", "table", "chart"),
        *("file", "my", "new", "old", "test", "sample", "output", "out", "result", "results", "market", "copy", "for"),
        *("of", "and", "the", "from", "to", "all", "series", "ts", "klines", "kline", "trades", "day", "close"),
        *("bid", "ask", "mid", "utc", "est", "adjusted", "unadjusted", "adj", "raw", "full", "spot", "stock", "stocks"),
        *("intraday", "daily", "equity", "index", "nasdaq", "nyse", "amex", "arca", "us", "eod"),
        *("first", "second", "last", "latest", "csv", "json", "txt", "tsv", "zip", "gz", "xlsx", "time", "values"),
        *("max", "candlestick", "candlesticks"),
    }
)
# When a name is a single word in capital letters, every other word may be a symbol: OLD, ALL, DAY.
_NO_SYMBOLS = frozenset({"data", "ohlc", "ohlcv", "csv", "export", "bars", "prices", "quotes", "history", "table"})
_SYMBOL = re.compile(r"\^?[A-Za-z0-9][A-Za-z0-9.\-=^&]{0,19}")
# Ranges of years, and dates with separators. Below, timeframes in two words: `5 minute`, `1-day`, `5_M`.
_DATES = re.compile(
    r"(19|20)\d{2}-(19|20)\d{2}(?!\d)|(19|20)\d{2}([-.]\d{2}){1,2}|\d{2}[-._]\d{2}[-._](19|20)\d{2}(?!\d)"
    r"|(?<!\d)(19|20)\d{2}(_\d{2}){2}(?!\d)"
)
_IN_TWO = re.compile(r"(?<![A-Za-z0-9])(\d{1,2})[ _-](m|min|minute|h|hour|d|day)s?(?![A-Za-z0-9])", re.IGNORECASE)
# TradingView writes `CME_MINI_ES1!`, where the number of a continuous future follows its root.
_PART_OF_EXCHANGE = re.compile(r"^([A-Z]+)_(MINI|GBX)_")
_CONTINUOUS = re.compile(r"\d!")
# `EURUSD60`, `XAUUSD1440`: a pair and minutes, as MetaTrader 4 names files.
_PAIR_AND_MINUTES = re.compile(r"([A-Z]{6}[a-z.]{0,2}|[A-Z]{3,6}USDT?)(5|15|30|60|240|1440)")


@dataclass(frozen=True, slots=True)
class Named:
    """Symbol, timeframe and exchange in a name, None when absent.

    `timeframe_seconds` may be a length that is no timeframe. With an `exchange`, the symbol is a ticker there. Without
    a symbol, `candidates` are the words that may be one.
    """

    symbol: str | None
    timeframe_seconds: int | None
    exchange: str | None = None
    candidates: tuple[str, ...] = ()


def from_name(path: Path, known: Collection[str] = ()) -> Named:
    """Return the symbol and the timeframe in the name of the file at `path`.

    A word in small letters is a symbol only when the name has a timeframe, or when it is one of the `known` symbols.
    What the name of a file in an archive or of a sheet in a workbook does not say, the name of the container may.
    """
    named = _from_text(path.name, known)
    outer = next((each.name for each in path.parents if _CONTAINER.search(each.name)), None)
    around = _from_text(outer, known) if outer else Named(None, None)
    of_symbol = named if named.symbol else around
    length = named.timeframe_seconds or around.timeframe_seconds
    return Named(of_symbol.symbol, length, of_symbol.exchange, () if of_symbol.symbol else named.candidates)


def _from_text(name: str, known: Collection[str]) -> Named:
    stem = _ENDINGS.sub("", name)
    if pair := _PAIR_AND_MINUTES.fullmatch(stem):
        return Named(pair[1], seconds(pair[2]))
    # TradingView: `NASDAQ_AAPL, 5.csv`. A number alone is a timeframe only there.
    stem, comma, rest = stem.partition(",")
    length = seconds(rest.strip().split("_")[0].split(" ")[0]) if comma else None
    layouts = discover()
    no_symbols = _PLAIN_WORDS.union(*(layout.words for layout in layouts))
    exchanges = frozenset[str]().union(*(layout.exchanges for layout in layouts)).difference(known)
    stem = _CONTINUOUS.sub("", _PART_OF_EXCHANGE.sub(r"\1_", _IN_TWO.sub(r"\1\2", _DATES.sub(" ", stem))))
    words = [word.strip("-.") for word in re.split(r"[_\s]+", stem) if word.strip("-.")]
    words = [part for word in words for part in _split_at_hyphens(word, known)]
    if len(words) == 1 and words[0].isupper() and words[0].lower() not in _NO_SYMBOLS:
        no_symbols = _NO_SYMBOLS
    left: list[str] = []
    places: list[str] = []
    for word in words:
        if word in exchanges and len(words) > 1:
            places.append(word)
        elif word not in known and (_NOISE.fullmatch(word) or word.lower() in no_symbols):
            length = length or (86_400 if word.lower() == "daily" else None)
        elif word not in known and (_is_timeframe(word) or (left and _is_bare_timeframe(word))):
            length = length or seconds(word)
        else:
            left.append(word)
    symbol = _symbol(left, known, has_length=length is not None)
    if symbol is None and not left and len(places) == 1 and places[0].lower() not in no_symbols:
        # `CME_1d`: companies that run exchanges, and others, have such tickers.
        return Named(places[0], length)
    if symbol is None and len(places) == 1 and len(left) == 1 and left[0].isdigit():
        symbol = left[0]
    if symbol is None:
        return Named(None, length, candidates=_candidates(left))
    return Named(symbol, length, places[0] if len(places) == 1 else None)


def _split_at_hyphens(word: str, known: Collection[str]) -> list[str]:
    """Split `BTCUSDT-1h-2025-01` into its parts, but keep `BTC-USD` and `BRK-B`: only other parts are cut off."""
    if word in known:
        return [word]
    parts = word.split("-")
    cut = next((place for place, part in enumerate(parts) if place and _is_cut(part)), len(parts))
    whole = "-".join(parts[:cut])
    return [whole, *parts[cut:]]


def _is_cut(part: str) -> bool:
    return bool(_NOISE.fullmatch(part)) or _is_timeframe(part) or part.lower() in _PLAIN_WORDS


def _is_timeframe(word: str) -> bool:
    # Letters alone (`D`) may be a symbol, and digits alone any number.
    return (
        seconds(word) is not None
        and (any(letter.isdigit() for letter in word) or word.lower() in ("daily", "hourly"))
        and not word.isdigit()
    )


def _is_bare_timeframe(word: str) -> bool:
    """Return whether a word after a symbol is a timeframe without a unit, as in `Bitstamp_BTCUSD_d` and `XBTUSD_60`."""
    return word.lower() in ("d", "h") or (word.isdigit() and timeframe_of(seconds(word)) is not None)


def _candidates(words: Sequence[str]) -> tuple[str, ...]:
    """Return the words that may be a symbol: those in capitals, or the only one, in small letters."""
    fitting = [word for word in words if _SYMBOL.fullmatch(word) and any(letter.isalpha() for letter in word)]
    return tuple(dict.fromkeys(word.upper() for word in fitting if word.isupper() or words == [word.lower()]))


def _symbol(words: list[str], known: Collection[str], *, has_length: bool) -> str | None:
    for word in words:
        if word in known:
            return word
        if word.upper() in known:
            return word.upper()
    fitting = [word for word in words if _SYMBOL.fullmatch(word) and any(letter.isalpha() for letter in word)]
    if len(words) == 2 and len(fitting) == 2 and all(re.fullmatch(r"[A-Z]{2,5}", word) for word in words):
        # A pair, written as `EUR_USD`.
        return "_".join(words)
    if len(fitting) != 1 or len(words) != 1:
        return None
    (word,) = fitting
    is_lower = word == word.lower() and any(letter.isalpha() for letter in word)
    if is_lower and not has_length and not re.fullmatch(r"\^?[a-z0-9-]{1,6}\.[a-z]{2}", word):
        return None
    return None if not is_lower and word != word.upper() else word.upper()
