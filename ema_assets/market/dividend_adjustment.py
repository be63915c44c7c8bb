"""Recognises two histories of a series that differ only by adjustment for dividends. No I/O.

A vendor that adjusts for dividends multiplies all bars before each dividend by a factor slightly below one. Compared
with prices that are adjusted for splits only, the differences go one way, are constant from one dividend to the next,
shrink with each, and are zero after the newest one. Volumes are the same.
"""

import math

import polars as pl

from ema_assets.market.corporate_actions import price_rounding

# Fewer bars that differ are corrections.
_FEWEST_BARS = 5
# A dividend that takes more than this off a price is rare; a spin-off or a rights issue is not.
_MOST_AT_ONCE = math.log(1.15)
# The smallest average number of bars between two dividends.
_BARS_A_STEP = 5
# Volumes of the same shares are equal, except for corrections.
_VOLUME_WITHIN = 0.02

DIFFERENCES_SCHEMA = pl.Schema(
    {"symbol": pl.String(), "bars": pl.UInt32(), "most_pct": pl.Float64(), "steps": pl.UInt32()}
)


def differences(stored: pl.DataFrame, served: pl.DataFrame) -> pl.DataFrame:
    """Return the series whose served and stored closes differ as prices with and without dividend adjustment do.

    Args:
        stored: symbol, ts, close, volume of the stored bars.
        served: symbol, ts, close, volume from another source.

    Returns:
        symbol, bars (how many differ), most_pct (the largest difference in percent), steps (the number of visible
        dividends): DIFFERENCES_SCHEMA, sorted by symbol.
    """
    both = (
        stored.select("symbol", "ts", before="close", volume_before="volume")
        .join(served.select("symbol", "ts", now="close", volume_now="volume"), on=["symbol", "ts"], how="inner")
        .filter((pl.col("before") > 0) & (pl.col("now") > 0))
        .filter((pl.col("before") != pl.col("now")).any().over("symbol"))
        .sort("symbol", "ts")
    )
    if both.is_empty():
        return DIFFERENCES_SCHEMA.to_frame()
    factor = (pl.col("before") / pl.col("now")).log()
    both = both.with_columns(factor=factor, rounding=price_rounding("before", "now"))
    # Either history may be the lower one; the first bar of a series that differs shows which.
    way = pl.col("factor").filter(pl.col("factor").abs() > pl.col("rounding")).first().sign().over("symbol")
    both = both.with_columns(off=pl.col("factor") * way).with_columns(
        fall=pl.col("off").shift(1).over("symbol") - pl.col("off"),
        risen=pl.col("off") - pl.col("off").cum_min().over("symbol"),
    )
    differs, steps = pl.col("off") > pl.col("rounding"), pl.col("fall") > 2 * pl.col("rounding")
    traded = differs & (pl.col("volume_before") > 0) & (pl.col("volume_now") > 0)
    volumes = (pl.col("volume_now") / pl.col("volume_before")).filter(traded).median()
    found = both.group_by("symbol").agg(
        bars=differs.sum(),
        compared=pl.len(),
        most=pl.col("off").max(),
        last=pl.col("off").last(),
        steps=steps.sum(),
        longest=pl.col("fall").filter(steps).max().fill_null(0.0),
        goes_one_way=(pl.col("risen") <= 2 * pl.col("rounding")).all() & (pl.col("off") >= -pl.col("rounding")).all(),
        has_same_volumes=((volumes - 1).abs() <= _VOLUME_WITHIN).fill_null(True),
    )
    # Dividends after the newest compared bar add up in the last difference. With fewer than two steps, it must be small
    # enough for a single dividend.
    is_small = (pl.col("longest") <= _MOST_AT_ONCE) & ((pl.col("steps") >= 2) | (pl.col("last") <= _MOST_AT_ONCE))
    return (
        found.filter(
            pl.col("bars") >= _FEWEST_BARS,
            pl.col("steps") <= (pl.col("compared") / _BARS_A_STEP).ceil(),
            "goes_one_way",
            "has_same_volumes",
            is_small,
        )
        .with_columns(most_pct=(1 - (-pl.col("most")).exp()) * 100)
        .select(list(DIFFERENCES_SCHEMA))
        .match_to_schema(DIFFERENCES_SCHEMA)
        .sort("symbol")
    )
