"""Ticks side by side launch nothing twice, and what Dagster has made of a request is no request any more."""

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
    """The timeframes of the runs that a tick wants."""
    requests = found.run_requests or [] if isinstance(found, SensorResult) else found
    return [timeframe_of(request) for request in requests] if isinstance(requests, list) else []


def test_what_one_sensor_has_just_requested_is_left_alone_by_another_one_for_some_seconds(world: World) -> None:
    assert requested(look(world, sweep)) == ["5m", "1d"]
    assert requested(look(world, sync_watchlist)) == []
    assert requested(look(world, sweep)) == ["5m", "1d"], "its own requests of before are known to Dagster, or lost"
    world.now += timedelta(seconds=31)
    assert requested(look(world, sync_watchlist)) == ["5m", "1d"]
    assert requested(look(world, sweep)) == []


def test_what_dagster_has_made_of_it_counts_and_the_request_no_longer(world: World) -> None:
    history, days = look(world, sweep)
    create_run_for_test(world.instance, job_name="refresh", tags=dict(history.tags), status=DagsterRunStatus.SUCCESS)
    assert requested(look(world, sync_watchlist)) == ["5m"]
    create_run_for_test(world.instance, job_name="refresh", tags=dict(days.tags), status=DagsterRunStatus.STARTED)
    assert requested(look(world, sync_watchlist)) == ["5m"]


def test_a_component_with_a_prefix_has_requests_of_its_own(world: World) -> None:
    assert requested(look(world, sweep)) == ["5m", "1d"]
    with world.database.transaction() as transaction:
        stale = stale_for_sweep(transaction, world.now, timedelta(0))
        given = (world.instance, transaction, stale, world.now, "sync_watchlist", world.symbols)
        assert len(runs_for(*given, Namespace(("eu",)))) == 2
        assert runs_for(*given) == []


@pytest.mark.settled
def test_a_bar_that_has_just_closed_is_never_left_to_what_was_requested_before(world: World) -> None:
    with world.database.transaction() as transaction:
        transaction.execute("UPDATE market.series_state SET recorded_at = NULL WHERE timeframe = '5m'")
    world.let_grace_pass()
    assert requested(look(world, sweep)) == ["5m"]
    world.now = world.now.replace(minute=35)
    assert requested(tick(world, M5)) == ["5m"]


def test_of_ticks_at_the_same_moment_the_second_plans_when_the_first_has() -> None:
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


def test_dagster_is_asked_only_where_another_tick_has_requested_something_and_a_clock_set_back_ends_it() -> None:
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


def test_a_request_that_dagster_has_made_a_run_of_is_asked_about_once() -> None:
    both, asked = JustRequested(), []

    def made_since(moment: datetime) -> set[tuple[str, str]]:
        asked.append(moment)
        return {RUN.rectangle.corners}

    both.plan("sweep", NOW, made_since, lambda _: [RUN])
    for _ in range(2):
        both.plan("sync_watchlist", NOW, made_since, lambda requests: requests)
    assert asked == [NOW - timedelta(seconds=20)]
