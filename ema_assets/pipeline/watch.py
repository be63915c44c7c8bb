"""The watchlist into the database: instruments, ledger rows, sessions, code versions."""

from datetime import date, datetime, timedelta

from ema_assets import lineage
from ema_assets.domain import rollup, strategy
from ema_assets.domain.calendars import exchange_sessions
from ema_assets.signals import ema_signals, ema_trend
from ema_assets.store import ledger, sessions
from ema_assets.store.database import Database, Transaction
from ema_assets.watchlist import Watchlist

# Changing one of these makes Dagster and the ledger recompute that asset and what reads it.
CODE_VERSIONS = {
    lineage.OHLC: rollup.CODE_VERSION,
    lineage.EMA_SIGNALS: ema_signals.SIGNAL.version,
    lineage.EMA_TREND: ema_trend.SIGNAL.version,
    lineage.STRATEGY: strategy.CODE_VERSION,
}

_AHEAD = timedelta(days=370)
# Sessions are computed again when fewer than this many days are left, so that the calendar never runs dry.
_LEAST_AHEAD = timedelta(days=180)


def code_versions(seed: str) -> dict[str, str]:
    """The version of each asset's code, with EMAs seeded by `seed`."""
    return {**CODE_VERSIONS, lineage.EMA_SIGNALS: ema_signals.SIGNAL.code_version({"seed": seed})}


def sync(database: Database, watchlist: Watchlist, now: datetime) -> tuple[list[str], list[str]]:
    """Make the database watch what `watchlist` says; return the symbols added and those taken off.

    Raises:
        ConfigurationError: when a calendar is not known; nothing is written then.
    """
    past = now.date() - timedelta(days=max(watchlist.history_days.values()) + 30)
    with database.transaction() as transaction:
        for calendar in watchlist.calendars:
            cover(transaction, calendar, past, now.date())
        added, removed = ledger.sync_instruments(transaction, watchlist.instruments)
        ledger.adopt_code_versions(transaction, code_versions(watchlist.ema_seed))
    return added, removed


def cover(transaction: Transaction, calendar: str, start: date, today: date) -> None:
    """Store the sessions of `calendar` from `start` to a year from `today`, where they are missing."""
    low, high = sessions.covered(transaction).get(calendar, (date.max, date.min))
    if low <= start + timedelta(days=7) and high >= today + _LEAST_AHEAD:
        return
    sessions.save(transaction, exchange_sessions(calendar, min(start, low), max(today + _AHEAD, high)))
