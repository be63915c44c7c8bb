"""Tests of simultaneous ticks: they launch nothing twice, and a request ends once Dagster has created its run."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from dagster import DagsterRunStatus, SensorResult
from dagster._core.test_utils import create_run_for_test

from ema_assets.defs.just_requested import JustRequested
from ema_assets.defs.namespace import Namespace
from ema_assets.defs.requests import runs_for
from ema_assets.refresh.plan import stale_for_sweep
from ema_assets.refresh.runs import PlannedRun, Rectangle
from ema_assets_tests.defs.conftest import World, sweep, sync_watchlist
from ema_assets_tests.defs.test_automation import look, tick, timeframe_of
from ema_assets_tests.timeframes import M5

NOW = datetime(2026, 11, 25, 15, 30, tzinfo=UTC)
RUN = PlannedRun(Rectangle(M5, "AAPL", "XOM"), 3)


def requested(found: Any) -> list[str]:
    """Return the timeframes of the runs that a tick requests."""
    requests = found.run_requests or [] if isinstance(found, SensorResult) else found
    return [timeframe_of(request) for request in requests] if isinstance(requests, list) else []


def test_a_sensor_does_not_request_what_another_sensor_has_requested_in_the_last_seconds(world: World) -> None:
    assert requested(look(world, sweep)) == ["5m", "1d"]
    assert requested(look(world, sync_watchlist)) == []
    assert requested(look(world, sweep)) == ["5m", "1d"], "its own requests of before are known to Dagster, or lost"
    world.now += timedelta(seconds=31)
    assert requested(look(world, sync_watchlist)) == ["5m", "1d"]
    assert requested(look(world, sweep)) == []


@pytest.mark.broad
def test_a_request_no_longer_counts_once_dagster_has_created_its_run(world: World) -> None:
    history, days = look(world, sweep)
    create_run_for_test(world.instance, job_name="refresh", tags=dict(history.tags), status=DagsterRunStatus.SUCCESS)
    assert requested(look(world, sync_watchlist)) == ["5m"]
    create_run_for_test(world.instance, job_name="refresh", tags=dict(days.tags), status=DagsterRunStatus.STARTED)
    assert requested(look(world, sync_watchlist)) == ["5m"]


@pytest.mark.broad
def test_a_component_with_a_prefix_has_its_own_requests(world: World) -> None:
    assert requested(look(world, sweep)) == ["5m", "1d"]
    with world.database.transaction() as transaction:
        stale = stale_for_sweep(transaction, world.now, timedelta(0))
        given = (world.instance, transaction, stale, world.now, "sync_watchlist", world.symbols)
        assert len(runs_for(*given, Namespace(("eu",)))) == 2
        assert runs_for(*given) == []


@pytest.mark.broad
@pytest.mark.settled
def test_a_bar_that_has_just_closed_is_requested_despite_an_earlier_request_of_its_series(world: World) -> None:
    with world.database.transaction() as transaction:
        transaction.execute("UPDATE market.series_state SET recorded_at = NULL WHERE timeframe = '5m'")
    world.let_grace_pass()
    assert requested(look(world, sweep)) == ["5m"]
    world.now = world.now.replace(minute=35)
    assert requested(tick(world, M5)) == ["5m"]


def test_the_second_of_two_simultaneous_ticks_plans_after_the_first() -> None:
    both, first_plans, may_end = JustRequested(), threading.Event(), threading.Event()
    seen: list[list[PlannedRun]] = []

    def slow(requests: list[PlannedRun]) -> list[PlannedRun]:
        seen.append(requests)
        first_plans.set()
        may_end.wait(10)
        return [RUN]

    def quick(requests: list[PlannedRun]) -> list[PlannedRun]:
        seen.append(requests)
        return []

    first = threading.Thread(target=lambda: both.plan("sweep", NOW, lambda _: set(), slow))
    second = threading.Thread(target=lambda: both.plan("refresh_5m", NOW, lambda _: set(), quick))
    first.start()
    assert first_plans.wait(10)
    second.start()
    second.join(0.1)
    assert len(seen) == 1
    may_end.set()
    first.join(10)
    second.join(10)
    assert seen == [[], [RUN]]


def test_requests_of_other_ticks_are_looked_up_in_dagster_and_end_when_the_clock_is_set_back() -> None:
    both, asked = JustRequested(), []

    def made_since(moment: datetime) -> set[tuple[str, str]]:
        asked.append(moment)
        return set()

    def look_at(name: str, now: datetime) -> list[PlannedRun]:
        seen: list[PlannedRun] = []
        both.plan(name, now, made_since, lambda requests: seen.extend(requests) or [RUN])
        return seen

    assert look_at("sweep", NOW) == look_at("sweep", NOW) == []
    assert asked == []
    assert look_at("sync_watchlist", NOW + timedelta(seconds=1)) == [RUN, RUN]
    assert asked == [NOW - timedelta(seconds=20)]
    assert look_at("refresh_5m", NOW - timedelta(minutes=5)) == []


def test_dagster_is_queried_only_once_about_a_request_that_has_become_a_run() -> None:
    both, asked = JustRequested(), []

    def made_since(moment: datetime) -> set[tuple[str, str]]:
        asked.append(moment)
        return {RUN.rectangle.corners}

    both.plan("sweep", NOW, made_since, lambda _: [RUN])
    for _ in range(2):
        both.plan("sync_watchlist", NOW, made_since, lambda requests: requests)
    assert asked == [NOW - timedelta(seconds=20)]
