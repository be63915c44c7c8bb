"""What a provider declares: its capabilities, its configuration, and how its client is made. Imports nothing heavy."""

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
    """A field of a config record that is read from an environment variable. Secrets are left out of its repr.

    `is_needed` when the provider cannot be asked without it.
    """
    return field(
        default=variable.default,
        repr=not isinstance(variable, Secret),
        metadata={_VARIABLE: variable, _IS_NEEDED: is_needed},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderConfig:
    """The configuration of one provider. A provider with more of it declares a subclass, its fields with `setting`.

    `base_url` is None when it has no address, or when none is set.
    """

    base_url: str | None = None
    requests_per_minute: int = 200

    @classmethod
    def variables(cls) -> dict[str, Variable]:
        """The environment variables that are read, by the name of their field."""
        return {each.name: each.metadata[_VARIABLE] for each in fields(cls) if _VARIABLE in each.metadata}

    @classmethod
    def needed(cls) -> dict[str, Variable]:
        """Those of the variables without which the provider cannot be asked."""
        needed = {each.name for each in fields(cls) if each.metadata.get(_IS_NEEDED)}
        return {name: variable for name, variable in cls.variables().items() if name in needed}

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """The configuration that `env` makes.

        Raises:
            ConfigurationError: naming the variable, what was received and what is allowed.
        """
        values: dict[str, Any] = {name: variable.read(env) for name, variable in cls.variables().items()}
        return cls(**values)


Config = TypeVar("Config", bound=ProviderConfig)


@dataclass(frozen=True, slots=True)
class Publication:
    """When the bars of a provider can be asked for, and when they are asked for again. Times count from a bar's close.

    Attributes:
        delay: a bar is asked for so long after its close at the earliest.
        settling: by timeframe, when a bar is asked for again; after the last of these times it is final.
        overlap: requests reach back so far before what was asked for last, at least.
        reread_after: so long after the close of a session the last REREAD_SESSIONS are asked for once more, for
            corrections that come late. None for never.
    """

    delay: timedelta = timedelta(0)
    settling: Mapping[str, tuple[timedelta, ...]] = field(default_factory=dict)
    overlap: timedelta = timedelta(0)
    reread_after: timedelta | None = None

    def final_after(self, timeframe: str) -> timedelta:
        """How long after its close a bar of `timeframe` is final."""
        return max(self.settling.get(timeframe, ()), default=timedelta(0))


# How many sessions are read again at night: vendors correct up to a week and more later.
REREAD_SESSIONS = 10


@dataclass(frozen=True, slots=True)
class Service:
    """A server of this project from which a provider's bars come. `up` starts it when no address is set.

    Attributes:
        command: the command of `ema-assets` that runs it; it takes `--port` and prints its address.
        answers_at: the path that answers once the server is ready.
    """

    command: str
    answers_at: str


@dataclass(frozen=True, slots=True)
class LongHistory:
    """The longer intraday bars by which a provider reaches further back than by the timeframes that it serves.

    They are asked for once, before the first bar of a shorter timeframe, and longer timeframes are rolled up from them.

    Attributes:
        timeframe: our key of it. The shorter, the better it fits where sessions do not open on the hour.
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
        name: what a watchlist and EMA_PROVIDER call it.
        title: its name in a sentence.
        covers: which symbols it has and how they are spelt, in one sentence.
        open: makes a client from its configuration and a budget of calls that processes share, or None for one of the
            client's own. None for a source that nobody asks. Imports what is heavy when it is called.
        config: the type of its configuration.
        describe: asks what became of symbols: their states, and corporate actions. It is called once a night at most,
            and never raises a ProviderError. None for a provider that is asked for bars alone.
        timeframes: the fetched timeframes that it serves: our key, and its own word for it.
        asset_classes: what it has bars of.
        calendars: the calendars of its stocks, funds and indices; empty for those of the whole world.
        depth: how far back the bars of a timeframe reach. A timeframe that is not in it has no known limit.
        long_history: the bars by which longer timeframes reach further back; None where there are no such.
        symbols_per_call: how many symbols one call can ask for.
        publication_delay: how long after its close a bar is asked for at the earliest.
        settling_time: how long after its close a bar may still change. Requests reach back at least so far.
        day_settling: when a 1d bar is asked for again after the session's close; after the last time it is final.
        reread_after: how long after the close of a session the last ones are read again, or None for never.
        is_synthetic: True when its prices are made up.
        is_fallback: True for the one provider that is the default when no other is.
        default_when_set: the field of its configuration that makes it the default provider once it is set.
        service: the server that must run before it can be asked, if it is one of ours.
        extra: the package that it needs beside those of the project, which an extra of the same name installs.
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
        """Whether it has bars of what is listed on `calendar`."""
        if asset_class in ("stocks", "funds", "indices") and self.calendars and calendar not in self.calendars:
            return False
        return asset_class in self.asset_classes

    @property
    def words(self) -> Mapping[str, str]:
        """The timeframes that its client can be asked for, with long history: our key, and its own word for it."""
        long = {} if self.long_history is None else {self.long_history.timeframe: self.long_history.word}
        return {**long, **self.timeframes}

    def reach(self, timeframe: str) -> timedelta | None:
        """How far back the bars of a timeframe reach; None without a known limit."""
        if self.long_history is not None and timeframe == self.long_history.timeframe not in self.timeframes:
            return self.long_history.depth
        return self.depth.get(timeframe)

    @property
    def is_asked(self) -> bool:
        """True when bars can be asked for, False when they only come from files."""
        return self.open is not None

    @property
    def publication(self) -> Publication:
        """When its bars can be asked for, and when again."""
        intraday = (self.settling_time,) if self.settling_time else ()
        settling = {
            key: self.day_settling if by_key(key).is_session and self.day_settling else intraday
            for key in self.timeframes
        }
        return Publication(self.publication_delay, settling, self.settling_time, self.reread_after)

    def check(self, config: Config, *, is_starting: bool = False) -> None:
        """Check that everything is set without which the provider cannot be asked.

        Args:
            config: its configuration.
            is_starting: True when its service is about to be started, which gives it its address.

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
    """Providers that differ in one word of their names, such as `name:word`: there are as many as there are words.

    Attributes:
        name: what stands before the colon.
        parameter: what the word behind it is, in one word.
        config: the type of the configuration that its members share.
        member: the provider of a word. Cheap: it does not find out whether there is such a one.
    """

    name: str
    parameter: str
    config: type[Config]
    member: Callable[[str], Provider[Config]]

    @property
    def form(self) -> str:
        """How the names of its members read."""
        return f"{self.name}:<{self.parameter}>"
