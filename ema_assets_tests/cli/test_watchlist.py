"""`ema-assets symbols`: the watchlist shown and changed, mistakes in it named."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from ema_assets.config import watchlist
from ema_assets.operations.sync_watchlist import sync
from ema_assets.store import ledger
from ema_assets.store.database import Database
from ema_assets_tests.cli.conftest import Refused, Run
from ema_assets_tests.cli.shell import DEAD, HEAD, SOUND, WATCHLIST, bars_file, start
from ema_assets_tests.timeframes import M5


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            '[[group]]\nsymbls = ["AAPL"]',
            "unknown key `symbls`, allowed are name, calendar, hours, provider, symbols; did you mean `symbols`?",
        ),
        ("[[group]\nsymbols = []", "not valid TOML: "),
        ('[[group]]\nsymbols = ["AAPL", "MSFT", "AAPL"]', "the symbol 'AAPL' is listed twice"),
        ('[[group]]\nsymbols = ["A|B"]', "`symbol` must be 1 to 32 letters"),
        ("", "lists no symbol"),
    ],
)
@pytest.mark.parametrize("command", [("refresh",), ("symbols", "list"), ("symbols", "add", "NVDA"), ("sandbox",)])
def test_a_mistake_in_the_watchlist_is_named_with_its_file(
    refused: Refused, home: Path, command: tuple[str, ...], text: str, sentence: str
) -> None:
    (home / "watchlist.toml").write_text(text)
    found = refused(*command, EMA_SANDBOX_URL="http://127.0.0.1:9", EMA_DATABASE_URL=DEAD)
    assert found.startswith(f"{home / 'watchlist.toml'}: ")
    assert sentence in found
    assert (home / "watchlist.toml").read_text() == text


def test_an_unknown_calendar_is_named_wherever_it_comes_from(refused: Refused, home: Path, database_url: str) -> None:
    for command in (("symbols", "add", "NVDA"), ("ingest", bars_file(home, HEAD, SOUND))):
        assert "'XNYC'" in refused(*command, "--calendar", "XNYC", EMA_DATABASE_URL=database_url)
    assert (home / "watchlist.toml").read_text() == WATCHLIST
    (home / "watchlist.toml").write_text('[[group]]\ncalendar = "XNYC"\nsymbols = ["AAPL"]')
    assert "'XNYC'" in refused("refresh", EMA_DATABASE_URL=database_url, EMA_SANDBOX_URL="http://127.0.0.1:9")


def test_symbols_are_added_and_removed_with_all_comments_kept(run: Run, home: Path) -> None:
    added = run("symbols", "add", "nvda", "AZN.L", "ETH-USD", "AAPL")
    assert added.exit_code == 0
    assert added.stdout.splitlines() == [
        "Added NVDA (XNYS).",
        "Added ETH-USD (24/7).",
        "Added AZN.L (XLON).",
        "AAPL is on the watchlist already.",
    ]
    removed = run("symbols", "remove", "MSFT")
    assert removed.stdout == "Removed MSFT; its data stays.\n"
    text = (home / "watchlist.toml").read_text()
    assert all(comment in text for comment in ("# Mine.", "# days", "# two of them"))
    listed = run("symbols", "list")
    assert [line.split() for line in listed.stdout.splitlines()] == [
        ["symbol", "calendar", "bars", "from"],
        ["AAPL", "XNYS", "provider"],
        ["NVDA", "XNYS", "provider"],
        ["BTC-USD", "24/7", "provider"],
        ["ETH-USD", "24/7", "provider"],
        ["AZN.L", "XLON", "provider"],
    ]


def test_a_symbol_that_cannot_be_one_or_is_not_there_is_refused(refused: Refused, home: Path) -> None:
    assert refused("symbols", "add", "A|B").startswith("`symbol` must be 1 to 32 letters")
    assert refused("symbols", "remove", "NVDA") == "not on the watchlist: NVDA"
    assert "lists no symbol" in refused("symbols", "remove", "AAPL", "MSFT", "BTC-USD")
    assert (home / "watchlist.toml").read_text() == WATCHLIST


def test_the_first_use_writes_the_default_watchlist(run: Run, home: Path) -> None:
    (home / "watchlist.toml").unlink()
    assert len(run("symbols", "list").stdout.splitlines()) == 101
    assert (home / "watchlist.toml").read_text() == watchlist.default_text()


@pytest.mark.parametrize("is_there", [True, False])
def test_ten_at_once_are_all_added_and_comments_are_kept(home: Path, is_there: bool) -> None:
    path = home / "watchlist.toml"
    if not is_there:
        path.unlink()
    before = path.read_text() if is_there else watchlist.default_text()
    symbols = [f"NEW{number}" for number in range(10)]
    processes = [start("symbols", "add", symbol) for symbol in symbols]
    for symbol, process in zip(symbols, processes, strict=True):
        with process:
            stdout, stderr = process.communicate(timeout=120)
        assert (process.returncode, stdout, stderr) == (0, f"Added {symbol} (XNYS).\n", "")
    found = watchlist.load(path).symbols
    assert sorted(found) == sorted([*watchlist.parse(before).symbols, *symbols])
    comments = [line.partition("#")[2] for line in before.splitlines() if "#" in line]
    assert [line.partition("#")[2] for line in path.read_text().splitlines() if "#" in line] == comments
    assert [each.name for each in home.iterdir()] == ["watchlist.toml"]


def test_what_is_there_already_or_was_not_there_changes_nothing(run: Run, refused: Refused, home: Path) -> None:
    before = (home / "watchlist.toml").stat()
    assert run("symbols", "add", "AAPL").stdout == "AAPL is on the watchlist already.\n"
    assert refused("symbols", "remove", "NVDA") == "not on the watchlist: NVDA"
    after = (home / "watchlist.toml").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_list_in_a_file_is_added_and_a_wrong_line_adds_nothing(run: Run, refused: Refused, home: Path) -> None:
    (home / "mine.csv").write_text("ticker,name\nNVDA,Nvidia\nMMC,Marsh\n")
    done = run("symbols", "import", str(home / "mine.csv"))
    assert done.exit_code == 0
    assert done.stdout.splitlines() == ["Added NVDA (XNYS).", "Added MMC (XNYS)."]
    assert done.stderr == "MMC has been called MRSH since 2026-01-14.\n"
    before = (home / "watchlist.toml").read_text()
    (home / "mine.csv").write_text("ticker\nTSLA\nno symbol!\n")
    assert "mine.csv, line 3: `symbol` must be" in refused("symbols", "import", str(home / "mine.csv"))
    assert (home / "watchlist.toml").read_text() == before


def test_the_check_names_what_was_renamed_ended_or_is_unknown(run: Run, home: Path, database: Database) -> None:
    (home / "watchlist.toml").write_text('[[group]]\ncalendar = "XNYS"\nsymbols = ["AAPL", "MMC", "GONE", "TYPO"]\n')
    watched = watchlist.load(home / "watchlist.toml")
    sync(database, watched, datetime(2026, 11, 25, 16, 0, tzinfo=UTC))
    with database.transaction() as transaction:
        transaction.execute("UPDATE market.instrument SET silent_since = '2026-11-10 14:30Z' WHERE symbol = 'GONE'")
        ledger.fail(
            transaction,
            "ohlc",
            M5,
            {"TYPO": "yahoo has no symbol 'TYPO': Not Found"},
            datetime(2026, 11, 25, tzinfo=UTC),
        )
    found = run("symbols", "check", EMA_DATABASE_URL=database.url)
    assert found.exit_code == 1
    assert found.stdout.splitlines() == [
        "GONE: no bar since 2026-11-10: it has ended, was renamed or is halted",
        "MMC: renamed to MRSH on 2026-01-14: `ema-assets symbols add MRSH` and `ema-assets symbols remove MMC`",
        "TYPO: yahoo has no symbol 'TYPO': Not Found",
    ]
    (home / "watchlist.toml").write_text('[[group]]\ncalendar = "XNYS"\nsymbols = ["AAPL"]\n')
    fine = run("symbols", "check", EMA_DATABASE_URL=database.url)
    assert (fine.exit_code, fine.stdout) == (0, "Checked 1 symbol: nothing is known against any of them.\n")
