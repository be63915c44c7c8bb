"""Tests of output that is written to a file and printed as well."""

import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TextIO

import psutil
import pytest
from dagster._core.storage import local_compute_log_manager

from ema_assets.defs.standby import mirror


@dataclass
class Printed:
    """A stream that a process prints to, and the other end of it."""

    stream: TextIO
    reader: FileIO

    def rest(self) -> str:
        """What has been printed and not yet read."""
        os.set_blocking(self.reader.fileno(), False)
        return (self.reader.read() or b"").decode()


@pytest.fixture
def printed() -> Iterator[Printed]:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as reader, os.fdopen(writing, "w") as stream:
        yield Printed(stream, reader)


def test_what_is_written_appears_in_the_file_and_where_it_was_printed_before(tmp_path: Path, printed: Printed) -> None:
    path = tmp_path / "logs" / "step.out"
    for number in (1, 2):
        # A second capture, of a step that is tried again, continues the file and prints nothing twice.
        with mirror.mirrored(printed.stream, str(path)):
            print(f"first of {number}", file=printed.stream, flush=True)
            subprocess.run(["echo", f"by a child of {number}"], stdout=printed.stream, check=True)
            print(f"last of {number}, ü", file=printed.stream)
        written = f"first of {number}\nby a child of {number}\nlast of {number}, ü\n"
        assert printed.rest() == written
        assert path.read_text(encoding="utf-8").endswith(written)
    print("behind it", file=printed.stream, flush=True)
    assert printed.rest() == "behind it\n"
    assert path.read_text(encoding="utf-8").count("\n") == 6


def test_output_is_printed_while_more_is_written(tmp_path: Path, printed: Printed) -> None:
    with mirror.mirrored(printed.stream, str(tmp_path / "step.out")):
        print("at once", file=printed.stream, flush=True)
        assert printed.reader.read(100) == b"at once\n"


def test_much_output_is_printed_whole(tmp_path: Path, printed: Printed) -> None:
    read: list[bytes] = []

    def drain() -> None:
        while block := printed.reader.read(10_000):
            read.append(block)

    reader = threading.Thread(target=drain)
    reader.start()
    text = "0123456789" * 100_000
    with mirror.mirrored(printed.stream, str(tmp_path / "step.out")):
        printed.stream.write(text)
    printed.stream.close()
    reader.join(60)
    assert b"".join(read).decode() == text


def test_a_terminal_that_was_closed_does_not_matter(tmp_path: Path, printed: Printed) -> None:
    printed.reader.close()
    path = tmp_path / "step.out"
    with mirror.mirrored(printed.stream, str(path)):
        print("nobody reads this", file=printed.stream)
    assert path.read_text() == "nobody reads this\n"


def test_a_pipe_that_nobody_reads_holds_no_run_up(
    tmp_path: Path, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "_PATIENCE_SECONDS", 0.1)
    path = tmp_path / "step.out"
    with mirror.mirrored(printed.stream, str(path)):
        printed.stream.write("x" * 1_000_000)
    assert path.stat().st_size == 1_000_000
    (waiting,) = (each for each in threading.enumerate() if each.name == "mirror")
    while waiting.is_alive():
        printed.rest()
        waiting.join(0.01)


def test_nothing_of_it_stays_open(tmp_path: Path, printed: Printed) -> None:
    process = psutil.Process()
    before = process.num_fds()
    with mirror.mirrored(printed.stream, str(tmp_path / "step.out")):
        print("x", file=printed.stream)
    assert process.num_fds() == before
    assert [each.name for each in threading.enumerate() if each.name == "mirror"] == []


def test_dagster_captures_with_it_once_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """This test fails when a Dagster upgrade captures output in another way."""
    captured, name = vars(local_compute_log_manager), "mirror_stream_to_file"
    assert callable(captured[name])
    monkeypatch.setitem(captured, name, None)
    mirror.install()
    assert captured[name] is mirror.mirrored
    monkeypatch.delitem(captured, name)
    mirror.install()
    assert name not in captured
