"""A refresh from the provider to the trades: what it writes, what it leaves unchanged, and how failures end."""

from datetime import date, datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ema_assets.model.asset_names import CHAIN, EMA_SIGNALS, EMA_TREND, OHLC, STRATEGY
from ema_assets.model.errors import StoreError
from ema_assets.model.timeframes import Timeframe
from ema_assets.operations.ingest import store_file
from ema_assets.providers.http.refusals import Unreachable
from ema_assets.refresh import compute, fetch
from ema_assets.refresh.outages import root_of
from ema_assets.refresh.plan import closed_bars
from ema_assets.store import ledger
from ema_assets.store.database import Database, Transaction
from ema_assets.strategies.simulator.bars import NEWEST_STATES
from ema_assets_tests.conftest import mostly_broad
from ema_assets_tests.core import rewrite
from ema_assets_tests.refresh.exchange import (
    MemoryExchange,
    bars_on,
    moved,
    refresh,
    rows_of,
    state_of,
    tables_of,
    utc,
    versions_of,
    watch,
)
from ema_assets_tests.timeframes import D1, H1, M5, M15, ORDER

SYMBOLS = ("AAPL", "BTC-USD", "MSFT")
WATCHED = watch({"AAPL": "XNYS", "MSFT": "XNYS", "BTC-USD": "24/7"}, m5_days=10, d1_days=90, timeframes=ORDER)
MONDAY, WEDNESDAY = date(2026, 11, 23), date(2026, 11, 25)
# 10:45 in New York.
NOW = utc("2026-11-25 15:45")
# A fetched and a rolled-up timeframe, for tests that do not need all of them.
FEW = (M5, M15)


def all_bars(last: date = WEDNESDAY) -> pl.DataFrame:
    return pl.concat(
        bars_on(calendar, symbol, timeframe, first, last, seed)
        for seed, (symbol, calendar) in enumerate((("AAPL", "XNYS"), ("MSFT", "XNYS"), ("BTC-USD", "24/7")))
        for timeframe, first in ((M5, MONDAY), (D1, date(2026, 9, 1)))
    )


@pytest.fixture
def exchange() -> MemoryExchange:
    return MemoryExchange(all_bars())


def stale_at(database: Database, now: datetime) -> pl.DataFrame:
    with database.transaction() as transaction:
        return ledger.stale(transaction, closed_bars(transaction, now), now)


def test_a_first_refresh_fills_every_table_and_leaves_nothing_stale(
    database: Database, exchange: MemoryExchange
) -> None:
    outcomes = refresh(database, WATCHED, exchange, NOW)
    assert list(outcomes) == [(asset, timeframe) for timeframe in ORDER for asset in CHAIN]
    assert all(sorted(outcome.done) == list(SYMBOLS) for outcome in outcomes.values())
    assert stale_at(database, NOW).is_empty()
    tables = tables_of(database)
    for (asset, timeframe), outcome in outcomes.items():
        assert outcome.rows == tables[asset].filter(timeframe=timeframe.key).height
    # Only closed bars: 14:30 to 15:45 UTC has 15 bars of 5m and one of 1h. The daily bar is still open.
    today = tables[OHLC].filter(pl.col("symbol") == "AAPL", pl.col("ts") >= utc("2026-11-25 00:00"))
    assert dict(today.group_by("timeframe").agg(pl.len()).iter_rows()) == {"5m": 15, "15m": 5, "30m": 2, "1h": 1}


def test_a_refresh_with_nothing_stale_requests_nothing_and_writes_nothing(
    database: Database, exchange: MemoryExchange
) -> None:
    refresh(database, WATCHED, exchange, NOW)
    before, exchange.asked, exchange.closed = versions_of(database), [], 0
    outcomes = refresh(database, WATCHED, exchange, NOW + timedelta(minutes=4))
    assert (exchange.asked, exchange.closed) == ([], 0)
    assert all(outcome.metadata() == {} for outcome in outcomes.values())
    assert versions_of(database) == before


def test_a_new_bar_costs_one_row_per_asset_and_one_provider_call(database: Database, exchange: MemoryExchange) -> None:
    refresh(database, WATCHED, exchange, NOW)
    before = versions_of(database)
    is_open = (pl.col("status") == "open") & (pl.col("timeframe") == "5m")
    opened = tables_of(database)[STRATEGY].filter(is_open).select("symbol", "timeframe", "entry_ts").rows()
    outcomes = refresh(database, WATCHED, exchange, NOW + timedelta(minutes=5))
    assert sum(outcome.calls for outcome in outcomes.values()) == 1
    for asset in (OHLC, EMA_SIGNALS, EMA_TREND):
        assert outcomes[asset, M5].written == dict.fromkeys(SYMBOLS, 1)
        assert outcomes[asset, H1].written == {}
        assert before[asset] - versions_of(database)[asset] == set()
    # An open trade is updated with the new bar. All other trades stay as they were.
    rewritten = before[STRATEGY] - versions_of(database)[STRATEGY]
    assert opened
    assert sorted(row[:3] for row in rewritten) == sorted(opened)


def test_strategies_keep_the_states_of_the_newest_bars_only(database: Database, exchange: MemoryExchange) -> None:
    for now in (NOW, NOW + timedelta(minutes=50)):
        refresh(database, WATCHED, exchange, now, symbols=["AAPL"], timeframes=[M5])
        kept = rows_of(database, f"SELECT ts FROM market.{STRATEGY}_state WHERE timeframe = '5m' ORDER BY ts")
        assert [ts for (ts,) in kept] == [now - timedelta(minutes=5 * number) for number in range(NEWEST_STATES, 0, -1)]


def test_inputs_are_joined_by_bar_also_when_each_lacks_another_one() -> None:
    times = [NOW + timedelta(minutes=5 * number) for number in range(4)]
    fast, slow, volume = (
        pl.DataFrame({"symbol": "AAPL", "ts": [times[number] for number in numbers], name: numbers})
        for name, numbers in (("fast", [0, 1, 3]), ("slow", [1, 2, 3]), ("volume", [1, 3]))
    )
    expected = pl.DataFrame({"symbol": "AAPL", "ts": [times[1], times[3]], "fast": [1, 3], "slow": [1, 3]})
    assert_frame_equal(compute.side_by_side([fast, slow]), expected)
    assert_frame_equal(compute.side_by_side([fast, slow, volume]), expected.with_columns(volume=pl.col("slow")))


def test_a_correction_recomputes_from_the_changed_bar_only(database: Database, exchange: MemoryExchange) -> None:
    refresh(database, WATCHED, exchange, NOW)
    before, trades = versions_of(database), tables_of(database)[STRATEGY]
    changed_at = utc("2026-11-24 18:00")
    changed = exchange.bars.filter(pl.col("symbol") == "AAPL", pl.col("timeframe") == "5m", pl.col("ts") == changed_at)
    store_file(database, moved(changed, 2.0), "a file", NOW)
    refresh(database, WATCHED, exchange, NOW)
    after = versions_of(database)
    rewritten = {
        asset: [(frame, ts) for symbol, frame, ts, _ in before[asset] - after[asset] if symbol == "AAPL"]
        for asset in CHAIN
    }
    assert not any(symbol != "AAPL" for asset in CHAIN for symbol, *_ in before[asset] - after[asset])
    buckets = {"5m": "18:00", "15m": "18:00", "30m": "18:00", "1h": "17:30", "4h": "14:30"}
    assert sorted(rewritten[OHLC]) == sorted((frame, utc(f"2026-11-24 {opened}")) for frame, opened in buckets.items())
    for asset in (EMA_SIGNALS, EMA_TREND):
        # 4h has no EMA yet, so none can change.
        assert {frame for frame, _ in rewritten[asset]} - {"4h"} <= buckets.keys() - {"4h"}
        for frame, ts in rewritten[asset]:
            assert ts >= utc(f"2026-11-24 {buckets[frame]}")
        assert ("5m", changed_at) in rewritten[asset]
    long_over = trades.filter(pl.col("exit_ts") < utc("2026-11-24 14:30")).select("timeframe", "entry_ts").rows()
    assert long_over
    assert not set(long_over) & set(rewritten[STRATEGY])
    with database.transaction() as transaction:
        corrections = transaction.query(
            "SELECT symbol, timeframe, ts, close FROM market.bar_correction ORDER BY timeframe"
        )
    assert ("AAPL", "5m", changed_at, changed["close"].item()) in corrections.rows()
    assert corrections["timeframe"].to_list() == ["15m", "1h", "30m", "4h", "5m"]


@pytest.mark.broad
def test_a_failing_symbol_does_not_affect_other_symbols(database: Database, exchange: MemoryExchange) -> None:
    exchange.failing = {"MSFT": "the exchange is on fire"}
    outcomes = refresh(database, WATCHED, exchange, NOW)
    for timeframe in (M5, D1):
        assert outcomes[OHLC, timeframe].errors == {"MSFT": "the exchange is on fire"}
        state = state_of(database, "MSFT", timeframe)
        assert (state["failures"], state["last_error"]) == (1, "the exchange is on fire")
        pause = state["next_attempt_at"] - NOW
        assert timedelta(seconds=22) < pause < timedelta(seconds=38)
        assert (state["checked_through"], state["last_ts"]) == (None, None)
    for (asset, timeframe), outcome in outcomes.items():
        assert sorted(outcome.done) == ["AAPL", "BTC-USD"], (asset, timeframe)
    assert set(tables_of(database)[STRATEGY]["symbol"]) == {"AAPL", "BTC-USD"}


def test_an_unreachable_provider_gets_one_batch_of_requests_and_every_series_fails(
    database: Database, exchange: MemoryExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each further batch would repeat its retries, although the result is known."""
    monkeypatch.setattr(fetch, "BARS_PER_BATCH", 1)
    exchange.failing = dict.fromkeys(SYMBOLS, "no route to host")
    exchange.failure = Unreachable
    outcomes = refresh(database, WATCHED, exchange, NOW, timeframes=FEW)
    assert [request.instrument.symbol for request in exchange.asked] == ["AAPL"]
    errors = outcomes[OHLC, M5].errors
    assert errors["AAPL"] == "no route to host"
    assert {root_of(errors[symbol]) for symbol in SYMBOLS} == {"no route to host"}
    assert all("memory was not asked: it is left alone" in errors[symbol] for symbol in SYMBOLS if symbol != "AAPL")
    assert {state_of(database, symbol, M5)["failures"] for symbol in SYMBOLS} == {1}


@pytest.mark.broad
def test_a_failing_symbol_is_requested_again_after_its_pause_and_recovers(
    database: Database, exchange: MemoryExchange
) -> None:
    exchange.failing = {"MSFT": "no"}
    refresh(database, WATCHED, exchange, NOW, timeframes=FEW)
    exchange.failing, exchange.asked = {}, []
    refresh(database, WATCHED, exchange, NOW + timedelta(seconds=10), timeframes=FEW)
    assert exchange.asked == []
    outcomes = refresh(database, WATCHED, exchange, NOW + timedelta(seconds=60), timeframes=FEW)
    assert {each.instrument.symbol for each in exchange.asked} == {"MSFT"}
    assert outcomes[EMA_SIGNALS, M15].done == ["MSFT"]
    state = state_of(database, "MSFT", M5)
    assert (state["failures"], state["last_error"], state["next_attempt_at"]) == (0, None, None)


@pytest.mark.broad
def test_a_refresh_of_everything_requests_the_whole_depth_and_detects_old_corrections(
    database: Database, exchange: MemoryExchange
) -> None:
    refresh(database, WATCHED, exchange, NOW)
    exchange.bars = moved(exchange.bars, 1.5)
    exchange.asked = []
    outcomes = refresh(database, WATCHED, exchange, NOW, symbols=["AAPL"], timeframes=[M5, M15], everything=True)
    assert [(each.instrument.symbol, each.start) for each in exchange.asked] == [("AAPL", utc("2026-11-15 00:00"))]
    assert outcomes[OHLC, M5].corrected == outcomes[OHLC, M5].written["AAPL"] > 150
    assert outcomes[OHLC, M15].corrected > 50
    assert outcomes[STRATEGY, M5].done == ["AAPL"]


@pytest.mark.broad
def test_an_empty_answer_counts_as_an_answer(database: Database, exchange: MemoryExchange) -> None:
    """For example for a symbol that does not trade. It was requested, so it is not stale, but it has no bars."""
    exchange.bars = exchange.bars.filter(pl.col("symbol") != "MSFT")
    refresh(database, WATCHED, exchange, NOW, timeframes=FEW)
    state = state_of(database, "MSFT", M5)
    assert (state["checked_through"], state["last_ts"], state["revision"]) == (NOW, None, 0)
    assert "MSFT" not in stale_at(database, NOW).filter(timeframe="5m")["symbol"]


@pytest.mark.broad
def test_a_symbol_with_a_wrongly_empty_first_answer_gets_its_history_with_its_first_bar(
    database: Database, exchange: MemoryExchange
) -> None:
    whole = exchange.bars
    exchange.bars = whole.filter(pl.col("symbol") != "MSFT")
    refresh(database, WATCHED, exchange, NOW, timeframes=FEW)
    exchange.bars = whole
    later = [NOW + timedelta(minutes=minutes) for minutes in (5, 10, 15)]
    for now in later[:2]:
        refresh(database, WATCHED, exchange, now, timeframes=FEW)
    stored = tables_of(database)[OHLC].filter(symbol="MSFT", timeframe="5m")["ts"]
    sent = whole.filter(pl.col("symbol") == "MSFT", pl.col("timeframe") == "5m")["ts"]
    assert stored.to_list() == sent.filter(sent < later[1]).to_list()
    assert state_of(database, "MSFT", M5)["asked_from"] == utc("2026-11-15 00:00")
    exchange.asked = []
    refresh(database, WATCHED, exchange, later[2], timeframes=FEW)
    assert min(each.start for each in exchange.asked) > NOW - timedelta(hours=1)


@pytest.mark.broad
def test_bars_of_a_symbol_without_its_last_page_are_not_stored(database: Database, exchange: MemoryExchange) -> None:
    exchange.silent = {"MSFT"}
    outcomes = refresh(database, WATCHED, exchange, NOW, timeframes=[M5])
    assert sorted(outcomes[OHLC, M5].done) == ["AAPL", "BTC-USD"]
    assert set(tables_of(database)[OHLC]["symbol"]) == {"AAPL", "BTC-USD"}
    assert state_of(database, "MSFT", M5)["checked_through"] is None


def test_complete_symbols_are_committed_before_later_pages_arrive(
    database: Database, database_url: str, exchange: MemoryExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "BARS_PER_TRANSACTION", 100)
    paged = MemoryExchange(exchange.bars, page_rows=60)
    expected = exchange.bars.filter(pl.col("timeframe") == "5m", pl.col("ts") < NOW).group_by("symbol").agg(pl.len())
    whole = dict(expected.iter_rows())
    seen: list[dict[str, int]] = []

    with Database(database_url) as onlooker:

        def look() -> None:
            with onlooker.transaction() as transaction:
                seen.append(dict(transaction.query("SELECT symbol, count(*) FROM market.ohlc GROUP BY 1").iter_rows()))

        paged.between_pages = look
        outcomes = refresh(database, WATCHED, paged, NOW, timeframes=[M5])
    assert outcomes[OHLC, M5].metadata() == {
        "series": 3,
        "rows_written": sum(whole.values()),
        "provider_calls": 1,
    }
    assert all(counts[symbol] == whole[symbol] for counts in seen for symbol in counts)
    assert {len(counts) for counts in seen} == {0, 1, 2}
    assert dict(tables_of(database)[OHLC].group_by("symbol").agg(pl.len()).iter_rows()) == whole


@pytest.mark.broad
def test_cutting_work_into_batches_does_not_change_the_result(
    database: Database, exchange: MemoryExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh(database, WATCHED, exchange, NOW, timeframes=FEW)
    whole = tables_of(database)
    monkeypatch.setattr(fetch, "BARS_PER_BATCH", 1)
    monkeypatch.setattr(compute, "ROWS_A_BATCH", 1)
    outcomes = refresh(database, WATCHED, exchange, NOW, timeframes=FEW, everything=True)
    assert outcomes[OHLC, M5].calls == 3
    assert all(sorted(outcome.done) == list(SYMBOLS) and outcome.rows == 0 for outcome in outcomes.values())
    assert all(whole[asset].equals(rows) for asset, rows in tables_of(database).items())


class Crash(StoreError):
    """Takes the place of a killed process."""


@pytest.mark.parametrize(("asset", "timeframe"), mostly_broad([*((asset, M5) for asset in CHAIN), (OHLC, M15)]))
def test_after_a_crash_before_the_commit_the_ledger_and_the_data_agree(
    database: Database, monkeypatch: pytest.MonkeyPatch, asset: str, timeframe: Timeframe
) -> None:
    watched = watch({"AAPL": "XNYS"}, m5_days=3, d1_days=10, timeframes=ORDER)
    exchange = MemoryExchange(bars_on("XNYS", "AAPL", M5, MONDAY, WEDNESDAY))
    refresh(database, watched, exchange, NOW - timedelta(days=1), timeframes=FEW)
    states = state_of(database, "AAPL", timeframe, asset)
    before = tables_of(database)
    complete = ledger.complete

    def crash(transaction: Transaction, at: str, frame: Timeframe, results: pl.DataFrame, code_version: str) -> None:
        complete(transaction, at, frame, results, code_version)
        if (at, frame) == (asset, timeframe):
            raise Crash

    monkeypatch.setattr(ledger, "complete", crash)
    with pytest.raises(Crash):
        refresh(database, watched, exchange, NOW, timeframes=FEW)
    monkeypatch.undo()
    mine = pl.col("timeframe") == timeframe.key
    assert tables_of(database)[asset].filter(mine).equals(before[asset].filter(mine))
    kept = state_of(database, "AAPL", timeframe, asset)
    for column in ("revision", "last_ts", "checked_through", "computed_at"):
        assert kept[column] == states[column]
    assert not stale_at(database, NOW).filter(pl.col("asset") == asset).is_empty()

    refresh(database, watched, exchange, NOW, timeframes=FEW)
    finished = tables_of(database)
    assert stale_at(database, NOW).filter(pl.col("timeframe").is_in(["5m", "15m"])).is_empty()
    refresh(database, watched, exchange, NOW, timeframes=FEW, everything=True)
    assert all(finished[name].equals(table) for name, table in tables_of(database).items())
    assert all(finished[name].height > before[name].height for name in (OHLC, EMA_SIGNALS, EMA_TREND))


@pytest.mark.broad
def test_a_provider_that_fails_between_pages_is_closed_and_no_bars_are_lost(
    database: Database, exchange: MemoryExchange
) -> None:
    paged = MemoryExchange(exchange.bars, page_rows=50)

    def fail() -> None:
        raise Crash

    paged.between_pages = fail
    with pytest.raises(Crash):
        refresh(database, WATCHED, paged, NOW)
    assert paged.closed == 1
    assert tables_of(database)[OHLC].is_empty()
    assert state_of(database, "AAPL", M5)["checked_through"] is None
    paged.between_pages = None
    refresh(database, WATCHED, paged, NOW)
    assert stale_at(database, NOW).is_empty()


@pytest.mark.broad
def test_an_invalid_bar_is_recorded_once_with_its_reason_and_not_stored(
    database: Database, exchange: MemoryExchange
) -> None:
    bad = exchange.bars.filter(pl.col("symbol") == "AAPL", pl.col("ts") == utc("2026-11-25 15:40"))
    exchange.correct(bad.with_columns(close=pl.col("high") * 1.5))
    outcomes = refresh(database, WATCHED, exchange, NOW, timeframes=FEW)
    assert outcomes[OHLC, M5].rejected == 1
    refresh(database, WATCHED, exchange, NOW + timedelta(minutes=5), timeframes=FEW)
    with database.transaction() as transaction:
        rejected = transaction.query("SELECT symbol, timeframe, ts, reason, source FROM market.bar_rejected")
    assert rejected.rows() == [("AAPL", "5m", utc("2026-11-25 15:40"), "close outside low to high", "memory")]
    assert utc("2026-11-25 15:40") not in tables_of(database)[OHLC].filter(symbol="AAPL", timeframe="5m")["ts"]


@pytest.mark.broad
def test_a_rolled_up_bar_waits_for_its_last_base_bar(database: Database, exchange: MemoryExchange) -> None:
    def newest(timeframe: str) -> datetime:
        found = tables_of(database)[OHLC].filter(symbol="AAPL", timeframe=timeframe)["ts"].max()
        assert isinstance(found, datetime)
        return found

    refresh(database, WATCHED, exchange, utc("2026-11-25 15:29"), timeframes=FEW)
    assert newest("15m") == utc("2026-11-25 15:00")
    state = state_of(database, "AAPL", M15)
    assert (state["dirty_from"], state["dirty_end"]) == (utc("2026-11-25 15:15"), utc("2026-11-25 15:30"))
    assert stale_at(database, utc("2026-11-25 15:29")).filter(timeframe="15m").is_empty()
    refresh(database, WATCHED, exchange, utc("2026-11-25 15:30"), timeframes=FEW)
    assert newest("15m") == utc("2026-11-25 15:15")
    assert state_of(database, "AAPL", M15)["dirty_from"] is None


@pytest.mark.broad
def test_a_symbol_removed_and_added_again_continues_where_it_stopped(
    database: Database, exchange: MemoryExchange
) -> None:
    refresh(database, WATCHED, exchange, NOW, timeframes=FEW)
    fewer = watch({"AAPL": "XNYS"}, m5_days=10, d1_days=90, timeframes=ORDER)
    refresh(database, fewer, exchange, NOW + timedelta(minutes=5), timeframes=FEW)
    exchange.asked = []
    refresh(database, WATCHED, exchange, NOW + timedelta(minutes=10), timeframes=FEW)
    starts = {each.instrument.symbol: each.start for each in exchange.asked}
    assert starts["MSFT"] == NOW - M5.fetched.overlap
    whole = tables_of(database)
    refresh(database, WATCHED, exchange, NOW + timedelta(minutes=10), timeframes=FEW, everything=True)
    assert all(whole[asset].equals(rows) for asset, rows in tables_of(database).items())


@pytest.mark.broad
def test_a_bar_is_requested_only_after_the_publication_delay(database: Database, exchange: MemoryExchange) -> None:
    delay = timedelta(seconds=10)
    for seconds, end in ((9, NOW - timedelta(minutes=5)), (10, NOW)):
        refresh(database, WATCHED, exchange, NOW + timedelta(seconds=seconds), timeframes=FEW, delay=delay)
        assert {each.end for each in exchange.asked} == {end}
        assert state_of(database, "AAPL", M5)["checked_through"] == end
        exchange.asked = []


@pytest.mark.broad
def test_only_the_requested_symbols_and_timeframes_are_refreshed(database: Database, exchange: MemoryExchange) -> None:
    refresh(database, WATCHED, exchange, NOW, symbols=["MSFT"], timeframes=[D1])
    tables = tables_of(database)
    for asset in (OHLC, EMA_SIGNALS, EMA_TREND):
        assert tables[asset].select("symbol", "timeframe").unique().rows() == [("MSFT", "1d")]


@pytest.mark.broad
def test_a_new_code_version_recomputes_its_asset_and_then_the_assets_that_read_it(
    database: Database, exchange: MemoryExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh(database, WATCHED, exchange, NOW, timeframes=[M5])
    with database.transaction() as transaction:
        transaction.execute("UPDATE market.ema_trend SET spread_pct = 7, trend = 'up' WHERE symbol = 'AAPL'")
    rewrite(monkeypatch, EMA_TREND)
    outcomes = refresh(database, WATCHED, exchange, NOW, timeframes=[M5])
    assert outcomes[OHLC, M5].done == outcomes[EMA_SIGNALS, M5].done == []
    assert outcomes[EMA_TREND, M5].done == list(SYMBOLS)
    assert list(outcomes[EMA_TREND, M5].written) == ["AAPL"]
    assert outcomes[STRATEGY, M5].done == ["AAPL"]
    assert state_of(database, "AAPL", M5, EMA_TREND)["code_version"] == "2"
    assert stale_at(database, NOW).filter(timeframe="5m").is_empty()
