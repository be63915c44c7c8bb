"""Tests of the alert about averages that are about to cross: which move causes or prevents the crossover."""

import pytest

from ema_assets.alerts.kinds.about_to_cross import KIND
from ema_assets.model.symbols import DOWN, UP


@pytest.mark.parametrize(
    ("trend", "cross_price", "move_pct", "said"),
    [
        (UP, 99.8, -0.2, "(bearish) if the next close reaches 99.80, -0.20 % from 100.00"),
        (UP, 100.1, 0.1, "(bearish) unless the next close rises above 100.10, +0.10 % from 100.00"),
        (DOWN, 100.1, 0.1, "(bullish) if the next close reaches 100.10, +0.10 % from 100.00"),
        (DOWN, 99.8, -0.2, "(bullish) unless the next close falls below 99.80, -0.20 % from 100.00"),
        (DOWN, 100.0, 0.0, "(bullish) if the next close reaches 100.00, 0.00 % from 100.00"),
    ],
)
def test_the_text_states_which_move_causes_or_prevents_the_crossover(
    trend: str, cross_price: float, move_pct: float, said: str
) -> None:
    row = {"trend": trend, "close": 100.0, "cross_price": cross_price, "move_pct": move_pct}
    assert KIND.say({**row, "fast_span": 9, "slow_span": 30}) == f"EMA 9 and EMA 30 about to cross {said}"
