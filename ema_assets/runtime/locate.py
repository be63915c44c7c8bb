"""Where the database is: the user's own, or the embedded server, which runs while any process holds a lease on it.

Processes that `up` starts get its URL in EMA_DATABASE_URL. They hold no lease: `up` holds one until they have ended.
Without `up`, each process of Dagster that needs the embedded server holds a lease until its end. The process that
serves metrics holds none: monitoring must not keep a server running.
"""

import atexit
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ema_assets.config.settings import Settings
from ema_assets.model.errors import StoreUnavailable

if TYPE_CHECKING:
    from ema_assets.runtime.postgres.server import EmbeddedServer

# Process-wide, keyed by folder.
_leased: "dict[Path, EmbeddedServer]" = {}
_lock = threading.Lock()
_takes_leases = True


def take_no_leases() -> None:
    """Hold no leases from now on: an embedded server may stop while this process uses it, and is not started for it."""
    global _takes_leases  # noqa: PLW0603 - who asks for a lease is Dagster, which has no argument for it
    _takes_leases = False


def database_url(settings: Settings) -> str:
    """Return the URL (libpq form) of the database in use.

    Raises:
        StoreUnavailable: when EMA_DATABASE_URL is not set and no embedded server of this EMA_HOME runs.
    """
    if settings.database_url is not None:
        return settings.database_url
    from ema_assets.runtime.postgres.server import read_running

    url = read_running(settings.postgres_folder)
    if url is None:
        raise StoreUnavailable(
            f"no database: EMA_DATABASE_URL is not set and no embedded PostgreSQL runs for {settings.home}; "
            "start everything with `ema-assets up`, or set EMA_DATABASE_URL"
        )
    return url


def leased_database(settings: Settings) -> str:
    """Return the URL (libpq form) of the database in use. An embedded server is started if none runs.

    It runs until this process ends; one that has died meanwhile is restarted. After `take_no_leases`, this is the same
    as `database_url`.

    Raises:
        EmbeddedServerError: when it cannot be started.
    """
    if settings.database_url is not None or not _takes_leases:
        return database_url(settings)
    from ema_assets.runtime.postgres.server import EmbeddedServer

    with _lock:
        server = _leased.get(settings.postgres_folder)
        if server is None:
            settings.home.mkdir(parents=True, exist_ok=True)
            server = EmbeddedServer(settings.postgres_folder)
            server.start()
            atexit.register(server.stop)
            _leased[settings.postgres_folder] = server
        elif not server.is_running():
            server.start()
        return server.url


def give_back() -> None:
    """Give back this process's leases on embedded servers, for a process that skips Python's exit handlers.

    The last process to give back its lease stops the server.
    """
    with _lock:
        while _leased:
            _, server = _leased.popitem()
            server.stop()


@contextmanager
def started_database(settings: Settings) -> Iterator[str]:
    """Yield the URL of the database in use. An embedded server is started if none runs, and runs during the block."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    from ema_assets.runtime.postgres.server import EmbeddedServer

    settings.home.mkdir(parents=True, exist_ok=True)
    with EmbeddedServer(settings.postgres_folder) as server:
        yield server.url


@contextmanager
def running_database(settings: Settings) -> Iterator[str | None]:
    """Yield the URL of the database in use, None when no embedded server runs. A running one runs during the block."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    from ema_assets.runtime.postgres.server import EmbeddedServer

    server = EmbeddedServer(settings.postgres_folder)
    try:
        yield server.url if server.attach() else None
    finally:
        server.stop()


@contextmanager
def existing_database(settings: Settings) -> Iterator[str]:
    """Yield the URL of the database in use, for a caller that only reads. A running embedded server runs in the block.

    One that does not run is started, and runs until this process ends: only the first call of a notebook waits for it.

    Raises:
        StoreUnavailable: as in `check_exists`.
        EmbeddedServerError: when it cannot be started.
    """
    check_exists(settings)
    with running_database(settings) as url:
        yield leased_database(settings) if url is None else url


def check_exists(settings: Settings) -> None:
    """Refuse to create a database, for callers that only read.

    Raises:
        StoreUnavailable: when EMA_DATABASE_URL is not set and EMA_HOME has no database yet.
    """
    if settings.database_url is None and not settings.postgres_folder.exists():
        raise StoreUnavailable(
            f"there is nothing in {settings.home} yet; start everything with `ema-assets up`, or set EMA_HOME to the "
            "folder that has your data"
        )
