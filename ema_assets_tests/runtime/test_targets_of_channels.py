"""Tests of channels with several targets: when one target fails, no other target gets a message twice."""

from pathlib import Path

import pytest
from apprise.plugins.ntfy import NotifyNtfy

from ema_assets.alerts.targets import targets
from ema_assets.runtime.alert_worker import Configuration, Delivered, deliver_once
from ema_assets.store import alert_delivery
from ema_assets.store.database import Database
from ema_assets_tests.alerts.raised import deliveries, raised
from ema_assets_tests.alerts.webhook import Webhook
from ema_assets_tests.runtime.delivering import GROUP


@pytest.fixture
def topics(env: Path, hook: Webhook, monkeypatch: pytest.MonkeyPatch) -> Webhook:
    """The webhook of a channel with two topics of ntfy."""
    monkeypatch.setattr(NotifyNtfy, "request_rate_per_sec", 0)
    env.write_text(
        f'[channels]\ntopics = "ntfy://127.0.0.1:{hook.port}/first/second"\n'
        '[[alert]]\nname = "mine"\non = ["crossover"]\nto = ["topics"]\ngroup_seconds = 0\n' + GROUP
    )
    return hook


def tried(database: Database) -> Delivered:
    """End the pauses of the channel and deliver once."""
    configured = Configuration().now()
    assert configured is not None
    with database.transaction() as transaction:
        alert_delivery.end_pauses(transaction, ["topics"])
    return deliver_once(database.url, configured)


def came(hook: Webhook) -> list[tuple[str, str]]:
    """Return topic and title of all messages since the last call."""
    found = [(each["topic"], each["title"]) for each in hook.received]
    hook.received.clear()
    return found


@pytest.mark.broad
def test_a_target_gets_each_message_once_while_another_target_fails(database: Database, topics: Webhook) -> None:
    topics.refused_topics = {"second"}
    raised(database)
    failed = tried(database)
    assert (failed.sent, len(failed.failed)) == (0, 1)
    assert failed.failed[0].startswith("topics: 1 of 2 targets: ")
    assert came(topics) == [("first", "crossover: S000 1h"), ("second", "crossover: S000 1h")]
    raised(database, first=1)
    assert tried(database).sent == 0
    assert came(topics) == [("first", "crossover: S001 1h"), ("second", "2 crossovers")], "the first has the other one"
    assert tried(database).sent == 0
    assert came(topics) == [("second", "2 crossovers")]
    assert {row[2] for row in deliveries(database)} == {"waiting"}
    topics.refused_topics = set()
    assert tried(database) == Delivered(True, 2)
    assert came(topics) == [("second", "2 crossovers")]
    assert {row[2] for row in deliveries(database)} == {"sent"}
    assert tried(database) == Delivered(True, 0)


def test_an_alert_counts_as_sent_once_all_targets_have_it_although_each_of_them_has_failed(
    database: Database, topics: Webhook
) -> None:
    topics.refused_topics = {"second"}
    raised(database)
    tried(database)
    raised(database, first=1)
    came(topics)
    topics.refused_topics = {"first"}
    assert tried(database).sent == 0
    assert came(topics) == [("first", "crossover: S001 1h"), ("second", "2 crossovers")]
    assert [row[::2] for row in deliveries(database)] == [("S000", "sent"), ("S001", "waiting")]
    topics.refused_topics = set()
    assert tried(database) == Delivered(True, 1)
    assert came(topics) == [("first", "crossover: S001 1h")]


@pytest.mark.parametrize(
    ("url", "count"),
    [
        ("ntfy://127.0.0.1:9/first/second", 2),
        ("mailto://me:pw@example.com?to=a@example.com,b@example.com", 2),
        ("tgram://123456789:abcdefghijklmnop/12315544/555666", 2),
        ("json://127.0.0.1:9/hook", 1),
        # Pushover takes one request for all devices.
        ("pover://user@token/first/second", 1),
        ("nothing://", 0),
    ],
)
def test_a_channel_has_one_target_per_request_that_apprise_sends(url: str, count: int) -> None:
    found = targets(url)
    assert len(found) == count
    assert list(found) == list(targets(url)), "the same in every process"
    assert len({each.throttle.__self__ for each in found.values()}) == min(count, 1), "pauses hold for all together"
