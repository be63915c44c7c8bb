"""The process that delivers alerts: it hears when they are raised, sends per channel in threads, and looks for trouble.

`up` starts it when the watchlist has an `[[alert]]`; `ema-assets alerts deliver` runs it. Where no such process runs,
Dagster's sensor does the same at intervals. Apprise is imported only here and in `alerts test`.
"""

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ema_assets.alerts import sending
from ema_assets.alerts.messages import NotSent
from ema_assets.alerts.subscriptions import Alerts
from ema_assets.config import watchlist
from ema_assets.config.settings import Settings
from ema_assets.model import clock
from ema_assets.model.counts import counted
from ema_assets.model.errors import ConfigurationError, StoreError
from ema_assets.operations.deliver_alerts import SOON, Parcel, pack, route, settle
from ema_assets.operations.watch_trouble import looks, watch_trouble
from ema_assets.refresh.isolate import can_heal
from ema_assets.refresh.plan import Publications
from ema_assets.runtime.alert_senders import Senders, Sent
from ema_assets.store.alert_delivery import next_due
from ema_assets.store.alert_listener import SESSION, Listener
from ema_assets.store.database import Database, Transaction
from ema_assets.store.driver_errors import refusal

TROUBLE_SECONDS = 15.0
# After a night or an outage, everything is late until the first runs have finished, which is not trouble.
_FIRST_LOOK_SECONDS = 120.0
_LONGEST_WAIT_SECONDS = 15.0
_SHORTEST_WAIT_SECONDS = 0.05
# A message that is being sent counts as due until it is marked, and hides when the next alert to another channel is
# due. So the due time is looked up this often meanwhile.
_WHILE_SENDING_SECONDS = 0.5
# A process that has not looked for this long was asleep, with the whole computer.
_ASLEEP_SECONDS = 60.0
_LOCKED_SECONDS = 5.0
_AGAIN_SECONDS = 2.0
_SAID_AGAIN_SECONDS = 600.0
# How soon a signal is noticed.
_GLANCE_SECONDS = 0.5
# With the pauses in between, these attempts take a minute: a restart of the database takes less.
_ATTEMPTS_TO_MARK = 30

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Configured:
    """What the watchlist says about alerts, and what is needed to compose them."""

    alerts: Alerts
    publications: Publications
    default_provider: str


class Configuration:
    """The alerts of the watchlist, read again whenever the file has changed."""

    def __init__(self, env: Mapping[str, str] = os.environ) -> None:
        self._env = env
        self._stamp: tuple[int, ...] | None = None
        self._configured: Configured | None = None

    def now(self) -> Configured | None:
        """Return the alerts as the file defines them now; None when nobody is to be notified.

        Raises:
            ConfigurationError: when the file is wrong, once per change. After that, the previous result is returned.
        """
        settings = Settings.from_env(self._env)
        stamp = _stamp(settings)
        if stamp != self._stamp:
            self._stamp = stamp
            watched = watchlist.of(settings)
            self._configured = None
            if watched.alerts is not None:
                self._configured = Configured(watched.alerts, settings.publications, settings.provider)
        return self._configured


def _stamp(settings: Settings) -> tuple[int, ...]:
    try:
        found = settings.watchlist_path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _mark(database: Database, senders: Senders) -> list[Sent]:
    """Store the results of finished messages, free their channels, and return these messages."""
    finished = senders.finished()
    if finished:
        with database.transaction() as transaction:
            for parcel, problem in finished:
                settle(transaction, parcel, problem, datetime.now(UTC))
    for parcel, _ in finished:
        senders.free(parcel.channel.name)
    return finished


def _mark_all(database: Database, senders: Senders) -> Iterator[Sent]:
    """Wait until no message is being sent any more. Store each result as soon as it is known, and yield it.

    Raises:
        StoreError: when the database could not be reached for a minute, or another error of it that can heal.
    """
    failures = 0
    while senders.busy:
        senders.wait()
        try:
            yield from _mark(database, senders)
            failures = 0
        except Exception as error:
            failures += 1
            if failures == _ATTEMPTS_TO_MARK or not can_heal(error):
                raise
            time.sleep(_AGAIN_SECONDS)


def deliver_until(is_over: Callable[[], bool], url: str, configuration: Configuration, say: Say) -> None:
    """Deliver alerts until `is_over`, or until nobody is to be notified any more.

    Errors of the database are reported by `say`, and the delivery is tried again. The same error is reported every ten
    minutes, not at each attempt.
    """
    said, said_at = "", 0.0
    with Senders(os.environ) as senders:
        while not is_over():
            try:
                with Listener(url) as listener, Database(url, SESSION) as database:
                    _Worker(listener, database, senders, configuration, say).work(is_over)
                    return
            except Exception as error:
                # A process that ends sends again what it could not mark, and after some new starts nobody delivers.
                if not can_heal(error):
                    raise
                sentence = refusal(error) or str(error)
                if sentence != said or time.monotonic() - said_at > _SAID_AGAIN_SECONDS:
                    said, said_at = sentence, time.monotonic()
                    say(f"{sentence}; trying again")
                time.sleep(_AGAIN_SECONDS)
        # Stopped during an outage: what was sent is marked if that is over by now, and otherwise sent again later.
        with suppress(StoreError), Database(url, SESSION) as database:
            while senders.busy:
                senders.wait()
                _mark(database, senders)


class _Lookout:
    """Says when to look for trouble: not in the first minutes of a process, nor after the computer has slept."""

    def __init__(self) -> None:
        self._asked_at = time.time()
        self.rest(_FIRST_LOOK_SECONDS)

    def is_time(self) -> bool:
        """Return whether it is time to look. To be called often: a long pause between two calls was sleep."""
        asked_at, self._asked_at = self._asked_at, time.time()
        if self._asked_at - asked_at > _ASLEEP_SECONDS:
            self.rest(_FIRST_LOOK_SECONDS)
        return time.monotonic() >= self._from

    def rest(self, seconds: float) -> None:
        """Do not look for so long."""
        self._from = time.monotonic() + seconds


class _Worker:
    def __init__(
        self, listener: Listener, database: Database, senders: Senders, configuration: Configuration, say: Say
    ) -> None:
        self._listener = listener
        self._database = database
        self._senders = senders
        self._configuration = configuration
        self._say = say
        self._lookout = _Lookout()
        self._configured: Configured | None = None

    def work(self, is_over: Callable[[], bool]) -> None:
        """Work until `is_over`, or until nobody is to be notified."""
        while not is_over():
            try:
                configured = self._configuration.now()
            except ConfigurationError as error:
                self._say(f"not read: {error}")
            else:
                self._adopt(configured)
            if self._configured is None:
                break
            # Also when another process has the lock by now: a sent message is marked before that process sends it
            # again, and the pipe is emptied. While it is readable, no wait lasts.
            for sent in _mark(self._database, self._senders):
                self._say_of(*sent)
            if not self._listener.is_alone():
                self._wait(_LOCKED_SECONDS, is_over)
                continue
            self._listener.check()
            self._wait(self._once(self._configured), is_over)
        # Sent messages are marked so that they are not sent twice. Without this the process would not end sooner,
        # because Python waits for the threads that send.
        for sent in _mark_all(self._database, self._senders):
            self._say_of(*sent)

    def _adopt(self, configured: Configured | None) -> None:
        """Check the channels of a changed watchlist, so that the first alert need not import Apprise."""
        if configured is None or configured is self._configured:
            self._configured = configured
            return
        self._configured = configured
        for channel in configured.alerts.used().values():
            if problem := sending.problem_with(channel, os.environ):
                self._say(problem)

    def _wait(self, seconds: float, is_over: Callable[[], bool]) -> None:
        """Wait until something was raised or sent, or `is_over`; at most `seconds`."""
        deadline = time.monotonic() + seconds
        while not is_over() and (left := deadline - time.monotonic()) > 0:
            if self._listener.wait(min(left, _GLANCE_SECONDS), self._senders.wake):
                return

    def _once(self, configured: Configured) -> float:
        """Send what is due; return for how many seconds there is nothing more to do."""
        now = datetime.now(UTC)
        with self._database.transaction() as transaction:
            if self._is_time_to_look(configured.alerts):
                _look_for_trouble(transaction, configured, now)
            parcels = _packed(transaction, configured, now, busy=self._senders.busy)
            due = next_due(transaction)
        for parcel in parcels:
            self._senders.send(parcel)
        if due is None:
            return _LONGEST_WAIT_SECONDS
        shortest = _WHILE_SENDING_SECONDS if self._senders.busy else _SHORTEST_WAIT_SECONDS
        return min(max((due - now).total_seconds(), shortest), _LONGEST_WAIT_SECONDS)

    def _is_time_to_look(self, alerts: Alerts) -> bool:
        if not self._lookout.is_time() or not looks(alerts):
            return False
        self._lookout.rest(TROUBLE_SECONDS)
        return True

    def _say_of(self, parcel: Parcel, problem: NotSent | None) -> None:
        count = counted(len(parcel.ids), "alert")
        self._say(
            f"{parcel.channel.name}: {count} sent" if problem is None else f"{parcel.channel.name}: {problem.reason}"
        )


def _packed(
    transaction: Transaction,
    configured: Configured,
    now: datetime,
    *,
    busy: Collection[str] = (),
    ahead: timedelta = SOON,
) -> list[Parcel]:
    """Hand raised alerts to their channels; return the messages due within `ahead`, except for `busy` channels."""
    route(transaction, configured.alerts, now)
    return pack(
        transaction,
        configured.alerts,
        now,
        busy=busy,
        room=lambda channel: sending.room_of(channel, os.environ),
        ahead=ahead,
    )


def _look_for_trouble(transaction: Transaction, configured: Configured, now: datetime) -> None:
    watch_trouble(
        transaction, configured.alerts, clock.now(), now, configured.publications, configured.default_provider
    )


@dataclass(frozen=True, slots=True)
class Delivered:
    """The result of one look. `is_ours` is False when another process delivers."""

    is_ours: bool
    sent: int = 0
    failed: tuple[str, ...] = ()


def deliver_once(
    url: str, configured: Configured, ahead: timedelta = timedelta(0), *, looks_for_trouble: bool = True
) -> Delivered:
    """Send what is due, and what will be due within `ahead`, unless another process delivers.

    It waits for all channels. No other process delivers before every result is stored.
    """
    now = datetime.now(UTC)
    with Listener(url) as listener, Database(url, SESSION) as database, Senders(os.environ) as senders:
        if not listener.is_alone():
            return Delivered(is_ours=False)
        with database.transaction() as transaction:
            if looks_for_trouble:
                _look_for_trouble(transaction, configured, now)
            parcels = _packed(transaction, configured, now, ahead=ahead + SOON)
        for parcel in parcels:
            senders.send(parcel)
        finished = list(_mark_all(database, senders))
    failed = tuple(f"{parcel.channel.name}: {problem.reason}" for parcel, problem in finished if problem is not None)
    return Delivered(True, sum(len(parcel.ids) for parcel, problem in finished if problem is None), failed)


class Looks:
    """`deliver_once` for a caller that comes regularly and cannot wait for the slowest channel.

    A look that takes longer continues in a thread, and the next one begins when it is over.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="alerts")
        self._look: Future[Delivered] | None = None
        self._lookout = _Lookout()

    def deliver(self, url: str, configured: Configured, ahead: timedelta, seconds: float) -> Delivered | None:
        """Return the result of a look: the one that was not over last time, or else a new one.

        Return None when it is not over within `seconds`.
        """
        look, is_time = self._look, self._lookout.is_time()
        if look is None:
            look = self._look = self._thread.submit(deliver_once, url, configured, ahead, looks_for_trouble=is_time)
        wait_for([look], seconds)
        if not look.done():
            return None
        self._look = None
        return look.result()
