"""The asset `ohlc`: closed bars, fetched for 1m, 5m and 1d, rolled up from stored bars for the other timeframes."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from dagster import AssetExecutionContext, AssetsDefinition, BackfillPolicy, asset

from ema_assets.defs.assets.catalog import catalog_metadata, described
from ema_assets.defs.assets.sources import source_deps
from ema_assets.defs.assets.step import refresh_partitions
from ema_assets.defs.checks import log_for_failed_step
from ema_assets.defs.code_versions import PROVIDER_TAG, provider_differs
from ema_assets.defs.namespace import ALONE, Namespace
from ema_assets.defs.partitions import series_of
from ema_assets.defs.resources import MarketResource, StoreResource
from ema_assets.defs.run_tags import LANE_TAG, LIVE_LANE
from ema_assets.model.asset_names import OHLC
from ema_assets.model.errors import ConfigurationError
from ema_assets.model.timeframes import Timeframe
from ema_assets.providers.fetching.base import ProviderClient
from ema_assets.refresh.clients import SLOW_SHARE
from ema_assets.refresh.compute import refresh_rolled_up
from ema_assets.refresh.fetch import OpenProvider, refresh_fetched
from ema_assets.refresh.graph import BARS, Graph
from ema_assets.refresh.outcome import Outcome
from ema_assets.refresh.plan_requests import FetchRules
from ema_assets.refresh.waiting import wait_for_base, wait_for_publication


def ohlc_asset(graph: Graph, sources: Sequence[str], namespace: Namespace = ALONE) -> AssetsDefinition:
    """Return the asset with the bars of every timeframe of `graph`, which come from `sources`."""

    @asset(
        key=namespace.key(OHLC),
        deps=source_deps(sources, namespace),
        partitions_def=series_of(graph, namespace),
        backfill_policy=BackfillPolicy.single_run(),
        group_name="bars",
        **described(BARS, refresh_fetched),
        code_version=BARS.code_version,
        metadata=catalog_metadata(BARS, refresh_fetched, namespace),
        op_tags={PROVIDER_TAG: namespace.settings().provider},
    )
    @namespace.own_resources
    def ohlc(context: AssetExecutionContext, store: StoreResource, market: MarketResource) -> None:
        """Closed OHLC bars of every symbol and timeframe.

        Bars of 1m, 5m and 1d come from the provider, many symbols per call, from the last stored bar on. Other
        intraday bars are rolled up from stored ones, anchored to the session's open; weeks and months from days.
        Materializing a partition by hand asks for its whole history again and corrects what differs.
        """
        is_live = context.run.tags.get(LANE_TAG) == LIVE_LANE
        with store.open() as database:
            rules, open_provider = market.rules(), market.opener(database, 1.0 if is_live else SLOW_SHARE)
            if (differs := provider_differs(context, namespace.settings().provider)) is not None:
                rules, open_provider = _without_default(differs, rules, open_provider)

            def work(timeframe: Timeframe, symbols: Sequence[str], everything: bool) -> Outcome:
                if timeframe.is_fetched:
                    if not everything:
                        wait_for_publication(database, timeframe, symbols, market.now, rules.publications)
                    return refresh_fetched(
                        database,
                        open_provider,
                        timeframe,
                        symbols,
                        rules,
                        market.now(),
                        everything=everything,
                        # A live run fetches only the newest bars.
                        older=not is_live,
                        clock=market.now,
                    )
                if not everything:
                    wait_for_base(database, timeframe, symbols, market.now, rules.publications)
                return refresh_rolled_up(database, timeframe, symbols, market.now(), everything=everything)

            say_checks = partial(log_for_failed_step, context, graph, store, market, namespace)
            refresh_partitions(context, BARS, database, work, market.origin, say_checks)

    return ohlc


def _without_default(
    differs: ConfigurationError, rules: FetchRules, opener: OpenProvider
) -> tuple[FetchRules, OpenProvider]:
    """`rules` and `opener` by which the default provider is asked nothing; to open it raises `differs`."""

    def open_provider(name: str | None) -> ProviderClient:
        if name is None:
            raise differs
        return opener(name)

    described = dict(rules.describers)
    described.pop(None, None)
    return replace(rules, describers=described), open_provider
