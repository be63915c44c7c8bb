"""Decides whether a provider that answered no request has an outage, and words the errors of its series. No I/O."""

import re
from collections.abc import Sequence
from datetime import datetime

from ema_assets.model.errors import ProviderError, ProviderUnavailable, RateLimited, Unauthorized
from ema_assets.providers.http.refusals import Unreachable, shared_failure

_NOT_ASKED = re.compile(
    r"(?P<provider>.+) was not asked: it is left alone until .* UTC, after (it|this error:) (?P<error>.*)", re.DOTALL
)


def outage(errors: Sequence[ProviderError], least: int | None) -> ProviderError | None:
    """Return the error that shows that a provider which answered no request has an outage, or None.

    A failed connection or a rate limit concerns every series, so one is enough. 5xx answers, time-outs and refused
    access count if there are at least `least` of them and no other errors. Failing this, the same unreadable answer
    for several series counts. With `least` None, only failed connections and rate limits count.
    """
    for error in errors:
        if isinstance(error, Unreachable | RateLimited):
            return error
    if least is None:
        return None
    down = [error for error in errors if isinstance(error, ProviderUnavailable | Unauthorized)]
    return down[0] if len(errors) == len(down) >= least else shared_failure(errors)


def not_asked(provider: str, error: str, until: datetime, now: datetime) -> str:
    """Return the error of a series whose `provider` is left alone until `until` because of `error`."""
    named = f"{provider} "
    reason = f"it {error.removeprefix(named)}" if error.startswith(named) else f"this error: {error}"
    return f"{provider} was not asked: it is left alone until {time_of(until, now)} UTC, after {reason}"


def time_of(moment: datetime, now: datetime) -> str:
    """Return the time of day of `moment`, with the date if it differs from the date of `now`."""
    return f"{moment:%H:%M:%S}" if moment.date() == now.date() else f"{moment:%Y-%m-%d %H:%M:%S}"


def is_own(error: str | None) -> bool:
    """Return whether a series failed by itself, and not because its provider was left alone."""
    return error is not None and _NOT_ASKED.fullmatch(error) is None


def root_of(error: str) -> str:
    """Return why the provider was left alone if `error` is from `not_asked`; return any other `error` unchanged."""
    found = _NOT_ASKED.fullmatch(error)
    if found is None:
        return error
    return f"{found['provider']} {found['error']}" if found[2] == "it" else found["error"]
