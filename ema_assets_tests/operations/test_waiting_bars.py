"""Tests of bars that wait to be stored: all come back in order, few of them are kept in memory, nothing is left."""

import resource
import signal
from collections.abc import Iterator
from datetime import date
from io import FileIO
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ema_assets.model.schemas import BAR_SCHEMA
from ema_assets.operations import waiting_bars
from ema_assets.operations.waiting_bars import WaitingBars
from ema_assets_tests.refresh.exchange import bars_on
from ema_assets_tests.timeframes import M5

DAY = date(2026, 11, 24)


def file_of(symbol: str) -> pl.DataFrame:
    bars = bars_on("XNYS", symbol, M5, DAY, DAY)
    # With nulls, as files have them.
    return pl.concat([bars.head(3).with_columns(volume=pl.lit(None, pl.Float64)), bars[3:]]).select(list(BAR_SCHEMA))


FILES = [(Path(f"{symbol}.csv"), file_of(symbol)) for symbol in ("AAPL", "MSFT", "JPM", "KO")]


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file of this process can grow beyond a kilobyte, as if the disk were full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize("rows", [0, 200, 10_000], ids=["the first file in memory", "two in memory", "all in memory"])
def test_all_bars_come_back_in_order_and_leave_no_file(tmp_path: Path, rows: int) -> None:
    with WaitingBars(tmp_path / "home", rows) as waiting:
        for path, bars in FILES:
            waiting.put(path, bars)
        assert len(waiting) == len(FILES)
        taken = list(waiting.take())
    assert [path for path, _ in taken] == [path for path, _ in FILES]
    assert all(
        found.equals(bars) and found.schema == bars.schema for (_, found), (_, bars) in zip(taken, FILES, strict=True)
    )
    assert len(waiting) == 0
    assert (tmp_path / "home").exists() == (rows < 10_000)
    assert list(tmp_path.rglob("*")) in ([], [tmp_path / "home"])


@pytest.mark.parametrize(("rows", "count"), [(0, 1), (160, 2)])
def test_bars_beyond_the_limit_are_not_in_memory(tmp_path: Path, rows: int, count: int) -> None:
    with WaitingBars(tmp_path, rows) as waiting:
        for path, bars in FILES:
            waiting.put(path, bars)
        are_in_memory = [isinstance(kept, pl.DataFrame) for _, kept in waiting._waiting]
    assert are_in_memory == [number < count for number in range(4)]


class FewBytes(FileIO):
    """Reads and writes at most 1,000 bytes per call, as the system does with large files."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 0, 1_000))

    def write(self, data: Any, /) -> int:
        return super().write(data[:1_000])


def test_a_file_that_is_read_and_written_in_several_calls_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting_bars, "TemporaryFile", lambda **_: FewBytes(tmp_path / "disk", "w+"))
    with WaitingBars(tmp_path, 0) as waiting:
        for path, bars in FILES:
            waiting.put(path, bars)
        assert all(found.equals(bars) for (_, found), (_, bars) in zip(waiting.take(), FILES, strict=True))


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_is_reported_with_its_folder(tmp_path: Path) -> None:
    with WaitingBars(tmp_path, 0) as waiting:
        waiting.put(*FILES[0])
        with pytest.raises(OSError, match=str(tmp_path)):
            waiting.put(*FILES[1])
