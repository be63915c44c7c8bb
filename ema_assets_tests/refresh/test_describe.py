"""The states of symbols: queried once per night on a real socket, stored, reported, and applied to bar requests."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ema_assets.config.settings import Settings
from ema_assets.config.watchlist import Watchlist
from ema_assets.model.asset_names import OHLC
from ema_assets.model.errors import UnknownSymbol
from ema_assets.model.schemas import ACTION_SCHEMA, STATE_SCHEMA, UTC_TIME
from ema_assets.model.symbols import Instrument
from ema_assets.model.timeframes import Timeframe
from ema_assets.operations.import_actions import read_actions
from ema_assets.operations.sync_watchlist import sync
from ema_assets.providers.declaration import Publication
from ema_assets.providers.fetching.describing import Described, Question
from ema_assets.providers.http.budget import Budget
from ema_assets.refresh.clients import open_provider
from ema_assets.refresh.describe import Describer, describe_due, with_endings
from ema_assets.refresh.fetch import refresh_fetched
from ema_assets.refresh.plan import closed_bars, stale_for_sweep
from ema_assets.refresh.plan_requests import FetchRules
from ema_assets.reports import health, status, story
from ema_assets.sandbox.dialects.alpaca_reference import ACTIONS_PATH, ASSETS_PATH
from ema_assets.sandbox.faults import CorporateAction, Ended, Halted, MissingSymbol, Refuse, Split
from ema_assets.sandbox.server import RunningSandbox, running_sandbox
from ema_assets.store import action_facts, ledger, provider_state, states
from ema_assets.store.database import Database
from ema_assets_tests.refresh.exchange import bars_on, rows_of, state_of, utc, watch
from ema_assets_tests.refresh.life import LivingExchange
from ema_assets_tests.timeframes import D1, M5

NOW = utc("2026-11-25 02:05")
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
SYMBOLS = {"AAPL": "XNYS", "OLD": "XNYS", "GE": "XNYS"}


@pytest.fixture(scope="module")
def _served() -> Iterator[RunningSandbox]:
    universe = [*map(Instrument, SYMBOLS), Instrument("BTC-USD", "24/7"), Instrument("XMR-USD", "24/7")]
    with running_sandbox(universe, 7, clock=lambda: NOW) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(_served: RunningSandbox) -> RunningSandbox:
    _served.handle.faults.clear()
    _served.handle.stats.reset()
    return _served


def settings_of(sandbox: RunningSandbox, provider: str = "alpaca") -> Settings:
    return Settings.from_env(
        {
            "EMA_PROVIDER": provider,
            f"EMA_{provider.upper()}_BASE_URL": sandbox.base_url,
            "APCA_API_KEY_ID": "PK-key",
            "APCA_API_SECRET_KEY": "secret",
        }
    )


def describer_of(sandbox: RunningSandbox, watched: Watchlist, provider: str = "alpaca") -> Describer:
    return FetchRules.of(settings_of(sandbox, provider), watched).describers[None]


def describe(
    database: Database,
    sandbox: RunningSandbox,
    now: datetime = NOW,
    *,
    reread_at: datetime | None = None,
    provider: str = "alpaca",
    symbols: dict[str, str] = SYMBOLS,
) -> int:
    """Query states as a run at `now` does. With `reread_at`, sessions are read again from that time on."""
    watched = watch(symbols)
    sync(database, watched, now)
    calendars = sorted(set(symbols.values()))
    closed = pl.DataFrame(
        {"calendar": calendars, "provider": None, "reread_at": reread_at},
        schema={"calendar": pl.String(), "provider": pl.String(), "reread_at": pl.Datetime("us", "UTC")},
    )
    return asyncio.run(describe_due(database, None, describer_of(sandbox, watched, provider), closed, now))


def states_in(database: Database) -> dict[str, tuple[Any, ...]]:
    sql = "SELECT symbol, state, state_since, state_detail FROM market.instrument ORDER BY 1"
    return {symbol: tuple(rest) for symbol, *rest in rows_of(database, sql)}


def facts_in(database: Database) -> list[tuple[Any, ...]]:
    sql = """
        SELECT symbol, kind, effective_at, ratio, amount, value, source FROM market.corporate_action ORDER BY 1, 3, 2
        """
    return rows_of(database, sql)


def tell(sandbox: RunningSandbox, of: str, kind: str, **fields: Any) -> int:
    return sandbox.handle.faults.add(CorporateAction(symbols=[of], type=kind, fields=fields))


def rename(sandbox: RunningSandbox, old: str, new: str, day: str) -> None:
    tell(sandbox, old, "name_changes", old_symbol=old, new_symbol=new, process_date=day)


# --- when states are queried ------------------------------------------------------------------------------------------


def test_the_state_of_each_symbol_is_queried_at_first_and_then_once_per_night(
    database: Database, sandbox: RunningSandbox
) -> None:
    calls = [
        describe(database, sandbox, NOW, reread_at=NOW - HOUR),
        # Later runs in the same night.
        describe(database, sandbox, NOW + HOUR, reread_at=NOW - HOUR),
        describe(database, sandbox, NOW + 20 * HOUR, reread_at=NOW - HOUR),
        # The next night.
        describe(database, sandbox, NOW + DAY, reread_at=NOW + DAY - HOUR),
        # A provider that reads no session again.
        describe(database, sandbox, NOW + 9 * DAY, reread_at=None),
    ]
    assert calls == [2, 0, 0, 2, 0]
    assert sandbox.handle.stats.by_path == {ASSETS_PATH: 2, ACTIONS_PATH: 2}


def test_the_state_of_a_new_symbol_is_queried_alone(database: Database, sandbox: RunningSandbox) -> None:
    describe(database, sandbox, symbols={"AAPL": "XNYS", "GE": "XNYS"})
    told_before = rows_of(database, "SELECT symbol FROM market.instrument WHERE described_at IS NOT NULL ORDER BY 1")
    tell(sandbox, "OLD", "cash_dividends", symbol="OLD", rate=0.5, ex_date="2019-05-06", process_date="2019-05-20")
    tell(sandbox, "GE", "cash_dividends", symbol="GE", rate=0.5, ex_date="2019-05-06", process_date="2019-05-20")
    assert describe(database, sandbox, NOW + HOUR) == 2
    assert told_before == [("AAPL",), ("GE",)]
    # All past actions of the new symbol, and none of the symbols that were queried before.
    assert [row[0] for row in facts_in(database)] == ["OLD"]


def test_two_concurrent_runs_query_the_states_once(database: Database, sandbox: RunningSandbox) -> None:
    sync(database, watch(SYMBOLS), NOW)
    due = pl.DataFrame({"calendar": ["XNYS"], "due_at": [NOW]})
    with Database(database.url) as other, other.transaction() as transaction:
        first = states.claim(transaction, None, due, NOW)
        with database.transaction() as second:
            assert states.claim(second, None, due, NOW).is_empty()
    assert first["symbol"].to_list() == sorted(SYMBOLS)
    assert describe(database, sandbox, reread_at=NOW) == 0


def test_a_provider_with_an_open_breaker_is_not_queried_for_states(database: Database, sandbox: RunningSandbox) -> None:
    with database.transaction() as transaction:
        provider_state.trip(transaction, "alpaca", "down", NOW, provider_state.Breaker())
    assert describe(database, sandbox) == 0
    with database.transaction() as transaction:
        provider_state.reset(transaction, "alpaca")
    # The skipped query claimed no symbol, so the next run can query all of them.
    assert describe(database, sandbox, NOW + HOUR) == 2


def test_the_calls_for_states_count_in_the_shared_budget(database: Database, sandbox: RunningSandbox) -> None:
    describe(database, sandbox)
    assert rows_of(database, "SELECT provider, count(*) FROM market.provider_call GROUP BY 1") == [("alpaca", 2)]


def test_the_fetch_rules_list_the_providers_that_can_report_states() -> None:
    watched = Watchlist(
        (
            Instrument("AAPL", "XNYS"),
            Instrument("BTC-USD", "24/7", "binance"),
            Instrument("ETH-USD", "24/7", "coinbase"),
            Instrument("AZN.L", "XLON", "yahoo"),
            Instrument("X", "XNYS", "file"),
        ),
        {M5: 4, D1: 60},
    )
    keys = {"APCA_API_KEY_ID": "k", "APCA_API_SECRET_KEY": "s", "EMA_ALPACA_REQUESTS_PER_MINUTE": "100"}
    found = FetchRules.of(Settings.from_env(keys), watched).describers
    assert {name: (each.provider, each.requests_per_minute) for name, each in found.items()} == {
        None: ("alpaca", 80),
        "binance": ("binance", 1920),
        "coinbase": ("coinbase", 384),
    }
    assert FetchRules.of(Settings.from_env({}), watch({"AAPL": "XNYS"})).describers == {}


# --- what is stored ---------------------------------------------------------------------------------------------------


def test_corporate_actions_take_effect_at_the_open_and_record_their_source(
    database: Database, sandbox: RunningSandbox
) -> None:
    sandbox.handle.faults.add(Split(symbols=["AAPL"], at=utc("2026-11-24 14:30"), ratio=4))
    tell(sandbox, "GE", "cash_dividends", symbol="GE", rate=0.28, ex_date="2026-11-20", process_date="2026-12-04")
    tell(
        sandbox,
        "GE",
        "spin_offs",
        source_symbol="GE",
        new_symbol="GEV",
        ex_date="2024-04-02",
        process_date="2024-04-02",
    )
    describe(database, sandbox)
    assert facts_in(database) == [
        ("AAPL", "split", utc("2026-11-24 14:30"), 4.0, None, None, "alpaca"),
        # No session of so long ago is stored, so the action takes effect at midnight.
        ("GE", "spin-off", utc("2024-04-02 00:00"), None, None, "GEV", "alpaca"),
        ("GE", "dividend", utc("2026-11-20 14:30"), None, 0.28, None, "alpaca"),
    ]
    assert rows_of(database, "SELECT DISTINCT actions_through FROM market.instrument") == [(NOW,)]


@pytest.mark.broad
def test_with_extended_hours_an_ex_date_begins_with_the_first_trade_as_in_a_file(
    database: Database, sandbox: RunningSandbox, tmp_path: Path
) -> None:
    calendar = "XNYS extended"
    tell(sandbox, "GE", "cash_dividends", symbol="GE", rate=0.28, ex_date="2026-11-20", process_date="2026-12-04")
    describe(database, sandbox, symbols={"GE": calendar})
    path = tmp_path / "mine.csv"
    path.write_text("symbol,kind,date,amount\nGE,dividend,2026-11-20,0.28\n")
    of_file = read_actions(path, {"GE": calendar})["effective_at"].to_list()
    assert [row[2] for row in facts_in(database)] == of_file == [utc("2026-11-20 09:00")]


def announce_split(sandbox: RunningSandbox, day: str) -> int:
    """Announce a split of AAPL, two shares for one, that takes effect on `day`."""
    split: dict[str, Any] = {"symbol": "AAPL", "new_rate": 2, "old_rate": 1}
    return tell(sandbox, "AAPL", "forward_splits", **split, ex_date=day, process_date=day)


def test_a_dividend_counts_the_shares_of_the_last_session_that_has_begun(
    database: Database, sandbox: RunningSandbox
) -> None:
    """The night before a split is its day in UTC, but a dividend that becomes known then is read as of before it."""
    dividend = {"symbol": "AAPL", "process_date": "2026-12-10"}
    tell(sandbox, "AAPL", "cash_dividends", **dividend, rate=1.0, ex_date="2026-11-20")
    tell(sandbox, "AAPL", "cash_dividends", **dividend, rate=0.25, ex_date="2026-12-03")
    announce_split(sandbox, "2026-11-25")

    def amounts() -> list[float]:
        return [row[4] for row in facts_in(database) if row[1] == "dividend"]

    describe(database, sandbox)
    before = amounts()
    describe(database, sandbox, NOW + DAY, reread_at=NOW + HOUR)
    assert (before, amounts()) == ([1.0, 0.5], [0.5, 0.25])


def test_a_postponed_action_of_the_provider_is_deleted_and_past_actions_stay(
    database: Database, sandbox: RunningSandbox
) -> None:
    happened = tell(
        sandbox, "GE", "cash_dividends", symbol="GE", rate=0.2, ex_date="2026-11-20", process_date="2026-12-01"
    )
    announced = announce_split(sandbox, "2026-12-01")
    with database.transaction() as transaction:
        mine = pl.DataFrame(
            [("AAPL", "split", utc("2026-12-01 14:30"), 2.0, None, None)], schema=ACTION_SCHEMA, orient="row"
        )
        action_facts.record(transaction, mine, "my.csv")
    describe(database, sandbox)
    for number in (happened, announced):
        sandbox.handle.faults.clear(number)
    announce_split(sandbox, "2026-12-03")
    describe(database, sandbox, NOW + DAY, reread_at=NOW + HOUR)
    assert [(row[0], row[2], row[6]) for row in facts_in(database)] == [
        ("AAPL", utc("2026-12-01 14:30"), "my.csv"),
        ("AAPL", utc("2026-12-03 14:30"), "alpaca"),
        ("GE", utc("2026-11-20 14:30"), "alpaca"),
    ]


def test_states_have_the_date_and_the_reason_of_the_matching_corporate_action(
    database: Database, sandbox: RunningSandbox
) -> None:
    for symbol in ("OLD", "GE"):
        sandbox.handle.faults.add(Ended(symbols=[symbol], at=utc("2026-11-20 21:00")))
    rename(sandbox, "OLD", "META", "2026-11-23")
    tell(
        sandbox,
        "GE",
        "cash_mergers",
        acquiree_symbol="GE",
        acquirer_symbol="BIG",
        rate=9,
        effective_date="2026-11-23",
        process_date="2026-11-23",
    )
    # Another company has taken over the symbol AAPL, and trades under it.
    rename(sandbox, "AAPL", "PEAR", "2020-01-02")
    describe(database, sandbox)
    opened = utc("2026-11-23 14:30")
    assert states_in(database) == {
        "AAPL": ("active", None, "active"),
        "OLD": ("renamed", opened, "META"),
        "GE": ("delisted", opened, "merger (BIG)"),
    }
    with database.transaction() as transaction:
        assert status.states_apart(transaction) == [
            "GE: alpaca says that it was delisted on 2026-11-23 (merger (BIG))",
            "OLD: alpaca says that it was renamed to META on 2026-11-23",
        ]
        assert status.symbol_problems(transaction, list(SYMBOLS), NOW) == [
            "GE: alpaca says that it was delisted on 2026-11-23 (merger (BIG))",
            "OLD: renamed to META on 2026-11-23: `ema-assets symbols add META` and `ema-assets symbols remove OLD`",
        ]
        assert story.of_symbol(transaction, "OLD")[0] == "OLD: alpaca says that it was renamed to META on 2026-11-23."


def test_an_ending_changes_only_symbols_that_are_delisted_or_unknown() -> None:
    said = pl.DataFrame(
        [("A", "active", None, "active"), ("B", "unknown", None, None), ("C", "delisted", None, "inactive")],
        schema=STATE_SCHEMA,
        orient="row",
    )
    endings = pl.DataFrame(
        [("A", "rename", NOW, "NEW"), ("C", "redemption", NOW, None)],
        schema={
            "symbol": pl.String(),
            "kind": pl.String(),
            "effective_at": pl.Datetime("us", "UTC"),
            "value": pl.String(),
        },
        orient="row",
    )
    assert with_endings(said, endings).rows() == [
        ("A", "active", None, "active"),
        ("B", "unknown", None, None),
        ("C", "delisted", NOW, "redemption"),
    ]


def test_a_rename_takes_effect_on_its_date_even_when_the_provider_does_not_list_the_symbol(
    database: Database, sandbox: RunningSandbox
) -> None:
    rename(sandbox, "OLD", "META", "2026-11-27")
    sandbox.handle.faults.add(MissingSymbol(symbols=["OLD"]))
    describe(database, sandbox)
    assert states_in(database)["OLD"] == ("unknown", None, None)
    with database.transaction() as transaction:
        assert status.symbol_problems(transaction, ["OLD"], NOW) == [
            "OLD: alpaca does not list it, noted on 2026-11-25"
        ]
        assert status.symbol_problems(transaction, ["OLD"], NOW + 3 * DAY) == [
            "OLD: renamed to META on 2026-11-27: `ema-assets symbols add META` and `ema-assets symbols remove OLD`"
        ]
    describe(database, sandbox, NOW + 3 * DAY, reread_at=NOW + 2 * DAY)
    assert states_in(database)["OLD"][0] == "renamed"


def test_a_failed_query_keeps_the_known_states_and_is_reported_until_one_succeeds(
    database: Database, sandbox: RunningSandbox
) -> None:
    tell(sandbox, "GE", "cash_dividends", symbol="GE", rate=0.2, ex_date="2026-11-20", process_date="2026-12-01")
    describe(database, sandbox)
    known = states_in(database), facts_in(database)
    number = sandbox.handle.faults.add(Refuse(status=451))
    sandbox.handle.faults.add(Ended(symbols=["GE"], at=NOW))
    assert describe(database, sandbox, NOW + DAY, reread_at=NOW + HOUR) == 2
    assert (states_in(database), facts_in(database)) == known
    with database.transaction() as transaction:
        (said,) = status.not_answering(transaction)
        # The bars of the provider may arrive all the same.
        assert provider_state.breaker(transaction, "alpaca").failures == 0
    assert said.startswith("alpaca did not report the state of all its symbols, and is asked again the next night")
    assert said.count("451") == 1
    # The query is repeated only in the next night, and covers the time since the last successful one.
    assert describe(database, sandbox, NOW + DAY + HOUR, reread_at=NOW + HOUR) == 0
    assert rows_of(database, "SELECT DISTINCT actions_through FROM market.instrument") == [(NOW,)]
    sandbox.handle.faults.clear(number)
    assert describe(database, sandbox, NOW + 2 * DAY, reread_at=NOW + DAY + HOUR) == 2
    assert states_in(database)["GE"][0] == "delisted"
    with database.transaction() as transaction:
        assert status.not_answering(transaction) == []


def test_a_change_of_provider_clears_the_states_of_the_previous_provider(
    database: Database, sandbox: RunningSandbox
) -> None:
    pairs = {"BTC-USD": "24/7"}
    describe(database, sandbox, symbols=pairs, provider="binance")
    assert states_in(database) == {"BTC-USD": ("active", None, "TRADING")}
    sync(database, watch(pairs, provider="coinbase"), NOW)
    assert states_in(database)["BTC-USD"][0] is None
    assert rows_of(database, "SELECT described_at, actions_through FROM market.instrument") == [(None, None)]


# --- how states affect bar requests -----------------------------------------------------------------------------------


class Coins:
    """A coin that ends at `end` beside a coin that trades. Coinbase reports their states once per night."""

    def __init__(self, database: Database, sandbox: RunningSandbox, end: datetime) -> None:
        self.database, self.watched = database, watch({"BTC-USD": "24/7", "XMR-USD": "24/7"}, m5_days=1, d1_days=5)
        self.all_bars = pl.concat(
            bars_on("24/7", symbol, timeframe, date(2026, 11, 1), date(2026, 11, 27), seed)
            for seed, symbol in enumerate(self.watched.symbols)
            for timeframe in (M5, D1)
        )
        self.exchange = LivingExchange(self.all_bars.filter((pl.col("symbol") == "BTC-USD") | (pl.col("ts") < end)))
        rules = FetchRules.of(settings_of(sandbox, "coinbase"), self.watched)
        self.rules = replace(rules, publications={None: Publication(reread_after=5 * HOUR)}, long_histories={})
        sync(database, self.watched, end)
        self.sweep(end)

    def sweep(self, now: datetime) -> None:
        """Request the stale fetched bars of a sweep at `now`."""
        self.exchange.now = now
        for timeframe in (D1, M5):
            with self.database.transaction() as transaction:
                stale = stale_for_sweep(transaction, now, timedelta(0), self.rules.publications)
            symbols = stale.filter(asset=OHLC, timeframe=timeframe.key)["symbol"].unique().sort().to_list()
            outcome = refresh_fetched(self.database, self.exchange, timeframe, symbols, self.rules, now)
            assert outcome.errors == {}

    def asked(self, symbol: str, since: datetime, timeframe: Timeframe = M5) -> list[datetime]:
        """The times at which bars of `symbol` were requested."""
        return [
            each.end
            for each in self.exchange.asked
            if each.instrument.symbol == symbol and each.end > since and each.timeframe is timeframe
        ]


@pytest.mark.broad
def test_a_delisted_symbol_is_requested_once_per_week_until_it_is_listed_again(
    database: Database, sandbox: RunningSandbox
) -> None:
    end = utc("2026-11-04 12:00")
    number = sandbox.handle.faults.add(Ended(symbols=["XMR-USD"], at=end))
    coins = Coins(database, sandbox, end)
    for day in (5, 6, 7, 8, 9, 13, 14, 15, 20, 21):
        coins.sweep(utc(f"2026-11-{day:02} 06:00"))
    # Silent after three sessions. The state from the vendor makes it one request per week.
    assert [each.day for each in coins.asked("XMR-USD", end)] == [5, 6, 7, 14, 21]
    assert len(coins.asked("BTC-USD", end)) == 10
    with database.transaction() as transaction:
        (said,) = status.silent(transaction)
        assert status.symbol_problems(transaction, ["XMR-USD"], end) == [
            "XMR-USD: no bar since 2026-11-04: coinbase says that it is delisted, noted on 2026-11-04"
        ]
    assert said == (
        "XMR-USD: no bar since 2026-11-04; coinbase says that it is delisted, noted on 2026-11-04, and is requested once "
        "per week"
    )
    sandbox.handle.faults.clear(number)
    coins.exchange.bars = coins.all_bars
    # The nightly query reports it as listed. After that its bars are requested as usual, including those between.
    for day in (23, 24):
        coins.sweep(utc(f"2026-11-{day} 06:00"))
    with database.transaction() as transaction:
        assert status.silent(transaction) == []
    assert states_in(database)["XMR-USD"][0] == "active"
    assert [each.day for each in coins.asked("XMR-USD", utc("2026-11-22 07:00"))] == [23, 23, 24]


@pytest.mark.broad
def test_a_halted_symbol_is_requested_once_per_day_and_is_not_reported_as_a_problem(
    database: Database, sandbox: RunningSandbox
) -> None:
    end = utc("2026-11-10 12:00")
    sandbox.handle.faults.add(Halted(symbols=["XMR-USD"]))
    coins = Coins(database, sandbox, end)
    for day in range(11, 16):
        coins.sweep(utc(f"2026-11-{day} 06:00"))
    coins.sweep(utc("2026-11-15 08:00"))
    assert [each.day for each in coins.asked("XMR-USD", end)] == [11, 12, 13, 14, 15]
    now = utc("2026-11-15 06:00")
    with database.transaction() as transaction:
        late = health.late_series(transaction, closed_bars(transaction, now + 2 * HOUR))
        assert late.is_empty()
        assert status.symbol_problems(transaction, ["XMR-USD"], now) == []
        (said,) = status.symbols_halted(transaction, ["XMR-USD"])
    assert said == (
        "XMR-USD: no bar since 2026-11-10: coinbase says that it is halted (online, trading disabled), noted on 2026-11-10"
    )


def test_an_unlisted_symbol_without_bars_is_requested_once_per_day(database: Database, sandbox: RunningSandbox) -> None:
    """For example a mistyped symbol, for which the vendor answers with no bars."""
    sandbox.handle.faults.add(MissingSymbol(symbols=["XMR-USD"]))
    start = utc("2026-11-10 12:00")
    # All bars of the exchange are later than the end of the coin, so it has none.
    coins = Coins(database, sandbox, utc("2026-10-01 12:00"))
    for hours in (0, 1, 2, 10, 19, 20, 21, 23):
        coins.sweep(start + hours * HOUR)
    assert [each - start for each in coins.asked("XMR-USD", start - HOUR)] == [timedelta(0), 20 * HOUR]
    with database.transaction() as transaction:
        assert status.symbol_problems(transaction, ["XMR-USD"], start) == [
            "XMR-USD: coinbase does not list it, noted on 2026-10-01"
        ]


@pytest.mark.parametrize(("state", "longest"), [(None, 3600), ("active", 3600), ("halted", 3600), ("unknown", 72_000)])
def test_an_unlisted_symbol_that_fails_pauses_for_up_to_twenty_hours(
    database: Database, state: str | None, longest: int
) -> None:
    sync(database, watch({"AAPL": "XNYS"}), NOW)
    with database.transaction() as transaction:
        transaction.execute("UPDATE market.instrument SET state = nullif($1, '')", state or "")
        transaction.execute("UPDATE market.series_state SET failures = 30")
        ledger.fail(transaction, OHLC, M5, {"AAPL": str(UnknownSymbol("no such", provider="binance"))}, NOW)
    pause = (state_of(database, "AAPL", M5)["next_attempt_at"] - NOW).total_seconds()
    assert 0.75 * longest <= pause <= 1.25 * longest


@pytest.mark.broad
def test_a_run_also_queries_states_and_counts_their_calls(database: Database, sandbox: RunningSandbox) -> None:
    """The whole way over HTTP with bars, as `ema-assets refresh` does it."""
    settings, watched = settings_of(sandbox), watch({"AAPL": "XNYS"}, m5_days=2, d1_days=5)
    sandbox.handle.faults.add(Split(symbols=["AAPL"], at=utc("2026-11-24 14:30"), ratio=4))
    sync(database, watched, NOW)
    rules = FetchRules.of(settings, watched)
    outcome = refresh_fetched(
        database, lambda name: open_provider(settings, name, database=database), D1, ["AAPL"], rules, NOW
    )
    assert outcome.errors == {}
    assert sandbox.handle.stats.by_path[ASSETS_PATH] == sandbox.handle.stats.by_path[ACTIONS_PATH] == 1
    assert outcome.calls == sandbox.handle.stats.total
    assert [row[:4] for row in facts_in(database)] == [("AAPL", "split", utc("2026-11-24 14:30"), 4.0)]
    with database.transaction() as transaction:
        assert stale_for_sweep(transaction, NOW, timedelta(0)).filter(timeframe="1d", reason="never asked").is_empty()


def test_what_a_provider_says_of_a_symbol_that_has_another_one_by_now_does_not_count(
    database: Database, sandbox: RunningSandbox
) -> None:
    """The watchlist is edited while the provider answers. The next provider will be asked, whatever was known."""
    sandbox.handle.faults.add(MissingSymbol(symbols=["GE", "OLD"]))
    watched = watch(SYMBOLS)
    sync(database, watched, NOW)
    moved = [replace(each, provider="yahoo" if each.symbol == "GE" else None) for each in watched.instruments]
    asks = describer_of(sandbox, watched)

    async def ask(budget: Budget, question: Question) -> Described:
        said = await asks.ask(budget, question)
        sync(database, replace(watched, instruments=tuple(moved)), NOW)
        return said

    closed = pl.DataFrame(schema={"calendar": pl.String(), "provider": pl.String(), "reread_at": UTC_TIME})
    asyncio.run(describe_due(database, None, replace(asks, ask=ask), closed, NOW))
    known = rows_of(database, "SELECT symbol, state, described_at, actions_through FROM market.instrument ORDER BY 1")
    assert known == [("AAPL", "active", NOW, NOW), ("GE", None, None, None), ("OLD", "unknown", NOW, NOW)]
