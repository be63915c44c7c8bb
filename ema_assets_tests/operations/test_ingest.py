"""Bars from files: what is read, what is refused with which sentence, and what is stored."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest

from ema_assets.market.repair import MISSING_VALUE
from ema_assets.model.asset_names import OHLC, STRATEGY
from ema_assets.model.errors import BarFileError
from ema_assets.model.schemas import BAR_SCHEMA
from ema_assets.model.timeframes import ROLLED_UP
from ema_assets.operations import ingest
from ema_assets.operations.ingest import IngestedSeries, read_file, store_file
from ema_assets.operations.sync_watchlist import sync
from ema_assets.store.database import Database
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, moved, refresh, state_of, tables_of, utc, watch
from ema_assets_tests.timeframes import D1, H1, M5

HEADER = "symbol,timeframe,ts,open,high,low,close,volume"
NOW = utc("2026-11-28 12:00")


def csv(folder: Path, *lines: str, header: str = HEADER, name: str = "bars.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def refusal(path: Path, **given: str) -> str:
    with pytest.raises(BarFileError) as caught:
        read_file(path, **given)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-25T15:00:00Z", "2026-11-25 15:00"),
        ("2026-11-25T15:00:00.5Z", "2026-11-25 15:00:00.500000"),
        ("2026-11-25 15:00:00+00:00", "2026-11-25 15:00"),
        ("2026-11-25T10:00:00-05:00", "2026-11-25 15:00"),
        ("2026-11-25T10:00:00-0500", "2026-11-25 15:00"),
        ("2026-11-25 15:00:00", "2026-11-25 15:00"),
        ("2026-11-25 15:00", "2026-11-25 15:00"),
        ("2026-11-25T15:00", "2026-11-25 15:00"),
        (" 2026-11-25 ", "2026-11-25 00:00"),
    ],
)
def test_times_are_read_as_people_and_vendors_write_them(tmp_path: Path, text: str, expected: str) -> None:
    assert read_file(csv(tmp_path, f"AAPL,5m,{text},1,2,1,2,5"))["ts"].to_list() == [utc(expected)]


def test_several_ways_to_write_a_time_may_be_mixed_in_one_file(tmp_path: Path) -> None:
    texts = ["2026-11-25T15:00:00Z", "2026-11-25 15:05:00", "2026-11-25 10:10:00-05:00", "2026-11-25"]
    frame = read_file(csv(tmp_path, *(f"AAPL,5m,{text},1,2,1,2,5" for text in texts)))
    assert frame["ts"].to_list() == [utc(f"2026-11-25 {clock}") for clock in ("15:00", "15:05", "15:10", "00:00")]


@pytest.mark.parametrize("name", ["ts", "Date", "DATETIME", "Timestamp", " time "])
def test_headers_are_read_without_regard_to_case_and_the_time_goes_by_many_names(tmp_path: Path, name: str) -> None:
    header = f"Symbol,TimeFrame,{name},Open,HIGH,low,Close,Volume"
    frame = read_file(csv(tmp_path, "AAPL,5m,2026-11-25 15:00,1,2,1,2,5", header=header))
    assert frame.schema == BAR_SCHEMA
    assert frame.rows() == [("AAPL", "5m", utc("2026-11-25 15:00"), 1.0, 2.0, 1.0, 2.0, 5.0)]


def test_further_columns_are_left_out_and_order_does_not_matter(tmp_path: Path) -> None:
    header = "close,vwap,ts,low,high,open,volume"
    path = csv(tmp_path, "2,9,2026-11-25 15:00,1,3,1.5,5", header=header)
    assert read_file(path, "AAPL", "5m").rows() == [("AAPL", "5m", utc("2026-11-25 15:00"), 1.5, 3.0, 1.0, 2.0, 5.0)]


def test_columns_of_the_file_win_over_the_command_line(tmp_path: Path) -> None:
    path = csv(tmp_path, "AAPL,5m,2026-11-25 15:00,1,2,1,2,5")
    assert read_file(path, "MSFT", "1d").select("symbol", "timeframe").row(0) == ("AAPL", "5m")


@pytest.mark.parametrize(
    ("times", "dtype"),
    [
        ([datetime(2026, 11, 25, 15)], pl.Datetime("ms")),
        ([datetime(2026, 11, 25, 15)], pl.Datetime("ns")),
        ([datetime(2026, 11, 25, 10, tzinfo=timezone(timedelta(hours=-5)))], pl.Datetime("us", "America/New_York")),
        (["2026-11-25T15:00:00Z"], pl.String),
    ],
)
def test_parquet_is_read_with_naive_zoned_and_written_times(
    tmp_path: Path, times: Sequence[object], dtype: pl.DataType
) -> None:
    path = tmp_path / "bars.PARQUET"
    frame = pl.DataFrame({"Datetime": pl.Series(times, dtype=dtype), "open": 1, "high": 2, "low": 1, "close": 2})
    frame.with_columns(volume=pl.lit(5, pl.UInt32)).write_parquet(path)
    found = read_file(path, "AAPL", "5m")
    assert found.schema == BAR_SCHEMA
    assert found["ts"].to_list() == [utc("2026-11-25 15:00")]


def test_parquet_dates_are_midnight_utc(tmp_path: Path) -> None:
    path = tmp_path / "bars.parquet"
    values = {"open": 1.0, "high": 2.0, "low": 1.0, "close": 2.0, "volume": 5.0}
    pl.DataFrame({"date": [date(2026, 11, 25)], **values}).write_parquet(path)
    assert read_file(path, "AAPL", "1d")["ts"].to_list() == [datetime(2026, 11, 25, tzinfo=UTC)]


def test_a_number_is_no_time(tmp_path: Path) -> None:
    path = tmp_path / "bars.parquet"
    values = {"open": 1.0, "high": 2.0, "low": 1.0, "close": 2.0, "volume": 5.0}
    pl.DataFrame({"ts": [1_700_000_000], **values}).write_parquet(path)
    assert "`ts` must be a date or a time, found Int64" in refusal(path, symbol="AAPL", timeframe="1d")


def test_missing_columns_are_named_with_what_was_found_and_what_to_do(tmp_path: Path) -> None:
    sentence = refusal(csv(tmp_path, "2026-11-25,1,2,1", header="Date,Open,High,Low"))
    assert "lacks the columns symbol, timeframe, close, volume;" in sentence
    assert "found are ts, open, high, low" in sentence
    assert sentence.endswith("give --symbol and --timeframe on the command line for a file of one series")
    assert "lacks the column volume" in refusal(csv(tmp_path, "1", header=HEADER.removesuffix(",volume")))


@pytest.mark.parametrize(
    "text", ["yesterday", "25/11/2026", "2026-13-01", "2026-02-30 15:00", "15:00", "2026-11-25T15:00:00X"]
)
def test_a_time_that_is_none_is_named_with_its_line(tmp_path: Path, text: str) -> None:
    good = "AAPL,5m,2026-11-25 15:00,1,2,1,2,5"
    sentence = refusal(csv(tmp_path, good, f"AAPL,5m,{text},1,2,1,2,5", f"AAPL,5m,{text},1,2,1,2,5"))
    assert f"line 3: `ts` must be a time such as 2024-02-14T14:30:00Z, received '{text}' (2 such lines)" in sentence


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("AA|PL,5m,2026-11-25 15:00,1,2,1,2,5", "line 3: `symbol` must be"),
        (",5m,2026-11-25 15:00,1,2,1,2,5", "line 3: `symbol` must be"),
        (
            "AAPL,7m,2026-11-25 15:00,1,2,1,2,5",
            "line 3: `timeframe` must be one of 5m, 15m, 30m, 1h, 4h, 1d, received '7m'",
        ),
        ("AAPL,,2026-11-25 15:00,1,2,1,2,5", "line 3: `timeframe` must be"),
    ],
)
def test_a_malformed_key_is_named_with_its_line(tmp_path: Path, line: str, expected: str) -> None:
    assert expected in refusal(csv(tmp_path, "AAPL,5m,2026-11-25 15:00,1,2,1,2,5", line))


@pytest.mark.parametrize("value", ["n/a", "", "1,000"])
def test_a_price_that_is_no_number_is_left_to_the_validation(tmp_path: Path, value: str) -> None:
    frame = read_file(csv(tmp_path, f'AAPL,5m,2026-11-25 15:00,1,2,1,"{value}",5'))
    assert frame["close"].to_list() == [None]


def test_two_columns_that_differ_only_in_case_are_refused(tmp_path: Path) -> None:
    sentence = refusal(csv(tmp_path, "1,2,3,4", header="Close,close,Open,High"))
    assert "two columns are called close" in sentence


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("bars.csv", b"", "cannot be read as csv"),
        ("bars.parquet", b"", "cannot be read as parquet"),
        ("bars.parquet", b"symbol,ts\n", "cannot be read as parquet"),
        ("bars.csv", bytes(range(256)) * 40, ""),
        ("bars.csv", b"PK\x03\x04\x14\x00\x08\x08\x08\x00\xff\xfe\x00\x01", ""),
        ("bars.csv", b"<html>\n<body>no bars</body>\n</html>\n", "lacks the columns"),
        ("bars.csv", b"a,b\n1,2,3,4\n5\n", "cannot be read as csv"),
        ("bars.xlsx", b"x", "bars are read from .csv and .parquet files, not from '.xlsx'"),
        ("bars", b"x", "bars are read from .csv and .parquet files"),
    ],
)
def test_a_file_that_holds_no_bars_is_refused_in_one_sentence(
    tmp_path: Path, name: str, content: bytes, expected: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert expected in refusal(path)


def test_a_file_that_is_not_there_or_is_a_folder_is_refused(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    assert "cannot be read as csv" in refusal(tmp_path / "folder.csv")


def test_a_header_alone_is_a_file_without_bars(tmp_path: Path, database: Database) -> None:
    frame = read_file(csv(tmp_path))
    assert frame.schema == BAR_SCHEMA
    assert store_file(database, frame, "empty.csv", NOW) == []


# --- what is stored -------------------------------------------------------------------------------------------------

FILES = watch({"AAPL": "XNYS", "BTC-USD": "24/7"}, provider="file")
WEEK = (date(2026, 11, 23), date(2026, 11, 27))


def line(ts: str | None, symbol: str = "AAPL", timeframe: str = "5m", **values: float | None) -> pl.DataFrame:
    sound = {"open": 10.0, "high": 12.0, "low": 9.0, "close": 11.0, "volume": 5.0}
    row = {"symbol": symbol, "timeframe": timeframe, "ts": utc(ts) if ts else None, **sound, **values}
    return pl.DataFrame([row], schema=BAR_SCHEMA)


def test_every_line_is_accounted_for(database: Database) -> None:
    sync(database, FILES, NOW)
    store_file(database, pl.concat([line("2026-11-25 15:00"), line("2026-11-25 15:05")]), "first.csv", NOW)
    summaries = store_file(
        database,
        pl.concat(
            [
                line("2026-11-25 15:00"),
                line("2026-11-25 15:05", close=11.5),
                line("2026-11-25 15:10"),
                line("2026-11-25 13:00"),
                line("2026-11-26 15:00"),
                line("2026-11-30 15:00"),
                line("2026-11-25 15:15", close=None),
                line("2026-11-25 15:20", low=20.0),
                line("2026-11-25 15:25"),
                line("2026-11-25 15:25"),
                line(None),
                line("2026-11-25 03:00", "BTC-USD"),
                line("2026-11-25 00:00", timeframe="1d"),
            ]
        ),
        "second.csv",
        NOW,
    )
    assert summaries == [
        IngestedSeries(
            "AAPL",
            "5m",
            read=11,
            stored=3,
            corrected=1,
            equal=1,
            # Of which one was rejected.
            missing=2,
            skipped={"not closed yet": 1, "outside the session": 2},
            rejected={"duplicate ts": 1, "high below low": 1, MISSING_VALUE: 2},
        ),
        IngestedSeries("BTC-USD", "5m", read=1, stored=1),
        IngestedSeries("AAPL", "1d", read=1, stored=1),
    ]
    for each in summaries:
        assert each.read == each.stored + each.equal + sum(each.skipped.values()) + sum(each.rejected.values())
    with database.transaction() as transaction:
        rejected = transaction.query("SELECT reason, source FROM market.bar_rejected")
    assert rejected.height == 4
    assert set(rejected["source"]) == {"second.csv"}


def test_the_same_file_again_changes_nothing_and_rejects_nothing_twice(database: Database) -> None:
    sync(database, FILES, NOW)
    bars = pl.concat([line("2026-11-25 15:00"), line("2026-11-25 15:05", close=None), line(None)])
    store_file(database, bars, "bars.csv", NOW)
    revision = state_of(database, "AAPL", M5)["revision"]
    (again,) = store_file(database, bars, "bars.csv", NOW)
    assert again == IngestedSeries("AAPL", "5m", read=3, equal=1, rejected={MISSING_VALUE: 2})
    assert state_of(database, "AAPL", M5)["revision"] == revision == 1
    with database.transaction() as transaction:
        assert transaction.query("SELECT count(*) AS n FROM market.bar_rejected").item() == 2


def test_a_file_of_one_timeframe_only_makes_all_timeframes(database: Database) -> None:
    sync(database, FILES, NOW)
    bars = pl.concat([bars_on("XNYS", "AAPL", M5, *WEEK), bars_on("24/7", "BTC-USD", M5, *WEEK, seed=1)])
    store_file(database, bars, "bars.csv", NOW)
    exchange = MemoryExchange()
    outcomes = refresh(database, FILES, exchange, NOW)
    assert exchange.asked == []
    for timeframe in ROLLED_UP:
        assert sorted(outcomes[OHLC, timeframe].done) == ["AAPL", "BTC-USD"]
    assert outcomes[STRATEGY, H1].rows > 0
    whole = tables_of(database)
    (one, other) = store_file(database, bars.sample(fraction=1.0, shuffle=True, seed=3), "bars.csv", NOW)
    assert (one.stored, other.stored) == (0, 0)
    refresh(database, FILES, exchange, NOW)
    assert all(whole[asset].equals(rows) for asset, rows in tables_of(database).items())


def test_a_corrected_file_is_rolled_up_again_from_the_changed_bucket(database: Database) -> None:
    sync(database, FILES, NOW)
    bars = bars_on("XNYS", "AAPL", M5, *WEEK)
    store_file(database, bars, "bars.csv", NOW)
    refresh(database, FILES, MemoryExchange(), NOW)
    store_file(database, moved(bars.filter(pl.col("ts") == utc("2026-11-25 15:50")), 3.0), "bars.csv", NOW)
    state = state_of(database, "AAPL", H1)
    assert (state["dirty_from"], state["dirty_end"]) == (utc("2026-11-25 15:30"), utc("2026-11-25 16:30"))
    outcomes = refresh(database, FILES, MemoryExchange(), NOW)
    assert outcomes[OHLC, H1].written == {"AAPL": 1}


def test_hours_cut_by_the_clock_are_stored_as_they_come(database: Database) -> None:
    sync(database, FILES, NOW)
    hours = pl.concat([line(f"2026-11-25 {hour}:00", timeframe="1h") for hour in range(13, 22)])
    (summary,) = store_file(database, hours, "hours.csv", NOW)
    assert (summary.stored, summary.skipped) == (7, {"outside the session": 2})
    stored = tables_of(database)[OHLC]["ts"].to_list()
    assert stored == [utc(f"2026-11-25 {hour}:00") for hour in range(14, 21)]
    outcomes = refresh(database, FILES, MemoryExchange(), NOW)
    assert outcomes["ema_signals", H1].written == {"AAPL": 7}
    assert tables_of(database)[OHLC].height == 7


def test_hours_from_a_file_leave_what_waits_to_be_rolled_up_as_it_is(database: Database) -> None:
    sync(database, FILES, NOW)
    store_file(database, bars_on("XNYS", "AAPL", M5, *WEEK), "bars.csv", NOW)
    store_file(database, line("2026-11-25 14:30", timeframe="1h"), "hours.csv", NOW)
    state = state_of(database, "AAPL", H1)
    assert (state["dirty_from"], state["dirty_end"]) == (utc("2026-11-23 14:30"), utc("2026-11-23 15:30"))
    outcomes = refresh(database, FILES, MemoryExchange(), NOW, timeframes=[H1])
    assert outcomes[OHLC, H1].corrected == 1


def test_bars_older_than_any_stored_session_bring_their_sessions(database: Database) -> None:
    sync(database, FILES, NOW)
    old = bars_on("XNYS", "AAPL", D1, date(1999, 11, 22), date(1999, 12, 3))
    (summary,) = store_file(database, old, "old.csv", NOW)
    assert (summary.stored, summary.skipped) == (9, {})


def test_series_are_stored_in_batches_of_whole_series(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    sync(database, FILES, NOW)
    monkeypatch.setattr(ingest, "_BARS_A_BATCH", 1)
    bars = pl.concat([line("2026-11-25 15:00"), line("2026-11-25 15:00", "BTC-USD"), line("2026-11-25 15:05")])
    assert [(each.symbol, each.stored) for each in store_file(database, bars, "x.csv", NOW)] == [
        ("AAPL", 2),
        ("BTC-USD", 1),
    ]


def test_a_file_for_a_fetched_symbol_does_not_hide_what_the_provider_was_not_asked_for(database: Database) -> None:
    """The store stands at Tuesday; a file brings Friday. Wednesday must still be asked for."""
    fetched = watch({"AAPL": "XNYS"})
    exchange = MemoryExchange(bars_on("XNYS", "AAPL", M5, *WEEK))
    refresh(database, fetched, exchange, utc("2026-11-24 21:00"))
    friday = exchange.bars.filter(pl.col("ts") > utc("2026-11-27 00:00"))
    store_file(database, friday, "friday.csv", NOW)
    refresh(database, fetched, exchange, NOW)
    stored = tables_of(database)[OHLC].filter(timeframe="5m")
    assert stored.height == exchange.bars.height


def test_a_file_for_a_symbol_that_was_never_asked_for_leaves_its_history_to_the_provider(database: Database) -> None:
    fetched = watch({"AAPL": "XNYS"})
    sync(database, fetched, NOW)
    exchange = MemoryExchange(bars_on("XNYS", "AAPL", M5, *WEEK))
    store_file(database, exchange.bars.tail(10), "friday.csv", NOW)
    outcomes = refresh(database, fetched, exchange, NOW)
    assert outcomes[OHLC, M5].written == {"AAPL": exchange.bars.height - 10}
    assert outcomes[OHLC, H1].done == ["AAPL"]


def test_a_file_that_goes_on_where_the_store_stands_spares_the_provider(database: Database) -> None:
    fetched = watch({"AAPL": "XNYS"})
    exchange = MemoryExchange(bars_on("XNYS", "AAPL", M5, *WEEK))
    refresh(database, fetched, exchange, utc("2026-11-24 21:00"))
    store_file(database, exchange.bars.filter(pl.col("ts") > utc("2026-11-24 18:00")), "rest.csv", NOW)
    assert state_of(database, "AAPL", M5)["checked_through"] == utc("2026-11-27 18:00")
