"""Settings from the environment, read once at the edge. Secrets stay in the environment and out of reprs."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

from ema_assets.model import clock, same_origin
from ema_assets.model.errors import ConfigurationError, not_one_of
from ema_assets.model.symbols import FROM_FILES
from ema_assets.model.urls import libpq_url
from ema_assets.model.variables import Choice, Number, Text, Variable
from ema_assets.providers import registry
from ema_assets.providers.declaration import Config, Provider, ProviderConfig, Publication

# The names that EMA_PROVIDER may have, in addition to members of provider families.
PROVIDERS = registry.ASKED
# With the first, dagster-postgres writes a batch of events with one INSERT; with the second, Dagster logs one planned
# event per asset for a backfill's run instead of one per partition.
DAGSTER_EVENT_VARIABLES = {
    "DAGSTER_EVENT_BATCH_SIZE": "1000",
    "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS": "1",
}

_HOME = Text("EMA_HOME", ".ema", "the folder that holds everything: database, watchlist, logs")
_DATABASE_URL = Text("EMA_DATABASE_URL", None, "a PostgreSQL of your own; the embedded one without it")
_POSTGRES_PROGRAMS = Text(
    "EMA_POSTGRES_BIN",
    None,
    "the folder of `postgres` and `initdb` for the embedded server, 15 or newer; without it the installed ones",
)
_WATCHLIST = Text("EMA_WATCHLIST", None, "the watchlist; without it `watchlist.toml` here, else in `EMA_HOME`")
_SIGNALS_FOLDER = Text("EMA_SIGNALS_FOLDER", None, "your own signals; without it `signals` in `EMA_HOME`")
_STRATEGIES_FOLDER = Text("EMA_STRATEGIES_FOLDER", None, "your own rules; without it `strategies` in `EMA_HOME`")
_PROVIDER = Text(
    "EMA_PROVIDER",
    None,
    "the provider of groups that name none; without it the one whose keys are set, else synthetic prices",
)
_SERIES_PER_RUN = Number("EMA_SERIES_PER_RUN", 1000, 1, 100_000, "how many stale series one run takes at most")
_SWEEP_SECONDS = Number(
    "EMA_SWEEP_SECONDS", 30, 5, 3600, "seconds between looks of the sweep; ten at most while something is stale"
)
_RUN_RETENTION = Number("EMA_RUN_RETENTION_DAYS", 14, 1, 36_500, "how long finished runs and their events are kept")
_REJECTED_RETENTION = Number("EMA_REJECTED_RETENTION_DAYS", 90, 1, 36_500, "how long rejected bars are kept")
_CORRECTION_RETENTION = Number(
    "EMA_CORRECTION_RETENTION_DAYS", 0, 0, 36_500, "how long the old values of corrected bars are kept; 0: forever"
)
_METRICS_PORT = Number("EMA_METRICS_PORT", 0, 0, 65_535, "the port on which `up` serves metrics; 0: none")
_LOG_FORMAT = Choice("EMA_LOG_FORMAT", "text", ("text", "json"), "how `up` and what it starts write their logs")
_ALLOWED_HOSTS = Text(
    same_origin.VARIABLE,
    None,
    "names in addition to `localhost` under which the UI, the board and the sandbox answer, with commas",
)
_CLOCK = Text(clock.VARIABLE, None, "a virtual time for the sandbox, such as `2026-11-20T14:30Z x60`")

# The variables that belong to no provider.
VARIABLES: tuple[Variable, ...] = (
    *(_HOME, _DATABASE_URL, _POSTGRES_PROGRAMS, _WATCHLIST, _SIGNALS_FOLDER, _STRATEGIES_FOLDER, _PROVIDER),
    *(_SERIES_PER_RUN, _SWEEP_SECONDS, _RUN_RETENTION, _REJECTED_RETENTION, _CORRECTION_RETENTION),
    *(_METRICS_PORT, _LOG_FORMAT, _ALLOWED_HOSTS, _CLOCK),
)


def home_folder(env: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of this installation's data, EMA_HOME; not checked."""
    return _path_of(_HOME, _HOME.read(env) or "")


def _path_of(variable: Text, text: str) -> Path:
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:
        raise ConfigurationError(
            f"`{variable.name}` must be a path, received {text!r}: there is no home folder for its ~"
        ) from None


def postgres_programs(env: Mapping[str, str] = os.environ) -> Path | None:
    """Return the folder of another PostgreSQL for the embedded server, EMA_POSTGRES_BIN; None for the installed one.

    Raises:
        ConfigurationError: when there is no such folder.
    """
    named = _POSTGRES_PROGRAMS.read(env)
    if not named:
        return None
    folder = _path_of(_POSTGRES_PROGRAMS, named)
    if not folder.is_dir():
        raise ConfigurationError(f"`{_POSTGRES_PROGRAMS.name}` must be a folder, received {folder}")
    return folder


def without_provider_keys(env: Mapping[str, str]) -> dict[str, str]:
    """Return `env` without the keys of any provider: for processes that query none."""
    keys = registry.secrets()
    return {name: value for name, value in env.items() if name not in keys}


def known_variables() -> set[str]:
    """Return the names of the variables of this project and of its providers."""
    of_providers = (each.name for config in registry.CONFIGS.values() for each in config.variables().values())
    return {*(each.name for each in VARIABLES), *of_providers}


def is_synthetic(provider: str) -> bool:
    """Return whether the bars of `provider` are synthetic and not a market's."""
    return registry.declared(provider).is_synthetic


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a process of this project. Made by `Settings.from_env`.

    `database_url` is None when the embedded server is used. `provider` is the provider of symbols that name none, and
    `providers` holds the configuration of each by name. `signals_folder` and `strategies_folder` hold the user's own
    signals and strategies; None when there is no such folder. `correction_retention_days` is 0 when the old values of
    corrected bars are kept forever. `clock` is None when the market's time is the machine's. `metrics_port` is None
    when `up` serves no metrics. `log_format` is `text` or `json`.
    """

    home: Path
    database_url: str | None = field(repr=False)
    provider: str
    # A mapping has no hash; settings that differ only here are still unequal.
    providers: Mapping[str, ProviderConfig] = field(hash=False)
    watchlist_path: Path
    signals_folder: Path | None
    strategies_folder: Path | None
    series_per_run: int
    sweep_seconds: int
    run_retention_days: int
    rejected_retention_days: int
    correction_retention_days: int
    clock: clock.Clock | None
    metrics_port: int | None
    log_format: str

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> "Settings":
        """Read and check every variable of this project and of its providers.

        Raises:
            ConfigurationError: naming the variable, what was received and what is allowed.
        """
        home = home_folder(env)
        if home.is_file():
            raise ConfigurationError(f"`EMA_HOME` must be a folder, received the file {home}")
        # Before everything else, so that the error names a misspelt provider.
        named = _named_provider(env)
        # Errors in these should be reported by whatever is started, not by each request or by the server's start.
        same_origin.allowed_hosts(env)
        postgres_programs(env)
        providers = {name: config.from_env(env) for name, config in registry.CONFIGS.items()}
        settings = cls(
            home=home,
            database_url=_database_url(env),
            provider=named or registry.default_name(providers),
            providers=MappingProxyType(providers),
            watchlist_path=_watchlist_path(env, home),
            signals_folder=_own_folder(env, _SIGNALS_FOLDER, home / "signals"),
            strategies_folder=_own_folder(env, _STRATEGIES_FOLDER, home / "strategies"),
            series_per_run=_SERIES_PER_RUN.read(env),
            sweep_seconds=_SWEEP_SECONDS.read(env),
            run_retention_days=_RUN_RETENTION.read(env),
            rejected_retention_days=_REJECTED_RETENTION.read(env),
            correction_retention_days=_CORRECTION_RETENTION.read(env),
            clock=clock.parse(_CLOCK.read(env) or ""),
            metrics_port=_METRICS_PORT.read(env) or None,
            log_format=_LOG_FORMAT.read(env),
        )
        settings._check_clock(settings.provider)
        return settings

    @property
    def is_synthetic(self) -> bool:
        """Whether the default provider's prices are synthetic; a symbol may have another provider."""
        return is_synthetic(self.provider)

    def config_of(self, provider: Provider[Config]) -> Config:
        """Return the configuration of `provider`, in its own type."""
        config = self.providers[registry.config_name(provider.name)]
        assert isinstance(config, provider.config)
        return config

    def check_provider(self, name: str, *, is_starting: bool = False) -> None:
        """Check that the provider `name` can be queried: its keys and address are set, and its time is the market's.

        `is_starting` means that its service is about to be started, which sets its address.

        Raises:
            ConfigurationError: saying what to set.
        """
        self._check_clock(name)
        provider = registry.by_name(name)
        provider.check(self.config_of(provider), is_starting=is_starting)

    def _check_clock(self, provider: str) -> None:
        """Refuse real prices at a virtual time."""
        if self.clock is not None and not is_synthetic(provider):
            raise ConfigurationError(
                f"`{clock.VARIABLE}` is for synthetic prices only, and {provider} is a provider; unset it"
            )

    def unserved(self, providers: Iterable[str]) -> list[str]:
        """Return those of `providers` whose service has to be started, because no address of one is set; sorted."""
        return [
            name
            for name in sorted(providers)
            if registry.by_name(name).service is not None and self.providers[name].base_url is None
        ]

    @property
    def service_urls(self) -> dict[str, str]:
        """The known addresses of providers whose server is one of ours, by provider."""
        urls = {name: self.providers[name].base_url for name in PROVIDERS if registry.PROVIDERS[name].service}
        return {name: url for name, url in urls.items() if url is not None}

    def with_addresses(self, urls: Mapping[str, str]) -> "Settings":
        """Return these settings with the addresses of running services, by provider. An address that is set is kept."""
        configs = {
            name: replace(config, base_url=urls[name]) if name in urls and config.base_url is None else config
            for name, config in self.providers.items()
        }
        return replace(self, providers=MappingProxyType(configs))

    @property
    def publications(self) -> Mapping[str | None, Publication]:
        """When the bars of every provider can be requested; None stands for the default provider."""
        return _PerProvider(self.provider)

    @property
    def postgres_folder(self) -> Path:
        """The folder where the embedded server keeps its data."""
        return self.home / "postgres"

    @property
    def dagster_home(self) -> Path:
        """The folder where Dagster keeps its configuration and run logs."""
        return self.home / "dagster"

    @property
    def logs_folder(self) -> Path:
        """The folder to which `up` writes the output of what it starts."""
        return self.home / "logs"


@dataclass(frozen=True, slots=True, eq=False)
class _PerProvider(Mapping[str | None, Publication]):
    """When bars can be requested, per provider.

    It knows the members of families but does not list them: there is no end.
    """

    default: str

    def __getitem__(self, name: str | None) -> Publication:
        if name is not None and not registry.is_asked(name):
            raise KeyError(name)
        return registry.declared(self.default if name is None else name).publication

    def __iter__(self) -> Iterator[str | None]:
        return iter((None, *PROVIDERS))

    def __len__(self) -> int:
        return 1 + len(PROVIDERS)


def _named_provider(env: Mapping[str, str]) -> str | None:
    named = _PROVIDER.read(env)
    if named and named != FROM_FILES and not registry.is_asked(named):
        raise not_one_of("EMA_PROVIDER", named, (*registry.ALLOWED, FROM_FILES))
    return named


def named_watchlist(env: Mapping[str, str] = os.environ) -> Path | None:
    """Return the file that `EMA_WATCHLIST` names; None when it is not set."""
    named = _WATCHLIST.read(env)
    return _path_of(_WATCHLIST, named) if named else None


def _watchlist_path(env: Mapping[str, str], home: Path) -> Path:
    """Return the named watchlist, or else that of the current folder, or else the one in `home`."""
    if named := named_watchlist(env):
        return named
    local = Path("watchlist.toml").absolute()
    return local if local.exists() else home / "watchlist.toml"


def _own_folder(env: Mapping[str, str], variable: Text, usual: Path) -> Path | None:
    """Return the folder that `variable` names, or else the usual one if it exists."""
    named = variable.read(env)
    if not named:
        return usual if usual.is_dir() else None
    folder = _path_of(variable, named)
    if not folder.is_dir():
        raise ConfigurationError(f"`{variable.name}` must be a folder, received {folder}")
    return folder


def _database_url(env: Mapping[str, str]) -> str | None:
    value = _DATABASE_URL.read(env)
    if not value:
        return None
    try:
        parts = urlsplit(value)
    except ValueError:
        parts = urlsplit("")
    # A password with a bare / ? # or [ in it ends up in the wrong part: report that without repeating it.
    is_one = parts.scheme.split("+")[0] in ("postgresql", "postgres") and re.fullmatch(r"/[^/@]+", parts.path)
    # libpq ends the password at the first @, and quotes a malformed escape in its message: both would print it.
    is_quoted = parts.netloc.count("@") <= 1 and not re.search(r"%(?![0-9A-Fa-f]{2})", value)
    if not is_one or not is_quoted or parts.fragment:
        raise ConfigurationError(
            "`EMA_DATABASE_URL` must read postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with any of / ? # [ ] @ : in "
            "the password percent-encoded; what was received does not"
        )
    return libpq_url(value)
