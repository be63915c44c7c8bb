"""Hours of a fast virtual market under a real `ema-assets up`, with faults, and a comparison at the end.

    python -m benchmarks.soak --minutes 60 [--symbols 20] [--speed 60] [--seed 930] [--sweep-seconds 5] [--kills 1]

The world, its faults and the comparison are those of `benchmarks.chaos`; what is measured here is how long a close
takes to its strategy row. Schedules fire by the machine's clock, so the sweep launches most runs.

The exchange corrects bars all the time. At 30 % of the time the worker of a run is killed; with `--kills 20`, twenty at
random moments. At 40 % a person launches a backfill of everything, as the UI does. At 70 % PostgreSQL is killed, and
`up` starts it again. Then the market slows down to the pace of the machine, and when nothing is stale any more,
everything is stopped.
The same symbols are loaded from the exchange into an empty database without Dagster, and every table of every series
must be equal, column by column. The exit code is 1 when a row differs or a series stays stale.
"""

import argparse
import json
import os
import random
import re
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.chaos.faults.corrections import Correction, correct_a_bar, unseen
from benchmarks.chaos.faults.kill_postgres import kill_postgres
from benchmarks.chaos.faults.kill_worker import kill_a_worker
from benchmarks.chaos.run import Plan, at_the_end, load_history, settle, world_of
from benchmarks.chaos.starts import by_name
from benchmarks.chaos.world import ASSETS, World, lasting
from benchmarks.tick import _watchlist
from ema_assets.model import clock
from ema_assets.model.errors import EmaAssetsError
from ema_assets.runtime.postgres.server import EmbeddedServer
from ema_assets_tests.timeframes import ORDER

_KILL_AT, _BACKFILL_AT, _RESTART_AT = 0.3, 0.4, 0.7
_KILLS_BETWEEN = 0.05, 0.95
_CORRECT_SECONDS = 10.0
_BACKFILL_SECONDS, _AWAY_SECONDS, _AFTERMATH = 900.0, 120.0, timedelta(seconds=60)


@dataclass(slots=True)
class Soak:
    """One soak: its world, and what has been done to it so far."""

    world: World
    corrections: list[Correction] = field(default_factory=list)
    withdrawn: int = 0
    asked: int = 0
    backfill: str | None = None
    backfill_span: list[datetime] = field(default_factory=list)
    disturbed: list[tuple[datetime, datetime]] = field(default_factory=list)

    def correct_next(self) -> None:
        """Let the exchange change the newest stored bar of the next symbol."""
        made = correct_a_bar(self.world, self.world.symbols[self.asked % len(self.world.symbols)])
        self.asked += 1
        if made is not None:
            self.corrections.append(made)

    def withdraw_unseen(self) -> None:
        """Withdraw corrections that came too late: the bar was not requested again, so nobody can know them."""
        for each in unseen(self.world, self.corrections):
            self.world.sandbox.handle.faults.clear(each.number)
            self.corrections.remove(each)
            self.withdrawn += 1
        if self.withdrawn:
            self.world.say(f"{self.withdrawn} corrections came too late to be requested, and are withdrawn")

    def launch_backfill(self) -> None:
        """Select every partition of all assets in the UI, and launch."""
        keys = [f"{symbol}|{timeframe.key}" for symbol in self.world.symbols for timeframe in ORDER]
        launched = self.world.graphql(
            """mutation($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) {
                 __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }""",
            p={"assetSelection": [{"path": [asset]} for asset in ASSETS], "partitionNames": keys},
        )["launchPartitionBackfill"]
        self.backfill = launched["backfillId"]
        self.backfill_span = [datetime.now(UTC)]
        self.world.say(f"backfill of {len(keys)} partitions of {len(ASSETS)} assets launched")

    def watch_backfill(self) -> None:
        """Note when the backfill has ended."""
        if self.backfill is None or len(self.backfill_span) == 2:
            return
        found = self.world.graphql(
            "query($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }",
            id=self.backfill,
        )["partitionBackfillOrError"]["status"]
        if found not in ("REQUESTED", "CANCELING", "FAILING"):
            self.backfill_span.append(datetime.now(UTC))
            self.world.say(f"backfill ended: {found}")

    def kill_a_worker(self) -> bool:
        """Kill the process of a running run; False when none is running."""
        began = datetime.now(UTC)
        was_killed = kill_a_worker(self.world)
        if was_killed:
            self.disturbed.append((began, datetime.now(UTC) + _AFTERMATH))
        return was_killed

    def kill_postgres(self) -> None:
        began = datetime.now(UTC)
        kill_postgres(self.world)
        self.disturbed.append((began, datetime.now(UTC) + _AFTERMATH))


def live(soak: Soak, minutes: float, kill_at: Sequence[float]) -> None:
    """Cause the faults while time passes, until the minutes are over.

    At each share of the time in `kill_at` a worker is killed.
    """
    began, seconds = time.monotonic(), minutes * 60
    todo: list[tuple[float, Callable[[], object]]] = [
        *((share, soak.kill_a_worker) for share in kill_at),
        (_BACKFILL_AT, soak.launch_backfill),
        (_RESTART_AT, soak.kill_postgres),
    ]
    todo.sort(key=lambda each: each[0])
    next_correction = well_at = 0.0
    while (passed := time.monotonic() - began) < seconds:
        try:
            if todo and passed >= todo[0][0] * seconds and todo[0][1]() is not False:
                todo.pop(0)
            if passed >= next_correction:
                soak.correct_next()
                next_correction = passed + _CORRECT_SECONDS
            soak.watch_backfill()
            well_at = passed
        except (EmaAssetsError, OSError):
            # The database and the UI may be away for a while during the restart.
            if passed - well_at > _AWAY_SECONDS:
                raise
        soak.world.loads.append(os.getloadavg()[0])
        time.sleep(1)
    soak.world.say(f"{len(soak.corrections)} bars were corrected")


def _await_backfill(soak: Soak) -> None:
    deadline = time.monotonic() + _BACKFILL_SECONDS
    while len(soak.backfill_span) == 1 and time.monotonic() < deadline:
        with suppress(EmaAssetsError, OSError):
            soak.watch_backfill()
        time.sleep(2)


def latency(soak: Soak) -> list[dict[str, Any]]:
    """Seconds of the machine from close to strategy row: p50 and p99, during the backfill and outside of it.

    `newest` counts as `status` does: the newest bar of each run, each series once. `every` counts every close of a pair
    that trades around the clock, until a run has taken it to the end of the chain, alone or with later closes.
    """
    rows = soak.world.sql(
        "SELECT timeframe, closed_at, series, seconds, committed_at FROM market.close_latency ORDER BY 5"
    )
    found = []
    for timeframe in ORDER:
        mine = rows.filter(pl.col("timeframe") == timeframe.key)
        if mine.is_empty():
            continue
        closes = mine.group_by("closed_at").agg(pl.col("committed_at").min()).sort("closed_at")
        step = f"{timeframe.minutes}m"
        every = pl.select(
            closed_at=pl.datetime_range(closes["closed_at"][0], closes["closed_at"][-1], step, time_unit="us")
        ).join_asof(
            closes.rename({"closed_at": "reached"}), left_on="closed_at", right_on="reached", strategy="forward"
        )
        every = every.with_columns(
            instant=pl.col("closed_at").map_elements(clock.instant_of, pl.Datetime("us", "UTC"))
        ).with_columns(seconds=(pl.col("committed_at") - pl.col("instant")).dt.total_milliseconds() / 1000)
        low, high = soak.backfill_span[0], soak.backfill_span[-1]
        for label, when in (
            ("during", pl.col("committed_at").is_between(low, high)),
            ("outside", ~pl.col("committed_at").is_between(low, high)),
        ):
            newest = mine.filter(when)
            each = newest.select(pl.col("seconds").repeat_by("series").explode())["seconds"]
            alone = every.filter(when)["seconds"]
            found.append(
                {
                    "timeframe": timeframe.key,
                    "backfill": label,
                    "runs": newest.height,
                    "newest_p50": each.quantile(0.5, "higher"),
                    "newest_p99": each.quantile(0.99, "higher"),
                    "closes": alone.len(),
                    "every_p50": alone.quantile(0.5, "higher"),
                    "every_p99": alone.quantile(0.99, "higher"),
                }
            )
    return found


def history(soak: Soak) -> dict[str, Any]:
    """Runs by kind and status, the errors of those that failed, and the ticks of schedules and sensors."""
    runs = soak.world.runs()
    counted = Counter((kind, status) for kind, status in runs.select("kind", "status").iter_rows())
    failed = []
    for run_id, kind, ended in (
        runs.filter(pl.col("status") != "SUCCESS").select("run_id", "kind", "end_time").iter_rows()
    ):
        moment = datetime.fromtimestamp(ended or 0, UTC)
        said = soak.world.sql(
            """SELECT event FROM dagster.event_logs WHERE run_id = $1
               AND dagster_event_type IN ('STEP_FAILURE', 'PIPELINE_FAILURE') ORDER BY id LIMIT 1""",
            run_id,
        )["event"]
        why = re.findall(r'"message": "([^"]{1,200})', said.item())[:2] if said.len() else []
        expected = any(low <= moment <= high for low, high in soak.disturbed)
        failed.append({"run": run_id, "kind": kind, "ended": f"{moment:%H:%M:%S}", "disturbed": expected, "says": why})
    ticks = soak.world.sql(
        """SELECT j.type || ' ' || t.status AS what, count(*) AS n FROM dagster.job_ticks t
           JOIN (SELECT selector_id, max(instigator_type) AS type FROM dagster.instigators GROUP BY 1) j
           USING (selector_id) GROUP BY 1 ORDER BY 1"""
    )
    return {
        "runs": {f"{kind} {status}": n for (kind, status), n in sorted(counted.items())},
        "not_successful": failed,
        "ticks": dict(ticks.iter_rows()),
    }


def soak_for(
    minutes: float, symbols: int, speed: float, seed: int, sweep_seconds: int, kills: int, folder: Path
) -> dict[str, Any]:
    """Run the whole soak; return its figures."""
    # One worker is killed at a known moment, several at random ones.
    moments = random.Random(seed)  # noqa: S311 - moments of faults, not secrets
    kill_at = [_KILL_AT] if kills == 1 else [moments.uniform(*_KILLS_BETWEEN) for _ in range(kills)]
    # Loading takes a while before the minutes begin.
    fast = minutes + 1 + symbols / 50
    plan = Plan(seed, by_name("tuesday"), fast, symbols, speed, sweep_seconds, (), folder)
    with world_of(plan, _watchlist(symbols, 10, everything=True)) as world:
        soak = Soak(world)
        with lasting(world.up):
            world.say(f"up on port {world.up.port}; {symbols} symbols, a 5m bar every {300 / speed:g} s")
            load_history(world)
            live(soak, minutes, kill_at)
            _await_backfill(soak)
            settled_at = settle(world)
        with EmbeddedServer(world.up.home / "postgres"):
            soak.withdraw_unseen()
            found = at_the_end(world, settled_at)
            return {
                "minutes": minutes,
                "symbols": symbols,
                "speed": speed,
                "settled": settled_at is not None,
                "load": sum(world.loads) / len(world.loads),
                "corrections": len(soak.corrections),
                "corrections_withdrawn": soak.withdrawn,
                "backfill_s": (soak.backfill_span[-1] - soak.backfill_span[0]).total_seconds(),
                "events": world.events,
                **history(soak),
                "latency": latency(soak),
                "rows_compared": found.rows,
                "different": found.different,
                "failed_again": found.failed_again,
            }


def report(found: dict[str, Any]) -> None:
    """Print the figures for people."""
    print(f"load {found['load']:.1f} on {os.cpu_count()} cores; the backfill took {found['backfill_s']:.0f} s")
    for name in ("runs", "ticks"):
        print(f"{name}: " + ", ".join(f"{count} {what}" for what, count in found[name].items()))
    for run in found["not_successful"]:
        print(f"  {run}")
    print("seconds from close to strategy row, p50 / p99: of the newest bar of each run; of every bar of the pairs")
    for row in found["latency"]:
        newest, every = (
            " / ".join("   -  " if row[f"{kind}_{p}"] is None else f"{row[f'{kind}_{p}']:6.1f}" for p in ("p50", "p99"))
            for kind in ("newest", "every")
        )
        print(
            f"  {row['timeframe']:>3} {row['backfill']:7}  {newest}  ({row['runs']} runs);  "
            f"{every}  ({row['closes']} closes)"
        )
    print(
        f"{found['rows_compared']} rows compared; {len(found['different'])} series differ or are stale; "
        f"{found['corrections']} bars were corrected"
    )
    for line in found["different"][:20]:
        print(f"  {line}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description="A fast virtual market under a real Dagster, with faults, and a comparison at the end."
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--symbols", type=int, default=20)
    parser.add_argument("--speed", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=930)
    parser.add_argument("--sweep-seconds", type=int, default=5)
    parser.add_argument("--kills", type=int, default=1, help="How many workers of runs are killed.")
    parser.add_argument(
        "--folder", type=Path, help="A new folder that is kept, with all logs. [default: a temporary one]"
    )
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    # End as with Ctrl-C, so that everything that was started is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="ema-soak-") as name:
        found = soak_for(
            given.minutes,
            given.symbols,
            given.speed,
            given.seed,
            given.sweep_seconds,
            given.kills,
            given.folder or Path(name),
        )
    if given.json:
        print(json.dumps(found, indent=2, default=str))
    else:
        report(found)
    if not found["settled"] or found["different"] or found["failed_again"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
