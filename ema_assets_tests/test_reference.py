"""The page of everything that has a name is what the code declares today."""

from benchmarks import reference
from ema_assets.store.database import Database


def test_the_reference_is_what_the_code_declares(database: Database) -> None:
    with database.transaction() as transaction:
        written = reference.page(transaction)
    assert reference.PAGE.read_text(encoding="utf-8") == written, "run python -m benchmarks.reference"
    # It has something of each sort.
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
