"""Raises alerts in the outbox as a run does, and reads their deliveries."""

from datetime import datetime

import polars as pl

from ema_assets.store import alert_outbox
from ema_assets.store.alert_outbox import ALERT_SCHEMA
from ema_assets.store.database import Database


def raised(
    database: Database,
    count: int = 1,
    *,
    subscription: str = "mine",
    first: int = 0,
    at: datetime | None = None,
    is_synthetic: bool = False,
) -> int:
    """Raise one crossover per symbol for `count` symbols, at the time `at` or now. Return how many of them are new."""
    rows = pl.DataFrame(
        {
            "subscription": subscription,
            "kind": "crossover",
            "subject": f"S{n:03}|1h",
            "occurrence": "2026-11-26T15:00",
            "symbol": f"S{n:03}",
            "timeframe": "1h",
            "strategy": None,
            "ts": None,
            "text": "bullish",
            "is_over": False,
            "is_synthetic": is_synthetic,
        }
        for n in range(first, first + count)
    )
    with database.transaction() as transaction:
        new = alert_outbox.raise_alerts(transaction, rows.cast(dict(ALERT_SCHEMA)))  # type: ignore[arg-type]
        if at is not None:
            transaction.execute("UPDATE market.alert SET raised_at = $1 WHERE routed_at IS NULL", at)
    return new


def deliveries(database: Database) -> list[tuple[str, str, str, str | None]]:
    """Symbol, channel, state and note of all deliveries, in order."""
    with database.transaction() as transaction:
        return transaction.query(
            """SELECT a.symbol, d.channel, d.state, d.note
               FROM market.alert_delivery d JOIN market.alert a ON a.id = d.alert_id ORDER BY a.id, d.channel"""
        ).rows()
