"""`ema-assets up` killed without a chance to clean up, in the middle of its first load."""

import os
import signal
from pathlib import Path

import pytest

from ema_assets.errors import StoreError
from ema_assets_tests.e2e.stack import TWO_SYMBOLS, Stack, processes_mentioning, wait_until

pytestmark = pytest.mark.e2e


def test_up_killed_at_work_leaves_no_process_and_the_next_one_goes_on_with_its_data(tmp_path: Path) -> None:
    stack = Stack(tmp_path, TWO_SYMBOLS)
    stack.start()
    try:
        stored = wait_until(lambda: _bars(stack), 60, f"the first bars\n{stack.evidence()}")
        assert stack.process is not None
        os.kill(stack.process.pid, signal.SIGKILL)
        stack.process.wait(timeout=10)
        wait_until(lambda: not processes_mentioning(str(stack.home)), 60, "no process is left")
        assert stack.status()["running"] is False
        stack.start()
        assert stack.status()["pid"] == stack.process.pid
        assert _bars(stack) >= stored
        stack.wait_complete(2)
    finally:
        stack.stop()
    wait_until(lambda: not processes_mentioning(str(stack.home)), 5, "no process is left")


def _bars(stack: Stack) -> int:
    try:
        return stack.sql("SELECT count(*) AS bars FROM market.ohlc")["bars"].item()
    except StoreError:
        return 0
