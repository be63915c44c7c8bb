"""One refresh without Dagster: find what is stale, fetch, store and roll up bars, and compute what reads them."""
