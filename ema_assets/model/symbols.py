"""Symbols, series and instruments: parsed once, at the edge. No I/O."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from ema_assets.model.errors import InvalidKeyError
from ema_assets.model.timeframes import ALLOWED, DEFAULT, Timeframe, by_key, same_as, with_bases

AssetClass = Literal["stocks", "funds", "indices", "futures", "fx", "crypto"]
ASSET_CLASSES: tuple[AssetClass, ...] = get_args(AssetClass)

# Calendars of our own: crypto, one session per UTC day; and foreign exchange, from 17:00 to 17:00 New York.
ALWAYS_OPEN = "24/7"
FX_CALENDAR = "24/5"
DEFAULT_CALENDAR = "XNYS"
# Exchanges whose trading weeks go, or went, from Sunday to Thursday.
BEGIN_ON_SUNDAY = ("XSAU", "XTAE")
# A calendar with the hours before and after the exchange's own is written with this behind its code.
EXTENDED_SUFFIX = " extended"
EXTENDED_CALENDARS = ("XNYS", "XNAS")


def without_hours(calendar: str) -> str:
    """The calendar of the exchange of `calendar`, which may be one with extended hours."""
    return calendar.removesuffix(EXTENDED_SUFFIX)


# The ways an EMA can start: see signals/ema_signals.py, which says what they mean.
SEEDS = ("sma", "first")
# What a trend is called, and its flips: signals say it and strategies read it.
UP, DOWN = "up", "down"
BULLISH, BEARISH = "bullish", "bearish"
# The provider of a symbol whose bars come only from `ema-assets ingest`.
FROM_FILES = "file"

# Dagster keeps `|` for multi-partition keys and `,` `[` `]` for key ranges; the rest is what vendors use.
_SYMBOL = re.compile(r"[A-Za-z0-9^][A-Za-z0-9.\-_=^/:]{0,31}")


def parse_symbol(text: str) -> str:
    """Return `text` as a symbol.

    Raises:
        InvalidKeyError: when it is empty, longer than 32 characters or holds a character that no vendor uses.
    """
    if not _SYMBOL.fullmatch(text):
        raise InvalidKeyError(
            f"`symbol` must be 1 to 32 letters, digits or . - _ = ^ / : and start with a letter or digit, "
            f"received {text!r}"
        )
    return text


def speller(known: Iterable[str]) -> Callable[[str], str | None]:
    """What finds the one of the `known` symbols that a person means: by `aapl` AAPL, unless there are both.

    It finds None when there is none, or when several differ from it by their capitals alone.
    """
    exact = frozenset(known)
    capitals: dict[str, str | None] = {}
    for symbol in exact:
        capitals[symbol.upper()] = None if symbol.upper() in capitals else symbol
    return lambda symbol: symbol if symbol in exact else capitals.get(symbol.upper())


def as_spelt(symbols: Iterable[str], known: Iterable[str]) -> list[str]:
    """`symbols` by the spelling of the `known` ones that they mean (`speller`), each once; others as they are."""
    meant = speller(known)
    return list(dict.fromkeys(meant(symbol) or symbol for symbol in symbols))


def parse_timeframe(text: str) -> Timeframe:
    """Return `text` as a timeframe.

    Raises:
        InvalidKeyError: when there is none of that key.
    """
    try:
        return by_key(text)
    except KeyError:
        meant = same_as(text)
        hint = f"; did you mean `{meant.key}`?" if meant is not None else ""
        raise InvalidKeyError(f"`timeframe` must be one of {ALLOWED}, received {text!r}{hint}") from None


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

    `calendar` is an exchange_calendars code (`XNYS`), one with extended hours (`XNYS extended`), or `24/7`; an
    instrument that trades around the clock is crypto to every provider we speak to. `provider` is None for the
    configured one, the name of another, or `file` for a symbol that no provider is asked for. `allow_negative` when its
    prices may be zero or less, as those of spreads and of some futures. `timeframes` are those that are computed on.
    """

    symbol: str
    calendar: str = DEFAULT_CALENDAR
    provider: str | None = None
    allow_negative: bool = False
    timeframes: tuple[Timeframe, ...] = DEFAULT

    @property
    def with_bars(self) -> tuple[Timeframe, ...]:
        """The timeframes of which bars are kept: `timeframes`, and those that their bars are rolled up from."""
        return with_bases(self.timeframes)

    @property
    def bars_only(self) -> tuple[Timeframe, ...]:
        """Those of which bars are kept only because others are rolled up from them."""
        return tuple(each for each in self.with_bars if each not in self.timeframes)

    @property
    def is_fetched(self) -> bool:
        """True when a provider is asked for its bars."""
        return self.provider != FROM_FILES

    @property
    def is_crypto(self) -> bool:
        """True when it trades around the clock."""
        return self.calendar == ALWAYS_OPEN
