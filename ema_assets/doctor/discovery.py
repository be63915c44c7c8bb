"""Discovering and running all checks. A check that raises is reported as an error and does not stop the others."""

import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module

from ema_assets.config import watchlist
from ema_assets.config.settings import Settings
from ema_assets.config.watchlist import Watchlist
from ema_assets.doctor import checks
from ema_assets.doctor.declaration import Check, Finding, Surroundings, error
from ema_assets.model import clock
from ema_assets.model.errors import ConfigurationError, StoreError, StoreUnavailable
from ema_assets.model.urls import masked_url, with_settings
from ema_assets.runtime import locate, state
from ema_assets.store import diagnosis
from ema_assets.store.database import Database
from ema_assets.store.driver_errors import is_about_rights, refusal
from ema_assets.store.migrations import all_migrations

# A server that does not answer within this time is not reachable.
CONNECT_SECONDS = 5
SETTINGS = "settings"


@dataclass(frozen=True, slots=True)
class Found:
    """A finding and the name of its check."""

    check: str
    finding: Finding


def discover() -> list[Check]:
    """Return every check, in the order of their places."""
    found: list[Check] = [
        import_module(f"{checks.__name__}.{module.name}").CHECK for module in pkgutil.iter_modules(checks.__path__)
    ]
    return sorted(found, key=lambda check: (check.place, check.name))


def examine(env: Mapping[str, str], *, is_online: bool, known: Iterable[Check] | None = None) -> list[Found]:
    """Run all checks, or those `known`, on the settings of `env`. If these cannot be read, that is the only finding."""
    try:
        settings = Settings.from_env(env)
    except ConfigurationError as refused:
        return [Found(SETTINGS, error(str(refused), "set it right; nothing else can be looked at before"))]
    with _surroundings(settings, env, is_online=is_online) as seen:
        return [
            Found(check.name, finding)
            for check in (discover() if known is None else known)
            for finding in _looked(check, seen)
        ]


def _looked(check: Check, seen: Surroundings) -> Iterator[Finding]:
    try:
        yield from check.look(seen)
    except Exception as failed:  # noqa: BLE001 - whatever is wrong here must not hide what the other checks find
        refused = refusal(failed)
        yield error(
            f"this could not be looked at: {refused or f'{type(failed).__name__}: {failed}'}",
            "the other lines may say why; if they do not, report it as a bug",
        )


@contextmanager
def _surroundings(settings: Settings, env: Mapping[str, str], *, is_online: bool) -> Iterator[Surroundings]:
    running = state.read_state(settings)
    watched, watchlist_error = _watchlist(settings)
    with _database(settings) as (database, database_error):
        yield Surroundings(
            settings=settings.with_addresses(running.provider_urls if running else {}),
            now=datetime.now(UTC),
            market_now=clock.now(env),
            is_online=is_online,
            running=running,
            database=database,
            database_error=database_error,
            is_migrated=database is not None and _is_migrated(database),
            watched=watched,
            watchlist_error=watchlist_error,
        )


def _watchlist(settings: Settings) -> tuple[Watchlist | None, str | None]:
    try:
        return watchlist.read(settings), None
    except (ConfigurationError, OSError) as refused:
        return None, str(refused)


@contextmanager
def _database(settings: Settings) -> Iterator[tuple[Database | None, str | None]]:
    """Yield the database if it answers, and otherwise why not. An embedded server gets no lease: that would write."""
    try:
        url = locate.database_url(settings)
    except StoreUnavailable:
        yield None, None
        return
    asked = with_settings(url, connect_timeout=str(CONNECT_SECONDS))
    with Database(asked) as database:
        try:
            with database.transaction() as transaction:
                transaction.read_one_moment()
                diagnosis.server(transaction)
        except StoreError as refused:
            # The connect_timeout in the URL is not the user's.
            yield None, str(refused).replace(masked_url(asked), masked_url(url))
            return
        yield database, None


def _is_migrated(database: Database) -> bool:
    try:
        with database.transaction() as transaction:
            transaction.read_one_moment()
            applied = diagnosis.applied_migrations(transaction)
    except Exception as error:
        if not is_about_rights(error):
            raise
        # The check of migrations reports that.
        return False
    return all(each.number in applied for each in all_migrations())
