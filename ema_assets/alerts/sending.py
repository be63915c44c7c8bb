"""Sending a message by Apprise, which is imported here, and only in the process that delivers: it takes 0.4 s."""

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, wraps
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from ema_assets.alerts.channels import Channel, without_secrets
from ema_assets.alerts.messages import Message, NotSent
from ema_assets.alerts.targets import targets
from ema_assets.alerts.unreachable import why_unreachable
from ema_assets.model.errors import ConfigurationError
from ema_assets.model.retry_after import pause_in

MOST_REASON = 300
_FOR_TITLES = 100
NOTHING_SENT: Mapping[str, Message | None] = {}
# Plugins that send mail log this at DEBUG, with the answer of the server or why there is none.
_OF_MAIL = "Socket Exception: "


def room_of(channel: Channel, env: Mapping[str, str]) -> int:
    """Return how many characters a message body to `channel` may have; 10,000 when the channel cannot be used.

    Many services have the title in the body, and some need more characters than a text has, such as `&lt;` for `<`.
    """
    try:
        most = min(int(each.body_maxlen) for each in _services(channel, env)[0].values())
    except ConfigurationError:
        return 10_000
    return most - min(most // 4, _FOR_TITLES)


def send(
    channel: Channel, message: Message, env: Mapping[str, str], partly: Mapping[str, Message | None] = NOTHING_SENT
) -> NotSent | None:
    """Send `message` to each target of `channel`, whose secrets are in `env`. Return why that failed, or None.

    It takes as long as the service allows: some seconds when nobody answers.

    Args:
        channel: where the message goes.
        message: what is sent.
        env: the environment.
        partly: by target key, what to send to targets that have received a part of `message` before; None if all of it.
    """
    try:
        services, url = _services(channel, env)
    except ConfigurationError as error:
        return NotSent(str(error))
    failed: dict[str, NotSent] = {}
    for key, service in services.items():
        due = partly.get(key, message)
        problem = None if due is None else _send_one(service, url, due)
        if problem is not None:
            failed[key] = problem
    if not failed:
        return None
    first = next(iter(failed.values()))
    which = f"{len(failed)} of {len(services)} targets: " if len(services) > 1 else ""
    return NotSent(
        f"{which}{first.reason}",
        max((each.pause_seconds for each in failed.values() if each.pause_seconds is not None), default=None),
        targets=tuple(services),
        taken_by=tuple(key for key in services if key not in failed),
    )


def _send_one(service: Any, url: str, message: Message) -> NotSent | None:
    """Send `message` by one plugin of Apprise, which belongs to `url`."""
    from apprise import NotifyFormat, NotifyType, OverflowMode

    kind = NotifyType.WARNING if message.is_trouble else NotifyType.INFO
    # By default, Apprise sends what is too long as it is, and the service refuses it at each attempt.
    overflow = OverflowMode.SPLIT if service.overflow_mode == OverflowMode.UPSTREAM else None
    with _hearing() as heard:
        try:
            # Without a format, mail and Telegram take the text for HTML: mail would show its lines as one, and Telegram
            # would refuse a message that quotes an error with `<` in it.
            is_sent = service.notify(
                title=message.title,
                body=message.body,
                notify_type=kind,
                body_format=NotifyFormat.TEXT,
                overflow=overflow,
            )
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises is the channel's failure
            heard.said.append(f"{type(error).__name__}: {error}")
            is_sent = False
    return None if is_sent else NotSent(_why(heard, service, url), max(heard.pauses, default=None))


def _why(heard: "_Heard", service: Any, url: str) -> str:
    if heard.redirects:
        status, target = heard.redirects[-1]
        return (
            f"answered with a redirect (error={status}) to {without_secrets(target, url)}, which is not followed, "
            "because the message would be lost; name the address that it leads to in the channel"
        )
    reason = " ".join(" ".join(heard.said).split()) or f"the service {service.service_name} did not take the message"
    if heard.faults:
        reason = f"{reason.rstrip('.')}: {' '.join(heard.faults[-1].split())}"
    return without_secrets(reason, url)[:MOST_REASON]


def problem_with(channel: Channel, env: Mapping[str, str]) -> str | None:
    """Return why `channel` cannot be used, without sending anything; None when it can."""
    try:
        _services(channel, env)
    except ConfigurationError as error:
        return str(error)
    return None


def _services(channel: Channel, env: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    """Return the Apprise plugins for the targets of `channel` by their keys, and the URL.

    Raises:
        ConfigurationError: when a variable is not set, or Apprise knows no such service.
    """
    url = channel.url(env)
    with _hearing():
        # A POST that is redirected becomes a GET without the message, whose answer says that all is well.
        services = targets(url, http_redirects=False)
    if not services:
        raise ConfigurationError(
            f"the channel {channel.name} is not a URL that Apprise can use: {_shape(channel)}; "
            f"{_instead(url)}https://appriseit.com/services/ lists what each service needs"
        )
    for service in services.values():
        # In spite of a `?redirect=` in the URL.
        service.redirects = False
    return services, url


def _instead(url: str) -> str:
    """Return what to write in place of the web address of a web hook."""
    scheme = url.partition("://")[0].lower()
    hook = {"http": "json", "https": "jsons"}.get(scheme)
    return "" if hook is None else f"your own web hook is written `{hook}://` in place of `{scheme}://`, and "


def _shape(channel: Channel) -> str:
    return f"`{channel.scheme}://…`" if channel.scheme != "?" else "what the variable holds"


@dataclass(frozen=True, slots=True)
class _Heard:
    """What was observed while a message was sent.

    Attributes:
        said: what Apprise logs at WARNING and above.
        faults: why no answer came, and what mail servers have answered: Apprise does not report these to people.
        redirects: redirects that services answered with: status, and address of the target's host.
        pauses: for how many seconds services that refused ask to be left alone.
    """

    said: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    redirects: list[tuple[int, str]] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)


_HERE = threading.local()


@contextmanager
def _hearing() -> Iterator[_Heard]:
    """Yield what is observed in this thread during the block. Apprise's log goes nowhere else."""
    _hear_requests()
    heard = _HERE.heard = _Heard()
    thread = threading.get_ident()

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread != thread:
                return
            if record.levelno >= logging.WARNING:
                heard.said.append(record.getMessage())
            elif "email" in Path(record.pathname).parts and record.getMessage().startswith(_OF_MAIL):
                heard.faults.append(record.getMessage().removeprefix(_OF_MAIL))

    logger = logging.getLogger("apprise")
    # At DEBUG, Apprise logs URLs, and whatever a server has answered.
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    keeper = Keeper(logging.DEBUG)
    logger.addHandler(keeper)
    try:
        yield heard
    finally:
        logger.removeHandler(keeper)
        del _HERE.heard


@cache
def _hear_requests() -> None:
    """Let `_hearing` know how the calls by requests end.

    Apprise reports that an answer was a redirect, but not where it leads, which is what the user has to write. It
    reports a refused connection, a bad certificate and a hanging server alike. It does not report for how long to wait.
    """
    import requests

    request = requests.Session.request

    @wraps(request)
    def heard(*args: Any, **options: Any) -> requests.Response:
        here: _Heard | None = getattr(_HERE, "heard", None)
        try:
            response = request(*args, **options)
        except requests.RequestException as error:
            if here is not None:
                here.faults.append(why_unreachable(error))
            raise
        if here is not None and response.is_redirect:
            here.redirects.append((response.status_code, _target(response.url, response.headers["location"])))
        elif here is not None and not response.ok:
            pause = pause_in(response.headers.get("retry-after", ""))
            if pause is not None:
                here.pauses.append(pause)
        return response

    requests.Session.request = heard  # type: ignore[method-assign]


def _target(asked: str, location: str) -> str:
    """Return the host that `location` leads to: the rest of it may be a secret."""
    try:
        parts = urlsplit(urljoin(asked, location))
        return f"{parts.scheme}://{parts.hostname}" + ("" if parts.port is None else f":{parts.port}")
    except ValueError:
        return "no address"
