"""The sandbox's HTTP face: the vendors' endpoints, and control endpoints of its own. Prices live in market.py.

    GET  /v2/stocks/bars                bars of stocks, as Alpaca serves them
    GET  /v1beta3/crypto/us/bars        bars of crypto pairs, spelt BTC/USD, as Alpaca serves them
    GET  /v8/finance/chart/{symbol}     a chart, as Yahoo serves it
    GET  /api/v3/klines                 klines, as Binance serves them; also /api/v3/ping and /api/v3/time
    GET  /sandbox                       says that all this is synthetic
    GET, POST, DELETE /sandbox/faults, DELETE /sandbox/faults/{id}
    GET, DELETE /sandbox/stats

Every answer carries `X-Sandbox: synthetic`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ema_assets.model.symbols import Instrument
from ema_assets.sandbox.alpaca import AlpacaBars
from ema_assets.sandbox.binance import PING_PATH, TIME_PATH, BinanceKlines
from ema_assets.sandbox.exchange import Clock, Sandbox, json_response, utc_now
from ema_assets.sandbox.faults import InvalidFaultError, parse_fault
from ema_assets.sandbox.yahoo import YahooChart

DEFAULT_REQUESTS_PER_MINUTE = 10_000


def create_app(
    universe: Sequence[Instrument],
    seed: int,
    *,
    clock: Clock | None = None,
    requests_per_minute: int = DEFAULT_REQUESTS_PER_MINUTE,
    required_keys: tuple[str, str] | None = None,
) -> Starlette:
    """Build the sandbox.

    `universe` are the symbols it knows, with their calendars; of any other it says what the vendor would. Alpaca's
    endpoints serve only bars that have closed at `clock()` (default: the real time), the others also the one still
    forming, as the vendors do. `requests_per_minute` holds for Alpaca's and for Yahoo's; Binance's budget is weight.
    With `required_keys`, a key id and a secret, Alpaca's answer other callers with 401 or 403. The app's handle is
    `app.state.sandbox`, a Sandbox.
    """
    sandbox = Sandbox(
        universe,
        seed,
        clock=clock or utc_now,
        requests_per_minute=requests_per_minute,
        required_keys=required_keys,
    )
    dialects = (
        AlpacaBars(sandbox, crypto=False),
        AlpacaBars(sandbox, crypto=True),
        YahooChart(sandbox),
        BinanceKlines(sandbox),
    )
    app = Starlette(
        routes=[
            *(Route(dialect.path, dialect.handle) for dialect in dialects),
            Route(PING_PATH, _named(functools.partial(_ping, sandbox))),
            Route(TIME_PATH, _named(functools.partial(_time, sandbox))),
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


def _plain_error(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = {404: "endpoint not found", 405: "method not allowed"}.get(status, "request refused")
    return json_response({"message": message}, status)


def _unexpected_error(_request: Request, _error: Exception) -> Response:
    return json_response({"message": "internal server error occurred"}, 500)


async def _ping(_sandbox: Sandbox, _request: Request) -> Response:
    return json_response({})


async def _time(sandbox: Sandbox, _request: Request) -> Response:
    return json_response({"serverTime": int(sandbox.now().timestamp() * 1_000)})


async def _about(sandbox: Sandbox, _request: Request) -> Response:
    pairs = sum(instrument.is_crypto for instrument in sandbox.market.universe)
    return json_response(
        {
            "synthetic": True,
            "message": "Every price here is synthetic: computed from the seed, never traded anywhere.",
            "seed": sandbox.market.seed,
            "symbols": len(sandbox.market.universe),
            "stocks": len(sandbox.market.universe) - pairs,
            "crypto_pairs": pairs,
            "now": sandbox.now().isoformat(),
            "requests_per_minute": sandbox.requests_per_minute,
        }
    )


async def _faults(sandbox: Sandbox, request: Request) -> Response:
    if request.method == "POST":
        try:
            number = sandbox.faults.add(parse_fault(await request.body()))
        except InvalidFaultError as error:
            return json_response({"message": str(error)}, 400)
        return json_response({"id": number}, 201)
    if request.method == "DELETE":
        sandbox.faults.clear()
    return json_response({"faults": sandbox.faults.report()})


async def _clear_fault(sandbox: Sandbox, request: Request) -> Response:
    number: int = request.path_params["number"]
    if not sandbox.faults.clear(number):
        return json_response({"message": f"there is no fault {number}"}, 404)
    return json_response({"faults": sandbox.faults.report()})


async def _stats(sandbox: Sandbox, request: Request) -> Response:
    if request.method == "DELETE":
        sandbox.stats.reset()
    return json_response(sandbox.stats.report())
