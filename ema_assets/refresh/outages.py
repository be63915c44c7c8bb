"""Whether a provider that answered no request is out of order as a whole, and what is said then. No I/O."""

import re
from collections.abc import Sequence
from datetime import datetime

from ema_assets.model.errors import ProviderError, ProviderUnavailable, RateLimited, Unauthorized
from ema_assets.providers.http.refusals import Unreachable, shared_failure

_NOT_ASKED = re.compile(
    r"(?P<provider>.+) was not asked: it is left alone until .* UTC, after (it|this error:) (?P<error>.*)", re.DOTALL
)


def outage(errors: Sequence[ProviderError], least_down: int) -> ProviderError | None:
    """The error by which a provider that answered no request is out of order as a whole, if it is.

    `least_down` of them must be 5xx or time-outs when all are. The same unreadable answer of several series counts too.
    """
    for error in errors:
        if isinstance(error, Unreachable | RateLimited | Unauthorized):
            return error
    down = [error for error in errors if isinstance(error, ProviderUnavailable)]
    return down[0] if len(errors) == len(down) >= least_down else shared_failure(errors)


def not_asked(provider: str, error: str, until: datetime, now: datetime) -> str:
    """What is said of a series whose `provider` is left alone until `until`, because of `error`."""
    named = f"{provider} "
    reason = f"it {error.removeprefix(named)}" if error.startswith(named) else f"this error: {error}"
    return f"{provider} was not asked: it is left alone until {time_of(until, now)} UTC, after {reason}"


def time_of(moment: datetime, now: datetime) -> str:
    """The time of day of `moment`, with its date when that is another one than that of `now`."""
    return f"{moment:%H:%M:%S}" if moment.date() == now.date() else f"{moment:%Y-%m-%d %H:%M:%S}"


def root_of(error: str) -> str:
    """Why a provider was left alone, of a sentence of `not_asked`; any other `error` as it is."""
    found = _NOT_ASKED.fullmatch(error)
    if found is None:
        return error
    return f"{found['provider']} {found['error']}" if found[2] == "it" else found["error"]
