"""The commands `symbols …`: show and change the watchlist."""

from collections.abc import Sequence
from pathlib import Path

import click

from ema_assets.cli import environment, rendering
from ema_assets.cli.commands import Commands
from ema_assets.config import renames, watchlist
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
    _add([parse_symbol(symbol.upper()) for symbol in symbols], calendar)


@symbols_group.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--calendar", help="Trading calendar of all of them. Guessed for each when not given.")
def symbols_import(file: Path, calendar: str | None) -> None:
    """Add the symbols of FILE: one per line, or a CSV with a column `symbol` or `ticker`.

    Nothing is added when a line holds something that is no symbol.
    """
    from ema_assets.config.symbol_lists import read_symbols

    _add(read_symbols(file), calendar)


@symbols_group.command("check")
def symbols_check() -> None:
    """Say which symbols of the watchlist were renamed, have ended, or are not known to their provider.

    Ends with exit code 1 when there are such symbols. Asks no provider: it goes by what the last requests brought.
    """
    from ema_assets.reports.status import symbol_problems

    settings = Settings.from_env()
    watched = environment.load_watchlist(settings)
    with environment.open_database(settings) as database, database.transaction() as transaction:
        problems = symbol_problems(transaction, watched.symbols)
    for problem in problems:
        click.echo(problem)
    if problems:
        raise SystemExit(1)
    count = len(watched.symbols)
    click.echo(f"Checked {count} symbol{'' if count == 1 else 's'}: nothing is known against any of them.")


def _add(wanted: Sequence[str], calendar: str | None) -> None:
    from ema_assets.config.watchlist_edits import add_symbols

    settings = Settings.from_env()
    watchlist.ensure(settings.watchlist_path)
    if calendar is not None:
        environment.check_calendar(calendar)
    added = add_symbols(settings.watchlist_path, wanted, calendar)
    for instrument in watchlist.load(settings.watchlist_path).instruments:
        if instrument.symbol in added:
            click.echo(f"Added {instrument.symbol} ({instrument.calendar}).")
            if (renamed := renames.current(instrument.symbol)) is not None:
                click.echo(f"{instrument.symbol} has been called {renamed.to} since {renamed.since}.", err=True)
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
