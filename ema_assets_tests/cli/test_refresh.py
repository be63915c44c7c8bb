"""Tests of `ema-assets plan` and `refresh`: which series are stale, and how a refresh ends."""

import json
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest

from ema_assets.cli import main
from ema_assets.config import watchlist
from ema_assets.operations.sync_watchlist import sync
from ema_assets.store.database import Database
from ema_assets_tests.cli.conftest import Refused, Run
from ema_assets_tests.cli.shell import DEAD, WATCHLIST, Terminal, free_port
from ema_assets_tests.core import CORE_TEXT


def test_refresh_without_a_running_sandbox_shows_how_to_start_it(refused: Refused) -> None:
    sentence = refused("refresh", EMA_DATABASE_URL=DEAD)
    assert sentence.startswith("the sandbox exchange is a provider but does not run; start it with `ema-assets up`")
    assert "EMA_SANDBOX_URL" in sentence


def test_refresh_refuses_symbols_and_timeframes_that_are_not_on_the_watchlist(refused: Refused) -> None:
    env = {"EMA_SANDBOX_URL": "http://127.0.0.1:9", "EMA_DATABASE_URL": DEAD}
    assert refused("refresh", "--symbol", "NVDA", **env) == (
        "not on the watchlist: NVDA; `ema-assets symbols list` shows what is"
    )
    assert refused("refresh", "--symbol", "appl", **env).endswith("shows what is; did you mean `AAPL`?")
    # A missing sandbox does not hide this error.
    for given in (env, {"EMA_DATABASE_URL": DEAD}):
        assert refused("refresh", "--timeframe", "7m", **given) == (
            "7m is not on, the watchlist has 5m, 15m, 30m, 1h, 4h, 1d; add it there to `timeframes`"
        )


def test_a_refresh_brings_every_series_up_to_date_and_the_next_one_has_nothing_to_do(
    run: Run, database_url: str, exchange: dict[str, str]
) -> None:
    env = {"EMA_DATABASE_URL": database_url, **exchange}
    first = run("refresh", **env)
    assert first.exit_code == 0, first.output
    *lines, performance, last = first.stdout.splitlines()
    assert last == "Up to date."
    assert performance.split() == ["performance", "all", "18", "rows"]
    assert len(lines) == 4 * 6
    with Database(database_url) as database, database.transaction() as transaction:
        figures = transaction.query(
            "SELECT sum(trades + open_trades)::bigint AS trades FROM results.performance"
        ).item()
        assert figures == transaction.query("SELECT count(*) AS n FROM results.trades").item() > 0
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


def test_an_unreachable_provider_is_reported_once_per_timeframe_with_the_failed_series(
    run: Run, database_url: str, home: Path
) -> None:
    assert run("symbols", "add", "JPM", "XOM", "ETH-USD", "LTC-USD").exit_code == 0
    dead = f"http://127.0.0.1:{free_port()}"
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
        assert reason.startswith("sandbox ")
        assert f"cannot be reached at {dead.removeprefix('http://')}: " in reason
    failing = json.loads(run("status", "--json", EMA_DATABASE_URL=database_url).stdout)["failing"]
    assert any("cannot be reached" in reason for reason in failing)


def test_failed_series_that_wait_are_never_reported_as_up_to_date(
    run: Run, database_url: str, exchange: dict[str, str]
) -> None:
    """Once, when a provider was down, all commands reported that nothing was stale although nothing was loaded."""
    env = {"EMA_DATABASE_URL": database_url, **exchange}
    dead = f"127.0.0.1:{free_port()}"
    only = ("--timeframe", "5m")
    assert run("refresh", *only, **{**env, "EMA_SANDBOX_URL": f"http://{dead}"}).exit_code == 1
    with Database(database_url) as database, database.transaction() as transaction:
        transaction.execute(
            "UPDATE market.series_state SET next_attempt_at = '2026-11-20T16:00:05Z' WHERE timeframe = '5m' AND failures > 0"
        )
        # The provider itself may be queried: only its series wait.
        transaction.execute("DELETE FROM market.provider_state")
    waits = "series of 5m are behind and left alone until 16:00:05 UTC: sandbox cannot be reached at"
    again = run("refresh", *only, **env)
    assert (again.exit_code, again.stdout) == (1, "")
    assert again.stderr.startswith(f"Error: 3 {waits} {dead}: ")
    # Series that are rolled up from them are behind as well.
    assert run("refresh", "--timeframe", "15m", **env).stderr.startswith(f"Error: 3 {waits}")
    share = run("refresh", *only, "--symbol", "AAPL", **env)
    assert share.exit_code == 1
    assert share.stderr.startswith("Error: 1 series of 5m is behind and left alone until 16:00:05 UTC: ")

    assert run("refresh", "--timeframe", "1d", **env).stdout.endswith("Up to date.\n")
    planned = run("plan", **env)
    assert planned.exit_code == 0
    assert planned.stdout.startswith(f"3 {waits} {dead}: ")
    assert len(planned.stdout.splitlines()) == 1
    head, detailed = run("plan", "--series", "--symbol", "AAPL", **env).stdout.split("\n\n")
    assert head.startswith("1 series of 5m is behind")
    assert detailed.startswith("AAPL|5m ohlc: never asked, since 2026-11-20 15:00; failed once: sandbox cannot be ")
    assert detailed.endswith("; the next attempt is at 2026-11-20 16:00:05 UTC\n")
    found = json.loads(run("plan", "--json", **env).stdout)
    assert (found["runs"], found["stale"]) == ([], [])
    assert [(each["symbol"], each["reason"], each["failures"]) for each in found["waiting"]] == [
        (symbol, "never asked", 1) for symbol in ("AAPL", "BTC-USD", "MSFT")
    ]
    assert found["waiting"][0]["next_attempt_at"].startswith("2026-11-20T16:00:05")

    # `--all` queries the provider at once, and a series that is up to date afterwards does not wait any more.
    done = run("refresh", "--all", *only, "--symbol", "AAPL", **env)
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "Up to date.")
    assert run("refresh", *only, **env).stderr.startswith("Error: 2 series of 5m are behind")


def test_refresh_with_retry_does_not_wait_for_the_next_attempt(
    run: Run, database_url: str, exchange: dict[str, str]
) -> None:
    env = {"EMA_DATABASE_URL": database_url, **exchange}
    dead = {**env, "EMA_SANDBOX_URL": f"http://127.0.0.1:{free_port()}"}
    assert run("refresh", "--timeframe", "5m", **dead).exit_code == 1
    waiting = run("refresh", "--timeframe", "5m", **env)
    assert waiting.exit_code == 1
    assert waiting.stderr.endswith("; `--retry` does not wait\n")
    assert run("refresh", "--timeframe", "1d", **env).exit_code == 1, "the provider is left alone"
    one = run("refresh", "--retry", "--timeframe", "15m", "--symbol", "AAPL", **dead)
    assert one.exit_code == 1, "it is rolled up from what still waits"
    assert one.stderr.startswith("Error: 1 series of 5m is behind and left alone until ")
    again = run("refresh", "--retry", **env)
    assert (again.exit_code, again.stdout.splitlines()[-1], again.stderr) == (0, "Up to date.", "")
    with Database(database_url) as database, database.transaction() as transaction:
        assert transaction.query("SELECT failures FROM market.provider_state")["failures"].to_list() == [0]


@pytest.mark.broad
def test_plan_shows_what_would_run_and_why_and_changes_nothing(
    run: Run, refused: Refused, database_url: str, exchange: dict[str, str]
) -> None:
    env = {"EMA_DATABASE_URL": database_url, **exchange}
    assert run("refresh", "--timeframe", "1d", **env).exit_code == 0
    first, second = run("plan", **env), run("plan", **env)
    assert first.stdout == second.stdout
    assert first.stdout == (
        "5m: history, one run from AAPL to BTC-USD for 3 series\n  3 never asked, since 2026-11-20 15:00\n"
    )
    detailed = run("plan", "--series", "--symbol", "MSFT", **env)
    assert detailed.stdout.startswith("5m: history, one run for MSFT\n")
    assert detailed.stdout.split("\n\n")[1] == "MSFT|5m ohlc: never asked, since 2026-11-20 15:00\n"
    assert run("refresh", **env).exit_code == 0
    assert run("plan", **env).stdout == (
        "Nothing is stale.\n"
        "24/7: the next 5m bar closes 2026-11-20 15:05 UTC\n"
        "XNYS: the next 5m bar closes 2026-11-20 15:05 UTC\n"
    )
    assert refused("plan", "--symbol", "NOPE", **env).startswith("not on the watchlist: NOPE")


def test_plan_shows_the_next_bar_of_each_calendar_of_its_symbols(
    run: Run, database: Database, database_url: str, home: Path
) -> None:
    path = home / "watchlist.toml"
    text = path.read_text().replace('calendar = "24/7"', 'calendar = "24/7"\ntimeframes = ["1m", "1d"]')
    path.write_text(text)
    sync(database, watchlist.parse(text), datetime(2026, 11, 20, 15, tzinfo=UTC))
    with database.transaction() as transaction:
        transaction.execute("UPDATE market.series_state SET checked_through = '2026-11-20 15:00', asked_at = now()")
    env = {"EMA_DATABASE_URL": database_url, "EMA_CLOCK": "2026-11-20T15:00:10Z"}
    assert run("plan", **env).stdout == (
        "Nothing is stale.\n"
        "24/7: the next 1m bar closes 2026-11-20 15:01 UTC\n"
        "XNYS: the next 5m bar closes 2026-11-20 15:05 UTC\n"
    )
    assert run("plan", "--symbol", "BTC-USD", **env).stdout == (
        "Nothing is stale.\n24/7: the next 1m bar closes 2026-11-20 15:01 UTC\n"
    )


def test_plan_names_no_close_of_symbols_from_files(run: Run, database_url: str, home: Path) -> None:
    path = home / "watchlist.toml"
    path.write_text('[[group]]\nprovider = "file"\nsymbols = ["OLD"]\n')
    env = {"EMA_DATABASE_URL": database_url, "EMA_CLOCK": "2026-11-20T15:00:10Z"}
    assert run("refresh", **env).exit_code == 0
    assert run("plan", **env).stdout == (
        "Nothing is stale.\nAll bars come from files; `ema-assets ingest` brings new ones.\n"
    )


def test_a_group_can_be_planned_refreshed_and_screened_separately(
    run: Run, database_url: str, exchange: dict[str, str]
) -> None:
    env = {"EMA_DATABASE_URL": database_url, **exchange}
    assert "\n\nNothing is stale.\n" in run("plan", "--group", "Shares", **env).stdout
    only = ("--timeframe", "1d")
    assert run("refresh", "--group", "Shares", *only, **env).exit_code == 0
    planned = run("plan", "--group", "2", **env).stdout.splitlines()
    assert [line for line in planned if "one run" in line] == [
        f"{timeframe}: history, one run for BTC-USD" for timeframe in ("5m", "1d")
    ]
    screened = run("screen", *only, **env)
    assert [line.split()[0] for line in screened.stdout.splitlines()[1:3]] == ["AAPL", "MSFT"]
    assert screened.stderr == (
        "2 of 3 symbols have been computed on 1d so far; `ema-assets status` says how far it is.\n"
    )
    assert run("screen", "--group", "2", *only, **env).stdout == "No symbol on 1d matches.\n"
    never = run("screen", "--timeframe", "5m", **env)
    assert (never.stdout, never.stderr) == (
        "",
        "Nothing has been computed on 5m yet; `ema-assets status` says how far it is.\n",
    )
    with Database(database_url) as database, database.transaction() as transaction:
        transaction.execute(
            "UPDATE market.series_state SET checked_through = now() WHERE asset = 'ohlc' AND symbol = 'BTC-USD'"
        )
    unknown = run("screen", *only, **env)
    assert unknown.stdout == screened.stdout
    assert unknown.stderr == "Left out: 1 symbol has no bars at all; `ema-assets symbols check` says which\n"


@pytest.mark.broad
def test_the_lines_of_a_refresh_are_aligned_also_with_long_names_of_assets(
    run: Run, home: Path, database_url: str, exchange: dict[str, str]
) -> None:
    (home / "watchlist.toml").write_text(WATCHLIST.removesuffix(CORE_TEXT))
    only = ("--symbol", "AAPL", "--timeframe", "1d")
    lines = run("refresh", *only, EMA_DATABASE_URL=database_url, **exchange).stdout.splitlines()
    assert len({line.index(" 1d  1 series") for line in lines if " 1d " in line}) == 1
    assert any(line.startswith("strategy_9_30_pullback  1d  1 series") for line in lines)


@pytest.mark.broad
def test_the_screen_of_a_watchlist_with_one_timeframe_names_it_once(
    run: Run, home: Path, database_url: str, exchange: dict[str, str]
) -> None:
    (home / "watchlist.toml").write_text('timeframes = ["1d"]\n' + WATCHLIST.replace('"5m" = 3   # days\n', ""))
    env = {"EMA_DATABASE_URL": database_url, **exchange}
    assert run("refresh", **env).exit_code == 0
    head = run("screen", "--timeframe", "1d", **env).stdout.splitlines()[0]
    assert head.split()[9:11] == ["1d", "RSI"]


@pytest.mark.broad
def test_the_screen_of_a_narrow_terminal_leaves_out_the_time_of_the_bar_before_the_next_cross(
    run: Run, database_url: str, exchange: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    env = {"EMA_DATABASE_URL": database_url, **exchange}
    assert run("refresh", "--timeframe", "1d", **env).exit_code == 0
    for name, value in {**env, "COLUMNS": "80", "TERM": "xterm", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    main(["screen", "--timeframe", "1d"], standalone_mode=False)
    monkeypatch.undo()
    shown = click.unstyle(terminal.getvalue())
    head = shown.splitlines()[0]
    assert head.startswith("  symbol   close")
    assert [name for name in ("cross at", "to cross") if name not in head] == []
    assert "stop, bar (UTC)\n" in shown


@pytest.mark.broad
def test_screen_says_that_nothing_is_computed_on_a_timeframe_that_was_just_added(
    run: Run, database: Database, database_url: str, home: Path
) -> None:
    path = home / "watchlist.toml"
    sync(database, watchlist.parse(WATCHLIST), datetime(2026, 11, 20, 15, tzinfo=UTC))
    path.write_text(f'timeframes = ["5m", "2h", "1d"]\n{path.read_text()}')
    found = run("screen", "--timeframe", "2h", EMA_DATABASE_URL=database_url)
    assert (found.exit_code, found.stdout) == (0, "")
    assert found.stderr == "Nothing has been computed on 2h yet; `ema-assets status` says how far it is.\n"


def test_plan_shows_how_the_watchlist_differs_from_the_database(
    run: Run, database: Database, database_url: str, home: Path
) -> None:
    env = {"EMA_DATABASE_URL": database_url, "EMA_CLOCK": "2026-11-20T15:00:10Z"}
    path = home / "watchlist.toml"
    sync(database, watchlist.parse(WATCHLIST), datetime(2026, 11, 20, 15, tzinfo=UTC))
    assert "has changed" not in run("plan", **env).stdout
    none: dict[str, object] = {"added": [], "removed": [], "changed": {}}
    assert json.loads(run("plan", "--json", **env).stdout)["watchlist_changes"] == none

    assert run("symbols", "add", "TSLA").exit_code == 0
    assert run("symbols", "remove", "BTC-USD").exit_code == 0
    said, blank, *rest = run("plan", **env).stdout.splitlines()
    assert said == (
        "The database does not know yet what has changed in the watchlist: +TSLA, -BTC-USD; `ema-assets refresh` or a "
        "running Dagster takes that up"
    )
    assert (blank, rest != []) == ("", True)
    changes = json.loads(run("plan", "--json", **env).stdout)["watchlist_changes"]
    assert changes == {"added": ["TSLA"], "removed": ["BTC-USD"], "changed": {}}

    path.write_text(
        'timeframes = ["5m", "1h"]\n[history]\n"5m" = 5\n"1d" = 60\n[[group]]\ncalendar = "XLON"\n'
        'provider = "yahoo"\nsymbols = ["AAPL", "MSFT"]\n'
    )
    what = "calendar, provider, timeframes"
    assert f"in the watchlist: -BTC-USD, AAPL ({what}), MSFT ({what}); `ema" in run("plan", **env).stdout
    sync(database, watchlist.load(path), datetime(2026, 11, 20, 15, tzinfo=UTC))
    assert "has changed" not in run("plan", **env).stdout
