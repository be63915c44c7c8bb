"""The circuit breaker of one fetch: after some failures, the fetch makes no further calls.

The circuit breaker that all runs share is in `store.provider_state`.
"""

from ema_assets.model.errors import (
    PermanentProviderError,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    Unauthorized,
)
from ema_assets.providers.http.refusals import AccessRefused, NotTheApi, Unreachable


class CircuitBreaker:
    """A circuit breaker that stops the calls of one fetch when they cannot succeed any more.

    It opens at once when the vendor cannot be reached, refuses the key or keeps answering 429. It opens at the second
    consecutive call that ends in a 5xx, a time-out, a web page or, for vendors without keys, refused access, because
    the call itself may be the cause of one. `scope` is the part of the vendor's API; None is all of it.
    """

    def __init__(self) -> None:
        self._errors: dict[str | None, ProviderError] = {}
        self._strikes: dict[str, int] = {}
        self._answered: set[str] = set()

    def error(self, scope: str) -> ProviderError | None:
        """Return the error that opened the circuit of `scope`, or None while it is closed."""
        return self._errors.get(None) or self._errors.get(scope)

    def answered(self, scope: str) -> None:
        """Record that a call to `scope` succeeded."""
        self._strikes[scope] = 0
        self._answered.add(scope)

    def has_answered(self, scope: str) -> bool:
        """Return whether any call to `scope` has succeeded."""
        return scope in self._answered

    def is_opened_by_calls(self, scope: str) -> bool:
        """Return whether calls that failed by themselves may have opened the circuit: others to `scope` were answered.

        A pause that the vendor demands is for all calls.
        """
        error = self._errors.get(scope)
        is_by_calls = isinstance(error, AccessRefused) or (
            isinstance(error, ProviderUnavailable) and not error.retry_after_seconds
        )
        return is_by_calls and None not in self._errors and self.has_answered(scope)

    def is_refused_at_first(self, scope: str) -> bool:
        """Return whether the first calls to `scope` ended in a web page or refused access, which a symbol may cause."""
        is_refused = isinstance(self._errors.get(scope), NotTheApi | AccessRefused)
        return is_refused and None not in self._errors and not self.has_answered(scope)

    def failed(self, scope: str, error: ProviderError) -> None:
        """Record that a call to `scope` failed after all its tries."""
        if isinstance(error, Unreachable | RateLimited):
            self._errors.setdefault(None, error)
        elif isinstance(error, ProviderUnavailable | AccessRefused):
            self._strikes[scope] = self._strikes.get(scope, 0) + 1
            if self._strikes[scope] >= 2:
                self._errors.setdefault(scope, error)
        elif isinstance(error, Unauthorized):
            self._errors.setdefault(scope, error)


class CircuitOpen(PermanentProviderError):
    """The circuit is open. It carries the error that opened it out of the retries and never leaves this package."""

    def __init__(self, error: ProviderError) -> None:
        super().__init__(str(error), provider=error.provider)
        self.error = error
