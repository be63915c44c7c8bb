"""The declaration of a provider: its capabilities, its configuration, and how to open its client. Imports little."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from ema_assets.model.errors import ConfigurationError
from ema_assets.model.symbols import AssetClass
from ema_assets.model.timeframes import by_key
from ema_assets.model.variables import Secret, Variable

if TYPE_CHECKING:
    from ema_assets.providers.fetching.base import ProviderClient
    from ema_assets.providers.fetching.describing import Described, Question
    from ema_assets.providers.http.budget import Budget

_VARIABLE, _IS_NEEDED = "variable", "is_needed"


def setting(variable: Variable, *, is_needed: bool = False) -> Any:
    """Return a field of a config record that is read from an environment variable. Secrets are left out of the repr.

    `is_needed` means that the provider cannot be used without it.
    """
    return field(
        default=variable.default,
        repr=not isinstance(variable, Secret),
        metadata={_VARIABLE: variable, _IS_NEEDED: is_needed},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderConfig:
    """The configuration of one provider. Providers with more settings declare a subclass with `setting` fields.

    `base_url` is None if the provider has no address, or if none is set.
    """

    base_url: str | None = None
    requests_per_minute: int = 200

    @classmethod
    def variables(cls) -> dict[str, Variable]:
        """Return the environment variables of the configuration, by the names of their fields."""
        return {each.name: each.metadata[_VARIABLE] for each in fields(cls) if _VARIABLE in each.metadata}

    @classmethod
    def needed(cls) -> dict[str, Variable]:
        """Return the variables without which the provider cannot be used, by the names of their fields."""
        needed = {each.name for each in fields(cls) if each.metadata.get(_IS_NEEDED)}
        return {name: variable for name, variable in cls.variables().items() if name in needed}

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Return the configuration that `env` sets.

        Raises:
            ConfigurationError: naming the variable, what was received and what is allowed.
        """
        values: dict[str, Any] = {name: variable.read(env) for name, variable in cls.variables().items()}
        return cls(**values)


Config = TypeVar("Config", bound=ProviderConfig)


@dataclass(frozen=True, slots=True)
class Publication:
    """When the bars of a provider can be requested, and when they are requested again. Times count from a bar's close.

    Attributes:
        delay: how long after its close a bar is requested at the earliest.
        settling: by timeframe, when a bar is requested again; after the last of these times it is final.
        overlap: the least time by which a request reaches back before the end of the last one.
        reread_after: how long after the close of a session the last REREAD_SESSIONS are requested again, for late
            corrections. None for never.
    """

    delay: timedelta = timedelta(0)
    settling: Mapping[str, tuple[timedelta, ...]] = field(default_factory=dict)
    overlap: timedelta = timedelta(0)
    reread_after: timedelta | None = None

    def final_after(self, timeframe: str) -> timedelta:
        """Return how long after its close a bar of `timeframe` is final."""
        return max(self.settling.get(timeframe, ()), default=timedelta(0))


# The number of sessions that are read again at night. Vendors make corrections for more than a week.
REREAD_SESSIONS = 10


@dataclass(frozen=True, slots=True)
class Service:
    """A server of this project that serves a provider's bars. `up` starts it if no address is set.

    Attributes:
        command: the command of `ema-assets` that runs it; it takes `--port` and prints its address.
        answers_at: the path that answers once the server is ready.
    """

    command: str
    answers_at: str


@dataclass(frozen=True, slots=True)
class LongHistory:
    """The longer intraday bars with which a provider reaches further back than with the timeframes that it serves.

    They are requested once, before the first bar of a shorter timeframe, and longer timeframes are rolled up from them.

    Attributes:
        timeframe: our key of their timeframe. Shorter bars fit better where sessions do not open on the hour.
        word: the provider's own word for it.
        depth: how far back its bars reach; None without a known limit.
    """

    timeframe: str
    word: str
    depth: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider(Generic[Config]):
    """One source of bars.

    Attributes:
        name: its name in a watchlist and in EMA_PROVIDER.
        title: its name in a sentence.
        covers: which symbols it has and how they are spelt, in one sentence.
        open: opens a client with a configuration and with a call budget that processes share, or with None for the
            client's own budget. It imports heavy modules when it is called. None for a source without requests.
        config: the type of its configuration.
        describe: asks for the states and corporate actions of symbols. It is called at most once per night and never
            raises a ProviderError. None for a provider that has only bars.
        timeframes: the fetched timeframes that it serves: by our key, its own word.
        asset_classes: the asset classes of which it has bars.
        calendars: the calendars of its stocks, funds and indices; empty for all calendars.
        depth: how far back the bars of a timeframe reach. A timeframe that is missing has no known limit.
        long_history: the bars with which longer timeframes reach further back, or None.
        symbols_per_call: how many symbols one call can request.
        publication_delay: how long after its close a bar is requested at the earliest.
        settling_time: how long after its close a bar may still change. Requests reach back at least this far.
        day_settling: when a 1d bar is requested again after the session's close; after the last time it is final.
        reread_after: how long after the close of a session the last ones are read again, or None for never.
        is_synthetic: whether its prices are synthetic.
        is_fallback: True for the one provider that is the default if no other is.
        default_when_set: the field of its configuration that makes it the default provider once it is set.
        service: the server of ours that must run before it can be used, or None.
        extra: a package that it needs in addition to the project's, installed by the extra of the same name.
    """

    name: str
    title: str
    covers: str
    open: "Callable[[Config, Budget | None], ProviderClient] | None"
    config: type[Config]
    timeframes: Mapping[str, str]
    asset_classes: frozenset[AssetClass]
    describe: "Callable[[Config, Budget | None, Question], Awaitable[Described]] | None" = None
    calendars: frozenset[str] = frozenset()
    depth: Mapping[str, timedelta] = field(default_factory=dict)
    long_history: LongHistory | None = None
    symbols_per_call: int = 1
    publication_delay: timedelta = timedelta(seconds=3)
    settling_time: timedelta = timedelta(0)
    day_settling: tuple[timedelta, ...] = ()
    reread_after: timedelta | None = timedelta(hours=5)
    is_synthetic: bool = False
    is_fallback: bool = False
    default_when_set: str | None = None
    service: Service | None = None
    extra: str | None = None

    def has(self, asset_class: AssetClass, calendar: str) -> bool:
        """Return whether it has bars of instruments of `asset_class` that trade on `calendar`."""
        if asset_class in ("stocks", "funds", "indices") and self.calendars and calendar not in self.calendars:
            return False
        return asset_class in self.asset_classes

    @property
    def words(self) -> Mapping[str, str]:
        """The timeframes that its client can request, including long history: by our key, its own word."""
        long = {} if self.long_history is None else {self.long_history.timeframe: self.long_history.word}
        return {**long, **self.timeframes}

    def reach(self, timeframe: str) -> timedelta | None:
        """Return how far back the bars of a timeframe reach, or None without a known limit."""
        if self.long_history is not None and timeframe == self.long_history.timeframe not in self.timeframes:
            return self.long_history.depth
        return self.depth.get(timeframe)

    @property
    def is_asked(self) -> bool:
        """Whether bars can be requested from it; otherwise, they only come from files."""
        return self.open is not None

    @property
    def publication(self) -> Publication:
        """When its bars can be requested, and when they are requested again."""
        intraday = (self.settling_time,) if self.settling_time else ()
        settling = {
            key: self.day_settling if by_key(key).is_session and self.day_settling else intraday
            for key in self.timeframes
        }
        return Publication(self.publication_delay, settling, self.settling_time, self.reread_after)

    def check(self, config: Config, *, is_starting: bool = False) -> None:
        """Check that everything is set that is needed to use the provider.

        Args:
            config: its configuration.
            is_starting: True if its service is about to be started, which sets the address.

        Raises:
            ConfigurationError: naming the variables to set, or the extra to install.
        """
        if self.extra is not None and find_spec(self.extra) is None:
            raise ConfigurationError(
                f"the provider {self.name} needs the package {self.extra}: pip install 'ema-assets[{self.extra}]'"
            )
        needed = {name: variable.name for name, variable in config.needed().items()}
        if self.service is not None:
            variable = needed.pop("base_url")
            if config.base_url is None and not is_starting:
                raise ConfigurationError(
                    f"the {self.title} is a provider but does not run; start it with `ema-assets up`, or run "
                    f"`ema-assets {self.service.command}` and set {variable} to what it prints"
                )
        missing = [variable for name, variable in needed.items() if getattr(config, name) is None]
        if missing:
            raise ConfigurationError(f"the provider {self.name} needs keys: set {' and '.join(missing)} to yours")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderFamily(Generic[Config]):
    """Providers with names such as `name:word`, one for each word.

    Attributes:
        name: the part of their names before the colon.
        parameter: what the part after the colon is, in one word.
        config: the type of the configuration that its members share.
        member: returns the provider of a word. It is cheap and does not check that such a provider exists.
    """

    name: str
    parameter: str
    config: type[Config]
    member: Callable[[str], Provider[Config]]

    @property
    def form(self) -> str:
        """The form of the names of its members."""
        return f"{self.name}:<{self.parameter}>"
