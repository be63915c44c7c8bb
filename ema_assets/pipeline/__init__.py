"""What a refresh does, without Dagster: lock, read the delta, compute, write. Used by defs/, the CLI and benchmarks."""
