"""Stale series are planned as runs."""

from datetime import UTC, datetime

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from ema_assets.model.schemas import UTC_TIME
from ema_assets.refresh.plan import sentences
from ema_assets.refresh.runs import PlannedRun, Purpose, Rectangle, plan_runs
from ema_assets.store.ledger import BEGINNING
from ema_assets_tests.timeframes import D1, H1, M5, M15, ORDER

SYMBOLS = [f"S{number:02}" for number in range(12)]


def stale_of(*rows: tuple[str, str, str]) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema={"symbol": pl.String, "timeframe": pl.String, "reason": pl.String}, orient="row")
    return frame.with_columns(since=pl.lit(None, UTC_TIME))


def test_runs_are_ordered_by_timeframe_with_history_after_everything_live() -> None:
    stale = stale_of(
        ("S01", "1d", "bar closed"),
        ("S02", "5m", "never asked"),
        ("S03", "5m", "bar closed"),
        ("S04", "1d", "never asked"),
        ("S05", "1h", "input changed"),
    )
    assert plan_runs(stale, SYMBOLS, [], 100) == [
        PlannedRun(Rectangle(M5, "S03", "S03"), 1),
        PlannedRun(Rectangle(H1, "S05", "S05"), 1),
        PlannedRun(Rectangle(D1, "S01", "S01"), 1),
        PlannedRun(Rectangle(M5, "S02", "S02"), 1, Purpose.HISTORY),
        PlannedRun(Rectangle(D1, "S04", "S04"), 1, Purpose.HISTORY),
    ]


def test_first_computations_come_last_and_are_left_to_other_runs_of_the_same_series() -> None:
    """All 5m bars of new symbols are loaded before any is rolled up. A newly closed bar waits for neither."""
    stale = stale_of(
        ("S01", "15m", "never computed"),
        ("S02", "15m", "bar closed"),
        ("S02", "15m", "never computed"),
        ("S03", "5m", "never asked"),
        ("S04", "15m", "bars missing"),
        ("S04", "15m", "never computed"),
    )
    assert plan_runs(stale, SYMBOLS, [], 100) == [
        PlannedRun(Rectangle(M15, "S02", "S02"), 1),
        PlannedRun(Rectangle(M5, "S03", "S03"), 1, Purpose.HISTORY),
        PlannedRun(Rectangle(M15, "S01", "S04"), 2, Purpose.FIRST),
    ]
    # In the ledger, `since` is the beginning for first computations too, not only for recomputations.
    from_the_beginning = stale.with_columns(since=pl.lit(BEGINNING, UTC_TIME))
    assert plan_runs(from_the_beginning, SYMBOLS, [], 100) == plan_runs(stale, SYMBOLS, [], 100)


def test_a_series_stale_in_several_assets_counts_once() -> None:
    stale = stale_of(("S01", "5m", "input changed"), ("S01", "5m", "bar closed"), ("S01", "5m", "not recorded"))
    assert plan_runs(stale, SYMBOLS, [], 100) == [PlannedRun(Rectangle(M5, "S01", "S01"), 1)]


def test_a_run_only_recomputes_or_reports_when_none_of_its_series_has_new_bars() -> None:
    anew = pl.col("reason") == "input changed"
    stale = stale_of(
        ("S01", "5m", "not recorded"),
        ("S02", "5m", "not recorded"),
        ("S02", "5m", "input changed"),
        ("S03", "5m", "bar closed"),
        ("S03", "5m", "input changed"),
    ).with_columns(since=pl.when(anew).then(pl.lit(BEGINNING, UTC_TIME)))
    said = [run.purpose for run in plan_runs(stale, SYMBOLS, [], 1)]
    assert said == [Purpose.TELLING, Purpose.ANEW, Purpose.NEWEST]
    together = [(run.series, run.purpose) for run in plan_runs(stale, SYMBOLS, [], 2)]
    assert together == [(2, Purpose.ANEW), (1, Purpose.NEWEST)]
    since_a_bar = stale.with_columns(since=pl.lit(datetime(2026, 11, 20, tzinfo=UTC), UTC_TIME))
    assert all(run.purpose is not Purpose.ANEW for run in plan_runs(since_a_bar, SYMBOLS, [], 1))


def test_a_run_with_missing_bars_and_unrecorded_results_has_the_purpose_newest() -> None:
    stale = stale_of(("S01", "5m", "not recorded"), ("S01", "5m", "bars missing"))
    assert plan_runs(stale, SYMBOLS, [], 9) == [PlannedRun(Rectangle(M5, "S01", "S01"), 1, Purpose.NEWEST)]


def test_series_beyond_the_size_of_a_run_are_cut_in_the_order_of_the_symbols() -> None:
    stale = stale_of(*((symbol, "5m", "bar closed") for symbol in ("S09", "S00", "S04", "S02", "S07")))
    assert plan_runs(stale, SYMBOLS, [], 2) == [
        PlannedRun(Rectangle(M5, "S00", "S02"), 2),
        PlannedRun(Rectangle(M5, "S04", "S07"), 2),
        PlannedRun(Rectangle(M5, "S09", "S09"), 1),
    ]


def test_a_run_in_flight_covers_its_symbols_on_its_own_timeframe_only() -> None:
    stale = stale_of(*((symbol, frame, "bar closed") for symbol in ("S01", "S03", "S06") for frame in ("5m", "1d")))
    in_flight = [Rectangle(M5, "S00", "S03")]
    assert plan_runs(stale, SYMBOLS, in_flight, 100) == [
        PlannedRun(Rectangle(M5, "S06", "S06"), 1),
        PlannedRun(Rectangle(D1, "S01", "S06"), 3),
    ]


def test_a_newly_closed_bar_does_not_wait_for_a_history_run_that_is_still_waiting() -> None:
    stale = stale_of(("S01", "5m", "bar closed"), ("S02", "5m", "older bars"), ("S03", "15m", "input changed"))
    waiting = [Rectangle(timeframe, "S00", "S03", takes_closes=False) for timeframe in (M5, M15)]
    assert plan_runs(stale, SYMBOLS, waiting, 100) == [PlannedRun(Rectangle(M5, "S01", "S01"), 1)]
    at_work = [Rectangle(timeframe, "S00", "S03") for timeframe in (M5, M15)]
    assert plan_runs(stale, SYMBOLS, at_work, 100) == []


def test_a_run_in_flight_for_symbols_no_longer_watched_covers_nothing() -> None:
    for gone in (Rectangle(M5, "GONE", "S05"), Rectangle(M5, "S00", "GONE")):
        planned = plan_runs(stale_of(("S01", "5m", "bar closed")), SYMBOLS, [gone], 9)
        assert [run.rectangle.first for run in planned] == ["S01"]


def test_the_neighbours_of_series_in_flight_are_planned() -> None:
    stale = stale_of(*((symbol, "5m", "bar closed") for symbol in SYMBOLS[:6]))
    planned = plan_runs(stale, SYMBOLS, [Rectangle(M5, "S02", "S03")], 2)
    assert [(run.rectangle.first, run.rectangle.last) for run in planned] == [("S00", "S01"), ("S04", "S05")]


def test_symbols_without_a_partition_are_left_out() -> None:
    assert plan_runs(stale_of(("NEW", "5m", "bar closed")), SYMBOLS, [], 9) == []


def test_without_stale_series_no_runs_are_planned() -> None:
    assert plan_runs(stale_of(), SYMBOLS, [], 9) == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*SYMBOLS, "NEW"]),
            st.sampled_from([frame.key for frame in ORDER]),
            st.sampled_from(["never asked", "bar closed", "input changed"]),
        )
    ),
    st.lists(st.builds(Rectangle, st.sampled_from(ORDER), st.sampled_from(SYMBOLS), st.sampled_from(SYMBOLS))),
    st.integers(1, 5),
)
def test_every_stale_series_is_in_a_run_or_in_flight_and_no_run_takes_more_than_allowed(
    rows: list[tuple[str, str, str]], in_flight: list[Rectangle], series_per_run: int
) -> None:
    def holds(rectangle: Rectangle, symbol: str, timeframe: str) -> bool:
        return rectangle.timeframe.key == timeframe and rectangle.first <= symbol <= rectangle.last

    planned = plan_runs(stale_of(*rows), SYMBOLS, in_flight, series_per_run)
    assert all(1 <= run.series <= series_per_run for run in planned)
    are_history = [run.purpose is Purpose.HISTORY for run in planned]
    assert are_history == sorted(are_history)
    for symbol, timeframe, reason in rows:
        if symbol in SYMBOLS and not any(holds(rectangle, symbol, timeframe) for rectangle in in_flight):
            kind = reason == "never asked"
            assert any(
                holds(run.rectangle, symbol, timeframe) and is_history == kind
                for run, is_history in zip(planned, are_history, strict=True)
            )
    wanted = {row[:2] + (row[2] == "never asked",) for row in rows if row[0] in SYMBOLS}
    assert sum(run.series for run in planned) <= len(wanted)


def test_missing_bars_have_their_own_runs_between_live_runs_and_history() -> None:
    stale = stale_of(
        ("AAPL", "5m", "bars missing"),
        ("AAPL", "5m", "bar closed"),
        ("MSFT", "5m", "bars missing"),
        ("XOM", "5m", "older bars"),
        ("XOM", "5m", "bars missing"),
        ("JPM", "1d", "bars missing"),
    )
    runs = plan_runs(stale, ["AAPL", "JPM", "MSFT", "XOM"], [], 10)
    assert [(run.rectangle.first, run.rectangle.timeframe, run.purpose) for run in runs] == [
        ("AAPL", M5, Purpose.NEWEST),
        ("MSFT", M5, Purpose.REPAIR),
        ("JPM", D1, Purpose.REPAIR),
        ("XOM", M5, Purpose.HISTORY),
    ]
    assert [run.series for run in runs] == [1, 1, 1, 1]


def test_each_run_is_described_by_the_reasons_of_its_own_series() -> None:
    stale = stale_of(
        ("S01", "5m", "bar closed"),
        ("S02", "5m", "bar closed"),
        ("S02", "5m", "input changed"),
        ("S03", "5m", "bar closed"),
        ("S04", "5m", "never asked"),
        ("S01", "15m", "bars missing"),
    )
    assert sentences(stale, plan_runs(stale, SYMBOLS, [], 2)) == [
        "5m: one run from S01 to S02 for 2 series",
        "  2 bar closed",
        "  1 input changed",
        "5m: one run for S03",
        "  1 bar closed",
        "15m: requested again, one run for S01",
        "  1 bars missing",
        "5m: history, one run for S04",
        "  1 never asked",
    ]


def test_a_reason_says_since_when_it_holds() -> None:
    stale = stale_of(("S01", "5m", "bar closed"), ("S02", "5m", "input changed"), ("S03", "5m", "older bars"))
    closed = datetime(2026, 11, 25, 15, 35, tzinfo=UTC)
    stale = stale.with_columns(since=pl.Series([closed, BEGINNING, None], dtype=UTC_TIME))
    assert sentences(stale, plan_runs(stale, SYMBOLS, [], 1)) == [
        "5m: one run for S01",
        "  1 bar closed, since 2026-11-25 15:35",
        "5m: recomputed, one run for S02",
        "  1 input changed, from the first bar on",
        "5m: history, one run for S03",
        "  1 older bars",
    ]
    both = stale_of(("S01", "5m", "bar closed"), ("S02", "5m", "bar closed"))
    both = both.with_columns(since=pl.Series([closed, closed.replace(minute=30)], dtype=UTC_TIME))
    assert sentences(both, plan_runs(both, SYMBOLS, [], 2))[1] == "  2 bar closed, since 2026-11-25 15:30"
