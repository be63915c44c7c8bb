"""The running sandbox, and how every vendor's endpoint handles a request. The vendors' formats are in `dialects`.

A request passes the budget, the vendor's checks and the active faults. Its answer is counted.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ema_assets.model.symbols import Instrument
from ema_assets.sandbox.faults import Active, CutBody, Delay, Delayed, Faults, RateLimit, Refuse, ServerError
from ema_assets.sandbox.market import Market

JSON_TYPE = "application/json; charset=utf-8"
SANDBOX_HEADER = {"X-Sandbox": "synthetic"}

_BUDGET_WINDOW_SECONDS = 60.0
_HTML = b"<html><head><title>Error</title></head><body><h1>Error</h1></body></html>"

Clock = Callable[[], datetime]


@dataclass(slots=True)
class Stats:
    """The number of answers of the bars endpoints. Control endpoints are not counted."""

    by_path: Counter[str] = field(default_factory=Counter)
    by_status: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """The number of all answers."""
        return sum(self.by_path.values())

    def report(self) -> dict[str, Any]:
        """Return `total`, `by_path` and `by_status`. A body cut on purpose counts as status `cut`."""
        return {"total": self.total, "by_path": dict(self.by_path), "by_status": dict(self.by_status)}

    def reset(self) -> None:
        """Set all counts to zero. Answers in progress are not counted afterwards, either."""
        self.by_path, self.by_status = Counter(), Counter()


class Budget:
    """The requests that a vendor allows in any 60 seconds, or their weight where calls have different weights."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._spent: deque[tuple[float, int]] = deque()
        self._used = 0

    @property
    def used(self) -> int:
        """The requests or the weight used in the last 60 seconds."""
        now = time.monotonic()
        while self._spent and self._spent[0][0] <= now - _BUDGET_WINDOW_SECONDS:
            self._used -= self._spent.popleft()[1]
        return self._used

    @property
    def frees_in_seconds(self) -> float:
        """The seconds until the oldest request no longer counts; 0 when there is none."""
        return self._spent[0][0] + _BUDGET_WINDOW_SECONDS - time.monotonic() if self._spent else 0.0

    def spend(self, weight: int = 1) -> bool:
        """Use `weight` if there is enough left. Return whether there was."""
        within = self.used + weight <= self.limit
        if within:
            self._spent.append((time.monotonic(), weight))
            self._used += weight
        return within


class Sandbox:
    """The handle of a running sandbox, `app.state.sandbox`: its market, clock, faults, budgets and counters.

    `required_keys` are the key id and the secret that a vendor with keys requires; with None, any keys are accepted.
    If `is_free_plan` is set, a vendor with plans serves what its free plan includes.
    """

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
        self.is_free_plan = False
        self.budgets: dict[str, Budget] = {}
        self.faults = Faults()
        self.stats = Stats()

    def set_universe(self, universe: Sequence[Instrument]) -> None:
        """Serve these symbols from now on. The bars of a symbol do not depend on the other symbols."""
        self.market = Market(universe, self._seed)

    def budget(self, vendor: str, limit: int) -> Budget:
        """Return the budget that the endpoints of `vendor` share. `limit` is used in the first call only."""
        return self.budgets.setdefault(vendor, Budget(limit))

    def now(self) -> datetime:
        """Return the sandbox's time, with a zone.

        Raises:
            ValueError: when the given clock returns a naive time.
        """
        now = self.clock()
        if now.tzinfo is None:
            raise ValueError("`clock` must give timezone-aware datetimes")
        return now


def utc_now() -> datetime:
    """Return the real time, UTC."""
    return datetime.now(UTC)


class Refusal(Exception):
    """An answer without bars, in the vendor's words."""

    def __init__(
        self, status: int, body: bytes, media_type: str = JSON_TYPE, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(body.decode())
        self.status = status
        self.body = body
        self.media_type = media_type
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """Return the HTTP response."""
        return Response(self.body, self.status, {**SANDBOX_HEADER, **self.headers}, media_type=self.media_type)


def json_refusal(status: int, body: object) -> Refusal:
    """Return a refusal whose body is JSON."""
    return Refusal(status, msgspec.json.encode(body))


def json_response(body: object, status: int = 200) -> Response:
    """Return an answer of the control endpoints."""
    return Response(msgspec.json.encode(body), status, SANDBOX_HEADER, media_type=JSON_TYPE)


class _CutResponse(Response):
    """A response that announces the whole body but sends half of it. The server then closes the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})


class HasSymbols(Protocol):
    """A parsed request for bars."""

    @property
    def symbols(self) -> Sequence[str]:
        """The requested symbols as the vendor spells them."""
        ...


Query = TypeVar("Query", bound=HasSymbols)


class Dialect(ABC, Generic[Query]):
    """One endpoint of one vendor. Answers are counted under `path`."""

    # Headers in addition to `Retry-After` when the budget is used up.
    exhausted: ClassVar[Mapping[str, str]] = {}
    weight: ClassVar[int] = 1

    def __init__(self, sandbox: Sandbox, path: str, budget: Budget) -> None:
        self.sandbox = sandbox
        self.path = path
        self.budget = budget
        self._known: dict[str, Instrument] = {}
        self._known_of: Market | None = None

    @abstractmethod
    def spelling(self, instrument: Instrument) -> str | None:
        """Return the vendor's spelling of one of our instruments; None when it does not have such instruments."""

    @abstractmethod
    def refusal(self, status: int) -> Refusal:
        """Return the vendor's answer with `status`."""

    @abstractmethod
    def headers(self, *, within: bool) -> dict[str, str]:
        """Return the headers about the budget. `within` tells whether the request is within it."""

    @abstractmethod
    def read(self, request: Request, now: datetime) -> Query:
        """Parse a request.

        Raises:
            Refusal: when the vendor would refuse the request.
        """

    @abstractmethod
    def page(self, query: Query, now: datetime, faults: Sequence[Active]) -> tuple[object, set[int]]:
        """Return the body of an answer, and the numbers of the data faults that changed it.

        The call blocks, for seconds with a page of daily bars.
        """

    def known(self) -> Mapping[str, Instrument]:
        """Return the vendor's instruments, by its spelling."""
        market = self.sandbox.market
        if self._known_of is not market:
            spelt = {self.spelling(instrument): instrument for instrument in market.universe}
            self._known = {spelling: instrument for spelling, instrument in spelt.items() if spelling is not None}
            self._known_of = market
        return self._known

    def routes(self) -> list[Route]:
        """Return the route of the endpoint, and routes of further endpoints of the vendor."""
        return [Route(self.path, self.handle)]

    async def handle(self, request: Request) -> Response:
        """Answer the request, and count the answer."""
        # The counters are chosen at the beginning, because an answer that nobody waits for may end after a `reset`.
        by_path, by_status = self.sandbox.stats.by_path, self.sandbox.stats.by_status
        response, status = await self._answer(request)
        by_path[self.path] += 1
        by_status[status] += 1
        return response

    async def _answer(self, request: Request) -> tuple[Response, str]:
        within = self.budget.spend(self.weight)
        headers = self.headers(within=within)
        try:
            if not within:
                raise self.refusal(429)
            now = self.sandbox.now()
            query = self.read(request, now)
            faults = self.sandbox.faults.concerning(query.symbols)
            await self._delay_or_refuse(faults, headers)
            seen = now - timedelta(seconds=_seconds_behind(faults))
            page, acted = await run_in_threadpool(self.page, query, seen, faults)
        except Refusal as refusal:
            refusal.headers = {**headers, **refusal.headers}
            return refusal.response(), str(refusal.status)
        for active in faults:
            active.acted += active.number in acted
        body = msgspec.json.encode(page)
        for active in faults:
            if isinstance(active.fault, CutBody) and not active.is_spent:
                active.acted += 1
                return _CutResponse(body, 200, {**SANDBOX_HEADER, **headers}, media_type=JSON_TYPE), "cut"
        return Response(body, 200, {**SANDBOX_HEADER, **headers}, media_type=JSON_TYPE), "200"

    async def _delay_or_refuse(self, faults: Sequence[Active], headers: dict[str, str]) -> None:
        for active in faults:
            if isinstance(active.fault, Delay):
                active.acted += 1
                await asyncio.sleep(active.fault.seconds)
        for active in faults:
            if active.is_spent or not isinstance(active.fault, RateLimit | Refuse | ServerError):
                continue
            active.acted += 1
            match active.fault:
                case RateLimit(headers=False):
                    headers.clear()
                    raise self.refusal(429)
                case RateLimit(retry_after_seconds=seconds):
                    refusal = self.refusal(429)
                    refusal.headers |= {**self.exhausted, "Retry-After": f"{seconds:g}"}
                    raise refusal
                case Refuse(status=status, html=html, retry_after_seconds=wait):
                    refusal = Refusal(status, _HTML, "text/html") if html else self.refusal(status)
                    if wait is not None:
                        refusal.headers["Retry-After"] = f"{wait:g}"
                    raise refusal
                case ServerError(status=status, html=html):
                    raise Refusal(status, _HTML, "text/html") if html else self.refusal(status)


def _seconds_behind(faults: Sequence[Active]) -> float:
    """Return how many seconds the exchange is behind, by the delays among `faults`."""
    behind = 0.0
    for active in faults:
        if isinstance(active.fault, Delayed):
            active.acted += 1
            behind = max(behind, active.fault.seconds)
    return behind
