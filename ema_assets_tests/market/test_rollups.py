"""Tests of rolled-up bars, among them a comparison with a walk through the calendar."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ema_assets.market import rollups
from ema_assets.market.calendars import bar_grid
from ema_assets.market.exchanges import exchange_sessions
from ema_assets.market.rollups import buckets_of, dirty_buckets, roll_up, without_owned
from ema_assets.model.schemas import BAR_SCHEMA, UTC_TIME
from ema_assets.model.timeframes import Timeframe
from ema_assets_tests.market import reference
from ema_assets_tests.timeframes import D1, H1, H4, M5, M15, MO1, ROLLED_UP, W1

# A half day after a holiday, both changes of daylight saving time, a lunch break, a market that never closes.
TIMES = {
    "half day": exchange_sessions("XNYS", date(2026, 11, 25), date(2026, 11, 30)),
    "spring forward": exchange_sessions("XNYS", date(2026, 3, 6), date(2026, 3, 9)),
    "fall back": exchange_sessions("XNYS", date(2026, 10, 30), date(2026, 11, 2)),
    "lunch break": exchange_sessions("XHKG", date(2026, 7, 6), date(2026, 7, 7)),
    "24/7": exchange_sessions("24/7", date(2026, 3, 7), date(2026, 3, 8)),
}


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def bars_in(sessions: pl.DataFrame, symbol: str = "AAPL", seed: int = 0, missing: float = 0.0) -> pl.DataFrame:
    """Return a sound 5m bar for every slot of the grid, except for a share of `missing` ones."""
    grid = bar_grid(sessions, M5)
    random = np.random.default_rng(seed)
    grid = grid.filter(pl.Series(random.random(grid.height) >= missing))
    prices = 100 * np.exp(np.cumsum(random.normal(0, 0.01, (grid.height, 4)), axis=0))
    return grid.select(
        pl.lit(symbol).alias("symbol"),
        pl.lit("5m").alias("timeframe"),
        "ts",
        pl.Series("open", prices[:, 0]),
        pl.Series("high", prices.max(axis=1, initial=0) * 1.01),
        pl.Series("low", prices.min(axis=1, initial=1e9) * 0.99),
        pl.Series("close", prices[:, 3]),
        pl.Series("volume", random.integers(0, 1000, grid.height).astype(float)),
        "calendar",
    )


def through(moment: datetime, *symbols: str) -> pl.DataFrame:
    schema = {"symbol": pl.String(), "complete_through": UTC_TIME}
    return pl.DataFrame([(symbol, moment) for symbol in symbols], schema=schema, orient="row")


@given(
    st.sampled_from(sorted(TIMES)),
    st.sampled_from(ROLLED_UP),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.1, 0.7, 0.97]),
    st.data(),
)
def test_rolled_up_bars_equal_a_walk_through_the_calendar(
    when: str, timeframe: Timeframe, seed: int, missing: float, data: st.DataObject
) -> None:
    sessions = TIMES[when]
    moments = sorted({*bar_grid(sessions, M5)["ts_end"]})
    complete = {symbol: data.draw(st.sampled_from(moments), symbol) for symbol in ("AAPL", "MSFT")}
    bars = {symbol: bars_in(sessions, symbol, seed + n, missing) for n, symbol in enumerate(complete)}
    closed, still_open = roll_up(
        pl.concat(bars.values()),
        timeframe,
        sessions,
        pl.concat([through(complete[symbol], symbol) for symbol in complete]),
    )
    assert closed.schema == pl.Schema({**BAR_SCHEMA, "missing_bars": pl.Int16()})
    for symbol, moment in complete.items():
        rows = bars[symbol].rows(named=True)
        expected = reference.rolled_up(rows, sessions, timeframe.duration, moment)
        assert closed.filter(symbol=symbol).drop("symbol", "timeframe").rows() == expected
        waiting = [
            bucket
            for bucket in reference.buckets(sessions, timeframe.duration)
            if bucket[1] > moment and any(bucket[0] <= row["ts"] < bucket[1] for row in rows)
        ]
        assert still_open.filter(symbol=symbol).select("bucket", "bucket_end").rows() == waiting[:1]


@pytest.mark.parametrize("timeframe", ROLLED_UP)
def test_a_bucket_is_bit_identical_whatever_is_rolled_up_with_it(timeframe: Timeframe) -> None:
    """Volumes of crypto are fractions, and a sum of fractions depends on the order of its terms."""
    sessions = exchange_sessions("24/7", date(2026, 11, 24), date(2026, 11, 26))
    known = through(utc("2026-11-28 00:00"), "AAPL", "MSFT")
    symbols = [
        bars_in(sessions, symbol, seed).with_columns(volume=pl.col("close") * 7)
        for seed, symbol in enumerate(("AAPL", "MSFT"))
    ]
    whole, _ = roll_up(pl.concat(symbols), timeframe, sessions, known)
    alone = [roll_up(bars, timeframe, sessions, known)[0] for bars in symbols]
    assert whole.equals(pl.concat(alone))
    for start in whole["ts"][:20]:
        later = pl.col("ts") >= start
        assert roll_up(symbols[0].filter(later), timeframe, sessions, known)[0].equals(alone[0].filter(later))


def test_a_bucket_is_published_at_its_close_and_not_earlier() -> None:
    sessions = TIMES["half day"].head(1)
    bars = bars_in(sessions).head(3)
    end = utc("2026-11-25 14:45")
    closed, still_open = roll_up(bars, M15, sessions, through(end - timedelta(microseconds=1), "AAPL"))
    assert closed.is_empty()
    assert still_open.rows() == [("AAPL", utc("2026-11-25 14:30"), end)]
    closed, still_open = roll_up(bars, M15, sessions, through(end, "AAPL"))
    assert closed["ts"].to_list() == [utc("2026-11-25 14:30")]
    assert still_open.is_empty()


def test_a_bucket_whose_last_bars_are_missing_is_published_once_its_time_is_complete() -> None:
    sessions = TIMES["half day"].head(1)
    one = bars_in(sessions).head(1)
    closed, _ = roll_up(one, H4, sessions, through(utc("2026-11-25 18:30"), "AAPL"))
    assert closed.drop("timeframe", "missing_bars").rows() == one.drop("timeframe", "calendar").rows()
    assert closed["missing_bars"].to_list() == [47]


def test_the_last_bucket_of_a_half_day_closes_with_the_session() -> None:
    friday = TIMES["half day"].filter(session=date(2026, 11, 27))
    closed, still_open = roll_up(bars_in(friday), H4, friday, through(utc("2026-11-27 18:00"), "AAPL"))
    assert closed["ts"].to_list() == [utc("2026-11-27 14:30")]
    assert still_open.is_empty()


def test_a_symbol_whose_bars_were_never_requested_has_only_open_buckets() -> None:
    sessions = TIMES["half day"].head(1)
    closed, still_open = roll_up(bars_in(sessions), H1, sessions, through(utc("2026-11-25 21:00")))
    assert closed.is_empty()
    assert still_open["bucket"].to_list() == [utc("2026-11-25 14:30")]


def test_every_time_is_mapped_to_its_bucket_in_the_order_of_the_input() -> None:
    times = pl.DataFrame(
        {
            "calendar": ["XHKG", "24/7", "XHKG", "XHKG", "XHKG"],
            "ts": [
                utc("2026-07-06 05:00"),
                utc("2026-03-08 23:55"),
                utc("2026-07-06 03:59"),
                utc("2026-07-06 04:30"),
                utc("2026-07-06 08:00"),
            ],
            "note": list("abcde"),
        }
    ).cast({"ts": UTC_TIME})
    found = buckets_of(times, H1, pl.concat([TIMES["lunch break"], TIMES["24/7"]]))
    assert found.select("note", "bucket", "bucket_end").rows() == [
        ("a", utc("2026-07-06 05:00"), utc("2026-07-06 06:00")),
        ("b", utc("2026-03-08 23:00"), utc("2026-03-09 00:00")),
        ("c", utc("2026-07-06 03:30"), utc("2026-07-06 04:00")),
        ("d", None, None),
        ("e", None, None),
    ]


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3, 0.9]), st.sampled_from([M15, H4, D1]))
def test_compiled_rollups_are_bit_identical_to_those_in_python(seed: int, missing: float, timeframe: Timeframe) -> None:
    """Bars are of several calendars, some outside their sessions, with volumes that are fractions or unknown."""
    random = np.random.default_rng(seed)
    sessions = pl.concat(TIMES.values()).unique(["calendar", "session"]).sort("calendar", "session")
    early = TIMES["24/7"].with_columns(calendar=pl.lit("XHKG"))
    bars = pl.concat(
        bars_in(times, symbol, seed, missing)
        for symbol, times in (
            ("A", TIMES["lunch break"]), ("B", early), ("C", TIMES["24/7"]), ("D", TIMES["fall back"]),
        )
    ).with_columns(pl.col("volume") * 0.1)  # fmt: skip
    if seed % 2:
        bars = bars.with_columns(pl.when(pl.Series(random.random(bars.height) < 0.8)).then("volume").alias("volume"))
    complete = through(utc("2026-12-01 00:00"), *"ABCD")
    results = []
    for is_worth_it in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rollups.GATHER, "is_worth_it", lambda _, answer=is_worth_it: answer)
            results.append(roll_up(bars, timeframe, sessions, complete, M5))
    for one, other in zip(*results, strict=True):
        assert_frame_equal(one, other, check_exact=True)
    assert {"A", "C", "D"} >= set(results[0][0]["symbol"])


def test_a_sum_of_volumes_skips_unknown_ones_and_is_null_when_all_are_unknown() -> None:
    bars = bars_in(TIMES["half day"]).head(9).with_columns(
        volume=pl.Series([1.0, None, 2.0, None, None, None, 4.0, 5.0, 6.0])
    )  # fmt: skip
    closed, _ = roll_up(bars, M15, TIMES["half day"], through(utc("2026-12-01 00:00"), "AAPL"))
    assert closed["volume"].to_list() == [3.0, None, 15.0]


@pytest.mark.parametrize("timeframe", ROLLED_UP)
def test_a_changed_bar_makes_its_bucket_dirty(timeframe: Timeframe) -> None:
    changed_from = utc("2026-11-27 17:55")
    (expected,) = (
        bucket
        for bucket in reference.buckets(TIMES["half day"], timeframe.duration)
        if bucket[0] <= changed_from < bucket[1]
    )
    assert dirty_buckets(changes({"AAPL": changed_from}), timeframe, TIMES["half day"]).rows() == [("AAPL", *expected)]


@pytest.mark.parametrize("timeframe", [*ROLLED_UP, W1, MO1], ids=str)
def test_a_bar_on_a_day_missing_from_the_calendar_makes_the_next_bucket_dirty(timeframe: Timeframe) -> None:
    # Bombay traded on a Saturday and not on the Monday after it. The change of symbol B begins within a bucket.
    sessions = exchange_sessions("XBOM", date(2023, 11, 1), date(2024, 4, 10))
    saturday, tuesday = utc("2024-01-20 04:00"), utc("2024-01-23 04:00")
    grid = bar_grid(sessions, timeframe).sort("ts")
    coming = grid.filter(pl.col("ts") >= saturday)
    holding = grid.filter(pl.col("ts") <= tuesday, pl.col("ts_end") > tuesday)
    if timeframe is MO1:
        coming = holding
    expected = [
        ("A", *coming.select("ts", "ts_end").row(0)),
        ("B", *holding.select("ts", "ts_end").row(0)),
        ("C", *coming.select("ts", "ts_end").row(0)),
    ]
    changed = changes({"A": saturday, "B": tuesday, "C": saturday}, "XBOM")
    assert dirty_buckets(changed, timeframe, sessions).rows() == expected


def test_the_next_bucket_has_the_calendar_of_the_symbol() -> None:
    changed = pl.concat([changes({"AAPL": utc("2026-11-26 15:00")}), changes({"BTC": utc("2026-11-26 15:00")}, "24/7")])
    sessions = pl.concat([TIMES["half day"], exchange_sessions("24/7", date(2026, 11, 26), date(2026, 11, 27))])
    assert dirty_buckets(changed, H1, sessions).rows() == [
        ("AAPL", utc("2026-11-27 14:30"), utc("2026-11-27 15:30")),
        ("BTC", utc("2026-11-26 15:00"), utc("2026-11-26 16:00")),
    ]


def test_a_bar_after_the_last_known_session_makes_its_own_time_dirty() -> None:
    moment = utc("2026-12-05 15:00")
    assert dirty_buckets(changes({"AAPL": moment}), H1, TIMES["half day"]).rows() == [("AAPL", moment, moment)]


def test_rolled_up_bars_that_overlap_a_file_span_are_removed_and_others_are_kept() -> None:
    hours = [utc(f"2026-11-25 {hour:02}:00") for hour in range(8, 18)]
    closed = pl.DataFrame({"symbol": ["A"] * 10 + ["B"] * 10, "ts": hours * 2, "close": range(20)})
    spans = [
        ("A", utc("2026-11-25 10:00"), utc("2026-11-25 12:00")),
        ("A", utc("2026-11-25 14:59"), utc("2026-11-25 15:01")),
    ]
    owned = pl.DataFrame(spans, schema={"symbol": pl.String, "first_ts": UTC_TIME, "last_end": UTC_TIME}, orient="row")
    closed = closed.with_columns(pl.col("ts").cast(UTC_TIME))
    assert without_owned(closed, owned, H1)["close"].to_list() == [0, 1, 4, 5, 8, 9, *range(10, 20)]
    assert without_owned(closed, owned.clear(), H1).equals(closed)


def changes(changed_from: dict[str, datetime], calendar: str = "XNYS") -> pl.DataFrame:
    return pl.DataFrame(
        {"symbol": list(changed_from), "calendar": calendar, "changed_from": list(changed_from.values())}
    )
