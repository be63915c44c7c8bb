"""Which sound bars cannot be true, and which only look suspicious. No I/O and no clock.

A price that is a hundred times off is a vendor's mix-up of pence and pounds, and one bar far away from both its
neighbours is a bad tick: both are rejected. Any other jump may be news, so it is kept and flagged.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from ema_assets.market.corporate_actions import describe_ratio

# What `bar_rejected.reason`, the reason of a skipped bar, and `bar_flag.reason` may say here.
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
class Screened:
    """Bars sorted by plausibility, all with the columns that came in.

    `rejected` and `unconfirmed` have a `reason`; `unconfirmed` are newest bars whose jump no later bar confirms or
    refutes yet. `flags` has symbol, timeframe, ts, reason and detail of bars that are in `kept`.
    """

    kept: pl.DataFrame
    rejected: pl.DataFrame
    unconfirmed: pl.DataFrame
    flags: pl.DataFrame


def screen_outliers(bars: pl.DataFrame, context: pl.DataFrame) -> Screened:
    """Sort sound `bars` (BAR_SCHEMA and whatever else, one timeframe, sorted by symbol and ts) by plausibility.

    `context` has symbol, ts and close of the last few stored bars before each symbol's first bar here, about
    CONTEXT_BARS of them; a symbol without any is screened by its own bars. Stored bars are taken to be right.
    """
    columns = bars.columns
    stacked = pl.concat(
        [
            context.select("symbol", "ts", "close", _is_context=pl.lit(True)),
            bars.with_columns(_is_context=pl.lit(False)),
        ],
        how="diagonal",
    ).sort("symbol", "ts")
    # A bar that is in two units at once needs no neighbour to be told.
    mixed = pl.any_horizontal(_is_unit_ratio(pl.col(name) / pl.col("close")) for name in ("open", "high", "low"))
    stacked = stacked.with_columns(
        reason=pl.when(mixed.fill_null(False)).then(pl.lit(UNIT_ERROR)).otherwise(pl.lit(None, pl.String))
    )
    off = stacked.filter(pl.col("reason").is_not_null())
    stacked = _among_neighbours(stacked.filter(pl.col("reason").is_null()))
    kept = stacked.filter(pl.col("reason").is_null())
    rejected = pl.concat([off, stacked.filter(pl.col("reason").is_in([UNIT_ERROR, BAD_TICK]))])
    return Screened(
        kept=kept.filter(~pl.col("_is_context")).select(columns),
        rejected=rejected.select(*columns, "reason"),
        unconfirmed=stacked.filter(pl.col("reason") == UNCONFIRMED).select(*columns, "reason"),
        flags=_flags(kept),
    )


def _is_unit_ratio(ratio: pl.Expr) -> pl.Expr:
    return ratio.is_between(_UNIT_LOW, _UNIT_HIGH) | (1 / ratio).is_between(_UNIT_LOW, _UNIT_HIGH)


def _among_neighbours(stacked: pl.DataFrame) -> pl.DataFrame:
    """`stacked` with the `reason` of bars that their neighbours contradict."""
    ratio = pl.col("close") / pl.col("close").shift(1).over("symbol")
    restless = stacked.filter((ratio > _TICK_FACTOR) | (1 / ratio > _TICK_FACTOR))["symbol"].unique()
    if restless.is_empty():
        return stacked
    # What is right of a bar depends on which bars before it were: only the few series with a jump are walked.
    is_restless = pl.col("symbol").is_in(restless.implode())
    walked = [
        series.with_columns(
            pl.Series("reason", _walk(series["close"].to_list(), series["_is_context"].to_list()), dtype=pl.String())
        )
        for series in stacked.filter(is_restless).partition_by("symbol")
    ]
    return pl.concat([stacked.filter(~is_restless), *walked]).sort("symbol", "ts")


def _walk(closes: Sequence[float], is_context: Sequence[bool]) -> list[str | None]:
    """What is wrong with each bar of one series: UNIT_ERROR, BAD_TICK, UNCONFIRMED, or None.

    Each bar is compared with the last one that was right and with the next one, so that a history gives the same
    bars in whatever portions it comes.
    """
    reasons = _walk_from(0, closes, is_context)
    off = [place for place, reason in enumerate(reasons) if reason == UNIT_ERROR]
    if is_context[0]:
        return reasons
    right = [place for place, reason in enumerate(reasons) if reason is None]
    if is_context[-1]:
        # Older bars than any that is stored: the stored one tells the unit.
        is_wrong = _is_unit_step(closes[-1], closes[right[-2]])
        off.append(len(closes) - 1)
    else:
        # Of two units with equally many bars the later one wins, as a vendor's mistakes are mended with time.
        is_wrong = (len(off), off[-1:]) > (len(right), right[-1:])
    if not is_wrong:
        return reasons
    return [UNIT_ERROR] * off[0] + _walk_from(off[0], closes, is_context)


def _walk_from(first: int, closes: Sequence[float], is_context: Sequence[bool]) -> list[str | None]:
    """The reasons of the bars from `first` on, which is taken to be right."""
    reasons: list[str | None] = []
    last = closes[first]
    for place in range(first, len(closes)):
        reason = None
        if not is_context[place]:
            reason = _reason_of(closes, place, last)
        reasons.append(reason)
        if reason is None:
            last = closes[place]
    return reasons


def _reason_of(closes: Sequence[float], place: int, last: float) -> str | None:
    close = closes[place]
    if _is_unit_step(close, last):
        return UNIT_ERROR
    before = math.log(close / last)
    if abs(before) <= math.log(_TICK_FACTOR):
        return None
    later = (closes[each] for each in range(place + 1, len(closes)))
    following = next((each for each in later if not _is_unit_step(each, last)), None)
    if following is None:
        return UNCONFIRMED
    after = math.log(close / following)
    # The further away a bar is, the less its neighbours need to agree for it to be the odd one out.
    allowed = max(math.log(_AGREEMENT), min(abs(before), abs(after)) * _AGREEMENT_SHARE)
    is_back = before * after > 0 and abs(after) > math.log(_TICK_FACTOR)
    return BAD_TICK if is_back and abs(before - after) <= allowed else None


def _is_unit_step(one: float, other: float) -> bool:
    return _UNIT_LOW <= max(one / other, other / one) <= _UNIT_HIGH


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
