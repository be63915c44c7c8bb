"""Tests of times whose year, month and day, hour and minute are columns of their own."""

from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from ema_assets.files.options import ReadOptions
from ema_assets.files.reading import read
from ema_assets.model.errors import BarFileError
from ema_assets_tests.files.reader import read_text

PRICES = "open,high,low,close,volume"
BAR = "10,12,9,11,100"


@pytest.mark.parametrize(
    ("names", "parts", "expected"),
    [
        ("year,month,day", "2024,2,5", "2024-02-05"),
        ("Year,Month,Day", "2024,02,05", "2024-02-05"),
        ("day,month,year", "5,2,2024", "2024-02-05"),
        ("yyyy,mm,dd", "2024,2,5", "2024-02-05"),
        ("year,month,day,hour", "2024,2,5,9", "2024-02-05 09:00"),
        ("year,month,day,hour,minute", "2024,2,5,9,5", "2024-02-05 09:05"),
        ("Year,Month,Day,Hour,Min", "2024,2,5,9,5", "2024-02-05 09:05"),
        ("year,month,day,time", "2024,2,5,09:35", "2024-02-05 09:35"),
        ("year,month,day,,", "2024,2,5,7,8", "2024-02-05"),
        ("year,month,day,hour,minute,second", "2024.0,2.0,5.0,9.0,35.0,0.0", "2024-02-05 09:35"),
    ],
)
def test_parts_of_a_time_in_several_columns_are_joined(names: str, parts: str, expected: str, tmp_path: Path) -> None:
    found = read_text(tmp_path, f"{names},{PRICES}\n{parts},{BAR}\n")
    assert found.bars["wall"].to_list() == [datetime.fromisoformat(expected)]
    assert found.bars.select("open", "high", "low", "close", "volume").row(0) == (10, 12, 9, 11, 100)


def test_parts_of_a_time_may_be_numbers_of_parquet(tmp_path: Path) -> None:
    path = tmp_path / "AAPL_1d.parquet"
    columns = {"year": [2024], "month": [2], "day": [5]} | dict.fromkeys(("open", "high", "low", "close"), [11.0])
    pl.DataFrame(columns).write_parquet(path)
    assert read(path, ReadOptions()).bars["wall"].to_list() == [datetime(2024, 2, 5)]


def test_a_date_beside_its_parts_is_read_alone(tmp_path: Path) -> None:
    found = read_text(tmp_path, f"date,year,month,day,{PRICES}\n2024-02-06,2024,2,5,{BAR}\n")
    assert found.bars["wall"].to_list() == [datetime(2024, 2, 6)]


def test_parts_that_are_no_time_are_refused_with_what_they_say(tmp_path: Path) -> None:
    with pytest.raises(BarFileError, match=r"line 3: `ts` must be a time such as .*, received '2024-13-05'"):
        read_text(tmp_path, f"year,month,day,{PRICES}\n2024,2,5,{BAR}\n2024,13,5,{BAR}\n")
