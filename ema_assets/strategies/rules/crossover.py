"""The crossover rule: enters at a crossover of EMA 9 and EMA 30, and exits at the opposite one."""

import polars as pl

from ema_assets.model.asset_names import EMA_TREND, STRATEGY
from ema_assets.model.symbols import BEARISH, BULLISH
from ema_assets.strategies.rule import BySide, Params, Rule


def evaluate(bars: pl.DataFrame, _: Params) -> pl.DataFrame:
    """Enter on the side of the crossover, leave the other one."""
    is_bullish, is_bearish = pl.col("crossover") == BULLISH, pl.col("crossover") == BEARISH
    return bars.select(
        enter_long=is_bullish,
        enter_short=is_bearish,
        leave_long=is_bearish,
        leave_short=is_bullish,
    )


RULE = Rule(
    name="crossover",
    title="9-30 EMA crossover",
    description="Enters at a crossover of EMA 9 and EMA 30, exits at the next crossover to the other side.",
    version="1",
    reads={EMA_TREND: ("crossover",)},
    evaluate=evaluate,
    entry_reasons=BySide(long="bullish_crossover", short="bearish_crossover"),
    exit_reasons=BySide(long="bearish_crossover", short="bullish_crossover"),
    table=STRATEGY,
)
