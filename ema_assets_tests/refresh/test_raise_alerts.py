"""Alerts are raised in the transaction of their bar: once for each bar that has just closed, never for history."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from ema_assets.alerts.channels import Channel
from ema_assets.alerts.subscriptions import Alerts, Subscription
from ema_assets.config.watchlist import Watchlist
from ema_assets.model.errors import WatchlistError
from ema_assets.model.schemas import UTC_TIME
from ema_assets.model.symbols import Series
from ema_assets.operations.ingest import store_file
from ema_assets.operations.sync_watchlist import sync
from ema_assets.providers import registry
from ema_assets.providers.declaration import Provider
from ema_assets.refresh import compute, raise_alerts
from ema_assets.refresh.fetch import refresh_fetched
from ema_assets.refresh.graph import Graph, build
from ema_assets.refresh.plan_requests import FetchRules
from ema_assets.reports.screen import screen
from ema_assets.store import alert_outbox
from ema_assets.store.database import Database
from ema_assets_tests.conftest import Databases, mostly_broad
from ema_assets_tests.core import CORE, rewrite
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, refresh, rows_of, utc, watch
from ema_assets_tests.timeframes import H1, M5

EVERY_BAR = timedelta(minutes=5)
START = utc("2026-11-25 12:00:30")
CALENDARS = {"BTC-USD": "24/7", "ETH-USD": "24/7"}
# The last bar of the loaded history.
LOADED = START - timedelta(seconds=30) - EVERY_BAR
STEPS = 16

PARAMS = {"stop_within_pct": 3.0, "cross_within_pct": 1.0, "cross_after_bars": 3, "correction_days": 7}
NEWS = ("crossover", "entry", "exit", "stop_near", "about_to_cross")
CORRECTIONS = ("correction_flipped_crossover", "correction_flipped_trade")
TO = {"hook": Channel("hook", "json://127.0.0.1:9")}


def told(*kinds: str, name: str = "mine", **more: Any) -> Alerts:
    return Alerts((Subscription(name, kinds, ("hook",), params=PARAMS, **more),), TO)


def watching(alerts: Alerts | None, **more: Any) -> Watchlist:
    # A stop of one ATR is often near the price, so that there are alerts about it.
    strategies = (
        *CORE["strategies"],
        {"name": "stopped", "rule": "crossover", "atr_stop": 1.0, "entries": "all"},
        {"name": "quick", "rule": "crossover", "fast": 3, "slow": 8},
    )
    watched = replace(watch(CALENDARS, m5_days=2, timeframes=(M5,)), **more)
    return replace(watched, strategies=strategies, signals_off=_OFF, alerts=alerts)


_OFF = tuple(name for name in CORE["signals_off"] if name != "atr")
EVERYTHING = watching(
    Alerts(
        (
            Subscription("mine", NEWS, ("hook",), averages=("9/30",), params=PARAMS),
            Subscription("corrections", CORRECTIONS, ("hook",), averages=("9/30",), params=PARAMS),
            Subscription("quick", ("crossover", "about_to_cross"), ("hook",), averages=("3/8",), params=PARAMS),
            Subscription("one", ("crossover",), ("hook",), ("ETH-USD",), ("5m",), averages=("3/8",)),
            Subscription("any", ("crossover",), ("hook",)),
            Subscription("of quick", ("crossover", "entry"), ("hook",), strategies=("strategy_quick",)),
            Subscription("other", ("crossover",), ("hook",), timeframes=("1h",)),
        ),
        TO,
    )
)


class Exchange(MemoryExchange):
    """Has the name of a provider: bars of a source with any other name count as bars of a file."""

    name = "sandbox"


def new_exchange() -> MemoryExchange:
    return Exchange(
        *(
            bars_on("24/7", symbol, M5, date(2026, 11, 23), date(2026, 11, 26), seed)
            for seed, symbol in enumerate(CALENDARS)
        )
    )


ALERTS = "SELECT subscription, kind, symbol, strategy, ts, occurrence, text FROM market.alert ORDER BY id"


def alerts_of(database: Database) -> pl.DataFrame:
    with database.transaction() as transaction:
        return transaction.query(ALERTS)


def table(database: Database, sql: str) -> pl.DataFrame:
    with database.transaction() as transaction:
        return transaction.query(sql)


def cross_price_of(text: str) -> float:
    found = re.search(r"(?:close at|rises above|falls below) ([\d.,]+),", text)
    assert found is not None, text
    return float(found[1].replace(",", ""))


GRAPH = build(EVERYTHING)


def tick(
    database: Database, exchange: MemoryExchange, now: datetime, graph: Graph = GRAPH
) -> dict[str, tuple[int, int]]:
    """Do what a run does at a close, and return the number of statements and of new alerts for each asset."""
    rules = FetchRules(EVERYTHING.history_days, {})
    refresh_fetched(database, exchange, M5, EVERYTHING.symbols, rules, now, older=False)
    counts = {}
    for node in graph.computed:
        statements, alerts = database.statements, alerts_of(database).height
        compute.refresh_computed(database, node, M5, EVERYTHING.symbols, now, alerts=graph.alerts)
        counts[node.name] = database.statements - statements - 1, alerts_of(database).height - alerts
    return counts


@pytest.fixture(scope="module")
def loaded_url(databases: Databases) -> Iterator[str]:
    """A database with the loaded history of two symbols."""
    url = databases.make()
    with Database(url) as database:
        refresh(database, EVERYTHING, new_exchange(), START)
        assert alerts_of(database).is_empty(), "a first load"
    yield url
    databases.drop(url)


@pytest.fixture
def loaded(databases: Databases, loaded_url: str) -> Iterator[Database]:
    """A copy of the loaded database for each test."""
    url = databases.make(like=loaded_url)
    with Database(url) as database:
        yield database
    databases.drop(url)


# For each tick, the statements and the alerts of each asset.
_counted: list[dict[str, tuple[int, int]]] = []


@pytest.fixture(scope="module")
def lived(databases: Databases, loaded_url: str) -> Iterator[tuple[Database, MemoryExchange, datetime]]:
    """Two symbols with loaded history, followed by more than an hour bar by bar."""
    url = databases.make(like=loaded_url)
    with Database(url) as database:
        exchange = new_exchange()
        now = START
        for _ in range(STEPS):
            now += EVERY_BAR
            _counted.append(tick(database, exchange, now))
        yield database, exchange, now
    databases.drop(url)


@pytest.mark.broad
def test_each_crossover_of_a_newly_closed_bar_raises_one_alert_and_history_raises_none(
    lived: tuple[Database, MemoryExchange, datetime],
) -> None:
    database, _, _ = lived
    crossed = table(database, "SELECT symbol, ts, crossover FROM market.ema_trend WHERE crossover IS NOT NULL")
    live = crossed.filter(pl.col("ts") > LOADED).sort("ts", "symbol")
    assert 2 <= live.height < crossed.height - 10
    found = alerts_of(database)
    mine = found.filter(subscription="mine", kind="crossover").sort("ts", "symbol")
    assert mine.select("symbol", "ts").rows() == live.select("symbol", "ts").rows()
    assert [text.split()[0] for text in mine["text"]] == live["crossover"].to_list()
    # The subscription to another timeframe has no alert.
    assert found.filter(subscription="other").is_empty()


@pytest.mark.broad
def test_crossovers_of_other_averages_are_reported_with_the_names_of_the_averages(
    lived: tuple[Database, MemoryExchange, datetime],
) -> None:
    database, _, _ = lived
    crossed = table(database, "SELECT symbol, ts, crossover FROM market.ema_trend_3_8 WHERE crossover IS NOT NULL")
    live = crossed.filter(pl.col("ts") > LOADED).sort("ts", "symbol")
    assert live.height >= 2
    found = alerts_of(database).sort("ts", "symbol")
    quick = found.filter(subscription="quick", kind="crossover")
    assert quick.select("symbol", "ts").rows() == live.select("symbol", "ts").rows()
    where = {"bullish": "above", "bearish": "below"}
    assert [text.partition(";")[0] for text in quick["text"]] == [
        f"{crossover} crossover, EMA 3 is {where[crossover]} EMA 8" for crossover in live["crossover"]
    ]
    # A subscription with `symbols` gets the crossovers of these symbols only.
    one = found.filter(subscription="one")
    assert one.select("symbol", "ts").rows() == live.filter(symbol="ETH-USD").select("symbol", "ts").rows()
    assert set(live["symbol"]) == {"BTC-USD", "ETH-USD"}
    # A subscription without `averages` gets the crossovers of all averages.
    both = found.filter(pl.col("subscription").is_in(["mine", "quick"]), kind="crossover")
    every = found.filter(subscription="any")
    assert every.sort("ts", "symbol", "text")["text"].to_list() == both.sort("ts", "symbol", "text")["text"].to_list()
    # A subscription with `strategies` gets the crossovers of their averages, and their trades.
    of_quick = found.filter(subscription="of quick", kind="crossover")
    assert of_quick.select("symbol", "ts", "text").equals(quick.select("symbol", "ts", "text"))
    assert set(found.filter(kind="entry", subscription="mine")["strategy"]) > {"strategy_quick"}
    assert set(found.filter(kind="entry", subscription="of quick")["strategy"]) == {"strategy_quick"}
    near = found.filter(subscription="quick", kind="about_to_cross").row(0, named=True)
    assert near["text"].startswith("EMA 3 and EMA 8 about to cross (b")
    averages = table(
        database,
        f"""SELECT f.ema_3, s.ema_8 FROM market.ema_3 f JOIN market.ema_8 s USING (symbol, timeframe, ts)
            WHERE symbol = '{near["symbol"]}' AND timeframe = '5m' AND ts = '{near["ts"]}'""",
    ).row(0, named=True)
    price = cross_price_of(near["text"])
    fast = averages["ema_3"] + (price - averages["ema_3"]) * 2 / 4
    assert fast == pytest.approx(averages["ema_8"] + (price - averages["ema_8"]) * 2 / 9, rel=1e-4)


@pytest.mark.broad
def test_the_screener_of_other_averages_shows_their_next_cross_and_the_trade_of_their_strategy(
    lived: tuple[Database, MemoryExchange, datetime],
) -> None:
    database, _, _ = lived
    with database.transaction() as transaction:
        rows = screen(transaction, M5, averages=(3, 8), sort="cross")
        usual = screen(transaction, M5)
    assert set(usual.columns) - set(rows.columns) == {"ema_9", "ema_30"}
    needed = [
        -row["cross_distance_pct"] if row["trend"] == "up" else row["cross_distance_pct"] for row in rows.to_dicts()
    ]
    assert needed == sorted(needed)
    for row in rows.iter_rows(named=True):
        fast = row["ema_3"] + (row["cross_price"] - row["ema_3"]) * 2 / 4
        assert fast == pytest.approx(row["ema_8"] + (row["cross_price"] - row["ema_8"]) * 2 / 9)
    trades = table(database, "SELECT symbol, entry_ts FROM market.strategy_quick WHERE exit_ts IS NULL")
    shown = rows.filter(pl.col("trade_since").is_not_null()).sort("symbol").select("symbol", "trade_since")
    assert shown.rows() == trades.sort("symbol").rows()


def test_entries_and_exits_of_each_strategy_raise_alerts_and_an_entry_states_its_stop(
    lived: tuple[Database, MemoryExchange, datetime],
) -> None:
    database, _, _ = lived
    found = alerts_of(database)
    for strategy in ("strategy_9_30_ema", "strategy_stopped"):
        trades = table(database, f"SELECT * FROM market.{strategy}")
        for kind, time in (("entry", "entry_ts"), ("exit", "exit_ts")):
            expected = trades.filter(pl.col(time) > LOADED).select("symbol", time).rows()
            rows = found.filter(kind=kind, strategy=strategy)
            assert sorted(rows.select("symbol", "ts").rows()) == sorted(expected)
            assert expected
    stopped = found.filter(kind="entry", strategy="strategy_stopped")["text"][0]
    trade = table(database, "SELECT * FROM market.strategy_stopped").filter(pl.col("entry_ts") > LOADED)
    assert stopped in {
        f"{row['side']} entry at {row['entry_price']:.6g} ({row['entry_reason']}), stop {row['stop_price']:.6g}"
        for row in trade.iter_rows(named=True)
    }


def test_stop_near_and_about_to_cross_raise_one_alert_per_occurrence(
    lived: tuple[Database, MemoryExchange, datetime],
) -> None:
    database, _, _ = lived
    found = alerts_of(database)
    for kind, key in (
        ("stop_near", ["symbol", "strategy", "occurrence"]),
        ("about_to_cross", ["symbol", "occurrence"]),
    ):
        rows = found.filter(kind=kind, subscription="mine")
        assert rows.height >= 1
        assert rows.select(key).is_unique().all()
    near = found.filter(kind="about_to_cross", subscription="mine").row(0, named=True)
    # Identified by the time of the last crossover, which older history does not change, unlike the number of its bar.
    crossed = rows_of(
        database,
        "SELECT max(ts) FROM market.ema_trend WHERE symbol = $1 AND timeframe = '5m' AND ts < $2 AND crossover IS NOT NULL",
        near["symbol"],
        near["ts"],
    )
    assert datetime.fromisoformat(near["occurrence"]).replace(tzinfo=UTC) == crossed[0][0]
    screened = table(
        database,
        f"""SELECT e.ema_9, e.ema_30, o.close FROM market.ema_signals e JOIN market.ohlc o USING (symbol, timeframe, ts)
            WHERE symbol = '{near["symbol"]}' AND timeframe = '5m' AND ts = '{near["ts"]}'""",
    ).row(0, named=True)
    since = rows_of(
        database,
        "SELECT bars_since_cross FROM market.ema_trend WHERE symbol = $1 AND ts = $2",
        near["symbol"],
        near["ts"],
    )
    assert since[0][0] >= 3
    # At the price in the text, both averages would be equal.
    price = cross_price_of(near["text"])
    fast = screened["ema_9"] + (price - screened["ema_9"]) * 2 / 10
    slow = screened["ema_30"] + (price - screened["ema_30"]) * 2 / 31
    assert fast == pytest.approx(slow, rel=1e-4)


def test_a_backfill_new_code_and_a_long_pause_raise_no_alerts_for_old_bars(
    lived: tuple[Database, MemoryExchange, datetime], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps are one test, because each leaves the database in the state that the next one needs."""
    database, exchange, now = lived
    before = alerts_of(database).height
    refresh(database, EVERYTHING, exchange, now, everything=True)
    assert alerts_of(database).height == before, "a backfill"
    with monkeypatch.context() as patched:
        rewrite(patched, "ema_trend")
        refresh(database, EVERYTHING, exchange, now + timedelta(seconds=5))
        assert alerts_of(database).height == before, "another code version"
    refresh(database, EVERYTHING, exchange, now + timedelta(seconds=10))
    assert alerts_of(database).height == before, "the code version of before"

    # After ten hours, only the newest bar and those that closed in the last quarter of an hour raise alerts.
    late = now + timedelta(hours=10)
    refresh(database, EVERYTHING, exchange, late)
    found = alerts_of(database)[before:]
    assert min(found["ts"].to_list()) >= late - timedelta(minutes=20)
    crossed = rows_of(database, "SELECT ts FROM market.ema_trend WHERE crossover IS NOT NULL AND ts > $1", now)
    assert len(crossed) > found.filter(kind="crossover").height


@pytest.mark.broad
def test_bars_of_files_raise_no_alerts(loaded: Database) -> None:
    """Even a source whose name does not look like a file counts as one, if it is not the name of a provider."""
    exchange, now = new_exchange(), START
    for _ in range(STEPS):
        now += EVERY_BAR
        fresh = exchange.bars.filter(pl.col("ts") >= now - 2 * EVERY_BAR, pl.col("ts") < now - timedelta(seconds=30))
        store_file(loaded, fresh, "bars", now)
        for node in GRAPH.computed:
            compute.refresh_computed(loaded, node, M5, EVERYTHING.symbols, now, alerts=GRAPH.alerts)
    assert rows_of(loaded, "SELECT 1 FROM market.ema_trend WHERE crossover IS NOT NULL AND ts > $1", LOADED)
    assert alerts_of(loaded).is_empty()


def test_every_source_without_the_name_of_a_provider_counts_as_a_file() -> None:
    providers = ["yahoo", "sandbox", "ccxt:gateio", None]
    files = ["bars", "bars.csv", "ccxt:gate.csv", "other:gateio", "file of ccxt"]
    found = raise_alerts.of_providers(pl.DataFrame({"source": [*providers, *files]}))
    assert found["source"].to_list() == providers
    assert found["is_synthetic"].to_list() == [False, True, False, False]


@pytest.mark.broad
def test_an_alert_records_whether_its_prices_are_synthetic(
    lived: tuple[Database, MemoryExchange, datetime], loaded: Database
) -> None:
    assert rows_of(lived[0], "SELECT DISTINCT is_synthetic FROM market.alert") == [(True,)]
    # From here on, a real exchange delivers the bars of the same symbols.
    exchange, now = new_exchange(), START
    exchange.name = "coinbase"
    for _ in range(STEPS):
        now += EVERY_BAR
        tick(loaded, exchange, now)
    assert rows_of(loaded, "SELECT DISTINCT is_synthetic FROM market.alert") == [(False,)]


def test_a_correction_that_flips_the_newest_bar_raises_correction_alerts(loaded: Database) -> None:
    database, exchange, now = loaded, new_exchange(), START
    crossed: list[Any] = []
    while not crossed:
        now += EVERY_BAR
        tick(database, exchange, now)
        crossed = rows_of(
            database,
            "SELECT symbol, ts FROM market.ema_trend WHERE crossover IS NOT NULL AND ts >= $1",
            now - 2 * EVERY_BAR,
        )
    (symbol, ts), *_ = crossed
    before = alerts_of(database).height
    # The corrected bar closes where the bar before it closed, so there is no crossover.
    former = exchange.bars.filter(pl.col("symbol") == symbol, pl.col("ts") == ts - EVERY_BAR)["close"][0]
    bar = exchange.bars.filter(pl.col("symbol") == symbol, pl.col("ts") == ts)
    exchange.correct(
        bar.with_columns(
            close=pl.lit(former),
            high=pl.max_horizontal("open", pl.lit(former)) + 1,
            low=pl.min_horizontal("open", pl.lit(former)) * 0.99,
        )
    )
    tick(database, exchange, now + EVERY_BAR)
    found = alerts_of(database)[before:].filter(subscription="corrections", symbol=symbol)
    assert ("correction_flipped_crossover", None) in found.select("kind", "strategy").rows()
    assert ("correction_flipped_trade", "strategy_9_30_ema") in found.select("kind", "strategy").rows()
    assert rows_of(database, "SELECT DISTINCT is_synthetic FROM market.alert") == [(True,)]
    text = found.filter(kind="correction_flipped_crossover")["text"][0]
    assert text.startswith(
        "a crossover of EMA 9 and EMA 30 has changed: the source changed bars that were stored, from 2026-11-25 "
    )
    # The corrected bar raises no second crossover alert.
    assert (
        alerts_of(database)[before:].filter(pl.col("kind") == "crossover", pl.col("ts") == ts, symbol=symbol).is_empty()
    )


@pytest.mark.broad
def test_a_correction_without_a_newer_bar_is_computed_and_raises_at_most_correction_alerts(loaded: Database) -> None:
    exchange, now = new_exchange(), START
    newest = exchange.bars.filter(pl.col("ts") <= LOADED).sort("ts").group_by("symbol").last()
    exchange.correct(newest.with_columns(close=pl.col("low")))
    # The exchange does not have the bar that has closed since.
    exchange.bars = exchange.bars.filter(pl.col("ts") <= LOADED)
    refresh_fetched(
        loaded, exchange, M5, EVERYTHING.symbols, FetchRules(EVERYTHING.history_days, {}), now + EVERY_BAR, older=False
    )
    for node in GRAPH.computed:
        outcome = compute.refresh_computed(loaded, node, M5, EVERYTHING.symbols, now + EVERY_BAR, alerts=GRAPH.alerts)
        assert (sorted(outcome.done), outcome.errors) == (sorted(EVERYTHING.symbols), {}), node.name
    assert alerts_of(loaded).filter(pl.col("kind").is_in(NEWS)).is_empty()


@pytest.fixture
def friday(database: Database) -> Database:
    """A database with the bars of a Friday."""
    watched = watch({"AAPL": "XNYS", "BTC-USD": "24/7"}, m5_days=2, timeframes=(M5, H1))
    day, night = date(2026, 11, 20), utc("2026-11-21 00:00:30")
    exchange = Exchange(*(bars_on(each.calendar, each.symbol, M5, day, day) for each in watched.instruments))
    sync(database, watched, night)
    refresh_fetched(database, exchange, M5, watched.symbols, FetchRules(watched.history_days, {}), night, older=False)
    compute.refresh_rolled_up(database, H1, watched.symbols, night)
    return database


@pytest.mark.parametrize(
    ("reported", "declared"),
    [(timedelta(0), timedelta(0)), (timedelta(minutes=15), timedelta(0)), (timedelta(0), timedelta(minutes=20))],
    ids=["at once", "reported", "declared"],
)
@pytest.mark.parametrize(
    ("series", "bar", "newest", "last"),
    mostly_broad(
        [
            # Ten minutes after the next bar has closed, its run must have begun.
            ("BTC-USD|1h", "10:00", "10:00", "2026-11-20 12:10"),
            # Two bars that arrive at once are both reported, for a quarter of an hour after the close of the first one.
            ("BTC-USD|5m", "10:00", "10:05", "2026-11-20 10:20"),
            ("BTC-USD|1h", "10:00", "11:00", "2026-11-20 11:15"),
            # The next hour of the exchange closes on Monday.
            ("AAPL|1h", "20:30", "20:30", "2026-11-23 15:29:59.999999"),
        ],
        2,
    ),
)
def test_alerts_are_raised_only_about_bars_that_have_just_closed(
    friday: Database,
    monkeypatch: pytest.MonkeyPatch,
    series: str,
    bar: str,
    newest: str,
    last: str,
    reported: timedelta,
    declared: timedelta,
) -> None:
    """A delay after which the provider has bars counts in addition, whether it reports or declares it."""
    find = registry.find

    def find_delayed(name: str) -> Provider[Any] | None:
        provider = find(name)
        return provider and replace(provider, publication_delay=declared)

    monkeypatch.setattr(registry, "find", find_delayed)
    about, ts, node = Series.parse(series), utc(f"2026-11-20 {bar}"), GRAPH.nodes["ema_trend"]
    known = pl.DataFrame({"symbol": about.symbol, "from_ts": ts, "known_through": ts - EVERY_BAR})
    known = known.with_columns(newest=pl.lit(utc(f"2026-11-20 {newest}"), UTC_TIME))
    rows = pl.DataFrame({"symbol": about.symbol, "ts": [ts], "crossover": "bullish", "spread_pct": 0.1})
    flipped = pl.DataFrame(schema={"symbol": pl.String(), "flipped": pl.Int64()})
    wanted = raise_alerts.subscribed(told("crossover"), node, about.timeframe)
    for late, raised in ((timedelta(0), 1), (timedelta(microseconds=1), 0)):
        with friday.transaction() as transaction:
            transaction.execute(
                "UPDATE market.instrument SET delay_seconds = $1::bigint", int(reported.total_seconds())
            )
            transaction.execute("TRUNCATE market.alert CASCADE")
            now = utc(last) + reported + declared + late
            found = raise_alerts.raise_alerts(transaction, wanted, node, about.timeframe, known, rows, flipped, now)
        assert found == raised, now


def test_a_cross_that_is_near_is_reported_once_also_before_the_first_crossover(friday: Database) -> None:
    node = GRAPH.nodes["ema_trend"]
    alerts = replace(told("about_to_cross").subscriptions[0], params={"cross_within_pct": 50.0, "cross_after_bars": 3})
    wanted = raise_alerts.subscribed(Alerts((alerts,), TO), node, M5)
    compute.refresh_computed(friday, GRAPH.nodes["ema_signals"], M5, ["BTC-USD"], utc("2026-11-21 00:00:30"))
    raised = []
    for minute in (50, 55):
        ts = utc(f"2026-11-20 23:{minute}")
        known = pl.DataFrame({"symbol": "BTC-USD", "from_ts": ts, "known_through": ts - EVERY_BAR, "newest": [ts]})
        trend = {"trend": "up", "crossover": None, "bars_since_cross": None, "spread_pct": 0.1}
        rows = pl.DataFrame({"symbol": "BTC-USD", "ts": [ts], **trend})
        flipped = pl.DataFrame(schema={"symbol": pl.String(), "flipped": pl.Int64()})
        with friday.transaction() as transaction:
            raised.append(
                raise_alerts.raise_alerts(transaction, wanted, node, M5, known, rows, flipped, ts + 2 * EVERY_BAR)
            )
    assert raised == [1, 0]
    assert alerts_of(friday)["occurrence"].to_list() == ["first"]


def test_an_alert_is_written_with_its_bar_or_not_at_all(loaded: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    exchange, now = new_exchange(), START
    with monkeypatch.context() as patched:

        def crash(*_: object) -> None:
            raise KeyboardInterrupt

        # Alerts are written last in the transaction. A crash after that must roll back the rows as well.
        original = alert_outbox.raise_alerts
        patched.setattr(alert_outbox, "raise_alerts", lambda *given: (original(*given), crash()))
        is_crashed = False
        while not is_crashed:
            now += EVERY_BAR
            try:
                tick(loaded, exchange, now)
            except KeyboardInterrupt:
                is_crashed = True
    assert alerts_of(loaded).is_empty()
    newest = rows_of(loaded, "SELECT max(ts) FROM market.ema_trend")[0][0]
    tick(loaded, exchange, now)
    found = alerts_of(loaded)
    assert found.height >= 1
    assert found["ts"].min() >= newest
    assert found.select("subscription", "kind", "symbol", "strategy", "occurrence").is_unique().all()


def test_alerts_cost_at_most_two_statements_per_batch_and_one_more_for_a_cross_that_is_near(
    lived: tuple[Database, MemoryExchange, datetime], loaded: Database
) -> None:
    silent = tick(loaded, new_exchange(), START + EVERY_BAR, replace(GRAPH, alerts=None))
    assert all(alerts == 0 for _, alerts in silent.values())
    more = {
        (name, statements - silent[name][0], alerts > 0)
        for counts in _counted
        for name, (statements, alerts) in counts.items()
    }
    strategies = ("strategy_9_30_ema", "strategy_stopped", "strategy_quick")
    assert more == {
        *((name, 0, False) for name in ("ema_signals", "ema_3", "ema_8", "atr", *strategies)),
        # An alert about the next cross needs the closes of all symbols, and the last cross of those that are near one.
        *((name, *more) for name in ("ema_trend", "ema_trend_3_8") for more in ((1, False), (2, True), (3, True))),
        *((name, 2, True) for name in strategies),
    }


@pytest.mark.parametrize(
    ("alerts", "off", "reason"),
    [
        (
            told("entry", strategies=("strategy_9_30_em",)),
            (),
            "`strategies` must name strategy_9_30_ema, strategy_stopped",
        ),
        (
            told("crossover", averages=("12/26",)),
            (),
            "`averages` must name averages that a strategy compares, 9/30, 3/8; received '12/26'",
        ),
        (
            told("entry", "crossover", strategies=("strategy_quick",)),
            ("ema_trend_3_8",),
            "crossover is about two EMAs, and strategy_quick compares none; name the `averages`: 9/30$",
        ),
        (told("crossover"), ("ema_trend", "ema_trend_3_8"), "crossover needs ema_trend, which is switched off"),
        (told("crossover", "entry"), GRAPH.strategies, "entry needs a strategy, and all of them are switched off"),
    ],
)
def test_a_subscription_to_results_that_are_not_computed_is_refused(
    alerts: Alerts, off: Sequence[str], reason: str
) -> None:
    graph = replace(GRAPH, off=frozenset(off))
    with pytest.raises(WatchlistError, match=f"^here: alert 'mine': {reason}"):
        raise_alerts.checked(alerts, graph, "here")


@pytest.mark.parametrize(
    ("kind", "off"),
    [
        ("crossover", ["ema_trend"]),
        ("crossover", GRAPH.strategies),
        ("entry", ["ema_trend"]),
        ("entry", ["ema_trend", "ema_trend_3_8"]),
    ],
)
def test_a_subscription_needs_only_the_results_that_its_own_alerts_are_about(kind: str, off: Sequence[str]) -> None:
    graph = replace(GRAPH, off=frozenset(off))
    assert raise_alerts.checked(told(kind), graph, "here").subscriptions == told(kind).subscriptions


def test_named_averages_take_precedence_over_those_of_the_strategies() -> None:
    def averages_of(**named: Any) -> tuple[str, ...] | None:
        return raise_alerts.checked(told("crossover", "entry", **named), GRAPH, "here").subscriptions[0].averages

    assert averages_of(strategies=("strategy_9_30_ema", "strategy_stopped")) == ("9/30",)
    assert averages_of(strategies=("strategy_quick",), averages=("9/30",)) == ("9/30",)
    assert averages_of() is None
