"""The budget's benchmark: calls on a virtual clock, and a server that counts them itself."""

from benchmarks.budget import simulate


def test_a_tick_of_a_hundred_symbols_is_one_call_and_of_ten_thousand_well_within_a_minute() -> None:
    assert simulate(100)["calls"] == 1
    large = simulate(10_000)
    assert large["calls"] <= 100
    assert large["seconds"] < 60


def test_a_small_budget_makes_the_calls_wait_and_is_never_exceeded() -> None:
    row = simulate(2_000, budget=4)
    assert row["most_in_a_minute"] == 4
    assert row["seconds"] > 120


def test_refused_calls_are_tried_again_and_every_series_comes() -> None:
    assert simulate(2_000, refuse_every=5)["calls"] > 10
