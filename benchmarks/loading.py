"""The history that a benchmark begins with, loaded without Dagster."""

from collections.abc import Sequence
from datetime import datetime

from ema_assets.config.settings import Settings
from ema_assets.config.watchlist import Watchlist
from ema_assets.model.timeframes import Timeframe
from ema_assets.operations.refresh_all import refresh_all
from ema_assets.refresh.clients import open_provider
from ema_assets.refresh.plan_requests import FetchRules
from ema_assets.store.database import Database


def load_history(
    database: Database, settings: Settings, watched: Watchlist, timeframes: Sequence[Timeframe], now: datetime
) -> None:
    """Load and compute everything of `timeframes` up to `now`.

    Raises:
        SystemExit: when a series fails.
    """
    for _, _, outcome in refresh_all(
        database,
        watched,
        lambda name: open_provider(settings, name),
        FetchRules(watched.history_days),
        watched.symbols,
        timeframes,
        clock=lambda: now,
    ):
        if outcome.errors:
            raise SystemExit(f"loading failed: {outcome.errors}")
