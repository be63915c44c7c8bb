"""Ending the pauses of series and providers after failures, because somebody has fixed the cause, or the clock."""

from collections.abc import Collection, Sequence
from datetime import datetime

from ema_assets.config.watchlist import Watchlist
from ema_assets.model.timeframes import Timeframe
from ema_assets.store import alert_delivery, ledger, older_history, provider_state
from ema_assets.store.database import Database
from ema_assets.store.future_ticks import forget_future_ticks


def end_pauses(
    database: Database,
    watched: Watchlist,
    default_provider: str,
    symbols: Collection[str],
    timeframes: Sequence[Timeframe],
    now: datetime,
) -> None:
    """End the pauses of `symbols` on `timeframes`, and of their providers."""
    by_provider = watched.by_provider(default_provider)
    with database.transaction() as transaction:
        ledger.end_pauses(transaction, list(symbols), timeframes)
        older_history.end_pauses(transaction, list(symbols), timeframes, now)
        asked = [name for name, theirs in by_provider.items() if not set(theirs).isdisjoint(symbols)]
        provider_state.end_pauses(transaction, asked, now)


def forget_clock_ahead(
    database: Database, watched: Watchlist, default_provider: str, machine_now: datetime, now: datetime
) -> bool:
    """Let everything go on that waits for a time of a clock which was ahead; return whether Dagster waited for one.

    That is Dagster, and every pause after a failure: it may have begun hours ahead, for example while a computer
    started without network and took the local time for UTC. `now` is the market's time.
    """
    with database.transaction() as transaction:
        if not forget_future_ticks(transaction, machine_now):
            return False
        if watched.alerts is not None:
            alert_delivery.end_pauses(transaction, list(watched.alerts.used()))
    end_pauses(database, watched, default_provider, watched.symbols, watched.with_bars, now)
    return True
