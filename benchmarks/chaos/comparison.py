"""Everything loaded anew from the exchange, without Dagster and without faults, beside what `up` has stored.

While the market goes on, `up` has rows that are newer than those computed again: up to the newest of each series the
rows must be equal, column by column. The last trade computed again may be open, and closed by now: it must have been
entered at the same bar.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import polars as pl
import psycopg2

from benchmarks.chaos.world import ASSETS, GRAPH, World
from ema_assets.config.settings import Settings
from ema_assets.config.watchlist import Watchlist
from ema_assets.model.asset_names import OHLC
from ema_assets.model.timeframes import Timeframe
from ema_assets.operations.refresh_all import refresh_all
from ema_assets.refresh.clients import open_provider
from ema_assets.refresh.plan_requests import FetchRules
from ema_assets.runtime.postgres.server import EmbeddedServer
from ema_assets.store.database import Database
from ema_assets.store.migrations import migrate
from ema_assets_tests.timeframes import ORDER

_NOT_COMPARED = {OHLC: {"stored_at"}}


@dataclass(slots=True)
class Comparison:
    """How many rows were compared, which series differ and how, and how many could not be loaded again."""

    rows: int = 0
    different: list[str] = field(default_factory=list)
    failed_again: int = 0


def compare(world: World, now: datetime, name: str, *, is_going_on: bool) -> Comparison:
    """Load all series as they are at `now` into a new database `name`, and compare every table of each."""
    settings = Settings.from_env(world.up.env)
    url = new_database(world.again, name)
    found = Comparison()
    with Database(url) as database:
        # How far back long history reaches follows from the day on which it was loaded.
        for moment in (world.loading_at, now):
            found.failed_again += load(database, settings, world.watched, moment)
    compare_all(found, world.url, url, world.symbols, ASSETS, is_going_on=is_going_on)
    drop_database(world.again, name)
    return found


def compare_all(
    found: Comparison,
    lived_url: str,
    again_url: str,
    symbols: Sequence[str],
    assets: Sequence[str],
    *,
    is_going_on: bool = False,
) -> None:
    """Compare every table of `assets` in two databases, and note in `found` what differs."""
    with Database(again_url) as database, Database(lived_url) as lived:
        for asset in assets:
            for timeframe in ORDER:
                mine, again = (_rows(each, asset, timeframe) for each in (lived, database))
                found.rows += again.height
                order = GRAPH.nodes[asset].table.time
                for symbol in symbols:
                    one, other = (frame.filter(pl.col("symbol") == symbol) for frame in (mine, again))
                    if is_going_on:
                        one, other = _so_far(one, other, order)
                    if not one.equals(other):
                        found.different.append(f"{asset} {symbol}|{timeframe.key}: {_first_difference(one, other)}")


def new_database(server: EmbeddedServer, name: str) -> str:
    """A new database with our tables on `server`; its URL."""
    _execute(server, f"CREATE DATABASE {name}")
    url = server.url.replace("/ema?", f"/{name}?")
    migrate(url)
    return url


def drop_database(server: EmbeddedServer, name: str) -> None:
    _execute(server, f"DROP DATABASE {name} WITH (FORCE)")


def _execute(server: EmbeddedServer, statement: str) -> None:
    connection = psycopg2.connect(server.url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(statement)
    connection.close()


def load(database: Database, settings: Settings, watched: Watchlist, now: datetime) -> int:
    """Bring a database up to date at `now` without Dagster; how many series failed."""
    outcomes = refresh_all(
        database,
        watched,
        lambda name: open_provider(settings, name),
        FetchRules.of(settings, watched),
        watched.symbols,
        list(ORDER),
        clock=lambda: now,
    )
    return sum(len(outcome.errors) for _, _, outcome in outcomes)


def _so_far(mine: pl.DataFrame, again: pl.DataFrame, order: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Both up to the newest row computed again; of a trade that was open there only when it was entered."""
    if again.is_empty():
        return again, again
    mine = mine.filter(pl.col(order) <= again[order].max())
    if "status" not in again.columns:
        return mine, again
    moving = [name for name in again.columns if name not in ("symbol", order)]
    opened = again.filter(pl.col("status") == "open")[order].implode()
    is_open = pl.col(order).is_in(opened)
    blank = [pl.when(~is_open).then(pl.col(name)).alias(name) for name in moving]
    return mine.with_columns(blank), again.with_columns(blank)


def _rows(database: Database, asset: str, timeframe: Timeframe) -> pl.DataFrame:
    order = GRAPH.nodes[asset].table.time
    with database.transaction() as transaction:
        found = transaction.query(f"SELECT * FROM market.{asset}_{timeframe.key} ORDER BY symbol, {order}")
        names = transaction.query("SELECT id AS source_id, name AS source FROM market.source")
    if "source_id" in found.columns:
        # Each database numbers the sources as they come.
        found = found.join(names, on="source_id", how="left", maintain_order="left").drop("source_id")
    return found.drop(_NOT_COMPARED.get(asset, set()))


def _first_difference(mine: pl.DataFrame, again: pl.DataFrame) -> str:
    pairs = zip(_named(mine), _named(again), strict=False)
    for number, (one, other) in enumerate(pairs):
        if one != other:
            apart = {name: (one[name], other.get(name)) for name in one if one[name] != other.get(name)}
            return f"row {number} of {mine.height} and {again.height}, {list(one.values())[:3]}: {apart}"
    return f"{mine.height} and {again.height} rows"


def _named(frame: pl.DataFrame) -> Sequence[dict[str, Any]]:
    return frame.to_dicts()
