"""Tests of `ema-assets up` with a hundred symbols and a clock ten times as fast: a 5m bar closes every 30 s.

The tests run in this order: `up` is killed during its first load, 5m bars close during backfills, and each part of
the stack is killed. Alerts go to a webhook all the time.
"""

import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import polars as pl
import pytest

from ema_assets.config import watchlist
from ema_assets.model import clock
from ema_assets.model.errors import StoreError
from ema_assets.runtime.postgres.server import EmbeddedServer
from ema_assets.store.database import Database
from ema_assets_tests.alerts.webhook import Webhook, webhook
from ema_assets_tests.e2e.stack import ASSETS, Stack, wait_until
from ema_assets_tests.timeframes import ORDER

pytestmark = [pytest.mark.e2e, pytest.mark.broad]

SYMBOLS = 100


# Every next 5m bar is near enough to a crossover, so each series has one alert per leg of its trend.
ALERTS = """
[[alert]]
name = "near"
on = ["about_to_cross", "crossover"]
symbols = ["BTC-USD", "ETH-USD"]
timeframes = ["5m"]
cross_within_pct = 50
cross_after_bars = 0
to = ["${HOOK}"]
"""


@pytest.fixture(scope="module")
def hook() -> Iterator[Webhook]:
    with webhook() as served:
        yield served


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, hook: Webhook) -> Iterator[Stack]:
    text = watchlist.default_text()
    for usual, short in (('# "5m" = 60', '"5m" = 4'), ('# "1d" = 730', '"1d" = 30')):
        assert text.count(usual) == 1
        text = text.replace(usual, short)
    # A Tuesday at 10:00 in New York. At ten times the speed, the exchange is open for another 36 minutes.
    spec = f"2026-11-17T15:00Z x10 since {datetime.now(UTC).isoformat()}"
    running = Stack(tmp_path_factory.mktemp("hundred"), text + ALERTS, EMA_CLOCK=spec, HOOK=hook.url)
    running.start()
    try:
        yield running
    finally:
        running.stop()
    running.wait_until_nothing_is_left()


def _leave_ticks_ahead(stack: Stack) -> None:
    """Change what Dagster knows of its schedules and sensors to what a clock that is two hours ahead leaves."""
    with Database(stack.url) as database, database.transaction() as transaction:
        transaction.execute(
            """
            INSERT INTO dagster.job_ticks (job_origin_id, selector_id, status, type, timestamp, tick_body)
            SELECT job_origin_id, selector_id, status, type, timestamp + interval '2 hours', tick_body
            FROM dagster.job_ticks
            """
        )
        transaction.execute(
            r"""
            UPDATE dagster.instigators SET instigator_body = regexp_replace(
                instigator_body, '(_timestamp": )[0-9.]+', '\1' || (extract(epoch FROM now()) + 7200), 'g'
            )
            """
        )


def test_an_up_that_is_killed_leaves_no_process_and_the_next_one_continues_with_its_data(stack: Stack) -> None:
    """The next one also goes on when the clock was two hours ahead, and was set back meanwhile."""
    stored = wait_until(lambda: _bars(stack), 180, "the first bars", stack.evidence)
    assert stack.process is not None
    _leave_ticks_ahead(stack)
    os.kill(stack.process.pid, signal.SIGKILL)
    stack.process.wait(timeout=10)
    stack.wait_until_nothing_is_left()
    assert stack.status()["running"] is False
    stack.start()
    assert stack.first_status["pid"] == stack.process.pid
    assert "The clock was set back since Dagster ran last" in stack.output()
    assert _bars(stack) >= stored
    wait_until(
        lambda: stack.are_materialized(SYMBOLS * len(ORDER)),
        240,
        "every partition materialized",
        stack.evidence,
        poll=2,
    )


def test_commands_use_the_clock_of_the_running_up(stack: Stack) -> None:
    without = {name: value for name, value in stack.env.items() if name != "EMA_CLOCK"}
    stack.env, whole = without, stack.env
    try:
        assert stack.status()["clock"].startswith("2026-11-17T15:00:00Z x10 since ")
    finally:
        stack.env = whole


def test_a_5m_run_does_not_wait_for_backfills_of_a_hundred_symbols(stack: Stack) -> None:
    """Backfills of everything are requested until a bar closes. One of their runs is active and others are queued."""
    before = _newest(stack)

    def beside() -> bool:
        """Return whether a 5m run succeeded beside an active run of the backfills, and before an older queued one."""
        # Backfills that end are followed by others: on an idle machine, three end before the next bar closes.
        is_open = "backfill_id IS NOT NULL AND status NOT IN ('SUCCESS', 'FAILURE', 'CANCELED')"
        for _ in range(_runs(stack, is_open).height, 3):
            _launch_backfill(stack)
        runs = _runs(stack, "backfill_id IS NOT NULL OR (live AND status = 'SUCCESS')")
        mine, others = (runs.filter(pl.col("backfill_id").is_null() == which) for which in (True, False))
        begins, ends = (others[name].fill_null(float("inf")) for name in ("start_time", "end_time"))
        for created, started, ended in mine.select("created", "start_time", "end_time").iter_rows():
            # The time since its creation counts, because most of it is the start of the process of the run.
            at_work = ((begins < ended) & (ends > created)).any()
            if at_work and ((others["created"] < created) & (begins > started)).any():
                return True
        return False

    wait_until(beside, 240, "a 5m run beside the backfills", lambda: _runs(stack, "true").to_dicts(), poll=1)
    assert _newest(stack) > before


def test_killed_parts_of_a_running_up_are_restarted_at_the_same_addresses(stack: Stack) -> None:
    """The parts are PostgreSQL, the sandbox, the webserver, and the code server, which Dagster never restarts."""
    before = stack.status()
    server = int((stack.home / "postgres" / "data" / "postmaster.pid").read_text().split()[0])
    (sandbox,) = stack.pids("ema_assets sandbox")
    for name, pid in (("PostgreSQL", server), ("the sandbox exchange", sandbox)):
        os.kill(pid, signal.SIGKILL)
        line = f"  {name} runs again\n"
        wait_until(partial(_has_said, stack, line), 120, f"{name} again", stack.evidence)
    (code_server,) = stack.pids("dagster api grpc")
    os.kill(code_server, signal.SIGKILL)
    wait_until(
        lambda: "  Dagster has loaded its assets again\n" in stack.output(),
        180,
        "the code server again",
        stack.evidence,
    )
    (webserver,) = stack.pids("ema_assets.defs.webserver")
    os.kill(webserver, signal.SIGKILL)
    line = "  Dagster's webserver runs again\n"
    wait_until(partial(_has_said, stack, line), 180, "the webserver again", stack.evidence)
    after = stack.status()
    assert {name: after[name] for name in ("pid", "ui", "database_url", "sandbox_url")} == {
        name: before[name] for name in ("pid", "ui", "database_url", "sandbox_url")
    }


def test_alerts_of_new_bars_are_sent_once_and_bars_of_the_history_raise_none(stack: Stack, hook: Webhook) -> None:
    """This holds after restarts of `up`, of PostgreSQL and of Dagster, and after backfills."""
    before = _newest(stack)

    def sent() -> list[dict[str, Any]]:
        return stack.sql(
            """SELECT a.symbol, a.ts
               FROM market.alert a JOIN market.alert_delivery d ON d.alert_id = a.id WHERE d.state = 'sent'"""
        ).to_dicts()

    wait_until(lambda: _newest(stack) > before, 120, "the next 5m bar", stack.evidence, poll=1)
    wait_until(
        lambda: {row["symbol"] for row in sent()} >= {"BTC-USD", "ETH-USD"},
        300,
        "both pairs are told of",
        stack.evidence,
        poll=1,
    )
    loaded = stack.sql(
        """SELECT symbol, loaded_at FROM market.series_state
           WHERE asset = 'ema_trend' AND timeframe = '5m' AND loaded_at IS NOT NULL"""
    )
    first = {symbol: clock.at(at, stack.env) for symbol, at in loaded.iter_rows()}
    for row in sent():
        # The bar closed after the history was loaded. The tolerance is for a run that was active at that time.
        assert row["ts"] + timedelta(minutes=5) > first[row["symbol"]] - timedelta(minutes=10), row
    told = [line for line in hook.lines if not line.startswith("…")]
    assert len(told) == len(set(told)), told
    assert len(told) >= 2
    assert all(title.startswith("[SYNTHETIC prices] ") for title in hook.titles), hook.titles
    assert stack.status()["alerts"] == []


def test_a_stopped_up_leaves_the_database_running_for_another_command(stack: Stack) -> None:
    server = EmbeddedServer(stack.home / "postgres")
    assert server.attach()
    try:
        assert stack.stop() == 0
        assert "PostgreSQL keeps running for another command that uses it" in stack.output()
        assert stack.sql("SELECT count(*) AS bars FROM market.ohlc")["bars"].item() > 0
    finally:
        server.stop()
    stack.wait_until_nothing_is_left()
    assert stack.status()["ui"] is None


def _has_said(stack: Stack, line: str) -> bool:
    return line in stack.output()


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
    """Return runs, oldest first, with their times. Runs for 5m bars that have closed are `live`."""
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
