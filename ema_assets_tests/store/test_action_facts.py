"""Corporate actions as they are recorded and read."""

from datetime import UTC, datetime

import polars as pl
import pytest

from ema_assets.model.schemas import ACTION_SCHEMA, SchemaMismatch
from ema_assets.store import action_facts
from ema_assets.store.database import Database

DAY = datetime(2026, 11, 25, 14, 30, tzinfo=UTC)


def facts(*rows: tuple[object, ...]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=ACTION_SCHEMA, orient="row")


SPLIT = ("AAPL", "split", DAY, 7.0, None, None)
DIVIDEND = ("AAPL", "dividend", DAY, None, 0.25, None)
RENAME = ("FB", "rename", DAY, None, None, "META")


def test_a_fact_is_recorded_once_per_source_and_its_later_word_counts(database: Database) -> None:
    with database.transaction() as transaction:
        assert action_facts.record(transaction, facts(SPLIT, DIVIDEND, RENAME), "yahoo") == 3
        assert action_facts.record(transaction, facts(SPLIT, DIVIDEND), "yahoo") == 0
        assert action_facts.record(transaction, facts(("AAPL", "dividend", DAY, None, 0.5, None)), "yahoo") == 1
        assert action_facts.record(transaction, facts(SPLIT), "actions.csv") == 1
        known = action_facts.known(transaction, ["AAPL"])
        assert known.select("kind", "ratio", "amount", "source").rows() == [
            ("dividend", None, 0.5, "yahoo"),
            ("split", 7.0, None, "actions.csv"),
            ("split", 7.0, None, "yahoo"),
        ]
        assert action_facts.known(transaction).height == 4
        assert action_facts.factors(transaction, ["AAPL", "FB"]).rows() == [("AAPL", DAY, 7.0, "split")]


def test_of_two_sources_with_one_action_the_first_one_counts(database: Database) -> None:
    with database.transaction() as transaction:
        action_facts.record(transaction, facts(SPLIT), "yahoo")
        later = ("AAPL", "split", DAY.replace(hour=0, minute=0), 7.1, None, None)
        action_facts.record(transaction, facts(later), "actions.csv")
        assert action_facts.factors(transaction, ["AAPL"]).rows() == [("AAPL", DAY, 7.0, "split")]


def test_no_facts_are_nothing_and_a_frame_without_the_columns_is_refused(database: Database) -> None:
    with database.transaction() as transaction:
        assert action_facts.record(transaction, facts(), "yahoo") == 0
        assert action_facts.known(transaction, ["AAPL"]).is_empty()
        with pytest.raises(SchemaMismatch, match="corporate actions of yahoo: `amount` must be"):
            action_facts.record(transaction, facts(SPLIT).drop("amount"), "yahoo")


@pytest.mark.parametrize(
    "row",
    [
        ("AAPL", "merger", DAY, 7.0, None, None),
        ("AAPL", "split", DAY, None, None, None),
        ("AAPL", "split", DAY, -1.0, None, None),
        ("AAPL", "dividend", DAY, None, None, None),
    ],
)
def test_a_fact_that_says_nothing_is_refused(database: Database, row: tuple[object, ...]) -> None:
    with pytest.raises(Exception, match="violates check constraint"), database.transaction() as transaction:
        action_facts.record(transaction, facts(row), "yahoo")
