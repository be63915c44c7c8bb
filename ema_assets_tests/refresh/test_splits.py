"""A vendor re-adjusts history for a split: the history is fetched again once, and no false trade appears."""

from collections.abc import AsyncIterator, Sequence
from datetime import date, datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ema_assets.model.asset_names import OHLC, STRATEGY
from ema_assets.model.timeframes import Timeframe
from ema_assets.operations.ingest import store_file
from ema_assets.operations.sync_watchlist import sync
from ema_assets.providers.fetching.base import BarRequest, FetchBatch
from ema_assets.store import older_history
from ema_assets.store.database import Database, Transaction
from ema_assets_tests.conftest import empty, mostly_broad
from ema_assets_tests.refresh.exchange import (
    MemoryExchange,
    bars_on,
    moved,
    refresh,
    rows_of,
    state_of,
    tables_of,
    utc,
    versions_of,
    watch,
)
from ema_assets_tests.timeframes import D1, M5, ORDER

WATCHED = watch({"AAPL": "XNYS", "MSFT": "XNYS"}, m5_days=12, d1_days=130)
MONDAY, FRIDAY = date(2026, 11, 16), date(2026, 11, 27)
FIRST_DAILY = date(2026, 8, 3)
# The evening before the split, and the first bars of the day on which the symbol trades at the new price.
BEFORE, AFTER = utc("2026-11-24 21:00"), utc("2026-11-25 14:45")
EX_DATE = utc("2026-11-25 14:30")
MINUTES, STEP = (M5,), timedelta(minutes=5)


def history(symbol: str, seed: int) -> pl.DataFrame:
    return pl.concat(
        [
            bars_on("XNYS", symbol, M5, MONDAY, FRIDAY, seed),
            bars_on("XNYS", symbol, D1, FIRST_DAILY, FRIDAY, seed + 10),
        ]
    )


ALL = pl.concat([history("AAPL", 1), history("MSFT", 2)])


def adjusted(bars: pl.DataFrame, ratio: float, symbol: str = "AAPL", until: datetime = EX_DATE) -> pl.DataFrame:
    """`bars` as a vendor serves them after it has re-adjusted those bars of `symbol` that opened before `until`."""
    old = (pl.col("symbol") == symbol) & (pl.col("ts") < until)
    prices = [
        pl.when(old).then(pl.col(name) / ratio).otherwise(pl.col(name)).alias(name)
        for name in ("open", "high", "low", "close")
    ]
    return bars.with_columns(*prices, pl.when(old).then(pl.col("volume") * ratio).otherwise("volume").alias("volume"))


def raw(ratio: float, bars: pl.DataFrame = ALL) -> pl.DataFrame:
    """`bars` as they traded, at the old price before the split. Adjusted again, they equal `bars` but for rounding."""
    return adjusted(bars, 1 / ratio)


def revisions(database: Database) -> list[tuple[object, ...]]:
    return rows_of(
        database,
        "SELECT symbol, timeframe, kind, trades_flipped, crossovers_flipped FROM market.bar_revision ORDER BY id",
    )


@pytest.mark.parametrize(
    ("ratio", "name"),
    mostly_broad([(7.0, "7:1"), (2.0, "2:1"), (1.5, "3:2"), (0.1, "1:10")]),
    ids=["7:1", "2:1", "3:2", "1:10"],
)
def test_a_split_is_one_event_with_one_complete_fetch_and_no_false_trade(
    database: Database, ratio: float, name: str
) -> None:
    before = raw(ratio)
    exchange = MemoryExchange(before)
    refresh(database, WATCHED, exchange, BEFORE)
    trades = tables_of(database)[STRATEGY]
    exchange.bars, exchange.asked = adjusted(before, ratio), []
    outcomes = refresh(database, WATCHED, exchange, AFTER, timeframes=[each for each in ORDER if each != D1])
    whole = [each for each in exchange.asked if each.start < utc("2026-11-24 00:00")]
    assert [each.instrument.symbol for each in exchange.asked] == ["AAPL", "MSFT", "AAPL"]
    assert [(each.instrument.symbol, each.start) for each in whole] == [("AAPL", utc("2026-11-13 00:00"))]
    assert outcomes[OHLC, M5].refetched == 1
    assert revisions(database) == [("AAPL", "5m", "split", 0, 0)]
    assert rows_of(database, "SELECT detail FROM market.bar_revision") == [
        (f"the vendor re-adjusted history for a {name} split",)
    ]

    outcomes = refresh(database, WATCHED, exchange, utc("2026-11-25 21:00"))
    assert outcomes[OHLC, D1].refetched == 1
    assert outcomes[OHLC, M5].refetched == 0
    assert revisions(database) == [("AAPL", "5m", "split", 0, 0), ("AAPL", "1d", "split", 0, 0)]
    assert rows_of(database, "SELECT * FROM market.bar_flag") == []
    assert rows_of(database, "SELECT * FROM market.bar_rejected") == []
    found = tables_of(database)
    was_made = found[STRATEGY].filter(pl.col("entry_ts") < BEFORE)
    closed = pl.when(pl.col("exit_ts") < BEFORE).then("exit_ts")
    key = ("symbol", "timeframe", "entry_ts")
    assert was_made.select(*key, closed).equals(trades.select(*key, closed))
    refresh(database, WATCHED, exchange, utc("2026-11-25 21:00") + timedelta(minutes=1))
    assert len(revisions(database)) == 2

    empty(database)
    refresh(database, WATCHED, exchange, utc("2026-11-25 21:00"))
    for asset, rows in tables_of(database).items():
        assert_frame_equal(found[asset], rows, check_exact=True)


@pytest.mark.broad
def test_a_split_rescales_volume_and_keeps_the_old_values_as_corrections(database: Database) -> None:
    before = raw(2.0)
    exchange = MemoryExchange(before)
    refresh(database, WATCHED, exchange, BEFORE, timeframes=MINUTES)
    stored = tables_of(database)[OHLC].filter(symbol="AAPL")
    exchange.bars = adjusted(before, 2.0)
    refresh(database, WATCHED, exchange, AFTER, timeframes=MINUTES)
    found = tables_of(database)[OHLC].filter(pl.col("symbol") == "AAPL", pl.col("ts") < BEFORE)
    assert (found["volume"] == stored["volume"] * 2).all()
    assert (found["close"] == stored["close"] / 2).all()
    kept = rows_of(database, "SELECT symbol, ts, close, volume FROM market.bar_correction ORDER BY ts")
    assert kept == stored.select("symbol", "ts", "close", "volume").rows()


@pytest.mark.broad
@pytest.mark.parametrize("decimals", [1, 2, 4])
def test_a_split_is_detected_when_the_vendor_rounds_adjusted_prices(database: Database, decimals: int) -> None:
    before = raw(7.0)
    exchange = MemoryExchange(before)
    refresh(database, WATCHED, exchange, BEFORE, timeframes=MINUTES)
    prices = ["open", "high", "low", "close"]
    exchange.bars = pl.concat([adjusted(before, 7.0).filter(symbol="AAPL").with_columns(pl.col(prices).round(decimals)), before.filter(symbol="MSFT")])  # fmt: skip
    refresh(database, WATCHED, exchange, AFTER, timeframes=MINUTES)
    assert [row[:3] for row in revisions(database)] == [("AAPL", "5m", "split")]
    assert rows_of(database, "SELECT detail FROM market.bar_revision") == [
        ("the vendor re-adjusted history for a 7:1 split",)
    ]


@pytest.mark.broad
def test_bars_that_the_vendor_no_longer_serves_are_converted_to_the_new_scale(database: Database) -> None:
    before = raw(4.0)
    exchange = MemoryExchange(before)
    refresh(database, WATCHED, exchange, BEFORE)
    after = adjusted(before, 4.0)
    exchange.bars = after.filter((pl.col("ts") >= utc("2026-11-20 00:00")) | (pl.col("symbol") == "MSFT"))
    timeframes = [each for each in ORDER if each != D1]
    refresh(database, WATCHED, exchange, AFTER, timeframes=timeframes)
    found = tables_of(database)
    assert found[OHLC].filter(symbol="AAPL", timeframe="5m")["ts"].min() == utc("2026-11-16 14:30")
    assert revisions(database) == [("AAPL", "5m", "split", 0, 0)]
    assert rows_of(database, "SELECT * FROM market.bar_gap WHERE symbol = 'AAPL' AND timeframe = '5m'") == []

    empty(database)
    exchange.bars = after
    refresh(database, WATCHED, exchange, BEFORE, timeframes=timeframes)
    refresh(database, WATCHED, exchange, AFTER, timeframes=timeframes)
    for asset, rows in tables_of(database).items():
        frames = pl.col("timeframe") != "1d"
        assert_frame_equal(found[asset].filter(frames), rows.filter(frames), check_exact=True)


@pytest.mark.broad
def test_a_partly_re_adjusted_history_fails_until_the_vendor_has_finished(
    database: Database,
) -> None:
    before = raw(2.0)
    exchange = MemoryExchange(before)
    refresh(database, WATCHED, exchange, BEFORE, timeframes=MINUTES)
    stored = tables_of(database)
    half = adjusted(before, 2.0)
    early = pl.col("ts") < utc("2026-11-23 00:00")
    exchange.bars = pl.concat([before.filter(early), half.filter(~early)])
    outcomes = refresh(database, WATCHED, exchange, AFTER, timeframes=MINUTES)
    (sentence,) = outcomes[OHLC, M5].errors.values()
    assert sentence.startswith("the newest bars are re-adjusted for a 2:1 split, but of 546 stored bars only 156")
    assert outcomes[OHLC, M5].done == ["MSFT"]
    state = state_of(database, "AAPL", M5)
    assert (state["failures"], state["last_error"], state["checked_through"]) == (1, sentence, BEFORE)
    found = tables_of(database)
    for asset, rows in found.items():
        assert rows.filter(symbol="AAPL").equals(stored[asset].filter(symbol="AAPL"))
    assert found[OHLC].filter(symbol="MSFT").height == stored[OHLC].filter(symbol="MSFT").height + 3
    assert revisions(database) == []
    assert rows_of(database, "SELECT * FROM market.bar_skipped") == []

    exchange.bars = half
    outcomes = refresh(database, WATCHED, exchange, AFTER + timedelta(minutes=5), timeframes=MINUTES)
    assert outcomes[OHLC, M5].errors == {}
    assert revisions(database) == [("AAPL", "5m", "split", 0, 0)]
    assert state_of(database, "AAPL", M5)["failures"] == 0


@pytest.mark.broad
def test_gaps_of_a_partly_re_adjusted_series_are_not_filled(database: Database) -> None:
    """Their bars would be on the new scale, in a series on the old one."""
    lost = [utc("2026-11-24 16:00"), utc("2026-11-24 16:05")]
    before = raw(7.0)
    exchange = MemoryExchange(before.filter(~pl.col("ts").is_in(lost)))
    refresh(database, WATCHED, exchange, BEFORE, timeframes=MINUTES)
    early = pl.col("ts") < utc("2026-11-23 00:00")
    exchange.bars = pl.concat([before.filter(early), adjusted(before, 7.0).filter(~early)])
    for minutes in (0, 10, 100):
        refresh(database, WATCHED, exchange, AFTER + timedelta(minutes=minutes), timeframes=MINUTES)
        stored = tables_of(database)[OHLC].filter(symbol="AAPL")
        assert not set(lost) & set(stored["ts"])
        assert state_of(database, "AAPL", M5)["failures"] > 0
    assert rows_of(database, "SELECT * FROM market.bar_rejected") == []


@pytest.mark.broad
def test_a_split_is_detected_in_the_answer_for_a_gap(database: Database) -> None:
    """For example on a weekend: no bar closes, so nothing else is requested."""
    before = raw(2.0)
    lost = utc("2026-11-20 16:00")
    exchange = MemoryExchange(before.filter(pl.col("ts") != lost, pl.col("ts") != lost + timedelta(minutes=20)))
    refresh(database, WATCHED, exchange, utc("2026-11-24 20:00"), timeframes=MINUTES)
    refresh(database, WATCHED, exchange, BEFORE, timeframes=MINUTES, symbols=["MSFT"])
    with database.transaction() as transaction:
        transaction.execute(
            "UPDATE market.bar_gap SET next_attempt_at = $1 WHERE status = 'open'", BEFORE + timedelta(minutes=1)
        )
        transaction.execute(
            "UPDATE market.series_state SET checked_through = $1 WHERE asset = 'ohlc' AND symbol = 'AAPL'", BEFORE
        )
    exchange.bars, exchange.asked = adjusted(before, 2.0), []
    outcomes = refresh(database, WATCHED, exchange, BEFORE + timedelta(minutes=1), timeframes=MINUTES)
    assert outcomes[OHLC, M5].refetched == 1
    assert len([each for each in exchange.asked if each.instrument.symbol == "AAPL"]) == 2
    # MSFT has no split, but it lacked the same bars. Its vendor serves them now.
    assert {row[:3] for row in revisions(database)} == {("AAPL", "5m", "split"), ("MSFT", "5m", "late bars")}
    assert rows_of(database, "SELECT count(*) FROM market.bar_gap WHERE symbol = 'AAPL'") == [(0,)]


@pytest.mark.broad
@pytest.mark.parametrize("factor", [100.0, 0.01])
def test_an_overlap_in_another_unit_is_rejected_and_the_stored_bars_stay(database: Database, factor: float) -> None:
    exchange = MemoryExchange(ALL)
    refresh(database, WATCHED, exchange, BEFORE, timeframes=MINUTES)
    before = versions_of(database)
    off = (pl.col("symbol") == "AAPL") & pl.col("ts").is_between(utc("2026-11-24 20:45"), EX_DATE)
    exchange.correct(moved(ALL.filter(off), factor))
    exchange.asked = []
    outcomes = refresh(database, WATCHED, exchange, AFTER, timeframes=MINUTES)
    assert (outcomes[OHLC, M5].rejected, outcomes[OHLC, M5].corrected) == (4, 0)
    assert len(exchange.asked) == 2
    assert before[OHLC] <= versions_of(database)[OHLC]
    assert rows_of(database, "SELECT DISTINCT symbol, reason FROM market.bar_rejected") == [
        ("AAPL", "100 times off the bars around it")
    ]
    assert EX_DATE not in tables_of(database)[OHLC].filter(symbol="AAPL")["ts"]
    assert revisions(database) == []


@pytest.mark.broad
def test_a_dividend_and_a_correction_of_some_bars_do_not_count_as_a_split(database: Database) -> None:
    exchange = MemoryExchange(ALL)
    refresh(database, WATCHED, exchange, BEFORE, timeframes=MINUTES)
    is_apple = pl.col("symbol") == "AAPL"
    changed = ALL.filter(pl.col("timeframe") == "5m", pl.col("ts").is_between(utc("2026-11-24 20:50"), BEFORE))
    exchange.correct(pl.concat([moved(changed.filter(is_apple), 0.995), moved(changed.filter(~is_apple).head(1), 2)]))
    exchange.asked = []
    refresh(database, WATCHED, exchange, AFTER, timeframes=MINUTES)
    assert len(exchange.asked) == 2
    assert [row[:3] for row in revisions(database)] == [("AAPL", "5m", "correction"), ("MSFT", "5m", "correction")]


@pytest.mark.broad
def test_one_halved_bar_is_checked_by_a_complete_fetch_and_stored_as_a_correction(database: Database) -> None:
    """The overlap of the series has only a single bar."""
    times = [utc("2026-11-24 15:00"), utc("2026-11-24 20:50")]
    exchange = MemoryExchange(ALL.filter((pl.col("symbol") == "MSFT") | pl.col("ts").is_in(times) | (pl.col("ts") < utc("2026-11-20 00:00")) | (pl.col("ts") >= EX_DATE)))  # fmt: skip
    refresh(database, WATCHED, exchange, BEFORE, timeframes=MINUTES)
    exchange.correct(moved(exchange.bars.filter(pl.col("symbol") == "AAPL", pl.col("ts") == times[1]), 0.5))
    outcomes = refresh(database, WATCHED, exchange, AFTER, timeframes=MINUTES, symbols=["AAPL"])
    assert outcomes[OHLC, M5].refetched == 1
    assert outcomes[OHLC, M5].errors == {}
    assert [row[:3] for row in revisions(database) if row[2] != "late bars"] == [("AAPL", "5m", "correction")]


@pytest.mark.broad
def test_a_failed_complete_fetch_changes_nothing_and_is_repeated_by_the_next_refresh(
    database: Database,
) -> None:
    before = raw(7.0)
    exchange = MemoryExchange(before)
    refresh(database, WATCHED, exchange, BEFORE, timeframes=MINUTES)
    stored = tables_of(database)[OHLC].filter(symbol="AAPL")
    exchange.bars, exchange.asked = adjusted(before, 7.0), []

    class _FailsTheSecondTime(MemoryExchange):
        async def fetch(self, requests: Sequence[BarRequest]) -> AsyncIterator[FetchBatch]:
            if self.asked:
                self.failing = {"AAPL": "out of order"}
            async for batch in super().fetch(requests):
                yield batch

    breaking = _FailsTheSecondTime(exchange.bars)
    # A bar that cannot be true, one before the open, and one with a wick: all come again with the whole history.
    first, third = (exchange.bars.filter(symbol="AAPL", timeframe="5m", ts=ts) for ts in (EX_DATE, AFTER - STEP))
    breaking.correct(first.with_columns(close=pl.col("high") * 2))
    breaking.correct(first.with_columns(pl.col("ts") - STEP))
    breaking.correct(third.with_columns(high=pl.col("high") * 1.8))
    outcome = refresh(database, WATCHED, breaking, AFTER, timeframes=MINUTES)[OHLC, M5]
    assert outcome.errors == {"AAPL": "out of order"}
    assert (outcome.rejected, outcome.skipped, outcome.flagged) == (0, 0, 0)
    for table in ("bar_rejected", "bar_skipped", "bar_flag"):
        assert rows_of(database, f"SELECT * FROM market.{table}") == []
    assert state_of(database, "AAPL", M5)["checked_through"] == BEFORE
    assert tables_of(database)[OHLC].filter(symbol="AAPL").equals(stored)
    refresh(database, WATCHED, exchange, AFTER + timedelta(minutes=5), timeframes=MINUTES)
    assert revisions(database) == [("AAPL", "5m", "split", 0, 0)]


def test_a_newer_file_on_another_scale_rescales_the_stored_bars(database: Database) -> None:
    sync(database, watch({"AAPL": "XNYS"}, provider="file"), AFTER)
    bars = history("AAPL", 1).filter(pl.col("timeframe") == "1d", pl.col("ts") < BEFORE)
    store_file(database, moved(bars.head(60), 7.0), "old.csv", AFTER)
    (summary,) = store_file(database, bars.tail(40), "new.csv", AFTER)
    overlap = 40 - (bars.height - 60)
    assert (summary.read, summary.split) == (40, "7:1")
    assert (summary.stored, summary.corrected, summary.equal) == (40, overlap, 0)
    assert rows_of(database, "SELECT kind, bars_corrected FROM market.bar_revision") == [("split", 60)]
    assert rows_of(database, "SELECT * FROM market.bar_flag") == []
    stored = tables_of(database)[OHLC]
    assert stored["ts"].to_list() == bars["ts"].to_list()
    assert stored["close"].to_list() == pytest.approx(bars["close"].to_list(), rel=1e-12)


@pytest.mark.parametrize(
    ("factor", "outcome"),
    [
        (100.0, {"rejected": {"100 times off the bars around it": 1}}),
        (4.0, {"skipped": {"jump not confirmed by a next bar yet": 1}}),
        (1.6, {"flagged": 1}),
    ],
)
def test_a_file_that_continues_another_one_is_checked_against_the_stored_bars(
    database: Database, factor: float, outcome: dict[str, object]
) -> None:
    sync(database, watch({"AAPL": "XNYS"}, provider="file"), AFTER)
    bars = bars_on("XNYS", "AAPL", M5, MONDAY, FRIDAY, 1).filter(pl.col("ts") < AFTER)
    store_file(database, bars.head(60), "old.csv", AFTER)
    (summary,) = store_file(database, moved(bars[60:61], factor), "new.csv", AFTER)
    assert {name: getattr(summary, name) for name in outcome} == outcome


# --- a split that is first seen in older bars -------------------------------------------------------------------------

DEEPER = watch({"AAPL": "XNYS", "MSFT": "XNYS"}, m5_days=40, d1_days=130)
# The morning of the split. No bar has closed since the evening before.
MORNING = utc("2026-11-25 13:00")
DEEP = pl.concat(
    bars_on("XNYS", symbol, M5, date(2026, 10, 1), FRIDAY, seed) for seed, symbol in enumerate(("AAPL", "MSFT"))
)


def older_of(database: Database, symbol: str) -> tuple[object, ...]:
    """The first 5m bar of a symbol, how far back its bars were requested, and whether older bars are due."""
    ((first, asked, is_due),) = rows_of(
        database,
        """
        SELECT s.first_ts, s.asked_from, h.due_at IS NOT NULL
        FROM market.series_state s JOIN market.older_history h USING (symbol, timeframe)
        WHERE s.asset = 'ohlc' AND s.symbol = $1 AND s.timeframe = '5m'
        """,
        symbol,
    )
    return first, asked, is_due


@pytest.mark.broad
def test_a_split_first_seen_in_older_bars_is_detected_and_the_older_bars_are_stored(database: Database) -> None:
    before = raw(4.0, DEEP)
    exchange = MemoryExchange(before)
    refresh(database, WATCHED, exchange, BEFORE, timeframes=MINUTES)
    exchange.bars, exchange.asked = adjusted(before, 4.0), []
    outcome = refresh(database, DEEPER, exchange, MORNING, timeframes=MINUTES)[OHLC, M5]
    assert [each.instrument.symbol for each in exchange.asked] == ["AAPL", "MSFT", "AAPL"]
    assert outcome.refetched == 1
    assert outcome.errors == {}
    expected = DEEP.filter(pl.col("ts") >= utc("2026-10-16 00:00"), pl.col("ts") < BEFORE).sort("symbol", "ts")
    found = tables_of(database)[OHLC].select(expected.columns)
    assert_frame_equal(found, expected, rel_tol=1e-12)
    assert [row[:3] for row in revisions(database)] == [("MSFT", "5m", "late bars"), ("AAPL", "5m", "split")]
    for symbol in ("AAPL", "MSFT"):
        assert older_of(database, symbol) == (utc("2026-10-16 13:30"), utc("2026-10-16 00:00"), False)
    exchange.asked = []
    refresh(database, DEEPER, exchange, MORNING + timedelta(minutes=5), timeframes=MINUTES)
    assert exchange.asked == []


@pytest.mark.broad
def test_a_split_in_the_newest_bars_is_fetched_once_in_full_also_when_older_bars_are_wanted(database: Database) -> None:
    before = raw(4.0, DEEP)
    exchange = MemoryExchange(before)
    refresh(database, WATCHED, exchange, BEFORE, timeframes=MINUTES)
    exchange.bars, exchange.asked = adjusted(before, 4.0), []
    outcome = refresh(database, DEEPER, exchange, AFTER, timeframes=MINUTES)[OHLC, M5]
    assert (outcome.refetched, outcome.errors) == (1, {})
    assert [row[:3] for row in revisions(database)] == [("AAPL", "5m", "split"), ("MSFT", "5m", "late bars")]


@pytest.mark.broad
def test_older_bars_of_a_partly_re_adjusted_history_arrive_when_the_vendor_has_finished(
    database: Database,
) -> None:
    before = raw(4.0, DEEP)
    exchange = MemoryExchange(before)
    refresh(database, WATCHED, exchange, BEFORE, timeframes=MINUTES)
    stored, wanted = tables_of(database)[OHLC], older_of(database, "AAPL")
    is_left = pl.col("ts").is_between(utc("2026-11-17 00:00"), utc("2026-11-24 00:00"))
    exchange.bars = pl.concat([before.filter(is_left), adjusted(before, 4.0).filter(~is_left)])
    outcome = refresh(database, DEEPER, exchange, MORNING, timeframes=MINUTES)[OHLC, M5]
    assert list(outcome.errors) == ["AAPL"]
    found = tables_of(database)[OHLC].filter(symbol="AAPL")
    assert_frame_equal(found, stored.filter(symbol="AAPL"), check_exact=True)
    assert older_of(database, "AAPL") == (*wanted[:2], True)
    assert older_of(database, "MSFT") == (utc("2026-10-16 13:30"), utc("2026-10-16 00:00"), False)
    exchange.bars = adjusted(before, 4.0)
    refresh(database, DEEPER, exchange, MORNING + timedelta(hours=1), timeframes=MINUTES)
    expected = DEEP.filter(pl.col("ts") >= utc("2026-10-16 00:00"), pl.col("ts") < BEFORE).sort("symbol", "ts")
    assert_frame_equal(tables_of(database)[OHLC].select(expected.columns), expected, rel_tol=1e-12)
    assert older_of(database, "AAPL") == (utc("2026-10-16 13:30"), utc("2026-10-16 00:00"), False)


def test_older_bars_that_cannot_be_stored_fail_only_their_own_series(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = MemoryExchange(DEEP)
    refresh(database, WATCHED, exchange, BEFORE, timeframes=MINUTES)
    begin = older_history.begin

    def refuse_microsoft(transaction: Transaction, timeframe: Timeframe, asked: pl.DataFrame, *more: datetime, is_anew: bool) -> None:  # fmt: skip
        begin(transaction, timeframe, asked, *more, is_anew=is_anew)
        if "MSFT" in asked["symbol"]:
            raise ValueError("not this one")

    monkeypatch.setattr(older_history, "begin", refuse_microsoft)
    outcome = refresh(database, DEEPER, exchange, MORNING, timeframes=MINUTES)[OHLC, M5]
    assert list(outcome.errors) == ["MSFT"]
    assert older_of(database, "AAPL") == (utc("2026-10-16 13:30"), utc("2026-10-16 00:00"), False)
    assert older_of(database, "MSFT")[2] is True
