"""Tests that a process keeps the memory that it has freed."""

import resource
import subprocess
import sys

import pytest

from ema_assets.model.memory import keep_freed

# Runs in a separate process, because the setting cannot be undone.
_PROGRAM = """
import resource
import numpy as np
from ema_assets.model.memory import keep_freed

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    columns = [np.ones(250_000) for _ in range(12)]
    del columns
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed()
page_faults()
print(page_faults())
"""


def test_freed_memory_is_reused_with_few_page_faults() -> None:
    if not keep_freed():
        pytest.skip("only glibc knows how")
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    pages = 12 * 250_000 * 8 // resource.getpagesize()
    assert int(done.stdout) < pages / 10


def test_keep_freed_does_nothing_on_other_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed()
