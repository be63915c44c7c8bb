"""The history may arrive in any order: the tables end as if all of it had been available from the start."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ema_assets.operations.ingest import store_file
from ema_assets.refresh.plan import closed_bars
from ema_assets.store import ledger
from ema_assets.store.database import Database
from ema_assets_tests.conftest import empty, heavy
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

CALENDARS = {"AAPL": "XNYS", "MSFT": "XNYS", "0700.HK": "XHKG", "BTC-USD": "24/7"}
# Nine days each: half days, holidays of only one exchange, and changes of daylight saving time.
WEEKS = {
    "Thanksgiving and a half day": date(2026, 11, 20),
    "New York's clocks go forward": date(2026, 3, 4),
    "New York's clocks go back": date(2026, 10, 27),
    "Christmas": date(2026, 12, 21),
    "Lunar New Year in Hong Kong": date(2026, 2, 12),
}
WATCHED = watch(CALENDARS, timeframes=ORDER)
FIRST = date(2026, 11, 20)
END = utc("2026-11-28 12:00")
SEEDS = st.integers(0, 2**31)
KEY = ["symbol", "timeframe", "ts"]


def history(seed: int, missing: float, first: date = FIRST) -> pl.DataFrame:
    """For every symbol, 5m bars of nine days and daily bars of three months."""
    return pl.concat(
        bars_on(calendar, symbol, timeframe, start, first + timedelta(days=8), seed + number, missing)
        for number, (symbol, calendar) in enumerate(CALENDARS.items())
        for timeframe, start in ((M5, first), (D1, first - timedelta(days=80)))
    ).with_columns(
        # Fractional volumes, as crypto has them: the sum depends on the order of addition.
        volume=pl.when(pl.col("symbol") == "BTC-USD").then(pl.col("volume") / 7).otherwise("volume")
    )


def some_of(bars: pl.DataFrame, seed: int, share: float) -> pl.DataFrame:
    return bars.filter(pl.Series(np.random.default_rng(seed).random(bars.height) < share, dtype=pl.Boolean))


def stale_at(database: Database, now: datetime) -> pl.DataFrame:
    with database.transaction() as transaction:
        return ledger.stale(transaction, closed_bars(transaction, now), now)


def runs_of(bars: pl.DataFrame, seed: int, runs: int) -> pl.DataFrame:
    """Some runs of consecutive bars of up to one hour, each of one symbol."""
    random = np.random.default_rng(seed)
    minutes = bars.filter(timeframe="5m")
    starts = minutes[sorted(random.integers(0, minutes.height, runs))]
    lengths = random.integers(1, 13, runs)
    inside = [
        (pl.col("symbol") == symbol) & pl.col("ts").is_between(ts, ts + timedelta(minutes=5 * int(length - 1)))
        for (symbol, ts), length in zip(starts.select("symbol", "ts").rows(), lengths, strict=True)
    ]
    return minutes.filter(pl.any_horizontal(pl.lit(False), *inside))


def without(bars: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    return bars.join(others, on=KEY, how="anti")


class Watcher:
    """Checks that a step rewrites no row before the first bar that it changed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tables, self._versions = tables_of(database), versions_of(database)

    def check(self) -> None:
        """Compare the tables with those of the last check."""
        tables, versions = tables_of(self._database), versions_of(self._database)
        bars, before = tables["ohlc"], self._tables["ohlc"]
        touched = pl.concat([without_equal(bars, before), without_equal(before, bars)])
        starts = {
            (symbol, frame): start
            for symbol, frame, start in touched.group_by("symbol", "timeframe").agg(pl.col("ts").min()).rows()
        }
        exits = {row[:3]: row[3] for row in self._tables["strategy_9_30_ema"].select("symbol", "timeframe", "entry_ts", "exit_ts").rows()}  # fmt: skip
        for asset, known in self._versions.items():
            for symbol, frame, time, _ in known - versions[asset]:
                start = starts[symbol, frame]
                if asset == "strategy_9_30_ema":
                    # A trade that was open at the changed bar may change.
                    time = exits[symbol, frame, time] or start  # noqa: PLW2901
                assert time >= start, (asset, symbol, frame)
        self._tables, self._versions = tables, versions


def without_equal(bars: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    return bars.join(others, on=bars.columns, how="anti", nulls_equal=True).select(KEY)


def due_before(database: Database, moment: datetime) -> datetime | None:
    """The time at which the next gap is requested, if it is before `moment`."""
    ((due,),) = rows_of(database, "SELECT min(next_attempt_at) FROM market.bar_gap WHERE next_attempt_at < $1", moment)
    assert due is None or isinstance(due, datetime)
    return due


@heavy(8)
@given(st.data())
def test_increments_corrections_late_bars_and_gaps_in_any_order_end_as_one_computation(
    module_database: Database, data: st.DataObject
) -> None:
    """Bars arrive in increments: some late, some never, and some are corrected, near the end or far back.

    The provider delivers what lies within the overlap of a request or in a gap that is requested again. A file delivers
    what is older, and is processed in the same way. No step rewrites a row before the first bar that it changed. All
    corrections are plausible: a rejected one leaves the stored bar, which a computation from scratch cannot know.
    """
    first = WEEKS[data.draw(st.sampled_from(sorted(WEEKS)), "week")]
    begin = datetime(first.year, first.month, first.day, tzinfo=UTC)
    end = begin + timedelta(days=8, hours=12)
    truth = history(data.draw(SEEDS, "history"), data.draw(st.sampled_from([0.0, 0.05, 0.5]), "missing"), first)
    truth = without(truth, runs_of(truth, data.draw(SEEDS), data.draw(st.integers(0, 4), "gaps that stay")))
    late = some_of(truth, data.draw(SEEDS, "late"), data.draw(st.sampled_from([0.0, 0.02, 0.3]), "share of late bars"))
    closing = runs_of(truth, data.draw(SEEDS), data.draw(st.integers(0, 6), "gaps that are closed"))
    late = pl.concat([late, without(closing, late)])
    exchange = MemoryExchange(without(truth, late))
    minutes = int((end - begin).total_seconds()) // 60
    moments = sorted(data.draw(st.sets(st.integers(1, minutes), min_size=1, max_size=3), "minutes"))

    empty(module_database)
    watcher = Watcher(module_database)
    for moment, following in zip(moments, [*moments[1:], minutes], strict=True):
        now = begin + timedelta(minutes=moment)
        refresh(module_database, WATCHED, exchange, now)
        watcher.check()
        happens = data.draw(st.sampled_from(["nothing", "corrections", "late bars", "both"]), "what happens")
        if happens in ("corrections", "both"):
            published = truth.join(exchange.bars, on=KEY, how="semi")
            wrong = some_of(published, data.draw(SEEDS), data.draw(st.sampled_from([0.001, 0.05])))
            exchange.correct(moved(wrong, data.draw(st.sampled_from([1.6, 1.001, 0.7]), "factor")))
        if happens in ("late bars", "both"):
            exchange.correct(some_of(late, data.draw(SEEDS), 0.5))
            swept = due_before(module_database, begin + timedelta(minutes=following))
            if swept is not None:
                now = max(now, swept)
                refresh(module_database, WATCHED, exchange, now)
                watcher.check()
        published = exchange.bars.filter(pl.col("ts") < now).sample(fraction=1.0, shuffle=True, seed=moment)
        store_file(module_database, published, "a file", now)
    refresh(module_database, WATCHED, exchange, end)
    watcher.check()
    if not stale_at(module_database, end).is_empty():
        # A symbol without bars for some sessions was silent and trades again. The next sweep requests its gaps.
        assert set(stale_at(module_database, end)["reason"]) <= {"bars missing", "bar closed", "older bars"}
        refresh(module_database, WATCHED, exchange, end)
        watcher.check()
    assert stale_at(module_database, end).is_empty()
    found = tables_of(module_database)

    empty(module_database)
    refresh(module_database, WATCHED, exchange, end)
    for asset, rows in tables_of(module_database).items():
        # Equal to the bit: the carried value is the same number that one computation has at that bar.
        assert_frame_equal(found[asset], rows, check_exact=True)
        assert rows["timeframe"].n_unique() == 6 or asset == "strategy_9_30_ema"


@pytest.mark.broad
def test_a_split_that_halves_every_price_halves_the_prices_of_the_trades(database: Database) -> None:
    """Halved prices leave spread and trend the same to the bit, but change entry and exit prices."""
    bars = history(3, 0.0)
    exchange = MemoryExchange(bars)
    refresh(database, WATCHED, exchange, END)
    before = tables_of(database)
    exchange.bars = moved(bars, 0.5)
    refresh(database, WATCHED, exchange, END)
    store_file(database, exchange.bars, "a file", END)
    refresh(database, WATCHED, exchange, END)
    after = tables_of(database)
    assert_frame_equal(after["ema_trend"], before["ema_trend"], check_exact=True)
    prices = ["entry_price", "exit_price", "last_price"]
    halved = before["strategy_9_30_ema"].with_columns(pl.col(prices) / 2)
    assert_frame_equal(after["strategy_9_30_ema"], halved, check_exact=True)
