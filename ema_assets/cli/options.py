"""Options that several commands share, and their shell completion."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from ema_assets.config.settings import Settings
from ema_assets.config.watchlist import Watchlist
from ema_assets.model.errors import ConfigurationError, EmaAssetsError


class WholeNumber(click.IntRange):
    """A whole number within a range, whose error says what is allowed, also for a word."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number; fail when it is none or out of range."""
        try:
            return int(super().convert(value, param, ctx))
        except click.BadParameter:
            allowed = f"of {self.min} or more" if self.max is None else f"from {self.min} to {self.max}"
            self.fail(f"must be a whole number {allowed}, received {value!r}", param, ctx)


_Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def _completing(values: Callable[[Settings, Watchlist], Iterable[str]]) -> _Complete:
    """Return a completion with what `values` takes from the watchlist; it is empty when that cannot be read."""

    def complete(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
        from ema_assets.cli import environment

        try:
            settings = Settings.from_env()
            found = [str(each) for each in values(settings, environment.read_watchlist(settings))]
        except (EmaAssetsError, OSError):
            return []
        return [each for each in found if each.lower().startswith(incomplete.lower())]

    return complete


def _strategies(settings: Settings, watched: Watchlist) -> Sequence[str]:
    from ema_assets.refresh.graph import build

    return build(watched, settings.signals_folder, settings.strategies_folder).strategies


def _averages(settings: Settings, watched: Watchlist) -> Iterable[str]:
    from ema_assets.refresh.graph import build

    return build(watched, settings.signals_folder, settings.strategies_folder).averages


def _assets(settings: Settings, watched: Watchlist) -> Sequence[str]:
    from ema_assets.refresh.graph import build

    return [node.name for node in build(watched, settings.signals_folder, settings.strategies_folder).on]


def _rules(settings: Settings, _watched: Watchlist) -> Iterable[str]:
    from ema_assets.strategies.rule_discovery import discover

    return discover(settings.strategies_folder)


complete_symbol = _completing(lambda _, watched: watched.symbols)
complete_timeframe = _completing(lambda _, watched: [each.key for each in watched.with_bars])
complete_group = _completing(lambda _, watched: watched.groups)
complete_strategy = _completing(_strategies)
complete_averages = _completing(_averages)
complete_asset = _completing(_assets)
complete_rule = _completing(_rules)


def _address(_ctx: click.Context, _param: click.Parameter, host: str) -> str:
    if not host.strip():
        # A server would take this for every address of the machine.
        raise ConfigurationError("`--host` must be an address to listen on such as 127.0.0.1, received none")
    return host


host_option = click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    callback=_address,
    help="Address to listen on; 127.0.0.1 is for this machine.",
)
symbols_option = click.option(
    "--symbol",
    "symbols",
    multiple=True,
    shell_complete=complete_symbol,
    help="Only this symbol; may be given several times.",
)
group_option = click.option(
    "--group",
    "groups",
    multiple=True,
    shell_complete=complete_group,
    help="Only the symbols of this group of the watchlist; may be given several times.",
)
timeframes_option = click.option(
    "--timeframe",
    "timeframes",
    multiple=True,
    shell_complete=complete_timeframe,
    help="Only this timeframe; may be given several times.",
)
strategy_option = click.option(
    "--strategy",
    shell_complete=complete_strategy,
    help="Whose trades are shown, such as strategy_9_30_pullback.  [default: strategy_9_30_ema]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
