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
    └── StoreError
        ├── StoreUnavailable      the database cannot be reached
        └── EmbeddedServerError   the embedded PostgreSQL cannot be started or stopped

The CLI prints any of these, and what the operating system or the database refuses, as one sentence; anything else is a
bug and keeps its traceback.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

# The longest time for which a provider is left alone because it asks for it. The longest ban that the pages of a vendor
# speak of takes three days; a larger number is a mistake.
LONGEST_PAUSE_SECONDS = 3 * 86_400.0

# How a terminal is told of colours and the like.
_ESCAPE_SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


def printable(text: str) -> str:
    """`text` on one line, fit for a terminal and a database: without control characters, whoever has sent them."""
    if text.isprintable():
        return text
    text = _ESCAPE_SEQUENCE.sub("", text)
    text = "".join(each if each.isprintable() or each.isspace() else "\N{REPLACEMENT CHARACTER}" for each in text)
    return " ".join(text.split())


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """The end of a message about an unknown `word`: the one of `allowed` that it looks like, if any."""
    close = get_close_matches(word, list(allowed), n=1)
    return f"; did you mean `{close[0]}`?" if close else ""


# Enough for all calendars and all signals.
_NAMED = 100


def first_of(names: Sequence[str], most: int) -> str:
    """`names` in a row, and of more than `most` the first of them and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def not_one_of(argument: str, received: str, allowed: Iterable[str]) -> "ConfigurationError":
    """The error for an `argument` that is none of those allowed. Of thousands, such as symbols, the first are named."""
    names = list(allowed)
    hint = did_you_mean(received, names)
    named = first_of(names, _NAMED) if names else "those that are on, of which there is none"
    return ConfigurationError(f"`{argument}` must be one of {named}, received {received!r}{hint}")


class EmaAssetsError(Exception):
    """Base of all errors raised on purpose."""


class ConfigurationError(EmaAssetsError):
    """A setting, file or argument is wrong; the message names it and what is allowed."""


class InvalidKeyError(ConfigurationError, ValueError):
    """A symbol, timeframe or series key is malformed."""


class UnfitParameters(ConfigurationError):
    """Parameters that are each within their limits do not fit together, such as a fast span above the slow one."""


class RuleError(EmaAssetsError, ValueError):
    """A strategy rule failed on bars, or returned what it must not; the message names the rule and the line."""


class SignalError(EmaAssetsError, ValueError):
    """A signal of a user's own failed on bars, or returned what it must not; the message names it, file and line."""


class UnsoundCode(EmaAssetsError, ValueError):
    """A rule or signal uses bars that it must not, so that no series can be computed by it; names it and its file."""


class UnsoundRule(UnsoundCode, RuleError):
    """A strategy rule looks at other rows than that of each bar."""


class UnsoundSignal(UnsoundCode, SignalError):
    """A signal of a user's own depends on other symbols, on later bars or on how a history is cut."""


class CodeDiffers(EmaAssetsError):
    """This host would compute an asset by other code or parameters than those that the run was launched for."""


class UnclearSymbol(ConfigurationError):
    """What a symbol is and where it trades cannot be told from how it is written."""

    def __init__(self, symbol: str, reason: str, instead: str | None = None) -> None:
        instead = instead or (
            "say where it trades with `--calendar`: 24/7 for crypto, 24/5 for foreign exchange, CMES for futures of "
            "CME, or the code of an exchange such as XNYS"
        )
        super().__init__(f"{symbol}: {reason}; {instead}")
        self.symbol = symbol


class WatchlistError(ConfigurationError):
    """The watchlist file is malformed; the message names the file and the entry."""


class EmptyWatchlist(WatchlistError):
    """The watchlist file lists no symbol."""


class BarFileError(ConfigurationError):
    """A file of bars cannot be read as one; the message names the file and the columns."""


@dataclass(frozen=True, slots=True)
class FileReading:
    """One way to read a file: what speaks for it or against it, and the options of `ingest` that choose it.

    `answers` are names and texts of options, such as `("tz", "America/New_York")`.
    """

    evidence: str
    answers: tuple[tuple[str, str], ...]


class AmbiguousBarFile(BarFileError):
    """A file of bars can be read in several ways. `readings` has them, the likeliest first."""

    def __init__(self, message: str, readings: Sequence[FileReading]) -> None:
        super().__init__(message)
        self.readings = tuple(readings)


class ActionFileError(ConfigurationError):
    """A file of corporate actions cannot be read as one; the message names the file and the line."""


class ProviderError(EmaAssetsError):
    """A provider did not give usable bars. `provider` names it; `symbol` is set when one symbol is to blame.

    A message may quote what the provider sent: it is made `printable` here, for all of them.
    """

    def __init__(self, message: str, *, provider: str, symbol: str | None = None) -> None:
        super().__init__(printable(message))
        self.provider = provider
        self.symbol = symbol


class TransientProviderError(ProviderError):
    """Asking again later can help.

    `retry_after_seconds` is for how long the provider asks to be left alone, at most LONGEST_PAUSE_SECONDS; None when
    it did not say, or said what cannot be.
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
    """A pause as long as LONGEST_PAUSE_SECONDS at most; None for what cannot be one."""
    if seconds is None or not 0 <= seconds < math.inf:
        return None
    return min(seconds, LONGEST_PAUSE_SECONDS)


class ProviderUnavailable(TransientProviderError):
    """No connection, a time-out, an answer of 5xx, or one that does not come from the provider's API."""


class RateLimited(TransientProviderError):
    """The provider said 429."""


class Banned(RateLimited):
    """The provider has shut this address out: each further request makes it longer."""


class MalformedAnswer(TransientProviderError):
    """The provider said 200 and sent something that is not bars."""


class PermanentProviderError(ProviderError):
    """Asking again the same way cannot help."""


class Unauthorized(PermanentProviderError):
    """The key is missing or wrong, or its plan or this region does not include the data asked for."""


class UnknownSymbol(PermanentProviderError):
    """The provider has no such instrument, or no bars for it."""


class RequestRefused(PermanentProviderError):
    """The provider answered with a 4xx that none of the others covers."""


class StoreError(EmaAssetsError):
    """The database or the embedded server."""


class NewerDatabase(StoreError):
    """A newer version of ema-assets has migrated the database."""


class StoreUnavailable(StoreError):
    """The database cannot be reached or refuses the login."""


class EmbeddedServerError(StoreError):
    """The embedded PostgreSQL cannot be started, stopped or found."""
