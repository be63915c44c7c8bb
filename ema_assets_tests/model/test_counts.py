"""Counts in sentences."""

import pytest

from ema_assets.model.counts import times, times_in_a_row


@pytest.mark.parametrize(
    ("count", "said", "in_a_row"),
    [(1, "once", "once"), (2, "2 times", "2 times in a row"), (1200, "1,200 times", "1,200 times in a row")],
)
def test_once_is_a_word(count: int, said: str, in_a_row: str) -> None:
    assert (times(count), times_in_a_row(count)) == (said, in_a_row)
