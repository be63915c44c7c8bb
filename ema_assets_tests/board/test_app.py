"""Tests of the pages over a real socket: content, refused hosts, hostile names and databases without data."""

import re
import socket
from datetime import date, timedelta
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ema_assets.board import overviews
from ema_assets.board.listening import listen
from ema_assets.board.pages import ALL
from ema_assets.board.protection import POLICY
from ema_assets.board.readers import Readers
from ema_assets.board.resources import ALL as RESOURCES
from ema_assets.config import watchlist
from ema_assets.model.errors import ConfigurationError
from ema_assets.operations.sync_watchlist import sync
from ema_assets.refresh.graph import build
from ema_assets.reports import equity as reported
from ema_assets.reports import heat_map
from ema_assets.store import sync_failures
from ema_assets.store.database import Database
from ema_assets.store.migrations import migrate
from ema_assets_tests.board.world import HOSTILE, NOW, WATCHLIST, ServedBoard, board_on
from ema_assets_tests.conftest import empty
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, refresh
from ema_assets_tests.timeframes import D1, M5
from ema_assets_tests.waiting import wait_until

QUERIES: dict[str, dict[str, Any]] = {
    "/chart": {"symbol": "AAPL", "timeframe": "1h"},
    "/why": {"symbol": "AAPL", "timeframe": "5m"},
}
PATHS = [page.path for page in ALL]
each_page = pytest.mark.parametrize("path", PATHS)


class Markup(HTMLParser):
    """Collects the inline code and foreign addresses that a strict policy blocks, and all ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.inline: list[str] = []
        self.ids: list[str] = []
        self._is_in_script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._is_in_script = tag in ("script", "style")
        self.ids += [given["id"] or ""] if "id" in given else []
        self.inline += [f"{tag} {name}" for name in given if name == "style" or name.startswith("on")]
        for name in ("src", "href"):
            address = given.get(name) or ""
            if tag in ("script", "link", "img") and not address.startswith("/static/") and name in given:
                self.inline.append(f"{tag} {address}")

    def handle_endtag(self, tag: str) -> None:
        self._is_in_script = False

    def handle_data(self, data: str) -> None:
        if self._is_in_script and data.strip():
            self.inline.append(data)


class Still(HTMLParser):
    """Collects the text, classes and times of a page that stay as they are while it is open: those of no live part."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._live: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if self._live or "data-live" in given:
            self._live += [tag] if not self._live or tag == self._live[0] else []
        else:
            self.found += [given.get("class") or "", given.get("datetime") or ""]

    def handle_endtag(self, tag: str) -> None:
        if self._live and tag == self._live[0]:
            self._live.pop()

    def handle_data(self, data: str) -> None:
        self.found += [data.strip()] if data.strip() and not self._live else []


def test_all_that_changes_with_the_data_is_updated_in_an_open_page(databases, untouched: str, tmp_path: Path) -> None:
    url = databases.make(like=untouched)
    with board_on(url, tmp_path) as board:
        before = {path: Still(board.get(path, **QUERIES.get(path, {})).text).found for path in PATHS}
    with Database(url) as database, database.transaction() as transaction:
        changes = (
            "UPDATE market.series_state SET failures = 3, last_error = 'no', revision = revision + 1 WHERE asset = 'ohlc'",
            "UPDATE market.ema_trend SET trend = CASE trend WHEN 'up' THEN 'down' ELSE 'up' END",
            "UPDATE market.instrument SET silent_since = now() WHERE symbol = 'BTC-USD'",
            "DELETE FROM market.strategy_9_30_ema WHERE exit_ts IS NULL",
            "UPDATE market.performance_refresh SET refreshed_at = refreshed_at - interval '1 hour'",
        )
        for change in changes:
            transaction.execute(change)
    with board_on(url, tmp_path) as board:
        after = {path: Still(board.get(path, **QUERIES.get(path, {})).text).found for path in PATHS}
    databases.drop(url)
    assert after == before


@pytest.mark.broad
@each_page
def test_a_page_has_no_inline_code_and_an_unchanged_page_is_304(board: ServedBoard, path: str) -> None:
    answer = board.get(path, **QUERIES.get(path, {}))
    assert answer.status == 200, answer.text
    markup = Markup(answer.text)
    assert markup.inline == []
    assert len(markup.ids) == len(set(markup.ids))
    assert "SYNTHETIC prices" in answer.text
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert "unsafe" not in POLICY
    again = board.get(path, {"If-None-Match": answer.headers["ETag"]}, **QUERIES.get(path, {}))
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        (None, None, 200),
        ("localhost:{port}", None, 200),
        ("[::1]:{port}", None, 200),
        ("board.desk:{port}", None, 200),
        ("evil.example", None, 403),
        ("127.0.0.1.evil.example", None, 403),
        ("evil.example@127.0.0.1", None, 403),
        ("", None, 403),
        (None, "http://127.0.0.1:{port}", 200),
        (None, "http://evil.example", 403),
        (None, "http://localhost:{port}", 403),
        (None, "http://127.0.0.1:1", 403),
        (None, "null", 403),
    ],
)
def test_the_board_answers_only_its_own_hosts_and_its_own_origin(
    filled: str,
    tmp_path: Path,
    board: ServedBoard,
    host: str | None,
    origin: str | None,
    status: int,
) -> None:
    port = board.url.rpartition(":")[2]
    if host == "board.desk:{port}":
        with board_on(filled, tmp_path, allowed_hosts=frozenset({"board.desk"})) as allowing:
            assert allowing.get("/about", {"Host": "board.desk"}).status == 200
        assert board.get("/about", {"Host": "board.desk"}).status == 403
        return
    headers = {} if host is None else {"Host": host.format(port=port)}
    headers |= {} if origin is None else {"Origin": origin.format(port=port)}
    answer = board.get("/api/trust", headers)
    assert answer.status == status, answer.text
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def without_the_note(text: str) -> tuple[str, str | None]:
    """The page without the note that the requested page does not exist, and the text of that note."""
    note = re.compile(r'<p class="legend behind">(.*?)</p>\n')
    said = note.search(text)
    return note.sub("", text), None if said is None else said.group(1)


@pytest.mark.parametrize(
    ("path", "resource"),
    [("/", "heatmap"), ("/trades", "trades/open"), ("/performance", "performance"), ("/freshness", "not-fresh")],
)
def test_a_page_number_after_the_last_page_shows_the_last_page(board: ServedBoard, path: str, resource: str) -> None:
    behind = board.get(f"/api/{resource}", per_page=1, page=99).json
    assert (behind["rows"], behind["page"]) == ([], 99)
    assert 0 < behind["total"] < 99
    last = board.get(path, per_page=1, page=behind["pages"]).text
    shown, said = without_the_note(board.get(path, per_page=1, page=99).text)
    assert shown == last
    assert said is not None
    address = re.fullmatch(r'There is no page 99\. This is the last one: <a href="([^"]*)">page (\d+)</a>\.', said)
    assert address is not None, said
    assert int(address[2]) == behind["pages"]
    assert board.get(f"{path}{unescape(address[1])}").text == last
    assert without_the_note(last) == (last, None)


def test_a_page_number_after_the_last_page_of_crossovers_shows_the_last_page(board: ServedBoard) -> None:
    numbers = range(1, 1000)
    pages = next(each for each in numbers if not board.get("/api/crossovers", per_page=7, page=each).json["has_more"])
    assert pages > 2
    last = board.get("/crossovers", per_page=7, page=pages).text
    shown, said = without_the_note(board.get("/crossovers", per_page=7, page=999).text)
    assert "No crossover yet" not in shown
    assert shown == last
    assert (
        said == f'There is no page 999. This is the last one: <a href="?page={pages}&amp;per_page=7">page {pages}</a>.'
    )
    only = board.get("/crossovers", symbols="AAPL", timeframe="1d", page=2).text
    assert (
        'This is the last one: <a href="?timeframe=1d&amp;symbols=AAPL&amp;page=1&amp;per_page=40">page 1</a>.' in only
    )


def test_a_filtered_page_makes_statements_about_the_chosen_series_only(board: ServedBoard) -> None:
    assert board.get("/api/trust").json["fine"] < board.get("/api/trust").json["series"]
    shown = board.get("/freshness", timeframe="5m", symbols="AAPL").text
    assert "All series that are chosen are fresh." in shown
    assert "Everything is fresh" not in shown
    assert "No missing bar is requested again." in shown
    assert "No series that is chosen is loading." in board.get("/freshness", condition="loading", timeframe="5m").text
    assert "No series is loading." in board.get("/freshness", condition="loading").text


@pytest.mark.broad
def test_the_table_of_assets_counts_rolled_up_series_whose_source_fails(databases, tmp_path: Path) -> None:
    url = databases.make()
    text = WATCHLIST.replace('["5m", "1h", "1d"]', '["1h", "1d"]')
    watched = watchlist.parse(text)
    bars = [bars_on("24/7", "BTC-USD", each, date(2026, 11, 15), date(2026, 11, 20)) for each in (M5, D1)]
    with Database(url) as database:
        refresh(database, watched, MemoryExchange(*bars), NOW, graph=build(watched))
        with database.transaction() as transaction:
            transaction.execute(
                """
                UPDATE market.series_state SET failures = 3, last_error = 'no', next_attempt_at = $1
                WHERE asset = 'ohlc' AND symbol = 'BTC-USD' AND timeframe = '5m'
                """,
                NOW + timedelta(minutes=10),
            )
    with board_on(url, tmp_path, text) as board:
        shown = board.get("/freshness").text
        head, row = (re.search(f"<tr><th[^>]*>{name}</th>.*", shown) for name in ("Asset", "ohlc"))
        assert head is not None
        assert row is not None
        timeframes = re.findall("<th>([^<]*)</th>", head[0])[1:]
        cells = dict(zip(timeframes, re.findall("<td>(.*?)</td>", row[0]), strict=True))
        assert list(cells) == ["5m", "1h", "1d"]
        assert {key: "1 failing" in cell for key, cell in cells.items()} == {"5m": True, "1h": True, "1d": False}
        found = {(each["asset"], each["timeframe"]): each["failing"] for each in board.get("/api/assets").json["rows"]}
        assert {key: count for key, count in found.items() if count} == {("ohlc", "5m"): 1, ("ohlc", "1h"): 1}
    databases.drop(url)


@pytest.mark.parametrize("query", [{"q": "btc"}, {"group": "Crypto"}, {"group": "Crypto", "q": "usd"}])
def test_the_lists_beside_the_map_have_the_symbols_of_the_map(board: ServedBoard, query: dict[str, Any]) -> None:
    page = board.get("/", **query).text
    assert set(re.findall(r'href="/chart\?symbol=([^&"]+)', page)) == {"BTC-USD"}
    assert page.count('href="/chart?symbol=BTC-USD') > 6, "not only in the map"


def test_a_text_that_no_symbol_contains_leaves_nothing(board: ServedBoard) -> None:
    assert "/chart?symbol=" not in board.get("/", q="zzz").text


def test_symbols_may_be_typed_in_any_case(board: ServedBoard) -> None:
    shown = board.get("/performance", symbols="aapl, Btc-Usd,AAPL", timeframe="1h", sort="profit_factor").text
    assert "Portfolio of 2 symbols" in shown
    assert 'name="symbols" value="aapl,Btc-Usd,AAPL"' in shown
    assert "symbols=AAPL%2CBTC-USD" in shown
    assert '<option value="profit_factor" selected>profit factor</option>' in shown
    unknown = board.get("/performance", symbols="aapl,nope")
    assert unknown.status == 404
    assert "There is no symbol <code>nope</code> here" in unknown.text


@pytest.mark.broad
def test_a_group_without_a_name_is_shown_with_its_number(filled: str, tmp_path: Path) -> None:
    with board_on(filled, tmp_path, WATCHLIST.replace('name = "Shares"\n', "")) as board:
        for path in ("/", "/trades", "/crossovers", "/performance", "/freshness"):
            shown = board.get(path, group="1").text
            assert '<option value="1" selected>group 1</option><option value="Crypto">Crypto</option>' in shown, path
        assert "Portfolio of group 1 <small>" in board.get("/performance", group="1").text
        assert [row["symbol"] for row in board.get("/api/heatmap", group="1").json["rows"]] == ["AAPL"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_requests_other_than_get_and_head_are_refused(board: ServedBoard, method: str) -> None:
    answer = board.get("/api/heatmap", method=method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/", "/chart", "/why", "/trades", "/crossovers", "/performance", "/freshness"])
def test_a_symbol_that_contains_a_script_tag_is_escaped_on_every_page(board: ServedBoard, path: str) -> None:
    query: dict[str, Any] = {"symbol": HOSTILE, "timeframe": "5m"} if path in QUERIES else {}
    text = board.get(path, **query).text
    assert HOSTILE not in text
    assert Markup(text).inline == []
    if path in ("/", "/chart", "/why", "/performance"):
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_text_from_a_request_is_escaped(board: ServedBoard) -> None:
    asked: dict[str, dict[str, Any]] = {
        "/": {"q": HOSTILE},
        "/chart": {"symbol": "<blink>", "timeframe": "5m"},
        "/<img>": {},
    }
    for path, query in asked.items():
        text = board.get(path, **query).text
        assert not re.search(r"<(blink|img|script)>", text), path


def test_a_search_opens_the_chart_of_a_single_match_or_lists_all_matches(board: ServedBoard) -> None:
    def found(words: str) -> str:
        return board.get("/go", q=words).text

    assert "<h1>BTC-USD <small>1h</small></h1>" in found("btc-usd")
    assert "<h1>AAPL <small>5m</small></h1>" in found("AAPL|5m")
    assert "<h1>AAPL <small>5m</small></h1>" in found("aapl 5M")
    assert "<h1>AAPL <small>1h</small></h1>" in found("aapl 7m")
    assert "<h1>AAPL <small>1h</small></h1>" in found("aap")
    assert ">AAPL</th>" in found("p")
    assert "No symbol of the watchlist fits" in found("nothing")


def test_an_unknown_page_and_an_unknown_symbol_are_answered_with_404(board: ServedBoard) -> None:
    assert board.get("/nowhere").status == 404
    unknown = board.get("/chart", symbol="APPL", timeframe="5m")
    assert unknown.status == 404
    assert "There is no symbol <code>APPL</code> here, only " in unknown.text
    assert "did you mean <code>AAPL</code>?" in unknown.text
    assert "GET /api" not in unknown.text
    assert (
        "There is no timeframe <code>7m</code> here, only 5m, 1h, 1d."
        in board.get("/chart", symbol="AAPL", timeframe="7m").text
    )


def test_versioned_files_are_cached_for_a_year_and_paths_to_other_files_are_404(board: ServedBoard) -> None:
    (address,) = re.findall(r'href="(/static/board\.css\?v=\w+)"', board.get("/").text)
    kept = board.get(address)
    assert (kept.status, kept.headers["Cache-Control"]) == (200, "public, max-age=31536000, immutable")
    assert board.get("/static/board.css").headers["Cache-Control"] == "no-cache"
    notice = board.get("/static/vendor/NOTICE-lightweight-charts.txt").text
    assert "Copyright (с) 2025 TradingView, Inc. https://www.tradingview.com/" in notice
    assert board.get("/static/../app.py").status == 404
    assert board.get("/static/%2e%2e/app.py").status == 404


def test_a_page_is_compressed_for_a_client_that_accepts_gzip(board: ServedBoard) -> None:
    plain = board.get("/")
    packed = board.get("/", {"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.headers["ETag"] == plain.headers["ETag"]
    assert len(packed.body) < len(plain.body) / 3


@each_page
def test_the_pages_of_an_empty_database_state_that_there_are_no_series(databases, tmp_path: Path, path: str) -> None:
    url = databases.make()
    with board_on(url, tmp_path) as board:
        answer = board.get(path, **QUERIES.get(path, {}))
        if path in QUERIES:
            assert answer.status == 404
            assert "There is no timeframe yet" in answer.text
        else:
            assert answer.status == 200, answer.text
            assert "No series yet" in answer.text
    databases.drop(url)


def test_every_page_and_resource_is_answered_while_series_have_no_bars_yet(databases, tmp_path: Path) -> None:
    """This is the state in the first minute of `up`, and of every symbol that has just been added."""
    url = databases.make()
    with Database(url) as database:
        sync(database, watchlist.parse(WATCHLIST), NOW)
    with board_on(url, tmp_path) as board:
        for path in PATHS:
            answer = board.get(path, **QUERIES.get(path, {}))
            assert answer.status == 200, (path, answer.text)
        chart = board.get("/chart", **QUERIES["/chart"]).text
        assert "There are no bars of AAPL|1h yet" in chart
        for resource in RESOURCES:
            named = {parameter.name for parameter in resource.parameters}
            query = {name: value for name, value in QUERIES["/chart"].items() if name in named}
            answer = board.get(f"/api{resource.path}", **query)
            assert answer.status == 200, (resource.path, answer.text)
    databases.drop(url)


def test_bars_that_have_just_closed_are_not_shown_as_stored(databases, tmp_path: Path) -> None:
    """A bar is not late in the first two minutes after its close, but the page must not claim that it is stored."""
    url = databases.make()
    text = WATCHLIST.replace('["5m", "1h", "1d"]', '["5m"]').replace('"AAPL"', "")
    watched = watchlist.parse(text)
    exchange = MemoryExchange(bars_on("24/7", "BTC-USD", M5, date(2026, 11, 18), date(2026, 11, 20)))
    with Database(url) as database:
        refresh(database, watched, exchange, NOW, graph=build(watched))
    with board_on(url, tmp_path, text) as board:
        assert "Everything is fresh: every bar that has closed is stored" in board.get("/freshness").text
        assert "The only series is fresh" in board.get("/").text
    with board_on(url, tmp_path, text) as board:
        board.now += timedelta(minutes=5)
        shown = board.get("/freshness").text
        assert "Nothing is late. The newest bars of 1 series have just closed and are being fetched." in shown
        assert "Everything is fresh" not in shown
    databases.drop(url)


def test_the_performance_page_states_when_no_chosen_symbol_has_the_timeframe(databases, tmp_path: Path) -> None:
    url = databases.make()
    text = f'{WATCHLIST}[[group]]\nname = "Days"\ncalendar = "24/7"\ntimeframes = ["1d"]\nsymbols = ["LTC-USD"]\n'
    with Database(url) as database:
        sync(database, watchlist.parse(text), NOW)
    with board_on(url, tmp_path, text) as board:
        never = "1h is not among the timeframes of what is chosen"
        assert never in board.get("/performance", symbols="LTC-USD").text
        assert never in board.get("/performance", group="Days", timeframe="1h").text
        others: list[dict[str, Any]] = [{}, {"symbols": "LTC-USD,AAPL"}, {"symbols": "LTC-USD", "timeframe": "1d"}]
        for chosen in others:
            shown = board.get("/performance", **chosen).text
            assert never not in shown
            assert "has not been computed on any of these series yet" in shown
    databases.drop(url)


def test_the_pages_of_a_database_that_was_never_synced_state_how_to_begin(databases, tmp_path: Path) -> None:
    url = databases.make(migrated=False)
    with board_on(url, tmp_path) as board:
        assert "ema-assets up" in board.get("/").text
        migrate(url)
        assert "ema-assets up" in board.get("/trades").text
        answer = board.get("/api/heatmap")
        assert answer.status == 503
        assert answer.json["error"].startswith("nothing has been computed in this database yet")
    databases.drop(url)


def test_a_dropped_database_is_reported_with_status_503(
    databases, untouched: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overviews, "_OLDEST_SECONDS", 0.1)
    url = databases.make(like=untouched)
    with board_on(url, tmp_path) as board:
        assert board.get("/").status == 200
        databases.drop(url)
        wait_until(lambda: board.get("/api/heatmap").status == 503, "an answer that says so")
        assert "cannot connect" in board.get("/api/heatmap").json["error"]
        page = board.get("/")
        assert page.status == 503
        assert "<h1>The database cannot be read</h1><p>Cannot connect" in page.text
        assert "This page looks again every few seconds." in page.text
        assert "looks again" not in board.get("/nowhere").text


def test_an_invalid_watchlist_is_reported_and_the_board_keeps_working(
    filled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overviews, "_FILES_SECONDS", 0.1)
    with board_on(filled, tmp_path) as board:
        known = {path: board.get(path).headers["ETag"] for path in ("/api/symbols", "/", "/api/trust")}
        file = tmp_path / "watchlist.toml"
        # The database does not store groups, so only the file shows that the answer has changed.
        file.write_text(file.read_text().replace('"Crypto"', '"Coins"'))
        for path, tag in known.items():
            board.another(path, tag)
        assert "Coins" in {row["group"] for row in board.get("/api/symbols").json["rows"]}
        tag = board.get("/api/trust").headers["ETag"]
        file.write_text("timeframes = [")
        error = board.another("/api/trust", tag).json["configuration_error"]
        assert "not valid TOML" in error
        assert not error.endswith(".")
        assert f"{error}. <small>Until it is corrected" in unescape(board.get("/").text)
        assert "AAPL" in board.get("/").text


def test_a_signal_that_fails_is_named_as_code_and_its_bars_are_not_called_failing(
    databases, untouched: str, tmp_path: Path
) -> None:
    url = databases.make(like=untouched)
    with Database(url) as database, database.transaction() as transaction:
        transaction.execute(
            """
            UPDATE market.series_state SET failures = 2, last_error = 'signal `mine` in <mine.py>: no', next_attempt_at = $1
            WHERE asset = 'ema_trend' AND symbol = 'AAPL' AND timeframe = '5m'
            """,
            NOW + timedelta(minutes=10),
        )
    with board_on(url, tmp_path) as board:
        said = "signal <code>mine</code> in &lt;mine.py&gt;: no"
        assert said in board.get("/").text
        assert f"{said}<br>The next attempt is at 2026-11-20 21:10:30 UTC." in board.get("/freshness").text
        why = board.get("/why", symbol="AAPL", timeframe="5m").text
        states = dict(re.findall(r'<th scope="row">(\w+)</th><td class="wrap">(.*?)</td>', why))
        assert states["ohlc"].endswith("its last attempt succeeded")
        assert states["ema_trend"].endswith(f"2 failures</span> {said}")
        assert f"Last error: ema_trend: {said}" in why
    databases.drop(url)


def test_an_attempt_whose_time_has_passed_is_left_to_the_next_run(databases, untouched: str, tmp_path: Path) -> None:
    url = databases.make(like=untouched)
    with Database(url) as database, database.transaction() as transaction:
        transaction.execute(
            """
            UPDATE market.series_state SET failures = 2, last_error = 'no', next_attempt_at = $1
            WHERE asset = 'ema_trend' AND symbol = 'AAPL' AND timeframe = '5m'
            """,
            NOW - timedelta(minutes=1),
        )
    with board_on(url, tmp_path) as board:
        assert "ema_trend: no<br>Its pause is over: the next run takes it up." in board.get("/freshness").text
        why = board.get("/api/why", symbol="AAPL", timeframe="5m").json
        assert "Its pause is over: the next run takes it up." in why["reasons"]
    databases.drop(url)


def test_series_for_which_only_a_signal_is_computed_are_said_to_have_their_bars(
    databases, untouched: str, tmp_path: Path
) -> None:
    url = databases.make(like=untouched)
    with Database(url) as database, database.transaction() as transaction:
        transaction.execute("UPDATE market.series_state SET dirty_from = first_ts WHERE asset = 'rsi'")
    with board_on(url, tmp_path) as board:
        trust = board.get("/api/trust").json
        assert trust["conditions"] == {"computing": 8, "without bars": 1}
        assert "8 of 9 series have their bars" in board.get("/").text
        rows = board.get("/api/not-fresh", condition="computing").json["rows"]
        assert [row["timeframe"] for row in rows if row["symbol"] == "AAPL"] == ["5m", "1h", "1d"]
    databases.drop(url)


def test_a_failed_sync_of_the_watchlist_is_reported(
    databases, untouched: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overviews, "_LOOKED_AT_AGAIN_SECONDS", 0.1)
    url = databases.make(like=untouched)
    with board_on(url, tmp_path) as board:
        assert board.get("/api/trust").json["sync_error"] is None
        tag = board.get("/api/trust").headers["ETag"]
        with Database(url) as database, database.transaction() as transaction:
            sync_failures.note(transaction, "the view mine.v of yours <reads>")
        said = board.another("/api/trust", tag).json["sync_error"]
        assert said.endswith("UTC: the view mine.v of yours <reads>")
        assert "the view mine.v of yours &lt;reads&gt;" in board.get("/").text
    databases.drop(url)


def test_the_board_shows_a_database_of_an_older_version(databases, untouched: str, tmp_path: Path) -> None:
    """The board runs no migrations. Before migration 12 its role had no USAGE right on the schema `ema_assets`."""
    url = databases.make(like=untouched)
    with Database(url) as database, database.transaction() as transaction:
        transaction.execute("REVOKE USAGE ON SCHEMA ema_assets FROM ema_reader")
    with board_on(url, tmp_path) as board:
        assert board.get("/api/trust").json["sync_error"] is None
        assert "AAPL" in board.get("/").text
    databases.drop(url)


def test_the_board_reads_as_ema_reader_and_cannot_write(filled: str) -> None:
    readers = Readers(filled)
    with readers.transaction() as transaction:
        assert readers.has_role
        assert transaction.query("SELECT current_user::text AS name").item() == "ema_reader"
    for attempt in ("DELETE FROM market.ohlc", "CREATE TABLE market.mine (a int)"):
        with pytest.raises(Exception, match=r"read-only|permission denied"), readers.transaction() as transaction:
            transaction.execute(attempt)
    readers.close()
    with Database(filled) as database, database.transaction() as transaction:
        assert transaction.query("SELECT count(*) AS n FROM market.ohlc").item() > 0


def test_a_port_in_use_is_reported_with_an_option_for_another_port() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError) as raised:
            listen("127.0.0.1", port)
    assert f"port {port} on 127.0.0.1 is in use" in str(raised.value)
    assert f"`--port {port + 1}` (of `ema-assets up`: `--board-port {port + 1}`)" in str(raised.value)
    with pytest.raises(ConfigurationError, match="cannot listen on"):
        listen("203.0.113.1", 0)


def test_a_trend_without_a_spread_is_shown_with_a_dash(databases, untouched: str, tmp_path: Path) -> None:
    url = databases.make(like=untouched)
    with Database(url) as database, database.transaction() as transaction:
        transaction.execute("UPDATE market.ema_trend SET spread_pct = NULL WHERE symbol = 'AAPL'")
    with board_on(url, tmp_path) as board:
        for path in PATHS:
            assert board.get(path, **QUERIES.get(path, {})).status == 200, path
        assert re.search(
            r"<a class=\"n\" href=\"/chart\?symbol=AAPL[^>]*><span class=\"a\">[▲▼]</span> <b>–</b>",
            board.get("/").text,
        )
    databases.drop(url)


def test_trades_of_a_symbol_without_bars_are_marked_and_come_after_those_near_a_stop(
    databases, untouched: str, tmp_path: Path
) -> None:
    url = databases.make(like=untouched)
    with board_on(url, tmp_path) as board:
        before = board.get("/api/trades/open").json["rows"]
    first = before[0]["symbol"]
    with Database(url) as database, database.transaction() as transaction:
        transaction.execute("UPDATE market.instrument SET silent_since = now() WHERE symbol = $1", first)
    with board_on(url, tmp_path) as board:
        after = board.get("/api/trades/open").json["rows"]
        shown = board.get("/trades").text
    assert [row["symbol"] for row in after] == sorted((row["symbol"] for row in before), key=lambda each: each == first)
    assert after[-1]["symbol"] == first != after[0]["symbol"]
    assert {row["symbol"] for row in after if row["condition"] == "silent"} == {first}
    assert shown.count('<u title="silent">!</u>') == sum(row["symbol"] == first for row in after)
    databases.drop(url)


@pytest.mark.broad
def test_a_spread_that_rounds_to_zero_has_no_sign_on_the_map(databases, untouched: str, tmp_path: Path) -> None:
    url = databases.make(like=untouched)
    with Database(url) as database, database.transaction() as transaction:
        transaction.execute("UPDATE market.ema_trend SET spread_pct = CASE trend WHEN 'up' THEN 0.004 ELSE -0.004 END")
    with board_on(url, tmp_path) as board:
        shown = re.findall(r'class="a">[▲▼]</span> <b>([^<]*)</b>', board.get("/").text)
        assert shown
        assert set(shown) == {"0.00"}
    databases.drop(url)


@pytest.mark.broad
def test_the_chart_states_why_there_is_no_trend_yet(databases, tmp_path: Path) -> None:
    flat = bars_on("24/7", "BTC-USD", D1, date(2026, 9, 1), date(2026, 11, 19)).with_columns(
        pl.lit(100.0).alias(name) for name in ("open", "high", "low", "close")
    )
    url = databases.make()
    watched = watchlist.parse(WATCHLIST)
    with Database(url) as database:
        refresh(database, watched, MemoryExchange(flat), NOW, graph=build(watched))
        with board_on(url, tmp_path) as board:
            page = board.get("/chart", symbol="BTC-USD", timeframe="1d").text
            assert "no trend yet: EMA 9 and EMA 30 have been equal so far" in page
            assert "would cross" not in page
        empty(database)
        refresh(database, watched, MemoryExchange(flat.tail(20)), NOW, graph=build(watched))
        with board_on(url, tmp_path) as board:
            assert "no trend yet: EMA 30 needs 30 bars" in board.get("/chart", symbol="BTC-USD", timeframe="1d").text
    databases.drop(url)


def test_a_curve_that_prices_of_zero_or_less_leave_nothing_of_says_why(
    board: ServedBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = pl.DataFrame(
        schema={"ts": pl.Datetime("us", "UTC"), "equity": pl.Float64(), "drawdown_pct": pl.Float64()}
    )
    found = reported.Equity(curve=nothing, series=0, left_out=("AAPL",), trades=(0, 0), max_drawdown_pct=0.0)
    monkeypatch.setattr(reported, "equity", lambda *_: found)
    shown = board.get("/performance", symbols="AAPL", timeframe="1h").text
    assert "No curve: a price of zero or less leaves out AAPL." in shown
    assert "has not been computed" not in shown


def test_a_list_of_crosses_without_rows_says_all_that_a_row_needs(
    board: ServedBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    near = heat_map.about_to_cross
    monkeypatch.setattr(heat_map, "about_to_cross", lambda *arguments: near(*arguments).clear())
    needed = (
        "A series must have fresh averages and 208 bars, and its averages must be able to cross at a price above zero."
    )
    assert needed in board.get("/crossovers").text
