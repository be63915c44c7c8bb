"""Fixtures: one embedded server per worker, one database per test, and the number of examples of hypothesis.

`EMA_HYPOTHESIS=thorough` draws ten times as many examples.
"""

import gc
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import pytest
from hypothesis import HealthCheck, settings

from ema_assets.config.watchlist import Watchlist
from ema_assets.operations import sync_watchlist
from ema_assets.providers.http import calls
from ema_assets.providers.vendors import coinbase
from ema_assets.refresh.graph import build
from ema_assets.runtime.postgres.server import EmbeddedServer
from ema_assets.store.database import Database
from ema_assets.store.migrations import migrate
from ema_assets_tests import calendars
from ema_assets_tests.connections import Copies
from ema_assets_tests.core import CORE
from ema_assets_tests.timeframes import FEW

_TEMPLATE = "migrated"
# Several times the space that the server of one pytest worker needs.
_ROOM = 2 * 1024**3

# Neither examples nor their generation have a time limit, because a slow machine is not a bug.
settings.register_profile("default", deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("default"), max_examples=250)
settings.load_profile(os.environ.get("EMA_HYPOTHESIS", "default"))

# This is called here, because test modules request sessions while they are imported.
calendars.keep_for_this_run(os.environ.get("PYTEST_XDIST_TESTRUNUID"))
_runs: set[str] = set()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Remember the run whose workers this process starts."""
    _runs.add(node.workerinput["testrunuid"])


def pytest_unconfigure() -> None:
    """Delete the cache that the workers shared."""
    for run in _runs:
        calendars.forget(run)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Disable garbage collection here: what is collected stays in use, and scanning it takes a tenth of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--broad`."""
    parser.addoption("--broad", action="store_true", help="also run the tests with the marker `broad`")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests with the marker `broad`, unless they are asked for: by option, marker, or the name of their file.

    The slowest tests run first: those that start the whole product, then those in this folder, such as mypy.
    """
    beside = Path(__file__).parent
    items.sort(key=lambda item: (item.get_closest_marker("e2e") is None, item.path.parent != beside))
    are_wanted = config.option.broad or "broad" in config.option.markexpr or any(".py" in each for each in config.args)
    if not are_wanted:
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("broad")])
        items[:] = [item for item in items if not item.get_closest_marker("broad")]


class Databases:
    """Makes and drops databases of one server. A copy of the migrated template takes 0.01 s in memory."""

    def __init__(self, server_url: str) -> None:
        self._server_url = server_url
        self._own = psycopg2.connect(server_url)
        self._made = 0
        # The data of tests may be lost in a crash, and waiting for the disk takes half of their time.
        for setting in ("fsync", "synchronous_commit", "full_page_writes", "autovacuum"):
            self.execute(f"ALTER SYSTEM SET {setting} = off")
        self.execute("SELECT pg_reload_conf()")
        self.execute(f"CREATE DATABASE {_TEMPLATE}")
        migrate(self.url_of(_TEMPLATE))
        with Database(self.url_of(_TEMPLATE)) as template, template.transaction() as transaction:
            # Partitions for all usual timeframes, and the views and sessions that most tests use.
            graph = build(Watchlist((), {}, **CORE))
            sync_watchlist.adopt_graph(transaction, graph)
            sync_watchlist.adopt_graph(transaction, replace(graph, timeframes=FEW))
            for calendar in ("XNYS", "24/7"):
                sync_watchlist.cover(transaction, calendar, date(2025, 1, 1), date(2026, 11, 25))
        self.copies = Copies(self.url_of(_TEMPLATE))

    def url_of(self, name: str) -> str:
        """The URL of the database `name`."""
        return urlsplit(self._server_url)._replace(path=f"/{name}").geturl()

    def execute(self, sql: str) -> None:
        """Run one statement on the server's own database, outside any transaction."""
        try:
            self._execute(sql)
        except psycopg2.OperationalError:
            if not self._own.closed:
                raise
            # A test has closed the connection or restarted the server.
            self._own = psycopg2.connect(self._server_url)
            self._execute(sql)

    def _execute(self, sql: str) -> None:
        self._own.autocommit = True
        with self._own.cursor() as cursor:
            cursor.execute(sql)

    def close(self) -> None:
        """Close all connections."""
        self.copies.close()
        self._own.close()

    def make(self, *, migrated: bool = True, like: str | None = None) -> str:
        """Create a database and return its URL: a copy of `like` or of the template, or empty if not `migrated`."""
        self._made += 1
        name = f"test_{self._made}"
        template = urlsplit(like).path.strip("/") if like else _TEMPLATE if migrated else "template0"
        # With fsync off, a copy of the files is twice as fast as a copy through the log.
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        if like in self.copies if like else migrated:
            self.copies.add(name)
        return self.url_of(name)

    def drop(self, url: str) -> None:
        """Drop a database and close all connections to it."""
        name = urlsplit(url).path.strip("/")
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")
        self.copies.discard(name)

    @contextmanager
    def member(self, url: str, role: str) -> Iterator[str]:
        """The URL of the database at `url` for a new user that has only the rights of `role`."""
        parts = urlsplit(url)
        port = urlsplit(self._server_url).port
        self.execute(f"CREATE ROLE member LOGIN PASSWORD 'a password' IN ROLE {role}")
        try:
            yield f"postgresql://member:a%20password@127.0.0.1:{port}{parts.path}"
        finally:
            self.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'member'")
            self.execute("DROP ROLE member")


def heavy(share: int = 6) -> settings:
    """Settings for properties whose examples take seconds: the profile's number of examples divided by `share`."""
    return settings(max_examples=max(settings.default.max_examples // share, 1))


def mostly_broad(values: Sequence[Any], count: int = 1) -> list[Any]:
    """Return `values` for `parametrize`: the first `count` as they are, the others with the marker `broad`.

    A tuple has one value per name, as in `parametrize`.
    """
    others = []
    for each in values[count:]:
        if isinstance(each, type(pytest.param())):
            others.append(pytest.param(*each.values, marks=[*each.marks, pytest.mark.broad], id=each.id))
        else:
            others.append(pytest.param(*(each if isinstance(each, tuple) else [each]), marks=pytest.mark.broad))
    return [*values[:count], *others]


def empty(database: Database) -> None:
    """Delete all rows of the market tables, except sessions and the graph, which are the same for every test."""
    with database.transaction() as transaction:
        tables = transaction.query(
            """
            SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables
            WHERE schemaname = 'market' AND tablename NOT IN ('session', 'calendar', 'asset', 'asset_input')
            """
        )["name"]
        transaction.execute(f"TRUNCATE {', '.join(tables)}")


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """The databases of the embedded server, which all tests of a worker share."""
    with (
        TemporaryDirectory(prefix="ema_assets_tests_", dir=_quickest_folder(), ignore_cleanup_errors=True) as folder,
        EmbeddedServer(Path(folder) / "postgres") as server,
        pytest.MonkeyPatch.context() as patched,
    ):
        databases = Databases(server.url)
        databases.copies.put_in(patched)
        yield databases
        databases.close()


def _quickest_folder() -> Path | None:
    """A folder in memory if there is one with enough space, else None for the default folder.

    For some seconds after a file was deleted, ext4 does not reuse its inode and searches for others one by one. This is
    nine tenths of the half second that a new database takes after another one was dropped.
    """
    in_memory = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
    has_room = in_memory.is_dir() and os.access(in_memory, os.W_OK) and shutil.disk_usage(in_memory).free > _ROOM
    return in_memory if has_room else None


@pytest.fixture
def database_url(databases: Databases) -> Iterator[str]:
    """A migrated database for one test."""
    url = databases.make()
    yield url
    databases.drop(url)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A connection to a migrated database for one test."""
    with Database(database_url) as connected:
        yield connected


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failed calls are repeated as often as usual, but after a hundredth of the usual pause."""
    monkeypatch.setattr(calls, "_JITTER", (0.005, 0.015))


@pytest.fixture
def no_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests to Coinbase are sent at once, not at most five per second."""
    monkeypatch.setattr(coinbase, "_REQUESTS_PER_SECOND", 1_000)


@pytest.fixture(scope="module")
def module_database(databases: Databases) -> Iterator[Database]:
    """A database for all property tests of one module. They call `empty` at the start of each example."""
    url = databases.make()
    with Database(url) as connected:
        yield connected
    databases.drop(url)
