"""Tests of the states from the lists of Binance and Coinbase, over real sockets: one call, all symbols, and errors."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from ema_assets.model.errors import Banned, MalformedAnswer, ProviderUnavailable
from ema_assets.model.symbols import ALWAYS_OPEN, Instrument
from ema_assets.providers.fetching.describing import Described, Question
from ema_assets.providers.vendors.binance import BinanceClient
from ema_assets.providers.vendors.coinbase import CoinbaseClient
from ema_assets.sandbox.faults import Ended, Halted, MissingSymbol
from ema_assets.sandbox.server import RunningSandbox
from ema_assets_tests.providers.conftest import MIDDAY, binance, coinbase, vendor

PAIRS = tuple(Instrument(f"C{letter}-USD", ALWAYS_OPEN) for letter in "ABCDE")
WEEK_AGO = datetime(2026, 7, 8, tzinfo=UTC)


@dataclass(frozen=True)
class Lister:
    """A vendor: its client, the address of its list, the suffix of its symbols, its words for states, and a list."""

    opened: Any
    path: str
    params: Mapping[str, str]
    suffix: str
    words: Mapping[str, tuple[str, str]]
    wrapped: Any


LISTERS = {
    "binance": Lister(
        binance,
        "/api/v3/exchangeInfo",
        {"showPermissionSets": "false"},
        "USDT",
        {
            "trading": ("active", "TRADING"),
            "halted": ("halted", "HALT"),
            "ended": ("delisted", "BREAK"),
        },
        lambda rows: {"timezone": "UTC", "symbols": rows},
    ),
    "coinbase": Lister(
        coinbase,
        "/products",
        {},
        "-USD",
        {
            "trading": ("active", "online"),
            "halted": ("halted", "online, trading disabled"),
            "ended": ("delisted", "delisted"),
        },
        lambda rows: rows,
    ),
}


@pytest.fixture(params=list(LISTERS))
def lister(request: pytest.FixtureRequest) -> Lister:
    return LISTERS[request.param]


def ask(lister: Lister, base_url: str, instruments: Sequence[Instrument] = PAIRS) -> Described:
    async def run() -> Described:
        client = lister.opened(base_url)
        assert isinstance(client, BinanceClient | CoinbaseClient)
        question = Question(instruments, dict.fromkeys((each.symbol for each in instruments), date.min), MIDDAY.date())
        return await client.describe(question)

    return asyncio.run(run())


def test_one_call_returns_the_states_of_all_symbols(lister: Lister, sandbox: RunningSandbox) -> None:
    faults = sandbox.handle.faults
    faults.add(Halted(symbols=[f"CB{lister.suffix}"]))
    faults.add(Ended(symbols=[f"CC{lister.suffix}"], at=WEEK_AGO))
    faults.add(Ended(symbols=[f"CD{lister.suffix}"], at=MIDDAY.replace(day=20)))
    faults.add(MissingSymbol(symbols=[f"CE{lister.suffix}"]))
    found = ask(lister, sandbox.base_url)
    assert found.states is not None
    assert found.states.rows() == [
        (symbol, state, None, words)
        for symbol, (state, words) in {
            "CA-USD": lister.words["trading"],
            "CB-USD": lister.words["halted"],
            "CC-USD": lister.words["ended"],
            "CD-USD": lister.words["trading"],
            "CE-USD": ("unknown", None),
        }.items()
    ]
    assert found.actions is not None
    assert (found.actions.height, found.problems, found.calls) == (0, (), 1)


def test_the_whole_list_is_requested(lister: Lister) -> None:
    rows = [{"symbol": "CAUSDT", "id": "CA-USD", "status": "TRADING", "filters": [{"any": 1}], "more": None}]
    with vendor(lambda _: JSONResponse(lister.wrapped(rows))) as (base_url, seen):
        found = ask(lister, base_url)
    assert [(request.url.path, dict(request.query_params)) for request in seen] == [(lister.path, dict(lister.params))]
    assert found.states is not None
    assert found.states["state"].to_list()[1:] == ["unknown"] * 4


def test_a_product_that_is_offline_is_halted() -> None:
    rows = [{"id": "CA-USD", "status": "offline"}, {"id": "CB-USD", "status": "internal", "trading_disabled": True}]
    with vendor(lambda _: JSONResponse(rows)) as (base_url, _):
        found = ask(LISTERS["coinbase"], base_url, PAIRS[:2])
    assert found.states is not None
    assert found.states.select("state", "detail").rows() == [
        ("halted", "offline"),
        ("halted", "internal, trading disabled"),
    ]


def _nested(lister: Lister) -> Response:
    text = json.dumps(lister.wrapped([{"id": "CA-USD", "symbol": "CAUSDT", "status": "online", "x": 0}]))
    return Response(text.partition("0")[0] + "[" * 1_000_000)


@pytest.mark.parametrize(
    ("answer", "kind", "words", "calls"),
    [
        (lambda _: JSONResponse({"message": "oops", "code": -1, "msg": "oops"}, 503), ProviderUnavailable, "503", 4),
        (lambda _: HTMLResponse("<html>"), ProviderUnavailable, "web page", 1),
        (lambda _: JSONResponse({}, 418), Banned, "has shut us out", 1),
        (lambda lister: JSONResponse(lister.wrapped([])), MalformedAnswer, "an empty one", 1),
        (lambda _: JSONResponse({"symbols": 3}), MalformedAnswer, "sent no list of its symbols: Expected `array`", 1),
        (lambda lister: JSONResponse(lister.wrapped([{}])), MalformedAnswer, "missing required field", 1),
        (_nested, MalformedAnswer, "nested too deep", 1),
    ],
    ids=["5xx", "page", "banned", "empty", "no list", "other fields", "nested"],
)
def test_a_missing_or_invalid_list_gives_no_states(
    lister: Lister, answer: Any, kind: type[Exception], words: str, calls: int
) -> None:
    def routed(_request: Request) -> Response:
        response: Response = answer(lister)
        return response

    with vendor(routed) as (base_url, seen):
        found = ask(lister, base_url)
    assert found.states is None
    (problem,) = found.problems
    assert isinstance(problem, kind)
    assert words in str(problem)
    assert (found.calls, len(seen)) == (calls, calls)
