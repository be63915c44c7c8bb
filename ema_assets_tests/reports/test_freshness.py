"""Tests of the conditions of a series, which follow from the ledger and the clock, and of their sentences."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta

import pytest

from ema_assets.model.symbols import Series
from ema_assets.operations.ingest import store_file
from ema_assets.operations.sync_watchlist import sync
from ema_assets.reports import freshness, status
from ema_assets.reports.automation import ENDS_RUNS
from ema_assets.reports.heat_map import heat_map
from ema_assets.reports.trust import trust
from ema_assets.reports.why import Why, why
from ema_assets.store import provider_state
from ema_assets.store.database import Database, Transaction
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, refresh, utc, watch
from ema_assets_tests.timeframes import D1, FEW, H1, M5

NOW = utc("2026-11-20 15:00:30")
SERIES = Series("AAPL", M5)


@pytest.fixture(scope="module")
def fresh(databases) -> Iterator[str]:
    """A database in which everything is up to date at NOW."""
    url = databases.make()
    watched = watch({"AAPL": "XNYS"}, m5_days=3, d1_days=60)
    exchange = MemoryExchange(
        bars_on("XNYS", "AAPL", M5, utc("2026-11-18 00:00").date(), NOW.date()),
        bars_on("XNYS", "AAPL", D1, utc("2026-09-21 00:00").date(), NOW.date()),
    )
    exchange.bars = exchange.bars.filter(exchange.bars["ts"] < NOW)
    with Database(url) as database:
        refresh(database, watched, exchange, NOW)
    yield url
    databases.drop(url)


class Undone(Exception):
    """Raised at the end of a test to roll its changes back."""


@pytest.fixture
def transaction(fresh: str) -> Iterator[Transaction]:
    """A transaction that is rolled back at the end of the test."""
    with Database(fresh) as database, suppress(Undone), database.transaction() as begun:
        yield begun
        raise Undone


def asked(transaction: Transaction, series: Series, now: datetime) -> Why:
    conditions = freshness.conditions(transaction, now)
    # By the clock of the machine, the last work was done five seconds ago.
    work = transaction.query("SELECT max(computed_at) AS at FROM market.series_state").item()
    found = why(transaction, series, conditions, "sandbox", now, work + timedelta(seconds=5))
    assert found is not None
    return found


STATES = {
    "fresh": (NOW, "", M5, "AAPL|5m is fresh: every bar that has closed is stored and computed.", ""),
    "due": (
        utc("2026-11-20 15:06:00"),
        "",
        M5,
        "AAPL|5m is about to be fresh: the bar that closed at 2026-11-20 15:05 UTC, 1 minute ago, is being fetched.",
        "",
    ),
    "late": (
        utc("2026-11-20 15:08:00"),
        "",
        M5,
        "AAPL|5m is not fresh: the bar that closed at 2026-11-20 15:05 UTC, 3 minutes ago, is not stored yet.",
        "`ema-assets refresh --symbol AAPL`",
    ),
    "due for another second": (
        utc("2026-11-20 15:06:59"),
        "",
        M5,
        "AAPL|5m is about to be fresh: the bar that closed at 2026-11-20 15:05 UTC, 1 minute ago, is being fetched.",
        "",
    ),
    "late by two minutes": (
        utc("2026-11-20 15:07:00"),
        "",
        M5,
        "AAPL|5m is not fresh: the bar that closed at 2026-11-20 15:05 UTC, 2 minutes ago, is not stored yet.",
        "`ema-assets refresh --symbol AAPL`",
    ),
    "late for some bars": (
        utc("2026-11-20 16:03:00"),
        "",
        M5,
        "bars that closed after 2026-11-20 15:00, up to 2026-11-20 16:00 UTC, 3 minutes ago, are not stored yet.",
        "The next sweep takes it up",
    ),
    "late for some bars, the newest of which has just closed": (
        utc("2026-11-20 16:00:10"),
        "",
        M5,
        "bars that closed after 2026-11-20 15:00, up to 2026-11-20 16:00 UTC",
        "The next sweep takes it up",
    ),
    "late by its source": (
        utc("2026-11-20 15:40:00"),
        "",
        H1,
        "AAPL|1h is not fresh: the bar that closed at 2026-11-20 15:30 UTC, 10 minutes ago, is not stored yet.",
        "If it does not, `ema-assets doctor` says what holds it up.",
    ),
    "failing": (
        NOW,
        "failures = 2, last_error = 'AAPL: the provider has no symbol AAPL', next_attempt_at = '2026-11-20 15:01+00'",
        M5,
        "AAPL|5m is not fresh: the last 2 attempts failed.",
        "`ema-assets symbols check`",
    ),
    "loading": (
        NOW,
        "checked_through = NULL, asked_at = NULL, last_ts = NULL",
        M5,
        "AAPL|5m is new: its history has not been loaded yet.",
        "`ema-assets status`",
    ),
    "incomplete": (
        utc("2026-11-20 15:20:00"),
        "checked_through = '2026-11-20 15:20+00'",
        M5,
        "AAPL|5m is not fresh: its provider was asked and did not send its newest bars.",
        "`ema-assets symbols check`",
    ),
    "incomplete by its source": (
        utc("2026-11-20 15:40:00"),
        "checked_through = '2026-11-20 15:40+00'",
        H1,
        "AAPL|1h is not fresh: its provider was asked and did not send its newest bars.",
        "less and less often",
    ),
    "without bars": (NOW, "last_ts = NULL", M5, "AAPL|5m has no bars", "`ema-assets symbols check`"),
}


@pytest.mark.parametrize("name", STATES)
def test_a_series_has_a_condition_with_a_headline_and_advice(transaction: Transaction, name: str) -> None:
    now, change, timeframe, headline, advice = STATES[name]
    if change:
        transaction.execute(f"UPDATE market.series_state SET {change} WHERE asset = 'ohlc' AND timeframe = '5m'")
    if name.startswith("incomplete"):
        # A bar without trades is not missing, so the series is fresh until the gap is noted.
        assert asked(transaction, Series("AAPL", timeframe), now).condition == "fresh"
        transaction.execute(
            """
            INSERT INTO market.bar_gap (symbol, timeframe, first_ts, last_ts, bars, status, next_attempt_at, found_at)
            VALUES ('AAPL', '5m', $1, $2, 4, 'open', $2, $2)
            """,
            NOW.replace(second=0),
            utc("2026-11-20 15:15"),
        )
    found = asked(transaction, Series("AAPL", timeframe), now)
    assert found.condition == name.partition(" for")[0].partition(" by")[0]
    assert headline in found.headline
    assert advice in " ".join(found.advice)
    assert (found.advice == ()) == found.is_fine
    assert found.base == (None if timeframe is M5 else SERIES)


def test_what_would_be_rolled_up_from_no_bars_has_none_and_does_not_load(transaction: Transaction) -> None:
    hour = Series("AAPL", H1)
    transaction.execute("UPDATE market.series_state SET last_ts = NULL WHERE asset = 'ohlc' AND timeframe = '1h'")
    assert asked(transaction, hour, NOW).condition == "loading"
    transaction.execute("UPDATE market.series_state SET last_ts = NULL WHERE asset = 'ohlc' AND timeframe = '5m'")
    found = asked(transaction, hour, NOW)
    assert found.headline == "AAPL|1h has no bars: its provider was asked and has none."
    assert "`ema-assets symbols check`" in " ".join(found.advice)
    transaction.execute("UPDATE market.series_state SET checked_through = NULL WHERE timeframe = '5m'")
    assert asked(transaction, hour, NOW).condition == "loading"


def test_one_missing_bar_is_spoken_of_as_one(transaction: Transaction) -> None:
    transaction.execute(
        "UPDATE market.series_state SET checked_through = '2026-11-20 15:05Z' WHERE asset = 'ohlc' AND timeframe = '5m'"
    )
    transaction.execute(
        """
        INSERT INTO market.bar_gap (symbol, timeframe, first_ts, last_ts, bars, asked, status, next_attempt_at, found_at)
        VALUES ('AAPL', '5m', $1, $1, 1, 2, 'open', $2, $2)
        """,
        NOW.replace(second=0),
        utc("2026-11-20 15:15"),
    )
    found = asked(transaction, SERIES, utc("2026-11-20 15:05:30"))
    assert found.condition == "incomplete"
    said = " ".join(found.reasons)
    assert "1 bar is missing" in said
    assert "It was requested again 2 times. It is requested next at 2026-11-20 15:15:00 UTC." in said


def test_a_change_in_the_open_hour_does_not_wait_for_a_run(transaction: Transaction) -> None:
    def told(dirty_from: datetime, dirty_end: datetime) -> Why:
        transaction.execute(
            "UPDATE market.series_state SET dirty_from = $1, dirty_end = $2 WHERE asset = 'ohlc' AND timeframe = '1h'",
            dirty_from,
            dirty_end,
        )
        return asked(transaction, Series("AAPL", H1), NOW)

    forming = told(utc("2026-11-20 14:30"), utc("2026-11-20 15:30"))
    assert (forming.condition, forming.waiting) == ("fresh", ())
    assert "waits for a run" not in " ".join(forming.reasons)
    corrected = told(utc("2026-11-19 20:30"), utc("2026-11-19 21:00"))
    assert corrected.waiting == ("ohlc",)
    assert "An input of ohlc has changed: it waits for a run." in corrected.reasons


def test_silent_and_computing_series_and_an_idle_machine_are_reported(transaction: Transaction) -> None:
    transaction.execute(
        "UPDATE market.series_state SET dirty_from = $1 WHERE asset = 'ema_signals' AND timeframe = '5m'", NOW
    )
    computing = asked(transaction, SERIES, NOW)
    assert computing.condition == "computing"
    assert "An input of ema_signals has changed: it waits for a run." in computing.reasons
    conditions = freshness.conditions(transaction, NOW)
    idle = why(transaction, SERIES, conditions, "sandbox", NOW, datetime.max.replace(tzinfo=NOW.tzinfo))
    assert idle is not None
    assert "see whether `ema-assets up` runs" in idle.advice[0]
    transaction.execute("UPDATE market.instrument SET silent_since = $1", utc("2026-11-10 14:30"))
    assert asked(transaction, SERIES, NOW).condition == "silent"
    transaction.execute("UPDATE market.instrument SET silent_since = NULL, is_fetched = false")
    assert asked(transaction, Series("AAPL", D1), NOW).condition == "from files"
    assert "not requested from a provider" in " ".join(asked(transaction, Series("AAPL", D1), NOW).reasons)
    assert why(transaction, Series("MSFT", M5), conditions, "sandbox", NOW, NOW) is None


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ("no", "To try at once: `ema-assets refresh --symbol AAPL --retry`."),
        (f"the last 3 runs ended while they computed mine; {ENDS_RUNS}", "Do not try it by hand: it would end the"),
    ],
)
def test_a_failure_is_tried_again_by_hand_unless_it_would_end_the_command_too(
    transaction: Transaction, error: str, advice: str
) -> None:
    transaction.execute(
        "UPDATE market.series_state SET failures = 3, last_error = $1 WHERE asset = 'ema_trend' AND timeframe = '5m'",
        error,
    )
    found = asked(transaction, SERIES, NOW)
    assert found.condition == "failing"
    assert found.advice[1].startswith(advice)


@pytest.mark.parametrize(("asset", "are_fresh"), [("strategy_9_30_ema", True), ("ema_trend", False), ("ohlc", False)])
@pytest.mark.parametrize("change", ["dirty_from = first_ts", "failures = 1, last_error = 'no'"])
def test_averages_are_fresh_while_a_strategy_beside_them_waits_or_fails(
    transaction: Transaction, asset: str, change: str, are_fresh: bool
) -> None:
    if asset == "ohlc":
        change = change.replace("dirty_from = first_ts", "checked_through = '2026-11-20 14:30Z'")
    transaction.execute(f"UPDATE market.series_state SET {change} WHERE asset = $1 AND timeframe = '5m'", asset)
    (found,) = freshness.conditions(transaction, NOW).filter(symbol="AAPL", timeframe="5m").iter_rows(named=True)
    assert found["condition"] in ("late", "computing", "failing")
    assert found["has_fresh_averages"] is are_fresh


def test_only_the_own_provider_of_a_series_is_named_as_not_answering(transaction: Transaction) -> None:
    transaction.execute("UPDATE market.instrument SET provider = 'ccxt:binance'")
    transaction.execute(
        "INSERT INTO market.instrument (symbol, calendar, provider) VALUES ('X', '24/7', 'ccxt:binanceus')"
    )
    for provider in ("ccxt:binance", "ccxt:binanceus"):
        provider_state.trip(transaction, provider, "no host", NOW, provider_state.breaker(transaction, provider))
    said = [each for each in asked(transaction, SERIES, NOW).reasons if "does not answer" in each]
    assert said == ["ccxt:binance does not answer, tried once, again at 2026-11-20 15:01:00 UTC: no host."]


def test_timeframes_without_bars_in_files_are_not_reported_as_problems(database: Database) -> None:
    watched = watch({"OLD": "XNYS"}, provider="file", timeframes=FEW)
    sync(database, watched, NOW)
    store_file(database, bars_on("XNYS", "OLD", D1, utc("2026-10-01").date(), utc("2026-11-19").date()), "old.csv", NOW)
    refresh(database, watched, MemoryExchange(), NOW)
    with database.transaction() as transaction:
        found = heat_map(transaction, NOW)
        assert set(found.series["timeframe"]) == {timeframe.key for timeframe in FEW}
        assert set(found.series["condition"]) == {"from files"}
        assert {row["not_fresh"] for row in found.breadth().values()} == {0}
        trusted = trust(transaction, found.series, NOW)
        # As in `status`, only series that have bars count.
        assert (trusted.verdict, trusted.series) == ("fresh", 1)
        assert {each.timeframe: each.series for each in status.by_asset(transaction, NOW)} == {"1d": 1}
        of = {timeframe.key: asked(transaction, Series("OLD", timeframe), NOW) for timeframe in FEW}
    no_bars = "OLD|5m has no bars: they come from files, and none with 5m bars was ingested."
    assert of["5m"].headline == no_bars
    assert of["5m"].reasons == ("Its bars come from files and are not requested from a provider.",)
    assert of["1h"].reasons[1:] == ("Where no file has bars of 1h, they are rolled up from those of 5m.",)
    assert of["1d"].headline.startswith("OLD|1d comes from files, and everything is computed from what they hold.")
    assert {found.advice for found in of.values()} == {()}


def test_the_verdict_is_the_worst_condition_of_all_series(transaction: Transaction) -> None:
    def verdict(transaction: Transaction, now: datetime) -> str:
        return trust(transaction, freshness.conditions(transaction, now), now).verdict

    found = trust(transaction, freshness.conditions(transaction, NOW), NOW)
    assert (found.verdict, found.series, found.fine, found.flipped()) == ("fresh", 3, 3, (0, 0, 0))
    assert verdict(transaction, utc("2026-11-20 15:08:00")) == "behind"
    transaction.execute(
        "UPDATE market.series_state SET checked_through = NULL WHERE asset = 'ohlc' AND timeframe = '1d'"
    )
    assert verdict(transaction, NOW) == "loading"
    transaction.execute("UPDATE market.series_state SET failures = 1, last_error = 'no' WHERE asset = 'ema_trend'")
    assert verdict(transaction, NOW) == "failing"
    transaction.execute("UPDATE market.instrument SET is_active = false")
    assert verdict(transaction, NOW) == "empty"


def test_the_blast_radius_is_that_of_the_corrections_of_24_hours(transaction: Transaction) -> None:
    """Bars that came late are no corrections."""
    for kind, hours, rows, crossovers, trades in (
        ("correction", 25, 1, 1, 1),
        ("correction", 24, 10, 2, 3),
        ("split", 1, 300, 40, 50),
        ("late bars", 1, 7, 7, 7),
    ):
        transaction.execute(
            """
            INSERT INTO market.bar_revision (symbol, timeframe, kind, detail, changed_from, bars_corrected, bars_late,
                                             source, revised_at, rows_recomputed, crossovers_flipped, trades_flipped)
            VALUES ('AAPL', '5m', $1, '', $2, 1, 0, 'memory', $2, $3, $4, $5)
            """,
            kind,
            NOW - timedelta(hours=hours),
            rows,
            crossovers,
            trades,
        )
    assert trust(transaction, freshness.conditions(transaction, NOW), NOW).flipped() == (310, 42, 53)


def test_a_bar_whose_rest_is_in_no_file_yet_waits_for_nothing_else(database: Database) -> None:
    watched = watch({"OLD": "XNYS"}, provider="file", timeframes=FEW)
    sync(database, watched, NOW)
    bars = bars_on("XNYS", "OLD", M5, utc("2026-11-18").date(), utc("2026-11-18").date()).head(17)
    store_file(database, bars, "old.csv", NOW)
    with database.transaction() as transaction:
        assert asked(transaction, Series("OLD", H1), NOW).waiting == ("ohlc",)
    refresh(database, watched, MemoryExchange(), NOW)
    with database.transaction() as transaction:
        hour = asked(transaction, Series("OLD", H1), NOW)
    assert hour.chain.filter(asset="ohlc")["dirty_from"].to_list() == [utc("2026-11-18 15:30")]
    assert hour.waiting == ()
    assert not [reason for reason in hour.reasons if "has changed" in reason]
