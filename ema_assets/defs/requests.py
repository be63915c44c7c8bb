"""Turns planned runs into Dagster's run requests, and queued or running runs back into what they cover."""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import datetime

import polars as pl
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunRequest, RunsFilter

from ema_assets.defs.jobs import REFRESH_JOB
from ema_assets.defs.just_requested import JustRequested
from ema_assets.defs.lost_runs import fail_lost_runs
from ema_assets.defs.namespace import ALONE, Namespace
from ema_assets.defs.run_tags import (
    BACKGROUND_LANE,
    DEFER_TAG,
    HISTORY_PRIORITY,
    HISTORY_TAG,
    LANE_TAG,
    LIVE_LANE,
    PARTITION_TAG,
    PRIORITY_TAG,
    PURPOSE_TAG,
    RANGE_END_TAG,
    RANGE_START_TAG,
    REPAIR_PRIORITY,
    TIMEFRAME_TAG,
)
from ema_assets.model.errors import InvalidKeyError
from ema_assets.model.symbols import Series
from ema_assets.model.timeframes import Timeframe
from ema_assets.refresh.runs import PlannedRun, Purpose, Rectangle, plan_runs
from ema_assets.store import ledger
from ema_assets.store.database import Transaction

# Per name of the job: components with their own prefixes have their own watchlists.
_just_requested: defaultdict[str, JustRequested] = defaultdict(JustRequested)

# At the default level, DEBUG, a run prints a line per partition that it materializes; and without any config, Dagster
# prints its own text, also when JSON was requested. Set with each run: Dagster drops the config of a job over selected
# assets.
QUIET_CONFIG = {"loggers": {"console": {"config": {"log_level": "INFO"}}}}

# The statuses of a run that is queued or running.
IN_FLIGHT = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
]
_BEGUN = (DagsterRunStatus.STARTING, DagsterRunStatus.STARTED)
# Per purpose of runs: their priority, where it differs from that of live runs, and their description.
_PRIORITY = {
    Purpose.HISTORY: HISTORY_PRIORITY,
    Purpose.FIRST: HISTORY_PRIORITY,
    Purpose.REPAIR: REPAIR_PRIORITY,
}
_WHAT = {
    Purpose.NEWEST: "newest {} bars",
    Purpose.ANEW: "{} recomputed",
    Purpose.TELLING: "{} reported to Dagster again",
    Purpose.REPAIR: "{} bars requested again",
    Purpose.HISTORY: "history of {}",
    Purpose.FIRST: "first results on {}",
}


def run_request(planned: PlannedRun, now: datetime) -> RunRequest:
    """Return the run request of `planned`: shorter timeframes first, then missing bars, and new series after all that.

    Of many new series, the 5m bars are loaded first, then what is rolled up from them is computed, then days are
    loaded.
    """
    rectangle = planned.rectangle
    first, last = rectangle.corners
    priority = _PRIORITY.get(planned.purpose, 0) - rectangle.timeframe.rank
    return RunRequest(
        run_key=f"{first}..{last}@{now.isoformat(timespec='seconds')}",
        run_config=QUIET_CONFIG,
        tags={
            RANGE_START_TAG: first,
            RANGE_END_TAG: last,
            DEFER_TAG: "true",
            PRIORITY_TAG: str(priority),
            LANE_TAG: lane_of(planned),
            PURPOSE_TAG: _said(planned),
            **({HISTORY_TAG: "true"} if planned.purpose is Purpose.HISTORY else {}),
            TIMEFRAME_TAG: rectangle.timeframe.key,
            # Whatever a run leaves undone is still stale and the sweep takes it up; a retry would repeat the work.
            "dagster/max_retries": "0",
        },
    )


def lane_of(planned: PlannedRun) -> str:
    """Return the lane of the run of `planned`."""
    is_live = planned.rectangle.timeframe.is_live and planned.purpose.is_live
    return LIVE_LANE if is_live else BACKGROUND_LANE


def _said(planned: PlannedRun) -> str:
    """Return what the run of `planned` is for, such as `newest 5m bars, 100 series`."""
    what = _WHAT[planned.purpose].format(planned.rectangle.timeframe.key)
    return f"{what}, {planned.series} series"


def runs_for(
    instance: DagsterInstance,
    transaction: Transaction,
    stale: pl.DataFrame,
    now: datetime,
    tick: str,
    symbols: Sequence[str] | None = None,
    namespace: Namespace = ALONE,
    hold: Callable[[PlannedRun], bool] | None = None,
) -> list[PlannedRun]:
    """Return the runs for `stale` series that queued and running ones do not cover.

    Dagster is queried only when needed.

    `now` is the machine's time, and `tick` the name of the schedule or sensor that plans: what another one has
    requested at the same moment is covered, too. `symbols` are the partitions in their order, read from Dagster when
    they are not given. Runs for which `hold` returns True are left out.
    """
    if stale.is_empty():
        return []
    if symbols is None:
        symbols = instance.get_dynamic_partitions(str(namespace.symbols.name))
    job = namespace.name(REFRESH_JOB)

    def made_since(moment: datetime) -> set[tuple[str, str]]:
        runs = instance.get_runs(RunsFilter(job_name=job, created_after=moment))
        return {(run.tags.get(RANGE_START_TAG, ""), run.tags.get(RANGE_END_TAG, "")) for run in runs}

    def plan(requested: list[PlannedRun]) -> list[PlannedRun]:
        covered = in_flight(instance, transaction, now, namespace)
        known = ledger.known_timeframes(transaction) if requested else ()
        # Without bars that have just closed: a run that ended before Dagster was queried has not seen them.
        for run in requested:
            is_history = run.purpose is Purpose.HISTORY
            covered.extend(_covered(run.rectangle, known, is_history=is_history, takes_closes=False))
        runs = plan_runs(stale, symbols, covered, namespace.settings().series_per_run)
        return runs if hold is None else [run for run in runs if not hold(run)]

    return _just_requested[job].plan(tick, now, made_since, plan)


def in_flight(
    instance: DagsterInstance, transaction: Transaction, now: datetime, namespace: Namespace = ALONE
) -> list[Rectangle]:
    """Return what queued and running refresh runs cover, after failing those whose process has ended.

    A run that loads history also covers the timeframes that are rolled up from it: they follow in one run each when all
    of it is there, not in many runs as its series come in. A history run that has not begun may wait for long, so it
    covers no bar that has just closed.
    """
    fail_lost_runs(instance, transaction, now, namespace)
    known = ledger.known_timeframes(transaction)
    runs = instance.get_runs(filters=RunsFilter(job_name=namespace.name(REFRESH_JOB), statuses=IN_FLIGHT))
    rectangles = []
    for run in runs:
        if (corners := _corners(run)) is not None:
            first, last = corners
            is_history = HISTORY_TAG in run.tags
            takes_closes = not is_history or run.status in _BEGUN
            place = Rectangle(first.timeframe, first.symbol, last.symbol)
            rectangles += _covered(place, known, is_history=is_history, takes_closes=takes_closes)
    return rectangles


def _covered(place: Rectangle, known: Sequence[Timeframe], *, is_history: bool, takes_closes: bool) -> list[Rectangle]:
    """Return what a run for `place` covers, including the timeframes that are rolled up from what it loads."""
    feeds = [each for each in known if is_history and not each.is_fetched and each.source is place.timeframe]
    return [Rectangle(each, place.first, place.last, takes_closes) for each in (place.timeframe, *feeds)]


def held_by_runs(instance: DagsterInstance, symbols: Collection[str]) -> dict[str, str]:
    """Return those of `symbols` that an unfinished run names, whoever launched it, with the id of one such run.

    Dagster fails a run whose range begins or ends with a deleted partition, together with all others in its range.
    """
    found: dict[str, str] = {}
    for run in instance.get_runs(RunsFilter(statuses=[*IN_FLIGHT, DagsterRunStatus.CANCELING])) if symbols else ():
        for tag in (RANGE_START_TAG, RANGE_END_TAG, PARTITION_TAG):
            with suppress(InvalidKeyError):
                found[Series.parse(run.tags.get(tag, "")).symbol] = run.run_id
    return {symbol: found[symbol] for symbol in symbols if symbol in found}


def _corners(run: DagsterRun) -> tuple[Series, Series] | None:
    """Return the corners of a run for stale series; None for a run that a person has launched.

    That may be for other assets, wait behind backfills for as long as they take, and have any text in its tags.
    """
    if run.tags.get(DEFER_TAG) != "true":
        return None
    try:
        return Series.parse(run.tags[RANGE_START_TAG]), Series.parse(run.tags[RANGE_END_TAG])
    except (KeyError, InvalidKeyError):
        return None
