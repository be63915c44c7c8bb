"""What a process costs: CPU seconds including the processes it waited for, wall seconds, peak memory."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def megabytes(usage: Any) -> float:
    # Linux counts ru_maxrss in kibibytes, macOS in bytes.
    return float(usage.ru_maxrss) / (1024**2 if sys.platform == "darwin" else 1024)


class Cost:
    """Counts from the start of the process, so that imports are included, as in a Dagster run."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def report(self) -> dict[str, float]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "wall_s": time.perf_counter() - self._began,
            "peak_mb": megabytes(usage),
        }


@dataclass(frozen=True, slots=True)
class Spent:
    """What a program cost from start to end. `peak_mb` is the peak of the largest of its processes."""

    cpu_s: float
    wall_s: float
    peak_mb: float


def spend(command: Sequence[str], env: Mapping[str, str], log: Path) -> Spent:
    """Run `command` to its end and return what it cost, with every process that it started and waited for.

    Its output goes to `log`, because somebody would have to read from a pipe meanwhile.

    Raises:
        SystemExit: when it failed, with the end of its output.
    """
    began = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=dict(env), stdout=output, stderr=subprocess.STDOUT)
        # For this child alone: RUSAGE_CHILDREN adds up all children that this process ever had.
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - began
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command[:5])} failed:\n{log.read_text(errors='replace')[-4000:]}")
    return Spent(usage.ru_utime + usage.ru_stime, wall, megabytes(usage))


@dataclass(frozen=True, slots=True)
class Line:
    """A cost that grows with a number: `fixed` + `slope` · number."""

    fixed: float
    slope: float

    def at(self, number: float) -> float:
        """The cost at `number`."""
        return self.fixed + self.slope * number


def fit(points: Sequence[tuple[float, float]]) -> Line:
    """The least-squares line through `points` of (number, cost); through the origin when there is only one number.

    Raises:
        ValueError: when there are no points.
    """
    if not points:
        raise ValueError("a line needs at least one point, received none")
    count = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / count, sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if not spread:
        return Line(0.0, mean_y / mean_x)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    return Line(mean_y - slope * mean_x, slope)
