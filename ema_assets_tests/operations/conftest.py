"""A fixture for tests that compare a database with another one that took a different path."""

from collections.abc import Iterator

import pytest

from ema_assets.store.database import Database
from ema_assets_tests.conftest import Databases


@pytest.fixture
def other(databases: Databases) -> Iterator[Database]:
    """A second, empty database."""
    url = databases.make()
    with Database(url) as connected:
        yield connected
    databases.drop(url)
