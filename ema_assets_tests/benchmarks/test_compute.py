"""Tests of benchmarks.compute at a tiny size. It prints no ratio when the results differ."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import compute
from benchmarks.compute_run import MINUTES, NEVER, compare, worst_difference
from ema_assets_tests.waiting import GIVEN_UP_AFTER_SECONDS

REPOSITORY = Path(__file__).parents[2]


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.compute", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=GIVEN_UP_AFTER_SECONDS,
        check=False,
    )


@pytest.fixture(scope="module")
def sizes() -> list[dict[str, Any]]:
    """The measurements of two sizes. They take ten processes, so the tests of this module share them."""
    pytest.importorskip("talib")
    # The 44 sessions up to the end of December include two early closes and the clock change of early November.
    done = call("--series", "2", "3", "--sessions", "44", "--batch-rows", "7000", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, list)
    return found


@pytest.mark.broad
def test_all_implementations_agree_across_batches_a_clock_change_and_early_closes(
    sizes: list[dict[str, Any]],
) -> None:
    # A session with an early close has 42 bars of 5m instead of 78.
    bars_a_series = 44 * 78 - 2 * 36
    assert [(size["series"], size["batches"], size["bars"]) for size in sizes] == [
        (2, 1, 2 * bars_a_series),
        (3, 2, 3 * bars_a_series),
    ]
    for size in sizes:
        ours, *others = size["ways"]
        assert (ours["name"], ours["times"]) == ("ema-assets", 1)
        assert [way["name"] for way in others] == ["TA-Lib loop", "pandas", "pandas resample"]
        for way in size["ways"]:
            assert set(way["steps_s"]) == {"rollup", "ema", "trend", "trades"}
            assert way["difference"] < 1e-9
            assert way["rows_per_s"] > 0
            assert way["peak_mb"] > 0


@pytest.mark.broad
def test_the_table_has_one_line_per_implementation(
    sizes: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = compute.Size(**{**sizes[0], "ways": [compute.Way(**way) for way in sizes[0]["ways"]]})
    monkeypatch.setattr(compute, "measure", lambda *_: measured)
    monkeypatch.setattr(sys, "argv", ["compute", "--series", "2", "--sessions", "44"])
    compute.main()
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("2 series, 44 sessions: 6,720 bars of 5m, ")
    assert [line[2:18].rstrip() for line in lines] == [
        "seconds",
        "ema-assets",
        "TA-Lib loop",
        "pandas",
        "pandas resample",
    ]


def test_a_size_of_zero_is_refused() -> None:
    done = call("--series", "0")
    assert done.returncode == 2
    assert "must be at least 1, received 0" in done.stderr


def columns(**changed: Any) -> dict[str, Any]:
    return {
        "ts": np.array([1, 2, 3]),
        "ema_9": np.array([np.nan, 100.0, 101.0]),
        "exit_ts": np.array([5, 6, NEVER]),
        **changed,
    }


def test_equal_columns_have_no_difference_and_rounding_is_measured() -> None:
    assert worst_difference(columns(), columns(), "here") == 0.0
    rounded = columns(ema_9=np.array([np.nan, 100.0, 101.0 * (1 + 1e-12)]))
    assert worst_difference(columns(), rounded, "here") == pytest.approx(1e-12, rel=1e-3)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (columns(ema_9=np.array([np.nan, 100.0, 101.0 + 1e-6])), "here, ema_9: 1 of 3 values differ, first in row 2"),
        (columns(ema_9=np.array([99.0, 100.0, 101.0])), "here, ema_9: 1 of 3 values differ, first in row 0"),
        (columns(exit_ts=np.array([5, 6, 7])), "here, exit_ts: 1 of 3 values differ, first in row 2"),
        (columns(ts=np.array([1, 2])), "here, ts: 3 rows against 2"),
        ({"ts": np.array([1, 2, 3])}, "here: the columns differ: ['ema_9', 'exit_ts']"),
    ],
)
def test_different_values_stop_the_benchmark_and_their_place_is_reported(other: dict[str, Any], message: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        worst_difference(columns(), other, "here")
    assert message in str(stopped.value)


def test_the_comparison_reads_every_timeframe_of_every_batch(tmp_path: Path) -> None:
    for way in ("ema-assets", "pandas"):
        for batch in range(2):
            for timeframe in MINUTES:
                np.savez(tmp_path / f"{way}-{batch}-{timeframe}.npz", **columns())
    assert compare(tmp_path, 2, ["pandas"]) == {"pandas": 0.0}
    np.savez(tmp_path / "pandas-1-4h.npz", **columns(ts=np.array([1, 2, 4])))
    with pytest.raises(SystemExit, match="pandas, batch 1, 4h, ts: 1 of 3 values differ"):
        compare(tmp_path, 2, ["pandas"])
