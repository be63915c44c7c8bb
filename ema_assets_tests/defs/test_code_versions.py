"""Tests of a run on another host whose code or provider differs from those of the code location that launched it."""

import socket

import pytest
from dagster import AssetKey, DagsterRunStatus, Definitions, JobDefinition
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from dagster._serdes import ConfigurableClassData

from ema_assets.config import watchlist
from ema_assets.definitions import assembled
from ema_assets.defs.run_tags import DEFER_TAG, RANGE_END_TAG, RANGE_START_TAG
from ema_assets.model.asset_names import EMA_TREND, OHLC
from ema_assets.operations.sync_watchlist import adopt_graph
from ema_assets.refresh.graph import Graph, build
from ema_assets.store import ledger
from ema_assets.store.ledger import BEGINNING
from ema_assets_tests.core import rewrite
from ema_assets_tests.defs.conftest import GRAPH, WATCHLIST, World, defs

pytestmark = pytest.mark.settled

SERIES = "AAPL|5m"


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Graph:
    """The graph of another host, which has other code for the trend."""
    rewrite(monkeypatch, "ema_trend")
    return build(watchlist.parse(WATCHLIST))


def launched_by(world: World, monkeypatch: pytest.MonkeyPatch, class_name: str) -> None:
    launcher = ConfigurableClassData("somewhere", class_name, "{}\n")
    ref = world.instance.get_ref()._replace(run_launcher_data=launcher)
    monkeypatch.setattr(world.instance, "get_ref", lambda: ref)


def execute(world: World, launched: Definitions, executed: Definitions, **tags: str) -> tuple[DagsterRunStatus, str]:
    """Execute a run of the trend of SERIES that another code location has launched. Return its status and errors."""
    ranged = {RANGE_START_TAG: SERIES, RANGE_END_TAG: SERIES, **tags}

    def job(location: Definitions) -> JobDefinition:
        return location.resolve_implicit_global_asset_job_def().get_subset(asset_selection={AssetKey(EMA_TREND)})

    run = world.instance.create_run_for_job(
        job(launched), tags=ranged, asset_selection=frozenset({AssetKey(EMA_TREND)})
    )
    result = execute_run(InMemoryJob(job(executed)), run, world.instance, raise_on_error=False)
    failures = [each.step_failure_data.error for each in result.filter_events(lambda each: each.is_step_failure)]
    return world.instance.get_run_by_id(run.run_id).status, " ".join(str(each.message) for each in failures)


def state(world: World) -> tuple[str, object, int, str | None]:
    with world.database.transaction() as transaction:
        (row,) = transaction.query(
            """SELECT code_version, dirty_from, failures, last_error FROM market.series_state
               WHERE asset = $1 AND symbol = 'AAPL' AND timeframe = '5m'""",
            EMA_TREND,
        ).rows()
    return row


def test_a_host_with_other_code_computes_nothing_and_names_the_difference(
    world: World, monkeypatch: pytest.MonkeyPatch, elsewhere: Graph
) -> None:
    launched_by(world, monkeypatch, "LaneRunLauncher")
    ours, theirs = GRAPH.nodes[EMA_TREND].code_version, elsewhere.nodes[EMA_TREND].code_version
    status, error = execute(world, defs, assembled(elsewhere))
    assert status is DagsterRunStatus.FAILURE
    assert f"{SERIES}: CodeDiffers: {socket.gethostname()} computes ema_trend by version '{theirs}' and" in error
    assert f"launched the run by '{ours}': " in error
    version, dirty_from, failures, last_error = state(world)
    assert (version, dirty_from, failures) == (ours, None, 1)
    assert str(last_error).endswith(". Give all hosts the same")


@pytest.mark.broad
def test_stale_series_wait_for_a_host_with_the_adopted_code_version(
    world: World, monkeypatch: pytest.MonkeyPatch, elsewhere: Graph
) -> None:
    launched_by(world, monkeypatch, "K8sRunLauncher")
    other = assembled(elsewhere)
    # Nothing is stale, so nothing is computed and the difference does not matter.
    assert execute(world, defs, other, **{DEFER_TAG: "true"})[0] is DagsterRunStatus.SUCCESS
    assert state(world)[2] == 0
    with world.database.transaction() as transaction:
        ledger.start_again(transaction, [EMA_TREND])
    assert execute(world, defs, other, **{DEFER_TAG: "true"})[0] is DagsterRunStatus.FAILURE
    assert state(world)[1:3] == (BEGINNING, 1)
    assert execute(world, defs, defs)[0] is DagsterRunStatus.SUCCESS
    assert state(world)[1:3] == (None, 0)


def test_a_run_that_waited_during_a_change_of_the_configuration_uses_the_new_one(
    world: World, monkeypatch: pytest.MonkeyPatch, elsewhere: Graph
) -> None:
    launched_by(world, monkeypatch, "LaneRunLauncher")
    with world.database.transaction() as transaction:
        adopt_graph(transaction, elsewhere)
        ledger.adopt_code_versions(transaction, elsewhere.code_versions)
    assert execute(world, defs, assembled(elsewhere))[0] is DagsterRunStatus.SUCCESS
    assert state(world)[:3] == (elsewhere.nodes[EMA_TREND].code_version, None, 0)


@pytest.mark.broad
def test_a_reloaded_code_location_computes_before_the_sync(
    world: World, monkeypatch: pytest.MonkeyPatch, elsewhere: Graph
) -> None:
    launched_by(world, monkeypatch, "LaneRunLauncher")
    other = assembled(elsewhere)
    assert execute(world, other, other)[0] is DagsterRunStatus.SUCCESS
    assert state(world)[:3] == (elsewhere.nodes[EMA_TREND].code_version, None, 0)


@pytest.mark.broad
def test_code_versions_are_not_compared_when_standby_processes_execute_the_run(
    world: World, monkeypatch: pytest.MonkeyPatch, elsewhere: Graph
) -> None:
    launched_by(world, monkeypatch, "StandbyRunLauncher")
    assert execute(world, defs, assembled(elsewhere))[0] is DagsterRunStatus.SUCCESS


def test_a_host_with_another_default_provider_requests_nothing_and_names_the_difference(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched_by(world, monkeypatch, "LaneRunLauncher")
    chosen = {AssetKey(OHLC)}
    job = assembled(GRAPH).resolve_implicit_global_asset_job_def().get_subset(asset_selection=chosen)
    run = world.instance.create_run_for_job(
        job, tags={RANGE_START_TAG: SERIES, RANGE_END_TAG: SERIES}, asset_selection=frozenset(chosen)
    )
    monkeypatch.setenv("EMA_PROVIDER", "coinbase")
    monkeypatch.setenv("EMA_COINBASE_BASE_URL", world.sandbox.base_url)
    result = execute_run(InMemoryJob(job), run, world.instance, raise_on_error=False)
    (failed,) = result.filter_events(lambda each: each.is_step_failure)
    said = (
        f"the default provider of {socket.gethostname()} is coinbase, and that of the code location that launched the "
        "run is sandbox: give all hosts the same EMA_PROVIDER"
    )
    assert said in failed.step_failure_data.error.message
    with world.database.transaction() as transaction:
        asked = transaction.query("SELECT count(*) AS n FROM market.provider_call WHERE provider = 'coinbase'")
    assert asked["n"][0] == 0
