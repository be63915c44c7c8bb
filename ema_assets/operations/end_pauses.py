"""Ending the pauses of series and providers after failures, because somebody has fixed the cause."""

from collections.abc import Collection, Sequence
from datetime import datetime

from ema_assets.config.watchlist import Watchlist
from ema_assets.model.timeframes import Timeframe
from ema_assets.store import ledger, older_history, provider_state
from ema_assets.store.database import Database


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
