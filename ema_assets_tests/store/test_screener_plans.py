"""Tests of the query plan of the screener when there are many series with a short history."""

import re
from contextlib import closing

import psycopg2
import pytest

from ema_assets.store import series_overview
from ema_assets.store.database import Database
from ema_assets_tests.conftest import mostly_broad
from ema_assets_tests.refresh.exchange import utc

SYMBOLS, BARS = 1000, 15
NEWEST = utc("2026-11-20 20:00")

# The columns and values that a series has at each bar, per table.
ROWS = {
    "ohlc": "open, high, low, close, volume) SELECT symbol, timeframe, ts, 10, 11, 9, 10.5, 100",
    "ema_signals": "ema_9, ema_30, bar_number) SELECT symbol, timeframe, ts, 10.2, 10.1, 60 - n",
    "ema_trend": "trend, spread_pct, bars_since_cross, bar_number) SELECT symbol, timeframe, ts, 'up', 2, 3, 60 - n",
}


@pytest.fixture
def short_histories(database: Database) -> Database:
    """SYMBOLS symbols on two timeframes with BARS bars each."""
    with database.transaction() as transaction:
        transaction.execute(
            f"INSERT INTO market.instrument (symbol, calendar) SELECT 'S' || n, '24/7' FROM generate_series(1, {SYMBOLS}) n"
        )
        transaction.execute(
            """
            CREATE TEMPORARY TABLE bars ON COMMIT DROP AS
            SELECT symbol, timeframe, $1::timestamptz - n * interval '1 hour' AS ts, n
            FROM market.instrument, unnest(ARRAY['5m', '1h']) timeframe, generate_series(0, $2::bigint - 1) n
            """,
            NEWEST,
            BARS,
        )
        for asset, values in ROWS.items():
            transaction.execute(
                f"INSERT INTO market.{asset} (symbol, timeframe, ts, {values} FROM bars ORDER BY 1, 2, 3"
            )
            transaction.execute(
                """
                INSERT INTO market.series_state (asset, symbol, timeframe, first_ts, last_ts, computed_at, revision)
                SELECT $1, symbol, timeframe, min(ts), max(ts), now(), 1 FROM bars GROUP BY 2, 3
                """,
                asset,
            )
    return database


@pytest.mark.parametrize("is_analyzed", mostly_broad([True, False]))
def test_the_screener_reads_only_the_newest_row_of_each_series(
    short_histories: Database, database_url: str, is_analyzed: bool
) -> None:
    with short_histories.transaction() as transaction:
        assert series_overview.screened(transaction).height == 2 * SYMBOLS
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        if is_analyzed:
            cursor.execute("ANALYZE")
        cursor.execute("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) SELECT * FROM results.screener")
        plan = [line for (line,) in cursor.fetchall() if "never executed" not in line]
    for asset in ROWS:
        scans = [line.strip() for line in plan if f" on {asset}_" in line]
        assert len(scans) == 2
        for scan in scans:
            assert re.search(rf"Index Scan.* \(actual rows=1(\.00)? loops={SYMBOLS}\)", scan), scan
