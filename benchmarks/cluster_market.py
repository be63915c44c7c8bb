"""A virtual market on several hosts: asked by SQL and GraphQL, and compared at the end. What is tried is elsewhere."""

import sys
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from benchmarks.chaos.comparison import Comparison, compare_all, load, new_database
from benchmarks.chaos.world import ASSETS, ENDED, RUNS, graphql
from ema_assets.config import watchlist
from ema_assets.config.settings import Settings
from ema_assets.model import clock
from ema_assets.model.asset_names import OHLC
from ema_assets.reports import status
from ema_assets.runtime.postgres.server import EmbeddedServer
from ema_assets.sandbox.server import RunningSandbox
from ema_assets.store.database import Database
from ema_assets_tests.timeframes import M5, ORDER


@dataclass(slots=True)
class Market:
    """What is running, and what has happened so far. `ui` is the address of the webserver."""

    server: EmbeddedServer
    url: str
    sandbox: RunningSandbox
    ui: str
    symbols: tuple[str, ...]
    assets: tuple[str, ...] = ASSETS
    loading_at: datetime = field(default_factory=clock.now)
    started: float = field(default_factory=time.monotonic)
    events: list[str] = field(default_factory=list)
    backfill: str | None = None

    def say(self, line: str) -> None:
        """Print an event on stderr, and keep it for the report."""
        stamp = f"{time.monotonic() - self.started:7.1f} s  {clock.now():%a %H:%M}  {line}"
        self.events.append(stamp)
        print(stamp, file=sys.stderr, flush=True)

    def sql(self, statement: str, *parameters: Any) -> pl.DataFrame:
        with Database(self.url) as database, database.transaction() as transaction:
            return transaction.query(statement, *parameters)

    def graphql(self, query: str, **variables: Any) -> Any:
        return graphql(self.ui, query, variables)

    def runs(self) -> pl.DataFrame:
        """All runs: run_id, status, name, kind, created, started, ended (seconds since 1970)."""
        return self.sql(RUNS)

    def unfinished(self) -> int:
        return self.runs().filter(~pl.col("status").is_in(ENDED)).height

    def stale(self, now: datetime) -> int:
        """How many series of all assets are stale, failing, or never computed."""
        with Database(self.url) as database, database.transaction() as transaction:
            rows = status.by_asset(transaction, now)
        full = len(self.assets) * len(ORDER)
        return sum(row.stale + row.failing + row.missing for row in rows) + (full - len(rows))

    def launch_backfill(self) -> None:
        """Select every partition of all assets in the UI, and launch."""
        keys = [f"{symbol}|{timeframe.key}" for symbol in self.symbols for timeframe in ORDER]
        launched = self.graphql(
            """mutation($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) {
                 __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }""",
            p={"assetSelection": [{"path": [asset]} for asset in self.assets], "partitionNames": keys},
        )["launchPartitionBackfill"]
        self.backfill = launched["backfillId"]
        self.say(f"backfill of {len(keys)} partitions of {len(self.assets)} assets launched")

    def backfill_status(self) -> str:
        found = self.graphql(
            "query($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }",
            id=self.backfill,
        )
        return str(found["partitionBackfillOrError"]["status"])


def compare(market: Market, settings: Settings) -> dict[str, Any]:
    """Load everything anew into an empty database, and compare all tables of all series."""
    asked = market.sql(
        "SELECT max(checked_through) AS now FROM market.series_state WHERE asset = $1 AND timeframe = $2",
        OHLC,
        M5.key,
    )
    now = asked.item() + timedelta(seconds=1)
    left = market.stale(now)
    watched = watchlist.load(settings.watchlist_path)
    url = new_database(market.server, "again")
    found = Comparison()
    with Database(url) as database:
        # How far back long history reaches follows from the day on which it was loaded.
        for moment in (market.loading_at, now):
            found.failed_again += load(database, settings, watched, moment)
    compare_all(found, market.url, url, market.symbols, market.assets)
    return {
        "rows_compared": found.rows,
        "different": found.different,
        "stale": left,
        "failed_again": found.failed_again,
    }
