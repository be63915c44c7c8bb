"""Which bars are requested, and how work is cut into batches."""

from datetime import datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ema_assets.model.schemas import UTC_TIME
from ema_assets.model.timeframes import Timeframe
from ema_assets.refresh.outcome import Outcome, batches
from ema_assets.refresh.plan_requests import FetchRules, plan_requests
from ema_assets_tests.refresh.exchange import utc
from ema_assets_tests.timeframes import D1, M5

NOW = utc("2026-11-25 15:47")
CLOSED = utc("2026-11-25 15:45")
RULES = FetchRules({M5: 10, D1: 365})
LAST = pl.DataFrame(
    [("XNYS", None, 0, CLOSED, None, None, None)],
    schema={
        "calendar": pl.String(),
        "provider": pl.String(),
        "delay_seconds": pl.Int64(),
        **dict.fromkeys(("ts_end", "recheck_at", "reread_at", "reread_from"), UTC_TIME),
    },
    orient="row",
)


def state(
    checked_through: datetime | None,
    next_attempt_at: datetime | None = None,
    symbol: str = "AAPL",
    calendar: str = "XNYS",
    first_ts: datetime | None = None,
    asked_at: datetime | None = None,
) -> pl.DataFrame:
    schema = {
        "symbol": pl.String(),
        "calendar": pl.String(),
        "provider": pl.String(),
        "delay_seconds": pl.Int64(),
        "checked_through": UTC_TIME,
        "asked_at": UTC_TIME,
        "asked_from": UTC_TIME,
        "first_ts": UTC_TIME,
        "last_ts": UTC_TIME,
        "next_attempt_at": UTC_TIME,
        "last_error": pl.String(),
    }
    row = (symbol, calendar, None, 0, checked_through, asked_at, None, first_ts, None, next_attempt_at, None)
    return pl.DataFrame([row], schema=schema, orient="row")


def plan(*states: pl.DataFrame, timeframe: Timeframe = M5, everything: bool = False) -> pl.DataFrame:
    return plan_requests(pl.concat(states), timeframe, LAST, RULES, NOW, everything=everything)


@pytest.mark.parametrize(
    ("known", "start"),
    [
        pytest.param(state(None), utc("2026-11-15 00:00"), id="a new series starts at midnight, the whole depth back"),
        pytest.param(state(utc("2026-11-25 15:40")), utc("2026-11-25 15:25"), id="a known one overlaps the last bars"),
        pytest.param(state(CLOSED), None, id="a fresh one is not asked for"),
        pytest.param(state(CLOSED + timedelta(minutes=5)), None, id="nor one that is ahead"),
        pytest.param(state(None, NOW + timedelta(seconds=1)), None, id="one that pauses is left alone"),
        pytest.param(state(None, NOW), utc("2026-11-15 00:00"), id="until its pause is over"),
        pytest.param(state(None, calendar="XHKG"), None, id="a calendar without a closed bar has nothing to ask for"),
    ],
)
def test_the_start_of_a_request_follows_from_the_state_of_its_series(
    known: pl.DataFrame, start: datetime | None
) -> None:
    assert plan(known).select("symbol", "start", "end").rows() == ([] if start is None else [("AAPL", start, CLOSED)])


@pytest.mark.parametrize(
    "known", [state(CLOSED), state(None, NOW + timedelta(hours=1)), state(utc("2026-11-24 00:00"))]
)
def test_a_refresh_of_everything_starts_at_the_full_depth_also_for_fresh_and_pausing_series(
    known: pl.DataFrame,
) -> None:
    assert plan(known, everything=True)["start"].to_list() == [utc("2026-11-15 00:00")]


def test_daily_bars_overlap_a_long_weekend_and_have_their_own_depth() -> None:
    checked = utc("2026-11-24 21:00")
    found = plan(state(checked), state(None, symbol="MSFT"), timeframe=D1)
    assert found.select("symbol", "start").rows() == [
        ("MSFT", utc("2025-11-25 00:00")),
        ("AAPL", checked - D1.fetched.overlap),
    ]
    assert D1.fetched.overlap >= timedelta(days=4)


def test_requests_with_the_same_start_are_adjacent_so_that_they_can_share_calls() -> None:
    late, later = utc("2026-11-25 15:30"), utc("2026-11-25 15:40")
    found = plan(*(state(since, symbol=name) for name, since in (("D", later), ("C", late), ("B", later), ("A", late))))
    assert found["symbol"].to_list() == ["A", "C", "B", "D"]


def test_the_rows_of_a_request_are_never_underestimated() -> None:
    found = plan(state(None), state(utc("2026-11-25 15:40"), symbol="MSFT"))
    assert dict(found.select("symbol", "rows").iter_rows()) == {"AAPL": 10 * 288 + 189 + 1, "MSFT": 5}


def cut(rows: list[int], most: int) -> list[list[str]]:
    symbols = [f"S{number:03}" for number in range(len(rows))]
    return list(batches(pl.DataFrame({"symbol": symbols, "rows": rows}, schema_overrides={"rows": pl.Int64}), most))


@given(st.lists(st.integers(1, 50)), st.integers(1, 100))
def test_batches_keep_the_order_lose_no_symbol_and_are_as_large_as_allowed(rows: list[int], most: int) -> None:
    found = cut(rows, most)
    assert [symbol for batch in found for symbol in batch] == [f"S{number:03}" for number in range(len(rows))]
    sizes = [[rows[int(symbol[1:])] for symbol in batch] for batch in found]
    assert all(sum(batch) <= most or len(batch) == 1 for batch in sizes)
    assert all(sum(one) + other[0] > most for one, other in zip(sizes, sizes[1:], strict=False))


def test_a_symbol_larger_than_a_batch_gets_its_own_batch() -> None:
    assert cut([1, 900, 1, 1], 10) == [["S000"], ["S001"], ["S002", "S003"]]
    assert cut([], 10) == []


def test_the_metadata_of_an_outcome_has_only_what_happened() -> None:
    outcome = Outcome()
    assert outcome.metadata() == {}
    outcome.done += ["AAPL", "MSFT"]
    outcome.add_written(pl.DataFrame({"symbol": ["AAPL", "MSFT"], "written": [2, 3]}))
    outcome.add_written(pl.DataFrame({"symbol": ["AAPL"], "written": [4]}))
    outcome.errors["TSLA"] = "gone"
    assert (outcome.written, outcome.rows) == ({"AAPL": 6, "MSFT": 3}, 9)
    assert outcome.metadata() == {"series": 2, "rows_written": 9, "series_failed": 1}
