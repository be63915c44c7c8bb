"""Tests of the reports and comparisons of the chaos suite. The faults themselves are run by hand."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random
from types import SimpleNamespace
from typing import Any

import polars as pl

from benchmarks.chaos.__main__ import is_good, report
from benchmarks.chaos.comparison import _so_far
from benchmarks.chaos.declaration import Fault
from benchmarks.chaos.faults import discover
from benchmarks.chaos.run import after, chosen
from benchmarks.chaos.starts import STARTS, of_seed

FAULTS = discover()


def test_every_fault_has_a_name_and_describes_what_it_does_and_how_it_heals() -> None:
    assert len(FAULTS) >= 18
    assert all(fault.name == name and fault.does and fault.heals for name, fault in FAULTS.items())
    assert {"kill-worker", "kill-postgres", "disk-full", "clock-back", "two-stacks"} <= set(FAULTS)


def test_ten_seeds_with_four_faults_each_cover_all_faults_and_all_starts() -> None:
    seeds = range(1, 11)
    first = Counter(fault.name for seed in seeds for fault in chosen(list(FAULTS.values()), seed)[:4])
    assert set(first) == set(FAULTS)
    assert all(len(chosen(list(FAULTS.values()), seed)) == len(FAULTS) for seed in seeds)
    assert {of_seed(seed).name for seed in seeds} == {start.name for start in STARTS}


def test_an_impossible_fault_is_skipped_with_its_reason_and_does_not_count_as_passed(capsys: Any) -> None:
    said: list[str] = []
    fault = Fault("no-disk", "fills a disk", "by itself", _never, why_not=lambda world: "only root may")
    world: Any = SimpleNamespace(say=said.append)
    outcome = after(world, fault, Random(1), "x")
    assert (outcome.outcome, outcome.rows) == ("skipped", 0)
    assert said == ["no-disk: SKIPPED, only root may"]
    row = {"fault": "disk-full", "outcome": "skipped", "healed_s": None, "rows": 0, "wrong": ["only root may"]}
    report([_seed(row)])
    printed = capsys.readouterr().out
    assert "| 0 | 0 | 1 |  |" in printed
    assert "seed 1, disk-full: skipped: only root may" in printed


def test_a_seed_is_good_only_if_nothing_failed_was_skipped_differed_or_stayed_stale() -> None:
    passed = {"fault": "kill-up", "outcome": "passed", "healed_s": 3.0, "rows": 9, "wrong": []}
    assert is_good(_seed(passed))
    assert not is_good(_seed({**passed, "outcome": "FAILED"}))
    assert not is_good(_seed({**passed, "outcome": "skipped"}))
    assert not is_good(_seed(passed) | {"outcomes": []})
    for wrong in ({"settled": False}, {"different": ["ohlc AAPL|5m: 1 and 2 rows"]}, {"failed_again": 1}):
        assert not is_good(_seed(passed) | wrong)


def test_newer_rows_are_ignored_but_missing_and_changed_older_rows_are_differences() -> None:
    again = pl.DataFrame({"symbol": ["A"] * 3, "ts": [1, 2, 3], "close": [1.0, 2.0, 3.0]})
    newer = pl.DataFrame({"symbol": ["A"] * 4, "ts": [1, 2, 3, 4], "close": [1.0, 2.0, 3.0, 4.0]})
    assert _equal(newer, again)
    assert not _equal(newer.filter(pl.col("ts") != 2), again)
    assert not _equal(newer.filter(pl.col("ts") < 3), again)
    assert not _equal(newer.with_columns(close=pl.col("close") + 1), again)
    assert not _equal(pl.concat([newer, newer.head(1)]).sort("ts"), again)


def test_an_open_trade_may_have_closed_but_no_trade_may_be_missing_or_changed() -> None:
    again = pl.DataFrame({"symbol": ["A", "A"], "entry_ts": [1, 5], "status": ["closed", "open"], "exit_ts": [3, None]})
    closed_since = again.with_columns(status=pl.lit("closed"), exit_ts=pl.col("exit_ts").fill_null(7))
    assert _equal(closed_since, again, "entry_ts")
    assert not _equal(closed_since.head(1), again, "entry_ts")
    assert not _equal(closed_since.with_columns(exit_ts=pl.col("exit_ts") + 1), again, "entry_ts")


def _equal(mine: pl.DataFrame, again: pl.DataFrame, order: str = "ts") -> bool:
    one, other = _so_far(mine, again, order)
    return one.equals(other)


def _seed(outcome: dict[str, Any]) -> dict[str, Any]:
    good = {"settled": True, "rows": 10, "different": [], "failed_again": 0, "seconds": 60.0, "load": 1.0}
    return {"seed": 1, "start": "tuesday", "outcomes": [outcome], "events": [], **good}


@contextmanager
def _never(world: Any, chance: Random) -> Iterator[Sequence[str]]:
    raise AssertionError("a fault that is skipped is not caused")
    yield ()
