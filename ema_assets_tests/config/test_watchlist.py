"""Tests of reading the watchlist file, of its mistakes, and of which of its symbols have synthetic bars."""

from pathlib import Path

import pytest

from ema_assets.config import watchlist
from ema_assets.config.settings import Settings
from ema_assets.model.errors import WatchlistError
from ema_assets.model.symbols import Instrument
from ema_assets_tests.timeframes import D1, M1, M5

TEXT = """\
# My symbols.
[history]
"5m" = 20  # days

[[group]]
name = "Stocks"
symbols = ["AAPL", "MSFT"]  # US

[[group]]
name = "Crypto"
calendar = "24/7"
symbols = ["BTC-USD"]

[[group]]
name = "Files"
calendar = "XLON"
provider = "file"
symbols = ["VOD.L"]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "watchlist.toml"
    found.write_text(TEXT, encoding="utf-8")
    return found


def refusal(text: str) -> str:
    with pytest.raises(WatchlistError) as caught:
        watchlist.parse(text, "my.toml")
    assert str(caught.value).startswith("my.toml: ")
    return str(caught.value).removeprefix("my.toml: ")


def test_symbols_keep_the_order_of_the_file(path: Path) -> None:
    found = watchlist.load(path)
    assert found.instruments == (
        Instrument("AAPL"),
        Instrument("MSFT"),
        Instrument("BTC-USD", "24/7"),
        Instrument("VOD.L", "XLON", "file"),
    )
    assert found.symbols == ("AAPL", "MSFT", "BTC-USD", "VOD.L")
    assert found.calendars == ("24/7", "XLON", "XNYS")
    assert found.history_days == {M1: 7, M5: 20, D1: 730}


def test_a_file_may_begin_with_a_byte_order_mark(path: Path) -> None:
    path.write_text(TEXT, encoding="utf-8-sig")
    assert watchlist.load(path).symbols == ("AAPL", "MSFT", "BTC-USD", "VOD.L")


def test_where_files_are_the_default_provider_the_default_watchlist_is_from_files_before_it_is_written(
    tmp_path: Path,
) -> None:
    settings = Settings.from_env({"EMA_HOME": str(tmp_path), "EMA_PROVIDER": "file"})
    unwritten = watchlist.read(settings)
    assert unwritten.by_provider(settings.provider) == {}
    watchlist.ensure(settings.watchlist_path)
    assert watchlist.read(settings).instruments == unwritten.instruments


def test_the_default_watchlist_is_valid_and_does_not_replace_an_existing_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "watchlist.toml"
    watchlist.ensure(path)
    assert len(watchlist.load(path).symbols) == 100
    path.write_text(TEXT, encoding="utf-8")
    watchlist.ensure(path)
    assert path.read_text(encoding="utf-8") == TEXT


def test_the_default_watchlist_is_written_to_the_target_of_a_link_with_the_usual_permissions(tmp_path: Path) -> None:
    link, path = tmp_path / "link.toml", tmp_path / "folder" / "watchlist.toml"
    link.symlink_to(path)
    watchlist.ensure(link)
    assert link.is_symlink()
    assert path.read_text(encoding="utf-8") == watchlist.default_text()
    usual = tmp_path / "usual"
    usual.touch()
    assert path.stat().st_mode == usual.stat().st_mode
    assert [each.name for each in path.parent.iterdir()] == ["watchlist.toml"]


def test_symbols_belong_to_the_provider_of_their_group_or_to_the_default_provider(path: Path) -> None:
    path.write_text(TEXT + '[[group]]\nprovider = "binance"\ncalendar = "24/7"\nsymbols = ["ETHUSDT"]\n')
    found = watchlist.load(path)
    assert found.by_provider("sandbox") == {"binance": ("ETHUSDT",), "sandbox": ("AAPL", "MSFT", "BTC-USD")}
    assert found.by_provider("binance") == {"binance": ("AAPL", "MSFT", "BTC-USD", "ETHUSDT")}
    assert found.providers("sandbox") == {"binance", "sandbox"}
    assert found.synthetic_symbols("sandbox") == {"AAPL", "MSFT", "BTC-USD"}
    assert found.synthetic_symbols("yahoo") == frozenset()
    path.write_text(TEXT.replace('"24/7"', '"24/7"\nprovider = "sandbox"'))
    assert watchlist.load(path).synthetic_symbols("yahoo") == {"BTC-USD"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[[group]", "not valid TOML"),
        ("", "lists no symbol"),
        ("[[group]]\nname = 'x'", "lists no symbol"),
        ("[group]\nsymbols = ['A']", "groups are written `[[group]]`, with two brackets on each side"),
        ("group = 3", "groups are written `[[group]]`"),
        ("group = [3]", "groups are written `[[group]]`"),
        (
            "[[groups]]\nsymbols = ['A']",
            "unknown key `groups`, allowed are timeframes, history, ema, signals, strategy, calendar, group, channels, alert; did you mean `group`?",
        ),
        (
            "[[group]]\nsymbol = ['A']",
            "group 1: unknown key `symbol`, allowed are name, calendar, hours, provider, timeframes, allow_negative, symbols; did you mean `symbols`?",
        ),
        ("[[group]]\nname = 'US'\nsymbols = 'AAPL'", "group 'US': `symbols` must be a list such as"),
        ("[[group]]\nsymbols = [7]", "group 1: every symbol must be text in quotes, received 7"),
        ("[[group]]\nsymbols = ['A B']", "group 1: `symbol` must be 1 to 32 letters"),
        ("[[group]]\nsymbols = ['A']\n[[group]]\nname = 'x'\nsymbols = ['A']", "the symbol 'A' is listed twice"),
        ("[[group]]\nsymbols = ['A', 'A']", "the symbol 'A' is listed twice"),
        (
            "[[group]]\ncalendar = 5\nsymbols = ['A']",
            "group 1: `calendar` must be a name such as 'XNYS' or '24/7', received 5",
        ),
        ("[[group]]\ncalendar = ''\nsymbols = ['A']", "group 1: `calendar` must be a name"),
        (
            "[[group]]\nprovider = 'google'\nsymbols = ['A']",
            "group 1: `provider` must be one of sandbox, alpaca, yahoo, binance, coinbase, ccxt:<exchange>, or 'file' for symbols",
        ),
        ("[[group]]\nprovider = ['yahoo']\nsymbols = ['A']", "group 1: `provider` must be one of sandbox"),
        (
            "[[group]]\nhours = 'all'\nsymbols = ['A']",
            "group 1: `hours` must be 'regular' or 'extended', received 'all'",
        ),
        (
            "[[group]]\ncalendar = 'XLON'\nhours = 'extended'\nsymbols = ['A']",
            "group 1: `hours = 'extended'` is known for the calendars XNYS, XNAS, not for 'XLON'",
        ),
        ("history = 3\n[[group]]\nsymbols = ['A']", "`history` must be a table of days"),
        ("[history]\n'1h' = 3", "history: unknown key `1h`, allowed are 1m, 5m, 1d"),
        *(
            (f"[history]\n'5m' = {days}", "history of 5m must be a whole number of days from 1 to 20000, received")
            for days in ("0", "-1", "20001", "1.5", "'60'", "true")
        ),
    ],
)
def test_a_mistake_in_a_watchlist_is_refused_with_what_is_allowed(text: str, sentence: str) -> None:
    assert refusal(text).startswith(sentence)


def test_the_error_of_an_unreadable_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(WatchlistError, match=r"none\.toml: no such file; .*EMA_WATCHLIST"):
        watchlist.load(tmp_path / "none.toml")
    with pytest.raises(WatchlistError, match="cannot be read"):
        watchlist.load(tmp_path)
    latin = tmp_path / "latin.toml"
    latin.write_bytes("# Grüße".encode("latin-1"))
    with pytest.raises(WatchlistError, match=r"latin\.toml: cannot be read"):
        watchlist.load(latin)
