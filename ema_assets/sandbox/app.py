"""The sandbox's HTTP app: the endpoints of all vendors, and its own control endpoints. Prices are in market.py.

    GET  /sandbox                       says that everything is synthetic
    GET, POST, DELETE /sandbox/faults, DELETE /sandbox/faults/{id}
    GET, DELETE /sandbox/stats

Each module of `dialects` adds the endpoints of its vendor. Every answer has the header `X-Sandbox: synthetic`.
"""

import pkgutil
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ema_assets.model.errors import did_you_mean
from ema_assets.model.same_origin import SameOriginOnly
from ema_assets.model.symbols import Instrument
from ema_assets.sandbox import dialects
from ema_assets.sandbox.exchange import Clock, Dialect, Sandbox, json_response, utc_now
from ema_assets.sandbox.faults import AnyFault, InvalidFaultError, parse_fault

DEFAULT_REQUESTS_PER_MINUTE = 10_000


def create_app(
    universe: Sequence[Instrument],
    seed: int,
    *,
    clock: Clock | None = None,
    requests_per_minute: int = DEFAULT_REQUESTS_PER_MINUTE,
    required_keys: tuple[str, str] | None = None,
) -> Starlette:
    """Build the sandbox. The app's handle is `app.state.sandbox`, a Sandbox.

    Args:
        universe: The symbols that it knows, with their calendars. It answers requests for others as the vendor would.
        seed: The seed of all prices.
        clock: Bars are served as of `clock()`; by default, the real time. Some vendors serve only bars that have closed
            by then, others also the bar that is still forming.
        requests_per_minute: The limit for each vendor that counts requests.
        required_keys: A key id and a secret. With these, vendors that have keys answer other callers with 401 or 403.
    """
    sandbox = Sandbox(
        universe,
        seed,
        clock=clock or utc_now,
        requests_per_minute=requests_per_minute,
        required_keys=required_keys,
    )
    spoken = list(_all_dialects(sandbox))
    control = _Control(sandbox, spoken)
    app = Starlette(
        routes=[
            *(route for dialect in spoken for route in dialect.routes()),
            Route("/sandbox", control.about),
            Route("/sandbox/faults", control.faults, methods=["GET", "POST", "DELETE"]),
            Route("/sandbox/faults/{number:int}", control.clear_fault, methods=["DELETE"]),
            Route("/sandbox/stats", control.stats, methods=["GET", "DELETE"]),
        ],
        middleware=[Middleware(SameOriginOnly)],
        exception_handlers={HTTPException: _plain_error, Exception: _unexpected_error},
    )
    app.state.sandbox = sandbox
    return app


def _all_dialects(sandbox: Sandbox) -> Iterator[Dialect[Any]]:
    """Yield the results of the function `dialects` of every module in the package `dialects`."""
    for module in pkgutil.iter_modules(dialects.__path__):
        yield from import_module(f"{dialects.__name__}.{module.name}").dialects(sandbox)


def _plain_error(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = {404: "endpoint not found", 405: "method not allowed"}.get(status, "request refused")
    return json_response({"message": message}, status)


def _unexpected_error(_request: Request, _error: Exception) -> Response:
    return json_response({"message": "internal server error occurred"}, 500)


class _Control:
    """The endpoints with which tests and people control the sandbox."""

    def __init__(self, sandbox: Sandbox, spoken: Sequence[Dialect[Any]]) -> None:
        self._sandbox = sandbox
        self._spoken = spoken

    async def about(self, _request: Request) -> Response:
        market = self._sandbox.market
        pairs = sum(instrument.is_crypto for instrument in market.universe)
        return json_response(
            {
                "synthetic": True,
                "message": "Every price here is synthetic: computed from the seed, never traded anywhere.",
                "seed": market.seed,
                "symbols": len(market.universe),
                "stocks": len(market.universe) - pairs,
                "crypto_pairs": pairs,
                "now": self._sandbox.now().isoformat(),
                "requests_per_minute": self._sandbox.requests_per_minute,
            }
        )

    async def faults(self, request: Request) -> Response:
        active = self._sandbox.faults
        if request.method == "POST":
            try:
                number = active.add(self._in_every_spelling(parse_fault(await request.body())))
            except InvalidFaultError as error:
                return json_response({"message": str(error)}, 400)
            return json_response({"id": number}, 201)
        if request.method == "DELETE":
            active.clear()
        return json_response({"faults": active.report()})

    def _in_every_spelling(self, fault: AnyFault) -> AnyFault:
        """Return `fault` with the vendors' spellings of each of its symbols, such as BTC-USD, added.

        Raises:
            InvalidFaultError: when the sandbox does not have a symbol, because such a fault would have no effect.
        """
        if fault.symbols is None:
            return fault
        by_name = {
            each.symbol: {spelt for dialect in self._spoken if (spelt := dialect.spelling(each)) is not None}
            for each in self._sandbox.market.universe
        }
        known = set().union(*by_name.values())
        for symbol in fault.symbols:
            if symbol not in by_name and symbol not in known:
                raise InvalidFaultError(
                    f"`symbols` must be on the watchlist of the sandbox, as it or a vendor spells them, received "
                    f"{symbol!r}{did_you_mean(symbol, [*by_name, *known])}"
                )
        named = [each for symbol in fault.symbols for each in (symbol, *sorted(by_name.get(symbol, ())))]
        return msgspec.structs.replace(fault, symbols=list(dict.fromkeys(named)))

    async def clear_fault(self, request: Request) -> Response:
        number: int = request.path_params["number"]
        if not self._sandbox.faults.clear(number):
            return json_response({"message": f"there is no fault {number}"}, 404)
        return json_response({"faults": self._sandbox.faults.report()})

    async def stats(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._sandbox.stats.reset()
        return json_response(self._sandbox.stats.report())
