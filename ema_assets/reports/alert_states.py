"""How alerts fare: channels that take none, what waits and what was given up, in sentences. Sends nothing."""

from datetime import datetime, timedelta

from ema_assets.store import alert_delivery
from ema_assets.store.database import Transaction

_DAY = timedelta(days=1)
# What is due is sent within seconds where anybody delivers.
_PATIENCE = timedelta(minutes=2)


def alert_problems(transaction: Transaction, now: datetime) -> list[str]:
    """A sentence for each channel that takes no messages, for what was given up, and when nobody delivers.

    `now` is the machine's time, UTC.
    """
    found = []
    oldest = alert_delivery.unrouted_since(transaction)
    overdue = 0
    for row in alert_delivery.channels(transaction, now - _DAY).iter_rows(named=True):
        waiting = f"{row['waiting']} alert{'' if row['waiting'] == 1 else 's'}"
        if row["failures"]:
            found.append(
                f"alerts: {row['channel']} takes no message, tried {_times(row['failures'])}, again at "
                f"{row['next_attempt_at']:%H:%M:%S} UTC; {waiting} wait{'s' if row['waiting'] == 1 else ''}: "
                f"{row['last_error']}"
            )
        elif row["oldest_due_at"] is not None and row["oldest_due_at"] < now - _PATIENCE:
            overdue += row["waiting"]
        if row["given_up"]:
            found.append(
                f"alerts: {row['given_up']} for {row['channel']} were given up in the last 24 hours; "
                '`ema-assets alerts log --state "given up"` names them'
            )
    if overdue or (oldest is not None and oldest < now - _PATIENCE):
        found.append(
            "alerts: some wait and nobody delivers them; `ema-assets up` and `ema-assets alerts deliver` do, and "
            "Dagster's sensor `deliver_alerts`"
        )
    return found


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"
