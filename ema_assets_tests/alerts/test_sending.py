"""Tests of what services receive: messages are plain text, whatever a service makes of it."""

import email
import smtplib
from collections.abc import Iterator

import pytest
from apprise.plugins.telegram import NotifyTelegram

from ema_assets.alerts.channels import Channel
from ema_assets.alerts.messages import Message
from ema_assets.alerts.sending import send
from ema_assets_tests.alerts.webhook import Webhook, webhook

MESSAGE = Message(
    "2 crossovers", "strategy_9_30_ema: 3 < 5 & 7 > 6\nMSFT 1h: <urlopen error timed out>", is_trouble=False
)


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as server:
        yield server


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
