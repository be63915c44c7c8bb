"""How Dagster is told which partitions were materialized: exactly those, in bulk.

A scheduled run covers a rectangle of partitions but brings only the stale ones up to date. It carries the tag
`dagster/defer_asset_events`, so that Dagster logs no events for the rectangle, and this module logs one
AssetMaterialization for each series that was processed. Written one by one, 1,000 events cost 15 s on Postgres; stored
as one batch, a tenth of a second. The batch is made of Dagster's own events. It goes to our storage, or, where Dagster
has another one, to its instance. None of that is public API: when it is not as we know it, events go one by one through
the public `context.log_event`. Only this module uses Dagster's private API to log events.
"""

import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dagster import (
    AssetCheckEvaluation,
    AssetCheckKey,
    AssetCheckResult,
    AssetExecutionContext,
    AssetKey,
    AssetMaterialization,
    DagsterEvent,
    DagsterEventType,
    EventLogEntry,
    Output,
)

from ema_assets.config.settings import DAGSTER_EVENT_VARIABLES
from ema_assets.defs.event_rows import Made
from ema_assets.defs.run_tags import DEFER_TAG
from ema_assets.defs.storage import MarketEventLog

# The errors that appear when a part of Dagster that is not public was removed or changed.
_NOT_AS_KNOWN = (ImportError, AttributeError, TypeError)
# A statement with more events would take much memory.
_EVENTS_A_BATCH = 1_000


def set_event_variables() -> None:
    """Set Dagster's batching variables in this process and its children, where the user did not."""
    for name, value in DAGSTER_EVENT_VARIABLES.items():
        os.environ.setdefault(name, value)


def keep_events_for_us(context: AssetExecutionContext) -> bool:
    """Keep Dagster from logging its own materializations when this step ends; return True when that succeeds.

    Dagster's own events would carry one data version for all partitions, which the ledger does not know. A run that is
    launched with DEFER_TAG logs none anyway; in others, the step's view of its run gets that tag.
    """
    if context.run.tags.get(DEFER_TAG) == "true":
        return True
    try:
        from dagster._core.storage.dagster_run import assets_are_externally_managed

        step = context.get_step_execution_context()
        run = step.dagster_run.with_tags({**step.dagster_run.tags, DEFER_TAG: "true"})
        step._plan_data = step._plan_data._replace(dagster_run=run)  # noqa: SLF001 - of this step alone
        return assets_are_externally_managed(step.dagster_run)
    except _NOT_AS_KNOWN:
        return False


def log_materializations(context: AssetExecutionContext, asset: AssetKey, made: Sequence[Made]) -> Mapping[str, int]:
    """Log a materialization of `asset` for each of `made`; return the id of each partition's event.

    They go in batches; one by one when the way to do that is not as we know it.
    """
    # The Events tab of the UI shows one event per millisecond, so each has one of its own; the last one is now.
    first_ms = int(time.time() * 1000) - len(made) + 1
    timed = [each._replace(seconds=(first_ms + number) / 1000) for number, each in enumerate(made)]
    ids: dict[str, int] = {}
    for start in range(0, len(made), _EVENTS_A_BATCH):
        ids |= _log(context, asset, timed[start : start + _EVENTS_A_BATCH])
    if missing := {each.partition for each in made} - ids.keys():
        latest = context.instance.event_log_storage.get_latest_storage_id_by_partition
        ids.update(latest(asset, DagsterEventType.ASSET_MATERIALIZATION, missing))
    return ids


def _log(context: AssetExecutionContext, asset: AssetKey, made: Sequence[Made]) -> dict[str, int]:
    """Log a batch; return the ids of its events by partition, or nothing if Dagster's events are not in our storage."""
    storage = context.instance.event_log_storage
    try:
        event_of = _event_of(context, asset)
        if isinstance(storage, MarketEventLog):
            event_of(made[0])
            send = None
        else:
            send = _batch_of(context, [event_of(each) for each in made])
    except _NOT_AS_KNOWN:
        for each in made:
            context.log_event(_materialization(asset, each))
        return {}
    if send is None:
        ids = storage.store_materializations(made, event_of)
        return dict(zip((each.partition for each in made), ids, strict=True))
    send()
    return {}


def _materialization(asset: AssetKey, each: Made) -> AssetMaterialization:
    return AssetMaterialization(asset, partition=each.partition, metadata=each.metadata, tags=each.tags)


def _event_of(context: AssetExecutionContext, asset: AssetKey) -> Callable[[Made], EventLogEntry]:
    """Return a function that makes the events that Dagster would log for materializations of `asset`.

    Without Python's logging, which takes a quarter of their cost.
    """
    from dagster._core.events import StepMaterializationData

    message = f"Materialized value {asset.to_user_string()}."
    entry = _entry_of(context, DagsterEventType.ASSET_MATERIALIZATION)
    return lambda each: entry(StepMaterializationData(_materialization(asset, each), []), message, each.seconds)


def _batch_of(context: Any, entries: Sequence[EventLogEntry]) -> Callable[[], None]:
    """Return a function that hands `entries` to Dagster's instance, which stores them in few statements."""
    from dagster._core.events import DagsterEventBatchMetadata

    handle = context.instance.handle_new_event
    batch_id = uuid.uuid4().hex
    marks = [DagsterEventBatchMetadata(batch_id, False)] * (len(entries) - 1)
    marks.append(DagsterEventBatchMetadata(batch_id, True))

    def send() -> None:
        for entry, mark in zip(entries, marks, strict=True):
            handle(entry, batch_metadata=mark)

    return send


def _entry_of(context: Any, kind: DagsterEventType) -> Callable[[Any, str, float], EventLogEntry]:
    """Return a function that makes events of the step of `context`, from data, message and time in seconds."""
    step = context.get_step_execution_context().step
    run_id, job_name, pid = context.run.run_id, context.run.job_name, os.getpid()

    def entry(data: Any, message: str, timestamp: float) -> EventLogEntry:
        return EventLogEntry(  # type: ignore[no-untyped-call]
            error_info=None,
            level=logging.DEBUG,
            user_message=message,
            run_id=run_id,
            timestamp=timestamp,
            step_key=step.key,
            job_name=job_name,
            dagster_event=DagsterEvent(
                event_type_value=kind.value,
                job_name=job_name,
                step_handle=step.handle,
                node_handle=step.node_handle,
                step_kind_value=step.kind.value,
                logging_tags={},
                event_specific_data=data,
                message=message,
                pid=pid,
            ),
        )

    return entry


def log_checks(
    context: Any, results: Sequence[AssetCheckResult], partitions: Sequence[AssetCheckEvaluation]
) -> Iterator[AssetCheckResult | AssetCheckEvaluation | Output[None]]:
    """Log the `results` of unpartitioned checks of partitioned assets, and the checks of `partitions`, as one batch.

    Dagster would store each by itself. And for each asset it would list all partitions and look up which
    materialization was the latest; for 10,000 symbols on six timeframes that took 3 s per run. The latest of all is in
    the record of the asset. When that is not as we know it, the results are yielded unchanged, for Dagster to log; in a
    storage that is not ours, one by one.
    """
    try:
        outputs = context.get_step_execution_context().job_def.asset_layer.get_op_output_name
        names = [outputs(AssetCheckKey(_key(result), str(result.check_name))) for result in results]
        evaluations = evaluations_of(context, results)
        entry, now = _entry_of(context, DagsterEventType.ASSET_CHECK_EVALUATION), time.time()
        entries = [entry(each, _sentence(each), now) for each in [*evaluations, *partitions]]
        send = _batch_of(context, entries)
    except _NOT_AS_KNOWN:
        yield from results
        yield from partitions
        return
    yield from (Output(None, output_name=name) for name in names if name is not None)
    if isinstance(context.instance.event_log_storage, MarketEventLog):
        send()
    else:
        yield from evaluations
        yield from partitions


def evaluations_of(context: Any, results: Sequence[AssetCheckResult]) -> list[AssetCheckEvaluation]:
    """Return the `results` as events that refer to the newest materialization of their assets."""
    targets = _latest(context, list({_key(result) for result in results}))
    return [
        AssetCheckEvaluation(
            asset_key=_key(result),
            check_name=str(result.check_name),
            passed=result.passed,
            metadata=result.metadata,
            target_materialization_data=targets.get(_key(result)),
            severity=result.severity,
            description=result.description,
        )
        for result in results
    ]


def _sentence(found: AssetCheckEvaluation) -> str:
    said = "passed" if found.passed else "did not pass"
    why = f" Description: '{found.description}'" if found.description else ""
    return f"Asset check '{found.check_name}' on '{found.asset_key.to_user_string()}' {said}.{why}"


def _latest(context: Any, assets: Sequence[AssetKey]) -> dict[AssetKey, Any]:
    """Return the newest materialization of each of `assets` that has one, as the target of a check."""
    found = {}
    for record in context.instance.get_asset_records(assets):
        latest = record.asset_entry.last_materialization_record
        if latest is not None:
            found[record.asset_entry.asset_key] = _target(latest.storage_id, latest.run_id, latest.timestamp)
    return found


def target_of(materialization: tuple[int, str, float] | None) -> Any:
    """Return the target of a check: a materialization given as id, run and time.

    None when Dagster is not as we know it.
    """
    if materialization is None:
        return None
    try:
        return _target(*materialization)
    except _NOT_AS_KNOWN:
        return None


def _target(storage_id: int, run_id: str, timestamp: float) -> Any:
    from dagster._core.definitions.asset_checks.asset_check_evaluation import (
        AssetCheckEvaluationTargetMaterializationData,
    )

    return AssetCheckEvaluationTargetMaterializationData(storage_id=storage_id, run_id=run_id, timestamp=timestamp)


def _key(result: AssetCheckResult) -> AssetKey:
    assert result.asset_key is not None
    return result.asset_key
