"""States of symbols from a vendor's list of all that it has, which is one call. What is in the list is its client's."""

from collections.abc import Callable, Mapping

import msgspec

from ema_assets.model.errors import MalformedAnswer, ProviderError
from ema_assets.providers.fetching.base import NO_ACTIONS
from ema_assets.providers.fetching.describing import Described, states_of
from ema_assets.providers.http.circuit_breaker import CircuitBreaker, CircuitOpen
from ema_assets.providers.http.source import HttpCall, HttpSource

# From the body of an answer to the state of each symbol that is listed, and the vendor's words for it.
ReadList = Callable[[bytes], Mapping[str, tuple[str, str]]]


async def describe_by_list(http: HttpSource, call: HttpCall, read: ReadList, asked: Mapping[str, str]) -> Described:
    """The states of `asked` (our symbols, and the vendor's spelling of each), by one `call`; closes `http`.

    Without corporate actions, of which such a vendor has none.
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
    """What `read` makes of the answer to `call`.

    Raises:
        ProviderError: when there is no answer, or an unreadable one. So is an empty list: it would say of every symbol
            that it is unknown.
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
    """`error`, or that for which no further call was made."""
    return error.error if isinstance(error, CircuitOpen) else error


def _malformed(http: HttpSource, what: str) -> MalformedAnswer:
    return MalformedAnswer(f"{http.name} sent no list of its symbols: {what}", provider=http.name)
