"""The schedule and the asset of performance, as the daemon evaluates them and as a run executes it."""

from typing import Any

import pytest
from dagster import AssetKey, DagsterRunStatus, RunRequest, SkipReason, TableMetadataValue, build_schedule_context

from ema_assets.defs.jobs import PERFORMANCE_JOB
from ema_assets.defs.performance import PERFORMANCE, SCREENER
from ema_assets.store import results
from ema_assets_tests.defs.conftest import World, defs


def tick(world: World) -> Any:
    schedule = defs.resolve_schedule_def(PERFORMANCE_JOB)
    context = build_schedule_context(
        instance=world.instance, scheduled_execution_time=world.now, resources={"store": world.resources["store"]}
    )
    return schedule._execution_fn.decorated_fn(context, store=world.resources["store"])


def silence(world: World) -> str:
    reason = tick(world)
    assert isinstance(reason, SkipReason)
    assert reason.skip_message is not None
    return reason.skip_message


def test_performance_is_added_up_in_the_background_once_strategies_are_computed_and_then_not_again(
    world: World,
) -> None:
    assert silence(world) == "no strategy has been computed yet"
    world.settle()
    request = tick(world)
    assert isinstance(request, RunRequest)
    assert request.run_key == world.now.isoformat()
    job = defs.resolve_job_def(PERFORMANCE_JOB)
    assert (job.tags["ema_assets/lane"], job.tags["dagster/priority"]) == ("background", "-15")
    done = job.execute_in_process(instance=world.instance, resources=world.resources)
    assert done.success
    (event,) = [
        each for each in done.asset_materializations_for_node(PERFORMANCE) if each.asset_key == AssetKey(PERFORMANCE)
    ]
    # Five symbols on six timeframes; those without a bar yet have no row.
    with world.database.transaction() as transaction:
        rows = transaction.query("SELECT count(*) AS n FROM results.performance").item()
    assert event.metadata["dagster/row_count"].value == rows == 30
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
        # Nothing has traded since, as on a holiday: twice a day all the same, so that Dagster sees it live.
        transaction.execute("UPDATE market.performance_refresh SET refreshed_at = now() - interval '11 hours'")
        transaction.execute("UPDATE market.series_state SET computed_at = now() - interval '2 days'")
    assert silence(world).startswith("no strategy was computed since ")
    with world.database.transaction() as transaction:
        transaction.execute("UPDATE market.performance_refresh SET refreshed_at = now() - interval '12 hours'")
    assert isinstance(tick(world), RunRequest)


def test_the_catalog_names_the_columns_of_the_screener_as_the_view_has_them(world: World) -> None:
    spec = defs.resolve_asset_graph().get(AssetKey(SCREENER))
    said = [(column.name, column.type) for column in spec.metadata["dagster/column_schema"].columns]
    with world.database.transaction() as transaction:
        columns = transaction.query(
            """SELECT column_name, udt_name FROM information_schema.columns
               WHERE table_schema = 'results' AND table_name = 'screener' ORDER BY ordinal_position"""
        ).rows()
    assert said == columns


@pytest.mark.settled
def test_a_run_that_is_not_over_is_waited_for(world: World) -> None:
    world.instance.create_run_for_job(defs.resolve_job_def(PERFORMANCE_JOB), status=DagsterRunStatus.STARTED)
    assert silence(world) == "the last run is not over yet"


def test_the_screener_stands_in_the_lineage_and_is_never_run() -> None:
    graph = defs.resolve_asset_graph()
    node = graph.get(AssetKey(SCREENER))
    assert not node.is_executable
    assert AssetKey("ema_trend") in node.parent_keys
    # Signals that are off are no parents.
    assert AssetKey("rsi") not in node.parent_keys
