"""The process that delivers alerts: it hears when they are raised, sends each channel's in a thread, looks for trouble.

`up` starts it when the watchlist has an `[[alert]]`; `ema-assets alerts deliver` is it. Dagster's sensor does the same
once in a while where none runs. Only here, and in `alerts test`, is Apprise imported.
"""

import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

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
from ema_assets.refresh.plan import Publications
from ema_assets.store.alert_delivery import next_due
from ema_assets.store.alert_listener import SESSION, Listener
from ema_assets.store.database import Database, Transaction

TROUBLE_SECONDS = 15.0
# After a night or an outage everything is late until the first runs are through, which is no trouble.
_FIRST_LOOK_SECONDS = 120.0
_LONGEST_WAIT_SECONDS = 15.0
_SHORTEST_WAIT_SECONDS = 0.05
# What is on its way is due until it is marked, and hides when the next alert to another channel is due: that is looked
# up so often meanwhile.
_WHILE_SENDING_SECONDS = 0.5
# Who has not looked for so long was asleep, with the whole computer.
_ASLEEP_SECONDS = 60.0
_LOCKED_SECONDS = 5.0
_AGAIN_SECONDS = 2.0
_SAID_AGAIN_SECONDS = 600.0
# How soon a signal is heard.
_GLANCE_SECONDS = 0.5
# With the pause between two of them a minute: a restart of the database takes less.
_ATTEMPTS_TO_MARK = 30
_CHANNELS_AT_ONCE = 8

Say = Callable[[str], None]
# A message, and why it could not be sent.
Sent = tuple[Parcel, NotSent | None]


@dataclass(frozen=True, slots=True)
class Configured:
    """What the watchlist says of alerts, and what has to be known to tell them."""

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
        """As the file says now; None when nobody is to be told.

        Raises:
            ConfigurationError: when it is wrong, once per change. After that what was right before still holds.
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


class Senders:
    """Messages on their way, one at a time per channel: a channel that hangs keeps no other waiting."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._threads = ThreadPoolExecutor(_CHANNELS_AT_ONCE, thread_name_prefix="channel")
        self._sending: dict[str, tuple[Parcel, Future[NotSent | None]]] = {}
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        self._turn = threading.Lock()
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._turn:
            self._is_closed = True
            os.close(self._reading)
            os.close(self._writing)

    @property
    def wake(self) -> int:
        """A file descriptor that can be read once a message was sent, or was not."""
        return self._reading

    @property
    def busy(self) -> list[str]:
        """Channels to which a message is on its way."""
        return list(self._sending)

    def send(self, parcel: Parcel) -> None:
        """Begin to send a message to a channel that is not busy."""
        sent = self._threads.submit(sending.send, parcel.channel, parcel.message, self._env, parcel.partly)
        self._sending[parcel.channel.name] = parcel, sent
        sent.add_done_callback(self._wake_up)

    def _wake_up(self, _: object) -> None:
        # A message is done before this is called, and who has heard of it may have closed the pipe: its number may by
        # now be that of a file of somebody else.
        with self._turn:
            if not self._is_closed:
                os.write(self._writing, b".")

    def wait(self) -> None:
        """Wait until one of the messages on their way was sent, or was not.

        There is no limit: how long it takes depends on the channel. Apprise lets 5.5 s pass between two targets unless
        the service allows more, and each of them has 4 s to accept the connection and 4 s to answer.
        """
        wait_for([sent for _, sent in self._sending.values()], return_when=FIRST_COMPLETED)

    def finished(self) -> list[Sent]:
        """Messages that were sent, each with None, or with the reason why not.

        Their channels are busy until they are told to be free: what was sent is not forgotten when it cannot be marked.
        """
        with suppress(BlockingIOError):
            os.read(self._reading, 4096)
        return [(parcel, sent.result()) for parcel, sent in self._sending.values() if sent.done()]

    def free(self, channel: str) -> None:
        """Its last message was sent, and that is marked."""
        del self._sending[channel]


def _mark(database: Database, senders: Senders) -> list[Sent]:
    """Mark the messages that were sent, or were not, free their channels, and return these messages."""
    finished = senders.finished()
    if finished:
        with database.transaction() as transaction:
            for parcel, problem in finished:
                settle(transaction, parcel, problem, datetime.now(UTC))
    for parcel, _ in finished:
        senders.free(parcel.channel.name)
    return finished


def _mark_all(database: Database, senders: Senders) -> Iterator[Sent]:
    """Wait until no message is on its way any more. Mark each as soon as it was sent, or was not, and yield it.

    Raises:
        StoreError: when the database could not be reached for a minute.
    """
    failures = 0
    while senders.busy:
        senders.wait()
        try:
            yield from _mark(database, senders)
            failures = 0
        except StoreError:
            failures += 1
            if failures == _ATTEMPTS_TO_MARK:
                raise
            time.sleep(_AGAIN_SECONDS)


def deliver_until(is_over: Callable[[], bool], url: str, configuration: Configuration, say: Say) -> None:
    """Deliver alerts until `is_over`, or until nobody is to be told any more.

    What goes wrong is said, and tried again. The same is said every ten minutes, and not at each attempt.
    """
    said, said_at = "", 0.0
    with Senders(os.environ) as senders:
        while not is_over():
            try:
                with Listener(url) as listener, Database(url, SESSION) as database:
                    _Worker(listener, database, senders, configuration, say).work(is_over)
                    return
            except StoreError as error:
                if str(error) != said or time.monotonic() - said_at > _SAID_AGAIN_SECONDS:
                    said, said_at = str(error), time.monotonic()
                    say(f"{error}; trying again")
                time.sleep(_AGAIN_SECONDS)


class _Worker:
    def __init__(
        self, listener: Listener, database: Database, senders: Senders, configuration: Configuration, say: Say
    ) -> None:
        self._listener = listener
        self._database = database
        self._senders = senders
        self._configuration = configuration
        self._say = say
        self._looks_from = time.monotonic() + _FIRST_LOOK_SECONDS
        self._asked_at = time.time()
        self._configured: Configured | None = None

    def work(self, is_over: Callable[[], bool]) -> None:
        """Until it is over, or nobody is to be told."""
        while not is_over():
            try:
                configured = self._configuration.now()
            except ConfigurationError as error:
                self._say(f"not read: {error}")
            else:
                self._adopt(configured)
            if self._configured is None:
                break
            # Also when another process has the lock by now. A message that was sent is marked before that process sends
            # it again, and the pipe is emptied: no wait lasts while it can be read.
            for sent in _mark(self._database, self._senders):
                self._say_of(*sent)
            if not self._listener.is_alone():
                self._wait(_LOCKED_SECONDS, is_over)
                continue
            self._listener.check()
            self._wait(self._once(self._configured), is_over)
        # What is on its way is marked, so that it does not come twice. The process would not end sooner without this,
        # for Python waits for the threads that send.
        for sent in _mark_all(self._database, self._senders):
            self._say_of(*sent)

    def _adopt(self, configured: Configured | None) -> None:
        """Look at the channels of a watchlist that is another one, so that the first alert need not import Apprise."""
        if configured is None or configured is self._configured:
            self._configured = configured
            return
        self._configured = configured
        for channel in configured.alerts.used().values():
            if problem := sending.problem_with(channel, os.environ):
                self._say(problem)

    def _wait(self, seconds: float, is_over: Callable[[], bool]) -> None:
        """Until something was raised or sent, or it is over; so many seconds at most."""
        deadline = time.monotonic() + seconds
        while not is_over() and (left := deadline - time.monotonic()) > 0:
            if self._listener.wait(min(left, _GLANCE_SECONDS), self._senders.wake):
                return

    def _once(self, configured: Configured) -> float:
        """Send what is due; for how many seconds there is nothing to do then."""
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
        now, asked_at = time.monotonic(), self._asked_at
        self._asked_at = time.time()
        if self._asked_at - asked_at > _ASLEEP_SECONDS:
            self._looks_from = now + _FIRST_LOOK_SECONDS
        if not looks(alerts) or now < self._looks_from:
            return False
        self._looks_from = now + TROUBLE_SECONDS
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
    """Hand what was raised over to its channels; the messages that are due within `ahead`, but for `busy` channels."""
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
    """What one look has done. `is_ours` is False when another process delivers."""

    is_ours: bool
    sent: int = 0
    failed: tuple[str, ...] = ()


def deliver_once(url: str, configured: Configured, ahead: timedelta = timedelta(0)) -> Delivered:
    """Send what is due, and what will be within `ahead`, unless another process delivers.

    It waits for all channels. No other process delivers before everything that was sent is marked.
    """
    now = datetime.now(UTC)
    with Listener(url) as listener, Database(url, SESSION) as database, Senders(os.environ) as senders:
        if not listener.is_alone():
            return Delivered(is_ours=False)
        with database.transaction() as transaction:
            _look_for_trouble(transaction, configured, now)
            parcels = _packed(transaction, configured, now, ahead=ahead + SOON)
        for parcel in parcels:
            senders.send(parcel)
        finished = list(_mark_all(database, senders))
    failed = tuple(f"{parcel.channel.name}: {problem.reason}" for parcel, problem in finished if problem is not None)
    return Delivered(True, sum(len(parcel.ids) for parcel, problem in finished if problem is None), failed)


class Looks:
    """`deliver_once` for a caller that comes regularly and cannot wait for the slowest channel.

    A look that takes longer goes on in a thread, and the next one begins when it is over.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="alerts")
        self._look: Future[Delivered] | None = None

    def deliver(self, url: str, configured: Configured, ahead: timedelta, seconds: float) -> Delivered | None:
        """What a look has done: the one that was not over the last time, or else a new one.

        None when that is not over within `seconds`.
        """
        look = self._look
        if look is None:
            look = self._look = self._thread.submit(deliver_once, url, configured, ahead)
        wait_for([look], seconds)
        if not look.done():
            return None
        self._look = None
        return look.result()
