"""Tests of the JSON API over a real socket: answers, pages, ETags, errors and the OpenAPI description."""

import json
import shlex
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from ema_assets.board import formats, overviews, resources
from ema_assets.board.resources import ALL
from ema_assets.operations import refresh_performance
from ema_assets.reports import series_chart
from ema_assets.sandbox.faults import parse_fault
from ema_assets.store.database import Database
from ema_assets_tests.board.world import HOSTILE, ServedBoard, a_correction_and_a_gap, board_on
from ema_assets_tests.refresh.exchange import rows_of, utc

REQUIRED: dict[str, dict[str, Any]] = {
    "/chart": {"symbol": "AAPL", "timeframe": "5m"},
    "/why": {"symbol": "AAPL", "timeframe": "1h"},
}
each_resource = pytest.mark.parametrize("path", [each.path for each in ALL])


@each_resource
def test_an_unchanged_answer_is_304_without_a_body(board: ServedBoard, path: str) -> None:
    query = REQUIRED.get(path, {})
    first = board.get(f"/api{path}", **query)
    assert (first.status, first.headers["Content-Type"]) == (200, "application/json")
    again = board.get(f"/api{path}", {"If-None-Match": first.headers["ETag"]}, **query)
    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
    assert board.get(f"/api{path}", {"If-None-Match": 'W/"another"'}, **query).status == 200
    assert first.json is not None


@each_resource
def test_the_description_lists_the_parameters_and_statuses_of_each_resource(board: ServedBoard, path: str) -> None:
    document = board.get("/api/openapi.json").json
    assert document["openapi"].startswith("3.1")
    operation = document["paths"][path]["get"]
    declared = {each.name: each for each in next(each for each in ALL if each.path == path).parameters}
    assert [each["name"] for each in operation["parameters"]] == list(declared)
    for told in operation["parameters"]:
        assert told["required"] == (told["name"] in REQUIRED.get(path, {}))
        assert told["description"]
    assert {"200", "304", "400", "503"} <= operation["responses"].keys()


def test_the_heat_map_shows_the_values_of_the_screener(board: ServedBoard, filled: str) -> None:
    found = board.get("/api/heatmap").json
    assert found["timeframes"] == ["5m", "1h", "1d"]
    assert [row["symbol"] for row in found["rows"]] == ["AAPL", "BTC-USD", HOSTILE]
    with Database(filled) as database:
        screened = {
            (symbol, timeframe): (trend, spread, bars)
            for symbol, timeframe, trend, spread, bars in rows_of(
                database, "SELECT symbol, timeframe, trend, spread_pct, bars_since_cross FROM results.screener"
            )
        }
    shown = {
        (row["symbol"], cell["timeframe"]): (cell["trend"], cell["spread_pct"], cell["bars_since_cross"])
        for row in found["rows"]
        for cell in row["cells"]
        if cell is not None and cell["trend"] is not None
    }
    assert {key: value for key, value in screened.items() if value[0] is not None} == shown
    up = sum(trend == "up" for (_, timeframe), (trend, *_) in shown.items() if timeframe == "5m")
    assert found["breadth"]["5m"]["up"] == up


def test_the_chart_has_the_stored_bars_averages_signals_and_trades(board: ServedBoard, filled: str) -> None:
    found = board.get(
        "/api/chart",
        symbol="BTC-USD",
        timeframe="1h",
        bars=150,
        signals="rsi,bollinger",
        strategy="strategy_9_30_ema",
    ).json
    with Database(filled) as database:
        rows = rows_of(
            database,
            """
            SELECT extract(epoch FROM ts)::bigint, close, ema_9, rsi, bb_upper FROM results.signals
            WHERE symbol = 'BTC-USD' AND timeframe = '1h' ORDER BY ts DESC LIMIT 150
            """,
        )[::-1]
        trades = rows_of(
            database,
            """
            SELECT extract(epoch FROM entry_ts)::bigint FROM results.trades
            WHERE strategy = 'strategy_9_30_ema' AND symbol = 'BTC-USD' AND timeframe = '1h' AND last_ts >= to_timestamp($1) ORDER BY 1
            """,
            rows[0][0],
        )
    lines = {line["column"]: line for line in found["lines"]}
    assert found["time"] == [row[0] for row in rows]
    assert found["close"] == [row[1] for row in rows]
    for column, values in ((2, found["fast"]), (3, lines["rsi"]["values"]), (4, lines["bb_upper"]["values"])):
        expected = [row[column] for row in rows]
        assert values == [value if value is None else pytest.approx(value, rel=1e-8) for value in expected]
        assert values[-1] is not None
    assert (lines["rsi"]["on_price"], lines["bb_upper"]["on_price"]) == (False, True)
    assert [trade["entry_ts"] for trade in found["trades"]] == [at for (at,) in trades]
    assert trades
    assert not found["is_whole"]


def test_a_chart_shows_the_averages_of_its_strategy(board: ServedBoard, filled: str) -> None:
    asked: dict[str, Any] = {"symbol": "AAPL", "timeframe": "5m", "bars": 20}
    plain = board.get("/api/chart", **asked).json
    quick = board.get("/api/chart", strategy="strategy_quick", **asked).json
    assert (plain["averages"], quick["averages"]) == (["EMA 9", "EMA 30"], ["EMA 5", "EMA 13"])
    with Database(filled) as database:
        rows = rows_of(
            database,
            """
            SELECT f.ema_5, s.ema_13 FROM market.ema_5 f JOIN market.ema_13 s USING (symbol, timeframe, ts)
            WHERE symbol = 'AAPL' AND timeframe = '5m' ORDER BY ts DESC LIMIT 20
            """,
        )[::-1]
    assert list(zip(quick["fast"], quick["slow"], strict=True)) == [pytest.approx(row, rel=1e-8) for row in rows]
    assert plain["time"] == quick["time"]
    assert plain["fast"] != quick["fast"]
    page = board.get("/chart", strategy="strategy_quick", **asked).text
    assert '<th class="num">EMA 5</th><th class="num">EMA 13</th>' in page
    # The trend and the crossovers beside the chart use the same averages.
    assert "EMA 9 and EMA 30" not in page
    assert '<option value="">of the trades</option>' in page


def test_a_chart_shows_the_requested_averages_and_their_trend(board: ServedBoard) -> None:
    asked: dict[str, Any] = {"symbol": "AAPL", "timeframe": "5m", "bars": 20}
    quick = board.get("/api/chart", strategy="strategy_quick", **asked).json
    named = board.get("/api/chart", averages="5/13", **asked).json
    assert (named["averages"], named["fast"], named["slow"]) == (["EMA 5", "EMA 13"], quick["fast"], quick["slow"])
    assert named["trades"] == []
    # The requested averages take precedence over those of the strategy.
    both = board.get("/api/chart", averages="9/30", strategy="strategy_quick", **asked).json
    assert (both["averages"], both["trades"]) == (["EMA 9", "EMA 30"], quick["trades"])
    refused = board.get("/api/chart", averages="12/26", **asked)
    assert (refused.status, refused.json["allowed"]) == (404, ["9/30", "5/13"])
    assert refused.json["error"] == "`averages` must be one of 9/30, 5/13, received '12/26'"
    # The links of the page keep the parameter, and the page shows the trend of these averages.
    page = board.get("/chart", averages="5/13", **asked).text
    assert "<option selected>5/13</option>" in page
    assert "/api/chart?symbol=AAPL&amp;timeframe=5m&amp;averages=5%2F13" in page
    assert 'href="/chart?averages=5%2F13&amp;bars=20&amp;symbol=AAPL&amp;timeframe=1h"' in page
    near = {
        row["symbol"]: row for row in board.get("/api/about-to-cross", averages="5/13", timeframe="5m").json["rows"]
    }
    assert f"spread {formats.percent(near['AAPL']['spread_pct'])}" in page
    # A list of crossovers of other averages links to charts with these averages.
    crossed = board.get("/crossovers", averages="5/13", timeframe="1h").text
    assert "timeframe=1h&amp;averages=5%2F13" in crossed


def test_two_trends_with_the_same_column_name_keep_their_own_values(board: ServedBoard) -> None:
    names = "ema_trend,ema_trend_5_13"
    found = board.get("/api/chart", symbol="AAPL", timeframe="5m", bars=30, signals=names).json
    values = {line["signal"]: line["values"] for line in found["lines"] if line["column"] == "spread_pct"}
    assert sorted(values) == names.split(",")
    assert [each.count(None) for each in values.values()] == [0, 0]
    assert values["ema_trend"] != values["ema_trend_5_13"]


def test_a_column_that_ends_in_pct_has_the_unit_percent_and_is_not_drawn_over_prices(board: ServedBoard) -> None:
    assert series_chart.line_of("band", "upper", on_price=True) == series_chart.Line("band", "upper", True, None)
    assert series_chart.line_of("band", "width_pct", on_price=True) == series_chart.Line(
        "band", "width_pct", False, "percent"
    )
    found = board.get("/api/chart", symbol="AAPL", timeframe="5m", bars=3, signals="ema_trend,rsi,bollinger").json
    units = {line["column"]: (line["on_price"], line["unit"]) for line in found["lines"]}
    assert units["spread_pct"] == (False, "percent")
    assert units["rsi"] == (False, None)
    assert units["bb_upper"] == (True, None)


def test_the_chart_of_a_series_with_one_bar_has_no_slow_average_and_no_trades(board: ServedBoard) -> None:
    found = board.get("/api/chart", symbol=HOSTILE, timeframe="5m", signals="rsi", strategy="strategy_9_30_ema").json
    assert (len(found["time"]), found["slow"], found["trades"]) == (1, [None], [])
    assert found["is_whole"]


def test_the_pages_of_a_list_contain_every_row_once(board: ServedBoard, filled: str) -> None:
    with Database(filled) as database:
        count = rows_of(database, "SELECT count(*) FROM market.ema_trend WHERE crossover IS NOT NULL")[0][0]
    assert count > 10
    pages = [board.get("/api/crossovers", per_page=7, page=page).json for page in range(1, count // 7 + 2)]
    rows = [(row["ts"], row["symbol"], row["timeframe"]) for page in pages for row in page["rows"]]
    assert len(rows) == len(set(rows)) == count
    assert [row[0] for row in rows] == sorted((row[0] for row in rows), reverse=True)
    assert [page["has_more"] for page in pages] == [True] * (len(pages) - 1) + [False]
    symbols = board.get("/api/symbols", per_page=2, page=2).json
    assert (symbols["total"], symbols["pages"], len(symbols["rows"])) == (3, 2, 1)


def test_the_parameter_averages_selects_the_trend_that_is_shown(board: ServedBoard, filled: str) -> None:
    with Database(filled) as database:
        spreads = dict(
            rows_of(database, "SELECT symbol, spread_pct FROM results.screener_5_13 WHERE timeframe = '5m' ORDER BY 1")
        )
        crossed = rows_of(
            database,
            """SELECT symbol, ts FROM market.ema_trend_5_13 WHERE crossover IS NOT NULL AND timeframe = '1h'
               ORDER BY ts DESC, symbol LIMIT 5""",
        )
    found = board.get("/api/heatmap", averages="5/13").json
    shown = {
        row["symbol"]: cell["spread_pct"]
        for row in found["rows"]
        for cell in row["cells"]
        if cell is not None and cell["timeframe"] == "5m" and cell["trend"] is not None
    }
    assert shown == {symbol: pytest.approx(spread) for symbol, spread in spreads.items() if spread is not None}
    rows = board.get("/api/crossovers", averages="5/13", timeframe="1h", per_page=5).json["rows"]
    assert [(row["symbol"], datetime.fromisoformat(row["ts"])) for row in rows] == crossed
    near = board.get("/api/about-to-cross", averages="5/13", timeframe="5m").json["rows"]
    assert {row["symbol"]: row["spread_pct"] for row in near}.items() <= shown.items()
    assert board.get("/api/heatmap", averages="12/26").status == 404
    page = board.get("/", averages="5/13").text
    assert "EMA 5 above EMA 13" in page
    assert "strategy=strategy_quick" in page
    assert "EMA 9 above EMA 30" in board.get("/").text


def test_parameters_filter_and_sort_the_rows(board: ServedBoard) -> None:
    def shown(**query: Any) -> list[str]:
        return [row["symbol"] for row in board.get("/api/heatmap", **query).json["rows"]]

    assert shown(group="Crypto") == ["BTC-USD"]
    assert shown(symbols="BTC-USD,AAPL") == ["AAPL", "BTC-USD"]
    assert shown(group="Crypto", symbols="AAPL") == ["AAPL", "BTC-USD"]
    assert shown(q="btc") == ["BTC-USD"]
    assert shown(sort="symbol")[0] == HOSTILE
    timeframes = {row["timeframe"] for row in board.get("/api/about-to-cross", timeframe="5m").json["rows"]}
    assert timeframes == {"5m"}


@pytest.mark.parametrize(
    ("path", "query", "status", "said"),
    [
        ("/chart", {"symbol": "APPL", "timeframe": "5m"}, 404, "did you mean `AAPL`?"),
        ("/chart", {"symbol": "AAPL", "timeframe": "7m"}, 404, "`timeframe` must be one of 5m, 1h, 1d, received '7m'"),
        ("/chart", {"timeframe": "5m"}, 400, "`symbol` must be given"),
        ("/chart", {"symbol": "AAPL", "timeframe": "5m", "bars": "5001"}, 400, "from 1 to 5000, received '5001'"),
        ("/chart", {"symbol": "AAPL", "timeframe": "5m", "bars": "²"}, 400, "received '²'"),
        ("/chart", {"symbol": "AAPL", "timeframe": "5m", "signals": "rsj"}, 404, "did you mean `rsi`?"),
        ("/chart", {"symbol": "AAPL", "timeframe": "5m", "strategy": "x"}, 404, "strategy_quick, received 'x'"),
        ("/why", {"symbol": "'; DROP TABLE market.ohlc --", "timeframe": "5m"}, 404, "received \"'; DROP"),
        ("/chart", {"symbol": "A\0", "timeframe": "5m"}, 404, "received 'A"),
        ("/heatmap", {"group": "Bonds"}, 404, "`group` must be one of Shares, Crypto"),
        ("/heatmap", {"sort": "colour"}, 400, "`sort` must be one of watchlist, symbol"),
        ("/heatmap", {"page": "0"}, 400, "`page` must be a whole number from 1"),
        ("/equity", {"symbols": "AAPL,NOPE"}, 404, "`symbols` must be one of"),
        (
            "/equity",
            {"symbol": "AAPL"},
            400,
            "there is no parameter `symbol`: this resource takes strategy, timeframe, ",
        ),
        ("/equity", {"symbol": "AAPL"}, 400, "; did you mean `symbols`?"),
        ("/trust", {"group": "Crypto"}, 400, "there is no parameter `group`: this resource takes none"),
        ("/nowhere", {}, 404, "there is no /api/nowhere; GET /api/openapi.json"),
    ],
)
def test_an_error_states_what_was_received_and_what_is_allowed(
    board: ServedBoard, path: str, query: dict[str, Any], status: int, said: str
) -> None:
    answer = board.get(f"/api{path}", **query)
    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/json")
    assert said in answer.json["error"]
    assert answer.headers.get("ETag") is None
    if status == 404:
        assert answer.json["allowed"]


def test_a_parameter_that_is_given_twice_is_refused(board: ServedBoard) -> None:
    answer = board.get("/api/heatmap?symbols=AAPL&symbols=BTC-USD")
    assert (answer.status, answer.json["parameter"]) == (400, "symbols")
    assert answer.json["error"] == "`symbols` must be given once; a list is separated by commas"


def test_the_equity_of_a_portfolio_agrees_with_the_performance_of_its_symbols(board: ServedBoard) -> None:
    rows = board.get("/api/performance", timeframe="1h").json["rows"]
    found = {row["symbol"]: row["total_return_pct"] for row in rows}
    assert {"AAPL", "BTC-USD"} <= found.keys()
    for symbol in ("AAPL", "BTC-USD"):
        own = board.get("/api/equity", timeframe="1h", symbols=symbol).json
        assert own["total_return_pct"] == pytest.approx(found[symbol], abs=1e-6)
        assert own["equity"][0] == 1
    both = board.get("/api/equity", timeframe="1h", symbols="AAPL,BTC-USD").json
    assert both["total_return_pct"] == pytest.approx((found["AAPL"] + found["BTC-USD"]) / 2, abs=1e-6)
    assert (both["series"], both["symbols"]) == (2, 2)
    assert both["weighting"].startswith("Equal weights")
    assert both["time"] == sorted(set(both["time"]))
    assert board.get("/api/equity", timeframe="1h", group="Crypto").json["series"] == 1


def test_a_change_in_the_open_hour_is_not_shown_as_a_changed_input(databases, untouched: str, tmp_path: Path) -> None:
    url = databases.make(like=untouched)
    asked: dict[str, Any] = {"symbol": "BTC-USD", "timeframe": "1h"}
    for dirty, is_dirty in (("21:00 22:00", False), ("20:00 21:00", True)):
        with Database(url) as database, database.transaction() as transaction:
            transaction.execute(
                """
                UPDATE market.series_state SET dirty_from = $1, dirty_end = $2, updated_at = clock_timestamp()
                WHERE asset = 'ohlc' AND symbol = 'BTC-USD' AND timeframe = '1h'
                """,
                *(utc(f"2026-11-20 {time}") for time in dirty.split()),
            )
        with board_on(url, tmp_path) as board:
            chain = board.get("/api/why", **asked).json["chain"]
            assert [(row["asset"], row["is_dirty"]) for row in chain if row["asset"] == "ohlc"] == [("ohlc", is_dirty)]
            assert ("input changed" in board.get("/why", **asked).text) == is_dirty
    databases.drop(url)


def test_a_profit_factor_without_losses_is_infinite_and_sorts_first_and_a_missing_one_sorts_last(
    databases, untouched: str, tmp_path: Path
) -> None:
    url = databases.make(like=untouched)
    with Database(url) as database:
        with database.transaction() as transaction:
            transaction.execute("DELETE FROM market.strategy_9_30_ema WHERE timeframe = '1h'")
            for symbol, last, count in (("AAPL", 1.0, 12), ("BTC-USD", -4.0, 12), (HOSTILE, 1.0, 2)):
                transaction.execute(
                    """
                    INSERT INTO market.strategy_9_30_ema (symbol, timeframe, entry_ts, side, entry_price, last_ts,
                        last_price, return_pct, net_return_pct, bars_held, status, bar_returns_sum)
                    SELECT $1, '1h', $2::timestamptz + n * interval '1 hour', 'long', 100,
                           $2::timestamptz + n * interval '1 hour', 100, pct, pct, 1, 'closed', 0
                    FROM (SELECT n, CASE WHEN n = 1 THEN $3::text::float8 ELSE 1 END AS pct
                          FROM generate_series(1, $4::bigint) n) t
                    """,
                    symbol,
                    utc("2026-11-16 15:00"),
                    str(last),
                    count,
                )
        refresh_performance.refresh(database)
    with board_on(url, tmp_path) as board:
        asked: dict[str, Any] = {"timeframe": "1h", "sort": "profit_factor", "strategy": "strategy_9_30_ema"}
        rows = board.get("/api/performance", **asked).json["rows"]
        # The last row has too few trades for the figure.
        assert [(row["symbol"], row["profit_factor"], row["has_no_loss"]) for row in rows] == [
            ("AAPL", None, True),
            ("BTC-USD", pytest.approx(11 / 4), False),
            (HOSTILE, None, False),
        ]
        shown = board.get("/performance", **asked).text
        assert shown.count('<td class="num"><span title="no trade has lost">∞</span></td>') == 1
        assert shown.index("no trade has lost") < shown.index('<td class="num">2.75</td>')
    databases.drop(url)


def test_corrections_gaps_and_failures_are_shown_and_change_the_etag(databases, untouched: str, tmp_path: Path) -> None:
    url = databases.make(like=untouched)
    with board_on(url, tmp_path) as board, Database(url) as database:
        asked = {path: board.get(path).headers["ETag"] for path in ("/api/trust", "/", "/api/heatmap")}
        chart = board.get("/api/chart", symbol="AAPL", timeframe="5m").headers["ETag"]
        other = board.get("/api/chart", symbol="BTC-USD", timeframe="5m").headers["ETag"]
        with database.transaction() as transaction:
            a_correction_and_a_gap(transaction, utc("2026-11-20 16:00"))
            transaction.execute(
                """
                UPDATE market.series_state SET failures = 3, last_error = 'sandbox said 503', next_attempt_at = $1,
                       updated_at = clock_timestamp()
                WHERE asset = 'ohlc' AND symbol = 'AAPL' AND timeframe = '5m'
                """,
                utc("2026-11-20 21:10"),
            )
        trust = board.another("/api/trust", asked["/api/trust"]).json
        assert (trust["corrections"], trust["crossovers_flipped"], trust["trades_flipped"]) == (1, 2, 1)
        assert (trust["gaps"], trust["missing_bars"], trust["verdict"]) == (1, 1, "failing")
        assert trust["failures"] == ["AAPL|5m: sandbox said 503"]
        for path, etag in asked.items():
            assert board.get(path, {"If-None-Match": etag}).status == 200
        assert board.get("/api/chart", {"If-None-Match": chart}, symbol="AAPL", timeframe="5m").status == 200
        assert board.get("/api/chart", {"If-None-Match": other}, symbol="BTC-USD", timeframe="5m").status == 304
        # 1h bars are rolled up from 5m bars, so AAPL|1h is failing as well.
        failing = [f"{row['symbol']}|{row['timeframe']}" for row in board.get("/api/not-fresh").json["rows"]]
        assert failing[:2] == ["AAPL|5m", "AAPL|1h"]
        why = board.get("/api/why", symbol="AAPL", timeframe="5m").json
        assert why["headline"].startswith("AAPL|5m is not fresh: the last 3 attempts failed.")
        assert "Last error: sandbox said 503" in why["reasons"]
        assert "The next attempt is at 2026-11-20 21:10:00 UTC." in why["reasons"]
        assert why["chain"][0]["dagster"] == "http://dagster.test/assets/ohlc?view=partitions&partition=AAPL%7C5m"
        assert board.get("/api/corrections").json["rows"][0]["rows_recomputed"] == 312
        assert board.get("/api/gaps").json["rows"][0]["bars"] == 1
        shown = board.get("/freshness").text
        assert "sandbox said 503" in shown
        assert "<b>312</b> rows recomputed" in shown
        assert "<b>2</b> crossovers flipped" in shown
        assert "<b>1</b> trade flipped" in shown
        with database.transaction() as transaction:
            transaction.execute(
                """
                INSERT INTO market.provider_state (provider, failures, open_until, last_error)
                VALUES ('sandbox', 1, now() + interval '1 hour', 'refused access.')
                """
            )
        (sentence,) = (
            each
            for each in board.get("/api/why", symbol="AAPL", timeframe="5m").json["reasons"]
            if "does not answer" in each
        )
        assert sentence.startswith("sandbox does not answer, tried once, again at ")
        assert sentence.endswith(": refused access.")
    databases.drop(url)


@pytest.mark.broad
def test_an_answer_that_changes_with_the_clock_gets_a_new_etag(
    databases, untouched: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overviews, "_LOOKED_AT_AGAIN_SECONDS", 0.0)
    url = databases.make(like=untouched)
    with Database(url) as database, database.transaction() as transaction:
        transaction.execute(
            """
            INSERT INTO market.bar_revision (symbol, timeframe, kind, detail, changed_from, bars_corrected, bars_late,
                source, rows_recomputed, crossovers_flipped, trades_flipped)
            VALUES ('AAPL', '5m', 'correction', 'one bar', now(), 1, 0, 'sandbox', 312, 2, 1)
            """
        )
    with board_on(url, tmp_path) as board:
        series = {"symbol": "AAPL", "timeframe": "5m"}
        queries: dict[str, dict[str, Any]] = {"/api/why": series, "/why": series, "/api/trust": {}}
        asked = {path: board.get(path, **query) for path, query in queries.items()}
        assert asked["/api/trust"].json["corrections"] == 1
        board.now += timedelta(hours=1)
        board.passed = timedelta(hours=25)
        for path, before in asked.items():
            board.another(path, before.headers["ETag"], **queries[path])
        assert board.get("/api/trust").json["corrections"] == 0
    databases.drop(url)


def test_every_answer_is_json_without_nan_and_infinity(board: ServedBoard) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    for each in resources.ALL:
        json.loads(board.get(f"/api{each.path}", **REQUIRED.get(each.path, {})).body, parse_constant=refuse)


DOCS = Path(__file__).parents[2] / "docs"


def curls(page: str) -> list[list[str]]:
    """The arguments of each `curl` command on a page."""
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("curl ")]


@pytest.mark.parametrize("words", curls("BOARD.md"), ids=lambda words: words[-1])
def test_every_documented_request_is_answered(board: ServedBoard, words: list[str]) -> None:
    (address,) = words
    path, _, query = address.removeprefix("http://127.0.0.1:3001").partition("?")
    asked: dict[str, Any] = dict(parse_qsl(query))
    answer = board.get(path, **asked)
    assert answer.status == 200, answer.text


def test_the_documented_fault_is_valid() -> None:
    (body,) = [words[words.index("-d") + 1] for words in curls("WHY_NOT_FRESH.md") if "-d" in words]
    assert parse_fault(body.encode()).symbols == ["BTC-USD"]
    assert len(curls("BOARD.md")) == 5
