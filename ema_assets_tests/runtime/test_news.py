"""Tests of what `up` reports while it runs."""

import re
from contextlib import AbstractContextManager
from typing import cast

import pytest

from ema_assets.model.errors import StoreUnavailable
from ema_assets.reports import status
from ema_assets.reports.status import FailureReason
from ema_assets.runtime import news as news_of_up
from ema_assets.runtime.news import News
from ema_assets.store import sync_failures
from ema_assets.store.database import Database, Transaction


class Away:
    """A database that cannot be reached, with a different reason at each look."""

    def __init__(self) -> None:
        self._looks = 0

    def transaction(self) -> AbstractContextManager[Transaction]:
        self._looks += 1
        raise StoreUnavailable(f"reason {self._looks}")


def test_each_outage_of_the_database_and_its_end_are_reported_once(database: Database) -> None:
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


def test_a_database_that_refuses_a_query_is_reported_and_does_not_end_up(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    news = News(said.append)
    for query in ("SELECT 1 / 0 AS n", None):
        monkeypatch.setattr(status, "not_synced", lambda transaction, sql=query: sql and transaction.query(sql))
        news.look(database)
    told = ["  the database or its driver refused: division by zero", "  the database answers again"]
    assert [line for line in said if "database" in line] == told


def test_a_daemon_of_another_stack_is_reported_once_and_a_restarted_daemon_is_not(database: Database) -> None:
    said: list[str] = []
    news = News(said.append)
    with database.transaction() as transaction:
        transaction.execute("CREATE SCHEMA IF NOT EXISTS dagster")
        transaction.execute(
            "CREATE TABLE dagster.daemon_heartbeats (daemon_type text PRIMARY KEY, daemon_id text, timestamp timestamp)"
        )

    def heard(second: int, *daemons: str) -> int:
        for place, daemon in enumerate(daemons):
            with database.transaction() as transaction:
                transaction.execute(
                    """INSERT INTO dagster.daemon_heartbeats
                       VALUES ('SENSOR', $1, timestamp '2026-11-26' + make_interval(secs => $2::bigint))
                       ON CONFLICT (daemon_type) DO UPDATE SET daemon_id = $1, timestamp = excluded.timestamp""",
                    daemon,
                    second + place,
                )
            news.look(database)
        return sum("another Dagster daemon uses this database" in line for line in said)

    assert heard(0, "first", "first", "started again", "started again") == 0
    assert heard(10, "of another stack", "of another stack") == 0
    assert heard(20, "started again") == 1
    assert heard(30, "of another stack", "started again") == 1


def test_a_problem_is_reported_with_its_end_and_again_when_it_comes_back() -> None:
    said: list[str] = []
    news = News(said.append)
    for lines in ([], ["a", "a"], ["a"], ["a", "b"], [], [], ["a"], []):
        news.while_it_lasts(lines, "repaired")
    assert said == ["  a", "  b", "  repaired", "  a", "  repaired"]


def test_series_that_fail_in_one_way_are_reported_once_whichever_bar_the_reason_names(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    news = News(said.append)
    for bar in (1, 2):
        failure = FailureReason(f"bar {bar} changes", 1, "A|5m", topic="a bar changes")
        monkeypatch.setattr(status, "failure_reasons", lambda _, failure=failure: [failure])
        news.look(database)
    assert [line for line in said if "failing" in line] == ["  failing: A|5m: bar 1 changes"]


def test_a_watchlist_that_is_taken_up_again_is_reported(database: Database) -> None:
    said: list[str] = []
    news = News(said.append)

    def looked(failure: str | None) -> list[str]:
        said.clear()
        with database.transaction() as transaction:
            if failure is None:
                sync_failures.forget(transaction)
            else:
                sync_failures.note(transaction, failure)
        news.look(database)
        return said

    (line,) = looked("no such table")
    assert re.fullmatch(r"  the watchlist is not taken up since 20[0-9: -]+ UTC: no such table", line)
    assert looked("no such table") == []
    assert looked(None) == ["  the watchlist is taken up again"]
    assert looked(None) == []


def test_a_clock_that_was_set_back_and_runs_that_crash_are_reported_with_their_end(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news_of_up, "_AUTOMATION_EVERY", 2)
    said: list[str] = []
    news = News(said.append)

    def do(*statements: str) -> None:
        with database.transaction() as transaction:
            for statement in statements:
                transaction.execute(statement)

    def looked() -> list[str]:
        said.clear()
        for _ in range(2):
            news.look(database)
        return said

    do(
        "CREATE SCHEMA IF NOT EXISTS dagster",
        "CREATE TABLE dagster.job_ticks (id serial, timestamp timestamp)",
        "CREATE TABLE dagster.runs (run_id text, status text, end_time double precision)",
        "CREATE TABLE dagster.run_tags (run_id text, key text, value text)",
    )
    assert looked() == []
    tags = (("ema_assets/timeframe", "5m"), ("ema_assets/lane", "live"), ("dagster/defer_asset_events", "true"))

    def crash(run: str, seconds_ago: int) -> None:
        do(
            f"INSERT INTO dagster.runs VALUES ('{run}', 'FAILURE', extract(epoch FROM now()) - {seconds_ago})",
            *(f"INSERT INTO dagster.run_tags VALUES ('{run}', '{key}', '{value}')" for key, value in tags),
        )

    # These have ended with their host.
    for run in "abc":
        crash(run, 120)
    assert looked() == []
    crash("d", 60)
    crash("e", 0)
    do("INSERT INTO dagster.job_ticks (timestamp) VALUES ((now() AT TIME ZONE 'UTC') + interval '2 hours')")
    back, crashes = looked()
    assert re.fullmatch(
        r"  the clock was set back: Dagster evaluates no schedule and no sensor before \S+ \S+ UTC; "
        "stop this and start it again",
        back,
    )
    assert crashes == "  5m (live): runs fail as a whole again and again; their pages in the Dagster UI say why"
    assert looked() == []
    do("DELETE FROM dagster.job_ticks", "UPDATE dagster.runs SET status = 'SUCCESS' WHERE run_id = 'e'")
    assert looked() == ["  Dagster evaluates schedules and sensors again", "  no runs fail as a whole any more"]
