"""Whether a provider that answered no request is out of order as a whole, and what is said then. No I/O."""

import re
from collections.abc import Sequence
from datetime import datetime

from ema_assets.model.errors import ProviderError, ProviderUnavailable, RateLimited, Unauthorized
from ema_assets.providers.http.refusals import Unreachable, shared_failure

_NOT_ASKED = re.compile(
    r"(?P<provider>.+) was not asked: it is left alone until .* UTC, after (it|this error:) (?P<error>.*)", re.DOTALL
)


def outage(errors: Sequence[ProviderError], least: int | None) -> ProviderError | None:
    """The error by which a provider that answered no request is out of order as a whole, if it is.

    That nobody could be reached, or a limit of calls, concerns every series. Of 5xx, time-outs and refused access there
    must be at least `least` and nothing else; with None they do not count. The same unreadable answer of several series
    counts too.
    """
    for error in errors:
        if isinstance(error, Unreachable | RateLimited):
            return error
    if least is None:
        return None
    down = [error for error in errors if isinstance(error, ProviderUnavailable | Unauthorized)]
    return down[0] if len(errors) == len(down) >= least else shared_failure(errors)


def not_asked(provider: str, error: str, until: datetime, now: datetime) -> str:
    """What is said of a series whose `provider` is left alone until `until`, because of `error`."""
    named = f"{provider} "
    reason = f"it {error.removeprefix(named)}" if error.startswith(named) else f"this error: {error}"
    return f"{provider} was not asked: it is left alone until {time_of(until, now)} UTC, after {reason}"


def time_of(moment: datetime, now: datetime) -> str:
    """The time of day of `moment`, with its date when that is another one than that of `now`."""
    return f"{moment:%H:%M:%S}" if moment.date() == now.date() else f"{moment:%Y-%m-%d %H:%M:%S}"


def is_own(error: str | None) -> bool:
    """True when a series failed by itself, and not because its provider was left alone."""
    return error is not None and _NOT_ASKED.fullmatch(error) is None


def root_of(error: str) -> str:
    """Why a provider was left alone, of a sentence of `not_asked`; any other `error` as it is."""
    found = _NOT_ASKED.fullmatch(error)
    if found is None:
        return error
    return f"{found['provider']} {found['error']}" if found[2] == "it" else found["error"]
