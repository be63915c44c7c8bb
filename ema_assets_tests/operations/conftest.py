"""What tests compare with: the same in a database of its own."""

from collections.abc import Iterator

import pytest

from ema_assets.store.database import Database
from ema_assets_tests.conftest import Databases


@pytest.fixture
def other(databases: Databases) -> Iterator[Database]:
    """A second database."""
    url = databases.make()
    with Database(url) as connected:
        yield connected
    databases.drop(url)
