"""One schedule per timeframe, at its bar closes."""

from datetime import datetime

from dagster import (
    DefaultScheduleStatus,
    RunRequest,
    ScheduleDefinition,
    ScheduleEvaluationContext,
    SkipReason,
    schedule,
)

from ema_assets.defs.configuration import configuration_drift
from ema_assets.defs.jobs import REFRESH_JOB
from ema_assets.defs.namespace import ALONE, Namespace
from ema_assets.defs.one_sentence import in_one_sentence
from ema_assets.defs.requests import run_request, runs_for
from ema_assets.defs.resources import MarketResource, StoreResource
from ema_assets.model import clock
from ema_assets.model.timeframes import Timeframe
from ema_assets.refresh import left_alone
from ema_assets.refresh.graph import Graph
from ema_assets.refresh.plan import SCHEDULE_REACH, next_closes, sentences, stale_on_close
from ema_assets.store import ledger
from ema_assets.store.migrations import check_not_newer


def _schedule(timeframe: Timeframe, graph: Graph, namespace: Namespace) -> ScheduleDefinition:
    @schedule(
        name=namespace.name(f"refresh_{timeframe.key}"),
        job_name=namespace.name(REFRESH_JOB),
        cron_schedule=timeframe.cron,
        execution_timezone="UTC",
        default_status=DefaultScheduleStatus.RUNNING,
        description=_description(timeframe),
    )
    @namespace.own_resources
    @in_one_sentence()
    def refresh(
        context: ScheduleEvaluationContext, store: StoreResource, market: MarketResource
    ) -> list[RunRequest] | SkipReason:
        if (reason := configuration_drift(graph, namespace)) is not None:
            return SkipReason(reason)
        now = max(clock.at(context.scheduled_execution_time), market.now())
        with store.open() as database, database.transaction() as transaction:
            check_not_newer(transaction)
            publications = market.publications()
            stale = stale_on_close(transaction, timeframe, now, publications)
            alone = left_alone.series(transaction, now, publications, ahead=SCHEDULE_REACH, timeframes=[timeframe])
            waiting = left_alone.sentences(alone, now)
            name, machine_now = f"refresh_{timeframe.key}", market.machine_now()
            runs = runs_for(context.instance, transaction, stale, machine_now, name, namespace=namespace)
            if runs:
                context.log.info("\n".join([*sentences(stale, runs), *waiting]))
                return [run_request(run, context.scheduled_execution_time) for run in runs]
            coming = next_closes(transaction, timeframe, now)
            is_empty = coming.is_empty() and not ledger.symbols_active(transaction)
        if not stale.is_empty():
            covered = f"{stale.height} stale {timeframe.key} series are covered by a queued or running run"
            return SkipReason("; ".join([covered, *waiting]))
        if waiting:
            return SkipReason(f"nothing is launched: {'; '.join(waiting)}")
        return SkipReason(_silence(timeframe, coming.rows(), now, is_empty=is_empty))

    return refresh


def _description(timeframe: Timeframe) -> str:
    said = f"Brings every stale {timeframe.key} series up to date when its bar has closed."
    every = timeframe.look_minutes
    if every == timeframe.minutes:
        return said
    return (
        f"{said} It looks every {every} minutes, because exchanges open on different quarter hours and close early "
        f"before holidays: a {timeframe.key} bar of New York closes when none of London or crypto does. Where no bar "
        "has closed, nothing is launched, and the tick says when the next one closes."
    )


def _silence(
    timeframe: Timeframe, coming: list[tuple[str, datetime, datetime]], now: datetime, *, is_empty: bool
) -> str:
    """Return why nothing runs: when the next bar closes, and which exchanges are closed until then.

    `is_empty` is true without a symbol on the watchlist.
    """
    if is_empty:
        return "nothing is on the watchlist yet"
    if not coming:
        return f"nothing is stale: {timeframe.key} bars come from files only, and those are taken up by the sweep"
    parts = []
    for calendar, opens, closes in coming:
        shut = f"{calendar} closed until {opens:%Y-%m-%d %H:%M} UTC, " if opens > now else f"{calendar} "
        parts.append(f"{shut}next {timeframe.key} bar closes {closes:%Y-%m-%d %H:%M} UTC")
    return "nothing is stale: " + "; ".join(parts)


def schedules(graph: Graph, namespace: Namespace = ALONE) -> list[ScheduleDefinition]:
    """Return one schedule per timeframe, for a process that was loaded with the assets of `graph`."""
    return [_schedule(timeframe, graph, namespace) for timeframe in graph.with_bars]
