"""The crossover rule: enters at a crossover of EMA 9 and EMA 30, and exits at the opposite one."""

import numpy as np
import polars as pl

from ema_assets.model.asset_names import EMA_TREND, STRATEGY
from ema_assets.strategies.rule import BySide, Evaluation, Params, Rule
from ema_assets.strategies.simulator.bars import Bars
from ema_assets.strategies.simulator.book import Book
from ema_assets.strategies.simulator.layout import named_sides
from ema_assets.strategies.simulator.orders import enter_by_signal, exit_by_signal, fill_at_open
from ema_assets.strategies.variant import Variant

_BULLISH, _BEARISH = "bullish_crossover", "bearish_crossover"


def evaluate(bars: pl.DataFrame, _: Params) -> Evaluation:
    """The side of the crossover on each bar."""
    side = named_sides(bars["crossover"])
    return Evaluation(direction=side, entry=side)


def at_close(bars: Bars, book: Book, start: int, end: int, variant: Variant) -> None:
    """Close the trades that a crossover is against, and enter on its side."""
    ranks = np.flatnonzero(bars.direction[start:end])
    if not ranks.size:
        return
    rows = ranks + start
    side = book.side[ranks]
    exits = side == -bars.direction[rows]
    enters = (bars.entry[rows] != 0) & ((side == 0) | exits)
    exit_by_signal(bars, book, ranks[exits], rows[exits], variant)
    enter_by_signal(bars, book, ranks[enters], rows[enters], variant)


RULE = Rule(
    name="crossover",
    title="9-30 EMA crossover",
    description="Enters at a crossover of EMA 9 and EMA 30, exits at the next crossover to the other side.",
    version="1",
    reads={EMA_TREND: ("crossover",)},
    evaluate=evaluate,
    fill_orders=fill_at_open,
    at_close=at_close,
    entry_reasons=BySide(long=_BULLISH, short=_BEARISH),
    exit_reasons=BySide(long=_BEARISH, short=_BULLISH),
    table=STRATEGY,
)
