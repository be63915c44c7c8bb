"""Tests of ticks that a clock which was ahead has left behind, as Dagster sees them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    ScheduleInstigatorData,
    SensorInstigatorData,
    TickData,
    TickStatus,
)

from ema_assets.config import watchlist
from ema_assets.model.asset_names import OHLC
from ema_assets.operations.end_pauses import forget_clock_ahead
from ema_assets.store import ledger, provider_state
from ema_assets.store.future_ticks import forget_future_ticks
from ema_assets_tests.defs.conftest import World
from ema_assets_tests.timeframes import M5

NOW = datetime(2026, 11, 20, 15, tzinfo=UTC)
PAST, FUTURE = ((NOW + timedelta(hours=hours)).timestamp() for hours in (-1, 2))
REPOSITORY = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("ema_assets.definitions"), "__repository__")


def note(world: World, name: str, kind: InstigatorType, data: Any, *ticks: float) -> InstigatorState:
    """Store a schedule or sensor with its ticks, as the daemon does."""
    state = InstigatorState(
        RemoteInstigatorOrigin(REPOSITORY, name), kind, InstigatorStatus.DECLARED_IN_CODE, instigator_data=data
    )
    world.instance.add_instigator_state(state)
    for tick in ticks:
        world.instance.create_tick(
            TickData(
                instigator_origin_id=state.instigator_origin_id,
                selector_id=state.selector_id,
                instigator_name=name,
                instigator_type=kind,
                status=TickStatus.SKIPPED,
                timestamp=tick,
            )
        )
    return state


def now_known(world: World, state: InstigatorState) -> tuple[Any, list[float]]:
    """Return the data and the times of the ticks that Dagster has of `state`."""
    found = world.instance.get_instigator_state(state.instigator_origin_id, state.selector_id)
    assert found is not None
    assert found.status is InstigatorStatus.DECLARED_IN_CODE
    ticks = world.instance.get_ticks(state.instigator_origin_id, state.selector_id)
    return found.instigator_data, [tick.timestamp for tick in ticks]


def forget(world: World) -> bool:
    with world.database.transaction() as transaction:
        return forget_future_ticks(transaction, NOW)


def test_what_waits_for_a_time_to_come_goes_on_and_keeps_its_cursor(world: World) -> None:
    data = SensorInstigatorData(
        last_tick_timestamp=FUTURE,
        last_run_key="a key",
        min_interval=9,
        cursor="a cursor",
        last_tick_start_timestamp=FUTURE,
        last_sensor_start_timestamp=PAST,
    )
    sensor = note(world, "sweep", InstigatorType.SENSOR, data, PAST, FUTURE)
    schedule = note(
        world,
        "refresh_5m",
        InstigatorType.SCHEDULE,
        ScheduleInstigatorData("*/5 * * * *", start_timestamp=PAST, last_iteration_timestamp=FUTURE),
        FUTURE,
    )
    untouched = note(
        world, "maintenance", InstigatorType.SCHEDULE, ScheduleInstigatorData("17 5 * * *", start_timestamp=PAST), PAST
    )
    assert forget(world)
    now = NOW.timestamp()
    assert now_known(world, sensor) == (
        data._replace(last_tick_timestamp=now, last_tick_start_timestamp=now),
        [PAST],
    )
    assert now_known(world, schedule) == (
        ScheduleInstigatorData("*/5 * * * *", start_timestamp=PAST, last_iteration_timestamp=now),
        [],
    )
    assert now_known(world, untouched) == (ScheduleInstigatorData("17 5 * * *", start_timestamp=PAST), [PAST])
    assert not forget(world)


def test_a_tick_ahead_is_forgotten_where_nothing_else_is_and_one_within_a_minute_stays(world: World) -> None:
    soon = NOW.timestamp() + 59
    data = ScheduleInstigatorData("*/5 * * * *", start_timestamp=PAST, last_iteration_timestamp=soon)
    schedule = note(world, "refresh_5m", InstigatorType.SCHEDULE, data, soon)
    assert not forget(world)
    assert now_known(world, schedule) == (data, [soon])
    later = note(world, "refresh_1d", InstigatorType.SCHEDULE, ScheduleInstigatorData("5 5 * * *"), FUTURE)
    assert forget(world)
    assert now_known(world, later) == (ScheduleInstigatorData("5 5 * * *"), [])


def test_pauses_after_failures_end_when_the_clock_was_ahead_and_only_then(world: World) -> None:
    """They were written by the wrong clock as well, and would last as many hours longer as it was ahead."""
    ahead, watched = NOW + timedelta(hours=8), watchlist.load(world.watchlist_path)
    with world.database.transaction() as transaction:
        until = provider_state.trip(transaction, "sandbox", "no route to host", ahead, provider_state.Breaker())
        ledger.fail(transaction, OHLC, M5, {"AAPL": "no route to host"}, ahead, until)

    def go_on() -> tuple[bool, bool, int]:
        was_ahead = forget_clock_ahead(world.database, watched, "sandbox", NOW, NOW)
        with world.database.transaction() as transaction:
            is_open = provider_state.breaker(transaction, "sandbox").is_open(NOW)
            return was_ahead, is_open, ledger.pausing(transaction, NOW).filter(asset=OHLC).height

    assert go_on() == (False, True, 1)
    note(world, "refresh_5m", InstigatorType.SCHEDULE, ScheduleInstigatorData("*/5 * * * *"), FUTURE)
    assert go_on() == (True, False, 0)
