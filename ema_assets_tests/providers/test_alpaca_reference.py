"""Tests of Alpaca's list of assets and corporate actions, over real sockets."""

import asyncio
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from ema_assets.model.errors import MalformedAnswer, ProviderUnavailable, RateLimited, Unauthorized
from ema_assets.model.symbols import ALWAYS_OPEN, Instrument
from ema_assets.providers.alpaca import PROVIDER, AlpacaConfig
from ema_assets.providers.fetching.describing import Described, Question
from ema_assets.providers.http.budget import Budget
from ema_assets.providers.http.source import HttpOptions
from ema_assets.providers.vendors.alpaca_reference import describe
from ema_assets.sandbox.dialects.alpaca_reference import ACTIONS_PATH, ASSETS_PATH
from ema_assets.sandbox.faults import CorporateAction, CutBody, Ended, Halted, MissingSymbol, RateLimit, Split
from ema_assets.sandbox.server import RunningSandbox
from ema_assets_tests.providers.conftest import MIDDAY, QUICK, NotedBudget, vendor

with warnings.catch_warnings():
    # alpaca-py imports websockets.legacy, which warns at import that it is deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    import alpaca.data.models.corporate_actions as published

STOCKS = tuple(Instrument(symbol) for symbol in ("SAA", "SAB", "SAC"))
PAIR = Instrument("CA-USD", ALWAYS_OPEN)
TODAY = MIDDAY.date()
NEVER = date(2000, 1, 1)


def ask(
    base_url: str,
    instruments: Sequence[Instrument] = STOCKS,
    since: date = NEVER,
    *,
    today: date = TODAY,
    page_limit: int = 1_000,
    symbols_per_call: int = 200,
    budget: Budget | None = None,
) -> Described:
    config = AlpacaConfig(base_url=base_url, key_id="PK-the-key", secret_key="the-secret")
    question = Question(instruments, {each.symbol: since for each in instruments}, today)
    provider = replace(PROVIDER, symbols_per_call=symbols_per_call)
    return asyncio.run(describe(provider, config, question, HttpOptions(limits=QUICK, budget=budget), page_limit))


def on(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def actions_of(found: Described) -> list[tuple[Any, ...]]:
    assert found.actions is not None
    return found.actions.rows()


def states_of(found: Described) -> dict[str, tuple[Any, ...]]:
    assert found.states is not None
    return {symbol: tuple(rest) for symbol, *rest in found.states.select("symbol", "state", "detail").rows()}


def told(base: Any, **lists: Any) -> Callable[[Request], Response]:
    """Return the answers of a vendor with the list of assets `base` and one page of corporate actions."""

    def answer(request: Request) -> Response:
        if request.url.path == ASSETS_PATH:
            return JSONResponse(base)
        return JSONResponse({"corporate_actions": lists, "next_page_token": None})

    return answer


ACTIVE = [{"symbol": each.symbol, "status": "active", "tradable": True} for each in STOCKS]

# One action per list, all about SAA: the class of the vendor's own client, the fields, and the resulting fact.
EVERY_KIND: dict[str, tuple[type, dict[str, Any], tuple[Any, ...]]] = {
    "forward_splits": (
        published.ForwardSplit,
        {"symbol": "SAA", "cusip": "1", "new_rate": 10, "old_rate": 1, "ex_date": "2026-07-16"},
        ("split", on("2026-07-16"), 10.0, None, None),
    ),
    "reverse_splits": (
        published.ReverseSplit,
        {"symbol": "SAA", "old_cusip": "1", "new_cusip": "2", "new_rate": 1, "old_rate": 3, "ex_date": "2026-07-15"},
        ("split", on("2026-07-15"), 1 / 3, None, None),
    ),
    "unit_splits": (
        published.UnitSplit,
        {
            "old_symbol": "SAA",
            "old_cusip": "1",
            "old_rate": 1,
            "new_symbol": "SAB",
            "new_cusip": "2",
            "new_rate": 1,
            "alternate_symbol": "SAA.WS",
            "alternate_cusip": "3",
            "alternate_rate": 0.5,
            "effective_date": "2026-07-01",
        },
        ("unit split", on("2026-07-01"), None, None, "SAB and SAA.WS"),
    ),
    "stock_dividends": (
        published.StockDividend,
        {"symbol": "SAA", "cusip": "1", "rate": 0.05, "ex_date": "2026-05-04"},
        ("stock dividend", on("2026-05-04"), None, None, "0.05"),
    ),
    "cash_dividends": (
        published.CashDividend,
        {"symbol": "SAA", "cusip": "1", "rate": 0.26, "special": False, "foreign": False, "ex_date": "2026-07-20"},
        ("dividend", on("2026-07-20"), None, 2.6, None),
    ),
    "spin_offs": (
        published.SpinOff,
        {
            "source_symbol": "SAA",
            "source_cusip": "1",
            "source_rate": 4,
            "new_symbol": "NEW",
            "new_cusip": "2",
            "new_rate": 1,
            "ex_date": "2026-04-02",
        },
        ("spin-off", on("2026-04-02"), None, None, "NEW"),
    ),
    "cash_mergers": (
        published.CashMerger,
        {"acquiree_symbol": "SAA", "acquiree_cusip": "1", "rate": 54.2, "effective_date": "2026-06-28"},
        ("merger", on("2026-06-28"), None, None, None),
    ),
    "stock_mergers": (
        published.StockMerger,
        {
            "acquirer_symbol": "SAC",
            "acquirer_cusip": "1",
            "acquirer_rate": 0.5,
            "acquiree_symbol": "SAA",
            "acquiree_cusip": "2",
            "acquiree_rate": 1,
            "effective_date": "2026-06-29",
        },
        ("merger", on("2026-06-29"), None, None, "SAC"),
    ),
    "stock_and_cash_mergers": (
        published.StockAndCashMerger,
        {
            "acquirer_symbol": "SAC",
            "acquirer_cusip": "1",
            "acquirer_rate": 0.5,
            "acquiree_symbol": "SAA",
            "acquiree_cusip": "2",
            "acquiree_rate": 1,
            "cash_rate": 3.0,
            "effective_date": "2026-06-30",
        },
        ("merger", on("2026-06-30"), None, None, "SAC"),
    ),
    "redemptions": (
        published.Redemption,
        {"symbol": "SAA", "cusip": "1", "rate": 25.0, "process_date": "2026-06-13"},
        ("redemption", on("2026-06-13"), None, None, None),
    ),
    "name_changes": (
        published.NameChange,
        {"old_symbol": "SAA", "old_cusip": "1", "new_symbol": "META", "new_cusip": "1", "process_date": "2026-06-09"},
        ("rename", on("2026-06-09"), None, None, "META"),
    ),
    "worthless_removals": (
        published.WorthlessRemoval,
        {"symbol": "SAA", "cusip": "1", "process_date": "2026-03-02"},
        ("delisting", on("2026-03-02"), None, None, None),
    ),
    "rights_distributions": (
        published.RightsDistribution,
        {
            "source_symbol": "SAA",
            "source_cusip": "1",
            "new_symbol": "SAA.RT",
            "new_cusip": "2",
            "rate": 1,
            "ex_date": "2026-02-10",
            "payable_date": "2026-02-20",
        },
        ("rights distribution", on("2026-02-10"), None, None, "SAA.RT"),
    ),
}


def row_of(kind: str) -> dict[str, Any]:
    fields = EVERY_KIND[kind][1]
    day = next(fields[name] for name in ("ex_date", "effective_date", "process_date") if name in fields)
    number = list(EVERY_KIND).index(kind)
    return {"id": f"00000000-0000-0000-0000-{number:012}", "process_date": day, **fields}


def test_each_kind_of_action_is_converted_to_a_fact() -> None:
    for kind, (model, _, _) in EVERY_KIND.items():
        model(corporate_action_type=kind, **row_of(kind))  # the vendor's own client accepts these rows
    lists = {kind: [row_of(kind)] for kind in EVERY_KIND}
    with vendor(told(ACTIVE, **lists)) as (base_url, seen):
        found = ask(base_url)
    expected = [("SAA", *fact) for _, _, fact in EVERY_KIND.values()]
    # The dividend comes after tomorrow's split, so its amount is converted to shares of today.
    assert actions_of(found) == sorted(expected, key=lambda row: row[2])
    assert found.problems == ()
    assert [request.url.path for request in seen] == [ASSETS_PATH, ACTIONS_PATH]


def test_symbols_with_the_same_start_share_a_call_with_ninety_days_before_and_after() -> None:
    with vendor(told(ACTIVE)) as (base_url, seen):
        config = AlpacaConfig(base_url=base_url, key_id="PK", secret_key="s")
        since = {"SAA": date(2026, 7, 14), "SAB": NEVER, "SAC": date(2026, 7, 14), "CA-USD": NEVER}
        question = Question((*STOCKS, PAIR), since, TODAY)
        asyncio.run(describe(PROVIDER, config, question, HttpOptions(limits=QUICK)))
    asked = [dict(request.query_params) for request in seen if request.url.path == ACTIONS_PATH]
    common = {"end": "2026-10-13", "limit": "1000", "sort": "asc"}
    assert asked == [
        {"symbols": "SAB", "start": "1999-10-03", **common},
        {"symbols": "SAA,SAC", "start": "2026-04-15", **common},
    ]
    assets = [request.query_params["asset_class"] for request in seen if request.url.path == ASSETS_PATH]
    assert assets == ["us_equity", "crypto"]
    assert {request.headers["APCA-API-KEY-ID"] for request in seen} == {"PK"}


def test_all_pages_are_read_and_each_action_counts_once(sandbox: RunningSandbox) -> None:
    for day in range(1, 6):
        fields = {"symbol": "SAA", "rate": 0.1 * day, "ex_date": f"2026-06-0{day}", "process_date": f"2026-06-2{day}"}
        sandbox.handle.faults.add(CorporateAction(symbols=["SAA"], type="cash_dividends", fields=fields))
    sandbox.handle.faults.add(Split(symbols=["SAB"], at=on("2026-06-11"), ratio=1.5))
    found = ask(sandbox.base_url, page_limit=2, symbols_per_call=2)
    amounts = [(row[0], row[2].day, row[4]) for row in actions_of(found) if row[1] == "dividend"]
    assert amounts == [("SAA", day, pytest.approx(0.1 * day)) for day in range(1, 6)]
    assert [row for row in actions_of(found) if row[1] == "split"] == [
        ("SAB", "split", on("2026-06-11"), 1.5, None, None)
    ]
    # One call for the list, three for SAA and SAB with two actions per page, and one for SAC, which has no actions.
    assert found.calls == 5
    assert sandbox.handle.stats.by_path == {ASSETS_PATH: 1, ACTIONS_PATH: 4}


def test_dividends_are_per_share_of_today_and_those_of_one_day_are_added_up() -> None:
    dividends = [
        {"id": "a", "symbol": "SAA", "rate": 0.82, "ex_date": "2026-06-01", "process_date": "2026-06-20"},
        {"id": "b", "symbol": "SAA", "rate": 1.0, "ex_date": "2026-06-01", "process_date": "2026-06-20"},
        # The same action again, as on two pages.
        {"id": "b", "symbol": "SAA", "rate": 1.0, "ex_date": "2026-06-01", "process_date": "2026-06-20"},
        {"id": "c", "symbol": "SAA", "rate": 0.2, "ex_date": "2026-07-10", "process_date": "2026-07-20"},
        # A rate as text, and a dividend that is not declared yet.
        {"id": "d", "symbol": "SAB", "rate": "0.5", "ex_date": "2026-07-10", "process_date": "2026-07-20"},
        {"id": "e", "symbol": "SAB", "rate": 0, "ex_date": "2026-07-11", "process_date": "2026-07-20"},
    ]
    split = {"symbol": "SAA", "new_rate": 4, "old_rate": 1, "ex_date": "2026-07-01", "process_date": "2026-07-01"}
    with vendor(told(ACTIVE, cash_dividends=dividends, forward_splits=[split])) as (base_url, _):
        found = ask(base_url)
    amounts = [(row[0], row[2].date(), row[4]) for row in actions_of(found) if row[1] == "dividend"]
    assert amounts == [
        # 0.82 + 1.00 per share before the split of 4:1.
        ("SAA", date(2026, 6, 1), pytest.approx(0.455)),
        ("SAA", date(2026, 7, 10), 0.2),
        ("SAB", date(2026, 7, 10), 0.5),
    ]
    assert found.problems == ()


def test_a_split_counts_from_its_day_on_in_the_amounts_of_dividends() -> None:
    days = {"SAA": ("2026-07-01", "2026-07-15"), "SAB": ("2026-07-01", "2026-07-01"), "SAC": ("2026-07-16",) * 2}
    dividends = [{"symbol": symbol, "rate": 1.0, "ex_date": day} for symbol, (day, _) in days.items()]
    splits = [{"symbol": symbol, "new_rate": 4, "old_rate": 1, "ex_date": day} for symbol, (_, day) in days.items()]
    with vendor(told(ACTIVE, cash_dividends=dividends, forward_splits=splits)) as (base_url, _):
        found = ask(base_url)
    # Shares were split today, on the day of the dividend, and will be split tomorrow, on the day of the dividend.
    amounts = [(row[0], row[4]) for row in actions_of(found) if row[1] == "dividend"]
    assert amounts == [("SAA", 0.25), ("SAB", 1.0), ("SAC", 4.0)]


def test_a_reverse_and_a_forward_split_of_one_day_count_together() -> None:
    """A company pays out who has fewer than 100 shares: 1 for 100, and then 100 for 1, or 50 for 1."""

    def split(symbol: str, new: int, old: int) -> dict[str, Any]:
        return {"symbol": symbol, "new_rate": new, "old_rate": old, "ex_date": "2026-07-01"}

    # Two forward splits are one that was sent twice, here the second time with the day of its processing only.
    again = {"symbol": "SAC", "new_rate": 4, "old_rate": 1, "process_date": "2026-07-01"}
    forward = [split("SAA", 100, 1), split("SAB", 50, 1), split("SAC", 4, 1), again]
    reverse = [split("SAA", 1, 100), split("SAB", 1, 100)]
    with vendor(told(ACTIVE, forward_splits=forward, reverse_splits=reverse)) as (base_url, _):
        found = ask(base_url)
    assert actions_of(found) == [
        ("SAB", "split", on("2026-07-01"), pytest.approx(0.5), None, None),
        ("SAC", "split", on("2026-07-01"), 4.0, None, None),
    ]
    assert found.problems == ()


def test_actions_of_other_symbols_or_without_effect_are_ignored() -> None:
    with vendor(
        told(
            ACTIVE,
            # SAA is the acquirer, SAB keeps its symbol, SAC lacks one of two symbols, and the split has the ratio 1.
            stock_mergers=[{"acquirer_symbol": "SAA", "acquiree_symbol": "ELSE", "effective_date": "2026-07-01"}],
            name_changes=[
                {"old_symbol": "SAB", "new_symbol": "SAB", "process_date": "2026-07-01"},
                {"old_symbol": "SAC", "new_symbol": "", "process_date": "2026-07-01"},
                {"old_symbol": "", "new_symbol": "SAC", "process_date": "2026-07-01"},
            ],
            forward_splits=[{"symbol": "SAC", "new_rate": 1, "old_rate": 1, "ex_date": "2026-07-01"}],
            partial_calls=[{"symbol": {"is": "new"}}],
        )
    ) as (base_url, _):
        found = ask(base_url)
    assert (actions_of(found), found.problems) == ([], ())


def test_an_unreadable_action_is_skipped_and_reported() -> None:
    splits = [
        {"symbol": "SAA", "new_rate": 2, "ex_date": "2026-07-01"},
        {"symbol": "SAB", "new_rate": 2, "old_rate": 1},
        {"new_rate": 2, "old_rate": 1, "ex_date": "2026-07-01"},
        {"symbol": "SAC", "new_rate": 2, "old_rate": 1, "ex_date": "2026-07-01"},
        {"symbol": "SAC", "new_rate": 5e-324, "old_rate": 1, "ex_date": "2026-07-02"},
    ]
    with vendor(told(ACTIVE, forward_splits=splits)) as (base_url, _):
        found = ask(base_url)
    assert actions_of(found) == [("SAC", "split", on("2026-07-01"), 2.0, None, None)]
    assert [str(problem) for problem in found.problems] == [
        "alpaca sent an answer that is not corporate actions: one of `forward_splits` of SAA at 2.0 for None",
        "alpaca sent an answer that is not corporate actions: one of `forward_splits` without `ex_date`",
        "alpaca sent an answer that is not corporate actions: one of `forward_splits` without `symbol`",
        "alpaca sent an answer that is not corporate actions: one of `forward_splits` of SAC at 5e-324 for 1.0",
    ]
    assert len(states_of(found)) == 3


def test_states_come_from_the_list_of_all_assets(sandbox: RunningSandbox) -> None:
    sandbox.handle.faults.add(Ended(symbols=["SAB"], at=on("2026-07-10")))
    sandbox.handle.faults.add(Ended(symbols=["SAC"], at=on("2026-08-10")))
    sandbox.handle.faults.add(MissingSymbol(symbols=["SAD"]))
    sandbox.handle.faults.add(Halted(symbols=["CA/USD"]))
    found = ask(sandbox.base_url, (*STOCKS, Instrument("SAD"), PAIR))
    assert states_of(found) == {
        "SAA": ("active", "active"),
        "SAB": ("delisted", "inactive"),
        "SAC": ("active", "active"),
        "SAD": ("unknown", None),
        # Alpaca does not trade all symbols for which it has bars.
        "CA-USD": ("active", "active, not tradable there"),
    }
    assert found.calls == 3


def test_a_symbol_in_use_again_is_active_and_pairs_are_found_without_a_slash() -> None:
    listed = [
        {"symbol": "SAA", "status": "inactive"},
        {"symbol": "SAA", "status": "active"},
        {"symbol": "SAA", "status": "inactive"},
        {"symbol": "SAB", "status": "suspended"},
        {"symbol": "CAUSD", "status": "active"},
    ]
    with vendor(told(listed)) as (base_url, _):
        found = ask(base_url, (*STOCKS, PAIR))
    assert states_of(found) == {
        "SAA": ("active", "active"),
        "SAB": ("unknown", "suspended"),
        "SAC": ("unknown", None),
        "CA-USD": ("active", "active"),
    }


def test_a_refused_list_keeps_the_actions_and_the_error_names_the_variable_to_set() -> None:
    def answer(request: Request) -> Response:
        if request.url.path == ASSETS_PATH:
            return JSONResponse({"message": "forbidden. PK-the-key"}, 403)
        return JSONResponse({"corporate_actions": {"forward_splits": [row_of("forward_splits")]}})

    with vendor(answer) as (base_url, seen):
        found = ask(base_url)
    assert found.states is None
    assert [row[1] for row in actions_of(found)] == ["split"]
    (problem,) = found.problems
    assert isinstance(problem, Unauthorized)
    assert "set EMA_ALPACA_TRADING_URL=https://api.alpaca.markets" in str(problem)
    assert "PK-the-key" not in str(problem)
    assert (found.calls, len(seen)) == (2, 2)


@pytest.mark.parametrize(
    ("answer", "kind", "words", "calls"),
    [
        (lambda: JSONResponse({"message": "oops"}, 500), ProviderUnavailable, "answered 500: oops", 4),
        (lambda: HTMLResponse("<html>consent</html>"), ProviderUnavailable, "answered a web page instead of data", 1),
        (
            lambda: JSONResponse({"corporate_actions": {"forward_splits": 3}}),
            MalformedAnswer,
            "Expected `array`, got `int`",
            1,
        ),
        (lambda: JSONResponse({"bars": {}}), MalformedAnswer, "corporate_actions", 1),
        (lambda: Response('{"x":' + "[" * 1_000_000), MalformedAnswer, "nested too deep", 1),
        (lambda: JSONResponse({"message": "no"}, 403), Unauthorized, "refused the API key (403): no", 1),
    ],
    ids=["5xx", "web page", "other types", "other fields", "nested", "refused"],
)
def test_failed_actions_do_not_affect_the_states(
    answer: Callable[[], Response], kind: type[Exception], words: str, calls: int
) -> None:
    def routed(request: Request) -> Response:
        return JSONResponse(ACTIVE) if request.url.path == ASSETS_PATH else answer()

    with vendor(routed) as (base_url, seen):
        found = ask(base_url)
    assert found.actions is None
    assert len(states_of(found)) == 3
    (problem,) = found.problems
    assert isinstance(problem, kind)
    assert words in str(problem)
    assert len([request for request in seen if request.url.path == ACTIONS_PATH]) == calls


@pytest.mark.parametrize("listed", [[], {"message": "maintenance"}, [{"name": "no symbol"}], '[{"x":' + "[" * 100_000])
def test_an_empty_or_invalid_list_gives_no_states(listed: Any) -> None:
    def routed(request: Request) -> Response:
        if request.url.path == ASSETS_PATH:
            return Response(listed if isinstance(listed, str) else json.dumps(listed))
        return JSONResponse({"corporate_actions": {}})

    with vendor(routed) as (base_url, _):
        found = ask(base_url)
    assert found.states is None
    (problem,) = found.problems
    assert isinstance(problem, MalformedAnswer)
    assert "sent no list of its symbols" in str(problem)


def test_endless_pages_end_in_an_error() -> None:
    def routed(request: Request) -> Response:
        if request.url.path == ASSETS_PATH:
            return JSONResponse(ACTIVE)
        return JSONResponse({"corporate_actions": None, "next_page_token": "again"})

    with vendor(routed) as (base_url, seen):
        found = ask(base_url)
    assert found.actions is None
    assert "pages of corporate actions without end" in str(found.problems[0])
    assert len(seen) == 3


def test_a_cut_answer_and_a_429_are_retried(sandbox: RunningSandbox) -> None:
    sandbox.handle.faults.add(CutBody(times=1))
    sandbox.handle.faults.add(RateLimit(times=1, retry_after_seconds=0))
    sandbox.handle.faults.add(Split(symbols=["SAA"], at=on("2026-07-10"), ratio=2))
    budget = NotedBudget()
    found = ask(sandbox.base_url, budget=budget)
    assert len(states_of(found)) == 3
    assert actions_of(found) == [("SAA", "split", on("2026-07-10"), 2.0, None, None)]
    assert (found.calls, found.problems) == (4, ())
    # Every attempt takes a call of the shared budget.
    assert budget.taken == 4


def test_a_vendor_that_keeps_answering_429_gets_no_further_calls() -> None:
    def routed(request: Request) -> Response:
        if request.url.path == ASSETS_PATH:
            return JSONResponse(ACTIVE)
        return JSONResponse({"message": "too many requests."}, 429, {"Retry-After": "0"})

    with vendor(routed) as (base_url, seen):
        found = ask(base_url, symbols_per_call=1)
    (problem,) = found.problems
    assert isinstance(problem, RateLimited)
    assert len(seen) == 1 + QUICK.attempts


@pytest.mark.parametrize(
    ("config", "host"),
    [
        ({"key_id": "PKTEST"}, "https://paper-api.alpaca.markets"),
        ({"key_id": "AKLIVE"}, "https://api.alpaca.markets"),
        ({}, "https://paper-api.alpaca.markets"),
        ({"key_id": "AKLIVE", "trading_url": "https://other.example"}, "https://other.example"),
        # A custom server has both APIs.
        ({"key_id": "AKLIVE", "base_url": "http://127.0.0.1:8930"}, "http://127.0.0.1:8930"),
    ],
)
def test_the_address_of_the_list_depends_on_the_key_and_the_configuration(config: dict[str, Any], host: str) -> None:
    assert AlpacaConfig(**config).assets_url == host
