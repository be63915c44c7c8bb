"""The command line as its user meets it: what is wrong is said in one sentence, and no password is ever printed."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import click
import psycopg2
import pytest
from click.testing import CliRunner, Result

from ema_assets.cli import main
from ema_assets.config import watchlist
from ema_assets.sandbox.server import running_sandbox
from ema_assets_tests.conftest import Databases
from ema_assets_tests.core import CORE_TEXT

WATCHLIST = (
    """\
# Mine.
[history]
"5m" = 3   # days
"1d" = 30

[[group]]
name = "Shares"
symbols = ["AAPL", "MSFT"]  # two of them

[[group]]
calendar = "24/7"
symbols = ["BTC-USD"]
"""
    + CORE_TEXT
)

HEAD = "symbol,timeframe,ts,open,high,low,close,volume"
SOUND = "AAPL,1d,2024-02-14,10,12,9,11,100"
DEAD = "postgresql://trader:ge%21heim@127.0.0.1:9/market"

Run = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An EMA_HOME of its own, with a watchlist of three symbols, and no other setting."""
    for name in os.environ:
        if name.startswith(("EMA_", "APCA_", "DAGSTER_", "PG")):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    (home / "watchlist.toml").write_text(WATCHLIST)
    monkeypatch.setenv("EMA_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    return home


@pytest.fixture
def run(home: Path) -> Run:
    """The command line in this process: `run("status", "--json", EMA_PROVIDER="alpaca")`."""

    def run(*arguments: str, **env: str) -> Result:
        return CliRunner().invoke(main, arguments, env=env, prog_name="ema-assets")

    return run


@pytest.fixture
def refused(run: Run) -> Callable[..., str]:
    """Run a command that must fail, and return its one sentence."""

    def refused(*arguments: str, **env: str) -> str:
        result = run(*arguments, **env)
        assert result.exit_code == 1, result.output
        assert isinstance(result.exception, SystemExit), repr(result.exception)
        return sentence_of(result.stderr)

    return refused


def sentence_of(stderr: str) -> str:
    """What follows `Error: ` on the only line of `stderr`."""
    (line,) = stderr.splitlines()
    assert line.startswith("Error: ")
    return line.removeprefix("Error: ")


def in_a_process(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The command line as a shell starts it."""
    return subprocess.run(
        [sys.executable, "-m", "ema_assets", *arguments],
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture
def sandbox_url(home: Path) -> Iterator[str]:
    with running_sandbox(watchlist.load(home / "watchlist.toml").instruments) as sandbox:
        yield sandbox.base_url


def with_password(url: str) -> tuple[str, str]:
    """`url` of the test server with its password inside instead of its passfile, and that password."""
    parts = urlsplit(url)
    (passfile,) = parse_qs(parts.query)["passfile"]
    password = Path(passfile).read_text().strip().rpartition(":")[2]
    netloc = parts.netloc.replace("@", f":{quote(password, safe='')}@")
    return parts._replace(netloc=netloc, query="").geturl(), password


def bars_file(folder: Path, *lines: str, name: str = "bars.csv") -> str:
    (folder / name).write_text("\n".join(lines) + "\n")
    return str(folder / name)


# --- help ------------------------------------------------------------------------------------------------------------


def _all_commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _all_commands(command, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("path", list(_all_commands(main)), ids=lambda path: " ".join(path) or "ema-assets")
def test_every_command_says_what_it_does_and_how_it_is_used(run: Run, path: tuple[str, ...]) -> None:
    for option in ("--help", "-h"):
        shown = run(*path, option)
        assert shown.exit_code == 0
        assert shown.stdout.startswith(f"Usage: {' '.join(('ema-assets', *path))} ")
        assert len(shown.stdout.split("Options:")[0].split("\n\n")[1].split()) >= 4


def test_a_command_that_does_not_exist_is_refused_in_one_sentence() -> None:
    done = in_a_process("refersh")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("Error: No such command 'refersh'")
    assert "Traceback" not in done.stderr


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("EMA_PROVIDER", "foo", "`EMA_PROVIDER` must be one of sandbox, alpaca, yahoo, binance, received 'foo'"),
        (
            "EMA_SERIES_PER_RUN",
            "abc",
            "`EMA_SERIES_PER_RUN` must be a whole number from 1 to 100000, received 'abc'",
        ),
        (
            "EMA_ALPACA_BASE_URL",
            "nonsense",
            "`EMA_ALPACA_BASE_URL` must be an http or https URL such as https://data.alpaca.markets, received 'nonsense'",
        ),
    ],
)
@pytest.mark.parametrize("command", ["up", "down", "status", "refresh", "migrate", "sandbox"])
def test_a_wrong_setting_is_named_with_what_is_allowed(
    refused: Callable[..., str], command: str, name: str, value: str, sentence: str
) -> None:
    assert refused(command, **{name: value}) == sentence


@pytest.mark.parametrize("command", ["refresh", "up"])
@pytest.mark.parametrize(
    "keys", [{"EMA_PROVIDER": "alpaca"}, {"APCA_API_KEY_ID": "the-key"}, {"APCA_API_SECRET_KEY": "the-secret"}]
)
def test_alpaca_without_its_keys_says_which_to_set(
    refused: Callable[..., str], command: str, keys: dict[str, str]
) -> None:
    sentence = refused(command, **{"EMA_PROVIDER": "alpaca", **keys}, EMA_DATABASE_URL=DEAD)
    assert sentence == "the provider alpaca needs keys: set APCA_API_KEY_ID and APCA_API_SECRET_KEY to yours"


@pytest.mark.parametrize("command", ["up", "down", "status", "refresh", "migrate", "sandbox"])
def test_a_home_that_is_a_file_is_named(refused: Callable[..., str], tmp_path: Path, command: str) -> None:
    (tmp_path / "file").touch()
    sentence = refused(command, EMA_HOME=str(tmp_path / "file"))
    assert sentence == f"`EMA_HOME` must be a folder, received the file {tmp_path / 'file'}"


@pytest.mark.parametrize(
    "command", [("up",), ("migrate",), ("refresh",), ("symbols", "list"), ("symbols", "add", "NVDA")], ids=" ".join
)
@pytest.mark.parametrize("where", ["/proc/ema-assets", "below a file"])
def test_a_home_that_cannot_be_made_is_named(
    refused: Callable[..., str], tmp_path: Path, command: tuple[str, ...], where: str
) -> None:
    (tmp_path / "file").touch()
    folder = where if where.startswith("/") else str(tmp_path / "file" / "home")
    sentence = refused(*command, EMA_HOME=folder, EMA_SANDBOX_URL="http://127.0.0.1:9")
    assert folder in sentence
    assert sentence.endswith("; EMA_HOME must be a folder that you may write to")


# --- the watchlist ----------------------------------------------------------------------------------------------------


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
    refused: Callable[..., str], home: Path, command: tuple[str, ...], text: str, sentence: str
) -> None:
    (home / "watchlist.toml").write_text(text)
    found = refused(*command, EMA_SANDBOX_URL="http://127.0.0.1:9", EMA_DATABASE_URL=DEAD)
    assert found.startswith(f"{home / 'watchlist.toml'}: ")
    assert sentence in found
    assert (home / "watchlist.toml").read_text() == text


def test_an_unknown_calendar_is_named_wherever_it_comes_from(
    refused: Callable[..., str], home: Path, database_url: str
) -> None:
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


def test_a_symbol_that_cannot_be_one_or_is_not_there_is_refused(refused: Callable[..., str], home: Path) -> None:
    assert refused("symbols", "add", "A|B").startswith("`symbol` must be 1 to 32 letters")
    assert refused("symbols", "remove", "NVDA") == "not on the watchlist: NVDA"
    assert "lists no symbol" in refused("symbols", "remove", "AAPL", "MSFT", "BTC-USD")
    assert (home / "watchlist.toml").read_text() == WATCHLIST


def test_the_first_use_writes_the_default_watchlist(run: Run, home: Path) -> None:
    (home / "watchlist.toml").unlink()
    assert len(run("symbols", "list").stdout.splitlines()) == 101
    assert (home / "watchlist.toml").read_text() == watchlist.default_text()


# --- the database -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [("status",), ("status", "--json"), ("refresh",), ("migrate",), ("up",)])
def test_a_database_that_is_not_there_is_named_without_its_password(command: tuple[str, ...], home: Path) -> None:
    port = ("--port", str(_free_port())) if command == ("up",) else ()
    done = in_a_process(*command, *port, EMA_DATABASE_URL=DEAD, EMA_SANDBOX_URL="http://127.0.0.1:9")
    assert done.returncode == 1
    sentence = sentence_of(done.stderr)
    assert sentence.startswith("cannot connect to postgresql://trader:***@127.0.0.1:9/market: ")
    assert "refused" in sentence
    assert sentence.endswith("; is the server running and EMA_DATABASE_URL right?")
    assert "heim" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "url",
    [
        "mysql://trader:geheim@127.0.0.1:9/market",
        "postgresql://trader:geheim@127.0.0.1:9",
        "postgresql://trader:g@geheim@127.0.0.1:9/market",
        "postgresql://trader:%zzgeheim@127.0.0.1:9/market",
        "postgresql://trader:/geheim@127.0.0.1:9/market",
        "geheim",
    ],
)
@pytest.mark.parametrize("command", [("status", "--json"), ("up",)])
def test_a_malformed_database_url_is_refused_and_not_repeated(
    refused: Callable[..., str], command: tuple[str, ...], url: str
) -> None:
    sentence = refused(*command, EMA_DATABASE_URL=url)
    assert sentence.startswith("`EMA_DATABASE_URL` must read postgresql://USER:PASSWORD@HOST:PORT/DATABASE")
    assert "geheim" not in sentence


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://trader:geheim@127.0.0.1:nine/market",
        "postgresql://trader:geheim@127.0.0.1:9/market?sslmod=require",
        "postgresql://trader@127.0.0.1:9/market?password=geheim",
        "postgresql://trader:geheim@no-such-host.invalid/market?connect_timeout=2",
    ],
)
def test_what_only_the_driver_can_refuse_is_one_sentence_without_the_password(
    refused: Callable[..., str], url: str
) -> None:
    assert "geheim" not in refused("status", EMA_DATABASE_URL=url)


def test_a_wrong_password_and_a_missing_database_are_named(refused: Callable[..., str], database_url: str) -> None:
    url, password = with_password(database_url)
    wrong = refused("status", EMA_DATABASE_URL=url.replace(quote(password, safe=""), "geheim"))
    assert "password authentication failed" in wrong
    missing = refused("status", EMA_DATABASE_URL=url.replace(urlsplit(url).path, "/nothing"))
    assert 'database "nothing" does not exist' in missing
    assert not any(secret in wrong + missing for secret in (password, "geheim"))


def test_the_password_is_in_nothing_that_is_printed(run: Run, database_url: str) -> None:
    url, password = with_password(database_url)
    for command in (("status",), ("status", "--json"), ("migrate",)):
        shown = run(*command, EMA_DATABASE_URL=url)
        assert shown.exit_code == 0, shown.output
        assert password not in shown.output
    assert "postgresql://ema:***@127.0.0.1:" in run("status", EMA_DATABASE_URL=url).stdout


def test_a_database_that_refuses_a_statement_is_one_sentence(
    refused: Callable[..., str], databases: Databases, database_url: str
) -> None:
    """A newer version's tables; a table that somebody has dropped."""
    connection = psycopg2.connect(database_url)
    with connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE market.series_state CASCADE")
    connection.close()
    sentence = refused("status", EMA_DATABASE_URL=database_url)
    assert sentence.startswith("the database or its driver refused: ")
    assert "market.series_state" in sentence


def test_a_pgpassword_meant_for_another_server_does_not_lock_out_of_the_embedded_one(home: Path) -> None:
    done = in_a_process("migrate", PGPASSWORD="of another server", PGSSLMODE="require")
    assert done.returncode == 0, done.stderr
    assert "Applied 0001 market." in done.stdout


def test_an_empty_database_is_migrated_once(run: Run, databases: Databases) -> None:
    url = databases.make(migrated=False)
    first, second = run("migrate", EMA_DATABASE_URL=url), run("migrate", EMA_DATABASE_URL=url)
    databases.drop(url)
    assert first.stdout.startswith("Applied 0001 ")
    assert second.stdout == "Nothing to do.\n"


def test_maintenance_needs_no_dagster_and_follows_the_days_that_are_set(run: Run, database_url: str) -> None:
    with psycopg2.connect(database_url) as connection, connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO market.bar_rejected (symbol, timeframe, reason, source, rejected_at)
               SELECT 'AAPL', '5m', 'why', 'who', now() - n * interval '1 day' + interval '1 hour'
               FROM generate_series(1, 100) n"""
        )
    for days, gone in ((None, 10), (50, 40), (50, 0)):
        env = {"EMA_REJECTED_RETENTION_DAYS": str(days)} if days else {}
        shown = run("maintain", EMA_DATABASE_URL=database_url, **env)
        assert shown.exit_code == 0, shown.output
        assert f"Deleted {gone} rejected bars after {days or 90} days;" in shown.stdout
        assert shown.stdout.startswith("Deleted 0 runs with 0 events ")


# --- ports ------------------------------------------------------------------------------------------------------------


def test_a_taken_ui_port_is_named_with_the_way_out(home: Path, taken_port: int) -> None:
    done = in_a_process("up", "--port", str(taken_port))
    assert done.returncode == 1
    sentence = sentence_of(done.stderr)
    assert f"port {taken_port} on 127.0.0.1 is in use" in sentence
    assert f"`ema-assets up --port {taken_port + 1}`" in sentence
    assert not (home / "postgres").exists()


def test_a_taken_sandbox_port_is_named(refused: Callable[..., str], taken_port: int) -> None:
    assert refused("sandbox", "--port", str(taken_port)).startswith(f"port {taken_port} on 127.0.0.1 is already in use")


@pytest.mark.parametrize(("command", "port"), [("up", "0"), ("up", "65536"), ("sandbox", "-1"), ("up", "http")])
def test_a_port_that_is_none_is_refused(run: Run, command: str, port: str) -> None:
    result = run(command, "--port", port)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("Error: Invalid value for '--port'")


# --- with nothing running ---------------------------------------------------------------------------------------------


def test_status_with_nothing_running_is_valid_json_that_says_so(run: Run, home: Path) -> None:
    shown = run("status", "--json")
    assert shown.exit_code == 0
    assert json.loads(shown.stdout) == {
        "running": False,
        "pid": None,
        "ui": None,
        "database_url": None,
        "provider": "sandbox",
        "synthetic": True,
        "sandbox_url": None,
        "clock": None,
        "home": str(home),
        "watchlist": str(home / "watchlist.toml"),
        "assets": [],
        "latency": [],
        "not_answering": [],
        "failing": [],
        "without_bars": [],
    }
    assert "Not running; start it with `ema-assets up`" in run("status").stdout


def test_down_with_nothing_running_says_so_and_is_content(run: Run, home: Path) -> None:
    result = run("down")
    assert result.exit_code == 0
    assert result.stdout == f"Nothing runs on {home}.\n"


def test_refresh_without_the_sandbox_says_how_to_start_it(refused: Callable[..., str]) -> None:
    sentence = refused("refresh", EMA_DATABASE_URL=DEAD)
    assert sentence.startswith("the sandbox exchange is a provider but does not run; start it with `ema-assets up`")
    assert "EMA_SANDBOX_URL" in sentence


# --- refresh ----------------------------------------------------------------------------------------------------------


def test_refresh_refuses_what_is_not_on_the_watchlist_or_no_timeframe(refused: Callable[..., str]) -> None:
    env = {"EMA_SANDBOX_URL": "http://127.0.0.1:9", "EMA_DATABASE_URL": DEAD}
    assert refused("refresh", "--symbol", "NVDA", **env) == (
        "not on the watchlist: NVDA; `ema-assets symbols list` shows what is"
    )
    assert refused("refresh", "--timeframe", "7m", **env) == (
        "`timeframe` must be one of 5m, 15m, 30m, 1h, 4h, 1d, received '7m'"
    )


def test_refresh_brings_every_series_up_to_date_and_the_next_one_has_nothing_to_do(
    run: Run, database_url: str, sandbox_url: str
) -> None:
    env = {"EMA_DATABASE_URL": database_url, "EMA_SANDBOX_URL": sandbox_url}
    _away_from_a_close()
    first = run("refresh", **env)
    assert first.exit_code == 0, first.output
    assert first.stdout.splitlines()[-1] == "Up to date."
    assert len(first.stdout.splitlines()) == 4 * 6 + 1
    second = run("refresh", **env)
    assert second.stdout == "Up to date.\n"
    status = json.loads(run("status", "--json", **env).stdout)
    assert len(status["assets"]) == 4 * 6
    assert all(
        (each["series"], each["stale"], each["missing"], each["failing"]) == (3, 0, 0, 0) for each in status["assets"]
    )
    assert status["failing"] == status["without_bars"] == []
    one = run("refresh", "--all", "--symbol", "AAPL", "--timeframe", "1d", **env)
    assert [line.split()[:3] for line in one.stdout.splitlines()[:-1]] == [
        [asset, "1d", "1"] for asset in ("ohlc", "ema_signals", "ema_trend", "strategy_9_30_ema")
    ]


def test_a_dead_provider_is_named_once_with_the_series_it_cost(run: Run, database_url: str, home: Path) -> None:
    assert run("symbols", "add", "JPM", "XOM", "ETH-USD", "LTC-USD").exit_code == 0
    dead = f"http://127.0.0.1:{_free_port()}"
    result = run(
        "refresh", "--timeframe", "5m", "--timeframe", "1d", EMA_DATABASE_URL=database_url, EMA_SANDBOX_URL=dead
    )
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    *groups, last = result.stderr.splitlines()
    assert last == "Error: 14 series failed; they are tried again after a pause"
    assert len(groups) == 2
    for group, timeframe in zip(groups, ("5m", "1d"), strict=True):
        named, reason = group.strip().split(": ", 1)
        assert named.endswith(" and 2 more")
        assert all(series.endswith(f"|{timeframe}") for series in named.removesuffix(" and 2 more").split(", "))
        assert reason.startswith(f"sandbox cannot be reached at {dead.removeprefix('http://')}: ")
    failing = json.loads(run("status", "--json", EMA_DATABASE_URL=database_url).stdout)["failing"]
    assert any("cannot be reached" in reason for reason in failing)


# --- ingest -----------------------------------------------------------------------------------------------------------


def test_a_file_that_holds_no_bars_is_refused_by_name(refused: Callable[..., str], tmp_path: Path) -> None:
    def sentence(path: str, *options: str) -> str:
        found = refused("ingest", path, *options, EMA_DATABASE_URL=DEAD)
        assert found.startswith(f"{path}: ")
        return found.removeprefix(f"{path}: ")

    assert sentence(str(tmp_path / "none.csv")) == "no such file"
    assert "from .csv and .parquet files" in sentence(bars_file(tmp_path, HEAD, name="bars.txt"))
    assert "from .csv and .parquet files" in sentence(str(tmp_path))
    lacking = sentence(bars_file(tmp_path, "ts,open,high,low,close"))
    assert lacking.startswith("lacks the columns symbol, timeframe, volume; needed are ")
    assert "--symbol and --timeframe" in lacking
    second = sentence(bars_file(tmp_path, HEAD, SOUND, SOUND.replace("2024-02-14", "14.2.2024")))
    assert second == "line 3: `ts` must be a time such as 2024-02-14T14:30:00Z, received '14.2.2024' (1 such line)"
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)))
    (tmp_path / "empty.csv").touch()
    (tmp_path / "text.parquet").write_text(HEAD)
    (tmp_path / "folder.csv").mkdir()
    for name in ("binary.csv", "empty.csv", "text.parquet", "folder.csv"):
        sentence(str(tmp_path / name))


def test_ingested_bars_are_in_the_status_and_their_symbol_is_on_the_watchlist(
    run: Run, home: Path, database_url: str
) -> None:
    path = bars_file(home, HEAD, SOUND, SOUND.replace("AAPL", "OLD"), "OLD,1d,2024-02-15,10,9,9,11,100")
    result = run("ingest", path, EMA_DATABASE_URL=database_url)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Added OLD (XNYS) to the watchlist, its bars from files.\n")
    rows = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines() if "|1d" in line}
    assert rows["AAPL|1d"][:7] == ["1", "0", "0", "0", "0", "0", "0"]
    assert rows["OLD|1d"][:7] == ["1", "0", "0", "0", "0", "0", "1"]
    assert "newer bars of AAPL are SYNTHETIC" in result.stdout
    status = json.loads(run("status", "--json", EMA_DATABASE_URL=database_url).stdout)
    daily = next(each for each in status["assets"] if (each["asset"], each["timeframe"]) == ("ohlc", "1d"))
    assert daily["series"] == 4
    assert daily["newest_ts"].startswith("2024-02-14T")
    assert ["OLD", "XNYS", "files"] in [line.split() for line in run("symbols", "list").stdout.splitlines()]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _away_from_a_close() -> None:
    """Wait where a 5m bar is about to close: what was up to date would then be so no longer."""
    left = 300 - time.time() % 300
    if left < 15:
        time.sleep(left + 1)


# --- plan -------------------------------------------------------------------------------------------------------------


def test_plan_says_what_would_run_and_why_and_changes_nothing(run: Run, database_url: str) -> None:
    _away_from_a_close()
    with running_sandbox(watchlist.parse(WATCHLIST).instruments) as sandbox:
        env = {"EMA_DATABASE_URL": database_url, "EMA_SANDBOX_URL": sandbox.base_url}
        assert run("refresh", "--timeframe", "1d", **env).exit_code == 0
        first, second = run("plan", **env), run("plan", **env)
        assert first.stdout == second.stdout
        assert "5m: history, one run from AAPL to BTC-USD for 3 series\n  3 never asked" in first.stdout
        assert "1d:" not in first.stdout.replace("not recorded", "")
        detailed = run("plan", "--series", "--symbol", "MSFT", **env)
        assert "MSFT|5m ohlc: never asked" in detailed.stdout
        assert "AAPL" not in detailed.stdout.split("\n\n")[1]
        assert run("refresh", **env).exit_code == 0
        done = run("plan", **env)
        assert (
            done.stdout.startswith("Nothing is stale.\n24/7: the next 5m bar closes 20")
            or "not recorded" in done.stdout
        )
    refused_symbol = run("plan", "--symbol", "NOPE", **env)
    assert refused_symbol.exit_code == 1
    assert "not on the watchlist: NOPE" in refused_symbol.stderr
