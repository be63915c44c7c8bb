"""A vendor answers with a web page for every symbol: from its server to the circuit breaker of all runs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from ema_assets.config.watchlist import Watchlist
from ema_assets.model.symbols import ALWAYS_OPEN, Instrument
from ema_assets.operations.sync_watchlist import sync
from ema_assets.providers import yahoo
from ema_assets.providers.fetching.base import ProviderClient
from ema_assets.providers.http.budget import HttpLimits
from ema_assets.providers.http.source import HttpOptions
from ema_assets.providers.vendors.yahoo import YahooClient
from ema_assets.refresh.fetch import refresh_fetched
from ema_assets.refresh.outcome import Outcome
from ema_assets.refresh.plan_requests import FetchRules
from ema_assets.sandbox.server import serving
from ema_assets.store.database import Database
from ema_assets_tests.core import CORE
from ema_assets_tests.refresh.exchange import rows_of, utc
from ema_assets_tests.timeframes import FETCHED, M5

NOW = utc("2026-11-25 16:01")
SYMBOLS = [f"C{chr(65 + n // 26)}{chr(65 + n % 26)}-USD" for n in range(30)]
WATCHED = Watchlist(
    tuple(Instrument(symbol, ALWAYS_OPEN) for symbol in SYMBOLS), dict(zip(FETCHED, (2, 9), strict=True)), **CORE
)
LIMITS = HttpLimits(max_concurrency=1, requests_per_minute=10_000, backoff_seconds=0.01, answer_timeout_seconds=60)
SAID = "yahoo answered a web page instead of data: it asks for consent or a login, or `base_url` is wrong"


@dataclass
class Consent:
    """Yahoo's chart server, which answers with a consent page for the symbols in `behind`."""

    behind: set[str] = field(default_factory=lambda: set(SYMBOLS))
    is_new_format: bool = False
    calls: int = 0

    async def answer(self, request: Request) -> Response:
        symbol = request.path_params["symbol"]
        self.calls += 1
        if symbol in self.behind:
            return HTMLResponse("<!DOCTYPE html><html><body>We value your privacy</body></html>")
        if self.is_new_format:
            return JSONResponse({"data": {"symbol": symbol, "candles": []}})
        result: dict[str, object] = {"meta": {"symbol": symbol}, "timestamp": None, "indicators": {"quote": [{}]}}
        return JSONResponse({"chart": {"result": [result], "error": None}})


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Consent, str]]:
    consent = Consent()

    async def answer(request: Request) -> Response:
        return await consent.answer(request)

    with serving(Starlette(routes=[Route("/v8/finance/chart/{symbol}", answer)])) as base_url:
        yield consent, base_url


@pytest.fixture
def consent(served: tuple[Consent, str]) -> Consent:
    served[0].behind, served[0].calls, served[0].is_new_format = set(SYMBOLS), 0, False
    return served[0]


def fetched(
    database: Database, served: tuple[Consent, str], now: datetime, symbols: Sequence[str] = SYMBOLS
) -> Outcome:
    def opened(_name: str | None) -> ProviderClient:
        config = yahoo.YahooConfig(base_url=served[1])
        return YahooClient(yahoo.PROVIDER, config, HttpOptions(limits=LIMITS), lambda: now)

    sync(database, WATCHED, NOW)
    rules = FetchRules(WATCHED.history_days)
    return refresh_fetched(database, opened, M5, symbols, rules, now)


def breaker(database: Database) -> list[tuple[object, ...]]:
    return rows_of(database, "SELECT failures, open_until, last_error FROM market.provider_state")


@pytest.mark.broad
def test_a_web_page_for_every_symbol_costs_four_calls_and_opens_the_breaker_of_all_runs(
    database: Database, served: tuple[Consent, str], consent: Consent
) -> None:
    outcome = fetched(database, served, NOW)
    assert outcome.errors == dict.fromkeys(SYMBOLS, SAID)
    assert consent.calls == 4  # two from each end of the list
    assert breaker(database) == [(1, NOW + timedelta(seconds=30), SAID)]

    # While the breaker is open, nothing is requested. After that, one symbol probes for all.
    fetched(database, served, NOW + timedelta(seconds=29))
    assert consent.calls == 4
    fetched(database, served, NOW + timedelta(seconds=30))
    assert consent.calls == 5
    assert breaker(database) == [(2, NOW + timedelta(seconds=90), SAID)]

    consent.behind = set()
    healed = fetched(database, served, NOW + timedelta(seconds=90))
    assert (healed.errors, sorted(healed.done)) == ({}, SYMBOLS)
    assert breaker(database) == [(0, None, None)]


def test_web_pages_for_some_symbols_fail_only_these_also_two_in_a_row(
    database: Database, served: tuple[Consent, str], consent: Consent
) -> None:
    consent.behind = {SYMBOLS[2], *SYMBOLS[7:9], *SYMBOLS[20:22]}
    outcome = fetched(database, served, NOW)
    assert outcome.errors == dict.fromkeys(consent.behind, SAID)
    assert (len(outcome.done), consent.calls) == (25, 30)
    assert breaker(database) == []


@pytest.mark.parametrize("count", [2, 28])
def test_web_pages_for_the_first_symbols_delay_no_others(
    database: Database, served: tuple[Consent, str], consent: Consent, count: int
) -> None:
    consent.behind = set(SYMBOLS[:count])
    assert sorted(fetched(database, served, NOW).done) == SYMBOLS[count:]
    assert breaker(database) == []

    # Nor do they when they alone are due.
    again = fetched(database, served, NOW + timedelta(minutes=1), SYMBOLS[:count])
    assert again.errors == dict.fromkeys(SYMBOLS[:count], SAID)
    assert breaker(database) == []


@pytest.mark.broad
def test_the_same_unreadable_answer_for_every_symbol_opens_the_breaker_too(
    database: Database, served: tuple[Consent, str], consent: Consent
) -> None:
    """The vendor has changed its format, so no symbol is the cause."""
    consent.behind, consent.is_new_format = set(), True
    assert set(fetched(database, served, NOW).errors) == set(SYMBOLS)
    ((failures, until, said),) = breaker(database)
    assert (failures, until) == (1, NOW + timedelta(seconds=30))
    assert "that is not bars" in str(said)
    asked = consent.calls
    fetched(database, served, NOW + timedelta(seconds=29))
    assert consent.calls == asked
