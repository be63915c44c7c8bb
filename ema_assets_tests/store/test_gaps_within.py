"""Tests of the search for known gaps within windows of time: its result, and the number of rows that it reads."""

import json
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from ema_assets.store import quality
from ema_assets.store.database import Database, Transaction
from ema_assets_tests.refresh.exchange import utc
from ema_assets_tests.timeframes import M5

SYMBOLS = [f"S{number:02}" for number in range(20)]
FIRST, APART, LONG = utc("2026-01-01 00:00"), timedelta(minutes=30), timedelta(minutes=10)
GAPS = 3_000
END = FIRST + GAPS * APART


def with_gaps(database: Database) -> None:
    """Store a gap of three bars every half hour for each symbol, all settled."""
    with database.transaction() as transaction:
        transaction.execute(
            """
            INSERT INTO market.bar_gap (symbol, timeframe, first_ts, last_ts, bars, status, found_at)
            SELECT s, '5m', $2 + k * interval '30 minutes', $2 + k * interval '30 minutes' + interval '10 minutes', 3,
                   'did not trade', $2
            FROM unnest($1::text[]) AS s, generate_series(0, $3::bigint - 1) AS k
            """,
            SYMBOLS,
            FIRST,
            GAPS,
        )
        transaction.execute("ANALYZE market.bar_gap")


def windows(start: datetime, end: datetime) -> pl.DataFrame:
    return pl.DataFrame({"symbol": SYMBOLS, "start": start, "end": end})


class Explained:
    """A transaction that explains each query and counts the rows of bar_gap that it reads."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self.rows = 0.0

    def query(self, sql: str, *parameters: Any) -> pl.DataFrame:
        found = self._transaction.query(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", *parameters)
        self._count(json.loads(found.item())[0]["Plan"])
        return found

    def _count(self, node: dict[str, Any]) -> None:
        if node.get("Relation Name") == "bar_gap":
            read = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            self.rows += read * node["Actual Loops"]
        for child in node.get("Plans", []):
            self._count(child)


def test_only_the_gaps_around_a_window_are_read(database: Database) -> None:
    with_gaps(database)
    for start in (END - 2 * APART, FIRST, FIRST + GAPS // 2 * APART):
        with database.transaction() as transaction:
            explained = Explained(transaction)
            quality.gaps_within(explained, M5, windows(start, start + 2 * APART))  # type: ignore[arg-type]
        assert 2 * len(SYMBOLS) <= explained.rows <= 5 * len(SYMBOLS)


def test_a_gap_touches_a_window_up_to_its_last_bar_and_the_end_of_a_window_is_excluded(database: Database) -> None:
    with_gaps(database)
    middle = FIRST + 100 * APART
    step = timedelta(minutes=5)
    cases = [
        (middle + LONG, middle + APART, [middle]),
        (middle + LONG + step, middle + APART, []),
        (middle + step, middle + APART + step, [middle, middle + APART]),
        (FIRST - APART, FIRST + step, [FIRST]),
        (FIRST - APART, FIRST, []),
        (END, END + APART, []),
    ]
    with database.transaction() as transaction:
        for start, end, expected in cases:
            found = quality.gaps_within(transaction, M5, windows(start, end))
            assert found.select("symbol", "first_ts").rows() == [(each, ts) for each in SYMBOLS for ts in expected]
