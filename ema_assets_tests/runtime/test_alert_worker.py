"""Tests of the process that delivers alerts: it reacts at once, is the only one, and survives failures around it."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ema_assets.alerts import sending
from ema_assets.alerts.channels import Channel
from ema_assets.alerts.messages import Message
from ema_assets.alerts.subscriptions import Alerts, Subscription
from ema_assets.config.settings import Settings
from ema_assets.defs import namespace
from ema_assets.defs.one_sentence import WrongConfiguration
from ema_assets.model.errors import StoreError, StoreUnavailable
from ema_assets.operations.deliver_alerts import Parcel, settle
from ema_assets.runtime import alert_process, alert_worker
from ema_assets.runtime.alert_process import AlertProcess
from ema_assets.runtime.alert_senders import Senders, Sent
from ema_assets.runtime.alert_worker import Configuration, deliver_once, deliver_until
from ema_assets.runtime.supervisor import Program, Supervisor
from ema_assets.store import provider_state
from ema_assets.store.advisory_locks import AdvisoryLock
from ema_assets.store.alert_listener import Listener
from ema_assets.store.database import Database, Transaction
from ema_assets.store.roles import ALERTS
from ema_assets_tests.alerts.raised import deliveries, raised
from ema_assets_tests.alerts.webhook import Webhook, webhook
from ema_assets_tests.conftest import Databases
from ema_assets_tests.runtime.delivering import (
    GROUP,
    end_sessions,
    evaluated,
    others_are_kept_out,
    working,
)
from ema_assets_tests.waiting import wait_until


@pytest.mark.broad
def test_the_worker_sends_each_alert_once_also_after_its_session_was_ended(
    env: Path, database: Database, hook: Webhook
) -> None:
    with working(database.url):
        wait_until(lambda: others_are_kept_out(database.url), "the worker has the lock")
        raised(database, 2)
        wait_until(lambda: [row for row in deliveries(database) if row[2] == "sent"], "two alerts marked")
        assert hook.titles == ["2 crossovers"]
        end_sessions(database)
        raised(database, first=2)
        wait_until(lambda: len(hook.received) == 2, "the third alert")
        wait_until(lambda: {row[2] for row in deliveries(database)} == {"sent"}, "it is marked")
    assert hook.titles == ["2 crossovers", "crossover: S002 1h"]
    # The server needs a moment to notice that a session was closed.
    wait_until(lambda: not others_are_kept_out(database.url), "the lock is free")


def test_an_unreachable_database_is_reported_once_while_the_worker_retries(
    env: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_worker, "_AGAIN_SECONDS", 0.0)
    said: list[str] = []
    looks = iter([False] * 5)
    deliver_until(lambda: next(looks, True), "postgresql://nobody@127.0.0.1:9/none", Configuration(), said.append)
    assert [each.partition(" was lost: ")[0] for each in said] == [
        "the session of alerts at postgresql://nobody@127.0.0.1:9/none"
    ]
    assert said[0].endswith("; trying again")
    assert next(looks, None) is None, "it was tried five times"
    monkeypatch.setattr(alert_worker, "_SAID_AGAIN_SECONDS", -1.0)
    looks = iter([False] * 5)
    deliver_until(lambda: next(looks, True), "postgresql://nobody@127.0.0.1:9/none", Configuration(), said.append)
    assert said == said[:1] * 6, "it is said again after some time"


def test_an_error_of_the_server_that_can_heal_neither_ends_the_worker_nor_repeats_a_message(
    env: Path, database: Database, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process would be given up after some new starts, such as while the disk is full."""
    monkeypatch.setattr(alert_worker, "_AGAIN_SECONDS", 0.05)
    states = ["40P01", "53100"]

    def settled(transaction: Transaction, *values: Any) -> None:
        if states:
            transaction.execute(f"DO $$ BEGIN RAISE 'refused for now' USING ERRCODE = '{states.pop()}'; END $$")
        settle(transaction, *values)

    monkeypatch.setattr(alert_worker, "settle", settled)
    with working(database.url) as said:
        for number in range(2):
            raised(database, first=number)
            sent = [("sent",)] * (number + 1)
            wait_until(lambda: [row[2:3] for row in deliveries(database)] == sent, "it is marked")  # noqa: B023
    assert hook.titles == ["crossover: S000 1h", "crossover: S001 1h"]
    assert said[0] == "the database or its driver refused: refused for now; trying again"


def test_a_worker_that_is_stopped_after_it_has_lost_the_database_marks_what_it_has_sent(
    env: Path, database: Database, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_worker, "_AGAIN_SECONDS", 0.0)
    over = threading.Event()

    def lost(_: Listener) -> None:
        if hook.received:
            over.set()
            hook.gate.set()
            raise StoreUnavailable("the session was lost")

    monkeypatch.setattr(Listener, "check", lost)
    hook.gate.clear()
    raised(database)
    said: list[str] = []
    deliver_until(over.is_set, database.url, Configuration(), said.append)
    assert said == ["the session was lost; trying again"]
    assert deliveries(database) == [("S000", "HOOK", "sent", None)]


def test_an_edit_of_the_watchlist_that_keeps_its_size_is_noticed(env: Path) -> None:
    configuration = Configuration()
    before = configuration.now()
    assert before is not None
    assert configuration.now() is before, "it is not read again"
    stat = env.stat()
    env.write_text(env.read_text().replace('"mine"', '"thee"'))
    os.utime(env, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1000))
    after = configuration.now()
    assert after is not None
    assert (env.stat().st_size, env.stat().st_ino) == (stat.st_size, stat.st_ino)
    assert [each.name for each in after.alerts.subscriptions] == ["thee"]


def test_the_worker_follows_the_watchlist_and_ends_when_it_has_no_alerts(
    env: Path, database: Database, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_worker, "_LONGEST_WAIT_SECONDS", 0.2)
    with working(database.url) as said, webhook() as other:
        raised(database)
        wait_until(lambda: hook.received, "the first")
        env.write_text("[[alert]]\non = []\n" + GROUP)
        wait_until(lambda: any("`on` must be a list" in line for line in said), "what is wrong is said")
        raised(database, first=1)
        wait_until(lambda: len(hook.received) == 2, "what was right before still holds")
        monkeypatch.setenv("HOOK", other.url)
        env.write_text('[[alert]]\nname = "mine"\non = ["crossover"]\nto = ["${HOOK}"]\ngroup_seconds = 1\n' + GROUP)
        raised(database, first=2)
        wait_until(lambda: other.received, "another address")
        env.write_text(GROUP)
        wait_until(lambda: not others_are_kept_out(database.url), "it has ended")


def test_the_worker_says_once_per_watchlist_which_channels_cannot_be_used(
    env: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_worker, "_LONGEST_WAIT_SECONDS", 0.01)
    with working(database.url) as said:

        def use(variable: str) -> None:
            other = env.with_name("other.toml")
            other.write_text(f'[[alert]]\nname = "mine"\non = ["crossover"]\nto = ["${{{variable}}}"]\n{GROUP}')
            other.replace(env)
            wait_until(lambda: any(variable in line for line in said), f"{variable} is not set")

        use("NO_SUCH_VARIABLE")
        use("NOR_THIS_ONE")
    assert said == [
        f"the channel {variable} needs the environment variable `{variable}`, which is not set"
        for variable in ("NO_SUCH_VARIABLE", "NOR_THIS_ONE")
    ]


@pytest.mark.broad
def test_the_next_worker_sends_again_what_a_killed_worker_was_sending(
    env: Path, database: Database, hook: Webhook
) -> None:
    """The first worker dies after the delivery and before it marks the alert. An alert is delivered at least once."""
    raised(database)
    command = [sys.executable, "-m", "ema_assets", "alerts", "deliver"]
    hook.gate.clear()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as first:
        wait_until(lambda: hook.received, "it is being sent", evidence=first.poll)
        first.kill()
    hook.gate.set()
    assert deliveries(database) == [("S000", "HOOK", "waiting", None)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as second:
        wait_until(lambda: {row[2] for row in deliveries(database)} == {"sent"}, "it is marked", evidence=second.poll)
        second.send_signal(signal.SIGTERM)
        output, _ = second.communicate(timeout=60)
    assert (second.returncode, output.splitlines()[-1].split(" ", 2)[2]) == (0, "HOOK: 1 alert sent")
    assert hook.titles == ["crossover: S000 1h"] * 2


def test_the_worker_looks_for_trouble_only_after_the_first_runs_had_time(
    env: Path, database: Database, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    env.write_text(env.read_text().replace('["crossover"]', '["crossover", "provider_shut_out"]'))
    with database.transaction() as transaction:
        transaction.execute("INSERT INTO market.instrument (symbol, calendar) VALUES ('S000', '24/7')")
        for _ in range(3):
            seen = provider_state.breaker(transaction, "sandbox")
            provider_state.trip(transaction, "sandbox", "no answer", datetime.now(UTC), seen)
    raised(database)
    with working(database.url):
        wait_until(lambda: hook.received, "the crossover")
    assert hook.titles == ["crossover: S000 1h"]
    monkeypatch.setattr(alert_worker, "_FIRST_LOOK_SECONDS", 0.0)
    with working(database.url):
        wait_until(lambda: len(hook.received) == 2, "the trouble")
    assert hook.titles[1:] == ["provider shut out"]


def test_the_worker_delays_the_look_for_trouble_again_after_the_computer_slept(
    env: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The monotonic clock stands still while the computer sleeps, and the wall clock does not."""
    times = {"monotonic": 1_000.0, "time": 50_000.0}
    monkeypatch.setattr(time, "monotonic", lambda: times["monotonic"])
    monkeypatch.setattr(time, "time", lambda: times["time"])
    worker = alert_worker._Worker(*[None] * 5)  # type: ignore[arg-type]
    alerts = Alerts((Subscription("mine", ("nothing_fresh",), ()),), {})

    def looks_after(awake: float, asleep: float = 0.0) -> bool:
        times["monotonic"] += awake
        times["time"] += awake + asleep
        return worker._is_time_to_look(alerts)

    assert [looks_after(seconds) for seconds in (15, 50, 50, 15)] == [False, False, False, True]
    assert looks_after(15)
    assert not looks_after(15, asleep=8 * 3600)
    assert [looks_after(seconds) for seconds in (50, 50, 25)] == [False, False, True]


@pytest.mark.broad
def test_the_sensor_looks_for_trouble_only_after_the_first_runs_had_time(
    env: Path, database: Database, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a night, everything is late, and the first tick comes before the first run has ended."""
    times = {"monotonic": 1_000.0, "time": 50_000.0}
    monkeypatch.setattr(time, "monotonic", lambda: times["monotonic"])
    monkeypatch.setattr(time, "time", lambda: times["time"])
    looked: list[float] = []
    monkeypatch.setattr(alert_worker, "_look_for_trouble", lambda *_: looked.append(times["monotonic"]))
    configured = Configuration().now()
    assert configured is not None
    ticks = alert_worker.Looks()

    def tick_after(seconds: float, asleep: float = 0.0) -> None:
        times["monotonic"] += seconds
        times["time"] += seconds + asleep
        assert ticks.deliver(database.url, configured, timedelta(0), 60.0) == alert_worker.Delivered(True)

    for _ in range(9):
        tick_after(15)
    assert looked == [1_120.0, 1_135.0]
    looked.clear()
    tick_after(15, asleep=8 * 3600)
    assert looked == []
    for _ in range(8):
        tick_after(15)
    assert looked == [1_270.0]


def test_the_first_tick_of_the_sensor_creates_the_tables(
    env: Path, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    env.write_text(env.read_text().replace('["crossover"]', '["crossover", "nothing_fresh"]'))
    url = databases.make(migrated=False)
    monkeypatch.setenv("EMA_DATABASE_URL", url)
    assert evaluated() == "no alert was due"
    databases.drop(url)


def test_the_sensor_says_in_one_sentence_that_the_database_cannot_be_reached(
    env: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMA_DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
    with pytest.raises(WrongConfiguration, match=r"^cannot connect to postgresql://nobody@127.0.0.1:9/none: "):
        evaluated()


def test_the_sensor_of_a_component_without_a_prefix_uses_the_settings_of_the_component(
    env: Path, database: Database, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised(database)
    variables = {"EMA_WATCHLIST": str(env), "EMA_DATABASE_URL": database.url}
    monkeypatch.setenv("EMA_WATCHLIST", str(env.with_name("theirs.toml")))
    env.with_name("theirs.toml").write_text(GROUP)
    monkeypatch.setenv("EMA_DATABASE_URL", "postgresql://nobody@127.0.0.1:9/nothing")
    assert evaluated() == "there are no alerts to send"
    component = namespace.Namespace((), variables)
    namespace.register(component)
    assert evaluated() == "1 alert sent"


def test_the_sensor_sends_waiting_alerts_unless_a_worker_delivers_them(
    env: Path, database: Database, hook: Webhook
) -> None:
    raised(database, 3)
    with Listener(database.url) as worker:
        assert worker.is_alone()
        assert evaluated() == "another process delivers alerts"
    assert hook.received == []
    assert evaluated() == "3 alerts sent"
    assert evaluated() == "no alert was due"
    assert hook.titles == ["3 crossovers"]
    hook.status = 500
    raised(database, first=5)
    assert evaluated() == "no alert was due"
    env.write_text("[[alert]]\non = []\n" + GROUP)
    assert "nothing is sent: " in evaluated()
    env.write_text(GROUP)
    assert evaluated() == "there are no alerts to send"


class Lingering:
    """A connection whose server has not noticed yet that its client has closed it."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def cursor(self) -> Any:
        return self._connection.cursor()

    def close(self) -> None:
        pass


def test_a_listener_is_alone_as_soon_as_the_previous_one_is_closed(database: Database) -> None:
    before = Listener(database.url)
    connection: Any = before._connection
    before._connection = Lingering(connection)
    with closing(connection), Listener(database.url) as after:
        assert before.is_alone()
        assert not after.is_alone()
        before.close()
        assert after.is_alone()


def test_deliver_once_with_ahead_also_sends_alerts_that_will_be_due_soon(
    env: Path, database: Database, hook: Webhook
) -> None:
    env.write_text(env.read_text().replace("group_seconds = 0", "group_seconds = 10"))
    configured = Configuration().now()
    assert configured is not None
    raised(database)
    assert deliver_once(database.url, configured).sent == 0
    assert deliver_once(database.url, configured, ahead=timedelta(seconds=15)).sent == 1
    assert len(hook.received) == 1
    assert sending.problem_with(configured.alerts.channels["HOOK"], os.environ) is None


@pytest.mark.broad
def test_the_role_for_alerts_can_deliver_and_cannot_write_bars_the_ledger_or_migrations(
    env: Path, databases: Databases, database: Database, hook: Webhook
) -> None:
    env.write_text(env.read_text().replace('["crossover"]', '["crossover", "series_failing", "run_failed"]'))
    configured = Configuration().now()
    assert configured is not None
    hook.status = 500
    raised(database)
    with databases.member(database.url, ALERTS) as url:
        assert deliver_once(url, configured).failed != ()
        hook.status = 200
        raised(database, first=1)
        assert deliver_once(url, configured, ahead=timedelta(hours=1)).sent == 2
        with Database(url) as own:
            for written in ("market.ohlc", "market.series_state", "ema_assets.migration"):
                with pytest.raises(Exception, match="permission denied"), own.transaction() as transaction:
                    transaction.execute(f"DELETE FROM {written}")


def test_the_process_receives_the_secrets_of_channels_and_no_keys_of_providers(env: Path) -> None:
    started = alert_process.program(Settings.from_env(), {"APCA_API_SECRET_KEY": "secret", "HOOK": "json://token"})
    assert started.env == {"HOOK": "json://token"}


def test_a_message_that_is_sent_after_its_senders_are_closed_writes_to_no_file(
    env: Path, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    hook.gate.clear()
    parcel = Parcel(Channel("HOOK", "${HOOK}"), (1,), Message("title", "body", is_trouble=False))
    with Senders(os.environ) as senders:
        senders.send(parcel)
        wait_until(lambda: hook.received, "it is on its way")
    monkeypatch.setattr("ema_assets.runtime.alert_senders.os.write", lambda number, _: written.append(number))
    hook.gate.set()
    wait_until(lambda: all(sent.done() for _, sent in senders._sending.values()), "it was sent")
    senders._threads.shutdown(wait=True)
    assert written == []


def test_the_process_starts_when_it_is_wanted_and_its_failures_do_not_end_the_stack(
    tmp_path: Path,
) -> None:
    said: list[str] = []
    wanted = False
    code = f"import pathlib, sys; p = pathlib.Path({str(tmp_path / 'code')!r}); sys.exit(int(p.read_text()))"
    (tmp_path / "code").write_text("3")
    program = Program("the delivery of alerts", [sys.executable, "-c", code], dict(os.environ), tmp_path / "log")
    with Supervisor() as supervisor:
        process = AlertProcess(supervisor, program, lambda: wanted, said.append)
        process.look(0.0)
        assert supervisor.children == []
        wanted = True
        for second in range(400):
            process.look(float(second))
            wait_until(supervisor.children[-1].has_ended, "its end")
        assert any("does not stay up, given up after 8 new starts" in line for line in said)
        # A process ends with code 0 when alerts have no recipients. It is started again when they have some.
        (tmp_path / "code").write_text("0")
        for second in range(400, 470):
            process.look(float(second))
            wait_until(supervisor.children[-1].has_ended, "its end")
        before = supervisor.children[-1].pid
        process.look(500.0)
        assert supervisor.children[-1].pid != before


def test_a_listener_holds_no_other_advisory_lock_than_that_of_alert_delivery(database: Database) -> None:
    with Listener(database.url) as listener:
        assert listener.is_alone()
        for lock in AdvisoryLock:
            with database.transaction() as transaction:
                is_free = transaction.query("SELECT pg_try_advisory_xact_lock($1) AS is_free", int(lock)).item()
            assert is_free == (lock is not AdvisoryLock.ALERT_DELIVERY), lock


def test_a_result_that_cannot_be_stored_is_given_up_after_a_minute_without_any_success(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    left = [30, 29, 0, 29]

    def mark(*_: object) -> list[Sent]:
        """Fail as often as the last number says, then store one result."""
        left[-1] -= 1
        if left[-1] >= 0:
            raise StoreError("the database does not answer")
        left.pop()
        return []

    monkeypatch.setattr(alert_worker, "time", SimpleNamespace(sleep=pauses.append))
    monkeypatch.setattr(alert_worker, "_mark", mark)
    senders: Any = SimpleNamespace(busy=["a channel"], wait=lambda: None)
    with pytest.raises(StoreError):
        list(alert_worker._mark_all(database, senders))
    assert (left, sum(pauses)) == ([0], 3 * 29 * 2.0)
