"""Alerts about trades that need the trend of a longer timeframe: each trade that is there has one, and no other has."""

from dataclasses import replace
from datetime import date, datetime, timedelta

import pytest

from ema_assets.alerts.subscriptions import Alerts, Subscription
from ema_assets.config.watchlist import Watchlist
from ema_assets.model.timeframes import Timeframe
from ema_assets.refresh import compute
from ema_assets.refresh.fetch import refresh_fetched
from ema_assets.refresh.graph import Graph, build
from ema_assets.refresh.longer_trends import PATIENCE
from ema_assets.refresh.plan_requests import FetchRules
from ema_assets.store.database import Database
from ema_assets_tests.core import CORE
from ema_assets_tests.refresh.exchange import bars_on, refresh, utc, watch
from ema_assets_tests.refresh.test_raise_alerts import EVERY_BAR, TO, Exchange
from ema_assets_tests.timeframes import D1, M5, M15

CALENDARS = {f"C{number}-USD": "24/7" for number in range(24)}
STRATEGY = "strategy_often"
OFTEN = {"name": "often", "rule": "crossover", "fast": 2, "slow": 3, "side": "both", "entries": "all"}
ALERTS = Alerts((Subscription("mine", ("entry", "exit"), ("hook",), timeframes=("5m",), strategies=(STRATEGY,)),), TO)


def watching(higher: Timeframe) -> tuple[Watchlist, Graph]:
    watched = watch(CALENDARS, m5_days=2, timeframes=(M5, higher))
    watched = replace(
        watched, strategies=(*CORE["strategies"], {**OFTEN, "higher_timeframe": higher.key}), alerts=ALERTS
    )
    watched = replace(watched, signals_off=CORE["signals_off"])
    return watched, build(watched)


def exchange(higher: Timeframe) -> Exchange:
    first = {M5: date(2026, 11, 23), D1: date(2026, 10, 20)}
    last = date(2026, 11, 26)
    return Exchange(
        *(
            bars_on("24/7", symbol, each, first[each], last, seed)
            for seed, symbol in enumerate(CALENDARS, 100)
            for each in (M5, *([higher] if higher.is_fetched else []))
        )
    )


def computed(database: Database, graph: Graph, timeframe: Timeframe, now: datetime, *assets: str) -> None:
    for node in graph.computed:
        if not assets or node.name in assets:
            done = compute.refresh_computed(database, node, timeframe, list(CALENDARS), now, alerts=graph.alerts)
            assert done.errors == {}
            assert (done.recomputed, done.flipped) == (0, 0), "no bar was corrected"


def alerted(database: Database, kind: str) -> set[tuple[str, datetime]]:
    with database.transaction() as transaction:
        found = transaction.query("SELECT symbol, ts FROM market.alert WHERE kind = $1 ORDER BY id", kind)
    assert found.is_unique().all(), "no alert comes twice"
    return set(found.iter_rows())


def traded(database: Database, column: str, after: datetime) -> set[tuple[str, datetime]]:
    with database.transaction() as transaction:
        sql = f"SELECT symbol, {column} FROM market.{STRATEGY} WHERE timeframe = '5m' AND {column} > $1"
        return set(transaction.query(sql, after).iter_rows())


class Market:
    """Ten symbols with history up to `start`. Each tick is that of the next bar of 5m."""

    def __init__(self, database: Database, higher: Timeframe, start: str) -> None:
        self.database, self.higher, self.now = database, higher, utc(start)
        self.watched, self.graph = watching(higher)
        self.exchange = exchange(higher)
        refresh(database, self.watched, self.exchange, self.now)
        self.loaded = self.now - timedelta(seconds=30) - EVERY_BAR
        assert alerted(database, "entry") == set()

    def short(self) -> None:
        """Do what the run of 5m does."""
        self.now += EVERY_BAR
        rules = FetchRules(self.watched.history_days, {})
        refresh_fetched(self.database, self.exchange, M5, self.watched.symbols, rules, self.now, older=False)
        computed(self.database, self.graph, M5, self.now)

    def long(self) -> None:
        """Do what the run of the longer timeframe does some seconds later."""
        if self.higher.is_fetched:
            rules = FetchRules(self.watched.history_days, {})
            refresh_fetched(
                self.database, self.exchange, self.higher, self.watched.symbols, rules, self.now, older=False
            )
        else:
            compute.refresh_rolled_up(self.database, self.higher, self.watched.symbols, self.now)
        computed(self.database, self.graph, self.higher, self.now)

    def again(self) -> None:
        """Do what the run does that the sweep launches for what is stale since."""
        computed(self.database, self.graph, M5, self.now + timedelta(seconds=20), STRATEGY)


@pytest.mark.broad
@pytest.mark.parametrize(
    ("higher", "start", "counts"), [(M15, "2026-11-25 12:00:30", (0, 4)), (D1, "2026-11-24 23:50:30", (1, 1))]
)
def test_a_trade_that_needs_a_trend_which_closes_with_its_bar_is_alerted_once_the_trend_is_there(
    database: Database, higher: Timeframe, start: str, counts: tuple[int, int]
) -> None:
    market = Market(database, higher, start)
    early, late = 0, 0
    for _ in range(7):
        market.short()
        before = alerted(database, "entry")
        would_be = traded(database, "entry_ts", market.loaded)
        market.long()
        market.again()
        there = traded(database, "entry_ts", market.loaded)
        early += len(would_be - there)
        late += len(there - would_be)
        assert before <= there, "no alert about a trade that the trend has taken away"
        assert alerted(database, "entry") == there
        assert alerted(database, "exit") == traded(database, "exit_ts", market.loaded)
    # Trades that were there before the trend and are gone with it, and trades that are there only with it.
    assert (early, late) == counts
    assert len(alerted(database, "entry")) > late


def test_alerts_do_not_wait_longer_than_ten_minutes_for_a_trend_that_is_late(database: Database) -> None:
    market = Market(database, M15, "2026-11-25 12:10:30")
    market.short()
    begun = traded(database, "entry_ts", market.loaded)
    assert len(begun) > 0
    assert alerted(database, "entry") == set()
    market.short()
    assert alerted(database, "entry") == set()
    market.short()
    assert market.now - utc("2026-11-25 12:15") > PATIENCE
    assert alerted(database, "entry") == traded(database, "entry_ts", market.loaded) >= begun
