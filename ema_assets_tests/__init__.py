"""The tests. One thread for polars, from before it is imported: three workers on two cores have no use for more.

The frames of a test are small, and waking other threads for them is a sixth of its processor time. What `e2e/` starts
has all threads, and so has a run with `EMA_HYPOTHESIS=thorough`. This process and those that are started may keep what
they have compiled: without that each of a hundred compiles the package anew, and each worker rewrites all assertions.
"""

import os
import sys

POLARS_THREADS = "POLARS_MAX_THREADS"

if os.environ.get("EMA_HYPOTHESIS") != "thorough":
    os.environ.setdefault(POLARS_THREADS, "1")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
