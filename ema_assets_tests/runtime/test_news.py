"""What `up` tells while it runs."""

from contextlib import AbstractContextManager
from typing import cast

from ema_assets.model.errors import StoreUnavailable
from ema_assets.runtime.news import News
from ema_assets.store.database import Database, Transaction


class Away:
    """A database that cannot be reached, for another reason at each look."""

    def __init__(self) -> None:
        self._looks = 0

    def transaction(self) -> AbstractContextManager[Transaction]:
        self._looks += 1
        raise StoreUnavailable(f"reason {self._looks}")


def test_each_time_the_database_is_away_and_answers_again_is_told_once(database: Database) -> None:
    said: list[str] = []
    news, away = News(said.append), cast("Database", Away())
    for looked_at in (database, away, away, database, database, away, database):
        news.look(looked_at)
    assert [line for line in said if "database" in line] == [
        "  the database does not answer: reason 1",
        "  the database answers again",
        "  the database does not answer: reason 3",
        "  the database answers again",
    ]
