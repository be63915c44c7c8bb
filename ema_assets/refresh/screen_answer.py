"""Screens the validated bars of an answer against the stored bars around them. The rules are in market.outliers."""

from dataclasses import dataclass, replace
from datetime import timedelta

import polars as pl

from ema_assets.market.outliers import (
    BAD_TICK,
    CONTEXT_BARS,
    OFF_SCALE,
    UNCONFIRMED,
    UNIT_ERROR,
    Screened,
    screen_outliers,
)
from ema_assets.market.validation import Validated, validate
from ema_assets.model.schemas import BAR_SCHEMA, STORED_CLOSE_SCHEMA
from ema_assets.model.timeframes import FETCHED
from ema_assets.refresh.answers import Extent, Storing, spans_of
from ema_assets.store import quality, tables

# A bar of another timeframe confirms a close if their ratio is at most this.
_AGREES_WITHIN = 1.1


@dataclass(frozen=True, slots=True)
class StoredBars:
    """Stored closes (STORED_CLOSE_SCHEMA): `within` the span of the answer, and a few around it as `context`."""

    within: pl.DataFrame
    context: pl.DataFrame


def read_stored_bars(storing: Storing, accepted: pl.DataFrame, outside: pl.DataFrame) -> StoredBars:
    """Read the stored closes in and around the spans of the `accepted` bars, except for those `outside` the sessions.

    Around a whole history nothing is read, except for suspected series: their vendor may serve less than is stored.
    """
    known = storing.locked.filter(pl.col("last_ts").is_not_null())["symbol"]
    spans = spans_of(accepted).filter(pl.col("symbol").is_in(known.implode()))
    within = context = STORED_CLOSE_SCHEMA.to_frame()
    if spans.is_empty():
        return StoredBars(within, context)
    within = tables.closes_between(storing.transaction, storing.timeframe, spans)
    if storing.answer.extent is Extent.WHOLE:
        doubted = storing.answer.suspects
        spans = spans.clear() if doubted is None else spans.join(doubted, on="symbol", how="semi")
    if not spans.is_empty():
        context = tables.closes_around(storing.transaction, storing.timeframe, spans, CONTEXT_BARS)
    return StoredBars(*(each.join(outside, on=["symbol", "ts"], how="anti") for each in (within, context)))


@dataclass(frozen=True, slots=True)
class Screening:
    """Screened bars, and the input to screen them again: all `bars`, and bars whose jump is confirmed as `news`."""

    screened: Screened
    bars: pl.DataFrame
    news: pl.DataFrame


def screen(storing: Storing, validated: Validated, context: pl.DataFrame) -> Screening:
    """Screen the accepted bars; if some look wrong, screen again with everything else that is known about them."""
    bars = validated.accepted
    screened = _screened(storing, bars, context)
    news = bars.select("symbol", "ts").clear()
    far = screened.rejected.filter(pl.col("reason").is_in([UNIT_ERROR, OFF_SCALE]))["symbol"]
    far = pl.concat([far, screened.shifts["symbol"]]).unique().sort()
    odd = pl.concat([screened.unconfirmed, screened.rejected.filter(pl.col("reason") == BAD_TICK)])
    if far.is_empty() and odd.is_empty():
        return Screening(screened, bars, news)
    remembered = _remembered(storing, far, bars)
    if not odd.is_empty():
        news = _confirmed_elsewhere(storing, odd)
    if remembered.is_empty() and news.is_empty():
        return Screening(screened, bars, news)
    together = pl.concat([bars, remembered]).sort("symbol", "ts")
    again = _screened(storing, together, context, news)
    # Bars that were rejected earlier count only if they are part of a new level. Otherwise, they stay rejected.
    is_shifted = pl.col("symbol").is_in(again.shifts["symbol"].implode())
    bars = pl.concat([bars, remembered.filter(is_shifted)]).sort("symbol", "ts")
    return Screening(_screened(storing, bars, context, news), bars, news)


def _screened(
    storing: Storing, bars: pl.DataFrame, context: pl.DataFrame, news: pl.DataFrame | None = None
) -> Screened:
    """Screen `bars`, except those of series with prices of zero or less: all of these are kept.

    Outliers are recognised by ratios of prices, which are meaningless there.
    """
    is_free = pl.col("symbol").is_in(storing.through_zero(bars, context).implode())
    screened = screen_outliers(bars.filter(~is_free), context.filter(~is_free), news)
    free = bars.filter(is_free)
    if free.is_empty():
        return screened
    return replace(screened, kept=pl.concat([screened.kept, free]).sort("symbol", "ts"))


def _remembered(storing: Storing, far: pl.Series, bars: pl.DataFrame) -> pl.DataFrame:
    """Return bars after the last stored one that were rejected earlier, for symbols that are `far` off again.

    Only rejections for a unit error or another scale count.
    """
    since = (
        storing.locked.select("symbol", from_ts="last_ts").drop_nulls().filter(pl.col("symbol").is_in(far.implode()))
    )
    if since.is_empty():
        return bars.clear()
    rejected = quality.rejected_after(storing.transaction, storing.timeframe, since, [UNIT_ERROR, OFF_SCALE])
    rejected = rejected.select(list(BAR_SCHEMA)).join(bars, on=["symbol", "ts"], how="anti")
    if rejected.is_empty():
        return bars.clear()
    instruments = storing.instruments
    trading = storing.sessions_from(rejected["ts"].min(), instruments["calendar"])
    return validate(rejected, storing.timeframe, instruments, trading, storing.answer.closed_by).accepted


def _confirmed_elsewhere(storing: Storing, odd: pl.DataFrame) -> pl.DataFrame:
    """Return the `odd` bars that are true nevertheless: symbol, ts. Only the newest odd bar per symbol is tested."""
    newest = odd.sort("ts").group_by("symbol").last().sort("symbol")
    found = [newest.select("symbol", "ts").clear()]
    for other in FETCHED:
        # Timeframes that are not in use have no table.
        if other is storing.timeframe or not tables.has_part(storing.transaction, tables.BARS, other):
            continue
        starts = newest.select("symbol", from_ts="ts_end")
        closes = tables.read_before(storing.transaction, tables.BARS, other, starts, ("ts", "close"))
        agreeing = newest.join(closes.select("symbol", other_ts="ts", other="close"), on="symbol").filter(
            # The other bar must lie within the odd one, not on the day before.
            pl.col("other_ts") >= pl.col("ts"),
            pl.col("other_ts") + pl.lit(min(other.duration, timedelta(days=1))) <= pl.col("ts_end"),
            (pl.col("other") / pl.col("close")).is_between(1 / _AGREES_WITHIN, _AGREES_WITHIN),
        )
        found.append(agreeing.select("symbol", "ts"))
    if storing.answer.extent is Extent.WHOLE and storing.answer.suspects is not None:
        # The whole history was requested because of this jump. If the jump is still in it, it was a real move.
        jumps = newest.filter(pl.col("reason") == UNCONFIRMED).join(storing.answer.suspects, on="symbol", how="semi")
        found.append(jumps.select("symbol", "ts"))
    return pl.concat(found).unique()
