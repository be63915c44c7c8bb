"""When a provider is given up, for how long, and by which series it is found out that it answers again."""

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
    """Where we stand with a provider whose series have failed so last time."""
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
    """Have the provider left alone until just before NOW."""
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
        ({"A": MalformedAnswer("not bars", provider="toy"), "B": MalformedAnswer("not bars", provider="toy")}, True),
    ],
)
def test_a_provider_is_given_up_by_what_cannot_be_the_fault_of_one_series(
    database: Database, errors: dict[str, ProviderError], is_given_up: bool
) -> None:
    found = standing(database, dict.fromkeys("ABC"))
    found.judge(errors, errors)
    assert (found.refusal is not None) is is_given_up
    assert breaker(database).failures == int(is_given_up)


def test_batches_that_bring_nothing_count_together_until_something_is_answered(database: Database) -> None:
    """A batch of a long history has one series."""
    found = standing(database, dict.fromkeys("ABC"))
    found.judge("A", {"A": REFUSED})
    found.judge("B", {})
    found.judge("C", {"C": REFUSED})
    assert found.refusal is None
    found.judge("A", {"A": REFUSED})
    assert found.refusal is not None


def test_a_series_that_failed_by_itself_says_nothing_about_the_provider(database: Database) -> None:
    found = standing(database, {"A": OWN, "B": None, "C": OWN})
    found.judge("AC", {"A": DOWN, "C": REFUSED})
    assert found.refusal is None
    assert breaker(database).failures == 0
    found.judge("A", {"A": Unreachable("toy cannot be reached", provider="toy")})
    assert breaker(database).failures == 1


def test_it_is_asked_for_after_the_others_when_a_provider_is_tried_again(database: Database) -> None:
    """Else one sick symbol, first in the alphabet, would keep all others waiting for ever."""
    tripped(database)
    found = standing(database, {"A": OWN, "B": OTHERS, "C": None})
    assert found.is_unproven
    plan = pl.DataFrame({"symbol": ["A", "B", "C"]})
    assert found.probe_first(plan)["symbol"].to_list() == ["B", "C", "A"]
    found.judge("B", {})
    assert breaker(database).failures == 0


def test_where_all_have_failed_by_themselves_each_is_as_good_to_find_out(database: Database) -> None:
    tripped(database)
    found = standing(database, {"A": OWN, "B": OWN})
    assert found.probe_first(pl.DataFrame({"symbol": ["A", "B"]}))["symbol"].to_list() == ["A", "B"]
    found.judge("A", {"A": DOWN})
    assert (breaker(database).failures, breaker(database).open_until) == (2, NOW + 60 * SECOND)


def test_when_only_the_sick_are_due_their_failure_keeps_nobody_else_waiting(database: Database) -> None:
    """The others of them are asked for another time: the provider may still be down."""
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
def test_a_long_rest_that_it_asks_for_is_kept_to_also_when_some_series_were_answered(
    database: Database, error: ProviderError, seconds: int | None
) -> None:
    found = standing(database, dict.fromkeys("ABC"))
    found.judge("ABC", {"B": error})
    until = None if seconds is None else NOW + seconds * SECOND
    assert (breaker(database).open_until, found.until) == (until, until)


def test_a_503_that_says_for_how_long_is_kept_to_when_nobody_was_answered(database: Database) -> None:
    busy = ProviderUnavailable("toy answered 503: busy", provider="toy", retry_after_seconds=600.0)
    one = standing(database, dict.fromkeys("AB"))
    one.judge("AB", {"A": busy})
    assert one.refusal is None
    one.judge("AB", {"A": busy, "B": busy})
    assert breaker(database).open_until == NOW + 600 * SECOND


def test_a_pause_that_a_wrong_clock_has_written_years_ahead_keeps_nobody_out(database: Database) -> None:
    with database.transaction() as transaction:
        provider_state.trip(transaction, "toy", "down", utc("2083-10-24 11:51"), provider_state.Breaker())
    assert standing(database, dict.fromkeys("AB")).refusal is None
    assert standing(database, dict.fromkeys("AB"), utc("2083-10-24 11:51")).refusal is not None
