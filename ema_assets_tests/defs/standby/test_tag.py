"""Tests of the tag that names the process of a run."""

import os
import subprocess

from ema_assets.defs.standby.tag import TAG, Holder


def test_the_tag_identifies_the_process() -> None:
    mine = Holder.of_process("run", os.getpid())
    found = Holder.of_run("run", {"other": "tag", **mine.tags()})
    assert found == mine
    assert found.is_here
    assert found.lives()


def test_a_retry_with_the_tags_of_its_parent_has_no_process() -> None:
    assert Holder.of_run("retry", Holder.of_process("parent", os.getpid()).tags()) is None


def test_a_missing_an_empty_and_an_incomplete_tag_name_no_process() -> None:
    assert Holder.of_run("run", {}) is None
    assert Holder.of_run("run", {TAG: ""}) is None
    assert Holder.of_run("run", {TAG: '{"run_id": "run"}'}) is None


def test_an_ended_process_and_another_process_with_its_pid_do_not_count_as_alive() -> None:
    ended = subprocess.Popen(["true"])
    gone = Holder.of_process("run", ended.pid)
    ended.wait()
    assert not gone.lives()
    assert not gone.ask_to_cancel()
    stranger = Holder("run", gone.host, os.getpid(), gone.identity + 1)
    assert not stranger.lives()
    assert not stranger.ask_to_cancel()
    assert not Holder("run", "elsewhere", 1, 1).is_here
