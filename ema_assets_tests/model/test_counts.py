"""Tests of counts in sentences."""

import re
from pathlib import Path

import pytest

import ema_assets
from ema_assets.model.counts import counted, noun, times, times_in_a_row


@pytest.mark.parametrize(
    ("count", "said", "in_a_row"),
    [(1, "once", "once"), (2, "2 times", "2 times in a row"), (1200, "1,200 times", "1,200 times in a row")],
)
def test_one_time_is_written_as_once(count: int, said: str, in_a_row: str) -> None:
    assert (times(count), times_in_a_row(count)) == (said, in_a_row)


@pytest.mark.parametrize(
    ("count", "said", "alone"), [(0, "0 gaps", "gaps"), (1, "1 gap", "gap"), (1200, "1,200 gaps", "gaps")]
)
def test_a_count_of_one_has_the_singular(count: int, said: str, alone: str) -> None:
    assert (counted(count, "gap"), noun(count, "gap")) == (said, alone)
    assert (counted(count, "day was", "days were"), noun(count, "is", "are")) == {
        0: ("0 days were", "are"),
        1: ("1 day was", "is"),
        1200: ("1,200 days were", "are"),
    }[count]


def test_no_module_of_the_package_builds_a_plural_by_hand() -> None:
    by_itself = re.compile(r"""\{'s' if |\{'' if [^{}]*else 's'\}|[a-z]\(s\)(?!:)""")
    package = Path(ema_assets.__file__).parent
    found = [
        f"{path.relative_to(package)}:{number}"
        for path in sorted(package.rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if by_itself.search(line)
    ]
    assert found == []
