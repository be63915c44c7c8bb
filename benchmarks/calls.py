"""Calls to a provider on one day: `python -m benchmarks.calls [--symbols 20] [--json]`.

The real client of each vendor asks the sandbox on a real socket, into a real PostgreSQL. The clock is virtual: history
is loaded the evening before, then a sweep looks every minute of a trading day and of the night after it, as the sweep
and the schedules do together. Counted is what the clients send, retries included; what becomes of symbols, which is
asked once a night for all of them together, is left out. The market has no holes and no corrections.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from benchmarks.tick import _new_database
from ema_assets.config.watchlist import Watchlist
from ema_assets.model.asset_names import OHLC
from ema_assets.model.symbols import ALWAYS_OPEN, DEFAULT_CALENDAR, Instrument
from ema_assets.operations.sync_watchlist import sync
from ema_assets.providers.fetching.base import ProviderClient
from ema_assets.providers.registry import PROVIDERS
from ema_assets.refresh.fetch import OpenProvider, refresh_fetched
from ema_assets.refresh.plan import stale_for_sweep
from ema_assets.refresh.plan_requests import FetchRules
from ema_assets.runtime.postgres.server import EmbeddedServer
from ema_assets.sandbox.server import running_sandbox
from ema_assets.store.database import Database
from ema_assets_tests.providers import conftest as vendors
from ema_assets_tests.timeframes import FETCHED

# The evening before a Wednesday without a holiday, and the morning after it.
_LOADED, _BEGIN, _END = (
    datetime(2026, 7, 14, 23, 0, tzinfo=UTC),
    datetime(2026, 7, 15, 8, 0, tzinfo=UTC),
    datetime(2026, 7, 16, 8, 0, tzinfo=UTC),
)
MINUTE = timedelta(minutes=1)
_DAYS = dict(zip(FETCHED, (3, 60), strict=True))
_CLIENTS: dict[str, tuple[Callable[..., ProviderClient], str]] = {
    "alpaca": (vendors.alpaca, DEFAULT_CALENDAR),
    "yahoo": (vendors.yahoo, DEFAULT_CALENDAR),
    "binance": (vendors.binance, ALWAYS_OPEN),
    "coinbase": (vendors.coinbase, ALWAYS_OPEN),
}


@dataclass(frozen=True)
class Day:
    """What one provider was asked on one day."""

    provider: str
    symbols: int
    calls_to_load: int
    calls: int
    calls_per_symbol: float
    most_in_a_minute: int
    limit_per_minute: int
    runs: int


def _opened(client: Callable[..., ProviderClient], url: str, now: datetime) -> OpenProvider:
    """How a refresh at `now` opens its provider."""
    return lambda _: client(url, clock=lambda: now)


def measure(name: str, symbols: int, server: EmbeddedServer) -> Day:
    """Count the calls of one provider for `symbols` symbols."""
    client, calendar = _CLIENTS[name]
    suffix = "-USD" if calendar == ALWAYS_OPEN else ""
    instruments = tuple(Instrument(f"C{n:02}{suffix}", calendar) for n in range(symbols))
    watched = Watchlist(instruments, _DAYS)
    rules = FetchRules(_DAYS, {None: PROVIDERS[name].publication})
    calls: list[int] = []
    moments = [_LOADED, *(_BEGIN + timedelta(minutes=minute) for minute in range((_END - _BEGIN) // MINUTE))]
    market_time = _LOADED
    with (
        running_sandbox(instruments, 7, clock=lambda: market_time) as sandbox,
        Database(_new_database(server, name)) as database,
    ):
        sync(database, watched, _LOADED)
        for market_time in moments:
            with database.transaction() as transaction:
                stale = stale_for_sweep(transaction, market_time, timedelta(0), rules.publications)
            due = stale.filter((pl.col("asset") == OHLC) & (pl.col("reason") != "not recorded"))["timeframe"].unique()
            outcomes = [
                refresh_fetched(
                    database,
                    _opened(client, sandbox.base_url, market_time),
                    timeframe,
                    watched.symbols,
                    rules,
                    market_time,
                )
                for timeframe in FETCHED
                if timeframe.key in due
            ]
            if outcomes:
                calls.append(sum(outcome.calls for outcome in outcomes))
    to_load, *later = calls
    total = sum(later)
    return Day(
        name,
        symbols,
        to_load,
        total,
        round(total / symbols, 1),
        max(later),
        PROVIDERS[name].config().requests_per_minute,
        len(later),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--symbols", type=int, default=20)
    parser.add_argument("--provider", choices=list(_CLIENTS), action="append")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ema-calls-") as folder, EmbeddedServer(Path(folder) / "server") as server:
        days = [measure(name, given.symbols, server) for name in given.provider or _CLIENTS]
    if given.json:
        print(json.dumps([asdict(day) for day in days], indent=2))
        return
    print("provider    symbols  to load  calls a day  per symbol  most in a minute (allowed)  runs")
    for day in days:
        print(
            f"{day.provider:10}  {day.symbols:7}  {day.calls_to_load:7}  {day.calls:11}  {day.calls_per_symbol:10}  "
            f"{day.most_in_a_minute:16} {f'({day.limit_per_minute})':9}  {day.runs:4}"
        )


if __name__ == "__main__":
    main()
