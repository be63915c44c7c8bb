"""Missing bars are noted and requested again, until they arrive or the request is given up; no series fails."""

from collections.abc import AsyncIterator, Sequence
from datetime import date, datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ema_assets.model.asset_names import OHLC
from ema_assets.model.errors import ProviderUnavailable, RequestRefused
from ema_assets.operations.ingest import store_file
from ema_assets.operations.sync_watchlist import sync
from ema_assets.providers.fetching.base import BarRequest, FetchBatch
from ema_assets.refresh.fetch import refresh_fetched
from ema_assets.refresh.plan import closed_bars
from ema_assets.refresh.plan_requests import FetchRules
from ema_assets.store import ledger
from ema_assets.store.database import Database
from ema_assets_tests.refresh.exchange import (
    MemoryExchange,
    bars_on,
    refresh,
    rows_of,
    state_of,
    tables_of,
    utc,
    watch,
)
from ema_assets_tests.timeframes import D1, H1, M5, ORDER

WATCHED = watch({"AAPL": "XNYS"}, m5_days=4, d1_days=60, timeframes=ORDER)
MONDAY, WEDNESDAY, FRIDAY = date(2026, 11, 23), date(2026, 11, 25), date(2026, 11, 27)
MINUTES = (M5,)
STEP = timedelta(minutes=5)
RULES = FetchRules(dict(WATCHED.history_days))
LOST = utc("2026-11-25 15:40")
NOW = utc("2026-11-25 15:45")


def minutes_of(symbol: str = "AAPL", seed: int = 1, missing: float = 0.0, last: date = FRIDAY) -> pl.DataFrame:
    return bars_on("XNYS", symbol, M5, MONDAY, last, seed, missing)


def gaps(database: Database, symbol: str = "AAPL") -> list[tuple[object, ...]]:
    """`first_ts`, the number of bars, the status and the number of requests of each gap."""
    return rows_of(
        database, "SELECT first_ts, bars, status, asked FROM market.bar_gap WHERE symbol = $1 ORDER BY 1", symbol
    )


def due(database: Database) -> datetime:
    ((moment,),) = rows_of(database, "SELECT DISTINCT next_attempt_at FROM market.bar_gap WHERE status = 'open'")
    assert isinstance(moment, datetime)
    return moment


def spans(asked: list[BarRequest]) -> list[tuple[datetime, datetime]]:
    return [(each.start, each.end) for each in asked]


def stale(database: Database, now: datetime) -> list[tuple[str, str]]:
    with database.transaction() as transaction:
        found = ledger.stale(transaction, closed_bars(transaction, now), now)
    return found.filter(asset=OHLC, timeframe="5m").select("symbol", "reason").rows()


@pytest.fixture
def exchange() -> MemoryExchange:
    """All bars except the one that opens at LOST."""
    return MemoryExchange(minutes_of().filter(pl.col("ts") != LOST))


def test_a_missing_bar_is_noted_and_requested_again_with_its_neighbours_only(
    database: Database, exchange: MemoryExchange
) -> None:
    refresh(database, WATCHED, exchange, NOW, timeframes=MINUTES)
    assert gaps(database) == [(LOST, 1, "open", 0)]
    moment = due(database)
    assert moment == utc("2026-11-25 15:52:30")
    refresh(database, WATCHED, exchange, NOW + STEP, timeframes=MINUTES)
    assert gaps(database) == [(LOST, 1, "open", 0)], "an overlap that comes before its time is no attempt"

    exchange.asked = []
    before = moment - timedelta(seconds=1)
    refresh(database, WATCHED, exchange, before, timeframes=MINUTES)
    assert (exchange.asked, stale(database, before)) == ([], [])
    assert ("AAPL", "bars missing") in stale(database, moment)
    outcomes = refresh(database, WATCHED, exchange, moment, timeframes=MINUTES)
    assert spans(exchange.asked) == [(LOST - 3 * STEP, LOST + 2 * STEP)], (
        "with its neighbours, as far as they have closed"
    )
    assert outcomes[OHLC, M5].done == ["AAPL"]
    assert gaps(database) == [(LOST, 1, "open", 1)]
    assert stale(database, moment) == []


class _FailsOnce(MemoryExchange):
    """Fails the first request for AAPL."""

    async def fetch(self, requests: Sequence[BarRequest]) -> AsyncIterator[FetchBatch]:
        self.failing = {} if self.asked else {"AAPL": "out of order"}
        async for batch in super().fetch(requests):
            yield batch


def test_a_gap_of_a_series_that_has_just_failed_is_not_requested(database: Database) -> None:
    """Its answer would count as an answer about the series."""
    lost = utc("2026-11-25 14:35")
    failing = _FailsOnce(minutes_of().filter(pl.col("ts") != lost))
    failing.failure = RequestRefused
    refresh(database, WATCHED, MemoryExchange(failing.bars), NOW, timeframes=MINUTES)
    outcomes = refresh(database, WATCHED, failing, due(database), timeframes=MINUTES)
    assert outcomes[OHLC, M5].errors == {"AAPL": "out of order"}
    assert len(failing.asked) == 1
    assert state_of(database, "AAPL", M5)["failures"] == 1
    assert gaps(database) == [(lost, 1, "open", 0)]


@pytest.mark.broad
@pytest.mark.parametrize("found_by", ["the gap's own request", "the overlap"])
def test_a_late_bar_closes_its_gap_and_updates_all_dependent_results(
    database: Database, exchange: MemoryExchange, found_by: str
) -> None:
    refresh(database, WATCHED, exchange, NOW, timeframes=ORDER)
    exchange.bars = minutes_of()
    later = due(database) if found_by == "the gap's own request" else NOW + STEP
    refresh(database, WATCHED, exchange, later, timeframes=ORDER)
    assert gaps(database) == []
    found = tables_of(database)
    assert LOST in found[OHLC].filter(timeframe="5m")["ts"]
    assert rows_of(database, "SELECT kind, changed_from, bars_late, bars_corrected FROM market.bar_revision") == [
        ("late bars", LOST, 1, 0)
    ]
    refresh(database, WATCHED, exchange, later, timeframes=ORDER, everything=True)
    for asset, rows in tables_of(database).items():
        assert_frame_equal(found[asset], rows, check_exact=True)
    hour = found[OHLC].filter(timeframe="15m", ts=utc("2026-11-25 15:30"))
    assert hour["missing_bars"].item() == 0


@pytest.mark.broad
def test_a_late_bar_counts_as_late_even_when_it_is_the_newest_bar(database: Database, exchange: MemoryExchange) -> None:
    """The 15m bar that contains it was published without it, and is published again."""
    refresh(database, WATCHED, exchange, NOW)
    assert state_of(database, "AAPL", M5)["last_ts"] == LOST - STEP
    exchange.bars = minutes_of()
    refresh(database, WATCHED, exchange, NOW + STEP)
    assert rows_of(database, "SELECT kind, changed_from, bars_late, rows_recomputed FROM market.bar_revision") == [
        ("late bars", LOST, 1, 3)
    ]


@pytest.mark.broad
def test_a_bar_that_never_arrives_is_marked_as_not_traded_and_not_requested_again(
    database: Database, exchange: MemoryExchange
) -> None:
    """One day of ticks at the closes, and of sweeps when gaps are due."""
    own = []
    refresh(database, WATCHED, exchange, NOW, timeframes=MINUTES)
    moments = [ts + STEP for ts in minutes_of()["ts"] if NOW <= ts < utc("2026-11-27 14:45")]
    while moments:
        now = moments.pop(0)
        assert stale(database, now)
        exchange.asked = []
        refresh_fetched(database, exchange, M5, ["AAPL"], RULES, now)
        own += [now for start, end in spans(exchange.asked) if start == LOST - 3 * STEP and end <= LOST + 4 * STEP]
        coming = [moment for (moment,) in rows_of(database, "SELECT next_attempt_at FROM market.bar_gap") if moment]
        moments = sorted({*moments, *coming})
    assert own == [utc(f"2026-11-25 {clock}") for clock in ("15:52:30", "16:12:30", "17:32:30", "22:52:30")]
    assert gaps(database) == [(LOST, 1, "did not trade", 4)]
    assert stale(database, now) == []


@pytest.mark.broad
def test_the_gaps_of_a_rarely_traded_symbol_all_end_and_leave_nothing_stale(database: Database) -> None:
    """Half of its bars do not exist. Old ones are not requested again, new ones at most four times."""
    exchange = MemoryExchange(minutes_of(missing=0.5))
    now = utc("2026-11-27 17:00")
    refresh(database, WATCHED, exchange, now, timeframes=MINUTES)
    settled = {asked for _, _, status, asked in gaps(database) if status == "did not trade"}
    assert settled == {0}
    assert {first.date() >= date(2026, 11, 25) for first, _, status, _ in gaps(database) if status == "open"} == {True}  # type: ignore[attr-defined]
    asked = 0
    while True:
        coming = [moment for (moment,) in rows_of(database, "SELECT next_attempt_at FROM market.bar_gap") if moment]
        if not coming:
            break
        now = min(coming)
        assert stale(database, now)
        exchange.asked = []
        refresh_fetched(database, exchange, M5, ["AAPL"], RULES, now)
        assert len(exchange.asked) <= 6, "the bars since, and a few windows that hold all gaps"
        asked += 1
        assert now < utc("2026-11-28 12:00")
    assert 10 < asked < 30
    assert {status for _, _, status, _ in gaps(database)} == {"did not trade"}
    assert stale(database, now) == []
    stored = tables_of(database)[OHLC].filter(timeframe="5m").height
    missing = sum(bars for _, bars, _, _ in gaps(database))  # type: ignore[misc]
    through = state_of(database, "AAPL", M5)["checked_through"]
    first = state_of(database, "AAPL", M5)["first_ts"]
    grid = minutes_of().filter(pl.col("ts") >= first, pl.col("ts") < through)
    assert stored + missing == grid.height


@pytest.mark.broad
def test_an_unanswered_request_for_a_gap_does_not_count_as_an_attempt(
    database: Database, exchange: MemoryExchange
) -> None:
    refresh(database, WATCHED, exchange, NOW, timeframes=MINUTES)
    refresh(database, WATCHED, exchange, NOW + STEP, timeframes=MINUTES)
    exchange.failing, exchange.failure = {"AAPL": "down"}, ProviderUnavailable
    for _ in range(6):
        moment = due(database)
        outcomes = refresh(database, WATCHED, exchange, moment, timeframes=MINUTES, symbols=["AAPL"])
        assert outcomes[OHLC, M5].errors == {"AAPL": "down"}
        if state_of(database, "AAPL", M5)["failures"]:
            break
        assert timedelta(minutes=30) <= due(database) - moment < timedelta(minutes=41)
        assert gaps(database)[0] == (LOST, 1, "open", 0)
        exchange.asked = []
    exchange.failing = {}
    exchange.bars = minutes_of()
    refresh(database, WATCHED, exchange, due(database) + timedelta(hours=2), timeframes=MINUTES)
    assert gaps(database) == []


@pytest.mark.broad
def test_a_failed_request_for_a_gap_does_not_count_as_a_failure_of_the_series(
    database: Database, exchange: MemoryExchange
) -> None:
    refresh(database, WATCHED, exchange, NOW, timeframes=MINUTES)
    exchange.failing = {"AAPL": "down"}
    moment = NOW + STEP - timedelta(seconds=1)
    with database.transaction() as transaction:
        transaction.execute("UPDATE market.bar_gap SET next_attempt_at = $1", moment)
    refresh(database, WATCHED, exchange, moment, timeframes=MINUTES)
    state = state_of(database, "AAPL", M5)
    assert (state["failures"], state["checked_through"]) == (0, NOW)
    assert gaps(database) == [(LOST, 1, "open", 0)]


@pytest.mark.broad
def test_gaps_of_a_series_that_failed_or_pauses_wait_for_the_end_of_the_pause(
    database: Database, exchange: MemoryExchange
) -> None:
    """The answer for a gap would count as an answer for the series, and end its pause."""
    refresh(database, WATCHED, exchange, NOW, timeframes=MINUTES)
    moment = due(database)
    exchange.failing, exchange.asked = {"AAPL": "down"}, []
    refresh(database, WATCHED, exchange, moment, timeframes=MINUTES)
    assert len(exchange.asked) == 1
    state = state_of(database, "AAPL", M5)
    assert (state["failures"], state["last_error"]) == (1, "down")
    exchange.failing, exchange.asked = {}, []
    refresh(database, WATCHED, exchange, moment + timedelta(seconds=5), timeframes=MINUTES)
    assert exchange.asked == []
    assert state_of(database, "AAPL", M5)["failures"] == 1
    exchange.bars = minutes_of()
    refresh(database, WATCHED, exchange, moment + timedelta(minutes=2), timeframes=MINUTES)
    assert gaps(database) == []


@pytest.mark.broad
def test_a_missing_daily_bar_is_requested_under_the_label_of_the_vendor(database: Database) -> None:
    """The usual label is midnight at the exchange, hours before the open of the session."""
    days = bars_on("XNYS", "AAPL", D1, date(2026, 10, 1), FRIDAY, 5)
    labelled = days.with_columns(
        pl.col("ts").dt.convert_time_zone("America/New_York").dt.truncate("1d").dt.convert_time_zone("UTC")
    )
    lost = labelled["ts"][-12]
    exchange = MemoryExchange(labelled.filter(pl.col("ts") != lost))
    refresh(database, WATCHED, exchange, NOW, timeframes=[D1])
    assert gaps(database) == [(days["ts"][-12], 1, "open", 0)]
    exchange.bars, exchange.asked = labelled, []
    refresh(database, WATCHED, exchange, due(database), timeframes=[D1])
    # The request for the day that has closed meanwhile, and the request for the missing day.
    _, own = exchange.asked
    assert own.start < lost < own.end
    assert own.end - own.start < timedelta(days=10)
    assert gaps(database) == []
    assert tables_of(database)[OHLC]["ts"].to_list() == [ts for ts in days["ts"] if ts < utc("2026-11-26 00:00")]


@pytest.mark.broad
def test_a_hole_in_all_symbols_stays_open_until_the_vendor_fills_it(database: Database) -> None:
    """Observed at a vendor: eleven of twenty-four bars were missing for three hours, and came one day later."""
    watched = watch({"AAPL": "XNYS", "MSFT": "XNYS"}, m5_days=4, timeframes=ORDER)
    bars = pl.concat([minutes_of("AAPL", 1), minutes_of("MSFT", 2)])
    exchange = MemoryExchange(bars.filter(~pl.col("ts").is_between(LOST - 10 * STEP, LOST)))
    rules = FetchRules(dict(watched.history_days))
    refresh(database, watched, exchange, NOW, timeframes=MINUTES)
    now = NOW
    while now < utc("2026-11-26 12:00"):
        now = min(moment for (moment,) in rows_of(database, "SELECT next_attempt_at FROM market.bar_gap") if moment)
        refresh_fetched(database, exchange, M5, ["AAPL", "MSFT"], rules, now)
    for symbol in ("AAPL", "MSFT"):
        assert gaps(database, symbol) == [(LOST - 10 * STEP, 11, "open", 5)]
    exchange.bars = bars
    refresh(database, watched, exchange, due(database), timeframes=MINUTES)
    assert gaps(database) == gaps(database, "MSFT") == []
    stored = tables_of(database)[OHLC].filter(timeframe="5m", symbol="MSFT")["ts"]
    assert set(stored) >= {LOST - number * STEP for number in range(11)}


@pytest.mark.broad
def test_a_hole_in_one_of_two_symbols_is_marked_as_not_traded(database: Database) -> None:
    watched = watch({"AAPL": "XNYS", "MSFT": "XNYS"}, m5_days=4, timeframes=ORDER)
    both = pl.concat([minutes_of("AAPL", 1), minutes_of("MSFT", 2)])
    exchange = MemoryExchange(both.filter((pl.col("ts") != LOST) | (pl.col("symbol") == "MSFT")))
    refresh(database, watched, exchange, NOW, timeframes=MINUTES)
    for _ in range(4):
        refresh(database, watched, exchange, due(database), timeframes=MINUTES)
    assert gaps(database) == [(LOST, 1, "did not trade", 4)]


@pytest.mark.broad
def test_many_gaps_of_many_symbols_cost_few_calls(database: Database) -> None:
    symbols = {f"S{number}": "XNYS" for number in range(4)}
    watched = watch(symbols, m5_days=4, timeframes=ORDER)
    exchange = MemoryExchange(*(minutes_of(symbol, seed, 0.3) for seed, symbol in enumerate(symbols)))
    refresh(database, watched, exchange, NOW, timeframes=MINUTES)
    outcomes = refresh(database, watched, exchange, due(database), timeframes=MINUTES)
    assert outcomes[OHLC, M5].calls == 2, "one for what closed since, one for all gaps of three days"


@pytest.mark.broad
def test_a_hole_between_two_files_is_a_gap_until_another_file_closes_it(
    database: Database,
) -> None:
    watched = watch({"AAPL": "XNYS"}, provider="file", timeframes=ORDER[:-1])  # without days
    sync(database, watched, NOW)
    bars = minutes_of(last=WEDNESDAY)
    now = utc("2026-11-28 00:00")
    first, hole = pl.col("ts") < utc("2026-11-24 00:00"), pl.col("ts").is_between(utc("2026-11-24 00:00"), LOST)
    (one,) = store_file(database, bars.filter(first), "one.csv", now)
    (two,) = store_file(database, bars.filter(~first & ~hole), "two.csv", now)
    assert one.missing == 0
    assert two.missing == bars.filter(hole).height == 78 + 15
    assert gaps(database) == [(utc("2026-11-24 14:30"), 93, "not in file", 0)]
    (three,) = store_file(database, bars.filter(hole & (pl.col("ts") > utc("2026-11-25 00:00"))), "three.csv", now)
    assert three.missing == 78
    assert gaps(database) == [(utc("2026-11-24 14:30"), 78, "not in file", 0)]
    store_file(database, bars.filter(hole), "three.csv", now)
    assert gaps(database) == []
    refresh(database, watched, MemoryExchange(), now)
    assert gaps(database) == []
    assert tables_of(database)[OHLC].filter(timeframe="1h")["missing_bars"].sum() == 0


@pytest.mark.parametrize("by_clock", [True, False])
def test_a_halt_in_a_file_of_hourly_bars_is_a_gap_in_the_grid_of_that_file(database: Database, by_clock: bool) -> None:
    sync(database, watch({"AAPL": "XNYS"}, provider="file", timeframes=ORDER), NOW)
    hours = bars_on("XNYS", "AAPL", H1, MONDAY, WEDNESDAY)
    if by_clock:
        hours = hours.with_columns(pl.col("ts").dt.truncate("1h"))
    start = hours["ts"][9]
    halted = hours.filter(~pl.col("ts").is_between(start, start + timedelta(hours=1)))
    summary, *_ = store_file(database, halted, "hours.csv", utc("2026-11-28 00:00"))
    assert (summary.stored, summary.missing) == (halted.height, 2)
    assert gaps(database) == [(start, 2, "not in file", 0)]


@pytest.mark.broad
def test_gaps_of_a_file_for_a_fetched_symbol_are_requested_from_the_provider(
    database: Database, exchange: MemoryExchange
) -> None:
    sync(database, WATCHED, NOW)
    store_file(database, exchange.bars.filter(pl.col("ts") < NOW), "a file", NOW)
    assert gaps(database) == []
    store_file(database, exchange.bars, "a file", utc("2026-11-26 00:00"))
    assert gaps(database) == [(LOST, 1, "open", 0)]
    exchange.bars = minutes_of()
    refresh(database, WATCHED, exchange, utc("2026-11-26 00:00"), timeframes=MINUTES)
    assert gaps(database) == []


def test_bars_before_the_first_bar_of_a_symbol_are_not_missing(database: Database) -> None:
    exchange = MemoryExchange(minutes_of().filter(pl.col("ts") >= utc("2026-11-24 17:00")))
    refresh(database, WATCHED, exchange, NOW, timeframes=MINUTES)
    assert gaps(database) == []


@pytest.mark.broad
def test_a_bar_that_awaits_confirmation_is_missing_until_it_is_confirmed(database: Database) -> None:
    bars = minutes_of()
    risen = [pl.when(pl.col("ts") >= LOST).then(pl.col(name) * 5).otherwise(pl.col(name)).alias(name) for name in ("open", "high", "low", "close")]  # fmt: skip
    exchange = MemoryExchange(bars.with_columns(risen))
    refresh(database, WATCHED, exchange, NOW, timeframes=MINUTES)
    assert gaps(database) == [(LOST, 1, "open", 0)]
    assert rows_of(database, "SELECT reason, bars FROM market.bar_skipped") == [
        ("jump not confirmed by a next bar yet", 1)
    ]
    refresh(database, WATCHED, exchange, NOW + STEP, timeframes=MINUTES)
    assert gaps(database) == []
    assert rows_of(database, "SELECT ts, reason FROM market.bar_flag") == [(LOST, "jump")]
    assert tables_of(database)[OHLC]["ts"].max() == NOW
