"""The tests. They limit polars to one thread before it is imported, because three workers already use two cores.

The frames of a test are small, and waking other threads for them takes a sixth of its CPU time. The processes of `e2e/`
and a run with `EMA_HYPOTHESIS=thorough` use all threads. This process and those that it starts write bytecode. Without
it, each of a hundred processes would compile the package again, and each worker would rewrite all assertions.
"""

import os
import sys

POLARS_THREADS = "POLARS_MAX_THREADS"

if os.environ.get("EMA_HYPOTHESIS") != "thorough":
    os.environ.setdefault(POLARS_THREADS, "1")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
