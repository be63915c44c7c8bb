"""Tests of guesses about what files do not state, and of the questions when their rows contradict a guess."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from ema_assets_tests.files.reader import question, refusal, rows, rows_of, understood, written

# --- the order of prices without a head -------------------------------------------------------------------------------

FLAT = [(4.58, 4.58, 4.58, 4.58)] * 6
MOVING = [(5.0, 5.5, 4.9, 5.2), (5.2, 5.4, 5.1, 5.1), (5.1, 5.3, 5.0, 5.2)]
# Open, high, low and close of bars that open where the one before has closed.
CHAINED = [
    (first, max(first, close) + 0.4, min(first, close) - 0.4, close)
    for first, close in pairwise([100.0, 101.5, 101.0, 102.5, 102.0, 103.5, 103.0, 104.5])
]


def candles(bars: Sequence[tuple[float, ...]], *more: str) -> str:
    """Return rows of hours: an epoch in seconds, four prices in the given order, a volume, and `more`."""
    return "".join(
        ",".join([str(1_325_376_000 + 3600 * number), *map(str, bar), "3.5", *more]) + "\n"
        for number, bar in enumerate(bars)
    )


def test_flat_bars_at_the_top_do_not_decide_the_order_of_prices(tmp_path: Path) -> None:
    path = written(tmp_path, candles([*FLAT, *MOVING]), "BTCUSD_1h.csv")
    asked = question(path)
    evidence = "column 3 is the highest and column 4 the lowest of each row"
    assert asked == {evidence: {"columns": "ts,open,high,low,close,volume"}}
    assert understood(path, columns=tuple(asked[evidence]["columns"].split(","))).bars["high"].to_list()[6] == 5.5


def test_a_coinbase_file_with_flat_bars_at_the_top_is_read_in_the_order_of_coinbase(tmp_path: Path) -> None:
    found = rows(
        tmp_path, candles([*FLAT, *((low, high, first, last) for first, high, low, last in MOVING)]), "BTC-USD_1h.csv"
    )
    assert [row[3:7] for row in found] == [*FLAT, *MOVING]


def test_a_file_of_only_flat_bars_is_ambiguous_if_its_layout_has_an_unusual_order(tmp_path: Path) -> None:
    path = written(tmp_path, candles(FLAT), "BTCUSD_1h.csv")
    assert question(path) == {"its columns are in the usual order": {"columns": "ts,open,high,low,close,volume"}}
    # Kraken's order is the usual one.
    assert [row[3:7] for row in rows(tmp_path, candles(FLAT, "12"), "XBTUSD_60.csv")] == FLAT


def test_rows_like_those_of_a_layout_but_with_prices_in_another_order_are_ambiguous(tmp_path: Path) -> None:
    path = written(
        tmp_path, candles([(first, last, high, low) for first, high, low, last in MOVING], "12"), "DOT-USDT_1h.csv"
    )
    assert list(question(path).values()) == [{"columns": "ts,open,close,high,low,volume,-"}]


@pytest.mark.parametrize("is_newest_first", [False, True])
def test_a_volume_before_the_prices_is_not_offered_as_a_price(tmp_path: Path, is_newest_first: bool) -> None:
    """Gate.io writes time, volume, close, high, low, open. A bar opens near the close of the one before."""
    rows = [
        f"{1_325_376_000 + 3600 * place},{3.5 + place},{close},{high},{low},{first}"
        for place, (first, high, low, close) in enumerate(CHAINED)
    ]
    path = written(tmp_path, "\n".join(rows[::-1] if is_newest_first else rows) + "\n", "BTC_USDT_1h.csv")
    evidence = "column 4 is the highest and column 5 the lowest of each row"
    assert question(path) == {evidence: {"columns": "ts,volume,close,high,low,open"}}


@pytest.mark.parametrize("is_newest_first", [False, True])
def test_the_order_of_rows_does_not_exchange_open_and_close(tmp_path: Path, is_newest_first: bool) -> None:
    rows = [
        f"2024-03-{11 + place},{first},{high},{low},{close},7"
        for place, (first, high, low, close) in enumerate(CHAINED)
    ]
    path = written(tmp_path, "\n".join(rows[::-1] if is_newest_first else rows) + "\n", "KO_1d.csv")
    assert list(question(path).values()) == [{"columns": "ts,open,high,low,close,volume"}]


def test_an_average_price_between_the_prices_and_the_volume_is_not_offered_as_the_volume(tmp_path: Path) -> None:
    # The order of Kraken's answers: time, open, high, low, close, average, volume, count.
    text = "1710158400,59.4,60.4,59.3,60.1,60.0,5,7\n1710158700,60.1,60.6,59.9,60.5,60.2,9,3\n"
    found = question(written(tmp_path, text, "XBTEUR_5m.csv"))
    assert [each["columns"] for each in found.values()] == ["ts,open,high,low,close,-,volume,-"]


def test_times_of_day_written_as_numbers_are_not_offered_as_a_volume(tmp_path: Path) -> None:
    """QuantQuote writes 930 for half past nine, and split factor, earnings and dividends behind the volume."""
    minutes = ["930,59.4,60.4,59.3,60.1,516", "935,60.1,60.6,59.9,60.5,412", "1000,60.5,60.7,60.2,60.4,230"]
    path = written(tmp_path, "".join(f"20240311,{each},1,0,0\n" for each in minutes), "table_ko.csv")
    found = question(path)
    assert [each["columns"] for each in found.values()] == ["date,time,open,high,low,close,volume,-,-,-"]
    columns = tuple(next(iter(found.values()))["columns"].split(","))
    bars = understood(path, columns=columns, symbol="KO", timeframe="5m", tz="America/New_York").bars
    assert [f"{ts:%H:%M}" for ts in bars["ts"]] == ["13:30", "13:35", "14:00"]


def test_a_volume_of_one_bar_a_day_is_not_offered_as_a_time_of_day(tmp_path: Path) -> None:
    days = ["20240311,930,59.4,60.4,59.3,60.1", "20240312,1015,60.1,60.6,59.9,60.5", "20240313,930,60.5,60.7,60.2,60.4"]
    path = written(tmp_path, "\n".join(days) + "\n", "KO_1d.csv")
    assert [each["columns"] for each in question(path).values()] == ["ts,volume,open,high,low,close"]


def test_rows_without_a_head_are_ambiguous_whatever_the_order_of_day_and_month(tmp_path: Path) -> None:
    lines = ["01/31/2024,10,12,9,11,100\n", "02/01/2024,11,13,10,12,100\n", "02/02/2024,11,13,10,12,100\n"]
    columns = {"columns": "ts,open,high,low,close,volume"}
    path = written(tmp_path, "".join(lines), "KO.txt")
    assert list(question(path).values()) == [columns]
    assert understood(path, columns=tuple(columns["columns"].split(","))).bars["ts"].dt.month().to_list() == [1, 2, 2]
    either = written(tmp_path, "".join(lines[1:]), "KO.txt")
    assert list(question(either).values()) == [columns]


# --- the order of day and month ---------------------------------------------------------------------------------------


def five_minutes(days: Sequence[date], form: str, first: str = "00:00", count: int = 48) -> str:
    """Return rows, without a head, of `count` 5m bars from `first` on each of `days`."""
    start = datetime.strptime(first, "%H:%M")
    return "".join(
        f"{day.strftime(form)},{start + number * timedelta(minutes=5):%H:%M},10,12,9,11,100\n"
        for day in days
        for number in range(count)
    )


JANUARY = [date(2024, 1, day) for day in (8, 9, 10, 11)]


@pytest.mark.parametrize("form", ["%d/%m/%Y", "%m/%d/%Y"])
def test_consecutive_days_decide_the_order_of_day_and_month(form: str, tmp_path: Path) -> None:
    found = understood(written(tmp_path, five_minutes(JANUARY, form), "XRP-USD_5m.txt"))
    assert found.bars["ts"].dt.date().unique().sort().to_list() == JANUARY
    assert found.bars["ts"][0] == datetime.fromisoformat("2024-01-08T00:00:00+00:00")
    assert found.zone == "UTC (as crypto is written)"


@pytest.mark.parametrize("form", ["%d/%m/%Y", "%m/%d/%Y"])
@pytest.mark.parametrize("weekday", ["{} %a", "%A, {}", "{} (%a)"])
def test_weekdays_beside_the_dates_decide_the_order_of_day_and_month(form: str, weekday: str, tmp_path: Path) -> None:
    days = [date(2024, 1, 2), date(2024, 1, 3), date(2024, 3, 8)]
    rows = "".join(f"{day.strftime(weekday.format(form))};10;12;9;11;100\n" for day in days)
    found = understood(written(tmp_path, f"date;open;high;low;close;volume\n{rows}", "KO_1d.csv"))
    assert found.bars["ts"].dt.date().to_list() == days
    assert any(note.endswith("as the weekdays beside the dates say") for note in found.source.notes)


def test_weekdays_that_fit_no_order_of_day_and_month_decide_nothing(tmp_path: Path) -> None:
    rows = "".join(f"{day} Sun;10;12;9;11;100\n" for day in ("01/02/2024", "01/03/2024"))
    path = written(tmp_path, f"date;open;high;low;close;volume\n{rows}", "KO_1d.csv")
    assert sorted(each["dates"] for each in question(path).values()) == ["dmy", "mdy"]


def test_the_order_of_day_and_month_is_ambiguous_for_few_days_and_possible_months(tmp_path: Path) -> None:
    assert refusal(written(tmp_path, five_minutes(JANUARY[:3], "%d/%m/%Y"), "XRP-USD_5m.txt")).startswith(
        "its dates, such as 08/01/2024, may be day/month or month/day"
    )
    months = "Date,Close\n" + "".join(f"01/{month:02}/2024,{month}\n" for month in range(1, 13))
    assert list(question(written(tmp_path, months, "ETH-USD_1d.csv")).values()) == [{"dates": "mdy"}, {"dates": "dmy"}]


def test_days_that_contradict_the_usual_order_of_a_vendor_are_ambiguous(tmp_path: Path) -> None:
    head = "Date,Close/Last,Volume,Open,High,Low\n"
    days = [date(2024, 2, day) for day in (5, 6, 7, 8, 9)]
    usual, other = (
        head + "".join(f"{day.strftime(form)},$10.50,100,$10.20,$10.60,$9.90\n" for day in days)
        for form in ("%m/%d/%Y", "%d/%m/%Y")
    )
    assert [row[2][:10] for row in rows(tmp_path, usual, "KO.csv")] == [f"{day}" for day in days]
    assert list(question(written(tmp_path, other, "KO.csv")).values()) == [{"dates": "dmy"}, {"dates": "mdy"}]


# --- guessed layouts --------------------------------------------------------------------------------------------------

SESSIONS = [date(2024, 1, day) for day in (16, 17, 18, 19)]


@pytest.mark.parametrize(("symbol", "first"), [("EURUSD", "00:00"), ("VOD.L", "08:00")])
def test_the_zone_of_us_stocks_is_not_assumed_for_other_symbols(symbol: str, first: str, tmp_path: Path) -> None:
    found = written(tmp_path, five_minutes(SESSIONS, "%m/%d/%Y", first), f"{symbol}_5m.txt")
    if symbol == "VOD.L":
        assert understood(found).zone == "UTC (the sessions fit no other zone)"
    else:
        assert [each["tz"] for each in question(found).values()] == ["UTC", "America/New_York", "Europe/Athens"]


def test_a_guessed_zone_that_does_not_fit_the_sessions_is_ambiguous_and_one_that_fits_is_offered(
    tmp_path: Path,
) -> None:
    path = written(tmp_path, five_minutes(SESSIONS, "%m/%d/%Y", "14:30", 78), "KO_5m.txt")
    assert refusal(path) == "its times name no zone, and do not fit the sessions as Kibot writes them"
    assert question(path) == {"as UTC all 312 times fit the sessions of XNYS": {"tz": "UTC"}}
    assert rows_of(understood(path, tz="UTC").bars)[0][2] == "2024-01-16 14:30"


@pytest.mark.parametrize("head", ["time,open,high,low,close,volume", "datetime,open,high,low,close,volume"])
def test_labels_at_the_close_are_ambiguous_whatever_layout_common_column_names_suggest(
    head: str, tmp_path: Path
) -> None:
    starts = [datetime(day.year, day.month, day.day, 9, 35) for day in SESSIONS]
    times = [start + number * timedelta(minutes=5) for start in starts for number in range(78)]
    path = written(
        tmp_path, head + "\n" + "".join(f"{time:%Y-%m-%dT%H:%M:%S}-05:00,10,12,9,11,5\n" for time in times), "KO_5m.csv"
    )
    assert question(path) == {
        "labelled at the close 312 of 312 fit the sessions": {"label": "close"},
        "labelled at the open 308 of 312 fit": {"label": "open"},
    }


def test_labels_at_the_close_are_ambiguous_in_rows_like_those_of_kibot(tmp_path: Path) -> None:
    path = written(tmp_path, five_minutes(SESSIONS, "%m/%d/%Y", "09:35", 78), "KO_5m.txt")
    assert list(question(path).values()) == [{"label": "close"}, {"label": "open"}]
    assert rows_of(understood(path, label="close").bars)[0][2] == "2024-01-16 14:30"
    opens = written(tmp_path, five_minutes(SESSIONS, "%m/%d/%Y", "09:30", 78), "KO_5m.txt")
    assert understood(opens).label == "at the open of a bar (as Kibot writes them)"


# --- prices that are adjusted for dividends ---------------------------------------------------------------------------


def test_a_file_with_only_an_adjusted_price_is_refused_unless_the_option_columns_names_it_close(tmp_path: Path) -> None:
    path = written(tmp_path, "Date,Adj Close\n2024-03-11,58.9\n2024-03-12,59.1\n", "KO_1d.csv")
    assert refusal(path) == (
        "its only price is Adj Close, which is adjusted for dividends, and stored prices are not; get a file with Close"
    )
    asked = question(path)
    assert asked == {"stored as the close anyway": {"columns": "date,close"}}
    found = understood(path, columns=("date", "close"))
    assert found.bars["close"].to_list() == [58.9, 59.1]
    notes = [note for note in found.source.notes if note.startswith("Adj Close")]
    assert notes == ["Adj Close is read as `--columns` says: it is adjusted for dividends, stored prices are not"]


# --- several instruments ----------------------------------------------------------------------------------------------


def two(column: str, *names: str, days: int = 3) -> str:
    lines = [
        f"2024-03-{11 + day},{name},{10 + place},{12 + place},{9 + place},{11 + place},100"
        for place, name in enumerate(names)
        for day in range(days)
    ]
    return "\n".join([f"Date,{column},Open,High,Low,Close,Volume", *lines]) + "\n"


@pytest.mark.parametrize("column", ["Stock", "#RIC", "Security", "act_symbol", "Stock Code"])
def test_a_column_that_distinguishes_instruments_is_read_as_the_symbol(column: str, tmp_path: Path) -> None:
    found = understood(written(tmp_path, two(column, "KO", "PEP"), "DUO_1d.csv"))
    assert found.bars["symbol"].to_list() == ["KO"] * 3 + ["PEP"] * 3
    alone = understood(written(tmp_path, two(column, "VOD"), "VOD.L_1d.csv"))
    assert alone.bars["symbol"].unique().to_list() == ["VOD.L"]


@pytest.mark.parametrize("column", ["Firm", "Stock"])
def test_a_column_of_company_names_that_distinguishes_instruments_is_refused_and_named(
    column: str, tmp_path: Path
) -> None:
    path = written(tmp_path, two(column, "Coca-Cola Co", "PepsiCo Inc"), "DUO_1d.csv")
    assert refusal(path) == (
        f"it holds several instruments: the same times have other prices where its column {column} says Coca-Cola Co "
        "than where it says PepsiCo Inc; call the column that has symbols `symbol`, or give one file per instrument"
    )
    assert list(question(path).values()) == [{"columns": "date,-,open,high,low,close,volume"}]


def test_an_index_of_symbols_and_times_without_names_is_read(tmp_path: Path) -> None:
    lines = [f"{symbol},2024-03-{day},10,12,9,11,100" for symbol in ("KO", "PEP") for day in (11, 12)]
    found = understood(written(tmp_path, "\n".join([",,Open,High,Low,Close,Volume", *lines]) + "\n", "DUO.csv"))
    assert found.bars["symbol"].to_list() == ["KO", "KO", "PEP", "PEP"]


def test_a_column_of_closes_per_symbol_is_ambiguous_and_columns_to_read_each_are_offered(tmp_path: Path) -> None:
    path = written(tmp_path, "Date,KO,PEP\n2024-03-11,59.4,170.1\n2024-03-12,60.2,171.3\n", "closes.csv")
    assert refusal(path) == "has a column per symbol and does not say which of its prices that holds"
    asked = question(path)
    assert asked == {
        "as the closes of KO": {"symbol": "KO", "columns": "date,close,-"},
        "as the closes of PEP": {"symbol": "PEP", "columns": "date,-,close"},
    }
    found = understood(path, symbol="PEP", columns=("date", "-", "close"))
    assert found.bars.select("symbol", "close").rows() == [("PEP", 170.1), ("PEP", 171.3)]


def test_an_unknown_column_of_symbols_is_ambiguous_and_columns_to_read_it_are_offered(tmp_path: Path) -> None:
    path = written(tmp_path, two("Which", "KO", "PEP"), "DUO_1d.csv")
    first, second = question(path).values()
    assert first == {"columns": "date,symbol,open,high,low,close,volume"}
    assert second == {"columns": "date,-,open,high,low,close,volume"}
    assert understood(path, columns=tuple(first["columns"].split(","))).bars["symbol"].n_unique() == 2


def test_rows_that_no_column_distinguishes_are_kept_as_duplicates(tmp_path: Path) -> None:
    """A column does not distinguish instruments if it is constant, has empty cells, or is the only difference."""
    days = [*(f"2024-03-{day},{{}},10,12,9,11,100" for day in (11, 12, 13, 14)), "2024-03-14,{},10,12,9,11.5,100"]
    head = "Date,Note,Open,High,Low,Close,Volume"
    for notes in (("as traded",) * 5, ("", "", "", "", "corrected"), ("a b", "c d", "e f", "g h", "g h")):
        text = "\n".join([head, *(day.format(note) for day, note in zip(days, notes, strict=True))]) + "\n"
        assert understood(written(tmp_path, text, "KO_1d.csv")).bars.height == 5
    equal = two("Note", "one feed", "another feed").replace(",11,13,10,12,", ",10,12,9,11,")
    assert understood(written(tmp_path, equal, "KO_1d.csv")).bars.height == 6


def test_a_file_with_several_prices_at_most_times_is_refused(tmp_path: Path) -> None:
    text = two("Id", "1001", "1002", days=3)
    path = written(tmp_path, text, "DUO_1d.csv")
    assert refusal(path) == (
        "3 of its 3 1d times have several rows with different prices, such as 2024-03-11 13:30 UTC, so it may hold "
        "several instruments: give one file per instrument, or a column `symbol`"
    )
    assert understood(path, partial=True).bars.height == 6
    thrice = "Date,Open,High,Low,Close\n" + "".join(f"2024-03-{day},10,12,9,11\n" * 3 for day in (11, 12, 13))
    assert understood(written(tmp_path, thrice, "KO_1d.csv")).bars.height == 9
