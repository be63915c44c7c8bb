"""Tests of `ema-assets alerts`: the list of alerts, test messages to channels, and the log of what was sent."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ema_assets.alerts.discovery import discover
from ema_assets.store.database import Database
from ema_assets_tests.alerts.raised import raised
from ema_assets_tests.alerts.webhook import Webhook, webhook
from ema_assets_tests.cli.conftest import Refused, Run
from ema_assets_tests.cli.shell import WATCHLIST, free_port, sentence_of

SECRET = "s3cret-t0ken"
ALERTS = (
    """
[channels]
phone = "json://127.0.0.1:${PORT}/${TOKEN}"
desk = "json://127.0.0.1:1/nobody"

[[alert]]
name = "mine"
on = ["crossover", "entry"]
groups = ["Shares"]
timeframes = ["1h"]
to = ["phone"]
group_seconds = 0
quiet_hours = "22:00-07:00"
time_zone = "UTC"

[[alert]]
on = ["run_failed"]
to = ["phone", "desk"]
messages_per_hour = 4
"""
    + WATCHLIST
)
# Without quiet hours.
AT_ONCE = ALERTS.replace('quiet_hours = "22:00-07:00"\ntime_zone = "UTC"\n', "")


@pytest.fixture
def hook(home: Path) -> Iterator[Webhook]:
    (home / "watchlist.toml").write_text(ALERTS)
    with webhook() as served:
        yield served


def env_of(hook: Webhook, **more: str) -> dict[str, str]:
    return {"PORT": str(hook.port), "TOKEN": SECRET, **more}


@pytest.mark.broad
def test_a_test_message_is_sent_to_each_channel_and_failures_do_not_show_secrets(run: Run, hook: Webhook) -> None:
    one = run("alerts", "test", "--to", "phone", **env_of(hook))
    assert (one.exit_code, one.stdout, one.stderr) == (0, "phone: sent\n", "")
    assert hook.titles == ["ema-assets: test"]
    hook.status = 403
    both = run("alerts", "test", **env_of(hook))
    assert both.exit_code == 1
    first, second, last = both.stderr.splitlines()
    assert first.startswith("phone: ")
    assert "403" in first
    assert second.startswith("desk: ")
    assert last == "Error: 2 channels did not take the message"
    assert SECRET not in both.output
    missing = run("alerts", "test", "--to", "phone", PORT="1")
    assert "phone: the channel phone needs the environment variable `TOKEN`, which is not set" in missing.stderr


def test_a_test_message_to_a_channel_that_redirects_fails(run: Run, hook: Webhook) -> None:
    hook.status, hook.location = 302, "https://elsewhere.example/login"
    shown = run("alerts", "test", "--to", "phone", **env_of(hook))
    assert (shown.exit_code, shown.stdout, hook.gets) == (1, "", 0)
    assert shown.stderr.startswith("phone: answered with a redirect (error=302) to https://elsewhere.example, which is")


def test_an_unknown_channel_is_refused_with_the_known_ones(refused: Refused, hook: Webhook) -> None:
    assert refused("alerts", "test", "--to", "phon", **env_of(hook)) == (
        "`--to` must be one of phone, desk, received 'phon'; did you mean `phone`?"
    )
    assert SECRET not in refused("alerts", "test", "--to", f"json://{SECRET}", **env_of(hook))


def test_without_alerts_the_error_names_the_page_that_explains_them(run: Run, home: Path) -> None:
    for arguments in (("alerts", "list"), ("alerts", "test"), ("alerts", "deliver", "--once")):
        shown = run(*arguments)
        assert shown.exit_code == 1
        assert shown.stderr.startswith(f"Error: {home / 'watchlist.toml'} has no `[[alert]]`; docs/ALERTS.md shows how")


def test_the_kinds_of_alerts_are_listed_with_descriptions_and_examples(run: Run) -> None:
    shown = run("alerts", "list", "--kinds").stdout
    for kind in discover().values():
        assert f"\n{kind.name}: {kind.description}\n" in f"\n{shown}"
    assert "  stop_within_pct = 0.5" in shown
    assert [row["kind"] for row in json.loads(run("alerts", "list", "--kinds", "--json").stdout)] == list(discover())


def test_sent_alerts_are_in_the_log_and_the_list_shows_the_state_of_channels(
    run: Run, hook: Webhook, database: Database
) -> None:
    env = env_of(hook, EMA_DATABASE_URL=database.url)
    (Path("home") / "watchlist.toml").write_text(AT_ONCE)
    assert run("alerts", "log", **env).stdout == "Nothing was raised so far.\n"
    raised(database, 2)
    once = run("alerts", "deliver", "--once", **env)
    assert (once.exit_code, once.stdout) == (0, "2 alerts sent.\n"), once.output
    logged = run("alerts", "log", **env).stdout.splitlines()
    assert logged[0].split() == ["raised", "(UTC)", "series", "what", "state", "kind", "to", "alert"]
    assert "S001|1h" in logged[1]
    assert " phone " in logged[1]
    assert "sent " in logged[1]
    hook.status = 500
    raised(database, first=2)
    failed = run("alerts", "deliver", "--once", **env)
    assert failed.stdout == "0 alerts sent.\n"
    assert failed.stderr.startswith("phone: ")
    rows = json.loads(run("alerts", "log", "--json", "--state", "waiting", **env).stdout)
    assert [(row["symbol"], row["channel"], row["state"]) for row in rows] == [("S002", "phone", "waiting")]
    assert run("alerts", "log", "--to", "desk", **env).stdout == "There is none like that.\n"
    listed = json.loads(run("alerts", "list", "--json", **env).stdout)
    assert listed["alerts"][0] == {
        "alert": "mine",
        "on": "crossover, entry",
        "about": "AAPL, MSFT; 1h",
        "to": "phone",
        "quiet": "",
        "limit": "",
    }
    phone, desk = listed["channels"]
    assert (phone["channel"], phone["variables"], phone["waiting"]) == ("phone", "PORT, TOKEN", 1)
    assert phone["state"].startswith("takes no message: ")
    assert desk["state"] == "never used"
    status = run("status", **env).stdout
    assert "alerts: phone takes no message, tried once, again at " in status
    assert json.loads(run("status", "--json", **env).stdout)["alerts"][0].startswith("alerts: phone takes no message")
    shown = run("alerts", "list", **env).stdout
    assert "4 messages per hour" in shown
    (Path("home") / "watchlist.toml").write_text(WATCHLIST)
    assert json.loads(run("status", "--json", **env).stdout)["alerts"] == [], "nobody is to be told of anything"
    nothing = run("alerts", "list", "--json", **env)
    assert (nothing.exit_code, json.loads(nothing.stdout)) == (0, {"alerts": [], "channels": []})
    for text in (status, shown, failed.output, str(rows)):
        assert SECRET not in text


def test_the_state_of_channels_is_unknown_without_a_running_database(run: Run, hook: Webhook) -> None:
    phone, desk = json.loads(run("alerts", "list", "--json", PORT=str(hook.port)).stdout)["channels"]
    assert (phone["state"], phone["waiting"]) == ("TOKEN not set", None)
    assert (desk["state"], desk["waiting"]) == ("unknown: the database is not running", None)
    shown = run("alerts", "list", **env_of(hook)).stdout
    assert "never used" not in shown
    assert shown.count("unknown: the database is not running") == 2


def test_the_list_names_alerts_that_never_come_because_bars_from_files_cause_none(
    run: Run, hook: Webhook, home: Path
) -> None:
    port = str(hook.port)
    assert "bars from files" not in run("alerts", "list", PORT=port).stdout
    everything = run("alerts", "list", PORT=port, EMA_PROVIDER="file").stdout.splitlines()
    assert everything[-1] == "mine: no crossover or entry of any symbol comes: bars from files cause no alerts"
    old = '\n[[group]]\nprovider = "file"\nsymbols = ["OLDCO"]\n'
    (home / "watchlist.toml").write_text(ALERTS.replace('groups = ["Shares"]\n', "") + old)
    some = run("alerts", "list", PORT=port).stdout.splitlines()
    assert some[-1] == "mine: no crossover or entry of OLDCO comes: bars from files cause no alerts"


def test_up_refuses_to_start_without_a_variable_that_a_channel_needs(refused: Refused, hook: Webhook) -> None:
    assert refused("up", "--port", str(free_port()), "--no-board", PORT=str(hook.port)) == (
        "the channel phone needs the environment variable `TOKEN`, which is not set"
    )


def test_a_watchlist_with_a_wrong_alert_is_refused(run: Run, home: Path) -> None:
    (home / "watchlist.toml").write_text(
        '[[alert]]\non = ["entry"]\nto = ["${H}"]\nstrategies = ["none"]\n' + WATCHLIST
    )
    said = "alert 'alert 1': `strategies` must name strategy_9_30_ema; received 'none'"
    assert said in sentence_of(run("alerts", "list").stderr)
    assert said in sentence_of(run("alerts", "deliver", "--once").stderr)
    assert f"{home / 'watchlist.toml'}: {said}" in run("status").stdout


def test_alerts_that_are_not_delivered_yet_are_in_the_log_as_waiting(run: Run, home: Path, database: Database) -> None:
    raised(database, 2)
    logged = json.loads(run("alerts", "log", "--json", EMA_DATABASE_URL=database.url).stdout)
    assert [row["state"] for row in logged] == ["waiting", "waiting"]
    waiting = run("alerts", "log", "--json", "--state", "waiting", EMA_DATABASE_URL=database.url)
    assert json.loads(waiting.stdout) == logged
    sent = run("alerts", "log", "--state", "sent", EMA_DATABASE_URL=database.url)
    assert sent.stdout == "There is none like that.\n"


def test_a_successful_test_message_ends_the_pause_of_a_channel(run: Run, hook: Webhook, database: Database) -> None:
    env = env_of(hook, EMA_DATABASE_URL=database.url)
    (Path("home") / "watchlist.toml").write_text(AT_ONCE)
    hook.status = 500
    raised(database)
    assert run("alerts", "deliver", "--once", **env).stdout == "0 alerts sent.\n"
    assert run("alerts", "test", "--to", "phone", **env).stdout == ""
    hook.status = 200
    assert run("alerts", "deliver", "--once", **env).stdout == "0 alerts sent.\n", "its pause is not over"
    assert run("alerts", "test", "--to", "phone", **env).stdout.splitlines() == [
        "phone: sent",
        "phone: what waits for it is sent within seconds",
    ]
    assert run("alerts", "deliver", "--once", **env).stdout == "1 alert sent.\n"
    assert run("alerts", "test", "--to", "phone", **env).stdout == "phone: sent\n"


def test_the_doctor_reports_channels_that_lack_a_variable_or_accept_no_message(
    run: Run, hook: Webhook, database: Database
) -> None:
    env = env_of(hook, EMA_DATABASE_URL=database.url)

    def told(**env: str) -> list[tuple[str, str]]:
        found = json.loads(run("doctor", "--json", **env).stdout)["findings"]
        return [(each["level"], each["text"]) for each in found if each["check"] == "alerts"]

    assert told(**env) == [("ok", "phone, desk: no message was refused; `ema-assets alerts test` sends one")]
    unset = {name: value for name, value in env.items() if name != "TOKEN"}
    assert told(**unset) == [("error", "the channel phone needs the environment variable `TOKEN`, which is not set")]
    (Path("home") / "watchlist.toml").write_text(AT_ONCE)
    hook.status = 500
    raised(database)
    run("alerts", "deliver", "--once", **env)
    ((level, text),) = told(**env)
    assert level == "warning"
    assert text.startswith("phone takes no message, tried once, again at ")
    assert SECRET not in text
    (Path("home") / "watchlist.toml").write_text(WATCHLIST)
    assert told(**env) == []


def test_with_a_broken_own_signal_channels_can_be_tested_and_alerts_are_sent(
    run: Run, refused: Refused, hook: Webhook, home: Path, database: Database
) -> None:
    (home / "signals").mkdir()
    (home / "signals" / "mine.py").write_text("SIGNAL = nothing\n")
    (home / "watchlist.toml").write_text(AT_ONCE)
    env = env_of(hook, EMA_DATABASE_URL=database.url)
    raised(database)
    for command in (("test", "--to", "phone"), ("list",), ("deliver", "--once")):
        shown = run("alerts", *command, **env)
        assert shown.exit_code == 0, shown.output
        assert f"Warning: {home / 'signals' / 'mine.py'}" in shown.stderr
        assert "Nothing is computed until that is corrected; this tells of what was computed before." in shown.stderr
    assert hook.titles == ["ema-assets: test", "crossover: S000 1h"]
    # A mistake in an alert is an error nevertheless.
    (home / "signals" / "mine.py").unlink()
    (home / "watchlist.toml").write_text(AT_ONCE.replace('timeframes = ["1h"]', 'strategies = ["mine"]'))
    assert "`strategies` must name" in refused("alerts", "list", **env)
