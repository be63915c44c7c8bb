"""Dagster's own storage in the project's Postgres, found the way the rest of the project finds it.

`dagster.yaml` names this class. It takes no configuration: the URL comes from EMA_DATABASE_URL or from the embedded
server, is turned into the form Dagster needs, and the schemas are created before Dagster looks for its tables.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from threading import Lock
from typing import Any

import sqlalchemy
from dagster import (
    AssetCheckKey,
    AssetKey,
    DagsterEventType,
    DagsterRun,
    EventLogEntry,
    PartitionsDefinition,
    partition_loading_context,
)
from dagster._core.events import ASSET_CHECK_EVENTS, ASSET_EVENTS
from dagster._core.instance import RUNLESS_RUN_ID
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    AssetEventTagsTable,
    SqlEventLogStorageTable,
)
from dagster._serdes import ConfigurableClassData
from dagster_postgres import (
    DagsterPostgresStorage,
    PostgresEventLogStorage,
    PostgresRunStorage,
    PostgresScheduleStorage,
)
from sqlalchemy.dialects.postgresql import ARRAY

from ema_assets.config.settings import Settings
from ema_assets.defs import backfill_looks, backfills, input_versions
from ema_assets.defs.event_rows import Made, check_row, compressible, materialization_rows, tag_rows
from ema_assets.defs.kept_connections import ForWebserver, new_engine
from ema_assets.defs.namespace import ALONE
from ema_assets.model.errors import InvalidKeyError
from ema_assets.model.symbols import Series
from ema_assets.model.urls import dagster_url
from ema_assets.runtime.locate import leased_database
from ema_assets.store import ledger
from ema_assets.store.database import Database, Transaction
from ema_assets.store.migrations import migrate
from ema_assets.store.poolers import check_direct

# How long the existence of a partition is remembered, and of how many partitions.
_SEEN_SECONDS, _PARTITIONS_KEPT = 5.0, 1000


class MarketPostgresStorage(DagsterPostgresStorage):
    """DagsterPostgresStorage on the database of this project, in the schema `dagster`, with pooled connections."""

    @classmethod
    def config_type(cls) -> Any:
        """Return no options."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, _config_value: Any) -> "MarketPostgresStorage":
        """Make a storage. Called by Dagster for each of its instances: a code location's process makes one per tick."""
        url = leased_database(Settings.from_env())
        with _lock:
            engine = _engines.get(url)
            if engine is None:
                check_direct(url)
                migrate(url)
                _seen.clear()
                _partitions_seen.clear()
            # Looking for tables costs three connections and three catalog queries; once per process is enough.
            storage = cls(postgres_url=dagster_url(url), should_autocreate_tables=engine is None, inst_data=inst_data)
            if engine is None:
                engine = new_engine(storage.postgres_url)
                for other in _engines.values():
                    other.dispose()
                _engines.clear()
                _engines[url] = engine
        storage._event_log_storage = MarketEventLog(storage.postgres_url, should_autocreate_tables=False)
        storage._run_storage = MarketRuns(storage.postgres_url, should_autocreate_tables=False)
        storage._schedule_storage = MarketSchedules(storage.postgres_url, should_autocreate_tables=False)
        # Every instance has a storage, including the daemon's.
        backfills.install()
        backfill_looks.install()
        input_versions.install()
        parts: tuple[Any, ...] = (storage.event_log_storage, storage.run_storage, storage.schedule_storage)
        for part in parts:
            part._engine = engine  # noqa: SLF001 - there is no public way; a test watches over it
        return storage


class MarketRuns(ForWebserver, PostgresRunStorage):
    """Dagster's run storage. Runs that a person launches are stored with their lane and their chosen partitions."""

    def add_run(self, dagster_run: DagsterRun) -> DagsterRun:
        """Add a run, with its lane and chosen partitions."""
        parent_id = dagster_run.parent_run_id
        parent = None if parent_id is None else self._get_run_by_id(parent_id)
        return backfills.as_planned(super().add_run(backfills.as_stored(dagster_run, parent)))

    # Dagster calls these for every run that is created, read or changed, each time with a catalog query that takes
    # longer than what it is needed for. A column that exists will not disappear.

    def has_run_stats_index_cols(self) -> bool:
        """Return Dagster's answer; a yes is remembered."""
        return _stays("column runs.start_time", super().has_run_stats_index_cols)

    def has_backfill_id_column(self) -> bool:
        """Return Dagster's answer; a yes is remembered."""
        return _stays("column runs.backfill_id", super().has_backfill_id_column)


class MarketSchedules(ForWebserver, PostgresScheduleStorage):
    """Dagster's storage of schedules and sensors.

    Each look at one asks two questions, a thousand times in five minutes.
    """

    def _has_instigators_table(self, conn: sqlalchemy.Connection) -> bool:
        return _stays("table instigators", super()._has_instigators_table, conn)

    def has_instigators_table(self) -> bool:
        """Return Dagster's answer; a yes is remembered."""
        return _stays("table instigators", super().has_instigators_table)

    def has_built_index(self, migration_name: str) -> bool:
        """Return Dagster's answer; a yes is remembered."""
        return _stays(f"index {migration_name}", super().has_built_index, migration_name)


class MarketEventLog(ForWebserver, PostgresEventLogStorage):
    """Dagster's event log, with cheaper statements where a run of many partitions spends its time."""

    def has_table(self, table_name: str) -> bool:
        """Return Dagster's answer; a yes is remembered. Called before most statements."""
        return _stays(f"table {table_name}", super().has_table, table_name)

    def has_asset_key_col(self, column_name: str) -> bool:
        """Return Dagster's answer; a yes is remembered. Called three times in every step."""
        return _stays(f"column asset_keys.{column_name}", super().has_asset_key_col, column_name)

    def has_dynamic_partition(self, partitions_def_name: str, partition_key: str) -> bool:
        """Return Dagster's answer; a yes holds for _SEEN_SECONDS.

        Called six times in every step, for both ends of its range.
        """
        key, now = (partitions_def_name, partition_key), time.monotonic()
        if now - _partitions_seen.get(key, -_SEEN_SECONDS) < _SEEN_SECONDS:
            return True
        found = super().has_dynamic_partition(partitions_def_name, partition_key)
        if found:
            if len(_partitions_seen) >= _PARTITIONS_KEPT:
                _partitions_seen.clear()
            _partitions_seen[key] = now
        return found

    def get_dynamic_partitions(self, partitions_def_name: str) -> Sequence[str]:
        """Return Dagster's answer; within a run it holds for _SEEN_SECONDS. Called three times in every step."""
        held = _held.get()
        if held is None:
            return super().get_dynamic_partitions(partitions_def_name)
        found_at, found = held.get(partitions_def_name, (-_SEEN_SECONDS, ()))
        if (now := time.monotonic()) - found_at >= _SEEN_SECONDS:
            found = super().get_dynamic_partitions(partitions_def_name)
            held[partitions_def_name] = now, found
        return list(found)

    def delete_dynamic_partition(self, partitions_def_name: str, partition_key: str) -> None:
        """Delete a partition, and forget which partitions were seen."""
        super().delete_dynamic_partition(partitions_def_name, partition_key)
        _partitions_seen.clear()

    def wipe_asset(self, asset_key: AssetKey) -> None:
        """Wipe an asset as Dagster does. The next runs report its series again, although these are computed already.

        The ledger is told before, because a failure must not leave an asset wiped that nobody reports again, and after,
        because of runs that report meanwhile.
        """
        _forget_asset(asset_key)
        super().wipe_asset(asset_key)
        _forget_asset(asset_key)

    def delete_events(self, run_id: str) -> None:
        """Delete the events of a run. The next runs report again the series that only this run had reported."""
        with _ledger() as transaction:
            ledger.forget_run(transaction, run_id)
        super().delete_events(run_id)

    def get_asset_check_state(self, keys: Sequence[tuple[AssetCheckKey, PartitionsDefinition[Any] | None]]) -> Any:
        """Return Dagster's answer.

        Without this context, Dagster cannot list dynamic partitions and the page shows an error.
        """
        with partition_loading_context(dynamic_partitions_store=self._instance):
            return super().get_asset_check_state(keys)

    def _event_to_row(self, event: EventLogEntry) -> dict[str, Any]:
        row = super()._event_to_row(event)
        return {**row, "event": compressible(row["event"])}

    def store_event(self, event: EventLogEntry) -> None:
        """Store an event as Dagster does, by a statement that is built once and without a NOTIFY that nobody hears."""
        with self._connect() as connection:
            event_id = connection.execute(_INSERT_EVENT, self._event_to_row(event)).scalar_one()
        inner = event.dagster_event
        if inner is None:
            return
        if inner.event_type in ASSET_EVENTS and inner.asset_key:
            with self.index_transaction() as connection:
                self._store_asset_event_tags(connection, [event], [event_id])
                self._store_asset_event(connection, event, event_id)
            if event.run_id == RUNLESS_RUN_ID and inner.is_step_materialization:
                _tell_again(inner.asset_key, inner.partition)
        if inner.event_type in ASSET_CHECK_EVENTS:
            self.store_asset_check_event(event, event_id)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store events as Dagster does; results of checks, which a run logs together, are stored as one batch, too."""
        if any(event.dagster_event_type is not DagsterEventType.ASSET_CHECK_EVALUATION for event in events):
            super().store_event_batch(events)
            return
        stored = [self._event_to_row(event) for event in events]
        with self.index_transaction() as connection:
            ids = connection.execute(_insert_events(stored)).scalars()
            rows = [check_row(*each) for each in zip(events, ids, stored, strict=True)]
            planned = {tuple(row) for row in connection.execute(_update_checks(rows))}
            if new := [row for row in rows if tuple(row[name] for name in _CHECK_KEY) not in planned]:
                connection.execute(_insert(AssetCheckExecutionsTable, new))

    def store_materializations(self, made: Sequence[Made], event_of: Callable[[Made], EventLogEntry]) -> list[int]:
        """Store the materializations of one asset that `event_of` makes of `made`, at least one; return their ids.

        The tables are then as after `store_event_batch`, for which Dagster makes, checks and packs each event.
        """
        rows = materialization_rows(made, event_of, self._event_to_row)
        with self._connect() as connection:
            ids = list(connection.execute(_insert_events(rows)).scalars())
        with self.index_transaction() as connection:
            if tags := tag_rows(made, rows, ids, self.get_asset_tags_to_index):
                connection.execute(_insert(AssetEventTagsTable, tags))
            self._store_asset_event(connection, event_of(made[-1]), ids[-1])
        return ids


@contextmanager
def _ledger() -> Iterator[Transaction]:
    with Database(leased_database(Settings.from_env())) as database, database.transaction() as transaction:
        yield transaction


def _forget_asset(key: AssetKey) -> None:
    if (asset := ALONE.asset_of(key)) is not None:
        with _ledger() as transaction:
            ledger.forget_asset(transaction, asset)


def _tell_again(asset: AssetKey, partition: str | None) -> None:
    """Make the next run report a partition again that a person has reported by hand, which changed nothing about it."""
    if (name := ALONE.asset_of(asset)) is None:
        return
    with suppress(InvalidKeyError), _ledger() as transaction:
        series = Series.parse(partition or "")
        ledger.forget_series(transaction, name, series.symbol, series.timeframe.key)


# The partitions of a definition and when they were read, within a run.
_held: ContextVar[dict[str, tuple[float, Sequence[str]]] | None] = ContextVar("held", default=None)


@contextmanager
def held_partitions() -> Iterator[None]:
    """Make this thread read partitions once per _SEEN_SECONDS within the block.

    For a run, whose partitions are fixed.
    """
    token = _held.set({})
    try:
        yield
    finally:
        _held.reset(token)


def _stays(what: str, ask: Callable[..., bool], *given: Any) -> bool:
    """Return whether `what`, a part of Dagster's schema, exists: call `ask` with `given` until it answers yes."""
    if what not in _seen and ask(*given):
        _seen.add(what)
    return what in _seen


_INSERT_EVENT = SqlEventLogStorageTable.insert().returning(SqlEventLogStorageTable.c.id)
# The columns that identify the row of a check that was planned with its run.
_CHECK_KEY = ("asset_key", "check_name", "run_id", "partition")


def _given(table: sqlalchemy.Table, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Any:
    """Return columns of `rows`, which `table` has, too, as a table expression with an additional `position`."""
    arrays = [sqlalchemy.cast([row[name] for row in rows], ARRAY(table.c[name].type)) for name in names]
    return sqlalchemy.func.unnest(*arrays).table_valued(*names, with_ordinality="position").render_derived()


def _insert(table: sqlalchemy.Table, rows: Sequence[Mapping[str, Any]]) -> sqlalchemy.Insert:
    """Return a statement that inserts `rows`, all with the same columns, in their order.

    A value that all rows share is sent once. For 1,000 events that is half of the time in which the statement is made.
    """
    first = rows[0]
    differing = [name for name in first if any(row[name] != first[name] for row in rows)] or list(first)
    given = _given(table, rows, differing)
    values = [
        given.c[name] if name in differing else sqlalchemy.literal(first[name], table.c[name].type) for name in first
    ]
    ordered = sqlalchemy.select(*values).order_by(given.c.position)
    return table.insert().from_select([table.c[name] for name in first], ordered)


def _insert_events(rows: Sequence[Mapping[str, Any]]) -> Any:
    return _insert(SqlEventLogStorageTable, rows).returning(SqlEventLogStorageTable.c.id)


def _update_checks(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return a statement that updates those of `rows` that were planned, and returns their keys."""
    table = AssetCheckExecutionsTable
    given = _given(table, rows, list(rows[0]))
    is_it = [table.c[name].is_not_distinct_from(given.c[name]) for name in _CHECK_KEY[-1:]]
    is_it += [table.c[name] == given.c[name] for name in _CHECK_KEY[:-1]]
    changes = {name: given.c[name] for name in rows[0] if name not in _CHECK_KEY}
    return table.update().where(*is_it).values(changes).returning(*(table.c[name] for name in _CHECK_KEY))


# Shared by all instances of this process, by URL. One engine is enough: only tests change the database.
_engines: dict[str, sqlalchemy.Engine] = {}
_seen: set[str] = set()
_partitions_seen: dict[tuple[str, str], float] = {}
_lock = Lock()
