"""The budget, the waits a vendor asks for, and the limits' limits."""

import asyncio
import email.utils
import time

import pytest

from ema_assets.model.errors import ConfigurationError
from ema_assets.providers.http.answers import retry_after_seconds
from ema_assets.providers.http.budget import HttpLimits, RequestBudget


def test_no_window_holds_more_than_the_budget_and_order_is_kept() -> None:
    async def run() -> tuple[list[int], list[float]]:
        budget, order, left = RequestBudget(5, window_seconds=0.2), list[int](), list[float]()

        async def one(number: int) -> None:
            await budget.take()
            order.append(number)
            left.append(time.monotonic())

        await asyncio.gather(*(one(number) for number in range(17)))
        return order, left

    order, left = asyncio.run(run())
    assert order == list(range(17))
    assert all(later - earlier >= 0.199 for earlier, later in zip(left, left[5:], strict=False))
    assert left[-1] - left[0] < 1.5


def test_a_closed_budget_lets_nothing_leave() -> None:
    async def run() -> float:
        budget = RequestBudget(5)
        budget.close_for(0.2)
        begin = time.monotonic()
        await budget.take()
        return time.monotonic() - begin

    assert asyncio.run(run()) >= 0.2


def test_a_wait_is_read_from_seconds_a_date_or_the_reset_time() -> None:
    assert retry_after_seconds({"retry-after": "7"}) == 7
    assert retry_after_seconds({"retry-after": "-7"}) == 0
    date = email.utils.formatdate(time.time() + 30, usegmt=True)
    assert retry_after_seconds({"retry-after": date}) == pytest.approx(30, abs=2)
    assert retry_after_seconds({"x-ratelimit-reset": str(int(time.time()) + 20)}) == pytest.approx(20, abs=2)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"retry-after": "soon"},
        {"retry-after": "nan"},
        {"x-ratelimit-reset": "99999999999"},
        {"x-ratelimit-reset": ""},
    ],
)
def test_a_wait_that_cannot_be_read_is_none(headers: dict[str, str]) -> None:
    assert retry_after_seconds(headers) is None


@pytest.mark.parametrize("name", list(HttpLimits.__dataclass_fields__))
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_a_limit_must_be_above_zero(name: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=name):
        HttpLimits(**{name: value})  # type: ignore[arg-type]
