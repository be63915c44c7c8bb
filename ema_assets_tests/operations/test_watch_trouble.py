"""Tests of alerts about trouble: lasting trouble is reported once, with its end; a single event is reported once."""

from dataclasses import replace
from datetime import date, datetime, timedelta

import polars as pl
import pytest

from ema_assets.alerts.channels import Channel
from ema_assets.alerts.subscriptions import Alerts, Subscription
from ema_assets.model.asset_names import OHLC
from ema_assets.model.symbols import Instrument
from ema_assets.model.timeframes import Timeframe
from ema_assets.operations.sync_watchlist import sync
from ema_assets.operations.watch_trouble import looks, note_wanted, watch_trouble
from ema_assets.refresh.plan import AT_ONCE
from ema_assets.store import alert_outbox, ledger, provider_state
from ema_assets.store.database import Database
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, refresh, utc, watch
from ema_assets_tests.timeframes import H1, M5

NOW = utc("2026-11-26 15:00:30")
LATER = NOW + timedelta(minutes=12)
MUCH_LATER = NOW + timedelta(minutes=17)
WATCHED = watch({"BTC-USD": "24/7", "ETH-USD": "24/7"}, m5_days=1, timeframes=(M5,))
ALL = ("series_failing", "provider_shut_out", "nothing_fresh", "run_failed")


def told_of(*kinds: str, **more: object) -> Alerts:
    subscription = Subscription("mine", kinds or ALL, ("hook",), params={"after_failures": 2}, **more)  # type: ignore[arg-type]
    return Alerts((subscription,), {"hook": Channel("hook", "json://127.0.0.1:9")})


def look(database: Database, alerts: Alerts, now: datetime = NOW) -> list[tuple[str, str, bool]]:
    """Watch for trouble at `now` and return the raised alerts: kind, text and whether the trouble is over."""
    with database.transaction() as transaction:
        before = transaction.query("SELECT coalesce(max(id), 0)::bigint AS id FROM market.alert").item()
        raised = watch_trouble(transaction, alerts, now, now, AT_ONCE)
        rows = transaction.query(
            "SELECT kind, text, is_over FROM market.alert WHERE id > $1 ORDER BY kind, text", before
        )
        assert raised == rows.height
    return rows.rows()


def fail(database: Database, symbols: list[str], now: datetime = NOW) -> None:
    with database.transaction() as transaction:
        ledger.fail(transaction, OHLC, M5, dict.fromkeys(symbols, "no such symbol"), now)


def test_a_failing_series_is_reported_after_some_failures_and_when_it_is_over(database: Database) -> None:
    sync(database, WATCHED, NOW)
    alerts = told_of("series_failing")
    fail(database, ["BTC-USD"])
    assert look(database, alerts) == [], "once is no trouble"
    fail(database, ["BTC-USD"])
    text = "ohlc has failed 2 times in a row: no such symbol"
    assert look(database, alerts) == [("series_failing", text, False)]
    fail(database, ["BTC-USD"])
    assert look(database, alerts) == [], "the same trouble"
    with database.transaction() as transaction:
        transaction.execute("UPDATE market.series_state SET failures = 0, last_error = NULL")
    assert look(database, alerts, LATER) == [("series_failing", f"over after 12 min: {text}", True)]
    assert look(database, alerts, LATER) == []
    fail(database, ["BTC-USD"])
    fail(database, ["BTC-USD"])
    assert len(look(database, alerts, LATER + timedelta(hours=1))) == 1, "again"


def test_a_subscription_gets_alerts_only_about_its_symbols_and_timeframes(database: Database) -> None:
    sync(database, WATCHED, NOW)
    for _ in range(2):
        fail(database, ["BTC-USD", "ETH-USD"])
    assert look(database, told_of("series_failing", symbols=("SOL-USD",))) == []
    assert look(database, told_of("series_failing", timeframes=("1h",))) == []
    assert len(look(database, told_of("series_failing", symbols=("ETH-USD",), timeframes=("5m",)))) == 1


def test_a_provider_that_does_not_answer_is_reported_with_its_reason(database: Database) -> None:
    alerts = told_of("provider_shut_out")
    sync(database, WATCHED, NOW)
    for _ in range(2):
        assert look(database, alerts) == []
        with database.transaction() as transaction:
            seen = provider_state.breaker(transaction, "sandbox")
            provider_state.trip(transaction, "sandbox", "connection refused", NOW, seen)
    text = "sandbox has not answered 2 times in a row, tried again at 2026-11-26 15:01:30 UTC: connection refused"
    assert look(database, alerts) == [("provider_shut_out", text, False)]
    with database.transaction() as transaction:
        provider_state.reset(transaction, "sandbox")
    assert look(database, alerts, NOW + timedelta(minutes=75)) == [
        ("provider_shut_out", f"over after 1 h 15 min: {text}", True)
    ]


@pytest.mark.broad
def test_trouble_with_a_provider_is_over_when_its_last_symbol_is_removed(database: Database) -> None:
    alerts = told_of("provider_shut_out")
    coins, metals = replace(watch({"BTC-USD": "24/7"}), alerts=alerts), watch({"SI=F": "CMES"}, provider="yahoo")
    sync(database, replace(coins, instruments=(*coins.instruments, *metals.instruments)), NOW)
    for _ in range(2):
        with database.transaction() as transaction:
            seen = provider_state.breaker(transaction, "yahoo")
            provider_state.trip(transaction, "yahoo", "no such host", NOW, seen)
    ((kind, text, is_over),) = look(database, alerts)
    assert (kind, text.partition(" has ")[0], is_over) == ("provider_shut_out", "yahoo", False)
    sync(database, coins, NOW)
    assert look(database, alerts, LATER) == [("provider_shut_out", f"over after 12 min: {text}", True)]
    assert look(database, alerts, MUCH_LATER) == []


def test_nothing_fresh_is_reported_only_when_loaded_series_are_late(database: Database) -> None:
    alerts = told_of("nothing_fresh")
    sync(database, WATCHED, NOW)
    assert look(database, alerts) == [], "nothing was loaded yet"
    exchange = MemoryExchange(
        *(bars_on("24/7", symbol, M5, date(2026, 11, 25), date(2026, 11, 26)) for symbol in WATCHED.symbols)
    )
    refresh(database, WATCHED, exchange, NOW, timeframes=(M5,))
    assert look(database, alerts) == []
    assert look(database, alerts, NOW + timedelta(minutes=9)) == [], "one bar late"
    expected = "all 2 series are more than two bars late; the newest has bars up to 15:00 UTC"
    assert look(database, alerts, LATER) == [], "two bars late"
    assert look(database, alerts, MUCH_LATER) == [("nothing_fresh", expected, False)]
    # One fresh symbol ends the trouble.
    watched = replace(WATCHED, alerts=alerts)
    refresh(database, watched, exchange, MUCH_LATER, symbols=["ETH-USD"], timeframes=(M5,))
    assert look(database, alerts, MUCH_LATER) == [("nothing_fresh", f"over after 0 min: {expected}", True)]


@pytest.mark.broad
def test_a_night_without_bars_is_not_reported_when_the_market_opens(database: Database) -> None:
    """No bar closed in the two bars of time before the first close of a day, so no series is late yet."""
    watched = watch({"AAPL": "XNYS"}, m5_days=2, timeframes=(M5,))
    evening, open_at = utc("2026-11-24 21:00:30"), utc("2026-11-25 14:30")
    sync(database, watched, evening)
    exchange = MemoryExchange(bars_on("XNYS", "AAPL", M5, date(2026, 11, 24), date(2026, 11, 25)))
    refresh(database, watched, exchange, evening, timeframes=(M5,))
    alerts = told_of("nothing_fresh")
    for minutes in (0, 5, 10, 14):
        assert look(database, alerts, open_at + timedelta(minutes=minutes)) == [], minutes
    expected = "all 1 series are more than two bars late; the newest has bars up to 21:00 UTC"
    assert look(database, alerts, open_at + timedelta(minutes=15)) == [("nothing_fresh", expected, False)]


def test_trouble_of_a_removed_subscription_is_forgotten(database: Database) -> None:
    sync(database, WATCHED, NOW)
    alerts = told_of("series_failing")
    for _ in range(2):
        fail(database, ["BTC-USD"])
    assert len(look(database, alerts)) == 1
    sync(database, replace(WATCHED, alerts=alerts), NOW)
    assert look(database, alerts, LATER) == [], "it is still told"
    sync(database, WATCHED, NOW)
    assert len(look(database, alerts, LATER)) == 1, "one of the same name hears of it"


@pytest.fixture
def with_runs(database: Database) -> Database:
    """A database with the tables and columns of Dagster that are read."""
    with database.transaction() as transaction:
        for sql in (
            "CREATE TABLE dagster.runs (run_id text, pipeline_name text, status text, end_time float8)",
            "CREATE TABLE dagster.run_tags (run_id text, key text, value text)",
            "CREATE TABLE dagster.asset_check_executions ()",
        ):
            transaction.execute(sql)
    watch_on(database, M5, H1)
    return database


def want(database: Database, alerts: Alerts, since: datetime = NOW - timedelta(days=1)) -> None:
    """Take up `alerts` as a sync of the watchlist does, at the time `since`."""
    with database.transaction() as transaction:
        note_wanted(transaction, alerts)
        transaction.execute("UPDATE market.alert_wanted SET since = $1", since)


def watch_on(database: Database, *timeframes: Timeframe) -> None:
    with database.transaction() as transaction:
        ledger.sync_instruments(transaction, [Instrument("AAPL", timeframes=timeframes)])


def test_a_failed_run_is_reported_once_unless_it_will_be_retried(with_runs: Database) -> None:
    alerts = told_of("run_failed")
    assert look(with_runs, alerts) == []
    runs = pl.DataFrame(
        {
            "run_id": ["1a2b3c4d-late", "old", "retried", "good"],
            "status": ["FAILURE", "FAILURE", "FAILURE", "SUCCESS"],
            "minutes": [5.0, 90.0, 5.0, 5.0],
        }
    )
    with with_runs.transaction() as transaction:
        for run, status, minutes in runs.iter_rows():
            transaction.execute(
                "INSERT INTO dagster.runs VALUES ($1, 'refresh', $2, extract(epoch FROM $3::timestamptz))",
                run,
                status,
                NOW - timedelta(minutes=minutes),
            )
        transaction.execute("INSERT INTO dagster.run_tags VALUES ('1a2b3c4d-late', 'ema_assets/timeframe', '5m')")
        transaction.execute("INSERT INTO dagster.run_tags VALUES ('retried', 'dagster/will_retry', 'true')")
    assert look(with_runs, alerts) == [
        ("run_failed", "run 1a2b3c4d of refresh (5m) failed at 2026-11-26 14:55 UTC", False)
    ]
    assert look(with_runs, alerts, LATER) == []


def ended(database: Database, run: str, status: str, at: datetime, job: str = "refresh", **tags: str) -> None:
    """Add a run of `job` that ended `at` with the given tags."""
    with database.transaction() as transaction:
        transaction.execute(
            "INSERT INTO dagster.runs VALUES ($1, $2, $3, extract(epoch FROM $4::timestamptz))", run, job, status, at
        )
        for key, value in tags.items():
            transaction.execute("INSERT INTO dagster.run_tags VALUES ($1, $2, $3)", run, key, value)


OF_5M, OF_1H = {"ema_assets/timeframe": "5m"}, {"ema_assets/timeframe": "1h"}


def test_failed_runs_of_timeframes_in_an_outage_are_one_trouble_with_one_end(with_runs: Database) -> None:
    alerts = told_of("run_failed")
    ended(with_runs, "before", "SUCCESS", NOW - timedelta(hours=1), **OF_5M)
    told = []
    for minutes in range(0, 60, 5):
        now = NOW + timedelta(minutes=minutes)
        ended(with_runs, f"run-{minutes:03}-5m", "FAILURE", now, **OF_5M)
        if minutes == 30:
            ended(with_runs, "run-030-1h", "FAILURE", now, **OF_1H)
        told += look(with_runs, alerts, now + timedelta(seconds=15))
    text = "run run-000- of refresh (5m) failed at 2026-11-26 15:00 UTC"
    assert told == [("run_failed", text, False)]
    ended(with_runs, "good-5m", "SUCCESS", NOW + timedelta(minutes=60), **OF_5M)
    assert look(with_runs, alerts, NOW + timedelta(minutes=61)) == [], "1h has failed and was not done since"
    assert look(with_runs, alerts, NOW + timedelta(minutes=120)) == [], "and lasts, however long no run of it ends"
    assert look(with_runs, alerts, NOW + timedelta(days=9)) == [], "also over holidays"
    ended(with_runs, "good-1h", "SUCCESS", NOW + timedelta(minutes=121), **OF_1H)
    assert look(with_runs, alerts, NOW + timedelta(minutes=122)) == [
        ("run_failed", f"over after 2 h 1 min: {text}", True)
    ]
    ended(with_runs, "again", "FAILURE", NOW + timedelta(minutes=125), **OF_5M)
    assert len(look(with_runs, alerts, NOW + timedelta(minutes=126))) == 1


def test_a_failed_run_is_over_when_no_symbol_is_watched_on_its_timeframe(with_runs: Database) -> None:
    alerts = told_of("run_failed")
    ended(with_runs, "of-1h", "FAILURE", NOW, **OF_1H)
    assert len(look(with_runs, alerts)) == 1
    watch_on(with_runs, M5)
    assert [is_over for *_, is_over in look(with_runs, alerts, LATER)] == [True]


def test_failed_runs_are_reported_once_per_backfill_and_other_runs_one_by_one(with_runs: Database) -> None:
    alerts = told_of("run_failed")
    want(with_runs, alerts)
    for run, backfill in (("1-of-fill", "fill"), ("2-of-fill", "fill"), ("1-of-other", "other")):
        ended(with_runs, run, "FAILURE", NOW, **{"dagster/backfill": backfill})
    ended(with_runs, "by-hand-1", "FAILURE", NOW)
    ended(with_runs, "by-hand-2", "FAILURE", NOW)
    assert [text.split()[1] for _, text, _ in look(with_runs, alerts)] == [
        "1-of-fil",
        "1-of-oth",
        "by-hand-",
        "by-hand-",
    ]
    ended(with_runs, "3-of-fill", "FAILURE", LATER, **{"dagster/backfill": "fill"})
    assert look(with_runs, alerts, LATER) == []
    assert look(with_runs, alerts, LATER + timedelta(hours=2)) == [], "of what happens at a moment no end is told"


def test_a_failed_run_is_called_by_what_it_was_for(with_runs: Database) -> None:
    alerts = told_of("run_failed")
    want(with_runs, alerts)
    ended(with_runs, "1-filling", "FAILURE", NOW, job="__ASSET_JOB", **{"dagster/backfill": "zmovvtmb"})
    ended(with_runs, "2-by-hand", "FAILURE", NOW, job="__ASSET_JOB")
    ended(with_runs, "3-nightly", "FAILURE", NOW, job="performance")
    assert [text.removesuffix(" failed at 2026-11-26 15:00 UTC") for _, text, _ in look(with_runs, alerts)] == [
        "run 1-fillin of backfill zmovvtmb",
        "run 2-by-han of assets that somebody chose",
        "run 3-nightl of performance",
    ]


def test_a_new_subscription_is_not_told_of_runs_that_had_failed_before_it(with_runs: Database) -> None:
    alerts = told_of("run_failed")
    ended(with_runs, "before-1", "FAILURE", NOW - timedelta(minutes=2))
    ended(with_runs, "before-2", "FAILURE", NOW - timedelta(minutes=2), **{"dagster/backfill": "fill"})
    assert look(with_runs, alerts) == [], "the watchlist was not synced yet"
    want(with_runs, alerts, since=NOW - timedelta(minutes=1))
    assert look(with_runs, alerts) == []
    ended(with_runs, "later-of-fill", "FAILURE", NOW, **{"dagster/backfill": "fill"})
    ended(with_runs, "later-1", "FAILURE", NOW)
    assert [text.split()[1] for _, text, _ in look(with_runs, alerts, LATER)] == ["later-1", "later-of"]
    # What lasts is told to everybody who asks: it is so now.
    ended(with_runs, "lasting", "FAILURE", NOW - timedelta(minutes=2), **OF_5M)
    assert [text.split()[1] for _, text, _ in look(with_runs, alerts, LATER)] == ["lasting"]
    # Another sync changes nothing, and a deleted subscription that comes back is a new one.
    with with_runs.transaction() as transaction:
        before = alert_outbox.wanted(transaction)
        note_wanted(transaction, alerts)
        assert alert_outbox.wanted(transaction).equals(before)
        note_wanted(transaction, None)
        assert alert_outbox.wanted(transaction).is_empty()


def test_no_statements_run_if_no_subscription_wants_trouble_and_unwanted_trouble_is_forgotten(
    database: Database,
) -> None:
    sync(database, WATCHED, NOW)
    silent = told_of("crossover")
    statements = database.statements
    with database.transaction() as transaction:
        assert watch_trouble(transaction, silent, NOW, NOW, AT_ONCE) == 0
    assert database.statements == statements
    assert (looks(silent), looks(told_of())) == (False, True)
    for _ in range(2):
        fail(database, ["BTC-USD"])
    assert len(look(database, told_of("series_failing"))) == 1
    # Trouble that the subscription no longer wants is not reported as over.
    assert look(database, told_of("provider_shut_out")) == []
