"""Tests of backfills: which runs a choice of partitions becomes, and that they process only these partitions."""

import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from dagster import (
    AssetKey,
    AssetsDefinition,
    BackfillPolicy,
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    Definitions,
    DynamicPartitionsDefinition,
    MultiPartitionsDefinition,
    PartitionsDefinition,
    RunRequest,
    StaticPartitionsDefinition,
    asset,
    partition_loading_context,
)
from dagster._core.asset_graph_view.asset_graph_view import AssetGraphView
from dagster._core.definitions import automation_tick_evaluation_context as building
from dagster._core.definitions.events import AssetKeyPartitionKey
from dagster._core.execution import asset_backfill as bookkeeping

from ema_assets.defs import backfills
from ema_assets.defs.backfills import CHOSEN_TAG, chunks, run_partitions
from ema_assets.defs.run_tags import (
    BACKFILL_PRIORITY,
    BACKGROUND_LANE,
    LANE_TAG,
    PRIORITY_TAG,
    PURPOSE_TAG,
    RANGE_END_TAG,
    RANGE_START_TAG,
)
from ema_assets.model.asset_names import EMA_SIGNALS, OHLC
from ema_assets_tests.defs.conftest import World, defs

SYMBOLS = [f"S{number}" for number in range(100)]
TIMEFRAMES = ["5m", "15m", "1h", "1d"]


def test_twenty_scattered_symbols_on_all_timeframes_are_one_run() -> None:
    chosen = {f"{symbol}|{timeframe}" for symbol in SYMBOLS[::5] for timeframe in TIMEFRAMES}
    (chunk,) = chunks(chosen, SYMBOLS, TIMEFRAMES, 1000)
    assert set(chunk.partitions) == chosen
    assert len(chunk.partitions) == 80
    assert (str(chunk.first), str(chunk.last), chunk.is_whole) == ("S0|5m", "S95|1d", False)


def test_adjacent_partitions_become_one_whole_range() -> None:
    chosen = [f"{symbol}|{timeframe}" for symbol in SYMBOLS[3:6] for timeframe in TIMEFRAMES[1:3]]
    (chunk,) = chunks(reversed(chosen), SYMBOLS, TIMEFRAMES, 1000)
    assert list(chunk.partitions) == chosen
    assert (str(chunk.first), str(chunk.last), chunk.is_whole) == ("S3|15m", "S5|1h", True)


def test_a_chunk_spans_different_timeframes_per_symbol_without_adding_partitions() -> None:
    (chunk,) = chunks(["S1|1d", "S2|5m"], SYMBOLS, TIMEFRAMES, 1000)
    assert chunk.partitions == ("S1|1d", "S2|5m")
    assert (str(chunk.first), str(chunk.last), chunk.is_whole) == ("S1|5m", "S2|1d", False)


def test_many_partitions_become_several_chunks_that_divide_no_symbol() -> None:
    chosen = [f"{symbol}|{timeframe}" for symbol in SYMBOLS[:7] for timeframe in TIMEFRAMES]
    found = chunks(chosen, SYMBOLS, TIMEFRAMES, 10)
    assert [len(chunk.partitions) for chunk in found] == [8, 8, 8, 4]
    assert [partition for chunk in found for partition in chunk.partitions] == chosen
    assert [(chunk.first.symbol, chunk.last.symbol) for chunk in found] == [
        ("S0", "S1"),
        ("S2", "S3"),
        ("S4", "S5"),
        ("S6", "S6"),
    ]
    assert [len(chunk.partitions) for chunk in chunks(chosen, SYMBOLS, TIMEFRAMES, 3)] == [4] * 7


def requests_for(
    world: World, partitions: Sequence[str], assets: Sequence[str] = (OHLC,), all_there_is: Definitions = defs
) -> Sequence[RunRequest]:
    """Return the run requests that Dagster's daemon makes for a backfill."""
    wanted = [AssetKeyPartitionKey(AssetKey(asset), partition) for asset in assets for partition in partitions]
    ask: Any = vars(bookkeeping)["build_run_requests_with_backfill_policies"]
    with partition_loading_context(dynamic_partitions_store=world.instance):
        requests: Sequence[RunRequest] = ask(wanted, all_there_is.resolve_asset_graph(), world.instance)
        return requests


def by_backfill(world: World, request: RunRequest, *, raise_on_error: bool = True) -> Any:
    """Execute a run of `request` as the daemon launches it."""
    job = defs.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection=frozenset(request.asset_selection or ()), asset_check_selection=frozenset()
    )
    return job.execute_in_process(
        instance=world.instance,
        tags={**request.tags, "dagster/backfill": "abcdefgh"},
        resources=world.resources,
        raise_on_error=raise_on_error,
    )


def planned(instance: DagsterInstance, run_id: str) -> set[tuple[str, str]]:
    found = set()
    for event in instance.all_logs(run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION_PLANNED):
        assert event.dagster_event is not None
        said: Any = event.dagster_event.event_specific_data
        found |= {(said.asset_key.to_user_string(), str(key)) for key in said.partitions_subset.get_partition_keys()}
    return found


@pytest.mark.settled
def test_a_backfill_is_one_run_that_materializes_only_the_chosen_partitions(world: World) -> None:
    chosen = ["AAPL|5m", "AAPL|1d", "JPM|1h", "BTC-USD|5m"]
    (request,) = requests_for(world, chosen, [OHLC, EMA_SIGNALS])
    assert request.tags[PURPOSE_TAG] == "backfill, 4 series"
    run = by_backfill(world, request)
    expected = sorted((asset, partition) for asset in (OHLC, EMA_SIGNALS) for partition in chosen)
    assert world.materialized(run.run_id) == expected
    # Partitions between them are not shown as in progress, nor as failed when the run fails.
    assert planned(world.instance, run.run_id) == set(expected)
    stored = world.instance.get_run_by_id(run.run_id)
    assert stored is not None
    assert CHOSEN_TAG not in stored.tags
    assert (stored.tags[LANE_TAG], stored.tags[PRIORITY_TAG]) == (BACKGROUND_LANE, BACKFILL_PRIORITY)


def test_dagster_counts_the_chosen_partitions_as_requested(world: World) -> None:
    """This test fails when a Dagster upgrade counts the whole rectangle. A backfill would show too many partitions."""
    chosen = ["AAPL|5m", "JPM|1h", "XOM|1h"]
    view = AssetGraphView.for_test(defs, world.instance)
    requests = [*requests_for(world, chosen), *requests_for(world, ["AAPL|5m", "MSFT|5m"], [EMA_SIGNALS])]
    requested = bookkeeping._get_requested_asset_graph_subset_from_run_requests(requests, view)
    assert {(pair.asset_key.to_user_string(), pair.partition_key) for pair in requested.iterate_asset_partitions()} == {
        *((OHLC, partition) for partition in chosen),
        *((EMA_SIGNALS, partition) for partition in ("AAPL|5m", "MSFT|5m")),
    }


def test_a_retried_run_has_the_same_partitions(world: World) -> None:
    tags = {"dagster/backfill": "abcdefgh", RANGE_START_TAG: "AAPL|5m", RANGE_END_TAG: "JPM|5m"}
    first = world.instance.run_storage.add_run(
        DagsterRun("job", tags={**tags, CHOSEN_TAG: json.dumps(["AAPL|5m", "JPM|5m"])})
    )
    again = world.instance.run_storage.add_run(
        DagsterRun("job", tags=tags, parent_run_id=first.run_id, root_run_id=first.run_id)
    )
    stored = world.instance.get_run_by_id(again.run_id)
    assert stored is not None
    subset: Any = stored.partitions_subset
    assert {each.start for each in subset.key_ranges} == {"AAPL|5m", "JPM|5m"}


@pytest.mark.broad
def test_a_run_that_is_executed_again_does_not_inherit_the_tags_of_the_failure(world: World) -> None:
    tags = {RANGE_START_TAG: "AAPL|5m", RANGE_END_TAG: "JPM|5m"}
    first = world.instance.run_storage.add_run(DagsterRun("job", tags=tags))
    ended = {"failed": "JPM|5m", "dagster/retry_on_asset_or_op_failure": "false"}
    again = world.instance.run_storage.add_run(
        DagsterRun("job", tags={**first.tags, **ended}, parent_run_id=first.run_id, root_run_id=first.run_id)
    )
    stored = world.instance.get_run_by_id(again.run_id)
    assert stored is not None
    assert not ended.keys() & stored.tags.keys()


@pytest.mark.settled
def test_a_run_that_a_person_executes_again_has_the_chosen_partitions(world: World) -> None:
    """*Re-execute* in the UI makes a separate run, outside the backfill."""
    chosen = ["AAPL|5m", "JPM|1h", "BTC-USD|5m"]
    (request,) = requests_for(world, chosen)
    first = world.instance.get_run_by_id(by_backfill(world, request).run_id)
    assert first is not None
    job = defs.resolve_implicit_global_asset_job_def().get_subset(asset_selection=frozenset([AssetKey(OHLC)]))
    tags = {key: value for key, value in first.tags.items() if key != "dagster/backfill"}
    again = world.instance.create_run_for_job(
        job,
        tags=tags,
        parent_run_id=first.run_id,
        root_run_id=first.run_id,
        asset_selection=frozenset([AssetKey(OHLC)]),
    )
    assert planned(world.instance, again.run_id) == {(OHLC, partition) for partition in chosen}
    stored = world.instance.get_run_by_id(again.run_id)
    assert stored is not None
    context: Any = SimpleNamespace(partition_keys=["AAPL|5m", "MSFT|5m", "JPM|1h"], run=stored)
    assert run_partitions(context) == ["AAPL|5m", "JPM|1h"]


@pytest.mark.parametrize(
    "tags", [{RANGE_START_TAG: "AAPL|5m", RANGE_END_TAG: "JPM|5m"}, {"dagster/partition": "AAPL|5m"}]
)
def test_a_run_of_a_person_gets_the_background_lane_and_the_priority_of_backfills(
    world: World, tags: dict[str, str]
) -> None:
    run = world.instance.run_storage.add_run(DagsterRun("job", tags=tags))
    stored = world.instance.get_run_by_id(run.run_id)
    assert stored is not None
    assert (stored.tags[LANE_TAG], stored.tags[PRIORITY_TAG]) == (BACKGROUND_LANE, BACKFILL_PRIORITY)
    live = world.instance.run_storage.add_run(DagsterRun("job", tags={**tags, LANE_TAG: "live", PRIORITY_TAG: "0"}))
    kept = world.instance.get_run_by_id(live.run_id)
    assert kept is not None
    assert (kept.tags[LANE_TAG], kept.tags[PRIORITY_TAG]) == ("live", "0")


def host(name: str, partitions: PartitionsDefinition[Any], policy: BackfillPolicy) -> AssetsDefinition:
    """Return an asset of another project."""

    @asset(name=name, partitions_def=partitions, backfill_policy=policy)
    def theirs() -> None: ...

    return theirs


def ranges(requests: Sequence[RunRequest]) -> list[tuple[list[str], str, str]]:
    """Return the assets, the first partition and the last partition of each of `requests`."""
    assert not any(CHOSEN_TAG in request.tags for request in requests)
    return sorted(
        (
            sorted(key.to_user_string() for key in request.asset_selection or ()),
            request.tags[RANGE_START_TAG],
            request.tags[RANGE_END_TAG],
        )
        for request in requests
    )


def test_an_asset_of_the_host_with_the_same_partitions_follows_its_own_backfill_policy(world: World) -> None:
    ours = defs.resolve_asset_graph().get(AssetKey(OHLC)).partitions_def
    assert ours is not None
    single, two = BackfillPolicy.single_run(), BackfillPolicy.multi_run(2)
    merged = Definitions.merge(defs, Definitions(assets=[host("orders", ours, single), host("pairs", ours, two)]))
    scattered = ["AAPL|5m", "JPM|5m"]
    apart = [(["orders"], partition, partition) for partition in scattered]
    assert ranges(requests_for(world, scattered, ["orders"], merged)) == apart
    row = ["AAPL|5m", "AAPL|15m", "AAPL|1h"]
    assert ranges(requests_for(world, row, ["pairs"], merged)) == [
        (["pairs"], "AAPL|1h", "AAPL|1h"),
        (["pairs"], "AAPL|5m", "AAPL|15m"),
    ]
    # Together with an asset of ours, there is one run per partition for both assets.
    assert ranges(requests_for(world, scattered, [OHLC, "orders"], merged)) == [
        ([OHLC, "orders"], partition, partition) for partition in scattered
    ]
    (request,) = requests_for(world, scattered, [OHLC], merged)
    assert request.tags[PURPOSE_TAG] == "backfill, 2 series"


@pytest.mark.broad
def test_partitions_of_the_host_with_dimensions_named_like_ours_keep_the_runs_of_dagster(world: World) -> None:
    days = MultiPartitionsDefinition(
        {"symbol": DynamicPartitionsDefinition(name="coins__symbol"), "timeframe": StaticPartitionsDefinition(["day"])}
    )
    world.instance.add_dynamic_partitions("coins__symbol", ["X", "Y"])
    merged = Definitions.merge(defs, Definitions(assets=[host("coins", days, BackfillPolicy.single_run())]))
    assert ranges(requests_for(world, ["X|day", "Y|day"], ["coins"], merged)) == [(["coins"], "X|day", "Y|day")]


@pytest.mark.parametrize("key", ["2026-11-27", "X|day", "a"])
def test_a_run_of_the_host_whose_partition_is_no_series_keeps_its_tags(world: World, key: str) -> None:
    for tags in (
        {"dagster/partition": key, "dagster/backfill": "abcdefgh"},
        {RANGE_START_TAG: key, RANGE_END_TAG: key},
    ):
        run = world.instance.run_storage.add_run(DagsterRun("job", tags=tags))
        stored = world.instance.get_run_by_id(run.run_id)
        assert stored is not None
        assert stored.tags == tags


@pytest.mark.broad
def test_dagster_makes_its_own_runs_when_its_private_functions_have_changed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def built(asset_keys: Any, other: Any) -> None: ...

    assert backfills.install()
    monkeypatch.setattr(building, "_build_run_requests_with_backfill_policy", built)
    assert not backfills.install()
    assert vars(building)["_build_run_requests_with_backfill_policy"] is built
    monkeypatch.setattr(
        building, "_build_run_requests_with_backfill_policy", backfills._dagsters["build"], raising=True
    )
    monkeypatch.delattr(bookkeeping, "_get_requested_asset_graph_subset_from_run_requests")
    assert not backfills.install()
    requests = requests_for(world, ["AAPL|5m", "JPM|5m"])
    assert sorted(request.tags[RANGE_START_TAG] for request in requests) == ["AAPL|5m", "JPM|5m"]
    # Without the changed bookkeeping, no run may span more than the chosen partitions.
    assert not any(CHOSEN_TAG in request.tags for request in requests)
