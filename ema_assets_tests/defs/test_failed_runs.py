"""Tests of the checks after a run in which a step has failed, as Dagster's UI shows them."""

from datetime import timedelta

import polars as pl
import pytest
from dagster import ExecuteInProcessResult

from ema_assets.defs.assets import step
from ema_assets.defs.run_tags import RANGE_END_TAG, RANGE_START_TAG
from ema_assets.model.timeframes import Timeframe
from ema_assets.refresh import compute
from ema_assets.refresh.graph import Node
from ema_assets.store.database import Transaction
from ema_assets_tests.defs.conftest import World
from ema_assets_tests.defs.staleness import ask
from ema_assets_tests.defs.test_refresh_runs import clear_faults, fault

_CHECKS = """
    query ($assetKey: AssetKeyInput!) {
        assetNodeOrError(assetKey: $assetKey) {
            ... on AssetNode {
                assetChecksOrError {
                    ... on AssetChecks {
                        checks { name executionForLatestMaterialization { status evaluation { description } } }
                    }
                }
            }
        }
    }
"""
# This check has results of partitions only, which are written when something changes.
_OF_PARTITIONS = "series_is_well"


def shown(world: World, asset: str) -> dict[str, tuple[str, str | None]]:
    """Return what the UI shows of the checks of `asset`: status and description by name."""
    answer = ask(world.instance, _CHECKS, {"assetKey": {"path": [asset]}})
    found = {}
    for check in answer["assetNodeOrError"]["assetChecksOrError"]["checks"]:
        execution = check["executionForLatestMaterialization"]
        if check["name"] != _OF_PARTITIONS:
            evaluation = (execution or {}).get("evaluation") or {}
            found[check["name"]] = ("" if execution is None else execution["status"], evaluation.get("description"))
    return found


def by_a_person(world: World, first: str, last: str) -> ExecuteInProcessResult:
    return world.run({RANGE_START_TAG: first, RANGE_END_TAG: last}, raise_on_error=False)


@pytest.mark.broad
@pytest.mark.settled
def test_a_run_that_fails_because_its_provider_is_down_still_reports_its_checks(world: World) -> None:
    assert by_a_person(world, "AAPL|5m", "AAPL|5m").success
    assert shown(world, "ohlc")["no_series_fails"] == ("SUCCEEDED", "No series failing")
    world.now += timedelta(minutes=5)
    fault(world, kind="server_error")
    run, *_ = world.sweep(raise_on_error=False)
    assert not run.success
    checks = shown(world, "ohlc")
    assert checks["no_series_fails"] == ("FAILED", "5 series failing")
    assert {status for name, (status, _) in checks.items() if name != "no_series_fails"} == {"SUCCEEDED"}
    clear_faults(world)
    world.now += timedelta(minutes=5)
    world.sweep()
    assert shown(world, "ohlc")["no_series_fails"] == ("SUCCEEDED", "No series failing")


@pytest.mark.broad
@pytest.mark.settled
def test_a_failing_asset_does_not_prevent_the_checks_of_other_assets(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = compute.compute

    def failing(transaction: Transaction, node: Node, timeframe: Timeframe, claimed: pl.DataFrame) -> compute.Computed:
        if node.name == "ema_trend":
            raise ValueError("boom")
        return usual(transaction, node, timeframe, claimed)

    monkeypatch.setattr(compute, "compute", failing)
    assert not by_a_person(world, "AAPL|5m", "MSFT|5m").success
    assert {status for status, _ in shown(world, "ohlc").values()} == {"SUCCEEDED"}
    assert shown(world, "ema_trend")["no_series_fails"] == ("FAILED", "2 series failing")


@pytest.mark.settled
def test_the_checks_pass_after_a_failed_run_of_a_partition_that_is_not_on_the_watchlist(world: World) -> None:
    world.instance.add_dynamic_partitions("symbol", ["NOSUCH"])
    assert not by_a_person(world, "NOSUCH|1h", "NOSUCH|1h").success
    assert {status for status, _ in shown(world, "ohlc").values()} == {"SUCCEEDED"}


def test_the_reason_that_many_series_share_is_told_once() -> None:
    failed = {f"S{number}|5m": "no" for number in range(7)} | {"X|5m": "another"}
    assert step.failures_text(failed) == "S0|5m, S1|5m, S2|5m, S3|5m, S4|5m and 2 more: no; X|5m: another"
    many = step.failures_text({f"S{number}|5m": str(number) for number in range(22)})
    assert many.endswith("S19|5m: 19; and 2 more")
