"""Symbols, series and instruments, which are parsed once, at the edge. No I/O."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from ema_assets.model.errors import InvalidKeyError
from ema_assets.model.timeframes import ALLOWED, DEFAULT, Timeframe, by_key, same_as, with_bases

AssetClass = Literal["stocks", "funds", "indices", "futures", "fx", "crypto"]
ASSET_CLASSES: tuple[AssetClass, ...] = get_args(AssetClass)

# Our own calendars: crypto with one session per UTC day, and foreign exchange from 17:00 to 17:00 New York.
ALWAYS_OPEN = "24/7"
FX_CALENDAR = "24/5"
DEFAULT_CALENDAR = "XNYS"
# Exchanges whose trading week is, or was, Sunday to Thursday.
BEGIN_ON_SUNDAY = ("XSAU", "XTAE")
# The suffix of a calendar that includes the hours before and after the exchange's own.
EXTENDED_SUFFIX = " extended"
EXTENDED_CALENDARS = ("XNYS", "XNAS")


def without_hours(calendar: str) -> str:
    """Return the exchange's own calendar for `calendar`, which may include extended hours."""
    return calendar.removesuffix(EXTENDED_SUFFIX)


# The ways in which an EMA can start; signals/ema_signals.py explains them.
SEEDS = ("sma", "first")
# The values of a trend and of its flips. Signals write and strategies read them.
UP, DOWN = "up", "down"
BULLISH, BEARISH = "bullish", "bearish"
# The provider of a symbol whose bars come only from `ema-assets ingest`.
FROM_FILES = "file"

# Dagster reserves `|` for multi-partition keys and `,` `[` `]` for key ranges. Vendors use the others.
_SYMBOL = re.compile(r"[A-Za-z0-9^][A-Za-z0-9.\-_=^/:&]{0,31}")


def parse_symbol(text: str) -> str:
    """Return `text` as a symbol.

    Raises:
        InvalidKeyError: when it is empty, longer than 32 characters or has a character that no vendor uses.
    """
    if not _SYMBOL.fullmatch(text):
        raise InvalidKeyError(
            f"`symbol` must be 1 to 32 letters, digits or . - _ = ^ / : & and start with a letter, a digit or ^, "
            f"received {text!r}"
        )
    return text


def speller(known: Iterable[str]) -> Callable[[str], str | None]:
    """Return a function that finds the one of the `known` symbols that a person means, such as AAPL for `aapl`.

    An exact match wins. The function returns None if no symbol matches, or if several match except for capitals.
    """
    exact = frozenset(known)
    capitals: dict[str, str | None] = {}
    for symbol in exact:
        capitals[symbol.upper()] = None if symbol.upper() in capitals else symbol
    return lambda symbol: symbol if symbol in exact else capitals.get(symbol.upper())


def as_spelt(symbols: Iterable[str], known: Iterable[str]) -> list[str]:
    """Return `symbols` in the spelling of the `known` ones that they mean (`speller`), each once; others unchanged."""
    meant = speller(known)
    return list(dict.fromkeys(meant(symbol) or symbol for symbol in symbols))


def parse_timeframe(text: str, parameter: str = "timeframe") -> Timeframe:
    """Return `text`, the value of `parameter`, as a timeframe.

    Raises:
        InvalidKeyError: when no timeframe has this key.
    """
    try:
        return by_key(text)
    except KeyError:
        meant = same_as(text)
        hint = f"; did you mean `{meant.key}`?" if meant is not None else ""
        raise InvalidKeyError(f"`{parameter}` must be one of {ALLOWED}, received {text!r}{hint}") from None


@dataclass(frozen=True, slots=True, order=True)
class Series:
    """One symbol on one timeframe, written `AAPL|5m`: exactly one partition of every asset."""

    symbol: str
    timeframe: Timeframe

    @classmethod
    def parse(cls, text: str) -> "Series":
        """Read `AAPL|5m`.

        Raises:
            InvalidKeyError: when it is not a symbol and a timeframe around one `|`.
        """
        symbol, bar, timeframe = text.partition("|")
        if not bar:
            raise InvalidKeyError(f"a series must read SYMBOL|TIMEFRAME such as AAPL|5m, received {text!r}")
        return cls(parse_symbol(symbol), parse_timeframe(timeframe))

    def __str__(self) -> str:
        return f"{self.symbol}|{self.timeframe.key}"


@dataclass(frozen=True, slots=True, order=True)
class Instrument:
    """A symbol and what must be known to trade and fetch it.

    Attributes:
        symbol: the symbol.
        calendar: an exchange_calendars code (`XNYS`), one with extended hours (`XNYS extended`), `24/7` or `24/5`. All
            our providers treat an instrument that trades around the clock as crypto.
        provider: the name of its provider; None for the default one, `file` if its bars come only from files.
        allow_negative: whether its prices may be zero or less, as for spreads and some futures.
        timeframes: the timeframes on which assets are computed.
    """

    symbol: str
    calendar: str = DEFAULT_CALENDAR
    provider: str | None = None
    allow_negative: bool = False
    timeframes: tuple[Timeframe, ...] = DEFAULT

    @property
    def with_bars(self) -> tuple[Timeframe, ...]:
        """The timeframes with stored bars: `timeframes`, and those from which their bars are rolled up."""
        return with_bases(self.timeframes)

    @property
    def bars_only(self) -> tuple[Timeframe, ...]:
        """The timeframes whose bars are stored only because others are rolled up from them."""
        return tuple(each for each in self.with_bars if each not in self.timeframes)

    @property
    def is_fetched(self) -> bool:
        """Whether its bars are requested from a provider."""
        return self.provider != FROM_FILES

    @property
    def is_crypto(self) -> bool:
        """Whether it trades around the clock."""
        return self.calendar == ALWAYS_OPEN
