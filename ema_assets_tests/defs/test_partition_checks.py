"""Tests of the check that fails per partition: what Dagster answers about it after real runs."""

import json
from datetime import timedelta

import pytest
from dagster import AssetCheckKey, AssetKey, ExecuteInProcessResult

from ema_assets.defs.partition_checks import CHECK
from ema_assets.refresh.plan import closed_bars
from ema_assets.reports import health
from ema_assets.store.partition_checks import failed_partitions
from ema_assets_tests.defs import conftest
from ema_assets_tests.defs.conftest import World
from ema_assets_tests.defs.staleness import ask
from ema_assets_tests.defs.test_refresh_runs import clear_faults, fault
from ema_assets_tests.refresh.exchange import rows_of

_STATUSES = """
    query ($assetKey: AssetKeyInput!, $check: String!) {
        assetNodeOrError(assetKey: $assetKey) {
            ... on AssetNode {
                assetCheckOrError(checkName: $check) {
                    ... on AssetCheck {
                        partitionStatuses {
                            ... on AssetCheckMultiPartitionStatuses {
                                ranges {
                                    primaryDimStartKey
                                    secondaryDim {
                                        ... on AssetCheckDefaultPartitionStatuses {
                                            failedPartitions succeededPartitions inProgressPartitions
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
"""


def shown(world: World) -> dict[str, dict[str, list[str]]]:
    """Return what the UI shows of the check: timeframes by symbol and status."""
    answer = ask(world.instance, _STATUSES, {"assetKey": {"path": ["ohlc"]}, "check": CHECK})
    check = answer["assetNodeOrError"]["assetCheckOrError"]
    found: dict[str, dict[str, list[str]]] = {}
    for each in check["partitionStatuses"]["ranges"]:
        for status, keys in each["secondaryDim"].items():
            if keys:
                found.setdefault(each["primaryDimStartKey"], {})[status.removesuffix("Partitions")] = sorted(keys)
    return found


def written(world: World) -> list[tuple[str, str, str]]:
    """Return partition, status and description of every result of a partition, oldest first."""
    return [
        (partition, status, json.loads(event)["dagster_event"]["event_specific_data"]["description"])
        for partition, status, event in rows_of(
            world.database,
            """SELECT partition, execution_status, evaluation_event FROM dagster.asset_check_executions
               WHERE check_name = $1 AND partition IS NOT NULL AND execution_status <> 'PLANNED' ORDER BY id""",
            CHECK,
        )
    ]


@pytest.mark.broad
@pytest.mark.settled
def test_results_are_written_only_for_partitions_that_begin_to_fail_or_recover(world: World) -> None:
    fault(world, kind="server_error", symbols=["BTC/USD"])
    for _ in range(2):
        world.now += timedelta(minutes=5)
        (run,) = world.sweep()
        assert run.success
        assert len(written(world)) == 1, written(world)
        ((partition, status, reason),) = written(world)
        assert (partition, status) == ("BTC-USD|5m", "FAILED")
        assert reason.startswith("ohlc: ")
    assert shown(world) == {"BTC-USD": {"failed": ["5m"]}}
    clear_faults(world)
    world.now += timedelta(hours=1)
    world.sweep()
    assert written(world)[1:] == [("BTC-USD|5m", "SUCCEEDED", "The last attempt succeeded, and its bars are there.")]
    assert shown(world) == {"BTC-USD": {"succeeded": ["5m"]}}


def by_a_person(world: World) -> ExecuteInProcessResult:
    """Execute a run as Dagster launches it for a backfill of the bars of two symbols."""
    ohlc = AssetKey("ohlc")
    job = conftest.defs.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection=frozenset([ohlc]), asset_check_selection=frozenset([AssetCheckKey(ohlc, CHECK)])
    )
    return job.execute_in_process(
        instance=world.instance,
        tags={
            "dagster/asset_partition_range_start": "XOM|5m",
            "dagster/asset_partition_range_end": "BTC-USD|5m",
        },
        resources=world.resources,
        raise_on_error=False,
    )


@pytest.mark.settled
def test_a_run_of_a_person_reports_each_of_its_partitions_and_names_a_failed_series(
    world: World,
) -> None:
    assert by_a_person(world).success
    assert {(partition, status) for partition, status, _ in written(world)} == {
        ("XOM|5m", "SUCCEEDED"),
        ("BTC-USD|5m", "SUCCEEDED"),
    }
    fault(world, kind="server_error", symbols=["BTC/USD"])
    run = by_a_person(world)
    assert not run.success
    # The list of runs shows this tag without opening the run.
    failed = world.instance.get_run_by_id(run.run_id)
    assert failed is not None
    assert failed.tags["failed"] == "BTC-USD|5m"
    assert shown(world)["BTC-USD"] == {"failed": ["5m"]}
    with world.database.transaction() as transaction:
        assert failed_partitions(transaction, ["ohlc"], CHECK).keys() == {"BTC-USD|5m"}


@pytest.mark.settled
def test_the_check_without_partitions_reports_the_partitions_that_have_changed(world: World) -> None:
    """The button "Execute all" names no partition. Such a run once failed and was launched three more times."""
    with world.database.transaction() as transaction:
        transaction.execute(
            """UPDATE market.series_state SET failures = 1, last_error = 'HTTP 500'
               WHERE symbol = 'AAPL' AND timeframe = '5m' AND asset = 'ohlc'"""
        )
    checks = conftest.defs.resolve_asset_graph().get_check_keys_for_assets({AssetKey("ohlc")})
    assert len(checks) > 1
    job = conftest.defs.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection=frozenset(), asset_check_selection=frozenset(checks)
    )
    assert job.execute_in_process(instance=world.instance, resources=world.resources).success
    assert [each for each in written(world) if each[0]] == [("AAPL|5m", "FAILED", "ohlc: HTTP 500")]


@pytest.mark.broad
@pytest.mark.settled
def test_a_series_is_late_once_its_newest_twelve_bars_are_missing(world: World) -> None:
    def problems() -> dict[str, str]:
        with world.database.transaction() as transaction:
            late = health.late_series(transaction, closed_bars(transaction, world.now))
            return health.series_problems(health.failing(transaction), late)

    assert problems() == {}
    for bars, is_late in ((11, False), (12, True)):
        with world.database.transaction() as transaction:
            transaction.execute("DELETE FROM market.bar_gap")
            transaction.execute(
                """INSERT INTO market.bar_gap (symbol, timeframe, first_ts, last_ts, bars, status, next_attempt_at, found_at)
                   SELECT symbol, timeframe, last_ts + interval '5 minutes', last_ts + interval '5 minutes' * $2, $2, 'open',
                          now(), now()
                   FROM market.series_state WHERE asset = 'ohlc' AND symbol = $1 AND timeframe = '5m'""",
                "AAPL",
                bars,
            )
        assert list(problems()) == (["AAPL|5m"] if is_late else [])
    assert problems()["AAPL|5m"] == "no bar since 2026-11-20 15:25 UTC, though trading went on"
    # A series that fails shows its errors, and not that it is late.
    with world.database.transaction() as transaction:
        transaction.execute(
            """UPDATE market.series_state SET failures = 2, last_error = 'HTTP 500'
               WHERE symbol = 'AAPL' AND timeframe = '5m' AND asset IN ('ohlc', 'ema_trend')"""
        )
    assert problems()["AAPL|5m"] == "ema_trend: HTTP 500; ohlc: HTTP 500"


@pytest.mark.settled
@pytest.mark.parametrize("ends", [(), ("MSFT|5m", "AAPL|5m")])
def test_a_run_of_a_person_without_partitions_fails_with_one_sentence(world: World, ends: tuple[str, ...]) -> None:
    """In the past, a run with a range that ended before it began did nothing and succeeded."""
    job = conftest.defs.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection=frozenset([AssetKey("ohlc")])
    )
    names = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
    run = job.execute_in_process(
        instance=world.instance,
        tags=dict(zip(names, ends, strict=False)),
        resources=world.resources,
        raise_on_error=False,
    )
    (failure,) = run.get_step_failure_events()
    assert str(failure.step_failure_data.user_failure_data.description).startswith("this run has no partition: ")


@pytest.mark.broad
@pytest.mark.settled
def test_a_run_of_a_partition_added_in_the_ui_fails_and_says_how_symbols_are_added(world: World) -> None:
    world.instance.add_dynamic_partitions("symbol", ["NVDA"])
    job = conftest.defs.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection=frozenset([AssetKey("ohlc")])
    )
    run = job.execute_in_process(
        instance=world.instance,
        tags={
            "dagster/asset_partition_range_start": "BTC-USD|5m",
            "dagster/asset_partition_range_end": "NVDA|5m",
        },
        resources=world.resources,
        raise_on_error=False,
    )
    (failure,) = run.get_step_failure_events()
    said = str(failure.step_failure_data.user_failure_data.description)
    assert said.startswith("not on the watchlist: NVDA. ")
    assert "`ema-assets symbols add NVDA`" in said
