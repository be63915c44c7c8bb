"""Tests of schedules and sensors. Their functions are called as the daemon calls them."""

import time
import warnings
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dagster import (
    BetaWarning,
    DagsterRun,
    DagsterRunStatus,
    Definitions,
    PreviewWarning,
    SkipReason,
    build_schedule_context,
    build_sensor_context,
)
from dagster._core.remote_representation.external_data import ScheduleSnap

from ema_assets.config import watchlist
from ema_assets.config.settings import Settings
from ema_assets.definitions import assembled
from ema_assets.defs.configuration import configuration_drift
from ema_assets.defs.one_sentence import WrongConfiguration
from ema_assets.defs.resources import MarketResource
from ema_assets.model.asset_names import EMA_TREND
from ema_assets.model.errors import ConfigurationError, StoreUnavailable
from ema_assets.model.timeframes import DEFAULT, Timeframe
from ema_assets.providers import registry
from ema_assets.refresh import waiting
from ema_assets.refresh.graph import Graph, build, configured
from ema_assets.store import ledger, sync_failures
from ema_assets_tests.core import CORE_TEXT, rewrite
from ema_assets_tests.defs.conftest import FRAMES, WATCHLIST, MarketAt, World, defs, sweep, sync_watchlist
from ema_assets_tests.defs.test_refresh_runs import clear_faults, fault
from ema_assets_tests.timeframes import H1, M5, M15

SUNDAY = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def tick(world: World, timeframe: Timeframe) -> Any:
    schedule = defs.resolve_schedule_def(f"refresh_{timeframe.key}")
    context = build_schedule_context(
        instance=world.instance, scheduled_execution_time=world.now, resources=world.resources
    )
    return schedule._execution_fn.decorated_fn(context, **world.resources)


def timeframe_of(request: Any) -> str:
    return request.tags["dagster/asset_partition_range_start"].partition("|")[2]


def look(world: World, sensor: Any) -> Any:
    return sensor._raw_fn(build_sensor_context(instance=world.instance), **world.resources)


def test_dagster_loads_the_definitions_with_and_without_the_core_signals_without_beta_warnings() -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for watched in (WATCHLIST, WATCHLIST.removesuffix(CORE_TEXT)):
            Definitions.validate_loadable(assembled(build(watchlist.parse(watched))))
    # Users cannot act on warnings about beta parts of Dagster.
    assert [str(each.message) for each in told if issubclass(each.category, BetaWarning | PreviewWarning)] == []


def test_each_timeframe_maintenance_and_performance_have_a_schedule_that_runs_by_default() -> None:
    usual = assembled(build(watchlist.parse(WATCHLIST[WATCHLIST.index("[history]") :])))
    schedules = {schedule.name: schedule for schedule in usual.schedules or ()}
    assert set(schedules) == {f"refresh_{timeframe.key}" for timeframe in DEFAULT} | {
        "maintenance",
        "performance",
    }
    assert all(schedule.default_status.value == "RUNNING" for schedule in schedules.values())
    assert schedules["refresh_5m"].cron_schedule == "*/5 * * * *"
    # A schedule that ticks more often than its bars close gives the reason.
    assert "looks every 15 minutes, because" in str(schedules["refresh_4h"].description)
    assert "looks every" not in str(schedules["refresh_15m"].description)


@pytest.mark.settled
def test_a_5m_close_requests_one_run_over_all_stale_series(world: World) -> None:
    world.now = world.now.replace(minute=35)
    (request,) = tick(world, M5)
    assert request.tags["dagster/asset_partition_range_start"] == "AAPL|5m"
    assert request.tags["dagster/asset_partition_range_end"] == "BTC-USD|5m"
    assert request.tags["ema_assets/lane"] == "live"
    assert request.tags["dagster/priority"] == str(-M5.rank)
    # At a lower level, a run of 1,000 series prints 4,000 lines.
    assert request.run_config["loggers"]["console"]["config"]["log_level"] == "INFO"


@pytest.mark.broad
@pytest.mark.settled
def test_a_close_of_15m_requests_its_run_before_the_last_5m_bar_has_arrived(world: World) -> None:
    world.now = world.now.replace(minute=45)
    (request,) = tick(world, M15)
    assert request.tags["for"].endswith(", 5 series")
    assert request.tags["ema_assets/lane"] == "background"
    assert request.tags["for"] == "newest 15m bars, 5 series"
    assert int(request.tags["dagster/priority"]) < 0


@pytest.mark.broad
@pytest.mark.settled
def test_a_run_that_only_reports_to_dagster_again_is_not_labeled_with_new_bars(world: World) -> None:
    with world.database.transaction() as transaction:
        transaction.execute("UPDATE market.series_state SET recorded_at = NULL WHERE timeframe = '1h'")
    world.let_grace_pass()
    (request,) = tick(world, H1)
    assert request.tags["for"] == "1h reported to Dagster again, 5 series"


@pytest.mark.broad
@pytest.mark.settled
def test_a_run_that_recomputes_an_asset_is_labeled_as_recomputed(world: World) -> None:
    with world.database.transaction() as transaction:
        ledger.start_again(transaction, [EMA_TREND])
    (request,) = tick(world, H1)
    assert request.tags["for"] == "1h recomputed, 5 series"


@pytest.mark.settled
def test_a_tick_with_nothing_stale_says_when_the_next_bar_closes(world: World) -> None:
    reason = tick(world, H1)
    assert isinstance(reason, SkipReason)
    assert "XNYS next 1h bar closes 2026-11-20 16:30 UTC" in str(reason.skip_message)


@pytest.mark.settled
def test_a_tick_names_only_exchanges_from_which_its_bars_are_fetched(world: World) -> None:
    with world.database.transaction() as transaction:
        transaction.execute("UPDATE market.instrument SET is_fetched = false WHERE calendar = 'XNYS'")
    reason = tick(world, H1)
    assert isinstance(reason, SkipReason)
    assert str(reason.skip_message) == "nothing is stale: 24/7 next 1h bar closes 2026-11-20 16:00 UTC"
    with world.database.transaction() as transaction:
        transaction.execute("UPDATE market.instrument SET is_fetched = false")
    reason = tick(world, H1)
    assert isinstance(reason, SkipReason)
    assert str(reason.skip_message) == (
        "nothing is stale: 1h bars come from files only, and those are taken up by the sweep"
    )


@pytest.mark.broad
def test_a_tick_at_the_weekend_says_until_when_the_exchange_is_closed(world: World) -> None:
    world.now = SUNDAY
    world.settle()
    reason = tick(world, M5)
    assert isinstance(reason, SkipReason)
    assert "XNYS closed until 2026-11-23 14:30 UTC" in str(reason.skip_message)
    assert "24/7 next 5m bar closes 2026-11-22 12:05 UTC" in str(reason.skip_message)


@pytest.mark.broad
def test_a_tick_at_the_weekend_requests_only_crypto(world: World) -> None:
    world.now = SUNDAY
    world.settle()
    world.now += timedelta(minutes=5)
    (request,) = tick(world, M5)
    assert request.tags["dagster/asset_partition_range_start"] == "BTC-USD|5m"
    assert request.tags["dagster/asset_partition_range_end"] == "BTC-USD|5m"


@pytest.mark.broad
@pytest.mark.settled
def test_series_that_a_queued_run_covers_are_not_requested_again(world: World) -> None:
    world.now = world.now.replace(minute=35)
    (request,) = tick(world, M5)
    world.instance.create_run_for_job(defs.resolve_job_def("refresh"), tags=dict(request.tags))
    reason = tick(world, M5)
    assert isinstance(reason, SkipReason)
    assert "covered by a queued or running run" in str(reason.skip_message)


@pytest.mark.broad
@pytest.mark.settled
def test_a_close_requests_its_run_during_a_backfill_of_a_person(world: World) -> None:
    """The backfill may have fetched before the bar closed, and may take an hour. Row locks keep the two runs apart."""
    world.now = world.now.replace(minute=35)
    world.instance.create_run_for_job(
        defs.resolve_implicit_global_asset_job_def(),
        tags={
            "dagster/asset_partition_range_start": "AAPL|5m",
            "dagster/asset_partition_range_end": "BTC-USD|5m",
            "dagster/backfill": "abcdefgh",
        },
    )
    (request,) = tick(world, M5)
    assert request.tags["for"].endswith(", 5 series")


@pytest.mark.broad
@pytest.mark.settled
@pytest.mark.parametrize("start", ["AAPL|5m", "garbage"])
def test_a_close_requests_its_run_during_a_refresh_that_a_person_launched(world: World, start: str) -> None:
    """A run whose range began with an invalid series once made every schedule and the sweep fail until it ended."""
    world.now = world.now.replace(minute=35)
    world.instance.add_run(
        DagsterRun(
            "refresh",
            status=DagsterRunStatus.NOT_STARTED,
            tags={
                "dagster/asset_partition_range_start": start,
                "dagster/asset_partition_range_end": "BTC-USD|5m",
            },
        )
    )
    (request,) = tick(world, M5)
    assert request.tags["for"].endswith(", 5 series")


@pytest.mark.settled
def test_schedules_have_no_partition_set_and_one_late_tick_requests_everything_that_is_stale(world: World) -> None:
    """Of the overdue ticks of a schedule without a partition set, the daemon evaluates only the last one."""
    for schedule in defs.schedules or ():
        # Reading `environment_vars` of a schedule warns.
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            known = ScheduleSnap.from_def(defs.resolve_schedule_def(schedule.name), defs.get_repository_def())
            assert known.partition_set_name is None
    world.now += timedelta(hours=2)
    (request,) = tick(world, M5)
    assert request.tags["for"].endswith(", 5 series")


@pytest.mark.settled
def test_the_sweep_leaves_a_bar_that_has_just_closed_to_its_schedule(world: World) -> None:
    world.now = world.now.replace(minute=35, second=10)
    assert isinstance(look(world, sweep), SkipReason)
    world.now += timedelta(minutes=2)
    (request,) = look(world, sweep)
    assert timeframe_of(request) == "5m"


def test_the_sweep_looks_every_30_seconds_unless_something_is_stale(world: World) -> None:
    def sweep_after(seconds: int, cursor: str | None) -> tuple[Any, str | None]:
        """Return the result of the sweep `seconds` later, and its new cursor."""
        world.now += timedelta(seconds=seconds)
        context = build_sensor_context(instance=world.instance, cursor=cursor)
        return sweep._raw_fn(context, **world.resources), context.cursor

    # The daemon looks every five seconds. With an interval of 9 s it evaluates at every second look, never the third.
    assert sweep.minimum_interval_seconds == sync_watchlist.minimum_interval_seconds == 9
    requests, cursor = sweep_after(0, None)
    assert len(requests) == 2
    # Everything has to be loaded, so the next sweep looks again.
    assert cursor == ""
    world.settle()
    quiet, cursor = sweep_after(0, cursor)
    assert quiet.skip_message == "nothing is stale that a schedule does not see to"
    assert cursor == world.now.isoformat()
    soon, kept = sweep_after(20, cursor)
    assert (soon.skip_message, kept) == ("there was nothing to launch 20 s ago; it looks again after 30 s", cursor)
    later, cursor = sweep_after(10, cursor)
    assert later.skip_message == quiet.skip_message
    assert cursor == world.now.isoformat()
    # The sweep ignores a cursor that a person wrote in the UI.
    for written in ("yesterday", "2020-01-01", "2999-01-01T00:00:00+00:00"):
        other, _ = sweep_after(0, written)
        assert other.skip_message == quiet.skip_message


def wait(world: World, until: datetime) -> None:
    """Let the series that have failed wait until `until`."""
    with world.database.transaction() as transaction:
        transaction.execute("UPDATE market.series_state SET next_attempt_at = $1 WHERE failures > 0", until)


@pytest.mark.broad
@pytest.mark.settled
def test_ticks_during_an_outage_say_how_many_series_wait_until_when_and_why(world: World) -> None:
    """Ticks once said that nothing was stale for as long as all series failed."""
    world.now = world.now.replace(minute=35)
    fault(world, kind="server_error", status=503)
    (request,) = tick(world, M5)
    assert not world.run(request.tags, raise_on_error=False).success
    clear_faults(world)
    wait(world, world.now.replace(minute=50, second=13))

    waiting = "5 series of 5m are behind and left alone until 15:50:13 UTC: sandbox"
    for said in (tick(world, M5), look(world, sweep)):
        assert isinstance(said, SkipReason)
        assert str(said.skip_message).startswith(f"nothing is launched: {waiting}")
        assert "503" in str(said.skip_message)
    # All 5m bars of the quarter hour that ended at 15:30 are stored.
    assert str(tick(world, M15).skip_message).startswith("nothing is stale: ")
    world.now = world.now.replace(minute=45)
    assert str(tick(world, M15).skip_message).startswith(f"nothing is launched: {waiting}")
    world.now = world.now.replace(minute=50, second=12)
    assert str(look(world, sweep).skip_message).startswith(f"nothing is launched: {waiting}")
    world.now = world.now.replace(minute=50, second=13)
    (request,) = look(world, sweep)
    assert request.tags["for"].endswith(", 5 series")
    assert world.run(request.tags).success
    assert all("left alone" not in str(said) for said in (tick(world, M5), look(world, sweep)))


@pytest.mark.settled
def test_a_tick_names_the_waiting_series_when_other_series_are_launched_or_covered(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    world.now = world.now.replace(minute=35)
    with world.database.transaction() as transaction:
        ledger.fail(transaction, "ohlc", M5, {"XOM": "no symbol XOM"}, world.now, world.now.replace(minute=55))
    waiting = "1 series of 5m is behind and left alone until 15:55:00 UTC: no symbol XOM"
    (request,) = tick(world, M5)
    assert request.tags["for"].endswith(", 4 series")
    assert waiting in capfd.readouterr().err.splitlines()
    world.instance.create_run_for_job(defs.resolve_job_def("refresh"), tags=dict(request.tags))
    world.now += timedelta(minutes=1)
    for said in (tick(world, M5), look(world, sweep)):
        assert "covered by" in str(said.skip_message)
        assert str(said.skip_message).endswith(f"; {waiting}")


@pytest.mark.broad
@pytest.mark.settled
def test_the_sweep_requests_a_bar_that_has_just_closed_under_a_virtual_clock(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 60 times the speed, each sweep once found only bars that had just closed, and left them to schedules."""
    world.now = world.now.replace(minute=35, second=10)
    monkeypatch.setenv("EMA_CLOCK", "2026-11-20T14:30Z x60 since 2026-11-24T20:00Z")
    (request,) = look(world, sweep)
    assert timeframe_of(request) == "5m"


@pytest.mark.broad
def test_the_sweep_requests_new_symbols_at_once_with_a_lower_priority_than_live_runs(world: World) -> None:
    requests = look(world, sweep)
    assert [timeframe_of(request) for request in requests] == ["5m", "1d"]
    assert all(int(request.tags["dagster/priority"]) <= -10 for request in requests)
    assert all(request.tags["ema_assets/lane"] == "background" for request in requests)


@pytest.mark.broad
def test_rolled_up_timeframes_wait_for_the_run_that_loads_their_5m_history(world: World) -> None:
    """Without this, each sweep during a long load would launch runs for the few series loaded so far."""
    history = look(world, sweep)
    world.instance.create_run_for_job(defs.resolve_job_def("refresh"), tags=dict(history[0].tags))
    world.settle()
    with world.database.transaction() as transaction:
        transaction.execute(
            """UPDATE market.series_state SET dirty_from = first_ts, dirty_end = first_ts
               WHERE asset IN ('ohlc', 'ema_signals') AND timeframe IN ('15m', '1h')"""
        )
    reason = look(world, sweep)
    assert isinstance(reason, SkipReason)
    # Five symbols on two timeframes. A series counts once, however many of its assets are stale.
    assert str(reason.skip_message) == "10 stale series are covered by queued or running runs"


@pytest.mark.broad
def test_the_watchlist_sensor_adds_and_removes_partitions_in_one_batch_each(world: World) -> None:
    world.watchlist_path.write_text(world.watchlist_path.read_text().replace('"JPM", "XOM"', '"NVDA", "AMD"'))
    result = look(world, sync_watchlist)
    changes = {type(request).__name__: request.partition_keys for request in result.dynamic_partitions_requests}
    assert changes == {
        "AddDynamicPartitionsRequest": ["NVDA", "AMD"],
        "DeleteDynamicPartitionsRequest": ["JPM", "XOM"],
    }
    with world.database.transaction() as transaction:
        active = transaction.query("SELECT symbol FROM market.instrument WHERE is_active ORDER BY 1")["symbol"]
    assert active.to_list() == ["AAPL", "AMD", "BTC-USD", "MSFT", "NVDA"]


def test_a_removed_symbol_stays_a_partition_until_the_runs_that_name_it_are_over(world: World) -> None:
    """Dagster fails a whole run when its range begins or ends with a partition that no longer exists."""
    job = defs.resolve_job_def("refresh")
    waiting, running = (
        world.instance.create_run_for_job(job, tags=tags)
        for tags in (
            {"dagster/asset_partition_range_start": "AAPL|5m", "dagster/asset_partition_range_end": "MSFT|5m"},
            {"dagster/partition": "XOM|1h"},
        )
    )
    world.instance.add_run(DagsterRun("report", tags={"dagster/partition": "2026"}, status=DagsterRunStatus.STARTED))
    world.watchlist_path.write_text(world.watchlist_path.read_text().replace('"AAPL", "MSFT", "JPM", "XOM"', '"MSFT"'))
    cursor = None

    def gone() -> list[str]:
        nonlocal cursor
        context = build_sensor_context(instance=world.instance, cursor=cursor)
        result = sync_watchlist._raw_fn(context, **world.resources)
        if isinstance(result, SkipReason):
            told.append(str(result.skip_message).partition("; ")[2])
            return []
        cursor = result.cursor
        (request,) = result.dynamic_partitions_requests or ()
        for symbol in request.partition_keys:
            world.instance.delete_dynamic_partition("symbol", symbol)
        return list(request.partition_keys)

    told: list[str] = []
    assert gone() == ["JPM"]
    with world.database.transaction() as transaction:
        active = transaction.query("SELECT symbol FROM market.instrument WHERE is_active ORDER BY 1")["symbol"]
    assert active.to_list() == ["BTC-USD", "MSFT"]
    assert gone() == []
    world.instance.report_run_failed(waiting)
    assert gone() == ["AAPL"]
    assert gone() == []
    world.instance.report_run_failed(running)
    assert gone() == ["XOM"]
    assert gone() == []
    assert told == [
        "AAPL and 1 more stay partitions until the runs over them have ended",
        f"XOM stays a partition until run {running.run_id} is over",
        "",
    ]


@pytest.mark.broad
def test_the_watchlist_sensor_skips_until_something_changes_and_adopts_changed_code_after_a_reload(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    cursor = look(world, sync_watchlist).cursor
    context = build_sensor_context(instance=world.instance, cursor=cursor)
    quiet = sync_watchlist._raw_fn(context, **world.resources)
    assert isinstance(quiet, SkipReason)
    assert "has not changed: 5 symbols" in str(quiet.skip_message)
    world.settle()
    rewrite(monkeypatch, "ema_signals")
    world.watchlist_path.write_text(world.watchlist_path.read_text() + "# saved again\n")
    stopped = sync_watchlist._raw_fn(context, **world.resources)
    assert isinstance(stopped, SkipReason)
    assert "reload the code location" in str(stopped.skip_message)
    new = assembled(build(watchlist.parse(WATCHLIST)))
    new_sweep, new_sync = new.resolve_sensor_def("sweep"), new.resolve_sensor_def("sync_watchlist")
    assert not isinstance(new_sync._raw_fn(context, **world.resources), SkipReason)
    # For some seconds, the sweep leaves out what the watchlist sensor has just requested.
    world.now += timedelta(minutes=1)
    requests = look(world, new_sweep)
    assert {timeframe_of(request) for request in requests} == {frame.key for frame in FRAMES}


def test_a_tick_reads_the_files_again_only_when_one_of_them_has_changed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "signals"
    (folder / "helpers").mkdir(parents=True)
    monkeypatch.setenv("EMA_SIGNALS_FOLDER", str(folder))
    graph = configured(Settings.from_env())
    read: list[Settings] = []

    def noted(settings: Settings) -> Graph:
        read.append(settings)
        return configured(settings)

    monkeypatch.setattr("ema_assets.defs.configuration.configured", noted)
    changes = (
        lambda: None,
        lambda: world.watchlist_path.write_text(world.watchlist_path.read_text().replace(CORE_TEXT, "")),
        lambda: (folder / "helpers" / "numbers.py").write_text("ONE = 1\n"),
        lambda: (folder / "mine.py").write_text("1 +"),
        (folder / "mine.py").unlink,
    )
    said: list[str | None] = []
    for number, change in enumerate(changes, 1):
        change()
        said += [configuration_drift(graph), configuration_drift(graph)]
        assert len(read) == number
    assert said[:2] == [None, None]
    assert len(said) == 10
    assert all("have changed; reload" in str(each) for each in said[2:6] + said[8:]), said
    assert all("mine.py: line 1: cannot be imported" in str(each) for each in said[6:8]), said[6]


@pytest.mark.broad
def test_a_watchlist_that_cannot_be_synced_fails_its_tick_with_the_reason_and_the_sweep_continues(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ConfigurationError("`calendar` must be one that there is, received 'XMARS'")

    monkeypatch.setattr("ema_assets.defs.sensors.sync", refuse)
    with pytest.raises(WrongConfiguration) as failed:
        look(world, sync_watchlist)
    assert str(failed.value) == (
        "`calendar` must be one that there is, received 'XMARS'\nThe watchlist was not synced: everything goes on with "
        "the last one that was right"
    )
    assert len(look(world, sweep)) == 2


@pytest.mark.broad
@pytest.mark.settled
def test_changed_code_recomputes_its_asset_and_the_assets_that_read_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite(monkeypatch, "ema_trend")
    world.sync()
    with world.database.transaction() as transaction:
        transaction.execute("UPDATE market.ema_trend SET spread_pct = 0")
    # A process that has loaded the previous code computes none of it.
    assert all(world.materialized(run.run_id) == [] for run in world.sweep())
    loaded = assembled(build(watchlist.load(world.watchlist_path)))
    recorded = {asset for run in world.sweep_until_fresh(loaded) for asset, _ in world.materialized(run.run_id)}
    assert recorded == {"ema_trend", "strategy_9_30_ema"}
    with world.database.transaction() as transaction:
        left = transaction.query("SELECT count(*) AS n FROM market.ema_trend WHERE spread_pct = 0")["n"][0]
    assert left == 0


@pytest.mark.settled
def test_the_sweep_launches_no_runs_of_changed_code_before_a_sync(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sync that the database refuses is repeated. Without this, each sweep would launch runs that compute nothing."""
    rewrite(monkeypatch, "ema_trend")
    loaded = assembled(build(watchlist.load(world.watchlist_path))).resolve_sensor_def("sweep")
    with world.database.transaction() as transaction:
        transaction.execute("UPDATE market.series_state SET dirty_from = last_ts WHERE asset = 'ema_trend'")
    skipped = look(world, loaded)
    assert skipped.skip_message == (
        "nothing is launched: ema_trend: changed code or parameters wait for a sync of the watchlist"
    )
    world.sync()
    assert len(look(world, loaded)) > 0


def test_a_tick_without_a_database_says_so_in_one_sentence(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMA_DATABASE_URL", "postgresql://nobody:secret@127.0.0.1:1/none")
    for ask in (lambda: look(world, sweep), lambda: look(world, sync_watchlist), lambda: tick(world, M5)):
        with pytest.raises(WrongConfiguration) as failed:
            ask()
        assert str(failed.value).startswith(
            "cannot connect to postgresql://nobody:***@127.0.0.1:1/none: connection to server"
        )
        assert failed.value.user_code_process_error_infos[0].stack == []


def test_a_tick_that_loses_the_database_after_its_sync_says_so_in_one_sentence(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object) -> None:
        raise StoreUnavailable("the connection was lost")

    monkeypatch.setattr("ema_assets.defs.sensors._requests_for_stale", lost)
    with pytest.raises(WrongConfiguration, match="^the connection was lost$"):
        look(world, sync_watchlist)


def publish_after(monkeypatch: pytest.MonkeyPatch, delay: timedelta) -> None:
    """Set the publication delay of Binance."""
    late = replace(registry.PROVIDERS["binance"], publication_delay=delay)
    monkeypatch.setattr(registry, "PROVIDERS", {**registry.PROVIDERS, "binance": late})


@pytest.mark.broad
def test_neither_ticks_nor_sweeps_launch_runs_for_unpublished_bars(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a provider twenty minutes late, each close and each sweep once launched a run that requested nothing."""
    monkeypatch.setenv("EMA_BINANCE_BASE_URL", world.sandbox.base_url)
    publish_after(monkeypatch, timedelta(minutes=22))
    path = world.watchlist_path
    path.write_text(path.read_text().replace('calendar = "24/7"', 'calendar = "24/7"\nprovider = "binance"'))
    world.sync()
    world.settle()

    world.now = world.now.replace(minute=35, second=1)
    (request,) = tick(world, M5)
    assert request.tags["dagster/asset_partition_range_start"] == "AAPL|5m"
    assert request.tags["dagster/asset_partition_range_end"] == "XOM|5m"
    world.settle()
    # The bar that closed at 15:15 comes at 15:37.
    world.now = world.now.replace(minute=36, second=59)
    assert isinstance(look(world, sweep), SkipReason)
    world.now = world.now.replace(minute=37, second=0)
    (request,) = look(world, sweep)
    assert request.tags["dagster/asset_partition_range_start"] == "BTC-USD|5m"
    assert world.run(request.tags).success
    with world.database.transaction() as transaction:
        checked = transaction.query(
            "SELECT checked_through FROM market.series_state WHERE asset = 'ohlc' AND symbol = 'BTC-USD' AND timeframe = '5m'"
        ).item()
    assert checked == world.now.replace(minute=15)
    # Only the 15m bar that is complete now is requested.
    (request,) = look(world, sweep)
    assert request.tags["dagster/asset_partition_range_start"] == "BTC-USD|15m"


@pytest.mark.broad
def test_a_run_launched_at_the_close_waits_until_its_provider_has_published(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMA_BINANCE_BASE_URL", world.sandbox.base_url)
    publish_after(monkeypatch, timedelta(seconds=10))
    path = world.watchlist_path
    path.write_text(path.read_text().replace('calendar = "24/7"', 'calendar = "24/7"\nprovider = "binance"'))
    world.sync()
    world.settle()
    close = world.now.replace(minute=35)
    now, slept = [close + timedelta(seconds=3)], list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += timedelta(seconds=seconds)

    world.now = close
    (request,) = tick(world, M5)
    assert request.tags["for"].endswith(", 5 series")
    monkeypatch.setattr(MarketAt, "now", lambda self: now[0])
    # The `sleep` of the module `time` itself is used by other code meanwhile.
    monkeypatch.setattr(waiting, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    run = world.run(request.tags)
    assert slept == [7.0]
    assert len([each for each in world.materialized(run.run_id) if each[0] == "ohlc"]) == 5
    with world.database.transaction() as transaction:
        checked = transaction.query(
            "SELECT DISTINCT checked_through FROM market.series_state WHERE asset = 'ohlc' AND timeframe = '5m'"
        )
    assert checked.rows() == [(close,)]


def test_the_labels_of_bars_depend_on_the_provider_of_their_series() -> None:
    market = MarketResource()
    assert market.origin(None) == {"provider": "sandbox", "prices": "synthetic, from the sandbox exchange"}
    assert market.origin("binance") == {"provider": "binance", "prices": "market data"}
    assert market.origin("file") == {"provider": "file", "prices": "market data"}


def test_ticks_of_a_version_that_is_older_than_the_database_fail_with_that_reason(world: World) -> None:
    """An older version may still run after a migration by a newer one. Each run that it launches would fail."""
    with world.database.transaction() as transaction:
        transaction.execute("INSERT INTO ema_assets.migration (number, name, sha256) VALUES (9999, 'later', '')")
    world.watchlist_path.write_text(world.watchlist_path.read_text() + "# another one\n")
    for evaluate in (lambda: tick(world, M5), lambda: look(world, sweep), lambda: look(world, sync_watchlist)):
        with pytest.raises(
            WrongConfiguration, match="the database was migrated to 9999 by a newer ema-assets, and this"
        ):
            evaluate()
    with world.database.transaction() as transaction:
        assert sync_failures.last(transaction) is None
