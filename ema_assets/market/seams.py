"""Do longer bars of a provider fit the shorter ones that follow them? Told from a stretch that both have. No I/O."""

import math

import polars as pl

from ema_assets.market.corporate_actions import name_of
from ema_assets.model.schemas import PRICES

# Prices agree within a quarter of the typical move from bar to bar, and within what rounding does.
_SHARE_OF_MOVE, _ROUNDING = 0.25, 5e-4
# So many bars must be in both, and of the shorter ones' bars this share.
_LEAST_BARS, _LEAST_SHARE = 3, 0.8
# More than this share of bars that differ is no chance.
_MOST_DIFFERENT = 0.1
# At one time of the day, this many bars tell, and no more than half of them may differ.
_TELLING, _HALF = 3, 0.5


def misfits(long: pl.DataFrame, short: pl.DataFrame) -> dict[str, str]:
    """Why long bars cannot stand before shorter ones: a reason by symbol, of those that do not fit.

    Args:
        long: symbol, ts, open, high, low, close as the provider sent them.
        short: the same of bars that were rolled up from shorter ones, and `slot`, how long after the open of its
            session (or the end of its lunch break) each begins. A symbol without any is not in the result.
    """
    typical = (pl.col("close") / pl.col("close").shift(1).over("symbol")).log().abs().median().over("symbol")
    known = short.sort("symbol", "ts").with_columns(
        within=pl.max_horizontal(typical * _SHARE_OF_MOVE, pl.lit(_ROUNDING)), expected=pl.len().over("symbol")
    )
    both = known.join(long.select("symbol", "ts", *PRICES), on=["symbol", "ts"], how="left", suffix="_long")
    off = pl.any_horizontal(
        (pl.col(f"{name}_long") / pl.col(name)).log().abs() > pl.col("within").fill_null(_ROUNDING) for name in PRICES
    )
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
    near = bars.select(((pl.col("step") - step).abs() <= pl.col("within").fill_null(_ROUNDING)).mean()).item()
    if abs(step) > bars["within"].fill_null(_ROUNDING).max() and near >= 1 - _MOST_DIFFERENT:  # type: ignore[operator]
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
