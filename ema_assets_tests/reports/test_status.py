"""What `status` says in sentences."""

from datetime import UTC, datetime

from ema_assets.reports import status
from ema_assets.store import provider_state
from ema_assets.store.database import Database

NOW = datetime(2026, 11, 25, 15, 0, tzinfo=UTC)


def test_a_provider_that_does_not_answer_is_named_with_the_day_on_which_it_is_asked_again(database: Database) -> None:
    with database.transaction() as transaction:
        seen = provider_state.breaker(transaction, "sandbox")
        provider_state.trip(transaction, "sandbox", "banned", NOW, seen, 2 * 86_400.0)
        assert status.not_answering(transaction) == [
            "sandbox does not answer, asked 1 times, again at 2026-11-27 15:00:00 UTC: banned"
        ]
