"""Rows of Dagster's event log and its tags, for batches of materializations that differ in little.

Dagster makes, checks and packs every object of every event: in a run over 1,000 symbols that was a third of the time.
Here Dagster makes the first event of a batch, and the others are its text with their own partition, tags, metadata and
time. They must equal Dagster's texts to the letter, which is checked on some events of each batch. When they do not,
Dagster makes all.
"""

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from dagster import EventLogEntry, MetadataValue
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._serdes import serialize_value

# A batch this small is not worth a template.
_LEAST_EVENTS = 4
# PostgreSQL compresses rows of 2,032 bytes or more, to 800 bytes; a row of 1,900 bytes is stored as it is. So shorter
# texts are padded with blanks, which have no meaning in JSON. The shortest would gain nothing.
_COMPRESSED_FROM = 2_048
_WORTH_COMPRESSING = 700
# The errors that appear when a part of Dagster that is not public was removed or changed.
_NOT_AS_KNOWN = (AttributeError, TypeError, KeyError, ValueError, IndexError)
# What Dagster makes of plain metadata, by class.
_METADATA: Mapping[type, Callable[[Any], MetadataValue[Any]]] = {
    str: MetadataValue.text,
    int: MetadataValue.int,
    float: MetadataValue.float,
    bool: MetadataValue.bool,
}

Row = dict[str, Any]
Text = Callable[[Any], str]


class Made(NamedTuple):
    """What is told of one materialized partition: its key, metadata, Dagster's tags, and when, in epoch seconds."""

    partition: str
    metadata: Mapping[str, Any]
    tags: Mapping[str, str]
    seconds: float = 0.0


def materialization_rows(
    made: Sequence[Made], event_of: Callable[[Made], EventLogEntry], row_of: Callable[[EventLogEntry], Row]
) -> list[Row]:
    """Return the row of the event of each of `made`, which are of one asset.

    `event_of` returns Dagster's event of one of them, and `row_of` the row that Dagster makes of an event.
    """
    if len(made) >= _LEAST_EVENTS:
        try:
            rows = _alike(made, event_of(made[0]), row_of)
        except _NOT_AS_KNOWN:
            rows = []
        if rows and all(rows[place] == row_of(event_of(made[place])) for place in (0, len(made) // 2, -1)):
            return rows
    return [row_of(event_of(each)) for each in made]


def _alike(made: Sequence[Made], event: EventLogEntry, row_of: Callable[[EventLogEntry], Row]) -> list[Row]:
    """Return the rows of `made` by the `event` of the first one."""
    row, text = row_of(event), _template(event)
    return [
        {
            **row,
            "event": compressible(text(each)),
            "partition": each.partition,
            "timestamp": datetime.fromtimestamp(each.seconds, UTC).replace(tzinfo=None),
        }
        for each in made
    ]


def compressible(text: str) -> str:
    """Return the text of an event, padded with as many blanks as PostgreSQL needs to compress it."""
    return text.ljust(_COMPRESSED_FROM) if len(text) > _WORTH_COMPRESSING else text


def _template(event: EventLogEntry) -> Callable[[Made], str]:
    """Return a function that serializes the events of a batch, of which `event` is one with metadata."""
    whole = json.loads(serialize_value(event))
    made = whole["dagster_event"]["event_specific_data"]["materialization"]
    metadata_text, tags_text = _metadata_text(made["metadata_entries"][0]), _tags_text()
    begin, partition, tags, end, last = _split(
        whole, (made, "metadata_entries"), (made, "partition"), (made, "tags"), (whole, "timestamp")
    )

    def text(each: Made) -> str:
        return (
            f"{begin}{metadata_text(each.metadata)}{partition}{_written(each.partition)}{tags}{tags_text(each.tags)}"
            f"{end}{_written(each.seconds)}{last}"
        )

    return text


def _metadata_text(entry: dict[str, Any]) -> Callable[[Mapping[str, Any]], str]:
    """Return a function that serializes the metadata of an event, of which `entry` is one as Dagster packs it."""
    before, between, after = _split(entry, (entry, "entry_data"), (entry, "label"))
    # What stands before and after a value, by its label and class, and how it is written itself.
    around: dict[tuple[str, type], tuple[str, Text, str]] = {}

    def known(name: str, value: Any) -> tuple[str, Text, str]:
        begin, written, end = _value_text(value)
        around[name, type(value)] = found = f"{before}{begin}", written, f"{end}{between}{_written(name)}{after}"
        return found

    def text(metadata: Mapping[str, Any]) -> str:
        entries = []
        for name, value in metadata.items():
            begin, written, end = around.get((name, type(value))) or known(name, value)
            entries.append(f"{begin}{written(value)}{end}")
        return f"[{', '.join(entries)}]"

    return text


def _value_text(value: Any) -> tuple[str, Text, str]:
    """Return how metadata of the class of `value` is packed: what stands before it, it, and what stands behind it.

    Most are a number or text with the name of their class in Dagster.
    """
    plain = _METADATA.get(type(value))
    whole: Any = value if plain is None else plain(value)
    packed = json.loads(serialize_value(whole))
    fields = [name for name in packed if name != "__class__"]
    if len(fields) != 1 or packed[fields[0]] != whole.value:
        return "", serialize_value, ""
    before, after = _split(packed, (packed, fields[0]))
    return before, _written if plain is not None else lambda value: _written(value.value), after


def _tags_text() -> Callable[[Mapping[str, str]], str]:
    """Return a function that serializes the tags of an event."""
    leads: dict[tuple[str, ...], list[tuple[str, str]]] = {}

    def text(tags: Mapping[str, str]) -> str:
        keys = tuple(tags)
        if keys not in leads:
            leads[keys] = [(f"{_written(key)}: ", key) for key in sorted(keys)]
        return f"{{{', '.join([lead + _written(tags[key]) for lead, key in leads[keys]])}}}"

    return text


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


def _written(value: Any) -> str:
    """Return `value` as `json.dumps` writes it, which takes ten times as long for a number."""
    kind = type(value)
    if kind is str:
        return json.encoder.encode_basestring_ascii(value)
    if kind is int or (kind is float and math.isfinite(value)):
        return repr(value)
    return json.dumps(value)


def tag_rows(
    made: Sequence[Made], rows: Sequence[Row], ids: Sequence[int], stored: Callable[[set[str]], Collection[str]]
) -> list[Row]:
    """Return a row per stored tag of the events of `made`, given their `rows` and `ids`.

    `stored` returns which of some keys of tags are stored.
    """
    keys: dict[tuple[str, ...], Collection[str]] = {}
    found = []
    for each, row, event_id in zip(made, rows, ids, strict=True):
        every = tuple(each.tags)
        if every not in keys:
            keys[every] = stored(set(every))
        found += [
            {
                "event_id": event_id,
                "asset_key": row["asset_key"],
                "key": key,
                "value": each.tags[key],
                "event_timestamp": row["timestamp"],
            }
            for key in keys[every]
        ]
    return found


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
