"""Tests of the benchmark of a tick: the line through its measurements, the cost of a process, and its rows."""

import os
import sys
from dataclasses import asdict, fields
from pathlib import Path

import pytest

from benchmarks.measure import Line, fit, spend
from benchmarks.tick import Baseline, Row, history_days_of, row_of

# Readers of the JSON rely on these fields.
PROMISED = {
    "symbols",
    "plan_ms",
    "in_run_s",
    "cpu_s",
    "events",
    "sql_statements",
    "api_calls",
    "peak_mb",
    "standby_cpu_s",
    "standby_wall_s",
    "naive_cpu_s",
    "cpu_ratio",
}
FOUND = {
    "bars": 1000,
    "load_s": 1.0,
    "runs": 1,
    "plan_ms": 20.0,
    "in_run_s": 2.0,
    "by_asset_s": {"ohlc": 1.0},
    "cpu_s": 4.0,
    "wall_s": 5.0,
    "events": 400,
    "events_per_s": 200.0,
    "sql_statements": 60,
    "api_calls": 2,
    "peak_mb": 200.0,
    "standby_processes": 1,
    "standby_first_cpu_s": 1.5,
    "standby_first_wall_s": 2.0,
    "standby_cpu_s": 1.0,
    "standby_wall_s": 1.2,
    "standby_mb": 220.0,
    "idle_schedule_ms": 50.0,
    "idle_sweep_ms": 60.0,
}


def test_points_on_a_line_give_that_line() -> None:
    line = fit([(number, 3 + 2 * number) for number in (1, 2, 4)])
    assert (line.fixed, line.slope) == pytest.approx((3, 2))
    assert line.at(100) == pytest.approx(203)


def test_scattered_points_give_the_line_of_least_squares() -> None:
    line = fit([(0, 1), (1, 0), (2, 5)])
    assert (line.fixed, line.slope) == pytest.approx((0, 2))


def test_a_single_size_gives_a_line_through_zero() -> None:
    assert fit([(2, 10), (2, 14)]) == Line(0.0, 6.0)


def test_a_line_without_points_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one point"):
        fit([])


def test_a_process_is_counted_with_its_children(tmp_path: Path) -> None:
    """A grandchild uses a tenth of a second of CPU time. Lower bounds hold on any machine."""
    burn = "import time\nwhile time.process_time() < 0.1: pass"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}], check=True)"
    spent = spend([sys.executable, "-c", child], os.environ, tmp_path / "log")
    assert spent.cpu_s > 0.1
    assert spent.wall_s > 0
    assert spent.peak_mb > 1


def test_the_output_of_a_failed_process_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="it is broken"):
        spend([sys.executable, "-c", "raise RuntimeError('it is broken')"], os.environ, tmp_path / "log")


def test_a_row_has_the_promised_fields_and_is_compared_with_both_baselines() -> None:
    baseline = Baseline([1, 2, 4], Line(0.0, 8.0), Line(1.0, 5.0), Line(0.0, 2.0))
    row = asdict(row_of(100, 10, FOUND, baseline, 0.5))
    assert set(row) >= PROMISED
    assert row["naive_cpu_s"] == 800
    assert row["naive_wall_s"] == 501
    assert row["cpu_ratio"] == 200
    assert row["cpu_ratio_in_process"] == 50
    assert row["cpu_ratio_standby"] == 800


def test_every_field_of_a_row_comes_from_the_measurements_or_the_baseline() -> None:
    computed = {"symbols", "history_days", "cpu_ratio", "cpu_ratio_in_process", "cpu_ratio_standby", "load_average"}
    rest = {field.name for field in fields(Row)} - set(FOUND) - computed
    assert all(name.startswith("naive_") for name in rest)


def test_large_sizes_get_less_history_by_default() -> None:
    assert history_days_of(1_000, None) > history_days_of(10_000, None)
    assert history_days_of(10_000, 10) == 10
