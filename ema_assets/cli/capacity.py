"""The command `capacity`: what a watchlist of some size costs. The figures come from `reports.capacity`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta

import click

from ema_assets.cli import environment, rendering
from ema_assets.cli.commands import Command
from ema_assets.config.settings import Settings
from ema_assets.config.watchlist import Watchlist
from ema_assets.model import clock
from ema_assets.model.errors import ConfigurationError
from ema_assets.model.symbols import parse_timeframe
from ema_assets.model.timeframes import Timeframe
from ema_assets.reports.capacity import ASSETS_OF_EVERYTHING, Estimate, Market, estimate, estimate_markets


@click.command("capacity", cls=Command)
@click.option("--symbols", type=int, help="This many US stocks.  [default: the symbols of the watchlist]")
@click.option("--timeframes", help="Timeframes, with commas between them.  [default: those of the watchlist]")
@click.option(
    "--everything", "is_everything", is_flag=True, help="Every signal and strategy.  [default: as in the watchlist]"
)
@click.option("--always-open", "is_always_open", is_flag=True, help="With --symbols: of markets that never close.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def capacity_command(
    symbols: int | None, timeframes: str | None, *, is_everything: bool, is_always_open: bool, as_json: bool
) -> None:
    r"""Estimate processor time, memory, disk and calls of a trading day, from measured slopes.

    \b
    ema-assets capacity
    ema-assets capacity --symbols 500 --timeframes 5m,1h,1d --everything

    Without --symbols: of the watchlist, with the hours of its markets and with what is switched on in it; symbols from
    files have no bars per day. With it: of the chain from bars to trades alone. docs/CAPACITY.md says how good these
    figures are, and what is not in them.
    """
    wanted = None if timeframes is None else [parse_timeframe(text.strip()) for text in timeframes.split(",")]
    if symbols is None:
        if is_always_open:
            raise ConfigurationError("`--always-open` goes with `--symbols`: the watchlist says when its symbols trade")
        settings = Settings.from_env()
        watched = environment.read_watchlist(settings)
        found = estimate_markets(_markets(watched, wanted), _assets(settings, watched, is_everything=is_everything))
    else:
        wanted = wanted or list(environment.read_watchlist(Settings.from_env()).with_bars)
        found = estimate(symbols, wanted, is_everything=is_everything, is_always_open=is_always_open)
    if as_json:
        rendering.print_json(asdict(found))
        return
    rendering.print_table(("of a trading day", ""), rows(found))


def _assets(settings: Settings, watched: Watchlist, *, is_everything: bool) -> int:
    """Return how many assets are computed: those that are switched on, or all, including own ones."""
    graph = environment.readable_graph(settings, watched, "estimates everything else")
    return max(len(graph.nodes), ASSETS_OF_EVERYTHING) if is_everything else len(graph.on)


def _markets(watched: Watchlist, wanted: Sequence[Timeframe] | None) -> list[Market]:
    """Return the watchlist's symbols by calendar and timeframes, with the bars of the longest day of two weeks."""
    from ema_assets.market.calendars import bar_grid
    from ema_assets.market.exchanges import exchange_sessions

    today = clock.now().date()

    def closes(calendar: str, timeframe: Timeframe) -> int:
        if timeframe.is_session or timeframe.period is not None:
            return 1
        grid = bar_grid(exchange_sessions(calendar, today - timedelta(days=14), today), timeframe)
        return int(max(count for _, count in grid["session"].value_counts().iter_rows()))

    fetched = [each for each in watched.instruments if each.is_fetched]
    if not fetched:
        raise ConfigurationError("all bars of the watchlist come from files, and none per day; say `--symbols`")
    by_hours = Counter((each.calendar, each.with_bars if wanted is None else tuple(wanted)) for each in fetched)
    return [
        Market(symbols, {each: closes(calendar, each) for each in timeframes})
        for (calendar, timeframes), symbols in by_hours.items()
    ]


def rows(found: Estimate) -> list[tuple[str, str]]:
    """Return the estimate as rows of label and value."""
    return [
        ("series", f"{found.series:,}"),
        ("new bars", f"{found.bars_per_day:,}"),
        ("runs", f"{found.runs_per_day:,}"),
        ("CPU of one close of the shortest timeframe", f"{found.cpu_seconds_per_tick:,.1f} s"),
        ("CPU when all timeframes close together", f"{found.cpu_seconds_at_the_worst_close:,.1f} s"),
        ("CPU of all runs", f"{found.cpu_hours_per_day:,.2f} h"),
        ("memory of four standby processes", f"{found.memory_megabytes:,} MB"),
        ("bars and results, kept forever", f"{found.market_megabytes_per_day:,.1f} MB per day"),
        ("Dagster's records, level at 14 days", f"{found.dagster_megabytes / 1000:,.1f} GB"),
        ("calls per close, 200 symbols each", f"{found.calls_per_tick:,}"),
    ]
