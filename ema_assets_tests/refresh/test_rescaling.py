"""Series whose scale changes by any factor: they are fetched again or rescaled, and no false trade appears."""

from datetime import date, datetime, timedelta
from functools import partial

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ema_assets.market.outliers import SHIFT_BARS
from ema_assets.model.asset_names import OHLC
from ema_assets.model.schemas import ACTION_SCHEMA
from ema_assets.operations.ingest import store_file
from ema_assets.operations.sync_watchlist import sync
from ema_assets.store import action_facts
from ema_assets.store.database import Database
from ema_assets_tests.conftest import empty, heavy, mostly_broad
from ema_assets_tests.refresh.exchange import (
    MemoryExchange,
    bars_on,
    moved,
    refresh,
    rows_of,
    tables_of,
    utc,
    watch,
)
from ema_assets_tests.timeframes import D1, M5

WATCHED = watch({"GE": "XNYS", "MSFT": "XNYS"}, m5_days=12, d1_days=130)
FIRST_5M, FIRST_1D, LAST = date(2026, 11, 16), date(2026, 8, 3), date(2026, 11, 30)
EVENING, OPEN = utc("2026-11-24 21:00"), utc("2026-11-25 14:30")
DAYS, MINUTES = (D1,), (M5,)
PRICES = ["open", "high", "low", "close"]


def cents(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.with_columns(pl.col(PRICES).round(2))


def days(symbol: str, seed: int) -> pl.DataFrame:
    return moved(bars_on("XNYS", symbol, D1, FIRST_1D, LAST, seed), 1.7)


def minutes(symbol: str, seed: int) -> pl.DataFrame:
    return bars_on("XNYS", symbol, M5, FIRST_5M, LAST, seed)


def scaled(bars: pl.DataFrame, factor: float, until: datetime = OPEN, symbol: str = "GE") -> pl.DataFrame:
    """`bars` as served by a vendor that divides the prices of bars before `until` by `factor`."""
    old = (pl.col("symbol") == symbol) & (pl.col("ts") < until)
    return bars.with_columns(pl.when(old).then(pl.col(name) / factor).otherwise(name).alias(name) for name in PRICES)


def revisions(database: Database) -> list[tuple[object, ...]]:
    return rows_of(database, "SELECT symbol, timeframe, kind, detail FROM market.bar_revision ORDER BY id")


def closes(database: Database, symbol: str = "GE") -> pl.DataFrame:
    return tables_of(database)[OHLC].filter(symbol=symbol).select("timeframe", "ts", "close")


FACTORS = [(1.253, "1253:1000"), (1.324, "1324:1000"), (1.05, "21:20"), (1.0046, "factor 1.0046")]


@pytest.mark.broad
@pytest.mark.parametrize(("factor", "name"), FACTORS, ids=[name for _, name in FACTORS])
def test_a_spin_off_is_fetched_once_in_full_and_ends_as_one_computation(
    database: Database, factor: float, name: str
) -> None:
    before = cents(scaled(pl.concat([days("GE", 1), days("MSFT", 2)]), 1 / factor))
    exchange = MemoryExchange(before)
    refresh(database, WATCHED, exchange, EVENING, timeframes=DAYS)
    exchange.bars = cents(scaled(before, factor))
    evening = EVENING + timedelta(days=1)
    outcomes = refresh(database, WATCHED, exchange, evening, timeframes=DAYS)
    assert outcomes[OHLC, D1].refetched == 1
    assert revisions(database) == [("GE", "1d", "rescaled", f"the vendor re-adjusted history by {name}")]
    found = tables_of(database)
    refresh(database, WATCHED, exchange, evening + timedelta(minutes=1), timeframes=DAYS)
    assert len(revisions(database)) == 1

    empty(database)
    refresh(database, WATCHED, exchange, evening, timeframes=DAYS)
    for asset, rows in tables_of(database).items():
        assert_frame_equal(found[asset], rows, check_exact=True)


@pytest.mark.broad
def test_a_re_adjustment_after_the_first_new_bar_is_detected_by_a_refresh_of_everything(database: Database) -> None:
    """The first bar after the open was stored beside a history on the old scale."""
    before = scaled(minutes("GE", 1), 1 / 1.253)
    exchange = MemoryExchange(before)
    only = watch({"GE": "XNYS"}, m5_days=12)
    refresh(database, only, exchange, OPEN + timedelta(minutes=5), timeframes=MINUTES)
    assert revisions(database) == []
    exchange.bars, exchange.asked = minutes("GE", 1), []
    refresh(database, only, exchange, OPEN + timedelta(minutes=10), timeframes=MINUTES, everything=True)
    assert closes(database)["close"].to_list() == pytest.approx(
        minutes("GE", 1).filter(pl.col("ts") < OPEN + timedelta(minutes=10))["close"].to_list(), rel=1e-12
    )
    assert [row[2] for row in revisions(database)] == ["rescaled"]


def test_a_re_adjustment_so_late_that_one_old_bar_is_served_again_is_detected(database: Database) -> None:
    """The other bars that are served again traded after the split, so they are the same as before."""
    raw = scaled(days("GE", 1), 1 / 7)
    exchange = MemoryExchange(raw)
    only = watch({"GE": "XNYS"}, d1_days=130)
    refresh(database, only, exchange, utc("2026-11-30 22:00"), timeframes=DAYS)
    exchange.bars = days("GE", 1)
    refresh(database, only, exchange, utc("2026-12-01 22:00"), timeframes=DAYS)
    assert closes(database)["close"].to_list() == days("GE", 1)["close"].to_list()
    assert [row[2] for row in revisions(database)] == ["split"]


# --- no stored bar in the answer --------------------------------------------------------------------------------------


def quiet(bars: pl.DataFrame) -> pl.DataFrame:
    """`bars` without the last hour of the 24th, so that a request on the 25th covers no stored bar."""
    return bars.filter(~pl.col("ts").is_between(utc("2026-11-24 20:00"), utc("2026-11-24 21:00"), closed="left"))


def stepped(ratio: float) -> pl.DataFrame:
    """5m bars that open on the 25th at the last close divided by `ratio`."""
    bars = quiet(minutes("GE", 1))
    is_new = pl.col("ts") >= OPEN
    last = bars.filter(~is_new)["close"][-1]
    return pl.concat([bars.filter(~is_new), moved(bars.filter(is_new), last / bars.filter(is_new)["open"][0] / ratio)])


@pytest.mark.broad
@pytest.mark.parametrize("ratio", [2.0, 7.0, 0.1])
def test_an_overnight_split_after_a_quiet_last_hour_is_detected(database: Database, ratio: float) -> None:
    raw = stepped(ratio)
    exchange = MemoryExchange(raw)
    only = watch({"GE": "XNYS"}, m5_days=12)
    refresh(database, only, exchange, EVENING, timeframes=MINUTES)
    exchange.bars = scaled(raw, ratio)
    outcomes = refresh(database, only, exchange, OPEN + timedelta(minutes=5), timeframes=MINUTES)
    assert outcomes[OHLC, M5].refetched == 1
    assert [row[2] for row in revisions(database)] == ["split"]
    expected = scaled(raw, ratio).filter(pl.col("ts") < OPEN + timedelta(minutes=5))
    assert closes(database)["close"].to_list() == expected["close"].to_list()
    assert rows_of(database, "SELECT * FROM market.bar_flag") == []


@pytest.mark.parametrize("ratio", mostly_broad([7.0, 2.0]))
def test_a_real_move_as_large_as_a_split_is_stored_at_once_after_one_complete_fetch(
    database: Database, ratio: float
) -> None:
    exchange = MemoryExchange(stepped(ratio))
    only = watch({"GE": "XNYS"}, m5_days=12)
    refresh(database, only, exchange, EVENING, timeframes=MINUTES)
    outcomes = refresh(database, only, exchange, OPEN + timedelta(minutes=5), timeframes=MINUTES)
    assert (outcomes[OHLC, M5].refetched, outcomes[OHLC, M5].errors) == (1, {})
    assert closes(database)["ts"].max() == OPEN
    assert revisions(database) == []
    assert rows_of(database, "SELECT symbol, ts, reason FROM market.bar_flag") == [("GE", OPEN, "jump")]
    exchange.asked = []
    outcomes = refresh(database, only, exchange, OPEN + timedelta(minutes=10), timeframes=MINUTES)
    assert (outcomes[OHLC, M5].refetched, len(exchange.asked)) == (0, 1)


# --- corporate actions ------------------------------------------------------------------------------------------------


def fact(ratio: float, kind: str, at: datetime = OPEN) -> pl.DataFrame:
    return pl.DataFrame([("GE", kind, at, ratio, None, None)], schema=ACTION_SCHEMA, orient="row")


@pytest.mark.broad
@pytest.mark.parametrize("hole", [utc("2026-11-24 20:55"), utc("2026-11-24 21:00")], ids=["one bar", "no bar"])
def test_a_known_spin_off_confirms_a_re_adjustment_when_at_most_one_bar_overlaps(
    database: Database, hole: datetime
) -> None:
    is_quiet = pl.col("ts").is_between(utc("2026-11-24 19:00"), hole, closed="left")
    raw = scaled(minutes("GE", 1), 1 / 1.253).filter(~is_quiet)
    exchange = MemoryExchange(raw)
    only = watch({"GE": "XNYS"}, m5_days=12)
    refresh(database, only, exchange, EVENING, timeframes=MINUTES)
    exchange.bars, exchange.actions = minutes("GE", 1).filter(~is_quiet), fact(1.253, "spin-off")
    outcomes = refresh(database, only, exchange, OPEN + timedelta(minutes=5), timeframes=MINUTES)
    assert outcomes[OHLC, M5].refetched == 1
    assert revisions(database) == [("GE", "5m", "spin-off", "the vendor re-adjusted history for a 1253:1000 spin-off")]
    assert rows_of(database, "SELECT symbol, kind, effective_at, ratio, source FROM market.corporate_action") == [
        ("GE", "spin-off", OPEN, 1.253, "memory")
    ]
    outcomes = refresh(database, only, exchange, OPEN + timedelta(minutes=10), timeframes=MINUTES)
    assert outcomes[OHLC, M5].refetched == 0


@pytest.mark.parametrize("told", mostly_broad([fact(7.0, "split"), None]), ids=["known", "unknown"])
def test_a_known_split_in_a_pause_that_is_longer_than_the_vendor_reaches_back_leaves_no_cliff(
    database: Database, told: pl.DataFrame | None
) -> None:
    """No bar is served that was stored before, so only the fact tells the step of the price from a crash."""
    raw, now = stepped(7.0), OPEN + timedelta(minutes=5)
    exchange = MemoryExchange(raw)
    only = watch({"GE": "XNYS"}, m5_days=12)
    refresh(database, only, exchange, utc("2026-11-20 21:00"), timeframes=MINUTES)
    before = closes(database)["close"].to_list()
    served = scaled(raw, 7.0).filter(pl.col("ts") >= OPEN)
    exchange.bars, exchange.actions = served, exchange.actions if told is None else told
    refresh(database, only, exchange, now, timeframes=MINUTES)
    ratio, first = (1.0 if told is None else 7.0), served["close"][0]
    assert closes(database)["close"].to_list() == pytest.approx([*(each / ratio for each in before), first])
    is_flagged = told is None
    assert rows_of(database, "SELECT ts, reason FROM market.bar_flag") == [(OPEN, "jump")] * is_flagged
    assert [row[2] for row in revisions(database)] == ["split"] * (not is_flagged)


@pytest.mark.broad
def test_a_spin_off_without_a_ratio_gets_the_ratio_that_the_bars_show(database: Database) -> None:
    """Alpaca reports spin-offs in this way: with the new company, but not with its value."""
    told = pl.DataFrame([("GE", "spin-off", OPEN, None, None, "GEV")], schema=ACTION_SCHEMA, orient="row")
    elsewhere = told.with_columns(effective_at=OPEN - timedelta(days=30))
    with database.transaction() as transaction:
        action_facts.record(transaction, pl.concat([elsewhere, told]), "alpaca")
    raw = cents(days("GE", 1))
    exchange = MemoryExchange(raw)
    only = watch({"GE": "XNYS"}, d1_days=130)
    refresh(database, only, exchange, EVENING, timeframes=DAYS)
    exchange.bars = scaled(raw, 1.253)
    refresh(database, only, exchange, EVENING + timedelta(days=1), timeframes=DAYS)
    assert revisions(database) == [("GE", "1d", "spin-off", "the vendor re-adjusted history for a 1253:1000 spin-off")]

    def ratios() -> list[tuple[object, ...]]:
        return rows_of(database, "SELECT effective_at, ratio, value FROM market.corporate_action ORDER BY 1")

    measured = [(OPEN - timedelta(days=30), None, "GEV"), (OPEN, pytest.approx(1.253), "GEV")]
    assert ratios() == measured
    # The vendor reports the same spin-off in the next night.
    with database.transaction() as transaction:
        assert action_facts.record(transaction, told, "alpaca") == 0
    assert ratios() == measured


def test_a_corporate_action_is_stored_even_when_the_bars_of_its_answer_are_not(database: Database) -> None:
    before = scaled(minutes("GE", 1), 1 / 2)
    exchange = MemoryExchange(before)
    only = watch({"GE": "XNYS"}, m5_days=12)
    refresh(database, only, exchange, EVENING, timeframes=MINUTES)
    half = pl.col("ts") < utc("2026-11-20 00:00")
    exchange.bars = pl.concat([before.filter(half), minutes("GE", 1).filter(~half)])
    exchange.actions = fact(2.0, "split")
    outcomes = refresh(database, only, exchange, OPEN + timedelta(minutes=5), timeframes=MINUTES)
    assert list(outcomes[OHLC, M5].errors) == ["GE"]
    assert rows_of(database, "SELECT symbol, ratio FROM market.corporate_action") == [("GE", 2.0)]


@pytest.mark.broad
def test_a_corporate_action_determines_the_ratio_of_a_level_shift(database: Database) -> None:
    """Prices fall on the day of this reverse split, so the step in the bars is smaller than its ratio."""
    now = utc("2026-11-28 00:00")
    sync(database, watch({"GE": "XNYS"}, provider="file"), now)
    bars = days("GE", 3)[:17]
    with database.transaction() as transaction:
        action_facts.record(transaction, fact(1 / 190, "split", bars["ts"][12]), "actions.csv")
    new = moved(bars[12:], 104.0)
    store_file(database, bars[:12], "before.csv", now)
    (summary,) = store_file(database, new, "after.csv", now)
    assert summary.split == "1:190"
    expected = [*moved(bars[:12], 190.0)["close"], *new["close"]]
    assert closes(database)["close"].to_list() == pytest.approx(expected, rel=1e-9)


# --- level shifts -----------------------------------------------------------------------------------------------------


def each_five_minutes(database: Database, exchange: MemoryExchange, bars: int) -> None:
    only = watch({"GE": "XNYS"}, m5_days=12)
    for number in range(1, bars + 1):
        refresh(database, only, exchange, OPEN + timedelta(minutes=5 * number), timeframes=MINUTES)


@pytest.mark.broad
@pytest.mark.parametrize("factor", [100.0, 0.01, 1 / 190])
def test_a_vendor_that_converts_all_history_to_another_unit_is_followed_at_once(
    database: Database, factor: float
) -> None:
    exchange = MemoryExchange(minutes("GE", 1))
    only = watch({"GE": "XNYS"}, m5_days=12)
    refresh(database, only, exchange, EVENING, timeframes=MINUTES)
    exchange.bars = moved(minutes("GE", 1), factor)
    outcomes = refresh(database, only, exchange, OPEN + timedelta(minutes=5), timeframes=MINUTES)
    assert (outcomes[OHLC, M5].refetched, outcomes[OHLC, M5].rejected) == (1, 0)
    expected = moved(minutes("GE", 1), factor).filter(pl.col("ts") <= OPEN)
    assert closes(database)["close"].to_list() == pytest.approx(expected["close"].to_list(), rel=1e-12)
    assert [row[2] for row in revisions(database)] == ["rescaled"]


@pytest.mark.broad
def test_a_new_level_of_new_bars_only_is_accepted_when_enough_bars_confirm_it(
    database: Database,
) -> None:
    """The vendor changes from pence to pounds, and still serves the old bars in pence."""
    whole = minutes("GE", 1)
    is_new = pl.col("ts") >= OPEN
    exchange = MemoryExchange(pl.concat([whole.filter(~is_new), moved(whole.filter(is_new), 0.01)]))
    only = watch({"GE": "XNYS"}, m5_days=12)
    refresh(database, only, exchange, EVENING, timeframes=MINUTES)
    each_five_minutes(database, exchange, SHIFT_BARS - 1)
    assert closes(database).filter(pl.col("ts") >= OPEN).is_empty()
    assert revisions(database) == []
    assert rows_of(database, "SELECT count(*) FROM market.bar_rejected") == [(SHIFT_BARS - 1,)]

    each_five_minutes(database, exchange, SHIFT_BARS + 3)
    pounds = moved(whole, 0.01).filter(pl.col("ts") < OPEN + timedelta(minutes=5 * (SHIFT_BARS + 3)))
    assert closes(database)["close"].to_list() == pytest.approx(pounds["close"].to_list(), rel=1e-12)
    assert revisions(database) == [
        (
            "GE",
            "5m",
            "level shift",
            "the price level changed by 100:1 for good; the bars before it were brought to it",
        )
    ]
    stored = tables_of(database)[OHLC]
    assert stored["volume"].to_list() == whole.filter(pl.col("ts").is_in(stored["ts"].implode()))["volume"].to_list()
    found = tables_of(database)
    empty(database)
    refresh(database, only, exchange, OPEN + timedelta(minutes=5 * (SHIFT_BARS + 3)), timeframes=MINUTES)
    for asset, rows in tables_of(database).items():
        assert_frame_equal(found[asset], rows, check_exact=True)


@heavy()
@given(
    factor=st.sampled_from([0.01, 100.0, 1 / 190, 104.0]),
    before=st.integers(10, 60),
    portions=st.lists(st.integers(1, 5), min_size=1, max_size=8),
)
def test_a_series_from_files_accepts_a_new_level_however_its_bars_are_split_into_files(
    module_database: Database, factor: float, before: int, portions: list[int]
) -> None:
    empty(module_database)
    now = utc("2026-11-28 00:00")
    sync(module_database, watch({"GE": "XNYS"}, provider="file"), now)
    whole = days("GE", 3).filter(pl.col("ts") < now)
    after = whole[before : before + sum(portions)]
    levelled = pl.concat([whole[:before], moved(after, factor)])
    store = partial(store_file, module_database, now=now)
    store(levelled[:before], "old.csv")
    at = before
    for portion in portions:
        store(levelled[at : at + portion], "new.csv")
        at += portion
    found = closes(module_database)
    if sum(portions) < SHIFT_BARS:
        assert found.height == before
        assert revisions(module_database) == []
        return
    # The bars that were rejected before the confirmation are stored as well.
    assert found["ts"].to_list() == levelled["ts"].to_list()
    moves = found.select((pl.col("close") / pl.col("close").shift(1)).log().abs().max()).item()
    assert moves < 0.2, "no cliff"
    assert [row[2] for row in revisions(module_database)] == ["level shift"]


def test_a_real_reverse_split_in_a_file_is_a_level_shift_and_its_bars_are_stored(database: Database) -> None:
    now = utc("2026-11-28 00:00")
    sync(database, watch({"GE": "XNYS"}, provider="file"), now)
    bars = days("GE", 3)[:17].with_columns(
        *(pl.Series(name, [0.024] * 12 + [2.51, 1.96, 1.56, 1.43, 1.40]) for name in PRICES),
        pl.Series("volume", [90e6] * 12 + [2.7e6, 3.6e6, 2.7e6, 4.5e6, 4.3e6]),
    )
    store_file(database, bars[:12], "before.csv", now)
    (summary,) = store_file(database, bars[12:], "after.csv", now)
    assert (summary.stored, summary.rejected, summary.split) == (5, {}, "1:100")
    stored = tables_of(database)[OHLC]
    assert stored["close"].to_list() == pytest.approx([2.4] * 12 + [2.51, 1.96, 1.56, 1.43, 1.40])
    # Shares were merged, so the old volume is divided.
    assert stored["volume"][0] == pytest.approx(0.9e6)


# --- a crash ----------------------------------------------------------------------------------------------------------


def crashed(volume: float) -> pl.DataFrame:
    """Daily bars that end on the 25th with a fall of 89 %."""
    is_last = pl.col("ts") == OPEN
    values = {"open": 73.5, "high": 123.0, "low": 55.0, "close": 102.25, "volume": volume}
    before = days("GE", 1).filter(pl.col("ts") <= OPEN)
    before = moved(before, 952.5 / before.filter(~is_last)["close"][-1])
    return before.with_columns(
        pl.when(is_last).then(value).otherwise(name).alias(name) for name, value in values.items()
    )


@pytest.mark.broad
def test_a_crash_with_ninety_times_the_volume_is_stored_at_once_and_flagged(database: Database) -> None:
    exchange = MemoryExchange(crashed(90 * 2500.0))
    only = watch({"GE": "XNYS"}, d1_days=130)
    refresh(database, only, exchange, EVENING, timeframes=DAYS)
    outcomes = refresh(database, only, exchange, EVENING + timedelta(days=1), timeframes=DAYS)
    assert closes(database)["close"][-1] == 102.25
    assert outcomes[OHLC, D1].skipped == 0
    flags = rows_of(database, "SELECT symbol, ts, reason FROM market.bar_flag ORDER BY reason")
    assert flags == [("GE", OPEN, "jump"), ("GE", OPEN, "wick")]


@pytest.mark.broad
def test_a_crash_that_five_minute_bars_confirm_is_stored_at_once(database: Database) -> None:
    daily = crashed(2500.0)
    intraday = minutes("GE", 1).filter(pl.col("ts") < utc("2026-11-26 00:00"))
    last = intraday.filter(pl.col("ts") < utc("2026-11-25 21:00"))["close"][-1]
    exchange = MemoryExchange(daily)
    only = watch({"GE": "XNYS"}, m5_days=12, d1_days=130)
    refresh(database, only, exchange, EVENING, timeframes=DAYS)
    outcomes = refresh(database, only, exchange, EVENING + timedelta(days=1), timeframes=DAYS)
    assert (outcomes[OHLC, D1].skipped, closes(database)["close"][-1]) == (1, 952.5), "nothing confirms it"

    empty(database)
    exchange.bars = pl.concat([daily, moved(intraday, 102.25 / last)])
    refresh(database, only, exchange, EVENING, timeframes=[M5, D1])
    outcomes = refresh(database, only, exchange, EVENING + timedelta(days=1), timeframes=[M5, D1])
    assert outcomes[OHLC, D1].skipped == 0
    assert closes(database).filter(timeframe="1d")["close"][-1] == 102.25
