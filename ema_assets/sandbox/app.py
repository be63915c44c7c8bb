"""The sandbox's HTTP face: Alpaca's Market Data v2 bars, and control endpoints of its own. Prices live in market.py.

    GET  /v2/stocks/bars            bars of stocks, as the vendor serves them
    GET  /v1beta3/crypto/us/bars    bars of crypto pairs, spelt BTC/USD
    GET  /sandbox                   says that all this is synthetic
    GET, POST, DELETE /sandbox/faults, DELETE /sandbox/faults/{id}
    GET, DELETE /sandbox/stats

Every answer carries `X-Sandbox: synthetic`.
"""

import asyncio
import base64
import binascii
import functools
import re
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ema_assets.keys import Instrument
from ema_assets.sandbox.faults import (
    Active,
    CutBody,
    Delay,
    Faults,
    InvalidFaultError,
    MissingSymbol,
    RateLimit,
    ServerError,
    alteration,
    parse_fault,
)
from ema_assets.sandbox.market import DAY_MINUTES, Bars, Market

_JSON_TYPE = "application/json; charset=utf-8"
SANDBOX_HEADER = {"X-Sandbox": "synthetic"}
STOCK_BARS_PATH = "/v2/stocks/bars"
CRYPTO_BARS_PATH = "/v1beta3/crypto/us/bars"
DEFAULT_REQUESTS_PER_MINUTE = 10_000

_DEFAULT_LIMIT, _MAX_LIMIT = 1_000, 10_000
_TIMEFRAMES = {"5Min": 5, "15Min": 15, "30Min": 30, "1Hour": 60, "4Hour": 240, "1Day": DAY_MINUTES}
_UNIT_MINUTES = {"Min": 1, "T": 1, "Hour": 60, "H": 60, "Day": DAY_MINUTES, "D": DAY_MINUTES}
_TIMEFRAME = re.compile(r"([0-9]{1,3})(Min|T|Hour|H|Day|D)")
_STOCK_SYMBOL = re.compile(r"[A-Z0-9]+(\.[A-Z0-9]+)*")
_CRYPTO_SYMBOL = re.compile(r"[A-Z0-9]+/[A-Z0-9]+")
_FEEDS = ("iex", "sip", "delayed_sip", "otc", "boats", "overnight")
_ADJUSTMENTS = ("raw", "split", "dividend", "spin-off", "all")
_BUDGET_WINDOW_SECONDS = 60.0

Clock = Callable[[], datetime]


class _Refusal(Exception):
    """An answer that is not bars, with the vendor's shape of body."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})

    def response(self) -> Response:
        return _json({"message": self.message}, self.status, self.headers)


@dataclass(slots=True)
class Stats:
    """How many answers the bars endpoints have given. Control endpoints are not counted."""

    by_path: Counter[str] = field(default_factory=Counter)
    by_status: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """All answers."""
        return sum(self.by_path.values())

    def report(self) -> dict[str, Any]:
        """`total`, `by_path` and `by_status`; a body cut on purpose counts as status `cut`."""
        return {"total": self.total, "by_path": dict(self.by_path), "by_status": dict(self.by_status)}

    def reset(self) -> None:
        """Forget everything."""
        self.by_path.clear()
        self.by_status.clear()


class Sandbox:
    """The handle of a running sandbox: its market, clock, faults and counters; `app.state.sandbox`."""

    def __init__(
        self,
        universe: Sequence[Instrument],
        seed: int,
        *,
        clock: Clock,
        requests_per_minute: int,
        required_keys: tuple[str, str] | None,
    ) -> None:
        self._seed = seed
        self.set_universe(universe)
        self.clock = clock
        self.requests_per_minute = requests_per_minute
        self.required_keys = required_keys
        self.faults = Faults()
        self.stats = Stats()
        self._answered_at: deque[float] = deque()

    def set_universe(self, universe: Sequence[Instrument]) -> None:
        """Know these symbols from now on. The bars of a symbol do not depend on which others are known."""
        self.market = Market(universe, self._seed)
        self.stocks = {i.symbol: i for i in universe if not i.is_crypto}
        self.pairs = {crypto_pair(i.symbol): i for i in universe if i.is_crypto}

    def now(self) -> datetime:
        """The sandbox's time, aware.

        Raises:
            ValueError: when the clock given gives a naive time.
        """
        now = self.clock()
        if now.tzinfo is None:
            raise ValueError("`clock` must give timezone-aware datetimes")
        return now

    def spend(self) -> tuple[bool, dict[str, str]]:
        """Take one request from the budget; False when there is none left. Always the headers that say so."""
        now = time.monotonic()
        while self._answered_at and self._answered_at[0] <= now - _BUDGET_WINDOW_SECONDS:
            self._answered_at.popleft()
        within = len(self._answered_at) < self.requests_per_minute
        if within:
            self._answered_at.append(now)
        frees_in = self._answered_at[0] + _BUDGET_WINDOW_SECONDS - now if self._answered_at else 0.0
        return within, {
            "X-RateLimit-Limit": str(self.requests_per_minute),
            "X-RateLimit-Remaining": str(self.requests_per_minute - len(self._answered_at)),
            "X-RateLimit-Reset": str(int(time.time() + frees_in) + 1),
        }


def crypto_pair(symbol: str) -> str:
    """Spell our `BTC-USD` as the API does, `BTC/USD`."""
    return symbol.replace("-", "/", 1)


def create_app(
    universe: Sequence[Instrument],
    seed: int,
    *,
    clock: Clock | None = None,
    requests_per_minute: int = DEFAULT_REQUESTS_PER_MINUTE,
    required_keys: tuple[str, str] | None = None,
) -> Starlette:
    """Build the sandbox.

    `universe` are the symbols it knows, with their calendars; any other well-formed symbol is absent from answers.
    Only bars that have closed at `clock()` (default: the real time) are served. With `required_keys`, a key id and
    a secret, other callers get 401 or 403. The app's handle is `app.state.sandbox`, a Sandbox.
    """
    sandbox = Sandbox(
        universe,
        seed,
        clock=clock or _utc_now,
        requests_per_minute=requests_per_minute,
        required_keys=required_keys,
    )
    stock_bars = functools.partial(_bars_endpoint, sandbox, crypto=False)
    crypto_bars = functools.partial(_bars_endpoint, sandbox, crypto=True)
    app = Starlette(
        routes=[
            Route(STOCK_BARS_PATH, _named(stock_bars)),
            Route(CRYPTO_BARS_PATH, _named(crypto_bars)),
            Route("/sandbox", _named(functools.partial(_about, sandbox))),
            Route("/sandbox/faults", _named(functools.partial(_faults, sandbox)), methods=["GET", "POST", "DELETE"]),
            Route("/sandbox/faults/{number:int}", _named(functools.partial(_clear_fault, sandbox)), methods=["DELETE"]),
            Route("/sandbox/stats", _named(functools.partial(_stats, sandbox)), methods=["GET", "DELETE"]),
        ],
        exception_handlers={HTTPException: _plain_error, Exception: _unexpected_error},
    )
    app.state.sandbox = sandbox
    return app


def _named(endpoint: Callable[[Request], Any]) -> Callable[[Request], Any]:
    # Starlette tells request handlers from ASGI apps by asking whether they are functions; a partial is not.
    async def handle(request: Request) -> Response:
        response: Response = await endpoint(request)
        return response

    return handle


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _json(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(body), status, {**SANDBOX_HEADER, **(headers or {})}, media_type=_JSON_TYPE)


def _plain_error(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = {404: "endpoint not found", 405: "method not allowed"}.get(status, "request refused")
    return _json({"message": message}, status)


def _unexpected_error(_request: Request, _error: Exception) -> Response:
    return _json({"message": "internal server error occurred"}, 500)


class _CutResponse(Response):
    """Promises the whole body, sends half of it and leaves; the server then closes the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})


# ---------------------------------------------------------------------------------------------------------- bars


@dataclass(frozen=True, slots=True)
class _Query:
    """One request for bars, understood. `symbols` sorted; times in whole seconds, both ends included."""

    symbols: tuple[str, ...]
    timeframe: str
    minutes: int
    start: int
    last: int
    limit: int
    descending: bool
    raw_prices: bool
    after: tuple[str, int] | None


async def _bars_endpoint(sandbox: Sandbox, request: Request, *, crypto: bool) -> Response:
    response, status = await _answer(sandbox, request, crypto=crypto)
    sandbox.stats.by_path[request.url.path] += 1
    sandbox.stats.by_status[status] += 1
    return response


async def _answer(sandbox: Sandbox, request: Request, *, crypto: bool) -> tuple[Response, str]:
    within, headers = sandbox.spend()
    if not within:
        return _Refusal(429, "too many requests.", headers).response(), "429"
    try:
        _check_keys(sandbox, request)
        now = sandbox.now()
        query = _parse(request.query_params, now, crypto=crypto)
        faults = sandbox.faults.concerning(query.symbols)
        await _delay_or_refuse(faults, headers)
        page, acted = await run_in_threadpool(_page, sandbox, query, now, faults, crypto=crypto)
    except _Refusal as refusal:
        refusal.headers = {**headers, **refusal.headers}
        return refusal.response(), str(refusal.status)
    for active in faults:
        active.acted += active.number in acted
    body = msgspec.json.encode(page)
    for active in faults:
        if isinstance(active.fault, CutBody) and not active.is_spent:
            active.acted += 1
            return _CutResponse(body, 200, {**SANDBOX_HEADER, **headers}, media_type=_JSON_TYPE), "cut"
    return Response(body, 200, {**SANDBOX_HEADER, **headers}, media_type=_JSON_TYPE), "200"


def _check_keys(sandbox: Sandbox, request: Request) -> None:
    if sandbox.required_keys is None:
        return
    given = (request.headers.get("APCA-API-KEY-ID"), request.headers.get("APCA-API-SECRET-KEY"))
    if not all(given):
        raise _Refusal(401, "unauthorized.")
    for received, expected in zip(given, sandbox.required_keys, strict=True):
        if not secrets.compare_digest((received or "").encode(), expected.encode()):
            raise _Refusal(403, "forbidden.")


async def _delay_or_refuse(faults: Sequence[Active], headers: dict[str, str]) -> None:
    for active in faults:
        if isinstance(active.fault, Delay):
            active.acted += 1
            await asyncio.sleep(active.fault.seconds)
    for active in faults:
        match active.fault:
            case RateLimit(headers=with_headers, retry_after_seconds=seconds) if not active.is_spent:
                active.acted += 1
                if not with_headers:
                    headers.clear()
                    raise _Refusal(429, "too many requests.")
                wait = f"{seconds:g}"
                raise _Refusal(429, "too many requests.", {"Retry-After": wait, "X-RateLimit-Remaining": "0"})
            case ServerError(status=status) if not active.is_spent:
                active.acted += 1
                raise _Refusal(status, "internal server error occurred")


def _parse(params: Mapping[str, str], now: datetime, *, crypto: bool) -> _Query:
    pattern = _CRYPTO_SYMBOL if crypto else _STOCK_SYMBOL
    symbols = tuple(sorted({part.strip() for part in params.get("symbols", "").split(",")} - {""}))
    if not symbols:
        raise _Refusal(400, "symbols parameter is required")
    for symbol in symbols:
        if not pattern.fullmatch(symbol):
            raise _Refusal(400, f"invalid symbol: {symbol}")
    timeframe, minutes = _parse_timeframe(params.get("timeframe"))
    today = datetime.combine(now.astimezone(UTC).date(), datetime.min.time(), UTC)
    start = _parse_time("start", params.get("start"), today, is_end=False)
    end = _parse_time("end", params.get("end"), now, is_end=True)
    if end < start:
        raise _Refusal(400, "end should not be before start")
    limit_text = params.get("limit") or str(_DEFAULT_LIMIT)
    if not limit_text.isascii() or not limit_text.isdigit() or not 1 <= int(limit_text) <= _MAX_LIMIT:
        raise _Refusal(400, f"invalid limit: must be from 1 to {_MAX_LIMIT}")
    sort = params.get("sort") or "asc"
    if sort not in ("asc", "desc"):
        raise _Refusal(400, f"invalid sort: {sort}")
    adjustment = params.get("adjustment") or "raw"
    adjustments = adjustment.split(",")
    if not crypto and not set(adjustments) <= set(_ADJUSTMENTS):
        raise _Refusal(400, f"invalid adjustment: {adjustment}")
    feed = params.get("feed")
    if not crypto and feed is not None and feed not in _FEEDS:
        raise _Refusal(400, f"invalid feed: {feed}")
    return _Query(
        symbols=symbols,
        timeframe=timeframe,
        minutes=minutes,
        start=-int(-start.timestamp() // 1),
        last=int(end.timestamp() // 1),
        limit=int(limit_text),
        descending=sort == "desc",
        raw_prices=not crypto and "split" not in adjustments and "all" not in adjustments,
        after=_parse_token(params.get("page_token"), timeframe, symbols),
    )


def _parse_timeframe(text: str | None) -> tuple[str, int]:
    if not text:
        raise _Refusal(400, "timeframe parameter is required")
    match = _TIMEFRAME.fullmatch(text)
    minutes = int(match[1]) * _UNIT_MINUTES[match[2]] if match else 0
    for name, known in _TIMEFRAMES.items():
        if minutes == known:
            return name, minutes
    raise _Refusal(400, f"invalid timeframe: {text} (this sandbox has {', '.join(_TIMEFRAMES)})")


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
    raise _Refusal(400, f"invalid {name}: {text} is neither a date nor an RFC-3339 time")


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
    raise _Refusal(400, "invalid page_token")


def _page(
    sandbox: Sandbox, query: _Query, now: datetime, faults: Sequence[Active], *, crypto: bool
) -> tuple[dict[str, Any], set[int]]:
    """One page, and the numbers of the data faults that changed it. Blocking: seconds for a page of days."""
    known = sandbox.pairs if crypto else sandbox.stocks
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
        found = sandbox.market.bars(
            instrument,
            query.minutes,
            start,
            last,
            now_seconds,
            # One more than there is room for tells whether this is the last page.
            room + 1,
            descending=query.descending,
            alter=alteration(faults, symbol, now_seconds, raw_prices=query.raw_prices, acted=acted),
        )
        if len(found) > room:
            if room:
                bars[symbol] = _rows(found.pick(slice(0, room)), whole_volumes=not crypto)
                last_served = symbol, int(found.ts[room - 1])
            assert last_served is not None
            token = _token(last_served[0], query.timeframe, last_served[1])
            return {"bars": bars, "next_page_token": token}, acted
        if len(found):
            bars[symbol] = _rows(found, whole_volumes=not crypto)
            last_served = symbol, int(found.ts[-1])
            room -= len(found)
    return {"bars": bars, "next_page_token": None}, acted


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


# ------------------------------------------------------------------------------------------------------- control


async def _about(sandbox: Sandbox, _request: Request) -> Response:
    return _json(
        {
            "synthetic": True,
            "message": "Every price here is synthetic: computed from the seed, never traded anywhere.",
            "seed": sandbox.market.seed,
            "symbols": len(sandbox.market.universe),
            "stocks": len(sandbox.stocks),
            "crypto_pairs": len(sandbox.pairs),
            "now": sandbox.now().isoformat(),
            "requests_per_minute": sandbox.requests_per_minute,
        }
    )


async def _faults(sandbox: Sandbox, request: Request) -> Response:
    if request.method == "POST":
        try:
            number = sandbox.faults.add(parse_fault(await request.body()))
        except InvalidFaultError as error:
            return _json({"message": str(error)}, 400)
        return _json({"id": number}, 201)
    if request.method == "DELETE":
        sandbox.faults.clear()
    return _json({"faults": sandbox.faults.report()})


async def _clear_fault(sandbox: Sandbox, request: Request) -> Response:
    number: int = request.path_params["number"]
    if not sandbox.faults.clear(number):
        return _json({"message": f"there is no fault {number}"}, 404)
    return _json({"faults": sandbox.faults.report()})


async def _stats(sandbox: Sandbox, request: Request) -> Response:
    if request.method == "DELETE":
        sandbox.stats.reset()
    return _json(sandbox.stats.report())
