"""Compares figures computed in memory with those of the view in the database."""

import math

import polars as pl


def assert_same_figures(ours: pl.DataFrame, stored: pl.DataFrame) -> None:
    """Check that both have the same figures in the same rows, up to the rounding of sums in another order."""
    assert ours.columns == [name for name in stored.columns if name not in ("strategy", "timeframe")]
    for mine, theirs in zip(ours.rows(named=True), stored.rows(named=True), strict=True):
        for name, value in mine.items():
            other = theirs[name]
            if isinstance(value, float) and isinstance(other, float):
                # Annualizing raises a rounded value to a large power.
                rel = 1e-6 if "annualized" in name or name == "calmar" else 1e-8
                assert math.isclose(value, other, rel_tol=rel, abs_tol=1e-9), (mine["symbol"], name, value, other)
            else:
                assert value == other, (mine["symbol"], name, value, other)
