"""Tests of recording and reading corporate actions."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from ema_assets.model.schemas import ACTION_SCHEMA, SchemaMismatch
from ema_assets.operations.sync_watchlist import sync
from ema_assets.store import action_facts
from ema_assets.store.database import Database
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, refresh, utc, watch
from ema_assets_tests.timeframes import D1

DAY = datetime(2026, 11, 25, 14, 30, tzinfo=UTC)


def facts(*rows: tuple[object, ...]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=ACTION_SCHEMA, orient="row")


SPLIT = ("AAPL", "split", DAY, 7.0, None, None)
DIVIDEND = ("AAPL", "dividend", DAY, None, 0.25, None)
RENAME = ("FB", "rename", DAY, None, None, "META")


def test_a_fact_is_recorded_once_per_source_and_its_latest_version_counts(database: Database) -> None:
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


def test_the_source_that_recorded_an_action_first_counts(database: Database) -> None:
    with database.transaction() as transaction:
        action_facts.record(transaction, facts(SPLIT), "yahoo")
        later = ("AAPL", "split", DAY.replace(hour=0, minute=0), 7.1, None, None)
        action_facts.record(transaction, facts(later), "actions.csv")
        assert action_facts.factors(transaction, ["AAPL"]).rows() == [("AAPL", DAY, 7.0, "split")]


@pytest.mark.parametrize("is_watched", [True, False])
@pytest.mark.parametrize(
    ("calendar", "opened"),
    [
        ("XASX", utc("2026-03-09 23:00")),
        ("XNZE", utc("2026-03-09 21:00")),
        ("24/5", utc("2026-03-09 21:00")),
        ("XLON", utc("2026-03-10 08:00")),
        ("XNYS", utc("2026-03-10 13:30")),
        ("XNYS extended", utc("2026-03-10 08:00")),
    ],
)
def test_an_action_known_by_its_day_is_the_same_as_one_at_the_open_of_that_session(
    database: Database, calendar: str, opened: datetime, is_watched: bool
) -> None:
    midnight = utc("2026-03-10 00:00")
    if is_watched:
        sync(database, watch({"ABC": calendar}, d1_days=300), utc("2026-11-25 12:00"))
    with database.transaction() as transaction:
        for source, moment, ratio in (("before.csv", midnight, 2.0), ("after.csv", opened, 2.1)):
            action_facts.record(transaction, facts(("ABC", "split", moment, ratio, None, None)), source)
        # Actions of other sessions are not merged with it.
        for days in (-1, 1):
            other = midnight + timedelta(days=days)
            action_facts.record(transaction, facts(("ABC", "split", other, 3.0, None, None)), "before.csv")
        found = action_facts.factors(transaction, ["ABC"]).select("effective_at", "ratio").rows()
    assert [ratio for _, ratio in found] == [3.0, 2.0, 3.0]
    assert found[1][0] == (opened if is_watched else midnight)


@pytest.mark.broad
@pytest.mark.parametrize("calendar", ["XASX", "XNZE", "XNYS"])
def test_a_dividend_recorded_at_midnight_and_at_the_open_counts_once_at_the_bar_of_its_day(
    database: Database, calendar: str
) -> None:
    now, bars = utc("2026-11-25 12:00"), bars_on(calendar, "ABC", D1, date(2026, 2, 2), date(2026, 11, 24))
    refresh(database, watch({"ABC": calendar}, d1_days=300), MemoryExchange(bars), now, timeframes=[D1])
    before, opened = bars.filter(pl.col("ts") < utc("2026-03-10 18:00"))[-2:].select("close", "ts").rows()
    with database.transaction() as transaction:
        for source, moment in (("before.csv", utc("2026-03-10 00:00")), ("after.csv", opened[1])):
            action_facts.record(transaction, facts(("ABC", "dividend", moment, None, 2.0, None)), source)
        found = action_facts.dividends(transaction, D1, ["ABC"])
    assert found.select("effective_at", "amount", "previous_close").rows() == [(opened[1], 2.0, before[0])]


@pytest.mark.parametrize("opened", [utc("2026-03-09 23:00"), utc("2026-03-10 13:30")])
def test_an_action_is_one_row_per_source_whether_its_session_was_known_or_not(
    database: Database, opened: datetime
) -> None:
    midnight, another = utc("2026-03-10 00:00"), utc("2026-03-11 00:00")

    def told(moment: datetime, ratio: float) -> int:
        with database.transaction() as transaction:
            return action_facts.record(transaction, facts(("ABC", "split", moment, ratio, None, None)), "mine.csv")

    def known(source: str = "mine.csv") -> list[tuple[datetime, float]]:
        with database.transaction() as transaction:
            return action_facts.known(transaction).filter(source=source).select("effective_at", "ratio").rows()

    with database.transaction() as transaction:
        action_facts.record(transaction, facts(("ABC", "split", midnight, 9.0, None, None)), "other.csv")
    told(midnight, 2.0)
    told(another, 3.0)
    with database.transaction() as transaction:
        first = action_facts.known(transaction).filter(source="mine.csv")["known_at"][0]
    assert told(opened, 2.0) == 0
    assert known() == [(opened, 2.0), (another, 3.0)]
    with database.transaction() as transaction:
        mine = action_facts.known(transaction).filter(source="mine.csv")
    assert mine["known_at"][0] == first, "it is known since then"
    assert told(midnight, 2.5) == 1
    assert known() == [(opened, 2.5), (another, 3.0)]
    # An earlier version stored both rows.
    with database.transaction() as transaction:
        transaction.execute(
            "INSERT INTO market.corporate_action (symbol, kind, effective_at, ratio, source) VALUES ($1, $2, $3, 2, $4)",
            *("ABC", "split", midnight, "mine.csv"),
        )
    assert told(opened, 2.5) == 0
    assert known() == [(opened, 2.5), (another, 3.0)]
    assert known("other.csv") == [(midnight, 9.0)]


def test_an_action_at_a_time_within_a_session_keeps_its_time(database: Database) -> None:
    moment = utc("2026-03-10 15:00")
    sync(database, watch({"XMR-USD": "24/7"}, d1_days=300), utc("2026-11-25 12:00"))
    with database.transaction() as transaction:
        action_facts.record(transaction, facts(("XMR-USD", "split", moment, 10.0, None, None)), "mine")
        assert action_facts.factors(transaction, ["XMR-USD"])["effective_at"].to_list() == [moment]


def test_an_empty_frame_records_nothing_and_a_frame_without_the_columns_is_refused(database: Database) -> None:
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
def test_an_invalid_fact_is_refused(database: Database, row: tuple[object, ...]) -> None:
    with pytest.raises(Exception, match="violates check constraint"), database.transaction() as transaction:
        action_facts.record(transaction, facts(row), "yahoo")
