"""Bars of files that wait to be stored: those of the first file or files in memory, all further ones on disk."""

from collections import deque
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Self

import polars as pl

# A bar of a file has about 100 bytes in memory, and a folder may have the minutes of hundreds of symbols.
_ROWS_IN_MEMORY = 2_000_000


class WaitingBars:
    """The bars of files (BAR_SCHEMA each), in the order in which they were put here.

    A context manager. What is on disk is compressed and in one file without a name in `folder`, so nothing is left of
    it when the process ends, however it ends.
    """

    def __init__(self, folder: Path, rows_in_memory: int = _ROWS_IN_MEMORY) -> None:
        self._folder = folder
        self._free = rows_in_memory
        self._disk: IO[bytes] | None = None
        self._waiting: deque[tuple[Path, pl.DataFrame | tuple[int, int]]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Forget all bars."""
        self._waiting.clear()
        if self._disk is not None:
            self._disk.close()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, path: Path, bars: pl.DataFrame) -> None:
        """Keep the bars of the file `path`.

        Raises:
            OSError: naming the folder, when it cannot be written to or its disk is full.
        """
        if bars.height <= self._free or not self._waiting:
            self._free -= bars.height
            self._waiting.append((path, bars))
            return
        # Once a file is on disk, so are those behind it: a small one would not make much difference.
        self._free = 0
        try:
            self._waiting.append((path, self._written(bars)))
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._folder)) from error

    def take(self) -> Iterator[tuple[Path, pl.DataFrame]]:
        """Yield each file and its bars, and forget them."""
        while self._waiting:
            path, kept = self._waiting.popleft()
            yield path, kept if isinstance(kept, pl.DataFrame) else self._read(*kept)

    def _written(self, bars: pl.DataFrame) -> tuple[int, int]:
        """Write `bars` and return where they begin and how many bytes they have."""
        packed = BytesIO()
        bars.write_ipc(packed, compression="lz4")
        if self._disk is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._disk = TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 - it is used until the end
        begin = self._disk.seek(0, 2)
        rest = packed.getbuffer()
        while rest:
            rest = rest[self._disk.write(rest) :]
        return begin, packed.tell()

    def _read(self, begin: int, size: int) -> pl.DataFrame:
        assert self._disk is not None
        # A buffered reader gives all bytes. The system gives at most 2 GiB per call, and may give fewer.
        with open(self._disk.fileno(), "rb", closefd=False) as disk:
            disk.seek(begin)
            return pl.read_ipc(BytesIO(disk.read(size)))
