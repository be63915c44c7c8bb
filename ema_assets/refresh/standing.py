"""Decides within one refresh whether a provider is asked, for which series first, and when it is left alone.

The state that all runs share is in `store.provider_state`.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta

import polars as pl

from ema_assets.model.errors import (
    Banned,
    PermanentProviderError,
    ProviderError,
    RateLimited,
    TransientProviderError,
    Unauthorized,
)
from ema_assets.providers.http.calls import BAN_SECONDS
from ema_assets.refresh.outages import is_own, not_asked, outage
from ema_assets.store import ledger, provider_state
from ema_assets.store.database import Database

# The smallest number of failed series that can show an outage. With fewer, the series themselves may be the cause.
_LEAST_FOR_OUTAGE = 2


class ProviderStanding:
    """What one refresh knows about one provider. Methods that read or write the database are to be run in a thread.

    A series that failed by itself earlier says nothing about the provider, unless all of its series did, also those
    that are not due. It is requested after the others, and its failure does not make the provider be left alone.

    Attributes:
        refusal: why the provider is not asked (any more), the error of each series that is not requested; else None.
        until: until when the provider is left alone, if it is.
        is_unproven: whether it did not answer last time and has not been asked since.
        moment: returns the market's time, from which pauses are counted.
    """

    def __init__(self, database: Database, state: pl.DataFrame, moment: Callable[[], datetime]) -> None:
        """Take the `state` of the provider's series (as `ledger.fetch_state` returns it) and the market's clock."""
        self.refusal: str | None = None
        self.until: datetime | None = None
        self.is_unproven = False
        self.moment = moment
        self._database = database
        self._ill = {symbol for symbol, error in state.select("symbol", "last_error").iter_rows() if is_own(error)}
        self._are_all_ill = len(self._ill) == state.height
        self._provider = ""
        # The circuit breaker before the provider was asked.
        self._seen = provider_state.Breaker()
        self._is_probing = False
        self._unanswered: dict[str, ProviderError] = {}

    def look(self, provider: str, name: str | None = None) -> None:
        """Read the circuit breaker: whether all runs leave `provider` alone, or whether it failed last time.

        `name` is how the watchlist names it; None for the default one.
        """
        self._provider = provider
        with self._database.transaction() as transaction:
            self._seen = provider_state.breaker(transaction, provider)
            if self._are_all_ill and not ledger.is_any_well(transaction, name):
                self._ill = set()
        if self._seen.is_open(self.moment()):
            assert self._seen.open_until is not None
            self._leave_alone(self._seen.last_error or "no answer", self._seen.open_until)
        else:
            self.is_unproven = self._seen.failures > 0

    def probe_first(self, plan: pl.DataFrame) -> pl.DataFrame:
        """Return `plan` with a series first that can show whether the provider answers again; begin probing.

        After each failure another series is the first one, because those of the attempts before may fail by themselves.
        """
        self.is_unproven, self._is_probing = False, True
        first = (self._seen.failures - 1) % plan.height
        return pl.concat([plan[first:], plan[:first]]).sort(
            pl.col("symbol").is_in(list(self._ill)), maintain_order=True
        )

    def judge(self, asked: Iterable[str], errors: Mapping[str, ProviderError]) -> None:
        """Decide from the `errors` of the symbols `asked` together whether the provider is to be left alone."""
        is_probe, self._is_probing = self._is_probing, False
        wanted_rest = _rest_wanted(errors.values())
        if wanted_rest is not None:
            self._trip(wanted_rest)
        elif errors.keys() >= set(asked) and not any(map(_is_answer, errors.values())):
            self._judge_silence(errors, 1 if is_probe else _LEAST_FOR_OUTAGE, is_probe=is_probe)
        else:
            self._unanswered.clear()
            if is_probe:
                self._reset()

    def _judge_silence(self, errors: Mapping[str, ProviderError], least: int, *, is_probe: bool) -> None:
        self._unanswered |= {symbol: error for symbol, error in errors.items() if symbol not in self._ill}
        down = outage(list(self._unanswered.values()), least) or outage(list(errors.values()), None)
        if down is not None:
            self._trip(down)
        elif is_probe and (unclear := outage(list(errors.values()), least)) is not None:
            # Only series that failed by themselves earlier are due. The rest of them are tried another time.
            self._leave_alone(str(unclear), self.moment() + timedelta(seconds=provider_state.FIRST_PAUSE_SECONDS))
        elif is_probe:
            self._reset()

    def _reset(self) -> None:
        with self._database.transaction() as transaction:
            provider_state.reset(transaction, self._provider)

    def _trip(self, error: ProviderError) -> None:
        """Make every run leave the provider alone."""
        with self._database.transaction() as transaction:
            until = provider_state.trip(
                transaction, self._provider, str(error), self.moment(), self._seen, _rest_seconds(error)
            )
        self._leave_alone(str(error), until)

    def _leave_alone(self, error: str, until: datetime) -> None:
        self.refusal, self.until = not_asked(self._provider, error, until, self.moment()), until


def _is_answer(error: ProviderError) -> bool:
    return isinstance(error, PermanentProviderError) and not isinstance(error, Unauthorized)


def _rest_seconds(error: ProviderError) -> float | None:
    """Return for how long the provider demands not to be asked, according to `error`; None if it does not say."""
    asked = error.retry_after_seconds if isinstance(error, TransientProviderError) else None
    return BAN_SECONDS if asked is None and isinstance(error, Banned) else asked


def _rest_wanted(errors: Iterable[ProviderError]) -> ProviderError | None:
    """Return the rate limit error that demands the longest pause, if it is longer than the breaker's first pause.

    It counts even if some series were answered before: the call budget, which all processes share, delays calls for a
    short while only.
    """
    rests = {error: _rest_seconds(error) or 0.0 for error in errors if isinstance(error, RateLimited)}
    longest = max(rests, key=lambda error: rests[error], default=None)
    return longest if longest is not None and rests[longest] > provider_state.FIRST_PAUSE_SECONDS else None
