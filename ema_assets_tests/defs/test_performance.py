"""Tests of the schedule, the sensor and the asset of performance, and of the screener."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from dagster import (
    AssetKey,
    DagsterRunStatus,
    MetadataValue,
    RunRequest,
    SkipReason,
    TableMetadataValue,
    build_schedule_context,
    build_sensor_context,
)

from ema_assets.config import watchlist
from ema_assets.defs.assembly import assembled
from ema_assets.defs.jobs import PERFORMANCE_JOB
from ema_assets.defs.one_sentence import WrongConfiguration
from ema_assets.defs.performance import SCREENER
from ema_assets.defs.requests import QUIET_CONFIG
from ema_assets.model.asset_names import PERFORMANCE
from ema_assets.operations.sync_watchlist import sync
from ema_assets.refresh.graph import build
from ema_assets.store import results, series_overview
from ema_assets_tests.defs.conftest import WATCHLIST, World, defs, settle
from ema_assets_tests.timeframes import H1


def tick(world: World) -> Any:
    schedule = defs.resolve_schedule_def(PERFORMANCE_JOB)
    context = build_schedule_context(
        instance=world.instance, scheduled_execution_time=world.now, resources={"store": world.resources["store"]}
    )
    return schedule._execution_fn.decorated_fn(context, store=world.resources["store"])


def look(world: World) -> Any:
    """Return the result of the sensor for new series."""
    sensor = defs.resolve_sensor_def("performance_of_new_series")
    context = build_sensor_context(instance=world.instance, resources={"store": world.resources["store"]})
    return sensor._raw_fn(context, store=world.resources["store"])


def silence(world: World, evaluate: Callable[[World], Any] = tick) -> str:
    reason = evaluate(world)
    assert isinstance(reason, SkipReason)
    assert reason.skip_message is not None
    return reason.skip_message


def test_performance_is_requested_once_strategies_were_computed_and_otherwise_every_12_hours(
    world: World,
) -> None:
    assert silence(world) == "no strategy has been computed yet"
    world.settle()
    request = tick(world)
    assert isinstance(request, RunRequest)
    assert request.run_key == world.now.isoformat()
    assert request.run_config == QUIET_CONFIG
    job = defs.resolve_job_def(PERFORMANCE_JOB)
    assert (job.tags["ema_assets/lane"], job.tags["dagster/priority"]) == ("background", "-15")
    done = job.execute_in_process(instance=world.instance, resources=world.resources)
    assert done.success
    (event,) = [
        each for each in done.asset_materializations_for_node(PERFORMANCE) if each.asset_key == AssetKey(PERFORMANCE)
    ]
    # Five symbols on four timeframes. A series without bars would have no row.
    with world.database.transaction() as transaction:
        rows = transaction.query("SELECT count(*) AS n FROM results.performance").item()
    assert event.metadata["dagster/row_count"].value == rows == 20
    assert 0 < float(event.metadata["seconds"].value) < 60  # type: ignore[arg-type]
    with world.database.transaction() as transaction:
        best, worst = results.best_and_worst(transaction, 5)
        ordered = transaction.query(
            """SELECT strategy, symbol, timeframe FROM results.performance WHERE remark IS NULL
               ORDER BY total_return_pct DESC"""
        ).rows()
    assert len(ordered) > 0
    assert best.select("strategy", "symbol", "timeframe").rows() == ordered[:5]
    assert worst.select("strategy", "symbol", "timeframe").rows() == ordered[::-1][:5]
    shown = event.metadata["best by total return"]
    assert isinstance(shown, TableMetadataValue)
    first = shown.records[0].data
    assert (first["symbol"], first["timeframe"]) == ordered[0][1:]
    assert silence(world).startswith("added up ")
    screened = world.instance.get_latest_materialization_event(AssetKey(SCREENER))
    assert screened is not None
    assert screened.asset_materialization is not None
    (crosses,) = screened.asset_materialization.metadata.values()
    assert isinstance(crosses, TableMetadataValue)
    with world.database.transaction() as transaction:
        nearest = transaction.query(
            """SELECT symbol FROM results.screener WHERE timeframe = '1h' AND cross_distance_pct IS NOT NULL
               ORDER BY abs(cross_distance_pct) LIMIT 10"""
        )["symbol"]
        assert [record.data["symbol"] for record in crosses.records] == nearest.to_list()
        # Nothing has traded since, as on a holiday. The run still comes every 12 hours, so that Dagster shows it fresh.
        transaction.execute("UPDATE market.performance_refresh SET refreshed_at = now() - interval '11 hours'")
        transaction.execute("UPDATE market.series_state SET computed_at = now() - interval '2 days'")
    assert silence(world).startswith("no strategy was computed since ")
    with world.database.transaction() as transaction:
        transaction.execute("UPDATE market.performance_refresh SET refreshed_at = now() - interval '12 hours'")
    assert isinstance(tick(world), RunRequest)


@pytest.mark.broad
def test_the_catalog_shows_the_columns_of_the_screener_view(world: World) -> None:
    spec = defs.resolve_asset_graph().get(AssetKey(SCREENER))
    said = [(column.name, column.type) for column in spec.metadata["dagster/column_schema"].columns]
    with world.database.transaction() as transaction:
        columns = transaction.query(
            """SELECT column_name, udt_name FROM information_schema.columns
               WHERE table_schema = 'results' AND table_name = 'screener' ORDER BY ordinal_position"""
        ).rows()
    assert said == columns


@pytest.mark.settled
def test_the_sensor_requests_performance_of_new_series_before_the_schedule_does(world: World) -> None:
    series = "asset LIKE 'strategy%' AND symbol = 'AAPL' AND timeframe = '1h'"

    def run(statement: str) -> None:
        with world.database.transaction() as transaction:
            transaction.execute(statement)

    def refresh(seconds_ago: int) -> None:
        with world.database.transaction() as transaction:
            results.refresh_performance(transaction)
        run(
            f"UPDATE market.performance_refresh SET refreshed_at = now() - interval '{seconds_ago} seconds', seconds = 0"
        )

    refresh(60)
    assert silence(world, look) == "performance has every series that was computed"
    # A series is switched on after the performance was computed.
    run(f"CREATE TABLE kept AS SELECT last_ts FROM market.series_state WHERE {series} LIMIT 1")
    run(f"UPDATE market.series_state SET last_ts = NULL WHERE {series}")
    refresh(60)
    run(f"UPDATE market.series_state SET last_ts = (SELECT last_ts FROM kept), computed_at = now() WHERE {series}")
    assert silence(world).startswith("added up 60 s ago")
    looked = look(world)
    assert isinstance(looked, RunRequest)
    assert looked.run_config == QUIET_CONFIG
    # The request is not repeated at every tick, in case the computation leaves the series out again.
    run("UPDATE market.performance_refresh SET refreshed_at = now(), seconds = 4")
    assert silence(world, look).endswith("which took 4.0 s; again after 40 s")
    run("UPDATE market.performance_refresh SET refreshed_at = now() - interval '1 minute', seconds = 30")
    assert silence(world, look).endswith("again after 300 s")
    refresh(60)
    assert silence(world, look) == "performance has every series that was computed"
    # A series of a symbol that was removed just after its last computation has no performance and is not new.
    run("UPDATE market.instrument SET is_active = false WHERE symbol = 'AAPL'")
    refresh(60)
    assert silence(world, look) == "performance has every series that was computed"
    run("UPDATE market.instrument SET is_active = true WHERE symbol = 'AAPL'")


@pytest.mark.settled
def test_the_sensor_waits_for_the_end_of_the_last_run(world: World) -> None:
    with world.database.transaction() as transaction:
        transaction.execute("DELETE FROM market.performance_refresh")
    assert isinstance(look(world), RunRequest)
    world.instance.create_run_for_job(defs.resolve_job_def(PERFORMANCE_JOB), status=DagsterRunStatus.STARTED)
    assert silence(world, look) == "the last run is not over yet"


def test_ticks_without_a_database_say_so_in_one_sentence(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMA_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    for evaluate in (tick, look):
        with pytest.raises(WrongConfiguration, match="^cannot connect to postgresql://nobody@127.0.0.1:1/none: "):
            evaluate(world)


@pytest.mark.broad
@pytest.mark.settled
def test_the_schedule_waits_for_the_end_of_the_last_run(world: World) -> None:
    world.instance.create_run_for_job(defs.resolve_job_def(PERFORMANCE_JOB), status=DagsterRunStatus.STARTED)
    assert silence(world) == "the last run is not over yet"


def test_the_screener_is_in_the_lineage_and_cannot_be_executed() -> None:
    graph = defs.resolve_asset_graph()
    node = graph.get(AssetKey(SCREENER))
    assert not node.is_executable
    assert AssetKey("ema_trend") in node.parent_keys
    # Signals that are off are no parents.
    assert AssetKey("rsi") not in node.parent_keys
    assert "other averages" not in node.metadata


QUICK = """
[[strategy]]
name = "quick"
rule = "crossover"
fast = 5
slow = 13
"""


def test_the_screener_names_the_views_of_other_averages_and_shows_their_crosses(world: World) -> None:
    graph = build(watchlist.parse(WATCHLIST + QUICK))
    loaded = assembled(graph)
    node = loaded.resolve_asset_graph().get(AssetKey(SCREENER))
    assert {AssetKey("ema_trend"), AssetKey("ema_trend_5_13")} <= node.parent_keys
    assert "`results.screener_5_13` is the same of EMA 5 and 13" in str(node.description)
    (row,) = node.metadata["other averages"].records
    assert row.data == {
        "averages": "5/13",
        "view": "results.screener_5_13",
        "columns": "as here, with ema_5 and ema_13",
        "command": "ema-assets screen --averages 5/13",
    }

    def shown_by_a_run() -> Mapping[str, MetadataValue]:
        job = loaded.resolve_job_def(PERFORMANCE_JOB)
        assert job.execute_in_process(instance=world.instance, resources=world.resources).success
        event = world.instance.get_latest_materialization_event(AssetKey(SCREENER))
        assert event is not None
        assert event.asset_materialization is not None
        return event.asset_materialization.metadata

    # This run comes before the sync, which creates the view.
    assert list(shown_by_a_run()) == ["nearest crosses of EMA 9/30 on 1h"]
    world.watchlist_path.write_text(WATCHLIST + QUICK)
    watched = watchlist.load(world.watchlist_path)
    sync(world.database, watched, world.now)
    settle(world.database, watched, world.now)
    shown = shown_by_a_run()
    assert list(shown) == ["nearest crosses of EMA 9/30 on 1h", "nearest crosses of EMA 5/13 on 1h"]
    with world.database.transaction() as transaction:
        nearest = series_overview.nearest_crosses(transaction, H1, 10, (5, 13))["cross_price"].to_list()
    quick = shown["nearest crosses of EMA 5/13 on 1h"]
    assert isinstance(quick, TableMetadataValue)
    assert [float(str(record.data["cross_price"])) for record in quick.records] == pytest.approx(nearest, rel=1e-5)
    assert nearest
