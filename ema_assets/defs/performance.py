"""The asset `strategy_performance`, its job and its schedule; and the screener's place in the lineage."""

from collections.abc import Callable, Sequence

import polars as pl
from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    AssetSelection,
    AssetSpec,
    DagsterInstance,
    DefaultScheduleStatus,
    DefaultSensorStatus,
    MaterializeResult,
    RunRequest,
    RunsFilter,
    ScheduleDefinition,
    ScheduleEvaluationContext,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    asset,
    define_asset_job,
    schedule,
    sensor,
)

from ema_assets.defs.configuration import configuration_drift
from ema_assets.defs.jobs import PERFORMANCE_JOB
from ema_assets.defs.requests import IN_FLIGHT, LANE_TAG, PRIORITY_TAG, SLOW_LANE, UPKEEP_PRIORITY
from ema_assets.defs.resources import StoreResource
from ema_assets.defs.ui_tables import ui_table
from ema_assets.model.asset_names import EMA_SIGNALS, EMA_TREND, OHLC
from ema_assets.operations.refresh_performance import refresh, why_not, why_not_for_new_series
from ema_assets.refresh.graph import Graph
from ema_assets.store import results
from ema_assets.store.database import Transaction

# A new series is added up that soon after it was computed; looking costs two statements.
_LOOK_SECONDS = 10
# How many of the best and of the worst series the page of performance names.
_SHOWN = 5
PERFORMANCE = "strategy_performance"
SCREENER = "screener"


def performance_asset(graph: Graph) -> AssetsDefinition:
    """What each strategy did on each series, added up."""

    @asset(
        name=PERFORMANCE,
        deps=[AssetKey(name) for name in graph.strategies],
        group_name="strategies",
        kinds={"postgres"},
        code_version="1",
        metadata={"dagster/table_name": "results.performance"},
        description=(
            "How each strategy has done on each series: trades, win rate, profit factor, returns, drawdown, Sharpe, "
            "Sortino and Calmar ratios, streaks, beside buy and hold. A materialized view, refreshed when trades have "
            "changed but at most every five minutes, and soon after new series were computed. docs/STRATEGIES.md "
            "defines every figure."
        ),
    )
    def strategy_performance(context: AssetExecutionContext, store: StoreResource) -> MaterializeResult[None]:
        with store.open() as database:
            done = refresh(database)
            with database.transaction() as transaction:
                best, worst = results.best_and_worst(transaction, _SHOWN)
        context.log.info(f"{done.rows} series added up in {done.seconds:.1f} s")
        return MaterializeResult(
            metadata={
                "series": done.rows,
                "seconds": done.seconds,
                "best by total return": ui_table(_rounded(best)),
                "worst by total return": ui_table(_rounded(worst)),
            }
        )

    return strategy_performance


def _rounded(rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` with figures of four digits."""
    return rows.with_columns(pl.selectors.float().round_sig_figs(4))


def screener_spec(graph: Graph) -> AssetSpec:
    """The screener is a view: always as fresh as what it reads, and never run."""
    return AssetSpec(
        SCREENER,
        deps=[
            AssetKey(name)
            for name in (OHLC, EMA_SIGNALS, EMA_TREND, "rsi", "atr", *graph.strategies[:1])
            if graph.has(name)
        ],
        group_name="strategies",
        kinds={"postgres"},
        metadata={"dagster/table_name": "results.screener"},
        description=(
            "One row per symbol and timeframe: trend on each timeframe, alignment, bars since the cross, spread, RSI, "
            "open trade, and the next close that would flip the trend. A view, so there is nothing to run: "
            "`SELECT * FROM results.screener WHERE timeframe = '1h'`, or `ema-assets screen`."
        ),
    )


performance_job = define_asset_job(
    PERFORMANCE_JOB,
    selection=AssetSelection.assets(PERFORMANCE),
    tags={LANE_TAG: SLOW_LANE, PRIORITY_TAG: UPKEEP_PRIORITY},
    description="Adds up what the strategies did. Launched by its schedule, and by a sensor for new series.",
)


def performance_schedule(graph: Graph) -> ScheduleDefinition:
    """Every five minutes, between the bar closes."""

    @schedule(
        name=PERFORMANCE_JOB,
        job_name=PERFORMANCE_JOB,
        cron_schedule="2-59/5 * * * *",
        execution_timezone="UTC",
        default_status=DefaultScheduleStatus.RUNNING,
        description="Adds up what the strategies did when their trades have changed.",
    )
    def performance(context: ScheduleEvaluationContext, store: StoreResource) -> RunRequest | SkipReason:
        if (reason := _why_not(context.instance, store, graph, why_not)) is not None:
            return SkipReason(reason)
        return RunRequest(run_key=context.scheduled_execution_time.isoformat())

    return performance


def performance_sensor(graph: Graph) -> SensorDefinition:
    """For symbols and timeframes that were just switched on, which shall not wait for the schedule."""

    @sensor(
        name="performance_of_new_series",
        job_name=PERFORMANCE_JOB,
        minimum_interval_seconds=_LOOK_SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
        description="Adds up what the strategies did on series that `strategy_performance` does not have yet.",
    )
    def performance_of_new_series(context: SensorEvaluationContext, store: StoreResource) -> RunRequest | SkipReason:
        if (reason := _why_not(context.instance, store, graph, why_not_for_new_series)) is not None:
            return SkipReason(reason)
        return RunRequest()

    return performance_of_new_series


def _why_not(
    instance: DagsterInstance,
    store: StoreResource,
    graph: Graph,
    reason_not_to: Callable[[Transaction, Sequence[str]], str | None],
) -> str | None:
    """Why no run adds up now, by the configuration, by `reason_not_to` or by a run that is not over; None: launch."""
    if (reason := configuration_drift(graph)) is not None:
        return reason
    with store.open() as database, database.transaction() as transaction:
        reason = reason_not_to(transaction, graph.strategies)
    if reason is not None:
        return reason
    if instance.get_runs(RunsFilter(job_name=PERFORMANCE_JOB, statuses=IN_FLIGHT), limit=1):
        return "the last run is not over yet"
    return None
