"""The pullback rule: a stop order beyond the bar that pulled back, and a stop that trails behind later pullbacks."""

import polars as pl

from ema_assets.model.asset_names import EMA_SIGNALS
from ema_assets.strategies.rule import BySide, Params, Rule


def evaluate(bars: pl.DataFrame, _: Params) -> pl.DataFrame:
    """Order beyond a bar that closes on the wrong side of EMA 9 while EMA 9 is on the right side of WMA 30."""
    high, low, close, fast, slow = (pl.col(name) for name in ("high", "low", "close", "ema_9", "wma_30"))
    return bars.select(
        enter_long=(fast > slow) & (close < fast),
        enter_short=(fast < slow) & (close > fast),
        order_long=high,
        order_short=low,
        stop_long=low,
        stop_short=high,
        # An unknown average ends no trade, but it cancels an order.
        leave_long=fast <= slow,
        leave_short=fast >= slow,
        cancel_long=(fast > slow).not_().fill_null(value=True),
        cancel_short=(fast < slow).not_().fill_null(value=True),
        trail_long=pl.when(close < fast).then(low),
        trail_short=pl.when(close > fast).then(high),
    )


RULE = Rule(
    name="pullback",
    title="9/30 pullback",
    description=(
        "Enters when a bar trades beyond an earlier bar that closed on the wrong side of EMA 9 while the trend by "
        "WMA 30 lasts, exits when that trend ends."
    ),
    version="2",
    reads={EMA_SIGNALS: ("ema_9",), "wma": ("wma_30",)},
    evaluate=evaluate,
    entry_reasons=BySide(long="pullback", short="pullback"),
    exit_reasons=BySide(long="trend_end", short="trend_end"),
    table="strategy_9_30_pullback",
)
