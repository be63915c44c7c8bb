"""Tests of the rows of a batch of events: they equal Dagster's rows, and most are made without Dagster."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from dagster import AssetKey, AssetMaterialization, DagsterEvent, DagsterEventType, EventLogEntry, MetadataValue
from dagster._core.definitions.dependency import NodeHandle
from dagster._core.events import StepMaterializationData
from dagster._serdes import deserialize_value, serialize_value

from ema_assets.defs.event_rows import batch_rows, compressible, tag_rows
from ema_assets.defs.recording import Made, materializations_of
from ema_assets.store.database import Database

RUN_ID = "a" * 36
NOW = datetime(2026, 11, 20, 15, 30, tzinfo=UTC)
# All kinds of metadata that the product writes, and others: quotes, an empty text, a value with several fields.
METADATA: Sequence[dict[str, Any]] = (
    {"rows_written": 1, "last_ts": MetadataValue.timestamp(NOW), "ema_9": 101.25, "chart": MetadataValue.md("![x](<y>)")},
    {"rows_written": 0, "remark": 'a "quoted" text with \\ and ü', "ema_9": float("inf"), "ema 30": 1e-300},
    {},
    {"is_open": True, "nothing": None, "json": {"a": [1, {"b": "@1@ema-assets"}]}, "link": MetadataValue.url("http://x")},
    {"path": MetadataValue.path("/x"), "text": MetadataValue.text("")},
)  # fmt: skip


def event(number: int, metadata: dict[str, Any], **changes: Any) -> EventLogEntry:
    made = AssetMaterialization(
        AssetKey("ohlc"),
        partition=f'S"{number}\\|5m',
        metadata=metadata,
        tags={"dagster/data_version": str(number), "dagster/code_version": "1"} if number % 2 else {},
    )
    given = {"job_name": "refresh", "user_message": "materialized", "step_key": "ohlc", "pid": 7, **changes}
    pid = given.pop("pid")
    return EventLogEntry(
        error_info=None,
        level=10,
        run_id=RUN_ID,
        timestamp=1_763_000_000.123 + number / 1000,
        dagster_event=DagsterEvent(
            event_type_value=DagsterEventType.ASSET_MATERIALIZATION.value,
            job_name=given["job_name"],
            step_handle=None,
            node_handle=NodeHandle("ohlc", None),
            step_kind_value="COMPUTE",
            logging_tags={},
            event_specific_data=StepMaterializationData(made, []),
            message="materialized",
            pid=pid,
        ),
        **given,
    )


class Dagster:
    """Makes rows as Dagster does, and counts them."""

    def __init__(self) -> None:
        self.made = 0

    def timestamp_of(self, entry: EventLogEntry) -> datetime:
        return datetime.fromtimestamp(entry.timestamp, UTC).replace(tzinfo=None)

    def row_of(self, entry: EventLogEntry) -> dict[str, Any]:
        self.made += 1
        inner = entry.get_dagster_event()
        return {
            "run_id": entry.run_id,
            "event": compressible(serialize_value(entry)),
            "timestamp": self.timestamp_of(entry),
            "partition": inner.partition,
        }

    def rows(self, events: Sequence[EventLogEntry]) -> list[dict[str, Any]]:
        return batch_rows(events, self.row_of, self.timestamp_of)


EVENTS = [event(number, METADATA[number % len(METADATA)]) for number in range(50)]


def test_every_row_of_a_batch_equals_the_row_that_dagster_makes() -> None:
    dagster, reference = Dagster(), Dagster()
    rows = dagster.rows(EVENTS)
    assert rows == [reference.row_of(each) for each in EVENTS]
    assert dagster.made == 4
    read = deserialize_value(rows[21]["event"], EventLogEntry)
    assert read.asset_materialization == EVENTS[21].asset_materialization


def test_events_are_stored_compressed(database: Database) -> None:
    texts = [row["event"] for row in Dagster().rows(EVENTS)]
    with database.transaction() as transaction:
        transaction.execute("CREATE TEMPORARY TABLE event_log (event text NOT NULL)")
        transaction.execute("INSERT INTO event_log SELECT unnest($1::text[])", texts)
        most = transaction.query(
            "SELECT max(pg_column_size(event)) AS bytes, min(length(event)) AS size FROM event_log"
        )
    assert most["size"].item() >= 2_048
    assert most["bytes"].item() < 1_024


@pytest.mark.parametrize(
    "events",
    [
        EVENTS[:3],
        [*EVENTS, event(50, METADATA[0], pid=8)],
        [*EVENTS, event(50, METADATA[0], user_message="another")],
        # The first event has no metadata, so it cannot be the template.
        [EVENTS[2], *EVENTS],
        [],
    ],
    ids=["few", "another process", "another message", "no metadata", "none"],
)
def test_dagster_makes_the_rows_of_small_batches_and_of_events_that_differ(events: list[EventLogEntry]) -> None:
    dagster, reference = Dagster(), Dagster()
    assert dagster.rows(events) == [reference.row_of(each) for each in events]
    assert dagster.made == len(events)


def test_dagster_makes_all_rows_when_its_text_differs_from_ours() -> None:
    class Newer(Dagster):
        def row_of(self, entry: EventLogEntry) -> dict[str, Any]:
            return {
                **super().row_of(entry),
                "event": compressible(serialize_value(entry).replace("AssetKey", "NewAssetKey")),
            }

    newer = Newer()
    assert newer.rows(EVENTS) == [Newer().row_of(each) for each in EVENTS]
    assert newer.made > len(EVENTS)


def made_by_dagster(each: Made) -> AssetMaterialization:
    return AssetMaterialization(AssetKey("rsi"), partition=each.partition, metadata=each.metadata, tags=each.tags)


TOLD = [Made(f"S{number}|5m", METADATA[number % 2], {"dagster/data_version": str(number)}) for number in range(20)]


@pytest.mark.parametrize(
    "told",
    [
        [*TOLD, Made("S|5m", {"is_open": True}, {})],
        TOLD[:1],
        [*TOLD, Made("S|5m", METADATA[3], {}), TOLD[0]],
        [*TOLD, Made("S|5m", {"ema_9": math.nan}, {})],
    ],
    ids=["usual metadata", "one", "unusual metadata", "not equal to itself"],
)
def test_materializations_equal_those_that_dagster_makes(told: list[Made]) -> None:
    found = materializations_of(AssetKey("rsi"), told)
    assert [serialize_value(each) for each in found] == [serialize_value(made_by_dagster(each)) for each in told]


def test_dagster_makes_each_materialization_where_it_changes_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    new = AssetMaterialization.__new__

    def described(cls: type, *given: Any, **named: Any) -> AssetMaterialization:
        return new(cls, *given, **{**named, "description": f"of {named['partition']}"})

    monkeypatch.setattr(AssetMaterialization, "__new__", described)
    found = materializations_of(AssetKey("rsi"), TOLD)
    assert [each.description for each in found] == [f"of {each.partition}" for each in TOLD]


def test_tags_are_stored_as_dagster_stores_those_of_each_event() -> None:
    asked = []

    def tags_of(entry: EventLogEntry) -> dict[str, str]:
        asked.append(entry)
        tags = entry.get_dagster_event().step_materialization_data.materialization.tags or {}
        return {key: value for key, value in tags.items() if key == "dagster/data_version"}

    rows, ids = tag_rows(EVENTS, range(100, 150), tags_of, lambda entry: entry.timestamp)
    assert len(asked) == 2
    assert [(row["event_id"], row["key"], row["value"], row["event_timestamp"]) for row in rows] == [
        (100 + number, "dagster/data_version", str(number), EVENTS[number].timestamp) for number in range(1, 50, 2)
    ]
    assert {row["asset_key"] for row in rows} == {'["ohlc"]'}
    assert ids == {('["ohlc"]', f'S"{number}\\|5m'): 100 + number for number in range(50)}
