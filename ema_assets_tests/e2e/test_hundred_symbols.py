"""`ema-assets up` with a hundred symbols and a market that runs ten times as fast: a 5m bar closes every 30 s.

First it is killed without a chance to clean up, in the middle of its first load; then 5m bars close during backfills.
"""

import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime

import polars as pl
import pytest

from ema_assets.config import watchlist
from ema_assets.model.errors import StoreError
from ema_assets_tests.e2e.stack import ASSETS, Stack, wait_until
from ema_assets_tests.timeframes import ORDER

pytestmark = pytest.mark.e2e

SYMBOLS = 100


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    text = watchlist.default_text()
    for usual, short in (('# "5m" = 60', '"5m" = 4'), ('# "1d" = 730', '"1d" = 30')):
        assert text.count(usual) == 1
        text = text.replace(usual, short)
    # A Tuesday, with New York open for 65 minutes of ours.
    clock = f"2026-11-17T15:00Z x10 since {datetime.now(UTC).isoformat()}"
    running = Stack(tmp_path_factory.mktemp("hundred"), text, EMA_CLOCK=clock)
    running.start()
    try:
        yield running
    finally:
        running.stop()
    running.wait_until_nothing_is_left()


def test_up_killed_at_work_leaves_no_process_and_the_next_one_goes_on_with_its_data(stack: Stack) -> None:
    stored = wait_until(lambda: _bars(stack), 180, "the first bars", stack.evidence)
    assert stack.process is not None
    os.kill(stack.process.pid, signal.SIGKILL)
    stack.process.wait(timeout=10)
    stack.wait_until_nothing_is_left()
    assert stack.status()["running"] is False
    stack.start()
    assert stack.status()["pid"] == stack.process.pid
    assert _bars(stack) >= stored
    wait_until(
        lambda: stack.are_materialized(SYMBOLS * len(ORDER)),
        240,
        "every partition materialized",
        stack.evidence,
        poll=2,
    )


def test_commands_go_by_the_clock_of_the_up_that_runs(stack: Stack) -> None:
    without = {name: value for name, value in stack.env.items() if name != "EMA_CLOCK"}
    stack.env, whole = without, stack.env
    try:
        assert stack.status()["clock"].startswith("2026-11-17T15:00:00Z x10 since ")
    finally:
        stack.env = whole


def test_a_5m_bar_that_closes_during_backfills_of_a_hundred_symbols_is_not_kept_waiting(stack: Stack) -> None:
    """Three backfills of everything, a run at a time: several wait in the queue when a bar closes."""
    before = _newest(stack)
    for _ in range(3):
        _launch_backfill(stack)
    wait_until(lambda: _runs(stack, "backfill_id IS NOT NULL AND status = 'STARTED'").height, 120, "a backfill's run")

    def beside() -> bool:
        """A 5m run has succeeded that a run of the backfills did not keep from starting, nor older ones in the queue."""
        runs = _runs(stack, "backfill_id IS NOT NULL OR (live AND status = 'SUCCESS')")
        mine, others = (runs.filter(pl.col("backfill_id").is_null() == which) for which in (True, False))
        begins, ends = (others[name].fill_null(float("inf")) for name in ("start_time", "end_time"))
        for created, started, ended in mine.select("created", "start_time", "end_time").iter_rows():
            # From its creation on: most of a small run's life is the start of its process.
            at_work = ((begins < ended) & (ends > created)).any()
            if at_work and ((others["created"] < created) & (begins > started)).any():
                return True
        return False

    wait_until(beside, 240, "a 5m run beside the backfills", lambda: _runs(stack, "true").to_dicts(), poll=1)
    assert _newest(stack) > before


def _launch_backfill(stack: Stack) -> None:
    symbols = stack.sql("SELECT symbol FROM market.instrument WHERE is_active")["symbol"]
    launched = stack.graphql(
        """mutation($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) { __typename } }""",
        p={
            "assetSelection": [{"path": [asset]} for asset in ASSETS],
            "partitionNames": [f"{symbol}|{timeframe.key}" for symbol in symbols for timeframe in ORDER],
        },
    )
    assert launched["launchPartitionBackfill"]["__typename"] == "LaunchBackfillSuccess"


def _runs(stack: Stack, where: str) -> pl.DataFrame:
    """Runs, oldest first: when they were created, started and ended; `live` those for 5m bars that have closed."""
    return stack.sql(
        f"""
        WITH r AS (
            SELECT id, status, backfill_id, start_time, end_time,
                   extract(epoch FROM create_timestamp AT TIME ZONE 'UTC')::float8 AS created,
                   EXISTS (SELECT FROM dagster.run_tags t WHERE t.run_id = runs.run_id
                           AND t.key = 'ema_assets/lane' AND t.value = 'live') AS live
            FROM dagster.runs
        )
        SELECT * FROM r WHERE {where} ORDER BY id
        """
    )


def _newest(stack: Stack) -> datetime:
    return stack.sql("SELECT max(last_ts) AS ts FROM market.series_state WHERE asset = 'ohlc' AND timeframe = '5m'")[
        "ts"
    ].item()


def _bars(stack: Stack) -> int:
    try:
        return stack.sql("SELECT count(*) AS bars FROM market.ohlc")["bars"].item()
    except StoreError:
        return 0
