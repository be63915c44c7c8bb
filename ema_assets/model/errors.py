"""Every error this project raises, in one tree.

    EmaAssetsError
    ├── ConfigurationError        the user's settings or files need a change; says which
    │   ├── InvalidKeyError       a symbol, timeframe or series key that cannot be one
    │   ├── WatchlistError        the watchlist file
    │   ├── BarFileError          a file given to `ingest`
    │   │   └── AmbiguousBarFile      one that can be read in several ways; carries them with their options
    │   └── ActionFileError       a file given to `actions import`
    ├── ProviderError             a market data provider did not give usable bars
    │   ├── TransientProviderError    asking again later can help; has `retry_after_seconds` when the provider gave it
    │   │   ├── ProviderUnavailable       no connection, time-out, 5xx, a web page where data is due
    │   │   ├── RateLimited               429
    │   │   │   └── Banned                    418, or a vendor's way to say it: nothing may be asked for a while
    │   │   └── MalformedAnswer           a 200 that cannot be read
    │   └── PermanentProviderError    asking again the same way cannot help
    │       ├── Unauthorized              bad or missing key, or a plan or region that does not include the data
    │       ├── UnknownSymbol             the provider has no such instrument
    │       └── RequestRefused            any other 4xx
    ├── StoreError
    │   ├── StoreUnavailable      the database cannot be reached
    │   └── EmbeddedServerError   the embedded PostgreSQL cannot be started or stopped
    └── ForkedProcess             this process cannot compute, because of how it was started

The CLI prints any of these, and what the operating system or the database refuses, as one sentence; anything else is a
bug and keeps its traceback.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

# The longest time for which a provider is left alone at its own request. The longest ban in the documentation of a
# vendor takes three days; a larger number is a mistake.
LONGEST_PAUSE_SECONDS = 3 * 86_400.0

# An escape sequence with which a terminal is given colours and the like.
_ESCAPE_SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


def printable(text: str) -> str:
    """Return `text` on one line and without control characters, fit for a terminal and a database."""
    if text.isprintable():
        return text
    text = _ESCAPE_SEQUENCE.sub("", text)
    text = "".join(each if each.isprintable() or each.isspace() else "\N{REPLACEMENT CHARACTER}" for each in text)
    return " ".join(text.split())


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """Return the end of a message about an unknown `word`: the most similar one of `allowed`, or nothing."""
    names = list(allowed)
    close = [name for name in names if name.lower() == word.lower()] or get_close_matches(word, names, n=1)
    return f"; did you mean `{close[0]}`?" if close else ""


# The largest number of allowed values in a message: enough for all calendars and all signals.
_NAMED = 100


def first_of(names: Sequence[str], most: int) -> str:
    """Return `names` separated by commas; if there are more than `most`, only the first and the number of the rest."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def not_one_of(argument: str, received: str, allowed: Iterable[str]) -> "ConfigurationError":
    """Return the error for an `argument` that is not one of `allowed`, of which the first 100 are named."""
    names = list(allowed)
    hint = did_you_mean(received, names)
    # A group may be named `From files, 24/7`.
    quoted = [f'"{name}"' if ", " in name else name for name in names]
    named = first_of(quoted, _NAMED) if names else "those that are on, of which there is none"
    called = argument if " " in argument else f"`{argument}`"
    return ConfigurationError(f"{called} must be one of {named}, received {received!r}{hint}")


class EmaAssetsError(Exception):
    """Base of all errors raised on purpose."""


class ConfigurationError(EmaAssetsError):
    """A setting, file or argument is wrong; the message names it and what is allowed."""


class InvalidKeyError(ConfigurationError, ValueError):
    """A symbol, timeframe or series key is malformed."""


class UnfitParameters(ConfigurationError):
    """Parameters that are each within their limits do not fit together, such as a fast span above the slow one."""


class RuleError(EmaAssetsError, ValueError):
    """A strategy rule failed on bars or returned something invalid; the message names the rule and the line."""


class SignalError(EmaAssetsError, ValueError):
    """A user's own signal failed on bars or returned something invalid; the message names it, the file and the line."""


class UnsoundCode(EmaAssetsError, ValueError):
    """A rule or signal uses bars that it must not use, so it cannot compute any series; the message names its file."""


class UnsoundRule(UnsoundCode, RuleError):
    """A strategy rule uses other rows than the row of each bar."""


class UnsoundSignal(UnsoundCode, SignalError):
    """A user's own signal depends on other symbols, on later bars or on where a history is cut."""


class CodeDiffers(EmaAssetsError):
    """This host would compute an asset with other code or parameters than those for which the run was launched."""


class UnclearSymbol(ConfigurationError):
    """The spelling of a symbol does not show what it is or where it trades.

    `spellings` are the ways in which what is probably meant is written here.
    """

    def __init__(self, symbol: str, reason: str, instead: str | None = None, spellings: Sequence[str] = ()) -> None:
        if spellings:
            instead = "write " + " or ".join(filter(None, [", ".join(spellings[:-1]), spellings[-1]]))
        instead = instead or (
            "say where it trades with `--calendar`: 24/7 for crypto, 24/5 for foreign exchange, CMES for futures of "
            "CME, or the code of an exchange such as XNYS"
        )
        super().__init__(f"{symbol}: {reason}; {instead}")
        self.symbol = symbol
        self.spellings = tuple(spellings)


class WatchlistError(ConfigurationError):
    """The watchlist file is malformed; the message names the file and the entry."""


class EmptyWatchlist(WatchlistError):
    """The watchlist file lists no symbol."""


class BarFileError(ConfigurationError):
    """A file of bars cannot be read as one; the message names the file and the columns."""


@dataclass(frozen=True, slots=True)
class FileReading:
    """One way to read a file: the evidence for or against it, and the options of `ingest` that choose it.

    `answers` are names and texts of options, such as `("tz", "America/New_York")`; or `group` and the lines of a group
    that is to be added to the watchlist.
    """

    evidence: str
    answers: tuple[tuple[str, str], ...]


class AmbiguousBarFile(BarFileError):
    """A file of bars can be read in several ways. `readings` has them, the most likely first."""

    def __init__(self, message: str, readings: Sequence[FileReading]) -> None:
        super().__init__(message)
        self.readings = tuple(readings)


class ActionFileError(ConfigurationError):
    """A file of corporate actions cannot be read as one; the message names the file and the line."""


class ProviderError(EmaAssetsError):
    """A provider did not give usable bars. `provider` names it; `symbol` is set when one symbol is to blame.

    Messages may quote what the provider sent, so all of them are made `printable` here.
    """

    def __init__(self, message: str, *, provider: str, symbol: str | None = None) -> None:
        super().__init__(printable(message))
        self.provider = provider
        self.symbol = symbol


class TransientProviderError(ProviderError):
    """A failure for which a later retry can help.

    `retry_after_seconds` is for how long the provider demands to be left alone, at most LONGEST_PAUSE_SECONDS; None if
    it did not say, or said something impossible.
    """

    def __init__(
        self,
        message: str,
        *,
        provider: str,
        symbol: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message, provider=provider, symbol=symbol)
        self.retry_after_seconds = pause_of(retry_after_seconds)


def pause_of(seconds: float | None) -> float | None:
    """Return `seconds`, limited to LONGEST_PAUSE_SECONDS; None if it is None, negative or not finite."""
    if seconds is None or not 0 <= seconds < math.inf:
        return None
    return float(min(seconds, LONGEST_PAUSE_SECONDS))


class ProviderUnavailable(TransientProviderError):
    """No connection, a time-out, an answer of 5xx, or one that does not come from the provider's API."""


class RateLimited(TransientProviderError):
    """The provider answered with status 429."""


class Banned(RateLimited):
    """The provider has banned this address. Each further request prolongs the ban."""


class MalformedAnswer(TransientProviderError):
    """The provider answered with status 200, but not with bars."""


class PermanentProviderError(ProviderError):
    """A failure that the same request would cause again."""


class Unauthorized(PermanentProviderError):
    """The key is missing or wrong, or its plan or this region does not include the requested data."""


class UnknownSymbol(PermanentProviderError):
    """The provider has no such instrument, or no bars for it."""


class RequestRefused(PermanentProviderError):
    """The provider answered with a 4xx status that no other error covers."""


class StoreError(EmaAssetsError):
    """The database or the embedded server failed."""


class NewerDatabase(StoreError):
    """A newer version of ema-assets has migrated the database."""


class StoreUnavailable(StoreError):
    """The database cannot be reached or refuses the login."""


class EmbeddedServerError(StoreError):
    """The embedded PostgreSQL cannot be started, stopped or found."""


class ForkedProcess(EmaAssetsError, RuntimeError):
    """This process was forked from one that had used polars: polars would wait in it forever."""
