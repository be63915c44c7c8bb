"""Files on another scale than what is stored around them: one scale for the whole series, and no trade of a cliff."""

from datetime import date, timedelta

import polars as pl
import pytest

from ema_assets.model.asset_names import EMA_TREND, OHLC, STRATEGY
from ema_assets.operations.ingest import IngestedSeries, store_file
from ema_assets.operations.sync_watchlist import sync
from ema_assets.store.database import Database
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, moved, refresh, rows_of, tables_of, utc, watch
from ema_assets_tests.timeframes import D1

FILES = watch({"AAPL": "XNYS"}, provider="file", timeframes=[D1])
NOW = utc("2026-11-28 12:00")
PRICES = ["open", "high", "low", "close"]
# Two hundred days on the scale of today, about 25.
TODAY = moved(bars_on("XNYS", "AAPL", D1, date(2026, 2, 9), date(2026, 11, 27), 1), 0.25)[:200]


def as_traded(bars: pl.DataFrame, ratio: float) -> pl.DataFrame:
    """`bars` of before a split of `ratio`, as they traded: prices of then, and fewer shares."""
    return moved(bars, ratio).with_columns(pl.col("volume") / ratio)


@pytest.fixture
def stored(database: Database) -> Database:
    """A series from files, computed to the end of the chain."""
    sync(database, FILES, NOW)
    assert ingest(database, TODAY, "today.csv").stored == 200
    return database


def ingest(database: Database, bars: pl.DataFrame, name: str = "old.csv") -> IngestedSeries:
    (summary,) = store_file(database, bars, name, NOW)
    refresh(database, FILES, MemoryExchange(), NOW)
    return summary


def closes(database: Database) -> list[float]:
    return tables_of(database)[OHLC]["close"].to_list()


def crossovers_and_trades(database: Database) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    tables = tables_of(database)
    crossed = tables[EMA_TREND].filter(pl.col("crossover").is_not_null()).select("ts", "crossover").rows()
    return crossed, tables[STRATEGY].select("entry_ts", "exit_ts").rows()


@pytest.mark.parametrize(("ratio", "name"), [(4.0, "4:1"), (0.1, "1:10"), (1.253, "1253:1000")])
def test_a_file_as_traded_that_ends_before_what_is_stored_is_brought_to_the_stored_scale(
    stored: Database, ratio: float, name: str
) -> None:
    before = crossovers_and_trades(stored)
    assert all(before)
    summary = ingest(stored, as_traded(TODAY[:120], ratio))
    assert closes(stored) == pytest.approx(TODAY["close"].to_list(), rel=1e-12)
    assert tables_of(stored)[OHLC]["volume"].to_list() == pytest.approx(TODAY["volume"].to_list(), rel=1e-12)
    assert crossovers_and_trades(stored) == before
    assert (summary.unadjusted, summary.split, summary.refused) == (name, None, None)
    assert rows_of(stored, "SELECT * FROM market.bar_flag") == []


def test_days_of_such_a_file_that_were_not_stored_are_on_the_stored_scale_as_well(database: Database) -> None:
    sync(database, FILES, NOW)
    ingest(database, pl.concat([TODAY[60:100], TODAY[110:]]), "today.csv")
    summary = ingest(database, as_traded(TODAY[:120], 4.0))
    assert (summary.unadjusted, summary.stored - summary.corrected) == ("4:1", 70)
    assert closes(database) == pytest.approx(TODAY["close"].to_list(), rel=1e-12)


@pytest.mark.parametrize("days", [150, 200], ids=["ends before", "ends with what is stored"])
def test_a_split_within_a_file_as_traded_brings_its_older_days_to_the_stored_scale(stored: Database, days: int) -> None:
    before = crossovers_and_trades(stored)
    summary = ingest(stored, pl.concat([as_traded(TODAY[:120], 4.0), TODAY[120:days]]))
    assert summary.unadjusted == "4:1"
    assert closes(stored) == pytest.approx(TODAY["close"].to_list(), rel=1e-12)
    assert crossovers_and_trades(stored) == before


@pytest.mark.parametrize("days", [120, 150], ids=["up to the cliff", "beyond it"])
def test_a_file_that_is_adjusted_heals_what_was_stored_on_two_scales(database: Database, days: int) -> None:
    sync(database, FILES, NOW)
    ingest(database, pl.concat([as_traded(TODAY[:120], 4.0), TODAY[120:]]), "traded.csv")
    summary = ingest(database, TODAY[20:days], "adjusted.csv")
    assert (summary.split, summary.unadjusted) == ("4:1", None)
    assert closes(database) == pytest.approx(TODAY["close"].to_list(), rel=1e-12)


def test_a_file_of_two_scales_of_which_none_is_the_stored_one_is_refused(stored: Database) -> None:
    twice = pl.concat([as_traded(TODAY[:80], 8.0), as_traded(TODAY[80:120], 2.0)])
    summary = ingest(stored, twice)
    last = TODAY["ts"][79]
    assert summary.refused == (
        f"up to {last:%Y-%m-%d %H:%M} UTC the file and the stored bars are on two scales, by 8:1, and the newer bars do "
        "not tell which one is right; nothing of it is stored. Ingest a file that is adjusted throughout, or one file "
        "for each scale"
    )
    assert (summary.stored, summary.equal) == (0, 0)
    assert closes(stored) == TODAY["close"].to_list()


def test_one_file_for_each_scale_is_what_a_refusal_advises(stored: Database) -> None:
    assert ingest(stored, as_traded(TODAY[:80], 8.0)).unadjusted == "8:1"
    assert ingest(stored, as_traded(TODAY[80:120], 2.0)).unadjusted == "2:1"
    assert closes(stored) == pytest.approx(TODAY["close"].to_list(), rel=1e-12)


def test_a_file_that_ends_newest_sets_the_scale_of_all(stored: Database) -> None:
    newer = bars_on("XNYS", "AAPL", D1, date(2026, 2, 9), date(2026, 11, 27), 1)[190:]
    assert newer["ts"][-1] > TODAY["ts"][-1] + timedelta(days=1)
    summary = ingest(stored, newer, "new.csv")
    assert (summary.split, summary.unadjusted) == ("1:4", None)
    assert closes(stored) == pytest.approx([*(TODAY["close"][:190] * 4), *newer["close"]], rel=1e-12)


def test_what_was_read_again_in_cents_of_before_the_split_changes_no_crossover(stored: Database) -> None:
    """A file rounds other prices than the vendor of the stored bars did."""
    before = crossovers_and_trades(stored)
    cents = as_traded(TODAY[:120], 7.0).with_columns(pl.col(PRICES).round(2))
    assert ingest(stored, cents).unadjusted == "7:1"
    assert closes(stored) == pytest.approx(TODAY["close"].to_list(), abs=0.005)
    assert crossovers_and_trades(stored) == before
