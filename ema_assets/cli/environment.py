"""What a command finds when it runs: settings, the watchlist, the database, a running `up`, the time."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ema_assets.config import watchlist
from ema_assets.config.settings import Settings
from ema_assets.config.watchlist import Watchlist
from ema_assets.model import clock
from ema_assets.model.errors import ConfigurationError
from ema_assets.runtime import stack
from ema_assets.runtime.postgres.server import EmbeddedServer, read_running, without_libpq_settings
from ema_assets.store.database import Database
from ema_assets.store.setup import prepare_database


def prepare() -> None:
    """Make this process ready for any command: it takes no password meant for another server, and knows the time."""
    if not os.environ.get("EMA_DATABASE_URL", "").strip():
        # A PGPASSWORD meant for another server would win over the embedded one's passfile.
        for name in os.environ.keys() - without_libpq_settings(dict(os.environ)).keys():
            del os.environ[name]
    _agree_on_time()


def _agree_on_time() -> None:
    """Use the clock of the `up` that runs; where none runs, start the clock that is asked for."""
    running = stack.read_state(Settings.from_env())
    text = running.clock if running else clock.started(os.environ.get(clock.VARIABLE, ""))
    if text or clock.VARIABLE in os.environ:
        os.environ[clock.VARIABLE] = text


def load_watchlist(settings: Settings) -> Watchlist:
    """The watchlist; the default one is written first where there is none."""
    watchlist.ensure(settings.watchlist_path)
    return watchlist.load(settings.watchlist_path)


def check_on_watchlist(watched: Watchlist, symbols: Sequence[str]) -> None:
    """Refuse symbols that are not on the watchlist."""
    unknown = sorted(set(symbols) - set(watched.symbols))
    if unknown:
        raise ConfigurationError(f"not on the watchlist: {', '.join(unknown)}; `ema-assets symbols list` shows what is")


def check_calendar(calendar: str) -> None:
    """Refuse a trading calendar that does not exist."""
    from ema_assets.market.calendars import exchange_sessions

    today = clock.now().date()
    exchange_sessions(calendar, today, today)


def default_provider(settings: Settings, running: stack.Running | None) -> str:
    """The provider of symbols that name none: that of the `up` that runs, else the one of the settings."""
    return running.provider if running else settings.provider


def with_providers(settings: Settings, watched: Watchlist) -> Settings:
    """Settings with which all providers can be asked: their keys are there, and the address of the sandbox.

    Where no address is set, it is that of the sandbox which a running `up` has started.
    """
    providers = watched.providers(settings.provider)
    if "alpaca" in providers:
        settings.alpaca_keys()
    running = stack.read_state(settings)
    if "sandbox" in providers and settings.sandbox_url is None:
        if running is None or running.sandbox_url is None:
            raise ConfigurationError(
                "the sandbox exchange is a provider but does not run; start it with `ema-assets up`, or run "
                "`ema-assets sandbox` and set EMA_SANDBOX_URL to what it prints"
            )
        return Settings.from_env({**os.environ, "EMA_SANDBOX_URL": running.sandbox_url})
    return settings


def running_database_url(settings: Settings) -> str | None:
    """The URL of the database in use; None where that is the embedded server and it does not run."""
    return settings.database_url or read_running(settings.postgres_folder)


@contextmanager
def open_database(settings: Settings, *, migrated: bool = True) -> Iterator[Database]:
    """The database in use. An embedded server that does not run is started, and stopped after the block."""
    url = running_database_url(settings)
    server: EmbeddedServer | None = None
    if url is None:
        settings.home.mkdir(parents=True, exist_ok=True)
        server = EmbeddedServer(settings.postgres_folder)
        server.start()
        url = server.url
    try:
        if migrated:
            prepare_database(url)
        with Database(url) as database:
            yield database
    finally:
        if server is not None:
            server.stop()
