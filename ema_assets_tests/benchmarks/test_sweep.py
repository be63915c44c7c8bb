"""Tests of benchmarks.sweep at a tiny size. It prints no ratio when the trades differ."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from ema_assets.model.schemas import UTC_TIME
from ema_assets_tests.waiting import GIVEN_UP_AFTER_SECONDS

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.broad
def test_a_tiny_sweep_prints_all_figures() -> None:
    pytest.importorskip("backtesting")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.sweep", "--symbols", "1", "--days", "29", "--json"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=GIVEN_UP_AFTER_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert (row["symbols"], row["bars"]) == (1, 29 * 288)
    assert all(row[name] > 0 for name in ("load_s", "run_s", "sweep_s", "walk_s", "choice_ms", "ratio", "peak_mb"))


@dataclass
class _History:
    bars: pl.DataFrame


@pytest.mark.broad
def test_an_additional_trade_stops_the_benchmark() -> None:
    pytest.importorskip("backtesting")
    from benchmarks import sweep

    closes = [100.0 + (n % 40) * (1 if n % 80 < 40 else -1) for n in range(700)]
    ts = pl.Series([1_767_225_600_000_000 + n * 300_000_000 for n in range(700)]).cast(UTC_TIME)
    prices = dict.fromkeys(("open", "high", "low", "close"), closes)
    bars = pl.DataFrame({"symbol": ["A"] * 700, "ts": ts, **prices, "volume": [1.0] * 700})
    trades, total = sweep.library(bars, 5, 20)
    assert trades > 3
    row = {"symbol": "A", "fast": 5, "slow": 20, "trades": trades, "total_return_pct": total}
    assert sweep.compare(_History(bars), pl.DataFrame([row]))["cpu_s"] > 0  # type: ignore[arg-type]
    with pytest.raises(SystemExit, match=r"A 5/20: \d+ trades and"):
        sweep.compare(_History(bars), pl.DataFrame([row | {"trades": trades + 1}]))  # type: ignore[arg-type]
