"""Tests of the parsing of symbols, timeframes and series keys."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ema_assets.model.errors import ConfigurationError, InvalidKeyError
from ema_assets.model.symbols import Instrument, Series, parse_symbol, parse_timeframe
from ema_assets.model.timeframes import Timeframe
from ema_assets_tests.timeframes import FETCHED, H4, M5, ORDER, ROLLED_UP

SYMBOLS = [
    "AAPL",
    "BRK.B",
    "BTC-USD",
    "^GSPC",
    "ES=F",
    "EURUSD=X",
    "BTC/USD",
    "0700.HK",
    "M&M.NS",
    "a",
    "X:BTCUSD",
    "A_B",
    "9" * 32,
]
NO_SYMBOLS = [
    "",
    " ",
    "AAPL ",
    " AAPL",
    "A|B",
    "A,B",
    "A[0]",
    "A\nB",
    "AAPL\n",
    "A\x00",
    ".A",
    "-A",
    "/A",
    "Ä",
    "A B",
    "A" * 33,
]


@pytest.mark.parametrize("text", SYMBOLS)
def test_symbols_of_vendors_are_accepted(text: str) -> None:
    assert parse_symbol(text) == text


@pytest.mark.parametrize("text", NO_SYMBOLS)
def test_any_other_text_is_refused_and_the_error_names_what_was_received(text: str) -> None:
    with pytest.raises(InvalidKeyError) as caught:
        parse_symbol(text)
    assert "`symbol` must be 1 to 32 letters" in str(caught.value)
    assert repr(text) in str(caught.value)
    assert isinstance(caught.value, ConfigurationError)


@pytest.mark.broad
@given(st.text())
def test_a_symbol_never_contains_characters_that_dagster_reserves(text: str) -> None:
    try:
        symbol = parse_symbol(text)
    except InvalidKeyError:
        return
    assert not set(symbol) & set("|,[]\n\r\t\x00 ")


@given(st.sampled_from(SYMBOLS), st.sampled_from(ORDER))
def test_a_series_that_was_written_can_be_parsed_again(symbol: str, timeframe: Timeframe) -> None:
    series = Series(symbol, timeframe)
    assert str(series) == f"{symbol}|{timeframe.key}"
    assert Series.parse(str(series)) == series


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("AAPL", "a series must read SYMBOL|TIMEFRAME such as AAPL|5m, received 'AAPL'"),
        ("", "a series must read SYMBOL|TIMEFRAME"),
        ("|5m", "`symbol` must be"),
        (
            "AAPL|",
            "`timeframe` must be one of 1m, 3m, 5m, 15m, 30m, 45m, 1h, 2h, 4h, 1d, 1w, 1M, 3M, 12M, or any other number of minutes or hours below a day, such as 90m, received ''",
        ),
        (
            "AAPL|5M",
            "`timeframe` must be one of 1m, 3m, 5m, 15m, 30m, 45m, 1h, 2h, 4h, 1d, 1w, 1M, 3M, 12M, or any other number of minutes or hours below a day, such as 90m, received '5M'",
        ),
        ("AAPL|5m|1h", "`timeframe` must be one of"),
    ],
)
def test_a_malformed_series_is_refused_with_what_is_allowed(text: str, sentence: str) -> None:
    with pytest.raises(InvalidKeyError) as caught:
        Series.parse(text)
    assert sentence in str(caught.value)


def test_timeframes_are_ordered_from_short_to_long() -> None:
    assert [each.key for each in ORDER] == ["5m", "15m", "30m", "1h", "4h", "1d"]
    assert sorted(set(ORDER)) == list(ORDER)
    assert sorted(ORDER, key=lambda each: each.rank) == list(ORDER)
    assert [each.minutes for each in ORDER] == [5, 15, 30, 60, 240, 1440]
    assert all(timedelta(minutes=each.minutes) == each.duration for each in ORDER)


def test_every_timeframe_is_either_fetched_or_rolled_up() -> None:
    assert {*FETCHED, *ROLLED_UP} == set(ORDER)
    assert [each for each in ORDER if each.is_fetched] == list(FETCHED)
    assert M5 in FETCHED
    assert parse_timeframe("4h") is H4


def test_an_instrument_knows_how_it_is_traded_and_fetched() -> None:
    assert Instrument("AAPL") == Instrument("AAPL", "XNYS", None)
    assert Instrument("AAPL").is_fetched
    assert not Instrument("AAPL").is_crypto
    assert Instrument("BTC-USD", "24/7").is_crypto
    assert not Instrument("OLD", provider="file").is_fetched
