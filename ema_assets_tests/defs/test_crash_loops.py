"""Tests of crash loops: what ends a run as a whole, such as too little memory, is not repeated every few seconds."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from dagster import DagsterRunStatus, RunRequest, SkipReason

from ema_assets.defs.run_tags import DEFER_TAG, FAILED_TAG, LANE_TAG, TIMEFRAME_TAG
from ema_assets_tests.defs.conftest import World, defs, sweep, sync_watchlist
from ema_assets_tests.defs.test_automation import look, timeframe_of


def ended(
    world: World, tags: Mapping[str, str], seconds_ago: float, status: DagsterRunStatus = DagsterRunStatus.FAILURE
) -> None:
    """Make a run that has ended that long before the time of `world`."""
    run = world.instance.create_run_for_job(defs.resolve_job_def("refresh"), tags=dict(tags), status=status)
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


def requested(world: World) -> list[str]:
    """Return the timeframes of the runs that the sweep requests."""
    found = look(world, sweep)
    return [] if isinstance(found, SkipReason) else [timeframe_of(each) for each in found]


def tags_of_5m(world: World) -> dict[str, str]:
    found: list[RunRequest] = look(world, sweep)
    return next(dict(each.tags) for each in found if timeframe_of(each) == "5m")


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


def test_a_changed_watchlist_is_followed_without_a_pause(world: World) -> None:
    tags = tags_of_5m(world)
    for seconds_ago in (20, 15, 10):
        ended(world, tags, seconds_ago)
    assert "5m" not in requested(world)
    world.watchlist_path.write_text(world.watchlist_path.read_text().replace('"JPM"', '"JPM", "AMD"'))
    found: Any = look(world, sync_watchlist)
    assert "5m" in [timeframe_of(each) for each in found.run_requests]


def test_runs_that_end_with_their_host_count_as_one_crash(world: World) -> None:
    tags = tags_of_5m(world)
    for number in range(10):
        ended(world, tags, 10 + number / 2.5)
    assert requested(world) == ["5m", "1d"]
