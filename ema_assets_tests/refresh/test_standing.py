"""When a provider is paused, for how long, and which series probes whether it answers again."""

from collections.abc import Mapping
from datetime import datetime, timedelta

import polars as pl
import pytest

from ema_assets.model.errors import (
    Banned,
    MalformedAnswer,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    RequestRefused,
    Unauthorized,
)
from ema_assets.providers.http.refusals import Unreachable
from ema_assets.refresh.outages import not_asked
from ema_assets.refresh.standing import ProviderStanding
from ema_assets.store import provider_state
from ema_assets.store.database import Database
from ema_assets_tests.refresh.exchange import utc

NOW = utc("2026-11-25 16:00")
OWN, OTHERS = "toy answered 500: no", not_asked("toy", "toy answered 503: no", NOW, NOW)
SECOND = timedelta(seconds=1)
DOWN = ProviderUnavailable("toy answered 503: no", provider="toy")
REFUSED = Unauthorized("toy refused access (403): not for this symbol", provider="toy")


def standing(database: Database, errors: Mapping[str, str | None], now: datetime = NOW) -> ProviderStanding:
    """The standing of a provider whose series ended with these errors last time."""
    state = pl.DataFrame(
        {"symbol": list(errors), "last_error": list(errors.values())},
        {"symbol": pl.String(), "last_error": pl.String()},
    )
    found = ProviderStanding(database, state, lambda: now)
    found.look("toy")
    return found


def breaker(database: Database) -> provider_state.Breaker:
    with database.transaction() as transaction:
        return provider_state.breaker(transaction, "toy")


def tripped(database: Database, error: str = "toy answered 503: no") -> None:
    """Pause the provider until just before NOW."""
    with database.transaction() as transaction:
        provider_state.trip(transaction, "toy", error, NOW - 31 * SECOND, provider_state.Breaker())


@pytest.mark.parametrize(
    ("errors", "is_given_up"),
    [
        ({"A": DOWN}, False),
        ({"A": REFUSED}, False),
        ({"A": DOWN, "B": DOWN}, True),
        ({"A": REFUSED, "B": REFUSED}, True),
        ({"A": Unreachable("toy cannot be reached", provider="toy")}, True),
        ({"A": RateLimited("toy is rate limiting us", provider="toy")}, True),
        ({"A": DOWN, "B": DOWN, "C": RequestRefused("no such", provider="toy")}, False),
        ({"A": Unreachable("no answer", provider="toy"), "B": RequestRefused("no such", provider="toy")}, False),
        ({"A": MalformedAnswer("not bars", provider="toy"), "B": MalformedAnswer("not bars", provider="toy")}, True),
    ],
)
def test_a_provider_is_paused_after_errors_that_one_series_alone_cannot_cause(
    database: Database, errors: dict[str, ProviderError], is_given_up: bool
) -> None:
    found = standing(database, dict.fromkeys("ABC"))
    assert not found.is_unproven
    found.judge(errors, errors)
    assert (found.refusal is not None) is is_given_up
    assert breaker(database).failures == int(is_given_up)


def test_batches_without_answers_count_together_until_a_series_is_answered(database: Database) -> None:
    """A batch with a long history has only one series."""
    found = standing(database, dict.fromkeys("ABC"))
    found.judge("A", {"A": REFUSED})
    found.judge("B", {})
    found.judge("C", {"C": REFUSED})
    assert found.refusal is None
    found.judge("A", {"A": REFUSED})
    assert found.refusal is not None


def test_errors_of_a_series_that_failed_by_itself_do_not_count_against_the_provider(database: Database) -> None:
    found = standing(database, {"A": OWN, "B": None, "C": OWN})
    found.judge("AC", {"A": DOWN, "C": REFUSED})
    assert found.refusal is None
    assert breaker(database).failures == 0
    found.judge("A", {"A": Unreachable("toy cannot be reached", provider="toy")})
    assert breaker(database).failures == 1


def test_a_series_that_failed_by_itself_is_requested_last_when_a_provider_is_probed(database: Database) -> None:
    """Otherwise one failing symbol, first in the alphabet, would delay all others forever."""
    tripped(database)
    found = standing(database, {"A": OWN, "B": OTHERS, "C": None})
    assert found.is_unproven
    plan = pl.DataFrame({"symbol": ["A", "B", "C"]})
    assert found.probe_first(plan)["symbol"].to_list() == ["B", "C", "A"]
    assert not found.is_unproven
    found.judge("B", {})
    assert breaker(database).failures == 0


def test_a_provider_that_answers_a_probe_with_something_else_than_bars_is_not_paused(database: Database) -> None:
    tripped(database)
    found = standing(database, dict.fromkeys("AB"))
    found.probe_first(pl.DataFrame({"symbol": ["A", "B"]}))
    found.judge("A", {"A": MalformedAnswer("not bars", provider="toy")})
    assert (found.refusal, breaker(database).failures) == (None, 0)


def test_when_all_series_have_failed_by_themselves_the_failure_of_any_probe_counts(database: Database) -> None:
    tripped(database)
    found = standing(database, {"A": OWN, "B": OWN})
    assert found.probe_first(pl.DataFrame({"symbol": ["A", "B"]}))["symbol"].to_list() == ["A", "B"]
    found.judge("A", {"A": DOWN})
    assert (breaker(database).failures, breaker(database).open_until) == (2, NOW + 60 * SECOND)


def test_a_failed_probe_with_a_series_that_failed_by_itself_does_not_delay_other_series(database: Database) -> None:
    """The other failing series wait for the next attempt, because the provider may still be down."""
    tripped(database)
    before = breaker(database)
    found = standing(database, {"A": OWN, "B": OWN, "C": None})
    found.probe_first(pl.DataFrame({"symbol": ["A", "B"]}))
    found.judge("A", {"A": DOWN})
    assert found.refusal is not None
    assert found.until == NOW + 30 * SECOND
    assert breaker(database) == before
    assert standing(database, {"A": OWN, "C": None}).refusal is None


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (Banned("toy has shut us out (418)", provider="toy", retry_after_seconds=600.0), 600),
        (Banned("toy has shut us out (418)", provider="toy"), 300),
        (RateLimited("toy is rate limiting us", provider="toy", retry_after_seconds=600.0), 600),
        (RateLimited("toy is rate limiting us", provider="toy", retry_after_seconds=5.0), None),
        (RateLimited("toy is rate limiting us", provider="toy"), None),
        (Banned("toy has shut us out (418)", provider="toy", retry_after_seconds=1e15), 3 * 24 * 3600),
    ],
)
def test_a_long_pause_requested_by_a_provider_applies_even_when_some_series_were_answered(
    database: Database, error: ProviderError, seconds: int | None
) -> None:
    found = standing(database, dict.fromkeys("ABC"))
    found.judge("ABC", {"B": error})
    until = None if seconds is None else NOW + seconds * SECOND
    assert (breaker(database).open_until, found.until) == (until, until)


def test_the_longest_pause_that_a_provider_requests_counts(database: Database) -> None:
    errors = {
        symbol: RateLimited("toy is rate limiting us", provider="toy", retry_after_seconds=seconds)
        for symbol, seconds in (("A", 40.0), ("B", 90.0), ("C", None))
    }
    found = standing(database, dict.fromkeys("ABCD"))
    found.judge("ABCD", errors)
    assert found.until == NOW + 90 * SECOND


def test_the_pause_in_a_503_applies_only_when_no_series_was_answered(database: Database) -> None:
    busy = ProviderUnavailable("toy answered 503: busy", provider="toy", retry_after_seconds=600.0)
    one = standing(database, dict.fromkeys("AB"))
    one.judge("AB", {"A": busy})
    assert one.refusal is None
    one.judge("AB", {"A": busy, "B": busy})
    assert breaker(database).open_until == NOW + 600 * SECOND


def test_a_pause_that_a_wrong_clock_wrote_years_ahead_is_ignored(database: Database) -> None:
    with database.transaction() as transaction:
        provider_state.trip(transaction, "toy", "down", utc("2083-10-24 11:51"), provider_state.Breaker())
    assert standing(database, dict.fromkeys("AB")).refusal is None
    assert standing(database, dict.fromkeys("AB"), utc("2083-10-24 11:51")).refusal is not None


def test_each_probe_that_fails_is_followed_by_one_with_another_series(database: Database) -> None:
    """Otherwise the same two or three symbols that fail by themselves would delay all others forever."""
    names, last, probes = "ABCD", "", []
    tripped(database)
    for minutes in (0, 2, 6, 14):
        now = NOW + minutes * 60 * SECOND
        found = standing(database, {each: OWN if each == last else OTHERS for each in names}, now)
        last = found.probe_first(pl.DataFrame({"symbol": list(names)}))["symbol"][0]
        probes.append(last)
        found.judge(last, {last: DOWN})
    assert set(probes) == set(names)
