"""Tests of benchmarks.parity on a small file, and of its arithmetic with results calculated by hand."""

import json
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.parity import AGREED, WINDOW_BARS, measure
from ema_assets.signals.ema_signals import SPANS
from ema_assets_tests.market.series import START, random_walk
from ema_assets_tests.waiting import GIVEN_UP_AFTER_SECONDS

REPOSITORY = Path(__file__).parents[2]


def bars_of(closes: list[float]) -> pl.DataFrame:
    times = [START + number * timedelta(hours=1) for number in range(len(closes))]
    return pl.DataFrame({"ts": times, "close": closes}).cast({"ts": pl.Datetime("us", "UTC")})


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.parity", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=GIVEN_UP_AFTER_SECONDS,
        check=False,
    )


@pytest.mark.broad
def test_agreement_begins_at_the_bar_that_follows_from_the_recurrence() -> None:
    # The first close is 2 and all others are 1, so both differences can be calculated by hand.
    closes = [2.0, *[1.0] * (WINDOW_BARS - 1)]
    found = measure("step", bars_of(closes))
    assert found.windows == 1
    assert found.long is None
    for span in SPANS:
        keep = 1 - 2 / (span + 1)
        at_first_value = abs(1 / span - keep ** (span - 1))
        expected = span + next(n for n in range(WINDOW_BARS) if at_first_value * keep**n < AGREED)
        # A tolerance of one bar, because the difference is divided by an average that is not yet 1.
        assert abs(found.first.worst[f"ema_{span}"] - expected) <= 1


def test_the_numbers_of_bars_on_the_page_follow_from_the_recurrence() -> None:
    page = (REPOSITORY / "docs/SIGNALS.md").read_text(encoding="utf-8")
    (head,) = re.findall(r"^\| distance of the two at the start.*$", page, re.MULTILINE)
    distances = [float(percent) / 100 for percent in re.findall(r"([\d.]+) %", head)]
    for span in SPANS:
        (row,) = re.findall(rf"^\| bars after it, span {span} \|(.*)$", page, re.MULTILINE)
        keep = 1 - 2 / (span + 1)
        expected = [next(n for n in range(WINDOW_BARS) if distance * keep**n < AGREED) for distance in distances]
        assert [int(bars) for bars in row.split("|") if bars.strip()] == expected


def test_averages_of_a_constant_price_agree_from_their_first_bar() -> None:
    found = measure("still", bars_of([42.0] * 2 * WINDOW_BARS))
    assert found.long is not None
    for agreement in (found.first, found.long):
        assert agreement.worst == {f"ema_{span}": span for span in SPANS}
        assert agreement.crossover_differs_until == 0
        assert agreement.at_converged < 1e-12


@pytest.mark.broad
def test_a_file_of_bars_is_measured_and_series_that_are_too_short_are_named(tmp_path: Path) -> None:
    closes = np.array(random_walk(3 * WINDOW_BARS, 9))
    frame = bars_of(closes.tolist()).select(
        pl.Series("symbol", ["AAPL"] * (len(closes) - 100) + ["KO"] * 100),
        pl.lit("1h").alias("timeframe"),
        "ts",
        *(pl.col("close").alias(name) for name in ("open", "high", "low", "close")),
        pl.lit(1.0).alias("volume"),
    )
    file = tmp_path / "bars.csv"
    frame.write_csv(file)
    done = call(str(file), "--json")
    assert done.returncode == 0, done.stderr
    (series,) = json.loads(done.stdout)
    assert (series["series"], series["bars"]) == ("AAPL|1h", len(closes) - 100)
    assert series["pandas"] < 1e-12
    for agreement in (series["first"], series["long"]):
        assert 9 < agreement["median"]["ema_9"] <= agreement["worst"]["ema_9"] < 100
        assert 30 < agreement["median"]["ema_30"] <= agreement["worst"]["ema_30"] < 250
    assert "KO|1h: left out, because it has 100 bars" in done.stderr
    assert "AAPL|1h" in call(str(file)).stdout


@pytest.mark.broad
def test_files_without_a_long_series_give_an_error_message(tmp_path: Path) -> None:
    file = tmp_path / "bars.csv"
    file.write_text("ts,open,high,low,close,volume\n2026-07-01T14:00:00Z,1,1,1,1,1\n")
    done = call(str(file), "--symbol", "AAPL", "--timeframe", "1h")
    assert done.returncode == 1
    assert "no series has 500 bars" in done.stderr
    assert "Traceback" not in done.stderr
