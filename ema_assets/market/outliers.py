"""Screens sound bars: rejects those that cannot be true, and flags suspicious ones. No I/O and no clock.

A price that is off by a factor of 100 is a vendor's mix-up of pence and pounds, and a single bar far away from both its
neighbours is a bad tick: both are rejected. A level that is off by a factor of 100 and persists is a level shift: a
reverse split, or another currency. Any other jump may be news, so it is kept and flagged; with a high volume, even a
bar far away is news.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from statistics import median

import numpy as np
import polars as pl

from ema_assets.market.split_steps import describe_ratio
from ema_assets.model.schemas import FLAG_SCHEMA, UTC_TIME

# The reasons of this module: of `bar_rejected`, of a skipped bar, and of `bar_flag`.
UNIT_ERROR = "100 times off the bars around it"
OFF_SCALE = "more than 100 times off the bars around it"
BAD_TICK = "single bad tick"
UNCONFIRMED = "jump not confirmed by a next bar yet"
JUMP, WICK = "jump", "wick"

# The number of stored bars that the caller should pass as context.
CONTEXT_BARS = 12

# Pence for pounds is a factor of 100, and the market itself moves between the two compared bars.
_UNIT_LOW, _UNIT_HIGH = 75.0, 133.0
# A bar is a bad tick if it differs from both neighbours by more than the first factor, and these agree within the
# second factor or within a quarter of its distance (in logarithms).
_TICK_FACTOR, _AGREEMENT, _AGREEMENT_SHARE = 3.0, 1.5, 0.25
# A level shift is at least this many bars, up to the newest one, on a level that is at least _UNIT_LOW times away. This
# share of them, including the first and the last SHIFT_BARS, must be on that level.
SHIFT_BARS, _SHIFT_SHARE = 4, 0.9
# A bar far away is news if its volume is at least the first multiple of the usual volume, or the second one if it opens
# near the close of the bar before. The usual volume is the median of the bars before, of which at least the third
# number must be known.
_VOLUME_OF_NEWS, _VOLUME_OF_NEWS_IN_ONE_BAR, _LEAST_VOLUMES = 10.0, 3.0, 5
# A move is suspicious if it exceeds ten times the typical recent one and ten percent; for a series about which nothing
# is known yet, if it exceeds fifty percent.
_TYPICAL_MOVES, _LEAST_MOVE, _LEAST_MOVE_OF_THE_UNKNOWN = 10.0, math.log(1.10), math.log(1.5)
_LEAST_HISTORY = 5
# The median of absolute normal deviations is 0.6745 standard deviations.
_SIGMA_OF_MEDIAN = 1.4826


@dataclass(frozen=True, slots=True)
class Screened:
    """Bars grouped by plausibility; bars have the columns of the input.

    Attributes:
        kept: bars that are to be stored.
        rejected: bars that cannot be true, with a `reason`.
        unconfirmed: newest bars whose jump no later bar confirms or refutes yet, with a `reason`.
        flags: symbol, timeframe, ts, reason, detail of suspicious bars in `kept` and `after`.
        after: symbol, ts, reason of stored bars that follow a bar in `kept`, and for which was checked again whether
            they jump.
        shifts: level shifts, at most one per symbol, the last: symbol, ratio (price before over price after, roughly),
            first_ts (the first bar on the new level, which is in `kept`).
    """

    kept: pl.DataFrame
    rejected: pl.DataFrame
    unconfirmed: pl.DataFrame
    flags: pl.DataFrame
    after: pl.DataFrame
    shifts: pl.DataFrame


SHIFT_SCHEMA = pl.Schema({"symbol": pl.String(), "ratio": pl.Float64(), "first_ts": UTC_TIME})


def screen_outliers(bars: pl.DataFrame, context: pl.DataFrame, confirmed: pl.DataFrame | None = None) -> Screened:
    """Group sound `bars` (BAR_SCHEMA and more columns, one timeframe, sorted by symbol and ts) by plausibility.

    `context` has symbol, ts, close and volume of the last stored bars before each symbol's first bar here, about
    CONTEXT_BARS of them, and of the one after its last. A symbol without context is screened by its own bars. Stored
    bars are assumed to be right. `confirmed` (symbol, ts) are bars that other evidence shows to be true, however far
    away they are.
    """
    columns = bars.columns
    stacked = pl.concat(
        [
            context.select("symbol", "ts", "close", "volume", _is_context=pl.lit(True)),
            bars.with_columns(_is_context=pl.lit(False)),
        ],
        how="diagonal",
    ).sort("symbol", "ts")
    is_news = pl.lit(False)
    if confirmed is not None and not confirmed.is_empty():
        sure = confirmed.select("symbol", "ts", _is_sure=pl.lit(True))
        stacked = stacked.join(sure, on=["symbol", "ts"], how="left", maintain_order="left")
        is_news = pl.col("_is_sure").fill_null(False)
    stacked = stacked.with_columns(_is_news=is_news, reason=_reason_of_mixed())
    off = stacked.filter(pl.col("reason").is_not_null())
    stacked, shifts = _among_neighbours(stacked.filter(pl.col("reason").is_null()))
    follows_ours = pl.col("_is_context") & ~pl.col("_is_context").shift(1, fill_value=True).over("symbol")
    kept = stacked.filter(pl.col("reason").is_null()).with_columns(_is_after=follows_ours)
    rejected = pl.concat([off, stacked.filter(pl.col("reason").is_in([UNIT_ERROR, OFF_SCALE, BAD_TICK]))])
    return Screened(
        kept=kept.filter(~pl.col("_is_context")).select(columns),
        rejected=rejected.select(*columns, "reason"),
        unconfirmed=stacked.filter(pl.col("reason") == UNCONFIRMED).select(*columns, "reason"),
        flags=_flags(kept),
        after=kept.filter("_is_after").select("symbol", "ts", reason=pl.lit(JUMP)),
        shifts=shifts,
    )


@cache
def _reason_of_mixed() -> pl.Expr:
    """Return the reason UNIT_ERROR for bars with prices in two units, which need no comparison with neighbours."""
    mixed = pl.any_horizontal(_is_unit_ratio(pl.col(name) / pl.col("close")) for name in ("open", "high", "low"))
    return pl.when(mixed.fill_null(False)).then(pl.lit(UNIT_ERROR)).otherwise(pl.lit(None, pl.String))


def _is_unit_ratio(ratio: pl.Expr) -> pl.Expr:
    return ratio.is_between(_UNIT_LOW, _UNIT_HIGH) | (1 / ratio).is_between(_UNIT_LOW, _UNIT_HIGH)


def _among_neighbours(stacked: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return `stacked` with the `reason` of bars that their neighbours contradict, and level shifts (SHIFT_SCHEMA)."""
    ratio = pl.col("close") / pl.col("close").shift(1).over("symbol")
    restless = stacked.filter((ratio > _TICK_FACTOR) | (1 / ratio > _TICK_FACTOR))["symbol"].unique()
    if restless.is_empty():
        return stacked, SHIFT_SCHEMA.to_frame()
    # Whether a bar is right depends on which earlier bars were, so bars are visited one by one, but only in the few
    # series with a jump.
    is_restless = pl.col("symbol").is_in(restless.implode())
    parts, shifts = [stacked.filter(~is_restless)], []
    for series in stacked.filter(is_restless).partition_by("symbol"):
        closes, opens, volumes = (series[name].to_list() for name in ("close", "open", "volume"))
        walk = _Walk(closes, opens, volumes, series["_is_context"].to_list(), series["_is_news"].to_list())
        parts.append(series.with_columns(pl.Series("reason", walk.reasons(), dtype=pl.String())))
        if walk.shift is not None:
            place, ratio_of_shift = walk.shift
            shifts.append((series["symbol"][0], ratio_of_shift, series["ts"][place]))
    return pl.concat(parts).sort("symbol", "ts"), pl.DataFrame(shifts, schema=SHIFT_SCHEMA, orient="row")


@dataclass(slots=True)
class _Walk:
    """A walk through one series. Afterwards `shift` is where a new level begins, and price before over after."""

    closes: Sequence[float]
    opens: Sequence[float | None]
    volumes: Sequence[float | None]
    is_context: Sequence[bool]
    is_news: Sequence[bool]
    shift: tuple[int, float] | None = None
    # The place of the last stored bar.
    last_context: int = -1
    # The last arguments of `_away_from`, and its result.
    counted: tuple[float, bool, Sequence[int]] | None = None

    def reasons(self) -> list[str | None]:
        """Return what is wrong with each bar: UNIT_ERROR, OFF_SCALE, BAD_TICK, UNCONFIRMED, or None.

        Each bar is compared with the last right one and with the next one, so that a history yields the same bars in
        whatever portions it is received.
        """
        self.last_context = max((place for place, is_stored in enumerate(self.is_context) if is_stored), default=-1)
        reasons = self._from(0)
        off = [place for place, reason in enumerate(reasons) if reason in (UNIT_ERROR, OFF_SCALE)]
        if self.is_context[0]:
            return reasons
        right = [place for place, reason in enumerate(reasons) if reason is None]
        if self.is_context[-1]:
            # The bars are older than all stored ones: the stored bar determines the unit.
            is_wrong = _is_off_scale(self.closes[-1], self.closes[right[-2]])
            off.append(len(self.closes) - 1)
        else:
            # Of two units with equally many bars the later one wins, because vendors correct mistakes with time.
            is_wrong = self.shift is None and (len(off), off[-1:]) > (len(right), right[-1:])
        if not is_wrong:
            return reasons
        self.shift = None
        return [UNIT_ERROR] * off[0] + self._from(off[0])

    def _from(self, first: int) -> list[str | None]:
        """Return the reasons of the bars from `first` on; the first bar is assumed to be right."""
        reasons: list[str | None] = []
        last, right = self.closes[first], 0
        usual: list[float] = []
        for place in range(first, len(self.closes)):
            reason = None
            if not self.is_context[place]:
                reason = self._reason_of(place, last, usual)
                if reason in (UNIT_ERROR, OFF_SCALE) and self._persists(place, last, right):
                    self.shift, reason = (place, last / self.closes[place]), None
            reasons.append(reason)
            if reason is None:
                last = self.closes[place]
                right += SHIFT_BARS if self.is_context[place] else 1
                usual = [*usual[1 - CONTEXT_BARS :], self.volumes[place] or 0.0]
        return reasons

    def _reason_of(self, place: int, last: float, usual: Sequence[float]) -> str | None:
        close = self.closes[place]
        if self.is_news[place]:
            return None
        if _is_off_scale(close, last):
            return UNIT_ERROR if max(close / last, last / close) <= _UNIT_HIGH else OFF_SCALE
        before = math.log(close / last)
        if abs(before) <= math.log(_TICK_FACTOR) or self._is_traded(place, last, usual):
            return None
        later = (self.closes[each] for each in range(place + 1, len(self.closes)))
        following = next((each for each in later if not _is_off_scale(each, last)), None)
        if following is None:
            return UNCONFIRMED
        after = math.log(close / following)
        # The further away a bar is, the less its neighbours need to agree.
        allowed = max(math.log(_AGREEMENT), min(abs(before), abs(after)) * _AGREEMENT_SHARE)
        is_back = before * after > 0 and abs(after) > math.log(_TICK_FACTOR)
        return BAD_TICK if is_back and abs(before - after) <= allowed else None

    def _is_traded(self, place: int, last: float, usual: Sequence[float]) -> bool:
        """Return whether the volume is so high that the bar is news and not a bad tick."""
        if len(usual) < _LEAST_VOLUMES or (typical := median(usual)) <= 0:
            return False
        opened = self.opens[place]
        is_continuous = opened is not None and max(opened / last, last / opened) <= _AGREEMENT
        needed = _VOLUME_OF_NEWS_IN_ONE_BAR if is_continuous else _VOLUME_OF_NEWS
        return (self.volumes[place] or 0.0) >= needed * typical

    def _persists(self, place: int, last: float, right: int) -> bool:
        """Return whether the bars from `place` on stay away from the level of `last`, up to the newest known bar.

        Without stored bars and with fewer than SHIFT_BARS `right` ones before, it is unclear which level is new.
        """
        if len(self.closes) - place < SHIFT_BARS or right < SHIFT_BARS or place < self.last_context:
            return False
        is_up = self.closes[place] > last
        ends = (self.closes[place : place + SHIFT_BARS], self.closes[-SHIFT_BARS:])
        if not all(_is_one_level(end, last, is_up) for end in ends):
            return False
        return self._away_from(last, is_up)[place] >= _SHIFT_SHARE * (len(self.closes) - place)

    def _away_from(self, last: float, is_up: bool) -> Sequence[int]:
        """Return for each place how many bars from there on are away from the level of `last`.

        The result is cached, because it is needed at one bar after the other, and a file may have years of bars.
        """
        if self.counted is None or self.counted[:2] != (last, is_up):
            closes = np.asarray(self.closes)
            away = (closes / last if is_up else last / closes) > _TICK_FACTOR
            self.counted = (last, is_up, np.cumsum(away[::-1])[::-1].tolist())
        return self.counted[2]


def _is_away(close: float, last: float, is_up: bool) -> bool:
    return (close / last if is_up else last / close) > _TICK_FACTOR


def _is_one_level(run: Sequence[float], last: float, is_up: bool) -> bool:
    steps = pairwise(run)
    return all(_is_away(close, last, is_up) for close in run) and all(
        max(one / other, other / one) <= _TICK_FACTOR for one, other in steps
    )


def _is_off_scale(one: float, other: float) -> bool:
    return max(one / other, other / one) >= _UNIT_LOW


def _flags(stacked: pl.DataFrame) -> pl.DataFrame:
    move, typical, is_jump, is_wick = _measures()
    measured = stacked.with_columns(_move=move).with_columns(_typical=typical)
    # Stored bars have only closes here. Their timeframe is the same as that of all bars.
    fresh = measured.filter(~pl.col("_is_context") | pl.col("_is_after")).with_columns(
        pl.col("timeframe").forward_fill(), _is_jump=is_jump, _is_wick=is_wick
    )
    flags = [
        fresh.filter(is_odd).select("symbol", "timeframe", "ts", reason=pl.lit(reason), detail=said())
        for is_odd, reason, said in (("_is_jump", JUMP, _said_of_jump), ("_is_wick", WICK, _said_of_wick))
        # Hardly any bar is odd, and the text of a flag takes a hundred expressions.
        if fresh[is_odd].any()
    ]
    return pl.concat([FLAG_SCHEMA.to_frame(), *flags])


@cache
def _measures() -> Sequence[pl.Expr]:
    """Return the expressions of `_move`, of `_typical`, of whether a bar is a jump, and of whether it is a wick."""
    move = (pl.col("close") / pl.col("close").shift(1).over("symbol")).log()
    # The bars before, or at the start of a series the bars after, determine what is typical.
    typical = (
        pl.col("_move")
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
    return move, typical, pl.col("_move").abs() > limit, wick.log() > limit


@cache
def _said_of_jump() -> pl.Expr:
    ratio = pl.col("_move").exp()
    previous = pl.col("close") / ratio
    # A split is there at the open. The move of its day may hide it in the close. Stored bars have only closes here.
    at_open = describe_ratio(pl.col("open") / previous)
    split = pl.when(at_open != "").then(at_open).otherwise(describe_ratio(ratio))
    return pl.format("close {} after {}{}", _shown(pl.col("close")), _shown(previous), split)


@cache
def _said_of_wick() -> pl.Expr:
    return pl.format(
        "low {} and high {} around open {} and close {}",
        *(_shown(pl.col(name)) for name in ("low", "high", "open", "close")),
    )


def _shown(price: pl.Expr) -> pl.Expr:
    # Six figures, without the further digits of a float64.
    return price.round_sig_figs(6).cast(pl.Float32)
