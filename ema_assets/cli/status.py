"""The command `status`: what runs, where, and how fresh every asset is. The numbers come from `reports.status`."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime

import click

from ema_assets.cli import environment, rendering
from ema_assets.cli.commands import Command
from ema_assets.cli.options import group_option
from ema_assets.config.settings import Settings, is_synthetic
from ema_assets.model import clock
from ema_assets.model.asset_names import OHLC
from ema_assets.model.counts import counted
from ema_assets.model.errors import WatchlistError, first_of
from ema_assets.model.urls import masked_url
from ema_assets.reports import alert_states, automation, status
from ema_assets.reports.latency_legs import LEGS, Leg, legs
from ema_assets.reports.progress import Loading, loading
from ema_assets.runtime import locate, state
from ema_assets.store import diagnosis
from ema_assets.store.database import Database
from ema_assets.store.migrations import migrate

# How many symbols with remarks, and how many reasons why series fail, are named.
_NAMED = 20
# A daemon of Dagster reports twice a minute that it is alive. On several hosts no `up` runs, and all is well.
_DAEMON_LIVES = 90


@click.command("status", cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@group_option
def status_command(groups: Sequence[str], *, as_json: bool) -> None:
    """Say what runs, where, and how fresh every asset is.

    With --group, the table of assets is about the symbols of that group; everything else is about all.
    """
    settings = Settings.from_env()
    chosen = environment.chosen_symbols(environment.read_watchlist(settings), (), groups) if groups else None
    running = state.read_state(settings)
    providers = _providers(settings, environment.default_provider(settings, running))
    with locate.running_database(settings) as url:
        freshness = _freshness(url, settings, chosen, providers.default) if url is not None else _Freshness()
    if running is None and freshness.loading is not None and freshness.loading.is_computed:
        # `refresh` or a restore leaves this state: nothing is loading.
        freshness = replace(freshness, loading=None)
    surroundings = _Surroundings(settings, running, masked_url(url) if url else None, providers)
    if as_json:
        rendering.print_json({**surroundings.as_json(), **freshness.as_json()})
        return
    _print_surroundings(surroundings, freshness.daemon_heard_at)
    if freshness.sync_error is not None:
        click.echo(f"Watchlist  {freshness.sync_error}")
    _print_freshness(freshness)


@dataclass(frozen=True, slots=True)
class _Providers:
    """The providers in use, and how many symbols each of them has.

    `watchlist_error` says why the watchlist cannot be used; `symbols` is then empty. `configuration_error` says why no
    assets can be made of it or of the user's own signals and strategies: nothing is launched then.
    """

    default: str
    symbols: dict[str, int]
    watchlist_error: str | None = None
    configuration_error: str | None = None

    @property
    def is_synthetic(self) -> bool:
        """Whether the bars of any symbol are synthetic."""
        in_use = [self.default] if self.watchlist_error else self.symbols
        return any(is_synthetic(provider) for provider in in_use)


def _providers(settings: Settings, default: str) -> _Providers:
    try:
        watched = environment.read_watchlist(settings)
    except WatchlistError as error:
        return _Providers(default, {}, str(error), str(error))
    wrong = environment.configuration_error(settings)
    return _Providers(
        default, {provider: len(symbols) for provider, symbols in watched.by_provider(default).items()}, None, wrong
    )


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """What runs and where. `database_url` holds no password; None when no database runs."""

    settings: Settings
    running: state.Running | None
    database_url: str | None
    providers: _Providers

    def as_json(self) -> dict[str, object]:
        """Return the same for a script."""
        settings, running = self.settings, self.running
        return {
            "running": running is not None,
            "pid": running.pid if running else None,
            "ui": running.ui if running else None,
            "board": (running.board or None) if running else None,
            "database_url": self.database_url,
            "provider": self.providers.default,
            "synthetic": self.providers.is_synthetic,
            "providers": [
                {"provider": provider, "synthetic": is_synthetic(provider), "symbols": symbols}
                for provider, symbols in self.providers.symbols.items()
            ],
            "sandbox_url": (running.provider_urls if running else settings.service_urls).get("sandbox"),
            "clock": str(settings.clock) if settings.clock else None,
            "home": str(settings.home),
            "watchlist": str(settings.watchlist_path),
            "watchlist_error": self.providers.watchlist_error,
            "configuration_error": self.providers.configuration_error,
        }


@dataclass(frozen=True, slots=True)
class _Freshness:
    """How fresh everything is, as reported by `reports.status`; empty when no database runs.

    `daemon_heard_at` is about any daemon of Dagster that uses this database, on whatever host.
    """

    daemon_heard_at: datetime | None = None
    sync_error: str | None = None
    loading: Loading | None = None
    assets: list[status.AssetStatus] = field(default_factory=list)
    latency: list[dict[str, object]] = field(default_factory=list)
    legs: list[Leg] = field(default_factory=list)
    held_up: list[str] = field(default_factory=list)
    not_answering: list[str] = field(default_factory=list)
    failing: list[str] = field(default_factory=list)
    without_bars: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    warming_up: list[str] = field(default_factory=list)
    alerts: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        """Return the same for a script; `loading` is null once every series is loaded."""
        found = self.loading
        return {
            **{each.name: getattr(self, each.name) for each in fields(self)},
            "assets": [asdict(each) for each in self.assets],
            "legs": [asdict(each) for each in self.legs],
            "loading": None
            if found is None or found.is_complete
            else {
                "series": {
                    timeframe.key: {"loaded": done, "of": total} for timeframe, (done, total) in found.series.items()
                },
                "seconds_left": found.seconds_left,
            },
        }


def _freshness(url: str, settings: Settings, symbols: Sequence[str] | None, default_provider: str) -> _Freshness:
    migrate(url)
    with Database(url) as database, database.transaction() as transaction:
        return _Freshness(
            daemon_heard_at=diagnosis.daemon_heard_at(transaction),
            sync_error=status.not_synced(transaction),
            loading=loading(transaction, datetime.now(UTC)),
            assets=status.by_asset(transaction, clock.now(), settings.publications, symbols),
            latency=status.latency(transaction, datetime.now(UTC)),
            legs=legs(transaction, datetime.now(UTC)),
            held_up=automation.held_up(transaction, datetime.now(UTC)),
            not_answering=status.not_answering(transaction, default_provider),
            failing=[str(reason) for reason in status.failure_reasons(transaction)],
            without_bars=status.without_bars(transaction),
            silent=status.silent(transaction),
            states=status.states_apart(transaction),
            warming_up=status.warming_up(transaction),
            alerts=alert_states.alert_problems(transaction, datetime.now(UTC), _channels(settings)),
        )


def _channels(settings: Settings) -> Collection[str] | None:
    """Return the channels that alerts of the watchlist name; None when the watchlist is wrong."""
    try:
        alerts = environment.read_watchlist(settings).alerts
    except WatchlistError:
        return None
    return () if alerts is None else alerts.used()


def _print_surroundings(found: _Surroundings, heard_at: datetime | None) -> None:
    settings, running = found.settings, found.running
    board = f", board at {running.board}" if running and running.board else ""
    idle = "Not running; start it with `ema-assets up`"
    ago = (datetime.now(UTC) - heard_at).total_seconds() if heard_at is not None else None
    if ago is not None and ago < _DAEMON_LIVES and settings.database_url is not None:
        idle = f"No `ema-assets up` runs here; a daemon of Dagster was heard {max(ago, 0):.0f} seconds ago"
    if state.is_alive(settings):
        idle = "`ema-assets up` is starting or stopping"
    click.echo(f"Running, UI at {running.ui}{board}" if running else idle)
    for line in _provider_lines(found.providers):
        click.echo(f"Provider   {line}")
    click.echo(f"Database   {found.database_url or 'embedded, not running'}")
    if settings.clock is not None:
        click.echo(f"Clock      {settings.clock}: virtual, now {clock.now():%Y-%m-%d %H:%M:%S} UTC")
    click.echo(f"Home       {settings.home}")
    if found.providers.watchlist_error is not None:
        click.echo(f"Watchlist  {found.providers.watchlist_error}")
    elif found.providers.configuration_error is not None:
        click.echo(f"Watchlist  nothing is launched: {found.providers.configuration_error}")


def _provider_lines(providers: _Providers) -> list[str]:
    """Return the providers in use, and how many symbols each has if there are several."""
    if providers.watchlist_error is not None:
        return [_marked(providers.default)]
    if not providers.symbols:
        return ["none: all bars come from files"]
    if len(providers.symbols) == 1:
        return [_marked(*providers.symbols)]
    return [_marked(provider, f", {counted(symbols, 'symbol')}") for provider, symbols in providers.symbols.items()]


def _marked(provider: str, details: str = "") -> str:
    return f"{provider}{details}{' (SYNTHETIC prices)' if is_synthetic(provider) else ''}"


def _print_freshness(freshness: _Freshness) -> None:
    if freshness.loading is not None and not freshness.loading.is_complete:
        click.echo(f"Loading    {freshness.loading}")
    if freshness.assets:
        _print_assets(freshness.assets)
    if freshness.latency:
        _print_latency(freshness.latency)
    if freshness.legs:
        _print_legs(freshness.legs)
    for reason in freshness.held_up:
        click.echo(reason)
    for provider in freshness.not_answering:
        click.echo(provider)
    _print_failing(freshness.failing)
    _print_symbols(freshness.silent, "without bars")
    _print_symbols(freshness.states, "that do not trade as usual")
    for problem in freshness.alerts:
        click.echo(problem)
    for timeframe in freshness.warming_up:
        click.echo(f"warming up: {timeframe}")
    if freshness.without_bars:
        click.echo(f"the provider has no bars of {first_of(freshness.without_bars, _NAMED)}; are the symbols right?")


def _print_failing(reasons: Sequence[str]) -> None:
    for reason in reasons[:_NAMED]:
        click.echo(f"failing: {reason}")
    if (more := len(reasons) - _NAMED) > 0:
        click.echo(f"failing: {counted(more, 'more reason')}; `ema-assets status --json` has all")


def _print_symbols(sentences: Sequence[str], what: str) -> None:
    for sentence in sentences[:_NAMED]:
        click.echo(sentence)
    if (more := len(sentences) - _NAMED) > 0:
        click.echo(f"and {counted(more, 'more symbol')} {what}; `ema-assets symbols check` names all")


def _print_assets(assets: list[status.AssetStatus]) -> None:
    """Print a row per asset and a column per timeframe, since there are many of both."""
    timeframes = list(dict.fromkeys(each.timeframe for each in assets))
    found = {(each.asset, each.timeframe): each for each in assets}
    rows = [
        (asset, *(_said_of(found.get((asset, timeframe))) for timeframe in timeframes))
        for asset in dict.fromkeys(each.asset for each in assets)
    ]
    bars = [found.get((OHLC, timeframe)) for timeframe in timeframes]
    rows.append(("series", *("" if each is None else str(each.series) for each in bars)))
    rows.append(("newest bar (UTC)", *("" if each is None else rendering.cell(each.newest_ts) for each in bars)))
    click.echo("")
    rendering.print_table(("asset", *timeframes), rows, continues=True)


def _said_of(found: status.AssetStatus | None) -> str:
    """Return how fresh the series of one asset on one timeframe are, in words."""
    if found is None or not found.series:
        return ""
    # A series that was never computed is stale, too, unless it cannot be computed yet.
    stale = max(found.stale - found.missing, 0)
    counts = ((found.missing, "to load"), (stale, "stale"), (found.failing, "failing"))
    return ", ".join(f"{count} {what}" for count, what in counts if count) or "fresh"


def _print_latency(latency: list[dict[str, object]]) -> None:
    click.echo("")
    rendering.print_table(
        ("from close to strategy row, last 7 days", "closes", "series", "p50", "p99"),
        [
            (
                *(str(each[name]) for name in ("timeframe", "closes", "series")),
                *(f"{each[name]:.1f} s" for name in ("p50_seconds", "p99_seconds")),
            )
            for each in latency
        ],
    )


def _print_legs(legs: list[Leg]) -> None:
    """Print a row per leg and a column per timeframe."""
    timeframes = list(dict.fromkeys(each.timeframe for each in legs))
    found = {(each.leg, each.timeframe): each for each in legs}
    rows = []
    for leg, description in LEGS.items():
        those = [found.get((leg, timeframe)) for timeframe in timeframes]
        seconds = ["" if each is None else f"{each.p50_seconds:.2f} / {each.p99_seconds:.2f}" for each in those]
        rows.append((description, *seconds))
    click.echo("")
    rendering.print_table(("newest closes, seconds p50 / p99 until", *timeframes), rows)
