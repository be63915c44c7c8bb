"""What a server says of itself, as each role may see it."""

from contextlib import closing
from urllib.parse import urlsplit

import psycopg2

from ema_assets.store import diagnosis
from ema_assets.store.database import Database
from ema_assets_tests.conftest import Databases


def limits(url: str) -> tuple[int, int]:
    """How many connections the user of `url` may have, and how many of these are left beside the one that asks."""
    with Database(url) as database, database.transaction() as transaction:
        found = diagnosis.server(transaction)
    return found.connections, found.connections_free


def test_the_free_connections_are_those_that_a_role_has_left_by_every_limit(databases: Databases) -> None:
    url = databases.make()
    name = urlsplit(url).path.strip("/")
    with databases.member(url, "ema_reader") as member, closing(psycopg2.connect(url)):
        allowed, free = limits(member)
        # Sessions of others count, though this role may not see what they are.
        assert allowed - free >= 2
        databases.execute("ALTER ROLE member CONNECTION LIMIT 7")
        assert limits(member) == (7, 6)
        databases.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 4")
        assert limits(member) == (4, 2)
        # A superuser has neither limit.
        assert limits(url)[0] == allowed
    databases.drop(url)
