"""When Dagster's daemon looks at backfills: soon after one was requested or canceled, or a run of one has ended.

On its own, the daemon looks every 30 s: a backfill waits that long to begin, and again to be shown as finished. One
that a person cancels continues as long, and most have ended by then. The cost of a look grows with the number of
partitions, so this module does not look more often: it ends the pause between two looks early. The daemon's loop is not
public API: when it is not as we know it, it runs unchanged.
"""

import inspect
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from dagster import DagsterInstance, DagsterRunStatus, RunsFilter
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

from ema_assets.defs.backfills import BACKFILL_TAG

_PEEK_SECONDS = 2.0
# After a look that took long, wait four times as long: looking takes a fifth of the time at most.
_REST = 4.0
# The time from a run's end to the commit that records it.
_OVERLAP = timedelta(seconds=5)
_DAEMON = "dagster._daemon.daemon"
_LOOP = "execute_backfill_iteration_loop"
_PARAMETERS = [
    "workspace_process_context",
    "logger",
    "shutdown_event",
    "until",
    "threadpool_executor",
    "submit_threadpool_executor",
]
_OPEN = [BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING]
_ENDED = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]


class News:
    """Detects changes to backfills since the last call. When there are none, a call costs one count."""

    def __init__(self, instance: DagsterInstance, now: datetime) -> None:
        self._instance = instance
        self._since = now
        self._open = (0, 0)
        self._ended: set[str] = set()

    def is_there(self, now: datetime) -> bool:
        """Return whether the open or canceling backfills have changed, or a run of one has ended.

        `now` is the machine's time.
        """
        still_open = self._count(_OPEN)
        counts = still_open, self._count([BulkActionStatus.CANCELING]) if still_open else 0
        has_changed, self._open = counts != self._open, counts
        ended = self._runs_that_ended() if still_open else set()
        is_new, self._ended, self._since = bool(ended - self._ended), ended, now - _OVERLAP
        return has_changed or is_new

    def _count(self, statuses: list[BulkActionStatus]) -> int:
        return self._instance.get_backfills_count(BulkActionsFilter(statuses=statuses))

    def _runs_that_ended(self) -> set[str]:
        records = self._instance.get_run_records(RunsFilter(statuses=_ENDED, updated_after=self._since))
        runs = [record.dagster_run for record in records]
        return {run.run_id for run in runs if BACKFILL_TAG in run.tags}


class Pause:
    """Stands in for the daemon's shutdown event: its `wait` returns early when there is news."""

    def __init__(self, over: threading.Event, is_news: Callable[[], bool]) -> None:
        self._over = over
        self._is_news = is_news
        self._began = time.monotonic()

    def is_set(self) -> bool:
        """Return whether the daemon is to end."""
        return self._over.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait for `seconds`, or until there is news or the daemon is to end. Return True when it is to end."""
        began = time.monotonic()
        rest = min((began - self._began) * _REST, seconds)
        is_over = self._over.wait(rest)
        while not is_over and (left := began + seconds - time.monotonic()) > 0 and not self._is_news():
            is_over = self._over.wait(min(left, _PEEK_SECONDS))
        self._began = time.monotonic()
        return is_over


def install() -> bool:
    """Make the daemon of this process look at backfills soon; return False when it has none, or none as we know it.

    Calling it again changes nothing.
    """
    daemon: Any = sys.modules.get(_DAEMON)
    loop = getattr(daemon, _LOOP, None)
    if loop is None or loop is _loop:
        return loop is not None
    if list(inspect.signature(loop).parameters) != _PARAMETERS:
        return False
    _dagsters[_LOOP] = loop
    setattr(daemon, _LOOP, _loop)
    return True


_dagsters: dict[str, Any] = {}


def _loop(
    workspace_process_context: Any, logger: Any, shutdown_event: threading.Event, *arguments: Any, **options: Any
) -> Iterator[Any]:
    """Stand in for Dagster's `execute_backfill_iteration_loop`."""
    news = News(workspace_process_context.instance, datetime.now(UTC))

    def is_news() -> bool:
        try:
            return news.is_there(datetime.now(UTC))
        except Exception:
            # For example, the database cannot be reached. The next look reports that.
            logger.debug("Backfills could not be looked for", exc_info=True)
            return False

    pause = Pause(shutdown_event, is_news)
    looks: Iterator[Any] = _dagsters[_LOOP](workspace_process_context, logger, pause, *arguments, **options)
    return looks
