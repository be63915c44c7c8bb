"""Whether a provider that answered no request is out of order as a whole. No I/O."""

from collections.abc import Sequence

from ema_assets.model.errors import ProviderError, ProviderUnavailable, RateLimited, Unauthorized
from ema_assets.providers.http.refusals import Unreachable, shared_failure


def outage(errors: Sequence[ProviderError], least_down: int) -> ProviderError | None:
    """The error by which a provider that answered no request is out of order as a whole, if it is.

    `least_down` of them must be 5xx or time-outs when all are. The same unreadable answer of several series counts too.
    """
    for error in errors:
        if isinstance(error, Unreachable | RateLimited | Unauthorized):
            return error
    down = [error for error in errors if isinstance(error, ProviderUnavailable)]
    return down[0] if len(errors) == len(down) >= least_down else shared_failure(errors)
