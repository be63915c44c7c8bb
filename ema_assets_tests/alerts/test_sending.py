"""Tests of what services receive: messages are plain text, whatever a service makes of it."""

import email
import smtplib
from collections.abc import Iterator

import pytest
from apprise.plugins.discord import NotifyDiscord
from apprise.plugins.telegram import NotifyTelegram

from ema_assets.alerts.channels import Channel
from ema_assets.alerts.messages import Message, Told, compose
from ema_assets.alerts.sending import room_of, send
from ema_assets_tests.alerts.webhook import Webhook, webhook

MESSAGE = Message(
    "2 crossovers", "strategy_9_30_ema: 3 < 5 & 7 > 6\nMSFT 1h: <urlopen error timed out>", is_trouble=False
)


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as server:
        yield server


@pytest.mark.broad
def test_mail_has_the_lines_of_a_message_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []

    class Server:
        def __init__(self, *_: object, **__: object) -> None: ...

        def __getattr__(self, _: str) -> object:
            return lambda *_, **__: None

        def sendmail(self, _from: str, _to: list[str], message: str) -> None:
            sent.append(message)

    monkeypatch.setattr(smtplib, "SMTP", Server)
    monkeypatch.setattr(smtplib, "SMTP_SSL", Server)
    assert send(Channel("mail", "mailto://me:${PASSWORD}@example.com"), MESSAGE, {"PASSWORD": "secret"}) is None
    parts = [part for part in email.message_from_string(sent[0]).walk() if not part.is_multipart()]
    bodies = {part.get_content_type(): part.get_payload(decode=True) for part in parts}
    assert bodies == {"text/plain": MESSAGE.body.encode()}


def test_telegram_gets_no_markup_but_that_of_its_title(hook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NotifyTelegram, "notify_url", f"http://127.0.0.1:{hook.port}/bot")
    channel = Channel("phone", "tgram://123456789:${TOKEN}/12345")
    assert send(channel, MESSAGE, {"TOKEN": "abcdefghijklmnopqrstuvwxyzabcdefghi"}) is None
    (received,) = hook.received
    assert received["parse_mode"] == "HTML"
    title, first, second = str(received["text"]).splitlines()
    assert title == "<b>2 crossovers</b>"
    assert first == "strategy_9_30_ema: 3 &lt; 5 &amp; 7 &gt; 6"
    assert second.startswith("MSFT 1h:")
    assert "<" not in second


def test_a_long_message_fits_a_service_that_has_the_title_in_the_text(
    hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Discord refuses more than 2000 characters, and Apprise puts the title before the text."""
    monkeypatch.setattr(NotifyDiscord, "notify_url", f"http://127.0.0.1:{hook.port}/api/webhooks")
    monkeypatch.setattr(NotifyDiscord, "request_rate_per_sec", 0)
    channel = Channel("desk", "discord://4174216298/${TOKEN}")
    env = {"TOKEN": "JHMHI8qBe7bk2ZwO5U711o3dV_js"}
    room = room_of(channel, env)
    for length in range(1, 60):
        found = [Told(n, "mine", "crossover", "x" * length, f"S{n:03}", "1h") for n in range(80)]
        assert send(channel, compose(found, room), env) is None
    sizes = [len(str(message["content"])) for message in hook.received]
    assert len(sizes) == 59, "each of them is one message"
    assert max(sizes) <= 2000
    hook.received.clear()
    # A text that is longer than expected is sent in parts.
    assert send(channel, Message("a title", "\n".join(["a line"] * 285), is_trouble=False), env) is None
    parts = [str(message["content"]) for message in hook.received]
    assert len(parts) == 2
    assert max(map(len, parts)) <= 2000
    assert "".join(parts).count("a line") == 285
