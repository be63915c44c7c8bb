"""Tests of what Dagster's UI says about staleness, after each way to bring a partition up to date."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from dagster import AssetKey, AssetMaterialization, AssetRecordsFilter, ExecuteInProcessResult

from ema_assets.config import watchlist
from ema_assets.definitions import assembled
from ema_assets.defs.materializations import Recorder
from ema_assets.defs.run_tags import DEFER_TAG
from ema_assets.model.asset_names import CHAIN, EMA_SIGNALS, EMA_TREND, OHLC, STRATEGY
from ema_assets.operations.maintain import Retention, maintain
from ema_assets.refresh.graph import Node, build
from ema_assets_tests.core import rewrite
from ema_assets_tests.defs import conftest
from ema_assets_tests.defs.conftest import FRAMES, WATCHLIST, World
from ema_assets_tests.defs.staleness import stale, statuses
from ema_assets_tests.defs.test_refresh_runs import fault

RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def backfill(world: World, first: str, last: str, assets: Sequence[str] = CHAIN) -> ExecuteInProcessResult:
    """Execute a run as Dagster launches it for a backfill of a range, of all assets or of some."""
    job = conftest.defs.resolve_implicit_global_asset_job_def()
    return job.get_subset(asset_selection=frozenset(AssetKey(asset) for asset in assets)).execute_in_process(
        instance=world.instance,
        tags={RANGE_START: first, RANGE_END: last, "dagster/backfill": "abcdefgh"},
        resources=world.resources,
    )


def correct(world: World, symbol: str, close: float = 1.001) -> None:
    """Let the provider change the last stored 5m bar of `symbol`."""
    with world.database.transaction() as transaction:
        bar = transaction.query(
            "SELECT ts, high FROM market.ohlc_5m WHERE symbol = $1 ORDER BY ts DESC LIMIT 1", symbol
        )
    fault(
        world,
        kind="corrected_bar",
        symbols=[symbol],
        ts=bar["ts"].item().isoformat(),
        high=bar["high"].item() * close,
    )


def tags(world: World, asset: str, partition: str) -> dict[str, str]:
    found = world.instance.fetch_materializations(
        AssetRecordsFilter(asset_key=AssetKey(asset), asset_partitions=[partition]), limit=1
    )
    materialization = found.records[0].asset_materialization
    assert materialization is not None
    return dict(materialization.tags or {})


def test_every_partition_is_fresh_after_sweeps(world: World) -> None:
    world.sweep_until_fresh()
    found = statuses(world.instance, CHAIN)
    assert len(found) == len(CHAIN) * 20
    assert set(found.values()) == {"FRESH"}
    # One series gets no bar and keeps its data version. The others get a bar.
    before = tags(world, OHLC, "AAPL|5m")["dagster/data_version"]
    fault(world, kind="missing_symbol", symbols=["AAPL"])
    world.now += timedelta(minutes=5)
    world.sweep_until_fresh()
    assert tags(world, OHLC, "AAPL|5m")["dagster/data_version"] == before
    assert stale(world.instance, CHAIN) == {}


@pytest.mark.broad
@pytest.mark.settled
def test_partitions_computed_without_dagster_are_missing_until_a_run_reports_them(world: World) -> None:
    with world.database.transaction() as transaction:
        transaction.execute("UPDATE market.series_state SET recorded_at = NULL")
    assert set(statuses(world.instance, CHAIN).values()) == {"MISSING"}
    # A backfill of one asset first reports the inputs that it has read.
    backfill(world, "AAPL|1h", "MSFT|1h", [EMA_TREND])
    partitions = ["AAPL|1h", "MSFT|1h"]
    told = statuses(world.instance, CHAIN, partitions)
    assert {key for key, status in told.items() if status == "MISSING"} == {(STRATEGY, each) for each in partitions}
    assert set(told.values()) == {"FRESH", "MISSING"}
    world.let_grace_pass()
    world.sweep_until_fresh()
    assert stale(world.instance, CHAIN) == {}


@pytest.mark.broad
@pytest.mark.settled
def test_every_partition_is_fresh_after_backfills(world: World) -> None:
    world.tell()
    backfill(world, "AAPL|5m", "BTC-USD|1h")
    assert stale(world.instance, CHAIN) == {}
    # Dagster reads two events per queried partition, so only these partitions are queried before the end.
    hours = ["MSFT|1h", "JPM|1h", "XOM|1h"]
    for assets in ([EMA_TREND], [OHLC], [EMA_SIGNALS, STRATEGY]):
        backfill(world, "MSFT|1h", "XOM|1h", assets)
        assert stale(world.instance, CHAIN, hours) == {}
    # A change by a backfill makes the assets that read it stale.
    with world.database.transaction() as transaction:
        transaction.execute("UPDATE market.ema_signals SET ema_9 = 1 WHERE symbol = 'JPM' AND timeframe = '1h'")
    backfill(world, "MSFT|1h", "XOM|1h", [EMA_SIGNALS])
    assert stale(world.instance, CHAIN, hours) == {(EMA_TREND, "JPM|1h"): f"DATA {EMA_SIGNALS}"}
    backfill(world, "MSFT|1h", "XOM|1h", [EMA_TREND, STRATEGY])
    assert stale(world.instance, CHAIN) == {}


@pytest.mark.settled
def test_a_corrected_bar_makes_its_downstream_partitions_stale_until_they_are_computed(world: World) -> None:
    world.tell()
    correct(world, "AAPL")
    backfill(world, "AAPL|5m", "BTC-USD|5m", [OHLC])
    assert stale(world.instance, CHAIN) == {(EMA_SIGNALS, "AAPL|5m"): "DATA ohlc", (STRATEGY, "AAPL|5m"): "DATA ohlc"}
    # Bars rolled up from it are other partitions of the same asset, which cannot be inputs in Dagster.
    world.sweep_until_fresh()
    assert stale(world.instance, CHAIN) == {}


@pytest.mark.settled
def test_changed_code_makes_its_asset_stale_and_changed_data_makes_the_assets_that_read_it_stale(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.tell()
    rewrite(monkeypatch, EMA_SIGNALS)
    monkeypatch.setattr(conftest, "defs", assembled(build(watchlist.parse(WATCHLIST))))
    partitions = [f"{symbol}|{timeframe.key}" for symbol in world.symbols for timeframe in FRAMES]
    changed = {(EMA_SIGNALS, partition): f"CODE {EMA_SIGNALS}" for partition in partitions}
    assert stale(world.instance, CHAIN) == changed
    # The old rows stay stale after the new version was adopted, even when they are reported to Dagster again.
    world.sync()
    with world.database.transaction() as transaction:
        transaction.execute("UPDATE market.series_state SET recorded_at = NULL, next_attempt_at = '2100-01-01Z'")
    backfill(world, "AAPL|1h", "BTC-USD|1h", [EMA_TREND])
    assert stale(world.instance, CHAIN) == changed
    with world.database.transaction() as transaction:
        transaction.execute("UPDATE market.ema_signals SET ema_9 = 1 WHERE symbol = 'JPM' AND timeframe = '1h'")
    backfill(world, "AAPL|5m", "BTC-USD|1d", [EMA_SIGNALS])
    assert stale(world.instance, CHAIN) == {(EMA_TREND, "JPM|1h"): f"DATA {EMA_SIGNALS}"}


@pytest.mark.broad
@pytest.mark.settled
def test_a_materialization_names_the_version_of_its_input_that_was_read_and_no_later_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the computation of signals and their recording, another run corrects and records their bars."""
    world.tell()
    read = tags(world, OHLC, "AAPL|5m")["dagster/data_version"]
    record = Recorder.record

    def meanwhile(recorder: Recorder, node: Node, *given: Any, **named: Any) -> None:
        if node.name == EMA_SIGNALS:
            patch.undo()
            correct(world, "AAPL")
            backfill(world, "AAPL|5m", "AAPL|5m", [OHLC])
        record(recorder, node, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "record", meanwhile)
        backfill(world, "AAPL|5m", "MSFT|5m", [EMA_SIGNALS])
    assert int(tags(world, OHLC, "AAPL|5m")["dagster/data_version"]) == int(read) + 1
    assert tags(world, EMA_SIGNALS, "AAPL|5m")["dagster/input_data_version/ohlc"] == read
    assert stale(world.instance, CHAIN) == {(EMA_SIGNALS, "AAPL|5m"): "DATA ohlc", (STRATEGY, "AAPL|5m"): "DATA ohlc"}
    world.sweep_until_fresh()
    assert stale(world.instance, CHAIN) == {}


@pytest.mark.broad
def test_a_variant_is_stale_after_a_change_of_the_longer_timeframe_that_it_reads(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    filtered = "strategy_filtered"
    text = f'{WATCHLIST}\n[[strategy]]\nname = "filtered"\nrule = "crossover"\nhigher_timeframe = "1h"\n'
    world.watchlist_path.write_text(text)
    monkeypatch.setattr(conftest, "defs", assembled(build(watchlist.parse(text))))
    world.sync()
    world.settle()
    world.tell(conftest.defs)
    assert stale(world.instance, [*CHAIN, filtered]) == {}
    assert tags(world, filtered, "JPM|5m")["dagster/input_data_version/ema_trend"] == "1,1"
    with world.database.transaction() as transaction:
        transaction.execute("UPDATE market.ema_trend SET spread_pct = 9 WHERE symbol = 'JPM' AND timeframe = '1h'")
    backfill(world, "JPM|1h", "JPM|1h", [EMA_TREND])
    reads_it = {(filtered, f"JPM|{frame}"): f"DATA {EMA_TREND}" for frame in ("5m", "15m", "1h")}
    assert stale(world.instance, [filtered]) == reads_it
    backfill(world, "JPM|5m", "JPM|1h", [filtered])
    assert stale(world.instance, [filtered]) == {}


@pytest.mark.broad
@pytest.mark.settled
def test_maintenance_keeps_the_event_that_a_series_without_new_bars_was_computed_from(world: World) -> None:
    world.tell()
    (first,) = world.instance.get_runs()
    # Its bars are requested at each close and never arrive: `ohlc` is reported each time, and its readers are not.
    fault(world, kind="missing_symbol", symbols=["AAPL"])
    later = []
    for _ in range(2):
        world.now += timedelta(minutes=5)
        later += world.sweep()
    with world.database.transaction() as transaction:
        transaction.execute("UPDATE dagster.runs SET end_time = 1")
    done = maintain(world.database, Retention(14, 90, None), world.now, lambda run_id: None)
    left = {run.run_id for run in world.instance.get_runs()}
    assert first.run_id in left
    assert done.runs == 1
    assert stale(world.instance, CHAIN) == {}


@pytest.mark.settled
def test_events_that_a_person_deletes_wipes_or_reports_in_the_ui_are_reported_again(world: World) -> None:
    """Nothing is computed. Each partition looks fresh again before the next bar of its exchange."""
    day = ["AAPL|1d", "MSFT|1d"]

    def tell() -> str:
        world.let_grace_pass()
        return world.run({RANGE_START: day[0], RANGE_END: day[-1], DEFER_TAG: "true"}).run_id

    def forget(asset: str) -> None:
        with world.database.transaction() as transaction:
            transaction.execute("UPDATE market.series_state SET recorded_at = NULL WHERE asset LIKE $1", asset)

    by_hand = AssetMaterialization(EMA_SIGNALS, partition=day[0])
    forget("%")
    told = tell()
    # The signals are reported by another run than the bars that they name.
    forget(EMA_SIGNALS)
    tell()
    for harm in (
        lambda: world.instance.delete_run(told),
        lambda: world.instance.wipe_assets([AssetKey(OHLC)]),
        lambda: world.instance.report_runless_asset_event(by_hand),
    ):
        harm()
        tell()
        assert stale(world.instance, CHAIN, day) == {}
    with world.database.transaction() as transaction:
        assert transaction.query("SELECT max(revision) AS n FROM market.series_state").item() == 1
