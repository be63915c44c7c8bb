"""The last bar of a window of a walk-forward: what is entered in it before its close is a trade, and ends there."""

from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from ema_assets import backtest

SHORT: dict[str, Any] = {"fast": [3], "slow": 9, "side": "both", "entries": "all", "cost_bps": 2}


@pytest.mark.broad
@pytest.mark.parametrize(
    ("rule", "more"),
    [
        ("pullback", {}),
        ("pullback", {"atr_stop": 0.5}),
        ("crossover", {"fill": "next_open"}),
        ("pullback", {"exit_at_session_end": True}),
        ("crossover", {"fill": "next_open", "exit_at_session_end": True}),
    ],
)
def test_an_order_that_is_filled_in_the_last_bar_of_a_window_makes_a_trade(
    url: str, rule: str, more: dict[str, Any]
) -> None:
    history = backtest.load("15m", url=url)
    walk = history.walk_forward(rule, train="1d", test=timedelta(hours=7), **SHORT, **more)
    in_last_bar = 0
    for row in walk.windows[:-1].rows(named=True):
        window = {"start": row["test_from"], "end": row["test_until"]}
        alone = history.run(rule, **{**SHORT, "fast": 3}, **more, **window)
        mine = walk.trades.filter(window=row["window"]).drop("window")
        key = ["symbol", "entry_ts", "side", "entry_price"]
        assert mine.select(key).equals(alone.trades.select(key))
        assert (mine["status"] == "closed").all()
        others = mine.filter(pl.col("exit_reason") != "window_end")
        assert others.equals(alone.trades.join(others, on=["symbol", "entry_ts"], how="semi", maintain_order="left"))
        ends = alone.closes.group_by("symbol").agg(end=pl.col("ts").last())
        known = mine.join(ends, on="symbol").filter(pl.col("entry_ts") == pl.col("end"))
        assert (known["exit_ts"] == known["end"]).all()
        in_last_bar += known.height
    assert in_last_bar > 0
