"""Repairs bars whose columns contradict each other if the meaning is clear, and rejects others. No I/O, no clock.

Averages and signals are computed from closes, so a close is never lost because of another column. Whether bars belong
to a session is decided in `validation`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import polars as pl

from ema_assets.model.schemas import PRICES

# The values of `bar_rejected.reason` in this module.
MISSING_VALUE = "missing value"
NOT_FINITE = "not a finite number"
NOT_POSITIVE = "price not above zero"
OUTSIDE_RANGE = "close outside low to high"
DUPLICATE = "duplicate ts"
# The values of `bar_flag.reason` in this module.
REPAIRED, NO_VOLUME = "repaired", "volume unknown"
NOTES = (REPAIRED, NO_VOLUME)

# Vendors compute adjusted prices in floating point, so smaller differences do not count.
_ROUNDING = 1e-6
# Vendors also round the columns of a bar separately. Beyond this breach the close itself may be a bad tick.
_SMALL = 0.02


@dataclass(frozen=True, slots=True)
class Repaired:
    """Bars grouped by whether they can be bars.

    `sound` has the columns of the input, of which `volume` may be null, and a column per reason in NOTES: what was
    repaired, in words, or null. `rejected` has the columns of the input, and `reason`.
    """

    sound: pl.DataFrame
    rejected: pl.DataFrame


def repair(bars: pl.DataFrame) -> Repaired:
    """Repair `bars`: BAR_SCHEMA plus `allow_negative`, true if the prices of the instrument may be zero or less.

    A bar needs a time and a close. A missing or impossible open, high or low is derived from the other prices. High and
    low are widened to an open or close outside them; rounding errors are not flagged. If the open and the close both
    lie more than 2 % outside, they replace high and low; a bar with only the close that far outside is rejected. An
    impossible volume becomes null. Of bars with the same symbol and ts the last one is kept, because a vendor's later
    row is its newer one.
    """
    columns, steps = bars.columns, _steps()
    checked = (
        bars.with_columns(pl.col(*PRICES, "volume").name.prefix("_"))
        .with_columns(steps.possible)
        .with_columns(steps.unswapped)
        .with_columns(steps.reason)
    )
    is_last = pl.int_range(pl.len()).over("symbol", "ts") == pl.len().over("symbol", "ts") - 1
    sound = checked.filter(pl.col("reason").is_null()).with_columns(reason=_reason(~is_last, DUPLICATE))
    rejected = pl.concat([checked.filter(pl.col("reason").is_not_null()), sound.filter(pl.col("reason").is_not_null())])
    sound = sound.filter(pl.col("reason").is_null()).with_columns(steps.widened)
    return Repaired(
        sound=sound.select(*columns, *steps.notes),
        rejected=rejected.with_columns(steps.as_sent).select(*columns, "reason"),
    )


class _Steps(NamedTuple):
    """The steps of `repair`, in order. The columns as they were sent are kept under names that begin with `_`."""

    possible: Sequence[pl.Expr]
    unswapped: Sequence[pl.Expr]
    reason: pl.Expr
    widened: Sequence[pl.Expr]
    notes: Sequence[pl.Expr]
    as_sent: Sequence[pl.Expr]


@cache
def _steps() -> _Steps:
    """Return the steps, which are built once: building 200 expressions takes longer than repairing a few bars."""
    low, high = pl.col("low"), pl.col("high")
    breach = _breach("close")
    both_outside = (breach > _SMALL) & (_breach("open") > _SMALL)
    # High and low are ignored if they fit neither the open nor the close.
    usable = ~both_outside
    return _Steps(
        possible=_possible_prices(),
        # If high and low were swapped, the larger one is the high.
        unswapped=[pl.min_horizontal(low, high).alias("low"), pl.max_horizontal(low, high).alias("high")],
        reason=pl.coalesce(
            _reason(pl.col("ts").is_null() | pl.col("close").is_null(), MISSING_VALUE),
            _reason(~pl.col("close").is_finite(), NOT_FINITE),
            _reason((pl.col("close") <= 0) & ~pl.col("allow_negative"), NOT_POSITIVE),
            _reason((breach > _SMALL) & ~both_outside, OUTSIDE_RANGE),
        ).alias("reason"),
        widened=[
            pl.min_horizontal("open", "close", pl.when(usable).then(low)).alias("low"),
            pl.max_horizontal("open", "close", pl.when(usable).then(high)).alias("high"),
        ],
        notes=_notes(),
        as_sent=[pl.col(f"_{name}").alias(name) for name in (*PRICES, "volume")],
    )


def _reason(condition: pl.Expr, reason: str) -> pl.Expr:
    return pl.when(condition).then(pl.lit(reason))


def _possible_prices() -> Sequence[pl.Expr]:
    """Return open, high, low and volume with impossible values replaced."""

    def possible(name: str) -> pl.Expr:
        can_be = pl.col(name).is_finite() & ((pl.col(name) > 0) | pl.col("allow_negative"))
        return pl.when(can_be).then(name)

    volume = pl.when(pl.col("volume").is_finite() & (pl.col("volume") >= 0)).then("volume")
    return [
        pl.coalesce(possible("open"), "close").alias("open"),
        pl.coalesce(possible("high"), pl.max_horizontal(possible("open"), possible("low"), "close")).alias("high"),
        pl.coalesce(possible("low"), pl.min_horizontal(possible("open"), possible("high"), "close")).alias("low"),
        volume.alias("volume"),
    ]


def _breach(name: str) -> pl.Expr:
    """Return how far the price lies outside low to high, as a share of the largest of the three sizes; 0 within."""
    value, low, high = pl.col(name), pl.col("low"), pl.col("high")
    outside = pl.max_horizontal(low - value, value - high, pl.lit(0.0))
    return outside / pl.max_horizontal(value.abs(), low.abs(), high.abs(), pl.lit(1e-300))


def _notes() -> list[pl.Expr]:
    """Return the columns NOTES, from the values that were sent and the repaired ones."""
    prices = pl.concat_str([_described(name) for name in PRICES if name != "close"], separator=", ", ignore_nulls=True)
    sent = pl.format("the source sent the volume {}", pl.col("_volume").cast(pl.String))
    return [
        pl.when(prices != "").then(prices).alias(REPAIRED),
        pl.when(pl.col("_volume").is_not_null() & pl.col("volume").is_null()).then(sent).alias(NO_VOLUME),
    ]


def _described(name: str) -> pl.Expr:
    sent, now = pl.col(f"_{name}"), pl.col(name)
    is_rounding = ((sent - now).abs() <= _ROUNDING * now.abs()).fill_null(False)
    told = pl.format(f"{name} {{}} became {{}}", sent.cast(pl.String).fill_null("(none)"), now.cast(pl.String))
    return pl.when(~is_rounding).then(told)
