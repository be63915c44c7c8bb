"""The state of providers that all runs share: calls sent in the last minute, and circuit breakers. SQL only."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from ema_assets.model.errors import LONGEST_PAUSE_SECONDS as LONGEST_ASKED_SECONDS
from ema_assets.store.database import Transaction

FIRST_PAUSE_SECONDS = 30
LONGEST_PAUSE_SECONDS = 900


@dataclass(frozen=True, slots=True)
class Breaker:
    """A provider's circuit breaker: how often in a row it did not answer, until when it is not called, and why."""

    failures: int = 0
    open_until: datetime | None = None
    last_error: str | None = None

    def is_open(self, now: datetime) -> bool:
        """Return whether the provider must not be called. An `open_until` years ahead (by a wrong clock) is ignored."""
        longest = timedelta(seconds=2 * LONGEST_ASKED_SECONDS)
        return self.open_until is not None and now < self.open_until < now + longest


def take_call(transaction: Transaction, provider: str, most: int, window_seconds: float) -> float:
    """Take one of the `most` calls allowed per window; return 0.0 if it may leave now, or the seconds to wait."""
    found = transaction.query(
        "SELECT market.take_call($1, $2::integer, $3::float8) AS wait", provider, most, window_seconds
    )
    return float(found.item())


def hold_calls(transaction: Transaction, provider: str, seconds: float) -> None:
    """Let no call to `provider` leave for `seconds`."""
    transaction.execute(
        """
        INSERT INTO market.provider_state AS p (provider, closed_until)
        VALUES ($1, clock_timestamp() + make_interval(secs => $2::float8))
        ON CONFLICT (provider) DO UPDATE SET closed_until = greatest(p.closed_until, excluded.closed_until)
        """,
        provider,
        seconds,
    )


def breaker(transaction: Transaction, provider: str) -> Breaker:
    """Return the circuit breaker of `provider`."""
    found = transaction.query(
        "SELECT failures, open_until, last_error FROM market.provider_state WHERE provider = $1", provider
    )
    return Breaker(*found.row(0)) if found.height else Breaker()


def trip(
    transaction: Transaction,
    provider: str,
    error: str,
    now: datetime,
    seen: Breaker,
    least_seconds: float | None = None,
) -> datetime:
    """Open the circuit breaker of `provider` because it did not answer at all; return until when.

    The pause is 30 s, twice as long after each further failure, at most 15 minutes, and at least `least_seconds` when
    the provider demanded that. Failures of parallel runs count once: a failure counts if the pause is still the one
    that the run had `seen` before its call, or if the provider has answered since; otherwise another run has counted
    it.
    """
    counts = "(p.failures = 0 OR p.open_until IS NOT DISTINCT FROM $7::timestamptz)"
    found = transaction.query(
        f"""
        INSERT INTO market.provider_state AS p (provider, failures, open_until, last_error)
        VALUES ($1, 1, $3 + make_interval(secs => greatest($4::float8, $6::float8)), $2)
        ON CONFLICT (provider) DO UPDATE
        SET failures = p.failures + CASE WHEN {counts} THEN 1 ELSE 0 END,
            last_error = excluded.last_error, updated_at = clock_timestamp(),
            open_until = CASE
                WHEN {counts} THEN $3 + make_interval(secs => greatest(
                    least($4::float8 * 2 ^ least(p.failures, 20), $5::float8), $6::float8))
                ELSE greatest(p.open_until, $3 + make_interval(secs => $6::float8)) END
        RETURNING open_until
        """,
        provider,
        error[:1000],
        now,
        float(FIRST_PAUSE_SECONDS),
        float(LONGEST_PAUSE_SECONDS),
        least_seconds or 0.0,
        seen.open_until,
    )
    until = found.item()
    assert isinstance(until, datetime)
    return until


def end_pauses(transaction: Transaction, providers: Sequence[str], now: datetime) -> None:
    """End the pauses of `providers` at `now`, so that they are tried at once, each with one series first."""
    transaction.execute(
        """
        UPDATE market.provider_state SET open_until = least(open_until, $2), updated_at = clock_timestamp()
        WHERE failures > 0 AND provider = ANY ($1::text[])
        """,
        list(providers),
        now,
    )


def reset(transaction: Transaction, provider: str) -> None:
    """Close the circuit breaker of `provider`, which answers again."""
    transaction.execute(
        """
        UPDATE market.provider_state SET failures = 0, open_until = NULL, last_error = NULL,
               updated_at = clock_timestamp()
        WHERE provider = $1
        """,
        provider,
    )


def is_in_use(provider: str, default: str) -> str:
    """Return SQL for whether any active symbol is fetched from `provider`; both arguments are SQL expressions.

    `default` is the provider of symbols that name none. If it is null, any provider that no symbol has ever named may
    be that one.
    """
    return f"""EXISTS (
        SELECT FROM market.instrument i
        WHERE i.is_active AND i.is_fetched AND CASE
            WHEN i.provider IS NOT NULL THEN i.provider = {provider}
            WHEN {default} IS NOT NULL THEN {provider} = {default}
            ELSE NOT EXISTS (SELECT FROM market.instrument o WHERE o.provider = {provider}) END)"""


def not_answering(transaction: Transaction, default_provider: str | None = None) -> pl.DataFrame:
    """Return providers in use that did not answer last time: provider, failures, open_until, last_error.

    `default_provider` is the provider of symbols that name none. Without it, every provider that may be the default is
    included.
    """
    return transaction.query(
        f"""
        SELECT provider, failures, open_until, last_error FROM market.provider_state p
        WHERE failures > 0 AND {is_in_use("p.provider", "$1::text")} ORDER BY 1
        """,
        default_provider,
    )


def note_description(transaction: Transaction, provider: str, error: str | None) -> None:
    """Write why `provider` could not describe the states of its symbols; None when it did."""
    transaction.execute(
        """
        INSERT INTO market.provider_state AS p (provider, describe_error) VALUES ($1, nullif($2, ''))
        ON CONFLICT (provider) DO UPDATE
        SET describe_error = excluded.describe_error, updated_at = clock_timestamp()
        WHERE p.describe_error IS DISTINCT FROM excluded.describe_error
        """,
        provider,
        (error or "")[:1000],
    )


def not_describing(transaction: Transaction, default_provider: str | None = None) -> pl.DataFrame:
    """Return providers in use that did not describe their symbols when last asked: provider, describe_error.

    `default_provider` is as in `not_answering`.
    """
    return transaction.query(
        f"""
        SELECT provider, describe_error FROM market.provider_state p
        WHERE describe_error IS NOT NULL AND {is_in_use("p.provider", "$1::text")} ORDER BY 1
        """,
        default_provider,
    )
