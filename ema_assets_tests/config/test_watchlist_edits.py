"""Tests of edits of the watchlist file, by one process or by ten, which keep its comments."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from ema_assets.config import watchlist
from ema_assets.config.watchlist_edits import add_instruments, instrument_of, remove_symbols
from ema_assets.model.errors import InvalidKeyError, WatchlistError
from ema_assets.model.symbols import Instrument
from ema_assets_tests.conftest import mostly_broad

Edit = Callable[[Path, Iterable[str]], list[str]]

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


def add_symbols(
    path: Path, symbols: Iterable[str], calendar: str | None = None, provider: str | None = None
) -> list[str]:
    return add_instruments(path, [instrument_of(symbol, calendar, provider) for symbol in symbols])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "watchlist.toml"
    found.write_text(TEXT, encoding="utf-8")
    return found


def test_added_symbols_go_to_the_group_of_their_calendar_and_comments_are_kept(path: Path) -> None:
    assert add_symbols(path, ["NVDA", "AAPL", "ETH-USD", "NVDA"]) == ["NVDA", "ETH-USD"]
    text = path.read_text(encoding="utf-8")
    assert text == TEXT.replace('"MSFT"]', '"MSFT", "NVDA"]').replace('"BTC-USD"]', '"BTC-USD", "ETH-USD"]')


def test_a_group_without_symbols_is_passed_over(path: Path) -> None:
    empty = '[[group]]\nname = "Ideas"\n\n'
    path.write_text(TEXT.replace("[[group]]", f"{empty}[[group]]", 1), encoding="utf-8")
    assert add_symbols(path, ["NVDA"]) == ["NVDA"]
    assert watchlist.load(path).groups["Stocks"] == ("AAPL", "MSFT", "NVDA")


def test_a_future_goes_to_a_group_whose_prices_may_be_negative(path: Path) -> None:
    path.write_text(f'{TEXT}[[group]]\ncalendar = "CMES"\nsymbols = ["ES=F"]\n', encoding="utf-8")
    assert add_symbols(path, ["CL=F"]) == ["CL=F"]
    assert add_symbols(path, ["NG=F"]) == ["NG=F"]
    found = watchlist.load(path)
    assert {each.symbol: each.allow_negative for each in found.instruments[-3:]} == {
        "ES=F": False,
        "CL=F": True,
        "NG=F": True,
    }
    assert found.groups["Added, CMES"] == ("CL=F", "NG=F")


def test_a_new_group_is_added_for_a_calendar_without_a_group(path: Path) -> None:
    assert add_symbols(path, ["0700.HK", "9988.HK"]) == ["0700.HK", "9988.HK"]
    found = watchlist.load(path)
    assert found.instruments[-2:] == (Instrument("0700.HK", "XHKG"), Instrument("9988.HK", "XHKG"))
    assert path.read_text(encoding="utf-8").startswith(TEXT.rstrip())
    assert path.read_text(encoding="utf-8").count("[[group]]") == 4


def test_symbols_from_files_and_fetched_symbols_never_share_a_group(path: Path) -> None:
    add_symbols(path, ["OLD"], provider="file")
    add_symbols(path, ["BP.L"])
    add_symbols(path, ["BP2.L"], provider="file")
    assert list(watchlist.load(path).groups)[-2:] == ["From files, XNYS", "Added, XLON"]
    assert watchlist.load(path).instruments == (
        *(Instrument("AAPL"), Instrument("MSFT"), Instrument("BTC-USD", "24/7")),
        *(Instrument("VOD.L", "XLON", "file"), Instrument("BP2.L", "XLON", "file")),
        Instrument("OLD", "XNYS", "file"),
        Instrument("BP.L", "XLON"),
    )


def test_a_named_calendar_wins_over_the_guessed_one(path: Path) -> None:
    add_symbols(path, ["BTC-USD.X"], calendar="XLON")
    assert Instrument("BTC-USD.X", "XLON") in watchlist.load(path).instruments


def test_a_malformed_symbol_changes_nothing(path: Path) -> None:
    with pytest.raises(InvalidKeyError):
        add_symbols(path, ["NVDA", "A|B"])
    assert path.read_text(encoding="utf-8") == TEXT


def test_removing_symbols_keeps_comments(path: Path) -> None:
    assert remove_symbols(path, ["MSFT", "TSLA", "BTC-USD", "MSFT"]) == ["MSFT", "BTC-USD"]
    assert watchlist.load(path).symbols == ("AAPL", "VOD.L")
    text = path.read_text(encoding="utf-8")
    assert all(comment in text for comment in ("# My symbols.", "# US", "# days"))


def test_the_last_symbol_cannot_be_removed(path: Path) -> None:
    with pytest.raises(WatchlistError) as raised:
        remove_symbols(path, ["AAPL", "MSFT", "BTC-USD", "VOD.L"])
    assert str(raised.value) == (
        f"{path}: the last symbol cannot be removed; add another one first, as in `ema-assets symbols add NVDA`, or "
        "stop everything with `ema-assets down`"
    )
    assert path.read_text(encoding="utf-8") == TEXT


@pytest.mark.parametrize(
    "text", ["", "# Mine.\n[history]\n'5m' = 20\n", "[[group]]\nsymbols = []\n", "group = []\n[ema]\nseed = 'sma'\n"]
)
def test_the_first_symbol_is_added_to_a_file_without_symbols(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    assert remove_symbols(path, ["AAPL"]) == []
    assert add_symbols(path, []) == []
    assert path.read_text(encoding="utf-8") == text
    assert add_symbols(path, ["AAPL", "ETH-USD"]) == ["AAPL", "ETH-USD"]
    assert watchlist.load(path).instruments == (Instrument("AAPL"), Instrument("ETH-USD", "24/7"))
    edited = path.read_text(encoding="utf-8")
    assert edited.count("[[group]]") == 2
    assert all(line in edited for line in text.splitlines() if line != "group = []" and line != "symbols = []")


def test_a_file_without_symbols_but_with_another_mistake_is_refused(path: Path) -> None:
    text = "[ema]\nsead = 'sma'\n"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(WatchlistError, match="sead"):
        add_symbols(path, ["AAPL"])
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("edit", [add_symbols, remove_symbols])
def test_a_malformed_file_is_not_edited(path: Path, edit: Edit) -> None:
    path.write_text("[[group]]\nsymbol = ['A']\n", encoding="utf-8")
    with pytest.raises(WatchlistError, match="unknown key `symbol`"):
        edit(path, ["B"])
    assert path.read_text(encoding="utf-8") == "[[group]]\nsymbol = ['A']\n"


def test_an_edit_leaves_no_draft_behind(path: Path) -> None:
    add_symbols(path, ["NVDA"])
    assert [each.name for each in path.parent.iterdir()] == ["watchlist.toml"]


def test_an_edit_follows_a_link_and_keeps_the_files_permissions(path: Path, tmp_path: Path) -> None:
    path.chmod(0o640)
    link = tmp_path / "link.toml"
    link.symlink_to(path)
    add_symbols(link, ["NVDA"])
    assert link.is_symlink()
    assert "NVDA" in watchlist.load(path).symbols
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_missing_file_is_named_and_nothing_is_created(tmp_path: Path) -> None:
    for edit in (add_symbols, remove_symbols):
        with pytest.raises(WatchlistError, match=r"none/watchlist\.toml: no such file; "):
            edit(tmp_path / "none" / "watchlist.toml", ["B"])
    assert list(tmp_path.iterdir()) == []


# Adds and removes symbols of its own once the file `go` exists: python -c EDITS WATCHLIST GO NAME
EDITS = """
import sys, time
from pathlib import Path
from ema_assets.config import watchlist
from ema_assets.config.watchlist_edits import add_instruments, instrument_of, remove_symbols

path, go, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
while not go.exists():
    time.sleep(0.001)
watchlist.ensure(path)
for number in range(5):
    symbols = [f"{name}{'ABCDE'[number]}", f"{name}.L"]
    assert add_instruments(path, map(instrument_of, symbols)) == symbols
    assert remove_symbols(path, [f"{name}.L"]) == [f"{name}.L"]
"""


@pytest.mark.parametrize("is_there", mostly_broad([True, False]))
def test_ten_concurrent_processes_lose_no_edit_and_readers_only_see_whole_files(path: Path, is_there: bool) -> None:
    if not is_there:
        path.unlink()
    before = path.read_text() if is_there else watchlist.default_text()
    go = path.with_name("go")
    names = [f"P{letter}X" for letter in "ABCDEFGHIJ"]
    processes = [
        subprocess.Popen([sys.executable, "-c", EDITS, str(path), str(go), name], stderr=subprocess.PIPE, text=True)
        for name in names
    ]
    go.touch()
    while any(process.poll() is None for process in processes):
        if path.exists():
            watchlist.load(path)
    for process in processes:
        with process:
            assert process.wait() == 0, process.communicate()[1]
    wanted = [f"{name}{'ABCDE'[number]}" for name in names for number in range(5)]
    assert sorted(watchlist.load(path).symbols) == sorted([*watchlist.parse(before).symbols, *wanted])
    comments = [line.partition("#")[2] for line in before.splitlines() if "#" in line]
    assert [line.partition("#")[2] for line in path.read_text().splitlines() if "#" in line] == comments
    go.unlink()
    assert [each.name for each in path.parent.iterdir()] == ["watchlist.toml"]


def test_a_lock_of_a_killed_process_does_not_block_other_edits(path: Path) -> None:
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from ema_assets.config.shared_files import locked\n"
        "with locked(Path(sys.argv[1])):\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [each.name for each in path.parent.iterdir() if each != path] == [".watchlist.toml.lock"]
    assert add_symbols(path, ["NVDA"]) == ["NVDA"]
    assert [each.name for each in path.parent.iterdir()] == ["watchlist.toml"]


def test_an_edit_that_changes_nothing_writes_nothing(path: Path) -> None:
    before = path.stat()
    assert add_symbols(path, ["AAPL"]) == []
    assert remove_symbols(path, ["TSLA"]) == []
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_symbol_that_an_alert_names_cannot_be_removed(tmp_path: Path) -> None:
    path = tmp_path / "watchlist.toml"
    text = """
[[alert]]
name = "quiet"
on = ["crossover"]
symbols = ["BTC-USD", "SOL-USD"]
to = ["${HOOK}"]

[[alert]]
on = ["crossover"]
symbols = ["SOL-USD"]
to = ["${HOOK}"]

[[group]]
name = "Crypto"
calendar = "24/7"
symbols = ["BTC-USD", "ETH-USD", "SOL-USD"]
"""
    path.write_text(text)
    for symbols, said in (
        (
            ["BTC-USD"],
            "the alert 'quiet' still names BTC-USD; take it out of its `symbols`, or the alert out of the file",
        ),
        (["ETH-USD", "SOL-USD", "BTC-USD"], "the alert 'quiet' still names SOL-USD, BTC-USD; take them out of its"),
    ):
        with pytest.raises(WatchlistError) as raised:
            remove_symbols(path, symbols)
        assert str(raised.value).startswith(f"{path}: {said}")
        assert path.read_text() == text
    path.write_text(text.replace('name = "quiet"', "").replace('["BTC-USD", "SOL-USD"]', '["ETH-USD"]', 1))
    with pytest.raises(WatchlistError, match="the alert 'alert 2' still names SOL-USD; "):
        remove_symbols(path, ["SOL-USD"])
    assert remove_symbols(path, ["BTC-USD"]) == ["BTC-USD"]
