"""Recognises from the spelling of a symbol what it is and on which calendar it trades. No I/O and no library.

Vendors have different spellings, and none is universal. If two readings fit, neither is chosen. The tables of codes are
in `listing_codes`.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from ema_assets.market import listing_codes as codes
from ema_assets.market.spellings import same_here, spellings_here
from ema_assets.model.errors import InvalidKeyError, UnclearSymbol
from ema_assets.model.symbols import ALWAYS_OPEN, DEFAULT_CALENDAR, FX_CALENDAR, AssetClass, parse_symbol


@dataclass(frozen=True, slots=True)
class Listing:
    """What a symbol is, the calendar on which it trades, and the reason in a few words."""

    asset_class: AssetClass
    calendar: str
    reason: str


_US_STOCK = re.compile(r"[A-Z]{1,5}")
# Share classes, preferred shares, units and warrants: BRK.B, BRK-B, BRK/B, BAC-PL, BAC.PRL, ABC-UN, ABC-WT. After a
# point, other letters are exchanges elsewhere: NESN.S is Swiss, KGH.PL Polish. Refinitiv has AAPL.O and IBM.N.
_US_CLASS = re.compile(r"[A-Z]{1,5}([.\-/](PR[.\-]?[A-Z]?|UN|WS|WT|RT|WI)|[\-/]([A-KM-Z]|P[A-Z])|\.([A-CEKN-PRUW]))")
_SEPARATED_PAIR = re.compile(r"([A-Z0-9]{1,12})[-/_]([A-Z]{2,6}|PERPETUAL)(?:[:\-_].*)?")
_CONTRACT = re.compile(r"([A-Z0-9]{1,3})[FGHJKMNQUVXZ](\d{1,2}|20\d\d)")
_PREFERRED = re.compile(r"[A-Z]{1,5}[.\-]PR[.\-][A-Z]")
_A_CLASS = "a class of shares in the US"
_PERPETUAL = ("PERP", "PERPETUAL")
_FX_SUFFIX, _FUTURE_SUFFIX = "=X", "=F"


def listing_of(symbol: str) -> Listing:
    """Return what `symbol` is and where it trades; upper and lower case do not matter.

    Raises:
        UnclearSymbol: when it is unknown or ambiguous; it says why, and how to write what is meant.
    """
    text = symbol.upper()
    if (found := _recognised(text)) is not None:
        return found
    raise UnclearSymbol(symbol, _how_it_is_written(text), spellings=clear_spellings(text))


def symbol_of(text: str) -> str:
    """Return `text` as a symbol.

    Raises:
        InvalidKeyError: when it is none.
        UnclearSymbol: when it is none, but another vendor's spelling of one, such as `VOD LN`; it says how to write it.
    """
    try:
        return parse_symbol(text)
    except InvalidKeyError:
        if spellings := clear_spellings(text):
            raise UnclearSymbol(text, "a symbol has no such characters here", spellings=spellings) from None
        raise


def check_spelling(text: str) -> None:
    """Check that `text` is a symbol, or what another vendor writes for one, which `symbol_of` refuses by its name.

    Raises:
        InvalidKeyError: when it is neither.
    """
    with suppress(UnclearSymbol):
        symbol_of(text)


def clear_spellings(text: str) -> tuple[str, ...]:
    """Return how the symbol that other vendors spell `text` is written here, likeliest first; none if not known."""
    possible = dict.fromkeys(spellings_here(text.upper()))
    return tuple(each for each in possible if each != text.upper() and _is_clear(each))


def spelled_here(text: str) -> str:
    """Return how the symbol `text` is written here if another vendor's spelling names its exchange; else `text`."""
    if _is_clear(text):
        return text
    possible = {each for each in same_here(text.upper()) if _is_clear(each)}
    return possible.pop() if len(possible) == 1 else text


def _is_clear(symbol: str) -> bool:
    try:
        parse_symbol(symbol)
        return _recognised(symbol.upper()) is not None
    except (InvalidKeyError, UnclearSymbol):
        return False


def _recognised(text: str) -> Listing | None:
    """Return what the first rule says that recognises `text`, in capitals; None when none does."""
    return next((found for rule in _RULES if (found := rule(text)) is not None), None)


def _how_it_is_written(text: str) -> str:
    _, dot, suffix = text.rpartition(".")
    if dot:
        return f"no exchange is known by the suffix .{suffix}"
    if text.isdigit():
        return "a number needs the suffix of its exchange, such as 0700.HK, 7203.T, 600519.SS or 005930.KS"
    return "it is no pair, index or future that is known, and too long for a US stock"


def _index(text: str) -> Listing | None:
    if not text.startswith("^"):
        return None
    calendar = codes.INDICES.get(text)
    if calendar is None:
        raise UnclearSymbol(text, "the exchange of this index is not known", spellings=clear_spellings(text))
    return Listing("indices", calendar, "an index")


def _fx_by_suffix(text: str) -> Listing | None:
    """Recognise EURUSD=X, and JPY=X for the dollar in yen."""
    if not text.endswith(_FX_SUFFIX):
        return None
    pair = text.removesuffix(_FX_SUFFIX)
    halves = {pair[:3], pair[3:]} - {""}
    if not halves or not halves <= codes.CURRENCIES:
        raise UnclearSymbol(
            text, "`=X` stands behind two currencies, such as EURUSD=X", spellings=clear_spellings(text)
        )
    return Listing("fx", FX_CALENDAR, "foreign exchange, from 17:00 to 17:00 New York")


def _future_by_suffix(text: str) -> Listing | None:
    if not text.endswith(_FUTURE_SUFFIX):
        return None
    return _future(text, text.removesuffix(_FUTURE_SUFFIX))


def _contract(text: str) -> Listing | None:
    """Recognise ESZ26 or CLF2027: a known root, a month and a year."""
    match = _CONTRACT.fullmatch(text)
    return _future(text, match[1]) if match and match[1] in codes.FUTURES_BY_ROOT else None


def _future(text: str, root: str) -> Listing:
    calendar = codes.FUTURES_BY_ROOT.get(root)
    if calendar is None:
        raise UnclearSymbol(text, f"the hours of the future {root} are not known")
    return Listing("futures", calendar, "a future, from Sunday evening on")


def _prefixed(text: str) -> Listing | None:
    """Refuse NASDAQ:AAPL, the spelling of TradingView and Google, which none of our providers uses."""
    prefix, colon, rest = text.partition(":")
    if not colon or "/" in prefix or "-" in prefix:
        return None
    is_known = prefix in codes.SUFFIXES_BY_PREFIX or prefix in codes.FUTURES_PREFIXES
    spellings = clear_spellings(text)
    if not is_known and not spellings:
        raise UnclearSymbol(text, f"no exchange is known by the prefix {prefix}")
    if not spellings:
        raise UnclearSymbol(text, f"what {rest} is at {prefix} is not known")
    raise UnclearSymbol(text, "an exchange is written behind the symbol here", spellings=spellings)


def _separated_pair(text: str) -> Listing | None:
    """Recognise BTC-USD, BTC/USDT, EUR_USD, BTC/USDT:USDT, BTC-PERP, BTC-PERPETUAL and BTC-USD.CC."""
    pair, _, venue = text.partition(".")
    match = _SEPARATED_PAIR.fullmatch(pair)
    if match is None or (venue and venue not in codes.CRYPTO_VENUES):
        return None
    base, quote = match[1], match[2]
    if base in codes.FIAT_AND_METALS and quote in codes.CURRENCIES and not venue:
        return Listing("fx", FX_CALENDAR, "foreign exchange, from 17:00 to 17:00 New York")
    if quote in codes.CRYPTO_QUOTES or quote in codes.CURRENCIES or quote in _PERPETUAL:
        return Listing("crypto", ALWAYS_OPEN, "a crypto pair")
    return None


def _joined_pair(text: str) -> Listing | None:
    """Recognise EURUSD, BTCUSDT, ETHBTC, ETHUSD.KRAKEN and EURUSD.FOREX, and BTCUSDT.P for a perpetual future."""
    pair, _, venue = text.removesuffix(".P").partition(".")
    if text.endswith(".P") and pair[:3] in codes.FIAT_AND_METALS and pair[3:] in codes.CURRENCIES:
        return None
    if venue and venue not in codes.CRYPTO_VENUES and venue != "FOREX":
        return None
    if pair[:3] in codes.FIAT_AND_METALS and pair[3:] in codes.CURRENCIES and venue not in codes.CRYPTO_VENUES:
        return Listing("fx", FX_CALENDAR, "foreign exchange, from 17:00 to 17:00 New York")
    for quote in codes.QUOTES_LONGEST_FIRST:
        base = pair.removesuffix(quote)
        if base in (pair, ""):
            continue
        # US stocks have at most five letters, and only crypto is quoted in coins.
        is_long = len(pair) > 5 and quote in codes.CRYPTO_QUOTES
        if venue in codes.CRYPTO_VENUES or is_long or base in codes.COINS:
            return Listing("crypto", ALWAYS_OPEN, "a crypto pair")
    return None


def _preferred(text: str) -> Listing | None:
    """Recognise BAC.PR.L, a preferred share whose letter is no suffix."""
    return Listing("stocks", DEFAULT_CALENDAR, _A_CLASS) if _PREFERRED.fullmatch(text) else None


def _suffixed(text: str) -> Listing | None:
    _, dot, suffix = text.rpartition(".")
    calendar = codes.CALENDAR_BY_SUFFIX.get(suffix) if dot else None
    return None if calendar is None else Listing("stocks", calendar, f"the suffix .{suffix}")


def _index_by_name(text: str) -> Listing | None:
    """Refuse names such as DAX, which is an index in Frankfurt and a fund in New York."""
    written = codes.INDEX_NAMES.get(text)
    if written is None:
        return None
    raise _or_ticker(text, "it is an index, and may be a ticker in the US", written, "the index")


def _future_by_name(text: str) -> Listing | None:
    """Refuse names such as GOLD and NQ, by which the metal or the future is meant, or a ticker in New York."""
    written = codes.NAMES_OF_FUTURES.get(text)
    if written is None:
        return None
    reason = "it is a commodity, a future or an index elsewhere, and may be a ticker in the US"
    if not written:
        raise UnclearSymbol(text, reason)
    raise _or_ticker(text, reason, written, "the future")


def _or_ticker(text: str, reason: str, written: str, what: str) -> UnclearSymbol:
    ticker = f"give `--calendar {DEFAULT_CALENDAR}` for the ticker"
    return UnclearSymbol(text, reason, f"write {written} for {what}, or {ticker}")


def _us(text: str) -> Listing | None:
    if text in codes.COINS_BY_THEMSELVES:
        raise _or_ticker(text, "it is a coin, and may be a ticker in the US", f"{text}-USD", "the coin")
    if text in codes.CURRENCIES_BY_THEMSELVES:
        raise _or_ticker(
            text,
            "it is a currency or a metal, and could be a ticker in the US",
            f"{text}USD",
            "its price in dollars",
        )
    if _US_STOCK.fullmatch(text):
        return Listing("stocks", DEFAULT_CALENDAR, "no suffix, as stocks and funds in the US are written")
    if _US_CLASS.fullmatch(text):
        return Listing("stocks", DEFAULT_CALENDAR, _A_CLASS)
    return None


# The rules are tried in this order; the first that recognises the symbol counts.
_RULES: tuple[Callable[[str], Listing | None], ...] = (
    _index,
    _fx_by_suffix,
    _future_by_suffix,
    _separated_pair,
    _prefixed,
    _preferred,
    _suffixed,
    _joined_pair,
    _contract,
    _index_by_name,
    _future_by_name,
    _us,
)
