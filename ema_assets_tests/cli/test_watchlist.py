"""Tests of `ema-assets symbols`: how the watchlist is shown, changed and checked, and how mistakes are reported."""

import json
import subprocess
import sys
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import polars as pl
import pytest

from ema_assets.config import watchlist
from ema_assets.market.exchanges import holidays_known_through
from ema_assets.model.schemas import ACTION_SCHEMA, STATE_SCHEMA
from ema_assets.model.symbols import Instrument
from ema_assets.model.timeframes import DEFAULT
from ema_assets.operations.sync_watchlist import sync
from ema_assets.store import action_facts, ledger, states, sync_failures
from ema_assets.store.database import Database
from ema_assets_tests.cli.conftest import Refused, Run
from ema_assets_tests.cli.shell import DEAD, HEAD, SOUND, WATCHLIST, an_up, bars_file, start
from ema_assets_tests.timeframes import M5
from ema_assets_tests.waiting import GIVEN_UP_AFTER_SECONDS

_USUAL = [each.key for each in DEFAULT]
US = "XNYS: no suffix, as stocks and funds in the US are written"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            '[[group]]\nsymbls = ["AAPL"]',
            "unknown key `symbls`, allowed are name, calendar, hours, provider, timeframes, allow_negative, symbols; did you mean `symbols`?",
        ),
        ("[[group]\nsymbols = []", "not valid TOML: "),
        ('[[group]]\nsymbols = ["AAPL", "MSFT", "AAPL"]', "the symbol 'AAPL' is listed twice"),
        ('[[group]]\nsymbols = ["A|B"]', "`symbol` must be 1 to 32 letters"),
    ],
)
@pytest.mark.parametrize("command", [("refresh",), ("symbols", "list"), ("symbols", "add", "NVDA"), ("sandbox",)])
def test_a_mistake_in_the_watchlist_is_reported_with_its_file(
    refused: Refused, home: Path, command: tuple[str, ...], text: str, sentence: str
) -> None:
    (home / "watchlist.toml").write_text(text)
    found = refused(*command, EMA_SANDBOX_URL="http://127.0.0.1:9", EMA_DATABASE_URL=DEAD)
    assert found.startswith(f"{home / 'watchlist.toml'}: ")
    assert sentence in found
    assert (home / "watchlist.toml").read_text() == text


def test_the_first_symbol_can_be_added_and_the_last_one_cannot_be_removed(
    run: Run, refused: Refused, home: Path
) -> None:
    (home / "watchlist.toml").write_text("")
    for command in (("refresh",), ("symbols", "list")):
        assert "lists no symbol" in refused(*command, EMA_SANDBOX_URL="http://127.0.0.1:9", EMA_DATABASE_URL=DEAD)
    assert refused("symbols", "remove", "AAPL") == "not on the watchlist: AAPL"
    assert run("symbols", "add", "AAPL").stdout == f"Added AAPL ({US}).\n"
    assert watchlist.load(home / "watchlist.toml").symbols == ("AAPL",)
    assert "the last symbol cannot be removed; add another one first" in refused("symbols", "remove", "AAPL")
    assert run("symbols", "add", "MSFT").exit_code == run("symbols", "remove", "AAPL").exit_code == 0


def test_an_unknown_calendar_is_refused_in_options_and_in_the_watchlist(
    refused: Refused, home: Path, database_url: str
) -> None:
    for command in (("symbols", "add", "NVDA"), ("ingest", bars_file(home, HEAD, SOUND))):
        assert "'XNYC'" in refused(*command, "--calendar", "XNYC", EMA_DATABASE_URL=database_url)
    assert (home / "watchlist.toml").read_text() == WATCHLIST
    (home / "watchlist.toml").write_text('[[group]]\ncalendar = "XNYC"\nsymbols = ["AAPL"]')
    assert "'XNYC'" in refused("refresh", EMA_DATABASE_URL=database_url, EMA_SANDBOX_URL="http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("asked", "symbols"),
    [
        (("--group", "Shares"), ["AAPL", "MSFT"]),
        (("--group", "Shares", "--group", "2"), ["AAPL", "MSFT", "BTC-USD"]),
        (("--calendar", "24/7"), ["BTC-USD"]),
        (("--provider", "file"), ["OLD"]),
        (("--provider", "sandbox", "--calendar", "XNYS"), ["AAPL", "MSFT"]),
        (("--group", "Shares", "--calendar", "24/7"), []),
        ((), ["AAPL", "MSFT", "BTC-USD", "OLD"]),
    ],
)
def test_symbols_are_listed_by_group_calendar_and_provider(
    run: Run, home: Path, asked: tuple[str, ...], symbols: list[str]
) -> None:
    (home / "watchlist.toml").write_text(WATCHLIST + '[[group]]\nprovider = "file"\nsymbols = ["OLD"]\n')
    assert [each["symbol"] for each in json.loads(run("symbols", "list", "--json", *asked).stdout)] == symbols


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (("--provider", "sandbx"), "`--provider` must be one of sandbox, received 'sandbx'; did you mean `sandbox`?"),
        (("--calendar", "XNYC"), "`--calendar` must be one of XNYS, 24/7, received 'XNYC'; did you mean `XNYS`?"),
    ],
)
def test_a_filter_value_that_no_symbol_has_is_refused(refused: Refused, asked: tuple[str, ...], sentence: str) -> None:
    assert refused("symbols", "list", *asked) == sentence


def test_many_symbols_that_are_removed_at_once_are_counted(run: Run, home: Path) -> None:
    many = [f"S{number:05}" for number in range(40)]
    (home / "watchlist.toml").write_text(f'[[group]]\ncalendar = "XNYS"\nsymbols = {json.dumps(["AAPL", *many])}\n')
    assert run("symbols", "remove", *many).stdout == "Removed 40 symbols; their data stays.\n"
    again = run("symbols", "remove", *many, *many)
    assert again.exit_code == 1
    assert again.stderr == f"Error: not on the watchlist: {', '.join(many[:30])} and 10 more\n"


def test_symbols_are_added_and_removed_with_all_comments_kept(run: Run, home: Path) -> None:
    added = run("symbols", "add", "nvda", "AZN.L", "ETH-USD", "AAPL")
    assert added.exit_code == 0
    assert added.stdout.splitlines() == [
        f"Added NVDA ({US}).",
        "Added AZN.L (XLON: the suffix .L).",
        "Added ETH-USD (24/7: a crypto pair).",
        "AAPL is on the watchlist already.",
    ]
    removed = run("symbols", "remove", "MSFT")
    assert removed.stdout == "Removed MSFT; its data stays.\n"
    text = (home / "watchlist.toml").read_text()
    assert all(comment in text for comment in ("# Mine.", "# days", "# two of them"))
    listed = run("symbols", "list")
    assert [line.split() for line in listed.stdout.splitlines()] == [
        ["symbol", "calendar", "bars", "from", "timeframes"],
        ["AAPL", "XNYS", "sandbox", *_USUAL],
        ["NVDA", "XNYS", "sandbox", *_USUAL],
        ["BTC-USD", "24/7", "sandbox", *_USUAL],
        ["ETH-USD", "24/7", "sandbox", *_USUAL],
        ["AZN.L", "XLON", "sandbox", *_USUAL],
    ]


def test_the_list_can_be_printed_as_json(run: Run) -> None:
    listed = json.loads(run("symbols", "list", "--json").stdout)
    assert listed == [
        {"symbol": "AAPL", "calendar": "XNYS", "provider": "sandbox", "timeframes": _USUAL},
        {"symbol": "MSFT", "calendar": "XNYS", "provider": "sandbox", "timeframes": _USUAL},
        {"symbol": "BTC-USD", "calendar": "24/7", "provider": "sandbox", "timeframes": _USUAL},
    ]


def test_clear_symbols_are_added_and_the_others_are_refused_with_a_hint(run: Run, home: Path) -> None:
    done = run("symbols", "add", "7203", "7203.T", "BTC", "TEVA.TA", "ES=F", "EUR_USD", "vod ln")
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        "Added 7203.T (XTKS: the suffix .T).",
        "Added ES=F (CMES: a future, from Sunday evening on).",
        "Added EUR_USD (24/5: foreign exchange, from 17:00 to 17:00 New York).",
    ]
    head, number, coin, calendar, elsewhere = done.stderr.splitlines()
    assert head == "Error: not added:"
    assert number.startswith("7203: a number needs the suffix of its exchange")
    assert coin.startswith("BTC: it is a coin, and may be a ticker in the US; write BTC-USD")
    assert elsewhere == "VOD LN: a symbol has no such characters here; write VOD.L"
    assert calendar.startswith("TEVA.TA: `calendar` 'XTAE' cannot be built by the installed exchange_calendars; take")
    found = {each.symbol: each for each in watchlist.load(home / "watchlist.toml").instruments}
    assert found["ES=F"] == Instrument("ES=F", "CMES", None, allow_negative=True)
    assert found["EUR_USD"] == Instrument("EUR_USD", "24/5")
    assert not {"7203", "BTC", "TEVA.TA"} & set(found)


def test_a_list_of_another_vendor_is_refused_with_a_command_that_adds_its_symbols(run: Run, home: Path) -> None:
    path = home / "bloomberg.txt"
    path.write_text("Ticker\nMETA US Equity\nVOD LN Equity\n700 HK Equity\nEURONEXT:ASML\nPEP\n")
    done = run("symbols", "import", str(path), "--provider", "yahoo")
    assert done.exit_code == 1
    assert done.stdout.startswith("Added PEP (XNYS: ")
    *said, command = done.stderr.splitlines()
    assert said[0] == "Error: not added:"
    assert len(said) == 5
    text = "ema-assets symbols add META VOD.L 0700.HK --provider yahoo"
    assert command == f"as they are written here: {text}"
    again = run(*text.split()[1:])
    assert again.exit_code == 0
    assert "Added 0700.HK (XHKG: the suffix .HK, from yahoo)." in again.stdout


def test_of_many_refused_symbols_the_first_have_reasons_and_all_are_listed(run: Run) -> None:
    numbers = [str(number) for number in range(7000, 7040)]
    *said, others = run("symbols", "add", *numbers).stderr.splitlines()
    assert len(said) == 11
    assert said[10].startswith("7009: a number needs the suffix of its exchange")
    assert others == f"and 30 more: {' '.join(numbers[10:])}"


def test_adding_a_symbol_reports_whether_dagster_will_load_it(run: Run, home: Path, database_url: str) -> None:
    def added(symbol: str) -> str:
        with an_up(home, 4711, provider="sandbox", ui="http://127.0.0.1:3000"):
            return run("symbols", "add", symbol, EMA_DATABASE_URL=database_url).stdout.splitlines()[1]

    assert added("NVDA") == "Dagster picks this up within ten seconds and loads the history."
    with Database(database_url) as database, database.transaction() as transaction:
        sync_failures.note(transaction, "a disk is full")
    said = added("AMD")
    assert said.startswith("Nothing is loaded yet: the watchlist was not taken up since 20")
    assert said.endswith(" UTC: a disk is full")
    with Database(database_url) as database, database.transaction() as transaction:
        transaction.execute("CREATE TABLE dagster.instigators (status text, instigator_body text)")
        body = json.dumps({"origin": {"job_name": "sync_watchlist"}})
        transaction.execute("INSERT INTO dagster.instigators VALUES ('STOPPED', $1)", body)
    assert added("TSLA") == (
        'Nothing is loaded yet: the sensor sync_watchlist is stopped. Start it in the Dagster UI under "Automation".'
    )


@pytest.mark.parametrize(
    ("provider", "symbol", "added"),
    [
        ("binance", "EUR-USD", "EUR-USD (24/7: a pair of Binance, from binance)"),
        ("yahoo", "EURUSD=X", "EURUSD=X (24/5: foreign exchange, from 17:00 to 17:00 New York, from yahoo)"),
        ("file", "VOD.L", "VOD.L (XLON: the suffix .L, from file)"),
    ],
)
def test_a_symbol_gets_the_requested_provider(run: Run, home: Path, provider: str, symbol: str, added: str) -> None:
    done = run("symbols", "add", symbol, "--provider", provider)
    assert done.stdout.splitlines() == [f"Added {added}."]
    (found,) = (each for each in watchlist.load(home / "watchlist.toml").instruments if each.symbol == symbol)
    assert found.provider == provider


@pytest.mark.parametrize(
    ("provider", "symbol", "sentence"),
    [
        ("binance", "TSM", "TSM: Binance has no stocks; choose a provider that has, such as `--provider alpaca`"),
        (
            "alpaca",
            "VOD.L",
            "VOD.L: Alpaca has no stocks of XLON; choose a provider that has, such as `--provider yahoo`",
        ),
        ("alpaca", "EURUSD", "EURUSD: Alpaca has no foreign exchange; choose a provider that has"),
        ("yaho", "AAPL.L", "did you mean `yahoo`?"),
    ],
)
def test_a_symbol_that_its_provider_does_not_have_is_refused(
    refused: Refused, home: Path, provider: str, symbol: str, sentence: str
) -> None:
    assert sentence in refused("symbols", "add", symbol, "--provider", provider)
    assert (home / "watchlist.toml").read_text() == WATCHLIST


@pytest.mark.parametrize(("days", "is_told"), [(30, True), (500, False)])
def test_a_calendar_whose_known_holidays_end_soon_causes_a_warning(run: Run, days: int, is_told: bool) -> None:
    known = holidays_known_through("XBOM")
    assert known is not None
    noon = datetime.combine(known - timedelta(days=days), time(12), UTC)
    done = run("symbols", "add", "INFY.NS", EMA_CLOCK=f"{noon.isoformat()} since {datetime.now(UTC).isoformat()}")
    assert done.exit_code == 0
    assert done.stderr.startswith(f"The holidays of XBOM are known through {known}. ") is is_told
    assert bool(done.stderr) is is_told


def test_symbols_are_found_regardless_of_upper_and_lower_case(run: Run, refused: Refused, home: Path) -> None:
    text = WATCHLIST.replace('"MSFT"', '"MSFT", "eurgold", "Twin", "TWIN"')
    (home / "watchlist.toml").write_text(text)
    assert run("symbols", "add", "msft", "EurGold", "twin").stdout.endswith(" on the watchlist already.\n")
    assert refused("chart", "twin", EMA_DATABASE_URL=DEAD).startswith("not on the watchlist: twin; ")
    assert "not on the watchlist" not in refused("chart", "msft", EMA_DATABASE_URL=DEAD)
    assert "not on the watchlist" not in refused("quality", "--symbol", "EURGOLD", EMA_DATABASE_URL=DEAD)
    assert "not on the watchlist" not in refused("refresh", "--symbol", "btc-usd", EMA_DATABASE_URL=DEAD)
    assert run("symbols", "remove", "EURGOLD", "Twin").stdout == (
        "Removed eurgold; its data stays.\nRemoved Twin; its data stays.\n"
    )
    assert watchlist.load(home / "watchlist.toml").symbols == ("AAPL", "MSFT", "TWIN", "BTC-USD")


def test_an_invalid_symbol_and_one_that_is_not_watched_are_refused(refused: Refused, home: Path) -> None:
    assert refused("symbols", "add", "A|B").startswith("`symbol` must be 1 to 32 letters")
    assert refused("symbols", "remove", "NVDA") == "not on the watchlist: NVDA"
    assert refused("symbols", "remove", "appl") == "not on the watchlist: appl; did you mean `AAPL`?"
    assert refused("symbols", "import", "none.csv") == "none.csv: no such file"
    assert "the last symbol cannot be removed" in refused("symbols", "remove", "AAPL", "MSFT", "BTC-USD")
    assert (home / "watchlist.toml").read_text() == WATCHLIST


def test_the_first_change_writes_the_default_watchlist(run: Run, home: Path) -> None:
    (home / "watchlist.toml").unlink()
    # Listing writes nothing.
    assert len(run("symbols", "list").stdout.splitlines()) == 101
    assert not (home / "watchlist.toml").exists()
    assert run("symbols", "add", "AZN.L").exit_code == 0
    assert set(watchlist.load(home / "watchlist.toml").symbols) == {
        *watchlist.parse(watchlist.default_text()).symbols,
        "AZN.L",
    }


@pytest.mark.broad
@pytest.mark.parametrize("is_there", [True, False])
def test_symbols_added_by_several_processes_at_once_are_all_kept_with_the_comments(home: Path, is_there: bool) -> None:
    path = home / "watchlist.toml"
    if not is_there:
        path.unlink()
    before = path.read_text() if is_there else watchlist.default_text()
    # config/test_watchlist_edits.py tests ten processes at once, which start in a third of the time.
    symbols = [f"NEW{letter}" for letter in "ABCD"]
    processes = [start("symbols", "add", symbol) for symbol in symbols]
    for symbol, process in zip(symbols, processes, strict=True):
        with process:
            stdout, stderr = process.communicate(timeout=GIVEN_UP_AFTER_SECONDS)
        assert (process.returncode, stdout, stderr) == (0, f"Added {symbol} ({US}).\n", "")
    found = watchlist.load(path).symbols
    assert sorted(found) == sorted([*watchlist.parse(before).symbols, *symbols])
    comments = [line.partition("#")[2] for line in before.splitlines() if "#" in line]
    assert [line.partition("#")[2] for line in path.read_text().splitlines() if "#" in line] == comments
    assert [each.name for each in home.iterdir()] == ["watchlist.toml"]


@pytest.mark.broad
def test_a_us_stock_is_added_without_importing_the_library_of_calendars(home: Path) -> None:
    # The import takes seconds.
    code = (
        "import sys; from ema_assets.cli import main; main(['symbols', 'add', 'NVDA'], standalone_mode=False); "
        "print({'exchange_calendars', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"Added NVDA ({US}).\nset()\n"


def test_adding_a_watched_symbol_and_removing_an_unknown_one_change_nothing(
    run: Run, refused: Refused, home: Path
) -> None:
    before = (home / "watchlist.toml").stat()
    assert run("symbols", "add", "AAPL").stdout == "AAPL is on the watchlist already.\n"
    assert refused("symbols", "remove", "NVDA") == "not on the watchlist: NVDA"
    after = (home / "watchlist.toml").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_list_in_a_file_is_imported_and_a_wrong_line_imports_nothing(run: Run, refused: Refused, home: Path) -> None:
    (home / "mine.csv").write_text("ticker,name\nNVDA,Nvidia\nMMC,Marsh\n")
    done = run("symbols", "import", str(home / "mine.csv"))
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [f"Added NVDA ({US}).", f"Added MMC ({US})."]
    assert done.stderr == "MMC has been called MRSH since 2026-01-14.\n"
    before = (home / "watchlist.toml").read_text()
    (home / "mine.csv").write_text("ticker\nTSLA\nno symbol!\n")
    assert "mine.csv, line 3: `symbol` must be" in refused("symbols", "import", str(home / "mine.csv"))
    assert (home / "watchlist.toml").read_text() == before


def test_many_added_symbols_are_counted_by_calendar(run: Run, home: Path) -> None:
    stocks = [f"{one}{two}X" for one in "ABCDEF" for two in "GHIJKL"]
    (home / "many.txt").write_text("\n".join([*stocks, "AZN.L", "VOD.L", "AAPL"]))
    done = run("symbols", "import", str(home / "many.txt"))
    assert done.stdout.splitlines() == [
        "Added 36 symbols of XNYS.",
        "Added 2 symbols of XLON.",
        "AAPL is on the watchlist already.",
    ]
    assert len(watchlist.load(home / "watchlist.toml").symbols) == 3 + 38


def test_the_check_reports_symbols_that_were_renamed_have_ended_or_are_unknown(
    run: Run, home: Path, database: Database
) -> None:
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
    assert (fine.exit_code, fine.stdout) == (0, "Checked 1 symbol: nothing is known against it.\n")


def test_the_check_uses_states_and_corporate_actions_and_a_halt_is_not_a_problem(
    run: Run, home: Path, database: Database
) -> None:
    (home / "watchlist.toml").write_text(
        '[[group]]\ncalendar = "XNYS"\nsymbols = ["AAPL", "HALT", "OLDCO", "NOSUCH"]\n'
    )
    now = datetime(2026, 11, 25, 16, 0, tzinfo=UTC)
    sync(database, watchlist.load(home / "watchlist.toml"), now)
    renamed = pl.DataFrame([("OLDCO", "rename", now, None, None, "NEWCO")], schema=ACTION_SCHEMA, orient="row")
    said = [("HALT", "halted", None, "HALT"), ("NOSUCH", "unknown", None, None), ("AAPL", "active", None, "active")]
    with database.transaction() as transaction:
        action_facts.record(transaction, renamed, "my.csv")
        states.note(transaction, pl.DataFrame(said, schema=STATE_SCHEMA, orient="row"), "alpaca", now)
    found = run("symbols", "check", EMA_DATABASE_URL=database.url)
    assert found.stdout.splitlines() == [
        "NOSUCH: alpaca does not list it, noted on 2026-11-25",
        "OLDCO: renamed to NEWCO on 2026-11-25: `ema-assets symbols add NEWCO` and `ema-assets symbols remove OLDCO`",
        "HALT: alpaca says that it is halted (HALT), noted on 2026-11-25",
    ]
    shown = run("status", EMA_DATABASE_URL=database.url).stdout.splitlines()
    assert shown[-2:] == [
        "HALT: alpaca says that it is halted (HALT), noted on 2026-11-25",
        "NOSUCH: alpaca does not list it, noted on 2026-11-25",
    ]
    (home / "watchlist.toml").write_text('[[group]]\ncalendar = "XNYS"\nsymbols = ["AAPL", "HALT"]\n')
    fine = run("symbols", "check", EMA_DATABASE_URL=database.url)
    assert (fine.exit_code, fine.stdout.splitlines()) == (
        0,
        [
            "HALT: alpaca says that it is halted (HALT), noted on 2026-11-25",
            "Checked 2 symbols: nothing is known against any of them.",
        ],
    )
