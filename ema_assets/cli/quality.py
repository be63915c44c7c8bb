"""The command `quality`: what is wrong or odd about the stored bars. The rows come from `reports.health`."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import click
import polars as pl

from ema_assets.cli import environment, rendering
from ema_assets.cli.commands import Command
from ema_assets.cli.options import WholeNumber, complete_timeframe, symbols_option
from ema_assets.config.settings import Settings
from ema_assets.model.symbols import Series, parse_timeframe

_PRICES = ("open", "high", "low", "close")


@click.command("quality", cls=Command)
@symbols_option
@click.option(
    "--timeframe", shell_complete=complete_timeframe, help="With --bar: the timeframe of the bar, such as 5m."
)
@click.option("--bar", "opened", help="The story of one bar: when it opens, UTC, such as 2026-11-25T14:30.")
@click.option("--limit", type=WholeNumber(1), default=20, show_default=True, help="Rows shown of each kind.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with all rows instead of tables.")
def quality_command(
    symbols: Sequence[str], timeframe: str | None, opened: str | None, limit: int, *, as_json: bool
) -> None:
    r"""Say what is wrong or odd about the stored bars: gaps, revisions, splits, flagged, rejected, skipped.

    \b
    ema-assets quality --symbol AAPL
    ema-assets quality --symbol AAPL --timeframe 5m --bar 2026-11-25T14:30

    With --symbol, first the story of each symbol: where its bars are from, how far they are complete and final. With
    --bar and --timeframe, that of one bar and nothing else.
    """
    from ema_assets.reports import health, story

    settings = Settings.from_env()
    symbols = environment.on_watchlist(environment.read_watchlist(settings), symbols)
    bar = _bar(symbols, timeframe, opened)
    with environment.open_existing(settings) as database, database.transaction() as transaction:
        if bar is not None:
            _tell(story.of_bar(transaction, *bar), as_json=as_json)
            return
        report = health.quality(transaction, symbols, None if as_json else limit)
        told = [line for symbol in symbols for line in story.of_symbol(transaction, symbol)]
    if as_json:
        rendering.print_json({kind: rows.to_dicts() for kind, (_, rows) in report.items()})
        return
    _tell([*told, ""] if told else [], as_json=False)
    _print_tables(report)


def _tell(lines: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        rendering.print_json(list(lines))
        return
    for line in lines:
        click.echo(line)


def _print_tables(report: Mapping[str, tuple[int, pl.DataFrame]]) -> None:
    for number, (kind, (count, rows)) in enumerate(report.items()):
        if number:
            click.echo("")
        shown = f", the newest {rows.height}:" if rows.height < count else ":" if count else ""
        click.echo(f"{kind}: {count}{shown}")
        if count:
            shown_by = [rendering.price if name in _PRICES else rendering.cell for name in rows.columns]
            cells = [tuple(show(value) for show, value in zip(shown_by, row, strict=True)) for row in rows.iter_rows()]
            rendering.print_table(rows.columns, cells)


def _bar(symbols: Sequence[str], timeframe: str | None, opened: str | None) -> tuple[Series, datetime] | None:
    """Return the requested bar, or None."""
    if opened is None:
        if timeframe is not None:
            raise click.UsageError("--timeframe goes with --bar")
        return None
    if timeframe is None or len(symbols) != 1:
        raise click.UsageError("--bar needs one --symbol and a --timeframe")
    try:
        moment = datetime.fromisoformat(opened)
    except ValueError:
        raise click.UsageError(f"--bar must be a time such as 2026-11-25T14:30, received {opened!r}") from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return Series(symbols[0], parse_timeframe(timeframe)), moment
