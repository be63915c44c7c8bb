"""For how long a server asks to be left alone, by the headers of its answer. No calls here."""

import email.utils
import math
import time
from collections.abc import Mapping
from datetime import UTC, datetime

from ema_assets.model.errors import pause_of

# From here on a number of seconds is a time since 1970, and from there on one in milliseconds: no pause is as long.
_LEAST_UNIX_SECONDS, _LEAST_UNIX_MILLISECONDS, _MOST_UNIX_MILLISECONDS = 1e9, 1e12, 1e13


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by `Retry-After`, else by `X-RateLimit-Reset` (unix time); None when neither can be read.

    `Retry-After` is a number of seconds or a date. Some send unix time, which a number is that is too large for a wait.
    A time that is over is 0, and none is longer than LONGEST_PAUSE_SECONDS.
    """
    if (pause := pause_in(headers.get("retry-after", ""))) is not None:
        return pause
    try:
        seconds = float(headers.get("x-ratelimit-reset", "")) - time.time()
    except ValueError:
        return None
    # A reset beyond the budget's window is another unit or another clock.
    return max(0.0, seconds) if seconds <= 61 else None


def pause_in(text: str) -> float | None:
    """The seconds that a value of `Retry-After` says, as above; None when it cannot be read."""
    try:
        number = float(text)
    except ValueError:
        return _until(_unix_seconds_of_date(text))
    if _LEAST_UNIX_MILLISECONDS <= number < _MOST_UNIX_MILLISECONDS:
        return _until(number / 1_000)
    if _LEAST_UNIX_SECONDS <= number < _LEAST_UNIX_MILLISECONDS:
        return _until(number)
    return pause_of(number) if number < _LEAST_UNIX_SECONDS else None


def _until(unix_seconds: float) -> float | None:
    """The pause until a time, 0 when it is over; None when it is NaN."""
    return None if math.isnan(unix_seconds) else pause_of(max(0.0, unix_seconds - time.time()))


def _unix_seconds_of_date(text: str) -> float:
    try:
        moment: datetime = email.utils.parsedate_to_datetime(text)
        # One that says no zone is of UTC, as all dates of HTTP are.
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return math.nan
