"""Recognises steps of a price that are like those of splits, where no bar is served again that could tell. No I/O."""

import math
from fractions import Fraction

import polars as pl

from ema_assets.market.corporate_actions import FORWARD, NO_FACTS, name_of

# What the flag of a jump by such a ratio says.
LIKE_A_SPLIT = "like a split of"

# A jump by less than 3:2 is far more often news than a split.
_RATIOS = (Fraction(3, 2), *FORWARD)
# A step within this distance of a ratio is like a split: prices also move overnight.
_STEP_WITHIN = math.log(1.1)


def steps_like_splits(stored: pl.DataFrame, served: pl.DataFrame, facts: pl.DataFrame = NO_FACTS) -> pl.DataFrame:
    """Return symbols that step by the ratio of a split from the last stored close to the first served open.

    This is the only evidence for symbols of which no stored bar was served again.

    Args:
        stored: symbol, ts, close of stored bars before the served ones.
        served: symbol, ts, open.
        facts: symbol, effective_at, ratio, kind. A fact that took effect in between counts without a step.

    Returns:
        symbol, ratio (approximate), split (its name).
    """
    first = served.group_by("symbol").agg(pl.col("ts", "open").sort_by("ts").first())
    last = (
        stored.join(first.select("symbol", first_ts="ts"), on="symbol")
        .filter(pl.col("ts") < pl.col("first_ts"))
        .group_by("symbol")
        .agg(last_ts=pl.col("ts").max(), close=pl.col("close").sort_by("ts").last())
    )
    between = first.join(last, on="symbol").with_columns(step=pl.col("close") / pl.col("open"))
    rows = [_like_a_split(symbol, step) for symbol, step in between.select("symbol", "step").iter_rows()]
    schema = {"symbol": pl.String(), "ratio": pl.Float64(), "split": pl.String()}
    steps = pl.DataFrame([row for row in rows if row is not None], schema=schema, orient="row")
    if facts.is_empty() or "effective_at" not in facts.columns:
        return steps
    known = (
        facts.join(between, on="symbol")
        .filter(pl.col("effective_at") > pl.col("last_ts"), pl.col("effective_at").dt.date() <= pl.col("ts").dt.date())
        .unique("symbol", keep="last", maintain_order=True)
        .with_columns(split=pl.col("ratio").map_elements(name_of, pl.String))
        .select(list(schema))
    )
    return pl.concat([known, steps.join(known, on="symbol", how="anti")]).sort("symbol")


def _like_a_split(symbol: str, step: float) -> tuple[str, float, str] | None:
    forward = max(step, 1 / step)
    nearest = min(_RATIOS, key=lambda each: abs(math.log(forward / each)))
    if abs(math.log(forward / nearest)) > _STEP_WITHIN:
        return None
    ratio = nearest if step > 1 else 1 / nearest
    return symbol, float(ratio), f"{ratio.numerator}:{ratio.denominator}"


def describe_ratio(ratio: pl.Expr) -> pl.Expr:
    """Return the text to append to a jump by `ratio` (close over previous close): the split it resembles, if any."""
    text = pl.lit("")
    for forward in _RATIOS:
        for split in (forward, 1 / forward):
            near = (ratio * float(split) - 1).abs() <= 0.05
            named = pl.lit(f", {LIKE_A_SPLIT} {split.numerator}:{split.denominator} not adjusted for")
            text = pl.when(near).then(named).otherwise(text)
    return text
