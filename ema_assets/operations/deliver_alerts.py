"""Delivering alerts from the outbox to channels: routed, grouped into messages, settled. Sends nothing itself.

One session at a time delivers (`store.alert_listener`). A message is settled after it was sent: a crash in between
sends it once more, and a crash before that loses nothing.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from ema_assets.alerts.channels import Channel
from ema_assets.alerts.messages import Message, NotSent, Told, compose
from ema_assets.alerts.subscriptions import Alerts, Subscription
from ema_assets.model.schemas import UTC_TIME
from ema_assets.store import alert_delivery
from ema_assets.store.database import Transaction

_ROUTED_AT_ONCE = 10_000
_HOUR = timedelta(hours=1)
# Alerts that are due this soon are sent, too.
SOON = timedelta(seconds=1)
_TOLD = ("id", "subscription", "kind", "text", "symbol", "timeframe", "strategy", "ts", "is_over", "is_synthetic")


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message to a channel.

    Attributes:
        channel: where it goes.
        ids: of the alerts in it.
        message: what it says.
        partly: by target key, what it says to targets that have taken some of these alerts before; None if all.
    """

    channel: Channel
    ids: tuple[int, ...]
    message: Message
    partly: Mapping[str, Message | None] = field(default_factory=dict)


def route(transaction: Transaction, alerts: Alerts, now: datetime) -> int:
    """Hand new alerts over to the channels of their subscriptions; return the number of alerts.

    An alert whose subscription was deleted goes to nobody. `now` is the machine's time, UTC, here and below.
    """
    new = alert_delivery.unrouted(transaction, _ROUTED_AT_ONCE)
    if new.is_empty():
        return 0
    rows = [
        (number, channel, subscription.due_at(raised_at, now))
        for number, name, raised_at in new.select("id", "subscription", "raised_at").iter_rows()
        if (subscription := alerts.named(name)) is not None
        for channel in subscription.to
    ]
    schema = {"alert_id": pl.Int64(), "channel": pl.String(), "due_at": UTC_TIME}
    deliveries = pl.DataFrame(rows, schema=schema, orient="row")
    alert_delivery.route(transaction, new["id"].to_list(), deliveries, now)
    return new.height


def give_up_unwanted(transaction: Transaction, alerts: Alerts | None, now: datetime | None = None) -> None:
    """Give up alerts for channels that their subscription no longer names, such as after its row was removed."""
    subscriptions = () if alerts is None else alerts.subscriptions
    alert_delivery.give_up_unwanted(transaction, [(each.name, to) for each in subscriptions for to in each.to], now)


def pack(
    transaction: Transaction,
    alerts: Alerts,
    now: datetime,
    *,
    busy: Collection[str] = (),
    room: Callable[[Channel], int] | None = None,
    ahead: timedelta = SOON,
) -> list[Parcel]:
    """Return the messages to be sent now, one per channel with all of its due alerts, except those that must wait.

    A due alert takes along all later alerts of its subscription for the same channel: it has waited to be grouped.

    Args:
        transaction: any.
        alerts: subscriptions and channels as they are now.
        now: the machine's time, UTC.
        busy: channels to which a message is being sent.
        room: how many characters the body of a message to a channel may have.
        ahead: alerts that are due within this time are included.
    """
    channels = alerts.used()
    give_up_unwanted(transaction, alerts, now)
    alert_delivery.give_up_old(transaction, now - alert_delivery.GIVEN_UP_AFTER, now)
    latest = now + (ahead - SOON)
    due = alert_delivery.waiting(transaction, now + ahead, latest).filter(~pl.col("channel").is_in(list(busy)))
    parcels = []
    for (name,), rows in due.partition_by("channel", as_dict=True, maintain_order=True).items():
        if rows["due_at"].min() > latest:  # type: ignore[operator]
            continue
        channel = channels[str(name)]
        sent = _that_may_go(transaction, alerts, channel.name, rows, now)
        if not sent.is_empty():
            parcels.append(_parcel(channel, sent, None if room is None else room(channel)))
    return parcels


def _parcel(channel: Channel, rows: pl.DataFrame, room: int | None) -> Parcel:
    def said(of: pl.DataFrame) -> Message | None:
        told = [_told(row) for row in of.iter_rows(named=True)]
        if not told:
            return None
        return compose(told) if room is None else compose(told, room)

    message = said(rows)
    assert message is not None
    before = rows["taken_by"].explode().drop_nulls().unique(maintain_order=True)
    return Parcel(
        channel,
        tuple(rows["id"]),
        message,
        {key: said(rows.filter(~pl.col("taken_by").list.contains(key))) for key in before},
    )


def _told(row: Mapping[str, Any]) -> Told:
    return Told(**{name: row[name] for name in _TOLD})


def _that_may_go(
    transaction: Transaction, alerts: Alerts, channel: str, rows: pl.DataFrame, now: datetime
) -> pl.DataFrame:
    """Return those of `rows` whose subscription is neither quiet nor over its limit; postpone the others."""
    recent = None
    for name in rows["subscription"].unique(maintain_order=True):
        subscription = alerts.named(name)
        assert subscription is not None, "what it had raised was given up"
        until = None if subscription.quiet is None else subscription.quiet.until(now)
        if until is None and subscription.messages_per_hour is not None:
            recent = alert_delivery.messages_since(transaction, now - _HOUR) if recent is None else recent
            until = _allowed_at(recent, subscription, channel)
        if until is not None:
            ids = rows.filter(subscription=name)["id"].to_list()
            alert_delivery.postpone(transaction, channel, ids, until)
            rows = rows.filter(pl.col("subscription") != name)
    return rows


def _allowed_at(recent: pl.DataFrame, subscription: Subscription, channel: str) -> datetime | None:
    """Return when `subscription` may send the next message to `channel`; None when it may now."""
    assert subscription.messages_per_hour is not None
    sent = recent.filter(subscription=subscription.name, channel=channel)["sent_at"]
    if len(sent) < subscription.messages_per_hour:
        return None
    oldest = sent[subscription.messages_per_hour - 1]
    assert isinstance(oldest, datetime)
    return oldest + _HOUR


def settle(transaction: Transaction, parcel: Parcel, problem: NotSent | None, now: datetime) -> None:
    """Write that the message of `parcel` was sent, or why it was not; in that case its alerts wait for a next attempt.

    The next attempt leaves out targets of the channel that have taken the message.
    """
    if problem is None:
        alert_delivery.settle(transaction, parcel.channel.name, parcel.ids, "sent", None, now)
        alert_delivery.channel_took(transaction, parcel.channel.name, now)
    else:
        if problem.taken_by:
            alert_delivery.note_taken(
                transaction, parcel.channel.name, parcel.ids, problem.taken_by, problem.targets, now
            )
        alert_delivery.channel_failed(
            transaction, parcel.channel.name, problem.reason, now, problem.pause_seconds or 0.0
        )
