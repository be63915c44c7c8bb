"""The command `export`: results as files. They are written by `operations.export`."""

from collections.abc import Sequence
from pathlib import Path

import click

from ema_assets.cli import environment, rendering
from ema_assets.cli.commands import Command
from ema_assets.cli.options import complete_asset, group_option, symbols_option, timeframes_option
from ema_assets.config.settings import Settings
from ema_assets.model.counts import counted
from ema_assets.model.errors import not_one_of
from ema_assets.operations.export import FORMATS, export


@click.command("export", cls=Command)
@click.option(
    "--to",
    "folder",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder that holds the export. It is made where there is none.",
)
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default=FORMATS[0], show_default=True, help="What files are."
)
@click.option(
    "--asset",
    "assets",
    multiple=True,
    shell_complete=complete_asset,
    help="Only this asset, such as ohlc; may be given several times.  [default: all]",
)
@symbols_option
@group_option
@timeframes_option
def export_command(
    folder: Path,
    form: str,
    assets: Sequence[str],
    symbols: Sequence[str],
    groups: Sequence[str],
    timeframes: Sequence[str],
) -> None:
    r"""Write bars, signals and trades to files, one per asset, timeframe and symbol.

    \b
    ema-assets export --to exported
    ema-assets export --to exported --asset ohlc --timeframe 1h --symbol AAPL
    ema-assets export --to exported-csv --format csv

    The files are called as exported/ohlc/1h/AAPL.parquet. A second export writes only what has changed since, and goes
    on where one was stopped.
    """
    settings = Settings.from_env()
    watched = environment.read_watchlist(settings)
    chosen = environment.chosen_symbols(watched, symbols, groups) or list(watched.symbols)
    frames = {environment.timeframe_of(watched, text) for text in timeframes} or set(watched.with_bars)
    graph = environment.readable_graph(settings, watched)
    known = {node.name: node for node in graph.on}
    for name in assets:
        if name not in known:
            raise not_one_of("--asset", name, known)
    nodes = [known[name] for name in dict.fromkeys(assets)] or list(known.values())
    written, rows, unchanged = 0, 0, 0
    most = len(nodes) * len(frames) * len(chosen)
    with environment.open_existing(settings) as database, rendering.progress("exporting", most) as advance:
        for done in export(database, nodes, sorted(frames), chosen, folder, form):
            advance(f"{done.asset} {done.series}")
            written += done.rows is not None
            rows += done.rows or 0
            unchanged += done.rows is None
    click.echo(f"{folder}: {counted(rows, 'row')} of {written} series written, {unchanged} series unchanged.")
