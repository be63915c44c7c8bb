"""Tests of symbols and timeframes in the names of files, and of the spellings of timeframes."""

from pathlib import Path

import pytest

from ema_assets.files.names import Named, from_name
from ema_assets.files.words import timeframe_key


@pytest.mark.parametrize(
    ("name", "symbol", "seconds"),
    [
        ("AAPL.csv", "AAPL", None),
        ("AAPL_5m.csv", "AAPL", 300),
        ("AAPL-5m.csv.gz", "AAPL", 300),
        ("AAPL 5 minute.txt", "AAPL", 300),
        ("AAPL_1-day.csv", "AAPL", 86_400),
        ("AAPL (1).csv", "AAPL", None),
        ("AAPL Historical Data.csv", "AAPL", None),
        ("aapl.us.txt", "AAPL.US", None),
        ("aapl_5m.csv", "AAPL", 300),
        ("BRK-B.csv", "BRK-B", None),
        ("^GSPC.csv", "^GSPC", None),
        ("EURUSD=X.csv", "EURUSD=X", None),
        ("EUR_USD.csv", "EUR_USD", None),
        ("9988.HK_1d.parquet", "9988.HK", 86_400),
        ("BTC-USD-1d.parquet", "BTC-USD", 86_400),
        ("BTCUSDT-1h-2025-01.csv", "BTCUSDT", 3600),
        ("BTCUSDT-5m-2025-01-03.zip", "BTCUSDT", 300),
        ("EURUSD_M5.csv", "EURUSD", 300),
        ("EURUSD_M5_202401020000_202402012355.csv", "EURUSD", 300),
        ("XAUUSD60.csv", "XAUUSD", 3600),
        ("EURUSD1440.csv", "EURUSD", 86_400),
        ("XBTUSD_60.csv", "XBTUSD", 3600),
        ("NASDAQ_AAPL, 5.csv", "AAPL", 300),
        ("BATS_AAPL, 1D_4f2a1.csv", "AAPL", 86_400),
        ("DAT_ASCII_EURUSD_M1_201202.csv", "EURUSD", 60),
        ("intraday_5min_IBM.csv", "IBM", 300),
        ("daily_IBM.csv", "IBM", 86_400),
        ("Bitstamp_BTCUSD_d.csv", "BTCUSD", 86_400),
        ("EURUSD_Candlestick_5_M_BID_01.01.2024-31.01.2024.csv", "EURUSD", 300),
        ("MSFT_2024-01-01_2024-02-01_1h.csv", "MSFT", 3600),
        ("KO_2015-2020.csv", "KO", None),
        ("KO-2020-2026_daily.csv", "KO", 86_400),
        ("KO_2020-01_2020-12_5m.csv", "KO", 300),
        ("CME_1d.csv", "CME", 86_400),
        ("AAPL_full_5min_adjsplit.txt", "AAPL", 300),
        ("AAPL_2025_10_20.csv", "AAPL", None),
        # Names that may be any word give no symbol.
        ("Bitcoin_01_10_2025-10_11_2025_historical_data.csv", None, None),
        ("prices.csv", None, None),
        ("myfile.csv", None, None),
        ("Apple.csv", None, None),
        ("HistoricalData_1700000000000.csv", None, None),
        ("AAPL_MSFT_GOOG.csv", None, None),
        ("export_1d.csv", None, 86_400),
    ],
)
def test_symbol_and_timeframe_are_read_from_the_file_name(name: str, symbol: str | None, seconds: int | None) -> None:
    found = from_name(Path("folder_5m") / name)
    assert (found.symbol, found.timeframe_seconds) == (symbol, seconds)


@pytest.mark.parametrize(
    ("name", "exchange", "symbol", "seconds"),
    [
        ("LSE_VOD, 1D.csv", "LSE", "VOD", 86_400),
        ("XETR_SAP, 5_4f2a1.csv", "XETR", "SAP", 300),
        ("TSE_7203, 60.csv", "TSE", "7203", 3600),
        ("ASX_BHP_5min.csv", "ASX", "BHP", 300),
        ("SAP_XETR.csv", "XETR", "SAP", None),
        ("CME_MINI_ES1!, 60.csv", "CME", "ES", 3600),
        ("CME_PSX_1d.csv", None, None, 86_400),
    ],
)
def test_an_exchange_in_a_file_name_is_kept(
    name: str, exchange: str | None, symbol: str | None, seconds: int | None
) -> None:
    assert from_name(Path(name)) == Named(symbol, seconds, exchange)


@pytest.mark.parametrize(
    ("name", "candidates"),
    [
        ("AAPL_5m_ib.csv", ("AAPL",)),
        ("AAPL_MSFT_GOOG.csv", ("AAPL", "MSFT", "GOOG")),
        ("btc-usd-max.csv", ("BTC-USD",)),
        ("Apple Stock Price History.csv", ()),
        ("bars.csv", ()),
    ],
)
def test_words_of_an_unclear_file_name_that_may_be_a_symbol_are_kept(name: str, candidates: tuple[str, ...]) -> None:
    found = from_name(Path(name))
    assert (found.symbol, found.candidates) == (None, candidates)


def test_a_known_symbol_is_recognised_in_a_file_name_that_is_otherwise_unclear() -> None:
    assert from_name(Path("spy.csv")).symbol is None
    assert from_name(Path("spy.csv"), ("SPY",)).symbol == "SPY"
    assert from_name(Path("prices_of_D.csv"), ("D",)).symbol == "D"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        *(("5m", "5m"), ("5min", "5m"), ("5", "5m"), ("M5", "5m"), ("PT5M", "5m"), ("300", "5m"), ("5 minutes", "5m")),
        *(("60", "1h"), ("1H", "1h"), ("H1", "1h"), ("60min", "1h"), ("hourly", "1h"), ("3600", "1h"), ("1hour", "1h")),
        *(("240", "4h"), ("4h", "4h"), ("15T", "15m"), ("900", "15m")),
        *(("D", "1d"), ("1D", "1d"), ("daily", "1d"), ("1440", "1d"), ("86400", "1d"), ("day", "1d"), ("P1D", "1d")),
        *(
            ("7m", "7m"),
            ("1m", "1m"),
            ("90", "90m"),
            ("24h", "1d"),
            ("25h", None),
            ("W", None),
            ("", None),
            ("abc", None),
            ("AAPL", None),
            ("0", None),
        ),
    ],
)
def test_timeframes_are_read_in_every_usual_spelling(text: str, key: str | None) -> None:
    assert timeframe_key(text) == key
