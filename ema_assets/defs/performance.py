"""The asset `strategy_performance`, its job and its schedule; and the screener's place in the lineage."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

import polars as pl
from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetMaterialization,
    AssetsDefinition,
    AssetSelection,
    AssetSpec,
    DagsterInstance,
    DefaultScheduleStatus,
    DefaultSensorStatus,
    FreshnessPolicy,
    MaterializeResult,
    RunRequest,
    RunsFilter,
    ScheduleDefinition,
    ScheduleEvaluationContext,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    TableColumn,
    TableSchema,
    asset,
    define_asset_job,
    in_process_executor,
    schedule,
    sensor,
)
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from ema_assets.defs.assets.catalog import OWNER
from ema_assets.defs.configuration import configuration_drift
from ema_assets.defs.jobs import PERFORMANCE_JOB
from ema_assets.defs.namespace import ALONE, Namespace
from ema_assets.defs.one_sentence import in_one_sentence
from ema_assets.defs.requests import IN_FLIGHT, QUIET_CONFIG
from ema_assets.defs.resources import StoreResource
from ema_assets.defs.run_tags import BACKGROUND_LANE, LANE_TAG, PRIORITY_TAG, UPKEEP_PRIORITY
from ema_assets.defs.ui_tables import ui_table
from ema_assets.model.asset_names import EMA_SIGNALS, EMA_TREND, OHLC, PERFORMANCE, ROWS_TAG
from ema_assets.model.averages import FAST_SPAN, SLOW_SPAN, ema_name, spans_of, spans_text
from ema_assets.model.counts import counted
from ema_assets.model.timeframes import Timeframe
from ema_assets.operations.refresh_performance import refresh, why_not, why_not_for_new_series
from ema_assets.refresh.graph import Graph
from ema_assets.reports.screen import screener_columns
from ema_assets.store import results, series_overview
from ema_assets.store.database import Transaction

# Performance is computed when trades have changed, and at least twice a day, on Sundays and holidays, too. So a
# materialization that is older than a day at 06:00 UTC has been neglected.
_EACH_DAY = FreshnessPolicy.cron("0 6 * * *", lower_bound_delta=timedelta(days=1), timezone="UTC")

_CROSSES = 10
# New series are added up this soon after they were computed; looking costs two statements.
_LOOK_SECONDS = 10
# How many of the best and of the worst series the page of performance names.
_SHOWN = 5
# Four digits would turn a price of 28,797.67 into 28,800.
_PRICE_DIGITS = 6
SCREENER = "screener"
_SCREENER_IS = (
    "One row per symbol and timeframe: trend on each timeframe, alignment, bars since the cross, spread, RSI, open "
    "trade, and the next close that would flip the trend. A view, so there is nothing to run: `SELECT * FROM "
    "results.screener WHERE timeframe = '1h'`, or `ema-assets screen`."
)


def performance_asset(graph: Graph, namespace: Namespace = ALONE) -> AssetsDefinition:
    """Return the asset with the performance of each strategy on each series."""

    @asset(
        key=namespace.key(PERFORMANCE),
        deps=[namespace.key(name) for name in graph.strategies],
        group_name="strategies",
        owners=[OWNER],
        kinds={"postgres"},
        tags={ROWS_TAG: "series"},
        code_version="1",
        metadata={"dagster/table_name": "results.performance"},
        freshness_policy=_EACH_DAY,
        description=(
            "How each strategy has done on each series: trades, win rate, profit factor, returns, drawdown, Sharpe, "
            "Sortino and Calmar ratios, streaks, compared with buy and hold. A materialized view, refreshed when "
            "trades have changed but at most every five minutes, and soon after new series were computed. "
            "docs/STRATEGIES.md defines every figure."
        ),
    )
    @namespace.own_resources
    def strategy_performance(context: AssetExecutionContext, store: StoreResource) -> MaterializeResult[None]:
        with store.open() as database:
            done = refresh(database)
            with database.transaction() as transaction:
                best, worst = results.best_and_worst(transaction, _SHOWN)
                timeframe = _usual(graph)
                crosses = {
                    averages: series_overview.nearest_crosses(transaction, timeframe, _CROSSES, spans)
                    for averages, spans in _compared(graph).items()
                    if series_overview.has_screener(transaction, spans)
                }
        context.log_event(_screened(namespace.key(SCREENER), timeframe, crosses))
        context.log.info(f"{counted(done.rows, 'row')}, one per strategy and series, in {done.seconds:.1f} s")
        return MaterializeResult(
            metadata={
                "dagster/row_count": done.rows,
                "seconds": done.seconds,
                "best by total return": ui_table(_rounded(best)),
                "worst by total return": ui_table(_rounded(worst)),
            }
        )

    return strategy_performance


def _usual(graph: Graph) -> Timeframe:
    """Return the timeframe whose crosses the screener's page names: 1h, as in `ema-assets screen`, or the shortest."""
    return next((each for each in graph.timeframes if each.key == "1h"), graph.timeframes[0])


def _compared(graph: Graph) -> dict[str, tuple[int, int]]:
    """Return the spans of every pair of EMAs that has a screener, by its name such as `12/26`; 9/30 first."""
    named = dict.fromkeys((spans_text((FAST_SPAN, SLOW_SPAN)), *graph.averages))
    return {averages: spans for averages in named if (spans := spans_of(averages)) is not None}


def _screened(screener: AssetKey, timeframe: Timeframe, crosses: Mapping[str, pl.DataFrame]) -> AssetMaterialization:
    """Return what the page of the screener shows: which symbols are about to cross, per pair of averages."""
    return AssetMaterialization(
        screener,
        description=f"The nearest crosses on {timeframe.key} at this moment; a view itself is always up to date.",
        metadata={
            f"nearest crosses of EMA {averages} on {timeframe.key}": ui_table(
                _rounded(rows.with_columns(pl.col("cross_distance_pct").round(2)), _PRICE_DIGITS)
            )
            for averages, rows in crosses.items()
        },
    )


def _rounded(rows: pl.DataFrame, digits: int = 4) -> pl.DataFrame:
    """Return `rows` with floats rounded to `digits` significant digits."""
    return rows.with_columns(pl.selectors.float().round_sig_figs(digits))


def screener_spec(graph: Graph, namespace: Namespace = ALONE) -> AssetSpec:
    """Return the screener, a view: always as fresh as what it reads, and never run.

    Other averages have such views, too.
    """
    _, *more = _compared(graph).items()
    more_views = "".join(
        f" `{results.screener_view(spans)}` is the same of EMA {spans[0]} and {spans[1]}." for _, spans in more
    )
    others, trends = dict(more), [graph.averages[averages] for averages, _ in more]
    return AssetSpec(
        namespace.key(SCREENER),
        deps=[
            namespace.key(name)
            for name in (OHLC, EMA_SIGNALS, EMA_TREND, "rsi", "atr", *trends, *graph.strategies[:1])
            if graph.has(name)
        ],
        group_name="strategies",
        owners=[OWNER],
        kinds={"postgres"},
        tags={ROWS_TAG: "series"},
        freshness_policy=_EACH_DAY,
        metadata={
            "dagster/table_name": "results.screener",
            "dagster/column_schema": TableSchema(
                [TableColumn(*column) for column in screener_columns(graph.timeframes)]
            ),
            **({"other averages": ui_table(_views(others))} if others else {}),
        },
        description=_SCREENER_IS + more_views,
    )


def _views(others: Mapping[str, tuple[int, int]]) -> pl.DataFrame:
    """Return the views of averages other than EMA 9 and 30, and what differs in them."""
    return pl.DataFrame(
        {
            "averages": list(others),
            "view": [results.screener_view(spans) for spans in others.values()],
            "columns": [f"as here, with {ema_name(fast)} and {ema_name(slow)}" for fast, slow in others.values()],
            "command": [f"ema-assets screen --averages {averages}" for averages in others],
        }
    )


def performance_job(namespace: Namespace = ALONE) -> UnresolvedAssetJobDefinition:
    """Return the job of `strategy_performance` alone."""
    return define_asset_job(
        namespace.name(PERFORMANCE_JOB),
        selection=AssetSelection.assets(namespace.key(PERFORMANCE)),
        tags={LANE_TAG: BACKGROUND_LANE, PRIORITY_TAG: UPKEEP_PRIORITY},
        description="Adds up what the strategies did. Launched by its schedule, and by a sensor for new series.",
        executor_def=in_process_executor,
    )


def performance_schedule(graph: Graph, namespace: Namespace = ALONE) -> ScheduleDefinition:
    """Return the schedule: every five minutes, between the bar closes."""

    @schedule(
        name=namespace.name(PERFORMANCE_JOB),
        job_name=namespace.name(PERFORMANCE_JOB),
        cron_schedule="2-59/5 * * * *",
        execution_timezone="UTC",
        default_status=DefaultScheduleStatus.RUNNING,
        description="Adds up what the strategies did when their trades have changed, and twice a day in any case.",
    )
    @namespace.own_resources
    @in_one_sentence()
    def performance(context: ScheduleEvaluationContext, store: StoreResource) -> RunRequest | SkipReason:
        if (reason := _why_not(context.instance, store, graph, namespace, why_not)) is not None:
            return SkipReason(reason)
        return RunRequest(run_key=context.scheduled_execution_time.isoformat(), run_config=QUIET_CONFIG)

    return performance


def performance_sensor(graph: Graph, namespace: Namespace = ALONE) -> SensorDefinition:
    """Return the sensor for symbols and timeframes that were just switched on and should not wait for the schedule."""

    @sensor(
        name=namespace.name("performance_of_new_series"),
        job_name=namespace.name(PERFORMANCE_JOB),
        minimum_interval_seconds=_LOOK_SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
        description="Adds up what the strategies did on series that strategy_performance does not have yet.",
    )
    @namespace.own_resources
    @in_one_sentence()
    def performance_of_new_series(context: SensorEvaluationContext, store: StoreResource) -> RunRequest | SkipReason:
        if (reason := _why_not(context.instance, store, graph, namespace, why_not_for_new_series)) is not None:
            return SkipReason(reason)
        return RunRequest(run_config=QUIET_CONFIG)

    return performance_of_new_series


def _why_not(
    instance: DagsterInstance,
    store: StoreResource,
    graph: Graph,
    namespace: Namespace,
    reason_not_to: Callable[[Transaction, Sequence[str]], str | None],
) -> str | None:
    """Return why no run adds up now: the configuration, `reason_not_to`, or an unfinished run. None: launch one."""
    if (reason := configuration_drift(graph, namespace)) is not None:
        return reason
    with store.open() as database, database.transaction() as transaction:
        reason = reason_not_to(transaction, graph.strategies)
    if reason is not None:
        return reason
    if instance.get_runs(RunsFilter(job_name=namespace.name(PERFORMANCE_JOB), statuses=IN_FLIGHT), limit=1):
        return "the last run is not over yet"
    return None
