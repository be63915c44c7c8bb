"""Reads from the headers of an answer for how long a server demands to be left alone. No calls here."""

import email.utils
import math
import time
from collections.abc import Mapping
from datetime import UTC, datetime

from ema_assets.model.errors import pause_of

# No pause is this long: larger numbers are Unix times, in seconds from the first limit on, in milliseconds from the
# second one on.
_LEAST_UNIX_SECONDS, _LEAST_UNIX_MILLISECONDS, _MOST_UNIX_MILLISECONDS = 1e9, 1e12, 1e13


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait by `Retry-After`, or else by `X-RateLimit-Reset` (Unix time); None without either.

    `Retry-After` is a number of seconds or a date. A number that is too large for a pause is a Unix time, which some
    servers send. A time in the past gives 0. No result exceeds LONGEST_PAUSE_SECONDS.
    """
    if (pause := pause_in(headers.get("retry-after", ""))) is not None:
        return pause
    try:
        seconds = float(headers.get("x-ratelimit-reset", "")) - time.time()
    except ValueError:
        return None
    # A reset later than the budget's window is in another unit or from another clock.
    return max(0.0, seconds) if seconds <= 61 else None


def pause_in(text: str) -> float | None:
    """Return the seconds that a value of `Retry-After` means, as above; None if it cannot be read."""
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
    """Return the pause until a Unix time, 0 if it has passed; None if it is NaN."""
    return None if math.isnan(unix_seconds) else pause_of(max(0.0, unix_seconds - time.time()))


def _unix_seconds_of_date(text: str) -> float:
    try:
        moment: datetime = email.utils.parsedate_to_datetime(text)
        # A date without a zone is in UTC, as all HTTP dates are.
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return math.nan
