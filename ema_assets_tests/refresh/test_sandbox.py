"""From a socket to the trades: the sandbox re-adjusts a history, as a vendor does after a split."""

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ema_assets.config.settings import Settings
from ema_assets.model.asset_names import OHLC, STRATEGY
from ema_assets.model.timeframes import Timeframe
from ema_assets.operations.refresh_all import refresh_all
from ema_assets.providers.fetching.base import BarRequest, FetchBatch, ProviderClient
from ema_assets.refresh.clients import open_provider
from ema_assets.refresh.outcome import Outcome
from ema_assets.refresh.plan_requests import FetchRules
from ema_assets.sandbox.faults import LateBar, Split
from ema_assets.sandbox.server import RunningSandbox, running_sandbox
from ema_assets.store.database import Database
from ema_assets_tests.conftest import empty
from ema_assets_tests.refresh.exchange import rows_of, tables_of, watch
from ema_assets_tests.timeframes import FETCHED, M5, ORDER

# EVENING is the close of a session, and MORNING is half an hour into the next session, on a Wednesday.
EVENING = datetime(2026, 7, 14, 20, 0, tzinfo=UTC)
MORNING = datetime(2026, 7, 15, 14, 0, tzinfo=UTC)
WATCHED = watch({"AAPL": "XNYS", "MSFT": "XNYS"}, m5_days=12, d1_days=200)


class _Exchange:
    """The sandbox at a fixed market time, with a list of all requests that it received."""

    def __init__(self, sandbox: RunningSandbox, database: Database) -> None:
        self.sandbox, self.database = sandbox, database
        self.asked: list[BarRequest] = []

    def open_provider(self, name: str | None) -> ProviderClient:
        client = open_provider(Settings.from_env({"EMA_SANDBOX_URL": self.sandbox.base_url}), name)
        fetch = client.fetch

        def noting(requests: Sequence[BarRequest]) -> AsyncIterator[FetchBatch]:
            self.asked.extend(requests)
            return fetch(requests)

        client.fetch = noting  # type: ignore[method-assign]
        return client

    def refresh(self, now: datetime) -> dict[tuple[str, Timeframe], Outcome]:
        _Clock.now = now
        self.asked.clear()
        found = refresh_all(
            self.database,
            WATCHED,
            self.open_provider,
            FetchRules(WATCHED.history_days),
            WATCHED.symbols,
            ORDER,
            clock=lambda: now,
        )
        return {(asset, timeframe): outcome for asset, timeframe, outcome in found}


class _Clock:
    now = EVENING


@pytest.fixture
def exchange(database: Database) -> Iterator[_Exchange]:
    with running_sandbox(WATCHED.instruments, 7, clock=lambda: _Clock.now) as sandbox:
        yield _Exchange(sandbox, database)


@pytest.mark.broad
def test_a_split_is_fetched_again_once_per_timeframe_and_changes_no_trade(exchange: _Exchange) -> None:
    database = exchange.database
    exchange.refresh(EVENING)
    trades = tables_of(database)[STRATEGY]
    assert {"5m", "1d"} <= set(trades.filter(symbol="AAPL")["timeframe"])

    # The split lies ahead, so it divides all of history and also the bars that follow in this test.
    exchange.sandbox.handle.faults.add(Split(symbols=["AAPL"], at=MORNING + timedelta(days=30), ratio=7.0))
    outcomes = exchange.refresh(MORNING)
    assert [outcomes[OHLC, timeframe].refetched for timeframe in FETCHED] == [1, 0]
    whole = [each for each in exchange.asked if each.start < EVENING - timedelta(days=1)]
    assert [(str(each.series), each.start) for each in whole] == [("AAPL|5m", datetime(2026, 7, 2, 13, 30, tzinfo=UTC))]
    outcomes = exchange.refresh(MORNING + timedelta(hours=6))
    assert [outcomes[OHLC, timeframe].refetched for timeframe in FETCHED] == [0, 1]
    outcomes = exchange.refresh(MORNING + timedelta(hours=6, minutes=2))
    assert sum(outcome.refetched for outcome in outcomes.values()) == 0

    assert rows_of(
        database, "SELECT symbol, timeframe, kind, crossovers_flipped, trades_flipped FROM market.bar_revision ORDER BY id"
    ) == [("AAPL", timeframe, "split", 0, 0) for timeframe in ("5m", "1d")]  # fmt: skip
    found = tables_of(database)
    kept = found[STRATEGY].filter(pl.col("entry_ts") < EVENING)
    key = ("symbol", "timeframe", "entry_ts")
    closed = pl.when(pl.col("exit_ts") < EVENING).then("exit_ts")
    assert kept.select(*key, closed).equals(trades.select(*key, closed))
    both = kept.join(trades, on=key, suffix="_before").filter(symbol="AAPL")
    assert both["entry_price"].to_list() == pytest.approx((both["entry_price_before"] / 7).to_list(), rel=1e-4)

    empty(database)
    for now in (EVENING, MORNING + timedelta(hours=6, minutes=2)):
        exchange.refresh(now)
    for asset, rows in tables_of(database).items():
        assert_frame_equal(found[asset], rows, check_exact=True)


@pytest.mark.broad
def test_a_late_bar_and_a_missing_daily_bar_are_fetched_by_the_requests_for_their_gaps(exchange: _Exchange) -> None:
    database, late = exchange.database, datetime(2026, 7, 14, 15, 0, tzinfo=UTC)
    bar = exchange.sandbox.handle.faults.add(LateBar(symbols=["AAPL"], ts=late))
    exchange.refresh(EVENING)
    assert rows_of(database, "SELECT symbol, timeframe, first_ts FROM market.bar_gap") == [("AAPL", "5m", late)]
    with database.transaction() as transaction:
        day = datetime(2026, 6, 10, 13, 30, tzinfo=UTC)
        transaction.execute("DELETE FROM market.ohlc WHERE symbol = 'AAPL' AND timeframe = '1d' AND ts = $1", day)
        transaction.execute(
            """
            INSERT INTO market.bar_gap (symbol, timeframe, first_ts, last_ts, bars, status, next_attempt_at, found_at)
            VALUES ('AAPL', '1d', $1, $1, 1, 'open', $2, $2)
            """,
            day,
            EVENING,
        )
    exchange.sandbox.handle.faults.clear(bar)
    exchange.refresh(EVENING + timedelta(minutes=13))
    assert sorted(str(each.series) for each in exchange.asked) == ["AAPL|1d", "AAPL|5m"]
    margin = timedelta(minutes=15)
    assert [each.start for each in exchange.asked if each.timeframe is M5] == [late - margin]
    assert rows_of(database, "SELECT * FROM market.bar_gap") == []
    assert {late, day} <= set(tables_of(database)[OHLC].filter(symbol="AAPL")["ts"])
