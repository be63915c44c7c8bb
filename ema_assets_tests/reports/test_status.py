"""Tests of the sentences that `status` prints."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ema_assets.operations.sync_watchlist import sync
from ema_assets.reports import freshness, status
from ema_assets.reports.trust import trust
from ema_assets.store import measurements, provider_state
from ema_assets.store.database import Database
from ema_assets_tests.refresh.exchange import watch

NOW = datetime(2026, 11, 25, 15, 0, tzinfo=UTC)


def test_a_provider_that_does_not_answer_is_named_with_the_time_of_the_next_attempt(database: Database) -> None:
    sync(database, watch({"BTC-USD": "24/7"}), NOW)
    with database.transaction() as transaction:
        seen = provider_state.breaker(transaction, "sandbox")
        provider_state.trip(transaction, "sandbox", "banned", NOW, seen, 2 * 86_400.0)
        assert status.not_answering(transaction) == [
            "sandbox does not answer, tried once, again at 2026-11-27 15:00:00 UTC: banned"
        ]
        provider_state.end_pauses(transaction, ["sandbox"], NOW)
        assert status.not_answering(transaction) == [
            "sandbox does not answer, tried once, again at 2026-11-25 15:00:00 UTC: banned"
        ]


@pytest.mark.broad
def test_a_provider_without_watched_symbols_is_not_reported_as_failing(database: Database) -> None:
    coins, metals = watch({"BTC-USD": "24/7"}), watch({"SI=F": "CMES"}, provider="yahoo")

    def said(default: str | None = "sandbox") -> tuple[list[str], bool, int]:
        with database.transaction() as transaction:
            conditions = freshness.conditions(transaction, NOW)
            verdict = trust(transaction, conditions, NOW, default).verdict
            asked = measurements.providers(transaction, 60)
            sentences = status.not_answering(transaction, default)
            return [each.split()[0] for each in sentences], verdict == "failing", int(asked["failures"].sum())

    sync(database, replace(coins, instruments=(*coins.instruments, *metals.instruments)), NOW)
    with database.transaction() as transaction:
        provider_state.trip(transaction, "yahoo", "no host", NOW, provider_state.breaker(transaction, "yahoo"))
        provider_state.note_description(transaction, "yahoo", "no host")
    assert said() == (["yahoo", "yahoo"], True, 1)
    sync(database, coins, NOW)
    assert said() == said(None) == ([], False, 0)
    # With yahoo as the default, the symbol that names no provider uses it.
    assert said("yahoo")[:2] == (["yahoo", "yahoo"], True)
    # Without a known default, a provider that no symbol has ever named is reported as well.
    with database.transaction() as transaction:
        provider_state.trip(transaction, "binance", "gone", NOW, provider_state.breaker(transaction, "binance"))
    assert said(None) == (["binance"], True, 1)
    assert said() == ([], False, 1)


def test_the_most_common_reason_of_failures_is_said_first_with_one_of_its_series(database: Database) -> None:
    sync(database, watch(dict.fromkeys(("AAPL", "KO", "MSFT"), "XNYS")), NOW)
    with database.transaction() as transaction:
        transaction.execute(
            """
            UPDATE market.series_state
            SET failures = 1, last_error = CASE symbol WHEN 'AAPL' THEN 'no such symbol' ELSE 'no answer' END
            WHERE asset = 'ohlc' AND timeframe = '5m'
            """
        )
        found = [str(each) for each in status.failure_reasons(transaction)]
    assert found == ["KO|5m and 1 more: no answer", "AAPL|5m: no such symbol"]


def test_reasons_that_differ_only_in_the_bar_that_they_name_are_one(database: Database) -> None:
    sync(database, watch(dict.fromkeys(("AAPL", "KO", "MSFT"), "XNYS")), NOW)
    with database.transaction() as transaction:
        transaction.execute(
            """
            UPDATE market.series_state
            SET failures = 1,
                last_error = CASE symbol
                    WHEN 'MSFT' THEN '`high` of MSFT at 2026-11-20 15:30 UTC changes'
                    ELSE format('`low` of %s at 2026-11-20 1%s:30 UTC changes', symbol, length(symbol)) END
            WHERE asset = 'ohlc' AND timeframe = '5m'
            """
        )
        found = status.failure_reasons(transaction)
    assert [str(each) for each in found] == [
        "AAPL|5m and 1 more: `low` of AAPL at 2026-11-20 14:30 UTC changes",
        "MSFT|5m: `high` of MSFT at 2026-11-20 15:30 UTC changes",
    ]
    assert [each.topic for each in found] == ["`low` changes", "`high` changes"]


def test_one_endless_loop_is_one_reason_for_histories_of_any_length(database: Database) -> None:
    sync(database, watch(dict.fromkeys(("AAPL", "KO"), "XNYS")), NOW)
    with database.transaction() as transaction:
        transaction.execute(
            """
            UPDATE market.series_state
            SET failures = 1, last_error = format('line 7: is not done with 1%s,000 bars after 7%s seconds; is there',
                                                  length(symbol), length(symbol))
            WHERE asset = 'ohlc' AND timeframe = '5m'
            """
        )
        (found,) = status.failure_reasons(transaction)
    assert str(found) == "AAPL|5m and 1 more: line 7: is not done with 14,000 bars after 74 seconds; is there"
