"""Alpaca's Market Data v2 bars in the sandbox: stocks, and crypto pairs spelt BTC/USD.

All feeds have the same bars, unless the sandbox is set to the free plan. Then `sip` ends 15 minutes ago, and `iex` has
a fiftieth of the volume. A request without a feed gets the best one that the plan includes.
"""

import base64
import binascii
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar

import msgspec
import numpy as np
from starlette.requests import Request

from ema_assets.model.symbols import Instrument
from ema_assets.sandbox.exchange import Budget, Dialect, Refusal, Sandbox, json_refusal
from ema_assets.sandbox.faults import Active, MissingSymbol, alteration
from ema_assets.sandbox.market import DAY_MINUTES
from ema_assets.sandbox.synthetic_bars import Bars

STOCK_BARS_PATH = "/v2/stocks/bars"
CRYPTO_BARS_PATH = "/v1beta3/crypto/us/bars"

_DEFAULT_LIMIT, _MAX_LIMIT = 1_000, 10_000


_UNIT_MINUTES = {"Min": 1, "T": 1, "Hour": 60, "H": 60, "Day": DAY_MINUTES, "D": DAY_MINUTES}
_TIMEFRAME = re.compile(r"([0-9]{1,3})(Min|T|Hour|H|Day|D)")
_STOCK_SYMBOL = re.compile(r"[A-Z0-9]+(\.[A-Z0-9]+)*")
_CRYPTO_SYMBOL = re.compile(r"[A-Z0-9]+/[A-Z0-9]+")
_FEEDS = ("iex", "sip", "delayed_sip", "otc", "boats", "overnight")
_FREE_PLAN_DELAY = timedelta(minutes=15)
_RECENT_SIP = "subscription does not permit querying recent SIP data"
# One exchange has this fraction (1/50) of the total volume.
_IEX_SHARE = 50
_ADJUSTMENTS = ("raw", "split", "dividend", "spin-off", "all")
_WORDS = {401: "unauthorized.", 403: "forbidden.", 404: "endpoint not found", 429: "too many requests."}


def refused(status: int, message: str) -> Refusal:
    """Return a refusal with `status` and a message."""
    return json_refusal(status, {"message": message})


@dataclass(frozen=True, slots=True)
class _Query:
    """A parsed request for bars. `symbols` are sorted. Times are whole seconds, both ends included."""

    symbols: tuple[str, ...]
    timeframe: str
    minutes: int
    start: int
    last: int
    limit: int
    descending: bool
    raw_prices: bool
    is_one_exchange: bool
    after: tuple[str, int] | None


class AlpacaBars(Dialect[_Query]):
    """Bars of many symbols per call, in pages. One object per endpoint: stocks, or, with `crypto`, pairs."""

    exhausted: ClassVar[Mapping[str, str]] = {"X-RateLimit-Remaining": "0"}

    def __init__(self, sandbox: Sandbox, *, crypto: bool) -> None:
        budget = sandbox.budget("alpaca", sandbox.requests_per_minute)
        super().__init__(sandbox, CRYPTO_BARS_PATH if crypto else STOCK_BARS_PATH, budget)
        self._crypto = crypto

    def spelling(self, instrument: Instrument) -> str | None:
        """Spell our `BTC-USD` as the API does, `BTC/USD`."""
        if instrument.is_crypto is not self._crypto:
            return None
        return instrument.symbol.replace("-", "/", 1) if self._crypto else instrument.symbol

    def refusal(self, status: int) -> Refusal:
        """Return a message."""
        return in_words(status)

    def headers(self, *, within: bool) -> dict[str, str]:  # noqa: ARG002 - they are the same either way
        """Return the remaining budget and the time at which it grows."""
        return headers_of(self.budget)

    def read(self, request: Request, now: datetime) -> _Query:
        """Check the keys and parse the parameters."""
        check_keys(self.sandbox, request)
        crypto, params = self._crypto, request.query_params
        pattern = _CRYPTO_SYMBOL if crypto else _STOCK_SYMBOL
        symbols = tuple(sorted({part.strip() for part in params.get("symbols", "").split(",")} - {""}))
        if not symbols:
            raise refused(400, "symbols parameter is required")
        for symbol in symbols:
            # The sandbox has all symbols of the watchlist, also some that the vendor cannot have: EURUSD=X, 600519.SS.
            if not pattern.fullmatch(symbol) and symbol not in self.known():
                raise refused(400, f"invalid symbol: {symbol}")
        timeframe, minutes = _parse_timeframe(params.get("timeframe"))
        today = datetime.combine(now.astimezone(UTC).date(), datetime.min.time(), UTC)
        start = _parse_time("start", params.get("start"), today, is_end=False)
        is_delayed = not crypto and self.sandbox.is_free_plan and params.get("feed") == "sip"
        end = _parse_time("end", params.get("end"), now - _FREE_PLAN_DELAY if is_delayed else now, is_end=True)
        if end < start:
            raise refused(400, "end should not be before start")
        limit_text = params.get("limit") or str(_DEFAULT_LIMIT)
        if not limit_text.isascii() or not limit_text.isdigit() or not 1 <= int(limit_text) <= _MAX_LIMIT:
            raise refused(400, f"invalid limit: must be from 1 to {_MAX_LIMIT}")
        sort = params.get("sort") or "asc"
        if sort not in ("asc", "desc"):
            raise refused(400, f"invalid sort: {sort}")
        adjustment = params.get("adjustment") or "raw"
        adjustments = adjustment.split(",")
        if not crypto and not set(adjustments) <= set(_ADJUSTMENTS):
            raise refused(400, f"invalid adjustment: {adjustment}")
        feed = params.get("feed")
        if not crypto and feed is not None and feed not in _FEEDS:
            raise refused(400, f"invalid feed: {feed}")
        is_recent = end > now - _FREE_PLAN_DELAY
        if is_delayed and is_recent:
            raise refused(403, _RECENT_SIP)
        return _Query(
            symbols=symbols,
            timeframe=timeframe,
            minutes=minutes,
            start=-int(-start.timestamp() // 1),
            last=int(end.timestamp() // 1),
            limit=int(limit_text),
            descending=sort == "desc",
            raw_prices=not crypto and "split" not in adjustments and "all" not in adjustments,
            is_one_exchange=not crypto
            and self.sandbox.is_free_plan
            and (feed == "iex" or (feed is None and is_recent)),
            after=_parse_token(params.get("page_token"), timeframe, symbols),
        )

    def page(self, query: _Query, now: datetime, faults: Sequence[Active]) -> tuple[dict[str, Any], set[int]]:
        """Return one page, with the token of the next page."""
        known = self.known()
        acted: set[int] = set()
        bars: dict[str, list[dict[str, Any]]] = {}
        room, now_seconds = query.limit, int(now.timestamp())
        last_served: tuple[str, int] | None = None
        for symbol in query.symbols:
            instrument = known.get(symbol)
            if instrument is None or (query.after is not None and symbol < query.after[0]):
                continue
            missing = [a.number for a in faults if isinstance(a.fault, MissingSymbol) and symbol in a.fault.symbols]
            if missing:
                acted.update(missing)
                continue
            start, last = query.start, query.last
            if query.after is not None and symbol == query.after[0]:
                start, last = (start, query.after[1] - 1) if query.descending else (query.after[1] + 1, last)
            served = self.sandbox.market.bars(
                instrument,
                query.minutes,
                start,
                last,
                now_seconds,
                # One bar more than fits tells whether this is the last page.
                room + 1,
                descending=query.descending,
                alter=alteration(faults, symbol, now_seconds, raw_prices=query.raw_prices, acted=acted),
            )
            if len(served) > room:
                if room:
                    bars[symbol] = self._rows(query, served.pick(slice(0, room)))
                    last_served = symbol, int(served.ts[room - 1])
                assert last_served is not None
                token = _token(last_served[0], query.timeframe, last_served[1])
                return {"bars": bars, "next_page_token": token}, acted
            if len(served):
                bars[symbol] = self._rows(query, served)
                last_served = symbol, int(served.ts[-1])
                room -= len(served)
        return {"bars": bars, "next_page_token": None}, acted

    def _rows(self, query: _Query, bars: Bars) -> list[dict[str, Any]]:
        if query.is_one_exchange:
            bars = replace(bars, volume=np.maximum(1, bars.volume // _IEX_SHARE))
        return _rows(bars, whole_volumes=not self._crypto)


def check_keys(sandbox: Sandbox, request: Request) -> None:
    """Refuse a request without the keys that the sandbox requires.

    Raises:
        Refusal: with 401 when keys are missing, or 403 when they are wrong.
    """
    if sandbox.required_keys is None:
        return
    given = (request.headers.get("APCA-API-KEY-ID"), request.headers.get("APCA-API-SECRET-KEY"))
    if not all(given):
        raise in_words(401)
    for received, expected in zip(given, sandbox.required_keys, strict=True):
        if not secrets.compare_digest((received or "").encode(), expected.encode()):
            raise in_words(403)


def in_words(status: int) -> Refusal:
    """Return the vendor's answer with `status`."""
    return refused(status, _WORDS.get(status, "internal server error occurred" if status >= 500 else "request refused"))


def headers_of(budget: Budget) -> dict[str, str]:
    """Return the headers with the remaining budget and the time at which it grows."""
    return {
        "X-RateLimit-Limit": str(budget.limit),
        "X-RateLimit-Remaining": str(budget.limit - budget.used),
        "X-RateLimit-Reset": str(int(time.time() + budget.frees_in_seconds) + 1),
    }


def dialects(sandbox: Sandbox) -> tuple[AlpacaBars, AlpacaBars]:
    """Return the endpoints for stocks and for crypto pairs, which share a budget."""
    return AlpacaBars(sandbox, crypto=False), AlpacaBars(sandbox, crypto=True)


def _parse_timeframe(text: str | None) -> tuple[str, int]:
    if not text:
        raise refused(400, "timeframe parameter is required")
    match = _TIMEFRAME.fullmatch(text)
    minutes = int(match[1]) * _UNIT_MINUTES[match[2]] if match else 0
    if minutes == DAY_MINUTES:
        return "1Day", minutes
    if minutes == 1 or (minutes and minutes % 5 == 0 and minutes < DAY_MINUTES):
        return (f"{minutes // 60}Hour" if minutes % 60 == 0 else f"{minutes}Min"), minutes
    raise refused(400, f"invalid timeframe: {text} (this sandbox has 1Min, multiples of 5Min below a day, and 1Day)")


def _parse_time(name: str, text: str | None, default: datetime, *, is_end: bool) -> datetime:
    if not text:
        return default
    try:
        if len(text) == len("2024-01-31"):
            day = datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
            # A date as an end means all of that day.
            return day + timedelta(days=1, microseconds=-1) if is_end else day
        # An unescaped + in a query arrives as a space.
        time_ = msgspec.convert(text.replace(" ", "+"), datetime)
        if time_.tzinfo is not None:
            return time_.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise refused(400, f"invalid {name}: {text} is neither a date nor an RFC-3339 time")


def _token(symbol: str, timeframe: str, ts: int) -> str:
    return base64.urlsafe_b64encode(f"{symbol}|{timeframe}|{ts}".encode()).decode()


def _parse_token(text: str | None, timeframe: str, symbols: Sequence[str]) -> tuple[str, int] | None:
    if not text:
        return None
    try:
        symbol, of_timeframe, ts = base64.urlsafe_b64decode(text.encode()).decode().split("|")
        if of_timeframe == timeframe and symbol in symbols:
            return symbol, int(ts)
    except (binascii.Error, ValueError):
        pass
    raise refused(400, "invalid page_token")


def _rows(bars: Bars, *, whole_volumes: bool) -> list[dict[str, Any]]:
    times = np.datetime_as_string(bars.ts.astype("datetime64[s]")).tolist()
    volumes = bars.volume.astype(np.int64).tolist() if whole_volumes else bars.volume.tolist()
    columns = zip(
        bars.close.tolist(),
        bars.high.tolist(),
        bars.low.tolist(),
        bars.trades.tolist(),
        bars.open.tolist(),
        times,
        volumes,
        bars.vwap.tolist(),
        strict=True,
    )
    return [
        {"c": c, "h": h, "l": low, "n": n, "o": o, "t": f"{t}Z", "v": v, "vw": vw}
        for c, h, low, n, o, t, v, vw in columns
    ]
