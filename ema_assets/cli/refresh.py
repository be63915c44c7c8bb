"""The commands `plan` and `refresh`: what is stale, and bringing it up to date without Dagster."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click
import polars as pl

from ema_assets.cli import environment, rendering
from ema_assets.cli.commands import Command
from ema_assets.cli.options import group_option, json_option, symbols_option, timeframes_option
from ema_assets.cli.rendering import minute, timeframe_key
from ema_assets.config.settings import Settings
from ema_assets.model import clock
from ema_assets.model.counts import counted
from ema_assets.model.errors import EmaAssetsError, first_of
from ema_assets.model.symbols import Series
from ema_assets.model.timeframes import Timeframe
from ema_assets.refresh.outcome import Outcome

if TYPE_CHECKING:
    from ema_assets.model.symbols import Instrument
    from ema_assets.refresh.runs import PlannedRun
    from ema_assets.store.database import Transaction

# How many series that failed for one reason `refresh` names.
_SHOWN_SERIES = 5


@click.command("plan", cls=Command)
@click.option("--series", "each_series", is_flag=True, help="Also why each single series is stale.")
@symbols_option
@group_option
@json_option
def plan_command(symbols: Sequence[str], groups: Sequence[str], *, each_series: bool, as_json: bool) -> None:
    r"""Say what would run now, and why. Changes nothing and requests nothing.

    \b
    ema-assets plan
    ema-assets plan --series --symbol AAPL

    Series that failed are left alone for a while: how many are, until when, and what went wrong. Changes of the
    watchlist that the database does not know yet are listed first, and not planned.

    As JSON: the planned runs, the stale series with their reasons, those that wait for their next attempt, what has
    changed in the watchlist, what is wrong with the configuration, and why the watchlist could not be taken up.
    """
    from ema_assets.refresh import left_alone, plan
    from ema_assets.refresh.runs import plan_runs
    from ema_assets.reports.status import not_synced
    from ema_assets.reports.watchlist_changes import watchlist_changes

    settings = Settings.from_env()
    watched = environment.read_watchlist(settings)
    symbols = environment.chosen_symbols(watched, symbols, groups)
    now = clock.now()
    wrong = environment.configuration_error(settings)
    with environment.open_existing(settings) as database, database.transaction() as transaction:
        is_chosen = pl.col("symbol").is_in(list(symbols or watched.symbols))
        stale = plan.stale_for_sweep(transaction, now, timedelta(0), settings.publications).filter(is_chosen)
        waiting = left_alone.series(transaction, now, settings.publications).filter(is_chosen)
        runs = plan_runs(stale, watched.symbols, [], settings.series_per_run)
        sync_error = not_synced(transaction)
        changes = watchlist_changes(transaction, watched.instruments)
        lines = plan.sentences(stale, runs) + left_alone.sentences(waiting, now)
        if lines and each_series:
            lines.append("")
            lines += plan.series_sentences(transaction, stale) + plan.series_sentences(transaction, waiting)
        if not lines:
            chosen = [each for each in watched.instruments if each.symbol in (symbols or watched.symbols)]
            lines = ["Nothing is stale.", *_coming(transaction, chosen, now)]
    if as_json:
        errors = {"configuration_error": wrong, "sync_error": sync_error}
        rendering.print_json({**_as_json(stale, waiting, runs), "watchlist_changes": asdict(changes), **errors})
        return
    warnings = []
    if wrong is not None:
        warnings.append(f"A running Dagster launches nothing: {wrong}")
    if sync_error is not None:
        warnings.append(f"The watchlist is {sync_error}")
    if changes:
        taken_up = "`ema-assets refresh` or a running Dagster takes that up"
        warnings.append(f"The database does not know yet what has changed in the watchlist: {changes}; {taken_up}")
    for line in (*warnings, *([""] if warnings else []), *lines):
        click.echo(line)


def _as_json(stale: pl.DataFrame, waiting: pl.DataFrame, runs: "Sequence[PlannedRun]") -> dict[str, object]:
    from ema_assets.refresh.runs import Purpose

    return {
        "runs": [
            {
                "timeframe": run.rectangle.timeframe.key,
                "first_symbol": run.rectangle.first,
                "last_symbol": run.rectangle.last,
                "series": run.series,
                **{f"is_{each.value}": run.purpose is each for each in Purpose if each is not Purpose.NEWEST},
            }
            for run in runs
        ],
        "stale": stale.select("asset", "symbol", "timeframe", "reason", "since", "failures").to_dicts(),
        "waiting": waiting.to_dicts(),
    }


def _coming(transaction: "Transaction", instruments: "Sequence[Instrument]", now: datetime) -> list[str]:
    """Say when the next bar of each calendar of `instruments` closes, on the shortest timeframe there."""
    from ema_assets.refresh.plan import next_closes

    shortest: dict[str, Timeframe] = {}
    fetched = [each for each in instruments if each.is_fetched]
    if instruments and not fetched:
        return ["All bars come from files; `ema-assets ingest` brings new ones."]
    for each in fetched:
        shortest[each.calendar] = min(each.with_bars[0], shortest.get(each.calendar, each.with_bars[0]))
    coming = sorted(
        (closes, calendar, timeframe)
        for timeframe in sorted(set(shortest.values()))
        for calendar, _, closes in next_closes(transaction, timeframe, now).rows()
        if shortest.get(calendar) == timeframe
    )
    return [
        f"{calendar}: the next {timeframe_key(timeframe)} bar closes {minute(closes)} UTC"
        for closes, calendar, timeframe in coming
    ]


@click.command("refresh", cls=Command)
@symbols_option
@group_option
@timeframes_option
@click.option(
    "--all", "everything", is_flag=True, help="Also what is fresh: fetch and compute it again from the beginning."
)
@click.option(
    "--retry", is_flag=True, help="Also what is left alone because it has failed, without waiting any longer."
)
def refresh_command(
    symbols: Sequence[str], groups: Sequence[str], timeframes: Sequence[str], *, everything: bool, retry: bool
) -> None:
    r"""Bring what is stale up to date now, here, without Dagster.

    \b
    ema-assets refresh
    ema-assets refresh --symbol AAPL --timeframe 1h --all

    A Dagster that runs on the same database takes note of it within two minutes. With --retry, one series is requested
    first from a provider that is left alone; if it has shut you out, it is better to wait.
    """
    from ema_assets.operations import refresh_performance
    from ema_assets.operations.end_pauses import end_pauses
    from ema_assets.operations.refresh_all import refresh_all
    from ema_assets.refresh import left_alone
    from ema_assets.refresh.clients import open_provider
    from ema_assets.refresh.graph import build
    from ema_assets.refresh.plan_requests import FetchRules

    watched = environment.load_watchlist(Settings.from_env())
    symbols = environment.chosen_symbols(watched, symbols, groups)
    chosen = [environment.timeframe_of(watched, text) for text in timeframes] or list(watched.with_bars)
    settings = environment.with_providers(Settings.from_env(), watched, symbols or watched.symbols)
    graph = build(watched, settings.signals_folder, settings.strategies_folder)
    failed, has_traded = set[tuple[str, str, str]](), False
    # Before the work: a pause that ends meanwhile has still kept its series from being tried.
    now = clock.now()
    width = max(18, *(len(each.name) for each in graph.on))
    steps = len(graph.on) * len(chosen) + len(graph.behind(chosen))
    with environment.open_database(settings) as database, rendering.progress("refreshing", steps) as advance:
        if retry:
            end_pauses(database, watched, settings.provider, symbols or watched.symbols, chosen, now)
        for asset, timeframe, outcome in refresh_all(
            database,
            watched,
            lambda name: open_provider(settings, name, database=database),
            FetchRules.of(settings, watched),
            symbols or list(watched.symbols),
            sorted(chosen),
            graph=graph,
            everything=everything,
        ):
            advance(f"{asset} {timeframe.key}")
            _print_outcome(f"{asset:{width}}", timeframe, outcome)
            failed |= {(asset, symbol, timeframe.key) for symbol in outcome.errors}
            has_traded |= asset in graph.strategies and outcome.rows > 0
        if has_traded:
            click.echo(f"{'performance':{width}} all  {counted(refresh_performance.refresh(database).rows, 'row')}")
        with database.transaction() as transaction:
            waiting = left_alone.series(transaction, now, settings.publications, timeframes=chosen)
    is_chosen = pl.col("symbol").is_in(list(symbols or watched.symbols))
    is_older = pl.Series(
        [key not in failed for key in waiting.select("asset", "symbol", "timeframe").rows()], dtype=pl.Boolean()
    )
    lines = left_alone.sentences(waiting.filter(is_chosen, is_older), now)
    if failed:
        for line in lines:
            click.echo(line, err=True)
        raise EmaAssetsError(f"{len(failed)} series failed; they are tried again after a pause")
    if lines:
        raise EmaAssetsError(f"{'; '.join(lines)}; `--retry` does not wait")
    click.echo("Up to date.")


def _print_outcome(asset: str, timeframe: Timeframe, outcome: Outcome) -> None:
    if outcome.done or outcome.errors:
        failed = f", {len(outcome.errors)} failed" if outcome.errors else ""
        written = counted(outcome.rows, "row")
        click.echo(f"{asset} {timeframe_key(timeframe):>3}  {len(outcome.done)} series, {written} written{failed}")
    for reason, symbols in _by_reason(outcome.errors).items():
        shown = first_of([str(Series(symbol, timeframe)) for symbol in symbols], _SHOWN_SERIES)
        click.echo(f"  {shown}: {reason}", err=True)


def _by_reason(errors: Mapping[str, str]) -> dict[str, list[str]]:
    """Return symbols grouped by error: when a provider is down, it is the same for all."""
    groups: dict[str, list[str]] = {}
    for symbol, reason in errors.items():
        groups.setdefault(reason, []).append(symbol)
    return groups
