"""Tests of lists of symbols from files, and of renamed symbols."""

from pathlib import Path

import pytest

from ema_assets.config import renames, watchlist
from ema_assets.config.symbol_lists import read_symbols
from ema_assets.model.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "symbols"),
    [
        ("AAPL\nmsft\n\nBTC-USD\n", ["AAPL", "MSFT", "BTC-USD"]),
        ("# mine\nAAPL  # the apple\nAAPL\n", ["AAPL"]),
        ("\ufeffName,Ticker,Weight\nApple,AAPL,5.1\nMicrosoft,MSFT,4.9\n", ["AAPL", "MSFT"]),
        ("symbol;name\nAZN.L;AstraZeneca, plc\n", ["AZN.L"]),
        ("AAPL\tApple\nMSFT\tMicrosoft", ["AAPL", "MSFT"]),
        ("AAPL\tApple, Inc.\nTSLA\tTesla, Inc.", ["AAPL", "TSLA"]),
        ("symbol;name\nBRK-A;Berkshire, Hathaway, Inc.", ["BRK-A"]),
        ("# mine, all; of them\nAAPL;Apple, Inc.", ["AAPL"]),
        ("symbol\nAAPL\nTICKER\n", ["AAPL", "TICKER"]),
        ("aapl, msft, BTC-USD\n", ["AAPL", "MSFT", "BTC-USD"]),
        ("AAPL;MSFT", ["AAPL", "MSFT"]),
        ("###My US,AAPL,KO,###Coins,BTCUSDT", ["AAPL", "KO", "BTCUSDT"]),
        ("KO,Coca\n", ["KO"]),
        # In the spelling of another vendor, which is refused later with ours.
        ("KO US Equity\nPEP\n", ["KO US EQUITY", "PEP"]),
        ("ticker,name\n\nKO,COLA", ["KO"]),
    ],
)
def test_lists_in_every_usual_form_are_read(tmp_path: Path, text: str, symbols: list[str]) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(text, encoding="utf-8")
    assert read_symbols(path) == symbols


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("AAPL\nno symbol at all!\n", "mine.csv, line 2: `symbol` must be"),
        ("name,ticker\nApple\n", "mine.csv, line 2: `symbol` must be"),
        ("AAPL,MS!FT\n", "mine.csv, line 1: `symbol` must be"),
        ("symbol\n", "mine.csv lists no symbol; one per line"),
        ("", "mine.csv lists no symbol; one per line"),
    ],
)
def test_an_invalid_or_empty_list_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        read_symbols(path)


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.xls"
    path.write_bytes(b"\xd0\xcf\x11\xe0\xff\xfe")
    with pytest.raises(ConfigurationError, match="cannot be read as a list of symbols"):
        read_symbols(path)


def test_a_rename_gives_the_newest_name_and_the_default_watchlist_has_no_old_names() -> None:
    viacom = renames.current("VIAC")
    assert viacom is not None
    assert viacom.to == "PSKY"
    assert renames.current("AAPL") is None
    symbols = watchlist.parse(watchlist.default_text()).symbols
    assert len(symbols) == 100
    assert [symbol for symbol in symbols if renames.current(symbol)] == []
