"""What a command needs when it runs: settings, the watchlist, the database, a running `up`, the time."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from ema_assets.config import watchlist
from ema_assets.config.settings import Settings
from ema_assets.config.watchlist import Watchlist
from ema_assets.model import clock
from ema_assets.model.errors import ConfigurationError, did_you_mean, not_one_of
from ema_assets.model.symbols import DEFAULT_CALENDAR, parse_timeframe, speller
from ema_assets.model.timeframes import Timeframe, usual_among
from ema_assets.model.urls import without_libpq_settings
from ema_assets.runtime import locate, state
from ema_assets.store.database import Database
from ema_assets.store.migrations import migrate

if TYPE_CHECKING:
    from ema_assets.refresh.graph import Graph

# What `timeframe_of` returns where none is named, in the words of a help.
USUAL_TIMEFRAME = "1h, or the next longer one"


def prepare() -> None:
    """Prepare this process for any command: it ignores passwords meant for another server, and uses the right clock."""
    if not os.environ.get("EMA_DATABASE_URL", "").strip():
        # A PGPASSWORD meant for another server would override the embedded server's passfile.
        for name in os.environ.keys() - without_libpq_settings(dict(os.environ)).keys():
            del os.environ[name]
    _agree_on_time()


def _agree_on_time() -> None:
    """Use the clock of the running `up`; if none runs, start the clock that EMA_CLOCK requests."""
    running = state.read_state(Settings.from_env())
    text = running.clock if running else clock.started(os.environ.get(clock.VARIABLE, ""))
    if text or clock.VARIABLE in os.environ:
        os.environ[clock.VARIABLE] = text


def load_watchlist(settings: Settings) -> Watchlist:
    """Return the watchlist; write the default one first if there is none."""
    watchlist.ensure(settings.watchlist_path)
    return watchlist.of(settings)


def read_watchlist(settings: Settings) -> Watchlist:
    """Return the watchlist, or the default one if none has been written yet: for commands that write nothing."""
    return watchlist.read(settings)


def configuration_error(settings: Settings) -> str | None:
    """Return why the watchlist or own signals and strategies make no assets; None when all is well."""
    from ema_assets.refresh.graph import configured

    try:
        configured(settings)
    except ConfigurationError as error:
        return str(error)
    return None


def readable_graph(settings: Settings, watched: Watchlist, shown: str = "shows what is stored") -> "Graph":
    """Return the graph for a command that computes nothing, with a warning about configuration errors.

    `shown` is what the command does in spite of an error.
    """
    from ema_assets.refresh.readable import readable

    graph, wrong = readable(watched, settings.signals_folder, settings.strategies_folder)
    if wrong is not None:
        warn_of(wrong, shown)
    return graph


def warn_of(wrong: str, shown: str) -> None:
    """Print what is `wrong` in the configuration, and what the command does in spite of it."""
    click.echo(f"Warning: {wrong}", err=True)
    click.echo(f"Nothing is computed until that is corrected; this {shown}.", err=True)


def on_watchlist(watched: Watchlist, symbols: Sequence[str]) -> list[str]:
    """Return `symbols` as the watchlist spells them.

    Raises:
        ConfigurationError: naming those that are not on the watchlist.
    """
    spelt = speller(watched.symbols)
    if unknown := sorted({symbol for symbol in symbols if spelt(symbol) is None}):
        hint = did_you_mean(unknown[0].upper(), watched.symbols) if len(unknown) == 1 else ""
        raise ConfigurationError(
            f"not on the watchlist: {', '.join(unknown)}; `ema-assets symbols list` shows what is{hint}"
        )
    return [found for symbol in symbols if (found := spelt(symbol)) is not None]


def chosen_symbols(watched: Watchlist, symbols: Sequence[str], groups: Sequence[str]) -> list[str]:
    """Return the symbols that a command is for: `symbols` and those of `groups`; an empty list means all.

    Raises:
        ConfigurationError: naming a symbol or a group that is not on the watchlist.
    """
    chosen = on_watchlist(watched, symbols)
    for group in groups:
        if group not in watched.groups:
            raise not_one_of("--group", group, watched.groups)
        if not watched.groups[group]:
            raise ConfigurationError(f"the group {group!r} of the watchlist has no symbol")
    return list(dict.fromkeys([*chosen, *(each for group in groups for each in watched.groups[group])]))


def timeframe_of(watched: Watchlist, text: str | None, *, is_computed: bool = False) -> Timeframe:
    """Return the timeframe that `text` names, or USUAL_TIMEFRAME without one; the watchlist must have bars of it.

    With `is_computed`, signals must be computed on it, too. Others only have bars that longer ones are rolled up from.
    """
    if not text:
        return usual_among(watched.timeframes)
    timeframe = parse_timeframe(text)
    known = watched.timeframes if is_computed else watched.with_bars
    if timeframe not in known:
        on = ", ".join(each.key for each in known)
        raise ConfigurationError(f"{timeframe.key} is not on, the watchlist has {on}; add it there to `timeframes`")
    return timeframe


def how_far(settings: Settings) -> str:
    """Return where a user sees how far it is, or what has to run when nothing computes."""
    if settings.database_url is None and state.read_state(settings) is None:
        return "`ema-assets refresh` computes it, and so does `ema-assets up`"
    return "`ema-assets status` says how far it is"


def check_calendar(calendar: str) -> None:
    """Refuse a trading calendar that does not exist.

    The default calendar exists. Asking the library would take two thirds of the time of `symbols add`.
    """
    if calendar == DEFAULT_CALENDAR:
        return
    from ema_assets.market.exchanges import exchange_sessions, holidays_known_through

    today = clock.now().date()
    exchange_sessions(calendar, today, today)
    # Some calendars can only be built for this year, and history needs more.
    holidays_known_through(calendar)


def default_provider(settings: Settings, running: state.Running | None) -> str:
    """Return the provider of symbols that name none: that of the running `up`, or else that of the settings."""
    return running.provider if running else settings.provider


def with_providers(settings: Settings, watched: Watchlist, symbols: Sequence[str]) -> Settings:
    """Return settings for querying the providers of `symbols`, after checking their keys and addresses.

    An address that is not set becomes that of the server that a running `up` has started.
    """
    running = state.read_state(settings)
    settings = settings.with_addresses(running.provider_urls if running else {})
    for name, asked_for in watched.by_provider(settings.provider).items():
        if not set(symbols).isdisjoint(asked_for):
            settings.check_provider(name)
    return settings


@contextmanager
def open_existing(settings: Settings) -> Iterator[Database]:
    """Yield the same as `open_database`, for commands that only read.

    Raises:
        StoreUnavailable: as in `locate.check_exists`.
    """
    locate.check_exists(settings)
    with open_database(settings) as database:
        yield database


@contextmanager
def open_database(settings: Settings, *, migrated: bool = True) -> Iterator[Database]:
    """Yield the database in use. An embedded server is started if none runs, and runs until the end of the block."""
    with locate.started_database(settings) as url:
        if migrated:
            migrate(url)
        with Database(url) as database:
            yield database
