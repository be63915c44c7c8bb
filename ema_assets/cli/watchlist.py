"""The commands `symbols …`: show and change the watchlist."""

from collections.abc import Sequence

import click

from ema_assets.cli import environment, rendering
from ema_assets.cli.commands import Commands
from ema_assets.config import watchlist
from ema_assets.config.settings import Settings
from ema_assets.model.errors import ConfigurationError
from ema_assets.model.symbols import parse_symbol
from ema_assets.runtime import state


@click.group("symbols", cls=Commands)
def symbols_group() -> None:
    """Show and change the watchlist."""


@symbols_group.command("list")
def symbols_list() -> None:
    """Print every symbol with its calendar."""
    watched = environment.load_watchlist(Settings.from_env())
    rendering.print_table(
        ("symbol", "calendar", "bars from"),
        [(each.symbol, each.calendar, "provider" if each.is_fetched else "files") for each in watched.instruments],
    )


@symbols_group.command("add")
@click.argument("symbols", nargs=-1, required=True)
@click.option("--calendar", help="Trading calendar: a code such as XNYS or XLON, or 24/7. Guessed when not given.")
def symbols_add(symbols: Sequence[str], calendar: str | None) -> None:
    """Add SYMBOLS such as NVDA, AZN.L or BTC-USD; a running Dagster loads their history."""
    from ema_assets.config.watchlist_edits import add_symbols

    settings = Settings.from_env()
    watchlist.ensure(settings.watchlist_path)
    wanted = [parse_symbol(symbol.upper()) for symbol in symbols]
    if calendar is not None:
        environment.check_calendar(calendar)
    added = add_symbols(settings.watchlist_path, wanted, calendar)
    for instrument in watchlist.load(settings.watchlist_path).instruments:
        if instrument.symbol in added:
            click.echo(f"Added {instrument.symbol} ({instrument.calendar}).")
    for symbol in dict.fromkeys(wanted):
        if symbol not in added:
            click.echo(f"{symbol} is on the watchlist already.")
    if added and state.read_state(settings) is not None:
        click.echo("Dagster picks this up within 30 seconds and loads the history.")


@symbols_group.command("remove")
@click.argument("symbols", nargs=-1, required=True)
def symbols_remove(symbols: Sequence[str]) -> None:
    """Remove SYMBOLS from the watchlist; what is stored of them stays."""
    from ema_assets.config.watchlist_edits import remove_symbols

    settings = Settings.from_env()
    wanted = [symbol.upper() for symbol in symbols]
    removed = remove_symbols(settings.watchlist_path, wanted)
    for symbol in removed:
        click.echo(f"Removed {symbol}; its data stays.")
    missing = [symbol for symbol in wanted if symbol not in removed]
    if missing:
        raise ConfigurationError(f"not on the watchlist: {', '.join(missing)}")
