"""Tests of the rows of a batch of events: they equal Dagster's rows, and most are made without Dagster."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from dagster import AssetKey, AssetMaterialization, DagsterEvent, DagsterEventType, EventLogEntry, MetadataValue
from dagster._core.definitions.dependency import NodeHandle
from dagster._core.events import StepMaterializationData
from dagster._serdes import deserialize_value, serialize_value

from ema_assets.defs.event_rows import Made, compressible, materialization_rows, tag_rows
from ema_assets.store.database import Database

NOW = datetime(2026, 11, 20, 15, 30, tzinfo=UTC)
# All kinds of metadata that the product writes, and others: quotes, an empty text, a value with several fields.
USUAL: Sequence[dict[str, Any]] = (
    {"rows_written": 1, "last_ts": MetadataValue.timestamp(NOW), "ema_9": 101.25, "chart": MetadataValue.md("![x](<y>)")},
    {"rows_written": 0, "remark": 'a "quoted" text with \\ and ü', "ema_9": float("inf"), "ema 30": 1e-300},
    {},
    {"is_open": True, "json": MetadataValue.json({"a": [1, {"b": "@1@ema-assets"}]}), "link": MetadataValue.url("http://x")},
    {"path": MetadataValue.path("/x"), "text": MetadataValue.text(""), "ema_9": math.nan, "rows_written": 1.0},
    {"asset": MetadataValue.asset(AssetKey(["a", "b"])), "job": MetadataValue.job("a job", "a location")},
)  # fmt: skip


def made(number: int, metadata: dict[str, Any]) -> Made:
    tags = {"dagster/data_version": str(number), "dagster/code_version": "1"} if number % 2 else {}
    return Made(f'S"{number}\\|5m', metadata, tags, 1_763_000_000.123 + number / 1000)


MADE = [made(number, USUAL[number % len(USUAL)]) for number in range(50)]


def materialization(each: Made) -> AssetMaterialization:
    return AssetMaterialization(AssetKey("ohlc"), partition=each.partition, metadata=each.metadata, tags=each.tags)


@dataclass
class Dagster:
    """Makes events and rows as Dagster does, and counts the rows."""

    rows_made: int = 0

    def event_of(self, each: Made) -> EventLogEntry:
        return EventLogEntry(
            error_info=None,
            level=10,
            user_message="materialized",
            run_id="a" * 36,
            timestamp=each.seconds,
            step_key="ohlc",
            job_name="refresh",
            dagster_event=DagsterEvent(
                event_type_value=DagsterEventType.ASSET_MATERIALIZATION.value,
                job_name="refresh",
                step_handle=None,
                node_handle=NodeHandle("ohlc", None),
                step_kind_value="COMPUTE",
                logging_tags={},
                event_specific_data=StepMaterializationData(materialization(each), []),
                message="materialized",
                pid=7,
            ),
        )

    def row_of(self, entry: EventLogEntry) -> dict[str, Any]:
        self.rows_made += 1
        return {
            "run_id": entry.run_id,
            "event": compressible(serialize_value(entry)),
            "timestamp": datetime.fromtimestamp(entry.timestamp, UTC).replace(tzinfo=None),
            "asset_key": '["ohlc"]',
            "partition": entry.get_dagster_event().partition,
        }

    def rows(self, batch: Sequence[Made]) -> list[dict[str, Any]]:
        return materialization_rows(batch, self.event_of, self.row_of)

    def rows_one_by_one(self, batch: Sequence[Made]) -> list[dict[str, Any]]:
        return [self.row_of(self.event_of(each)) for each in batch]


def test_every_row_of_a_batch_equals_the_row_that_dagster_makes() -> None:
    dagster = Dagster()
    rows = dagster.rows(MADE)
    assert rows == Dagster().rows_one_by_one(MADE)
    assert dagster.rows_made == 4
    read = deserialize_value(rows[21]["event"], EventLogEntry)
    assert read.asset_materialization == materialization(MADE[21])


def test_events_are_stored_compressed(database: Database) -> None:
    texts = [row["event"] for row in Dagster().rows(MADE)]
    with database.transaction() as transaction:
        transaction.execute("CREATE TEMPORARY TABLE event_log (event text NOT NULL)")
        transaction.execute("INSERT INTO event_log SELECT unnest($1::text[])", texts)
        most = transaction.query(
            "SELECT max(pg_column_size(event)) AS bytes, min(length(event)) AS size FROM event_log"
        )
    assert most["size"].item() >= 2_048
    assert most["bytes"].item() < 1_024


@pytest.mark.parametrize(
    "batch",
    [
        MADE[:3],
        # The first event has no metadata, so it cannot be the template.
        [MADE[2], *MADE],
        [*MADE, made(50, {"nothing": None})],
        [*MADE, made(50, {"plain json": {"a": 1}})],
        [],
    ],
    ids=["few", "no metadata", "nothing", "a list or mapping", "none"],
)
def test_dagster_makes_the_rows_of_small_batches_and_of_unusual_events(batch: list[Made]) -> None:
    dagster = Dagster()
    assert dagster.rows(batch) == Dagster().rows_one_by_one(batch)
    assert dagster.rows_made >= len(batch)


@pytest.mark.parametrize("differs_at", [0, 25, 49])
def test_dagster_makes_all_rows_when_its_text_differs_from_ours(differs_at: int) -> None:
    class Newer(Dagster):
        def row_of(self, entry: EventLogEntry) -> dict[str, Any]:
            row = super().row_of(entry)
            if entry.timestamp == MADE[differs_at].seconds:
                row["event"] = row["event"].replace("AssetKey", "NewAssetKey")
            return row

    newer = Newer()
    assert newer.rows(MADE) == Newer().rows_one_by_one(MADE)
    assert newer.rows_made > len(MADE)


def test_tags_are_stored_as_dagster_stores_those_of_each_event() -> None:
    asked = []

    def stored(keys: set[str]) -> set[str]:
        asked.append(keys)
        return keys & {"dagster/data_version"}

    rows = Dagster().rows(MADE)
    assert tag_rows(MADE, rows, range(100, 150), stored) == [
        {
            "event_id": 100 + number,
            "asset_key": '["ohlc"]',
            "key": "dagster/data_version",
            "value": str(number),
            "event_timestamp": rows[number]["timestamp"],
        }
        for number in range(1, 50, 2)
    ]
    assert asked == [set(), {"dagster/data_version", "dagster/code_version"}]
