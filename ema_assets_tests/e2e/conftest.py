"""A fixture: a database as users bring it, for stacks that start no PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from ema_assets_tests.conftest import Databases


@pytest.fixture(scope="module")
def own_url(databases: Databases) -> Iterator[str]:
    """The URL, including the password, of an empty database on a server that no `up` has started."""
    url = databases.make(migrated=False)
    parts = urlsplit(url)
    (passfile,) = parse_qs(parts.query)["passfile"]
    password = quote(Path(passfile).read_text().strip().rpartition(":")[2], safe="")
    yield parts._replace(netloc=parts.netloc.replace("@", f":{password}@"), query="").geturl()
    databases.drop(url)
