"""Bars of files that are rolled up to timeframes that nothing else makes."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ema_assets.market import rollups
from ema_assets.market.exchanges import exchange_sessions
from ema_assets.model.errors import StoreUnavailable
from ema_assets.model.schemas import BAR_SCHEMA
from ema_assets.model.special_days import SpecialDays
from ema_assets.model.symbols import Series
from ema_assets.model.timeframes import Timeframe, by_key
from ema_assets.operations import roll_up_files
from ema_assets.operations.ingest import IngestedSeries, store_file
from ema_assets.operations.roll_up_files import targets
from ema_assets.operations.sync_watchlist import sync
from ema_assets.reports import story
from ema_assets.store.database import Database
from ema_assets_tests.conftest import Databases, heavy, mostly_broad
from ema_assets_tests.refresh.exchange import (
    MemoryExchange,
    bars_on,
    by_clock,
    moved,
    refresh,
    rows_of,
    state_of,
    summed_up,
    tables_of,
    utc,
    watch,
)
from ema_assets_tests.timeframes import D1, H1, H4, M1, M5, M15, M30, W1

NOW = utc("2026-11-28 12:00")
WEEK = (date(2026, 11, 23), date(2026, 11, 27))
ALL = (M1, M5, M15, M30, H1, H4, D1, W1)
STOCK = watch({"AAPL": "XNYS"}, provider="file", timeframes=ALL)
COIN = watch({"BTC-USD": "24/7"}, provider="file", timeframes=ALL)


def stored(database: Database, timeframe: Timeframe, *columns: str) -> pl.DataFrame:
    """The stored bars of `timeframe`, with their values or with `columns`, oldest first."""
    names = columns or ("symbol", "ts", "open", "high", "low", "close", "volume")
    with database.transaction() as transaction:
        return transaction.query(
            f"SELECT {', '.join(names)} FROM market.ohlc WHERE timeframe = $1 ORDER BY symbol, ts", timeframe.key
        )


def origins(database: Database, timeframe: Timeframe) -> list[tuple[str, int]]:
    """The names of the sources of `timeframe` bars, with their counts."""
    return rows_of(
        database,
        "SELECT n.name, count(*) FROM market.ohlc o JOIN market.source n ON n.id = o.source_id "
        "WHERE timeframe = $1 GROUP BY 1 ORDER BY 1",
        timeframe.key,
    )


def by_hand(bars: pl.DataFrame, starts: Sequence[datetime]) -> pl.DataFrame:
    """`bars` summed up in buckets that begin at `starts`; each reaches to the next one."""
    buckets = pl.DataFrame({"start": sorted(starts)}).cast({"start": BAR_SCHEMA["ts"]})
    placed = bars.sort("ts").join_asof(buckets, left_on="ts", right_on="start")
    return summed_up(placed, pl.col("start")).sort("symbol", "ts")


def of(summaries: Sequence[IngestedSeries], timeframe: Timeframe) -> IngestedSeries:
    (found,) = (each for each in summaries if each.timeframe == timeframe.key)
    return found


@pytest.mark.parametrize(
    ("source", "made"),
    [
        (M1, (M5, D1)),
        (M5, (D1,)),
        (M15, (M30, H1, H4, D1)),
        (H1, (H4, D1)),
        (H4, (D1,)),
        (D1, ()),
        (by_key("2m"), (M30, H1, H4, D1)),
        (by_key("45m"), (D1,)),
    ],
    ids=str,
)
def test_what_runs_do_not_make_is_rolled_up_from_files(source: Timeframe, made: tuple[Timeframe, ...]) -> None:
    assert targets(reversed(ALL), source) == made


@pytest.mark.broad
def test_a_file_of_1m_gives_every_timeframe(database: Database) -> None:
    sync(database, STOCK, NOW)
    minutes = bars_on("XNYS", "AAPL", M1, *WEEK, missing=0.02)
    summaries = store_file(database, minutes, "minutes.csv", NOW)
    assert [(each.timeframe, each.rolled_up_from) for each in summaries] == [("1m", None), ("5m", "1m"), ("1d", "1m")]
    assert (of(summaries, D1).stored, of(summaries, D1).corrected, of(summaries, D1).equal) == (4, 0, 0)
    refresh(database, STOCK, MemoryExchange(), NOW)
    opens = exchange_sessions("XNYS", *WEEK)["open"].to_list()
    for timeframe in (M5, M15, M30, H1, H4):
        steps = [
            opened + number * timeframe.duration for opened in opens for number in range(390 // timeframe.minutes + 1)
        ]
        expected = by_hand(minutes, steps)
        assert stored(database, timeframe).equals(expected), timeframe
    assert stored(database, D1).equals(by_hand(minutes, opens))
    assert stored(database, W1)["close"].to_list() == minutes["close"].tail(1).to_list()
    (last,) = stored(database, D1, "missing_bars").tail(1)["missing_bars"].to_list()
    half_day = minutes.filter(pl.col("ts") >= opens[-1])
    assert last == 210 - half_day.height


def test_the_story_of_such_a_bar_names_what_it_is_made_of(database: Database) -> None:
    sync(database, STOCK, NOW)
    minutes = bars_on("XNYS", "AAPL", M1, *WEEK)
    store_file(database, minutes.filter(pl.col("ts") != utc("2026-11-25 15:02")), "minutes.csv", NOW)
    with database.transaction() as transaction:
        lines = story.of_bar(transaction, Series("AAPL", M5), utc("2026-11-25 15:00"))
    assert lines[-3].endswith(", rolled up from 1m.")
    assert lines[-2:] == ["1 bar of 1m is missing in it.", "Bars of files are final."]


def test_daily_bars_that_span_a_lunch_break_lack_nothing_in_it(database: Database) -> None:
    watched = watch({"0700.HK": "XHKG"}, provider="file", timeframes=(M5, D1))
    sync(database, watched, NOW)
    bars = bars_on("XHKG", "0700.HK", M5, *WEEK)
    store_file(database, bars, "hongkong.csv", NOW)
    days = stored(database, D1, "missing_bars", "volume")
    assert days["missing_bars"].to_list() == [0] * 5
    assert days["volume"].sum() == bars["volume"].sum()


def test_daily_bars_are_those_of_the_regular_session(database: Database) -> None:
    watched = watch({"AAPL": "XNYS extended"}, provider="file", timeframes=(M5, D1))
    sync(database, watched, NOW)
    bars = bars_on("XNYS extended", "AAPL", M5, *WEEK)
    store_file(database, bars, "extended.csv", NOW)
    regular = bars.join(bars_on("XNYS", "AAPL", M5, *WEEK).select("ts"), on="ts", how="semi")
    opens = exchange_sessions("XNYS", *WEEK)["open"].to_list()
    assert stored(database, D1).equals(by_hand(regular, opens))
    assert stored(database, D1, "missing_bars")["missing_bars"].to_list() == [0] * 4


@pytest.mark.broad
def test_files_of_hours_give_longer_bars(database: Database) -> None:
    sync(database, COIN, NOW)
    hours = bars_on("24/7", "BTC-USD", H1, *WEEK)
    store_file(database, hours, "hours.csv", NOW)
    refresh(database, COIN, MemoryExchange(), NOW)
    days = [utc(f"2026-11-{day}") for day in range(23, 28)]
    assert stored(database, D1).equals(by_hand(hours, days))
    assert stored(database, H4).equals(by_hand(hours, [day + timedelta(hours=4 * n) for day in days for n in range(6)]))
    assert [stored(database, timeframe).height for timeframe in (M5, M15, M30)] == [0, 0, 0]
    assert state_of(database, "BTC-USD", W1)["last_ts"] is None  # The week ends on Sunday.
    assert rows_of(database, "SELECT DISTINCT timeframe FROM market.ema_signals ORDER BY 1") == [
        ("1d",),
        ("1h",),
        ("4h",),
    ]


def test_hours_that_are_cut_by_the_clock_give_days_but_no_bars_within_them(database: Database) -> None:
    sync(database, STOCK, NOW)
    base = bars_on("XNYS", "AAPL", M5, *WEEK)
    hours = by_clock(base, "2026-11-23", "2026-11-27")
    summaries = store_file(database, hours, "hours.csv", NOW)
    assert of(summaries, D1).rolled_up_from == "1h"
    opens = exchange_sessions("XNYS", *WEEK)["open"].to_list()
    assert stored(database, D1).equals(by_hand(base, opens))
    assert stored(database, H4).is_empty()


def test_an_hour_that_reaches_from_before_the_regular_session_into_it_gives_no_day(database: Database) -> None:
    watched = watch({"AAPL": "XNYS extended"}, provider="file", timeframes=(M30, H1, D1))
    sync(database, watched, NOW)
    (hours,) = store_file(database, bars_on("XNYS extended", "AAPL", H1, *WEEK), "hours.csv", NOW)
    assert hours.stored > 0
    assert stored(database, D1).is_empty()
    store_file(database, bars_on("XNYS extended", "AAPL", M30, *WEEK), "halves.csv", NOW)
    assert stored(database, D1).height == 4


def test_a_bar_is_rolled_up_once_files_have_all_of_its_time(database: Database) -> None:
    """Files are cut anywhere; a bar at the cut is made of both files, and one at the beginning or end is not made."""
    sync(database, STOCK, NOW)
    minutes = bars_on("XNYS", "AAPL", M1, *WEEK)
    begin, cut, end = (utc(f"2026-11-24 {time}") for time in ("14:32", "15:03", "15:11"))
    first = store_file(database, minutes.filter(pl.col("ts").is_between(begin, cut, closed="left")), "first.csv", NOW)
    assert stored(database, M5)["ts"].to_list() == [utc(f"2026-11-24 14:{n}") for n in range(35, 60, 5)]
    assert state_of(database, "AAPL", M5)["checked_through"] == utc("2026-11-24 15:00")
    assert [each.timeframe for each in first] == ["1m", "5m"]
    store_file(database, minutes.filter(pl.col("ts").is_between(cut, end, closed="left")), "second.csv", NOW)
    expected = minutes.filter(pl.col("ts").is_between(utc("2026-11-24 14:35"), utc("2026-11-24 15:10"), closed="left"))
    assert stored(database, M5).equals(
        by_hand(expected, [utc("2026-11-24 14:35") + timedelta(minutes=5 * n) for n in range(7)])
    )
    store_file(database, minutes.filter(pl.col("ts") < begin), "before.csv", NOW)
    assert utc("2026-11-24 14:30") in stored(database, M5)["ts"].to_list()
    assert stored(database, D1)["ts"].to_list() == [utc("2026-11-23 14:30")]


@given(seed=st.integers(0, 2**32 - 1), data=st.data())
@heavy(12)
def test_files_in_any_order_and_pieces_give_what_one_file_gives(
    databases: Databases, seed: int, data: st.DataObject
) -> None:
    """Pieces begin and end anywhere, also in the middle of bars, and there are holes of minutes and of days."""
    watched = watch({"AAPL": "XNYS", "BTC-USD": "24/7"}, provider="file", timeframes=(M1, M5, M15, M30, D1))
    source, seen = data.draw(st.sampled_from([M1, M5, M15])), []
    bars = pl.concat(
        bars_on(calendar, symbol, source, *WEEK, seed, missing=0.1)
        for symbol, calendar in (("AAPL", "XNYS"), ("BTC-USD", "24/7"))
    )
    hole = st.tuples(st.integers(0, 6000), st.integers(1, 4000))
    for first, minutes in data.draw(st.lists(hole, max_size=3), "holes"):
        begin = utc("2026-11-23") + timedelta(minutes=first)
        bars = bars.filter(~pl.col("ts").is_between(begin, begin + timedelta(minutes=minutes)))
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, bars.height), max_size=4), "cuts")), bars.height]
    pieces = [bars.sort("ts")[low:high] for low, high in pairwise(cuts)]
    for each in ([bars], data.draw(st.permutations(pieces), "order")):
        url = databases.make()
        with Database(url) as database:
            sync(database, watched, NOW)
            for number, piece in enumerate(each):
                store_file(database, piece, f"{number}.csv", NOW)
            refresh(database, watched, MemoryExchange(), NOW)
            seen.append(tables_of(database))
        databases.drop(url)
    assert all(seen[0][name].equals(rows) for name, rows in seen[1].items())


@pytest.mark.broad
def test_a_hole_between_files_is_a_gap_of_what_is_rolled_up_too(database: Database) -> None:
    sync(database, STOCK, NOW)
    bars = bars_on("XNYS", "AAPL", M5, date(2026, 11, 16), date(2026, 11, 27))
    early, late = bars.filter(pl.col("ts") < utc("2026-11-18")), bars.filter(pl.col("ts") > utc("2026-11-24"))
    assert of(store_file(database, late, "late.csv", NOW), D1).missing == 0
    assert of(store_file(database, early, "early.csv", NOW), D1).missing == 4
    assert rows_of(database, "SELECT first_ts, last_ts, bars, status FROM market.bar_gap WHERE timeframe = '1d'") == [
        (utc("2026-11-18 14:30"), utc("2026-11-23 14:30"), 4, "not in file")
    ]
    assert of(store_file(database, bars, "all.csv", NOW), D1).missing == 0
    assert rows_of(database, "SELECT * FROM market.bar_gap WHERE timeframe = '1d'") == []


def test_what_quarters_lack_is_a_gap_of_quarters_alone(database: Database) -> None:
    sync(database, COIN, NOW)
    quarters = bars_on("24/7", "BTC-USD", M15, *WEEK)
    hole = pl.col("ts").is_between(utc("2026-11-24 10:00"), utc("2026-11-24 14:00"), closed="left")
    summaries = store_file(database, quarters.filter(~hole), "quarters.csv", NOW)
    assert [(each.timeframe, each.stored, each.missing) for each in summaries] == [
        ("15m", 464, 16),
        ("30m", 232, 0),
        ("1h", 116, 0),
        ("4h", 30, 0),
        ("1d", 5, 0),
    ]
    assert rows_of(database, "SELECT timeframe, bars FROM market.bar_gap") == [("15m", 16)]


@pytest.mark.parametrize("order", mostly_broad([1, -1]), ids=["older file first", "newer file first"])
def test_files_of_quarters_that_are_far_apart_give_all_of_their_days(database: Database, order: int) -> None:
    sync(database, COIN, NOW)
    parts = [
        bars_on("24/7", "BTC-USD", M15, date(2026, 11, 2), date(2026, 11, 3)),
        bars_on("24/7", "BTC-USD", M15, date(2026, 11, 23), date(2026, 11, 24)),
    ]
    for number, part in enumerate(parts[::order]):
        store_file(database, part, f"{number}.csv", NOW)
    assert stored(database, D1, "ts")["ts"].to_list() == [utc(f"2026-11-{day}") for day in ("02", "03", "23", "24")]


def test_a_corrected_bar_corrects_what_is_rolled_up_from_it(database: Database) -> None:
    sync(database, STOCK, NOW)
    minutes = bars_on("XNYS", "AAPL", M1, *WEEK)
    store_file(database, minutes, "minutes.csv", NOW)
    refresh(database, STOCK, MemoryExchange(), NOW)
    day = minutes.filter(pl.col("ts").dt.date() == date(2026, 11, 25))
    highest = day.filter(pl.col("high") == day["high"].max()).head(1)
    changed = moved(highest, 1.03)
    summaries = store_file(database, changed, "corrected.csv", NOW)
    assert [(each.timeframe, each.stored, each.corrected, each.equal) for each in summaries] == [
        ("1m", 1, 1, 0),
        ("5m", 1, 1, 93),
        ("1d", 1, 1, 1),
    ]
    assert state_of(database, "AAPL", M15)["dirty_from"] == highest["ts"].dt.truncate("15m").item()
    assert state_of(database, "AAPL", D1, "ema_signals")["dirty_from"] == utc("2026-11-25 14:30")


def test_the_same_file_again_changes_nothing(database: Database) -> None:
    sync(database, STOCK, NOW)
    minutes = bars_on("XNYS", "AAPL", M1, *WEEK)
    store_file(database, minutes, "minutes.csv", NOW)
    again = store_file(database, minutes, "minutes.csv", NOW)
    assert [(each.timeframe, each.stored, each.equal) for each in again] == [
        ("1m", 0, 1380),
        ("5m", 0, 276),
        ("1d", 0, 4),
    ]
    assert state_of(database, "AAPL", D1)["revision"] == 1


def test_a_bar_of_a_file_counts_more_than_one_that_is_rolled_up(database: Database) -> None:
    sync(database, STOCK, NOW)
    bars = bars_on("XNYS", "AAPL", M5, *WEEK)
    days = by_hand(bars, exchange_sessions("XNYS", *WEEK)["open"].to_list()).with_columns(timeframe=pl.lit("1d"))
    own = days.with_columns(pl.col("close") * 1.001).select(list(BAR_SCHEMA)).slice(1, 2)
    for first, second in ((own, bars), (bars, own)):
        store_file(database, first, "first.csv", NOW)
        store_file(database, second, "second.csv", NOW)
        found = stored(database, D1)
        assert found["close"].to_list() == [*days["close"][:1], *own["close"], *days["close"][3:]]
    assert origins(database, D1) == [("first.csv", 2), ("rolled up from 5m", 2)]
    store_file(database, bars_on("XNYS", "AAPL", M1, *WEEK), "minutes.csv", NOW)
    assert ("first.csv", 2) in origins(database, D1)


def test_a_bar_from_shorter_bars_counts_more_than_one_from_longer_bars(database: Database) -> None:
    sync(database, COIN, NOW)
    minutes = bars_on("24/7", "BTC-USD", M1, *WEEK)
    starts = [utc("2026-11-23") + timedelta(hours=n) for n in range(120)]
    hours = moved(by_hand(minutes, starts).with_columns(timeframe=pl.lit("1h")).select(list(BAR_SCHEMA)), 1.001)
    store_file(database, minutes.filter(pl.col("ts") < utc("2026-11-25")), "minutes.csv", NOW)
    store_file(database, hours, "hours.csv", NOW)
    assert origins(database, D1) == [("rolled up from 1h", 3), ("rolled up from 1m", 2)]
    store_file(database, minutes, "minutes.csv", NOW)
    assert origins(database, D1) == [("rolled up from 1m", 5)]


@pytest.mark.broad
def test_hours_of_a_file_stay_where_a_file_of_quarters_covers_them(database: Database) -> None:
    sync(database, COIN, NOW)
    quarters = bars_on("24/7", "BTC-USD", M15, *WEEK)
    hours = bars_on("24/7", "BTC-USD", H1, *WEEK, seed=1)
    own = hours.filter(pl.col("ts").is_between(utc("2026-11-24"), utc("2026-11-25"), closed="left"))
    store_file(database, own, "hours.csv", NOW)
    store_file(database, quarters, "quarters.csv", NOW)
    assert origins(database, H1) == [("hours.csv", 24), ("rolled up from 15m", 96)]


@pytest.mark.broad
def test_a_hole_in_a_file_of_hours_is_not_filled_from_quarters(database: Database) -> None:
    """As a run does not fill it from 5m: from its first to its last bar, the file says which bars there are."""
    sync(database, COIN, NOW)
    quarters = bars_on("24/7", "BTC-USD", M15, *WEEK)
    starts = [utc("2026-11-24") + timedelta(hours=n) for n in range(24)]
    day = quarters.filter(pl.col("ts").dt.date() == date(2026, 11, 24))
    hours = by_hand(day, starts).with_columns(timeframe=pl.lit("1h")).select(list(BAR_SCHEMA))
    store_file(database, hours.filter(pl.col("ts") != utc("2026-11-24 10:00")), "hours.csv", NOW)
    store_file(database, quarters, "quarters.csv", NOW)
    assert origins(database, H1) == [("hours.csv", 23), ("rolled up from 15m", 96)]


@pytest.mark.broad
def test_files_of_two_timeframes_give_days_together(database: Database) -> None:
    """The quarters that runs roll up from 5m do not count as bars of the file of quarters."""
    sync(database, COIN, NOW)
    fives = bars_on("24/7", "BTC-USD", M5, date(2026, 11, 23), date(2026, 11, 24))
    store_file(database, fives, "fives.csv", NOW)
    refresh(database, COIN, MemoryExchange(), NOW)
    quarters = bars_on("24/7", "BTC-USD", M15, date(2026, 11, 25), date(2026, 11, 26), seed=1)
    summaries = store_file(database, quarters, "quarters.csv", NOW)
    assert of(summaries, D1).stored == 2
    assert origins(database, D1) == [("rolled up from 15m", 2), ("rolled up from 5m", 2)]
    refresh(database, COIN, MemoryExchange(), NOW)
    days = [utc(f"2026-11-{day}") for day in range(23, 27)]
    both = pl.concat([fives, quarters])
    assert stored(database, D1).equals(by_hand(both, days))
    assert stored(database, H4).equals(by_hand(both, [day + timedelta(hours=4 * n) for day in days for n in range(6)]))


@pytest.mark.broad
def test_symbols_of_one_file_have_histories_and_timeframes_of_their_own(database: Database) -> None:
    watched = watch({"AAPL": "XNYS", "KO": "XNYS", "BTC-USD": "24/7"}, provider="file", timeframes=ALL)
    few = tuple(replace(each, timeframes=(M1, D1)) if each.symbol == "KO" else each for each in watched.instruments)
    sync(database, replace(watched, instruments=few), NOW)
    bars = pl.concat(
        [
            bars_on("XNYS", "AAPL", M1, *WEEK),
            bars_on("XNYS", "KO", M1, date(2026, 9, 1), date(2026, 9, 4)),
            bars_on("24/7", "BTC-USD", M1, date(2026, 7, 1), date(2026, 7, 2)),
        ]
    )
    store_file(database, bars, "minutes.csv", NOW)
    counts = rows_of(
        database,
        "SELECT symbol, timeframe, count(*) FROM market.ohlc WHERE timeframe <> '1m' GROUP BY 1, 2 ORDER BY 1, 2",
    )
    assert counts == [
        ("AAPL", "1d", 4),
        ("AAPL", "5m", 276),
        ("BTC-USD", "1d", 2),
        ("BTC-USD", "5m", 576),
        ("KO", "1d", 4),
    ]


def test_days_are_on_the_scale_of_a_split_file_also_if_the_database_was_lost_before_they_were_rolled_up(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(database, watch({"AAPL": "XNYS"}, provider="file", timeframes=(M5, D1)), NOW)
    bars = bars_on("XNYS", "AAPL", M5, date(2026, 11, 9), date(2026, 11, 27))
    store_file(database, bars.filter(pl.col("ts") < utc("2026-11-20 00:00")), "before.csv", NOW)
    split = moved(bars, 0.5).with_columns(pl.col("volume") * 2)
    file = split.filter(pl.col("ts") >= utc("2026-11-16 00:00"))

    def lost(*_: object) -> None:
        raise StoreUnavailable("the connection was lost")

    with monkeypatch.context() as patched:
        patched.setattr("ema_assets.operations.ingest.roll_up_ingested", lost)
        with pytest.raises(StoreUnavailable):
            store_file(database, file, "split.csv", NOW)
    store_file(database, file, "split.csv", NOW)
    opens = exchange_sessions("XNYS", date(2026, 11, 9), date(2026, 11, 27))["open"].to_list()
    assert_frame_equal(stored(database, D1), by_hand(split, opens).select(stored(database, D1).columns))


def test_bars_on_another_scale_than_files_of_the_timeframe_are_not_put_among_these(database: Database) -> None:
    sync(database, STOCK, NOW)
    bars = bars_on("XNYS", "AAPL", M5, *WEEK)
    days = by_hand(bars, exchange_sessions("XNYS", *WEEK)["open"].to_list()).with_columns(timeframe=pl.lit("1d"))
    store_file(database, moved(days.select(list(BAR_SCHEMA)), 7.0).head(3), "days.csv", NOW)
    early = pl.col("ts") < utc("2026-11-26")
    skipped = [of(store_file(database, bars.filter(part), "bars.csv", NOW), D1) for part in (early, ~early)]
    # The second file is compared by the days before it.
    assert skipped == [
        IngestedSeries("AAPL", "1d", skipped={"on another scale than files of 1d": count}, rolled_up_from="5m")
        for count in (3, 1)
    ]
    assert origins(database, D1) == [("days.csv", 3)]


def test_of_many_series_no_more_are_read_at_once_than_fit_into_a_batch(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["AAPL", "MSFT", "KO"]
    sync(database, watch(dict.fromkeys(names, "XNYS"), provider="file", timeframes=ALL), NOW)
    read: list[int] = []
    roll_up = rollups.roll_up

    def noted(bars: pl.DataFrame, *given: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
        read.append(bars["symbol"].n_unique())
        return roll_up(bars, *given)

    monkeypatch.setattr(roll_up_files, "roll_up", noted)
    # Two sessions, as if the market never closed.
    monkeypatch.setattr(roll_up_files, "_BARS_A_BATCH", 2 * 3 * 288)
    bars = pl.concat(bars_on("XNYS", name, M5, WEEK[0], WEEK[0] + timedelta(days=2)) for name in names)
    store_file(database, bars, "bars.csv", NOW)
    assert read == [2, 1]
    assert stored(database, D1).height == 3 * 3


def test_symbols_with_a_provider_get_nothing_but_what_it_sends(database: Database) -> None:
    watched = watch({"AAPL": "XNYS"}, timeframes=ALL)
    sync(database, watched, NOW)
    (only,) = store_file(database, bars_on("XNYS", "AAPL", M1, *WEEK), "minutes.csv", NOW)
    assert only.timeframe == "1m"
    assert stored(database, M5).is_empty()
    sync(database, watch({"AAPL": "XNYS extended"}, timeframes=ALL), NOW)
    assert stored(database, M5).is_empty()


def test_a_timeframe_that_is_switched_on_later_gets_its_bars(database: Database) -> None:
    few = watch({"AAPL": "XNYS"}, provider="file", timeframes=(M1,))
    sync(database, few, NOW)
    minutes = bars_on("XNYS", "AAPL", M1, *WEEK)
    (only,) = store_file(database, minutes, "minutes.csv", NOW)
    assert only.timeframe == "1m"
    sync(database, STOCK, NOW)
    assert stored(database, D1).equals(by_hand(minutes, exchange_sessions("XNYS", *WEEK)["open"].to_list()))
    assert stored(database, M5).height == 276
    outcomes = refresh(database, STOCK, MemoryExchange(), NOW)
    assert outcomes["ohlc", H1].rows == 7 * 3 + 4


@pytest.mark.broad
def test_another_calendar_makes_other_days(database: Database) -> None:
    watched = watch({"BTC-USD": "XNYS"}, provider="file", timeframes=ALL)
    sync(database, watched, NOW)
    minutes = bars_on("24/7", "BTC-USD", M1, *WEEK)
    store_file(database, minutes, "minutes.csv", NOW)
    assert stored(database, D1)["ts"].dt.hour().to_list() == [14] * 4
    refresh(database, watched, MemoryExchange(), NOW)
    sync(database, COIN, NOW)
    # Bars of regular hours are stored, also of Thanksgiving; the first day began before them, the last ends after them.
    assert stored(database, D1, "ts", "missing_bars").rows() == [(utc(f"2026-11-{n}"), 1050) for n in (24, 25, 26)]
    store_file(database, minutes, "minutes.csv", NOW)
    refresh(database, COIN, MemoryExchange(), NOW)
    days = [utc(f"2026-11-{day}") for day in range(23, 28)]
    assert stored(database, D1).equals(by_hand(minutes, days))
    assert stored(database, H4).equals(
        by_hand(minutes, [day + timedelta(hours=4 * n) for day in days for n in range(6)])
    )


@pytest.mark.broad
def test_a_session_with_other_hours_makes_another_day(database: Database) -> None:
    sync(database, STOCK, NOW)
    minutes = bars_on("XNYS", "AAPL", M1, *WEEK)
    store_file(database, minutes, "minutes.csv", NOW)
    shorter = SpecialDays({date(2026, 11, 25): (time(9, 30), time(13))})
    sync(database, replace(STOCK, special_days={"XNYS": shorter}), NOW)
    kept = minutes.filter(~pl.col("ts").is_between(utc("2026-11-25 18:00"), utc("2026-11-26")))
    assert stored(database, D1).equals(by_hand(kept, exchange_sessions("XNYS", *WEEK)["open"].to_list()))
    sync(database, STOCK, NOW)
    assert stored(database, D1).equals(by_hand(minutes, exchange_sessions("XNYS", *WEEK)["open"].to_list()))
