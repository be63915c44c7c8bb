"""Tests that docs/REFERENCE.md is what the generator writes from the declarations in the code."""

from benchmarks import reference
from ema_assets.store.database import Database


def test_the_reference_lists_what_the_code_declares(database: Database) -> None:
    with database.transaction() as transaction:
        written = reference.page(transaction)
    assert reference.PAGE.read_text(encoding="utf-8") == written, "run python -m benchmarks.reference"
    # The page has an entry of every kind.
    for part in (
        "### ema-assets symbols add",
        "| `EMA_SERIES_PER_RUN` | `1000` | 1 to 100000 |",
        "### results.screener",
        "| `dirty_from` | timestamptz |",
        "### macd",
        "### Rule pullback",
        "### Alert about_to_cross",
        "| `binance` |",
    ):
        assert part in written
