"""Tests of the inputs of a step: Dagster looks them up only when its own events name them."""

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
    """Restore Dagster's own method before a test, and the current method after it."""
    found = getattr(StepExecutionContext, FETCH)
    monkeypatch.setattr(StepExecutionContext, FETCH, input_versions._dagsters.get(FETCH, found))
    seen.clear()


def test_a_run_that_logs_its_own_events_looks_up_no_inputs_and_any_other_run_does() -> None:
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


def test_dagster_without_our_method_looks_up_inputs_that_no_event_names() -> None:
    with DagsterInstance.ephemeral() as instance:
        assert materialize([bars, averages], instance=instance, tags={DEFER_TAG: "true"}).success
    assert seen == [True]


def test_an_unknown_method_of_dagster_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(self: object, keys: object) -> None: ...

    monkeypatch.setattr(StepExecutionContext, FETCH, fetch)
    assert not input_versions.install()
    assert getattr(StepExecutionContext, FETCH) is fetch
    monkeypatch.delattr(StepExecutionContext, FETCH)
    assert not input_versions.install()
