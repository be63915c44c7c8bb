"""The crossover rule: enters at a crossover of two EMAs, and exits at the opposite one."""

import polars as pl

from ema_assets.model.asset_names import STRATEGY
from ema_assets.model.symbols import BEARISH, BULLISH
from ema_assets.strategies.rule import BySide, Params, Rule
from ema_assets.strategies.spans import SPANS, TREND, check_spans


def evaluate(bars: pl.DataFrame, _: Params) -> pl.DataFrame:
    """Enter on the side of the crossover, leave the other one."""
    crossover = pl.col("crossover")
    entered = bars.select(enter_long=crossover == BULLISH, enter_short=crossover == BEARISH)
    # Reusing the columns costs nothing. Comparing the texts a second time would.
    return entered.select("enter_long", "enter_short", leave_long="enter_short", leave_short="enter_long")


RULE = Rule(
    name="crossover",
    title="{fast}-{slow} EMA crossover",
    description="Enters at a crossover of EMA {fast} and EMA {slow}, exits at the next crossover to the other side.",
    version="1",
    reads={TREND: ("crossover",)},
    evaluate=evaluate,
    entry_reasons=BySide(long="bullish_crossover", short="bearish_crossover"),
    exit_reasons=BySide(long="bearish_crossover", short="bullish_crossover"),
    params=SPANS,
    check=check_spans,
    trend=TREND,
    table=STRATEGY,
)
