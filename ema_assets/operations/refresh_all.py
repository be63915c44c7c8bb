"""The whole chain in one process, for the command line and for benchmarks; Dagster runs one asset at a time."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from ema_assets.config.watchlist import Watchlist
from ema_assets.model import clock as market_clock
from ema_assets.model.asset_names import OHLC
from ema_assets.model.timeframes import Timeframe
from ema_assets.operations.sync_watchlist import sync
from ema_assets.refresh.compute import refresh_computed, refresh_rolled_up
from ema_assets.refresh.fetch import OpenProvider, refresh_fetched
from ema_assets.refresh.graph import Graph, build
from ema_assets.refresh.outcome import Outcome
from ema_assets.refresh.plan_requests import FetchRules
from ema_assets.store.database import Database


def refresh_all(  # noqa: PLR0913 - one call of the whole chain, for those who have no Dagster
    database: Database,
    watched: Watchlist,
    open_provider: OpenProvider,
    rules: FetchRules,
    symbols: Sequence[str],
    timeframes: Sequence[Timeframe],
    *,
    graph: Graph | None = None,
    everything: bool = False,
    clock: Callable[[], datetime] = market_clock.now,
) -> Iterator[tuple[str, Timeframe, Outcome]]:
    """Bring `symbols` on `timeframes` up to date, asset by asset; yield each asset, timeframe and outcome when done.

    Without `graph`, it is built from `watched`. Assets that read a longer timeframe are computed once more when that
    one is done.
    """
    now = clock()
    graph = graph or build(watched)
    sync(database, watched, now, graph)
    for timeframe in timeframes:
        for node in graph.on:
            if node.name != OHLC:
                outcome = refresh_computed(
                    database, node, timeframe, symbols, now, everything=everything, alerts=graph.alerts
                )
            elif timeframe.is_fetched:
                outcome = refresh_fetched(
                    database, open_provider, timeframe, symbols, rules, now, everything=everything, clock=clock
                )
            else:
                outcome = refresh_rolled_up(database, timeframe, symbols, now, everything=everything)
            yield node.name, timeframe, outcome
    for node, timeframe in graph.behind(timeframes):
        yield node.name, timeframe, refresh_computed(database, node, timeframe, symbols, now, alerts=graph.alerts)
