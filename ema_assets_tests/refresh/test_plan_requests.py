"""Which bars are requested of a series, from its state, the calendar and the rules."""

from collections.abc import Mapping
from datetime import date, datetime, timedelta

import polars as pl
import pytest

from ema_assets.market.exchanges import exchange_sessions
from ema_assets.model.schemas import UTC_TIME
from ema_assets.model.timeframes import Timeframe
from ema_assets.providers.declaration import LongHistory, Publication
from ema_assets.refresh.depths import DEEP_ENOUGH_BARS, depths
from ema_assets.refresh.plan_older import OlderPlan, plan_growth, plan_long
from ema_assets.refresh.plan_requests import FetchRules, plan_gaps, plan_requests
from ema_assets_tests.refresh.exchange import utc
from ema_assets_tests.timeframes import D1, H1, M5, M15, M30, W1

NOW = utc("2026-11-25 15:30:20")
END = utc("2026-11-25 15:30")
RULES = FetchRules({M5: 3, D1: 30})
MARKET = {"calendar": "XNYS", "provider": None, "delay_seconds": 0}
BEHIND = {"checked_through": utc("2026-11-25 15:25"), "first_ts": utc("2026-11-20 14:30"), "asked_at": NOW}
FRESH = {**BEHIND, "checked_through": END}


def frame(rows: list[dict[str, object]], *times: str) -> pl.DataFrame:
    texts = dict.fromkeys(("symbol", "calendar", "provider", "last_error"), pl.String())
    schema = {**texts, "delay_seconds": pl.Int64(), **dict.fromkeys(times, UTC_TIME)}
    return pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema)


def closed(**times: datetime) -> pl.DataFrame:
    return frame([{**MARKET, "ts_end": END, **times}], "ts_end", "recheck_at", "reread_at", "reread_from").drop(
        "symbol", "last_error"
    )


def planned(
    state: Mapping[str, object],
    last: pl.DataFrame | None = None,
    rules: FetchRules = RULES,
    timeframe: Timeframe = M5,
    *,
    everything: bool = False,
) -> list[tuple[str, str, int]]:
    """The start, the end and the rows of what is requested of one series."""
    columns = ("checked_through", "asked_at", "asked_from", "first_ts", "last_ts", "next_attempt_at")
    found = plan_requests(
        frame([{"symbol": "AAPL", **MARKET, **state}], *columns),
        timeframe,
        closed() if last is None else last,
        rules,
        NOW,
        everything=everything,
    )
    return [(f"{row[4]:%d %H:%M}", f"{row[5]:%d %H:%M}", row[6]) for row in found.rows()]


@pytest.mark.parametrize(
    ("state", "times", "expected"),
    [
        pytest.param({}, {}, [("22 00:00", "25 15:30", 1051)], id="new"),
        pytest.param({"asked_from": utc("2026-11-20")}, {}, [("20 00:00", "25 15:30", 1627)], id="begins again"),
        pytest.param({"last_ts": utc("2026-11-20 14:45")}, {}, [("20 14:30", "25 15:30", 1453)], id="after a file"),
        pytest.param({"last_ts": utc("2026-11-24")}, {}, [("22 00:00", "25 15:30", 1051)], id="after a newer file"),
        pytest.param({"asked_from": utc("2026-11-24")}, {}, [("22 00:00", "25 15:30", 1051)], id="begins again, deeper"),
        pytest.param(BEHIND, {}, [("25 15:10", "25 15:30", 5)], id="a bar has closed"),
        pytest.param(FRESH, {}, [], id="fresh"),
        pytest.param({**FRESH, "last_error": "no"}, {}, [("25 15:15", "25 15:30", 4)], id="failed for a person"),
        pytest.param({**BEHIND, "next_attempt_at": NOW}, {}, [("25 15:10", "25 15:30", 5)], id="tried again now"),
        pytest.param({**BEHIND, "next_attempt_at": NOW + timedelta(seconds=1)}, {}, [], id="tried again later"),
        pytest.param(FRESH, {"recheck_at": NOW + timedelta(seconds=1)}, [("25 15:15", "25 15:30", 4)], id="to be confirmed"),
        pytest.param(FRESH, {"recheck_at": NOW}, [], id="confirmed"),
        pytest.param(
            BEHIND,
            {"reread_at": NOW + timedelta(seconds=1), "reread_from": utc("2026-11-23 14:30")},
            [("23 14:30", "25 15:30", 589)],
            id="sessions are read again",
        ),
        pytest.param(
            BEHIND,
            {"reread_at": NOW + timedelta(seconds=1), "reread_from": utc("2026-11-11 14:30")},
            [("20 14:30", "25 15:30", 1453)],
            id="sessions are read again from the first bar on",
        ),
        pytest.param(
            BEHIND,
            {"reread_at": NOW, "reread_from": utc("2026-11-23 14:30")},
            [("25 15:10", "25 15:30", 5)],
            id="sessions were read again",
        ),
    ],
)  # fmt: skip
def test_what_is_requested_follows_from_the_state_of_a_series(
    state: dict[str, object], times: dict[str, datetime], expected: list[tuple[str, str, int]]
) -> None:
    assert planned(state, closed(**times)) == expected


def test_days_are_read_again_from_the_label_of_the_first_one_on() -> None:
    """A vendor's label of a day is midnight, which lies before the open."""
    state = {"checked_through": utc("2026-11-24 21:00"), "first_ts": utc("2026-01-02 14:30"), "asked_at": NOW}
    last = closed(reread_at=NOW + timedelta(seconds=1), reread_from=utc("2026-11-11 14:30"))
    assert planned(state, last, timeframe=D1) == [("10 20:30", "25 15:30", 15)]


def test_everything_is_requested_from_the_first_bar_or_the_whole_depth() -> None:
    pausing = {**FRESH, "next_attempt_at": NOW + timedelta(hours=1)}
    assert planned(pausing, everything=True) == [("20 14:30", "25 15:30", 1453)]
    short = {**FRESH, "first_ts": utc("2026-11-24 14:30")}
    assert planned(short, everything=True) == [("22 00:00", "25 15:30", 1051)]
    # The label of a day lies up to 18 hours before the open.
    days = {**FRESH, "first_ts": utc("2026-10-01 13:30")}
    assert planned(days, timeframe=D1, everything=True) == [("30 19:30", "25 15:30", 56)]


def test_a_provider_with_a_longer_overlap_is_requested_further_back() -> None:
    for overlap, start in ((30, "25 14:55"), (15, "25 15:10"), (5, "25 15:10")):
        rules = FetchRules({M5: 3}, {None: Publication(overlap=timedelta(minutes=overlap))})
        assert [each[0] for each in planned(BEHIND, rules=rules)] == [start]
    other = FetchRules({M5: 3}, {"yahoo": Publication(overlap=timedelta(minutes=30))})
    assert [each[0] for each in planned(BEHIND, rules=other)] == ["25 15:10"]


def test_bars_of_another_market_are_not_requested() -> None:
    assert planned({**BEHIND, "provider": "yahoo"}) == planned({**BEHIND, "delay_seconds": 900}) == []
    assert planned({**BEHIND, "calendar": "XLON"}) == []


def test_closed_bars_are_final_after_the_last_time_at_which_they_are_requested_again() -> None:
    settling = {"5m": (timedelta(minutes=1), timedelta(minutes=20))}
    rules = FetchRules({M5: 3}, {None: Publication(settling=settling)})
    assert rules.final_through(M5, None, NOW) == NOW - timedelta(minutes=20)
    assert rules.final_through(D1, None, NOW) == rules.final_through(M5, "yahoo", NOW) == NOW


def gaps_planned(*gaps: tuple[str, str, str], start: str | None = None) -> list[tuple[str, str, str, int, int]]:
    """The symbol, start, end, round and rows of requests for `gaps`; AAPL is requested from `start` on anyway."""
    due = frame(
        [{"symbol": symbol, **MARKET, "first_ts": utc(first), "last_ts": utc(last)} for symbol, first, last in gaps],
        *("first_ts", "last_ts"),
    )
    plan = frame([{"symbol": "AAPL", "start": utc(start)}] if start else [], "start")
    found = plan_gaps(due, plan, M5, closed()).select("symbol", "start", "end", "round", "rows")
    return [(row[0], f"{row[1]:%d %H:%M}", f"{row[2]:%d %H:%M}", *row[3:]) for row in found.rows()]


def test_gaps_are_requested_with_bars_on_both_sides_and_no_bar_that_has_not_closed() -> None:
    assert gaps_planned() == []
    assert gaps_planned(
        ("AAPL", "2026-11-23 15:00", "2026-11-23 15:10"),
        ("AAPL", "2026-11-25 15:20", "2026-11-25 15:20"),
        ("MSFT", "2026-11-23 15:00", "2026-11-23 15:00"),
    ) == [
        ("AAPL", "23 14:45", "23 15:30", 0, 10),
        ("MSFT", "23 14:45", "23 15:20", 0, 8),
        ("AAPL", "25 15:05", "25 15:30", 1, 6),
    ]


def test_a_gap_that_is_requested_anyway_is_left_out() -> None:
    gap = ("AAPL", "2026-11-23 15:00", "2026-11-23 15:10")
    assert gaps_planned(gap, start="2026-11-23 15:00") == []
    assert len(gaps_planned(gap, start="2026-11-23 15:05")) == 1
    assert len(gaps_planned(("MSFT", *gap[1:]), start="2026-11-23 15:00")) == 1


def test_older_bars_are_requested_when_a_series_should_reach_back_a_week_further_than_it_was_requested() -> None:
    """With 30 days it should reach back to October 26. The last bars before the stored ones are requested as well."""

    def grown(asked_from: str, first_ts: str, checked_through: datetime = END) -> list[tuple[str, str, int]]:
        times = {"asked_from": utc(asked_from), "first_ts": utc(first_ts), "checked_through": checked_through}
        found = plan_growth(frame([{"symbol": "AAPL", **MARKET, **times}], *times), M5, FetchRules({M5: 30}), NOW)
        return [(f"{row[4]:%m-%d %H:%M}", f"{row[5]:%m-%d %H:%M}", row[6]) for row in found.rows()]

    assert grown("2026-11-02 00:00", "2026-11-02 14:30") == []
    assert grown("2026-11-03 00:00", "2026-11-03 14:30") == [("10-26 00:00", "11-03 14:45", 2482)]
    assert grown("2026-11-03 00:00", "2026-11-01 14:30") == [("10-26 00:00", "11-03 00:15", 2308)]
    assert grown("2026-11-03 00:00", "2026-11-03 14:30", utc("2026-11-03 14:35")) == [
        ("10-26 00:00", "11-03 14:35", 2480)
    ]


def test_a_depth_is_described_by_its_days_and_the_timeframes_that_are_made_of_its_bars() -> None:
    assert depths({M5: 14, D1: 300}, [M5, M15, H1, D1]) == {
        "5m": f"14 days, and {DEEP_ENOUGH_BARS} bars of 5m, 15m, 1h",
        "1d": f"300 days, and {DEEP_ENOUGH_BARS} bars of 1d",
    }


SESSIONS = exchange_sessions("XNYS", date(2025, 8, 1), date(2026, 11, 27))
HALF_HOURS = LongHistory("30m", "half-hours")
FED = [("AAPL", each.key) for each in (M5, M15, M30, H1, D1, W1)]


def long_planned(
    series: list[tuple[str, str]] = FED,
    history: LongHistory | None = HALF_HOURS,
    *,
    everything: bool = False,
    **times: datetime | None,
) -> OlderPlan:
    """The plan for AAPL, whose bars of 5m begin within the session of November 18."""
    known = {"first_ts": utc("2026-11-18 16:00"), "checked_through": END, "long_from": None, **times}
    return plan_long(
        frame([{"symbol": "AAPL", **MARKET, **known}], *known),
        pl.DataFrame(series, schema=["symbol", "timeframe"], orient="row"),
        SESSIONS,
        M5,
        history,
        NOW,
        everything=everything,
    )


def test_long_history_is_requested_for_the_timeframes_that_consist_of_whole_bars_of_it() -> None:
    """220 hours are 32 sessions up to yesterday, and 220 half-hours are 17. Weeks are rolled up from days."""
    found = long_planned()
    assert found.reaching.rows() == [
        ("AAPL", "1h", utc("2026-10-12 13:30")),
        ("AAPL", "30m", utc("2026-11-02 14:30")),
    ]
    # From the first whole session on, a series has its own bars; five sessions of both are compared.
    assert found.long.select("start", "end", "seam").rows() == [
        (utc("2026-10-12 13:30"), utc("2026-11-24 21:00"), utc("2026-11-19 14:30"))
    ]
    assert found.settled.is_empty()


def test_long_history_is_requested_as_far_back_as_the_provider_has_it() -> None:
    found = long_planned(history=LongHistory("30m", "half-hours", depth=timedelta(days=30)))
    assert found.long["start"].to_list() == [NOW - timedelta(days=30)]


@pytest.mark.parametrize(
    ("history", "series"),
    [(None, FED), (HALF_HOURS, [("AAPL", "5m"), ("AAPL", "15m")])],
    ids=["no long history", "no timeframe that consists of it"],
)
def test_a_series_that_needs_no_long_history_is_settled(
    history: LongHistory | None, series: list[tuple[str, str]]
) -> None:
    found = long_planned(series, history)
    assert (found.long.height, found.reaching.height, found.settled["symbol"].to_list()) == (0, 0, ["AAPL"])


def test_long_history_is_not_requested_again_unless_a_series_should_reach_back_more_than_a_week_further() -> None:
    start = utc("2026-10-12 13:30")
    for long_from, requests in ((start + timedelta(days=7), 0), (start + timedelta(days=7, minutes=1), 1)):
        found = long_planned(long_from=long_from)
        assert (found.long.height, found.settled.height) == (requests, 1 - requests)
    assert long_planned(long_from=start, everything=True).long.height == 1
