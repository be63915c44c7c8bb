"""Converts an answer that is not data to an error of the ProviderError tree. No calls here.

Keys are removed from a vendor's text before it is quoted.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

import msgspec

from ema_assets.model.errors import (
    Banned,
    ConfigurationError,
    MalformedAnswer,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    RequestRefused,
    Unauthorized,
    printable,
)
from ema_assets.model.retry_after import pause_in, retry_after_seconds

_QUOTE_CHARACTERS = 200
# The user and password before the host of a URL, such as a proxy's.
_USER_AND_PASSWORD = re.compile(r"(?<=//)[^/\s]*@")


class Unreachable(ProviderUnavailable):
    """No connection could be made at all."""


class TimedOut(ProviderUnavailable):
    """A connection was made, but the answer was not complete in time."""


class ServerFailed(ProviderUnavailable):
    """An answer of 5xx. The vendor may be down, or its server may have failed at something in this request."""


class NotTheApi(ProviderUnavailable):
    """Something other than the vendor's API has answered: a web page, or a redirect to another place.

    For example, a page that asks for consent, or the login page of a network. It concerns every symbol, and an
    immediate retry would have the same result.
    """


class AccessRefused(Unauthorized):
    """A 401 or 403 from a vendor without keys. It may concern one symbol, or be caused by too many calls."""


class CutAnswer(MalformedAnswer):
    """The connection ended in the middle of an answer."""


# Converts a 4xx status and the vendor's message to a special error; None for the usual one.
Explain = Callable[[int, str], ProviderError | None]


class _ErrorBody(msgspec.Struct):
    message: str


def _plain_message(body: bytes) -> str:
    return msgspec.json.decode(body, type=_ErrorBody).message


def _no_pause(_headers: Mapping[str, str]) -> float:
    return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """The specifics of a vendor's HTTP.

    Attributes:
        headers: the headers of every request.
        secrets: texts that must never be quoted.
        needs_key: False if the vendor requires no key.
        says: reads an error body in the vendor's format; raises a DecodeError for any other.
        bans: the statuses that mean a ban: nothing is requested until the ban is over.
        pause_seconds: returns from the headers of any answer for how long no request may be sent.
    """

    headers: Mapping[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    needs_key: bool = True
    says: Callable[[bytes], str] = _plain_message
    bans: tuple[int, ...] = (418,)
    pause_seconds: Callable[[Mapping[str, str]], float] = _no_pause

    def __post_init__(self) -> None:
        for name, value in self.headers.items():
            # The error of the HTTP library would quote the value, which may be a key.
            if not (value.isascii() and value.isprintable()):
                raise ConfigurationError(f"the header {name} can hold printable ASCII characters only")

    def without_secrets(self, text: str) -> str:
        """Return `text` with every key replaced by `***`, also where it is escaped as in Python, JSON or URLs."""
        for secret in self.secrets:
            forms = {secret, repr(secret)[1:-1], repr(secret.encode())[2:-1], json.dumps(secret)[1:-1], quote(secret)}
            for form in sorted(forms, key=len, reverse=True):
                text = text.replace(form, "***")
        return text

    def quoted(self, text: str) -> str:
        """Return `text` in a form fit for messages: without keys, on one line and short."""
        # Cut last, so that no part of a key can remain.
        return self.without_secrets(printable(text))[:_QUOTE_CHARACTERS]

    def reason(self, error: Exception) -> str:
        """Return the text of an error of the HTTP library in a form fit for messages."""
        return self.quoted(_words(error))


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is not a 200: its status, headers and the beginning of its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def error(self, provider: str, manners: Manners, explain: Explain) -> ProviderError:
        """Return the error that the refusal means, in the vendor's words."""
        said = manners.quoted(_message(self.body, self.headers.get("content-type", ""), manners.says))
        if self.status in manners.bans:
            return self._banned(provider, said)
        if self.status == 429:
            return RateLimited(
                f"{provider} is rate limiting us (429): {said}",
                provider=provider,
                retry_after_seconds=retry_after_seconds(self.headers),
            )
        if 400 <= self.status < 500 and (explained := explain(self.status, said)) is not None:
            return explained
        if self.status >= 500:
            return ServerFailed(
                f"{provider} answered {self.status}: {said}",
                provider=provider,
                # Not X-RateLimit-Reset, the reset of the call limit, which answers of any status may have.
                retry_after_seconds=pause_in(self.headers.get("retry-after", "")),
            )
        kind, message = self._usual(provider, said, manners)
        return kind(manners.without_secrets(message), provider=provider)

    def _banned(self, provider: str, said: str) -> Banned:
        seconds = retry_after_seconds(self.headers)
        length = "" if seconds is None else f" for {seconds:.0f} seconds"
        return Banned(
            f"{provider} has shut us out{length} ({self.status}): {said}",
            provider=provider,
            retry_after_seconds=seconds,
        )

    def _usual(self, provider: str, said: str, manners: Manners) -> tuple[type[ProviderError], str]:
        if self.status in (401, 403):
            what = "the API key" if manners.secrets else "access"
            kind = Unauthorized if manners.needs_key else AccessRefused
            return kind, f"{provider} refused {what} ({self.status}): {said}"
        if self.status == 451:
            return Unauthorized, f"{provider} does not serve this region (451): {said}"
        if self.status >= 400:
            return RequestRefused, f"{provider} refused the request ({self.status}): {said}"
        if self.status >= 300:
            target = urlsplit(self.headers.get("location", "")).netloc or "a path of its own"
            redirect = f"{provider} answered {self.status}, a redirect to {target}, which is not followed"
            return NotTheApi, f"{redirect}: check `base_url`"
        return MalformedAnswer, f"{provider} answered with the unexpected status {self.status}"


def web_page(provider: str, headers: Mapping[str, str], body: bytes) -> NotTheApi | None:
    """Return the error for a 200 with a web page instead of JSON, or None for any other body.

    JSON that is only labelled as HTML is not a web page.
    """
    begins = body.lstrip()[:1]
    is_page = begins == b"<" or ("html" in headers.get("content-type", "") and begins not in (b"{", b"["))
    if not is_page:
        return None
    return NotTheApi(
        f"{provider} answered a web page instead of data: it asks for consent or a login, or `base_url` is wrong",
        provider=provider,
    )


def shared_failure(errors: Sequence[ProviderError]) -> MalformedAnswer | None:
    """Return the first of `errors` if each of several series had the same unreadable answer, else None.

    `errors` has one failure per series. What all have in common is caused by the provider, such as a new format.
    Different symbols in the messages do not matter.
    """
    malformed = [error for error in errors if isinstance(error, MalformedAnswer)]
    is_shared = len(malformed) == len(errors) > 1 and len({_without_symbol(error) for error in malformed}) == 1
    return malformed[0] if is_shared else None


def _without_symbol(error: ProviderError) -> str:
    return str(error) if error.symbol is None else str(error).replace(error.symbol, "…")


def reason(error: Exception) -> str:
    """Return the text of an error of a library, on one line and short. If it may have keys, use `Manners.reason`."""
    return printable(_words(error))[:_QUOTE_CHARACTERS]


def _words(error: Exception) -> str:
    return _USER_AND_PASSWORD.sub("***@", str(error).strip() or type(error).__name__)


def _message(body: bytes, content_type: str, says: Callable[[bytes], str]) -> str:
    """Return the vendor's message in an error body; never raises."""
    try:
        text = says(body)
    except (msgspec.DecodeError, RecursionError):
        if "html" in content_type or body.lstrip()[:1] == b"<":
            return "an HTML page instead of a message"
        text = body.decode(errors="replace")
    return " ".join(text.split()) or "no message"
