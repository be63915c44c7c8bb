"""Bars to EMA columns. No I/O; which rows are read and written is decided in store/ and defs/."""

import polars as pl

from ema_assets.keys import SEEDS

FAST_SPAN = 9
SLOW_SPAN = 30
SPANS = (FAST_SPAN, SLOW_SPAN)
FAST, SLOW = (f"ema_{span}" for span in SPANS)

# The seed of the slow EMA weighs less than 1e-6 after this many bars: the least n with (1 - 2/31)^n < 1e-6 is 208.
CONVERGED_AFTER_BARS = 208

CODE_VERSION = "1"

# How the recurrence starts: at the n-th bar from the mean of the first n closes, or at the first bar from its close.
SMA_SEED, FIRST_SEED = SEEDS


def code_version(seed: str) -> str:
    """The version of the code with `seed`: another seed makes other rows, so all are computed again."""
    return CODE_VERSION if seed == SMA_SEED else f"{CODE_VERSION} seed={seed}"


def ema_signals(bars: pl.DataFrame, carried: pl.DataFrame, seed: str = SMA_SEED) -> pl.DataFrame:
    """Exponential moving averages of the close, for all symbols at once.

    EMA of span n: alpha = 2/(n+1), EMA_t = alpha·close_t + (1-alpha)·EMA_(t-1), in float64.

    With the seed `sma` the first value stands at the n-th bar and is the plain mean of the first n closes; before it
    the column is null. This is what TA-Lib's EMA and most charting packages draw (TA-Lib, `ta_EMA.c`, compatibility
    mode default). With `first` it stands at the first bar and is its close, as `ewm(span=n, adjust=False)` of pandas
    has it; there is no null. The two agree to 1e-6 after about 62 bars for span 9 and 208 for span 30: docs/SIGNALS.md.

    Args:
        bars: symbol, ts, close; sorted by symbol and ts.
        carried: symbol, ema_9, ema_30, bar_number of the row just before the symbol's first bar here. A symbol that
            is absent starts from nothing; one that is present must have no null.
        seed: `sma` or `first`.

    Returns:
        symbol, ts, ema_9, ema_30, bar_number (1 for the first bar of the series), one row a bar, in the same order.
    """
    seeds = carried.select("symbol", *(pl.col(f"ema_{n}").alias(f"_x{n}") for n in SPANS), pl.col("bar_number"))
    numbered = bars.join(
        seeds.select("symbol", pl.col("bar_number").alias("_before")), on="symbol", how="left", maintain_order="left"
    ).with_columns(
        (pl.col("_before").fill_null(0) + pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("symbol")).alias(
            "bar_number"
        )
    )
    if seed not in SEEDS:
        raise ValueError(f"`seed` must be one of {', '.join(SEEDS)}, received {seed!r}")
    continued = pl.col("_before").is_not_null() | pl.lit(seed == FIRST_SEED)
    # A running sum gives the same bits however the bars are batched, which a mean over a group does not promise.
    running = pl.col("close").cum_sum().over("symbol")
    inputs = numbered.with_columns(
        pl.when(continued | (pl.col("bar_number") > n))
        .then(pl.col("close"))
        .when(pl.col("bar_number") == n)
        .then(running / n)
        .alias(f"_x{n}")
        for n in SPANS
    )
    stacked = pl.concat(
        [seeds, inputs.select("symbol", "ts", "bar_number", *(f"_x{n}" for n in SPANS))], how="diagonal"
    )
    return (
        # The carried row has no ts and so sorts first: it is the value the recurrence starts from.
        stacked.sort("symbol", "ts", nulls_last=False, maintain_order=True)
        .with_columns(
            pl.col(f"_x{n}")
            .ewm_mean(span=n, adjust=False, ignore_nulls=True, min_samples=1)
            .over("symbol")
            .alias(f"ema_{n}")
            for n in SPANS
        )
        .filter(pl.col("ts").is_not_null())
        .select("symbol", "ts", FAST, SLOW, "bar_number")
    )
