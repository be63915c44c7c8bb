"""The command `chart`: one series in the terminal, or a picture of it as a file. Drawn by `reports`."""

import shutil
from pathlib import Path

import click

from ema_assets.cli import environment, rendering
from ema_assets.cli.commands import Command
from ema_assets.cli.options import WholeNumber, complete_averages, complete_symbol, complete_timeframe, strategy_option
from ema_assets.config.settings import Settings, is_synthetic
from ema_assets.model.counts import counted
from ema_assets.model.errors import ConfigurationError, not_one_of
from ema_assets.reports import chart, terminal_chart
from ema_assets.runtime import state

# Colours from the terminal's own palette, which are readable on light and on dark backgrounds.
_STYLES = {"up": "green", "down": "red", "fast": "cyan", "slow": "magenta", "axis": "dim", "last": "bold"}


@click.command("chart", cls=Command)
@click.argument("symbol", shell_complete=complete_symbol)
@click.argument("timeframe", required=False, shell_complete=complete_timeframe)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"Write a picture; the ending says what it is: {', '.join(chart.FORMATS)}.",
)
@click.option(
    "--bars",
    type=WholeNumber(1, chart.MOST_BARS),
    help=f"How many of the newest bars.  [default: as many as fit; {chart.USUAL_BARS} in a file]",
)
@strategy_option
@click.option(
    "--averages",
    shell_complete=complete_averages,
    help=(
        "Which EMAs are drawn, such as 12/26 of a strategy with these spans; its trades, unless --strategy says other "
        "ones.  [default: those of the strategy]"
    ),
)
def chart_command(
    symbol: str,
    timeframe: str | None,
    output: Path | None,
    bars: int | None,
    strategy: str | None,
    averages: str | None,
) -> None:
    r"""Draw the bars of a symbol with the averages of a strategy, its trades, stops and volume.

    Without TIMEFRAME those of 1h, or of the next longer one of the watchlist. SYMBOL may also be the name of a
    partition, such as `AAPL|5m`.

    \b
    ema-assets chart AAPL                              # in the terminal
    ema-assets chart BTC-USD 5m --bars 300 -o btc.svg  # a file
    ema-assets chart AAPL --averages 12/26             # those of a strategy

    Entries are triangles, exits are crosses; in a file, stops are dotted lines.
    """
    settings = Settings.from_env()
    watched = environment.read_watchlist(settings)
    symbol, _, of_partition = symbol.partition("|")
    if timeframe and of_partition and timeframe != of_partition:
        raise ConfigurationError(f"a chart is of one timeframe, received {of_partition} and {timeframe}")
    chosen = environment.timeframe_of(watched, timeframe or of_partition)
    (symbol,) = environment.on_watchlist(watched, [symbol])
    if output is not None and (ending := output.suffix.removeprefix(".").lower()) not in chart.FORMATS:
        raise not_one_of("the ending of --output", ending, chart.FORMATS)
    columns, rows = shutil.get_terminal_size()
    most = bars or (chart.USUAL_BARS if output is not None else terminal_chart.bars_that_fit(columns))
    default = environment.default_provider(settings, state.read_state(settings))
    providers = [name for name, symbols in watched.by_provider(default).items() if symbol in symbols]
    note = "SYNTHETIC prices" if any(map(is_synthetic, providers)) else ""
    graph = environment.readable_graph(settings, watched)
    with environment.open_existing(settings) as database, database.transaction() as transaction:
        picture = chart.picture_of(transaction, graph, symbol, chosen, most, strategy, averages)
    if output is None:
        # The prompt comes below it.
        lines = terminal_chart.terminal_chart(picture, columns, rows - 1, note)
        rendering.print_cells([[(each.text, each.role) for each in line] for line in lines], _STYLES)
        return
    figure = chart.draw(picture, note)
    try:
        figure.savefig(output, dpi=110)
    except OSError as error:
        raise ConfigurationError(f"{output} cannot be written: {error.strerror or error}") from error
    click.echo(f"Wrote {output}: {counted(picture.bars.height, 'bar')} of {symbol} on {chosen.key}")
