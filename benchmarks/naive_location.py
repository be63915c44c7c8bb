"""The baseline's code location, as its run workers and their steps load it."""

from benchmarks.naive import location

defs = location()
