"""The records of a doctor's check, its surroundings and its findings. The checks themselves are in `checks`."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ema_assets.config.settings import Settings
from ema_assets.config.watchlist import Watchlist
from ema_assets.runtime.state import Running
from ema_assets.store.database import Database

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found and what to do about it, each a sentence without its full stop.

    A warning is about something that works at present, an error about something that does not.
    """

    level: Level
    text: str
    remedy: str = ""


def ok(text: str) -> Finding:
    """Return a finding that all is well."""
    return Finding("ok", text)


def warning(text: str, remedy: str) -> Finding:
    """Return a finding on something that works but needs attention."""
    return Finding("warning", text, remedy)


def error(text: str, remedy: str) -> Finding:
    """Return a finding on something that does not work."""
    return Finding("error", text, remedy)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Everything that checks can look at.

    Attributes:
        settings: settings, with the addresses of services that a running `up` has started.
        now: the machine's time, UTC.
        market_now: the market's time, UTC.
        is_online: whether vendors may be asked over the network.
        running: the `up` of this EMA_HOME, or None.
        database: a connection, or None when the database cannot be reached or does not run.
        database_error: why it cannot be reached; None when it can, or when an embedded server just does not run.
        is_migrated: whether the database has the tables of this version, so that they can be queried.
        watched: the watchlist, or the default one if there is no file yet; None when it cannot be read.
        watchlist_error: why it cannot be read.
    """

    settings: Settings
    now: datetime
    market_now: datetime
    is_online: bool
    running: Running | None
    database: Database | None
    database_error: str | None
    is_migrated: bool
    watched: Watchlist | None
    watchlist_error: str | None


@dataclass(frozen=True, slots=True)
class Check:
    """One check. `place` orders the checks: those that others depend on come first."""

    name: str
    place: int
    look: Callable[[Surroundings], Iterable[Finding]]
