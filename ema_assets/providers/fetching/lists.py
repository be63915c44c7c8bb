"""States of symbols from a vendor's list of all its symbols, which takes one call. The client parses the list."""

from collections.abc import Callable, Mapping

import msgspec

from ema_assets.model.errors import MalformedAnswer, ProviderError
from ema_assets.providers.fetching.base import NO_ACTIONS
from ema_assets.providers.fetching.describing import Described, states_of
from ema_assets.providers.http.circuit_breaker import CircuitBreaker, CircuitOpen
from ema_assets.providers.http.source import HttpCall, HttpSource

# Parses the body of an answer: by listed symbol, its state and the vendor's words for it.
ReadList = Callable[[bytes], Mapping[str, tuple[str, str]]]


async def describe_by_list(http: HttpSource, call: HttpCall, read: ReadList, asked: Mapping[str, str]) -> Described:
    """Return the states of `asked` (by our symbol, the vendor's spelling) with one `call`; close `http`.

    The answer has no corporate actions, because such a vendor has none.
    """
    try:
        listed = await listed_by(http, call, read, CircuitBreaker())
    except ProviderError as error:
        return Described(None, NO_ACTIONS, (cause_of(error),), http.calls)
    finally:
        await http.aclose()
    return Described(states_of(asked, listed), NO_ACTIONS, (), http.calls)


async def listed_by(
    http: HttpSource, call: HttpCall, read: ReadList, breaker: CircuitBreaker
) -> Mapping[str, tuple[str, str]]:
    """Return the answer to `call`, parsed by `read`.

    Raises:
        ProviderError: when there is no answer, or an unreadable one. An empty list counts as unreadable: with it, every
            symbol would be unknown.
    """
    body = await http.get(call, breaker)
    try:
        listed = read(body)
    except msgspec.DecodeError as error:
        raise _malformed(http, str(error)) from None
    except RecursionError:
        raise _malformed(http, "JSON nested too deep") from None
    if not listed:
        raise _malformed(http, "an empty one")
    return listed


def cause_of(error: ProviderError) -> ProviderError:
    """Return `error`, or, for an open circuit, the error that opened it."""
    return error.error if isinstance(error, CircuitOpen) else error


def _malformed(http: HttpSource, what: str) -> MalformedAnswer:
    return MalformedAnswer(f"{http.name} sent no list of its symbols: {what}", provider=http.name)
