"""The watchlist file: read, refused, edited."""

from pathlib import Path

import pytest

from ema_assets.config import watchlist
from ema_assets.model.errors import InvalidKeyError, WatchlistError
from ema_assets.model.symbols import Instrument
from ema_assets.model.timeframes import Timeframe

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


def test_a_file_is_read_in_its_own_order(path: Path) -> None:
    found = watchlist.load(path)
    assert found.instruments == (
        Instrument("AAPL"),
        Instrument("MSFT"),
        Instrument("BTC-USD", "24/7"),
        Instrument("VOD.L", "XLON", "file"),
    )
    assert found.symbols == ("AAPL", "MSFT", "BTC-USD", "VOD.L")
    assert found.calendars == ("24/7", "XLON", "XNYS")
    assert found.history_days == {Timeframe.M5: 20, Timeframe.D1: 730}


def test_the_default_watchlist_is_sound_and_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "watchlist.toml"
    watchlist.ensure(path)
    assert len(watchlist.load(path).symbols) == 100
    path.write_text(TEXT, encoding="utf-8")
    watchlist.ensure(path)
    assert path.read_text(encoding="utf-8") == TEXT


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
            "unknown key `groups`, allowed are history, ema, signals, strategy, group; did you mean `group`?",
        ),
        (
            "[[group]]\nsymbol = ['A']",
            "group 1: unknown key `symbol`, allowed are name, calendar, hours, provider, symbols; did you mean `symbols`?",
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
            "group 1: `provider` must be one of sandbox, alpaca, yahoo, binance, or 'file' for symbols",
        ),
        ("[[group]]\nprovider = ['yahoo']\nsymbols = ['A']", "group 1: `provider` must be one of sandbox"),
        ("history = 3\n[[group]]\nsymbols = ['A']", "`history` must be a table of days"),
        ("[history]\n'1h' = 3", "history: unknown key `1h`, allowed are 5m, 1d"),
        *(
            (f"[history]\n'5m' = {days}", "history of 5m must be a whole number of days from 1 to 20000, received")
            for days in ("0", "-1", "20001", "1.5", "'60'", "true")
        ),
    ],
)
def test_a_mistake_is_named_with_what_is_allowed(text: str, sentence: str) -> None:
    assert refusal(text).startswith(sentence)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(WatchlistError, match=r"none\.toml: no such file; .*EMA_WATCHLIST"):
        watchlist.load(tmp_path / "none.toml")
    with pytest.raises(WatchlistError, match="cannot be read"):
        watchlist.load(tmp_path)
    latin = tmp_path / "latin.toml"
    latin.write_bytes("# Grüße".encode("latin-1"))
    with pytest.raises(WatchlistError, match=r"latin\.toml: cannot be read"):
        watchlist.load(latin)


@pytest.mark.parametrize(
    ("symbol", "calendar"),
    [
        ("AAPL", "XNYS"),
        ("BRK.B", "XNYS"),
        ("BTC-USD", "24/7"),
        ("ETHUSDT", "24/7"),
        ("ETHUSD.COINBASE", "24/7"),
        ("VOD.L", "XLON"),
        ("0700.HK", "XHKG"),
        ("7203.T", "XTKS"),
        ("SAP.DE", "XFRA"),
        ("^GSPC", "XNYS"),
        ("X.UNKNOWN", "XNYS"),
    ],
)
def test_the_calendar_is_guessed_from_how_vendors_write_symbols(symbol: str, calendar: str) -> None:
    assert watchlist.likely_calendar(symbol) == calendar


def test_every_calendar_that_may_be_guessed_exists() -> None:
    from ema_assets.market.calendars import known_calendars

    assert set(watchlist._CALENDAR_BY_SUFFIX.values()) <= set(known_calendars())


def test_added_symbols_go_to_the_group_of_their_calendar_and_comments_stay(path: Path) -> None:
    assert watchlist.add_symbols(path, ["NVDA", "AAPL", "ETH-USD", "NVDA"]) == ["NVDA", "ETH-USD"]
    text = path.read_text(encoding="utf-8")
    assert text == TEXT.replace('"MSFT"]', '"MSFT", "NVDA"]').replace('"BTC-USD"]', '"BTC-USD", "ETH-USD"]')


def test_a_calendar_without_a_group_gets_one(path: Path) -> None:
    assert watchlist.add_symbols(path, ["0700.HK", "9988.HK"]) == ["0700.HK", "9988.HK"]
    found = watchlist.load(path)
    assert found.instruments[-2:] == (Instrument("0700.HK", "XHKG"), Instrument("9988.HK", "XHKG"))
    assert path.read_text(encoding="utf-8").startswith(TEXT.rstrip())
    assert path.read_text(encoding="utf-8").count("[[group]]") == 4


def test_symbols_from_files_never_go_to_a_group_that_is_fetched(path: Path) -> None:
    watchlist.add_symbols(path, ["OLD"], provider="file")
    watchlist.add_symbols(path, ["BP.L"])
    watchlist.add_symbols(path, ["BP2.L"], provider="file")
    assert watchlist.load(path).instruments == (
        *(Instrument("AAPL"), Instrument("MSFT"), Instrument("BTC-USD", "24/7")),
        *(Instrument("VOD.L", "XLON", "file"), Instrument("BP2.L", "XLON", "file")),
        Instrument("OLD", "XNYS", "file"),
        Instrument("BP.L", "XLON"),
    )


def test_a_named_calendar_wins_over_the_guess(path: Path) -> None:
    watchlist.add_symbols(path, ["BTC-USD.X"], calendar="XLON")
    assert Instrument("BTC-USD.X", "XLON") in watchlist.load(path).instruments


def test_a_malformed_symbol_changes_nothing(path: Path) -> None:
    with pytest.raises(InvalidKeyError):
        watchlist.add_symbols(path, ["NVDA", "A|B"])
    assert path.read_text(encoding="utf-8") == TEXT


def test_removed_symbols_are_gone_and_comments_stay(path: Path) -> None:
    assert watchlist.remove_symbols(path, ["MSFT", "TSLA", "BTC-USD", "MSFT"]) == ["MSFT", "BTC-USD"]
    assert watchlist.load(path).symbols == ("AAPL", "VOD.L")
    text = path.read_text(encoding="utf-8")
    assert all(comment in text for comment in ("# My symbols.", "# US", "# days"))


def test_the_last_symbol_cannot_be_removed(path: Path) -> None:
    with pytest.raises(WatchlistError, match="lists no symbol"):
        watchlist.remove_symbols(path, ["AAPL", "MSFT", "BTC-USD", "VOD.L"])
    assert path.read_text(encoding="utf-8") == TEXT


@pytest.mark.parametrize("edit", [watchlist.add_symbols, watchlist.remove_symbols])
def test_a_malformed_file_is_not_edited(path: Path, edit: object) -> None:
    path.write_text("[[group]]\nsymbol = ['A']\n", encoding="utf-8")
    with pytest.raises(WatchlistError, match="unknown key `symbol`"):
        edit(path, ["B"])  # type: ignore[operator]
    assert path.read_text(encoding="utf-8") == "[[group]]\nsymbol = ['A']\n"


def test_an_edit_leaves_no_draft_behind(path: Path) -> None:
    watchlist.add_symbols(path, ["NVDA"])
    assert [each.name for each in path.parent.iterdir()] == ["watchlist.toml"]


def test_an_edit_follows_a_link_and_keeps_the_files_permissions(path: Path, tmp_path: Path) -> None:
    path.chmod(0o640)
    link = tmp_path / "link.toml"
    link.symlink_to(path)
    watchlist.add_symbols(link, ["NVDA"])
    assert link.is_symlink()
    assert "NVDA" in watchlist.load(path).symbols
    assert path.stat().st_mode & 0o777 == 0o640
