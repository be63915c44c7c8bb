"""Tests of the facts that the doctor reads about a database server, as each role may see them."""

from contextlib import closing
from urllib.parse import urlsplit

import psycopg2

from ema_assets.store import diagnosis
from ema_assets.store.database import Database
from ema_assets_tests.conftest import Databases


def limits(url: str) -> tuple[int, int]:
    """Return how many connections the user of `url` may have, and how many are free besides the one that queries."""
    with Database(url) as database, database.transaction() as transaction:
        found = diagnosis.server(transaction)
    return found.connections, found.connections_free


def test_free_connections_respect_the_limits_of_server_role_and_database(databases: Databases) -> None:
    url = databases.make()
    name = urlsplit(url).path.strip("/")
    with databases.member(url, "ema_reader") as member, closing(psycopg2.connect(url)):
        allowed, free = limits(member)
        # Sessions of other roles count, although this role may not see their details.
        assert allowed - free >= 2
        databases.execute("ALTER ROLE member CONNECTION LIMIT 7")
        assert limits(member) == (7, 6)
        databases.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 4")
        assert limits(member) == (4, 2)
        # Neither limit applies to a superuser.
        assert limits(url)[0] == allowed
    databases.drop(url)
