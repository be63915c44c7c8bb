"""Tests of Dagster's storage in the project's Postgres: kept connections, events, partitions and roles."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from threading import Barrier
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import pytest
import sqlalchemy
from dagster import (
    AssetCheckEvaluation,
    AssetCheckKey,
    AssetCheckSeverity,
    AssetKey,
    AssetMaterialization,
    DagsterEvent,
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    EventLogEntry,
)
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.events import AssetMaterializationPlannedData, StepMaterializationData
from dagster._core.utils import make_new_run_id
from dagster_postgres import PostgresEventLogStorage, PostgresRunStorage

from ema_assets.defs import run_queue, storage
from ema_assets.defs.event_rows import Made
from ema_assets.defs.recording import target_of
from ema_assets.defs.resources import StoreResource, stand_by
from ema_assets.defs.run_tags import TIMEFRAME_TAG
from ema_assets.defs.storage import MarketEventLog
from ema_assets.model.asset_names import STRATEGY
from ema_assets.model.errors import StoreUnavailable
from ema_assets.model.urls import dagster_url
from ema_assets.store import worker_sessions
from ema_assets.store.roles import METRICS
from ema_assets_tests.conftest import Databases
from ema_assets_tests.defs.conftest import World


def connections(world: World) -> set[int]:
    with world.database.transaction() as transaction:
        found = transaction.query(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    return set(found["pid"])


def end_connections(world: World) -> None:
    """End all connections, as a restart of Postgres does. Return when they have ended."""
    with closing(psycopg2.connect(world.database.url)) as connection, connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT bool_and(pg_terminate_backend(pid, 60000)) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()
            """
        )
        assert cursor.fetchone() == (True,)


@pytest.mark.broad
def test_connections_are_kept_between_statements(world: World) -> None:
    """This test fails when a Dagster upgrade opens a connection per statement, which doubles the time of a run."""
    world.instance.get_dynamic_partitions("symbol")
    world.instance.get_runs(limit=1)
    held = connections(world)
    assert held
    for _ in range(5):
        world.instance.get_dynamic_partitions("symbol")
        world.instance.get_runs(limit=1)
    assert connections(world) == held


@pytest.mark.broad
def test_threads_that_query_at_the_same_time_reuse_their_connections(world: World) -> None:
    """The threads of the daemon do this several times per second."""

    def ask_together(threads: int) -> None:
        at_once = Barrier(threads, timeout=60)

        def ask(_: int) -> None:
            storage: Any = world.instance.run_storage
            with storage.connect() as connection:
                at_once.wait()
                connection.execute(sqlalchemy.text("SELECT 1"))

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(ask, range(threads)))

    ask_together(3)
    held = connections(world)
    ask_together(3)
    assert connections(world) == held


@pytest.mark.broad
def test_all_instances_of_a_process_share_the_connection(world: World) -> None:
    """A code location makes an instance for every tick of a schedule."""
    world.instance.get_runs(limit=1)
    held = connections(world)
    for _ in range(3):
        with DagsterInstance.from_ref(world.instance.get_ref()) as another:
            another.get_runs(limit=1)
            another.get_dynamic_partitions("symbol")
    assert connections(world) == held


def test_the_market_database_is_reused_and_its_count_of_statements_begins_at_zero(world: World) -> None:
    store = StoreResource()
    with store.open() as first, first.transaction() as transaction:
        transaction.query("SELECT 1 AS one")
    with store.open() as second, store.open() as third:
        assert second is first
        assert second.statements == 0
        assert third is not first


@pytest.mark.broad
def test_a_run_reuses_the_connection_of_the_previous_run_under_its_own_name(world: World) -> None:
    """Between runs, the connection has the name of no run, because none is active."""
    stand_by()
    for name in ("ema-assets run one", "ema-assets run two"):
        run = StoreResource()
        run._session_name = name
        held = connections(world)
        with run.open() as database, database.transaction() as transaction:
            assert worker_sessions.living(transaction, ["ema-assets run one", "ema-assets run two"]) == {name}
        assert connections(world) == held
        stand_by()
        with world.database.transaction() as transaction:
            assert worker_sessions.living(transaction, [name]) == set()


@pytest.mark.broad
def test_a_market_connection_that_was_lost_is_replaced(world: World) -> None:
    store = StoreResource()
    with store.open() as database, database.transaction() as transaction:
        transaction.query("SELECT 1 AS one")
    end_connections(world)
    with store.open() as database, database.transaction() as transaction:
        assert transaction.query("SELECT 1 AS one").item() == 1


def test_the_storage_works_after_a_restart_of_postgres(world: World) -> None:
    world.instance.get_dynamic_partitions("symbol")
    end_connections(world)
    assert world.instance.get_dynamic_partitions("symbol") == world.symbols
    assert world.instance.get_runs(limit=1) == []


def test_the_webserver_works_after_a_restart_of_postgres(world: World) -> None:
    """Dagster gives the storage of its webserver connections of its own."""

    def look(instance: DagsterInstance) -> None:
        assert list(instance.get_dynamic_partitions("symbol")) == world.symbols
        assert instance.get_runs(limit=1) == []
        assert list(instance.all_instigator_state()) == []

    with DagsterInstance.from_ref(world.instance.get_ref()) as webserver:
        webserver.optimize_for_webserver(statement_timeout=15_000, pool_recycle=3_600, max_overflow=20)
        look(webserver)
        end_connections(world)
        look(webserver)


@pytest.mark.broad
def test_runs_and_ticks_do_not_query_the_catalog_again(world: World) -> None:
    def make_and_look() -> None:
        # Each call makes an instance, as a tick does.
        with DagsterInstance.from_ref(world.instance.get_ref()) as instance:
            run = instance.add_run(DagsterRun(job_name="refresh", run_id=make_new_run_id()))
            instance.handle_new_event(event_of(run.run_id, DagsterEventType.RUN_START))
            (record,) = instance.get_run_records(limit=1)
            assert instance.all_instigator_state() == []
            assert instance.get_ticks("an origin", "a selector") == []
            instance.purge_ticks("an origin", "a selector", before=0.0)
        assert record.start_time is not None

    make_and_look()
    statements: list[str] = []
    engine: Any = world.instance.run_storage
    listened = engine._engine, "before_cursor_execute", lambda *given: statements.append(given[2])
    sqlalchemy.event.listen(*listened)
    try:
        make_and_look()
    finally:
        sqlalchemy.event.remove(*listened)
    for asked in ("INSERT INTO runs", "FROM instigators", "FROM job_ticks"):
        assert any(asked in statement for statement in statements), asked
    assert [each for each in statements if "pg_catalog" in each or "FROM secondary_indexes" in each] == []


def told() -> list[Made]:
    """Return what is told of partitions. It contains quotes, backslashes and braces, and one of them has no tags."""
    keys = ("A'B|5m", '"C"|5m', "{D,E}|5m", "F\\G|5m", "H|5m")
    tags = {"dagster/data_version": "7", "dagster/partition/symbol": "{'\"\\", "dagster/partition/timeframe": "5m"}
    return [
        Made(key, {"said": key, "rows_written": number}, tags if number else {}, 1_763_000_000.25 + number)
        for number, key in enumerate(keys)
    ]


def materialization_of(run_id: str, made: Made) -> EventLogEntry:
    data = AssetMaterialization(AssetKey("ohlc"), partition=made.partition, metadata=made.metadata, tags=made.tags)
    event = event_of(run_id, DagsterEventType.ASSET_MATERIALIZATION, StepMaterializationData(data, []))
    return event._replace(timestamp=made.seconds)


def evaluations(run_id: str) -> list[EventLogEntry]:
    """Return results of checks of whole assets, and of one partition."""
    found = [
        AssetCheckEvaluation(AssetKey("ohlc"), "sound", passed=True, metadata={"count": 0}),
        AssetCheckEvaluation(
            asset_key=AssetKey("ohlc"),
            check_name="fresh",
            passed=False,
            description="'2' late",
            target_materialization_data=target_of((7, run_id, 1_763_000_000.5)),
            severity=AssetCheckSeverity.WARN,
        ),
        AssetCheckEvaluation(AssetKey("ohlc"), "well", passed=False, metadata={}, partition='A"B|5m'),
        AssetCheckEvaluation(AssetKey("rsi"), "sound", passed=False, metadata={}),
    ]
    return [event_of(run_id, DagsterEventType.ASSET_CHECK_EVALUATION, each) for each in found]


def event_of(run_id: str, kind: DagsterEventType, data: Any = None) -> EventLogEntry:
    return EventLogEntry(
        error_info=None,
        level=10,
        user_message="said",
        run_id=run_id,
        timestamp=1_763_000_000.25,
        step_key="ohlc",
        job_name="refresh",
        dagster_event=DagsterEvent(
            event_type_value=kind.value, job_name="refresh", step_key="ohlc", event_specific_data=data
        ),
    )


def stored_by(world: World, storage: PostgresEventLogStorage, run_id: str) -> list[list[tuple[Any, ...]]]:
    """Store events of every kind with `storage`. Return the rows of the run in Dagster's tables, without its id."""
    planned = [
        AssetCheckEvaluationPlanned(asset_key=AssetKey("ohlc"), check_name="sound"),
        AssetCheckEvaluationPlanned(asset_key=AssetKey("ohlc"), check_name="fresh"),
    ]
    storage.store_event(
        event_of(
            run_id, DagsterEventType.ASSET_MATERIALIZATION_PLANNED, AssetMaterializationPlannedData(AssetKey("ohlc"))
        )
    )
    for each in planned:
        storage.store_event(event_of(run_id, DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED, each))
    storage.store_event(event_of(run_id, DagsterEventType.STEP_START))
    storage.store_event(EventLogEntry(None, 20, "said", run_id, 1_763_000_000.5, "ohlc", "refresh", None))
    events = [materialization_of(run_id, each) for each in told()]
    storage.store_event(events[2])
    storage.store_event_batch(events)
    if isinstance(storage, MarketEventLog):
        ids = storage.store_materializations(told(), partial(materialization_of, run_id))
        assert ids == list(range(ids[0], ids[0] + len(events)))
        storage.store_event_batch(evaluations(run_id))
    else:
        storage.store_event_batch(events)
        for event in evaluations(run_id):
            storage.store_event(event)
    with world.database.transaction() as transaction:
        return [
            transaction.query(statement, run_id).rows()
            for statement in (
                """
                SELECT replace(rtrim(event), $1, '') AS event, dagster_event_type, timestamp, step_key, asset_key, partition
                FROM dagster.event_logs WHERE run_id = $1 ORDER BY id
                """,
                """
                SELECT e.partition, t.asset_key, t.key, t.value, t.event_timestamp
                FROM dagster.event_logs e JOIN dagster.asset_event_tags t ON t.event_id = e.id
                WHERE e.run_id = $1 ORDER BY e.id, t.key
                """,
                r"""
                SELECT asset_key, last_materialization_timestamp,
                       replace(regexp_replace(last_materialization, '"storage_id": \d+', ''), $1, '') AS event
                FROM dagster.asset_keys WHERE last_run_id = $1
                """,
                """
                SELECT c.asset_key, check_name, c.partition, execution_status, replace(rtrim(evaluation_event), $1, '') AS event,
                       evaluation_event_timestamp, materialization_event_storage_id, e.dagster_event_type, e.partition AS named
                FROM dagster.asset_check_executions c JOIN dagster.event_logs e ON e.id = evaluation_event_storage_id
                WHERE c.run_id = $1 ORDER BY c.id
                """,
            )
        ]


@pytest.mark.broad
def test_events_are_stored_as_dagster_itself_stores_them(world: World) -> None:
    """This test fails when a Dagster upgrade stores other columns, tags or check rows than our statements do."""
    ours = world.instance.event_log_storage
    theirs = PostgresEventLogStorage(dagster_url(world.database.url), should_autocreate_tables=False)
    assert isinstance(ours, MarketEventLog)
    # The row of an asset names the last run only, so each storage is read before the next one writes.
    expected, found = stored_by(world, theirs, "theirs"), stored_by(world, ours, "ours")
    assert found == expected
    assert [len(rows) for rows in found] == [20, 27, 1, 4]


def test_single_events_are_stored_compressed_and_read_unchanged(world: World) -> None:
    event = materialization_of("one", told()[0])
    world.instance.event_log_storage.store_event(event)
    with world.database.transaction() as transaction:
        sizes = transaction.query(
            "SELECT pg_column_size(event) AS stored, length(rtrim(event)) AS written FROM dagster.event_logs WHERE run_id = 'one'"
        )
    assert sizes["stored"].item() < sizes["written"].item()
    assert world.instance.all_logs("one") == [event]


def test_check_results_are_stored_compressed_in_both_tables_and_read_unchanged(world: World) -> None:
    events = evaluations("one")
    world.instance.event_log_storage.store_event_batch(events)
    with world.database.transaction() as transaction:
        sizes = transaction.query(
            """
            SELECT pg_column_size(event) AS stored, pg_column_size(evaluation_event) AS repeated,
                   length(rtrim(event)) AS written
            FROM dagster.event_logs e JOIN dagster.asset_check_executions c ON c.evaluation_event_storage_id = e.id
            WHERE e.run_id = 'one'
            """
        )
    assert sizes.height == len(events)
    assert (sizes["stored"] < sizes["written"]).all()
    assert (sizes["repeated"] < sizes["written"]).all()
    key = AssetCheckKey(AssetKey("ohlc"), "sound")
    (record, *_) = world.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
    assert record.event in events


def test_deleted_and_added_partitions_are_visible_at_once(world: World) -> None:
    symbol = world.symbols[0]
    assert world.instance.has_dynamic_partition("symbol", symbol)
    world.instance.delete_dynamic_partition("symbol", symbol)
    assert not world.instance.has_dynamic_partition("symbol", symbol)
    world.instance.add_dynamic_partitions("symbol", [symbol])
    assert world.instance.has_dynamic_partition("symbol", symbol)


def test_partitions_are_cached_for_some_time_during_a_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = list(world.instance.get_dynamic_partitions("symbol"))
    monkeypatch.setattr(storage, "_SEEN_SECONDS", 600.0)
    with storage.held_partitions():
        assert world.instance.get_dynamic_partitions("symbol") == before
        world.instance.add_dynamic_partitions("symbol", ["NEW"])
        assert world.instance.get_dynamic_partitions("symbol") == before
        assert world.instance.get_dynamic_partitions("of another definition") == []
        monkeypatch.setattr(storage, "_SEEN_SECONDS", 0.0)
        assert world.instance.get_dynamic_partitions("symbol") == [*before, "NEW"]
        monkeypatch.setattr(storage, "_SEEN_SECONDS", 600.0)
        world.instance.delete_dynamic_partition("symbol", "NEW")
    assert world.instance.get_dynamic_partitions("symbol") == before


def add_run(instance: DagsterInstance) -> None:
    """Add a run of 5m that has ended."""
    run = DagsterRun("refresh", make_new_run_id(), status=DagsterRunStatus.SUCCESS, tags={TIMEFRAME_TAG: "5m"})
    instance.run_storage.add_run(run)


def test_the_role_for_metrics_can_read_runs_and_cannot_add_any(
    world: World, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_run(world.instance)
    ours = run_queue.read(world.instance, ["5m"])
    with databases.member(world.database.url, METRICS) as url:
        monkeypatch.setenv("EMA_DATABASE_URL", url)
        with DagsterInstance.from_ref(world.instance.get_ref()) as another:
            assert run_queue.read(another, ["5m"]) == ours
            with pytest.raises(Exception, match="permission denied"):
                add_run(another)
    assert ours.last


@pytest.mark.broad
@pytest.mark.settled
def test_the_next_runs_report_an_asset_again_that_was_wiped_in_the_ui(world: World) -> None:
    """All rows are still stored, so nothing is computed. Assets that do not read it are not reported again."""
    world.tell()
    partitions = world.instance.get_materialized_partitions(AssetKey("ema_trend"))
    world.instance.wipe_assets([AssetKey("ema_trend")])
    assert world.instance.get_materialized_partitions(AssetKey("ema_trend")) == set()
    world.let_grace_pass()
    runs = world.sweep()
    assert world.instance.get_materialized_partitions(AssetKey("ema_trend")) == partitions
    assert {asset for run in runs for asset, _ in world.materialized(run.run_id)} == {"ema_trend", STRATEGY}


@pytest.mark.settled
def test_a_wipe_during_which_the_database_is_lost_leaves_no_asset_that_is_not_reported_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    wipe = PostgresEventLogStorage.wipe_asset

    def wiped(storage: PostgresEventLogStorage, key: AssetKey) -> None:
        wipe(storage, key)
        raise StoreUnavailable("the connection was lost")

    monkeypatch.setattr(PostgresEventLogStorage, "wipe_asset", wiped)
    with pytest.raises(StoreUnavailable):
        world.instance.wipe_assets([AssetKey("ema_trend")])
    with world.database.transaction() as transaction:
        found = transaction.query(
            "SELECT DISTINCT asset, recorded_at IS NULL AS is_due FROM market.series_state WHERE computed_at IS NOT NULL"
        )
    assert found.filter("is_due")["asset"].sort().to_list() == ["ema_trend", STRATEGY]


@pytest.mark.settled
def test_wiping_an_asset_of_the_host_with_the_same_last_name_affects_no_asset_of_ours(world: World) -> None:
    world.tell()
    theirs = AssetKey(["desk", "ema_trend"])
    world.instance.report_runless_asset_event(AssetMaterialization(theirs, partition="AAPL|5m"))
    world.instance.wipe_assets([theirs])
    assert not world.instance.has_asset_key(theirs)
    world.let_grace_pass()
    assert world.sweep() == []


def test_times_without_a_zone_are_utc_in_every_time_zone_of_the_server(world: World) -> None:
    """With a server in New York, every new run once looked as if it had been lost hours ago."""
    name = urlsplit(world.database.url).path.strip("/")
    with world.database.transaction() as transaction:
        transaction.execute(f"ALTER DATABASE {name} SET timezone = 'America/New_York'")
    theirs = PostgresRunStorage(dagster_url(world.database.url), should_autocreate_tables=False)
    with theirs.connect() as found:
        assert found.exec_driver_sql("SHOW timezone").scalar() == "UTC"
        now = found.exec_driver_sql("SELECT CURRENT_TIMESTAMP::timestamp").scalar()
    assert isinstance(now, datetime)
    assert abs(datetime.now(UTC).replace(tzinfo=None) - now) < timedelta(minutes=10)
