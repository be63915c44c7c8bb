"""Dagster looks up what a step reads where its own events will say so, and nowhere else."""

import pytest
from dagster import AssetExecutionContext, DagsterInstance, asset, materialize
from dagster._core.execution.context.system import StepExecutionContext

from ema_assets.defs import input_versions
from ema_assets.defs.run_tags import DEFER_TAG

FETCH = "fetch_external_input_asset_version_info"
seen: list[bool] = []


@asset
def bars() -> None: ...


@asset(deps=[bars])
def averages(context: AssetExecutionContext) -> None:
    seen.append(context.get_step_execution_context().is_external_input_asset_version_info_loaded)


@pytest.fixture(autouse=True)
def as_dagster_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The class is as without this module, until a test says otherwise, and afterwards as it was."""
    found = getattr(StepExecutionContext, FETCH)
    monkeypatch.setattr(StepExecutionContext, FETCH, input_versions._dagsters.get(FETCH, found))
    seen.clear()


def test_a_run_that_logs_its_own_events_looks_nothing_up_and_any_other_does_as_before() -> None:
    assert input_versions.install()
    assert input_versions.install()
    with DagsterInstance.ephemeral() as instance:
        assert materialize([bars, averages], instance=instance, tags={DEFER_TAG: "true"}).success
        assert seen == [False]
        assert instance.get_latest_materialization_event(averages.key) is None
        assert materialize([bars, averages], instance=instance).success
        assert seen == [False, True]
        event = instance.get_latest_materialization_event(averages.key)
        assert event is not None
        assert event.asset_materialization is not None
        read = {name for name in event.asset_materialization.tags or {} if name.endswith("/bars")}
        assert read == {"dagster/input_data_version/bars", "dagster/input_event_pointer/bars"}


def test_without_our_part_dagster_looks_up_what_is_never_asked_for() -> None:
    with DagsterInstance.ephemeral() as instance:
        assert materialize([bars, averages], instance=instance, tags={DEFER_TAG: "true"}).success
    assert seen == [True]


def test_a_dagster_that_is_not_as_we_know_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(self: object, keys: object) -> None: ...

    monkeypatch.setattr(StepExecutionContext, FETCH, fetch)
    assert not input_versions.install()
    assert getattr(StepExecutionContext, FETCH) is fetch
    monkeypatch.delattr(StepExecutionContext, FETCH)
    assert not input_versions.install()
