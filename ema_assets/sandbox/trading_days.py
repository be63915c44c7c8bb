"""The trading days of a calendar as cached arrays of seconds, shared by all markets."""

import threading
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from ema_assets.market.calendars import segments
from ema_assets.market.exchanges import exchange_sessions, zone_of
from ema_assets.model.errors import ConfigurationError
from ema_assets.model.symbols import ALWAYS_OPEN
from ema_assets.sandbox.synthetic_bars import STEP_SECONDS, Ints

# There are no bars before these days. Forty years of sessions fill one page of 10,000 daily bars.
STOCK_HISTORY_START = date(1984, 1, 1)
CRYPTO_HISTORY_START = date(2012, 1, 1)


@dataclass(frozen=True, slots=True)
class TradingDays:
    """Trading days of one calendar, ascending. Day `i` has the segments `first_segment[i]:first_segment[i + 1]`.

    `midnight` is that of the exchange, and `number` counts the days since 1970.
    """

    covered_until: int
    day_open: Ints
    day_close: Ints
    midnight: Ints
    number: Ints
    first_segment: Ints
    segment_open: Ints
    segment_close: Ints
    steps_per_day: int


# By calendar. They are the same for every market, and building them takes half a second.
_known_days: dict[str, TradingDays] = {}
_days_lock = threading.Lock()


def trading_days(calendar: str, now: int) -> TradingDays:
    """Return the trading days of `calendar` until some time after `now`."""
    with _days_lock:
        known = _known_days.get(calendar)
        if known is None or known.covered_until <= now:
            known = _known_days[calendar] = _build(calendar, now)
        return known


def _build(calendar: str, now: int) -> TradingDays:
    today = datetime.fromtimestamp(now, UTC).date()
    oldest = CRYPTO_HISTORY_START if calendar == ALWAYS_OPEN else STOCK_HISTORY_START
    next_year = date(today.year + 1, 12, 31)
    soon = today + timedelta(days=3)
    # Some calendars cover only some years, and exchange_calendars refuses a range beyond them.
    for first, until in ((oldest, next_year), (oldest, soon), (today - timedelta(days=5 * 365), soon)):
        try:
            frame = exchange_sessions(calendar, first, until)
        except ConfigurationError:
            raise
        except ValueError:
            continue
        if not frame.is_empty():
            return _arrays(frame, calendar, until)
    raise ConfigurationError(f"the sandbox finds no sessions of the calendar {calendar!r} around {today}")


def _arrays(frame: pl.DataFrame, calendar: str, until: date) -> TradingDays:
    def seconds(column: pl.Series) -> Ints:
        return column.dt.epoch("s").to_numpy().astype(np.int64)

    stretches = segments(frame)
    per_day = stretches.group_by("session", maintain_order=True).len()["len"].to_numpy().astype(np.int64)
    opens, closes = seconds(frame["open"]), seconds(frame["close"])
    covered = datetime(until.year, until.month, until.day, tzinfo=ZoneInfo("UTC"))
    return TradingDays(
        covered_until=int(covered.timestamp()),
        day_open=opens,
        day_close=closes,
        midnight=seconds(_midnights(frame["session"], zone_of(calendar).key)),
        number=frame["session"].to_physical().to_numpy().astype(np.int64),
        first_segment=np.concatenate([np.zeros(1, np.int64), np.cumsum(per_day)]),
        segment_open=seconds(stretches["segment_open"]),
        segment_close=seconds(stretches["segment_close"]),
        steps_per_day=max(1, int(np.median(closes - opens)) // STEP_SECONDS),
    )


def _midnights(days: pl.Series, zone: str) -> pl.Series:
    """Return when `days` begin in `zone`: at 01:00 where the clocks skip midnight, as in Karachi on 2009-04-15.

    New York's midnight is behind the close of a half-day in Hong Kong, and of every summer's day in Auckland.
    """
    midnight = pl.col("day").cast(pl.Datetime("us"))
    begins = [
        (midnight + timedelta(hours=hours)).dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        for hours in (0, 1)
    ]
    return days.to_frame("day").select(pl.coalesce(begins)).to_series()
