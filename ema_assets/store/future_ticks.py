"""Ticks at times that are still to come: a clock that was ahead has left them in Dagster's tables. SQL only.

Dagster evaluates a schedule or a sensor only after its last tick, so it would wait for hours.
"""

from datetime import datetime, timedelta

from ema_assets.store import diagnosis
from ema_assets.store.database import Transaction
from ema_assets.store.ledger import CLOCK_SLACK_SECONDS

# A tick is stored with the time at which its evaluation began, so none is ahead while the clock is right.
AHEAD = timedelta(seconds=CLOCK_SLACK_SECONDS)
# The times that Dagster keeps of a schedule or a sensor `i`, such as `last_tick_timestamp`.
_TIMES_AHEAD = """
    SELECT key FROM jsonb_each(i.instigator_body::jsonb -> 'job_specific_data')
    WHERE key LIKE '%timestamp' AND jsonb_typeof(value) = 'number'
      AND to_timestamp(value::float8) > $2::timestamptz
"""


def forget_future_ticks(transaction: Transaction, now: datetime) -> bool:
    """Let schedules and sensors go on that wait for a time which lies ahead of `now`; return whether there were any.

    Their cursors stay. Called while no daemon of Dagster runs, which would write the times anew.
    """
    if not all(diagnosis.may_read(transaction, table) for table in ("dagster.job_ticks", "dagster.instigators")):
        return False
    found = transaction.query(
        f"""
        WITH forgotten AS (
            DELETE FROM dagster.job_ticks WHERE timestamp > $2::timestamptz AT TIME ZONE 'UTC' RETURNING id
        ), waiting AS (
            -- Dagster refuses a time without decimal places.
            SELECT i.id, (
                SELECT jsonb_object_agg(key, extract(epoch FROM $1::timestamptz)::numeric(20, 6))
                FROM ({_TIMES_AHEAD}) keys
            ) AS times
            FROM dagster.instigators i WHERE EXISTS ({_TIMES_AHEAD})
        ), changed AS (
            UPDATE dagster.instigators i
            SET instigator_body = jsonb_set(
                i.instigator_body::jsonb, '{{job_specific_data}}',
                (i.instigator_body::jsonb -> 'job_specific_data') || w.times
            )::text
            FROM waiting w WHERE w.id = i.id RETURNING i.id
        )
        SELECT EXISTS (SELECT FROM forgotten) OR EXISTS (SELECT FROM changed) AS were_there
        """,
        now,
        now + AHEAD,
    )
    return bool(found.item())
