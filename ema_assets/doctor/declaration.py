"""What a check of the doctor declares and what it finds. The checks themselves are in `checks`."""

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
    """What a check has found, in a sentence without its full stop, and what to do about it, likewise.

    A warning is something that works today. An error is something that does not.
    """

    level: Level
    text: str
    remedy: str = ""


def ok(text: str) -> Finding:
    """All is well."""
    return Finding("ok", text)


def warning(text: str, remedy: str) -> Finding:
    """It works, and should be looked at."""
    return Finding("warning", text, remedy)


def error(text: str, remedy: str) -> Finding:
    """It does not work."""
    return Finding("error", text, remedy)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What there is to look at.

    Attributes:
        settings: with the addresses of services that a running `up` has started.
        now: the machine's time, UTC.
        market_now: the market's time, UTC.
        is_online: whether vendors may be asked over the network.
        running: the `up` of this EMA_HOME, or None.
        database: a connection, or None when the database cannot be reached or does not run.
        database_error: why it cannot be reached; None when it can, or when an embedded server just does not run.
        is_migrated: whether the database has the tables of this version, so that they can be asked.
        watched: the watchlist, the default one where there is no file yet; None when it cannot be read.
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
    """One thing to look at. `place` orders the checks: what others rest on comes first."""

    name: str
    place: int
    look: Callable[[Surroundings], Iterable[Finding]]
