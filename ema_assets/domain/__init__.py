"""Pure functions from polars frames to polars frames. No I/O, no clock, no Dagster."""
