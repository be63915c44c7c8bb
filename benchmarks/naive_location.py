"""The code location of the baseline: its run workers and their steps load it."""

from benchmarks.naive import location

defs = location()
