"""How other vendors spell symbols, and how the same is written here. No I/O.

Candidates only: whether one is clear, `listings` knows. The tables of codes are in `listing_codes`.
"""

import re
from collections.abc import Iterator

from ema_assets.market import listing_codes as codes

_PAIR = r"[A-Z]{3}/?[A-Z]{3}"
_ROOT = r"[A-Z0-9]{1,3}"
_CONTRACT = rf"{_ROOT}[FGHJKMNQUVXZ]\d{{1,4}}"
# Those that are quoted in dollars; the dollar is quoted in the others.
_IN_DOLLARS = ("EUR", "GBP", "AUD", "NZD", "XAU", "XAG", "XPT", "XPD")
_BLOOMBERG = re.compile(r"(\S+)(?: ([A-Z][A-Z0-9]))?(?: [A-Z]{4})?(?: (?:EQUITY|INDEX|CURNCY|COMDTY))?")
_FUTURES = (
    # GC1! of TradingView, ESc1 of Refinitiv, ES.c.0 of Databento, ES_F, /ES and @ES of terminals, NQ 12-25.
    re.compile(rf"({_ROOT})\d!"),
    re.compile(rf"({_ROOT})C\d"),
    re.compile(rf"({_ROOT})\.[CNV]\.\d"),
    re.compile(rf"({_ROOT})_F"),
    re.compile(rf"[/@&]({_ROOT})(?:#|\.D)?"),
    re.compile(rf"({_ROOT})[ -]\d\d-\d\d"),
)
_CONTRACTS = re.compile(rf"[/@]?({_CONTRACT})(?:[.-](?:CME|CMX|NYM|CBT|COMEX|NYMEX))?")
# Pairs as brokers name them: EURUSDm, EURUSD.pro, EURUSD#, EUR.USD, XAUUSD=X.
_BROKERS_PAIR = re.compile(r"([A-Z]{3})[./ ]?([A-Z]{3})(?:[.=_\-#+]?[A-Z]{0,6}|[#+])")
_COINS = re.compile(
    r"T?([A-Z0-9]+?(?:USDT|USDC|USD|EUR|BTC))(?:\.P|PERP|-PERPETUAL|[_-]\d{6}|=X|[:@].*)|X([A-Z]{3})Z([A-Z]{3})"
    r"|([A-Z0-9]+)[:~]([A-Z]{3,4})"
)


def spellings_here(text: str) -> Iterator[str]:
    """Yield how the symbol may be written here that other vendors spell `text`, in capitals; likeliest first."""
    text = text.strip()
    for form in (_prefixed, _index, _bloomberg, _future, _pair, _coin, _by_code, _chinese_or_korean, _share):
        yield from form(text)


def same_here(text: str) -> Iterator[str]:
    """Yield how the same instrument may be written here: `text`, in capitals, says which exchange it is of.

    Unlike in `spellings_here`, no contract becomes the continuous future, and no quote of a broker an index.
    """
    text = text.strip()
    prefix, _, rest = text.partition(":")
    if prefix not in codes.PREFIXES_OF_QUOTES:
        for suffix in codes.SUFFIXES_BY_PREFIX.get(prefix, ()) if rest else ():
            yield _with_suffix(rest, suffix)
    match = _BLOOMBERG.fullmatch(text)
    if match and match[2] in codes.SUFFIX_BY_CODE:
        yield _with_suffix(match[1], codes.SUFFIX_BY_CODE[match[2]])
    yield from _by_code(text)
    yield from _chinese_or_korean(text)


def _with_suffix(ticker: str, suffix: str) -> str:
    """Return `ticker` of the exchange with `suffix` as it is written here: VOLV-B.ST, 0700.HK, RR.L."""
    if not suffix:
        return ticker
    plain = re.sub(r"[./_ ]", "-", ticker.rstrip("./"))
    return (plain.zfill(4) if suffix == ".HK" and plain.isdigit() else plain) + suffix


def _prefixed(text: str) -> Iterator[str]:
    """LSE:VOD, HKEX:700, COMEX:GC1!, OMXSTO:VOLV_B, SP:SPX, C:EURUSD."""
    prefix, colon, rest = text.partition(":")
    if not colon or not rest:
        return
    if prefix in codes.FUTURES_PREFIXES:
        yield from _future(rest)
        yield f"{rest}=F"
        return
    for suffix in codes.SUFFIXES_BY_PREFIX.get(prefix, ()):
        if not suffix:
            yield from _index(rest)
        yield _with_suffix(rest, suffix)


def _index(text: str) -> Iterator[str]:
    """.SPX, ^SX5E, GER40: names of indices."""
    name = text.lstrip(".^")
    if written := codes.OTHER_INDEX_NAMES.get(name) or codes.INDEX_NAMES.get(name):
        yield written
    elif text.startswith("."):
        yield f"^{name}"


def _bloomberg(text: str) -> Iterator[str]:
    """VOD LN, AAPL US Equity, 700 HK, SPX Index, EURUSD Curncy."""
    match = _BLOOMBERG.fullmatch(text)
    if match is None or " " not in text:
        return
    ticker, code = match[1], match[2]
    if code in codes.SUFFIX_BY_CODE:
        yield _with_suffix(ticker, codes.SUFFIX_BY_CODE[code])
    elif code is None:
        yield from _index(ticker)
        yield ticker


def _future(text: str) -> Iterator[str]:
    for form in _FUTURES:
        if match := form.fullmatch(text):
            yield f"{match[1]}=F"
    if match := _CONTRACTS.fullmatch(text):
        yield match[1]


def _pair(text: str) -> Iterator[str]:
    """EUR=, EUR.USD, EURUSDm, EURUSD.pro."""
    if match := re.fullmatch(r"([A-Z]{3})=", text):
        yield f"{match[1]}USD" if match[1] in _IN_DOLLARS else f"USD{match[1]}"
    match = _BROKERS_PAIR.fullmatch(text)
    if match and match[1] in codes.FIAT_AND_METALS and match[2] in codes.CURRENCIES:
        yield match[1] + match[2]


def _coin(text: str) -> Iterator[str]:
    """BTCUSDTPERP, BTCUSDT_260327, tBTCUSD, XXBTZUSD, BTC~USD."""
    if match := _COINS.fullmatch(text):
        yield match[1] or (match[2] and match[2] + match[3]) or f"{match[4]}-{match[5]}"
    elif text.startswith("T"):
        yield text[1:]


def _by_code(text: str) -> Iterator[str]:
    """600519.XSHG, VOD.LON, AAPL.OQ, VOD:LN."""
    match = re.fullmatch(r"(.+)[.:]([A-Z0-9]{1,6})", text)
    if match and match[2] in codes.SUFFIX_BY_CODE:
        yield _with_suffix(match[1], codes.SUFFIX_BY_CODE[match[2]])


def _chinese_or_korean(text: str) -> Iterator[str]:
    """sh600519, sz000001, A005930."""
    if match := re.fullmatch(r"(SH|SZ|A)(\d{6})", text):
        yield match[2] + {"SH": ".SS", "SZ": ".SZ", "A": ".KS"}[match[1]]


def _share(text: str) -> Iterator[str]:
    """BRK B, BAC PRL, BAC^L, BAC-P-L, SPAC+: classes, preferred shares and warrants in the US."""
    if match := re.fullmatch(r"([A-Z]{1,5})(?: PR|\^|-P-|\.P)([A-Z])", text):
        yield f"{match[1]}-P{match[2]}"
    elif (match := re.fullmatch(r"([A-Z]{1,5}) ([A-Z]{1,2})", text)) and match[2] not in codes.SUFFIX_BY_CODE:
        yield f"{match[1]}.{match[2]}"
    elif match := re.fullmatch(r"([A-Z]{1,5})\+", text):
        yield f"{match[1]}-WT"
