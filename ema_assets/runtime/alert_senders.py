"""Sends messages to channels in threads, one at a time per channel. Knows no database."""

import os
import threading
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import suppress
from typing import Self

from ema_assets.alerts import sending
from ema_assets.alerts.messages import NotSent
from ema_assets.operations.deliver_alerts import Parcel

_CHANNELS_AT_ONCE = 8

# A message, and why it could not be sent, or None.
Sent = tuple[Parcel, NotSent | None]


class Senders:
    """Messages being sent, one at a time per channel: a channel that hangs does not delay the others."""

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
        """A file descriptor that becomes readable when an attempt to send a message has ended."""
        return self._reading

    @property
    def busy(self) -> list[str]:
        """The channels to which a message is being sent."""
        return list(self._sending)

    def send(self, parcel: Parcel) -> None:
        """Begin to send a message to a channel that is not busy."""
        sent = self._threads.submit(sending.send, parcel.channel, parcel.message, self._env, parcel.partly)
        self._sending[parcel.channel.name] = parcel, sent
        sent.add_done_callback(self._wake_up)

    def _wake_up(self, _: object) -> None:
        # The message counts as finished before this is called, and its reader may have closed the pipe by now: the
        # number may then belong to another file.
        with self._turn:
            if not self._is_closed:
                os.write(self._writing, b".")

    def wait(self) -> None:
        """Wait until sending one of the messages has ended.

        There is no time limit: how long it takes depends on the channel. Apprise lets 5.5 s pass between two targets
        unless the service allows more, and each target has 4 s to accept the connection and 4 s to answer.
        """
        wait_for([sent for _, sent in self._sending.values()], return_when=FIRST_COMPLETED)

    def finished(self) -> list[Sent]:
        """Return messages whose sending has ended, each with None, or with the reason why it was not sent.

        Their channels stay busy until `free` is called, so that a result is not lost when it cannot be marked.
        """
        with suppress(BlockingIOError):
            os.read(self._reading, 4096)
        return [(parcel, sent.result()) for parcel, sent in self._sending.values() if sent.done()]

    def free(self, channel: str) -> None:
        """Mark a channel as free: the result of its last message is stored."""
        del self._sending[channel]
