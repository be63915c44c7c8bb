"""Which validated bars of an answer are plausible, given what is stored around them. The judgement is in market."""

from dataclasses import dataclass
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

# A bar of another timeframe confirms a close when it is so near.
_AGREES_WITHIN = 1.1


@dataclass(frozen=True, slots=True)
class StoredBars:
    """Stored closes (STORED_CLOSE_SCHEMA): those in the span of the answer, and a few around it."""

    within: pl.DataFrame
    context: pl.DataFrame


def read_stored_bars(storing: Storing, accepted: pl.DataFrame) -> StoredBars:
    """What is stored in and around the spans of the `accepted` bars.

    The whole history has nothing around it, unless its level is in doubt: its vendor may serve less than is stored.
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
    return StoredBars(within, context)


@dataclass(frozen=True, slots=True)
class Screening:
    """Screened bars, and what it takes to screen them again: all of them, and those that are news for sure."""

    screened: Screened
    bars: pl.DataFrame
    news: pl.DataFrame


def screen(storing: Storing, validated: Validated, context: pl.DataFrame) -> Screening:
    """Screen the accepted bars; those that look wrong a second time, with what else is known about them."""
    bars = validated.accepted
    screened = screen_outliers(bars, context)
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
    again = screen_outliers(together, context, news)
    # Bars that were rejected before are of use when they are part of a new level; else they are rejected already.
    is_shifted = pl.col("symbol").is_in(again.shifts["symbol"].implode())
    bars = pl.concat([bars, remembered.filter(is_shifted)]).sort("symbol", "ts")
    return Screening(screen_outliers(bars, context, news), bars, news)


def _remembered(storing: Storing, far: pl.Series, bars: pl.DataFrame) -> pl.DataFrame:
    """Bars later than any stored one that were rejected as far off before, of symbols that are `far` off again."""
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
    """Which of the `odd` bars are news all the same: symbol, ts. Of each symbol the newest one is looked at."""
    newest = odd.sort("ts").group_by("symbol").last().sort("symbol")
    found = [newest.select("symbol", "ts").clear()]
    for other in FETCHED:
        # Of other timeframes there is not even a table.
        if other is storing.timeframe or not tables.has_part(storing.transaction, tables.BARS, other):
            continue
        starts = newest.select("symbol", from_ts="ts_end")
        closes = tables.read_before(storing.transaction, tables.BARS, other, starts, ("ts", "close"))
        agreeing = newest.join(closes.select("symbol", other_ts="ts", other="close"), on="symbol").filter(
            # A bar within the odd one, and not the day before.
            pl.col("other_ts") >= pl.col("ts"),
            pl.col("other_ts") + pl.lit(min(other.duration, timedelta(days=1))) <= pl.col("ts_end"),
            (pl.col("other") / pl.col("close")).is_between(1 / _AGREES_WITHIN, _AGREES_WITHIN),
        )
        found.append(agreeing.select("symbol", "ts"))
    if storing.answer.extent is Extent.WHOLE and storing.answer.suspects is not None:
        # The whole history was asked for because of this jump. When it is as it was, the jump was a move.
        jumps = newest.filter(pl.col("reason") == UNCONFIRMED).join(storing.answer.suspects, on="symbol", how="semi")
        found.append(jumps.select("symbol", "ts"))
    return pl.concat(found).unique()
