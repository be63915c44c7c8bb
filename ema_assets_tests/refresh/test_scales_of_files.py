"""Files on another scale than the stored bars: the whole series gets one scale, and no false trade appears."""

from datetime import date, datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ema_assets.model.asset_names import EMA_TREND, OHLC, STRATEGY
from ema_assets.model.schemas import ACTION_SCHEMA
from ema_assets.operations.ingest import IngestedSeries, store_file
from ema_assets.operations.sync_watchlist import sync
from ema_assets.store import action_facts
from ema_assets.store.database import Database
from ema_assets_tests.conftest import mostly_broad
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, moved, refresh, rows_of, tables_of, utc, watch
from ema_assets_tests.timeframes import D1

FILES = watch({"AAPL": "XNYS"}, provider="file", timeframes=[D1])
NOW = utc("2026-11-28 12:00")
PRICES = ["open", "high", "low", "close"]
# Two hundred daily bars on the present scale, at a price of about 25.
TODAY = moved(bars_on("XNYS", "AAPL", D1, date(2026, 2, 9), date(2026, 11, 27), 1), 0.25)[:200]


def as_traded(bars: pl.DataFrame, ratio: float) -> pl.DataFrame:
    """`bars` as they traded before a split of `ratio`, with unadjusted prices and volumes."""
    return moved(bars, ratio).with_columns(pl.col("volume") / ratio)


@pytest.fixture
def stored(database: Database) -> Database:
    """A series from files, with all its results computed."""
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


@pytest.mark.broad
@pytest.mark.parametrize(("ratio", "name"), [(4.0, "4:1"), (0.1, "1:10"), (1.253, "1253:1000")])
def test_an_unadjusted_older_file_is_converted_to_the_stored_scale(stored: Database, ratio: float, name: str) -> None:
    before = crossovers_and_trades(stored)
    assert all(before)
    summary = ingest(stored, as_traded(TODAY[:120], ratio))
    assert closes(stored) == pytest.approx(TODAY["close"].to_list(), rel=1e-12)
    assert tables_of(stored)[OHLC]["volume"].to_list() == pytest.approx(TODAY["volume"].to_list(), rel=1e-12)
    assert crossovers_and_trades(stored) == before
    assert (summary.unadjusted, summary.split, summary.refused) == (name, None, None)
    assert rows_of(stored, "SELECT * FROM market.bar_flag") == []


@pytest.mark.broad
def test_the_cliff_after_an_unadjusted_older_file_is_flagged_until_an_adjusted_file_arrives(
    database: Database,
) -> None:
    flags = "SELECT ts, reason, detail FROM market.bar_flag"
    sync(database, FILES, NOW)
    ingest(database, TODAY[120:], "today.csv")
    for _ in range(2):
        ingest(database, as_traded(TODAY[:120], 4.0))
        ((ts, reason, detail),) = rows_of(database, flags)
        assert (ts, reason) == (TODAY["ts"][120], "jump")
        assert str(detail).endswith("like a split of 4:1 not adjusted for")
    ingest(database, TODAY[:120])
    assert closes(database) == pytest.approx(TODAY["close"].to_list(), rel=1e-12)
    assert rows_of(database, flags) == []


@pytest.mark.broad
def test_days_of_an_unadjusted_file_that_were_not_stored_are_converted_too(database: Database) -> None:
    sync(database, FILES, NOW)
    ingest(database, pl.concat([TODAY[60:100], TODAY[110:]]), "today.csv")
    summary = ingest(database, as_traded(TODAY[:120], 4.0))
    assert (summary.unadjusted, summary.stored - summary.corrected) == ("4:1", 70)
    assert closes(database) == pytest.approx(TODAY["close"].to_list(), rel=1e-12)


@pytest.mark.broad
@pytest.mark.parametrize("days", [150, 200], ids=["ends before", "ends with what is stored"])
def test_the_older_days_of_a_file_with_a_split_are_converted_to_the_stored_scale(stored: Database, days: int) -> None:
    before = crossovers_and_trades(stored)
    summary = ingest(stored, pl.concat([as_traded(TODAY[:120], 4.0), TODAY[120:days]]))
    assert summary.unadjusted == "4:1"
    assert closes(stored) == pytest.approx(TODAY["close"].to_list(), rel=1e-12)
    assert crossovers_and_trades(stored) == before


@pytest.mark.parametrize("days", mostly_broad([120, 150]), ids=["up to the cliff", "beyond it"])
def test_an_adjusted_file_repairs_bars_that_were_stored_on_two_scales(database: Database, days: int) -> None:
    sync(database, FILES, NOW)
    ingest(database, pl.concat([as_traded(TODAY[:120], 4.0), TODAY[120:]]), "traded.csv")
    assert rows_of(database, "SELECT ts, reason FROM market.bar_flag") == [(TODAY["ts"][120], "jump")]
    summary = ingest(database, TODAY[20:days], "adjusted.csv")
    assert (summary.split, summary.unadjusted) == ("4:1", None)
    assert rows_of(database, "SELECT ts, reason FROM market.bar_flag") == []
    assert closes(database) == pytest.approx(TODAY["close"].to_list(), rel=1e-12)


@pytest.mark.broad
def test_stored_bars_that_are_rescaled_to_a_file_are_not_counted_as_bars_of_it(database: Database) -> None:
    sync(database, FILES, NOW)
    ingest(database, as_traded(TODAY[:120], 4.0), "traded.csv")
    summary = ingest(database, TODAY[100:], "adjusted.csv")
    assert (summary.split, summary.unadjusted) == ("4:1", None)
    assert (summary.read, summary.stored, summary.corrected, summary.equal) == (100, 100, 20, 0)
    assert closes(database) == pytest.approx(TODAY["close"].to_list(), rel=1e-12)


@pytest.mark.parametrize("begin", mostly_broad([10, 0]), ids=["goes further back", "begins with what is stored"])
@pytest.mark.parametrize("end", mostly_broad([150, 200, 120]), ids=["ends before", "ends with", "ends with the split"])
@pytest.mark.parametrize("old", mostly_broad([40, 80, 60]), ids=["more later bars", "more older bars", "equally many"])
def test_a_file_over_several_splits_is_converted_to_the_stored_scale(
    database: Database, old: int, end: int, begin: int
) -> None:
    sync(database, FILES, NOW)
    ingest(database, TODAY[begin:], "today.csv")
    before = crossovers_and_trades(database)
    traded = pl.concat([as_traded(TODAY[:old], 28.0), as_traded(TODAY[old:120], 4.0), TODAY[120:end]])
    # Rounded prices, a correction and a missing bar do not hide the splits.
    traded = traded.with_columns(pl.col(PRICES).round(4))
    corrected = pl.concat([traded[:30], moved(traded[30:31], 1.01), traded[31:33], traded[34:]])
    summary = ingest(database, corrected, "traded.csv")
    assert (summary.refused, summary.split, summary.unadjusted) == (None, None, "7:1 and 4:1")
    expected = pl.concat([TODAY[:30], moved(TODAY[30:31], 1.01), TODAY[31:]])
    assert closes(database) == pytest.approx(expected["close"].to_list(), rel=1e-4)
    volumes = tables_of(database)[OHLC]["volume"].to_list()
    assert volumes == pytest.approx(TODAY["volume"].to_list(), rel=1e-9)
    assert rows_of(database, "SELECT * FROM market.bar_flag") == []
    if not begin:
        assert crossovers_and_trades(database) == before


@pytest.mark.broad
def test_an_adjusted_file_over_bars_that_were_stored_over_several_splits_is_right(database: Database) -> None:
    sync(database, FILES, NOW)
    traded = pl.concat([as_traded(TODAY[:40], 28.0), as_traded(TODAY[40:120], 4.0), TODAY[120:]])
    ingest(database, traded, "traded.csv")
    summary = ingest(database, TODAY, "adjusted.csv")
    assert (summary.refused, summary.unadjusted) == (None, None)
    assert closes(database) == TODAY["close"].to_list()
    assert rows_of(database, "SELECT * FROM market.bar_flag") == []


@pytest.mark.parametrize("old", mostly_broad([40, 80]), ids=["more later bars", "more older bars"])
def test_a_provider_after_a_file_over_several_splits_brings_the_older_bars_to_its_scale(
    database: Database, old: int
) -> None:
    sync(database, FILES, NOW)
    traded = pl.concat([as_traded(TODAY[:old], 28.0), as_traded(TODAY[old:120], 4.0), TODAY[120:]])
    ingest(database, traded, "traded.csv")
    # The provider does not reach back to the first bars of the file.
    refresh(database, watch({"AAPL": "XNYS"}, d1_days=270, timeframes=[D1]), MemoryExchange(TODAY[15:]), NOW)
    assert closes(database) == pytest.approx(TODAY["close"].to_list(), rel=1e-12)
    assert rows_of(database, "SELECT * FROM market.bar_flag") == []


def different(bars: pl.DataFrame) -> pl.DataFrame:
    """`bars`, each with another factor."""
    return bars.with_columns(pl.col(PRICES) * (1.01 + pl.int_range(pl.len()) / 200))


def test_a_file_with_a_split_is_refused_when_its_later_bars_are_not_the_stored_ones(stored: Database) -> None:
    summary = ingest(stored, pl.concat([as_traded(TODAY[:80], 8.0), different(TODAY[80:120])]))
    last = TODAY["ts"][79]
    assert summary.refused == (
        f"up to {last:%Y-%m-%d %H:%M} UTC the file and the stored bars are on two scales, by 8:1, and the newer bars do "
        "not tell which one is right; nothing of it is stored. Ingest a file that is adjusted throughout, or one file "
        "for each scale"
    )
    assert (summary.stored, summary.equal) == (0, 0)
    assert closes(stored) == TODAY["close"].to_list()


@pytest.mark.broad
def test_a_file_over_several_splits_can_also_be_ingested_as_one_file_per_scale(stored: Database) -> None:
    assert ingest(stored, as_traded(TODAY[:80], 8.0)).unadjusted == "8:1"
    assert ingest(stored, as_traded(TODAY[80:120], 2.0)).unadjusted == "2:1"
    assert closes(stored) == pytest.approx(TODAY["close"].to_list(), rel=1e-12)


@pytest.mark.broad
def test_the_file_with_the_newest_bars_sets_the_scale_of_the_series(stored: Database) -> None:
    newer = bars_on("XNYS", "AAPL", D1, date(2026, 2, 9), date(2026, 11, 27), 1)[190:]
    assert newer["ts"][-1] > TODAY["ts"][-1] + timedelta(days=1)
    summary = ingest(stored, newer, "new.csv")
    assert (summary.split, summary.unadjusted) == ("1:4", None)
    assert closes(stored) == pytest.approx([*(TODAY["close"][:190] * 4), *newer["close"]], rel=1e-12)


@pytest.mark.broad
def test_an_unadjusted_file_rounded_to_cents_changes_no_crossover_and_no_trade(stored: Database) -> None:
    """A file may round prices differently from the vendor of the stored bars."""
    before = crossovers_and_trades(stored)
    cents = as_traded(TODAY[:120], 7.0).with_columns(pl.col(PRICES).round(2))
    assert ingest(stored, cents).unadjusted == "7:1"
    assert closes(stored) == pytest.approx(TODAY["close"].to_list(), abs=0.005)
    assert crossovers_and_trades(stored) == before


# --- one or two overlapping bars, or none -----------------------------------------------------------------------------


def fact(database: Database, kind: str, at: datetime, ratio: float) -> None:
    row = [("AAPL", kind, at, ratio, None, None)]
    with database.transaction() as transaction:
        action_facts.record(transaction, pl.DataFrame(row, ACTION_SCHEMA, orient="row"), "a file")


@pytest.mark.broad
@pytest.mark.parametrize(
    ("overlap", "words"), [(1, "the only bar that is stored, too, is"), (2, "the 2 bars that are")]
)
def test_one_or_two_bars_off_by_a_split_are_refused_until_a_corporate_action_confirms_it(
    database: Database, overlap: int, words: str
) -> None:
    sync(database, FILES, NOW)
    traded = as_traded(TODAY[:120], 4.0)
    ingest(database, traded, "traded.csv")
    newer = TODAY[120 - overlap :]
    summary = ingest(database, newer, "newer.csv")
    assert (summary.refused or "").startswith(f"{words}")
    assert "off by 4:1, as after a split" in (summary.refused or "")
    assert "`ema-assets actions import`" in (summary.refused or "")
    assert closes(database) == traded["close"].to_list()
    fact(database, "split", newer["ts"][overlap], 4.0)
    summary = ingest(database, newer, "newer.csv")
    assert (summary.split, summary.refused) == ("4:1", None)
    assert closes(database) == pytest.approx(TODAY["close"].to_list(), rel=1e-12)
    assert tables_of(database)[OHLC]["volume"].to_list() == pytest.approx(TODAY["volume"].to_list(), rel=1e-12)


@pytest.mark.broad
def test_a_single_bar_in_the_middle_that_is_off_by_a_split_ratio_is_a_correction(stored: Database) -> None:
    assert ingest(stored, as_traded(TODAY[120:121], 2.0)).corrected == 1


def test_a_corporate_action_before_the_overlap_does_not_explain_another_scale(database: Database) -> None:
    sync(database, FILES, NOW)
    ingest(database, as_traded(TODAY[:120], 4.0), "traded.csv")
    fact(database, "split", TODAY["ts"][50], 4.0)
    assert "off by 4:1" in (ingest(database, TODAY[118:], "newer.csv").refused or "")


@pytest.mark.parametrize("day", mostly_broad([120, 125, 199], 2), ids=["before", "within", "at the end of"])
def test_a_split_after_the_stored_bars_rescales_them_to_a_newer_file(database: Database, day: int) -> None:
    sync(database, FILES, NOW)
    ingest(database, as_traded(TODAY[:120], 4.0), "traded.csv")
    fact(database, "split", TODAY["ts"][day], 4.0)
    assert ingest(database, TODAY[120:], "newer.csv").split == "4:1"
    assert closes(database) == pytest.approx(TODAY["close"].to_list(), rel=1e-12)


@pytest.mark.broad
@pytest.mark.parametrize(("adjusted_for", "ratio"), [(1.0, "5:1"), (4.0, "5:4")], ids=["both", "the later one"])
def test_of_two_actions_between_the_stored_bars_and_a_newer_file_both_or_one_may_be_missing(
    database: Database, adjusted_for: float, ratio: str
) -> None:
    sync(database, FILES, NOW)
    traded = TODAY[:120].with_columns(pl.col(PRICES) * 5.0 / adjusted_for, pl.col("volume") / 4.0 * adjusted_for)
    ingest(database, traded, "traded.csv")
    fact(database, "split", TODAY["ts"][120], 4.0)
    fact(database, "spin-off", TODAY["ts"][121], 1.25)
    assert ingest(database, TODAY[121:], "newer.csv").split == ratio
    expected = [*TODAY["close"][:120], *TODAY["close"][121:]]
    assert closes(database) == pytest.approx(expected, rel=1e-12)
    volumes = [*TODAY["volume"][:120], *TODAY["volume"][121:]]
    assert tables_of(database)[OHLC]["volume"].to_list() == pytest.approx(volumes, rel=1e-12)


@pytest.mark.broad
def test_stored_bars_that_are_already_adjusted_are_not_rescaled(database: Database) -> None:
    sync(database, FILES, NOW)
    ingest(database, TODAY[:120], "adjusted.csv")
    fact(database, "split", TODAY["ts"][120], 4.0)
    assert ingest(database, TODAY[120:], "newer.csv").split is None
    assert closes(database) == TODAY["close"].to_list()


def test_corporate_actions_convert_an_unadjusted_file_that_ends_before_all_stored_bars(database: Database) -> None:
    """No bar is in both, so only the step to the next bar shows the scale.

    A later action between stored bars counts as well. An action after the newest bar does not count.
    """
    sync(database, FILES, NOW)
    fact(database, "split", TODAY["ts"][120], 4.0)
    fact(database, "spin-off", TODAY["ts"][160], 1.25)
    fact(database, "split", TODAY["ts"][-1] + timedelta(days=30), 3.0)
    ingest(database, TODAY[120:], "newer.csv")
    traded = TODAY[:120].with_columns(pl.col(PRICES) * 5.0, pl.col("volume") / 4.0)
    assert ingest(database, traded).unadjusted == "5:1"
    assert closes(database) == pytest.approx(TODAY["close"].to_list(), rel=1e-12)
    assert tables_of(database)[OHLC]["volume"].to_list() == pytest.approx(TODAY["volume"].to_list(), rel=1e-12)


@pytest.mark.broad
def test_an_adjusted_file_that_ends_before_all_stored_bars_is_not_converted(
    database: Database,
) -> None:
    sync(database, FILES, NOW)
    fact(database, "split", TODAY["ts"][120], 4.0)
    ingest(database, TODAY[120:], "newer.csv")
    assert ingest(database, TODAY[:120]).unadjusted is None
    assert closes(database) == TODAY["close"].to_list()


# --- dividends --------------------------------------------------------------------------------------------------------


def with_dividends(bars: pl.DataFrame, *dividends: tuple[int, float]) -> pl.DataFrame:
    """`bars` of a vendor that adjusts for dividends, each given by the position of its ex-date and its share."""
    factor = pl.lit(1.0)
    for place, share in dividends:
        factor = factor * pl.when(pl.col("ts") < TODAY["ts"][place]).then(1 - share).otherwise(1.0)
    return bars.with_columns(pl.col(PRICES) * factor)


@pytest.mark.parametrize(
    ("dividends", "first", "how"),
    mostly_broad(
        [
            (
                [(130, 0.004), (170, 0.006)],
                100,
                "70 of its closes differ from the stored ones by up to 0.998 %, in 2 steps",
            ),
            ([(150, 0.01)], 100, "50 of its closes differ from the stored ones by up to 1 %, all alike,"),
            ([(199, 0.01)], 190, "9 of its closes"),
        ]
    ),
)
def test_prices_adjusted_for_dividends_are_refused_over_unadjusted_prices(
    stored: Database, dividends: list[tuple[int, float]], first: int, how: str
) -> None:
    summary = ingest(stored, with_dividends(TODAY[first:], *dividends), "adjusted.csv")
    assert (summary.refused or "").startswith(how), summary.refused
    assert "as prices with adjustment for dividends differ from those without" in (summary.refused or "")
    assert closes(stored) == TODAY["close"].to_list()


@pytest.mark.broad
def test_prices_without_adjustment_for_dividends_are_refused_over_adjusted_prices(database: Database) -> None:
    sync(database, FILES, NOW)
    adjusted = with_dividends(TODAY, (80, 0.01), (150, 0.01))
    ingest(database, adjusted, "adjusted.csv")
    assert "in 2 steps" in (ingest(database, TODAY[50:], "plain.csv").refused or "")
    assert closes(database) == adjusted["close"].to_list()


@pytest.mark.broad
def test_a_known_small_spin_off_does_not_count_as_a_dividend(stored: Database) -> None:
    fact(stored, "spin-off", TODAY["ts"][150], 1 / 0.99)
    summary = ingest(stored, with_dividends(TODAY[100:], (150, 0.01)), "adjusted.csv")
    assert summary.refused is None
    assert closes(stored)[:150] == pytest.approx((TODAY["close"][:150] * 0.99).to_list(), rel=1e-12)


@pytest.mark.broad
def test_scattered_corrections_do_not_count_as_dividends(stored: Database) -> None:
    odd = pl.int_range(pl.len()) % 7 == 0
    corrected = TODAY[100:].with_columns(pl.when(odd).then(pl.col(name) * 0.995).otherwise(name) for name in PRICES)
    assert ingest(stored, corrected, "corrected.csv").refused is None
    assert closes(stored)[100:] == corrected["close"].to_list()


# --- files without some values ----------------------------------------------------------------------------------------


@pytest.mark.broad
def test_a_file_without_volumes_keeps_the_stored_volumes(stored: Database) -> None:
    lacking = TODAY[:150].with_columns(volume=pl.lit(None, pl.Float64))
    summary = ingest(stored, lacking)
    assert (summary.equal, summary.corrected) == (150, 0)
    changed = lacking.with_columns(pl.col("high") + 1)
    assert ingest(stored, changed).corrected == 150
    found = tables_of(stored)[OHLC]
    assert found["volume"].to_list() == TODAY["volume"].to_list()
    assert found["high"][:150].to_list() == changed["high"].to_list()


@pytest.mark.broad
def test_a_file_of_closes_keeps_the_other_stored_prices_where_the_close_is_the_same(stored: Database) -> None:
    flat = TODAY.with_columns(pl.col("close").alias(name) for name in PRICES)
    flat = flat.with_columns(volume=pl.lit(None, pl.Float64))
    changed = pl.col("ts") == TODAY["ts"][7]
    flat = flat.with_columns(pl.when(changed).then(pl.col(name) * 1.001).otherwise(name) for name in PRICES)
    assert ingest(stored, flat).corrected == 1
    found = tables_of(stored)[OHLC].select("ts", *PRICES, "volume")
    wanted = TODAY.select("ts", *PRICES, "volume")
    assert_frame_equal(found.filter(~changed), wanted.filter(~changed))
    assert found.filter(changed).select(PRICES).row(0) == flat.filter(changed).select(PRICES).row(0)


@pytest.mark.broad
def test_a_file_without_volumes_on_another_scale_also_rescales_the_stored_volumes(stored: Database) -> None:
    """The newest bars have another scale and no volumes. Stored prices and volumes are converted to that scale."""
    lacking = as_traded(TODAY, 4.0).with_columns(volume=pl.lit(None, pl.Float64))
    assert ingest(stored, lacking).split == "1:4"
    found = tables_of(stored)[OHLC]
    assert found["close"].to_list() == pytest.approx(lacking["close"].to_list(), rel=1e-12)
    assert found["volume"].to_list() == pytest.approx((TODAY["volume"] / 4).to_list(), rel=1e-12)
