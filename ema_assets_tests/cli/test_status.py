"""Tests of `ema-assets status`: what runs, the providers in use, and how fresh the series are."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ema_assets.config import watchlist
from ema_assets.operations.sync_watchlist import sync
from ema_assets.store import ledger
from ema_assets.store.database import Database
from ema_assets_tests.cli.conftest import Refused, Run
from ema_assets_tests.cli.shell import WATCHLIST, an_up
from ema_assets_tests.timeframes import M5


def test_status_without_a_running_up_is_valid_json_that_shows_this(run: Run, home: Path) -> None:
    shown = run("status", "--json")
    assert shown.exit_code == 0
    assert json.loads(shown.stdout) == {
        "running": False,
        "pid": None,
        "ui": None,
        "board": None,
        "database_url": None,
        "provider": "sandbox",
        "synthetic": True,
        "providers": [{"provider": "sandbox", "synthetic": True, "symbols": 3}],
        "sandbox_url": None,
        "clock": None,
        "home": str(home),
        "watchlist": str(home / "watchlist.toml"),
        "watchlist_error": None,
        "configuration_error": None,
        "daemon_heard_at": None,
        "sync_error": None,
        "loading": None,
        "assets": [],
        "latency": [],
        "legs": [],
        "held_up": [],
        "not_answering": [],
        "failing": [],
        "without_bars": [],
        "silent": [],
        "states": [],
        "warming_up": [],
        "alerts": [],
    }
    assert "Not running; start it with `ema-assets up`" in run("status").stdout


BINANCE = """
[[group]]
name = "Real"
calendar = "24/7"
provider = "binance"
symbols = ["ETHUSDT", "SOLUSDT"]
"""
FILES = """
[[group]]
provider = "file"
symbols = ["OLD"]
"""


def provider_lines(shown: str) -> list[str]:
    return [line.removeprefix("Provider").strip() for line in shown.splitlines() if line.startswith("Provider")]


@pytest.mark.parametrize(
    ("text", "env", "synthetic", "providers", "lines"),
    [
        (
            WATCHLIST + BINANCE + FILES,
            {},
            True,
            [("binance", False, 2), ("sandbox", True, 3)],
            ["binance, 2 symbols", "sandbox, 3 symbols (SYNTHETIC prices)"],
        ),
        (WATCHLIST + FILES, {}, True, [("sandbox", True, 3)], ["sandbox (SYNTHETIC prices)"]),
        (BINANCE + FILES, {}, False, [("binance", False, 2)], ["binance"]),
        (
            WATCHLIST.replace('name = "Shares"', 'provider = "sandbox"'),
            {"EMA_PROVIDER": "yahoo"},
            True,
            [("sandbox", True, 2), ("yahoo", False, 1)],
            ["sandbox, 2 symbols (SYNTHETIC prices)", "yahoo, 1 symbol"],
        ),
        (FILES, {}, False, [], ["none: all bars come from files"]),
    ],
    ids=["both", "sandbox", "binance", "a real default", "files"],
)
def test_each_provider_in_use_is_shown_and_synthetic_ones_are_marked(
    run: Run,
    home: Path,
    text: str,
    env: dict[str, str],
    synthetic: bool,
    providers: list[tuple[str, bool, int]],
    lines: list[str],
) -> None:
    (home / "watchlist.toml").write_text(text)
    found = json.loads(run("status", "--json", **env).stdout)
    assert found["provider"] == env.get("EMA_PROVIDER", "sandbox")
    assert found["synthetic"] is synthetic
    assert [(each["provider"], each["synthetic"], each["symbols"]) for each in found["providers"]] == providers
    assert provider_lines(run("status", **env).stdout) == lines


def test_the_default_provider_is_that_of_the_running_up(run: Run, home: Path) -> None:
    with an_up(home, 4711, provider="yahoo"):
        found = json.loads(run("status", "--json").stdout)
        shown = run("status").stdout
    assert (found["running"], found["pid"], found["provider"], found["synthetic"]) == (True, 4711, "yahoo", False)
    assert found["providers"] == [{"provider": "yahoo", "synthetic": False, "symbols": 3}]
    assert shown.startswith("Running, UI at http://127.0.0.1:3000\nProvider   yahoo\n")


def test_an_invalid_watchlist_is_reported_and_the_rest_is_shown(run: Run, home: Path) -> None:
    (home / "watchlist.toml").write_text("[[group]]\nsymbls = []")
    shown = run("status")
    assert shown.exit_code == 0
    assert provider_lines(shown.stdout) == ["sandbox (SYNTHETIC prices)"]
    assert f"Watchlist  {home / 'watchlist.toml'}: group 1: unknown key `symbls`" in shown.stdout
    found = json.loads(run("status", "--json").stdout)
    assert found["watchlist_error"].startswith(f"{home / 'watchlist.toml'}: group 1: unknown key `symbls`")
    assert (found["provider"], found["synthetic"], found["providers"]) == ("sandbox", True, [])


@pytest.mark.broad
def test_status_shows_what_is_loading_and_how_long_it_will_take(run: Run, database_url: str) -> None:
    env = {"EMA_DATABASE_URL": database_url}
    with Database(database_url) as database:
        sync(database, watchlist.parse(WATCHLIST), datetime(2026, 11, 20, 15, tzinfo=UTC))
        with database.transaction() as transaction:
            transaction.execute("UPDATE market.series_state SET added_at = now() - interval '2 minutes'")
            transaction.execute(
                "UPDATE market.series_state SET recorded_at = now(), loaded_at = now() WHERE timeframe IN ('5m', '15m')"
            )
    shown = run("status", **env).stdout
    # A third took two minutes and the seconds of this test, so the rest takes twice as long.
    assert "Loading    5m 3/3  15m 3/3  30m 0/3  1h 0/3  4h 0/3  1d 0/3  (about " in shown
    loading = json.loads(run("status", "--json", **env).stdout)["loading"]
    assert loading["series"]["15m"] == {"loaded": 3, "of": 3}
    assert loading["series"]["1d"] == {"loaded": 0, "of": 3}
    assert 240 <= loading["seconds_left"] < 600
    with Database(database_url) as database, database.transaction() as transaction:
        transaction.execute("UPDATE market.series_state SET recorded_at = now(), loaded_at = now()")
    assert json.loads(run("status", "--json", **env).stdout)["loading"] is None
    assert "Loading" not in run("status", **env).stdout


@pytest.mark.broad
def test_series_computed_without_dagster_are_not_loading_if_nothing_runs(
    run: Run, database_url: str, home: Path
) -> None:
    """This is the state after `refresh` or a restore: only Dagster has not been notified."""
    env = {"EMA_DATABASE_URL": database_url}
    with Database(database_url) as database:
        sync(database, watchlist.parse(WATCHLIST), datetime(2026, 11, 20, 15, tzinfo=UTC))
        with database.transaction() as transaction:
            transaction.execute("UPDATE market.series_state SET computed_at = now() WHERE asset <> 'ema_trend'")
        assert "Loading    5m 0/3" in run("status", **env).stdout
        with database.transaction() as transaction:
            transaction.execute("UPDATE market.series_state SET computed_at = now()")
    assert "Loading" not in run("status", **env).stdout
    assert json.loads(run("status", "--json", **env).stdout)["loading"] is None
    with an_up(home, 4711, provider="sandbox"):
        assert "Loading    5m 0/3" in run("status", **env).stdout


def test_an_up_that_is_not_ready_is_not_to_be_started_again(run: Run, home: Path) -> None:
    with an_up(home, 4711):
        assert run("status").stdout.splitlines()[0] == "`ema-assets up` is starting or stopping"
    assert run("status").stdout.startswith("Not running")


def test_a_daemon_on_another_host_is_shown_if_its_last_heartbeat_is_recent(run: Run, database_url: str) -> None:
    """The heartbeats are written as by Dagster's own storage: in UTC, without a time zone."""
    env = {"EMA_DATABASE_URL": database_url}
    stopped = "Not running; start it with `ema-assets up`"
    with Database(database_url) as database:
        with database.transaction() as transaction:
            transaction.execute("CREATE TABLE dagster.daemon_heartbeats (daemon_type text, timestamp timestamp)")
        assert run("status", **env).stdout.startswith(stopped)
        for heard, said in (
            ("5 minutes", stopped),
            ("10 seconds", "No `ema-assets up` runs here; a daemon of Dagster"),
        ):
            with database.transaction() as transaction:
                transaction.execute(
                    f"""
                    INSERT INTO dagster.daemon_heartbeats
                    VALUES ('SENSOR', (now() - interval '{heard}') AT TIME ZONE 'UTC')
                    """
                )
            assert run("status", **env).stdout.startswith(said)
    heard_at = datetime.fromisoformat(json.loads(run("status", "--json", **env).stdout)["daemon_heard_at"])
    assert 10 <= (datetime.now(UTC) - heard_at).total_seconds() < 3600


def test_status_says_why_dagster_launches_less_than_it_should(run: Run, database_url: str) -> None:
    with Database(database_url) as database, database.transaction() as transaction:
        for columns in (
            "runs (run_id text, status text, end_time double precision)",
            "run_tags (run_id text, key text, value text)",
            "job_ticks (id serial, timestamp timestamp)",
        ):
            transaction.execute(f"CREATE TABLE dagster.{columns}")
        for number in range(3):
            transaction.execute(
                f"INSERT INTO dagster.runs VALUES ('{number}', 'FAILURE', extract(epoch FROM now()) - 60 * {number})"
            )
            transaction.execute(
                """INSERT INTO dagster.run_tags SELECT $1, * FROM (VALUES
                   ('ema_assets/timeframe', '5m'), ('ema_assets/lane', 'live'), ('dagster/defer_asset_events', 'true'))""",
                str(number),
            )
        transaction.execute("INSERT INTO dagster.job_ticks (timestamp) VALUES (timestamp '2126-11-29 12:00')")
    shown = run("status", EMA_DATABASE_URL=database_url).stdout.splitlines()
    until = "2126-11-29 12:00:00 UTC"
    assert f"the clock was set back: Dagster evaluates no schedule and no sensor before {until}" in shown
    assert "5m (live): runs fail as a whole again and again; their pages in the Dagster UI say why" in shown


def test_status_shows_a_line_per_asset_and_a_column_per_timeframe(run: Run, database_url: str) -> None:
    with Database(database_url) as database:
        sync(database, watchlist.parse(WATCHLIST), datetime(2026, 11, 20, 15, tzinfo=UTC))
        with database.transaction() as transaction:
            transaction.execute(
                """UPDATE market.series_state
                   SET last_ts = '2026-11-20T14:55Z', checked_through = now() + interval '50 seconds', computed_at = now(),
                       recorded_at = now(), failures = (asset = 'ema_trend' AND symbol = 'BTC-USD')::int,
                       dirty_from = CASE WHEN asset = 'ema_signals' THEN '2026-11-20T14:55Z'::timestamptz END,
                       code_version = (SELECT code_version FROM market.asset a WHERE a.asset = series_state.asset)
                   WHERE timeframe = '5m'"""
            )
    lines = run("status", EMA_DATABASE_URL=database_url).stdout.splitlines()
    table = {line.split()[0]: re.split(r"  +", line.strip()) for line in lines if line.startswith("  ")}
    assert table["asset"] == ["asset", "5m", "15m", "30m", "1h", "4h", "1d"]
    assert table["ohlc"] == ["ohlc", "fresh", *["3 to load"] * 5]
    assert table["ema_signals"][:2] == ["ema_signals", "3 stale"]
    assert "1 failing" in table["ema_trend"][1]
    assert table["series"] == ["series", *["3"] * 6]
    assert table["newest"] == ["newest bar (UTC)", "2026-11-20 14:55"]


def test_status_of_a_group_counts_its_symbols_only(run: Run, refused: Refused, database_url: str) -> None:
    env = {"EMA_DATABASE_URL": database_url}
    with Database(database_url) as database:
        sync(database, watchlist.parse(WATCHLIST), datetime.now(UTC))
    for arguments, series in (((), 3), (("--group", "Shares"), 2), (("--group", "2"), 1)):
        assets = json.loads(run("status", "--json", *arguments, **env).stdout)["assets"]
        assert {each["series"] for each in assets} == {series}
        assert {each["stale"] for each in assets if each["asset"] == "ohlc" and each["timeframe"] == "5m"} == {series}
    assert refused("status", "--group", "Share", **env) == (
        "`--group` must be one of Shares, 2, received 'Share'; did you mean `Shares`?"
    )


def test_status_writes_nothing(run: Run, home: Path) -> None:
    (home / "watchlist.toml").unlink()
    found = json.loads(run("status", "--json").stdout)
    assert found["providers"] == [{"provider": "sandbox", "synthetic": True, "symbols": 100}]
    assert found["watchlist_error"] is None
    assert list(home.iterdir()) == []


def test_of_many_reasons_why_series_fail_only_the_first_are_shown(run: Run, database: Database, home: Path) -> None:
    names = [f"S{number:03}" for number in range(22)]
    (home / "watchlist.toml").write_text(f'[[group]]\ncalendar = "XNYS"\nsymbols = {json.dumps(names)}\n')
    now = datetime(2026, 11, 25, 16, 0, tzinfo=UTC)
    sync(database, watchlist.load(home / "watchlist.toml"), now)
    with database.transaction() as transaction:
        ledger.fail(transaction, "ohlc", M5, {name: f"no symbol {name}" for name in names}, now)
    shown = run("status", EMA_DATABASE_URL=database.url).stdout.splitlines()
    failing = [line for line in shown if line.startswith("failing: ")]
    assert failing[:-1] == [f"failing: {name}|5m: no symbol {name}" for name in names[:20]]
    assert failing[-1] == "failing: 2 more reasons; `ema-assets status --json` has all"
    assert len(json.loads(run("status", "--json", EMA_DATABASE_URL=database.url).stdout)["failing"]) == 22
