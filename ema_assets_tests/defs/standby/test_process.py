"""Tests of one standby process as its owner sees it."""

import sys
from pathlib import Path

import pytest

from ema_assets.defs.standby.process import Location, StandbyProcess
from ema_assets.defs.standby.protocol import Failed, Load, ToOwner, line
from ema_assets_tests.waiting import wait_until

LOAD = Load(
    instance="",
    origin="",
    location=None,
    module="m",
    working_directory=None,
    max_runs=1,
    max_megabytes=1,
    works_with={},
)
FAILED = Failed("a reason")


@pytest.mark.parametrize("written", [line(FAILED), line(FAILED)[:-1], line(FAILED)[:5]])
def test_the_end_of_a_process_that_was_killed_while_it_wrote_a_message_is_noticed(
    tmp_path: Path, written: bytes
) -> None:
    worker = tmp_path / "worker"
    worker.write_text(
        f"#!{sys.executable} -S\nimport os, sys\nos.write(int(sys.argv[3]), {written!r})\nos.kill(os.getpid(), 9)"
    )
    worker.chmod(0o700)
    said: list[ToOwner] = []
    ended: list[StandbyProcess] = []
    location = Location(str(worker), None, "m", None, "")
    process = StandbyProcess(location, LOAD, lambda _, message: said.append(message), ended.append)
    wait_until(lambda: ended, "its end is noticed")
    assert ended == [process]
    assert said == ([FAILED] if written == line(FAILED) else [])
