"""The delivery of alerts: handed to channels, waiting, sent or given up; and the state of channels. SQL only."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import polars as pl

from ema_assets.store.database import Transaction

FIRST_PAUSE_SECONDS = 5
LONGEST_PAUSE_SECONDS = 900
# A message that could not be sent for this long is no longer of interest.
GIVEN_UP_AFTER = timedelta(hours=6)


def unrouted(transaction: Transaction, most: int) -> pl.DataFrame:
    """Return at most `most` alerts that were handed to no channel yet, oldest first: id, subscription, raised_at."""
    return transaction.query(
        "SELECT id, subscription, raised_at FROM market.alert WHERE routed_at IS NULL ORDER BY id LIMIT $1", most
    )


def route(transaction: Transaction, routed: Sequence[int], deliveries: pl.DataFrame, now: datetime) -> None:
    """Hand the alerts with the ids `routed` to channels: `deliveries` has alert_id, channel, due_at."""
    if not deliveries.is_empty():
        transaction.execute(
            """
            INSERT INTO market.alert_delivery (alert_id, channel, due_at)
            SELECT * FROM unnest($1::bigint[], $2::text[], $3::timestamptz[]) ON CONFLICT DO NOTHING
            """,
            deliveries["alert_id"],
            deliveries["channel"],
            deliveries["due_at"],
        )
    transaction.execute("UPDATE market.alert SET routed_at = $2 WHERE id = ANY ($1::bigint[])", list(routed), now)


def waiting(transaction: Transaction, due_by: datetime, tried_by: datetime) -> pl.DataFrame:
    """Return waiting alerts that are due by `due_by`, and those that are sent together with them.

    An alert takes along all waiting alerts of its subscription for the same channel. A channel that did not take a
    message is left out until its pause is over by `tried_by`. Columns: channel, due_at, raised_at, those of the alert,
    taken_by. Sorted by channel, symbol and timeframe; alerts about no series come first.
    """
    return transaction.query(
        """
        WITH due AS (
            SELECT DISTINCT d.channel, a.subscription
            FROM market.alert_delivery d JOIN market.alert a ON a.id = d.alert_id
            LEFT JOIN market.alert_channel c ON c.channel = d.channel
            WHERE d.state = 'waiting' AND d.due_at <= $1 AND (c.next_attempt_at IS NULL OR c.next_attempt_at <= $2)
        )
        SELECT d.channel, d.due_at, a.raised_at, a.id, a.subscription, a.kind, a.text, a.symbol, a.timeframe,
               a.strategy, a.ts, a.is_over, a.is_synthetic, d.taken_by
        FROM market.alert_delivery d JOIN market.alert a ON a.id = d.alert_id
        WHERE d.state = 'waiting' AND (d.channel, a.subscription) IN (SELECT channel, subscription FROM due)
        ORDER BY d.channel, a.symbol NULLS FIRST, a.timeframe, a.id
        """,
        due_by,
        tried_by,
    )


def next_due(transaction: Transaction) -> datetime | None:
    """Return when the next alert is due, or the next attempt of its failing channel if later; None when none waits."""
    found = transaction.query(
        """
        SELECT min(greatest(d.due_at, c.next_attempt_at)) AS at
        FROM market.alert_delivery d LEFT JOIN market.alert_channel c ON c.channel = d.channel
        WHERE d.state = 'waiting'
        """
    )
    at = found.item()
    assert at is None or isinstance(at, datetime)
    return at


def messages_since(transaction: Transaction, since: datetime) -> pl.DataFrame:
    """Return the messages that were sent after `since`: subscription, channel, sent_at; newest first."""
    return transaction.query(
        """
        SELECT DISTINCT a.subscription, d.channel, d.settled_at AS sent_at
        FROM market.alert_delivery d JOIN market.alert a ON a.id = d.alert_id
        WHERE d.state = 'sent' AND d.settled_at > $1 ORDER BY 3 DESC
        """,
        since,
    )


def postpone(transaction: Transaction, channel: str, ids: Sequence[int], until: datetime) -> None:
    """Make alerts to `channel` due at `until`."""
    transaction.execute(
        """
        UPDATE market.alert_delivery SET due_at = $3
        WHERE channel = $1 AND alert_id = ANY ($2::bigint[]) AND state = 'waiting'
        """,
        channel,
        list(ids),
        until,
    )


def settle(
    transaction: Transaction, channel: str, ids: Sequence[int], state: str, note: str | None, now: datetime
) -> None:
    """Write the final `state` of alerts to `channel`: `sent`, or `given up` with the reason in `note`."""
    transaction.execute(
        """
        UPDATE market.alert_delivery SET state = $3, note = nullif($4, ''), settled_at = $5
        WHERE channel = $1 AND alert_id = ANY ($2::bigint[]) AND state = 'waiting'
        """,
        channel,
        list(ids),
        state,
        note or "",
        now,
    )


def note_taken(
    transaction: Transaction,
    channel: str,
    ids: Sequence[int],
    taken_by: Sequence[str],
    targets: Sequence[str],
    now: datetime,
) -> None:
    """Write which of the `targets` of `channel` have taken alerts. An alert that all of them have taken is sent."""
    transaction.execute(
        """
        WITH taken AS (
            SELECT d.alert_id, array(SELECT DISTINCT t FROM unnest(d.taken_by || $3::text[]) AS t ORDER BY t) AS keys
            FROM market.alert_delivery d
            WHERE d.channel = $1 AND d.alert_id = ANY ($2::bigint[]) AND d.state = 'waiting'
        )
        UPDATE market.alert_delivery d
        SET taken_by = t.keys,
            state = CASE WHEN t.keys @> $4::text[] THEN 'sent' ELSE d.state END,
            settled_at = CASE WHEN t.keys @> $4::text[] THEN $5::timestamptz END
        FROM taken t WHERE d.alert_id = t.alert_id AND d.channel = $1
        """,
        channel,
        list(ids),
        list(taken_by),
        list(targets),
        now,
    )


def channel_took(transaction: Transaction, channel: str, now: datetime) -> None:
    """Write that `channel` has taken a message, which ends its pause."""
    transaction.execute(
        """
        INSERT INTO market.alert_channel (channel, last_sent_at) VALUES ($1, $2)
        ON CONFLICT (channel) DO UPDATE
        SET failures = 0, next_attempt_at = NULL, last_error = NULL, last_sent_at = excluded.last_sent_at
        """,
        channel,
        now,
    )


def channel_failed(
    transaction: Transaction, channel: str, reason: str, now: datetime, pause_seconds: float = 0.0
) -> None:
    """Write that `channel` did not take a message, and pause it.

    The first pause is 5 s; each further one is twice as long, up to 15 minutes. A longer `pause_seconds`, requested by
    the service, is respected up to GIVEN_UP_AFTER. `reason` must contain no secret.
    """
    transaction.execute(
        """
        INSERT INTO market.alert_channel AS c (channel, failures, next_attempt_at, last_error)
        VALUES ($1, 1, $3 + make_interval(secs => greatest($4::float8, $6::float8)), $2)
        ON CONFLICT (channel) DO UPDATE
        SET failures = c.failures + 1, last_error = excluded.last_error,
            next_attempt_at = $3 + make_interval(
                secs => greatest(least($4::float8 * 2 ^ least(c.failures, 20), $5::float8), $6::float8)
            )
        """,
        channel,
        reason,
        now,
        float(FIRST_PAUSE_SECONDS),
        float(LONGEST_PAUSE_SECONDS),
        min(pause_seconds, GIVEN_UP_AFTER.total_seconds()),
    )


def has_tables(transaction: Transaction) -> bool:
    """Return whether the database has the tables of alerts."""
    return bool(transaction.query("SELECT to_regclass('market.alert_channel') IS NOT NULL AS has_them").item())


def end_pauses(transaction: Transaction, channels: Sequence[str]) -> list[str]:
    """End the pauses of those of `channels` that are failing, so that they are tried at once; return them, sorted."""
    found = transaction.query(
        """
        UPDATE market.alert_channel SET failures = 0, next_attempt_at = NULL, last_error = NULL
        WHERE failures > 0 AND channel = ANY ($1::text[]) RETURNING channel
        """,
        list(channels),
    )
    return sorted(map(str, found["channel"]))


def give_up_old(transaction: Transaction, due_before: datetime, now: datetime) -> int:
    """Give up alerts due before `due_before` whose channel is failing, noting its last error; return how many."""
    found = transaction.query(
        """
        WITH gone AS (
            UPDATE market.alert_delivery d SET state = 'given up', settled_at = $2, note = c.last_error
            FROM market.alert_channel c
            WHERE c.channel = d.channel AND d.state = 'waiting' AND d.due_at < $1 AND c.failures > 0
            RETURNING 1
        )
        SELECT count(*) AS n FROM gone
        """,
        due_before,
        now,
    )
    return int(found.item())


def give_up_unwanted(transaction: Transaction, wanted: Sequence[tuple[str, str]], now: datetime | None = None) -> None:
    """Give up waiting alerts whose (subscription, channel) is not in `wanted`.

    Alerts of other subscriptions that are not routed yet are handed to nobody. The failures of channels that are no
    longer wanted are forgotten. When `now` is None, the database's clock is used.
    """
    names, channels = [name for name, _ in wanted], [channel for _, channel in wanted]
    transaction.execute(
        """
        UPDATE market.alert_delivery d
        SET state = 'given up', settled_at = coalesce($3::timestamptz, clock_timestamp()),
            note = CASE
                WHEN NOT a.subscription = ANY ($1::text[]) THEN 'its [[alert]] was removed from the watchlist'
                WHEN NOT d.channel = ANY ($2::text[]) THEN 'no alert names the channel any more'
                ELSE 'its [[alert]] does not name the channel any more'
            END
        FROM market.alert a
        WHERE a.id = d.alert_id AND d.state = 'waiting'
          AND (a.subscription, d.channel) NOT IN (SELECT * FROM unnest($1::text[], $2::text[]))
        """,
        names,
        channels,
        now,
    )
    transaction.execute(
        """
        UPDATE market.alert SET routed_at = coalesce($2::timestamptz, clock_timestamp())
        WHERE routed_at IS NULL AND NOT subscription = ANY ($1::text[])
        """,
        names,
        now,
    )
    transaction.execute(
        """
        UPDATE market.alert_channel SET failures = 0, next_attempt_at = NULL, last_error = NULL
        WHERE failures > 0 AND NOT channel = ANY ($1::text[])
        """,
        channels,
    )


def log(transaction: Transaction, most: int, state: str | None = None, channel: str | None = None) -> pl.DataFrame:
    """Return the newest alerts, one row per alert and channel, newest first; at most `most` rows.

    Columns: raised_at, subscription, kind, symbol, timeframe, strategy, ts, text, is_over, is_synthetic, channel (null
    if it was handed to none), state, settled_at, note, due_at.
    """
    return transaction.query(
        """
        SELECT a.raised_at, a.subscription, a.kind, a.symbol, a.timeframe, a.strategy, a.ts, a.text, a.is_over,
               a.is_synthetic, d.channel, s.state, d.settled_at, d.note, d.due_at
        FROM market.alert a LEFT JOIN market.alert_delivery d ON d.alert_id = a.id
        -- What was handed over to nobody yet waits, too.
        CROSS JOIN LATERAL (
            SELECT coalesce(d.state, CASE WHEN a.routed_at IS NULL THEN 'waiting' ELSE 'nobody' END) AS state
        ) s
        WHERE ($2::text IS NULL OR s.state = $2) AND ($3::text IS NULL OR d.channel = $3)
        ORDER BY a.id DESC, d.channel LIMIT $1
        """,
        most,
        state,
        channel,
    )


def channels(transaction: Transaction, given_up_since: datetime) -> pl.DataFrame:
    """Return the state of each channel, one row each; `given_up` counts alerts given up since `given_up_since`.

    Columns: channel, failures, next_attempt_at, last_error, last_sent_at, waiting, oldest_due_at, given_up.
    """
    return transaction.query(
        """
        WITH counted AS (
            SELECT channel, count(*) FILTER (WHERE state = 'waiting') AS waiting,
                   min(due_at) FILTER (WHERE state = 'waiting') AS oldest_due_at,
                   count(*) FILTER (WHERE state = 'given up' AND settled_at > $1) AS given_up
            FROM market.alert_delivery WHERE state = 'waiting' OR settled_at > $1 GROUP BY channel
        )
        SELECT coalesce(c.channel, n.channel) AS channel, coalesce(c.failures, 0)::bigint AS failures,
               c.next_attempt_at, c.last_error, c.last_sent_at, coalesce(n.waiting, 0) AS waiting, n.oldest_due_at,
               coalesce(n.given_up, 0) AS given_up
        FROM market.alert_channel c FULL JOIN counted n ON n.channel = c.channel ORDER BY 1
        """,
        given_up_since,
    )


def unrouted_since(transaction: Transaction) -> datetime | None:
    """Return when the oldest alert that was not routed yet was raised; None when all were routed."""
    at = transaction.query("SELECT min(raised_at) AS at FROM market.alert WHERE routed_at IS NULL").item()
    assert at is None or isinstance(at, datetime)
    return at


def delete_before(transaction: Transaction, moment: datetime, rows: int) -> int:
    """Delete at most `rows` routed alerts raised before `moment` that wait for no channel; return how many."""
    found = transaction.query(
        """
        WITH gone AS (
            DELETE FROM market.alert WHERE id IN (
                SELECT a.id FROM market.alert a
                WHERE a.raised_at < $1 AND a.routed_at IS NOT NULL
                  AND NOT EXISTS (SELECT FROM market.alert_delivery d WHERE d.alert_id = a.id AND d.state = 'waiting')
                LIMIT $2
            ) RETURNING 1
        )
        SELECT count(*) AS n FROM gone
        """,
        moment,
        rows,
    )
    return int(found.item())
