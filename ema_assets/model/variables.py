"""Environment variables as records with default, limits and meaning. An empty variable counts as not set."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from ema_assets.model.errors import ConfigurationError, not_one_of


class Variable(Protocol):
    """An environment variable, and how its text is parsed."""

    @property
    def name(self) -> str:
        """The name, such as `EMA_HOME`."""
        ...

    @property
    def meaning(self) -> str:
        """The text about it in a table of variables."""
        ...

    @property
    def default(self) -> object:
        """The value if it is not set."""
        ...

    def read(self, env: Mapping[str, str]) -> object:
        """Return the value.

        Raises:
            ConfigurationError: naming the variable, what was received and what is allowed.
        """
        ...


def text_of(env: Mapping[str, str], name: str) -> str:
    """Return the text of the variable `name` without blanks around it; empty if it is not set."""
    return env.get(name, "").strip()


@dataclass(frozen=True, slots=True)
class Text:
    """Any text; its users check it. Without a default, an unset variable is None."""

    name: str
    default: str | None
    meaning: str = ""

    def read(self, env: Mapping[str, str]) -> str | None:
        """Return the text without blanks around it, or the default if it is not set."""
        return text_of(env, self.name) or self.default


@dataclass(frozen=True, slots=True)
class Number:
    """A whole number from `least` to `most`."""

    name: str
    default: int
    least: int
    most: int
    meaning: str = ""

    def read(self, env: Mapping[str, str]) -> int:
        """Return the number, or the default if it is not set."""
        value = self.read_if_set(env)
        return self.default if value is None else value

    def read_if_set(self, env: Mapping[str, str]) -> int | None:
        """Return the number, or None if it is not set."""
        text = text_of(env, self.name)
        if not text:
            return None
        try:
            value = int(text)
        except ValueError:
            value = self.least - 1
        if not self.least <= value <= self.most:
            raise ConfigurationError(
                f"`{self.name}` must be a whole number from {self.least} to {self.most}, received {text!r}"
            )
        return value


@dataclass(frozen=True, slots=True)
class Choice:
    """One of `choices`."""

    name: str
    default: str
    choices: tuple[str, ...]
    meaning: str = ""

    def read(self, env: Mapping[str, str]) -> str:
        """Return the choice, or the default if it is not set."""
        value = text_of(env, self.name) or self.default
        if value not in self.choices:
            raise not_one_of(self.name, value, self.choices)
        return value


@dataclass(frozen=True, slots=True)
class HttpUrl:
    """The http or https address of a server. Without a default, an unset variable is None."""

    name: str
    default: str | None
    meaning: str = ""

    def read(self, env: Mapping[str, str]) -> str | None:
        """Return the address without a slash at its end, or the default if it is not set."""
        value = text_of(env, self.name) or self.default
        if value is None:
            return None
        try:
            parts = urlsplit(value)
            is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 0) >= 0
        except ValueError:
            is_one = False
        if not is_one:
            example = self.default or "https://example.com"
            raise ConfigurationError(
                f"`{self.name}` must be an http or https URL such as {example}, received {value!r}"
            )
        return value.rstrip("/")


@dataclass(frozen=True, slots=True)
class Secret:
    """A key or password. It has no default and must not appear in a repr."""

    name: str
    meaning: str = ""

    @property
    def default(self) -> None:
        """None, because there is no key until one is set."""
        return None

    def read(self, env: Mapping[str, str]) -> str | None:
        """Return the secret, or None if it is not set. Blanks and line ends around it, as from a file, are removed.

        Raises:
            ConfigurationError: for characters that no header can contain. It names their place, not the secret.
        """
        text = text_of(env, self.name)
        for place, each in enumerate(text, start=1):
            if not (each.isascii() and each.isprintable()):
                what = "a control character, such as a line end" if each.isascii() else "none of ASCII"
                raise ConfigurationError(
                    f"`{self.name}` must consist of printable ASCII characters; number {place} of {len(text)} is {what}"
                )
        return text or None
