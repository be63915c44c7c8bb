"""Tests of which requests share a call."""

import itertools
import sys
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from ema_assets.model.symbols import Instrument
from ema_assets.providers.fetching.base import BarRequest
from ema_assets.providers.fetching.packing import Call, pack
from ema_assets_tests.providers.conftest import MIDDAY, STOCKS, ask
from ema_assets_tests.timeframes import M5

HOUR = timedelta(hours=1)


def packed(requests: list[BarRequest], symbols: int = 200, pages: int = 5) -> list[Call]:
    return pack(requests, symbols_per_call=symbols, page_limit=10_000, pages_per_call=pages)


def test_a_tick_is_one_call_even_when_some_symbols_are_a_little_behind() -> None:
    requests = [*ask(STOCKS[:80], MIDDAY - timedelta(minutes=10)), *ask(STOCKS[80:], MIDDAY - 3 * HOUR)]
    (call,) = packed(requests)
    assert call.start == MIDDAY - 3 * HOUR


def test_a_symbol_that_needs_sixty_days_gets_a_separate_call() -> None:
    short, long = packed([*ask(STOCKS[1:], MIDDAY - HOUR), *ask(STOCKS[:1], MIDDAY - timedelta(days=60))])
    assert len(short.requests) == 89
    assert len(long.requests) == 1


def test_two_symbols_that_fit_one_page_share_a_call() -> None:
    assert len(packed([*ask(STOCKS[:1], MIDDAY - timedelta(days=20)), *ask(STOCKS[1:2], MIDDAY - HOUR)])) == 1


def test_a_call_takes_no_more_symbols_than_allowed() -> None:
    assert sorted(len(call.requests) for call in packed(ask(STOCKS, MIDDAY - HOUR), symbols=40)) == [10, 40, 40]


def test_a_long_backfill_is_divided_into_several_calls_of_limited_size() -> None:
    calls = packed(ask(STOCKS, MIDDAY - timedelta(days=60)))
    assert 6 <= len(calls) <= 12
    assert all(call.expected_rows <= 50_000 for call in calls)


def test_two_ranges_of_a_symbol_from_one_start_share_a_call() -> None:
    requests = ask(STOCKS[:3], MIDDAY - 2 * HOUR) + ask(STOCKS[:3], MIDDAY - 2 * HOUR, MIDDAY - HOUR)
    calls = packed(requests, symbols=1)
    assert [len(call.requests) for call in calls] == [2, 2, 2]
    assert all(len({request.instrument.symbol for request in call.requests}) == 1 for call in calls)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 200_000), st.integers(1, 200_000)), max_size=80))
def test_every_request_is_in_exactly_one_call_that_covers_it(asked: list[tuple[int, int, int]]) -> None:
    requests = [
        BarRequest(
            Instrument(f"S{symbol}"),
            M5,
            MIDDAY - timedelta(minutes=back + length),
            MIDDAY - timedelta(minutes=back),
        )
        for symbol, back, length in asked
    ]
    calls = packed(requests, symbols=7)
    answered = [request for call in calls for request in call.requests]
    assert sorted(map(repr, answered)) == sorted(map(repr, requests))
    for call in calls:
        assert len({request.instrument.symbol for request in call.requests}) <= 7
        assert all(call.start <= request.start and request.end <= call.end for request in call.requests)


def work_of(starts: int) -> int:
    """Return the number of profiler events while requests with that many different starts are packed."""
    requests = [
        BarRequest(Instrument(f"S{i}"), M5, MIDDAY - timedelta(minutes=10 + 17 * i), MIDDAY) for i in range(starts)
    ]
    counted = itertools.count()
    before = sys.getprofile()
    sys.setprofile(lambda *_: next(counted))
    try:
        packed(requests)
    finally:
        sys.setprofile(before)
    return next(counted)


def test_ten_times_as_many_different_starts_take_less_than_twelve_times_the_work() -> None:
    assert work_of(3_000) < 12 * work_of(300)
