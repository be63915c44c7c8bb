"""Tests of the board in a real browser: charts, keys, theme, phone width, error pages and hostile names."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ema_assets.board import formats
from ema_assets.board.pages import ALL
from ema_assets.config import watchlist
from ema_assets.operations.sync_watchlist import sync
from ema_assets.store.database import Database
from ema_assets.store.migrations import migrate
from ema_assets_tests.board.world import HOSTILE, NOW, WATCHLIST, ServedBoard, board_on, fill, fill_widely
from ema_assets_tests.browsers import installed_chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

# True when a canvas has more than five colours. An empty canvas has fewer.
DRAWN = """
() => [...document.querySelectorAll("#chart canvas")].some((canvas) => {
  if (!canvas.width || !canvas.height) return false;
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const colors = new Set();
  for (let n = 0; n < pixels.length; n += 4) colors.add(pixels[n] * 65536 + pixels[n + 1] * 256 + pixels[n + 2]);
  return colors.size > 5;
})
"""


# Puts symbols, times and prices into the lists that are as long as those of a usual watchlist.
LIKE_THE_WIDEST = """
() => document.querySelectorAll("aside .list tbody tr").forEach((row) => {
  row.cells[0].firstChild.textContent = "SOL-USD";
  if (row.querySelector(".side")) {
    row.cells[0].firstChild.textContent = "EURUSD=X";
    row.cells[0].querySelector("u") || row.cells[0].append(Object.assign(document.createElement("u"), { innerText: "!" }));
    const named = row.querySelector(".twin") || document.createElement("small");
    row.querySelector(".side").after(Object.assign(named, { className: "twin", innerText: "9_30_pullback" }));
    ["+1.34 %", "258,364.58", "+0.26 %"].forEach((text, place) => { row.cells[place + 3].innerText = text; });
  }
  row.querySelectorAll(".num").forEach((cell) => { if (/^[\\d,.]+$/.test(cell.innerText)) cell.innerText = "258,364.58"; });
  row.querySelectorAll("time").forEach((time) => { time.innerText = "20 Nov 14:50"; });
})
"""

# Gives the heat map so many timeframes, and each of their cells a wide spread, many bars since the cross and a mark.
WITH_SO_MANY_TIMEFRAMES = """
(timeframes) => document.querySelectorAll(".heat tr").forEach((row) => {
  while (row.cells.length - 2 > timeframes) row.cells[1].remove();
  while (row.cells.length - 2 < timeframes) row.cells[1].after(row.cells[1].cloneNode(true));
  row.querySelectorAll("td a").forEach((cell, place) => {
    cell.className = "u5";
    cell.innerHTML = `<span class="a">\u25b2</span> <b>\u221210.08</b> <i>117</i><u>${place % 2 ? "~" : "!"}</u>`;
  });
})
"""
# The parts of cells that cover or touch another part, or leave their cell. A mark above the corner of a narrow cell does neither.
COVERED = """
() => {
  const box = (node) => { const range = document.createRange(); range.selectNodeContents(node); return range.getBoundingClientRect(); };
  const found = [];
  for (const cell of document.querySelectorAll(".heat td a")) {
    const around = cell.getBoundingClientRect();
    const parts = [...cell.children].filter((part) => getComputedStyle(part).display !== "none").map((part) => [part.textContent, box(part)]);
    parts.forEach(([text, one], place) => {
      if (one.left < around.left - 1 || one.right > around.right + 1) found.push(`${text} leaves its cell`);
      for (const [other, two] of parts.slice(place + 1)) {
        const width = Math.min(one.right, two.right) - Math.max(one.left, two.left);
        const height = Math.min(one.bottom, two.bottom) - Math.max(one.top, two.top);
        const least = place && !/[!~]/.test(other) ? -3 : 0.5; // two numbers side by side read as one
        if (width > least && height > 0.75 * Math.min(one.height, two.height)) found.push(`${text} covers ${other} by ${width}`);
      }
    });
  }
  return [...new Set(found)];
}
"""


@pytest.mark.broad
def test_keys_lead_from_the_heat_map_to_a_chart_and_to_other_series(page: "Page", board: ServedBoard) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(board.url)
    assert page.locator(".heat tbody tr").count() == 3
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    focused = page.evaluate("document.activeElement.getAttribute('href')")
    assert focused == "/chart?symbol=BTC-USD&timeframe=1h"
    page.keyboard.press("Enter")
    page.wait_for_selector("#chart[data-drawn]")
    page.wait_for_function(DRAWN)
    assert page.locator("h1").inner_text() == "BTC-USD 1h"
    assert "EMA 30" in page.locator("#values").inner_text()
    newest = page.locator("#values").inner_text()
    box = page.locator("#chart").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] / 2)
    page.wait_for_function("(was) => document.getElementById('values').innerText !== was", arg=newest)
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#chart[data-drawn]")
    assert page.locator("h1").inner_text() == "BTC-USD 5m"
    page.keyboard.press("ArrowUp")
    page.wait_for_url("**symbol=AAPL**")
    page.keyboard.press("3")
    page.wait_for_url("**timeframe=1d**")
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("btc 1h")
    page.keyboard.press("Enter")
    page.wait_for_url("**symbol=BTC-USD&timeframe=1h**")
    assert {url.split("/")[2] for url in asked} == {board.url.split("/")[2]}


@pytest.mark.broad
def test_the_values_beside_a_chart_are_those_of_the_bar_under_the_cursor(page: "Page", board: ServedBoard) -> None:
    found = board.get("/api/chart", symbol="AAPL", timeframe="1h").json
    page.add_init_script(NOTED)
    page.goto(f"{board.url}/chart?symbol=AAPL&timeframe=1h")
    page.wait_for_selector("#chart[data-drawn]")
    box = page.locator("#chart").bounding_box()
    assert box is not None
    for bar in (-20, -7):
        at = page.evaluate("(time) => chart.timeScale().timeToCoordinate(time)", found["time"][bar])
        page.mouse.move(box["x"] + at, box["y"] + box["height"] / 2)
        opened = datetime.fromtimestamp(found["time"][bar], UTC)
        page.wait_for_function(
            "(text) => document.getElementById('values').innerText.includes(text)",
            arg=f"{opened:%Y-%m-%d %H:%M} UTC",
        )
        said = [page.locator("#values b").nth(place).inner_text() for place in range(1, 5)]
        assert said == [formats.price(found[name][bar]) for name in ("open", "high", "low", "close")]
        assert f"EMA 9{formats.price(found['fast'][bar])}" in page.locator("#values").inner_text()


def test_signals_strategies_and_averages_can_be_chosen_and_equity_is_drawn(page: "Page", board: ServedBoard) -> None:
    page.goto(f"{board.url}/chart?symbol=AAPL&timeframe=1h")
    page.wait_for_selector("#chart[data-drawn]")
    page.get_by_label("rsi").check()
    page.wait_for_url("**signals=rsi**")
    page.wait_for_selector("#chart[data-drawn]")
    assert "rsi" in page.locator("#values").inner_text()
    page.locator("select[name=strategy]").select_option("strategy_9_30_ema")
    page.wait_for_url("**strategy=strategy_9_30_ema**")
    assert page.get_by_label("rsi").is_checked()
    page.locator("select[name=averages]").select_option("5/13")
    page.wait_for_url("**averages=5%2F13**")
    page.wait_for_selector("#chart[data-drawn]")
    assert "EMA 5" in page.locator("#values").inner_text()
    # The link to another timeframe keeps these averages.
    page.get_by_role("navigation", name="Timeframes").get_by_text("5m").click()
    page.wait_for_url("**averages=5%2F13**timeframe=5m**")
    page.goto(f"{board.url}/performance?timeframe=1h")
    page.wait_for_selector("#equity[data-drawn]")
    assert "drawdown" in page.locator("#values").inner_text()


def test_back_leads_to_forms_that_say_what_the_page_shows(page: "Page", board: ServedBoard) -> None:
    page.goto(f"{board.url}/chart?symbol=AAPL&timeframe=1h")
    page.get_by_label("rsi").check()
    page.wait_for_url("**signals=rsi**")
    page.go_back()
    assert not page.get_by_label("rsi").is_checked()
    # A page that the browser has kept is as it was left. This browser keeps none, so the test leaves it like that.
    page.evaluate(
        """() => {
            document.querySelector('[data-signal][value=rsi]').checked = true;
            document.querySelector('select[name=strategy]').disabled = true;
            dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }));
        }"""
    )
    assert not page.get_by_label("rsi").is_checked()
    assert page.locator("select[name=strategy]").is_enabled()


@pytest.mark.broad
def test_the_values_beside_a_chart_have_the_price_format_of_the_board(page: "Page", board: ServedBoard) -> None:
    price = 0.0

    def answer(route: "Route") -> None:
        found = route.fetch().json()
        prices = dict.fromkeys(("open", "high", "low", "close", "fast", "slow"), [price] * len(found["time"]))
        route.fulfill(json={**found, **prices})

    page.route("**/api/chart?**", answer)
    # The last price is stored as a slightly smaller number, so it is rounded down.
    for price in (45.39, 253558.374, 1.08432, 161.234, 0.05114, 9.7e-10, -37.63, 1.011395e-8):
        page.goto(f"{board.url}/chart?symbol=AAPL&timeframe=1h")
        page.wait_for_selector("#chart[data-drawn]")
        assert [page.locator("#values b").nth(place).inner_text() for place in (1, 4)] == [formats.price(price)] * 2
        assert f"EMA 9{formats.price(price)}" in page.locator("#values").inner_text()


@pytest.mark.broad
def test_changes_and_returns_that_round_to_zero_have_no_sign_and_small_volumes_are_not_zero(
    page: "Page", board: ServedBoard
) -> None:
    def of_chart(route: "Route") -> None:
        found = route.fetch().json()
        closes = [100.0] * (len(found["time"]) - 1) + [99.9999]
        route.fulfill(json={**found, "close": closes, "volume": [0.0123] * len(closes)})

    def of_equity(route: "Route") -> None:
        found = route.fetch().json()
        points = len(found["time"])
        route.fulfill(json={**found, "equity": [0.9999999] * points, "drawdown_pct": [-0.00001] * points})

    page.route("**/api/chart?**", of_chart)
    page.route("**/api/equity?**", of_equity)
    page.goto(f"{board.url}/chart?symbol=AAPL&timeframe=1h")
    page.wait_for_selector("#chart[data-drawn]")
    said = [page.locator("#values > span").nth(place).inner_text() for place in (5, 6)]
    assert said == ["0.00 %", "Vol0.0123"]
    page.goto(f"{board.url}/performance?timeframe=1h")
    page.wait_for_selector("#equity[data-drawn]")
    said = [span.inner_text() for span in page.locator("#values > span").all()]
    assert said[0].endswith(" UTC")
    assert said[1:] == ["equity0.00 %", "drawdown0.00 %"]


# Records every drawn series with its pane and its scale. A test can ask a series how its axis writes a value.
NOTED = """
let library;
window.noted = [];
Object.defineProperty(window, "LightweightCharts", { get: () => library, set: (given) => {
  library = { ...given, createChart: (...all) => {
    const chart = given.createChart(...all);
    const add = chart.addSeries.bind(chart);
    chart.addSeries = (kind, options, pane) => {
      const series = add(kind, options, pane);
      window.noted.push({ series, pane: pane || 0, scale: series.options().priceScaleId });
      return series;
    };
    window.chart = chart;
    return chart;
  } };
} });
"""


@pytest.mark.broad
def test_signals_of_two_units_have_two_scales_and_small_values_are_not_shown_as_zero(
    page: "Page", board: ServedBoard
) -> None:
    values = {"atr": 0.0000123, "atr_pct": 1.5, "macd": -0.0000456}

    def answer(route: "Route") -> None:
        found = route.fetch().json()
        lines = [
            {
                "signal": column.partition("_")[0],
                "column": column,
                "on_price": False,
                "unit": "percent" if column == "atr_pct" else None,
                "values": [value] * len(found["time"]),
            }
            for column, value in values.items()
        ]
        route.fulfill(json={**found, "lines": lines})

    page.add_init_script(NOTED)
    page.route("**/api/chart?**", answer)
    page.goto(f"{board.url}/chart?symbol=AAPL&timeframe=1h")
    page.wait_for_selector("#chart[data-drawn]")
    drawn = page.evaluate("noted.filter(({ pane }) => pane).map(({ pane, scale }) => [pane, scale])")
    assert drawn == [[1, "right"], [1, "left"], [2, "right"]]
    page.wait_for_function("() => chart.priceScale('left', 1).width() > 30")
    axes = page.evaluate(
        "(values) => noted.slice(-3).map(({ series }, n) => series.priceFormatter().format(values[n]))",
        list(values.values()),
    )
    assert axes == ["0.0000123", "1.50 %", "−0.0000456"]
    said = [span.inner_text() for span in page.locator("#values > span").all()][-3:]
    assert said == ["atr0.0000123", "atr pct1.50 %", "macd−0.0000456"]


# Records where each label of a time axis was written last: its left end, and how far it goes over the right end.
LABELED = """
window.written = {};
const pen = CanvasRenderingContext2D.prototype;
const { fillText } = pen;
pen.fillText = function (text, x, ...more) {
  const { clientWidth, clientHeight } = this.canvas;
  const half = this.measureText(text).width / 2;
  if (this.textAlign === "center" && clientHeight < 40) window.written[text] = [x - half, x + half - clientWidth];
  return fillText.call(this, text, x, ...more);
};
"""


@pytest.mark.broad
def test_the_axes_of_equity_have_no_finer_steps_than_their_labels_which_are_whole(
    page: "Page", board: ServedBoard
) -> None:
    # So many points that those at the ends are nearer to them than half a label.
    times = [1_790_000_000 + 3600 * hour for hour in range(500)]
    found = board.get("/api/equity", timeframe="1h").json
    many = {**found, "time": times, "equity": [1.0] * 500, "drawdown_pct": [0.0] * 500}
    page.route("**/api/equity?**", lambda route: route.fulfill(json=many))
    page.add_init_script(f"{NOTED}\n{LABELED}")
    page.goto(f"{board.url}/performance?timeframe=1h")
    page.wait_for_selector("#equity[data-drawn]")
    axes = page.evaluate(
        """noted.map(({ series }) => {
          const step = series.options().priceFormat.minMove;
          return [0, 1, 2].map((n) => series.priceFormatter().format(n * step));
        })"""
    )
    assert axes == [["0.0 %", "0.1 %", "0.2 %"]] * 2
    # All labels of the time axis are whole, those at its ends, too.
    page.wait_for_function("() => Object.keys(written).length > 2")
    assert page.evaluate("Object.entries(written).filter(([, [left, right]]) => left < -1 || right > 1)") == []


@pytest.mark.broad
def test_a_curve_of_months_has_no_time_of_day_among_its_dates(page: "Page", board: ServedBoard) -> None:
    found = {**board.get("/api/equity", timeframe="1h").json, "equity": [1.0] * 1000, "drawdown_pct": [0.0] * 1000}
    page.route("**/api/equity?**", lambda route: route.fulfill(json=found))
    page.add_init_script(LABELED)
    page.set_viewport_size({"width": 760, "height": 800})
    for days, has_times in ((60, False), (2, True)):
        found["time"] = [1_790_700_000 + 86 * days * number for number in range(1000)]
        page.goto(f"{board.url}/performance?timeframe=1h")
        page.wait_for_selector("#equity[data-drawn]")
        page.wait_for_function("() => Object.keys(written).length > 2")
        assert any(":" in label for label in page.evaluate("Object.keys(written)")) is has_times


@pytest.mark.broad
def test_the_open_trades_of_a_series_show_their_strategies(page: "Page", board: ServedBoard) -> None:
    trades = board.get("/api/trades/open").json["rows"]
    symbol, timeframe = trades[0]["symbol"], trades[0]["timeframe"]
    of_series = [each for each in trades if (each["symbol"], each["timeframe"]) == (symbol, timeframe)]
    page.goto(f"{board.url}/chart?symbol={symbol}&timeframe={timeframe}")
    assert page.title() == f"{symbol} {timeframe} · ema-assets board"
    assert page.locator("#open thead th").first.inner_text() == "Strategy"
    named = [trade["strategy"].removeprefix("strategy_") for trade in of_series]
    assert page.locator("#open tbody th").all_inner_texts() == named
    assert len(named) > 0


@pytest.mark.broad
def test_legends_on_a_phone_are_complete_and_explain_only_what_is_shown(page: "Page", board: ServedBoard) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(board.url)
    legend = page.locator(".map .legend")
    assert "since the cross" not in legend.inner_text()
    assert legend.inner_text().endswith("spread in percent of EMA 30 · ! not fresh · ~ averages not converged")
    page.goto(f"{board.url}/why?symbol=AAPL&timeframe=1h")
    assert "the run that wrote it, and Materialize…, which" in page.locator(".legend").last.inner_text()
    page.set_viewport_size({"width": 1400, "height": 900})
    page.goto(board.url)
    assert "· bars since the cross · !" in legend.inner_text()


@pytest.mark.broad
def test_the_theme_follows_the_system_until_the_user_chooses_one(page: "Page", board: ServedBoard) -> None:
    def background() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    page.emulate_media(color_scheme="dark")
    page.goto(board.url)
    dark = background()
    page.emulate_media(color_scheme="light")
    light = background()
    assert dark != light
    page.keyboard.press("t")
    assert background() == dark
    page.goto(f"{board.url}/trades")
    assert background() == dark


def test_pages_on_a_phone_do_not_scroll_sideways(page: "Page", board: ServedBoard) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    for each in ALL:
        query = "?symbol=AAPL&timeframe=5m" if each.path in ("/chart", "/why") else ""
        page.goto(f"{board.url}{each.path}{query}")
        assert page.locator("#error").count() == 0, each.path
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390, each.path
    # The column with the distance to the stop is within that width.
    page.goto(f"{board.url}/trades")
    ends = page.evaluate(
        "[...document.querySelectorAll('thead th')].filter(e => e.textContent === 'To stop').map(e => e.getBoundingClientRect().right)"
    )
    assert len(ends) == 1
    assert 0 < ends[0] <= 390
    # The strategy of each trade can be read, though its column is hidden: two of them may have one symbol and timeframe.
    rows = board.get("/api/trades/open").json["rows"]
    named = [f"{row['symbol']}\n{row['strategy'].removeprefix('strategy_')}" for row in rows]
    assert page.locator("tbody th").all_inner_texts() == named


# Puts long names and wide prices into the lists of symbols.
LIKE_LONG_NAMES = """
() => document.querySelectorAll(".tight tbody tr").forEach((row) => {
  row.cells[0].querySelector("a").textContent = "AVERYLONGCOINNAME-USD";
  row.cells[1].textContent = row.cells[1].className ? row.cells[1].textContent : "15m";
  row.querySelectorAll("time").forEach((time) => { time.innerText = "20 Nov 14:50"; });
  row.querySelectorAll(".num").forEach((cell) => { if (/^[\\d,.]{5,}$/.test(cell.innerText)) cell.innerText = "98,364.58"; });
})
"""


@pytest.mark.broad
def test_the_main_columns_of_a_list_are_visible_on_a_phone_beside_long_names(page: "Page", board: ServedBoard) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    columns = {
        "/": ("Move", "Bar", "To stop"),
        "/trades": ("To stop",),
        "/crossovers": ("Bar", "Move"),
        "/performance?timeframe=1h": ("Return",),
    }
    for path, names in columns.items():
        page.goto(f"{board.url}{path}")
        page.evaluate(LIKE_LONG_NAMES)
        for name in names:
            ends = page.evaluate(
                """(name) => [...document.querySelectorAll('.tight thead th')].filter(e => e.textContent === name)
                .map(e => e.getBoundingClientRect().right)""",
                name,
            )
            assert len(ends) == 1, (path, name)
            assert ends[0] <= 390, (path, name)
        # A name that is cut off is shown in full as a title.
        assert page.locator(".tight tbody th a").first.get_attribute("title")


@pytest.mark.broad
def test_a_series_with_a_long_name_is_not_cut_off_on_a_phone(page: "Page", board: ServedBoard) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{board.url}/freshness")
    link = page.locator("#found tbody th a").first
    link.evaluate("(link) => { link.textContent = 'AVERYLONGCOINNAME-USD|15m'; }")
    needed, there = link.evaluate("(link) => [link.scrollWidth, link.clientWidth]")
    assert needed <= there
    # The name wraps into two lines. It does not break after every letter.
    assert there >= 110
    for path in ("/chart", "/why"):
        page.goto(f"{board.url}{path}?symbol=AAPL&timeframe=5m")
        page.locator("h1").evaluate("(h1) => { h1.textContent = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ-12345 5m'; }")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path


@pytest.mark.broad
def test_the_lists_beside_the_map_are_not_cut_off_on_a_laptop(page: "Page", board: ServedBoard) -> None:
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(board.url)
    page.evaluate(LIKE_THE_WIDEST)
    widths = page.evaluate("[...document.querySelectorAll('aside .scroll')].map(e => [e.scrollWidth, e.clientWidth])")
    assert widths
    for needed, there in widths:
        assert needed <= there


@pytest.mark.broad
def test_no_part_of_a_cell_of_the_heat_map_covers_another(page: "Page", board: ServedBoard) -> None:
    found = {}
    for timeframes in (3, 4, 6, 7, 8, 9, 12, 14):
        page.goto(board.url)
        page.evaluate(WITH_SO_MANY_TIMEFRAMES, timeframes)
        assert page.locator(".heat tbody tr").first.locator("td a").count() == timeframes
        for width in (360, 420, 641, 800, 1240, 1250, 1280, 1440, 1920):
            page.set_viewport_size({"width": width, "height": 800})
            covered = page.evaluate(COVERED)
            if covered or page.evaluate("document.documentElement.scrollWidth") > width:
                found[timeframes, width] = covered
    assert found == {}


def test_a_symbol_that_contains_a_script_tag_is_shown_as_text(page: "Page", board: ServedBoard) -> None:
    page.goto(board.url)
    assert HOSTILE in page.locator(".heat tbody").inner_text()
    page.locator(".heat tbody tr", has_text=HOSTILE).locator("a").first.click()
    page.wait_for_load_state()
    assert HOSTILE in page.locator("h1").inner_text()
    page.locator("a", has_text="chart").first.click()
    # The series has one bar. Its chart is drawn without averages.
    page.wait_for_selector('#chart[data-drawn="1"]')
    assert HOSTILE in page.locator("h1").inner_text()
    assert "EMA 30" in page.locator("#values").inner_text()


def leave(page: "Page") -> None:
    """Leave the page before its board stops. Requests of an open page would fail, and the fixture reports them."""
    page.goto("about:blank")


def look_again(page: "Page") -> None:
    """Make a page that reloads itself every few seconds do so now."""
    from playwright.sync_api import Error

    # It may reload itself at this very moment, which ends the script.
    with suppress(Error):
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


@pytest.mark.broad
def test_an_open_page_updates_from_an_empty_database_to_a_map_of_a_thousand_symbols(
    page: "Page", databases, tmp_path: Path
) -> None:
    url = databases.make(migrated=False)
    with board_on(url, tmp_path) as board:
        page.goto(board.url)
        assert "Nothing to show yet" in page.locator("h1").inner_text()
        migrate(url)
        with Database(url) as database:
            fill_widely(database, 1000)
        look_again(page)
        page.wait_for_selector(".heat tbody tr", timeout=120_000)
        assert page.locator(".heat tbody tr").count() == 100
        assert "1,000 symbols" in page.locator(".corner").inner_text()
        page.locator(".heat tbody th").last.scroll_into_view_if_needed()
        edges = "['.top', '.corner'].map((name) => document.querySelector(name).getBoundingClientRect().bottom)"
        menu, names = page.evaluate(edges)
        assert menu < names < menu + 40, "the names of the timeframes do not stay in view below the menu"
        page.get_by_text("next ›").click()
        page.wait_for_url("**page=2**")
        assert page.locator(".heat tbody th").first.inner_text() == "S0100"
        before = page.locator(".heat td a").first.inner_text()
        with Database(url) as database, database.transaction() as transaction:
            transaction.execute("UPDATE market.ema_trend SET spread_pct = -4.5, trend = 'down' WHERE symbol = 'S0100'")
            transaction.execute(
                "UPDATE market.series_state SET revision = revision + 1, updated_at = now() WHERE symbol = 'S0100'"
            )
        page.wait_for_function(
            "(was) => document.querySelector('.heat td a').innerText !== was", arg=before, timeout=120_000
        )
        assert "4.50" in page.locator(".heat td a").first.inner_text()
        leave(page)
    databases.drop(url)


@pytest.mark.broad
def test_the_chart_of_a_new_symbol_is_drawn_when_its_bars_are_stored(page: "Page", databases, tmp_path: Path) -> None:
    url = databases.make()
    with Database(url) as database:
        sync(database, watchlist.parse(WATCHLIST), NOW)
    with board_on(url, tmp_path) as board:
        page.goto(f"{board.url}/chart?symbol=AAPL&timeframe=1h")
        assert "There are no bars of AAPL|1h yet" in page.locator("#empty").inner_text()
        # This thread runs the browser's event loop, so another thread fills the database.
        with Database(url) as database, ThreadPoolExecutor(1) as beside:
            beside.submit(fill, database).result()
        look_again(page)
        page.wait_for_selector("#chart[data-drawn]", timeout=120_000)
        assert page.locator("#empty").count() == 0
        leave(page)
    databases.drop(url)


@pytest.mark.broad
def test_an_error_page_reloads_by_itself(page: "Page", board: ServedBoard) -> None:
    failed = board.get("/nowhere").text
    page.route("**/trades", lambda route: route.fulfill(body=failed, content_type="text/html"))
    page.goto(f"{board.url}/trades")
    assert page.locator("#error").is_visible()
    page.unroute("**/trades")
    look_again(page)
    page.wait_for_selector("#open")


@pytest.mark.broad
def test_an_open_page_of_a_symbol_that_leaves_the_watchlist_shows_an_error(
    browser: "Browser", databases, tmp_path: Path
) -> None:
    # The fixture `page` would fail here, because a browser logs the 404 of a page as an error.
    context = browser.new_context()
    page = context.new_page()
    url = databases.make()
    with Database(url) as database:
        sync(database, watchlist.parse(WATCHLIST), NOW)
        # This thread runs the browser's event loop, so another thread fills the database.
        with ThreadPoolExecutor(1) as beside:
            beside.submit(fill, database).result()
    with board_on(url, tmp_path) as board:
        page.goto(f"{board.url}/why?symbol=AAPL&timeframe=1h")
        assert page.locator("h1").inner_text().startswith("Why is AAPL|1h")
        with Database(url) as database:
            sync(database, watchlist.parse(WATCHLIST.replace('"AAPL"', '"MSFT"')), NOW)
        page.wait_for_selector("#error", timeout=120_000)
        assert "There is no symbol AAPL here" in page.locator("#error").inner_text()
        context.close()
    databases.drop(url)


def test_a_missing_browser_skips_tests_and_fails_them_in_ci(tmp_path: Path) -> None:
    said = r"no Chromium is installed: `apt-get install chromium`"
    with pytest.raises(pytest.skip.Exception, match=said):
        installed_chromium({"PATH": str(tmp_path)})
    with pytest.raises(pytest.fail.Exception, match=said):
        installed_chromium({"PATH": str(tmp_path), "CI": "true"})


@pytest.mark.broad
def test_a_trade_through_prices_below_zero_has_the_color_of_what_it_gained(page: "Page", board: ServedBoard) -> None:
    trade: dict[str, object] = {}

    def answer(route: "Route") -> None:
        found = route.fetch().json()
        times = {"entry_ts": found["time"][-5], "exit_ts": None, "last_ts": found["time"][-1]}
        route.fulfill(json={**found, "trades": [{**trade, **times}]})

    page.route("**/api/chart?**", answer)
    nothing = {"return_pct": None, "stop_price": None, "stop_now": None, "exit_price": None}
    for side, entry, last, tone in (
        ("long", -6.0, -5.0, "gain"),
        ("long", -5.0, -6.0, "loss"),
        ("short", -5.0, 1.0, "loss"),
        ("short", 1.0, -5.0, "gain"),
    ):
        trade = {**nothing, "side": side, "entry_price": entry, "last_price": last}
        page.goto(f"{board.url}/chart?symbol=AAPL&timeframe=1h&strategy=strategy_9_30_ema")
        page.wait_for_selector("#chart[data-drawn]")
        assert page.locator("#values > span").last.inner_text().startswith(side)
        assert page.locator("#values > span").last.get_attribute("class") == tone
