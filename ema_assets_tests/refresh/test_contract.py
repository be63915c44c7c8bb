"""A provider that violates the contract fails only its own series, and each reports the reason."""

from collections.abc import AsyncIterator, Sequence
from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest

from ema_assets.config.watchlist import Watchlist
from ema_assets.model.errors import ProviderUnavailable, StoreUnavailable
from ema_assets.model.symbols import Instrument
from ema_assets.operations.sync_watchlist import sync
from ema_assets.providers.fetching.base import BarRequest, FetchBatch, ProviderClient
from ema_assets.refresh.fetch import refresh_fetched
from ema_assets.refresh.outcome import Outcome
from ema_assets.refresh.plan_requests import FetchRules
from ema_assets.store.database import Database
from ema_assets_tests.core import CORE
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, state_of, utc
from ema_assets_tests.timeframes import FETCHED, M5

NOW = utc("2026-11-25 16:00")
DAYS = dict(zip(FETCHED, (2, 60), strict=True))
TOYS = ("AAA", "BBB", "CCC")
WATCHED = Watchlist((Instrument("AAPL", "XNYS"), *(Instrument(each, "24/7", "toy") for each in TOYS)), DAYS, **CORE)


class Toy(MemoryExchange):
    """Answers one series after another, and calls `wrong` for BBB."""

    name = "toy"

    def wrong(self, request: BarRequest) -> FetchBatch | None:
        raise KeyError("boom")

    async def fetch(self, requests: Sequence[BarRequest]) -> AsyncIterator[FetchBatch]:
        for request in requests:
            if request.instrument.symbol != "BBB":
                async for part in super().fetch([request]):
                    yield part
            elif (part_or_none := self.wrong(request)) is not None:
                yield part_or_none


class Down(Toy):
    def wrong(self, request: BarRequest) -> FetchBatch | None:
        raise ProviderUnavailable("toy is down", provider="toy")


class Forgets(Toy):
    def wrong(self, request: BarRequest) -> FetchBatch | None:
        return None


class OtherFrame(Toy):
    def wrong(self, request: BarRequest) -> FetchBatch | None:
        bars: Any = pl.DataFrame({"close": [1.0]})
        return FetchBatch(bars, (request,), ())


class NoGenerator(Toy):
    def fetch(self, requests: Sequence[BarRequest]) -> Any:
        return [FetchBatch(pl.DataFrame(), tuple(requests), ())]


class NoEnd(Toy):
    def wrong(self, request: BarRequest) -> FetchBatch | None:
        return None

    async def aclose(self) -> None:
        raise OSError("cannot close")


def refreshed(database: Database, toy: MemoryExchange | Exception) -> Outcome:
    stocks = MemoryExchange(bars_on("XNYS", "AAPL", M5, date(2026, 11, 24), date(2026, 11, 25), 1))
    for number, symbol in enumerate(TOYS):
        if isinstance(toy, MemoryExchange):
            toy.correct(bars_on("24/7", symbol, M5, date(2026, 11, 23), date(2026, 11, 25), number))

    def opened(name: str | None) -> ProviderClient:
        if name is None:
            return stocks
        if isinstance(toy, Exception):
            raise toy
        return toy

    sync(database, WATCHED, NOW)
    return refresh_fetched(database, opened, M5, ["AAPL", *TOYS], FetchRules(DAYS), NOW)


BOOM = "the provider toy failed while answering: KeyError: 'boom'"
FORGOTTEN = "toy has ended its answer with neither bars nor a failure for it"


@pytest.mark.parametrize(
    ("toy", "done", "said"),
    [
        pytest.param(Toy, ["AAA"], BOOM, id="raises"),
        pytest.param(Down, ["AAA"], "toy is down", id="raises an error of ours"),
        pytest.param(Forgets, ["AAA", "CCC"], FORGOTTEN, id="forgets"),
        pytest.param(OtherFrame, ["AAA"], "`symbol` must be String, received no such column", id="other columns"),
        pytest.param(NoGenerator, [], "requires an object with __aiter__ method", id="no generator"),
        pytest.param(NoEnd, ["AAA", "CCC"], FORGOTTEN, id="cannot be closed"),
    ],
)
def test_series_that_a_provider_did_not_answer_fail_with_the_reason(
    database: Database, toy: type[Toy], done: list[str], said: str
) -> None:
    outcome = refreshed(database, toy())
    assert sorted(outcome.done) == sorted([*done, "AAPL"])
    assert sorted(outcome.errors) == [each for each in TOYS if each not in done]
    assert all(said in error for error in outcome.errors.values()), outcome.errors
    for symbol in TOYS:
        state = state_of(database, symbol, M5)
        assert (state["failures"], state["last_ts"] is None) == ((0, False) if symbol in done else (1, True))
        assert symbol in done or state["next_attempt_at"] > NOW + timedelta(seconds=20)


def test_a_provider_that_cannot_be_opened_fails_only_its_own_series_and_the_log_has_the_traceback(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    outcome = refreshed(database, ZeroDivisionError("division by zero"))
    assert outcome.done == ["AAPL"]
    said = "the provider toy failed while being opened: ZeroDivisionError: division by zero"
    assert outcome.errors == dict.fromkeys(TOYS, said)
    logged = [record.exc_info for record in caplog.records if record.getMessage().startswith("the provider toy failed")]
    assert [each is not None and each[0] for each in logged] == [ZeroDivisionError]


def test_a_lost_database_does_not_count_as_a_failure_of_a_series(database: Database) -> None:
    """A client counts its calls in the database, so the error may come from a provider."""

    class Lost(Toy):
        def wrong(self, request: BarRequest) -> FetchBatch | None:
            raise StoreUnavailable("gone")

    with pytest.raises(StoreUnavailable, match="gone"):
        refreshed(database, Lost())
    assert state_of(database, "BBB", M5)["failures"] == 0
