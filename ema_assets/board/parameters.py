"""Parameters of a request, declared once: how each is read, what it refuses, what OpenAPI says. No routes here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ema_assets.model.errors import did_you_mean

# How many allowed values a sentence names; JSON has all of them.
_NAMED = 12

Values = Mapping[str, Any]


class BadRequest(Exception):
    """An error in a parameter. `status` is 404 for something that does not exist, else 400.

    A page shows `for_people` where the message speaks of the API.
    """

    def __init__(
        self,
        message: str,
        parameter: str,
        received: str,
        allowed: Sequence[str] = (),
        status: int = 400,
        for_people: str = "",
    ):
        super().__init__(message)
        self.for_people = for_people or message
        self.parameter = parameter
        self.received = received
        self.allowed = list(allowed)
        self.status = status


def unknown(parameter: str, received: str, allowed: Sequence[str], *, where: str = "") -> BadRequest:
    """Return the error for something that does not exist, naming what does; `where` says where all of it is listed."""
    if not allowed:
        return BadRequest(f"there is no {parameter} yet, received {received!r}", parameter, received, allowed, 404)
    named = ", ".join(allowed[:_NAMED]) + (f" and {len(allowed) - _NAMED} more" if len(allowed) > _NAMED else "")
    hint = did_you_mean(received, allowed)
    message = f"`{parameter}` must be one of {named}{where}, received {received!r}{hint}"
    one = {"symbols": "symbol", "signals": "signal"}.get(parameter, parameter)
    people = f"There is no {one} `{received}` here, only {named}{hint or '.'}"
    return BadRequest(message, parameter, received, allowed, 404, people)


def refuse_others(parameters: Sequence["Parameter"], given: Sequence[str]) -> None:
    """Refuse names in `given` that no parameter has, or that occur twice.

    A client that writes `symbol` for `symbols` would take the answer for all symbols as that for one.

    Raises:
        BadRequest: naming the known parameters.
    """
    names = [each.name for each in parameters]
    for name in given:
        if name not in names:
            allowed = f"takes {', '.join(names)}" if names else "takes none"
            message = f"there is no parameter `{name}`: this resource {allowed}{did_you_mean(name, names)}"
            raise BadRequest(message, name, name, names)
        if given.count(name) > 1:
            raise BadRequest(f"`{name}` must be given once; a list is separated by commas", name, name)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the query: a text, a whole number from `least` to `most`, or a comma-separated list.

    A text is one of `choices`, if there are any. `is_required` refuses a request without it.
    """

    name: str
    description: str
    kind: str = "text"
    default: Any = None
    least: int = 1
    most: int = 1
    choices: tuple[str, ...] = ()
    is_required: bool = False

    def read(self, query: Mapping[str, str]) -> Any:
        """Return its value, or the default if it is not given.

        Raises:
            BadRequest: saying what is allowed.
        """
        text = query.get(self.name, "").strip()
        if not text:
            if self.is_required:
                meant = f"{self.description[:1].lower()}{self.description[1:]}"
                raise BadRequest(f"`{self.name}` must be given: {meant}", self.name, "")
            return self.default
        if self.kind == "number":
            return self._number(text)
        if self.kind == "list":
            return tuple(dict.fromkeys(each.strip() for each in text.split(",") if each.strip()))
        if self.choices and text not in self.choices:
            named = ", ".join(self.choices)
            raise BadRequest(
                f"`{self.name}` must be one of {named}, received {text!r}{did_you_mean(text, self.choices)}",
                self.name,
                text,
                self.choices,
            )
        return text

    def _number(self, text: str) -> int:
        # Characters such as ² count as digits in Python, but are not part of a number.
        value = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else self.least - 1
        if not self.least <= value <= self.most:
            raise BadRequest(
                f"`{self.name}` must be a whole number from {self.least} to {self.most}, received {text!r}",
                self.name,
                text,
            )
        return value

    def described(self) -> dict[str, Any]:
        """Return its description for OpenAPI."""
        schema: dict[str, Any] = {"type": "string"}
        if self.kind == "number":
            schema = {"type": "integer", "minimum": self.least, "maximum": self.most}
        elif self.kind == "list":
            schema = {"type": "array", "items": {"type": "string"}}
        if self.choices:
            schema["enum"] = list(self.choices)
        if self.default not in (None, ()):
            schema["default"] = self.default
        told: dict[str, Any] = {
            "name": self.name,
            "in": "query",
            "description": self.description,
            "required": self.is_required,
            "schema": schema,
        }
        return {**told, "style": "form", "explode": False} if self.kind == "list" else told


SYMBOL = Parameter("symbol", "A symbol of the watchlist, such as AAPL", is_required=True)
TIMEFRAME = Parameter("timeframe", "A timeframe of the watchlist, such as 5m", is_required=True)
ANY_TIMEFRAME = Parameter("timeframe", "Only this timeframe, such as 1h")
SYMBOLS = Parameter("symbols", "Only these symbols, separated by commas, and those of `group`", kind="list", default=())
AVERAGES = Parameter("averages", "Which EMAs are compared, such as 12/26 of a strategy; by default 9/30")
DRAWN_AVERAGES = Parameter("averages", "Which EMAs are drawn, such as 12/26; by default those of `strategy`, else 9/30")
GROUP = Parameter("group", "Only the symbols of this group of the watchlist, and those of `symbols`")
STRATEGY = Parameter("strategy", "A strategy, such as strategy_9_30_ema; by default the first one")
ANY_STRATEGY = Parameter("strategy", "Only the trades of this strategy")
PAGE = Parameter("page", "Which page, 1 for the first", kind="number", default=1, most=1_000_000)
PER_PAGE = Parameter("per_page", "Rows per page", kind="number", default=100, most=1000)
