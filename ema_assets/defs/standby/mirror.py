"""What a run prints appears where its process prints, too, without processes for that.

Dagster writes the output of a run into files, for its UI. To show it in the terminal as well, it starts `tail` for each
of the two files, and for each `tail` a Python process that ends it when the run's process is killed. These four take
60 ms of processor time per run, and what is printed within a second of the run's end is lost.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

# How often new output is looked for, and how long a terminal or pipe that takes nothing is waited for at the end.
_LOOK_SECONDS, _PATIENCE_SECONDS = 0.25, 5.0
_BLOCK_BYTES = 65_536


def install() -> None:
    """Have Dagster's captured output copied by threads of this process, if capturing is as we know it."""
    with suppress(ImportError):
        from dagster._core.storage import local_compute_log_manager as captured

        if hasattr(captured, "mirror_stream_to_file"):
            captured.mirror_stream_to_file = mirrored


@contextmanager
def mirrored(stream: TextIO, path: str) -> Iterator[None]:
    """Append to the file at `path`, within the block, what is written to `stream`, and also print it where it was."""
    from dagster._core.execution.compute_logs import redirect_to_file
    from dagster._utils import ensure_file

    ensure_file(path)
    is_over = threading.Event()
    written = Path(path)
    what = (written, written.stat().st_size, os.dup(stream.fileno()), is_over)
    copier = threading.Thread(target=_copy, args=what, name="mirror", daemon=True)
    copier.start()
    try:
        with redirect_to_file(stream, path):
            yield
    finally:
        is_over.set()
        copier.join(_PATIENCE_SECONDS)


def _copy(path: Path, start: int, target: int, is_over: threading.Event) -> None:
    """Copy what is appended to the file behind `start` to the file descriptor `target`, until it is over; close both.

    A terminal that was closed meanwhile gets no more.
    """
    with suppress(OSError), path.open("rb") as source, os.fdopen(target, "wb", buffering=0) as printed:
        source.seek(start)
        is_last = False
        while not is_last:
            is_last = is_over.wait(_LOOK_SECONDS)
            while block := source.read(_BLOCK_BYTES):
                while block:
                    block = block[printed.write(block) :]
