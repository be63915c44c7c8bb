"""The command `quality`: what is wrong or odd about the stored bars. The rows come from `reports.health`."""

from collections.abc import Sequence

import click

from ema_assets.cli import environment, rendering
from ema_assets.cli.commands import Command
from ema_assets.cli.options import symbols_option
from ema_assets.config.settings import Settings


@click.command("quality", cls=Command)
@symbols_option
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Rows shown of each kind.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with all rows instead of tables.")
def quality_command(symbols: Sequence[str], limit: int, as_json: bool) -> None:
    """Say what is wrong or odd about the stored bars: gaps, revisions, splits, flagged, rejected, skipped."""
    from ema_assets.reports import health

    settings = Settings.from_env()
    environment.check_on_watchlist(environment.load_watchlist(settings), symbols)
    with environment.open_database(settings) as database, database.transaction() as transaction:
        report = health.quality(transaction, symbols, None if as_json else limit)
    if as_json:
        rendering.print_json({kind: rows.to_dicts() for kind, (_, rows) in report.items()})
        return
    for number, (kind, (count, rows)) in enumerate(report.items()):
        if number:
            click.echo("")
        shown = f", the newest {rows.height}:" if rows.height < count else ":" if count else ""
        click.echo(f"{kind}: {count}{shown}")
        if count:
            rendering.print_table(rows.columns, [tuple(map(rendering.cell, row)) for row in rows.iter_rows()])
