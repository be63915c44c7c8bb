"""Tests of the benchmark of the call budget: calls on a virtual clock, and a server that counts them."""

import pytest

from benchmarks.budget import simulate


@pytest.mark.broad
def test_a_tick_takes_one_call_for_100_symbols_and_less_than_a_minute_for_10000() -> None:
    assert simulate(100)["calls"] == 1
    large = simulate(10_000)
    assert large["calls"] == 50
    assert large["seconds"] < 60


def test_a_small_budget_delays_calls_and_is_never_exceeded() -> None:
    row = simulate(2_000, budget=4)
    assert row["most_in_a_minute"] == 4
    assert row["seconds"] > 120


@pytest.mark.broad
def test_each_refused_call_is_sent_again_once() -> None:
    assert simulate(2_000)["calls"] == 10
    # The fifth and the tenth call are refused.
    assert simulate(2_000, refuse_every=5)["calls"] == 12
