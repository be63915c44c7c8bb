"""The pullback rule: a stop order beyond the bar that pulled back, and a stop that trails behind later pullbacks."""

import polars as pl

from ema_assets.model.averages import ema_name, wma_name
from ema_assets.strategies.rule import BySide, Params, Rule
from ema_assets.strategies.spans import FAST_EMA, SLOW_WMA, SPANS, TREND, check_spans


def evaluate(bars: pl.DataFrame, params: Params) -> pl.DataFrame:
    """Order beyond a bar that closes on the wrong side of the EMA while the EMA is on the right side of the WMA."""
    high, low, close = pl.col("high"), pl.col("low"), pl.col("close")
    fast, slow = pl.col(ema_name(params["fast"])), pl.col(wma_name(params["slow"]))
    return bars.select(
        enter_long=(fast > slow) & (close < fast),
        enter_short=(fast < slow) & (close > fast),
        order_long=high,
        order_short=low,
        stop_long=low,
        stop_short=high,
        # An unknown average does not end a trade, but it cancels an order.
        leave_long=fast <= slow,
        leave_short=fast >= slow,
        cancel_long=(fast > slow).not_().fill_null(value=True),
        cancel_short=(fast < slow).not_().fill_null(value=True),
        trail_long=pl.when(close < fast).then(low),
        trail_short=pl.when(close > fast).then(high),
    )


RULE = Rule(
    name="pullback",
    title="{fast}/{slow} pullback",
    description=(
        "Enters when a bar trades beyond an earlier bar that closed on the wrong side of EMA {fast} while the trend "
        "by WMA {slow} lasts, exits when that trend ends."
    ),
    version="2",
    reads={FAST_EMA: (FAST_EMA,), SLOW_WMA: (SLOW_WMA,)},
    evaluate=evaluate,
    entry_reasons=BySide(long="pullback", short="pullback"),
    exit_reasons=BySide(long="trend_end", short="trend_end"),
    params=SPANS,
    check=check_spans,
    trend=TREND,
    table="strategy_9_30_pullback",
)
