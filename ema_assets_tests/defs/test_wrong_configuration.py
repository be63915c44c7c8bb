"""Tests of what Dagster's UI shows about a mistake in the configuration, with queries through GraphQL."""

import re
import warnings
from collections.abc import Mapping
from typing import Any

import pytest
from dagster import DagsterRunStatus, SensorDefinition, build_sensor_context
from dagster._core.workspace.context import WorkspaceRequestContext

from ema_assets.config import watchlist
from ema_assets.config.settings import Settings
from ema_assets.defs.assembly import assembled
from ema_assets.defs.one_sentence import WrongConfiguration
from ema_assets.defs.run_tags import RANGE_END_TAG, RANGE_START_TAG
from ema_assets.operations.sync_watchlist import sync
from ema_assets.refresh.graph import build
from ema_assets.reports.status import not_synced
from ema_assets.runtime.news import News
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
_ENTRY = """... on WorkspaceLocationEntry { locationOrLoadError {
    __typename ... on PythonError { message className stack cause { message } }
} }"""
_DEPLOYMENT = f'query {{ answer: workspaceLocationEntryOrError(name: "product") {{ {_ENTRY} }} }}'
_RELOAD = f'mutation {{ answer: reloadRepositoryLocation(repositoryLocationName: "product") {{ {_ENTRY} }} }}'
_WRONG = "group 1: unknown key `calender`"


def asked(workspace: WorkspaceRequestContext, query: str, variables: Mapping[str, Any] | None = None) -> Any:
    from dagster_graphql.test.utils import execute_dagster_graphql

    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        answer = execute_dagster_graphql(workspace, query, dict(variables or {}))
    assert not answer.errors, answer.errors
    return answer.data


def ticked(workspace: WorkspaceRequestContext, sensor: str, cursor: str | None = None) -> Any:
    """Return the result of a tick of `sensor`."""
    selector = {"repositoryLocationName": "product", "repositoryName": "__repository__", "sensorName": sensor}
    return asked(workspace, _TICK, {"selector": selector, "cursor": cursor})["sensorDryRun"]["evaluationResult"]


def deployed(workspace: WorkspaceRequestContext, query: str = _DEPLOYMENT) -> Any:
    """Return what Deployment shows of the code location. With `_RELOAD`, reload it first, as its button does."""
    return asked(workspace, query)["answer"]["locationOrLoadError"]


def skipped_at_close(world: World, workspace: WorkspaceRequestContext) -> Any:
    """Return why a schedule launches nothing."""
    selector = {"repositoryLocationName": "product", "repositoryName": "__repository__", "scheduleName": "refresh_5m"}
    answer = asked(workspace, _CLOSE, {"selector": selector, "timestamp": world.now.timestamp()})
    close = answer["scheduleDryRun"]["evaluationResult"]
    assert close["error"] is None
    return close["skipReason"]


def status_of(world: World, run_id: str) -> DagsterRunStatus:
    run = world.instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def errors_of(world: World, run_id: str) -> list[str]:
    """Return the errors in the events of a run, and assert that none has a stack or a cause."""
    found = []
    for log in world.instance.all_logs(run_id):
        event = log.dagster_event
        error = event.engine_event_data.error if event is not None and event.is_engine_event else None
        if error is not None:
            assert (error.stack, error.cause) == ([], None)
            found.append(error.message)
    return found


@pytest.mark.broad
def test_a_mistake_is_shown_in_deployment_ticks_and_runs_and_its_correction_in_ticks(world: World) -> None:
    mine = Settings.from_env().home / "signals" / "mine.py"
    mine.parent.mkdir(parents=True)
    mine.write_text("import numpy\n\nSIGNAL = Signal(name='mine')\n")
    right = world.watchlist_path.read_text()
    # Dagster logs a warning about a location that does not load.
    with warnings.catch_warnings(action="ignore", category=UserWarning), code_server(world) as server:
        # The first mistake prevents the code location from loading.
        lost = deployed(server)
        assert lost["__typename"] == "PythonError"
        assert lost["message"] == f"{mine}: line 3: cannot be imported: NameError: name 'Signal' is not defined"
        assert (lost["className"], lost["stack"], lost["cause"]) == ("WrongConfiguration", [], None)
        mine.unlink()
        assert deployed(server, _RELOAD)["__typename"] == "RepositoryLocation"
        workspace = server.process_context.create_request_context()

        first = ticked(workspace, "sync_watchlist")
        assert first["error"] is None
        assert first["cursor"]
        quiet = "watchlist.toml has not changed: 5 symbols"
        assert ticked(workspace, "sync_watchlist", first["cursor"])["skipReason"] == quiet

        # The second mistake is made after the code location was loaded.
        world.watchlist_path.write_text(right.replace("calendar", "calender", 1))
        failed = ticked(workspace, "sync_watchlist", first["cursor"])["error"]
        assert _WRONG in failed["message"]
        assert str(world.watchlist_path) in failed["message"]
        assert "did you mean `calendar`?\nNothing is launched until this is mended: what is" in failed["message"]
        assert (failed["stack"], failed["cause"]) == ([], None)
        assert _WRONG in ticked(workspace, "sweep")["skipReason"]
        assert skipped_at_close(world, workspace).startswith(f"nothing is launched: {world.watchlist_path}: {_WRONG}")

        run_id = launched(world, workspace, {RANGE_START_TAG: "AAPL|5m", RANGE_END_TAG: "AAPL|5m"})
        wait_until(lambda: status_of(world, run_id) is DagsterRunStatus.FAILURE)
        assert any(_WRONG in message for message in errors_of(world, run_id))

        world.watchlist_path.write_text(right)
        mended = ticked(workspace, "sync_watchlist", first["cursor"])
        assert mended["skipReason"] == (
            "the configuration is right again: watchlist.toml was read and has not changed: 5 symbols"
        )
        assert ticked(workspace, "sync_watchlist", first["cursor"])["skipReason"] == quiet


@pytest.mark.broad
def test_the_first_tick_after_a_reload_says_that_the_unchanged_file_was_read(world: World) -> None:
    def tick(sensor: SensorDefinition, cursor: str | None) -> Any:
        return sensor._raw_fn(build_sensor_context(instance=world.instance, cursor=cursor), **world.resources)

    cursor = tick(sync_watchlist, None).cursor
    reloaded = assembled(GRAPH).resolve_sensor_def("sync_watchlist")
    said = [tick(reloaded, cursor).skip_message for _ in range(2)]
    assert said == [
        "watchlist.toml was read and has not changed: 5 symbols",
        "watchlist.toml has not changed: 5 symbols",
    ]


def test_a_refusal_of_the_database_is_one_sentence_and_is_stored_until_it_no_longer_applies(
    world: World,
) -> None:
    def tick(cursor: str | None = None) -> Any:
        sensor = assembled(GRAPH).resolve_sensor_def("sync_watchlist")
        return sensor._raw_fn(build_sensor_context(instance=world.instance, cursor=cursor), **world.resources)

    def kept() -> str | None:
        with world.database.transaction() as transaction:
            return not_synced(transaction)

    def shown_by_up() -> list[str]:
        said: list[str] = []
        News(said.append).look(world.database)
        return [line for line in said if "watchlist" in line]

    def execute(sql: str) -> None:
        with world.database.transaction() as transaction:
            transaction.execute(sql)

    # The database has more signals than the files have now, and a view of the user reads one of them.
    with_more = watchlist.parse(re.sub(r"off = .*", "off = []", world.watchlist_path.read_text()))
    sync(world.database, with_more, world.now, build(with_more))
    execute("CREATE SCHEMA mine")
    execute("CREATE VIEW mine.v AS SELECT symbol, rsi FROM results.signals")
    with pytest.raises(WrongConfiguration) as failed:
        tick()
    sentence, consequence = str(failed.value).splitlines()
    assert sentence.startswith("the view mine.v of yours reads what has changed and cannot be made again: column ")
    assert consequence.startswith("The watchlist was not synced: everything goes on")
    said = kept()
    assert said is not None
    assert re.fullmatch(r"not taken up since \d{4}-\d\d-\d\d \d\d:\d\d UTC: " + re.escape(sentence), said)
    assert shown_by_up() == [f"  the watchlist is {said}"]
    # A sync that succeeds deletes the stored refusal.
    execute("DROP VIEW mine.v")
    cursor = tick().cursor
    assert (kept(), shown_by_up()) == (None, [])

    # An unchanged file deletes it, too, because then there is nothing to sync.
    execute("INSERT INTO ema_assets.sync_failure (reason) VALUES ('a mistake that was taken back')")
    assert tick(cursor).skip_message == "watchlist.toml was read and has not changed: 5 symbols"
    assert kept() is None
