"""Tests of messages that take long to send: no other channel waits for them, and none of them is sent twice."""

import select
import threading
from collections.abc import Collection, Iterator
from concurrent.futures import ALL_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import pytest

from ema_assets.alerts import sending
from ema_assets.alerts.channels import Channel
from ema_assets.alerts.messages import Message
from ema_assets.defs import alerts as sensor
from ema_assets.operations.deliver_alerts import Parcel
from ema_assets.runtime import alert_senders, alert_worker
from ema_assets.runtime.alert_senders import Senders
from ema_assets.runtime.alert_worker import Configuration, Delivered, deliver_once, deliver_until
from ema_assets.store.advisory_locks import AdvisoryLock
from ema_assets.store.alert_listener import Listener
from ema_assets.store.database import Database
from ema_assets_tests.alerts.raised import deliveries, raised
from ema_assets_tests.alerts.webhook import Webhook, webhook
from ema_assets_tests.runtime.delivering import (
    GROUP,
    end_sessions,
    evaluated,
    others_are_kept_out,
    working,
)
from ema_assets_tests.waiting import GIVEN_UP_AFTER_SECONDS, wait_until


def test_a_channel_that_hangs_does_not_delay_another_channel(env: Path, database: Database, hook: Webhook) -> None:
    with webhook() as slow:
        slow.gate.clear()
        env.write_text(
            '[channels]\nquick = "${HOOK}"\n'
            f'slow = "{slow.url}?rto=300"\n'
            '[[alert]]\nname = "mine"\non = ["crossover"]\nto = ["slow", "quick"]\ngroup_seconds = 0\n' + GROUP
        )
        with working(database.url) as said:
            raised(database)
            wait_until(lambda: slow.received and hook.received, "both have it")
            raised(database, first=1)
            wait_until(lambda: len(hook.received) == 2, "the quick one has the second")
            assert len(slow.received) == 1
            slow.gate.set()
            wait_until(lambda: len(slow.received) == 2, "the slow one has the second")
            wait_until(
                lambda: {row[2] for row in deliveries(database)} == {"sent"}, "all are marked", evidence=lambda: said
            )
    assert slow.titles == hook.titles == ["crossover: S000 1h", "crossover: S001 1h"]


@pytest.mark.broad
def test_an_alert_that_is_due_later_does_not_wait_for_another_channel_that_hangs(
    env: Path, database: Database, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_worker, "_LONGEST_WAIT_SECONDS", 3600.0)
    with webhook() as slow:
        slow.gate.clear()
        env.write_text(
            f'[channels]\nquick = "${{HOOK}}"\nslow = "{slow.url}?rto=3600"\n'
            '[[alert]]\nname = "mine"\non = ["crossover"]\nto = ["slow"]\ngroup_seconds = 0\n'
            '[[alert]]\nname = "later"\non = ["crossover"]\nto = ["quick"]\ngroup_seconds = 1\n' + GROUP
        )
        with working(database.url):
            raised(database)
            wait_until(lambda: slow.received, "the slow one has its own")
            raised(database, subscription="later", first=1)
            wait_until(lambda: hook.received, "the quick one has the other")
            assert ("S000", "slow", "waiting", None) in deliveries(database)
            slow.gate.set()
    assert (slow.titles, hook.titles) == (["crossover: S000 1h"], ["crossover: S001 1h"])


def test_a_sent_message_is_marked_even_if_another_process_delivers_by_then(
    env: Path, database: Database, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Listener] = []
    is_alone = Listener.is_alone

    def counted(listener: Listener) -> bool:
        asked.append(listener)
        return is_alone(listener)

    monkeypatch.setattr(Listener, "is_alone", counted)
    monkeypatch.setattr(alert_worker, "_LOCKED_SECONDS", 3600.0)
    hook.gate.clear()
    with working(database.url) as said:
        raised(database)
        wait_until(lambda: hook.received, "it is on its way")
        with Database(database.url) as other, other.transaction() as transaction:

            def has_the_lock() -> bool:
                end_sessions(database)
                taken = transaction.query(
                    "SELECT pg_try_advisory_xact_lock($1) AS is_taken", int(AdvisoryLock.ALERT_DELIVERY)
                )
                return bool(taken.item())

            wait_until(has_the_lock, "the other one has the lock")
            wait_until(lambda: said, "the worker knows that its session was lost")
            hook.gate.set()
            wait_until(lambda: {row[2] for row in deliveries(database)} == {"sent"}, "it is marked")
            # The worker tries to take the lock only when something happens, not continuously.
            before = len(asked)
            raised(database, first=1)
            wait_until(lambda: len(asked) > before, "it has heard of another alert")
            assert len(asked) - before <= 3
            assert hook.titles == ["crossover: S000 1h"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each wait with a time limit reach it at once, so that a message takes longer than any limit."""

    def waited(
        futures: Collection[Future[object]], timeout: float | None = None, return_when: str = ALL_COMPLETED
    ) -> None:
        wait(futures, None if timeout is None else 0.01, return_when)

    for module in (alert_senders, alert_worker):
        monkeypatch.setattr(module, "wait_for", waited)


@pytest.mark.usefixtures("impatient")
def test_a_stopped_worker_waits_for_messages_that_are_being_sent_and_marks_them(
    env: Path, database: Database, hook: Webhook
) -> None:
    hook.gate.clear()
    over, heard = threading.Event(), threading.Event()

    def is_over() -> bool:
        if over.is_set():
            heard.set()
        return over.is_set()

    with ThreadPoolExecutor(1) as threads:
        work = threads.submit(deliver_until, is_over, database.url, Configuration(), print)
        try:
            raised(database)
            wait_until(lambda: hook.received, "it is on its way")
            over.set()
            wait_until(heard.is_set, "the worker knows that it is over")
            assert not wait([work], 0.5).done
        finally:
            over.set()
            hook.gate.set()
        work.result()
    assert deliveries(database) == [("S000", "HOOK", "sent", None)]


@contextmanager
def looking(url: str, hook: Webhook) -> Iterator["Future[Delivered]"]:
    """Deliver once in a thread. The message is being sent until the gate opens, at the latest when the block ends."""
    configured = Configuration().now()
    assert configured is not None
    hook.gate.clear()
    with ThreadPoolExecutor(1) as threads:
        try:
            look = threads.submit(deliver_once, url, configured)
            wait_until(lambda: hook.received, "it is on its way")
            yield look
        finally:
            hook.gate.set()


@pytest.mark.broad
@pytest.mark.usefixtures("impatient")
def test_deliver_once_waits_for_the_slowest_channel_and_keeps_other_processes_out(
    env: Path, database: Database, hook: Webhook
) -> None:
    raised(database)
    with looking(database.url, hook) as look:
        assert not wait([look], 0.5).done
        assert others_are_kept_out(database.url)
        hook.gate.set()
        assert look.result() == Delivered(True, 1)
    assert deliveries(database) == [("S000", "HOOK", "sent", None)]


def test_deliver_once_marks_its_messages_even_if_its_sessions_were_ended_meanwhile(
    env: Path, database: Database, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_worker, "_AGAIN_SECONDS", 0.1)
    raised(database)
    with looking(database.url, hook) as look:
        end_sessions(database)
        hook.gate.set()
        assert look.result() == Delivered(True, 1)
    assert deliveries(database) == [("S000", "HOOK", "sent", None)]


@pytest.mark.broad
def test_ticks_of_the_sensor_that_end_before_a_message_is_sent_do_not_send_it_again(
    env: Path, database: Database, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook.gate.clear()
    raised(database)
    with monkeypatch.context() as patched:
        patched.setattr(sensor, "PATIENCE_SECONDS", 0.1)
        first = evaluated()
        wait_until(lambda: hook.received, "it is on its way")
        ticks = [first, evaluated(), evaluated()]
    assert hook.titles == ["crossover: S000 1h"]
    assert set(ticks) == {"messages are still on their way; a later tick says what became of them"}
    assert others_are_kept_out(database.url)
    hook.gate.set()
    monkeypatch.setattr(sensor, "PATIENCE_SECONDS", 600.0)
    assert evaluated() == "1 alert sent"
    # The server needs a moment to end a closed session and to release its lock.
    wait_until(lambda: not others_are_kept_out(database.url), "the lock is free")
    assert evaluated() == "no alert was due"
    assert hook.titles == ["crossover: S000 1h"]


def test_a_message_that_was_sent_wakes_the_worker_and_keeps_its_channel_until_it_is_marked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = threading.Event()
    monkeypatch.setattr(sending, "send", lambda *_: gate.wait() and None)
    parcel = Parcel(Channel("HOOK", "${HOOK}"), (1,), Message("title", "body", is_trouble=False))
    with Senders({}) as senders:
        senders.send(parcel)
        busy, finished = senders.busy, senders.finished()
        threading.Timer(0.05, gate.set).start()
        assert (busy, finished) == (["HOOK"], [])
        senders.wait()
        assert [sent.done() for _, sent in senders._sending.values()] == [True]
        # The pipe is written to after the message counts as finished.
        assert select.select([senders.wake], [], [], GIVEN_UP_AFTER_SECONDS)[0] == [senders.wake]
        assert senders.finished() == [(parcel, None)]
        assert select.select([senders.wake], [], [], 0)[0] == []
        assert senders.busy == ["HOOK"]
        senders.free("HOOK")
        assert (senders.busy, senders.finished()) == ([], [])
