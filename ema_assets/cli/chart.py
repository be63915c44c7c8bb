"""The command `chart`: a picture of one series as a file. It is drawn by `reports.chart`."""

import re
from pathlib import Path

import click

from ema_assets.cli import environment
from ema_assets.cli.commands import Command
from ema_assets.cli.options import complete_symbol, complete_timeframe, strategy_option
from ema_assets.config.settings import Settings, is_synthetic
from ema_assets.model.errors import ConfigurationError, not_one_of
from ema_assets.refresh.graph import build
from ema_assets.reports import chart
from ema_assets.runtime import state


@click.command("chart", cls=Command)
@click.argument("symbol", shell_complete=complete_symbol)
@click.argument("timeframe", default="1h", shell_complete=complete_timeframe)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"Where to write it; the ending says what it is: {', '.join(chart.FORMATS)}.  [default: SYMBOL-TIMEFRAME.png]",
)
@click.option(
    "--bars",
    type=click.IntRange(1, chart.MOST_BARS),
    default=chart.USUAL_BARS,
    show_default=True,
    help="How many of the newest bars.",
)
@strategy_option
def chart_command(symbol: str, timeframe: str, output: Path | None, bars: int, strategy: str | None) -> None:
    r"""Draw the bars of a symbol with the averages of a strategy, its trades, stops and volume.

    \b
    ema-assets chart AAPL
    ema-assets chart BTC-USD 5m --bars 300 -o btc.svg

    Entries are triangles, exits are crosses, stops are dotted lines.
    """
    settings = Settings.from_env()
    watched = environment.read_watchlist(settings)
    chosen = environment.timeframe_of(watched, timeframe)
    environment.check_on_watchlist(watched, [symbol])
    path = output or Path(f"{re.sub(r'[^A-Za-z0-9]+', '-', symbol).strip('-')}-{chosen.key}.png")
    ending = path.suffix.removeprefix(".").lower()
    if ending not in chart.FORMATS:
        raise not_one_of("the ending of --output", ending, chart.FORMATS)
    default = environment.default_provider(settings, state.read_state(settings))
    providers = [name for name, symbols in watched.by_provider(default).items() if symbol in symbols]
    note = "SYNTHETIC prices" if any(map(is_synthetic, providers)) else ""
    graph = build(watched, settings.signals_folder, settings.strategies_folder)
    with environment.open_existing(settings) as database, database.transaction() as transaction:
        picture = chart.picture_of(transaction, graph, symbol, chosen, bars, strategy)
    figure = chart.draw(picture, note)
    try:
        figure.savefig(path, dpi=110)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror or error}") from error
    click.echo(f"Wrote {path}: {picture.bars.height} bars of {symbol} on {chosen.key}")
