"""Lost runs: Dagster considers them running although their process has ended, or they were never queued.

Dagster's code server, or the owner of a standby process, notices when the process of a run dies. When both die
together, nobody does: the run stays STARTED, takes one of the few slots for runs, and its series look as if they were
being processed. The same holds for the series of a run that was created and never queued because the database failed in
between, for example because its disk was full.
"""

import json
from datetime import datetime, timedelta

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter

from ema_assets.defs.jobs import JOBS
from ema_assets.defs.namespace import ALONE, Namespace
from ema_assets.defs.run_tags import LANE_TAG
from ema_assets.defs.standby.tag import Holder
from ema_assets.store import ledger, worker_sessions
from ema_assets.store.database import Transaction

# From launch to its first connection a run takes some seconds; during that time its code server confirms that it lives.
GRACE = timedelta(seconds=15)
# A run takes less than a second from its creation to the queue; many runs of one tick take turns.
QUEUEING_GRACE = timedelta(minutes=2)
# How long a code server may take to answer; one that has ended refuses at once.
_ANSWER_SECONDS = 5

_AT_WORK = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]
# The launcher of `dagster dev` and `ema-assets up` notes here the code server that has started the process.
_SERVER_TAG = ".dagster/grpc_info"

_MESSAGE = (
    "The process of this run is gone: its code server does not know it, and it has no connection to the database. "
    "What it has stored stays; its other series are still stale and are taken up by the next run."
)


_NEVER_QUEUED = (
    "This run was created and did not get into the queue: Dagster lost the database in between. It has done nothing; "
    "its series are still stale and are taken up by the next run."
)


def session_name(run_id: str) -> str:
    """Return the name that the process of a run gives its sessions of the market database."""
    return f"ema-assets run {run_id}"


def fail_lost_runs(
    instance: DagsterInstance, transaction: Transaction, now: datetime, namespace: Namespace = ALONE
) -> list[str]:
    """Fail each run of this code location whose process has ended, or that was never queued; return their ids.

    `now` is the machine's time.
    """
    records = instance.get_run_records(RunsFilter(statuses=[DagsterRunStatus.NOT_STARTED, *_AT_WORK]))
    old = [record.dagster_run for record in records if now - record.update_timestamp > _grace(record.dagster_run)]
    if not old:
        return []
    # The process of another code location has no session here.
    assets, jobs = set(ledger.assets(transaction)), {namespace.name(job) for job in JOBS}
    ours = [run for run in old if _is_of_job(run, jobs) or _is_of_assets(run, assets, namespace)]
    alive = worker_sessions.living(transaction, [session_name(run.run_id) for run in ours])
    lost = [
        run
        for run in ours
        if run.status is DagsterRunStatus.NOT_STARTED
        or (session_name(run.run_id) not in alive and not _is_elsewhere(run))
    ]
    failed = [run for run in lost if _is_as_it_was(instance, run)]
    for run in failed:
        if run.status is DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, _MESSAGE)
        elif run.status is DagsterRunStatus.NOT_STARTED:
            instance.report_run_failed(run, _NEVER_QUEUED)
        else:
            instance.report_run_failed(run, _MESSAGE)
    return [run.run_id for run in failed]


def _is_as_it_was(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Return whether `run` has not moved on since it was read.

    Its process may have ended because the run was over, or have handed it to another process.
    """
    now = instance.get_run_by_id(run.run_id)
    return now is not None and (now.status, now.tags) == (run.status, run.tags)


def _grace(run: DagsterRun) -> timedelta:
    return QUEUEING_GRACE if run.status is DagsterRunStatus.NOT_STARTED else GRACE


def _is_of_job(run: DagsterRun, jobs: set[str]) -> bool:
    """Return whether `run` is of one of `jobs` and has a lane, as ours do: a host may have jobs of the same name."""
    return run.job_name in jobs and LANE_TAG in run.tags


def _is_of_assets(run: DagsterRun, assets: set[str], namespace: Namespace) -> bool:
    """Return whether `run` is of no job of ours and of `assets` alone: computing a host's asset, it has no session.

    Always False within a project, which may have any other executor.
    """
    found = () if namespace.prefix else run.asset_selection or ()
    return bool(found) and {namespace.asset_of(key) for key in found} <= assets


def _is_elsewhere(run: DagsterRun) -> bool:
    """Return whether somebody else is responsible for `run`, which has no session of the database.

    A standby process of this machine is known by its pid, any other process by its code server. Before a run has
    started, another launcher may keep it in a queue of its own.
    """
    holder = Holder.of_run(run.run_id, run.tags)
    if holder is not None and holder.is_here:
        return holder.lives()
    if holder is not None or _SERVER_TAG not in run.tags:
        return run.status is DagsterRunStatus.STARTING
    try:
        from dagster._core.errors import DagsterUserCodeUnreachableError
        from dagster._grpc.client import DagsterGrpcClient
        from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
        from dagster._serdes import deserialize_value

        try:
            answer = DagsterGrpcClient(**json.loads(run.tags[_SERVER_TAG])).can_cancel_execution(
                CanCancelExecutionRequest(run_id=run.run_id), timeout=_ANSWER_SECONDS
            )
        except DagsterUserCodeUnreachableError as error:
            # A server that is slow is alive: the machine is busy.
            return _is_late(error.__cause__)
        return deserialize_value(answer, CanCancelExecutionResult).can_cancel
    except (ImportError, AttributeError, TypeError, KeyError, ValueError):
        # Dagster is not as we know it: rather leave a lost run than fail one that is still working.
        return True


def _is_late(error: BaseException | None) -> bool:
    """Return whether a gRPC error says that the time for the answer was over."""
    code = getattr(error, "code", None)
    return callable(code) and getattr(code(), "name", "") == "DEADLINE_EXCEEDED"
