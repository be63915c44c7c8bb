"""The process of `benchmarks.growth`: simulated days on one database. Not run by hand."""

import json
import statistics
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta

import polars as pl
from dagster import AssetKey, DagsterInstance

from benchmarks.loading import load_history
from ema_assets.config import watchlist
from ema_assets.config.settings import Settings
from ema_assets.definitions import defs
from ema_assets.defs.partitions import SYMBOLS, series_of
from ema_assets.defs.requests import run_request
from ema_assets.defs.resources import MarketResource, StoreResource
from ema_assets.market.calendars import bar_grid
from ema_assets.refresh.graph import configured
from ema_assets.refresh.plan import stale_on_close
from ema_assets.refresh.runs import plan_runs
from ema_assets.runtime.locate import leased_database
from ema_assets.store import sessions
from ema_assets.store.database import Database, Transaction
from ema_assets_tests.timeframes import M5, ORDER

TICK_SPACING = timedelta(minutes=5)
# By default, autovacuum cleans a table when more than this share of it is dead.
DEAD_SHARE = 0.2


class MarketAt(MarketResource):
    """The market at a moment of the past."""

    at: str

    def now(self) -> datetime:
        return datetime.fromisoformat(self.at)


class Life:
    """A database, and what happens to it day by day."""

    def __init__(self, database: Database, instance: DagsterInstance, *, is_maintained: bool, ticks: int) -> None:
        self.database = database
        self.instance = instance
        self.is_maintained = is_maintained
        self.ticks = ticks
        self.settings = Settings.from_env()
        self.watched = watchlist.load(self.settings.watchlist_path)
        self.lived_until: datetime | None = None

    def load(self, now: datetime) -> None:
        """Load everything up to `now` without Dagster: bars, everything computed from them, the ledger."""
        load_history(self.database, self.settings, self.watched, list(ORDER), now)
        with self.database.transaction() as transaction:
            transaction.execute("UPDATE market.series_state SET recorded_at = computed_at")

    def day(self, moment: datetime) -> dict[str, object]:
        """Run the day that ends with the real ticks at `moment`: copied runs, then the ticks, then maintenance."""
        self.load(moment - TICK_SPACING)
        if self.lived_until is not None:
            self._copy_runs(self.lived_until, moment - TICK_SPACING)
        seconds, planning, cpu, run_ids = [], [], [], []
        for number in range(self.ticks):
            now = moment + number * TICK_SPACING
            began = time.process_time()
            plan_ms, tick_s, run_id = self._tick(now)
            cpu.append(time.process_time() - began)
            seconds.append(tick_s)
            planning.append(plan_ms)
            run_ids.append(run_id)
        if self.lived_until is None:
            self._keep_template(run_ids[-1])
        self.lived_until = moment + (self.ticks - 1) * TICK_SPACING
        maintenance_s = self._maintain(self.lived_until) if self.is_maintained else 0.0
        self._wait_for_autovacuum()
        status_ms, partitions = self._partition_status()
        return {
            "day": moment.date().isoformat(),
            "tick_s": round(statistics.median(seconds), 2),
            "cpu_s": round(statistics.median(cpu), 2),
            "plan_ms": round(statistics.median(planning), 1),
            "maintenance_s": round(maintenance_s, 1),
            "status_ms": round(status_ms),
            "partitions": partitions,
            **self._sizes(),
        }

    def _tick(self, now: datetime) -> tuple[float, float, str]:
        """One real 5m tick, planned as its schedule plans it and executed as a run."""
        symbols = self.watched.symbols
        began = time.perf_counter()
        with self.database.transaction() as transaction:
            stale = stale_on_close(transaction, M5, now)
        (run,) = plan_runs(stale, symbols, [], self.settings.series_per_run)
        plan_ms = (time.perf_counter() - began) * 1000
        return plan_ms, *self._execute("refresh", now, run_request(run, now).tags)

    def _execute(self, job: str, now: datetime, tags: Mapping[str, str]) -> tuple[float, str]:
        resources = {"store": StoreResource(), "market": MarketAt(at=now.isoformat())}
        began = time.perf_counter()
        done = defs.resolve_job_def(job).execute_in_process(instance=self.instance, tags=tags, resources=resources)
        took = time.perf_counter() - began
        assert done.success
        with self.database.transaction() as transaction:
            # It ran today. In the simulation it ran at `now`.
            transaction.execute(
                """
                UPDATE dagster.runs
                SET start_time = extract(epoch FROM $2::timestamptz), end_time = extract(epoch FROM $2::timestamptz),
                    create_timestamp = $2::timestamptz AT TIME ZONE 'UTC',
                    update_timestamp = $2::timestamptz AT TIME ZONE 'UTC'
                WHERE run_id = $1
                """,
                done.run_id,
                now,
            )
        return took, done.run_id

    def _maintain(self, now: datetime) -> float:
        return self._execute("maintenance", now, {})[0]

    def _keep_template(self, run_id: str) -> None:
        """Keep a copy of the rows of a real run over all series: maintenance will delete the run itself."""
        with self.database.transaction() as transaction:
            transaction.execute("CREATE SCHEMA growth")
            for table, column in (("runs", "run_id"), ("run_tags", "run_id"), ("event_logs", "run_id")):
                transaction.execute(f"CREATE TABLE growth.{table} AS SELECT * FROM dagster.{table} WHERE false")
                transaction.execute(
                    f"INSERT INTO growth.{table} SELECT * FROM dagster.{table} WHERE {column} = $1", run_id
                )
            transaction.execute(
                "CREATE TABLE growth.asset_event_tags AS SELECT t.* FROM dagster.asset_event_tags t "
                "JOIN growth.event_logs e ON e.id = t.event_id"
            )
            transaction.execute(
                "CREATE TABLE growth.asset_check_executions AS SELECT c.* FROM dagster.asset_check_executions c "
                "JOIN growth.runs r ON r.run_id = c.run_id"
            )
            for table in ("event_logs", "asset_event_tags"):
                transaction.execute(f"ANALYZE growth.{table}")

    def _copy_runs(self, after: datetime, until: datetime) -> None:
        """Copy the template for each close between two moments, in order, as if Dagster had recorded a run."""
        with self.database.transaction() as transaction:
            closes = _closes(transaction, after, until)
            copies = closes.with_columns(run_id=pl.Series([str(uuid.uuid4()) for _ in range(closes.height)]))
            with transaction.staged(copies) as staged:
                for sql in _COPIES:
                    transaction.execute(sql.format(copies=f"pg_temp.{staged}"))

    def _wait_for_autovacuum(self) -> None:
        """Wait until autovacuum has done the work of a day: `benchmarks.growth` lets it look every second."""
        for _ in range(120):
            time.sleep(1)
            with self.database.transaction() as transaction:
                waiting = transaction.query(
                    """
                    SELECT count(*) AS n FROM pg_stat_all_tables s JOIN pg_class c ON c.oid = s.relid
                    WHERE n_dead_tup > 50 + $1 * reltuples AND schemaname IN ('dagster', 'market', 'pg_toast')
                    """,
                    DEAD_SHARE,
                )["n"][0]
            if not waiting:
                return

    def _partition_status(self) -> tuple[float, int]:
        """How long Dagster takes to compute which partitions are materialized, from nothing, and how many they are.

        The UI does this once after each change of the watchlist.
        """
        from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value

        partitions = 0
        began = time.perf_counter()
        graph = configured(self.settings)
        series = series_of(graph)
        for asset in (node.name for node in graph.on):
            self.instance.event_log_storage.wipe_asset_cached_status(AssetKey(asset))
            status = get_and_update_asset_status_cache_value(self.instance, AssetKey(asset), series, self.instance)
            assert status is not None
            partitions += len(status.deserialize_materialized_partition_subsets(series))
        return (time.perf_counter() - began) * 1000, partitions

    def _sizes(self) -> dict[str, object]:
        with self.database.transaction() as transaction:
            sizes = transaction.query(
                """
                SELECT nspname::text AS name, sum(pg_total_relation_size(c.oid))::float8 / 1e6 AS mb
                FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE relkind IN ('r', 'm') AND nspname IN ('dagster', 'market') GROUP BY 1
                """
            )
            counts = transaction.query(
                """
                SELECT (SELECT count(*) FROM dagster.runs) AS runs,
                       (SELECT count(*) FROM dagster.event_logs) AS events,
                       (SELECT count(*) FROM market.ohlc) AS bars
                """
            )
        mb = dict(sizes.iter_rows())
        return {"dagster_mb": round(mb["dagster"]), "market_mb": round(mb["market"]), **counts.row(0, named=True)}


def _closes(transaction: Transaction, after: datetime, until: datetime) -> pl.DataFrame:
    """Every bar close in that time, one row per run: timeframe, ended, and whether pairs and stocks trade then."""
    trading = sessions.in_use(transaction, after, until)
    grids = [
        bar_grid(trading, timeframe).select(
            "calendar", timeframe=pl.lit(timeframe.key), rank=pl.lit(timeframe.rank), ended="ts_end"
        )
        for timeframe in ORDER
    ]
    return (
        pl.concat(grids)
        .filter(pl.col("ended") > after, pl.col("ended") <= until)
        .group_by("ended", "rank", "timeframe")
        .agg(pairs=(pl.col("calendar") == "24/7").any(), stocks=(pl.col("calendar") != "24/7").any())
        .sort("ended", "rank")
    )


# benchmarks.tick gives pairs symbols that begin with P, and stocks symbols that begin with S.
_IS_IN = "(t.partition IS NULL OR CASE WHEN t.partition LIKE 'P%' THEN c.pairs ELSE c.stocks END)"
_TEXT = "replace(replace({column}, t.run_id, c.run_id), '|5m', '|' || c.timeframe)"
_COPIES = (
    f"""
    INSERT INTO dagster.runs (run_id, snapshot_id, pipeline_name, mode, status, run_body, partition, partition_set,
                              create_timestamp, update_timestamp, start_time, end_time, backfill_id)
    SELECT c.run_id, snapshot_id, pipeline_name, mode, status, {_TEXT.format(column="run_body")}, partition,
           partition_set, ended AT TIME ZONE 'UTC', ended AT TIME ZONE 'UTC', extract(epoch FROM ended),
           extract(epoch FROM ended), backfill_id
    FROM {{copies}} c CROSS JOIN growth.runs t ORDER BY c.ended
    """,
    f"""
    INSERT INTO dagster.run_tags (run_id, key, value)
    SELECT c.run_id, key, {_TEXT.format(column="value")} FROM {{copies}} c CROSS JOIN growth.run_tags t
    """,
    f"""
    INSERT INTO dagster.event_logs (run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition)
    SELECT c.run_id, {_TEXT.format(column="event")}, dagster_event_type, ended AT TIME ZONE 'UTC', step_key, asset_key,
           replace(partition, '|5m', '|' || c.timeframe)
    FROM {{copies}} c JOIN growth.event_logs t ON {_IS_IN} ORDER BY c.ended, c.rank, t.id
    """,
    """
    INSERT INTO dagster.asset_event_tags (event_id, asset_key, key, value, event_timestamp)
    SELECT e.id, e.asset_key, g.key, replace(g.value, '|5m', '|' || c.timeframe), e.timestamp
    FROM {copies} c
    JOIN dagster.event_logs e ON e.run_id = c.run_id AND e.asset_key IS NOT NULL
    JOIN growth.event_logs t ON t.asset_key = e.asset_key AND t.dagster_event_type = e.dagster_event_type
                            AND replace(t.partition, '|5m', '|' || c.timeframe) = e.partition
    JOIN growth.asset_event_tags g ON g.event_id = t.id
    """,
    f"""
    INSERT INTO dagster.asset_check_executions (asset_key, check_name, partition, run_id, execution_status,
        evaluation_event, evaluation_event_timestamp, evaluation_event_storage_id, materialization_event_storage_id)
    SELECT asset_key, check_name, partition, c.run_id, execution_status, {_TEXT.format(column="evaluation_event")},
           ended AT TIME ZONE 'UTC', evaluation_event_storage_id, materialization_event_storage_id
    FROM {{copies}} c CROSS JOIN growth.asset_check_executions t ORDER BY c.ended, t.id
    """,
)


def moments(first: date, days: int) -> Iterator[datetime]:
    """17:55 UTC of each day, when New York trades in summer and in winter."""
    for number in range(days):
        yield datetime(first.year, first.month, first.day, 17, 55, 1, tzinfo=UTC) + timedelta(days=number)


def main(given: dict[str, object]) -> None:
    """Run the days; print one line of JSON per day."""
    with Database(leased_database(Settings.from_env())) as database, DagsterInstance.get() as instance:
        life = Life(database, instance, is_maintained=bool(given["maintain"]), ticks=int(str(given["ticks"])))
        instance.add_dynamic_partitions(str(SYMBOLS.name), list(life.watched.symbols))
        for moment in moments(date.fromisoformat(str(given["first"])), int(str(given["days"]))):
            print(json.dumps(life.day(moment)), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
