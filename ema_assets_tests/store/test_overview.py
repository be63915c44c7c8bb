"""Tests of the overview of the ledger: which series each count and each list contains, and where its limits are."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from ema_assets.model.asset_names import CHAIN, EMA_SIGNALS, EMA_TREND, OHLC, STRATEGY
from ema_assets.model.schemas import UTC_TIME
from ema_assets.model.symbols import FROM_FILES, Instrument
from ema_assets.store import ledger, provider_state, series_overview
from ema_assets.store.database import Database, Transaction
from ema_assets_tests.timeframes import D1, H1, M5

NOW = datetime(2026, 11, 25, 15, 30, tzinfo=UTC)
EARLY, AFTER = NOW - timedelta(microseconds=1), NOW + timedelta(microseconds=1)
ROWS = [(asset, "AAPL", timeframe) for asset in sorted(CHAIN) for timeframe in ("1h", "5m")]


@pytest.fixture
def transaction(database: Database) -> Iterator[Transaction]:
    """A symbol on two timeframes that was never requested, and one from files without any series."""
    with database.transaction() as begun:
        watch(begun, Instrument("AAPL", timeframes=(M5, H1)), Instrument("ZERO", "24/7", FROM_FILES, timeframes=(D1,)))
        begun.execute("DELETE FROM market.series_state WHERE symbol = 'ZERO'")
        yield begun


def watch(transaction: Transaction, *instruments: Instrument) -> None:
    ledger.sync_instruments(transaction, instruments)


def put(transaction: Transaction, changes: str, where: str = "true", *values: object) -> None:
    transaction.execute(f"UPDATE market.series_state SET {changes} WHERE {where}", *values)


def late(transaction: Transaction, most_missing: int = 3, **limit: object) -> list[str]:
    values = {"calendar": "XNYS", "provider": None, "delay_seconds": 0, "timeframe": "5m", **limit}
    limits = pl.DataFrame(
        [{**values, "late_before": NOW, "most_missing": most_missing}],
        schema={
            "calendar": pl.String(),
            "provider": pl.String(),
            "delay_seconds": pl.Int64(),
            "timeframe": pl.String(),
            "late_before": UTC_TIME,
            "most_missing": pl.Int64(),
        },
    )
    return ledger.late(transaction, limits)["symbol"].to_list()


def test_the_mark_of_the_overviews_changes_with_the_state_of_a_provider(transaction: Transaction) -> None:
    marks = [series_overview.mark(transaction)]
    for change in (
        lambda: provider_state.trip(transaction, "sandbox", "no host", NOW, provider_state.Breaker()),
        lambda: provider_state.end_pauses(transaction, ["sandbox"], NOW),
        lambda: provider_state.reset(transaction, "sandbox"),
        lambda: provider_state.note_description(transaction, "sandbox", "no answer"),
        lambda: provider_state.note_description(transaction, "sandbox", None),
    ):
        change()
        marks.append(series_overview.mark(transaction))
    assert len(set(marks)) == 6
    provider_state.note_description(transaction, "sandbox", None)
    assert series_overview.mark(transaction) == marks[-1]


def everywhere(transaction: Transaction) -> list[int]:
    """In how many rows a series that fails, waits, is late, is loading and has no bars is reported, by question."""
    return [
        ledger.failing(transaction).height,
        ledger.summary(transaction).height,
        ledger.waiting_since(transaction, NOW).height,
        len(late(transaction)),
        ledger.progress(transaction, NOW).height,
        int(ledger.loading_since(transaction) is not None),
        len(ledger.without_bars(transaction)),
        ledger.watched(transaction).height,
        ledger.symbols_active(transaction),
    ]


def prepare(transaction: Transaction) -> None:
    put(transaction, "dirty_from = $1, updated_at = $1, checked_through = $1", "true", EARLY)
    put(transaction, "failures = 1", "asset <> 'ema_trend'")


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        ("UPDATE market.asset SET code_version = '1'", [6, 8, 6, 1, 2, 1, 1, 2, 2]),
        ("UPDATE market.asset SET is_on = asset = 'ohlc'", [2, 2, 0, 1, 2, 0, 1, 2, 2]),
        ("UPDATE market.instrument SET is_active = false", [0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("UPDATE market.series_state SET is_on = false", [0, 0, 0, 0, 0, 0, 0, 2, 2]),
        ("UPDATE market.instrument SET is_fetched = false", [6, 0, 6, 0, 0, 0, 0, 2, 2]),
        ("UPDATE market.series_state SET is_on = timeframe = '1h'", [3, 4, 3, 0, 1, 1, 0, 2, 2]),
    ],
    ids=["everything on", "an asset off", "symbol taken off", "series off", "from files", "timeframe off"],
)
def test_what_is_switched_off_or_taken_off_is_reported_nowhere(
    transaction: Transaction, change: str, counts: list[int]
) -> None:
    prepare(transaction)
    transaction.execute(change)
    assert everywhere(transaction) == counts


def test_failing_series_are_sorted_and_can_be_those_of_one_asset(transaction: Transaction) -> None:
    put(transaction, "failures = 1")
    names = ("asset", "symbol", "timeframe")
    assert ledger.failing(transaction).select(names).rows() == ROWS
    assert ledger.failing(transaction, EMA_TREND).select(names).rows() == [row for row in ROWS if row[0] == EMA_TREND]


def test_the_summary_counts_series_of_files_once_they_have_bars_and_only_the_chosen_symbols(
    transaction: Transaction,
) -> None:
    watch(transaction, *(Instrument(name, "XNYS", FROM_FILES, timeframes=(M5, H1)) for name in ("AAPL", "MSFT")))
    assert ledger.summary(transaction).is_empty()
    put(transaction, "last_ts = $1", "asset = 'ohlc' AND symbol = 'AAPL' AND timeframe = '5m'", NOW)
    found = ledger.summary(transaction).sort("asset").rows()
    assert found == [
        (asset, "5m", 1, int(asset != OHLC), 0, 0, NOW if asset == OHLC else None) for asset in sorted(CHAIN)
    ]
    assert ledger.summary(transaction, ["AAPL"]).height == len(CHAIN)
    assert ledger.summary(transaction, ["MSFT"]).is_empty()


def test_the_summary_does_not_wait_for_bars_that_a_provider_does_not_have(transaction: Transaction) -> None:
    def found() -> dict[str, tuple[int, int]]:
        rows = ledger.summary(transaction).filter(asset=EMA_TREND).to_dicts()
        return {row["timeframe"]: (row["never_computed"], row["without_bars"]) for row in rows}

    assert found() == {"5m": (1, 0), "1h": (1, 0)}
    put(transaction, "checked_through = $1", "asset = 'ohlc' AND timeframe = '5m'", NOW)
    assert found() == {"5m": (0, 1), "1h": (0, 1)}
    put(transaction, "last_ts = $1", "asset = 'ohlc' AND timeframe = '1h'", NOW)
    assert found() == {"5m": (0, 1), "1h": (1, 0)}
    put(transaction, "last_ts = $1", "asset = 'ohlc' AND timeframe = '5m'", NOW)
    assert found() == {"5m": (1, 0), "1h": (1, 0)}


def test_the_summary_has_the_newest_bar_of_all_symbols_and_how_many_fail(transaction: Transaction) -> None:
    watch(transaction, *(Instrument(name, timeframes=(M5,)) for name in ("AAPL", "MSFT")))
    put(transaction, "last_ts = $1", "asset = 'ohlc'", EARLY)
    put(transaction, "last_ts = $1, failures = 1", "asset = 'ohlc' AND symbol = 'AAPL'", NOW)
    assert ledger.summary(transaction).filter(asset=OHLC).rows() == [(OHLC, "5m", 2, 0, 0, 1, NOW)]


def test_a_series_is_late_once_its_last_request_was_before_the_limit_of_its_provider(transaction: Transaction) -> None:
    put(transaction, "checked_through = $1, last_ts = $1", "true", NOW)
    assert late(transaction) == []
    put(transaction, "checked_through = $1", "true", EARLY)
    assert late(transaction) == ["AAPL"]
    others = ({"provider": "yahoo"}, {"delay_seconds": 900}, {"calendar": "24/7"}, {"timeframe": "1d"})
    assert [late(transaction, **other) for other in others] == [[]] * 4
    put(transaction, "checked_through = NULL, last_ts = NULL")
    assert late(transaction) == []
    put(transaction, "checked_through = $1", "asset = 'ohlc' AND timeframe = '1h'", NOW)
    assert late(transaction) == []
    put(transaction, "checked_through = $1", "asset = 'ohlc' AND timeframe = '5m'", NOW)
    assert late(transaction) == ["AAPL"]


def test_a_silent_symbol_is_late_unless_its_provider_says_that_it_was_halted(transaction: Transaction) -> None:
    put(transaction, "checked_through = $1, last_ts = $1", "true", NOW)
    found = []
    for state in (None, "renamed", "halted"):
        transaction.execute("UPDATE market.instrument SET silent_since = $1, state = $2::text", NOW, state)
        found.append(late(transaction))
    assert found == [["AAPL"], ["AAPL"], []]
    transaction.execute("UPDATE market.instrument SET silent_since = NULL")
    put(transaction, "checked_through = $1", "true", EARLY)
    assert late(transaction) == ["AAPL"]


def gap(
    transaction: Transaction,
    first_ts: datetime,
    bars: int,
    status: str = "open",
    timeframe: str = "5m",
    symbol: str = "AAPL",
) -> None:
    transaction.execute(
        """
        INSERT INTO market.bar_gap (symbol, timeframe, first_ts, last_ts, bars, status, next_attempt_at, found_at)
        SELECT $5, $4, $1, $1, $2::bigint, $3, CASE WHEN $3 = 'open' THEN $1 END, $1
        """,
        first_ts,
        bars,
        status,
        timeframe,
        symbol,
    )


def test_a_series_lacks_its_newest_bars_when_open_gaps_after_its_last_bar_have_enough_of_them(
    transaction: Transaction,
) -> None:
    watch(transaction, *(Instrument(name, timeframes=(M5, H1)) for name in ("MSFT", "AAPL")))
    put(transaction, "checked_through = $1, last_ts = $1", "true", NOW)
    put(
        transaction,
        "last_ts = $1",
        "symbol = 'MSFT' OR asset <> 'ohlc' OR timeframe <> '5m'",
        EARLY - timedelta(days=9),
    )
    gap(transaction, NOW, 9)
    gap(transaction, NOW + timedelta(days=1), 9, "did not trade")
    gap(transaction, AFTER, 9, timeframe="1h")
    assert late(transaction) == []
    gap(transaction, NOW, 9, symbol="MSFT")
    gap(transaction, AFTER, 1)
    gap(transaction, AFTER + timedelta(minutes=5), 2)
    assert (late(transaction, 4), late(transaction, 3)) == (["MSFT"], ["AAPL", "MSFT"])


def test_a_computed_series_waits_since_before_a_moment_and_not_at_it(transaction: Transaction) -> None:
    put(transaction, "updated_at = $1", "true", NOW)
    put(transaction, "dirty_from = $1", "asset = 'ema_trend' AND timeframe = '5m'", NOW)
    assert ledger.waiting_since(transaction, NOW).is_empty()
    assert ledger.waiting_since(transaction, AFTER).rows() == [(EMA_TREND, "AAPL", "5m", NOW)]
    put(transaction, "dirty_from = $1, updated_at = $1", "true", NOW)
    waiting = ledger.waiting_since(transaction, AFTER).select("asset", "symbol", "timeframe").rows()
    assert waiting == [row for row in ROWS if row[0] != OHLC]


def progress(transaction: Transaction, timeframe: str = "5m") -> tuple[int, ...]:
    """The done, all and unrecorded series, the rows that are left, and those loaded since NOW."""
    (found,) = ledger.progress(transaction, NOW).filter(timeframe=timeframe).rows()
    return found[1:]


def test_a_series_is_done_once_all_its_assets_are_recorded_or_its_provider_has_no_bars(
    transaction: Transaction,
) -> None:
    assert progress(transaction) == (0, 1, 0, 4, 0)
    put(transaction, "computed_at = $1, recorded_at = $1, loaded_at = $2", "asset <> 'ohlc'", NOW, AFTER)
    assert progress(transaction) == (0, 1, 0, 1, 3)
    put(transaction, "failures = 1", "asset = 'ohlc'")
    assert progress(transaction) == (0, 1, 0, 0, 3)
    put(transaction, "computed_at = $1, loaded_at = $1, failures = 0", "asset = 'ohlc'", NOW)
    assert progress(transaction) == (0, 1, 1, 0, 3)
    put(transaction, "recorded_at = $1", "asset = 'ohlc'", NOW)
    assert progress(transaction) == (1, 1, 0, 0, 3)
    put(transaction, "recorded_at = NULL", "asset = 'ema_trend'")
    assert progress(transaction) == (0, 1, 1, 0, 2)
    transaction.execute("UPDATE market.asset SET is_on = false WHERE asset = 'ema_trend'")
    assert progress(transaction) == (1, 1, 0, 0, 2)
    transaction.execute("UPDATE market.asset SET is_on = true WHERE asset = 'ema_trend'")
    put(transaction, "recorded_at = NULL, loaded_at = NULL")
    put(transaction, "checked_through = $1", "asset <> 'ohlc'", NOW)
    assert progress(transaction) == (0, 1, 1, 4, 0)
    put(transaction, "checked_through = $1", "asset = 'ohlc'", NOW)
    assert progress(transaction) == (1, 1, 0, 0, 0)
    put(transaction, "last_ts = $1", "asset = 'ohlc'", NOW)
    assert progress(transaction) == (0, 1, 1, 4, 0)


def test_a_series_is_done_if_it_would_be_rolled_up_from_bars_that_its_provider_does_not_have(
    transaction: Transaction,
) -> None:
    assert progress(transaction, "1h") == (0, 1, 0, 4, 0)
    put(transaction, "checked_through = $1", "asset = 'ohlc' AND timeframe = '5m'", NOW)
    assert progress(transaction, "1h") == (1, 1, 0, 0, 0)
    put(transaction, "last_ts = $1", "asset = 'ohlc' AND timeframe = '1h'", NOW)
    assert progress(transaction, "1h") == (0, 1, 0, 4, 0)
    put(transaction, "last_ts = NULL", "asset = 'ohlc' AND timeframe = '1h'")
    put(transaction, "last_ts = $1", "asset = 'ohlc' AND timeframe = '5m'", NOW)
    assert progress(transaction, "1h") == (0, 1, 0, 4, 0)


def test_a_series_of_files_counts_once_it_has_bars(transaction: Transaction) -> None:
    transaction.execute("UPDATE market.instrument SET is_fetched = false")
    put(transaction, "last_ts = $1", "asset <> 'ohlc'", NOW)
    assert ledger.progress(transaction, NOW).is_empty()
    put(transaction, "last_ts = $1", "asset = 'ohlc' AND timeframe = '5m'", NOW)
    assert ledger.progress(transaction, NOW)["timeframe"].to_list() == ["5m"]


def test_loading_began_with_the_oldest_row_that_was_never_recorded_and_does_not_fail(transaction: Transaction) -> None:
    put(transaction, "added_at = $1", "true", NOW)
    put(transaction, "added_at = $1", "asset = 'ema_trend' AND timeframe = '5m'", EARLY)
    assert ledger.loading_since(transaction) == EARLY
    for change in ("failures = 1", "failures = 0, recorded_at = now()", "recorded_at = NULL, loaded_at = now()"):
        put(transaction, change, "asset = 'ema_trend' AND timeframe = '5m'")
        assert ledger.loading_since(transaction) == NOW
    watch(transaction, Instrument("MSFT", timeframes=(M5,)))
    put(transaction, "added_at = $1", "symbol = 'MSFT'", AFTER)
    assert ledger.loading_since(transaction) == AFTER
    put(transaction, "recorded_at = now()")
    assert ledger.loading_since(transaction) is None


def test_series_without_bars_are_those_fetched_and_asked_for(transaction: Transaction) -> None:
    watch(transaction, *(Instrument(name, timeframes=(M5, H1, D1)) for name in ("MSFT", "AAPL")))
    assert ledger.without_bars(transaction) == []
    put(transaction, "checked_through = $1", "true", NOW)
    assert ledger.without_bars(transaction) == ["AAPL|1d", "AAPL|5m", "MSFT|1d", "MSFT|5m"]
    put(transaction, "last_ts = $1", "symbol = 'MSFT'", NOW)
    put(transaction, "last_ts = $1", "symbol = 'AAPL' AND asset <> 'ohlc'", NOW)
    assert ledger.without_bars(transaction) == ["AAPL|1d", "AAPL|5m"]


def test_the_averages_of_the_last_bar_say_whether_a_series_is_warming_up(transaction: Transaction) -> None:
    assert ledger.warming_up(transaction, "nothing").is_empty()
    watch(transaction, *(Instrument(name, timeframes=(M5, H1)) for name in ("AAPL", "MSFT")))
    transaction.execute(
        """
        INSERT INTO market.ema_signals (symbol, timeframe, ts, ema_9, ema_30, bar_number)
        VALUES ('AAPL', '5m', $1, 1, 1, 70), ('AAPL', '5m', $2, 1, 1, 71), ('AAPL', '1h', $2, 1, 1, 9000),
               ('MSFT', '5m', $2, 1, 1, 30)
        """,
        EARLY,
        NOW,
    )
    put(transaction, "last_ts = $1", "true", EARLY)
    put(transaction, "last_ts = $1", "asset = 'ema_signals'", NOW)
    assert ledger.warming_up(transaction, EMA_SIGNALS).rows() == [("5m", 2, 71)]
    for change in ("market.series_state SET is_on = false", "market.instrument SET is_active = false"):
        transaction.execute(f"UPDATE {change}")
        assert ledger.warming_up(transaction, EMA_SIGNALS).is_empty()
        put(transaction, "is_on = true")


def test_assets_that_are_off_are_not_listed_and_the_others_come_after_their_inputs(transaction: Transaction) -> None:
    listed = ledger.assets(transaction)
    assert [each for each in listed if each in CHAIN] == [OHLC, EMA_SIGNALS, EMA_TREND, STRATEGY]
    transaction.execute("UPDATE market.asset SET is_on = false WHERE asset = 'ema_trend'")
    assert ledger.assets(transaction) == [each for each in listed if each != EMA_TREND]


def test_assets_whose_adopted_version_is_another_one_are_sorted_by_name(transaction: Transaction) -> None:
    transaction.execute("UPDATE market.asset SET code_version = NULL")
    versions = dict.fromkeys([OHLC, EMA_TREND, EMA_SIGNALS], "2")
    assert ledger.not_adopted(transaction, versions) == []
    transaction.execute("UPDATE market.asset SET code_version = '1' WHERE asset <> 'strategy_9_30_ema'")
    assert ledger.not_adopted(transaction, versions) == [EMA_SIGNALS, EMA_TREND, OHLC]
    assert ledger.not_adopted(transaction, {**versions, EMA_TREND: "1"}) == [EMA_SIGNALS, OHLC]
    assert ledger.adopted_code_version(transaction, OHLC) == "1"
    assert ledger.adopted_code_version(transaction, STRATEGY) is None


def test_symbols_are_known_for_ever_and_watched_while_they_are_active(transaction: Transaction) -> None:
    watch(transaction, Instrument("MSFT", "XNYS", "yahoo", timeframes=(M5,)), Instrument("GONE"))
    watch(
        transaction, Instrument("MSFT", "XNYS", "yahoo", timeframes=(M5,)), Instrument("COIN", "24/7", timeframes=(D1,))
    )

    def names(found: pl.DataFrame) -> Sequence[object]:
        return found["symbol"].to_list()

    assert ledger.known_symbols(transaction) == ["AAPL", "COIN", "GONE", "MSFT", "ZERO"]
    assert ledger.unknown_symbols(transaction, ["GONE", "NEW"]) == ["NEW"]
    assert names(ledger.watched(transaction)) == ["COIN", "MSFT"]
    assert ledger.symbols_active(transaction) == 2
    assert names(ledger.instruments(transaction, M5, ["MSFT", "NEW", "COIN", "GONE"])) == ["COIN", "GONE", "MSFT"]
    put(transaction, "checked_through = $1", "symbol = 'GONE' AND asset = 'ema_trend'", NOW)
    put(transaction, "checked_through = $1", "symbol = 'MSFT' AND asset = 'ohlc' AND timeframe = '5m'", EARLY)
    found = ledger.instruments(transaction, M5, ["MSFT", "GONE"]).select("symbol", "checked_through").rows()
    assert found == [("GONE", None), ("MSFT", EARLY)]
    assert ledger.newest_checked_through(transaction) == NOW


def test_revisions_are_those_of_the_chosen_series_that_have_rows(transaction: Transaction) -> None:
    watch(transaction, *(Instrument(name, timeframes=(M5, H1)) for name in ("MSFT", "AAPL", "COIN")))
    put(transaction, "revision = 7, last_ts = $1", "asset = 'ema_trend' AND timeframe = '5m'", NOW)
    put(transaction, "last_ts = NULL", "symbol = 'COIN'")
    assert ledger.revisions(transaction, EMA_TREND, M5, ["MSFT", "AAPL", "COIN"]) == {"AAPL": 7, "MSFT": 7}
    assert ledger.revisions(transaction, EMA_TREND, M5, ["MSFT"]) == {"MSFT": 7}
    assert ledger.revisions(transaction, EMA_SIGNALS, M5, ["MSFT"]) == {}
    assert ledger.revisions(transaction, EMA_TREND, H1, ["MSFT"]) == {}


def test_attempts_are_those_of_the_chosen_symbols(transaction: Transaction) -> None:
    assert sorted(ledger.attempts(transaction, ["AAPL"]).select("asset", "symbol", "timeframe").rows()) == ROWS
    assert ledger.attempts(transaction, ["MSFT"]).is_empty()
