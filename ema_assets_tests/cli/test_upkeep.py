"""Tests of `ema-assets maintain` and `migrate`."""

import json
from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg2
import pytest

from ema_assets.config.watchlist import Watchlist
from ema_assets.operations.sync_watchlist import adopt_graph
from ema_assets.refresh.graph import build
from ema_assets.store import roles
from ema_assets.store.database import Database
from ema_assets.store.migrations import migrate
from ema_assets_tests.cli.conftest import Refused, Run
from ema_assets_tests.conftest import Databases
from ema_assets_tests.core import CORE


def test_an_empty_database_is_migrated_once(run: Run, databases: Databases) -> None:
    url = databases.make(migrated=False)
    first, second = run("migrate", EMA_DATABASE_URL=url), run("migrate", EMA_DATABASE_URL=url)
    databases.drop(url)
    assert first.stdout.startswith("Applied 0001 ")
    assert first.stdout.endswith("\nGranted ema_reader, ema_metrics, ema_alerts what they need.\n")
    assert second.stdout == "Nothing to do.\n"


@pytest.fixture
def without_roles(databases: Databases) -> Iterator[str]:
    """A migrated and synced database whose owner may not create roles, on a server that has none of ours."""
    url = databases.make(migrated=False)
    parts = urlsplit(url)
    databases.execute("CREATE ROLE limited")
    databases.execute(f"ALTER DATABASE {parts.path[1:]} OWNER TO limited")
    for role in roles.EVERY:
        databases.execute(f"ALTER ROLE {role} RENAME TO {role}_away")
    limited = f"{url}{'&' if parts.query else '?'}options=-crole%3Dlimited"
    migrate(limited)
    with Database(limited) as database, database.transaction() as transaction:
        adopt_graph(transaction, build(Watchlist((), {}, **CORE)))
    yield limited
    databases.drop(url)
    for role in roles.EVERY:
        databases.execute(f"DROP ROLE IF EXISTS {role}")
        databases.execute(f"ALTER ROLE {role}_away RENAME TO {role}")
    databases.execute("DROP ROLE limited")


def test_migrate_grants_rights_to_roles_that_were_created_after_the_migrations(
    run: Run, refused: Refused, databases: Databases, without_roles: str
) -> None:
    def levels_of(check: str) -> list[str]:
        found = json.loads(run("doctor", "--json", EMA_DATABASE_URL=without_roles).stdout)["findings"]
        return [each["level"] for each in found if each["check"] == check]

    statements = [
        *(f"CREATE ROLE {role} NOLOGIN" for role in ("ema_reader", "ema_metrics", "ema_alerts")),
        *("GRANT ema_reader TO ema_metrics", "GRANT ema_metrics TO ema_alerts"),
    ]
    first = run("migrate", EMA_DATABASE_URL=without_roles)
    assert first.exit_code == 0
    nothing, asked, *told = first.stdout.splitlines()
    assert nothing == "Nothing to do."
    assert "Have somebody who may create roles run this, and run `ema-assets migrate` again:" in asked
    assert told == [f"  {each};" for each in statements]
    missing = run("doctor", EMA_DATABASE_URL=without_roles).stdout
    assert "warning  roles " in missing
    assert "missing for those who only read: CREATE ROLE ema_reader NOLOGIN; CREATE ROLE ema_metrics" in missing
    for statement in statements:
        databases.execute(statement)
    with databases.member(without_roles, "ema_reader") as reader:
        sentence = refused("screen", EMA_DATABASE_URL=reader)
        assert sentence.endswith(
            "cannot be migrated: permission denied for schema ema_assets; have its owner run `ema-assets migrate`, and "
            "make this user a member of ema_reader"
        )
        # Only the owner can migrate and grant.
        assert refused("migrate", EMA_DATABASE_URL=reader) == sentence
        assert levels_of("roles") == ["warning"]
        granted = run("migrate", EMA_DATABASE_URL=without_roles).stdout
        assert granted == "Granted ema_reader, ema_metrics, ema_alerts what they need.\n"
        shown = run("screen", EMA_DATABASE_URL=reader)
        assert shown.exit_code == 0, shown.output
        assert run("migrate", EMA_DATABASE_URL=reader).stdout == "Nothing to do.\n"
    assert run("migrate", EMA_DATABASE_URL=without_roles).stdout == "Nothing to do.\n"
    assert levels_of("roles") == ["ok"]


def test_migrate_creates_missing_roles_if_the_owner_may_create_roles(
    run: Run, databases: Databases, without_roles: str
) -> None:
    databases.execute("ALTER ROLE limited CREATEROLE")
    made = run("migrate", EMA_DATABASE_URL=without_roles).stdout
    assert made == (
        "Made the roles ema_reader, ema_metrics, ema_alerts.\n"
        "Granted ema_reader, ema_metrics, ema_alerts what they need.\n"
    )
    with databases.member(without_roles, "ema_alerts") as alerts:
        assert run("screen", EMA_DATABASE_URL=alerts).exit_code == 0


def test_maintenance_needs_no_dagster_and_respects_the_configured_days(run: Run, database_url: str) -> None:
    with psycopg2.connect(database_url) as connection, connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO market.bar_rejected (symbol, timeframe, reason, source, rejected_at)
               SELECT 'AAPL', '5m', 'why', 'who', now() - n * interval '1 day' + interval '1 hour'
               FROM generate_series(1, 100) n"""
        )
    for days, gone in ((None, 10), (50, 40), (50, 0)):
        env = {"EMA_REJECTED_RETENTION_DAYS": str(days)} if days else {}
        shown = run("maintain", EMA_DATABASE_URL=database_url, **env)
        assert shown.exit_code == 0, shown.output
        assert f"Deleted {gone} rejected bars after {days or 90} days;" in shown.stdout
        assert shown.stdout.startswith("Deleted 0 runs with 0 events ")


def test_commands_that_write_tell_a_read_only_user_what_is_missing(
    refused: Refused, databases: Databases, database_url: str
) -> None:
    with databases.member(database_url, "ema_reader") as reader:
        for command in ("maintain", "refresh"):
            sentence = refused(command, EMA_DATABASE_URL=reader, EMA_SANDBOX_URL="http://127.0.0.1:9")
            assert "permission denied for " in sentence
            assert sentence.endswith(
                "; the user of EMA_DATABASE_URL may only read, or not even that: what writes needs the owner of the "
                "database, and what reads a member of ema_reader"
            )


def test_commands_that_write_report_the_possible_causes_of_a_read_only_database(
    refused: Refused, databases: Databases
) -> None:
    """Examples are a standby, and a database or role with default_transaction_read_only."""
    url, empty = databases.make(), databases.make(migrated=False)
    for each in (url, empty):
        databases.execute(f"ALTER DATABASE {urlsplit(each).path[1:]} SET default_transaction_read_only = on")
    env = {"EMA_DATABASE_URL": url, "EMA_SANDBOX_URL": "http://127.0.0.1:9"}
    sentences = [refused(command, **env) for command in ("maintain", "refresh", "migrate")]
    sentences.append(refused("status", EMA_DATABASE_URL=empty))
    databases.drop(url)
    databases.drop(empty)
    for sentence in sentences:
        assert " in a read-only transaction; it is a standby, or default_transaction_read_only is on" in sentence
        assert sentence.endswith("what writes needs a primary that may be written to")
