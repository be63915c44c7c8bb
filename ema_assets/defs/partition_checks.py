"""The check of each partition by itself: a series that fails is red where a person looks for it.

A run for stale series writes results only for partitions that have begun to fail, fail for another reason, or have
recovered: a result of every partition in every run would be as many events as materializations. In a run that a person
has launched, each of its partitions has a result.
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

from ema_assets.defs.backfills import run_partitions
from ema_assets.defs.namespace import ALONE, Namespace
from ema_assets.defs.partitions import series_of
from ema_assets.defs.recording import target_of
from ema_assets.defs.resources import MarketResource, StoreResource
from ema_assets.model.asset_names import OHLC
from ema_assets.refresh.graph import Graph
from ema_assets.refresh.plan import closed_bars
from ema_assets.reports import health
from ema_assets.store.database import Transaction
from ema_assets.store.partition_checks import Materialization, failed_partitions, newest_materializations
from ema_assets.store.retention import dagster_is_here

CHECK = "series_is_well"
# A provider that is down makes all series fail at once. The next runs report those beyond this number.
MOST_TOLD = 200


def partition_checks(graph: Graph, namespace: Namespace = ALONE) -> AssetChecksDefinition:
    """Return the check, which a person runs with partitions of `ohlc`.

    Runs for stale series report it through `changed`.
    """
    spec = AssetCheckSpec(
        CHECK,
        asset=namespace.key(OHLC),
        partitions_def=series_of(graph, namespace),
        description=(
            "Each series by itself: it fails when the last attempt of one of its assets failed, when its provider has "
            "no bar of it, and when it is behind its calendar. Written when that begins, changes or ends."
        ),
    )

    @multi_asset_check(name=namespace.name("partition_checks"), specs=[spec])
    @namespace.own_resources
    def checks(
        context: AssetCheckExecutionContext, store: StoreResource, market: MarketResource
    ) -> Iterator[AssetCheckEvaluation | Output[None]]:
        with store.open() as database, database.transaction() as transaction:
            late = health.late_series(transaction, closed_bars(transaction, market.now(), market.publications()))
            problems = health.series_problems(health.failing(transaction), late)
            if context.op_execution_context.has_partitions:
                partitions = run_partitions(context.op_execution_context)
                targets = newest_materializations(transaction, OHLC, partitions) if dagster_is_here(transaction) else {}
                results = _evaluations(namespace.key(OHLC), {each: problems.get(each) for each in partitions}, targets)
            else:
                # "Execute all" for the checks of an asset names no partition.
                results = changed(transaction, namespace.key(OHLC), problems)
        yield from results
        output = context.get_step_execution_context().job_def.asset_layer.get_op_output_name(spec.key)
        yield Output(None, output_name=output or "result")

    return checks


def changed(transaction: Transaction, asset: AssetKey, problems: Mapping[str, str]) -> list[AssetCheckEvaluation]:
    """Return results of the partitions whose `problems` differ from what Dagster was told last: at most MOST_TOLD."""
    if not dagster_is_here(transaction):
        return []  # What Dagster was told is in a storage that is not ours.
    told = failed_partitions(transaction, asset.path, CHECK)
    ended = [partition for partition in told if partition not in problems]
    targets = newest_materializations(transaction, OHLC, [*ended, *problems]) if ended or problems else {}
    results = {**dict.fromkeys(ended), **_begun(told, problems, targets)}
    return _evaluations(asset, results, targets)[:MOST_TOLD]


def begun(transaction: Transaction, asset: AssetKey, problems: Mapping[str, str]) -> list[AssetCheckEvaluation]:
    """Return results of the partitions whose `problems` Dagster was not told of: at most MOST_TOLD."""
    if not dagster_is_here(transaction):
        return _evaluations(asset, problems, {})[:MOST_TOLD]
    targets = newest_materializations(transaction, OHLC, list(problems))
    told = failed_partitions(transaction, asset.path, CHECK)
    return _evaluations(asset, _begun(told, problems, targets), targets)[:MOST_TOLD]


def _begun(
    told: Mapping[str, tuple[str | None, int | None]],
    problems: Mapping[str, str],
    targets: Mapping[str, Materialization],
) -> dict[str, str]:
    """Return the `problems` that are new, or that Dagster forgot when the partition was materialized again."""
    return {
        partition: reason
        for partition, reason in problems.items()
        if told.get(partition) != (reason, targets[partition][0] if partition in targets else None)
    }


def _evaluations(
    asset: AssetKey, results: Mapping[str, str | None], targets: Mapping[str, Materialization]
) -> list[AssetCheckEvaluation]:
    """Return a result of each partition: its problem, or None when it is well."""
    return [
        AssetCheckEvaluation(
            asset_key=asset,
            check_name=CHECK,
            passed=problem is None,
            description=problem or "The last attempt succeeded, and its bars are there.",
            partition=partition,
            # Dagster shows a result until its partition is materialized again, and no result of an older
            # materialization.
            target_materialization_data=target_of(targets.get(partition)),
        )
        for partition, problem in results.items()
    ]
