"""Faults under a real `ema-assets up` in a fast virtual market, and what must hold after each of them.

    python -m benchmarks.chaos --seeds 1 2 3 [--minutes 6] [--faults kill-worker,disk-full] [--symbols 6] [--start NAME]

For each seed a new `ema-assets up` with its own PostgreSQL loads its history; then faults come one after another, as
many as begin within `--minutes` of the start of `up`, at moments and with victims that follow from the seed. A fault
has healed when every part of `up` runs and nothing of the time before is stale. Then all series are loaded from the
exchange into an empty database, without Dagster, and every row up to that moment must be equal, column by column:
nothing is lost, nothing invented. Series that a fault does not concern must have gone on while it lasted. When the
minutes are over the market slows down to the pace of the machine, and everything that was stored is compared once more.

The exit code is 1 when something does not hold, or when no fault of a seed began in time. A fault that cannot be had on
this machine is skipped, and says why.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.chaos import starts
from benchmarks.chaos.declaration import FAILED, PASSED, SKIPPED
from benchmarks.chaos.faults import discover
from benchmarks.chaos.run import Plan, chosen, run


def is_good(found: dict[str, Any]) -> bool:
    """Whether all of a seed has held, and any fault was caused at all."""
    outcomes = {each["outcome"] for each in found["outcomes"]}
    is_equal = not (found["different"] or found["failed_again"])
    return bool(found["settled"]) and is_equal and FAILED not in outcomes and PASSED in outcomes


def guarded(plan: Plan) -> dict[str, Any]:
    """The figures of a seed; one that breaks down has failed, and the next one begins."""
    try:
        return run(plan)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, the other seeds are of use
        traceback.print_exc()
        broken = {"fault": "all", "outcome": FAILED, "healed_s": None, "rows": 0, "wrong": [str(error)]}
        nothing = {"settled": False, "rows": 0, "different": [], "failed_again": 0, "seconds": 0.0, "load": 0.0}
        return {"seed": plan.seed, "start": plan.start.name, "outcomes": [broken], "events": [], **nothing}


def report(found: list[dict[str, Any]]) -> None:
    """Print the tables: of faults over all seeds, and of seeds."""
    faults = discover()
    print("| fault | what it does | passed | failed | skipped | well again after, s |\n|---|---|---:|---:|---:|---:|")
    for name, fault in faults.items():
        mine = [each for seed in found for each in seed["outcomes"] if each["fault"] == name]
        if not mine:
            continue
        counted = Counter(each["outcome"] for each in mine)
        healed = sorted(each["healed_s"] for each in mine if each["healed_s"] is not None)
        took = f"{healed[0]:.0f} to {healed[-1]:.0f}" if healed else ""
        print(
            f"| `{name}` | {fault.does} | {counted[PASSED]} | {counted[FAILED]} | {counted[SKIPPED]} | {took} |",
        )
    print("\n| seed | begins | faults | rows compared after them | rows at the end | differ | minutes | load |")
    print("|---:|---|---:|---:|---:|---:|---:|---:|")
    for seed in found:
        caused = [each for each in seed["outcomes"] if each["outcome"] != SKIPPED]
        print(
            f"| {seed['seed']} | {seed['start']} | {len(caused)} | {sum(each['rows'] for each in caused):,} | "
            f"{seed['rows']:,} | {len(seed['different'])} | {seed['seconds'] / 60:.1f} | {seed['load']:.1f} |"
        )
    for seed in found:
        for each in seed["outcomes"]:
            if each["outcome"] != PASSED:
                print(f"seed {seed['seed']}, {each['fault']}: {each['outcome']}: {'; '.join(each['wrong'])}")
        for line in seed["different"][:20]:
            print(f"seed {seed['seed']}, at the end: {line}")
        if not seed["settled"]:
            print(f"seed {seed['seed']}: still stale or at work in the end")


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Faults under a real `ema-assets up`, and a comparison after each.",
        epilog="faults: " + "; ".join(f"{name}: {fault.does}" for name, fault in discover().items()),
    )
    parser.add_argument("--minutes", type=float, default=6.0, help="For each seed, loading included.")
    parser.add_argument("--seeds", "--seed", type=int, nargs="+", default=[1])
    parser.add_argument("--faults", help="Names with commas, in this order. [default: all, from another one each seed]")
    parser.add_argument("--symbols", type=int, default=4, help="Half stocks, half pairs; four at least.")
    parser.add_argument("--start", choices=[each.name for each in starts.STARTS], help="[default: by the seed]")
    parser.add_argument("--speed", type=float, default=20.0)
    parser.add_argument("--sweep-seconds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="A new folder that is kept, with all logs.")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    known = discover()
    names = given.faults.split(",") if given.faults else None
    if names and not set(names) <= set(known):
        parser.error(f"faults are: {', '.join(known)}")
    # End as with Ctrl-C, so that everything that was started is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    found = []
    with tempfile.TemporaryDirectory(prefix="ema-chaos-") as kept:
        for seed in given.seeds:
            plan = Plan(
                seed=seed,
                start=starts.by_name(given.start) if given.start else starts.of_seed(seed),
                minutes=given.minutes,
                symbols=given.symbols,
                speed=given.speed,
                sweep_seconds=given.sweep_seconds,
                faults=tuple(known[name] for name in names) if names else chosen(list(known.values()), seed),
                folder=(given.folder or Path(kept)) / f"seed-{seed}",
            )
            found.append(guarded(plan))
    if given.json:
        print(json.dumps(found, indent=2, default=str))
    else:
        report(found)
        print(f"{os.cpu_count()} cores", file=sys.stderr)
    if not all(is_good(each) for each in found):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
