"""The computed assets: one for every signal and strategy of the graph, made from its declaration."""

from collections.abc import Sequence
from functools import partial

from dagster import (
    AssetDep,
    AssetExecutionContext,
    AssetsDefinition,
    BackfillPolicy,
    DimensionPartitionMapping,
    IdentityPartitionMapping,
    MultiPartitionMapping,
    StaticPartitionMapping,
    asset,
)

from ema_assets.defs.assets.catalog import catalog_metadata, described
from ema_assets.defs.assets.step import refresh_partitions
from ema_assets.defs.checks import log_for_failed_step
from ema_assets.defs.code_versions import CODE_VERSION_TAG, code_differs
from ema_assets.defs.namespace import ALONE, Namespace
from ema_assets.defs.partitions import series_of
from ema_assets.defs.resources import MarketResource, StoreResource
from ema_assets.model.asset_names import CHAIN
from ema_assets.model.timeframes import Timeframe
from ema_assets.refresh.compute import refresh_computed, refused
from ema_assets.refresh.graph import Graph, Node
from ema_assets.refresh.outcome import Outcome
from ema_assets.refresh.own_code import function_of


def computed_assets(graph: Graph, namespace: Namespace = ALONE) -> list[AssetsDefinition]:
    """Return an asset for every node of `graph` that is computed and switched on."""
    return [_computed_asset(node, graph, namespace) for node in graph.computed]


def _deps(node: Node, graph: Graph, namespace: Namespace) -> list[AssetDep]:
    """Return the dependencies of `node`. It reads its own symbol, on its own timeframe and perhaps on a longer one."""
    deps = []
    for source in node.reads:
        read_by: dict[str, list[str]] = {}
        for _, timeframe, reads, source_timeframe, _ in node.inputs(graph.timeframes):
            if reads == source:
                read_by.setdefault(source_timeframe.key, []).append(timeframe.key)
        if all(timeframes == [own] for own, timeframes in read_by.items()):
            deps.append(AssetDep(namespace.key(source)))
            continue
        mapping = MultiPartitionMapping(
            {
                "symbol": DimensionPartitionMapping("symbol", IdentityPartitionMapping()),
                "timeframe": DimensionPartitionMapping("timeframe", StaticPartitionMapping(read_by)),
            }
        )
        deps.append(AssetDep(namespace.key(source), partition_mapping=mapping))
    return deps


def _computed_asset(node: Node, graph: Graph, namespace: Namespace) -> AssetsDefinition:
    function = function_of(node)
    assert function is not None

    @asset(
        key=namespace.key(node.name),
        deps=_deps(node, graph, namespace),
        partitions_def=series_of(graph, namespace),
        backfill_policy=BackfillPolicy.single_run(),
        group_name=node.group,
        **described(node, function),
        code_version=node.code_version,
        description=node.description,
        metadata=catalog_metadata(node, function, namespace),
        # Within a run, the chain to the trades goes first because traders wait for it.
        op_tags={"dagster/priority": "1" if node.name in CHAIN else "0", CODE_VERSION_TAG: node.code_version},
    )
    @namespace.own_resources
    def computed(context: AssetExecutionContext, store: StoreResource, market: MarketResource) -> None:
        with store.open() as database:
            differs = code_differs(context, node, database)

            def work(timeframe: Timeframe, symbols: Sequence[str], everything: bool) -> Outcome:
                now, run_id = market.now(), context.run.run_id
                if differs is not None:
                    return refused(database, node.name, timeframe, symbols, now, error=differs, everything=everything)
                return refresh_computed(
                    database,
                    node,
                    timeframe,
                    symbols,
                    now,
                    everything=everything,
                    alerts=graph.alerts,
                    run_id=run_id,
                )

            say_checks = partial(log_for_failed_step, context, graph, store, market, namespace)
            refresh_partitions(context, node, database, work, market.origin, say_checks)

    return computed
