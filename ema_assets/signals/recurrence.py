"""Averages that go on from their last value, over many symbols at once: EMA and Wilder's. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl


def is_first() -> pl.Expr:
    """True at each symbol's first row of a frame that is sorted by symbol.

    What is made from this for all symbols at once takes 1 to 3 ms for 400,000 rows; `over` each symbol takes 9 or 10.
    """
    return (pl.col("symbol") != pl.col("symbol").shift(1)).fill_null(True)


def place() -> pl.Expr:
    """1 for a symbol's first row in a frame that is sorted by symbol, and one more on each later row."""
    row = pl.int_range(pl.len(), dtype=pl.Int64)
    return row - pl.when(is_first()).then(row).forward_fill() + 1


def before(column: str) -> pl.Expr:
    """`column` of the symbol's row before, in a frame that is sorted by symbol; null at its first."""
    return pl.when(is_first().not_()).then(pl.col(column).shift(1))


@dataclass(frozen=True, slots=True)
class Average:
    """average_t = alpha · value_t + (1 - alpha) · average_(t-1).

    `value` is the column that it averages, null for bars that are not new. A series begins with the plain mean of its
    first `seeds` values, at the last of them; `skipped` says how many bars come before the first of these.
    """

    name: str
    value: str
    alpha: float
    seeds: int
    skipped: int = 0


def ema(name: str, value: str, span: int, skipped: int = 0) -> Average:
    """Alpha = 2 / (span + 1), begun with the mean of `span` values."""
    return Average(name, value, 2 / (span + 1), span, skipped)


def wilder(name: str, value: str, span: int, skipped: int = 0) -> Average:
    """Alpha = 1 / span, begun with the mean of `span` values: Wilder, New Concepts in Technical Trading, 1978."""
    return Average(name, value, 1 / span, span, skipped)


def averaged(bars: pl.DataFrame, carried: pl.DataFrame, averages: Sequence[Average]) -> pl.DataFrame:
    """`bars` with the columns `averages`, null before each begins.

    The same bits come out however a history is cut: a carried value enters the recurrence as its first value.

    Args:
        bars: symbol and the columns to average; sorted by symbol.
        carried: symbol and the averages' columns, none of them null, of the row just before a symbol's first new bar;
            an absent symbol starts from nothing.
        averages: what to compute.

    Returns:
        All rows and columns of `bars` in their order.
    """
    names = [each.name for each in averages]
    # Over a sorted number of the symbol the recurrence takes a third of the time that it takes over its name.
    grouped = bars.with_columns(pl.col("symbol").rle_id().set_sorted().alias("_group"), place().alias("_place"))
    goes_on = pl.lit(False)
    if not carried.is_empty():
        known = (
            grouped.filter(is_first())
            .select("symbol", "_group")
            .join(carried.select("symbol", *names), on="symbol", how="inner", maintain_order="left")
            .with_columns(_goes_on=pl.lit(True))
        )
        grouped = grouped.join(known.select("symbol", "_goes_on"), on="symbol", how="left", maintain_order="left")
        goes_on = pl.col("_goes_on").fill_null(False)
    inputs = grouped.with_columns(
        # A running sum gives the same bits however the bars are batched, which a mean over a group does not promise.
        pl.when(pl.col("_place").is_between(each.skipped + 1, each.skipped + each.seeds))
        .then(each.value)
        .cum_sum()
        .over("_group")
        .alias(f"_sum_{each.name}")
        for each in averages
    ).with_columns(
        pl.when(goes_on | (pl.col("_place") > each.skipped + each.seeds))
        .then(each.value)
        .when(pl.col("_place") == each.skipped + each.seeds)
        .then(pl.col(f"_sum_{each.name}") / each.seeds)
        .alias(each.name)
        for each in averages
    )
    if not carried.is_empty():
        # A stable sort: the carried row comes to stand before its symbol's bars.
        inputs = pl.concat([known.drop("symbol", "_goes_on"), inputs], how="diagonal").sort(
            "_group", maintain_order=True
        )
    return (
        inputs.with_columns(
            pl.col(each.name)
            .ewm_mean(alpha=each.alpha, adjust=False, ignore_nulls=True, min_samples=1)
            .over("_group")
            .alias(each.name)
            for each in averages
        )
        .filter(pl.col("symbol").is_not_null())
        .select(*bars.columns, *names)
    )
