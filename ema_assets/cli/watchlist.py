"""The commands `symbols …`: show and change the watchlist."""

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ema_assets.cli import environment, rendering
from ema_assets.cli.commands import Commands
from ema_assets.cli.options import complete_symbol, group_option, json_option
from ema_assets.config import renames, watchlist
from ema_assets.config.settings import Settings
from ema_assets.market.listings import check_spelling
from ema_assets.model import clock
from ema_assets.model.counts import counted
from ema_assets.model.errors import ConfigurationError, StoreError, did_you_mean, first_of, not_one_of
from ema_assets.model.symbols import FROM_FILES, Instrument, speller
from ema_assets.runtime import state

if TYPE_CHECKING:
    from ema_assets.cli.listing import Choice


# When one command has more symbols than this, they are counted instead of named.
_SHOWN_SYMBOLS = 30
# How many reasons are shown in that case for symbols that are not added.
_SHOWN_REASONS = 10
# The sensor that follows the watchlist.
_SENSOR = "sync_watchlist"


@click.group("symbols", cls=Commands)
def symbols_group() -> None:
    """Show and change the watchlist."""


@symbols_group.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array of objects instead of a table.")
@group_option
@click.option("--calendar", "calendars", multiple=True, help="Only the symbols of this calendar, such as XNYS or 24/7.")
@click.option(
    "--provider",
    "providers",
    multiple=True,
    help="Only the symbols of this provider; `file` for those whose bars come from files alone.",
)
def symbols_list(groups: Sequence[str], calendars: Sequence[str], providers: Sequence[str], *, as_json: bool) -> None:
    """Print every symbol with its calendar and the provider of its bars.

    With several of --group, --calendar and --provider, those that fit all of them; an option that is given several
    times takes what fits any of its values.
    """
    settings = Settings.from_env()
    watched = environment.read_watchlist(settings)
    default = environment.default_provider(settings, state.read_state(settings))
    chosen = set(environment.chosen_symbols(watched, (), groups) or watched.symbols)
    sources = {each.symbol: _source(each, default) for each in watched.instruments}
    _check_known("--calendar", calendars, (each.calendar for each in watched.instruments))
    _check_known("--provider", providers, sources.values())
    rows = [
        (each.symbol, each.calendar, sources[each.symbol], [timeframe.key for timeframe in each.timeframes])
        for each in watched.instruments
        if each.symbol in chosen
        and (not calendars or each.calendar in calendars)
        and (not providers or sources[each.symbol] in providers)
    ]
    if as_json:
        names = ("symbol", "calendar", "provider", "timeframes")
        rendering.print_json([dict(zip(names, row, strict=True)) for row in rows], indent=None)
    else:
        shown = [(*row[:3], " ".join(row[3])) for row in rows]
        rendering.print_table(("symbol", "calendar", "bars from", "timeframes"), shown)


def _check_known(option: str, received: Sequence[str], known: Iterable[str]) -> None:
    """Refuse a value that no symbol has: it is misspelt, and an empty table would not say so."""
    names = dict.fromkeys(known)
    for each in received:
        if each not in names:
            raise not_one_of(option, each, names)


def _source(instrument: Instrument, default: str) -> str:
    return (instrument.provider or default) if instrument.is_fetched else FROM_FILES


_CALENDAR = click.option(
    "--calendar",
    help="Trading calendar: 24/7 for crypto, 24/5 for foreign exchange, or a code such as XNYS, XLON or CMES. Without "
    "it, it follows from how a symbol is written.",
)
_PROVIDER = click.option("--provider", help="Provider of their bars, when it is another than EMA_PROVIDER.")


@symbols_group.command("add")
@click.argument("symbols", nargs=-1, required=True)
@_CALENDAR
@_PROVIDER
def symbols_add(symbols: Sequence[str], calendar: str | None, provider: str | None) -> None:
    r"""Add SYMBOLS such as NVDA, AZN.L, EURUSD=X or BTC-USD; a running Dagster loads their history.

    \b
    ema-assets symbols add NVDA AZN.L
    ema-assets symbols add 7203 --calendar XTKS

    A symbol that may be several things is not added. The message says what it may be and how each is written.
    """
    wanted = [symbol.upper() for symbol in symbols]
    for symbol in wanted:
        # One that is written as elsewhere is refused below, and the others are added.
        check_spelling(symbol)
    _add(wanted, calendar, provider)


@symbols_group.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@_CALENDAR
@_PROVIDER
def symbols_import(file: Path, calendar: str | None, provider: str | None) -> None:
    """Add the symbols of FILE: one per line, or a CSV with a column `symbol` or `ticker`.

    Nothing is added when a line holds something that is no symbol.
    """
    from ema_assets.config.symbol_lists import read_symbols

    _add(read_symbols(file), calendar, provider)


@symbols_group.command("check")
@json_option
def symbols_check(*, as_json: bool) -> None:
    """Say which symbols of the watchlist were renamed, have ended, or are not known to their provider.

    Ends with exit code 1 when there are such symbols. One that is halted is named, and nothing is wrong with it. Makes
    no requests: it uses the results of the last requests, and what providers said last night.
    """
    from ema_assets.reports.status import symbol_problems, symbols_halted

    settings = Settings.from_env()
    watched = environment.read_watchlist(settings)
    with environment.open_existing(settings) as database, database.transaction() as transaction:
        problems = symbol_problems(transaction, watched.symbols, clock.now())
        halted = symbols_halted(transaction, watched.symbols)
    if as_json:
        rendering.print_json({"checked": len(watched.symbols), "problems": problems, "halted": halted})
    else:
        for sentence in (*problems, *halted):
            click.echo(sentence)
    if problems:
        raise SystemExit(1)
    if as_json:
        return
    count = len(watched.symbols)
    click.echo(f"Checked {counted(count, 'symbol')}: nothing is known against {'it' if count == 1 else 'any of them'}.")


def _add(wanted: Sequence[str], calendar: str | None, provider: str | None) -> None:
    """Add the symbols that are clear, give the reason for each, and end with exit code 1 when there are others."""
    from ema_assets.cli.listing import Chooser
    from ema_assets.config.watchlist_edits import add_instruments, listed

    settings = Settings.from_env()
    watchlist.ensure(settings.watchlist_path)
    known = set(listed(settings.watchlist_path))
    spelt = speller(known)
    wanted = list(dict.fromkeys(spelt(symbol) or symbol for symbol in wanted))
    running = state.read_state(settings)
    chooser = Chooser(environment.default_provider(settings, running), calendar, provider)
    chosen = [each for symbol in wanted if symbol not in known and (each := chooser.choose(symbol))]
    added = set(add_instruments(settings.watchlist_path, [choice.instrument for choice in chosen]))
    _print_added([choice for choice in chosen if choice.instrument.symbol in added])
    _print_known([symbol for symbol in wanted if symbol in known])
    for note in chooser.notes():
        click.echo(note, err=True)
    if added and running is not None:
        click.echo(_what_dagster_does(settings))
    if chooser.refused:
        only = len(chooser.refused) == 1
        sentences = ["not added:", *_first_sentences(chooser.refused)]
        if len(chooser.spellings) > 1:
            options = ["--provider", provider] if provider else []
            words = ["ema-assets", "symbols", "add", *dict.fromkeys(chooser.spellings.values()), *options]
            sentences.append(f"as they are written here: {shlex.join(words)}")
        raise ConfigurationError((" " if only else "\n").join(sentences))


def _what_dagster_does(settings: Settings) -> str:
    """Return whether a running Dagster takes up the edited watchlist, as a sentence."""
    from ema_assets.reports.status import not_synced
    from ema_assets.store import diagnosis

    with (
        suppress(StoreError),
        environment.open_database(settings, migrated=False) as database,
        database.transaction() as transaction,
    ):
        if _SENSOR in (diagnosis.stopped_automation(transaction) or ()):
            where = 'Start it in the Dagster UI under "Automation".'
            return f"Nothing is loaded yet: the sensor {_SENSOR} is stopped. {where}"
        if (error := not_synced(transaction)) is not None:
            return f"Nothing is loaded yet: the watchlist was {error}"
    return "Dagster picks this up within ten seconds and loads the history."


def _first_sentences(refused: Mapping[str, str]) -> list[str]:
    """Return why each symbol is not added; of many, the first reasons, and the names of the others to be copied."""
    reasons = list(refused.values())
    if len(reasons) <= _SHOWN_SYMBOLS:
        return reasons
    others = list(refused)[_SHOWN_REASONS:]
    return [*reasons[:_SHOWN_REASONS], f"and {len(others)} more: {' '.join(others)}"]


def _print_added(choices: "Sequence[Choice]") -> None:
    """Print one line per symbol, or per calendar when there are many."""
    if len(choices) <= _SHOWN_SYMBOLS:
        for choice in choices:
            click.echo(f"Added {choice}.")
    else:
        for calendar, count in Counter(choice.instrument.calendar for choice in choices).most_common():
            click.echo(f"Added {counted(count, 'symbol')} of {calendar}.")
    for choice in choices:
        if (renamed := renames.current(choice.instrument.symbol)) is not None:
            click.echo(f"{choice.instrument.symbol} has been called {renamed.to} since {renamed.since}.", err=True)


def _print_known(symbols: Sequence[str]) -> None:
    if len(symbols) <= _SHOWN_SYMBOLS:
        for symbol in symbols:
            click.echo(f"{symbol} is on the watchlist already.")
    else:
        click.echo(f"{len(symbols)} symbols are on the watchlist already.")


@symbols_group.command("remove")
@click.argument("symbols", nargs=-1, required=True, shell_complete=complete_symbol)
def symbols_remove(symbols: Sequence[str]) -> None:
    """Remove SYMBOLS from the watchlist; what is stored of them stays."""
    from ema_assets.config.watchlist_edits import listed, remove_symbols

    settings = Settings.from_env()
    spelt = speller(listed(settings.watchlist_path))
    wanted = [spelt(symbol) or symbol for symbol in symbols]
    removed = remove_symbols(settings.watchlist_path, wanted)
    if len(removed) <= _SHOWN_SYMBOLS:
        for symbol in removed:
            click.echo(f"Removed {symbol}; its data stays.")
    else:
        click.echo(f"Removed {len(removed)} symbols; their data stays.")
    gone = set(removed)
    missing = [symbol for symbol in dict.fromkeys(wanted) if symbol not in gone]
    if missing:
        hint = did_you_mean(missing[0].upper(), listed(settings.watchlist_path)) if len(missing) == 1 else ""
        raise ConfigurationError(f"not on the watchlist: {first_of(missing, _SHOWN_SYMBOLS)}{hint}")
