"""The circuit breaker of one fetch: after some failures no further call of it is made.

The one that lasts from run to run is in `store.provider_state`.
"""

from ema_assets.model.errors import (
    PermanentProviderError,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    Unauthorized,
)
from ema_assets.providers.http.refusals import AccessRefused, Unreachable


class CircuitBreaker:
    """Stops the calls of one fetch that cannot succeed any more.

    It opens at once when the vendor cannot be reached, refuses the key or keeps saying 429, and at the second call in
    a row that ends in a 5xx, a time-out, a web page or, where nobody needs a key, refused access: one may be the call's
    own fault. `scope` is the part of the vendor that is concerned; None is all of it.
    """

    def __init__(self) -> None:
        self._errors: dict[str | None, ProviderError] = {}
        self._strikes: dict[str, int] = {}

    def error(self, scope: str) -> ProviderError | None:
        """The error for which the circuit of `scope` is open; None while it is closed."""
        return self._errors.get(None) or self._errors.get(scope)

    def answered(self, scope: str) -> None:
        """A call to `scope` succeeded."""
        self._strikes[scope] = 0

    def failed(self, scope: str, error: ProviderError) -> None:
        """A call to `scope` failed for good."""
        if isinstance(error, Unreachable | RateLimited):
            self._errors.setdefault(None, error)
        elif isinstance(error, ProviderUnavailable | AccessRefused):
            self._strikes[scope] = self._strikes.get(scope, 0) + 1
            if self._strikes[scope] >= 2:
                self._errors.setdefault(scope, error)
        elif isinstance(error, Unauthorized):
            self._errors.setdefault(scope, error)


class CircuitOpen(PermanentProviderError):
    """Carries the error for which a circuit is open out of the retries; never leaves this package."""

    def __init__(self, error: ProviderError) -> None:
        super().__init__(str(error), provider=error.provider)
        self.error = error
