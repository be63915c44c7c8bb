"""Series that are behind and pause after a failure: which series they are, why, and how they are reported."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta

import polars as pl
import pytest

from ema_assets.model.asset_names import EMA_TREND, OHLC, STRATEGY
from ema_assets.model.timeframes import Timeframe
from ema_assets.refresh import left_alone, plan
from ema_assets.reports import status
from ema_assets.store import ledger
from ema_assets.store.database import Database, Transaction
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, refresh, utc, watch
from ema_assets_tests.timeframes import D1, FEW, H1, M5, M15

NOW = utc("2026-11-25 15:45")
SOON = NOW + timedelta(seconds=10)
CALENDARS = {"AAPL": "XNYS", "MSFT": "XNYS", "BTC-USD": "24/7"}
WATCHED = watch(CALENDARS, m5_days=3, d1_days=30, timeframes=(M5, M15, H1, D1))


@pytest.fixture
def exchange() -> MemoryExchange:
    return MemoryExchange(
        *(
            bars_on(calendar, symbol, timeframe, first, date(2026, 11, 25), seed)
            for seed, (symbol, calendar) in enumerate(CALENDARS.items())
            for timeframe, first in ((M5, date(2026, 11, 23)), (D1, date(2026, 10, 1)))
        )
    )


def alone_at(database: Database, now: datetime, timeframes: Sequence[Timeframe] | None = None) -> pl.DataFrame:
    with database.transaction() as transaction:
        return left_alone.series(transaction, now, timeframes=timeframes)


def said(database: Database, now: datetime, timeframes: Sequence[Timeframe] | None = None) -> list[str]:
    return left_alone.sentences(alone_at(database, now, timeframes), now)


def pause(database: Database, until: datetime, where: str = "failures > 0") -> None:
    with database.transaction() as transaction:
        transaction.execute(f"UPDATE market.series_state SET next_attempt_at = $1 WHERE {where}", until)


def test_a_failed_series_is_left_alone_until_its_pause_ends_and_is_then_stale(
    database: Database, exchange: MemoryExchange
) -> None:
    refresh(database, WATCHED, exchange, NOW, timeframes=FEW)
    assert alone_at(database, NOW).is_empty()
    exchange.failing = {"AAPL": "answered 503", "MSFT": "answered 503"}
    now = NOW + timedelta(minutes=5)
    refresh(database, WATCHED, exchange, now, timeframes=FEW)
    until = now + timedelta(seconds=40)
    pause(database, until)
    assert alone_at(database, now).select("asset", "symbol", "timeframe", "reason", "since", "failures").rows() == [
        (OHLC, symbol, "5m", "bar closed", now, 1) for symbol in ("AAPL", "MSFT")
    ]
    (sentence,) = said(database, now)
    assert sentence == "2 series of 5m are behind and left alone until 15:50:40 UTC: answered 503"
    with database.transaction() as transaction:
        assert plan.stale_for_sweep(transaction, now, timedelta(0)).filter(reason="bar closed").is_empty()
        (behind,) = {
            each.stale for each in status.by_asset(transaction, now) if (each.asset, each.timeframe) == (OHLC, "5m")
        }
        assert behind == 2
        assert plan.series_sentences(transaction, alone_at(database, now))[0] == (
            "AAPL|5m ohlc: bar closed, since 2026-11-25 15:50; requested up to 2026-11-25 15:45; failed once: "
            "answered 503; the next attempt is at 2026-11-25 15:50:40 UTC"
        )
    assert said(database, until) == []


@pytest.mark.broad
def test_a_failing_series_with_all_bars_is_not_counted_as_behind(database: Database, exchange: MemoryExchange) -> None:
    """For example after a manual refresh of a fresh series, or while its exchange is closed."""
    refresh(database, WATCHED, exchange, NOW, timeframes=FEW)
    with database.transaction() as transaction:
        ledger.fail(transaction, OHLC, M5, {"AAPL": "no"}, NOW, NOW + timedelta(days=7))
    assert said(database, SOON) == []
    assert said(database, NOW + timedelta(minutes=5)) == [
        "1 series of 5m is behind and left alone until 2026-12-02 15:45:00 UTC: no"
    ]


def test_a_fresh_series_that_failed_for_a_person_is_requested_again_after_its_pause(
    database: Database, exchange: MemoryExchange
) -> None:
    """Otherwise it would count as failing until its next bar closes: for days, over a weekend."""
    refresh(database, WATCHED, exchange, NOW, symbols=["AAPL"], timeframes=(M5,))
    exchange.failing = {"AAPL": "answered 503"}
    refresh(database, WATCHED, exchange, NOW, symbols=["AAPL"], timeframes=(M5,), everything=True)
    pause(database, SOON)
    exchange.failing = {}
    exchange.asked.clear()
    for now, reasons in ((SOON - timedelta(seconds=1), []), (SOON, ["to be confirmed"]), (SOON, [])):
        with database.transaction() as transaction:
            found = plan.stale_for_sweep(transaction, now, timedelta(0)).filter(
                symbol="AAPL", asset=OHLC, timeframe="5m"
            )
        assert found["reason"].to_list() == reasons
        refresh(database, WATCHED, exchange, now, symbols=["AAPL"], timeframes=(M5,))
    assert [(each.start, each.end) for each in exchange.asked] == [(NOW - timedelta(minutes=15), NOW)]


@pytest.mark.broad
def test_after_the_clock_was_set_back_only_series_without_the_bars_ahead_are_behind(
    database: Database, exchange: MemoryExchange
) -> None:
    """AAPL was requested too early and lacks these bars. Of MSFT they are stored, because its provider was ahead, too."""
    refresh(database, WATCHED, exchange, NOW, timeframes=FEW)
    ahead = NOW + timedelta(hours=2)
    with database.transaction() as transaction:
        transaction.execute(
            """
            UPDATE market.series_state
            SET checked_through = $1, failures = 1, next_attempt_at = $2, last_error = 'answered 503',
                last_ts = CASE symbol WHEN 'MSFT' THEN $1::timestamptz ELSE last_ts END
            WHERE asset = 'ohlc' AND timeframe = '5m' AND symbol IN ('AAPL', 'MSFT')
            """,
            ahead,
            SOON,
        )
    assert alone_at(database, NOW).select("symbol", "reason").rows() == [("AAPL", "asked too early")]
    with database.transaction() as transaction:
        stale = plan.stale_for_sweep(transaction, SOON, timedelta(0)).filter(asset=OHLC, timeframe="5m")
    assert stale.select("symbol", "reason").rows() == [("AAPL", "asked too early")]


@pytest.mark.broad
def test_a_timeframe_is_behind_when_it_waits_for_a_missing_base_bar(
    database: Database, exchange: MemoryExchange
) -> None:
    refresh(database, WATCHED, exchange, NOW, timeframes=FEW)
    with database.transaction() as transaction:
        ledger.fail(transaction, OHLC, M5, {"AAPL": "no"}, NOW, NOW + timedelta(hours=1))
    for minutes, behind in ((5, [M5]), (10, [M5]), (15, [M5, M15]), (45, [M5, M15, H1])):
        now = NOW + timedelta(minutes=minutes)
        assert [each for each in (M5, M15, H1, D1) if said(database, now, [each])] == behind, minutes
    # A symbol without this timeframe does not count.
    with database.transaction() as transaction:
        transaction.execute("UPDATE market.instrument SET timeframes = '{5m}' WHERE symbol = 'AAPL'")
    assert said(database, now, [M15]) == []


@pytest.mark.broad
def test_a_sentence_has_the_most_common_reason_and_the_first_and_last_end_of_the_pauses(
    database: Database, exchange: MemoryExchange
) -> None:
    refresh(database, WATCHED, exchange, NOW, timeframes=(M5,))
    now, hour = NOW + timedelta(minutes=5), timedelta(hours=1)
    with database.transaction() as transaction:
        ledger.fail(transaction, OHLC, M5, {"AAPL": "down\n" * 100, "MSFT": "down\n" * 100}, now, now + hour)
        ledger.fail(transaction, OHLC, M5, {"BTC-USD": "another"}, now, now + 2 * hour)
        ledger.fail(transaction, EMA_TREND, M5, {"AAPL": "no memory"}, now, now + hour)
        transaction.execute("UPDATE market.series_state SET dirty_from = $1 WHERE asset = $2", NOW, EMA_TREND)
    (sentence,) = said(database, now)
    assert sentence.startswith(
        "3 series of 5m are behind and left alone until 16:50:00 UTC, the last of them until 17:50:00: down down "
    )
    assert sentence.endswith(" down… (and 2 other reasons)")
    assert len(sentence) < 350
    assert set(alone_at(database, now).select("asset", "reason").rows()) == {
        (OHLC, "bar closed"),
        (EMA_TREND, "input changed"),
    }


@pytest.mark.broad
def test_an_asset_that_reads_a_failed_series_is_behind_without_its_own_reason(
    database: Database, exchange: MemoryExchange
) -> None:
    refresh(database, WATCHED, exchange, NOW, timeframes=FEW)
    with database.transaction() as transaction:
        ledger.fail(
            transaction, EMA_TREND, M5, {"AAPL": "no memory", "MSFT": "no memory"}, NOW, NOW + timedelta(hours=1)
        )
        # The averages of MSFT are fresh: a manual refresh failed, and no other asset waits for it.
        transaction.execute(
            "UPDATE market.series_state SET dirty_from = $1 WHERE timeframe = '5m'"
            " AND (asset = $2 OR (asset = $3 AND symbol = 'AAPL'))",
            NOW,
            STRATEGY,
            EMA_TREND,
        )
    assert alone_at(database, SOON).select("asset", "symbol", "reason", "failures").rows() == [
        (EMA_TREND, "AAPL", "input changed", 1),
        (STRATEGY, "AAPL", "input changed", 0),
    ]
    assert said(database, SOON) == ["1 series of 5m is behind and left alone until 16:45:00 UTC: ema_trend: no memory"]
    with database.transaction() as transaction:
        due = plan.stale_for_sweep(transaction, SOON, timedelta(0)).filter(asset=STRATEGY)
        assert sorted(due["symbol"]) == ["BTC-USD", "MSFT"]
        stale = {(each.asset, each.timeframe): each.stale for each in status.by_asset(transaction, SOON)}
    assert (stale[EMA_TREND, "5m"], stale[STRATEGY, "5m"]) == (1, 3)


def test_a_series_never_loaded_is_behind_unless_its_symbol_is_silent_or_comes_from_files(
    database: Database, exchange: MemoryExchange
) -> None:
    exchange.failing = dict.fromkeys(CALENDARS, "answered 503")
    refresh(database, WATCHED, exchange, NOW, timeframes=(M5,))
    pause(database, NOW + timedelta(hours=1))
    assert alone_at(database, NOW).select("symbol", "reason").rows() == [
        (symbol, "never asked") for symbol in ("AAPL", "BTC-USD", "MSFT")
    ]
    with database.transaction() as transaction:
        transaction.execute("UPDATE market.instrument SET is_fetched = false WHERE symbol = 'AAPL'")
        transaction.execute("UPDATE market.instrument SET silent_since = $1 WHERE symbol = 'MSFT'", NOW)
        transaction.execute("UPDATE market.series_state SET asked_at = $1 WHERE symbol = 'MSFT'", NOW)
    assert alone_at(database, NOW)["symbol"].to_list() == ["BTC-USD"]


def test_the_query_for_failing_series_uses_an_index_and_scans_no_others(database: Database) -> None:
    with database.transaction() as transaction:
        transaction.execute(
            "INSERT INTO market.instrument (symbol, calendar, timeframes) "
            "SELECT 'S' || n, 'XNYS', '{5m}' FROM generate_series(1, 3000) n"
        )
        transaction.execute(
            "INSERT INTO market.series_state (asset, symbol, timeframe) "
            "SELECT 'ohlc', 'S' || n, '5m' FROM generate_series(1, 3000) n"
        )
    with database.transaction() as transaction:
        ledger.fail(transaction, OHLC, M5, {"S7": "no"}, NOW)
        transaction.execute("ANALYZE market.series_state")
        assert ledger.pausing(transaction, NOW)["symbol"].to_list() == ["S7"]

    class Explaining(Transaction):
        def query(self, sql: str, *parameters: object) -> pl.DataFrame:
            return super().query(f"EXPLAIN {sql}", *parameters)

    with database.transaction() as transaction:
        explained = "\n".join(ledger.pausing(Explaining(database, transaction._cursor), NOW).to_series())
    assert "series_state_failing" in explained, explained
    assert "Seq Scan on series_state" not in explained, explained
