"""Tests of each fault with each provider: a typed outcome, no bar lost or invented, few calls, other symbols finished.

The fault affects the second of three symbols, over one connection. The third symbol fails only if the fault must stop
all calls.
"""

import asyncio
import itertools
import json
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from ema_assets.model.errors import (
    Banned,
    MalformedAnswer,
    ProviderError,
    RateLimited,
    RequestRefused,
    Unauthorized,
    UnknownSymbol,
)
from ema_assets.providers.http.budget import HttpLimits
from ema_assets.providers.http.refusals import AccessRefused, CutAnswer, NotTheApi, ServerFailed, TimedOut, Unreachable
from ema_assets_tests.providers.conftest import Drip, Reset, ask, collect, fetch, vendor
from ema_assets_tests.providers.speakers import FIELDS, SPEAKERS, Row, Speaker
from ema_assets_tests.waiting import LeapingLoop

START, END = datetime(2026, 7, 15, 17, 30, tzinfo=UTC), datetime(2026, 7, 15, 17, 55, tzinfo=UTC)
FIRST = int(START.timestamp())
GOOD: list[Row] = [[FIRST + 300 * n, 10.0 + n, 11.0 + n, 9.0 + n, 10.5 + n, 100.0] for n in range(5)]
BEFORE, SICK, AFTER = "AA", "MM", "ZZ"
ATTEMPTS = 3
LIMITS = HttpLimits(
    max_concurrency=1,
    requests_per_minute=1_000,
    attempts=ATTEMPTS,
    backoff_seconds=0.01,
    waiting_seconds=1,
    answer_timeout_seconds=600,
    max_body_bytes=100_000,
)
HTML = "<html><body>Sorry</body></html>"
WITHOUT_KEYS = ("yahoo", "binance", "coinbase")


@dataclass(frozen=True)
class Asked:
    """A request for the affected symbol, the number of requests for it before, and the loop of the client."""

    request: Request
    before: int
    loop: LeapingLoop


Answer = Callable[[Speaker, Asked], Response]


@dataclass(frozen=True)
class Case:
    """One fault and its expected outcome.

    Attributes:
        name: the id of the case.
        answer: the answer to a request for the affected symbol.
        error: the error of the affected symbol; None if it recovers or its bars are valid.
        bars: the number of its bars that are returned.
        nulls: how many of these lack a value.
        calls: the number of requests for it.
        stops: whether the symbol after it is not requested any more.
        words: a part of the error's text.
        other: by vendor, the fields with other values; None if the vendor cannot have this fault.
    """

    name: str
    answer: Answer
    error: type[ProviderError] | None = MalformedAnswer
    bars: int = 0
    nulls: int = 0
    calls: int = 1
    stops: bool = False
    words: str = ""
    other: dict[str, dict[str, Any] | None] = field(default_factory=dict)


def status(code: int, body: str = "", content_type: str = "application/json", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _speaker, _asked: Response(body, code, named, content_type)


def once(answer: Answer) -> Answer:
    """Give `answer` to the first request only."""

    def healing(speaker: Speaker, asked: Asked) -> Response:
        return answer(speaker, asked) if asked.before == 0 else Response(speaker.says(SICK, GOOD))

    return healing


def text(change: Callable[[str], str]) -> Answer:
    """Answer 200 with the good bars, and change the body."""
    return lambda speaker, _asked: Response(change(speaker.says(SICK, GOOD)))


def rows(change: Callable[[list[Row]], list[Row]]) -> Answer:
    """Answer 200 with the good bars after a change."""
    return lambda speaker, _asked: Response(speaker.says(SICK, change([list(row) for row in GOOD])))


def value(column: str, wrong: Any) -> Answer:
    """Answer 200 with the good bars, and the value `wrong` in one column of the third one."""

    def change(bars: list[Row]) -> list[Row]:
        bars[2] = [wrong if name == column else given for name, given in zip(FIELDS, bars[2], strict=True)]
        return bars

    return rows(change)


def raw_number(token: str) -> Answer:
    """Answer 200 with `token` in place of one price. In the format of Binance, prices are in quotes."""
    return text(lambda body: body.replace("12.5", token))


def without_end(speaker: Speaker, asked: Asked) -> Response:
    """Answer with endless pages: Alpaca's have a new token each time, Binance's are always the same page."""
    if speaker.name == "binance":
        return Response(speaker.says(SICK, GOOD[:2]))
    return Response(
        json.dumps({**speaker.document(SICK, GOOD[: 0 if asked.before else 2]), "next_page_token": f"{asked.before}"})
    )


def outside(bars: list[Row]) -> list[Row]:
    return [[FIRST - 300, *GOOD[0][1:]], *bars, [FIRST + 300 * 5, *GOOD[0][1:]]]


# Of two bars with the same time, the later one is the vendor's newer one.
def unsorted(bars: list[Row]) -> list[Row]:
    return [bars[3], [bars[1][0], 1.0, 1.0, 1.0, 1.0, 1.0], bars[4], bars[1], bars[0], bars[2], bars[2]]


CASES = (
    Case(
        "reset in the middle of the body, once",
        once(lambda speaker, _asked: Reset(speaker.says(SICK, GOOD))),
        error=None, bars=5, calls=2,
    ),
    Case(
        "reset in the middle of the body, always",
        lambda speaker, _asked: Reset(speaker.says(SICK, GOOD)),
        error=CutAnswer, calls=ATTEMPTS, words="cut its answer off",
    ),
    Case(
        "slow loris",
        lambda speaker, asked: Drip(speaker.says(SICK, GOOD), asked.loop),
        error=TimedOut, calls=1, words="did not answer within 600 seconds",
    ),
    Case(
        "429 with a short Retry-After, once",
        once(status(429, "slow down", Retry_After="0.02")),
        error=None, bars=5, calls=2,
        other={"yahoo": {"error": Banned, "bars": 0, "calls": 1, "stops": True}},
    ),
    Case(
        "429 with a long Retry-After",
        status(429, "Too Many Requests", "text/plain", Retry_After="3600"),
        error=RateLimited, stops=True, words="429",
        other={"yahoo": {"error": Banned}},
    ),
    Case(
        "429 without Retry-After, once",
        once(status(429, "Too Many Requests", "text/plain")),
        error=None, bars=5, calls=2,
        other={"yahoo": {"error": Banned, "bars": 0, "calls": 1, "stops": True}},
    ),
    Case(
        "429 without Retry-After, always",
        status(429, "Too Many Requests", "text/plain"),
        error=RateLimited, calls=ATTEMPTS, stops=True, words="Too Many Requests",
        other={"yahoo": {"error": Banned, "calls": 1}},
    ),
    Case("418 with Retry-After", status(418, "", Retry_After="120"), error=Banned, stops=True, words="120 seconds (418)"),
    Case("418 without Retry-After", status(418), error=Banned, stops=True, words="shut us out (418)"),
    # A refused key fails all symbols. Without a key the refusal may concern one symbol.
    Case("401 in HTML", status(401, HTML, "text/html"), error=Unauthorized, stops=True, words="an HTML page",
         other=dict.fromkeys(WITHOUT_KEYS, {"error": AccessRefused, "stops": False})),
    Case("403", status(403, '{"message": "forbidden"}'), error=Unauthorized, stops=True, words="403",
         other=dict.fromkeys(WITHOUT_KEYS, {"error": AccessRefused, "stops": False})),
    Case("404", status(404, "nothing here", "text/plain"), error=RequestRefused, words="404"),
    Case(
        "404 of a symbol",
        status(404, json.dumps({"message": "NotFound", "chart": {"error": {"code": "Not Found", "description": "gone"}}})),
        error=UnknownSymbol, words="no symbol 'MM", other={"alpaca": None, "binance": None},
    ),
    Case(
        "400 of a symbol",
        status(400, json.dumps({"code": -1121, "msg": "Invalid symbol.", "message": "invalid symbol: MM"})),
        error=UnknownSymbol, words="MM", other={"yahoo": None, "coinbase": None},
    ),
    Case("422", status(422, '{"message": "too far back"}'), error=RequestRefused, words="422"),
    Case("451", status(451, '{"code": 0, "msg": "restricted"}'), error=Unauthorized, stops=True, words="this region (451)"),
    Case("500, once", once(status(500)), error=None, bars=5, calls=2),
    Case("500, always", status(500), error=ServerFailed, calls=ATTEMPTS, words="500"),
    Case("502 in HTML", status(502, HTML, "text/html"), error=ServerFailed, calls=ATTEMPTS, words="an HTML page"),
    Case("302 elsewhere", status(302, "", Location="http://127.0.0.1:9/"), error=NotTheApi, words="127.0.0.1:9"),
    Case("204", status(204), words="204"),
    Case("an empty 200", status(200), words="truncated"),
    Case("an HTML page as 200", status(200, HTML, "text/html"), error=NotTheApi, words="a web page instead of data"),
    Case("an HTML page that is called JSON", status(200, f"\n {HTML}"), error=NotTheApi, words="a web page"),
    Case("a text that is called HTML", status(200, "Sorry", "text/html"), error=NotTheApi, words="a web page"),
    Case("an empty page", status(200, "", "text/html; charset=utf-8"), error=NotTheApi, words="a web page"),
    Case(
        "bars that are called HTML",
        lambda speaker, _asked: Response(speaker.says(SICK, GOOD), media_type="text/html"),
        error=None, bars=5,
    ),
    Case("a 200 cut short", text(lambda body: body[:-9]), words="truncated"),
    Case("a 200 with something behind it", text(lambda body: body + "]"), words="JSON"),
    Case("a 200 nested too deep", status(200, "[" * 50_000)),
    Case("a 200 of bytes that are no text", status(200, "\udcff".encode("utf-8", "surrogatepass").decode("latin-1"))),
    # A call to Alpaca is for many symbols, so an unreadable bar becomes a bar of nulls, which is rejected later.
    Case("a list where a price should be", value("close", []), other={"alpaca": {"error": None, "bars": 5, "nulls": 1}}),
    Case("text where a price should be", value("close", "dear"),
         other={"alpaca": {"error": None, "bars": 5, "nulls": 1}}),
    Case("text where a time should be", text(lambda body: body.replace(str(FIRST), '"x"').replace("2026-07-15T", "x"))),
    # A bar of Yahoo's that lacks a value is passed on as well.
    Case("null where a price should be", value("close", None),
         other=dict.fromkeys(("alpaca", "yahoo"), {"error": None, "bars": 5, "nulls": 1})),
    Case("a bar of nulls", rows(lambda bars: [*bars[:2], [bars[2][0], *[None] * 5], *bars[3:]]),
         other={"yahoo": {"error": None, "bars": 4}, "alpaca": {"error": None, "bars": 5, "nulls": 1}}),
    Case("NaN", raw_number("NaN")),
    Case("Infinity", raw_number("Infinity")),
    Case("-Infinity", raw_number("-Infinity")),
    Case("a number beyond every number", raw_number("1e999"),
         other={"alpaca": {"error": None, "bars": 5, "nulls": 1}}),
    Case("a body over the limit", text(lambda body: body + " " * 200_000), words="more than 100000 bytes"),
    Case("a body over the limit without an end", status(200, " " * 5_000_000), words="more than 100000 bytes"),
    Case("unsorted and repeated bars", rows(unsorted), error=None, bars=5),
    Case("bars outside the range", rows(outside), error=None, bars=5),
    Case("no bars", rows(lambda _: []), error=None),
    Case(
        "pages without end", without_end, words="without new bars", calls=11, bars=2,
        other={"yahoo": None, "coinbase": None, "binance": {"calls": 2, "words": "nothing new", "bars": 0}},
    ),
)  # fmt: skip


def _applied() -> list[Any]:
    pairs = itertools.product(CASES, SPEAKERS)
    return [
        pytest.param(case, speaker, id=f"{speaker.name}: {case.name}")
        for case, speaker in pairs
        if case.other.get(speaker.name, {}) is not None
    ]


@pytest.mark.parametrize(("case", "speaker"), _applied())
def test_a_fault_ends_in_a_typed_outcome_and_costs_only_what_it_must(case: Case, speaker: Speaker) -> None:
    expected = {**vars(case), **(case.other.get(speaker.name) or {})}
    asked: Counter[str] = Counter()
    loop = LeapingLoop()

    def answer(request: Request) -> Response:
        symbol = speaker.symbol(request)
        asked[symbol] += 1
        if symbol != SICK:
            return Response(speaker.says(symbol, GOOD))
        return case.answer(speaker, Asked(request, asked[symbol] - 1, loop))

    instruments = {root: speaker.spells(root) for root in (BEFORE, SICK, AFTER)}
    with vendor(answer) as (base_url, _):
        got = fetch(base_url, ask(list(instruments.values()), START, END), speaker.opened, loop, limits=LIMITS)

    assert asked[SICK] == expected["calls"]
    healthy = [BEFORE] if expected["stops"] else [BEFORE, AFTER]
    assert (asked[BEFORE], asked[AFTER]) == (1, len(healthy) - 1)
    for root in healthy:
        bars = got.bars.filter(symbol=instruments[root].symbol)
        assert bars.select("open", "high", "low", "close", "volume").rows() == [tuple(row[1:]) for row in GOOD]
    sick = got.bars.filter(symbol=instruments[SICK].symbol)
    assert sick.height == expected["bars"]
    # Some clients pass on bars that lack a value. All other bars must have the values that were sent.
    values = sick.drop_nulls().select("open", "high", "low", "close", "volume").rows()
    assert len(set(values)) == len(values) == expected["bars"] - expected["nulls"]
    assert set(values) <= {tuple(row[1:]) for row in GOOD}
    assert sick["ts"].is_between(START, END, closed="left").all()

    completed = {request.instrument for request in got.completed}
    error = got.errors.get(f"{instruments[SICK].symbol}|5m")
    if expected["error"] is None:
        assert error is None
        assert completed == set(instruments.values())
        return
    assert type(error) is expected["error"]
    assert completed == {instruments[root] for root in healthy}
    said = str(error)
    assert speaker.name in said
    assert expected["words"] in said
    assert "the-secret" not in said
    assert len(said) < 500
    if expected["stops"]:
        assert got.errors[f"{instruments[AFTER].symbol}|5m"] is error
    if isinstance(error, MalformedAnswer) and speaker.name != "alpaca":
        assert error.symbol is not None
        assert error.symbol in said


@pytest.mark.parametrize("speaker", SPEAKERS, ids=lambda speaker: speaker.name)
def test_a_refused_connection_is_found_out_by_one_symbol_for_all(speaker: Speaker) -> None:
    with socket.socket() as taken:
        # Bound but not listening: no other process can take the port, and nothing answers.
        taken.bind(("127.0.0.1", 0))
        base_url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        many = [speaker.spells(f"S{chr(65 + n)}") for n in range(20)]
        got = fetch(base_url, ask(many, START, END), speaker.opened, limits=LIMITS)
    assert (len(got.errors), got.calls, got.bars.height) == (20, ATTEMPTS, 0)
    assert isinstance(got.only_error(), Unreachable)
    assert f"{speaker.name} cannot be reached at 127.0.0.1" in str(got.only_error())


@pytest.mark.parametrize("speaker", SPEAKERS, ids=lambda speaker: speaker.name)
@pytest.mark.parametrize(
    ("answer", "calls"),
    [
        # The vendor counts as down after two failed symbols. A refusal counts at once.
        (PlainTextResponse("", 503), 2 * ATTEMPTS),
        (PlainTextResponse("", 429), ATTEMPTS),
        (PlainTextResponse("", 418), 1),
        (PlainTextResponse("", 401), 1),
        # A web page or a redirect is not retried, and counts at the second symbol.
        (HTMLResponse(HTML), 2),
        (RedirectResponse("http://127.0.0.1:9/consent"), 2),
    ],
    ids=lambda answer: str(getattr(answer, "status_code", "")),
)
def test_a_vendor_that_is_down_or_refuses_us_gets_few_calls(speaker: Speaker, answer: Response, calls: int) -> None:
    if (speaker.name, answer.status_code) == ("yahoo", 429):
        calls = 1  # Yahoo answers 429 for a ban
    if speaker.name in WITHOUT_KEYS and answer.status_code == 401:
        calls = 2
    if speaker.name in WITHOUT_KEYS and calls == 2:
        calls = 4  # once more from the other end, because the first symbols may be the cause
    many = [speaker.spells(f"{chr(65 + n // 26)}{chr(65 + n % 26)}") for n in range(100)]
    with vendor(lambda _: answer) as (base_url, seen):
        got = fetch(base_url, ask(many, START, END), speaker.opened, limits=LIMITS)
    assert len(got.errors) == 100
    assert len(seen) == calls


@pytest.mark.parametrize("speaker", SPEAKERS, ids=lambda speaker: speaker.name)
def test_a_ban_stops_all_calls_that_were_not_sent_before_it(speaker: Speaker) -> None:
    """Calls that were already sent cannot be stopped. None is sent after the first answer."""
    many = [speaker.spells(f"{chr(65 + n // 26)}{chr(65 + n % 26)}") for n in range(100)]
    limits = HttpLimits(max_concurrency=4, requests_per_minute=1_000, attempts=ATTEMPTS, backoff_seconds=0.01)
    with vendor(lambda _: PlainTextResponse("", 418)) as (base_url, seen):
        got = fetch(base_url, ask(many, START, END), speaker.opened, limits=limits)
    assert len(got.errors) == 100
    assert 1 <= len(seen) <= 4


@pytest.mark.parametrize("speaker", SPEAKERS, ids=lambda speaker: speaker.name)
def test_calls_after_a_ban_do_not_wait_for_the_budget(speaker: Speaker) -> None:
    many = [speaker.spells(f"S{chr(65 + n)}") for n in range(20)]
    limits = HttpLimits(max_concurrency=1, requests_per_minute=2)

    async def run(base_url: str) -> None:
        provider = speaker.opened(base_url, limits=limits)
        for _ in range(2):
            got = await collect(provider, ask(many, START, END))
            assert len(got.errors) == 20
        await provider.aclose()

    with vendor(lambda _: PlainTextResponse("", 418)) as (base_url, seen):
        asyncio.run(run(base_url))
    assert len(seen) == 1


@pytest.mark.parametrize("speaker", SPEAKERS, ids=lambda speaker: speaker.name)
def test_connections_are_kept(speaker: Speaker) -> None:
    clients: set[tuple[str, int]] = set()

    def answer(request: Request) -> Response:
        assert request.client is not None
        clients.add((request.client.host, request.client.port))
        return Response(speaker.says(speaker.symbol(request), GOOD))

    many = [speaker.spells(f"S{chr(65 + n)}") for n in range(20)]
    limits = HttpLimits(max_concurrency=3, requests_per_minute=1_000)
    with vendor(answer) as (base_url, seen):
        got = fetch(base_url, ask(many, START, END), speaker.opened, limits=limits)
    assert (len(seen), got.bars.height) == (20, 100)
    assert len(clients) <= 3
