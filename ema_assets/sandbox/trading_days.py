"""The trading days of a calendar as cached arrays of seconds, shared by all markets."""

import threading
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from ema_assets.market.calendars import segments
from ema_assets.market.exchanges import exchange_sessions
from ema_assets.model.errors import ConfigurationError
from ema_assets.model.symbols import ALWAYS_OPEN
from ema_assets.sandbox.synthetic_bars import STEP_SECONDS, Ints

# There are no bars before these days. Forty years of sessions fill one page of 10,000 daily bars.
STOCK_HISTORY_START = date(1984, 1, 1)
CRYPTO_HISTORY_START = date(2012, 1, 1)

_NEW_YORK = "America/New_York"


@dataclass(frozen=True, slots=True)
class TradingDays:
    """Trading days of one calendar, ascending. Day `i` has the segments `first_segment[i]:first_segment[i + 1]`."""

    covered_until: int
    day_open: Ints
    day_close: Ints
    midnight: Ints
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

    zone = "UTC" if calendar == ALWAYS_OPEN else _NEW_YORK
    stretches = segments(frame)
    per_day = stretches.group_by("session", maintain_order=True).len()["len"].to_numpy().astype(np.int64)
    opens, closes = seconds(frame["open"]), seconds(frame["close"])
    covered = datetime(until.year, until.month, until.day, tzinfo=ZoneInfo("UTC"))
    return TradingDays(
        covered_until=int(covered.timestamp()),
        day_open=opens,
        day_close=closes,
        midnight=seconds(frame["session"].cast(pl.Datetime("us")).dt.replace_time_zone(zone)),
        first_segment=np.concatenate([np.zeros(1, np.int64), np.cumsum(per_day)]),
        segment_open=seconds(stretches["segment_open"]),
        segment_close=seconds(stretches["segment_close"]),
        steps_per_day=max(1, int(np.median(closes - opens)) // STEP_SECONDS),
    )
