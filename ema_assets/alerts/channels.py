"""Where messages go: URLs of Apprise whose secrets are in the environment. Nothing that is shown holds a secret."""

import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from ema_assets.model.counts import noun
from ema_assets.model.errors import ConfigurationError
from ema_assets.model.variables import text_of

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]{0,31})://", re.IGNORECASE)
_PASSWORD = re.compile(r"://[^/?#@]*:([^/?#@]+)@")
# Parameters in which Apprise, or a web server, takes secrets: `token`, `apikey`, `+X-Auth-Token` (a header).
_SECRET_PARAMETER = re.compile(
    r"pass|pwd|sig|.*(?:password|passwd|passphrase|token|secret|authorization|credentials?|bearer)|(?:.*[_-])?(?:api)?key"
)
# The words before the secret of a header, which may be written out: `Bearer%20${TOKEN}`.
_KIND_OF_TOKEN = re.compile(r"(?:bearer|basic|token)(?:\s|\+)+", re.IGNORECASE)
# Shorter parts of a URL are words such as `bot`, and hiding them would blank words in every other sentence.
_LEAST_SECRET = 5
_HIDDEN = "***"
# Services whose URLs begin with a host name.
_WITH_HOSTS = ("json", "jsons", "xml", "xmls", "form", "forms", "mailto", "mailtos")


@dataclass(frozen=True, slots=True)
class Channel:
    """One place that messages go to.

    Attributes:
        name: its name in the watchlist, or a name made from the URL that shows no more of it than its scheme.
        template: the URL as it is written, with `${NAME}` in place of secrets. It may still hold a secret.
    """

    name: str
    template: str = field(repr=False)

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables that it needs, each once."""
        return tuple(dict.fromkeys(_VARIABLE.findall(self.template)))

    @property
    def scheme(self) -> str:
        """What kind of channel it is, such as `tgram`; `?` when that is in a variable, too."""
        match = _SCHEME.match(self.template)
        return match[1].lower() if match else "?"

    def url(self, env: Mapping[str, str]) -> str:
        """Return the URL with its secrets. A variable may hold a part of it, which is quoted, or the whole.

        Raises:
            ConfigurationError: naming the variables that are not set.
        """
        missing = [name for name in self.variables if not text_of(env, name)]
        if missing:
            names = ", ".join(f"`{name}`" for name in missing)
            raise ConfigurationError(
                f"the channel {self.name} needs the environment {noun(len(missing), 'variable')} {names}, "
                f"which {noun(len(missing), 'is', 'are')} not set"
            )
        if _VARIABLE.fullmatch(self.template):
            return text_of(env, self.variables[0])
        # Tokens contain colons, and services look for these.
        return _VARIABLE.sub(lambda match: quote(text_of(env, match[1]), safe=":"), self.template)


def inline_channel(template: str) -> Channel:
    """Return the channel of a URL without a name: called by its scheme and a hash, or by the variable that holds it."""
    if match := _VARIABLE.fullmatch(template):
        return Channel(match[1], template)
    scheme = template.partition(":")[0].lower()
    return Channel(f"{scheme}-{hashlib.sha256(template.encode()).hexdigest()[:6]}", template)


def problem_with_template(template: str) -> str | None:
    """Return what is wrong with a URL, without showing any of it; None when nothing is."""
    rest = _VARIABLE.sub("", template)
    if "${" in rest:
        return "has `${` without the name of a variable such as `${TELEGRAM_TOKEN}`"
    if not _VARIABLE.fullmatch(template) and not _SCHEME.match(template):
        return "must be a URL of Apprise such as `tgram://${TELEGRAM_TOKEN}/${TELEGRAM_CHAT}`, or one variable"
    match = _PASSWORD.search(template)
    if match and _VARIABLE.sub("", match[1]):
        return "has a password in it; write it as a variable, such as `${SMTP_PASSWORD}`, and set that"
    if any(_is_plain_secret(*each.partition("=")[::2]) for each in template.partition("?")[2].split("&")):
        return (
            "has a parameter with a password, a token or a key in it; write its value as a variable, such as "
            "`token=${HOOK_TOKEN}`, and set that"
        )
    return None


def _is_plain_secret(name: str, value: str) -> bool:
    """Return whether a URL parameter is meant for a secret and its value is written out."""
    # Apprise sends parameters with `+`, `-` or `:` before their names to the web server.
    if not _SECRET_PARAMETER.fullmatch(unquote(name).lstrip("+-: ").lower()):
        return False
    return bool(_VARIABLE.sub("", _KIND_OF_TOKEN.sub("", unquote(value), count=1)).strip())


def without_secrets(text: str, url: str) -> str:
    """Return `text` without any part of `url` that may be a secret: all but scheme, short words, and some hosts."""
    shown = set()
    with suppress(ValueError):
        parts_of_url = urlsplit(url)
        # For most services, a token is in this place.
        if parts_of_url.scheme.lower() in _WITH_HOSTS:
            shown |= {parts_of_url.hostname or "", str(parts_of_url.port)}
    body = url.partition("://")[2] or url
    parts = {body, *re.split(r"[/?&=@#,;]", body)}
    parts |= {part for each in tuple(parts) for part in each.split(":")}
    parts |= {unquote(each) for each in tuple(parts)}
    secrets = [part for part in parts if len(part) >= _LEAST_SECRET and part.partition(":")[0] not in shown]
    for secret in (url, *sorted(secrets, key=len, reverse=True)):
        text = text.replace(secret, _HIDDEN)
    return text
