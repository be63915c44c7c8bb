"""Which sound bars cannot be true, and which only look suspicious. No I/O and no clock.

A price that is a hundred times off is a vendor's mix-up of pence and pounds, and one bar far away from both its
neighbours is a bad tick: both are rejected. Any other jump may be news, so it is kept and flagged.
"""

import math
from dataclasses import dataclass

import polars as pl

from ema_assets.domain.splits import describe_ratio

# What `bar_rejected.reason`, the reason of a put-aside bar, and `bar_flag.reason` may say here.
UNIT_ERROR = "100 times off the bars around it"
BAD_TICK = "single bad tick"
UNCONFIRMED = "jump not confirmed by a next bar yet"
JUMP, WICK = "jump", "wick"

# How many stored bars the caller should give as context.
CONTEXT_BARS = 12

# Pence for pounds is a factor of 100; the market itself moves a little between the two bars compared.
_UNIT_LOW, _UNIT_HIGH = 75.0, 133.0
# A bar this many times away from its neighbours, which agree within the second figure or within a quarter of its
# distance (both in logarithms), is a bad tick.
_TICK_FACTOR, _AGREEMENT, _AGREEMENT_SHARE = 3.0, 1.5, 0.25
# A move is suspicious when it is ten times the typical recent one, and ten percent at the least; half as much again
# when nothing is known of the series yet.
_TYPICAL_MOVES, _LEAST_MOVE, _LEAST_MOVE_OF_THE_UNKNOWN = 10.0, math.log(1.10), math.log(1.5)
_LEAST_HISTORY = 5
# The median of absolute normal deviations is 0.6745 standard deviations.
_SIGMA_OF_MEDIAN = 1.4826


@dataclass(frozen=True, slots=True)
class Judged:
    """Bars sorted by plausibility, all with the columns that came in.

    `rejected` and `held` have a `reason`; `held` are newest bars whose jump no later bar confirms or refutes yet.
    `flags` has symbol, timeframe, ts, reason and detail of bars that are in `kept`.
    """

    kept: pl.DataFrame
    rejected: pl.DataFrame
    held: pl.DataFrame
    flags: pl.DataFrame


def judge(bars: pl.DataFrame, context: pl.DataFrame) -> Judged:
    """Sort sound `bars` (BAR_SCHEMA and whatever else, one timeframe, sorted by symbol and ts) by plausibility.

    `context` has symbol, ts and close of the last few stored bars before each symbol's first bar here, about
    CONTEXT_BARS of them; a symbol without any is judged by its own bars. Stored bars are taken to be right.
    """
    columns = bars.columns
    stacked = pl.concat(
        [
            context.select("symbol", "ts", "close", _is_context=pl.lit(True)),
            bars.with_columns(_is_context=pl.lit(False)),
        ],
        how="diagonal",
    ).sort("symbol", "ts")
    off = _unit_errors(stacked)
    rejected = [stacked.filter(off).with_columns(reason=pl.lit(UNIT_ERROR))]
    stacked = stacked.filter(~off)

    before = pl.col("close") / pl.col("close").shift(1).over("symbol")
    after = pl.col("close") / pl.col("close").shift(-1).over("symbol")
    # The further away a bar is, the less its neighbours need to agree for it to be the odd one out.
    apart, away = (before / after).log().abs(), pl.min_horizontal(before.log().abs(), after.log().abs())
    around = apart <= pl.max_horizontal(pl.lit(math.log(_AGREEMENT)), away * _AGREEMENT_SHARE)
    far = (before > _TICK_FACTOR) | (before < 1 / _TICK_FACTOR)
    far_after = ((before > 1) & (after > _TICK_FACTOR)) | ((before < 1) & (after < 1 / _TICK_FACTOR))
    stacked = stacked.with_columns(
        _tick=(~pl.col("_is_context") & far & far_after & around).fill_null(False),
        _newest=(~pl.col("_is_context") & far & after.is_null()).fill_null(False),
    )
    rejected.append(stacked.filter("_tick").with_columns(reason=pl.lit(BAD_TICK)))
    held = stacked.filter("_newest").with_columns(reason=pl.lit(UNCONFIRMED))
    stacked = stacked.filter(~pl.col("_tick") & ~pl.col("_newest"))
    return Judged(
        kept=stacked.filter(~pl.col("_is_context")).select(columns),
        rejected=pl.concat(rejected, how="diagonal").select(*columns, "reason"),
        held=held.select(*columns, "reason"),
        flags=_flags(stacked),
    )


def _is_unit_ratio(ratio: pl.Expr) -> pl.Expr:
    return ratio.is_between(_UNIT_LOW, _UNIT_HIGH) | (1 / ratio).is_between(_UNIT_LOW, _UNIT_HIGH)


def _unit_errors(stacked: pl.DataFrame) -> pl.Series:
    """True for bars in another unit than the rest of their series.

    Each step of about 100 between two closes moves the following bars to another level of unit. The right level is
    that of the context, or without one that of most bars.
    """
    ratio = pl.col("close") / pl.col("close").shift(1).over("symbol")
    mixed = pl.any_horizontal(_is_unit_ratio(pl.col(name) / pl.col("close")) for name in ("open", "high", "low"))
    steps = stacked.with_columns(
        _step=pl.when(_is_unit_ratio(ratio)).then(pl.when(ratio > 1).then(1).otherwise(-1)).otherwise(0).fill_null(0),
        _mixed=mixed.fill_null(False),
    )
    if not steps.select((pl.col("_step") != 0).any()).item():
        return steps["_mixed"]
    levels = steps.with_columns(_level=pl.col("_step").cum_sum().over("symbol"))
    # Of levels with equally many bars the later one wins, as a vendor's mistakes are mended with time.
    common = (
        levels.group_by("symbol", "_level")
        .agg(bars=pl.len(), latest=pl.col("ts").max())
        .sort("symbol", "bars", "latest")
        .group_by("symbol", maintain_order=True)
        .agg(_most=pl.col("_level").last())
    )
    known = levels.filter("_is_context").group_by("symbol", maintain_order=True).agg(_known=pl.col("_level").last())
    judged = levels.join(common, on="symbol", how="left", maintain_order="left").join(
        known, on="symbol", how="left", maintain_order="left"
    )
    off = ~pl.col("_is_context") & (pl.col("_level") != pl.coalesce("_known", "_most"))
    return judged.select(_off=off | pl.col("_mixed"))["_off"]


def _flags(stacked: pl.DataFrame) -> pl.DataFrame:
    move = (pl.col("close") / pl.col("close").shift(1).over("symbol")).log()
    measured = stacked.with_columns(_move=move).with_columns(
        # The stored bars before, or at the start of a series the bars after, say what is typical.
        _typical=pl.col("_move")
        .abs()
        .rolling_median(20, min_samples=_LEAST_HISTORY)
        .shift(1)
        .backward_fill(_LEAST_HISTORY + 1)
        .over("symbol")
    )
    limit = (
        pl.when(pl.col("_typical").is_null())
        .then(pl.lit(_LEAST_MOVE_OF_THE_UNKNOWN))
        .otherwise(pl.max_horizontal(_TYPICAL_MOVES * _SIGMA_OF_MEDIAN * pl.col("_typical"), pl.lit(_LEAST_MOVE)))
    )
    wick = pl.max_horizontal(
        pl.col("high") / pl.max_horizontal("open", "close"), pl.min_horizontal("open", "close") / pl.col("low")
    )
    fresh = measured.filter(~pl.col("_is_context")).with_columns(_wick=wick)
    previous = pl.col("close") / pl.col("_move").exp()
    jumps = fresh.filter(pl.col("_move").abs() > limit).select(
        "symbol",
        "timeframe",
        "ts",
        reason=pl.lit(JUMP),
        detail=pl.format(
            "close {} after {}{}", _shown(pl.col("close")), _shown(previous), describe_ratio(pl.col("_move").exp())
        ),
    )
    wicks = fresh.filter(pl.col("_wick").log() > limit).select(
        "symbol",
        "timeframe",
        "ts",
        reason=pl.lit(WICK),
        detail=pl.format(
            "low {} and high {} around open {} and close {}",
            *(_shown(pl.col(name)) for name in ("low", "high", "open", "close")),
        ),
    )
    return pl.concat([jumps, wicks])


def _shown(price: pl.Expr) -> pl.Expr:
    # Six figures, and without the digits that a float64 shows beyond them.
    return price.round_sig_figs(6).cast(pl.Float32)
