"""The check of providers: keys are set, and with `--online` accepted by a call for one week of one symbol's bars."""

import asyncio
from collections.abc import Collection, Iterator
from datetime import timedelta

from ema_assets.config.watchlist import Watchlist
from ema_assets.doctor.declaration import Check, Finding, Surroundings, error, ok, warning
from ema_assets.model.counts import times_in_a_row
from ema_assets.model.errors import (
    ConfigurationError,
    ProviderError,
    ProviderUnavailable,
    Unauthorized,
    UnknownSymbol,
)
from ema_assets.model.timeframes import by_key
from ema_assets.model.variables import Secret
from ema_assets.providers import registry
from ema_assets.store import provider_state

_CALL_SECONDS = 30.0


def _look(seen: Surroundings) -> Iterator[Finding]:
    if seen.watched is None:
        return
    by_provider = seen.watched.by_provider(seen.settings.provider)
    answering: set[str] = set()
    for name, symbols in by_provider.items():
        try:
            seen.settings.check_provider(name, is_starting=seen.running is None)
        except ConfigurationError as refused:
            yield error(str(refused), "without it none of its symbols gets bars")
            continue
        is_up = seen.running is not None or name not in seen.settings.unserved([name])
        if seen.is_online and is_up:
            finding = _called(seen, seen.watched, name, symbols[0])
            if finding.level == "ok":
                answering.add(name)
            yield finding
        elif not is_up:
            yield ok(f"{name}: `ema-assets up` starts it")
        else:
            needs_keys = any(isinstance(each, Secret) for each in registry.by_name(name).config.needed().values())
            yield ok(f"{name}: {'keys are set' if needs_keys else 'needs no key'}; `--online` asks it")
    if not by_provider:
        yield ok("all bars come from files")
    yield from _not_answering(seen, answering)


def _not_answering(seen: Surroundings, answering: Collection[str]) -> Iterator[Finding]:
    """Yield warnings about providers that did not answer the last runs, and say when runs call them again.

    Providers in `answering` have just answered the doctor. That ends no pause, because the doctor writes nothing; the
    next run finds out with one call.
    """
    if seen.database is None or not seen.is_migrated:
        return
    default = seen.running.provider if seen.running is not None else seen.settings.provider
    with seen.database.transaction() as transaction:
        transaction.read_one_moment()
        silent = provider_state.not_answering(transaction, default)
    for row in silent.iter_rows(named=True):
        name, failures, until = row["provider"], row["failures"], row["open_until"]
        times = times_in_a_row(failures)
        moment = "at once" if until <= seen.market_now else f"from {until:%Y-%m-%d %H:%M:%S} UTC on"
        again = f"runs ask it again {moment}"
        if name in answering:
            text = f"{name} answers now, but did not answer runs {times}: {row['last_error']}"
            yield warning(text, f"nothing needs to be done: {again} and fetch what is missing")
        else:
            yield warning(f"{name} did not answer runs {times}: {row['last_error']}", again)


def _called(seen: Surroundings, watched: Watchlist, name: str, symbol: str) -> Finding:
    refused: ProviderError | None
    try:
        refused = asyncio.run(asyncio.wait_for(_call(seen, watched, name, symbol), _CALL_SECONDS))
    except TimeoutError:
        refused = ProviderUnavailable(f"no answer within {_CALL_SECONDS:g} s", provider=name)
    except ProviderError as failed:
        refused = failed
    except ConfigurationError as wrong:
        return error(str(wrong), f"set it right: without it {name} is not asked")
    match refused:
        case None:
            return ok(f"{name}: has answered for {symbol}")
        case Unauthorized():
            return error(f"{name}: {refused}", "see that the keys are right and the plan includes the data")
        case UnknownSymbol():
            return warning(f"{name}: {refused}", f"see whether {symbol} is right: `ema-assets symbols check`")
        case ProviderUnavailable():
            return error(f"{name}: {refused}", "see whether this machine reaches the network and the vendor works")
    return warning(f"{name}: {refused}", "try again later")


async def _call(seen: Surroundings, watched: Watchlist, name: str, symbol: str) -> ProviderError | None:
    """Request bars of one symbol, within a call budget of this process only: nothing is written to the database.

    Returns:
        The error of the provider, or None if it answered.
    """
    from ema_assets.providers.fetching.base import BarRequest
    from ema_assets.refresh.clients import open_provider

    served = [by_key(key) for key in registry.by_name(name).timeframes]
    instrument = next(each for each in watched.instruments if each.symbol == symbol)
    end = seen.market_now
    request = BarRequest(instrument, max(served), end - timedelta(days=7), end)
    client = open_provider(seen.settings, name)
    try:
        async for part in client.fetch([request]):
            for failure in part.failures:
                return failure.error
    finally:
        await client.aclose()
    return None


CHECK = Check("providers", 80, _look)
