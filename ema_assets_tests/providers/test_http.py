"""Tests of the budget, the pauses that a vendor asks for, the texts of errors, and the limits."""

import asyncio
import contextlib
import email.utils
import json
import math
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from ema_assets.model.errors import (
    LONGEST_PAUSE_SECONDS,
    Banned,
    ConfigurationError,
    MalformedAnswer,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    TransientProviderError,
    UnknownSymbol,
)
from ema_assets.model.retry_after import retry_after_seconds
from ema_assets.providers.http import calls
from ema_assets.providers.http.budget import HttpLimits, RequestBudget
from ema_assets.providers.http.circuit_breaker import CircuitBreaker, CircuitOpen
from ema_assets.providers.http.refusals import (
    CutAnswer,
    Manners,
    NotTheApi,
    Refusal,
    TimedOut,
    Unreachable,
    reason,
    shared_failure,
    web_page,
)
from ema_assets.providers.http.source import HttpCall, HttpOptions, HttpSource
from ema_assets_tests.waiting import run_virtually


def test_no_window_has_more_calls_than_the_budget_and_the_order_is_kept() -> None:
    async def run(clock: Callable[[], float]) -> tuple[list[int], list[float]]:
        budget, order, left = RequestBudget(5, clock=clock), list[int](), list[float]()
        began = clock()

        async def one(number: int) -> None:
            await asyncio.sleep(number)  # one call per second is due
            await budget.take()
            order.append(number)
            left.append(clock() - began)

        await asyncio.gather(*(one(number) for number in range(17)))
        return order, left

    order, left = run_virtually(run)
    assert order == list(range(17))
    assert left == [60.0 * (number // 5) + number % 5 for number in range(17)]


def test_a_closed_budget_lets_no_call_through_until_the_longest_pause_is_over() -> None:
    async def run(clock: Callable[[], float]) -> float:
        budget, began = RequestBudget(5, clock=clock), clock()
        for seconds in (20.0, 30.0, 10.0):
            budget.close_for(seconds)
        await budget.take()
        return clock() - began

    assert run_virtually(run) == 30


def test_closing_the_budget_delays_a_call_that_is_already_waiting() -> None:
    async def run(clock: Callable[[], float]) -> float:
        budget, began = RequestBudget(1, clock=clock), clock()
        await budget.take()
        waiting = asyncio.create_task(budget.take())
        await asyncio.sleep(50)
        budget.close_for(30)
        await waiting
        return clock() - began

    assert run_virtually(run) == 80


def test_a_pause_is_read_from_seconds_a_date_or_the_reset_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_784_138_580
    monkeypatch.setattr(time, "time", lambda: float(now))
    assert retry_after_seconds({"retry-after": "7"}) == 7
    assert retry_after_seconds({"retry-after": "0.5"}) == 0.5
    for moment, seconds in ((now + 30, 30), (now - 30, 0), (now + 900_000, LONGEST_PAUSE_SECONDS)):
        date = email.utils.formatdate(moment, usegmt=True)
        assert retry_after_seconds({"retry-after": date}) == seconds
        assert retry_after_seconds({"retry-after": date.replace("GMT", "-0000")}) == seconds
        assert retry_after_seconds({"retry-after": str(moment)}) == seconds
        assert retry_after_seconds({"retry-after": f"{moment}000"}) == seconds
    assert retry_after_seconds({"x-ratelimit-reset": str(now + 20)}) == 20


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"retry-after": "soon"},
        {"retry-after": "nan"},
        {"retry-after": "-7"},
        {"retry-after": "inf"},
        {"retry-after": "1e15"},
        {"retry-after": "1e308"},
        {"retry-after": "Mon, 01 Jan 99999 00:00:00 GMT"},
        {"x-ratelimit-reset": "99999999999"},
        {"x-ratelimit-reset": ""},
    ],
)
def test_an_unreadable_pause_is_none(headers: dict[str, str]) -> None:
    assert retry_after_seconds(headers) is None


@pytest.mark.parametrize("seconds", ["86400000", "259201", "2e10"])
def test_a_pause_is_limited_to_three_days(seconds: str) -> None:
    assert retry_after_seconds({"retry-after": seconds}) == LONGEST_PAUSE_SECONDS == 3 * 86_400


@pytest.mark.parametrize(
    ("asked", "taken"), [(None, None), (0, 0), (60, 60), (1e15, LONGEST_PAUSE_SECONDS), (-1, None), (math.nan, None)]
)
def test_the_pause_in_an_error_of_a_custom_provider_is_limited_as_well(
    asked: float | None, taken: float | None
) -> None:
    assert RateLimited("slower", provider="toy", retry_after_seconds=asked).retry_after_seconds == taken


def refused(status: int, headers: dict[str, str], body: bytes = b"{}", **manners: Any) -> ProviderError:
    how = Manners(headers={}, **manners)
    return Refusal(status, headers, body).error("toy", how, lambda _status, _said: None)


@pytest.mark.parametrize("status", [429, 418, 500, 503])
def test_retry_after_is_read_from_an_answer_of_any_temporary_status(status: int) -> None:
    error = refused(status, {"retry-after": "600"})
    assert isinstance(error, TransientProviderError)
    assert error.retry_after_seconds == 600
    silent = refused(status, {})
    assert isinstance(silent, TransientProviderError)
    assert silent.retry_after_seconds is None


@pytest.mark.parametrize(("status", "is_heard"), [(429, True), (503, False)])
def test_the_reset_time_of_the_call_limit_counts_for_a_429_only(status: int, is_heard: bool) -> None:
    error = refused(status, {"x-ratelimit-reset": str(time.time() + 30)})
    assert isinstance(error, TransientProviderError)
    assert (error.retry_after_seconds is not None) is is_heard


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"message": "bad\\u0000thing \\u001b[31mred\\u001b[0m"}', "bad\N{REPLACEMENT CHARACTER}thing red"),
        (b"no\x00 JSON \x1b]0;title\x07", "no\N{REPLACEMENT CHARACTER} JSON"),
        (b'{"message": "one\\r\\n two\\u2028three \\u202eback"}', "one two three"),
    ],
)
def test_a_message_has_no_characters_that_a_terminal_or_a_database_rejects(body: bytes, words: str) -> None:
    said = str(refused(400, {}, body))
    assert words in said
    assert said.isprintable()


def test_errors_of_a_custom_provider_are_printable_too() -> None:
    error = UnknownSymbol("nothing\x00there\n\x1b[1mat all\ud800", provider="toy", symbol="A")
    assert str(error) == "nothing\N{REPLACEMENT CHARACTER}there at all\N{REPLACEMENT CHARACTER}"
    assert str(MalformedAnswer("naïve – 価格 🙂", provider="toy")) == "naïve – 価格 🙂"


@pytest.mark.parametrize("secret", ["topsecret", "top'se\\cret\"", "top secret/ü"])
def test_a_key_is_removed_from_a_message_in_every_quoted_form(secret: str) -> None:
    forms = (secret, repr(secret), repr(secret.encode()), json.dumps(secret), quote(secret))
    for form in forms:
        said = str(refused(400, {}, f"no {form} here".encode(), secrets=(secret,)))
        assert "***" in said
        assert not {"secret", "cret"} & set(re.findall(r"[a-z]+", said))


def test_a_key_at_the_end_of_a_shortened_message_is_removed_completely() -> None:
    assert "top" not in str(refused(400, {}, b"x" * 195 + b"topsecret", secrets=("topsecret",)))


@pytest.mark.parametrize("value", ["topsecret\nvalue", "topsecret\x00", "tópsecret"])
def test_an_invalid_header_is_refused_by_name_and_its_value_is_not_shown(value: str) -> None:
    with pytest.raises(ConfigurationError, match="the header X-KEY can hold printable ASCII") as caught:
        Manners(headers={"X-KEY": value}, secrets=(value,))
    assert "psecret" not in str(caught.value)


def test_the_password_of_a_proxy_is_not_quoted() -> None:
    assert reason(ValueError("cannot use http://user:hunter2@proxy:1")) == "cannot use http://***@proxy:1"


def test_an_error_without_text_is_shown_as_its_class_name() -> None:
    assert reason(TimeoutError(" ")) == "TimeoutError"


@pytest.mark.parametrize(
    ("status", "location", "words"),
    [
        (302, "/login", "toy answered 302, a redirect to a path of its own, which is not followed: check `base_url`"),
        (
            300,
            "//else.example/",
            "toy answered 300, a redirect to else.example, which is not followed: check `base_url`",
        ),
        (204, "", "toy answered with the unexpected status 204"),
    ],
)
def test_an_answer_that_is_neither_data_nor_an_error_is_reported_with_its_status(
    status: int, location: str, words: str
) -> None:
    assert str(refused(status, {"location": location})) == words


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
def test_a_web_page_is_recognised_by_its_type_or_its_first_character(
    content_type: str, body: bytes, is_page: bool
) -> None:
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


@dataclass
class Counted:
    """A budget that allows everything, and notes what is taken from it and for how long it is closed."""

    taken: int = 0
    closed_for: list[float] = field(default_factory=list)

    async def take(self) -> None:
        self.taken += 1

    def close_for(self, seconds: float) -> None:
        self.closed_for.append(seconds)


@dataclass(frozen=True)
class Call:
    scope: str = "bars"


class Toy(calls.CallSource[Call, str]):
    """A source whose tries end as they are told to, in their order; the last ending is repeated."""

    def __init__(self, *endings: ProviderError | str, **limits: float) -> None:
        self.budget = Counted()
        super().__init__("toy", "toy.example", HttpLimits(**limits), self.budget)  # type: ignore[arg-type]
        self.endings = list(endings)
        self.sent_at: list[float] = []

    async def aclose(self) -> None:
        """There are no connections."""

    async def _send(self, call: Call) -> str:
        self.sent_at.append(asyncio.get_running_loop().time())
        ending = self.endings.pop(0) if len(self.endings) > 1 else self.endings[0]
        if isinstance(ending, str):
            return ending
        raise ending


def tried_at(toy: Toy) -> list[float]:
    """The seconds from the first try of one call to each of its tries. The call may end in an error."""

    async def run(_clock: Callable[[], float]) -> None:
        with contextlib.suppress(ProviderError):
            await toy.get(Call(), CircuitBreaker())

    run_virtually(run)
    return [at - toy.sent_at[0] for at in toy.sent_at]


@pytest.mark.parametrize(("pick", "seconds"), [(0, [0, 0.25, 0.75, 1.75]), (1, [0, 0.75, 2.25, 5.25])])
def test_pauses_double_and_vary_from_a_half_to_one_and_a_half_times(
    monkeypatch: pytest.MonkeyPatch, pick: int, seconds: list[float]
) -> None:
    monkeypatch.setattr(random, "uniform", lambda *bounds: bounds[pick])
    toy = Toy(ProviderUnavailable("down", provider="toy"))
    assert tried_at(toy) == pytest.approx(seconds)
    assert toy.budget.taken == 4


@pytest.mark.parametrize(
    ("asked", "seconds", "closed_for"), [(45, [0, 45], [45, 45]), (20, [0, 20, 40], [20, 20, 20]), (46, [0], [])]
)
def test_a_pause_that_the_vendor_asks_for_is_kept_unless_all_pauses_together_are_too_long(
    asked: float, seconds: list[float], closed_for: list[float]
) -> None:
    toy = Toy(RateLimited("slower", provider="toy", retry_after_seconds=asked))
    assert tried_at(toy) == pytest.approx(seconds)
    assert toy.budget.closed_for == closed_for


@pytest.mark.parametrize(("each", "tries"), [(11, 4), (20, 3), (30, 2), (46, 1)])
def test_tries_that_end_in_a_time_out_count_as_waiting(each: float, tries: int) -> None:
    # Otherwise, one symbol whose call hangs would make all others of the run wait for `attempts` time-outs.
    toy = Toy(TimedOut("no answer", provider="toy"), answer_timeout_seconds=each)
    assert len(tried_at(toy)) == tries


@pytest.mark.parametrize(
    "error",
    [NotTheApi("a page", provider="toy"), MalformedAnswer("no bars", provider="toy")],
    ids=["page", "malformed"],
)
def test_a_call_is_not_repeated_when_its_answer_would_be_the_same(error: ProviderError) -> None:
    assert tried_at(Toy(error, "bars")) == [0]


def test_an_answer_that_was_cut_is_requested_again() -> None:
    assert len(tried_at(Toy(CutAnswer("cut", provider="toy"), "bars"))) == 2


@pytest.mark.parametrize(("asked", "length"), [(None, calls.BAN_SECONDS), (20.0, 20.0)])
def test_nothing_is_sent_before_a_ban_is_over(
    monkeypatch: pytest.MonkeyPatch, asked: float | None, length: float
) -> None:
    now = 1_000.0
    monkeypatch.setattr(calls, "time", SimpleNamespace(monotonic=lambda: now))
    toy = Toy(Banned("go away", provider="toy", retry_after_seconds=asked), "bars")
    assert tried_at(toy) == [0]

    async def run(_clock: Callable[[], float]) -> str:
        return await toy.get(Call(), CircuitBreaker())

    now += length - 1
    with pytest.raises(CircuitOpen, match="go away"):
        run_virtually(run)
    assert toy.budget.taken == 1
    now += 1
    assert run_virtually(run) == "bars"


@pytest.mark.parametrize(("asked", "tries"), [(None, 4), (2, 2), (9, 4)])
def test_a_call_is_tried_as_often_as_is_asked_for_and_the_limits_allow(asked: int | None, tries: int) -> None:
    toy = Toy(ProviderUnavailable("down", provider="toy"))

    async def run(_clock: Callable[[], float]) -> None:
        with pytest.raises(ProviderUnavailable):
            await toy.get(Call(), CircuitBreaker(), asked)

    run_virtually(run)
    assert toy.budget.taken == tries


def test_a_call_that_waits_for_the_budget_is_not_sent_when_the_circuit_opens_meanwhile() -> None:
    breaker = CircuitBreaker()

    class Waiting(Counted):
        async def take(self) -> None:
            breaker.failed("bars", Unreachable("no host", provider="toy"))

    toy = Toy("bars")
    toy._budget = Waiting()

    async def run(_clock: Callable[[], float]) -> None:
        with pytest.raises(CircuitOpen, match="no host"):
            await toy.get(Call(), breaker)

    run_virtually(run)
    assert toy.sent_at == []


def test_the_keys_of_a_vendor_are_not_in_its_repr() -> None:
    assert "topsecret" not in repr(Manners(headers={"X-KEY": "topsecret"}, secrets=("topsecret",)))


def answered(handler: Callable[[httpx.Request], httpx.Response], **limits: float) -> bytes:
    """The body of one answer, which is asked for once."""

    async def run() -> bytes:
        options = HttpOptions(transport=httpx.MockTransport(handler))
        allowed = HttpLimits(attempts=1, **limits)  # type: ignore[arg-type]
        async with HttpSource("toy", "http://toy.example", Manners(headers={}), allowed, options) as source:
            body = await source.get(HttpCall("/bars", {}, "bars", lambda _status, _said: None), CircuitBreaker())
        assert source._client.is_closed
        return body

    return asyncio.run(run())


def test_a_body_may_be_as_long_as_the_limit_and_no_longer() -> None:
    assert answered(lambda _: httpx.Response(200, content=b"0123456789"), max_body_bytes=10) == b"0123456789"
    with pytest.raises(MalformedAnswer, match="toy sent more than 9 bytes in one answer"):
        answered(lambda _: httpx.Response(200, content=b"0123456789"), max_body_bytes=9)


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (httpx.ReadError("reset by peer"), "toy broke the connection: reset by peer"),
        (httpx.ConnectError("refused"), "toy cannot be reached at toy.example: refused"),
        (httpx.ReadTimeout("slow"), "toy did not answer within 30 seconds"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_connection_failure_is_reported_with_its_kind(failure: Exception, words: str) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise failure

    with pytest.raises(ProviderUnavailable) as caught:
        answered(fail)
    assert str(caught.value) == words
