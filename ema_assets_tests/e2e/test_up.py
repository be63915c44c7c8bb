"""Tests of the whole product on a database of the user: one real `up`, with a real webserver and daemon."""

import json
import os
import re
import signal
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest

from benchmarks.chaos import world as chaos
from benchmarks.chaos.faults import kill_standby
from benchmarks.chaos.run import after
from ema_assets.config import watchlist
from ema_assets.config.watchlist import Watchlist
from ema_assets.defs.jobs import REFRESH_JOB
from ema_assets.refresh.graph import build
from ema_assets.runtime.postgres.server import EmbeddedServer
from ema_assets.store.database import Database
from ema_assets_tests.browsers import chromium
from ema_assets_tests.e2e.stack import ASSETS, CANARIES, PATIENCE, WATCHLIST, Stack, processes_mentioning, wait_until

pytestmark = pytest.mark.e2e

SYMBOLS = ["AAPL", "MSFT", "NVDA", "JPM", "XOM", "BTC-USD", "ETH-USD"]
TIMEFRAMES = ["5m", "15m", "30m", "1h", "4h", "1d"]
# None of its bars closes while these tests run, so the request of a person stays its latest materialization. A day of
# a pair ends at midnight, UTC.
QUIET = "MSFT|1d" if datetime.now(UTC).hour in (23, 0) else "BTC-USD|1d"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, own_url: str) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("up")
    running = Stack(folder, WATCHLIST, board=True, EMA_DATABASE_URL=own_url, EMA_PROVIDER="sandbox", **CANARIES)
    running.start()
    try:
        running.wait_complete(len(SYMBOLS) * len(TIMEFRAMES))
        yield running
    finally:
        assert running.stop() == 0
    running.wait_until_nothing_is_left()
    assert str(urlsplit(own_url).password) not in running.evidence()


def test_every_partition_is_materialized_in_few_runs(stack: Stack) -> None:
    for asset in ASSETS:
        assert stack.materialized(asset) == {f"{symbol}|{frame}" for symbol in SYMBOLS for frame in TIMEFRAMES}
    # A sensor may just have requested the next refresh of the performance.
    runs = wait_until(stack.finished_runs, 60, "every run has ended", stack.evidence)
    assert {run["status"] for run in runs} == {"SUCCESS"}, f"{stack.unsuccessful()}\n{stack.evidence()}"
    assert len(runs) < 30


def test_a_materialization_has_its_versions_and_the_metadata_of_its_bars(stack: Stack) -> None:
    found = stack.graphql(
        """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
             assetMaterializations(limit: 1000) { partition tags { key value } metadataEntries { label } } } } }""",
        key={"path": ["ohlc"]},
    )["assetNodeOrError"]["assetMaterializations"]
    assert {each["partition"] for each in found} == {f"{symbol}|{frame}" for symbol in SYMBOLS for frame in TIMEFRAMES}
    for each in found:
        tags = {tag["key"]: tag["value"] for tag in each["tags"]}
        assert int(tags["dagster/data_version"]) >= 1, each
        assert tags["dagster/code_version"], each
        labels = {entry["label"] for entry in each["metadataEntries"]}
        assert {"rows_written", "first_ts", "last_ts", "last_close", "provider", "prices"} <= labels, each


def test_status_shows_the_addresses_and_the_freshness_of_every_asset(stack: Stack) -> None:
    status = stack.status()
    assert status["ui"] == f"http://127.0.0.1:{stack.port}"
    assert status["provider"] == "sandbox"
    assert status["synthetic"] is True
    everything = [node.name for node in build(Watchlist((), {})).on]
    assert [(row["asset"], row["timeframe"]) for row in status["assets"]] == [
        (asset, frame) for asset in everything for frame in TIMEFRAMES
    ]
    for row in status["assets"]:
        assert row["series"] == len(SYMBOLS)
        assert row["missing"] == row["failing"] == 0
        assert row["newest_ts"]


def test_the_board_shows_computed_trends_and_links_to_dagster(stack: Stack) -> None:
    assert stack.status()["board"] == stack.board
    assert f"Board        {stack.board}" in stack.output()
    with urllib.request.urlopen(f"{stack.board}/api/heatmap") as answer:
        found = json.load(answer)
    assert [row["symbol"] for row in found["rows"]] == SYMBOLS
    assert all(cell["trend"] for row in found["rows"] for cell in row["cells"])
    with urllib.request.urlopen(f"{stack.board}/api/trust") as answer:
        assert json.load(answer)["reads_as_role"]
    with urllib.request.urlopen(f"{stack.board}/why?symbol=AAPL&timeframe=5m") as answer:
        page = answer.read().decode()
    assert f"http://127.0.0.1:{stack.port}/assets/ohlc?view=partitions&amp;partition=AAPL%7C5m" in page


def test_up_starts_no_postgresql_when_the_user_has_a_database(stack: Stack) -> None:
    assert stack.status()["database_url"].startswith("postgresql://ema:***@127.0.0.1:")
    assert not [line for line in processes_mentioning(str(stack.home)) if "postgres" in line.split()[0]]
    assert not (stack.home / "postgres").exists()


def test_a_second_up_on_the_same_home_is_refused(stack: Stack) -> None:
    second = stack.cli("up", "--port", str(stack.port + 1), check=False)
    assert second.returncode == 1
    assert "already runs" in second.stderr
    assert f"http://127.0.0.1:{stack.port}" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_backfill_of_scattered_partitions_recomputes_exactly_these_in_one_run(stack: Stack) -> None:
    selected = ["AAPL|5m", "MSFT|5m", "JPM|5m", "ETH-USD|1h", QUIET]
    launched = stack.graphql(
        """mutation($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) {
             __typename ... on LaunchBackfillSuccess { backfillId } } }""",
        p={"assetSelection": [{"path": [asset]} for asset in ASSETS], "partitionNames": selected},
    )["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess"

    def finished() -> dict[str, object] | None:
        found = stack.graphql(
            """query($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill {
                 status runs(limit: 100) { runId status tags { key value } } } } }""",
            id=launched["backfillId"],
        )["partitionBackfillOrError"]
        return found if found["status"] not in ("REQUESTED", "CANCELING") else None

    backfill = wait_until(finished, 180, "the backfill ends", poll=2)
    assert backfill["status"] == "COMPLETED_SUCCESS"
    (tags,) = [{tag["key"]: tag["value"] for tag in run["tags"]} for run in backfill["runs"]]
    corners = (tags["dagster/asset_partition_range_start"], tags["dagster/asset_partition_range_end"])
    assert corners == ("AAPL|5m", "ETH-USD|1d")
    assert tags["for"] == "backfill, 5 series"
    logged = stack.materializations_of([run["runId"] for run in backfill["runs"]])
    assert logged == sorted((asset, key) for asset in ASSETS for key in selected)


def test_the_ui_shows_lineage_partitions_checks_and_the_chart_of_a_partition(stack: Stack) -> None:
    """This test runs after the backfill above, whose partitions have charts."""
    ui = f"http://127.0.0.1:{stack.port}/assets"
    with chromium(os.environ) as browser:
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(60_000 * PATIENCE)
        page.goto(f"{ui}/strategy_9_30_ema?view=lineage&lineageScope=upstream&lineageDepth=5")
        for name in ("sandbox", *ASSETS):
            page.get_by_text(name, exact=True).first.wait_for()
        partition = quote(QUIET)
        page.goto(f"{ui}/ohlc?view=partitions&partition={partition}")
        page.get_by_text(f"Materialized ({len(SYMBOLS) * len(TIMEFRAMES)})").wait_for()
        page.get_by_text("a person asked for it").first.wait_for()
        page.goto(f"{ui}/ohlc?view=checks")
        for name in ("series_are_fresh", "no_bar_is_missing", "no_series_fails"):
            page.get_by_text(name, exact=True).first.wait_for()
        page.goto(f"{ui}/strategy_9_30_ema?view=partitions&partition={partition}")
        chart = page.locator('img[src^="data:image/svg+xml"]')
        chart.wait_for()
        assert chart.get_attribute("alt") == QUIET.replace("|", " ")
        assert chart.evaluate("image => image.complete && image.naturalWidth") > 100


def test_keys_are_stored_nowhere_and_the_webserver_and_the_sandbox_do_not_receive_them(
    stack: Stack, own_url: str
) -> None:
    secrets = [*CANARIES.values(), str(urlsplit(own_url).password)]
    assert stack.places_with(secrets, stack.folder) == []
    # The search itself works: it finds the name of a symbol.
    assert {"market.ohlc", "dagster.event_logs"} <= set(stack.places_with(["BTC-USD"], stack.folder))
    environments = {}
    for words in ("ema_assets.defs.webserver", "ema_assets sandbox"):
        (pid,) = stack.pids(words)
        environments[words] = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"EMA_HOME=" in environments[words]
        assert b"CANARY" not in environments[words]
    # The webserver reads the database, the sandbox does not.
    assert b"EMA_DATABASE_URL" in environments["ema_assets.defs.webserver"]
    assert b"EMA_DATABASE_URL" not in environments["ema_assets sandbox"]


def test_the_ui_and_the_sandbox_refuse_requests_from_other_sites(stack: Stack) -> None:
    ui, sandbox = f"http://127.0.0.1:{stack.port}", stack.status()["sandbox_url"]
    foreign = {"Origin": "https://evil.example", "Content-Type": "text/plain"}
    query = "query=mutation%7BreloadWorkspace%7B__typename%7D%7D"
    asked = [
        httpx.post(f"{ui}/graphql", json={"query": "{ version }"}),
        httpx.post(f"{ui}/graphql", json={"query": "{ version }"}, headers={"Origin": ui}),
        httpx.get(f"{ui}/runs"),
        httpx.get(f"{ui}/graphql?{query}"),
        httpx.post(f"{ui}/graphql?{query}", headers=foreign),
        httpx.post(f"{ui}/graphql", json={"query": "{ version }"}, headers={"Host": "evil.example"}),
        httpx.post(f"{sandbox}/sandbox/faults", content=b"{}", headers=foreign),
    ]
    assert [answer.status_code for answer in asked] == [200, 200, 200, 403, 403, 403, 403]


@pytest.mark.broad
def test_the_sweep_launches_no_run_when_nothing_is_stale(stack: Stack) -> None:
    """It does not matter whether New York is open: a bar that closes during a look makes the test look again.

    Runs of strategy_performance do not count. They have their own schedule, some time after the trades.
    """

    def refreshes() -> list[str]:
        return [run["runId"] for run in stack.runs() if run["jobName"] == REFRESH_JOB]

    def quiet() -> bool:
        return all(row["stale"] == 0 for row in stack.status()["assets"]) and bool(stack.finished_runs())

    def look() -> bool:
        """Assert that two sweeps skip with a reason and launch no run. Return False when a bar closed meanwhile."""
        time.sleep(max(30 - time.time() % 300, 0))  # the last bar is published by then
        wait_until(quiet, 120, "nothing stale", poll=1)
        before, since = refreshes(), time.time()

        def silent_sweeps() -> list[str]:
            return [
                tick["skipReason"]
                for tick in stack.ticks("sweep")
                if tick["timestamp"] > since and tick["endTimestamp"]
            ]

        reasons = wait_until(lambda: len(silent_sweeps()) >= 2 and silent_sweeps(), 120, "two sweeps", stack.evidence)
        after = refreshes()
        if time.time() // 300 != since // 300:
            return False
        assert all(reasons), reasons
        assert after == before
        return True

    assert any(look() for _ in range(5)), "a bar closed during each of five looks"


@pytest.mark.broad
def test_the_sweep_completes_the_work_of_a_killed_run(stack: Stack) -> None:
    """The load of a new symbol is slowed down and its process is killed. In the end, all of its rows are stored.

    It is a pair, because a stock may have no closed trade in eight days, for example around Thanksgiving.
    """
    sandbox = stack.status()["sandbox_url"]
    known = {run["runId"] for run in stack.runs()}
    # The sandbox does not know SOL-USD yet, so the next four answers are slow for all symbols.
    slow = httpx.post(f"{sandbox}/sandbox/faults", json={"kind": "delay", "seconds": 6, "times": 4})
    assert slow.status_code == 201
    assert "SOL-USD" in stack.cli("symbols", "add", "SOL-USD").stdout

    def worker() -> tuple[str, int] | None:
        for run in stack.runs():
            covers = "SOL-USD|" in run["tags"].get("dagster/asset_partition_range_end", "")
            if run["runId"] not in known and covers and run["status"] == "STARTED":
                rows = stack.sql(
                    """SELECT event FROM dagster.event_logs WHERE run_id = $1 AND event LIKE '%ENGINE_EVENT%'""",
                    run["runId"],
                )
                for event in rows["event"]:
                    if match := re.search(r"\(pid: (\d+)\)", event):
                        return run["runId"], int(match[1])
        return None

    run_id, pid = wait_until(worker, 120, "a run for SOL-USD", poll=0.2)
    os.kill(pid, signal.SIGKILL)
    # The next run for SOL-USD is not slowed down.
    assert httpx.delete(f"{sandbox}/sandbox/faults").status_code == 200
    wait_until(
        lambda: next(run["status"] for run in stack.runs() if run["runId"] == run_id) == "FAILURE",
        90,
        "the killed run is noticed",
    )
    stack.wait_complete((len(SYMBOLS) + 1) * len(TIMEFRAMES))
    before = _stored(stack, "SOL-USD")
    assert {asset for asset, _, _ in before} == set(ASSETS)
    stack.cli("refresh", "--symbol", "SOL-USD", "--all")
    after = _stored(stack, "SOL-USD")
    assert {key: after.get(key) for key in before} == before


def test_every_row_equals_a_computation_from_nothing_after_a_standby_process_was_killed(
    stack: Stack, tmp_path: Path
) -> None:
    """This is one fault of `benchmarks.chaos`, with the checks that follow each fault there."""
    up = chaos.Up(stack.home, stack.port, stack.env | {"EMA_SANDBOX_URL": stack.status()["sandbox_url"]})
    up.process = stack.process
    elsewhere: Any = None  # the sandbox is a separate process, which this fault does not affect
    with EmbeddedServer(tmp_path / "again") as again:
        world = chaos.World(up, elsewhere, watchlist.load(stack.home / "watchlist.toml"), tmp_path, again, speed=1)
        world.known_url = stack.url
        found = after(world, kill_standby.FAULT, Random(1), "from_nothing")
    assert (found.outcome, found.wrong) == ("passed", [])
    assert found.rows > 10_000


@pytest.mark.broad
def test_timeframes_are_switched_on_and_off_in_a_running_up(stack: Stack) -> None:
    """Added timeframes get partitions, schedules, bars and trades. The rows of removed timeframes stay."""
    path = stack.home / "watchlist.toml"
    symbols = len(stack.materialized("ohlc")) // len(TIMEFRAMES)
    usual, more = path.read_text(), [*TIMEFRAMES, "1m", "2h", "1w"]
    path.write_text(f"timeframes = {more}\n{usual}")
    wait_until(lambda: stack.are_materialized(symbols * len(more)), 240, "all are materialized", stack.evidence, poll=2)
    assert {key.partition("|")[2] for key in stack.materialized("strategy_9_30_ema")} == set(more)
    assert {"refresh_1m", "refresh_2h", "refresh_1w"} <= set(stack.schedules())
    shown = stack.sql("SELECT DISTINCT timeframe FROM results.screener")["timeframe"]
    assert set(shown) == set(more)
    kept = stack.sql("SELECT count(*) AS bars FROM market.ohlc WHERE timeframe IN ('1m', '2h', '1w')")["bars"].item()
    path.write_text(usual)
    wait_until(lambda: len(stack.schedules()) == len(TIMEFRAMES) + 2, 120, "switched off", stack.evidence, poll=2)
    wait_until(lambda: {row["timeframe"] for row in stack.status()["assets"]} == set(TIMEFRAMES), 60, "off in status")
    stack.wait_complete(symbols * len(TIMEFRAMES))
    left = stack.sql("SELECT count(*) AS bars FROM market.ohlc WHERE timeframe IN ('1m', '2h', '1w')")["bars"].item()
    assert left >= kept > 0


def _stored(stack: Stack, symbol: str) -> dict[tuple[object, ...], dict[str, Any]]:
    """Return every row of `symbol` that later bars do not change, by asset, timeframe and time."""
    rows: dict[tuple[object, ...], dict[str, Any]] = {}
    with Database(stack.url) as database, database.transaction() as transaction:
        for asset in ASSETS:
            time_column = "entry_ts" if asset == "strategy_9_30_ema" else "ts"
            for row in transaction.query(f"SELECT * FROM market.{asset} WHERE symbol = $1", symbol).to_dicts():
                if row.get("status") != "open":
                    rows[asset, row["timeframe"], row[time_column]] = row
    return rows
