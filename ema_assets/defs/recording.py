"""How Dagster is told which partitions were materialized: exactly those, in bulk.

A scheduled run covers a rectangle of partitions but brings only the stale ones up to date. It carries the tag
`dagster/defer_asset_events`, so that Dagster logs no events for the rectangle, and this module logs one
AssetMaterialization for each series that was processed. Written one by one, 1,000 events cost 15 s on Postgres; sent as
one batch, well under one. The batch is made of Dagster's own events and handed to its instance, which is not public
API: when that is not as we know it, events go one by one through the public `context.log_event`. Only this module uses
Dagster's private API to log events.
"""

import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

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
    MetadataValue,
    Output,
)

from ema_assets.config.settings import DAGSTER_EVENT_VARIABLES
from ema_assets.defs.run_tags import DEFER_TAG
from ema_assets.defs.storage import MarketEventLog, noted_event_ids

# The errors that appear when a part of Dagster that is not public was removed or changed.
_NOT_AS_KNOWN = (ImportError, AttributeError, TypeError)
# Those that appear when objects cannot be copied with other values.
_NO_COPIES = (*_NOT_AS_KNOWN, KeyError, ValueError)


_Given = TypeVar("_Given")
_Object = TypeVar("_Object")


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


class Made(NamedTuple):
    """What is told of one materialized partition: its key, metadata, and Dagster's tags."""

    partition: str
    metadata: Mapping[str, Any]
    tags: Mapping[str, str]


def log_materializations(context: AssetExecutionContext, asset: AssetKey, made: Sequence[Made]) -> Mapping[str, int]:
    """Log a materialization of `asset` for each of `made`; return the id of each partition's event.

    They go as one batch; one by one when the way to do that is not as we know it.
    """
    if not made:
        return {}
    with noted_event_ids() as noted:
        _log(context, materializations_of(asset, made))
    name = asset.to_string()
    ids = {str(partition): event for (key, partition), event in noted.items() if key == name}
    missing = {each.partition for each in made} - ids.keys()
    if missing:
        # Dagster's events are in a storage that is not ours.
        latest = context.instance.event_log_storage.get_latest_storage_id_by_partition
        ids.update(latest(asset, DagsterEventType.ASSET_MATERIALIZATION, missing))
    return ids


# What Dagster makes of plain metadata, by class.
_METADATA: Mapping[type, Callable[[Any], MetadataValue[Any]]] = {
    str: MetadataValue.text,
    int: MetadataValue.int,
    float: MetadataValue.float,
    bool: MetadataValue.bool,
}


def materializations_of(asset: AssetKey, made: Sequence[Made]) -> list[AssetMaterialization]:
    """Return the materializations of `asset`, equal to those that Dagster makes of the same values.

    Most are copies: see `_copied`.
    """

    def checked(each: Made) -> AssetMaterialization:
        return AssetMaterialization(asset, partition=each.partition, metadata=each.metadata, tags=each.tags)

    def value(raw: Any) -> MetadataValue[Any]:
        return raw if isinstance(raw, MetadataValue) else _METADATA[type(raw)](raw)

    def copy(first: Any, each: Made) -> AssetMaterialization:
        metadata = {name: value(raw) for name, raw in each.metadata.items()}
        return first._replace(partition=each.partition, metadata=metadata, tags=dict(each.tags))  # type: ignore[no-any-return]

    return _copied(made, checked, copy)


def _copied(
    given: Sequence[_Given], checked: Callable[[_Given], _Object], copy: Callable[[Any, _Given], _Object]
) -> list[_Object]:
    """Return what `checked` makes of each of `given`, of which there is at least one.

    Dagster checks every value of every object that it makes, which takes most of their time. So it makes the first and
    the last one, and the others are copies of the first with other values, unless the last one does not equal its copy.
    """
    try:
        first = checked(given[0])
        copies = [copy(first, each) for each in given]
        if copies[-1] == checked(given[-1]):
            return copies
    except _NO_COPIES:
        pass
    return [checked(each) for each in given]


def _log(context: AssetExecutionContext, materializations: Sequence[AssetMaterialization]) -> None:
    try:
        send = _batch_of(context, _entries(context, materializations))
    except _NOT_AS_KNOWN:
        for materialization in materializations:
            context.log_event(materialization)
        return
    send()


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


def _entries(context: AssetExecutionContext, materializations: Sequence[AssetMaterialization]) -> list[EventLogEntry]:
    """Return the events that Dagster would log, without Python's logging, which takes a quarter of their cost.

    Each has a millisecond of its own, the last one now: the Events tab of the UI shows one event per millisecond.
    """
    from dagster._core.events import StepMaterializationData

    message = f"Materialized value {materializations[0].asset_key.to_user_string()}."
    first_ms = int(time.time() * 1000) - len(materializations) + 1
    entry = _entry_of(context, DagsterEventType.ASSET_MATERIALIZATION)

    def checked(place: int) -> EventLogEntry:
        return entry(StepMaterializationData(materializations[place], []), message, (first_ms + place) / 1000)

    def copy(first: Any, place: int) -> EventLogEntry:
        inner = first.dagster_event
        data = inner.event_specific_data._replace(materialization=materializations[place])
        event = inner._replace(event_specific_data=data)
        return first._replace(timestamp=(first_ms + place) / 1000, dagster_event=event)  # type: ignore[no-any-return]

    return _copied(range(len(materializations)), checked, copy)


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
