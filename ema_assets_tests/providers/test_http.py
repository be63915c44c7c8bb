"""The budget, the waits a vendor asks for, and the limits' limits."""

import asyncio
import email.utils
import time
from collections.abc import Callable

import pytest

from ema_assets.model.errors import ConfigurationError, MalformedAnswer, ProviderError, ProviderUnavailable
from ema_assets.providers.http.budget import HttpLimits, RequestBudget
from ema_assets.providers.http.refusals import CutAnswer, NotTheApi, retry_after_seconds, shared_failure, web_page
from ema_assets_tests.waiting import run_virtually


def test_no_window_holds_more_than_the_budget_and_order_is_kept() -> None:
    async def run(clock: Callable[[], float]) -> tuple[list[int], list[float]]:
        budget, order, left = RequestBudget(5, clock=clock), list[int](), list[float]()
        began = clock()

        async def one(number: int) -> None:
            await asyncio.sleep(number)  # one call per second wants to leave
            await budget.take()
            order.append(number)
            left.append(clock() - began)

        await asyncio.gather(*(one(number) for number in range(17)))
        return order, left

    order, left = run_virtually(run)
    assert order == list(range(17))
    assert left == [60.0 * (number // 5) + number % 5 for number in range(17)]


def test_a_closed_budget_lets_nothing_leave_until_the_longest_wait_is_over() -> None:
    async def run(clock: Callable[[], float]) -> float:
        budget, began = RequestBudget(5, clock=clock), clock()
        for seconds in (20.0, 30.0, 10.0):
            budget.close_for(seconds)
        await budget.take()
        return clock() - began

    assert run_virtually(run) == 30


def test_a_budget_that_is_closed_while_a_call_waits_for_it_keeps_the_call() -> None:
    async def run(clock: Callable[[], float]) -> float:
        budget, began = RequestBudget(1, clock=clock), clock()
        await budget.take()
        waiting = asyncio.create_task(budget.take())
        await asyncio.sleep(50)
        budget.close_for(30)
        await waiting
        return clock() - began

    assert run_virtually(run) == 80


def test_a_wait_is_read_from_seconds_a_date_or_the_reset_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_784_138_580
    monkeypatch.setattr(time, "time", lambda: float(now))
    assert retry_after_seconds({"retry-after": "7"}) == 7
    assert retry_after_seconds({"retry-after": "-7"}) == 0
    date = email.utils.formatdate(now + 30, usegmt=True)
    assert retry_after_seconds({"retry-after": date}) == 30
    assert retry_after_seconds({"x-ratelimit-reset": str(now + 20)}) == 20


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


@pytest.mark.parametrize(
    ("content_type", "body", "is_page"),
    [
        ("text/html", b"<html>consent</html>", True),
        ("application/json", b" \n<!doctype html>", True),
        ("", b"<?xml version='1.0'?><error/>", True),
        ("text/html; charset=utf-8", b"Sorry", True),
        ("text/html", b"", True),
        ("text/html", b'{"chart": {}}', False),
        ("text/html", b" [1, 2]", False),
        ("application/json", b"", False),
        ("application/json", b"oops", False),
        ("", b"{}", False),
    ],
)
def test_a_web_page_is_told_by_its_type_or_its_first_character(content_type: str, body: bytes, is_page: bool) -> None:
    found = web_page("yahoo", {"content-type": content_type} if content_type else {}, body)
    assert (type(found) is NotTheApi) is is_page
    assert isinstance(found, ProviderUnavailable | None)


def malformed(symbol: str | None, words: str = "Expected `object`") -> MalformedAnswer:
    said = f"yahoo sent an answer for {symbol} that is not bars: {words}"
    return MalformedAnswer(said, provider="yahoo", symbol=symbol)


@pytest.mark.parametrize(
    ("errors", "is_shared"),
    [
        ([], False),
        ([malformed("AAPL")], False),
        ([malformed("AAPL"), malformed("MSFT")], True),
        ([malformed(None), malformed(None)], True),
        ([malformed("AAPL"), malformed("MSFT", "JSON is malformed")], False),
        ([malformed("AAPL"), ProviderError("down", provider="yahoo")], False),
        ([CutAnswer("cut (A)", provider="y", symbol="A"), CutAnswer("cut (B)", provider="y", symbol="B")], True),
    ],
)
def test_several_series_with_the_same_unreadable_answer_share_a_failure(
    errors: list[ProviderError], is_shared: bool
) -> None:
    assert shared_failure(errors) is (errors[0] if is_shared else None)
