"""Revisions: when a vendor changes past bars, they count what is recomputed and which results change."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta

import polars as pl
import pytest

from ema_assets.model.asset_names import CHAIN, EMA_SIGNALS, EMA_TREND, OHLC, STRATEGY
from ema_assets.model.timeframes import Timeframe
from ema_assets.operations.ingest import store_file
from ema_assets.store import ledger, quality
from ema_assets.store.database import Database
from ema_assets_tests.conftest import Databases, empty
from ema_assets_tests.core import rewrite
from ema_assets_tests.refresh.exchange import (
    MemoryExchange,
    bars_on,
    moved,
    refresh,
    rows_of,
    tables_of,
    utc,
    versions_of,
    watch,
)
from ema_assets_tests.timeframes import D1, M5, ORDER

WATCHED = watch({"AAPL": "XNYS", "MSFT": "XNYS"}, m5_days=20, d1_days=60, timeframes=ORDER)
BARS = pl.concat(
    bars_on("XNYS", symbol, timeframe, first, date(2026, 11, 27), seed)
    for symbol, seed in (("AAPL", 1), ("MSFT", 2))
    for timeframe, first in ((M5, date(2026, 11, 9)), (D1, date(2026, 9, 1)))
)
NOW = utc("2026-11-25 15:45")
INTRADAY = tuple(each for each in ORDER if each != D1)
TIME = {OHLC: "ts", EMA_SIGNALS: "ts", EMA_TREND: "ts", STRATEGY: "entry_ts"}
COUNTS = "rows_recomputed, crossovers_flipped, trades_flipped"


@pytest.fixture(scope="module")
def begun(databases: Databases) -> Iterator[str]:
    """The URL of a database that is up to date at `NOW`. Tests copy it, because computing it takes almost a second."""
    url = databases.make()
    with Database(url) as database:
        refresh(database, WATCHED, MemoryExchange(BARS), NOW)
    yield url
    databases.drop(url)


@pytest.fixture
def database_url(databases: Databases, begun: str) -> Iterator[str]:
    """A separate database for each test, up to date at `NOW`."""
    url = databases.make(like=begun)
    yield url
    databases.drop(url)


@pytest.fixture
def exchange() -> MemoryExchange:
    return MemoryExchange(BARS)


def bar_at(moment: datetime, symbol: str = "AAPL", timeframe: Timeframe = M5) -> pl.DataFrame:
    return BARS.filter(symbol=symbol, timeframe=timeframe.key, ts=moment)


def earliest_difference(before: pl.DataFrame, after: pl.DataFrame, time: str) -> datetime | None:
    """The earliest time of the rows that only one of the two frames has."""
    ours, theirs = set(before.rows()), set(after.rows())
    place = before.columns.index(time)
    return min((row[place] for row in ours ^ theirs), default=None)


def bucket_of(bars: pl.DataFrame, moment: datetime, timeframe: Timeframe) -> datetime | None:
    """The bar that contains `moment`, if it has been published."""
    opened = [ts for ts in bars["ts"] if ts <= moment < ts + timeframe.duration]
    return opened[0] if opened else None


def slow_count(
    before: dict[str, pl.DataFrame], after: dict[str, pl.DataFrame], changed_from: datetime
) -> tuple[int, int, int]:
    """The known rows that were recomputed, and the crossovers and trades that differ, counted one by one."""
    recomputed = crossovers = trades = 0
    for timeframe in INTRADAY:
        old, new = (
            {asset: tables[asset].filter(symbol="AAPL", timeframe=timeframe.key) for asset in CHAIN}
            for tables in (before, after)
        )
        last = old[OHLC]["ts"].max()
        # New bars do not count, whatever changed before them.
        known = {asset: rows.filter(pl.col(TIME[asset]) <= last) for asset, rows in new.items()}
        starts: dict[str, datetime | None] = {
            OHLC: bucket_of(old[OHLC], changed_from, timeframe),
            EMA_SIGNALS: earliest_difference(old[OHLC], known[OHLC], "ts"),
            EMA_TREND: earliest_difference(old[EMA_SIGNALS], known[EMA_SIGNALS], "ts"),
        }
        turned = earliest_difference(old[EMA_TREND], known[EMA_TREND], "ts")
        starts[STRATEGY] = min((each for each in (starts[EMA_SIGNALS], turned) if each is not None), default=None)
        if timeframe is M5:
            del starts[OHLC]
        for asset, start in starts.items():
            if start is not None:
                recomputed += sum(time >= start for time in known[asset][TIME[asset]])
        was = dict(old[EMA_TREND].select("ts", "crossover").iter_rows())
        crossovers += sum(was.get(ts) != crossover for ts, crossover in known[EMA_TREND].select("ts", "crossover").iter_rows())  # fmt: skip
        exits, now = (dict(rows[STRATEGY].select("entry_ts", "exit_ts").iter_rows()) for rows in (old, known))
        now = {entry: leaving if leaving is not None and leaving <= last else None for entry, leaving in now.items()}
        trades += len(exits.keys() ^ now.keys())
        trades += sum(exits[entry] != now[entry] for entry in exits.keys() & now.keys())
    return recomputed, crossovers, trades


CORRECTIONS = [
    pytest.param("2026-11-24 18:00", 1.5, id="yesterday, by half"),
    pytest.param("2026-11-24 18:25", 0.7, id="within a bucket, downwards"),
    pytest.param("2026-11-24 20:55", 1.0001, id="by next to nothing"),
    pytest.param("2026-11-12 14:30", 2.5, id="within the first bars"),
]


@pytest.mark.broad
@pytest.mark.parametrize(("moment", "factor"), CORRECTIONS)
def test_a_correction_records_how_far_it_reaches(
    database: Database, exchange: MemoryExchange, moment: str, factor: float
) -> None:
    before, versions = tables_of(database), versions_of(database)
    changed_from = utc(moment)
    store_file(database, moved(bar_at(changed_from), factor), "a file", NOW)
    outcomes = refresh(database, WATCHED, exchange, NOW)
    after = tables_of(database)
    ((symbol, frame, kind, source, start, corrected, late, *counts),) = rows_of(
        database,
        f"SELECT symbol, timeframe, kind, source, changed_from, bars_corrected, bars_late, {COUNTS} "
        "FROM market.bar_revision",
    )
    assert (symbol, frame, kind, source) == ("AAPL", "5m", "correction", "a file")
    assert (start, corrected, late) == (changed_from, 1, 0)
    expected = slow_count(before, after, changed_from)
    assert tuple(counts) == expected
    assert expected[0] > 50
    if factor > 1.4:
        assert min(expected) > 0
    assert sum(outcome.recomputed for outcome in outcomes.values()) == expected[0]
    assert sum(outcome.flipped for outcome in outcomes.values()) == expected[1] + expected[2]

    opened = {"5m": changed_from} | {
        frame.key: max(ts for ts in before[OHLC].filter(symbol="AAPL", timeframe=frame.key)["ts"] if ts <= changed_from)
        for frame in INTRADAY[1:]
    }
    now = versions_of(database)
    for asset in CHAIN:
        for symbol, frame, time, _ in versions[asset] - now[asset]:
            assert symbol == "AAPL"
            # A trade that was open at the correction continues, and may end elsewhere.
            assert asset == STRATEGY or time >= opened[frame]
    closed = before[STRATEGY].filter(symbol="AAPL").rows(named=True)
    rewritten = {row[1:3] for row in versions[STRATEGY] - now[STRATEGY]}
    over = {
        (row["timeframe"], row["entry_ts"])
        for row in closed
        if row["exit_ts"] is not None and row["timeframe"] in opened and row["exit_ts"] < opened[row["timeframe"]]
    }
    assert over or changed_from < utc("2026-11-13 00:00")
    assert not over & rewritten


@pytest.mark.broad
def test_a_correction_that_arrives_with_a_new_bar_counts_only_known_bars(
    database: Database, exchange: MemoryExchange
) -> None:
    before = tables_of(database)
    changed_from = utc("2026-11-25 15:35")
    exchange.correct(moved(bar_at(changed_from), 1.6))
    refresh(database, WATCHED, exchange, NOW + timedelta(minutes=15))
    after = tables_of(database)
    assert after[OHLC].filter(symbol="AAPL", timeframe="15m").height > before[OHLC].filter(symbol="AAPL", timeframe="15m").height  # fmt: skip
    (counts,) = rows_of(database, f"SELECT {COUNTS} FROM market.bar_revision")
    assert counts == slow_count(before, after, changed_from)


@pytest.mark.broad
def test_a_late_bar_records_how_far_it_reaches_like_a_correction(database: Database) -> None:
    late = utc("2026-11-24 18:20")
    exchange = MemoryExchange(BARS.filter((pl.col("ts") != late) | (pl.col("symbol") != "AAPL")))
    empty(database)
    refresh(database, WATCHED, exchange, NOW)
    before = tables_of(database)
    store_file(database, moved(bar_at(late), 1.2), "a file", NOW)
    refresh(database, WATCHED, exchange, NOW)
    (row,) = rows_of(database, f"SELECT kind, changed_from, bars_late, {COUNTS} FROM market.bar_revision")
    assert row[:3] == ("late bars", late, 1)
    # The results at the late bar itself count as well.
    counted = slow_count(before, tables_of(database), late)
    assert row[4:] == counted[1:]
    assert row[3] == counted[0]


@pytest.mark.broad
def test_a_corrected_volume_changes_no_average_no_trend_and_no_trade(
    database: Database, exchange: MemoryExchange
) -> None:
    before, versions = tables_of(database), versions_of(database)
    moment = utc("2026-11-24 18:00")
    store_file(database, bar_at(moment).with_columns(pl.col("volume") + 7), "a file", NOW)
    outcomes = refresh(database, WATCHED, exchange, NOW)
    after = tables_of(database)
    for asset in (EMA_SIGNALS, EMA_TREND, STRATEGY):
        assert after[asset].equals(before[asset])
        assert versions[asset] == versions_of(database)[asset]
    assert len(versions[OHLC] - versions_of(database)[OHLC]) == 5
    assert outcomes[EMA_TREND, M5].done == []
    (counts,) = rows_of(database, f"SELECT {COUNTS} FROM market.bar_revision")
    assert counts == slow_count(before, after, moment)
    assert counts[1:] == (0, 0)


@pytest.mark.broad
def test_each_of_several_corrections_records_its_own_reach(database: Database, exchange: MemoryExchange) -> None:
    moment = utc("2026-11-24 18:00")
    for symbol, factor in (("AAPL", 1.5), ("MSFT", 1.00001), ("AAPL", 1.2)):
        store_file(database, moved(bar_at(moment, symbol), factor), "a file", NOW)
        refresh(database, WATCHED, exchange, NOW)
    found = rows_of(database, f"SELECT symbol, {COUNTS} FROM market.bar_revision ORDER BY id")
    assert [row[0] for row in found] == ["AAPL", "MSFT", "AAPL"]
    assert all(row[1] > 100 for row in found)
    assert found[0][2] > 0
    assert found[1][2:] == (0, 0)


@pytest.mark.broad
def test_a_corrected_daily_bar_is_recorded_as_a_revision_of_the_daily_series(
    database: Database, exchange: MemoryExchange
) -> None:
    moment = utc("2026-11-20 14:30")
    exchange.correct(moved(bar_at(moment, timeframe=D1), 1.3))
    refresh(database, WATCHED, exchange, utc("2026-11-25 21:00"))
    assert rows_of(database, "SELECT symbol, timeframe, changed_from, bars_corrected, source FROM market.bar_revision") == [
        ("AAPL", "1d", moment, 1, "memory")
    ]  # fmt: skip


@pytest.mark.broad
def test_a_correction_detected_by_a_refresh_of_everything_records_how_far_it_reaches(
    database: Database, exchange: MemoryExchange
) -> None:
    before = tables_of(database)
    # Older than the overlap of the usual requests.
    changed_from = utc("2026-11-17 15:00")
    exchange.correct(moved(bar_at(changed_from), 1.5))
    refresh(database, WATCHED, exchange, NOW)
    assert rows_of(database, "SELECT * FROM market.bar_revision") == []
    outcomes = refresh(database, WATCHED, exchange, NOW, everything=True)
    (found,) = rows_of(database, f"SELECT symbol, changed_from, {COUNTS} FROM market.bar_revision")
    expected = slow_count(before, tables_of(database), changed_from)
    assert min(expected) > 0
    assert found == ("AAPL", changed_from, *expected)
    assert sum(outcome.flipped for outcome in outcomes.values()) == expected[1] + expected[2]


@pytest.mark.broad
def test_recomputing_everything_is_not_recorded_as_a_revision(
    database: Database, exchange: MemoryExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_file(database, moved(bar_at(utc("2026-11-24 18:00")), 1.5), "a file", NOW)
    exchange.correct(moved(bar_at(utc("2026-11-24 18:00")), 1.5))
    refresh(database, WATCHED, exchange, NOW)
    found = rows_of(database, "SELECT * FROM market.bar_revision")
    outcomes = refresh(database, WATCHED, exchange, NOW, everything=True)
    assert sum(outcome.recomputed + outcome.flipped for outcome in outcomes.values()) == 0
    rewrite(monkeypatch, EMA_TREND)
    refresh(database, WATCHED, exchange, NOW)
    assert rows_of(database, "SELECT * FROM market.bar_revision") == found


@pytest.mark.broad
def test_bars_as_of_a_time_are_those_known_at_that_time(database: Database, exchange: MemoryExchange) -> None:
    def as_of(moment: object) -> list[tuple[object, ...]]:
        return rows_of(
            database,
            "SELECT ts, close FROM market.ohlc_as_of($1) WHERE symbol = 'AAPL' AND timeframe = '5m' ORDER BY ts",
            moment,
        )

    minutes = (M5,)
    moment = utc("2026-11-25 15:40")
    stands = []
    for minute, factor in ((0, 1.0), (5, 1.1), (10, 1.2)):
        exchange.correct(moved(bar_at(moment), factor))
        refresh(database, WATCHED, exchange, NOW + timedelta(minutes=minute), timeframes=minutes)
        ((read_at,),) = rows_of(database, "SELECT clock_timestamp()")
        stands.append((read_at, rows_of(database, "SELECT ts, close FROM market.ohlc WHERE symbol = 'AAPL' AND timeframe = '5m' ORDER BY ts")))  # fmt: skip
    assert len({tuple(rows) for _, rows in stands}) == 3
    for read_at, rows in stands:
        assert as_of(read_at) == rows
    assert as_of(utc("2020-01-01 00:00")) == []


def test_the_reach_of_a_correction_is_written_after_everything_that_locks_series(
    database: Database, exchange: MemoryExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs of other assets add to the same revisions. One that waits here must not hold what they still have to lock."""
    written = []
    for module, name in ((ledger, "complete"), (quality, "add_impact")):
        inner = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *values, inner=inner: (written.append((inner.__name__, values[0])), inner(*values))
        )
    store_file(database, moved(bar_at(utc("2026-11-24 15:00")), 1.5), "a file", NOW)
    written.clear()
    refresh(database, WATCHED, exchange, NOW)
    reached = [place for place, (name, _) in enumerate(written) if name == "add_impact"]
    assert len(reached) > len(INTRADAY)
    for place in reached:
        (name, transaction), after = written[place - 1], written[place + 1 :]
        assert (name, transaction) == ("complete", written[place][1])
        assert not any(other is transaction for _, other in after)
