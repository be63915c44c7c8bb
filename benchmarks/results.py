"""What reading the results costs: refresh `strategy_performance`, read the screener, over tables filled by SQL.

python -m benchmarks.results [--explain]
"""

import argparse
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psycopg2

from ema_assets.config.watchlist import Watchlist
from ema_assets.model.symbols import Instrument
from ema_assets.operations.refresh_performance import refresh
from ema_assets.operations.sync_watchlist import sync
from ema_assets.refresh.graph import build
from ema_assets.runtime.postgres.server import EmbeddedServer
from ema_assets.store.database import Database
from ema_assets.store.migrations import migrate
from ema_assets_tests.timeframes import FETCHED

BARS = 2_000
_FIRST = "timestamptz '2026-01-05 14:30+00'"
_SERIES = "market.instrument i CROSS JOIN unnest(ARRAY['5m', '15m', '30m', '1h', '4h', '1d']) AS f(timeframe)"
# A series has its first and its newest bar here: no other bars and signals are read.
_ENDS = f"FROM {_SERIES} CROSS JOIN (VALUES (1), ({BARS})) AS b(n)"
_TS = f"{_FIRST} + n * interval '5 minutes'"


@contextmanager
def filled(symbols: int, trades: int) -> Iterator[Database]:
    """A database with the first and newest bar of `symbols` x 6 series, and `trades` trades per strategy on each."""
    instruments = tuple(Instrument(f"S{number:05}", "XNYS") for number in range(symbols))
    watched = Watchlist(instruments, dict.fromkeys(FETCHED, 300))
    with tempfile.TemporaryDirectory() as folder, EmbeddedServer(Path(folder) / "postgres") as server:
        migrate(server.url)
        with Database(server.url) as database:
            sync(database, watched, datetime(2026, 11, 20, tzinfo=UTC))
            _fill(database, trades, build(watched).strategies)
            yield database


def _fill(database: Database, trades: int, strategies: list[str]) -> None:
    statements = [
        "SELECT setseed(0.5)",
        f"""INSERT INTO market.ohlc (symbol, timeframe, ts, open, high, low, close, volume)
            SELECT symbol, timeframe, {_TS}, 100, 140, 80, 90 + 40 * random(), 1 {_ENDS}""",
        f"""INSERT INTO market.ema_signals (symbol, timeframe, ts, ema_9, ema_30, bar_number)
            SELECT symbol, timeframe, {_TS}, 100 + random(), 100 + random(), n {_ENDS}""",
        """INSERT INTO market.ema_trend (symbol, timeframe, ts, trend, spread_pct, bars_since_cross, bar_number)
           SELECT symbol, timeframe, ts, CASE WHEN ema_9 > ema_30 THEN 'up' ELSE 'down' END,
                  (ema_9 / ema_30 - 1) * 100, 5, bar_number FROM market.ema_signals""",
        f"INSERT INTO market.rsi (symbol, timeframe, ts, rsi) SELECT symbol, timeframe, {_TS}, 50 {_ENDS}",
        f"INSERT INTO market.atr (symbol, timeframe, ts, atr_pct) SELECT symbol, timeframe, {_TS}, 1 {_ENDS}",
        f"""UPDATE market.series_state SET first_ts = {_FIRST} + interval '5 minutes',
                   last_ts = {_FIRST} + {BARS} * interval '5 minutes', computed_at = now(), dirty_from = NULL""",
    ]
    for name in strategies:
        step = BARS // max(trades, 1)
        statements.append(
            f"""INSERT INTO market.{name} (symbol, timeframe, entry_ts, side, entry_price, last_ts, last_price,
                    return_pct, net_return_pct, bars_held, status, bar_returns_sum, bar_returns_square_sum,
                    bar_returns_negative_square_sum, equity_peak, equity_peak_ts, equity_trough, equity_trough_ts,
                    drawdown, drawdown_peak_ts, drawdown_trough_ts)
                SELECT symbol, timeframe, {_FIRST} + n * {step} * interval '5 minutes', 'long', 100,
                    {_FIRST} + (n + 1) * {step} * interval '5 minutes', 100 + gain, gain, gain - 0.1, {step - 2},
                    CASE WHEN n = {trades} THEN 'open' ELSE 'closed' END, gain / 100, 0.001, 0.0005,
                    1.02, {_FIRST} + (n * {step} + 3) * interval '5 minutes',
                    0.97, {_FIRST} + (n * {step} + 7) * interval '5 minutes',
                    0.049, {_FIRST} + (n * {step} + 3) * interval '5 minutes',
                    {_FIRST} + (n * {step} + 7) * interval '5 minutes'
                FROM (SELECT i.symbol, f.timeframe, n, random() * 6 - 3 AS gain
                      FROM {_SERIES} CROSS JOIN generate_series(1, {trades}) AS n) t"""
        )
    with database.transaction() as transaction:
        for statement in statements:
            transaction.execute(statement)
    with database.transaction() as transaction:
        transaction.execute("ANALYZE")


def _explain(database: Database, sql: str) -> None:
    # `Database` wraps a statement into COPY, which cannot explain.
    with closing(psycopg2.connect(database.url)) as connection, connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS) {sql}")
        print("\n".join(line for (line,) in cursor.fetchall()))


def _screener(database: Database, explain: bool) -> None:
    for where in ("", " WHERE timeframe = '1h'"):
        sql = f"SELECT * FROM results.screener{where}"
        seconds = []
        for _ in range(3):
            began = time.perf_counter()
            with database.transaction() as transaction:
                rows = transaction.query(sql).height
            seconds.append(time.perf_counter() - began)
        print(f"screener{where}: {rows} rows in {min(seconds):.2f} s (first {seconds[0]:.2f} s)")
        if explain:
            _explain(database, sql)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--explain", action="store_true", help="print the plans")
    parser.add_argument("--symbols", type=int, nargs=2, default=(1_000, 10_000), help="of performance, of the screener")
    options = parser.parse_args()
    with filled(options.symbols[0], 100) as database:
        for _ in range(2):
            done = refresh(database)
            print(f"performance: {done.rows} series x 100 trades in {done.seconds:.2f} s")
        if options.explain:
            with database.transaction() as transaction:
                sql = transaction.query("SELECT pg_get_viewdef('market.strategy_performance'::regclass) AS sql").item()
            _explain(database, re.sub(r";\s*$", "", sql))
    with filled(options.symbols[1], 1) as database:
        _screener(database, options.explain)


if __name__ == "__main__":
    main()
