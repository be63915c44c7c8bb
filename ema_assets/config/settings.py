"""Settings from the environment, read once at the edge. Secrets stay in the environment and out of reprs."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ema_assets.model import clock
from ema_assets.model.errors import ConfigurationError, not_one_of
from ema_assets.model.urls import libpq_url

PROVIDERS = ("sandbox", "alpaca", "yahoo", "binance")
_SYNTHETIC_PROVIDERS = ("sandbox",)
ALPACA_FEEDS = ("iex", "sip", "delayed_sip", "otc", "boats", "overnight")
# With the first, dagster-postgres writes a batch of events with one INSERT; with the second, Dagster logs one planned
# event an asset for a backfill's run instead of one a partition.
DAGSTER_EVENT_VARIABLES = {
    "DAGSTER_EVENT_BATCH_SIZE": "1000",
    "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS": "1",
}

_ALPACA_BASE_URL = "https://data.alpaca.markets"
_YAHOO_BASE_URL = "https://query1.finance.yahoo.com"
_BINANCE_BASE_URL = "https://data-api.binance.vision"


def is_synthetic(provider: str) -> bool:
    """True when the bars of `provider` are made up and not a market's."""
    return provider in _SYNTHETIC_PROVIDERS


def home_folder(env: Mapping[str, str] = os.environ) -> Path:
    """The folder of this installation's data, EMA_HOME; not checked."""
    return Path(env.get("EMA_HOME", "").strip() or ".ema").expanduser().absolute()


def _integer(env: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = env.get(name, "").strip() or str(default)
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise ConfigurationError(f"`{name}` must be a whole number from {least} to {most}, received {text!r}")
    return value


def _choice(env: Mapping[str, str], name: str, default: str, allowed: tuple[str, ...]) -> str:
    value = env.get(name, "").strip() or default
    if value not in allowed:
        raise not_one_of(name, value, allowed)
    return value


def _http_url(env: Mapping[str, str], name: str, default: str) -> str:
    value = env.get(name, "").strip() or default
    if not value:
        return value
    try:
        parts = urlsplit(value)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(
            f"`{name}` must be an http or https URL such as {_ALPACA_BASE_URL}, received {value!r}"
        )
    return value.rstrip("/")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a process of this project must know. Made by `Settings.from_env`.

    `database_url` is None when the embedded server is to be used. `sandbox_url` is set by `up` for its children.
    `signals_folder` holds signals of the user's own; None when there is no such folder.
    `correction_retention_days` is 0 when the old values of corrected bars are kept for ever. `clock` is None when the
    market's time is the machine's.
    """

    home: Path
    database_url: str | None = field(repr=False)
    provider: str
    alpaca_base_url: str
    alpaca_key_id: str | None = field(repr=False)
    alpaca_secret_key: str | None = field(repr=False)
    alpaca_feed: str
    alpaca_requests_per_minute: int
    yahoo_base_url: str
    yahoo_requests_per_minute: int
    binance_base_url: str
    binance_requests_per_minute: int
    sandbox_url: str | None
    sandbox_seed: int
    watchlist_path: Path
    signals_folder: Path | None
    series_per_run: int
    publication_delay_seconds: int
    sweep_seconds: int
    run_retention_days: int
    rejected_retention_days: int
    correction_retention_days: int
    clock: clock.Clock | None

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> "Settings":
        """Read and check every `EMA_…` variable.

        Raises:
            ConfigurationError: naming the variable, what was received and what is allowed.
        """
        home = home_folder(env)
        if home.is_file():
            raise ConfigurationError(f"`EMA_HOME` must be a folder, received the file {home}")
        key_id = env.get("APCA_API_KEY_ID", "").strip() or None
        provider = _choice(env, "EMA_PROVIDER", "alpaca" if key_id else "sandbox", PROVIDERS)
        local_watchlist = Path("watchlist.toml").absolute()
        named = env.get("EMA_WATCHLIST", "").strip()
        watchlist = (
            Path(named).expanduser().absolute()
            if named
            else local_watchlist
            if local_watchlist.exists()
            else home / "watchlist.toml"
        )
        return cls(
            home=home,
            database_url=_database_url(env),
            provider=provider,
            alpaca_base_url=_http_url(env, "EMA_ALPACA_BASE_URL", _ALPACA_BASE_URL),
            alpaca_key_id=key_id,
            alpaca_secret_key=env.get("APCA_API_SECRET_KEY", "").strip() or None,
            alpaca_feed=_choice(env, "EMA_ALPACA_FEED", "iex", ALPACA_FEEDS),
            alpaca_requests_per_minute=_integer(env, "EMA_ALPACA_REQUESTS_PER_MINUTE", 200, 1, 100_000),
            yahoo_base_url=_http_url(env, "EMA_YAHOO_BASE_URL", _YAHOO_BASE_URL),
            yahoo_requests_per_minute=_integer(env, "EMA_YAHOO_REQUESTS_PER_MINUTE", 100, 1, 100_000),
            binance_base_url=_http_url(env, "EMA_BINANCE_BASE_URL", _BINANCE_BASE_URL),
            # A call weighs 2 of the 6,000 that an address has in a minute; others may use the same address.
            binance_requests_per_minute=_integer(env, "EMA_BINANCE_REQUESTS_PER_MINUTE", 2_400, 1, 3_000),
            sandbox_url=_http_url(env, "EMA_SANDBOX_URL", "") or None,
            sandbox_seed=_integer(env, "EMA_SANDBOX_SEED", 930, 0, 2**31 - 1),
            watchlist_path=watchlist,
            signals_folder=_signals_folder(env, home),
            series_per_run=_integer(env, "EMA_SERIES_PER_RUN", 1000, 1, 100_000),
            publication_delay_seconds=_integer(
                env, "EMA_PUBLICATION_DELAY_SECONDS", 0 if provider == "sandbox" else 3, 0, 3600
            ),
            sweep_seconds=_integer(env, "EMA_SWEEP_SECONDS", 30, 5, 3600),
            run_retention_days=_integer(env, "EMA_RUN_RETENTION_DAYS", 14, 1, 36_500),
            rejected_retention_days=_integer(env, "EMA_REJECTED_RETENTION_DAYS", 90, 1, 36_500),
            correction_retention_days=_integer(env, "EMA_CORRECTION_RETENTION_DAYS", 0, 0, 36_500),
            clock=_clock(env, provider),
        )

    @property
    def is_synthetic(self) -> bool:
        """True when the default provider makes its prices up; a symbol may have another provider."""
        return is_synthetic(self.provider)

    def alpaca_keys(self) -> tuple[str, str]:
        """Alpaca's key id and secret key.

        Raises:
            ConfigurationError: when one is missing.
        """
        if self.alpaca_key_id is None or self.alpaca_secret_key is None:
            raise ConfigurationError(
                "the provider alpaca needs keys: set APCA_API_KEY_ID and APCA_API_SECRET_KEY to yours"
            )
        return self.alpaca_key_id, self.alpaca_secret_key

    @property
    def postgres_folder(self) -> Path:
        """Where the embedded server keeps its data."""
        return self.home / "postgres"

    @property
    def dagster_home(self) -> Path:
        """Where Dagster keeps its configuration and run logs."""
        return self.home / "dagster"

    @property
    def logs_folder(self) -> Path:
        """Where `up` sends the output of what it starts."""
        return self.home / "logs"


def _clock(env: Mapping[str, str], provider: str) -> clock.Clock | None:
    virtual = clock.parse(env.get("EMA_CLOCK", ""))
    if virtual is not None:
        check_clock(virtual, provider)
    return virtual


def check_clock(virtual: clock.Clock | None, provider: str) -> None:
    """Check that `provider` may be asked at a virtual time: real prices belong to real times.

    Raises:
        ConfigurationError: when it may not.
    """
    if virtual is not None and provider != "sandbox":
        raise ConfigurationError(
            f"`{clock.VARIABLE}` is for the sandbox's synthetic prices only, and {provider} is a provider; unset it"
        )


def _signals_folder(env: Mapping[str, str], home: Path) -> Path | None:
    named = env.get("EMA_SIGNALS_FOLDER", "").strip()
    if not named:
        return home / "signals" if (home / "signals").is_dir() else None
    folder = Path(named).expanduser().absolute()
    if not folder.is_dir():
        raise ConfigurationError(f"`EMA_SIGNALS_FOLDER` must be a folder, received {folder}")
    return folder


def _database_url(env: Mapping[str, str]) -> str | None:
    value = env.get("EMA_DATABASE_URL", "").strip()
    if not value:
        return None
    try:
        parts = urlsplit(value)
    except ValueError:
        parts = urlsplit("")
    # A password with a bare / ? # or [ in it ends up in the wrong part: say so without repeating it.
    is_one = parts.scheme.split("+")[0] in ("postgresql", "postgres") and re.fullmatch(r"/[^/@]+", parts.path)
    # libpq ends the password at the first @, and quotes a malformed escape in its complaint: either would print it.
    is_quoted = parts.netloc.count("@") <= 1 and not re.search(r"%(?![0-9A-Fa-f]{2})", value)
    if not is_one or not is_quoted or parts.fragment:
        raise ConfigurationError(
            "`EMA_DATABASE_URL` must read postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with any of / ? # [ ] @ : in "
            "the password percent-encoded; what was received does not"
        )
    return libpq_url(value)
