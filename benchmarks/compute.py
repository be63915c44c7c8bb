"""The computing alone, from nothing, beside a TA-Lib loop over series and pandas over groups.

    python -m benchmarks.compute --series 10 100 1000 [--sessions 60] [--json]

5m bars of the sandbox's market on New York's real sessions are rolled up into 15m, 30m, 1h and 4h; EMA 9 and 30, trend
and trades are computed for all five timeframes, without a database and without Dagster. Each way is a process of its
own and works in batches of the same size as the product. All ways must come to the same values, which is checked before
any figure is printed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

PRODUCT = "ema-assets"
BASELINES = ("TA-Lib loop", "pandas", "pandas resample")


@dataclass(frozen=True)
class Way:
    """What one way costs: `times` the seconds of the product, `difference` the worst relative difference from it."""

    name: str
    steps_s: dict[str, float]
    wall_s: float
    cpu_s: float
    rows_per_s: int
    peak_mb: float
    difference: float
    times: float


@dataclass(frozen=True)
class Size:
    """One size: the input is `bars` of 5m, the output is `rows` of all five timeframes."""

    series: int
    sessions: int
    bars: int
    rows: int
    batches: int
    load: float
    ways: list[Way]


def _call(task: str, folder: str, **given: Any) -> dict[str, Any]:
    # Each task is a process of its own: a process passes its peak memory on to its children.
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.compute_run", json.dumps({"task": task, "folder": folder, **given})],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"benchmarks.compute_run {task} {given} failed:\n{done.stderr[-4000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(found, dict)
    return found


def measure(series: int, sessions: int, batch_rows: int | None, say: Callable[[str], None]) -> Size:
    """Make the bars, compute everything in every way, compare the values."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="ema-bench-") as folder:
        say(f"{series} series: making {sessions} sessions of 5m bars …")
        made = _call("make", folder, series=series, sessions=sessions, batch_rows=batch_rows)
        batches = made["batches"]
        found = {}
        for name in (PRODUCT, *BASELINES):
            say(f"{series} series: {name} …")
            found[name] = _call("run", folder, way=name, batches=batches)
        say(f"{series} series: comparing …")
        differences = _call("compare", folder, batches=batches, ways=list(BASELINES))
    ours = found[PRODUCT]
    return Size(
        series=series,
        sessions=sessions,
        bars=made["bars"],
        rows=ours["rows"],
        batches=batches,
        load=round(load, 2),
        ways=[
            Way(
                name=name,
                steps_s=way["steps_s"],
                wall_s=way["wall_s"],
                cpu_s=way["cpu_s"],
                rows_per_s=round(way["rows"] / way["wall_s"]),
                peak_mb=way["peak_mb"],
                difference=differences.get(name, 0.0),
                times=round(way["wall_s"] / ours["wall_s"], 2),
            )
            for name, way in found.items()
        ],
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, received {text}")
    return number


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compute", description=__doc__.splitlines()[0])
    parser.add_argument("--series", type=_positive, nargs="+", default=[100], metavar="N", help="sizes to measure")
    parser.add_argument("--sessions", type=_positive, default=60, metavar="M", help="sessions of 5m bars per series")
    parser.add_argument("--batch-rows", type=_positive, help="5m bars per batch; default: as many as the product takes")
    parser.add_argument("--json", action="store_true", help="print a JSON list instead of a table")
    given = parser.parse_args()

    def say(line: str) -> None:
        print(f"[{time.strftime('%H:%M:%S')}] {line}", file=sys.stderr, flush=True)

    sizes = [measure(series, given.sessions, given.batch_rows, say) for series in given.series]
    if given.json:
        print(json.dumps([asdict(size) for size in sizes], indent=2))
        return
    for size in sizes:
        print(
            f"{size.series} series, {size.sessions} sessions: {size.bars:,} bars of 5m, {size.rows:,} rows on five "
            f"timeframes, {size.batches} batch{'es' if size.batches > 1 else ''}, load {size.load}"
        )
        columns = "".join(f"{step:>9}" for step in size.ways[0].steps_s)
        print(f"  {'seconds':<16}{columns}{'all':>9}{'CPU':>9}{'rows/s':>12}{'peak MB':>9}{'times':>7}  difference")
        for way in size.ways:
            steps = "".join(f"{seconds:>9.3f}" for seconds in way.steps_s.values())
            print(
                f"  {way.name:<16}{steps}{way.wall_s:>9.3f}{way.cpu_s:>9.3f}{way.rows_per_s:>12,}{way.peak_mb:>9.0f}"
                f"{way.times:>7.2f}  {way.difference:.0e}"
            )


if __name__ == "__main__":
    main()
