"""Tests of runs of the refresh job, with a real Postgres, a real sandbox and Dagster's real storage."""

import json
import os
import random
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml
from dagster import (
    AssetCheckEvaluation,
    AssetCheckSeverity,
    AssetExecutionContext,
    AssetKey,
    AssetRecordsFilter,
    DagsterEventType,
    DagsterRunStatus,
    EventLogEntry,
    ExecuteInProcessResult,
)
from dagster._core.events import RunFailureReason
from dagster._core.execution.retries import auto_reexecution_should_retry_run

import ema_assets
from ema_assets.config import watchlist
from ema_assets.defs.assembly import assembled
from ema_assets.defs.assets import step
from ema_assets.defs.backfills import PartitionsRemoved
from ema_assets.defs.event_rows import Made
from ema_assets.defs.recording import set_event_variables
from ema_assets.defs.requests import run_request
from ema_assets.defs.run_tags import DEFER_TAG, PARTITION_TAG, RANGE_END_TAG, RANGE_START_TAG
from ema_assets.defs.storage import MarketEventLog
from ema_assets.model.asset_names import CHAIN, EMA_SIGNALS, OHLC
from ema_assets.model.errors import StoreUnavailable
from ema_assets.operations.sync_watchlist import sync
from ema_assets.refresh.graph import build
from ema_assets.refresh.plan import stale_for_sweep
from ema_assets.refresh.runs import PlannedRun, Rectangle, plan_runs
from ema_assets.sandbox.server import running_sandbox
from ema_assets.store import ledger
from ema_assets.store.database import Database
from ema_assets_tests.conftest import mostly_broad
from ema_assets_tests.core import CORE_TEXT
from ema_assets_tests.defs.conftest import FRAMES, World, defs
from ema_assets_tests.defs.staleness import stale
from ema_assets_tests.timeframes import H1, M5


def fault(world: World, **fields: object) -> None:
    request = urllib.request.Request(
        f"{world.sandbox.base_url}/sandbox/faults",
        json.dumps(fields).encode(),
        {"Content-Type": "application/json"},
        method="POST",
    )
    urllib.request.urlopen(request, timeout=60).close()


def is_launched_again(world: World, run: ExecuteInProcessResult) -> bool:
    """Return whether the daemon retries a run that failed in a step, given the project's dagster.yaml."""
    failed = world.instance.get_run_by_id(run.run_id)
    assert failed is not None
    assert failed.status is DagsterRunStatus.FAILURE
    rules = yaml.safe_load((Path(ema_assets.__file__).parent / "dagster.yaml").read_text())["run_retries"]
    assert rules["enabled"]
    with patch.object(world.instance, "_settings", {"run_retries": rules}):
        return auto_reexecution_should_retry_run(world.instance, failed, RunFailureReason.STEP_FAILURE)


def metadata_of(world: World, run: ExecuteInProcessResult) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Return the metadata of the materializations of `run`, by asset and partition. Each partition has exactly one."""
    records = world.instance.get_records_for_run(run.run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION).records
    told = {}
    for record in records:
        event = record.event_log_entry.asset_materialization
        assert event is not None
        told[event.asset_key.to_user_string(), str(event.partition)] = event.metadata
    assert len(records) == len(told)
    return told


def clear_faults(world: World) -> None:
    urllib.request.urlopen(
        urllib.request.Request(f"{world.sandbox.base_url}/sandbox/faults", method="DELETE"), timeout=60
    ).close()


@pytest.mark.broad
def test_the_first_sweeps_record_every_partition_in_one_run_per_timeframe(world: World) -> None:
    runs = world.sweep_until_fresh()
    assert len(runs) == len(FRAMES)
    recorded = sorted(pair for run in runs for pair in world.materialized(run.run_id))
    assert recorded == sorted(
        (asset, f"{symbol}|{frame.key}") for asset in CHAIN for symbol in world.symbols for frame in FRAMES
    )


@pytest.mark.settled
def test_a_run_records_only_the_stale_series_of_its_rectangle(world: World) -> None:
    """Three of five series have a new bar. The other two lie in the same rectangle, are fresh and are not recorded."""
    world.now += timedelta(minutes=5)
    with world.database.transaction() as transaction:
        transaction.execute(
            "UPDATE market.series_state SET checked_through = $1 WHERE asset = 'ohlc' AND symbol = ANY ($2::text[])",
            world.now,
            ["MSFT", "XOM"],
        )
    (run,) = world.sweep()
    assert run.dagster_run.tags["dagster/asset_partition_range_start"] == "AAPL|5m"
    assert run.dagster_run.tags["dagster/asset_partition_range_end"] == "BTC-USD|5m"
    stale = ["AAPL|5m", "BTC-USD|5m", "JPM|5m"]
    assert world.materialized(run.run_id) == sorted((asset, key) for asset in CHAIN for key in stale)


@pytest.mark.broad
def test_only_the_37_stale_of_1000_symbols_are_recorded_in_one_run_per_timeframe(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"S{number:04}" for number in range(1000)]
    world.instance.delete_dynamic_partition("symbol", "BTC-USD")
    world.watchlist_path.write_text(
        f'timeframes = {json.dumps([frame.key for frame in FRAMES])}\n[history]\n"5m" = 5\n"1d" = 60\n'
        f'[[group]]\ncalendar = "XNYS"\nsymbols = {json.dumps(names)}\n{CORE_TEXT}'
    )
    world.sync()
    behind = random.Random(930).sample(names, 37)
    with world.database.transaction() as transaction:
        # A series that was requested up to the last close is fresh even without a bar, so nothing has to be loaded.
        transaction.execute("UPDATE market.series_state SET checked_through = $1 WHERE asset = 'ohlc'", world.now)
        transaction.execute(
            """UPDATE market.series_state SET checked_through = checked_through - interval '30 minutes'
               WHERE asset = 'ohlc' AND timeframe = '5m' AND symbol = ANY ($1::text[])""",
            behind,
        )
    with running_sandbox(watchlist.load(world.watchlist_path).instruments) as sandbox:
        monkeypatch.setenv("EMA_SANDBOX_URL", sandbox.base_url)
        runs = world.sweep_until_fresh()
    frames = [run.dagster_run.tags["dagster/asset_partition_range_start"].partition("|")[2] for run in runs]
    assert frames == ["5m", "15m", "1h"]  # the new 5m bars lie in an hour that has closed
    for run, frame in zip(runs, frames, strict=True):
        assert world.materialized(run.run_id) == sorted(
            (asset, f"{symbol}|{frame}") for asset in CHAIN for symbol in behind
        )


@pytest.mark.settled
def test_a_run_for_a_timeframe_that_was_removed_while_it_waited_is_canceled(world: World) -> None:
    text = world.watchlist_path.read_text()
    frames = json.dumps([frame.key for frame in FRAMES])
    assert frames in text
    left = assembled(build(watchlist.parse(text.replace(frames, '["5m", "1d"]'))))
    hours = {RANGE_START_TAG: "AAPL|1h", RANGE_END_TAG: "XOM|1h", DEFER_TAG: "true"}
    run = world.run(hours, loaded=left, raise_on_error=False)
    canceled = world.instance.get_run_by_id(run.run_id)
    assert canceled is not None
    assert canceled.status is DagsterRunStatus.CANCELED
    messages = [record.event_log_entry.message for record in world.instance.get_records_for_run(run.run_id).records]
    assert "Nothing to do: the watchlist does not have all partitions of this run: AAPL|1h to XOM|1h." in messages
    assert world.materialized(run.run_id) == []


@pytest.mark.settled
def test_a_run_of_a_person_for_a_timeframe_that_was_removed_while_it_waited_fails_with_the_reason(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def removed(_context: object) -> list[str]:
        raise PartitionsRemoved("the watchlist does not have it")

    # Dagster does not create a run for partitions that do not exist, so here they exist until the run begins.
    monkeypatch.setattr(step, "run_partitions", removed)
    run = world.run({RANGE_START_TAG: "AAPL|1h", RANGE_END_TAG: "XOM|1h"}, raise_on_error=False)
    (failed,) = (each for each in run.all_events if each.event_type is DagsterEventType.STEP_FAILURE)
    error = failed.step_failure_data.user_failure_data
    assert error is not None
    assert error.description == "the watchlist does not have it"


@pytest.mark.broad
@pytest.mark.settled
def test_a_run_for_one_partition_that_does_not_exist_fails_and_names_it(world: World) -> None:
    run = world.run({PARTITION_TAG: "NOPE|1h"}, raise_on_error=False)
    (failed,) = (each for each in run.all_events if each.event_type is DagsterEventType.STEP_FAILURE)
    error = failed.step_failure_data.user_failure_data
    assert error is not None
    assert error.description == "the watchlist does not have all partitions of this run: NOPE|1h"


@pytest.mark.broad
def test_a_run_computes_the_remaining_symbols_when_its_first_and_last_symbol_were_removed(world: World) -> None:
    """Removed symbols remain partitions of Dagster until the run has ended."""
    with world.database.transaction() as transaction:
        (tags,) = [
            run_request(run, world.now).tags
            for run in plan_runs(stale_for_sweep(transaction, world.now, timedelta(0)), world.symbols, [], 1000)
            if run.rectangle.timeframe is M5
        ]
    ends = world.symbols[0], world.symbols[-1]
    watched = watchlist.load(world.watchlist_path)
    left = tuple(each for each in watched.instruments if each.symbol not in ends)
    sync(world.database, replace(watched, instruments=left), world.now)
    run = world.run(tags)
    assert run.success
    assert {partition for asset, partition in world.materialized(run.run_id) if asset == "ohlc"} == {
        f"{each.symbol}|5m" for each in left
    }


@pytest.mark.broad
@pytest.mark.settled
def test_a_run_that_finds_nothing_stale_records_nothing(world: World) -> None:
    rectangle = Rectangle(M5, "AAPL", "BTC-USD")
    run = world.run(dict(run_request(PlannedRun(rectangle, 5), world.now).tags))
    assert run.success
    assert world.materialized(run.run_id) == []


def test_the_variables_of_dagster_for_events_are_set_unless_the_user_has_set_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "7")
    monkeypatch.setenv("DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS", "")
    monkeypatch.delenv("DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS")
    set_event_variables()
    assert os.environ["DAGSTER_EVENT_BATCH_SIZE"] == "7"
    assert os.environ["DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS"] == "1"


@pytest.mark.broad
def test_materializations_are_stored_as_one_batch_which_returns_their_ids(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This test fails when a Dagster upgrade removes the interface that makes 1,000 events cheap to record."""
    written = []
    store = MarketEventLog.store_materializations

    def noted(storage: MarketEventLog, made: Sequence[Made], event_of: Callable[[Made], EventLogEntry]) -> list[int]:
        written.append(len(made))
        return store(storage, made, event_of)

    monkeypatch.setattr(MarketEventLog, "store_materializations", noted)
    monkeypatch.setattr(MarketEventLog, "get_latest_storage_id_by_partition", None)
    world.sweep()
    assert written.count(len(world.symbols)) == 2 * len(CHAIN)  # 5m and 1d
    assert named_events(world) == latest_events(world)


@pytest.mark.parametrize("lacks", mostly_broad(["our storage", "batches", "events"]))
def test_events_are_stored_and_their_ids_are_looked_up_without_what_makes_them_cheap(
    world: World, monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    """A newer Dagster may make events or batches in another way, and a host may have another storage."""
    if lacks == "events":
        monkeypatch.setattr("ema_assets.defs.recording._event_of", lambda: None)
    else:
        monkeypatch.setattr("ema_assets.defs.recording.MarketEventLog", type(None))
    if lacks == "batches":
        monkeypatch.delattr("dagster._core.events.DagsterEventBatchMetadata")
    runs = world.sweep()
    recorded = [pair for run in runs for pair in world.materialized(run.run_id)]
    assert len(recorded) == 2 * len(CHAIN) * len(world.symbols)
    assert named_events(world) == latest_events(world)


def named_events(world: World) -> list[tuple[str, str, int]]:
    """Return asset, partition and the event named by the ledger for every recorded series."""
    with world.database.transaction() as transaction:
        found = transaction.query(
            """SELECT asset, symbol || '|' || timeframe AS partition, recorded_event FROM market.series_state
               WHERE recorded_at IS NOT NULL ORDER BY 1, 2"""
        )
    return found.rows()


def latest_events(world: World) -> list[tuple[str, str, int]]:
    """Return asset, partition and id of the newest materialization of each partition in Dagster's event log."""
    with world.database.transaction() as transaction:
        found = transaction.query(
            """SELECT asset_key::json ->> 0 AS asset, partition, max(id) AS id FROM dagster.event_logs
               WHERE dagster_event_type = 'ASSET_MATERIALIZATION' GROUP BY 1, 2 ORDER BY 1, 2"""
        )
    return found.rows()


def test_the_data_version_grows_only_with_real_changes(world: World) -> None:
    def version(partition: str) -> str:
        found = world.instance.fetch_materializations(
            AssetRecordsFilter(asset_key=AssetKey("ohlc"), asset_partitions=[partition]), limit=1
        )
        return dict(found.records[0].asset_materialization.tags or {})["dagster/data_version"]

    world.sweep()
    first = version("AAPL|5m"), version("BTC-USD|5m")
    fault(world, kind="missing_symbol", symbols=["AAPL"])
    world.now += timedelta(minutes=5)
    world.sweep()
    assert version("AAPL|5m") == first[0]
    assert int(version("BTC-USD|5m")) == int(first[1]) + 1


@pytest.mark.broad
@pytest.mark.settled
def test_a_failing_symbol_affects_no_other_symbol_and_a_check_names_it(world: World) -> None:
    world.now += timedelta(minutes=5)
    fault(world, kind="server_error", symbols=["BTC/USD"])
    (run,) = world.sweep()
    assert run.success
    assert ("strategy_9_30_ema", "AAPL|5m") in world.materialized(run.run_id)
    assert all("BTC-USD" not in key for _, key in world.materialized(run.run_id))
    failed = [each for each in checked(world, run) if not each.passed]
    named = [each for each in failed if each.check_name == "no_series_fails"]
    assert [data.asset_key for data in named] == [AssetKey("ohlc")]
    assert "BTC-USD" in str(named[0].metadata)


def checked(world: World, run: ExecuteInProcessResult) -> list[AssetCheckEvaluation]:
    """Return the results of the checks of `run`, whose messages are in the words of Dagster, whoever logs them."""
    logged = world.instance.all_logs(run.run_id, of_type=DagsterEventType.ASSET_CHECK_EVALUATION)
    found = [entry.get_dagster_event().asset_check_evaluation_data for entry in logged]
    for entry, each in zip(logged, found, strict=True):
        verb = "passed" if each.passed else "did not pass"
        why = f" Description: '{each.description}'" if each.description else ""
        said = f"Asset check '{each.check_name}' on '{each.asset_key.to_user_string()}' {verb}.{why}"
        assert entry.get_dagster_event().message == said
    return found


@pytest.mark.broad
@pytest.mark.settled
@pytest.mark.parametrize("is_ours", [True, False], ids=["our storage", "another storage"])
def test_checks_name_the_materialization_they_refer_to_without_listing_all_partitions(
    world: World, monkeypatch: pytest.MonkeyPatch, *, is_ours: bool
) -> None:
    """This test fails when a Dagster upgrade removes the interface that keeps checks cheap with many symbols."""
    world.now += timedelta(minutes=5)
    listed = []
    monkeypatch.setattr(
        "dagster._core.definitions.asset_checks.asset_check_result.AssetCheckResult._get_target_materialization_data",
        lambda *_: listed.append(1),
    )
    if not is_ours:
        monkeypatch.setattr("ema_assets.defs.recording.MarketEventLog", type(None))
    (run,) = world.sweep()
    found = checked(world, run)
    assert len(found) == len(list(defs.resolve_asset_graph().asset_check_keys)) - 1  # all but the check of partitions
    assert all(data.target_materialization_data.run_id == run.run_id for data in found)
    assert listed == []


@pytest.mark.settled
def test_dagster_logs_the_checks_itself_without_its_private_interface(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.now += timedelta(minutes=5)
    monkeypatch.delattr(
        "dagster._core.definitions.asset_checks.asset_check_evaluation.AssetCheckEvaluationTargetMaterializationData"
    )
    (run,) = world.sweep()
    assert len(checked(world, run)) == len(list(defs.resolve_asset_graph().asset_check_keys)) - 1


@pytest.mark.broad
@pytest.mark.settled
def test_gaps_corrections_and_a_calendar_that_ends_soon_each_fail_their_own_check(world: World) -> None:
    """Each failed check names the symbol or the date that it is about."""
    world.now += timedelta(minutes=5)
    fault(world, kind="corrected_bar", symbols=["AAPL"], ts="2026-11-20T15:20:00Z", volume=1.0)
    fault(world, kind="late_bar", symbols=["MSFT"], ts="2026-11-20T15:30:00Z")
    with world.database.transaction() as transaction:
        transaction.execute("DELETE FROM market.session WHERE calendar = 'XNYS' AND session > '2026-12-04'")
    (run,) = world.sweep()
    found = {each.check_name: each for each in checked(world, run) if each.asset_key == AssetKey("ohlc")}
    assert {name for name, data in found.items() if not data.passed} == {
        "no_bar_is_missing",
        "the_past_stands",
        "calendars_reach_ahead",
    }
    assert "MSFT" in str(found["no_bar_is_missing"].metadata)
    assert "'AAPL'" in str(found["the_past_stands"].metadata)
    assert "correction" in str(found["the_past_stands"].metadata)
    assert "2026-12-04" in str(found["calendars_reach_ahead"].metadata)
    assert {name: found[name].description for name in ("no_bar_is_missing", "bars_are_sound", "the_past_stands")} == {
        "no_bar_is_missing": "1 open gap",
        "bars_are_sound": "No rejected bars",
        "the_past_stands": "1 revision",
    }


@pytest.mark.broad
@pytest.mark.settled
def test_the_check_of_plausible_bars_names_flagged_bars_and_passes(world: World) -> None:
    with world.database.transaction() as transaction:
        transaction.execute(
            """INSERT INTO market.bar_flag (symbol, timeframe, ts, reason, detail, flagged_at)
               SELECT symbol, '5m', '2026-11-20T15:00Z', 'jump', '+12 %', $1 FROM unnest($2::text[]) AS f(symbol)""",
            world.now,
            ["AAPL", "MSFT"],
        )
    planned = PlannedRun(Rectangle(M5, "AAPL", "BTC-USD"), 5)
    found = checked(world, world.run(dict(run_request(planned, world.now).tags)))
    (plausible,) = [each for each in found if each.check_name == "bars_are_plausible"]
    assert plausible.passed
    assert plausible.description == "2 flagged bars"
    assert "MSFT" in str(plausible.metadata)


@pytest.mark.settled
def test_a_series_that_waits_too_long_to_be_computed_causes_a_warning_of_its_asset(world: World) -> None:
    with world.database.transaction() as transaction:
        transaction.execute(
            """
            UPDATE market.series_state SET dirty_from = last_ts, updated_at = $1
            WHERE asset = 'ema_trend' AND symbol = 'MSFT' AND timeframe = '1h'
            """,
            world.now - timedelta(minutes=16),
        )
    planned = PlannedRun(Rectangle(M5, "AAPL", "BTC-USD"), 5)
    (late,) = [
        each for each in checked(world, world.run(dict(run_request(planned, world.now).tags))) if not each.passed
    ]
    assert (late.asset_key, late.check_name) == (AssetKey("ema_trend"), "no_series_fails")
    assert late.severity is AssetCheckSeverity.WARN
    assert "1 series waiting" in str(late.description)
    assert "MSFT" in str(late.metadata)


@pytest.mark.broad
@pytest.mark.settled
def test_a_run_fails_when_all_of_its_series_fail_and_a_later_sweep_catches_up(world: World) -> None:
    world.now += timedelta(minutes=5)
    fault(world, kind="server_error")
    (run,) = world.sweep(raise_on_error=False)
    assert not run.success
    (failure,) = [event for event in run.all_events if event.event_type == DagsterEventType.STEP_FAILURE]
    said = failure.step_failure_data.error.message + str(failure.step_failure_data.user_failure_data)
    assert "5 of 5 series failed" in said
    assert "AAPL|5m" in said
    clear_faults(world)
    assert world.sweep() == []  # the pause after a failure
    world.now += timedelta(minutes=2)
    (healed,) = world.sweep()
    assert len(world.materialized(healed.run_id)) == len(CHAIN) * len(world.symbols)


@pytest.mark.broad
@pytest.mark.settled
def test_a_run_of_a_person_recomputes_fresh_partitions(world: World) -> None:
    with world.database.transaction() as transaction:
        transaction.execute("UPDATE market.ema_signals SET ema_9 = 1 WHERE symbol = 'AAPL'")
        before = transaction.query(
            "SELECT revision FROM market.series_state WHERE symbol = 'AAPL' AND timeframe = '1h'"
        )
    run = world.run({"dagster/asset_partition_range_start": "AAPL|1h", "dagster/asset_partition_range_end": "MSFT|1h"})
    assert world.materialized(run.run_id) == sorted(
        (asset, f"{symbol}|1h") for asset in CHAIN for symbol in ("AAPL", "MSFT")
    )
    with world.database.transaction() as transaction:
        spoiled = transaction.query(
            "SELECT count(*) AS n FROM market.ema_signals WHERE ema_9 = 1 AND symbol = 'AAPL' AND timeframe = '1h'"
        )
        after = transaction.query("SELECT revision FROM market.series_state WHERE symbol = 'AAPL' AND timeframe = '1h'")
    assert spoiled["n"][0] == 0
    assert sum(after["revision"]) == sum(before["revision"]) + 1  # only ema_signals had changed


@pytest.mark.broad
@pytest.mark.settled
def test_a_run_of_a_person_reports_what_was_written_for_every_partition(world: World) -> None:
    run = world.run({"dagster/asset_partition_range_start": "AAPL|5m", "dagster/asset_partition_range_end": "MSFT|5m"})
    told = metadata_of(world, run)
    assert told.keys() == {(asset, f"{symbol}|5m") for asset in CHAIN for symbol in ("AAPL", "MSFT")}
    with world.database.transaction() as transaction:
        closes = transaction.query(
            "SELECT DISTINCT ON (symbol) symbol || '|5m', close FROM market.ohlc_5m ORDER BY symbol, ts DESC"
        )
    last_close = dict(closes.iter_rows())
    shown = {key[1]: said["last_close"].value for key, said in told.items() if "last_close" in said}
    assert shown == {key: last_close[key] for key in ("AAPL|5m", "MSFT|5m")}
    assert [asset for (asset, _), said in told.items() if "last_close" in said] == ["ohlc", "ohlc"]
    assert all({"rows_written", "first_ts", "last_ts"} <= said.keys() for said in told.values())
    # The sandbox changes no bar after its close, so each bar is final at once.
    final = {datetime.fromtimestamp(float(said["final_through"].value), UTC) for said in told.values()}
    assert final == {datetime(2026, 11, 20, 15, 30, tzinfo=UTC)}


def remarks_of_a_persons_run(world: World, *symbols: str) -> dict[tuple[str, str], Any]:
    """Run 1h of `symbols`, assert that it makes all their partitions and leaves them fresh, and return its remarks.

    The remarks are by asset and partition.
    """
    keys = [f"{symbol}|1h" for symbol in symbols]
    run = world.run({"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]})
    assert world.materialized(run.run_id) == sorted((asset, key) for asset in CHAIN for key in keys)
    assert stale(world.instance, CHAIN, keys) == {}
    return {key: said["remark"].value for key, said in metadata_of(world, run).items() if "remark" in said}


@pytest.mark.settled
def test_a_run_of_a_person_also_materializes_partitions_without_bars(world: World) -> None:
    """Dagster fails a backfill whose run has succeeded without materializing each partition."""
    text = world.watchlist_path.read_text()
    world.watchlist_path.write_text(f'{text}[[group]]\nprovider = "file"\nsymbols = ["MINE"]\n')
    world.sync()
    remarks = remarks_of_a_persons_run(world, "BTC-USD", "MINE")
    assert remarks[OHLC, "MINE|1h"] == "the provider returned no bars for this series"
    assert {partition for _, partition in remarks} == {"MINE|1h"}


@pytest.mark.settled
def test_a_run_of_a_person_also_materializes_timeframes_that_a_symbol_does_not_have(world: World) -> None:
    """A choice of all symbols and all timeframes includes them. Dagster would fail a backfill that leaves them out."""
    text = world.watchlist_path.read_text()
    world.watchlist_path.write_text(f'{text}[[group]]\ncalendar = "24/7"\ntimeframes = ["5m"]\nsymbols = ["LTC-USD"]\n')
    world.sync()
    remarks = remarks_of_a_persons_run(world, "BTC-USD", "LTC-USD")
    said = "nothing to compute: 1h is not among the timeframes of the symbol"
    assert remarks == {(asset, "LTC-USD|1h"): said for asset in CHAIN}


@pytest.mark.broad
@pytest.mark.settled
def test_the_next_sweep_reports_series_again_when_dagster_logs_the_materializations_itself(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This happens when a Dagster upgrade removes the interface by which runs suppress Dagster's own events."""
    with monkeypatch.context() as other:
        other.delattr(AssetExecutionContext, "get_step_execution_context")
        run = world.run(
            {"dagster/asset_partition_range_start": "AAPL|5m", "dagster/asset_partition_range_end": "MSFT|5m"}
        )
    keys = sorted((asset, f"{symbol}|5m") for asset in CHAIN for symbol in ("AAPL", "MSFT"))
    assert world.materialized(run.run_id) == keys
    world.let_grace_pass()
    told = [pair for run in world.sweep() for pair in world.materialized(run.run_id)]
    assert [pair for pair in told if pair[1].endswith("|5m")] == keys
    assert stale(world.instance, CHAIN, ["AAPL|5m", "MSFT|5m"]) == {}


@pytest.mark.broad
@pytest.mark.settled
def test_a_run_of_a_person_with_a_failing_series_records_the_others_and_fails_with_its_name(world: World) -> None:
    fault(world, kind="server_error", symbols=["BTC/USD"])
    run = world.run(
        {"dagster/asset_partition_range_start": "XOM|5m", "dagster/asset_partition_range_end": "BTC-USD|5m"},
        raise_on_error=False,
    )
    assert not run.success
    assert world.materialized(run.run_id) == [("ohlc", "XOM|5m")]
    (failure,) = [event for event in run.all_events if event.event_type == DagsterEventType.STEP_FAILURE]
    assert "BTC-USD|5m" in str(failure.step_failure_data)
    assert not is_launched_again(world, run)


@pytest.mark.broad
@pytest.mark.settled
def test_a_run_of_a_person_over_several_timeframes_records_the_series_that_succeeded_on_each(world: World) -> None:
    fault(world, kind="server_error", symbols=["BTC/USD"])
    run = world.run(
        {"dagster/asset_partition_range_start": "XOM|5m", "dagster/asset_partition_range_end": "BTC-USD|1d"},
        raise_on_error=False,
    )
    assert not run.success
    rolled_up = [frame.key for frame in FRAMES if not frame.is_fetched]
    done = {f"XOM|{frame.key}" for frame in FRAMES} | {f"BTC-USD|{frame}" for frame in rolled_up}
    assert world.materialized(run.run_id) == sorted(("ohlc", key) for key in done)


@pytest.mark.broad
@pytest.mark.settled
def test_a_run_of_a_person_fails_with_the_name_of_a_series_that_another_run_has_locked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ema_assets.refresh.waiting.LONGEST_LOCK_SECONDS", 0.1)
    with Database(world.database.url) as other, other.transaction() as transaction:
        assert ledger.lock(transaction, EMA_SIGNALS, H1, ["MSFT"]).height == 1
        run = world.run(
            {"dagster/asset_partition_range_start": "AAPL|1h", "dagster/asset_partition_range_end": "JPM|1h"},
            raise_on_error=False,
        )
    assert not run.success
    recorded = world.materialized(run.run_id)
    assert [pair for pair in recorded if pair[0] == EMA_SIGNALS] == [(EMA_SIGNALS, "AAPL|1h"), (EMA_SIGNALS, "JPM|1h")]
    (failure,) = [event for event in run.all_events if event.event_type == DagsterEventType.STEP_FAILURE]
    assert "1 of 3 series failed: MSFT|1h: another run has locked it" in str(failure.step_failure_data)


@pytest.mark.settled
@pytest.mark.parametrize("tags", mostly_broad(["the sweep's", "a person's"]))
def test_a_step_that_loses_the_database_is_retried(world: World, monkeypatch: pytest.MonkeyPatch, tags: str) -> None:
    world.now += timedelta(minutes=5)
    monkeypatch.setattr("ema_assets.defs.assets.step._RETRY_SECONDS", 0.0)
    connect = Database._open
    refused: list[Database] = []

    # Each step connects twice: for its work, and for the session which shows that its run is alive.
    def refuse_two_steps(database: Database) -> object:
        if len(refused) < 4:
            refused.append(database)
            raise StoreUnavailable("the database system is shutting down")
        return connect(database)

    wanted = {"dagster/asset_partition_range_start": "AAPL|5m", "dagster/asset_partition_range_end": "BTC-USD|5m"}
    if tags == "the sweep's":
        planned = PlannedRun(Rectangle(M5, "AAPL", "BTC-USD"), 5)
        wanted = dict(run_request(planned, world.now).tags)
    monkeypatch.setattr(Database, "_open", refuse_two_steps)
    run = world.run(wanted)
    assert run.success
    restarts = [event for event in run.all_events if event.event_type == DagsterEventType.STEP_UP_FOR_RETRY]
    assert len(restarts) == 2
    assert world.materialized(run.run_id) == sorted(
        (asset, f"{symbol}|5m") for asset in CHAIN for symbol in world.symbols
    )


@pytest.mark.parametrize(
    ("by_a_person", "error", "expected"),
    [
        (True, StoreUnavailable("the database system is shutting down"), True),
        (True, ValueError("a bug"), False),
        (False, StoreUnavailable("the database system is shutting down"), False),
    ],
)
def test_dagster_retries_a_failed_run_only_if_a_person_launched_it_and_the_database_was_lost(
    world: World, monkeypatch: pytest.MonkeyPatch, by_a_person: bool, error: Exception, expected: bool
) -> None:
    monkeypatch.setattr("ema_assets.defs.assets.step._RETRY_SECONDS", 0.0)
    tags = {"dagster/asset_partition_range_start": "AAPL|5m", "dagster/asset_partition_range_end": "AAPL|5m"}
    if not by_a_person:
        planned = PlannedRun(Rectangle(M5, "AAPL", "AAPL"), 1)
        tags = dict(run_request(planned, world.now).tags)

    def broken(_database: Database) -> object:
        raise error

    monkeypatch.setattr(Database, "_open", broken)
    run = world.run(tags, raise_on_error=False)
    assert not run.success
    assert is_launched_again(world, run) is expected


@pytest.mark.broad
@pytest.mark.settled
def test_a_later_run_reports_to_dagster_what_a_killed_run_has_not_reported(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run has committed its data and is killed before it logs events. The ledger marks the series as unreported."""
    world.now += timedelta(minutes=5)

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    monkeypatch.setattr("ema_assets.defs.materializations.log_materializations", die)
    with pytest.raises(Killed):
        world.sweep()
    monkeypatch.undo()
    monkeypatch.setenv("EMA_DATABASE_URL", world.database.url)
    monkeypatch.setenv("EMA_WATCHLIST", str(world.watchlist_path))
    monkeypatch.setenv("EMA_SANDBOX_URL", world.sandbox.base_url)
    world.let_grace_pass()
    recorded = {pair for run in world.sweep() for pair in world.materialized(run.run_id)}
    assert {(asset, f"{symbol}|5m") for asset in CHAIN for symbol in world.symbols} <= recorded


@pytest.mark.broad
def test_a_run_over_several_timeframes_counts_the_rows_and_failures_of_all_of_them(world: World) -> None:
    fault(world, kind="server_error", symbols=["BTC/USD"])
    run = world.run(
        {"dagster/asset_partition_range_start": "XOM|5m", "dagster/asset_partition_range_end": "BTC-USD|1d"},
        raise_on_error=False,
    )
    with world.database.transaction() as transaction:
        stored = transaction.query(
            "SELECT timeframe, count(*) AS rows FROM market.ohlc WHERE symbol = 'XOM' GROUP BY 1"
        )
    rows = dict(stored.iter_rows())
    assert set(rows) == {timeframe.key for timeframe in FRAMES}
    told = world.instance.fetch_materializations(AssetRecordsFilter(asset_key=AssetKey("ohlc")), limit=100).records
    written = {}
    for record in told:
        assert record.asset_materialization is not None
        written[record.asset_materialization.partition] = record.asset_materialization.metadata["rows_written"].value
    assert {f"XOM|{frame}": count for frame, count in rows.items()}.items() <= written.items()
    (failure,) = [event for event in run.all_events if event.event_type == DagsterEventType.STEP_FAILURE]
    # Both fetched timeframes of the failing symbol are named. The rolled-up ones have nothing to do.
    assert "BTC-USD|5m" in str(failure.step_failure_data)
    assert "BTC-USD|1d" in str(failure.step_failure_data)
    assert "2 of 6 series failed" in str(failure.step_failure_data)


@pytest.mark.broad
def test_the_step_output_of_a_run_over_several_timeframes_counts_the_rows_of_all_of_them(world: World) -> None:
    run = world.run({"dagster/asset_partition_range_start": "XOM|5m", "dagster/asset_partition_range_end": "XOM|1d"})
    with world.database.transaction() as transaction:
        rows = transaction.query("SELECT count(*) AS rows FROM market.ohlc WHERE symbol = 'XOM'").item()
    (output,) = [
        event.step_output_data
        for event in run.all_events
        if event.event_type == DagsterEventType.STEP_OUTPUT and event.step_key == "ohlc"
    ]
    assert rows > 500
    assert output.metadata["rows_written"].value == rows
    assert output.metadata["series"].value == len(FRAMES)
