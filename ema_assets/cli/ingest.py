"""The command `ingest`: bars from files, and a summary per file. Reading and storing is in `operations.ingest`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import polars as pl

from ema_assets.cli import environment, rendering
from ema_assets.cli.commands import Command
from ema_assets.config import watchlist
from ema_assets.config.settings import Settings
from ema_assets.config.watchlist import Watchlist
from ema_assets.model import clock
from ema_assets.model.symbols import FROM_FILES, parse_symbol, parse_timeframe
from ema_assets.runtime import state

if TYPE_CHECKING:
    from ema_assets.operations.ingest import IngestedSeries

_HEAD = (
    "series",
    "stored",
    "of these corrected",
    "already there",
    "missing",
    "flagged",
    "skipped",
    "rejected",
    "why",
)


@click.command("ingest", cls=Command)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--symbol", help="Symbol of a file that has no symbol column.")
@click.option("--timeframe", help="Timeframe of a file that has no timeframe column.")
@click.option(
    "--calendar", help="Trading calendar of symbols that are not on the watchlist yet. Guessed when not given."
)
def ingest_command(files: Sequence[Path], symbol: str | None, timeframe: str | None, calendar: str | None) -> None:
    """Store the bars of CSV or Parquet FILES.

    Columns: symbol, timeframe, ts (opening time; UTC unless it names a zone), open, high, low, close, volume. The bars
    go through the same checks as a provider's; a summary says what was stored, flagged, skipped and rejected, and how
    many bars are missing between the first and the last. `ema-assets quality` shows which. A symbol that is not on the
    watchlist is added to it as one whose bars come only from files.
    """
    from ema_assets.operations.ingest import read_file, store_file
    from ema_assets.operations.sync_watchlist import sync
    from ema_assets.refresh.graph import build

    settings = Settings.from_env()
    running = state.read_state(settings)
    _check_options(symbol, timeframe, calendar)
    read = [(path, read_file(path, symbol, timeframe)) for path in files]
    watched = _with_symbols_of([bars for _, bars in read], settings, calendar)
    synthetic = watched.synthetic_symbols(environment.default_provider(settings, running))
    with environment.open_database(settings) as database:
        sync(database, watched, clock.now(), build(watched, settings.signals_folder))
        for path, bars in read:
            summaries = store_file(database, bars, path.name, clock.now())
            click.echo(f"{path}: {bars.height} bars read")
            _print_summaries(summaries)
            _print_note_on_synthetic(sorted({each.symbol for each in summaries} & synthetic))
    if running is not None:
        click.echo("Dagster computes what follows from it within a minute.")


def _check_options(symbol: str | None, timeframe: str | None, calendar: str | None) -> None:
    if symbol is not None:
        parse_symbol(symbol)
    if timeframe is not None:
        parse_timeframe(timeframe)
    if calendar is not None:
        environment.check_calendar(calendar)


def _with_symbols_of(read: Sequence[pl.DataFrame], settings: Settings, calendar: str | None) -> Watchlist:
    """The watchlist after the symbols of all files that were not on it have been added."""
    from ema_assets.config.watchlist_edits import add_symbols, likely_calendar

    watched = environment.load_watchlist(settings)
    new = [name for bars in read for name in bars["symbol"].unique(maintain_order=True) if name not in watched.symbols]
    for name in add_symbols(settings.watchlist_path, new, calendar, FROM_FILES):
        click.echo(f"Added {name} ({calendar or likely_calendar(name)}) to the watchlist, its bars from files.")
    return watchlist.load(settings.watchlist_path)


def _print_summaries(summaries: "Sequence[IngestedSeries]") -> None:
    rendering.print_table(_HEAD, [_row(each) for each in summaries])
    for each in summaries:
        if each.split is not None:
            click.echo(
                f"{each.symbol}|{each.timeframe}: the file is adjusted for a {each.split} split; what was "
                "stored is on its scale now"
            )


def _row(summary: "IngestedSeries") -> tuple[str, ...]:
    reasons = {**summary.skipped, **summary.rejected}
    return (
        f"{summary.symbol}|{summary.timeframe}",
        str(summary.stored),
        str(summary.corrected),
        str(summary.equal),
        str(summary.missing),
        str(summary.flagged),
        str(sum(summary.skipped.values())),
        str(sum(summary.rejected.values())),
        ", ".join(f"{count} {reason}" for reason, count in reasons.items()),
    )


def _print_note_on_synthetic(symbols: Sequence[str]) -> None:
    """Say of which symbols the sandbox will append made-up bars to those of the file."""
    if symbols:
        click.echo(
            f"Note: the sandbox is their provider, so newer bars of {', '.join(symbols)} are SYNTHETIC. "
            'Take a symbol from files only by giving its group `provider = "file"` in the watchlist.'
        )
