"""Has the vendor re-adjusted a series for a split? Told from bars that are stored and served again. No I/O.

After a split a vendor divides the whole history by its ratio, so that every bar served again differs from the stored
one by one constant factor. Storing only the new bars would leave a cliff in the series and a false trade.
"""

from fractions import Fraction

import polars as pl

# Shares after for shares before, as companies have split: forward, stock dividends, and the reverse of each. 100 for 1
# is left out on purpose: what looks like it is pence for pounds, and a company that does it can be fetched by hand.
_FORWARD = [Fraction(n) for n in (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 30, 40, 50)]
_SMALL = [Fraction(text) for text in ("3/2", "4/3", "5/2", "5/3", "5/4", "6/5", "7/2", "7/5", "8/5", "9/4", "11/10")]
_REVERSE_ONLY = [Fraction(1, n) for n in (35, 60)]
RATIOS = tuple(sorted([*_FORWARD, *_SMALL, *(1 / ratio for ratio in [*_FORWARD, *_SMALL]), *_REVERSE_ONLY]))

# A ratio is confirmed on this many bars at least, and on nearly all that are compared.
CONFIRMING_BARS = 3
CONFIRMING_SHARE = 0.98
# Vendors round adjusted prices, to cents as a rule: that much, relative and absolute, a ratio may be off.
_RELATIVE, _CENT, _MOST_OFF = 0.002, 0.01, 0.04

_TABLE = pl.DataFrame(
    {
        "ratio": [float(ratio) for ratio in RATIOS],
        "split": [f"{ratio.numerator}:{ratio.denominator}" for ratio in RATIOS],
    }
).sort("ratio")


def compare(stored: pl.DataFrame, served: pl.DataFrame, suspects: pl.DataFrame | None = None) -> pl.DataFrame:
    """How the served closes relate to the stored ones: one row per symbol that differs by the ratio of a split.

    Args:
        stored: symbol, ts, close as they are stored.
        served: symbol, ts, close as the vendor serves them now.
        suspects: symbol, ratio, split of symbols whose ratio is known already; for all others it is the one nearest
            to the median.

    Returns:
        symbol, ratio (stored close over served close, one of RATIOS), split (`7:1`: seven shares for one), bars (how
        many were compared), agreeing (how many of them differ by that ratio, at least one), last_ts (the newest of
        these), older (how many were compared up to last_ts).
    """
    both = (
        stored.select("symbol", "ts", before="close")
        .join(served.select("symbol", "ts", now="close"), on=["symbol", "ts"], how="inner")
        .with_columns(factor=pl.col("before") / pl.col("now"))
    )
    guessed = (
        both.group_by("symbol")
        .agg(middle=pl.col("factor").median())
        .sort("middle")
        .join_asof(_TABLE, left_on="middle", right_on="ratio", strategy="nearest", coalesce=False)
        .select("symbol", "ratio", "split")
    )
    if suspects is not None:
        guessed = pl.concat(
            [guessed.join(suspects, on="symbol", how="anti"), suspects.select("symbol", "ratio", "split")]
        )
    # Prices are rounded after the division: a cent weighs more on the smaller of the two.
    allowed = pl.col("ratio") * (_RELATIVE + _CENT / pl.min_horizontal("before", "now")).clip(upper_bound=_MOST_OFF)
    agrees = (pl.col("factor") - pl.col("ratio")).abs() <= allowed
    return (
        both.join(guessed, on="symbol")
        .with_columns(agrees=agrees)
        .with_columns(newest=pl.col("ts").filter("agrees").max().over("symbol"))
        .group_by("symbol", "ratio", "split")
        .agg(
            bars=pl.len(),
            agreeing=pl.col("agrees").sum(),
            last_ts=pl.col("newest").first(),
            older=(pl.col("ts") <= pl.col("newest")).sum(),
        )
        .filter(pl.col("agreeing") > 0)
        .sort("symbol")
    )


def suspected(compared: pl.DataFrame) -> pl.DataFrame:
    """Those rows of `compare` in which every bar differs by the ratio: reason to look at the whole history."""
    return compared.filter(pl.col("agreeing") == pl.col("bars"))


_IS_CONFIRMED = (pl.col("agreeing") >= CONFIRMING_BARS) & (pl.col("agreeing") >= CONFIRMING_SHARE * pl.col("older"))


def confirmed(compared: pl.DataFrame) -> pl.DataFrame:
    """Those rows of `compare`, made of the whole history, that are a split.

    Newer bars may be stored on the new scale already; up to the newest one on the old scale, all must agree.
    """
    return compared.filter(_IS_CONFIRMED)


def half_done(compared: pl.DataFrame) -> pl.DataFrame:
    """Those rows of `compare`, made of the whole history, in which the vendor re-adjusted only a part of it."""
    return compared.filter((pl.col("agreeing") >= CONFIRMING_BARS) & ~_IS_CONFIRMED)


def describe_ratio(ratio: pl.Expr) -> pl.Expr:
    """Text to put behind a jump by `ratio` (close over previous close): names the split it looks like, or is empty."""
    text = pl.lit("")
    # Below 3:2 a jump is far more often news than a split.
    for forward in (Fraction(3, 2), *_FORWARD):
        for split in (forward, 1 / forward):
            near = (ratio * float(split) - 1).abs() <= 0.05
            named = pl.lit(f", like a split of {split.numerator}:{split.denominator} not adjusted for")
            text = pl.when(near).then(named).otherwise(text)
    return text
