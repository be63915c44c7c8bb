"""The command `screen`: all symbols by trend, spread or nearness of the next cross. Rows come from `reports.screen`."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import click
import polars as pl

from ema_assets.cli import environment, rendering
from ema_assets.cli.commands import Command
from ema_assets.cli.options import (
    WholeNumber,
    complete_averages,
    complete_timeframe,
    group_option,
    strategy_option,
    symbols_option,
)
from ema_assets.cli.rendering import cell, percent, price
from ema_assets.config.settings import Settings
from ema_assets.model.asset_names import EMA_TREND
from ema_assets.model.averages import FAST_SPAN, SLOW_SPAN, spans_of, spans_text
from ema_assets.model.counts import counted
from ema_assets.model.errors import not_one_of
from ema_assets.model.timeframes import Timeframe
from ema_assets.reports.screen import SORTS, computed, screen, trends

# How many symbols without bars are named.
_NAMED = 20
_USUAL = spans_text((FAST_SPAN, SLOW_SPAN))
# The last columns are those that a narrow terminal leaves out first.
_HEAD = (
    "symbol",
    "close",
    "trend",
    "since",
    "spread",
    "cross at",
    "to cross",
    "trends",
    "RSI",
    "trade",
    "stop",
    "bar (UTC)",
)
# What a narrow terminal shows in any case: the columns that are sorted by.
_KEPT = {"return": ("trade",), "rsi": ("RSI",), "stop": ("trade", "stop")}


@click.command("screen", cls=Command)
@click.option(
    "--timeframe",
    shell_complete=complete_timeframe,
    help=f"One of the watchlist.  [default: {environment.USUAL_TIMEFRAME}]",
)
@click.option("--trend", type=click.Choice(["up", "down"]), help="Only symbols whose trend is this.")
@click.option("--crossed-within", type=WholeNumber(0), help="Only symbols that crossed at most this many bars ago.")
@symbols_option
@group_option
@click.option("--sort", type=click.Choice(list(SORTS)), default="spread", show_default=True, help="What to sort by.")
@strategy_option
@click.option(
    "--averages",
    default=_USUAL,
    show_default=True,
    shell_complete=complete_averages,
    help="Which EMAs are compared, such as 12/26 of a strategy with these spans.",
)
@click.option("--reverse", is_flag=True, help="Reverse the order.")
@click.option("--limit", type=WholeNumber(1), help="Show this many rows at most.")
@click.option("--json", "as_json", is_flag=True, help="Print every column as a JSON list.")
def screen_command(  # noqa: PLR0913, PLR0917 - the options
    timeframe: str | None,
    trend: str | None,
    crossed_within: int | None,
    symbols: Sequence[str],
    groups: Sequence[str],
    sort: str,
    strategy: str | None,
    averages: str,
    limit: int | None,
    *,
    reverse: bool,
    as_json: bool,
) -> None:
    r"""Show all symbols by trend, spread or nearness of the next cross.

    \b
    ema-assets screen --sort cross --limit 10
    ema-assets screen --timeframe 15m --trend up --crossed-within 3

    Trend, spread and crosses are those of `--averages`, regardless of `--strategy`. `cross at` is the exact next
    close at which they would meet, `to cross` how far that is from the last.
    `stop` is where the stop of the open trade is now, and how far the last close is from it.
    """
    settings = Settings.from_env()
    watched = environment.read_watchlist(settings)
    chosen = environment.timeframe_of(watched, timeframe, is_computed=True)
    symbols = environment.chosen_symbols(watched, symbols, groups)
    graph = environment.readable_graph(settings, watched)
    if strategy is not None and strategy not in graph.strategies:
        raise not_one_of("--strategy", strategy, graph.strategies)
    spans, known_averages = spans_of(averages), {_USUAL: EMA_TREND, **graph.averages}
    if spans is None or averages not in known_averages:
        raise not_one_of("--averages", averages, known_averages)
    with environment.open_existing(settings) as database, database.transaction() as transaction:
        rows = screen(
            transaction,
            chosen,
            symbols=symbols or None,
            trend=trend,
            crossed_within=crossed_within,
            sort=sort,
            reverse=reverse,
            # The limit of a table does not count the symbols that it leaves out.
            limit=limit if as_json else None,
            strategy=strategy,
            averages=spans,
        )
        known, of, empty = computed(transaction, chosen, known_averages[averages])
    if as_json:
        rendering.print_json(rows.to_dicts())
        return
    shown = rows if symbols else rows.filter(pl.col("silent_since").is_null())
    shown = shown if limit is None else shown.head(limit)
    if known:
        _print(shown, chosen, watched.timeframes, _KEPT.get(sort, () if strategy is None else ("trade", "stop")))
    # There is not even a series on a timeframe that was just added to the watchlist.
    if known < of or not known:
        click.echo(_missing(chosen, known, of, environment.how_far(settings)), err=True)
    _print_silent(shown if symbols else rows, is_left_out=not symbols)
    _print_empty(0 if symbols else empty)


def _missing(timeframe: Timeframe, known: int, of: int, hint: str) -> str:
    """Say which part of the screener was not computed yet."""
    if not known:
        return f"Nothing has been computed on {timeframe.key} yet; {hint}."
    return f"{known} of {of} symbols have been computed on {timeframe.key} so far; {hint}."


def _print(
    rows: pl.DataFrame, timeframe: Timeframe, all_timeframes: Sequence[Timeframe], kept: Collection[str]
) -> None:
    if rows.is_empty():
        click.echo(f"No symbol on {timeframe.key} matches.")
        return
    of = "…".join(dict.fromkeys((all_timeframes[0].key, all_timeframes[-1].key)))
    head = [of if name == "trends" else name for name in _HEAD]
    rendering.print_table(head, [_row(row, all_timeframes) for row in rows.iter_rows(named=True)], kept=kept)
    if rows["is_preliminary"].any():
        click.echo("* not final: the provider may still change this bar")
    if rows["is_warming_up"].any():
        click.echo("~ warming up: too few bars for the averages to have converged")


def _print_silent(rows: pl.DataFrame, *, is_left_out: bool) -> None:
    """Print which of `rows` belong to symbols that have no new bars any more."""
    silent = rows.select("symbol", "silent_since").drop_nulls()
    prefix = "Left out: " if is_left_out else ""
    for symbol, since in silent.head(_NAMED).iter_rows():
        click.echo(f"{prefix}{symbol} has had no bar since {since:%Y-%m-%d}", err=True)
    if silent.height > _NAMED:
        more = silent.height - _NAMED
        those = counted(more, "more symbol has", "more symbols have")
        click.echo(f"{prefix}{those} no bars; `ema-assets symbols check` names all", err=True)


def _print_empty(symbols: int) -> None:
    """Print how many symbols their provider has no bars of."""
    if symbols:
        have = counted(symbols, "symbol has", "symbols have")
        click.echo(f"Left out: {have} no bars at all; `ema-assets symbols check` says which", err=True)


def _row(found: Mapping[str, Any], all_timeframes: Sequence[Timeframe]) -> tuple[str, ...]:
    return (
        found["symbol"],
        price(found["close"]) + ("*" if found["is_preliminary"] else ""),
        (found["trend"] or "") + ("~" if found["is_warming_up"] else ""),
        "" if found["bars_since_cross"] is None else counted(found["bars_since_cross"], "bar"),
        percent(found["spread_pct"]),
        price(found["cross_price"]),
        percent(found["cross_distance_pct"]),
        trends(found, all_timeframes),
        "" if found["rsi"] is None else f"{found['rsi']:.1f}",
        f"{found['trade_side'] or ''} {percent(found['trade_return_pct'])}".strip(),
        price(found["stop_price"])
        # From a price of zero or less there is no distance in percent.
        + ("" if found["stop_distance_pct"] is None else f" ({percent(found['stop_distance_pct'])})"),
        cell(found["ts"]),
    )
