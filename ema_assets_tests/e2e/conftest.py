"""A database of the user's own for what is started here."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from ema_assets_tests.conftest import Databases


@pytest.fixture(scope="module")
def own_url(databases: Databases) -> Iterator[str]:
    """The URL, password and all, of an empty database on a server that nobody of us has started."""
    url = databases.make(migrated=False)
    parts = urlsplit(url)
    (passfile,) = parse_qs(parts.query)["passfile"]
    password = quote(Path(passfile).read_text().strip().rpartition(":")[2], safe="")
    yield parts._replace(netloc=parts.netloc.replace("@", f":{password}@"), query="").geturl()
    databases.drop(url)
