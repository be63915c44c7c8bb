"""Tests that the answers of the API have exactly the fields and types of the OpenAPI description."""

from datetime import datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from ema_assets.board.resources import ALL
from ema_assets.config import watchlist
from ema_assets.operations.sync_watchlist import sync
from ema_assets.store.database import Database
from ema_assets_tests.board.world import HOSTILE, NOW, WATCHLIST, ServedBoard, a_correction_and_a_gap, board_on
from ema_assets_tests.refresh.exchange import utc

TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}
KNOWN = {
    *("$ref", "type", "anyOf", "properties", "required", "additionalProperties", "items", "format"),
    *("title", "description"),
}


def problems(value: Any, schema: dict[str, Any], schemas: dict[str, Any], at: str = "") -> list[str]:
    """The differences between `value` and `schema`. Only the keywords that the document uses are supported."""
    assert schema.keys() <= KNOWN, schema
    if "$ref" in schema:
        return problems(value, schemas[schema["$ref"].removeprefix("#/components/schemas/")], schemas, at)
    if "anyOf" in schema:
        tried = [problems(value, each, schemas, at) for each in schema["anyOf"]]
        return [] if [] in tried else min(tried, key=len)
    kind = schema["type"]
    if type(value) not in TYPES[kind]:
        return [f"{at} is {value!r} and no {kind}"]
    if schema.get("format") == "date-time":
        assert datetime.fromisoformat(value).tzinfo is not None
    found: list[str] = []
    if kind == "array":
        for number, each in enumerate(value):
            found += problems(each, schema["items"], schemas, f"{at}[{number}]")
    if kind == "object":
        known: dict[str, Any] = schema.get("properties", {})
        others = schema["additionalProperties"]
        found += [f"{at} has no {name}" for name in schema.get("required", []) if name not in value]
        for name, each in value.items():
            if name not in known and others is False:
                found.append(f"{at} has {name}, which is not described")
            else:
                found += problems(each, known.get(name, others), schemas, f"{at}.{name}")
    return found


def check(board: ServedBoard, path: str, **query: Any) -> Any:
    """The answer, after a check that it matches its description."""
    document = board.get("/api/openapi.json").json
    content = document["paths"][path]["get"]["responses"]["200"]["content"]
    answer = board.get(f"/api{path}", **query)
    assert answer.status == 200, answer.text
    assert problems(answer.json, content["application/json"]["schema"], document["components"]["schemas"]) == []
    return answer.json


def asked_of(path: str) -> list[dict[str, Any]]:
    """Queries of a resource: one without optional parameters, and others whose answers have more fields."""
    series: list[dict[str, Any]] = [
        {"symbol": symbol, "timeframe": timeframe}
        for symbol, timeframe in (*product(("AAPL", "BTC-USD"), ("5m", "1h", "1d")), (HOSTILE, "5m"))
    ]
    strategies = [{"strategy": name, "timeframe": "5m"} for name in ("strategy_9_30_ema", "strategy_quick")]
    return {
        "/chart": [
            *series,
            *({**each, "signals": "rsi,bollinger,ema_trend", "strategy": "strategy_9_30_ema"} for each in series),
        ],
        "/why": series,
        "/heatmap": [{}, {"averages": "5/13"}],
        "/about-to-cross": [{}, {"averages": "5/13"}],
        "/crossovers": [{}, {"page": 999}],
        "/performance": [{}, *strategies],
        "/equity": [{}, *strategies, {"symbols": HOSTILE}],
    }.get(path, [{}])


@pytest.mark.parametrize("path", [each.path for each in ALL])
def test_every_answer_matches_its_description(board: ServedBoard, path: str) -> None:
    for query in asked_of(path):
        check(board, path, **query)


def test_the_fields_and_rows_of_every_resource_are_described(board: ServedBoard) -> None:
    document = board.get("/api/openapi.json").json
    schemas = document["components"]["schemas"]
    for each in ALL:
        content = document["paths"][each.path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        named = schemas[content["$ref"].removeprefix("#/components/schemas/")]
        assert named["properties"], each.path
        assert named["additionalProperties"] is False
        if "rows" in named["properties"]:
            row = schemas[named["properties"]["rows"]["items"]["$ref"].removeprefix("#/components/schemas/")]
            assert row["properties"], each.path
            assert set(row["required"]) == row["properties"].keys()


@pytest.mark.broad
def test_answers_match_their_description_with_failures_and_without_data(
    databases, untouched: str, tmp_path: Path
) -> None:
    url, fresh = databases.make(like=untouched), databases.make()
    with Database(url) as database, database.transaction() as transaction:
        a_correction_and_a_gap(transaction, utc("2026-11-20 20:55"))
        transaction.execute(
            """
            INSERT INTO market.close_latency (timeframe, closed_at, committed_at, series, seconds)
            VALUES ('5m', $1, now(), 2, 3.5)
            """,
            utc("2026-11-20 20:55"),
        )
        transaction.execute(
            """
            UPDATE market.series_state SET failures = 3, last_error = 'no', next_attempt_at = $1, updated_at = now()
            WHERE asset = 'ohlc' AND symbol = 'BTC-USD' AND timeframe = '5m'
            """,
            NOW + timedelta(minutes=10),
        )
    with Database(fresh) as database:
        sync(database, watchlist.parse(WATCHLIST), NOW)
    with board_on(url, tmp_path) as board:
        for path in ("/trust", "/not-fresh", "/corrections", "/gaps", "/latency", "/assets", "/heatmap"):
            found = check(board, path)
            assert found.get("rows", [None]), path
        check(board, "/why", symbol="BTC-USD", timeframe="5m")
    with board_on(fresh, tmp_path) as board:
        for each in ALL:
            check(
                board, each.path, **({"symbol": "AAPL", "timeframe": "1h"} if each.path in ("/chart", "/why") else {})
            )
    databases.drop(url)
    databases.drop(fresh)


def test_the_check_reports_wrong_types_missing_fields_and_extra_fields() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"anyOf": [{"type": "number"}, {"type": "null"}]}},
        "required": ["a", "b"],
        "additionalProperties": False,
    }
    assert problems({"a": 1, "b": None}, schema, {}) == []
    assert problems({"a": True, "b": "x", "c": 1}, schema, {}) == [
        ".a is True and no integer",
        ".b is 'x' and no number",
        " has c, which is not described",
    ]
    assert problems({"a": 1}, schema, {}) == [" has no b"]
