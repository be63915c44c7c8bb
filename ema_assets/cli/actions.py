"""The commands `actions …`: import, remove and list corporate actions."""

from collections.abc import Sequence
from pathlib import Path

import click

from ema_assets.cli import environment, rendering
from ema_assets.cli.commands import Commands
from ema_assets.cli.options import symbols_option
from ema_assets.config.settings import Settings
from ema_assets.model.counts import counted
from ema_assets.model.symbols import parse_symbol


@click.group("actions", cls=Commands)
def actions_group() -> None:
    """Record and show corporate actions: splits, spin-offs, dividends, renames."""


@actions_group.command("import")
@click.argument("file", type=click.Path(path_type=Path))
def actions_import(file: Path) -> None:
    """Record the corporate actions of the CSV FILE: symbol, kind, date, and ratio, amount or value.

    They are facts that explain what a provider or a file does to its prices. No stored bar is changed by them alone.
    """
    from ema_assets.operations.import_actions import import_actions, read_actions

    settings = Settings.from_env()
    calendars = {each.symbol: each.calendar for each in environment.load_watchlist(settings).instruments}
    actions = read_actions(file, calendars)
    with environment.open_database(settings) as database:
        new = import_actions(database, actions, file.name)
    click.echo(f"{file}: {counted(actions.height, 'corporate action')} read, {new} of them new or changed.")


@actions_group.command("remove")
@click.argument("symbol")
@click.argument("kind")
@click.argument("date")
def actions_remove(symbol: str, kind: str, date: str) -> None:
    r"""Forget a corporate action that is wrong: that of a file, or, when no file has it, that of a provider.

    \b
    ema-assets actions remove AAPL split 2026-10-09

    Bars that were brought to another scale because of it stay so. `refresh --all` fetches those of a provider again.
    """
    from ema_assets.arguments import spelt
    from ema_assets.operations.import_actions import take_back

    settings = Settings.from_env()
    given = [parse_symbol(symbol)]
    with environment.open_existing(settings) as database:
        with database.transaction() as transaction:
            (symbol,) = spelt(transaction, given) or given
        told_by = take_back(database, symbol, kind, date)
    click.echo(f"{symbol}: the {kind} of {date} is forgotten.")
    if told_by:
        click.echo(f"It came from {' and '.join(told_by)}. If it is reported again, it comes back.")


@actions_group.command("list")
@symbols_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def actions_list(symbols: Sequence[str], as_json: bool) -> None:
    """Print the corporate actions that are known, by symbol and time."""
    from ema_assets.arguments import spelt
    from ema_assets.store import action_facts

    with environment.open_existing(Settings.from_env()) as database, database.transaction() as transaction:
        rows = action_facts.known(transaction, spelt(transaction, symbols or None))
    if as_json:
        rendering.print_json({"actions": rows.to_dicts()})
    elif rows.is_empty():
        click.echo(f"No corporate actions are known{' of ' + ', '.join(symbols) if symbols else ''}.")
    else:
        rendering.print_table(rows.columns, [tuple(map(rendering.cell, row)) for row in rows.iter_rows()])
