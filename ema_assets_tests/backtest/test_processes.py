"""Tests of `read` and `backtest` in processes that a user starts: a forked one gets an error and does not hang."""

import subprocess
import sys
from pathlib import Path

import pytest

import ema_assets

ROOT = Path(ema_assets.__file__).parents[1]

# The warnings are those of Python 3.12 and of polars about forks.
FORKED = """
import os, sys, warnings
warnings.simplefilter("ignore")
import pytest
from ema_assets import backtest, read
from ema_assets.model.errors import ForkedProcess

def refused(call):
    try:
        call()
    except ForkedProcess as error:
        print(error, flush=True)

history = backtest.load("1h", ["BTC-USD"], url=sys.argv[1])
if os.fork() == 0:
    refused(lambda: read.bars("1h", url=sys.argv[1]))
    refused(lambda: history.run("crossover"))
    os._exit(0)
os.wait()
print(read.bars("1h", ["BTC-USD"], url=sys.argv[1]).height)
"""

SPAWNED = """
import multiprocessing, sys
from ema_assets import read

def height(symbol):
    return read.bars("1h", [symbol], url=sys.argv[1]).height

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(height("BTC-USD"), *pool.map(height, ["BTC-USD"]))
"""


def printed(code: str, url: str, folder: Path) -> list[str]:
    script = folder / "script.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, script, url], check=True, capture_output=True, text=True, cwd=ROOT, timeout=300
    )
    return done.stdout.splitlines()


@pytest.mark.broad
def test_a_process_that_is_forked_after_a_call_is_refused(url: str, tmp_path: Path) -> None:
    read_refused, run_refused, height = printed(FORKED, url, tmp_path)
    assert read_refused == run_refused
    assert 'start processes by multiprocessing.get_context("spawn")' in read_refused
    assert int(height) > 0


@pytest.mark.broad
def test_a_spawned_process_reads_as_its_parent_does(url: str, tmp_path: Path) -> None:
    (heights,) = printed(SPAWNED, url, tmp_path)
    first, second = heights.split()
    assert first == second
