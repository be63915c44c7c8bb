"""Coinbase Exchange's candles in the sandbox: newest first, columns in the vendor's order, times in seconds.

The candle that is still forming comes first. If there is room, one candle from before the range comes last: the vendor
documents that this may happen. An interval without a trade has no candle.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ema_assets.model.symbols import Instrument
from ema_assets.sandbox.exchange import Dialect, Refusal, Sandbox, json_refusal, json_response
from ema_assets.sandbox.faults import Active, MissingSymbol, alteration, standing
from ema_assets.sandbox.synthetic_bars import Bars

CANDLES_PATH = "/products/{product}/candles"
PRODUCTS_PATH = "/products"
TIME_PATH = "/time"

_MAX_CANDLES = 300
_GRANULARITIES = (60, 300, 900, 3_600, 21_600, 86_400)
_TOO_MANY = (
    f"granularity too small for the requested time range. Count of aggregations requested exceeds {_MAX_CANDLES}"
)
_WORDS = {
    401: "Unauthorized.",
    403: "Forbidden",
    404: "NotFound",
    429: "Public rate limit exceeded",
    500: "Internal server error",
}


def _refused(status: int, message: str) -> Refusal:
    return json_refusal(status, {"message": message})


@dataclass(frozen=True, slots=True)
class _Query:
    """A parsed request for candles. Times are whole seconds, both ends included."""

    instrument: Instrument
    symbol: str
    step: int
    start: int
    last: int

    @property
    def symbols(self) -> Sequence[str]:
        """The one product."""
        return (self.symbol,)


class CoinbaseCandles(Dialect[_Query]):
    """Candles of one product per call."""

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__(sandbox, CANDLES_PATH, sandbox.budget("coinbase", sandbox.requests_per_minute))

    def routes(self) -> list[Route]:
        """Return the routes of the candles, the list of products, and the time."""
        return [*super().routes(), Route(PRODUCTS_PATH, self._products), Route(TIME_PATH, self._time)]

    async def _products(self, _request: Request) -> Response:
        now, faults = self.sandbox.now(), self.sandbox.faults.concerning(self.known())
        pairs = [
            (symbol, *symbol.partition("-")[::2], said)
            for symbol in self.known()
            if (said := standing(faults, symbol, now)) is not None
        ]
        return json_response(
            [
                {
                    "id": symbol,
                    "base_currency": base,
                    "quote_currency": quote,
                    "quote_increment": "0.00000001",
                    "base_increment": "0.00000001",
                    "display_name": f"{base}/{quote}",
                    "status": "delisted" if said == "ended" else "online",
                    "trading_disabled": said != "trading",
                }
                for symbol, base, quote, said in pairs
            ]
        )

    async def _time(self, _request: Request) -> Response:
        now = self.sandbox.now()
        return json_response({"iso": _iso(now), "epoch": round(now.timestamp(), 3)})

    def spelling(self, instrument: Instrument) -> str | None:
        """Return `BTC-USD` for our `BTC-USD`; None for stocks, which the vendor does not have."""
        return instrument.symbol.upper().replace("/", "-", 1) if instrument.is_crypto else None

    def refusal(self, status: int) -> Refusal:
        """Return a message."""
        return _refused(status, _WORDS.get(status, _WORDS[500] if status >= 500 else "Bad Request"))

    def headers(self, *, within: bool) -> dict[str, str]:  # noqa: ARG002 - the vendor sends no budget
        """Return no headers."""
        return {}

    def read(self, request: Request, now: datetime) -> _Query:
        """Parse the path and the parameters."""
        if not request.headers.get("user-agent"):
            raise _refused(400, "User-Agent header is required.")
        symbol: str = request.path_params["product"]
        instrument = self.known().get(symbol)
        if instrument is None:
            raise self.refusal(404)
        params: Mapping[str, str] = request.query_params
        granularity = params.get("granularity", "60")
        if granularity not in map(str, _GRANULARITIES):
            raise _refused(400, "Unsupported granularity")
        step = int(granularity)
        start, last = _time_of(params.get("start")), _time_of(params.get("end"))
        if start is None or last is None:
            # The vendor ignores one of the two without the other.
            last = int(now.timestamp())
            start = last - (_MAX_CANDLES - 1) * step
        if last < start:
            raise _refused(400, "start must be before end")
        if last // step - -(-start // step) + 1 > _MAX_CANDLES:
            raise _refused(400, _TOO_MANY)
        return _Query(instrument, symbol, step, start, last)

    def page(self, query: _Query, now: datetime, faults: Sequence[Active]) -> tuple[list[list[Any]], set[int]]:
        """Return all candles of the range, newest first."""
        missing = {a.number for a in faults if isinstance(a.fault, MissingSymbol) and query.symbol in a.fault.symbols}
        if missing:
            return [], missing
        acted: set[int] = set()
        at = int(now.timestamp())
        alter = alteration(faults, query.symbol, at, raw_prices=False, acted=acted)
        market, minutes = self.sandbox.market, query.step // 60
        closed = market.bars(
            query.instrument,
            minutes,
            query.start - query.step,
            query.last,
            at,
            _MAX_CANDLES + 1,
            descending=True,
            alter=alter,
        )
        rows = _rows(closed)
        forming = market.forming(query.instrument, minutes, at, alter)
        if len(forming) and query.start <= forming.ts[0] <= query.last:
            rows = _rows(forming) + rows
        return rows[:_MAX_CANDLES], acted


def dialects(sandbox: Sandbox) -> tuple[CoinbaseCandles]:
    """Return the endpoint for bars, which also has routes for lists and the time."""
    return (CoinbaseCandles(sandbox),)


def _time_of(text: str | None) -> int | None:
    """Return the seconds since 1970 of a time in one of the vendor's formats: such seconds, or ISO 8601."""
    if not text:
        return None
    if re.fullmatch(r"[0-9]{1,11}", text):
        return int(text)
    try:
        moment = msgspec.convert(text.replace(" ", "+"), datetime)
    except ValueError:
        raise _refused(400, f"invalid time: {text}") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1_000:03}Z"


def _rows(bars: Bars) -> list[list[Any]]:
    columns = zip(
        bars.ts.tolist(),
        *(getattr(bars, name).tolist() for name in ("low", "high", "open", "close", "volume")),
        strict=True,
    )
    return [list(row) for row in columns]
