"""How `ingest` says what it understood of a file, and what it asks. The reading itself is in `operations.ingest`."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import click
import polars as pl

from ema_assets.cli.rendering import minute, print_table
from ema_assets.files.declaration import BY_NAME
from ema_assets.files.options import ReadOptions
from ema_assets.model.counts import counted
from ema_assets.model.errors import AmbiguousBarFile, FileReading, first_of
from ema_assets.model.schemas import PRICES

if TYPE_CHECKING:
    from ema_assets.operations.ingest import UnderstoodFile

_SHOWN_ROWS = 5
_SHOWN_SYMBOLS = 6
_LABEL_WIDTH = 11


def print_understood(file: "UnderstoodFile", origins: Mapping[str, str]) -> None:
    """Print what a file holds, how that was found out, and its first bars as they would be stored.

    `origins` says for each symbol where its calendar comes from.
    """
    source, bars = file.source, file.bars
    click.echo(f"{source.path}: {_count(bars)}")
    if bars.is_empty():
        return
    for label, text in _lines(file, origins):
        click.echo(f"  {label:<{_LABEL_WIDTH}}{text}")
    first = bars.sort("symbol", "timeframe", "ts", nulls_last=True).head(_SHOWN_ROWS)
    click.echo(f"  {'as stored':<{_LABEL_WIDTH}}opening times in UTC")
    print_table(
        ("", "series", "ts", *PRICES, "volume"),
        [("", f"{row['symbol']}|{row['timeframe']}", *map(_cell, _values(row))) for row in first.iter_rows(named=True)],
    )


def _values(row: Mapping[str, object]) -> list[object]:
    ts = row["ts"]
    return [minute(ts) if ts is not None else None, *(row[name] for name in (*PRICES, "volume"))]  # type: ignore[arg-type]


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return "" if value is None else str(value)
    # As in a file: all digits of a price of 0.00001234, not 1.234e-05.
    shown = f"{value:.12g}"
    return f"{Decimal(shown):f}" if "e-" in shown else shown


def _count(bars: pl.DataFrame) -> str:
    if bars.is_empty():
        return "no bars"
    series = bars.select("symbol", "timeframe").unique(maintain_order=True)
    name = "|".join(series.row(0)) if series.height == 1 else f"{series.height} series"
    low, high = bars.select(pl.col("ts").min().alias("low"), pl.col("ts").max().alias("high")).row(0)
    span = f", {minute(low)} to {minute(high)} UTC" if low is not None else ""
    return f"{counted(bars.height, 'bar')} of {name}{span}"


def _lines(file: "UnderstoodFile", origins: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    source = file.source
    symbols = source.bars["symbol"].unique(maintain_order=True).to_list()
    timeframes = source.bars["timeframe"].unique(maintain_order=True).to_list()
    yield "layout", f"{source.layout.name} ({source.form})"
    yield "symbol", f"{_shown(symbols)} ({source.keys.symbol_from})"
    yield "timeframe", f"{_shown(timeframes)} ({source.keys.timeframe_from})"
    yield "times", file.zone
    yield "label", file.label
    by_calendar: dict[str, list[str]] = {}
    for symbol in symbols:
        by_calendar.setdefault(f"{file.calendars[symbol]} ({origins[symbol]})", []).append(symbol)
    for calendar, own in by_calendar.items():
        yield "calendar", calendar if len(by_calendar) == 1 else f"{calendar}: {_shown(own)}"
    remark = "" if source.layout is BY_NAME else source.layout.remark
    for note in (*source.notes, remark):
        if note:
            yield "note", note


def _shown(names: Sequence[str]) -> str:
    return first_of(names, _SHOWN_SYMBOLS)


def print_refusal(
    path: Path, error: Exception, options: ReadOptions, symbols: Mapping[str, str], watchlist: Path
) -> None:
    """Print why nothing of a file is stored, and for each way to read it the command line that does so.

    `symbols` are the file's symbols that are on the watchlist, with their calendars there.
    """
    click.echo(f"Error: {error}", err=True)
    if not isinstance(error, AmbiguousBarFile):
        return
    for reading in error.readings:
        click.echo(f"  {reading.evidence}:", err=True)
        click.echo(f"    {_what_to_do(path, reading, options, symbols, watchlist)}", err=True)


def _what_to_do(
    path: Path, reading: FileReading, options: ReadOptions, symbols: Mapping[str, str], watchlist: Path
) -> str:
    answers = dict(reading.answers)
    if "group" in answers:
        what = f"add to {watchlist}"
        if symbols:
            # A symbol must not be listed twice.
            what = f"take {_shown(sorted(symbols))} out of the group where it is in {watchlist}, and add"
        return "\n    ".join([f"{what}:", *answers["group"].splitlines()])
    calendar = answers.get("calendar")
    others = sorted(symbol for symbol, own in symbols.items() if own != calendar)
    if calendar is not None and others:
        return f'move {_shown(others)} to a group with `calendar = "{calendar}"` in {watchlist}'
    words = options.with_answers(reading.answers).arguments()
    return shlex.join(["ema-assets", "ingest", str(path), *words])
