"""Counts in sentences."""

import re
from pathlib import Path

import pytest

import ema_assets
from ema_assets.model.counts import counted, noun, times, times_in_a_row


@pytest.mark.parametrize(
    ("count", "said", "in_a_row"),
    [(1, "once", "once"), (2, "2 times", "2 times in a row"), (1200, "1,200 times", "1,200 times in a row")],
)
def test_once_is_a_word(count: int, said: str, in_a_row: str) -> None:
    assert (times(count), times_in_a_row(count)) == (said, in_a_row)


@pytest.mark.parametrize(
    ("count", "said", "alone"), [(0, "0 gaps", "gaps"), (1, "1 gap", "gap"), (1200, "1,200 gaps", "gaps")]
)
def test_one_is_no_plural(count: int, said: str, alone: str) -> None:
    assert (counted(count, "gap"), noun(count, "gap")) == (said, alone)
    assert (counted(count, "day was", "days were"), noun(count, "is", "are")) == {
        0: ("0 days were", "are"),
        1: ("1 day was", "is"),
        1200: ("1,200 days were", "are"),
    }[count]


def test_no_sentence_of_the_package_makes_a_plural_by_itself() -> None:
    by_itself = re.compile(r"""\{'s' if |\{'' if [^{}]*else 's'\}|[a-z]\(s\)(?!:)""")
    package = Path(ema_assets.__file__).parent
    found = [
        f"{path.relative_to(package)}:{number}"
        for path in sorted(package.rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if by_itself.search(line)
    ]
    assert found == []
