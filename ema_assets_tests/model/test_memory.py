"""What a process has freed stays its own."""

import resource
import subprocess
import sys

import pytest

from ema_assets.model.memory import keep_freed

# A process of its own, because what is kept stays kept.
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


def test_memory_that_was_freed_is_written_to_again_without_page_faults() -> None:
    if not keep_freed():
        pytest.skip("only glibc knows how")
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    pages = 12 * 250_000 * 8 // resource.getpagesize()
    assert int(done.stdout) < pages / 10


def test_on_another_system_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed()
