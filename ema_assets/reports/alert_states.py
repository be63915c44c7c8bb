"""Problems of alerts in sentences: failing channels, waiting alerts, alerts given up. Sends nothing."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from ema_assets.model.counts import counted, noun, times
from ema_assets.store import alert_delivery
from ema_assets.store.database import Transaction

_DAY = timedelta(days=1)
# Alerts that are due are sent within seconds if any process delivers.
_PATIENCE = timedelta(minutes=2)


def alert_problems(transaction: Transaction, now: datetime, used: Collection[str] | None = None) -> list[str]:
    """Return a sentence per channel that takes no messages or has given up alerts, and one when nobody delivers.

    `now` is the machine's time, UTC; `used` are the channels that an alert of the watchlist names, None for all. Alerts
    that wait for any other channel are never sent, and that is no problem.
    """
    found = []
    overdue = 0
    for row in alert_delivery.channels(transaction, now - _DAY).iter_rows(named=True):
        if used is None or row["channel"] in used:
            if row["failures"]:
                found.append(f"alerts: {row['channel']} takes no message, {_attempts(row)}: {row['last_error']}")
            elif row["oldest_due_at"] is not None and row["oldest_due_at"] < now - _PATIENCE:
                overdue += row["waiting"]
        if row["given_up"]:
            count = row["given_up"]
            found.append(
                f"alerts: {count} for {row['channel']} {noun(count, 'was', 'were')} given up in the last 24 hours; "
                '`ema-assets alerts log --state "given up"` names them'
            )
    oldest = None if used is not None and not used else alert_delivery.unrouted_since(transaction)
    if overdue or (oldest is not None and oldest < now - _PATIENCE):
        found.append(
            "alerts: some wait and are not being delivered; `ema-assets up`, `ema-assets alerts deliver` and Dagster's "
            "sensor `deliver_alerts` deliver them"
        )
    return found


def _attempts(row: dict[str, Any]) -> str:
    tried = f"tried {times(row['failures'])}"
    if not row["waiting"]:
        return f"{tried}, and again with the next alert"
    waiting = counted(row["waiting"], "alert waits", "alerts wait")
    return f"{tried}, again at {row['next_attempt_at']:%H:%M:%S} UTC; {waiting}"
