"""What a process costs: CPU seconds with all it started and waited for, wall seconds, peak memory."""

import resource
import sys
import time


class Cost:
    """Counts from the start of the process, so that imports are in it, as they are in a Dagster run."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def report(self) -> dict[str, float]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        # Linux counts ru_maxrss in kibibytes, macOS in bytes.
        unit = 1024**2 if sys.platform == "darwin" else 1024
        return {
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "wall_s": time.perf_counter() - self._began,
            "peak_mb": usage.ru_maxrss / unit,
        }
