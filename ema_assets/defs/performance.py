"""The asset `strategy_performance`, its job and its schedule; and the screener's place in the lineage."""

import polars as pl
from dagster import (
    AssetExecutionContext,
    AssetsDefinition,
    AssetSelection,
    AssetSpec,
    DefaultScheduleStatus,
    MaterializeResult,
    RunRequest,
    RunsFilter,
    ScheduleDefinition,
    ScheduleEvaluationContext,
    SkipReason,
    asset,
    define_asset_job,
    in_process_executor,
    schedule,
)
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from ema_assets.defs.configuration import configuration_drift
from ema_assets.defs.jobs import PERFORMANCE_JOB
from ema_assets.defs.namespace import ALONE, Namespace
from ema_assets.defs.requests import IN_FLIGHT, LANE_TAG, PRIORITY_TAG, SLOW_LANE, UPKEEP_PRIORITY
from ema_assets.defs.resources import StoreResource
from ema_assets.defs.ui_tables import ui_table
from ema_assets.model.asset_names import EMA_SIGNALS, EMA_TREND, OHLC
from ema_assets.operations.refresh_performance import refresh, why_not
from ema_assets.refresh.graph import Graph
from ema_assets.store import results

# How many of the best and of the worst series the page of performance names.
_SHOWN = 5
PERFORMANCE = "strategy_performance"
SCREENER = "screener"


def performance_asset(graph: Graph, namespace: Namespace = ALONE) -> AssetsDefinition:
    """What each strategy did on each series, added up."""

    @asset(
        key=namespace.key(PERFORMANCE),
        deps=[namespace.key(name) for name in graph.strategies],
        group_name="strategies",
        kinds={"postgres"},
        code_version="1",
        metadata={"dagster/table_name": "results.performance"},
        description=(
            "How each strategy has done on each series: trades, win rate, profit factor, returns, drawdown, Sharpe, "
            "Sortino and Calmar ratios, streaks, beside buy and hold. A materialized view, refreshed when trades have "
            "changed but at most every five minutes. docs/STRATEGIES.md defines every figure."
        ),
    )
    @namespace.own_resources
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


def screener_spec(graph: Graph, namespace: Namespace = ALONE) -> AssetSpec:
    """The screener is a view: always as fresh as what it reads, and never run."""
    return AssetSpec(
        namespace.key(SCREENER),
        deps=[
            namespace.key(name)
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


def performance_job(namespace: Namespace = ALONE) -> UnresolvedAssetJobDefinition:
    """The job of that asset alone."""
    return define_asset_job(
        namespace.name(PERFORMANCE_JOB),
        selection=AssetSelection.assets(namespace.key(PERFORMANCE)),
        tags={LANE_TAG: SLOW_LANE, PRIORITY_TAG: UPKEEP_PRIORITY},
        description="Adds up what the strategies did. Launched by its schedule.",
        executor_def=in_process_executor,
    )


def performance_schedule(graph: Graph, namespace: Namespace = ALONE) -> ScheduleDefinition:
    """Every five minutes, between the bar closes."""

    @schedule(
        name=namespace.name(PERFORMANCE_JOB),
        job_name=namespace.name(PERFORMANCE_JOB),
        cron_schedule="2-59/5 * * * *",
        execution_timezone="UTC",
        default_status=DefaultScheduleStatus.RUNNING,
        description="Adds up what the strategies did when their trades have changed.",
    )
    @namespace.own_resources
    def performance(context: ScheduleEvaluationContext, store: StoreResource) -> RunRequest | SkipReason:
        if (reason := configuration_drift(graph, namespace)) is not None:
            return SkipReason(reason)
        with store.open() as database, database.transaction() as transaction:
            reason = why_not(transaction, graph.strategies)
        if reason is not None:
            return SkipReason(reason)
        if context.instance.get_runs(RunsFilter(job_name=namespace.name(PERFORMANCE_JOB), statuses=IN_FLIGHT), limit=1):
            return SkipReason("the last run is not over yet")
        return RunRequest(run_key=context.scheduled_execution_time.isoformat())

    return performance
