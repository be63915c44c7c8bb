"""Binance's spot klines in the sandbox: pairs spelt BTCUSDT, milliseconds, prices as text.

A dollar pair of the universe is served as the pair against USDT. The kline that is still forming comes last, as it does
at Binance.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ema_assets.model.symbols import Instrument
from ema_assets.sandbox.exchange import Dialect, Refusal, Sandbox, json_refusal, json_response
from ema_assets.sandbox.faults import Active, MissingSymbol, alteration, standing
from ema_assets.sandbox.synthetic_bars import Bars

KLINES_PATH = "/api/v3/klines"
LIST_PATH = "/api/v3/exchangeInfo"
PING_PATH = "/api/v3/ping"
TIME_PATH = "/api/v3/time"

_DEFAULT_LIMIT, _MAX_LIMIT = 500, 1_000
# The vendor also has 3m, 3d, 1w and 1M.
_INTERVALS = {
    "1m": 1, "5m": 5, "15m": 15, "30m": 30,
    "1h": 60, "2h": 120, "4h": 240, "6h": 360, "8h": 480, "12h": 720, "1d": 1440,
}  # fmt: skip
_WEIGHT_PER_MINUTE = 6_000
_SYMBOL = re.compile(r"[A-Z0-9_.-]{1,20}")
_USED_TOO_MUCH = (
    -1003,
    f"Too much request weight used; current limit is {_WEIGHT_PER_MINUTE} request weight per 1 MINUTE.",
)
_WORDS = {
    401: (-2014, "API-key format invalid."),
    403: (0, "Forbidden"),
    404: (0, "Not Found"),
    418: (-1003, "Way too much request weight used; IP banned."),
    429: _USED_TOO_MUCH,
    451: (0, "Service unavailable from a restricted location."),
}


def _refused(code: int, message: str, status: int = 400) -> Refusal:
    return json_refusal(status, {"code": code, "msg": message})


# A pair that has ended stays on the list.
_STATUSES = {"trading": "TRADING", "halted": "HALT", "ended": "BREAK"}


@dataclass(frozen=True, slots=True)
class _Query:
    """A parsed request for klines. Times are whole seconds, both ends included; None means no limit."""

    instrument: Instrument
    symbol: str
    minutes: int
    start: int | None
    last: int | None
    limit: int

    @property
    def symbols(self) -> Sequence[str]:
        """The one symbol."""
        return (self.symbol,)


class BinanceKlines(Dialect[_Query]):
    """Klines of one symbol per call."""

    weight = 2

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__(sandbox, KLINES_PATH, sandbox.budget("binance", _WEIGHT_PER_MINUTE))

    def routes(self) -> list[Route]:
        """Return the routes of the klines, the list of symbols, the ping and the time."""
        more = {LIST_PATH: self._list, PING_PATH: self._ping, TIME_PATH: self._time}
        return [*super().routes(), *(Route(path, answer) for path, answer in more.items())]

    async def _list(self, _request: Request) -> Response:
        now = self.sandbox.now()
        faults = self.sandbox.faults.concerning(self.known())
        found = {symbol: standing(faults, symbol, now) for symbol in self.known()}
        listed = [{"symbol": symbol, "status": _STATUSES[said]} for symbol, said in found.items() if said]
        return json_response({"timezone": "UTC", "serverTime": int(now.timestamp() * 1_000), "symbols": listed})

    async def _ping(self, _request: Request) -> Response:
        return json_response({})

    async def _time(self, _request: Request) -> Response:
        return json_response({"serverTime": int(self.sandbox.now().timestamp() * 1_000)})

    def spelling(self, instrument: Instrument) -> str | None:
        """Return `BTCUSDT` for our `BTC-USD`; None for stocks, which the vendor does not have."""
        if not instrument.is_crypto:
            return None
        base, _, quote = instrument.symbol.replace("/", "-").partition("-")
        return base + ("USDT" if quote == "USD" else quote)

    def refusal(self, status: int) -> Refusal:
        """Return a code and a message."""
        return _refused(*_WORDS.get(status, (-1000, "An unknown error occurred while processing the request.")), status)

    def headers(self, *, within: bool) -> dict[str, str]:
        """Return the weight used in the last minute and, when it was too much, when to retry."""
        used = {"X-MBX-USED-WEIGHT-1M": str(self.budget.used), "X-MBX-USED-WEIGHT": str(self.budget.used)}
        return used if within else {**used, "Retry-After": str(math.ceil(self.budget.frees_in_seconds))}

    def read(self, request: Request, now: datetime) -> _Query:  # noqa: ARG002 - the request has the times
        """Parse the parameters."""
        params = request.query_params
        symbol = params.get("symbol", "")
        if not symbol:
            raise _refused(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
        if not _SYMBOL.fullmatch(symbol):
            raise _refused(
                -1100, f"Illegal characters found in parameter 'symbol'; legal range is '{_SYMBOL.pattern}'."
            )
        instrument = self.known().get(symbol)
        if instrument is None:
            raise _refused(-1121, "Invalid symbol.")
        if params.get("interval") not in _INTERVALS:
            raise _refused(-1120, "Invalid interval.")
        numbers: dict[str, int | None] = {}
        for name in ("startTime", "endTime", "limit"):
            text = params.get(name)
            if text is not None and not (text.isascii() and text.isdigit() and len(text) < 16):
                raise _refused(
                    -1100, f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'."
                )
            numbers[name] = None if text is None else int(text)
        start, last, limit = numbers.values()
        return _Query(
            instrument=instrument,
            symbol=symbol,
            minutes=_INTERVALS[params["interval"]],
            start=None if start is None else -(-start // 1_000),
            last=None if last is None else last // 1_000,
            limit=min(_DEFAULT_LIMIT if limit is None else limit, _MAX_LIMIT),
        )

    def page(self, query: _Query, now: datetime, faults: Sequence[Active]) -> tuple[list[list[Any]], set[int]]:
        """Return up to `limit` klines from the start on, or the last ones without a start."""
        missing = {a.number for a in faults if isinstance(a.fault, MissingSymbol) and query.symbol in a.fault.symbols}
        if missing:
            return [], missing
        acted: set[int] = set()
        at = int(now.timestamp())
        last = at if query.last is None else min(query.last, at)
        alter = alteration(faults, query.symbol, at, raw_prices=False, acted=acted)
        market, from_end = self.sandbox.market, query.start is None
        closed = market.bars(
            query.instrument, query.minutes, query.start or 0, last, at, query.limit, descending=from_end, alter=alter
        )
        rows = _rows(closed.pick(slice(None, None, -1)) if from_end else closed, query.minutes)
        forming = market.forming(query.instrument, query.minutes, at, alter)
        if len(forming) and (query.start or 0) <= forming.ts[0] <= last:
            rows += _rows(forming, query.minutes)
        return rows[-query.limit :] if from_end else rows[: query.limit], acted


def dialects(sandbox: Sandbox) -> tuple[BinanceKlines]:
    """Return the endpoint for bars, which also has routes for lists and the time."""
    return (BinanceKlines(sandbox),)


def _rows(bars: Bars, minutes: int) -> list[list[Any]]:
    quote_volume = bars.volume * bars.vwap
    columns = zip(
        (bars.ts * 1_000).tolist(),
        *(_text(getattr(bars, name)) for name in ("open", "high", "low", "close", "volume")),
        ((bars.ts + minutes * 60) * 1_000 - 1).tolist(),
        _text(quote_volume),
        bars.trades.tolist(),
        _text(bars.volume / 2),
        _text(quote_volume / 2),
        strict=True,
    )
    return [[*row, "0"] for row in columns]


def _text(values: np.ndarray[Any, np.dtype[np.float64]]) -> list[str]:
    return [f"{value:.8f}" for value in values.tolist()]
