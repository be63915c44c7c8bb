"""Checks on an overlap whether longer bars of a provider fit the shorter ones that follow them. No I/O."""

import math

import polars as pl

from ema_assets.market.corporate_actions import name_of
from ema_assets.model.schemas import PRICES

# Prices agree if they differ by at most a quarter of the typical move from bar to bar, or by rounding.
_SHARE_OF_MOVE, _ROUNDING = 0.25, 5e-4
# At least this many bars, and this share of the bars made from shorter ones, must exist in both.
_LEAST_BARS, _LEAST_SHARE = 3, 0.8
# A larger share of different bars is not due to chance.
_MOST_DIFFERENT = 0.1
# At least this many bars at one time of the day are conclusive, and at most half of them may differ.
_TELLING, _HALF = 3, 0.5


def misfits(long: pl.DataFrame, short: pl.DataFrame) -> dict[str, str]:
    """Return by symbol why its long bars cannot be put before the shorter ones; symbols that fit are missing.

    Args:
        long: symbol, ts, open, high, low, close as the provider sent them.
        short: the same columns of bars that were rolled up from shorter ones, and `slot`, how long after the open of
            its session (or the end of its lunch break) each begins. A symbol without such bars is not in the result.
    """
    typical = (pl.col("close") / pl.col("close").shift(1).over("symbol")).log().abs().median().over("symbol")
    known = short.sort("symbol", "ts").with_columns(
        within=pl.max_horizontal(typical * _SHARE_OF_MOVE, pl.lit(_ROUNDING))
    )
    both = known.join(long.select("symbol", "ts", *PRICES), on=["symbol", "ts"], how="left", suffix="_long")
    off = pl.any_horizontal((pl.col(f"{name}_long") / pl.col(name)).log().abs() > pl.col("within") for name in PRICES)
    both = both.with_columns(is_off=off, step=(pl.col("close_long") / pl.col("close")).log())
    reasons: dict[str, str] = {}
    for (symbol,), bars in both.group_by("symbol", maintain_order=True):
        reason = _misfit(bars.filter(pl.col("close_long").is_not_null()), bars.height)
        if reason is not None:
            reasons[str(symbol)] = reason
    return reasons


def _misfit(bars: pl.DataFrame, expected: int) -> str | None:
    if bars.height < max(_LEAST_BARS, _LEAST_SHARE * expected):
        return f"of the {expected} bars after them only {bars.height} are there in both, too few to compare"
    step = bars["step"].median()
    assert isinstance(step, float)
    near = bars.select(((pl.col("step") - step).abs() <= pl.col("within")).mean()).item()
    if abs(step) > bars["within"].max() and near >= 1 - _MOST_DIFFERENT:  # type: ignore[operator]
        return f"they are on another scale, {name_of(math.exp(step))}"
    different = int(bars["is_off"].sum())
    slots = bars.group_by("slot").agg(count=pl.len(), share=pl.col("is_off").mean()).sort("slot")
    odd = slots.filter(pl.col("count") >= _TELLING, pl.col("share") > _HALF)["slot"]
    if odd.len() and different <= _HALF * bars.height:
        minutes = int(odd[0].total_seconds()) // 60
        return f"those that begin {minutes} minutes after the open differ, on most days"
    if different > _MOST_DIFFERENT * bars.height:
        return f"of {bars.height} bars that are there in both {different} differ"
    return None
