"""One 5m tick through all four assets, as Dagster runs it in production, beside the pipeline it replaces.

    python -m benchmarks.tick --symbols 100 1000 10000 [--history-days 10] [--json]
    python -m benchmarks.tick --compare-history 7 1825 [--compare-symbols 20] [--json]
    python -m benchmarks.tick --compare-assets [--compare-symbols 100] [--json]

Everything is real: an embedded PostgreSQL, the sandbox exchange on a socket, and one worker process per planned run
(`dagster api execute_run`), with Dagster's storage in PostgreSQL. Every series has one new bar. The baseline is
measured beside it: one Dagster run per partition that recomputes everything (`benchmarks.naive`), also in worker
processes, for 1, 2 and 4 partitions. Its runs share no work, so its cost at a size lies on the line through these.

--compare-assets compares ticks with the chain from bars to trades alone and ticks with every signal and strategy.
--compare-history compares ticks on databases with different histories, and full recomputations on them.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2

from benchmarks.measure import Line, fit
from ema_assets.config.settings import DAGSTER_EVENT_VARIABLES
from ema_assets.market.exchanges import exchange_sessions
from ema_assets.model.asset_names import CHAIN
from ema_assets.model.symbols import parse_timeframe
from ema_assets.model.timeframes import DEFAULT, Timeframe, by_key
from ema_assets.runtime.postgres.server import EmbeddedServer
from ema_assets.signals.discovery import discover
from ema_assets.store.migrations import migrate

_DAGSTER_YAML = Path(__file__).parent.parent / "dagster.yaml"

# Loading ten days of 10,000 symbols takes a quarter of an hour. Three days have more bars than any EMA looks back.
_DAYS, _DAYS_WHEN_MANY, _MANY = 10, 3, 2_000
_STANDBY_TICKS = 4


@dataclass(frozen=True)
class Baseline:
    """The cost of the replaced pipeline, CPU and wall seconds: lines through what runs of `partitions` took."""

    partitions: list[int]
    cpu: Line
    wall: Line
    cpu_in_process: Line


@dataclass(frozen=True)
class Row:
    """What one tick of one size costs, in a new process and in a standby process, and what the baseline would cost.

    `in_run_s` and `by_asset_s` are seconds in Dagster's record of the runs, added up. `cpu_s` and `wall_s` are those of
    their processes from start to end, with all children. `naive_…` is the baseline with Dagster's default, one process
    per step; `…_in_process` is the same with all steps in one process.
    """

    symbols: int
    history_days: int
    bars: int
    load_s: float
    runs: int
    plan_ms: float
    in_run_s: float
    by_asset_s: dict[str, float]
    cpu_s: float
    wall_s: float
    events: int
    events_per_s: float
    sql_statements: int
    api_calls: int
    peak_mb: float
    standby_processes: int
    standby_first_cpu_s: float
    standby_first_wall_s: float
    standby_cpu_s: float
    standby_wall_s: float
    standby_mb: float
    idle_schedule_ms: float
    idle_sweep_ms: float
    naive_partitions: list[int]
    naive_cpu_fixed_s: float
    naive_cpu_slope_s: float
    naive_cpu_s: float
    naive_wall_s: float
    naive_cpu_in_process_s: float
    cpu_ratio: float
    cpu_ratio_in_process: float
    cpu_ratio_standby: float
    load_average: float


@dataclass(frozen=True)
class History:
    """One length of history: medians of several ticks, and full recomputations in one run (`full`, by symbols)."""

    history_days: int
    symbols: int
    bars: int
    load_s: float
    ticks: int
    in_run_s: float
    cpu_s: float
    peak_mb: float
    by_asset_s: dict[str, float]
    full: list[dict[str, float]]


def tick_time() -> datetime:
    """Two hours into the last New York session that is over, when every series has a bar that has just closed."""
    today = datetime.now(UTC).date()
    past = exchange_sessions("XNYS", today - timedelta(days=10), today - timedelta(days=1))
    opened = past["open"][-1]
    assert isinstance(opened, datetime)
    return opened + timedelta(hours=2, seconds=1)


_FIVE_MINUTES = by_key("5m")


def _watchlist(
    symbols: int, history_days: int, timeframe: Timeframe = _FIVE_MINUTES, *, everything: bool = False
) -> str:
    names = [f"S{number:05}" for number in range(symbols * 9 // 10)]
    pairs = [f"P{number:05}-USD" for number in range(symbols - len(names))]
    off = [] if everything else [name for name in discover() if name not in CHAIN]
    chain = f'[signals]\noff = {json.dumps(off)}\n[[strategy]]\nname = "pullback"\nenabled = false\n'
    return (
        f"timeframes = {json.dumps(sorted({timeframe.key, *(each.key for each in DEFAULT)}))}\n"
        f'[history]\n"{timeframe.key}" = {history_days}\n"1d" = 30\n{"" if everything else chain}'
        f'[[group]]\ncalendar = "XNYS"\nsymbols = {json.dumps(names)}\n'
        f'[[group]]\ncalendar = "24/7"\nsymbols = {json.dumps(pairs)}\n'
    )


def _environment(folder: Path, database: str, sandbox: str | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("EMA_", "APCA_", "DAGSTER_"))}
    return {
        **kept,
        **DAGSTER_EVENT_VARIABLES,
        "EMA_HOME": str(folder),
        "EMA_WATCHLIST": str(folder / "watchlist.toml"),
        "EMA_DATABASE_URL": database,
        "EMA_PROVIDER": "sandbox",
        "DAGSTER_HOME": str(folder),
        "PYTHONWARNINGS": "ignore",
        **({"EMA_SANDBOX_URL": sandbox} if sandbox else {}),
    }


def _call(module: str, given: Mapping[str, Any], env: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", module, json.dumps(given)], env=env, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{module} failed:\n{done.stderr[-4000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(found, dict)
    return found


def _new_database(server: EmbeddedServer, name: str) -> str:
    connection = psycopg2.connect(server.url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    connection.close()
    url = server.url.replace("/ema?", f"/{name}?")
    migrate(url)
    return url


@dataclass(frozen=True)
class _World:
    """A server, an exchange, and a way to run a task of `benchmarks.tick_run` on them."""

    server: EmbeddedServer
    folder: Path
    database: str
    sandbox: str

    def run(self, task: str, now: datetime, **given: Any) -> dict[str, Any]:
        env = _environment(self.folder, self.database, self.sandbox)
        return _call("benchmarks.tick_run", {"task": task, "now": now.isoformat(), **given}, env)


@contextmanager
def _world(
    symbols: int, history_days: int, timeframe: Timeframe = DEFAULT[0], *, everything: bool = False
) -> Iterator[_World]:
    with tempfile.TemporaryDirectory(prefix="ema-bench-") as name:
        folder = Path(name)
        (folder / "watchlist.toml").write_text(
            _watchlist(symbols, history_days, timeframe, everything=everything), encoding="utf-8"
        )
        (folder / "dagster.yaml").write_text(_DAGSTER_YAML.read_text(encoding="utf-8"), encoding="utf-8")
        with EmbeddedServer(folder / "postgres") as server:
            database = _new_database(server, "tick")
            exchange = subprocess.Popen(
                [sys.executable, "-m", "ema_assets", "sandbox", "--port", "0"],
                env=_environment(folder, database),
                stdout=subprocess.PIPE,
                text=True,
            )
            try:
                assert exchange.stdout is not None
                sandbox = next(word for word in exchange.stdout.readline().split() if word.startswith("http"))
                yield _World(server, folder, database, sandbox)
            finally:
                exchange.terminate()
                exchange.wait(timeout=30)


def measure_baseline(
    world: _World, history_days: int, partitions: Sequence[int], moment: datetime, say: Callable[[str], None]
) -> Baseline:
    """Run the replaced pipeline for each number of `partitions`: one run per partition, one after another."""
    symbols = [f"S{number:05}" for number in range(max(partitions))]
    database = _new_database(world.server, "naive")
    env = {
        **_environment(world.folder, database, world.sandbox),
        # benchmarks.naive has a name for this variable, but importing it would import Dagster into this process.
        "EMA_BENCHMARK_NAIVE": json.dumps(
            {
                "symbols": symbols,
                "sandbox": world.sandbox,
                "database": database,
                "start": (moment - timedelta(days=history_days)).isoformat(),
                "end": moment.isoformat(),
            }
        ),
    }
    cpu: list[tuple[float, float]] = []
    wall: list[tuple[float, float]] = []
    in_process: list[tuple[float, float]] = []
    for number in partitions:
        say(f"the baseline, {number} of {history_days} days …")
        some = symbols[:number]
        spent = _call("benchmarks.naive", {"naive": some, "naive_in_process": some}, env)
        cpu.append((number, sum(run["cpu_s"] for run in spent["naive"])))
        wall.append((number, sum(run["wall_s"] for run in spent["naive"])))
        in_process.append((number, sum(run["cpu_s"] for run in spent["naive_in_process"])))
    return Baseline(list(partitions), fit(cpu), fit(wall), fit(in_process))


def row_of(
    symbols: int,
    history_days: int,
    found: Mapping[str, Any],
    baseline: Baseline,
    load_average: float,
) -> Row:
    """The row of one size, from the figures `found` by its processes and from the baseline."""
    naive, in_process = baseline.cpu.at(symbols), baseline.cpu_in_process.at(symbols)
    return Row(
        symbols=symbols,
        history_days=history_days,
        **found,
        naive_partitions=baseline.partitions,
        naive_cpu_fixed_s=round(baseline.cpu.fixed, 2),
        naive_cpu_slope_s=round(baseline.cpu.slope, 2),
        naive_cpu_s=round(naive, 1),
        naive_wall_s=round(baseline.wall.at(symbols), 1),
        naive_cpu_in_process_s=round(in_process, 1),
        cpu_ratio=round(naive / found["cpu_s"], 1),
        cpu_ratio_in_process=round(in_process / found["cpu_s"], 1),
        cpu_ratio_standby=round(naive / found["standby_cpu_s"], 1),
        load_average=round(load_average, 1),
    )


def measure(
    symbols: int,
    history_days: int,
    partitions: Sequence[int],
    baselines: dict[int, Baseline],
    say: Callable[[str], None],
    timeframe: Timeframe = DEFAULT[0],
) -> Row:
    """Load the history, run one tick, evaluate idle ticks. Run the baseline when `baselines` has none yet."""
    moment, step = tick_time(), timeframe.duration
    with _world(symbols, history_days, timeframe) as world:
        say(f"{symbols} symbols: loading {history_days} days of {timeframe.key} history …")
        loaded = world.run("load", moment - step)
        say(f"{symbols} symbols: one tick on {loaded['bars']:,} bars, loaded in {loaded['load_s']:.0f} s …")
        load_average = os.getloadavg()[0]
        tick = world.run("tick", moment)
        say(f"{symbols} symbols: {_STANDBY_TICKS} ticks by standby processes …")
        standby = world.run("standby", moment + step, ticks=_STANDBY_TICKS, step_seconds=step.seconds)
        say(f"{symbols} symbols: idle ticks …")
        idle = world.run("idle", moment + _STANDBY_TICKS * step)
        if history_days not in baselines:
            baselines[history_days] = measure_baseline(world, history_days, partitions, moment, say)
    return row_of(symbols, history_days, {**loaded, **tick, **standby, **idle}, baselines[history_days], load_average)


def compare(
    days: Sequence[int], symbols: int, ticks: int, full_symbols: Sequence[int], say: Callable[[str], None]
) -> list[History]:
    """Ticks and full recomputations of so many symbols on each length of history.

    The histories take turns, one tick each, so that other work on the machine affects all of them.
    """
    moment = tick_time()
    moments = [moment + number * timedelta(minutes=5) for number in range(ticks)]
    loaded: dict[int, dict[str, Any]] = {}
    done: dict[int, list[dict[str, Any]]] = {each: [] for each in days}
    full: dict[int, list[dict[str, Any]]] = {each: [] for each in days}
    with ExitStack() as stack:
        worlds = {each: stack.enter_context(_world(symbols, each)) for each in days}
        for each, world in worlds.items():
            say(f"{symbols} symbols: loading {each} days of history …")
            loaded[each] = world.run("load", moment - timedelta(minutes=5))
            say(f"{loaded[each]['bars']:,} bars, loaded in {loaded[each]['load_s']:.0f} s")
        for number, now in enumerate(moments):
            say(f"tick {number + 1} of {ticks} on each …")
            for each, world in worlds.items():
                done[each].append(world.run("tick", now))
        for each, world in worlds.items():
            for number in full_symbols:
                say(f"{each} days of {number} symbols computed again …")
                full[each].append(world.run("full", moments[-1], symbols=number))
    return [
        History(
            history_days=each,
            symbols=symbols,
            **loaded[each],
            ticks=ticks,
            **{name: statistics.median(tick[name] for tick in done[each]) for name in ("in_run_s", "cpu_s", "peak_mb")},
            by_asset_s={
                step: statistics.median(tick["by_asset_s"][step] for tick in done[each])
                for step in done[each][0]["by_asset_s"]
            },
            full=full[each],
        )
        for each in days
    ]


def compare_assets(symbols: int, ticks: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Medians of ticks with the chain alone and with every signal and strategy, in turns."""
    moment = tick_time()
    found = []
    with ExitStack() as stack:
        worlds = {
            name: stack.enter_context(_world(symbols, _DAYS, everything=name == "all")) for name in ("chain", "all")
        }
        for name, world in worlds.items():
            say(f"{symbols} symbols, {name}: loading {_DAYS} days of history …")
            world.run("load", moment - timedelta(minutes=5))
        done: dict[str, list[dict[str, Any]]] = {name: [] for name in worlds}
        for number in range(ticks):
            say(f"tick {number + 1} of {ticks} on each …")
            for name, world in worlds.items():
                done[name].append(world.run("tick", moment + number * timedelta(minutes=5)))
    for name, each in done.items():
        medians = {
            key: statistics.median(tick[key] for tick in each) for key in ("in_run_s", "cpu_s", "peak_mb", "events")
        }
        found.append(
            {"assets": name, "symbols": symbols, "ticks": ticks, **medians, "by_asset_s": each[-1]["by_asset_s"]}
        )
    return found


def _print_assets(rows: Sequence[Mapping[str, Any]]) -> None:
    for row in rows:
        print(f"{row['symbols']} symbols, {row['assets']}: {row['in_run_s']:.2f} s in-run, {row['cpu_s']:.2f} s CPU, ")
        print(f"  peak {row['peak_mb']:.0f} MB, {row['events']:.0f} events; medians of {row['ticks']} ticks")
        print("  last: " + ", ".join(f"{asset} {seconds:.2f}" for asset, seconds in row["by_asset_s"].items()))
    chain, everything = rows
    print(f"everything takes {everything['in_run_s'] / chain['in_run_s']:.2f} x the time of the chain")


def _print_row(row: Row) -> None:
    by_asset = ", ".join(f"{asset} {seconds:.2f}" for asset, seconds in row.by_asset_s.items())
    measured = ", ".join(str(number) for number in row.naive_partitions)
    print(f"{row.symbols} symbols, {row.history_days} days of history ({row.bars:,} bars), one new bar each")
    print(f"  planning        {row.plan_ms:8.1f} ms")
    print(f"  in-run          {row.in_run_s:8.2f} s   in {row.runs} run{'s' * (row.runs > 1)} ({by_asset})")
    print(f"  CPU             {row.cpu_s:8.2f} s   with the start of the processes; {row.wall_s:.1f} s on the clock")
    print(
        f"  standby         {row.standby_cpu_s:8.2f} s   CPU of {row.standby_processes} process"
        f"{'es' * (row.standby_processes > 1)}, {row.standby_wall_s:.2f} s from first launch to last end; "
        f"the first time {row.standby_first_cpu_s:.2f} s, {row.standby_first_wall_s:.2f} s; {row.standby_mb:.0f} MB"
    )
    print(f"  events          {row.events:8}     {row.events_per_s:.0f} per second")
    print(f"  SQL statements  {row.sql_statements:8}")
    print(f"  API calls       {row.api_calls:8}")
    print(f"  peak memory     {row.peak_mb:8.0f} MB")
    print(
        f"  nothing stale   {row.idle_schedule_ms:8.0f} ms  until the schedule says so, "
        f"{row.idle_sweep_ms:.0f} ms until the sweep does"
    )
    print(
        f"  baseline        {row.naive_cpu_s:8.0f} s   CPU, {row.naive_wall_s:.0f} s one after another: "
        f"{row.naive_cpu_fixed_s:.1f} s + {row.naive_cpu_slope_s:.1f} s per partition, measured with {measured}"
    )
    print(
        f"  ratio           {row.cpu_ratio:8.1f} x   less CPU; {row.cpu_ratio_in_process:.1f} x less than "
        f"with all its steps in one process; {row.cpu_ratio_standby:.1f} x by a standby process"
    )
    print(f"  load            {row.load_average:8.1f}     when the tick began")


def _print_histories(rows: Sequence[History]) -> None:
    for row in rows:
        print(f"{row.history_days} days of 5m history, {row.symbols} symbols ({row.bars:,} bars)")
        print(f"  a tick          {row.in_run_s:8.2f} s in-run, {row.cpu_s:.2f} s CPU, peak {row.peak_mb:.0f} MB")
        by_asset = ", ".join(f"{asset} {seconds:.2f}" for asset, seconds in row.by_asset_s.items())
        print(f"                  medians of {row.ticks} ({by_asset})")
        for full in row.full:
            print(
                f"  all of {full['symbols']:<9}{full['in_run_s']:8.2f} s in-run, {full['cpu_s']:.2f} s CPU, "
                f"peak {full['peak_mb']:.0f} MB"
            )
    first, last = rows[0], rows[-1]
    print(
        f"A tick with {last.history_days} days takes {last.in_run_s / first.in_run_s:.2f} x the time, "
        f"{last.cpu_s / first.cpu_s:.2f} x the CPU and {last.peak_mb / first.peak_mb:.2f} x the memory of a tick with "
        f"{first.history_days} days"
    )


def history_days_of(symbols: int, given: int | None) -> int:
    """The days of history for a size: as `given`, else the default, which is smaller for many symbols."""
    return given or (_DAYS if symbols <= _MANY else _DAYS_WHEN_MANY)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tick", description=__doc__.splitlines()[0])
    parser.add_argument("--symbols", type=int, nargs="+", default=[100, 1000], metavar="N", help="sizes to measure")
    parser.add_argument(
        "--history-days",
        type=int,
        help=f"days of 5m bars before the tick [default: {_DAYS}, and {_DAYS_WHEN_MANY} above {_MANY} symbols]",
    )
    parser.add_argument("--timeframe", default="5m", help="a tick of this one, fetched and of 5m or less [default: 5m]")
    parser.add_argument(
        "--naive-partitions", type=int, nargs="+", default=[1, 2, 4], metavar="N", help="sizes of the baseline"
    )
    parser.add_argument("--compare-history", type=int, nargs="+", metavar="DAYS", help="compare lengths of history")
    parser.add_argument("--compare-assets", action="store_true", help="compare the chain with all signals")
    parser.add_argument(
        "--compare-symbols",
        type=int,
        metavar="N",
        help="symbols of a comparison [default: 20 for histories, 100 for assets]",
    )
    parser.add_argument("--compare-ticks", type=int, default=5, metavar="N", help="ticks on each history")
    parser.add_argument("--json", action="store_true", help="print a JSON list instead of a table")
    given = parser.parse_args()

    def say(line: str) -> None:
        print(f"[{time.strftime('%H:%M:%S')}] {line}", file=sys.stderr, flush=True)

    if given.compare_assets:
        compared = compare_assets(given.compare_symbols or 100, given.compare_ticks, say)
        if given.json:
            print(json.dumps(compared, indent=2))
        else:
            _print_assets(compared)
        return
    if given.compare_history:
        symbols = given.compare_symbols or 20
        sizes = sorted({max(symbols // 4, 1), symbols})
        histories = compare(given.compare_history, symbols, given.compare_ticks, sizes, say)
        if given.json:
            print(json.dumps([asdict(row) for row in histories], indent=2))
        else:
            _print_histories(histories)
        return
    baselines: dict[int, Baseline] = {}
    rows = [
        measure(
            size,
            history_days_of(size, given.history_days),
            given.naive_partitions,
            baselines,
            say,
            parse_timeframe(given.timeframe),
        )
        for size in given.symbols
    ]
    if given.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        for row in rows:
            _print_row(row)


if __name__ == "__main__":
    main()
