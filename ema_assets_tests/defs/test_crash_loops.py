"""Tests of crash loops: what ends a run as a whole, such as too little memory, is not repeated every few seconds."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from dagster import DagsterEvent, DagsterEventType, DagsterRunStatus, RunRequest, SensorDefinition, SkipReason
from dagster._core.execution.plan.objects import StepSuccessData

from ema_assets.config import watchlist
from ema_assets.definitions import assembled
from ema_assets.defs.run_tags import DEFER_TAG, FAILED_TAG, LANE_TAG, TIMEFRAME_TAG
from ema_assets.operations.sync_watchlist import sync
from ema_assets.refresh.graph import build
from ema_assets.store import ledger
from ema_assets_tests.conftest import mostly_broad
from ema_assets_tests.defs.conftest import WATCHLIST, World, defs, sweep, sync_watchlist
from ema_assets_tests.defs.test_automation import look, timeframe_of


def ended(
    world: World,
    tags: Mapping[str, str],
    seconds_ago: float,
    status: DagsterRunStatus = DagsterRunStatus.FAILURE,
    steps: Mapping[str, Sequence[DagsterEventType]] = MappingProxyType({}),
) -> None:
    """Make a run that has ended that long before the time of `world`, and whose `steps` have these events."""
    run = world.instance.create_run_for_job(defs.resolve_job_def("refresh"), tags=dict(tags), status=status)
    for step, kinds in steps.items():
        for kind in kinds:
            data = StepSuccessData(duration_ms=1.0) if kind is DagsterEventType.STEP_SUCCESS else None
            event = DagsterEvent(kind.value, "refresh", step_key=step, event_specific_data=data)
            world.instance.report_dagster_event(event, run_id=run.run_id)
    with world.database.transaction() as transaction:
        transaction.execute(
            """
            UPDATE dagster.runs SET end_time = extract(epoch FROM $2::timestamptz),
                                    update_timestamp = $2::timestamptz AT TIME ZONE 'UTC'
            WHERE run_id = $1
            """,
            run.run_id,
            world.now - timedelta(seconds=seconds_ago),
        )


def requested(world: World, sensor: SensorDefinition = sweep) -> list[str]:
    """Return the timeframes of the runs that the sweep requests."""
    found = look(world, sensor)
    return [] if isinstance(found, SkipReason) else [timeframe_of(each) for each in found]


def tags_of_5m(world: World) -> dict[str, str]:
    found: list[RunRequest] = look(world, sweep)
    return next(dict(each.tags) for each in found if timeframe_of(each) == "5m")


@pytest.mark.broad
def test_from_the_third_crash_in_a_row_the_sweep_pauses_longer_each_time_and_other_timeframes_go_on(
    world: World,
) -> None:
    tags = tags_of_5m(world)
    for crashes, pause in enumerate([0, 0, 30, 60, 120, 240, 300, 300], start=1):
        ended(world, tags, 0)
        world.now += timedelta(seconds=max(pause, 10) - 1)
        assert requested(world) == (["1d"] if pause else ["5m", "1d"]), crashes
        world.now += timedelta(seconds=1)
        assert requested(world) == ["5m", "1d"], crashes


@pytest.mark.broad
def test_the_sweep_says_which_runs_wait_why_and_until_when(world: World) -> None:
    short, long = (dict(each.tags) for each in look(world, sweep))
    for seconds_ago in (20, 15, 10):
        ended(world, short, seconds_ago)
    world.instance.create_run_for_job(defs.resolve_job_def("refresh"), tags=long)
    reason = look(world, sweep)
    assert isinstance(reason, SkipReason)
    assert world.now.time().isoformat("seconds") == "15:32:00"
    assert str(reason.skip_message) == (
        "10 stale series are covered by queued or running runs, or pause; 5m (background): runs have failed "
        "as a whole 3 times in a row, as their pages say, so the next one waits until 15:32:20 UTC"
    )


@pytest.mark.broad
@pytest.mark.parametrize(
    ("status", "changed"),
    [
        (DagsterRunStatus.SUCCESS, {}),
        # The series that has failed pauses by itself.
        (DagsterRunStatus.FAILURE, {FAILED_TAG: "AAPL|5m"}),
    ],
)
def test_a_run_that_is_no_crash_ends_the_row(world: World, status: DagsterRunStatus, changed: dict[str, str]) -> None:
    tags = tags_of_5m(world)
    for seconds_ago in (40, 30, 20):
        ended(world, tags, seconds_ago)
    ended(world, tags | changed, 10, status)
    ended(world, tags, 5)
    assert requested(world) == ["5m", "1d"]


@pytest.mark.broad
@pytest.mark.parametrize(
    ("status", "changed"),
    [
        (DagsterRunStatus.FAILURE, {TIMEFRAME_TAG: "1d"}),
        (DagsterRunStatus.FAILURE, {LANE_TAG: "live"}),
        # A person has launched it.
        (DagsterRunStatus.FAILURE, {DEFER_TAG: ""}),
        (DagsterRunStatus.CANCELED, {}),
    ],
)
def test_runs_that_count_for_nothing_neither_begin_nor_end_the_row(
    world: World, status: DagsterRunStatus, changed: dict[str, str]
) -> None:
    tags = tags_of_5m(world)
    for seconds_ago in (20, 15):
        ended(world, tags, seconds_ago)
        ended(world, tags | changed, seconds_ago, status)
    assert requested(world) == ["5m", "1d"]
    ended(world, tags, 10)
    ended(world, tags | changed, 5, status)
    assert "5m" not in requested(world)


def test_crashes_at_a_time_that_is_still_to_come_hold_nothing(world: World) -> None:
    """The clock was ahead and was set back."""
    tags = tags_of_5m(world)
    for seconds_ago in (-3600, -3590, -3580):
        ended(world, tags, seconds_ago)
    assert requested(world) == ["5m", "1d"]


@pytest.mark.broad
def test_crashes_of_the_day_before_are_forgotten(world: World) -> None:
    tags = tags_of_5m(world)
    for seconds_ago in (86_400, 86_390, 86_380, 5):
        ended(world, tags, seconds_ago)
    assert requested(world) == ["5m", "1d"]


@pytest.mark.broad
def test_a_crash_counts_from_the_end_of_its_run_or_from_its_last_change_without_one(world: World) -> None:
    tags = tags_of_5m(world)
    for seconds_ago in (600, 595, 590):
        ended(world, tags, seconds_ago)
    with world.database.transaction() as transaction:
        transaction.execute("UPDATE dagster.runs SET update_timestamp = update_timestamp + interval '580 s'")
    assert requested(world) == ["5m", "1d"]
    with world.database.transaction() as transaction:
        transaction.execute("UPDATE dagster.runs SET end_time = NULL")
    assert requested(world) == ["1d"]


def test_a_changed_watchlist_is_followed_without_a_pause(world: World) -> None:
    tags = tags_of_5m(world)
    for seconds_ago in (20, 15, 10):
        ended(world, tags, seconds_ago)
    assert "5m" not in requested(world)
    world.watchlist_path.write_text(world.watchlist_path.read_text().replace('"JPM"', '"JPM", "AMD"'))
    found: Any = look(world, sync_watchlist)
    assert "5m" in [timeframe_of(each) for each in found.run_requests]


@pytest.mark.broad
def test_runs_that_end_with_their_host_count_as_one_crash(world: World) -> None:
    tags = tags_of_5m(world)
    for number in range(10):
        ended(world, tags, 10 + number / 2.5)
    assert requested(world) == ["5m", "1d"]


OWN = """
import polars as pl
from ema_assets.signals.declaration import Column, Signal
from ema_assets_tests.conftest import mostly_broad


def above(bars, carried, params):
    return bars.select("symbol", "ts", above=pl.col("close") + 1)


SIGNAL = Signal(
    name="above",
    version="1",
    description="A little above the close",
    reads={"ohlc": ("close",)},
    columns=(Column("above", "float8", "A value"),),
    compute=above,
    bars_before=lambda params: 0,
)
"""
BEGUN = (DagsterEventType.STEP_START,)
DONE = (DagsterEventType.STEP_START, DagsterEventType.STEP_SUCCESS)
SKIPPED = (DagsterEventType.STEP_SKIPPED,)


@pytest.fixture
def of_mine(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SensorDefinition:
    """The sweep of a user with a signal of his own, which is not computed yet, while all else is up to date."""
    folder = tmp_path / "signals"
    folder.mkdir()
    (folder / "above.py").write_text(OWN)
    monkeypatch.setenv("EMA_SIGNALS_FOLDER", str(folder))
    watched = watchlist.parse(WATCHLIST)
    graph = build(watched, folder)
    sync(world.database, watched, world.now, graph)
    return assembled(graph).resolve_sensor_def("sweep")


def forget(world: World, asset: str, timeframe: str) -> None:
    """Make series that were never computed, which runs of the same lane take up as those of `of_mine`."""
    with world.database.transaction() as transaction:
        transaction.execute(
            """
            UPDATE market.series_state SET dirty_from = first_ts, first_ts = NULL, last_ts = NULL
            WHERE asset = $1 AND timeframe = $2
            """,
            asset,
            timeframe,
        )


def failing(world: World) -> list[tuple[str, str, int]]:
    """Return asset, timeframe and number of failing series, where there are any."""
    with world.database.transaction() as transaction:
        return ledger.failing(transaction).group_by("asset", "timeframe", maintain_order=True).len().rows()


@pytest.mark.broad
@pytest.mark.settled
def test_when_runs_end_while_they_compute_a_signal_of_the_user_only_that_one_pauses(
    world: World, of_mine: SensorDefinition, capfd: pytest.CaptureFixture[str]
) -> None:
    short = next(dict(each.tags) for each in look(world, of_mine) if timeframe_of(each) == "5m")
    others = ["15m", "1h", "1d"]
    for seconds_ago in (20, 15, 10):
        assert (requested(world, of_mine), failing(world)) == (["5m", *others], [])
        ended(world, short, seconds_ago, steps={"ohlc": DONE, "rsi": SKIPPED, "above": BEGUN})
    found = look(world, of_mine)
    assert "5m" in [timeframe_of(each) for each in found], "it goes on without the signal"
    said = "5m (background): the last 3 runs ended while they computed above, so its series pause"
    assert said in capfd.readouterr().err.splitlines()
    assert failing(world) == [("above", "5m", 5)]
    with world.database.transaction() as transaction:
        reasons = ledger.failing(transaction)["last_error"].unique().to_list()
    assert reasons == [
        "the last 3 runs ended while they computed above; does it need too much memory, or end its process?"
    ]
    assert requested(world, of_mine) == others
    assert failing(world) == [("above", "5m", 5)], "each crash counts once"
    world.now += timedelta(seconds=31)
    assert requested(world, of_mine) == ["5m", *others], "its pause is over"
    ended(world, short, 0, steps={"above": BEGUN})
    assert requested(world, of_mine) == ["5m", *others], "it goes on without the signal again"
    assert requested(world, of_mine) == others


@pytest.mark.settled
def test_runs_that_do_not_leave_the_signal_out_pause_as_a_whole(world: World, of_mine: SensorDefinition) -> None:
    """The hosts of runs may have another edition of the user's file than the sweep."""
    short = next(dict(each.tags) for each in look(world, of_mine) if timeframe_of(each) == "5m")
    for seconds_ago in (20, 15, 10):
        ended(world, short, seconds_ago, steps={"above": BEGUN})
    forget(world, "ema_trend", "5m")
    assert requested(world, of_mine) == ["5m", "15m", "1h", "1d"]
    assert requested(world, of_mine) == ["5m", "15m", "1h", "1d"], "until the run has ended"
    ended(world, short, 0, steps={"above": BEGUN})
    assert requested(world, of_mine) == ["15m", "1h", "1d"]


@pytest.mark.settled
@pytest.mark.parametrize(
    "steps",
    mostly_broad(
        [
            pytest.param([{"above": DONE, "ohlc": BEGUN}] * 3, id="a step of the package"),
            pytest.param([{"above": BEGUN}, {"above": BEGUN}, {"above": DONE}], id="between two steps"),
            pytest.param([{"above": BEGUN}, {"rsi": BEGUN}, {"above": BEGUN}], id="different steps"),
            pytest.param([{"above": BEGUN, "rsi": BEGUN}] * 3, id="two steps at once"),
            pytest.param([{}] * 3, id="no step"),
        ],
        2,
    ),
)
def test_runs_that_end_elsewhere_pause_as_a_whole(
    world: World, of_mine: SensorDefinition, steps: list[dict[str, Sequence[DagsterEventType]]]
) -> None:
    short = next(dict(each.tags) for each in look(world, of_mine) if timeframe_of(each) == "5m")
    for seconds_ago, events in zip((20, 15, 10), steps, strict=True):
        ended(world, short, seconds_ago, steps=events)
    assert requested(world, of_mine) == ["15m", "1h", "1d"]
    assert failing(world) == []
