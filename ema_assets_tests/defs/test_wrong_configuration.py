"""What somebody sees of a mistake in the configuration who looks at Dagster's UI alone, asked through GraphQL."""

import warnings
from collections.abc import Mapping
from typing import Any

from dagster import DagsterRunStatus, SensorDefinition, build_sensor_context
from dagster._core.workspace.context import WorkspaceRequestContext

from ema_assets.config.settings import Settings
from ema_assets.defs.assembly import assembled
from ema_assets.defs.run_tags import RANGE_END_TAG, RANGE_START_TAG
from ema_assets_tests.defs.conftest import GRAPH, World, sync_watchlist
from ema_assets_tests.defs.test_lost_runs import code_server, launched, wait_until

_TICK = """
    mutation ($selector: SensorSelector!, $cursor: String) {
        sensorDryRun(selectorData: $selector, cursor: $cursor) {
            ... on DryRunInstigationTick { evaluationResult {
                cursor skipReason error { message className stack cause { message } }
                dynamicPartitionsRequests { partitionKeys type }
            } }
        }
    }
"""
_CLOSE = """
    mutation ($selector: ScheduleSelector!, $timestamp: Float) {
        scheduleDryRun(selectorData: $selector, timestamp: $timestamp) {
            ... on DryRunInstigationTick { evaluationResult { skipReason error { message } } }
        }
    }
"""
_DEPLOYMENT = """
    mutation { answer: reloadRepositoryLocation(repositoryLocationName: "product") {
        ... on WorkspaceLocationEntry { locationOrLoadError {
            __typename ... on PythonError { message className stack cause { message } }
        } }
    } }
"""
_WRONG = "group 1: unknown key `calender`"


def asked(workspace: WorkspaceRequestContext, query: str, variables: Mapping[str, Any] | None = None) -> Any:
    from dagster_graphql.test.utils import execute_dagster_graphql

    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        answer = execute_dagster_graphql(workspace, query, dict(variables or {}))
    assert not answer.errors, answer.errors
    return answer.data


def ticked(workspace: WorkspaceRequestContext, sensor: str, cursor: str | None = None) -> Any:
    """What a tick of `sensor` says."""
    selector = {"repositoryLocationName": "product", "repositoryName": "__repository__", "sensorName": sensor}
    return asked(workspace, _TICK, {"selector": selector, "cursor": cursor})["sensorDryRun"]["evaluationResult"]


def deployed(workspace: WorkspaceRequestContext) -> Any:
    """What Deployment shows of the code location when somebody presses Reload."""
    return asked(workspace, _DEPLOYMENT)["answer"]["locationOrLoadError"]


def status_of(world: World, run_id: str) -> DagsterRunStatus:
    run = world.instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def errors_of(world: World, run_id: str) -> list[str]:
    """The errors in the events of a run, each without a frame of ours."""
    found = []
    for log in world.instance.all_logs(run_id):
        event = log.dagster_event
        error = event.engine_event_data.error if event is not None and event.is_engine_event else None
        if error is not None:
            assert (error.stack, error.cause) == ([], None)
            found.append(error.message)
    return found


def test_a_mistake_is_seen_at_the_ticks_in_deployment_and_in_runs_and_so_is_that_it_is_mended(world: World) -> None:
    right = world.watchlist_path.read_text()
    wrong = right.replace("calendar", "calender", 1)
    with code_server(world) as workspace:
        first = ticked(workspace, "sync_watchlist")
        assert first["error"] is None
        assert first["cursor"]
        quiet = "watchlist.toml has not changed: 5 symbols"
        assert ticked(workspace, "sync_watchlist", first["cursor"])["skipReason"] == quiet

        world.watchlist_path.write_text(wrong)
        failed = ticked(workspace, "sync_watchlist", first["cursor"])["error"]
        assert _WRONG in failed["message"]
        assert str(world.watchlist_path) in failed["message"]
        assert "did you mean `calendar`?" in failed["message"]
        assert "\nNothing is launched until this is mended: what is stored stays" in failed["message"]
        assert (failed["stack"], failed["cause"]) == ([], None)
        assert _WRONG in ticked(workspace, "sweep")["skipReason"]
        close = asked(
            workspace,
            _CLOSE,
            {
                "selector": {
                    "repositoryLocationName": "product",
                    "repositoryName": "__repository__",
                    "scheduleName": "refresh_5m",
                },
                "timestamp": world.now.timestamp(),
            },
        )["scheduleDryRun"]["evaluationResult"]
        assert close["error"] is None
        assert close["skipReason"].startswith("nothing is launched: ")
        assert _WRONG in close["skipReason"]

        run_id = launched(world, workspace, {RANGE_START_TAG: "AAPL|5m", RANGE_END_TAG: "AAPL|5m"})
        wait_until(lambda: status_of(world, run_id) is DagsterRunStatus.FAILURE)
        assert any(_WRONG in message for message in errors_of(world, run_id))

        world.watchlist_path.write_text(right)
        mended = ticked(workspace, "sync_watchlist", first["cursor"])
        assert mended["skipReason"] == (
            "the configuration is right again: watchlist.toml was read and has not changed: 5 symbols"
        )
        assert ticked(workspace, "sync_watchlist", first["cursor"])["skipReason"] == quiet


def test_a_code_location_that_cannot_load_is_told_in_one_sentence_and_comes_back(world: World) -> None:
    folder = Settings.from_env().home / "signals"
    folder.mkdir(parents=True)
    mine = folder / "mine.py"
    mine.write_text("import numpy\n\nSIGNAL = Signal(name='mine')\n")
    # Dagster warns its own log of a location that does not load.
    with warnings.catch_warnings(action="ignore", category=UserWarning), code_server(world) as workspace:
        loaded = deployed(workspace)
        assert loaded["__typename"] == "PythonError"
        assert loaded["message"] == (f"{mine}: line 3: cannot be imported: NameError: name 'Signal' is not defined")
        assert (loaded["className"], loaded["stack"], loaded["cause"]) == ("WrongConfiguration", [], None)
        mine.unlink()
        assert deployed(workspace)["__typename"] == "RepositoryLocation"


def test_the_first_tick_after_a_reload_says_that_the_file_was_read_also_where_it_is_as_it_was(world: World) -> None:
    def tick(sensor: SensorDefinition, cursor: str | None) -> Any:
        return sensor._raw_fn(build_sensor_context(instance=world.instance, cursor=cursor), **world.resources)

    cursor = tick(sync_watchlist, None).cursor
    reloaded = assembled(GRAPH).resolve_sensor_def("sync_watchlist")
    said = [tick(reloaded, cursor).skip_message for _ in range(2)]
    assert said == [
        "watchlist.toml was read and has not changed: 5 symbols",
        "watchlist.toml has not changed: 5 symbols",
    ]
