"""The command `ingest`: bars from files as they come. Reading is in `files`, storing in `operations.ingest`."""

import glob
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ema_assets.cli import environment, rendering
from ema_assets.cli.commands import Command
from ema_assets.config import watchlist
from ema_assets.config.settings import Settings
from ema_assets.config.watchlist import Watchlist
from ema_assets.files.options import ReadOptions
from ema_assets.market.listings import listing_of, spelled_here, symbol_of
from ema_assets.model import clock
from ema_assets.model.counts import counted, noun
from ema_assets.model.errors import (
    AmbiguousBarFile,
    BarFileError,
    ConfigurationError,
    FileReading,
    UnclearSymbol,
    first_of,
)
from ema_assets.model.symbols import FROM_FILES, Instrument, parse_timeframe, speller
from ema_assets.runtime import state

if TYPE_CHECKING:
    from ema_assets.files.reading import BarsOfFile
    from ema_assets.operations.ingest import IngestedSeries
    from ema_assets.operations.waiting_bars import WaitingBars

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
@click.option("--symbol", help="Symbol of a file of one symbol.")
@click.option("--timeframe", help="Timeframe of a file of one timeframe, such as 5m.")
@click.option("--calendar", help="Trading calendar of symbols that are not on the watchlist yet, such as XNYS or 24/7.")
@click.option(
    "--tz", help="Zone of times that name none, such as UTC or America/New_York; exchange: that of each exchange."
)
@click.option("--label", help="Which end of a bar its time stands for: open or close.")
@click.option("--dates", help="Order of the numbers in dates such as 01/02/2024: dmy, mdy or ymd.")
@click.option("--decimal", help="Decimal sign: . or ,")
@click.option(
    "--columns", help="What the columns are, from the left, such as ts,open,high,low,close,volume; - for none."
)
@click.option("--partial", is_flag=True, help="Store what fits even when most bars of a file do not.")
@click.option("--dry-run", is_flag=True, help="Say what was understood and store nothing.")
def ingest_command(files: Sequence[Path], dry_run: bool, **given: str | bool | None) -> None:
    r"""Store the bars of FILES: CSV, Excel, Parquet, Feather or JSON in the layouts of many vendors, packed or not.

    \b
    ema-assets ingest downloads/
    ema-assets ingest AAPL.csv --tz America/New_York --dry-run

    FILES are files, folders, archives, workbooks and patterns. Layout, zone, timeframe and symbol are found out and
    printed with the first bars. Where two readings fit, nothing is stored, and the command lines that choose between
    them are printed. The bars go through the same checks as a provider's, and a symbol that is not on the watchlist is
    added to it as one whose bars come only from files. A file that is refused does not keep the others from being
    stored; the exit code is 1 then. docs/DATA.md lists what is read.
    """
    from ema_assets.operations.waiting_bars import WaitingBars

    settings = Settings.from_env()
    options, watched = _options(given), environment.load_watchlist(settings)
    if options.symbol is not None:
        # As `symbols add` and the other commands understand it.
        options = replace(options, symbol=speller(watched.symbols)(options.symbol) or options.symbol.upper())
    paths = _expanded(files)
    with nullcontext() if dry_run else WaitingBars(settings.home) as waiting:
        work = _Work(settings, watched, options, waiting)
        with rendering.progress("reading", len(paths)) as advance:
            for path in paths:
                advance(path.name)
                work.take(path)
        if waiting:
            _store(work, waiting)
    if dry_run and work.understood:
        click.echo("Nothing was stored: this was a dry run.")
    if work.refused:
        raise click.exceptions.Exit(1)


def _options(given: Mapping[str, str | bool | None]) -> ReadOptions:
    values = dict(given)
    columns = values.pop("columns")
    options = ReadOptions(
        **values,  # type: ignore[arg-type]  # click passes the texts and the flag of this record
        columns=tuple(name.strip() for name in str(columns).split(",")) if columns else None,
    )
    options.check()
    if options.symbol is not None:
        symbol_of(options.symbol.upper())
    if options.timeframe is not None:
        parse_timeframe(options.timeframe)
    if options.calendar is not None:
        environment.check_calendar(options.calendar)
    return options


def _expanded(files: Iterable[Path]) -> list[Path]:
    """Return the files that the arguments name: from folders, archives and patterns, each once."""
    from ema_assets.files.members import left_out, members_of

    found: list[Path] = []
    for path in files:
        if path.is_dir():
            visible = [each for each in path.iterdir() if not each.name.startswith(".")]
            folders = sorted(each.name for each in visible if each.is_dir())
            inside = _in_order(each for each in visible if each.is_file())
            if not inside and folders:
                raise BarFileError(
                    f"{path}: has no files but folders: {first_of(folders, 5)}; name those that have bars"
                )
            if not inside:
                raise BarFileError(f"{path}: is a folder without files")
            found += inside
            _say_left_out(path, folders, "folder")
        elif not path.exists() and glob.has_magic(str(path)):
            matching = _in_order(each for each in map(Path, glob.glob(str(path), recursive=True)) if each.is_file())  # noqa: PTH207
            if not matching:
                raise BarFileError(f"{path}: no file matches")
            found += matching
        else:
            found.append(path)
    expanded: list[Path] = []
    for path in dict.fromkeys(found):
        expanded += members_of(path) or (path,)
        _say_left_out(path, left_out(path), "file")
    return list(dict.fromkeys(expanded))


def _say_left_out(path: Path, names: Sequence[str], what: str) -> None:
    if names:
        which = f"{counted(len(names), what)} in it {noun(len(names), 'is', 'are')} not read: {first_of(names, 5)}"
        click.echo(f"{path}: {which}; name those that have bars", err=True)


def _in_order(paths: Iterable[Path]) -> list[Path]:
    """Return paths by folder and name, numbers by their value: `KO.csv`, `KO (2).csv`, `KO (10).csv`.

    Browsers number the downloads of one name, and a later file corrects the earlier ones.
    """

    def key(path: Path) -> tuple[str, list[str | int], str]:
        # Every second part is a number, so that texts are compared with texts.
        parts = re.split(r"(\d+)", path.stem.casefold())
        return str(path.parent), [int(part) if place % 2 else part for place, part in enumerate(parts)], path.name

    return sorted(paths, key=key)


@dataclass(slots=True)
class _Work:
    """The files of one command: which were refused, which symbols are new, and the bars of those that were understood.

    There is no `waiting` in a dry run.
    """

    settings: Settings
    watched: Watchlist
    options: ReadOptions
    waiting: "WaitingBars | None"
    understood: int = 0
    refused: list[Path] = field(default_factory=list)
    new: dict[str, Instrument] = field(default_factory=dict)
    renamed: dict[str, Path] = field(default_factory=dict)

    def take(self, path: Path) -> None:
        """Read and interpret one file and print the result, or why it was refused."""
        from ema_assets.cli.understanding import print_refusal, print_understood
        from ema_assets.files.reading import read
        from ema_assets.operations.ingest import understand

        watched: dict[str, str] = {}
        try:
            source = read(path, self.options, self.watched.symbols, self._spelled)
            symbols = source.bars["symbol"].unique(maintain_order=True).to_list()
            watched = {each.symbol: each.calendar for each in self.watched.instruments if each.symbol in symbols}
            instruments, origins = self._instruments(source, symbols)
            file = understand(source, instruments, self.watched.special_days, self.options, clock.now())
        except ConfigurationError as error:
            named = error if str(error).startswith(f"{path}: ") else ConfigurationError(f"{path}: {error}")
            print_refusal(path, named, self.options, watched, self.settings.watchlist_path)
            self.refused.append(path)
            return
        print_understood(file, origins)
        self.new.update((name, each) for name, each in instruments.items() if name not in self.watched.symbols)
        self.understood += 1
        if self.waiting is not None:
            self.waiting.put(file.source.path, file.bars)

    def _spelled(self, symbol: str) -> str:
        """Return how a symbol of a file is written here: as on the watchlist, or as its exchange is written."""
        return symbol if symbol in self.watched.symbols else spelled_here(symbol)

    def _instruments(
        self, source: "BarsOfFile", symbols: Iterable[str]
    ) -> tuple[dict[str, Instrument], dict[str, str]]:
        """Return the instruments of a file, and the source of each one's calendar.

        Raises:
            AmbiguousBarFile: when symbols do not determine their calendar, with the calendars that their times fit.
        """
        from ema_assets.config.watchlist_edits import instrument_of

        known = {each.symbol: each for each in self.watched.instruments}
        found: dict[str, Instrument] = {}
        origins: dict[str, str] = {}
        unclear: dict[str, UnclearSymbol] = {}
        for symbol in symbols:
            if symbol in known:
                self._check_calendar(known[symbol])
                found[symbol], origins[symbol] = known[symbol], "the watchlist"
            elif symbol in self.new:
                found[symbol], origins[symbol] = self.new[symbol], "as in the file before"
            else:
                calendar = self.options.calendar or source.layout.calendar
                try:
                    listed = instrument_of(symbol, calendar, FROM_FILES)
                    found[symbol] = replace(listed, timeframes=self.watched.default_timeframes)
                except UnclearSymbol as error:
                    unclear[symbol] = error
                    continue
                origins[symbol] = (
                    "--calendar"
                    if self.options.calendar
                    else f"as {source.layout.name} is"
                    if calendar
                    else listing_of(symbol).reason
                )
        if unclear:
            self._ask_for_calendar(source, found, unclear)
        return found, origins

    def _ask_for_calendar(
        self, source: "BarsOfFile", known: Mapping[str, Instrument], unclear: Mapping[str, UnclearSymbol]
    ) -> None:
        from ema_assets.operations.file_calendars import readings_by_calendar

        first = next(iter(unclear.values()))
        readings = list(
            readings_by_calendar(source, known, unclear, self.watched.special_days, self.options, clock.now())
        )
        watched = {each.calendar for each in known.values() if each.symbol in self.watched.symbols}
        if watched:
            # `--calendar` is for all symbols of a file, and these have theirs.
            readings = [each for each in readings if {dict(each.answers)["calendar"]} == watched]
        if watched and not readings:
            add = shlex.join(["ema-assets", "symbols", "add", *unclear, "--calendar", "CODE", "--provider", FROM_FILES])
            raise BarFileError(
                f"{source.path}: {first}; other symbols of the file are on the watchlist, so add it: `{add}`"
            )
        if len(unclear) == 1 and not known:
            (only,) = unclear.values()
            named = [FileReading(f"as {each}", (("symbol", each),)) for each in only.spellings]
            # What the symbol says counts more than which calendars its times fit, and nearly all fit one that is open.
            readings = named or readings
        raise AmbiguousBarFile(f"{source.path}: {first}", readings)

    def _check_calendar(self, watched: Instrument) -> None:
        if self.options.calendar not in (None, watched.calendar):
            raise ConfigurationError(
                f"{watched.symbol} is on the watchlist with the calendar {watched.calendar}, and `--calendar` is for "
                f"new symbols; move it to another group in {self.settings.watchlist_path}"
            )


def _store(work: _Work, waiting: "WaitingBars") -> None:
    from ema_assets.config.watchlist_edits import add_instruments
    from ema_assets.operations.ingest import store_file
    from ema_assets.operations.sync_watchlist import sync
    from ema_assets.refresh.graph import build

    settings = work.settings
    running = state.read_state(settings)
    for name in add_instruments(settings.watchlist_path, work.new.values()):
        click.echo(f"Added {name} ({work.new[name].calendar}) to the watchlist, its bars from files.")
    watched = watchlist.of(settings)
    synthetic = watched.synthetic_symbols(environment.default_provider(settings, running))
    steps, stored = len(waiting), 0
    with environment.open_database(settings) as database, rendering.progress("storing", steps) as advance:
        sync(database, watched, clock.now(), build(watched, settings.signals_folder, settings.strategies_folder))
        for path, bars in waiting.take():
            advance(path.name)
            summaries = store_file(database, bars, path.name, clock.now())
            click.echo(f"{path}: {counted(bars.height, 'bar')} read")
            _print_summaries(summaries)
            stored += sum(each.stored for each in summaries)
            if any(each.refused for each in summaries):
                work.refused.append(path)
            _print_note_on_synthetic(sorted({each.symbol for each in summaries} & synthetic))
    if stored and running is not None:
        click.echo("Dagster computes what follows from it within a minute.")
    elif stored:
        click.echo("`ema-assets refresh` computes what follows from it, and so does `ema-assets up`.")


def _print_summaries(summaries: "Sequence[IngestedSeries]") -> None:
    rendering.print_table(_HEAD, [_row(each) for each in summaries])
    for each in summaries:
        if each.split is not None:
            click.echo(
                f"{each.symbol}|{each.timeframe}: the file is adjusted for {_a_split(each.split)}; what was "
                "stored is on its scale now"
            )
        if each.unadjusted is not None:
            click.echo(
                f"{each.symbol}|{each.timeframe}: the file is not adjusted for {_a_split(each.unadjusted)}; its bars "
                "of before were brought to the scale of what is stored"
            )
        if each.refused is not None:
            click.echo(f"Error: {each.symbol}|{each.timeframe}: {each.refused}", err=True)


def _a_split(ratio: str) -> str:
    """Return a ratio in a sentence: `a 4:1 split`, `a split of about 12:1`, or `splits of 7:1 and 4:1`."""
    if " and " in ratio:
        return f"splits of {ratio}"
    return f"a {ratio} split" if ratio[0].isdigit() else f"a split of {ratio}"


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
        ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        or (f"rolled up from {summary.rolled_up_from}" if summary.rolled_up_from else ""),
    )


def _print_note_on_synthetic(symbols: Sequence[str]) -> None:
    """Say for which symbols the sandbox will append synthetic bars to those of the file."""
    if symbols:
        click.echo(
            f"Note: the sandbox is their provider, so newer bars of {', '.join(symbols)} are SYNTHETIC. "
            'Take a symbol from files only by giving its group `provider = "file"` in the watchlist.'
        )
