"""The symbol and the timeframe of a file's bars: what decides them, and what is refused."""

import json
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from ema_assets.files.keys import are_symbols
from ema_assets.files.options import ReadOptions
from ema_assets.files.reading import read
from ema_assets_tests.files.reader import question, refusal, understood, written

HEAD = "ts,open,high,low,close\n"


def days_apart(step: int) -> str:
    """Eight bars that are `step` days apart."""
    return HEAD + "".join(f"{date(2025, 1, 6) + timedelta(days=step * number)},1,2,1,2\n" for number in range(8))


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["KO", "PEP"], True),
        (["KO", "PEP", None, "", " "], True),
        (["BRKb.N", "CLc1"], True),
        (["Ab", "Cd"], False),
        (["Apple", "KO"], False),
        (["KO", "KO "], False),
        (["KO", "", None], False),
    ],
)
def test_several_texts_in_capitals_can_be_symbols(texts: list[str | None], expected: bool) -> None:
    assert are_symbols(pl.Series(texts)) is expected


@pytest.mark.parametrize(
    ("symbol", "known", "expected"),
    [("ko", {"KO"}, "KO"), ("ko", set(), "ko"), ("ko", {"ko", "KO"}, "ko"), ("Ko", {"KO"}, "Ko")],
)
def test_a_symbol_in_small_letters_is_a_known_one_in_capitals(
    tmp_path: Path, symbol: str, known: set[str], expected: str
) -> None:
    path = written(tmp_path, f"symbol,{HEAD}{symbol},2025-01-14,1,2,1,2\n", "bars_1d.csv")
    assert read(path, ReadOptions(), known).bars["symbol"].to_list() == [expected]


def test_a_name_says_nothing_against_bars_that_are_weeks_or_months_apart(tmp_path: Path) -> None:
    """Binance and others call a month 1M, which is a minute elsewhere."""
    path = written(tmp_path, days_apart(31), "BTC-USD_1M.csv")
    assert refusal(path) == (
        "its bars are 31 days apart, which 1m bars (the name of the file) are not; weeks and months are rolled up from "
        "1d bars here, so ingest those"
    )


def test_the_symbol_of_a_column_with_one_text_that_is_no_symbol_can_be_given(tmp_path: Path) -> None:
    path = written(tmp_path, f"symbol,{HEAD}KO US Equity,2025-01-14,1,2,1,2\n", "bars_1d.csv")
    assert refusal(path).startswith("line 2: `symbol` must be 1 to 32 letters")
    assert understood(path, symbol="KO").bars["symbol"].to_list() == ["KO"]


def test_words_in_the_name_of_a_file_are_offered_as_its_symbol(tmp_path: Path) -> None:
    path = written(tmp_path, f"{HEAD}2025-01-14,1,2,1,2\n", "KO_1d_ib.csv")
    asked = list(question(path).values())
    assert asked == [{"symbol": "KO"}, {"symbol": "SYMBOL"}]
    assert understood(path, **asked[0]).bars["symbol"].to_list() == ["KO"]


def test_an_exchange_in_the_name_of_a_file_is_part_of_its_symbol_unless_the_layout_implies_it(tmp_path: Path) -> None:
    assert read(written(tmp_path, f"{HEAD}2025-01-14,1,2,1,2\n", "LSE_VOD, 1D.csv"), ReadOptions()).bars[
        "symbol"
    ].to_list() == ["LSE:VOD"]
    india = "Date ,Open ,High ,Low ,Close ,Shares Traded ,Turnover (₹ Cr)\n14-JAN-2025,1,2,1,2,3,4\n"
    found = read(written(tmp_path, india, "NSE_INFY.csv"), ReadOptions())
    assert (found.layout.calendar, found.bars["symbol"].to_list()) == ("XBOM", ["INFY"])


def test_a_text_beside_the_table_that_is_no_symbol_is_refused_with_the_option_that_helps(tmp_path: Path) -> None:
    bars = [{"t": 1736812800000, "o": 1, "h": 2, "l": 1, "c": 2, "v": 5}]
    path = written(tmp_path, json.dumps({"ticker": "no, not a symbol", "results": bars}), "bars_1d.json")
    assert refusal(path).endswith("; give `--symbol`")
    assert understood(path, symbol="KO").bars["symbol"].to_list() == ["KO"]


def test_a_name_with_a_length_that_is_no_timeframe_leaves_it_to_the_distance(tmp_path: Path) -> None:
    lines = "".join(f"2025-01-14T15:{minute:02}Z,1,2,1,2\n" for minute in range(0, 30, 5))
    found = understood(written(tmp_path, HEAD + lines, "KO_90s.csv"))
    assert found.bars["timeframe"].unique().to_list() == ["5m"]
    assert found.source.keys.timeframe_from == "the distance of its bars"


@pytest.mark.parametrize("name", ["BTC-USD.csv", "BTC-USD_1d.csv"])
def test_days_up_to_four_apart_are_those_of_1d(tmp_path: Path, name: str) -> None:
    for step in (1, 2, 4):
        found = understood(written(tmp_path, days_apart(step), name))
        assert found.bars["timeframe"].unique().to_list() == ["1d"]
    assert refusal(written(tmp_path, days_apart(5), name)).startswith("its bars are 5 days apart")


def test_three_times_of_two_clocks_are_too_few_to_be_days(tmp_path: Path) -> None:
    texts = ("2025-01-14T15:00Z", "2025-01-15T15:00Z", "2025-01-16T16:00Z")
    path = written(tmp_path, HEAD + "".join(f"{text},1,2,1,2\n" for text in texts), "KO.csv")
    assert list(question(path).values()) == [{"timeframe": "TIMEFRAME"}]
