"""One refresh without Dagster: what is stale, fetch it, store it, roll it up, compute what reads it."""
