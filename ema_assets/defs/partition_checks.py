"""The check of each partition by itself: a series that fails is red where a person looks for it.

A run for stale series writes a result of those partitions only that have begun to fail, fail for another reason, or are
well again: a result of every partition in every run would be as many events as materializations. In a run that a person
asked for, each of its partitions has a result.
"""

from collections.abc import Iterator, Mapping

from dagster import (
    AssetCheckEvaluation,
    AssetCheckExecutionContext,
    AssetChecksDefinition,
    AssetCheckSpec,
    AssetKey,
    Output,
    multi_asset_check,
)

from ema_assets.defs.partitions import series_of
from ema_assets.defs.resources import MarketResource, StoreResource
from ema_assets.model.asset_names import OHLC
from ema_assets.refresh.graph import Graph
from ema_assets.refresh.plan import closed_bars
from ema_assets.reports import health
from ema_assets.store.database import Transaction
from ema_assets.store.partition_checks import failed_partitions

CHECK = "series_is_well"
# A provider that is down makes all series fail at once. Those beyond are told by the next runs.
MOST_TOLD = 200


def partition_checks(graph: Graph) -> AssetChecksDefinition:
    """The check, which a person runs with the partitions of `ohlc`; runs for stale series tell of it by `changed`."""
    spec = AssetCheckSpec(
        CHECK,
        asset=AssetKey(OHLC),
        partitions_def=series_of(graph),
        description=(
            "Each series by itself: it fails when the last attempt of one of its assets failed, when its provider has "
            "no bar of it, and when it is behind its calendar. Written when that begins, changes or ends."
        ),
    )

    @multi_asset_check(name="partition_checks", specs=[spec])
    def checks(
        context: AssetCheckExecutionContext, store: StoreResource, market: MarketResource
    ) -> Iterator[AssetCheckEvaluation | Output[None]]:
        with store.open() as database, database.transaction() as transaction:
            late = health.late_series(transaction, closed_bars(transaction, market.now(), market.publications()))
            problems = health.series_problems(health.failing(transaction), late)
        output = context.get_step_execution_context().job_def.asset_layer.get_op_output_name(spec.key)
        for partition in context.op_execution_context.partition_keys:
            yield _evaluation(str(partition), problems.get(str(partition)))
        yield Output(None, output_name=output or "result")

    return checks


def changed(transaction: Transaction, problems: Mapping[str, str]) -> list[AssetCheckEvaluation]:
    """Results of the partitions whose `problems` are not what Dagster was told last: at most MOST_TOLD."""
    told = failed_partitions(transaction, OHLC, CHECK)
    ended = [_evaluation(partition, None) for partition in told if partition not in problems]
    return [*ended, *_begun(told, problems)][:MOST_TOLD]


def begun(transaction: Transaction, problems: Mapping[str, str]) -> list[AssetCheckEvaluation]:
    """Results of the partitions whose `problems` Dagster was not told of: at most MOST_TOLD."""
    return _begun(failed_partitions(transaction, OHLC, CHECK), problems)[:MOST_TOLD]


def _begun(told: Mapping[str, str | None], problems: Mapping[str, str]) -> list[AssetCheckEvaluation]:
    return [_evaluation(partition, reason) for partition, reason in problems.items() if told.get(partition) != reason]


def _evaluation(partition: str, problem: str | None) -> AssetCheckEvaluation:
    return AssetCheckEvaluation(
        asset_key=AssetKey(OHLC),
        check_name=CHECK,
        passed=problem is None,
        description=problem or "The last attempt succeeded, and its bars are there.",
        partition=partition,
    )
