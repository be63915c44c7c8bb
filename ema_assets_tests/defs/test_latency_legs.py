"""Tests of the legs of the latency between a close and its strategy row, as Dagster and the run recorded them."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from ema_assets.reports.latency_legs import LEGS, Leg, legs, legs_of
from ema_assets.store.database import Database
from ema_assets_tests.defs.conftest import World
from ema_assets_tests.refresh.exchange import rows_of

CLOSE = datetime(2026, 11, 20, 15, 30, tzinfo=UTC)


@pytest.mark.settled
def test_the_legs_of_a_real_run_add_up_to_the_whole_latency(world: World) -> None:
    world.now += timedelta(minutes=5)
    (run,) = world.sweep()
    world.instance.report_engine_event("of no leg", run.dagster_run)
    with world.database.transaction() as transaction:
        found = legs(transaction, datetime.now(UTC))
    ((seconds, noted, write_seconds, committed_at, closed_at),) = rows_of(
        world.database, "SELECT seconds, run_id, write_seconds, committed_at, closed_at FROM market.close_latency"
    )
    assert noted == run.run_id
    by_leg = {each.leg: each for each in found}
    # A run in this process has no queue and no launch.
    assert list(by_leg) == [name for name in LEGS if name not in ("queued", "launched")]
    assert {(each.timeframe, each.closes) for each in found} == {("5m", 1)}
    assert all(each.p50_seconds == each.p99_seconds >= 0 for each in found)
    until_written = sum(each.p50_seconds for each in found if each.leg != "recorded")
    assert until_written == pytest.approx(seconds, abs=1e-3)
    assert by_leg["written"].p50_seconds == pytest.approx(write_seconds, abs=1e-5)
    stats = world.instance.get_run_stats(run.run_id)
    assert stats.start_time is not None
    started = sum(by_leg[name].p50_seconds for name in ("requested", "started"))
    assert closed_at.timestamp() + started == pytest.approx(stats.start_time, abs=2e-3)
    assert committed_at.timestamp() + by_leg["recorded"].p50_seconds < stats.end_time


def test_a_refresh_without_dagster_has_no_legs(database: Database) -> None:
    with database.transaction() as transaction:
        assert legs(transaction, CLOSE) == []


def test_an_unknown_time_has_no_leg_and_the_next_leg_begins_at_the_last_known_time() -> None:
    reached = {name: CLOSE + timedelta(seconds=place) for place, name in enumerate(("closed", *LEGS))}
    rows = [{"timeframe": "5m", **reached}, {"timeframe": "5m", **reached, "queued": None, "launched": None}]
    found = {each.leg: each for each in legs_of(pl.DataFrame(rows))}
    assert found["requested"] == Leg("5m", "requested", 2, 1.0, 1.0)
    assert found["queued"].closes == found["launched"].closes == 1
    assert (found["started"].closes, found["started"].p50_seconds, found["started"].p99_seconds) == (2, 3.0, 3.0)
    assert found["recorded"] == Leg("5m", "recorded", 2, 1.0, 1.0)


def test_the_legs_of_many_closes_have_a_median_and_a_99th_percentile() -> None:
    rows = [
        {"timeframe": "1h", **{name: CLOSE + timedelta(seconds=seconds) for name in LEGS}, "closed": CLOSE}
        for seconds in range(1, 101)
    ]
    assert legs_of(pl.DataFrame(rows))[0] == Leg("1h", "requested", 100, 51.0, 100.0)
