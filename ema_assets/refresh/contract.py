"""Holds provider clients to their contract: what their code raises or omits is a failure of the series concerned.

Other providers are not affected, and what was answered before the failure is stored.
"""

import logging
from collections.abc import AsyncIterator, Sequence

from ema_assets.model.errors import ConfigurationError, MalformedAnswer, ProviderError, printable
from ema_assets.model.own_modules import told
from ema_assets.model.schemas import BAR_SCHEMA, check_frame
from ema_assets.providers.fetching.base import NO_BARS, BarRequest, FetchBatch, ProviderClient, SeriesFailure
from ema_assets.refresh.isolate import can_heal
from ema_assets.store import interrupts

_log = logging.getLogger(__name__)


def unforeseen(error: Exception, provider: str | None, doing: str) -> str:
    """Return the message for the series when the code of `provider` raised `error` while `doing`; log the traceback.

    Raises:
        Exception: `error` itself, when the database or the machine is to blame.
        BaseException: an interrupt, when the process is to end.
    """
    interrupts.check()
    if can_heal(error) or isinstance(error, MemoryError):
        raise error
    if isinstance(error, ConfigurationError | ProviderError):
        return str(error)
    named = f"the provider {provider}" if provider else "the default provider"
    _log.error("%s failed while %s", named, doing, exc_info=error)
    return printable(f"{named} failed while {doing}: {told(error)}")


async def answers(provider: ProviderClient, requests: Sequence[BarRequest]) -> AsyncIterator[FetchBatch]:
    """Yield the parts of the answer to `requests`; each request occurs once, in a part's `completed` or `failures`.

    When the code of the provider raises an error, all requests that were not answered before have failed with it.
    """
    left = dict.fromkeys(requests)
    error: ProviderError | None = None
    try:
        async for part in provider.fetch(requests):
            check_frame(f"bars of {provider.name}", part.bars, BAR_SCHEMA)
            for request in [*part.completed, *(failure.request for failure in part.failures)]:
                left.pop(request, None)
            yield part
    except Exception as raised:  # noqa: BLE001 - it is not our code
        said = unforeseen(raised, provider.name, "answering")
        error = raised if isinstance(raised, ProviderError) else MalformedAnswer(said, provider=provider.name)
    if left:
        forgotten = f"{provider.name} has ended its answer with neither bars nor a failure for it"
        error = error or MalformedAnswer(forgotten, provider=provider.name)
        yield FetchBatch(NO_BARS, (), tuple(SeriesFailure(request, error) for request in left))


async def close(provider: ProviderClient) -> int:
    """Close a client; return how many calls it has made."""
    calls = 0
    try:
        calls = int(provider.calls)
        await provider.aclose()
    except Exception as error:  # noqa: BLE001 - it is not our code, and what it has brought is stored
        unforeseen(error, provider.name, "closing its connections")
    return calls
