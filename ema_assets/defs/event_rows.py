"""Rows of Dagster's event log and its tags, for batches of materializations that differ in little.

Dagster packs every object of every event separately: in a run over 1,000 symbols that was a quarter of the time. Here
Dagster serializes one event of a batch, and the others are the same text with their own partition, tags, metadata and
time. The result must equal Dagster's text to the letter, which is checked on a few events of each batch. When it does
not, or when events differ in something else, Dagster serializes all.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dagster import DagsterEventType, EventLogEntry
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._serdes import serialize_value

# A batch this small is not worth a template.
_LEAST_EVENTS = 4
# PostgreSQL compresses rows of 2,032 bytes or more, to 800 bytes; a row of 1,900 bytes is stored as it is. So shorter
# texts are padded with blanks, which have no meaning in JSON. The shortest would gain nothing.
_COMPRESSED_FROM = 2_048
_WORTH_COMPRESSING = 700
_TYPE = DagsterEventType.ASSET_MATERIALIZATION.value
# The errors that appear when a part of Dagster that is not public was removed or changed.
_NOT_AS_KNOWN = (AttributeError, TypeError, KeyError, ValueError, IndexError)

Text = Callable[[Any], str]


def batch_rows(
    events: Sequence[EventLogEntry],
    row_of: Callable[[EventLogEntry], dict[str, Any]],
    timestamp_of: Callable[[EventLogEntry], Any],
) -> list[dict[str, Any]]:
    """Return one row per event, as `row_of` makes them.

    `timestamp_of` returns the column `timestamp` of an event.
    """
    try:
        texts = _texts(events)
    except _NOT_AS_KNOWN:
        texts = None
    if texts is None:
        return [row_of(event) for event in events]
    first = row_of(events[0])
    rows = [
        {
            **first,
            "event": compressible(text),
            "partition": _materialization(event).partition,
            "timestamp": timestamp_of(event),
        }
        for event, text in zip(events, texts, strict=True)
    ]
    for place in {0, len(events) // 2, len(events) - 1}:
        if rows[place] != row_of(events[place]):
            return [row_of(event) for event in events]
    return rows


def compressible(text: str) -> str:
    """Return the text of an event, padded with as many blanks as PostgreSQL needs to compress it."""
    return text.ljust(_COMPRESSED_FROM) if len(text) > _WORTH_COMPRESSING else text


def _materialization(event: EventLogEntry) -> Any:
    return event.dagster_event.event_specific_data.materialization  # type: ignore[union-attr]


def _texts(events: Sequence[EventLogEntry]) -> list[str] | None:
    """Return the serialized events; None when they are not alike enough."""
    if len(events) < _LEAST_EVENTS or events[0].dagster_event is None:
        return None
    alike = _alike(events[0])
    if alike is None or any(_alike(event) != alike for event in events):
        return None
    fill = _template(events[0])
    return [fill(event) for event in events]


def _alike(event: EventLogEntry) -> tuple[Any, ...] | None:
    """Return what must be equal in all events of a batch; None when the event is not a materialization."""
    inner = event.dagster_event
    if inner is None or inner.event_type_value != _TYPE:
        return None
    data: Any = inner.event_specific_data
    made = data.materialization
    return (
        *(event.run_id, event.level, event.step_key, event.job_name, event.user_message, event.error_info),
        *(inner.job_name, inner.step_handle, inner.node_handle, inner.step_kind_value, inner.message, inner.pid),
        *(inner.logging_tags, data.asset_lineage, made.asset_key, made.description),
    )


def _template(event: EventLogEntry) -> Callable[[EventLogEntry], str]:
    """Return a function that serializes events that share everything but partition, tags, metadata and time."""
    whole = json.loads(serialize_value(event))
    made = whole["dagster_event"]["event_specific_data"]["materialization"]
    entries = made["metadata_entries"]
    begin, partition, tags, end, last = _split(
        whole, (made, "metadata_entries"), (made, "partition"), (made, "tags"), (whole, "timestamp")
    )
    before, between, after = _split(entries[0], (entries[0], "entry_data"), (entries[0], "label"))
    values: dict[type, Text] = {}
    labels: dict[str, str] = {}

    def entry(name: str, value: Any) -> str:
        kind = type(value)
        text = values.get(kind) or values.setdefault(kind, _text_of(value))
        label = labels.get(name) or labels.setdefault(name, _written(name))
        return f"{before}{text(value)}{between}{label}{after}"

    def fill(event: EventLogEntry) -> str:
        mine = _materialization(event)
        listed = ", ".join(entry(name, value) for name, value in mine.metadata.items())
        return (
            f"{begin}[{listed}]{partition}{_written(mine.partition)}{tags}{_written_sorted(mine.tags)}{end}"
            f"{_written(event.timestamp)}{last}"
        )

    return fill


def _split(whole: Any, *places: tuple[dict[str, Any], str]) -> list[str]:
    """Return the pieces of the text of `whole` around the values at `places`, in their order."""
    marks = [f"@{number}@ema-assets" for number in range(len(places))]
    for (parent, key), mark in zip(places, marks, strict=True):
        parent[key] = mark
    rest, parts = json.dumps(whole), []
    for mark in marks:
        part, rest = rest.split(f'"{mark}"')
        parts.append(part)
    return [*parts, rest]


def _text_of(value: Any) -> Text:
    """Return a function that serializes values of this class: most are a number or text with their class's name."""
    packed = json.loads(serialize_value(value))
    fields = [name for name in packed if name != "__class__"]
    if len(fields) != 1 or packed[fields[0]] != value.value:
        return serialize_value
    before, after = _split(packed, (packed, fields[0]))
    return lambda value: f"{before}{_written(value.value)}{after}"


_written_sorted = json.JSONEncoder(sort_keys=True).encode


def _written(value: Any) -> str:
    """Return `value` as `json.dumps` writes it, which takes ten times as long for a number."""
    kind = type(value)
    if kind is str:
        return json.encoder.encode_basestring_ascii(value)
    if kind is int or (kind is float and math.isfinite(value)):
        return repr(value)
    return json.dumps(value)


def tag_rows(
    events: Sequence[EventLogEntry],
    event_ids: Sequence[int],
    tags_of: Callable[[EventLogEntry], Mapping[str, str]],
    timestamp_of: Callable[[EventLogEntry], Any],
) -> tuple[list[dict[str, Any]], dict[tuple[str, str | None], int]]:
    """Return a row per tag of each event, and the event ids by asset key and partition.

    `tags_of` returns the tags of an event that are stored. It is not asked about events whose tags have the keys of an
    event before.
    """
    rows: list[dict[str, Any]] = []
    ids: dict[tuple[str, str | None], int] = {}
    names: dict[Any, str] = {}
    stored: dict[tuple[str, ...], tuple[str, ...]] = {}
    for event_id, event in zip(event_ids, events, strict=True):
        inner: Any = event.dagster_event
        made = inner.event_specific_data.materialization if inner.event_type_value == _TYPE else None
        if made is None:
            asset_key, partition, tags = inner.asset_key, inner.partition, tags_of(event)
        else:
            asset_key, partition, every = made.asset_key, made.partition, made.tags or {}
            keys = tuple(every)
            if keys not in stored:
                stored[keys] = tuple(tags_of(event))
            tags = {key: every[key] for key in stored[keys]}
        name = names.get(asset_key) or names.setdefault(asset_key, asset_key.to_string())
        timestamp = timestamp_of(event)
        rows += [
            {"event_id": event_id, "asset_key": name, "key": key, "value": value, "event_timestamp": timestamp}
            for key, value in tags.items()
        ]
        ids[name, partition] = event_id
    return rows, ids


def check_row(event: EventLogEntry, event_id: int, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row that Dagster keeps of the result of a check in a run, in addition to that of its event."""
    found = event.get_dagster_event().asset_check_evaluation_data
    status = AssetCheckExecutionRecordStatus.SUCCEEDED if found.passed else AssetCheckExecutionRecordStatus.FAILED
    target = found.target_materialization_data
    return {
        "asset_key": found.asset_key.to_string(),
        "check_name": found.check_name,
        "run_id": event.run_id,
        "partition": found.partition,
        "execution_status": status.value,
        "evaluation_event": row["event"],
        "evaluation_event_timestamp": row["timestamp"],
        "evaluation_event_storage_id": event_id,
        "materialization_event_storage_id": target.storage_id if target else None,
    }
