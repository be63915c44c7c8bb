"""How an asset that is computed from another one is declared: same partitions, same policy, same few lines of work."""

from collections.abc import Sequence

from dagster import AssetExecutionContext, AssetKey, AssetsDefinition, BackfillPolicy, asset

from ema_assets.defs.assets.columns import column_schema
from ema_assets.defs.batch import refresh_partitions
from ema_assets.defs.partitions import SERIES
from ema_assets.defs.resources import MarketResource, StoreResource
from ema_assets.pipeline.computing import refresh_computed
from ema_assets.pipeline.outcome import Outcome
from ema_assets.pipeline.watch import CODE_VERSIONS
from ema_assets.timeframes import Timeframe


def computed_asset(name: str, *, reads: Sequence[str], group: str, description: str) -> AssetsDefinition:
    """The asset `name`, which reads the assets `reads` on the same partition and is shown in `group`."""

    @asset(
        name=name,
        deps=[AssetKey(source) for source in reads],
        partitions_def=SERIES,
        backfill_policy=BackfillPolicy.single_run(),
        group_name=group,
        kinds={"postgres", "polars"},
        code_version=CODE_VERSIONS[name],
        description=description,
        metadata={"dagster/column_schema": column_schema(name), "dagster/table_name": f"market.{name}"},
    )
    def computed(context: AssetExecutionContext, store: StoreResource, market: MarketResource) -> None:
        seed = market.ema_seed()
        with store.open() as database:

            def work(timeframe: Timeframe, symbols: Sequence[str], everything: bool) -> Outcome:
                return refresh_computed(
                    database, name, timeframe, symbols, market.now(), everything=everything, seed=seed
                )

            refresh_partitions(context, database, work)

    return computed
