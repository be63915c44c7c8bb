"""The command `capacity`: what a watchlist of some size costs. The figures come from `reports.capacity`."""

from dataclasses import asdict

import click

from ema_assets.cli import environment, rendering
from ema_assets.cli.commands import Command
from ema_assets.config.settings import Settings
from ema_assets.model.symbols import parse_timeframe
from ema_assets.reports.capacity import Estimate, estimate


@click.command("capacity", cls=Command)
@click.option("--symbols", type=int, help="How many symbols.  [default: as many as the watchlist has]")
@click.option("--timeframes", help="Timeframes, with commas between them.  [default: those of the watchlist]")
@click.option("--everything", "is_everything", is_flag=True, help="Every signal and strategy, not only the chain.")
@click.option("--always-open", "is_always_open", is_flag=True, help="Markets that never close, not US stocks.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def capacity_command(
    symbols: int | None, timeframes: str | None, *, is_everything: bool, is_always_open: bool, as_json: bool
) -> None:
    """Estimate processor time, memory, disk and calls of a trading day, from measured slopes.

    docs/CAPACITY.md says how good these figures are, and what is not in them.
    """
    watched = environment.read_watchlist(Settings.from_env()) if symbols is None or timeframes is None else None
    if symbols is None:
        assert watched is not None
        symbols = len(watched.instruments)
    if timeframes is None:
        assert watched is not None
        wanted = list(watched.with_bars)
    else:
        wanted = [parse_timeframe(text.strip()) for text in timeframes.split(",")]
    found = estimate(symbols, wanted, is_everything=is_everything, is_always_open=is_always_open)
    if as_json:
        rendering.print_json(asdict(found))
        return
    rendering.print_table(("of a trading day", ""), rows(found))


def rows(found: Estimate) -> list[tuple[str, str]]:
    """The estimate in words."""
    return [
        ("series", f"{found.series:,}"),
        ("new bars", f"{found.bars_per_day:,}"),
        ("runs", f"{found.runs_per_day:,}"),
        ("CPU of one close of the shortest timeframe", f"{found.cpu_seconds_per_tick:,.1f} s"),
        ("CPU when all timeframes close together", f"{found.cpu_seconds_at_the_worst_close:,.1f} s"),
        ("CPU of all runs", f"{found.cpu_hours_per_day:,.2f} h"),
        ("memory of four standby processes", f"{found.memory_megabytes:,} MB"),
        ("bars and results, for ever", f"{found.market_megabytes_per_day:,.1f} MB per day"),
        ("Dagster's records, level at 14 days", f"{found.dagster_megabytes / 1000:,.1f} GB"),
        ("calls per close, 200 symbols each", f"{found.calls_per_tick:,}"),
    ]
