"""Tests of the forms of files: delimiters, encodings, lines around the table, Excel, Parquet, JSON, compression."""

import bz2
import gzip
import io
import lzma
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import polars as pl
import pytest

from ema_assets.files.options import ReadOptions
from ema_assets.files.reading import read
from ema_assets_tests.files.reader import HEADER, Row, question, read_text, refusal, rows, rows_of, understood, written

HEAD = "Date,Open,High,Low,Close,Volume"
FIRST = ("2024-03-11", "59.4", "60.4", "59.3", "60.1", "16120345")
SECOND = ("2024-03-12", "60.2", "60.6", "59.9", "60.5", "13120345")
TEXT = "\n".join([HEAD, ",".join(FIRST), ",".join(SECOND)]) + "\n"
BARS: list[Row] = [
    ("KO", "1d", "2024-03-11 13:30", 59.4, 60.4, 59.3, 60.1, 16120345.0),
    ("KO", "1d", "2024-03-12 13:30", 60.2, 60.6, 59.9, 60.5, 13120345.0),
]
FRAME = pl.DataFrame(
    {
        "Date": [date(2024, 3, 11), date(2024, 3, 12)],
        "Open": [59.4, 60.2],
        "High": [60.4, 60.6],
        "Low": [59.3, 59.9],
        "Close": [60.1, 60.5],
        "Volume": [16120345, 13120345],
    }
)


def _zipped(*members: tuple[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in members:
            archive.writestr(name, text)
    return buffer.getvalue()


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_every_usual_delimiter_is_detected(tmp_path: Path, delimiter: str) -> None:
    assert rows(tmp_path, TEXT.replace(",", delimiter), "KO.csv") == BARS


def test_columns_separated_by_spaces_are_read_as_pandas_prints_them(tmp_path: Path) -> None:
    text = (
        "            Open  High   Low  Close    Volume\n"
        "2024-03-11  59.4  60.4  59.3   60.1  16120345\n"
        "2024-03-12  60.2  60.6  59.9   60.5  13120345\n"
    )
    assert rows(tmp_path, text, "KO.txt") == BARS


def test_the_name_of_an_index_on_its_own_line_is_not_a_row(tmp_path: Path) -> None:
    text = (
        "            Open  High   Low  Close    Volume\n"
        "Date                                         \n"
        "2024-03-11  59.4  60.4  59.3   60.1  16120345\n"
        "2024-03-12  60.2  60.6  59.9   60.5  13120345\n"
    )
    assert rows(tmp_path, text, "KO.txt") == BARS


@pytest.mark.parametrize(
    ("encode", "noted"),
    [
        (lambda text: b"\xef\xbb\xbf" + text.encode(), ""),
        (lambda text: text.encode("utf-16"), "UTF-16-LE"),
        (lambda text: b"\xfe\xff" + text.encode("utf-16-be"), "UTF-16-BE"),
        (lambda text: text.encode("utf-16-le"), "UTF-16-LE"),
        (lambda text: text.encode("utf-32"), "UTF-32-LE"),
        (lambda text: b"\x00\x00\xfe\xff" + text.encode("utf-32-be"), "UTF-32-BE"),
        (lambda text: ("Kurse in £\n" + text).encode("cp1252"), "Windows-1252"),
        (lambda text: text.replace("\n", "\r\n").encode(), ""),
    ],
    ids=[
        *("UTF-8 with a mark", "UTF-16", "UTF-16 big-endian", "UTF-16 without a mark", "UTF-32", "UTF-32 big-endian"),
        *("Windows-1252", "CRLF"),
    ],
)
def test_every_usual_encoding_is_detected(tmp_path: Path, encode: Callable[[str], bytes], noted: str) -> None:
    path = written(tmp_path, encode(TEXT), "KO.csv")
    found = understood(path)
    assert rows_of(found.bars) == BARS
    assert [note for note in found.source.notes if note[:3] in ("UTF", "Win")] == ([noted] if noted else [])


@pytest.mark.parametrize("end", ["\r", "\r\n", "\r\r\n", "\r\r"])
@pytest.mark.parametrize("above", ["", "Prices\n", "Prices\x0c of\u2028KO\n"])
def test_no_row_is_lost_with_any_line_ending(tmp_path: Path, end: str, above: str) -> None:
    assert rows(tmp_path, (above + TEXT).replace("\n", end), "KO.csv") == BARS


@pytest.mark.parametrize("missing", ["", "N/A", "null"])
def test_rows_without_prices_above_the_first_bar_are_not_column_names(tmp_path: Path, missing: str) -> None:
    empty = "".join(f"2024-03-0{day}{f',{missing}' * 5}\n" for day in (7, 8))
    found = understood(written(tmp_path, TEXT.replace("\n", f"\n{empty}", 1), "KO.csv"))
    assert rows_of(found.bars) == BARS
    assert found.source.notes == ("2 rows without prices left out",)


def test_the_start_of_a_window_is_the_time_of_its_bar(tmp_path: Path) -> None:
    text = (
        "ticker,volume,open,close,high,low,window_start,transactions\n"
        "KO,120,59.4,60.1,60.4,59.3,1710163800000000000,7\n"
        "KO,130,60.2,60.5,60.6,59.9,1710164100000000000,8\n"
    )
    assert rows(tmp_path, text, "2024-03-11_5m.csv") == [
        ("KO", "5m", "2024-03-11 13:30", 59.4, 60.4, 59.3, 60.1, 120.0),
        ("KO", "5m", "2024-03-11 13:35", 60.2, 60.6, 59.9, 60.5, 130.0),
    ]


def test_a_carriage_return_within_a_cell_does_not_end_the_line(tmp_path: Path) -> None:
    text = TEXT.replace("Volume", '"Volume\rshares"')
    assert rows(tmp_path, text, "KO.csv", columns=("ts", "open", "high", "low", "close", "volume")) == BARS


def test_lines_above_and_below_the_table_are_skipped_and_counted(tmp_path: Path) -> None:
    text = (
        "Historical prices\nSymbol: KO, The Coca-Cola Company\n\n" + TEXT + '\n"Source: an exchange, 2024"\nTotal,2\n'
    )
    found = understood(written(tmp_path, text, "KO.csv"))
    assert rows_of(found.bars) == BARS
    assert found.source.notes == ("2 lines above the table left out", "2 lines below the table left out")


@pytest.mark.parametrize("last", ["2024-03-13,60.2,60.6,59.9,60", "2024-03-13,60.2,60.6"])
def test_a_last_line_that_is_cut_off_is_left_out(tmp_path: Path, last: str) -> None:
    found = understood(written(tmp_path, TEXT + last, "KO.csv"))
    assert rows_of(found.bars) == BARS
    assert found.source.notes == ("the last line left out: it is cut off, as in a file that is not complete",)
    # With a line end, or where other rows lack cells as well, it is complete.
    for complete in (TEXT + last + "\n", TEXT + "2024-03-12,60.2,60.6,59.9,60\n" + last):
        assert understood(written(tmp_path, complete, "KO.csv")).bars["ts"].max() == datetime(
            2024, 3, 13, 13, 30, tzinfo=UTC
        )


def test_a_last_line_that_is_cut_off_may_contain_a_stray_return(tmp_path: Path) -> None:
    found = understood(written(tmp_path, f"{TEXT}2024-03-13,60.2,6\r0.6", "KO.csv"))
    assert rows_of(found.bars) == BARS


@pytest.mark.parametrize("above", ["Account,716460,,,,\nName,Coca-Cola,,,,\n", "From,11.03.2024,,,,\nRows,2,,,,\n"])
def test_banners_that_a_spreadsheet_fills_up_to_the_width_of_the_table_are_not_bars(tmp_path: Path, above: str) -> None:
    found = understood(written(tmp_path, f"{above},,,,,\n{TEXT}", "KO.csv"))
    assert rows_of(found.bars) == BARS


def test_bars_above_a_head_in_the_middle_are_not_taken_for_banners(tmp_path: Path) -> None:
    found = question(written(tmp_path, "\n".join([",".join(FIRST), HEAD, ",".join(SECOND)]), "KO.csv"))
    assert list(found.values()) == [{"columns": "ts,open,high,low,close,volume"}]


def test_a_head_repeated_within_the_file_is_not_a_bar(tmp_path: Path) -> None:
    text = "\n".join([HEAD, ",".join(FIRST), HEAD, ",".join(SECOND)])
    found = understood(written(tmp_path, text, "KO.csv"))
    assert rows_of(found.bars) == BARS
    assert found.source.notes == ("1 repeated head left out",)


def test_empty_lines_and_a_delimiter_at_the_end_of_each_line_are_ignored(tmp_path: Path) -> None:
    text = TEXT.replace("\n", ",\n\n")
    assert rows(tmp_path, text, "KO.csv") == BARS


def test_row_names_of_r_need_no_name_in_the_head(tmp_path: Path) -> None:
    text = '"Date" "Open" "High" "Low" "Close" "Volume"\n'.replace(" ", ",")
    text += '"1",2024-03-11,59.4,60.4,59.3,60.1,16120345\n"2",2024-03-12,60.2,60.6,59.9,60.5,13120345\n'
    assert rows(tmp_path, text, "KO.csv") == BARS


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("KO.csv.gz", gzip.compress),
        ("KO.csv.bz2", bz2.compress),
        ("KO.csv.xz", lzma.compress),
        ("KO.zip", lambda data: _zipped(("KO.csv", data.decode()))),
        ("KO.zip", lambda data: _zipped(("__MACOSX/._KO.csv", "x"), ("folder/", ""), ("folder/KO.csv", data.decode()))),
        ("KO.zip", lambda data: _zipped(("README.html", "<html>"), ("KO.csv", data.decode()))),
    ],
)
def test_a_compressed_file_is_read_like_the_file_in_it(
    tmp_path: Path, name: str, pack: Callable[[bytes], bytes]
) -> None:
    assert rows(tmp_path, pack(TEXT.encode()), name) == BARS


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (b"\x28\xb5\x2f\xfd\x04\x00abc", "a zstd file"),
        (b"7z\xbc\xaf\x27\x1c\x00\x04", "a 7z archive"),
        (b"KO.csv".ljust(257, b"\0") + b"ustar  \0", "a tar archive"),
        (gzip.compress(b"KO.csv".ljust(257, b"\0") + b"ustar  \0"), "a tar archive"),
        (_zipped(), "an empty zip archive"),
    ],
    ids=["zstd", "7z", "tar", "packed tar", "empty zip"],
)
def test_an_unsupported_archive_format_is_named(tmp_path: Path, data: bytes, form: str) -> None:
    assert refusal(written(tmp_path, data, "KO.csv")) == f"is {form}; unpack it and give the files"


def test_a_file_of_one_long_line_is_refused_in_one_sentence(tmp_path: Path) -> None:
    assert refusal(written(tmp_path, "x" * 150_000, "KO.csv")).startswith("holds no table of bars: ")


def test_a_generic_name_of_an_array_of_bars_is_not_a_symbol(tmp_path: Path) -> None:
    bars = '[{"t": "2024-03-11", "o": 59.4, "h": 60.4, "l": 59.3, "c": 60.1, "v": 16120345}]'
    for name in ("bars", "candles", "Candles", "OHLC", "prices", "stock_prices"):
        assert rows(tmp_path, f'{{"{name}": {bars}}}', "KO_1d.json") == BARS[:1]
    assert rows(tmp_path, f'{{"KO": {bars}}}', "x_1d.json") == BARS[:1]
    assert [row[0] for row in rows(tmp_path, f'{{"ko": {bars}, "pg": {bars}}}', "x_1d.json")] == ["ko", "pg"]
    paired = rows(tmp_path, f'{{"data": {{"pair": "BTC/USD", "ohlc": {bars}}}}}', "x_1d.json")
    assert [row[0] for row in paired] == ["BTC/USD"]


@pytest.mark.parametrize("wrapped", ['{"code":"0","msg":"","data":[%s]}', '{"code":200000,"data":[%s]}'])
def test_the_code_of_an_answer_saved_as_json_is_not_its_symbol(tmp_path: Path, wrapped: str) -> None:
    text = wrapped % '["1710158400000","59.4","60.4","59.3","60.1","5"]'
    found = rows(tmp_path, text, "BTC-USDT_5m.json", columns=("ts", "open", "high", "low", "close", "volume"))
    assert found == [("BTC-USDT", "5m", "2024-03-11 12:00", 59.4, 60.4, 59.3, 60.1, 5.0)]


def test_the_volume_in_the_base_currency_is_read_where_an_answer_has_both(tmp_path: Path) -> None:
    bar = '{"time":1710158400,"high":60.4,"low":59.3,"open":59.4,"volumefrom":5.5,"volumeto":329.4,"close":60.1}'
    found = rows(tmp_path, f'{{"Response":"Success","Data":{{"Data":[{bar}]}}}}', "BTC-USD_1h.json")
    assert found == [("BTC-USD", "1h", "2024-03-11 12:00", 59.4, 60.4, 59.3, 60.1, 5.5)]


def test_json_objects_of_bars_may_be_keyed_by_symbol_or_timeframe(tmp_path: Path) -> None:
    day = '{"o": [59.4], "h": [60.4], "l": [59.3], "c": [60.1], "v": [16120345], "t": ["%s"]}'
    by_symbol = f'{{"KO": {day % "2024-03-11"}, "PG": {day % "2024-03-12"}}}'
    assert [row[:3] for row in rows(tmp_path, by_symbol, "AAPL_1d.json")] == [
        ("KO", "1d", "2024-03-11 13:30"),
        ("PG", "1d", "2024-03-12 13:30"),
    ]
    prices = '{"2024-03-11": {"open": 59.4, "high": 60.4, "low": 59.3, "close": 60.1}}'
    by_day = f'{{"KO": {prices}, "PG": {prices}}}'
    assert [row[0] for row in read_text(tmp_path, by_day, "AAPL_1d.json").bars.rows()] == ["KO", "PG"]
    by_timeframe = f'{{"KO": {{"1d": {day % "2024-03-11"}, "1h": {day % "2024-03-12T14:00:00Z"}}}}}'
    assert [row[:2] for row in rows(tmp_path, by_timeframe, "KO.json")] == [("KO", "1d"), ("KO", "1h")]


def test_the_form_of_a_file_is_detected_from_its_bytes_and_not_from_its_name(tmp_path: Path) -> None:
    assert rows(tmp_path, gzip.compress(TEXT.encode()), "KO.csv") == BARS
    buffer = io.BytesIO()
    FRAME.write_parquet(buffer)
    assert rows(tmp_path, buffer.getvalue(), "KO.csv") == BARS


@pytest.mark.parametrize("form", ["parquet", "feather", "stream"])
def test_parquet_and_arrow_files_are_read(tmp_path: Path, form: str) -> None:
    path = tmp_path / "KO.data"
    if form == "parquet":
        FRAME.write_parquet(path)
    elif form == "feather":
        FRAME.write_ipc(path, compression="lz4")
    else:
        FRAME.write_ipc_stream(path)
    assert rows_of(understood(path, symbol="KO").bars) == BARS


def test_an_index_that_pandas_stores_without_a_name_behind_the_columns_is_the_time(tmp_path: Path) -> None:
    path = tmp_path / "KO.parquet"
    FRAME.select(pl.exclude("Date"), pl.col("Date").alias("__index_level_0__")).write_parquet(path)
    assert rows_of(understood(path).bars) == BARS


def test_a_timestamp_of_a_type_of_its_own_beside_a_date_is_the_whole_time(tmp_path: Path) -> None:
    path = tmp_path / "KO_1d.parquet"
    FRAME.with_columns(timestamp=pl.col("Date").cast(pl.Datetime("us", "UTC")).dt.offset_by("13h30m")).write_parquet(
        path
    )
    assert rows_of(understood(path).bars) == BARS


def test_prices_of_single_precision_are_read_as_their_shortest_decimals(tmp_path: Path) -> None:
    path = tmp_path / "KO.parquet"
    FRAME.with_columns(pl.col(pl.Float64).cast(pl.Float32)).write_parquet(path)
    assert rows_of(understood(path).bars) == BARS


def test_an_excel_sheet_with_dates_and_numbers_below_a_title_is_read(tmp_path: Path) -> None:
    import xlsxwriter

    path = tmp_path / "KO.xlsx"
    with xlsxwriter.Workbook(path) as book:
        book.add_worksheet("Notes").write("A1", "Prices of KO")
        FRAME.write_excel(book, worksheet="Prices", position=(3, 1))
        book.get_worksheet_by_name("Prices").write("A1", "Downloaded yesterday")
    found = understood(path)
    assert rows_of(found.bars) == BARS
    assert "sheet 'Prices' of 2" in found.source.notes


def test_an_excel_file_with_bars_in_several_sheets_is_refused(tmp_path: Path) -> None:
    import xlsxwriter

    path = tmp_path / "prices.xlsx"
    with xlsxwriter.Workbook(path) as book:
        FRAME.write_excel(book, worksheet="KO")
        book.add_worksheet("Dividends").write_row(0, 0, ["Date", "Amount"])
        FRAME.write_excel(book, worksheet="PG")
    assert refusal(path) == "has tables of the same columns in the sheets KO, PG; name one of them"


def test_an_excel_file_with_times_of_day_keeps_them(tmp_path: Path) -> None:
    import xlsxwriter

    path = tmp_path / "KO_5m.xlsx"
    times = [datetime(2024, 3, 11, 13, 30), datetime(2024, 3, 11, 13, 35)]
    frame = FRAME.rename({"Date": "Time (UTC)"}).with_columns(pl.Series("Time (UTC)", times))
    with xlsxwriter.Workbook(path) as book:
        frame.write_excel(book)
    found = understood(path, tz="UTC")
    assert [row[2] for row in rows_of(found.bars)] == ["2024-03-11 13:30", "2024-03-11 13:35"]


@pytest.mark.parametrize(
    ("clocks", "form"),
    [([time(9, 30), time(9, 35)], "hh:mm:ss"), ([timedelta(minutes=570), timedelta(minutes=575)], "[h]:mm")],
    ids=["times", "durations"],
)
def test_an_excel_file_with_dates_and_times_in_two_columns_is_read(
    tmp_path: Path, clocks: list[time | timedelta], form: str
) -> None:
    import xlsxwriter

    path = tmp_path / "KO_5m.xlsx"
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["Date", "Time", "Open", "High", "Low", "Close"])
        for place, clock in enumerate(clocks, 1):
            sheet.write_datetime(place, 0, date(2024, 3, 11), book.add_format({"num_format": "yyyy-mm-dd"}))
            sheet.write_datetime(place, 1, clock, book.add_format({"num_format": form}))
            sheet.write_row(place, 2, [59.4, 60.4, 59.3, 60.1])
    found = read(path, ReadOptions()).bars
    assert found["wall"].to_list() == [datetime(2024, 3, 11, 9, 30), datetime(2024, 3, 11, 9, 35)]


def test_parquet_with_times_of_day_as_durations_is_read(tmp_path: Path) -> None:
    path = tmp_path / "KO_5m.parquet"
    clocks = pl.Series([timedelta(minutes=570), timedelta(minutes=575)])
    FRAME.with_columns(clocks.alias("Time"), pl.lit(date(2024, 3, 11)).alias("Date")).write_parquet(path)
    found = read(path, ReadOptions()).bars
    assert found["wall"].to_list() == [datetime(2024, 3, 11, 9, 30), datetime(2024, 3, 11, 9, 35)]


def test_parquet_with_text_as_bytes_or_categories_is_read(tmp_path: Path) -> None:
    path = tmp_path / "bars.parquet"
    frame = FRAME.with_columns(pl.lit("KO").alias("Symbol").cast(pl.Binary), pl.lit("1d").alias("Timeframe"))
    frame = frame.with_columns(pl.exclude("Symbol").cast(pl.String)).cast({"Close": pl.Binary, "Open": pl.Categorical})
    frame.write_parquet(path)
    assert rows_of(understood(path).bars) == BARS


@pytest.mark.parametrize(
    "text",
    [
        FRAME.cast({"Date": pl.String}).write_json(),
        FRAME.cast({"Date": pl.String}).write_ndjson(),
        (
            '{"Date":{"0":"2024-03-11","1":"2024-03-12"},"Open":{"0":59.4,"1":60.2},"High":{"0":60.4,"1":60.6},'
            '"Low":{"0":59.3,"1":59.9},"Close":{"0":60.1,"1":60.5},"Volume":{"0":16120345,"1":13120345}}'
        ),
        (
            '{"Open":{"1710115200000":59.4,"1710201600000":60.2},"High":{"1710115200000":60.4,"1710201600000":60.6},'
            '"Low":{"1710115200000":59.3,"1710201600000":59.9},"Close":{"1710115200000":60.1,"1710201600000":60.5},'
            '"Volume":{"1710115200000":16120345,"1710201600000":13120345}}'
        ),
        (
            '{"Date":["2024-03-08","2024-03-11","2024-03-12"],"Open":[NaN,59.4,60.2],"High":[NaN,60.4,60.6],'
            '"Low":[NaN,59.3,59.9],"Close":[NaN,60.1,60.5],"Volume":[NaN,16120345,13120345]}'
        ),
        (
            '{"columns":["Open","High","Low","Close","Volume"],"index":[1710115200000,1710201600000],'
            '"data":[[59.4,60.4,59.3,60.1,16120345],[60.2,60.6,59.9,60.5,13120345]]}'
        ),
        (
            '{"index":[7,8],"columns":["Date","Open","High","Low","Close","Volume"],"index_names":[null],'
            '"data":[["2024-03-11",59.4,60.4,59.3,60.1,16120345],["2024-03-12",60.2,60.6,59.9,60.5,13120345]]}'
        ),
    ],
    ids=["rows", "lines", "columns", "columns by epoch", "columns with NaN", "split", "tight"],
)
def test_json_written_by_data_frame_libraries_is_read(tmp_path: Path, text: str) -> None:
    assert rows(tmp_path, text, "KO_1d.json") == BARS


def test_json_whose_rows_do_not_fit_its_columns_is_refused(tmp_path: Path) -> None:
    text = '{"columns":["Open","Close"],"index":[1710115200000,1710201600000],"data":[[59.4,60.1],[60.2]]}'
    assert (
        refusal(written(tmp_path, text, "KO_1d.json"))
        == "holds no table of bars: nowhere in this JSON are rows with prices"
    )


def test_rows_may_be_in_any_order(tmp_path: Path) -> None:
    text = "\n".join([HEAD, ",".join(SECOND), ",".join(FIRST)])
    assert sorted(rows(tmp_path, text, "KO.csv")) == BARS


def test_the_option_columns_names_the_columns_of_a_file_without_a_head(tmp_path: Path) -> None:
    text = "KO;11.03.2024;x;60,1;59,4;59,3;60,4\n"
    columns = ("symbol", "date", "-", "close", "open", "low", "high")
    expected = [("KO", "1d", "2024-03-11 13:30", 59.4, 60.4, 59.3, 60.1, None)]
    assert rows(tmp_path, text, "x.csv", columns=columns) == expected


def test_the_option_columns_wins_over_the_head(tmp_path: Path) -> None:
    text = "Tag;Anfang;Spitze;Boden;Ende\n2024-03-11;59.4;60.4;59.3;60.1\n"
    assert "no column has a name that is known" in refusal(written(tmp_path, text, "KO.csv"))
    found = rows(tmp_path, text, "KO.csv", columns=("ts", "open", "high", "low", "close"))
    assert found == [("KO", "1d", "2024-03-11 13:30", 59.4, 60.4, 59.3, 60.1, None)]


def test_parquet_with_pairs_of_field_and_ticker_as_column_names_is_read(tmp_path: Path) -> None:
    """This is how pandas writes a table with two rows of names, with its index after the columns."""
    path = tmp_path / "download_1d.parquet"
    names = {"Close": 60.1, "High": 60.4, "Low": 59.3, "Open": 59.4, "Volume": 16120345.0}
    values = {f"('{name}', '{ticker}')": [value] for name, value in names.items() for ticker in ("KO", "PEP")}
    pl.DataFrame({**values, "Date": [datetime(2024, 3, 11)]}).write_parquet(path)
    assert rows_of(understood(path).bars) == [BARS[0], ("PEP", *BARS[0][1:])]


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "holds no table of bars: it is empty"),
        (b"\n\n", "holds no table of bars: it is empty"),
        (b"just a sentence\n", "holds no table of bars: its first line is 'just a sentence'"),
        (b"<html>\n<body>no bars</body>\n</html>\n", "is a web page, not bars; download the file itself"),
        (bytes(range(256)) * 40, "is no text, no Parquet, no Feather, no Excel and no JSON"),
        (b"PAR1 but no more", "cannot be read: "),
        (b"PK\x03\x04\x14\x00\x08\x08\x08\x00\xff\xfe\x00\x01", "cannot be read: "),
        (b"\x1f\x8b\x08 broken", "cannot be read: "),
        (b"\xd0\xcf\x11\xe0 broken", "cannot be read as Excel: "),
        (b"FEA1 of old", "is Feather of version 1; write it as version 2 or as Parquet"),
        (b'{"error": "rate limit"}', "holds no table of bars: nowhere in this JSON are rows with prices"),
        (b'{"error": ', "cannot be read as JSON: "),
        (b"[]", "holds no table of bars"),
        (b"[" + b"9" * 5_000 + b"]", "holds no table of bars"),
        (b'[{"date": "2024-03-11", "symbol": "\\ud800", "close": 1}]', "cannot be read: "),
        (
            _zipped(("a.csv", TEXT), ("b.csv", TEXT)),
            "is an archive of 2 files of bars; unpack it and give the files",
        ),
        (_zipped(), ""),
        (
            b"Date,Open,High,Low,Close\n2024-03-11,59,4,60,4,59,3,60,1\n2024-03-12,60,2,60,6,59,9,60,5\n",
            "",
        ),
        (
            f"{HEAD}\n".encode()
            + b"2024-03-11,1,2,1,2,5\n" * 30
            + b"2024-03-12,1,2,1,2,5,6,7\n"
            + b"2024-03-13,1,2,1,2,5\n" * 30,
            "line 32 has 8 cells where the others have 6",
        ),
    ],
)
def test_a_file_without_bars_is_refused_in_one_sentence(tmp_path: Path, content: bytes, expected: str) -> None:
    assert expected in refusal(written(tmp_path, content, "KO.csv"))


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.csv") == "no such file"
    (tmp_path / "folder.csv").mkdir()
    assert refusal(tmp_path / "folder.csv") == "cannot be read: Is a directory"


def test_missing_columns_are_named_with_the_existing_ones(tmp_path: Path) -> None:
    sentence = refusal(written(tmp_path, "Date,Open,High,Low\n2024-03-11,1,2,1\n", "KO.csv"))
    assert sentence.startswith("lacks the column close; needed are ts (or date and time), open, high, low, close")
    assert "found are date, open, high, low" in sentence
    assert "lacks the columns ts, high, low" in refusal(written(tmp_path, "Open,Close\n1,2\n", "KO.csv"))


def test_two_columns_that_differ_only_in_case_are_refused(tmp_path: Path) -> None:
    sentence = refusal(written(tmp_path, "Date,Close,close,Open,High,Low\n2024-03-11,1,2,1,2,1\n", "KO.csv"))
    assert sentence == "two columns are called close; leave one of them"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("AA PL,5m,2026-11-25 15:00,1,2,1,2,5", "line 3: `symbol` must be"),
        (",5m,2026-11-25 15:00,1,2,1,2,5", "line 3: `symbol` must be"),
        (
            "AAPL,25h,2026-11-25 15:00,1,2,1,2,5",
            "line 3: `timeframe` must be one of 1m, 3m, 5m, 15m, 30m, 45m, 1h, 2h, 4h, 1d, 1w, 1M, 3M, 12M, or any other number of minutes or hours below a day, such as 90m, received '25h'",
        ),
        ("AAPL,,2026-11-25 15:00,1,2,1,2,5", "line 3: `timeframe` must be"),
    ],
)
def test_a_malformed_key_is_named_with_its_line(tmp_path: Path, line: str, expected: str) -> None:
    text = f"{HEADER}\nAAPL,5m,2026-11-25 15:00,1,2,1,2,5\n{line}\n"
    assert expected in refusal(written(tmp_path, text))


def test_a_file_with_only_a_head_has_no_bars(tmp_path: Path) -> None:
    found = understood(written(tmp_path, HEADER + "\n"))
    assert found.bars.is_empty()


def test_a_price_that_is_not_a_number_is_read_as_null(tmp_path: Path) -> None:
    text = f"{HEADER}\nKO,1d,2024-03-11,59.4,60.4,59.3,about 60,5\n"
    assert read_text(tmp_path, text).bars["close"].to_list() == [None]


def test_prices_of_bid_and_ask_are_ambiguous(tmp_path: Path) -> None:
    head = "DateTime,BidOpen,BidHigh,BidLow,BidClose,AskOpen,AskHigh,AskLow,AskClose,Volume"
    path = written(tmp_path, f"{head}\n2024-03-11,1,3,1,2,2,4,2,3,7\n", "KO_1d.csv")
    assert refusal(path) == "has prices of bid and of ask"
    assert question(path) == {
        "as the prices of bid": {"columns": "ts,open,high,low,close,-,-,-,-,volume"},
        "as the prices of ask": {"columns": "ts,-,-,-,-,open,high,low,close,volume"},
    }


@pytest.mark.parametrize("day", ["20/10/2568", "1404-10-20"])
def test_years_of_another_calendar_are_refused(tmp_path: Path, day: str) -> None:
    """As of Thailand and of Iran."""
    path = written(tmp_path, f"{HEAD}\n{day},1,3,1,2,7\n", "KO.csv")
    assert refusal(path) == (
        f"line 2: `ts` must have a year of the Gregorian calendar from 1700 to 2199, received {day!r} (1 such line)"
    )


def test_ticks_without_a_head_are_refused_in_one_sentence(tmp_path: Path) -> None:
    path = written(tmp_path, "EUR/USD,20240311 21:00:00.000,1.0853,1.0854\n" * 3, "ticks.csv")
    assert refusal(path) == "has no head that names its columns; `--columns` says what each of them is"


def test_rows_of_dividends_and_splits_between_the_bars_are_left_out(tmp_path: Path) -> None:
    """As on the pages of Yahoo Finance."""
    text = f"{HEAD}\n{','.join(FIRST)}\n{FIRST[0]},0.46 Dividend,,,,\n{SECOND[0]},2:1 Stock Splits,,,,\n{','.join(SECOND)}\n"
    found = understood(written(tmp_path, text, "KO.csv"))
    assert rows_of(found.bars) == BARS
    assert "2 rows without prices left out" in found.source.notes


@pytest.mark.parametrize(
    ("head", "line", "expected"),
    [
        # Kaggle's history of bitcoin, Barchart, Dukascopy, CoinGecko.
        ("Timestamp,Open,High,Low,Close,Volume_(BTC),Volume_(Currency)", "1710115200,1,3,1,2,7,14", (1, 3, 1, 2, 7)),
        ("Time,Open,High,Low,Latest,Change,%Change,Volume", "2024-03-11,1,3,1,2,0.1,5%,7", (1, 3, 1, 2, 7)),
        ("Time (UTC),Open,High,Low,Close,Volume ", "2024-03-11,1,3,1,2,7", (1, 3, 1, 2, 7)),
        ("Date (UTC),Time (UTC),Open,High,Low,Close", "2024-03-11,00:00,1,3,1,2", (1, 3, 1, 2, None)),
        ("time,volume,mid.o,mid.h,mid.l,mid.c", "2024-03-11,7,1,3,1,2", (1, 3, 1, 2, 7)),
        ("Date,Timestamp,Open,High,Low,Close", "20240311,00:00:00,1,3,1,2", (1, 3, 1, 2, None)),
        ("Time left,Time right,Open,High,Low,Close", "2024-03-11,2024-03-12,1,3,1,2", (1, 3, 1, 2, None)),
        ("Date;Bid;Ask;Opening price;High price;Low price;Closing price", "2024-03-11;2;2;1;3;1;2", (1, 3, 1, 2, None)),
        ("Date;Open;High;Low;Last;Close;Number of Shares", "2024-03-11;1;3;1;9;2;7", (1, 3, 1, 2, 7)),
        (
            "time_period_start,time_period_end,time_open,price_open,price_high,price_low,price_close,volume_traded",
            "2024-03-11,2024-03-12,2024-03-11 00:00:03,1,3,1,2,7",
            (1, 3, 1, 2, 7),
        ),
        ("MTS,OPEN,CLOSE,HIGH,LOW,VOLUME", "1710115200000,1,2,3,1,7", (1, 3, 1, 2, 7)),
        ("SECID;TRADEDATE;OPEN;LOW;HIGH;CLOSE;VOLUME", "BTC-USD;2024-03-11;1;1;3;2;7", (1, 3, 1, 2, 7)),
        ("snapped_at,price,market_cap", "2024-03-11 00:00:00 UTC,2,14", (2, 2, 2, 2, None)),
        ("Date,Open,High,Low,Close,Volume MA,Volume USD", "2024-03-11,1,3,1,2,7,8", (1, 3, 1, 2, None)),
    ],
)
def test_columns_may_be_named_with_their_units_and_zones(
    tmp_path: Path, head: str, line: str, expected: tuple[float | None, ...]
) -> None:
    assert rows(tmp_path, f"{head}\n{line}\n", "BTC-USD_1d.csv") == [("BTC-USD", "1d", "2024-03-11 00:00", *expected)]


@pytest.mark.parametrize(
    ("line", "columns"),
    [
        ("2024-03-11,59.4,60.4,59.3,60.1,16120345", "ts,open,high,low,close,volume"),
        ("2024-03-11 09:30;59,4;60,4;59,3;60,1", "ts,open,high,low,close"),
        ("03/11/2024\t09:30\t59.4\t60.4\t59.3\t60.1\t5\t7", "date,time,open,high,low,close,volume,-"),
        ("20240311 083000;59.4;60.4;59.3;60.1;1200", "ts,open,high,low,close,volume"),
        ("2024-03-11,60.1", "ts,close"),
        # Cells after the prices are not prices and do not change how the cells before them are read.
        ("2024-03-11,59.4,60.4,59.3,60.1,16120345,USD", "ts,open,high,low,close,volume,-"),
        ("03/11/2024,09:30,59.4,60.4,59.3,60.1,5,USD,7", "date,time,open,high,low,close,volume,-,-"),
        ("KO,2024-03-11,09:30,59.4,60.4,59.3,60.1,NYSE", "symbol,date,time,open,high,low,close,-"),
        ("2024-03-11,59.4,60.4,59.3,60.1,5,,", "ts,open,high,low,close,volume,-,-"),
        ("2024-03-11,60.1,USD", "ts,close,-"),
        # As EODData and MetaStock write them.
        ("KO,20240311,59.4,60.4,59.3,60.1,16120345", "symbol,ts,open,high,low,close,volume"),
        ("KO,11-Mar-2024,59.4,60.4,59.3,60.1,16120345", "symbol,ts,open,high,low,close,volume"),
        ("005930.KS,20240311,72400,73100,72000,72300,9740504", "symbol,ts,open,high,low,close,volume"),
        ("KO,D,20240311,59.4,60.4,59.3,60.1,16120345", "symbol,timeframe,ts,open,high,low,close,volume"),
        ("KO,5,20240311,0930,59.4,60.4,59.3,60.1,5", "symbol,timeframe,date,time,open,high,low,close,volume"),
    ],
)
def test_a_file_without_a_head_is_ambiguous_and_likely_columns_are_offered(
    tmp_path: Path, line: str, columns: str
) -> None:
    path = written(tmp_path, f"{line}\n{line}\n", "x.csv")
    assert refusal(path) == "has no head that names its columns"
    assert [each["columns"] for each in question(path).values()] == [columns]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (pl.concat_list("Close"), "`close` must be numbers or text, its column holds List(Float64)"),
        (pl.lit(b"\xff").alias("Close"), "`close` must be numbers or text, its column holds Binary"),
        (pl.lit(timedelta(hours=9)).alias("Date"), "`ts` must be a time, a date, an epoch or text, its column holds "),
        (
            pl.lit(float("nan")).alias("Date"),
            "line 1: `ts` must be a time such as 2024-02-14T14:30:00Z, received 'NaN'",
        ),
        (pl.lit("1,234").alias("Volume"), "the comma in its numbers may set thousands apart or be the decimal sign"),
    ],
    ids=["lists", "bytes", "durations", "no number as a time", "text of volumes"],
)
def test_parquet_with_invalid_columns_is_refused_in_one_sentence(
    tmp_path: Path, changed: pl.Expr, expected: str
) -> None:
    path = tmp_path / "KO_1d.parquet"
    FRAME.with_columns(changed).write_parquet(path)
    assert expected in refusal(path)


def test_rows_of_numbers_without_a_time_are_refused(tmp_path: Path) -> None:
    assert refusal(written(tmp_path, "a,1,2,3,4,5\nb,1,2,3,4,5\n")) == (
        "holds no table of bars: its first row is 'a 1 2 3 4 5'"
    )


@pytest.mark.broad
def test_the_library_for_excel_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, ema_assets.cli, ema_assets.files.reading; print('fastexcel' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_wide_table_may_have_integer_volumes_of_one_ticker_and_float_volumes_of_another(tmp_path: Path) -> None:
    """pandas writes such volumes if one ticker has a day without a bar."""
    fields = ("Open", "High", "Low", "Close", "Volume")
    days = [date(2026, 11, 23), date(2026, 11, 24)]
    columns = {f"('{field}', '{ticker}')": [10.0, 10.5] for ticker in ("AAPL", "MSFT") for field in fields}
    volumes = {"('Volume', 'AAPL')": [100, 200], "('Volume', 'MSFT')": [300.0, None]}
    path = tmp_path / "wide_1d.parquet"
    pl.DataFrame({"Date": days, **columns, **volumes}).write_parquet(path)
    found = read(path, ReadOptions()).bars.sort("symbol")
    assert found["volume"].to_list() == [100.0, 200.0, 300.0, None]


def test_a_symbol_column_of_an_invalid_type_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "AAPL_1d.parquet"
    FRAME.with_columns(pl.concat_list(pl.lit("AAPL")).alias("Symbol")).write_parquet(path)
    assert "cannot be read as bars: " in refusal(path)
