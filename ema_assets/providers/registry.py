"""The registry of providers: the modules of this package that declare one or a family. Imports only declarations."""

import pkgutil
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from importlib import import_module
from typing import Any

from ema_assets import providers
from ema_assets.model.errors import ConfigurationError, not_one_of
from ema_assets.model.timeframes import FETCHED, by_key
from ema_assets.model.variables import Secret
from ema_assets.providers.declaration import Provider, ProviderConfig, ProviderFamily

_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,31}")


def discover() -> dict[str, Provider[Any]]:
    """Return every provider by name.

    The fallback comes first, then providers that become the default once they are configured, then the others. Within
    these groups, providers with more asset classes come first.

    Raises:
        ConfigurationError: when a declaration cannot be right; it names the module and what is wrong.
    """
    known: dict[str, Provider[Any]] = {}
    origins: dict[str, str] = {}
    for origin, provider in _declared():
        for problem in _problems(provider):
            raise ConfigurationError(f"{origin}: {problem}")
        if provider.name in known:
            raise ConfigurationError(
                f"{origin}: there is a provider `{provider.name}` already, in {origins[provider.name]}; "
                "names must differ"
            )
        known[provider.name], origins[provider.name] = provider, origin
    fallbacks = [name for name, provider in known.items() if provider.is_fallback]
    if len(fallbacks) != 1:
        raise ConfigurationError(
            f"exactly one provider must be the fallback, received {', '.join(fallbacks) or 'none'}"
        )
    return {provider.name: provider for provider in sorted(known.values(), key=_place)}


def families() -> dict[str, ProviderFamily[Any]]:
    """Return every family of providers by name."""
    return {family.name: family for _, family in _named("FAMILY")}


def _declared() -> Iterator[tuple[str, Provider[Any]]]:
    return _named("PROVIDER")


def _named(attribute: str) -> Iterator[tuple[str, Any]]:
    """Yield the paths of the modules of the package that have `attribute`, and its value."""
    for module in pkgutil.iter_modules(providers.__path__):
        if not module.ispkg:
            path = f"{providers.__name__}.{module.name}"
            declared = getattr(import_module(path), attribute, None)
            if declared is not None:
                yield path, declared


def _place(provider: Provider[Any]) -> tuple[bool, bool, int, str]:
    is_default_once_set = provider.default_when_set is not None
    return not provider.is_fallback, not is_default_once_set, -len(provider.asset_classes), provider.name


def _problems(provider: Provider[Any]) -> Iterator[str]:
    """Yield what is wrong with a declaration by itself."""
    if not isinstance(provider, Provider):
        yield f"`PROVIDER` must be a Provider of ema_assets.providers.declaration, received {provider!r}"
        return
    if not _IDENTIFIER.fullmatch(provider.name):
        yield f"`name` must be 1 to 32 lower-case letters, digits or _, received {provider.name!r}"
    fetched = [timeframe.key for timeframe in FETCHED]
    if unknown := [key for key in provider.timeframes if key not in fetched]:
        yield f"`timeframes` must be among those that are fetched, {', '.join(fetched)}, received {unknown[0]!r}"
    if provider.is_asked and not provider.timeframes:
        yield "`timeframes` must name at least one timeframe that it serves"
    if unknown := [key for key in provider.depth if key not in provider.timeframes]:
        yield f"`depth` must be of timeframes that it serves, received {unknown[0]!r}"
    yield from _problems_with_long_history(provider)
    for name in ("publication_delay", "settling_time"):
        if getattr(provider, name) < timedelta(0):
            yield f"`{name}` must not be below zero, received {getattr(provider, name)}"
    if provider.symbols_per_call < 1:
        yield f"`symbols_per_call` must be at least 1, received {provider.symbols_per_call}"
    field = provider.default_when_set
    if field is not None and field not in provider.config.variables():
        yield f"`default_when_set` must be a setting of {provider.config.__name__}, received {field!r}"


def _problems_with_long_history(provider: Provider[Any]) -> Iterator[str]:
    long = provider.long_history
    if long is None:
        return
    try:
        timeframe = by_key(long.timeframe)
    except KeyError:
        yield f"`long_history` must be of a timeframe that there is, received {long.timeframe!r}"
        return
    # A request is for either long history or a served timeframe, and only whole bars of shorter ones can be compared.
    served = [by_key(key) for key in provider.timeframes]
    shorter = [each for each in served if not each.is_session]
    if timeframe in served or timeframe.is_session or any(timeframe.duration % each.duration for each in shorter):
        yield (
            "`long_history` must be of an intraday timeframe that is not among `timeframes` and holds whole bars of "
            f"them, received {long.timeframe!r}"
        )
    if not long.word:
        yield "`long_history` must have the provider's own word for its timeframe"
    if long.depth is not None and long.depth <= timedelta(0):
        yield f"`depth` of `long_history` must be above zero, received {long.depth}"


PROVIDERS: Mapping[str, Provider[Any]] = discover()
FAMILIES: Mapping[str, ProviderFamily[Any]] = families()
# The providers from which bars can be requested, without the members of families.
ASKED: tuple[str, ...] = tuple(name for name, provider in PROVIDERS.items() if provider.is_asked)
# The allowed values of EMA_PROVIDER in messages.
ALLOWED: tuple[str, ...] = (*ASKED, *(family.form for family in FAMILIES.values()))
# The types of all configurations, by `config_name` of the provider.
CONFIGS: Mapping[str, type[ProviderConfig]] = {
    **{name: provider.config for name, provider in PROVIDERS.items()},
    **{name: family.config for name, family in FAMILIES.items()},
}


def find(name: object) -> Provider[Any] | None:
    """Return the provider `name`, which may be a member of a family, or None."""
    if not isinstance(name, str):
        return None
    family, colon, word = name.partition(":")
    if colon and family in FAMILIES and _IDENTIFIER.fullmatch(word):
        return FAMILIES[family].member(word)
    return PROVIDERS.get(name)


def declared(name: str) -> Provider[Any]:
    """Return the provider of a name that was checked before, also one without requests."""
    provider = find(name)
    assert provider is not None, name
    return provider


def is_asked(name: object) -> bool:
    """Return whether `name` is the name of a provider from which bars can be requested."""
    provider = find(name)
    return provider is not None and provider.is_asked


def config_name(provider: str) -> str:
    """Return the name of a provider's configuration, which the members of a family share."""
    return provider.partition(":")[0]


def by_name(name: str) -> Provider[Any]:
    """Return the provider `name`, from which it must be possible to request bars.

    Raises:
        ConfigurationError: when there is none; it names the allowed ones.
    """
    provider = find(name)
    if provider is None or not provider.is_asked:
        raise not_one_of("provider", name, ALLOWED)
    return provider


def secrets() -> frozenset[str]:
    """Return the names of the environment variables with keys of any provider."""
    variables = (variable for config in CONFIGS.values() for variable in config.variables().values())
    return frozenset(variable.name for variable in variables if isinstance(variable, Secret))


def default_name(configs: Mapping[str, ProviderConfig]) -> str:
    """Return the default provider if EMA_PROVIDER is not set: the first that is configured, or the fallback."""
    for name, provider in PROVIDERS.items():
        field = provider.default_when_set
        if field is not None and getattr(configs[name], field) is not None:
            return name
    return next(name for name, provider in PROVIDERS.items() if provider.is_fallback)
