"""Tests of what the commands that read have in common: they create nothing, print JSON and fit a terminal."""

import io
import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from ema_assets.cli import main, rendering
from ema_assets.config import watchlist
from ema_assets.operations.sync_watchlist import sync
from ema_assets.store import sync_failures
from ema_assets.store.database import Database
from ema_assets.store.roles import READER
from ema_assets_tests.cli.conftest import Refused, Run
from ema_assets_tests.cli.shell import WATCHLIST, Terminal
from ema_assets_tests.conftest import Databases


@pytest.fixture
def synced(database_url: str) -> dict[str, str]:
    """The environment for a database that was synced with the watchlist."""
    with Database(database_url) as database:
        sync(database, watchlist.parse(WATCHLIST), datetime(2026, 11, 20, 15, tzinfo=UTC))
    return {"EMA_DATABASE_URL": database_url, "EMA_CLOCK": "2026-11-20T15:00:10Z"}


READING = [
    ("screen",),
    ("plan",),
    ("quality",),
    ("chart", "AAPL"),
    ("actions", "list"),
    ("symbols", "check"),
    ("export", "--to", "exported"),
]


def test_a_command_that_reads_creates_nothing_in_a_folder_without_data(
    run: Run, refused: Refused, home: Path, tmp_path: Path
) -> None:
    (home / "watchlist.toml").unlink()
    home.rmdir()
    for command in READING:
        assert refused(*command).startswith(f"there is nothing in {home} yet; start everything with `ema-assets up`")
    assert "AAPL" in run("symbols", "list").stdout
    assert run("status").exit_code == 0
    assert run("alerts", "list").stderr.startswith(f"Error: {home / 'watchlist.toml'} has no `[[alert]]`")
    assert list(tmp_path.iterdir()) == []


def test_every_command_that_reads_prints_json(run: Run, synced: dict[str, str]) -> None:
    for command in (("status",), *READING[:3], *READING[4:6], ("symbols", "list")):
        shown = run(*command, "--json", **synced)
        assert shown.exit_code == 0, shown.output
        json.loads(shown.stdout)
    planned = json.loads(run("plan", "--json", **synced).stdout)
    assert planned["configuration_error"] is None
    assert {each["reason"] for each in planned["stale"]} == {"never asked"}
    assert [(each["timeframe"], each["is_history"]) for each in planned["runs"]] == [("5m", True), ("1d", True)]
    assert json.loads(run("symbols", "check", "--json", **synced).stdout) == {
        "checked": 3,
        "problems": [],
        "halted": [],
    }


def test_what_own_code_prints_is_not_part_of_the_json(
    run: Run, home: Path, synced: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    (home / "signals").mkdir()
    (home / "signals" / "loud.py").write_text('print("hello from a file")\n')
    for command in (("status",), ("plan",), ("doctor",)):
        shown = run(*command, "--json", **synced)
        json.loads(shown.stdout)
        assert "hello from a file\n" in shown.stderr
    assert "hello" in run("status", **synced).stdout
    assert capfd.readouterr().out == "", "nothing reaches the terminal by another way"


@pytest.mark.broad
def test_with_a_broken_own_file_stored_results_are_shown_with_a_warning(
    run: Run, home: Path, synced: dict[str, str], tmp_path: Path
) -> None:
    for kind in ("signals", "strategies"):
        # `plan` is left out, because its output itself shows that nothing is launched.
        usual = {command: run(*command, **synced) for command in READING if command != ("plan",)}
        shutil.rmtree(tmp_path / "exported", ignore_errors=True)
        (home / kind).mkdir()
        (home / kind / "mine.py").write_text("\nimport nowhere\n")
        wrong = f"{home / kind / 'mine.py'}: line 2: cannot be imported: ModuleNotFoundError: No module named 'nowhere'"
        for command, before in usual.items():
            shown = run(*command, **synced)
            assert (shown.exit_code, shown.stdout) == (before.exit_code, before.stdout), (command, shown.output)
            if command[0] in {"screen", "chart", "export"}:
                said = f"Warning: {wrong}\nNothing is computed until that is corrected; this shows what is stored.\n"
                assert shown.stderr == said + before.stderr
        assert json.loads(run("status", "--json", **synced).stdout)["configuration_error"] == wrong
        shutil.rmtree(home / kind)


@pytest.mark.broad
def test_a_read_only_user_can_use_every_command_that_reads(
    run: Run, synced: dict[str, str], databases: Databases
) -> None:
    with databases.member(synced["EMA_DATABASE_URL"], READER) as url:
        env = {**synced, "EMA_DATABASE_URL": url}
        for command in READING:
            shown, usual = run(*command, **env), run(*command, **synced)
            assert (shown.exit_code, shown.output) == (usual.exit_code, usual.output), shown.exception
        assert "3 to load" in run("status", **env).stdout


def test_a_read_only_user_is_told_that_the_owner_must_migrate_an_older_database(
    refused: Refused, synced: dict[str, str], databases: Databases, database: Database
) -> None:
    with database.transaction() as transaction:
        transaction.execute(
            "DELETE FROM ema_assets.migration WHERE number = (SELECT max(number) FROM ema_assets.migration)"
        )
    with databases.member(synced["EMA_DATABASE_URL"], READER) as url:
        sentence = refused("screen", **{**synced, "EMA_DATABASE_URL": url})
    assert "cannot be migrated: permission denied for schema ema_assets; have its owner run" in sentence
    assert sentence.endswith("; have its owner run `ema-assets migrate`")


def test_a_configuration_error_is_shown_until_it_is_corrected(run: Run, home: Path, synced: dict[str, str]) -> None:
    (home / "signals").mkdir()
    own = home / "signals" / "broken.py"
    own.write_text("SIGNAL = 1\n")
    wrong = json.loads(run("status", "--json", **synced).stdout)["configuration_error"]
    assert "broken" in wrong
    assert f"Watchlist  nothing is launched: {wrong}" in run("status", **synced).stdout
    assert run("plan", **synced).stdout.startswith(f"A running Dagster launches nothing: {wrong}\n")
    assert json.loads(run("plan", "--json", **synced).stdout)["configuration_error"] == wrong
    own.unlink()
    assert json.loads(run("status", "--json", **synced).stdout)["configuration_error"] is None
    assert "launches nothing" not in run("plan", **synced).stdout


def test_a_failed_sync_of_the_watchlist_is_shown_until_it_succeeds(
    run: Run, synced: dict[str, str], database: Database
) -> None:
    with database.transaction() as transaction:
        sync_failures.note(transaction, "the view mine.v of yours reads what has changed")
    wrong = json.loads(run("status", "--json", **synced).stdout)["sync_error"]
    assert wrong.startswith("not taken up since 2")
    assert wrong.endswith(" UTC: the view mine.v of yours reads what has changed")
    assert f"\nWatchlist  {wrong}\n" in run("status", **synced).stdout
    assert run("plan", **synced).stdout.startswith(f"The watchlist is {wrong}\n")
    assert json.loads(run("plan", "--json", **synced).stdout)["sync_error"] == wrong
    examined = run("doctor", **synced)
    assert examined.exit_code == 1
    assert f"error    watchlist               {wrong}: mend that" in examined.stdout
    with database.transaction() as transaction:
        sync_failures.forget(transaction)
    assert json.loads(run("status", "--json", **synced).stdout)["sync_error"] is None
    assert "taken up" not in run("plan", **synced).stdout + run("doctor", **synced).stdout


def completed(*words: str) -> list[str]:
    *before, incomplete = words
    found = ShellComplete(main, {}, "ema-assets", "_EMA_ASSETS_COMPLETE").get_completions(before, incomplete)
    return [each.value for each in found]


def test_values_of_the_watchlist_are_completed(home: Path) -> None:
    assert completed("screen", "--symbol", "") == ["AAPL", "MSFT", "BTC-USD"]
    assert completed("refresh", "--symbol", "b") == ["BTC-USD"]
    assert completed("refresh", "--timeframe", "1") == ["15m", "1h", "1d"]
    assert completed("screen", "--timeframe", "3") == ["30m"]
    assert completed("plan", "--group", "s") == ["Shares"]
    assert completed("chart", "MS") == ["MSFT"]
    assert completed("chart", "MSFT", "4") == ["4h"]
    assert completed("symbols", "remove", "AAPL", "M") == ["MSFT"]
    assert completed("screen", "--strategy", "s") == ["strategy_9_30_ema"]
    assert completed("export", "--asset", "ema_t") == ["ema_trend"]
    # An unreadable watchlist completes nothing. A missing one completes the default's symbols and is not written.
    (home / "watchlist.toml").write_text("[[group]]\nsymbls = []")
    assert completed("screen", "--symbol", "A") == []
    (home / "watchlist.toml").unlink()
    assert completed("screen", "--symbol", "AAP") == ["AAPL"]
    assert list(home.iterdir()) == []


def test_the_help_of_commands_with_many_uses_has_examples(run: Run) -> None:
    for name in ("plan", "refresh", "ingest", "quality", "screen", "chart", "export"):
        assert f"\n  ema-assets {name}" in run(name, "--help").stdout.split("Options:")[0], name
        assert "\\b" not in run(name, "--help").stdout
    assert "\n  ema-assets symbols add NVDA" in run("symbols", "add", "--help").stdout


STYLES = {"up": "green", "axis": "dim"}
HEAD = ("symbol", "trend", "spread", "a long column", "the last one")
ROWS = [("AAPL", "up", "+0.31 %", "x" * 20, "y"), ("MSFT", "down", "-1.20 %", "", "z")]


def on_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
    columns: int,
    table: tuple[Sequence[str], Sequence[Sequence[str]]] = (HEAD, ROWS),
    **env: str,
) -> list[str]:
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", "COLUMNS": str(columns), **env}.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    rendering.print_table(*table)
    monkeypatch.undo()
    return terminal.getvalue().splitlines()


def test_a_table_fits_its_terminal_and_names_the_columns_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = [click.unstyle(line).rstrip() for line in on_a_terminal(monkeypatch, 100)]
    assert wide[1] == "  AAPL    up     +0.31 %  xxxxxxxxxxxxxxxxxxxx  y"
    narrow = [click.unstyle(line).rstrip() for line in on_a_terminal(monkeypatch, 40)]
    assert narrow == [
        "  symbol  trend  spread",
        "  AAPL    up     +0.31 %",
        "  MSFT    down   -1.20 %",
        "  … no room for a long column, the last…",
    ]


def test_long_texts_are_cut_before_a_column_is_left_out_but_never_those_of_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = (
        ("channel", "state", "waiting"),
        [("a channel with a long name", "takes no message: nobody answers", "99")],
    )
    shown = [click.unstyle(line).rstrip() for line in on_a_terminal(monkeypatch, 64, table)]
    assert shown == [
        "  channel                     state                      waiting",
        "  a channel with a long name  takes no message: nobody…  99",
    ]
    narrow = [click.unstyle(line).rstrip() for line in on_a_terminal(monkeypatch, 62, table)]
    assert narrow[1:] == [
        "  a channel with a long name  takes no message: nobody answers",
        "  … no room for waiting",
    ]


def test_columns_without_room_may_follow_in_further_tables_with_the_first_column_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = (("asset", "5m", "15m", "1h"), [("ohlc", "fresh", "3 stale", "fresh"), ("rsi", "fresh", "", "fresh")])
    monkeypatch.setattr(rendering, "print_table", partial(rendering.print_table, continues=True))
    shown = [click.unstyle(line).rstrip() for line in on_a_terminal(monkeypatch, 16, table)]
    assert shown == [
        *("  asset  5m", "  ohlc   fresh", "  rsi    fresh", ""),
        *("  asset  15m", "  ohlc   3 stale", "  rsi", ""),
        *("  asset  1h", "  ohlc   fresh", "  rsi    fresh"),
    ]


def test_columns_that_are_asked_for_are_kept_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "print_table", partial(rendering.print_table, kept=["stop"]))
    table = (("symbol", "close", "trend", "stop", "bar"), [("AAPL", "187.32", "up", "185.10", "2026-11-27")])
    shown = [click.unstyle(line).rstrip() for line in on_a_terminal(monkeypatch, 30, table)]
    assert shown == ["  symbol  close   stop", "  AAPL    187.32  185.10", "  … no room for trend, bar"]


def test_words_of_the_first_column_are_not_coloured(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = on_a_terminal(monkeypatch, 100, (("leg", "trend"), [("bars are rolled up", "up")]))
    assert shown[1].rstrip() == "  bars are rolled up  \x1b[32mup\x1b[0m"


def test_values_are_coloured_unless_no_color_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    green, red = "\x1b[32m", "\x1b[31m"
    shown = on_a_terminal(monkeypatch, 100)
    assert f"{green}up" in shown[1]
    assert f"{green}+0.31 %" in shown[1]
    assert f"{red}down" in shown[2]
    plain = "\n".join(on_a_terminal(monkeypatch, 100, NO_COLOR="1"))
    assert green not in plain
    assert red not in plain


@pytest.mark.parametrize("env", [{"FORCE_COLOR": "1"}, {"FORCE_COLOR": ""}, {"FORCE_COLOR": "1", "NO_COLOR": "1"}])
def test_a_pipe_gets_all_columns_and_colours_only_where_they_are_forced(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str]
) -> None:
    monkeypatch.setattr(Terminal, "isatty", lambda _: False)
    shown = on_a_terminal(monkeypatch, 20, (HEAD, ROWS), **env)
    assert [click.unstyle(line).rstrip() for line in shown][1] == "  AAPL    up     +0.31 %  xxxxxxxxxxxxxxxxxxxx  y"
    assert ("\x1b[32mup" in shown[1]) is (env == {"FORCE_COLOR": "1"})


def test_neighbours_of_one_colour_in_a_chart_share_their_escape_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "20"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    rendering.print_cells([[*((letter, "up") for letter in "aaa"), *((letter, "axis") for letter in "bb")]], STYLES)
    monkeypatch.undo()
    assert terminal.getvalue().rstrip() == "\x1b[32maaa\x1b[0m\x1b[2mbb\x1b[0m"


def test_progress_is_shown_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("sys.stderr", terminal)
    with rendering.progress("refreshing", 2) as advance:
        advance("ohlc 5m")
        advance("ohlc [15m]")
    assert "refreshing" in terminal.getvalue()
    assert "2/2" in terminal.getvalue()
    file = io.StringIO()
    monkeypatch.setattr("sys.stderr", file)
    with rendering.progress("refreshing", 2) as advance:
        advance("ohlc 5m")
    monkeypatch.undo()
    assert file.getvalue() == ""


def test_export_reports_what_it_wrote(run: Run, refused: Refused, tmp_path: Path, synced: dict[str, str]) -> None:
    folder = tmp_path / "exported"
    shown = run("export", "--to", str(folder), "--asset", "ohlc", "--timeframe", "5m", **synced)
    assert shown.stdout == f"{folder}: 0 rows of 0 series written, 0 series unchanged.\n"
    assert refused("export", "--to", str(folder), "--asset", "ohcl", **synced).endswith("did you mean `ohlc`?")
