"""Tests that a new timeframe in the watchlist appears everywhere, even in a database that was filled without it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from ema_assets import read
from ema_assets.definitions import assembled
from ema_assets.market.exchanges import exchange_sessions
from ema_assets.model.timeframes import Timeframe, by_key
from ema_assets.operations.refresh_performance import refresh as refresh_performance
from ema_assets.refresh.graph import build
from ema_assets.reports import status
from ema_assets.reports.progress import loading
from ema_assets.store.database import Database
from ema_assets_tests.conftest import Databases
from ema_assets_tests.families.world import NOW, WATCHED, exchange
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, refresh, rows_of
from ema_assets_tests.timeframes import M1, MO1, ORDER, W1

NEW = tuple(map(by_key, ("1m", "3m", "10m", "45m", "2h", "1w", "1M")))
ALL = tuple(sorted({*ORDER, *NEW}))
GROWN = replace(WATCHED, instruments=tuple(replace(each, timeframes=ALL) for each in WATCHED.instruments))
CALENDARS = {each.symbol: each.calendar for each in WATCHED.instruments}
_PRICES = ("open", "high", "low", "close", "volume")


def with_minutes() -> MemoryExchange:
    made = exchange()
    made.bars = pl.concat(
        [made.bars, *(bars_on(calendar, symbol, M1, date(2026, 11, 23), date(2026, 11, 25), 7) for symbol, calendar in CALENDARS.items())]
    )  # fmt: skip
    return made


@pytest.fixture(scope="module")
def url(databases: Databases) -> Iterator[str]:
    """A database that was filled with the usual timeframes, and then with the new ones as well."""
    made = databases.make()
    with Database(made) as database:
        refresh(database, WATCHED, exchange(), NOW)
        refresh(database, GROWN, with_minutes(), NOW)
        refresh_performance(database)
    yield made
    databases.drop(made)


@pytest.fixture
def grown(url: str) -> Iterator[Database]:
    with Database(url) as database:
        yield database


def stored(database: Database, timeframe: Timeframe) -> pl.DataFrame:
    rows = rows_of(
        database,
        f"SELECT symbol, ts, {', '.join(_PRICES)} FROM market.ohlc WHERE timeframe = $1 ORDER BY 1, 2",
        timeframe.key,
    )
    return pl.DataFrame(rows, schema=["symbol", "ts", *_PRICES], orient="row")


def period_of(timeframe: Timeframe, opens: datetime, ts: datetime, day: date) -> object:
    """A key of the bar of `timeframe` that contains `ts`, in the session `day` that opens at `opens`."""
    if timeframe is W1:
        return day.isocalendar()[:2]
    return (day.year, day.month) if timeframe is MO1 else (opens, (ts - opens) // timeframe.duration)


def expected(database: Database, timeframe: Timeframe) -> list[tuple[object, ...]]:
    """The closed bars, rolled up from stored source bars by session. The last bar of a session may be shorter."""
    found: list[tuple[object, ...]] = []
    for symbol, calendar in CALENDARS.items():
        groups: dict[object, list[tuple[Any, ...]]] = {}
        starts: dict[object, datetime] = {}
        ends: dict[object, datetime] = {}
        source = stored(database, timeframe.source).filter(symbol=symbol).rows()
        sessions = exchange_sessions(calendar, date(2026, 8, 1), date(2026, 12, 31))
        for day, opens, closes in sessions.select("session", "open", "close").rows():
            if timeframe.period is not None:
                key = period_of(timeframe, opens, opens, day)
                starts.setdefault(key, opens)
                ends[key] = closes
            for row in source:
                if opens <= row[1] < closes:
                    key = period_of(timeframe, opens, row[1], day)
                    groups.setdefault(key, []).append(row)
                    if timeframe.period is None:
                        starts[key] = opens + (row[1] - opens) // timeframe.duration * timeframe.duration
                        ends[key] = min(starts[key] + timeframe.duration, closes)
        for key, rows in groups.items():
            if ends[key] <= NOW:
                highs, lows = [row[3] for row in rows], [row[4] for row in rows]
                volume = pytest.approx(sum(row[6] for row in rows))
                found.append((symbol, starts[key], rows[0][2], max(highs), min(lows), rows[-1][5], volume))
    return found


@pytest.mark.broad
@pytest.mark.parametrize("timeframe", [each for each in NEW if not each.is_fetched])
def test_the_bars_of_a_new_timeframe_equal_a_rollup_session_by_session(grown: Database, timeframe: Timeframe) -> None:
    wanted = expected(grown, timeframe)
    assert len(wanted) > 4
    assert stored(grown, timeframe).rows() == wanted


def test_a_new_timeframe_has_partitions_a_schedule_and_rows_in_every_result(grown: Database, url: str) -> None:
    definitions = assembled(build(GROWN))
    keys = [each.key for each in ALL]
    partitions = definitions.resolve_assets_def("ema_signals").partitions_def
    assert partitions.get_partitions_def_for_dimension("timeframe").get_partition_keys() == keys
    schedules = {schedule.name: schedule for schedule in definitions.schedules}
    assert {f"refresh_{key}" for key in keys} < set(schedules)
    assert schedules["refresh_1m"].cron_schedule == "*/1 * * * *"
    assert schedules["refresh_10m"].cron_schedule == "*/5 * * * *"
    # No work is left, except for bars that have not closed.
    counts = dict(
        rows_of(
            grown,
            """
            SELECT s.timeframe, count(*) FROM market.series_state s LEFT JOIN market.series_state b
                   ON b.asset = 'ohlc' AND b.symbol = s.symbol AND b.timeframe = $1
            WHERE s.last_ts IS NOT NULL AND (s.dirty_from IS NULL OR (s.asset = 'ohlc' AND s.dirty_end > $2))
            GROUP BY 1
            """,
            "5m",
            NOW,
        )
    )
    assert counts == dict.fromkeys(keys, 2 * 4)
    with grown.transaction() as transaction:
        assert [each.key for each in loading(transaction, NOW).series] == keys
        assert {each.timeframe for each in status.by_asset(transaction, NOW)} == set(keys)
    for timeframe in NEW:
        rows = read.screener(timeframe.key, url=url)
        assert rows.select("symbol", "timeframe").rows() == [("AAPL", timeframe.key), ("BTC-USD", timeframe.key)]
        assert rows["trend"].equals(rows[f"trend_{timeframe.sql_name}"])
        trades = rows_of(
            grown, "SELECT count(*) FROM market.strategy_9_30_ema WHERE timeframe = $1", timeframe.key
        )[0][0]  # fmt: skip
        assert read.trades(timeframe.key, url=url).height == trades
        performance = read.performance(timeframe.key, url=url)
        assert performance.filter(strategy="strategy_9_30_ema").height == 2


@pytest.mark.broad
def test_a_weekly_bar_is_final_when_its_last_day_is_final(database: Database) -> None:
    """In the week of Thanksgiving, the weekly bar closes on Friday at 13:00 in New York."""
    watched = replace(GROWN, instruments=tuple(replace(each, timeframes=(W1,)) for each in GROWN.instruments[:1]))
    friday = exchange_sessions("XNYS", date(2026, 11, 27), date(2026, 11, 27))["close"][0]
    market = MemoryExchange(bars_on("XNYS", "AAPL", by_key("1d"), date(2026, 1, 2), date(2026, 11, 27)))
    refresh(database, watched, market, friday - timedelta(minutes=1))
    week = rows_of(database, "SELECT max(ts) FROM market.ohlc_1w")
    assert week == [(exchange_sessions("XNYS", date(2026, 11, 16), date(2026, 11, 16))["open"][0],)]
    refresh(database, watched, market, friday)
    shown = rows_of(database, "SELECT ts, is_preliminary FROM results.screener WHERE timeframe = '1w'")
    assert shown == [(exchange_sessions("XNYS", date(2026, 11, 23), date(2026, 11, 23))["open"][0], False)]
    rows_of(
        database,
        "UPDATE market.series_state SET final_through = $1 WHERE asset = 'ohlc' AND timeframe = '1d' RETURNING 1",
        friday - timedelta(seconds=1),
    )
    assert rows_of(database, "SELECT is_preliminary FROM results.screener WHERE timeframe = '1w'") == [(True,)]


@pytest.mark.broad
@pytest.mark.parametrize(
    ("timeframe", "bars_a_year"),
    [(W1, 365.25 / 7), (MO1, 12.0), (by_key("3M"), 4.0)],
)
def test_annualized_figures_use_the_number_of_bars_per_year(
    database: Database, timeframe: Timeframe, bars_a_year: float
) -> None:
    """Figures per year depend on how many bars a year has."""
    watched = replace(
        GROWN, instruments=tuple(replace(each, timeframes=(timeframe,)) for each in GROWN.instruments[:1])
    )
    market = MemoryExchange(bars_on("XNYS", "AAPL", by_key("1d"), date(2006, 1, 3), date(2026, 11, 25)))
    watched = replace(watched, history_days={**watched.history_days, by_key("1d"): 7_600})
    refresh(database, watched, market, NOW)
    refresh_performance(database)
    # The number of years follows from the total growth and the growth per year.
    bars, years = rows_of(
        database,
        """
        SELECT bars, ln(1 + buy_and_hold_pct / 100) / ln(1 + buy_and_hold_annualized_pct / 100)
        FROM results.performance WHERE strategy = 'strategy_9_30_ema'
        """,
    )[0]
    assert bars == pytest.approx(20.9 * bars_a_year, rel=0.01)
    assert years == pytest.approx(bars / bars_a_year, rel=0.002)
