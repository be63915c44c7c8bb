"""Tests of the layout of the board in a real browser: what must stand apart, be whole, or be in reach at some width."""

from typing import TYPE_CHECKING, Literal

import pytest

from ema_assets_tests.board.test_browser import NOTED
from ema_assets_tests.board.world import HOSTILE, ServedBoard

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

# The pixels between the spread and the bars since the cross in each cell of the heat map that shows both.
BETWEEN_SPREAD_AND_BARS = """
() => {
  const box = (node) => { const range = document.createRange(); range.selectNodeContents(node); return range.getBoundingClientRect(); };
  return [...document.querySelectorAll(".heat td a:has(i)")].map((cell) => {
    cell.querySelector("b").textContent = "\u22120.49";
    cell.querySelector("i").textContent = "1,186";
    return getComputedStyle(cell.querySelector("i")).display === "none" ? null : box(cell.querySelector("i")).left - box(cell.querySelector("b")).right;
  }).filter((gap) => gap !== null);
}
"""
# Gives the cells of the heat map all shades by turns, and one of them that of a series without a trend.
EVERY_SHADE = """
() => {
  const shades = ["n", "u1", "u2", "u3", "u4", "u5", "d1", "d2", "d3", "d4", "d5"];
  const cell = document.querySelector(".heat td a:has(i)");
  for (const shade of shades) { const each = cell.cloneNode(true); each.className = shade; cell.after(each); }
}
"""
# The symbols of the heat map of which a part is hidden.
CUT_OFF = """
() => [...document.querySelectorAll(".heat tbody th")].filter((each) => each.scrollWidth > each.clientWidth).map((each) => each.textContent)
"""
# The texts whose contrast with what is behind them is less than WCAG AA requires of small ones, each with its contrast.
TOO_FAINT = """
() => {
  const parts = (color) => { const [red, green, blue, alpha = 1] = color.match(/[\\d.]+/g).map(Number); return [red, green, blue, alpha]; };
  const over = (front, back) => [0, 1, 2].map((n) => front[n] * front[3] + back[n] * (1 - front[3]));
  const luminance = (color) => color.map((part) => part / 255).map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)).reduce((sum, part, n) => sum + part * [0.2126, 0.7152, 0.0722][n], 0);
  const behind = (node) => (node ? over(parts(getComputedStyle(node).backgroundColor), node.matches("html") ? [255, 255, 255] : behind(node.parentElement)) : null);
  const found = new Set();
  for (const node of document.querySelectorAll("body *")) {
    const style = getComputedStyle(node);
    const isSeen = [...node.childNodes].some((each) => each.nodeType === Node.TEXT_NODE && each.textContent.trim()) && node.checkVisibility();
    if (!isSeen || node.closest("script, select, datalist, .hidden, .skip, #values")) continue;
    const back = behind(node);
    const [red, green, blue, alpha] = parts(style.color);
    const [darker, lighter] = [over([red, green, blue, alpha * style.opacity], back), back].map(luminance).sort((a, b) => a - b);
    const contrast = (lighter + 0.05) / (darker + 0.05);
    if (contrast < 4.5) found.add(`${node.tagName}.${node.className} in ${node.parentElement.className}: ${contrast.toFixed(2)}`);
  }
  return [...found];
}
"""


@pytest.mark.broad
def test_the_spread_and_the_bars_since_the_cross_do_not_read_as_one_number(page: "Page", board: ServedBoard) -> None:
    page.goto(board.url)
    for width in (1240, 1440, 1920):
        page.set_viewport_size({"width": width, "height": 800})
        gaps = page.evaluate(BETWEEN_SPREAD_AND_BARS)
        assert gaps
        assert min(gaps) >= 4


@pytest.mark.broad
def test_the_arrows_stay_in_the_column_of_a_timeframe_where_a_symbol_has_fewer(
    page: "Page", board: ServedBoard
) -> None:
    page.goto(board.url)
    page.evaluate("document.querySelectorAll('.heat tbody tr')[1].cells[1].replaceChildren()")
    focused = "document.activeElement.getAttribute('href')"
    for keys, series in (
        (("ArrowDown", "ArrowRight"), "symbol=AAPL&timeframe=1h"),
        (("ArrowDown",), "symbol=BTC-USD&timeframe=1h"),
        (("ArrowLeft",), "symbol=BTC-USD&timeframe=1h"),
        (("ArrowUp", "ArrowLeft", "ArrowDown"), "symbol=%3Cscript"),
    ):
        for key in keys:
            page.keyboard.press(key)
        assert series in page.evaluate(focused)


@pytest.mark.broad
def test_long_symbols_of_the_heat_map_are_whole_at_every_width(page: "Page", board: ServedBoard) -> None:
    page.goto(board.url)
    assert HOSTILE in page.locator(".heat tbody th").all_inner_texts()
    for width in (360, 800, 1250, 1440, 1920):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate(CUT_OFF) == []
    # Of ten characters, some are wider than the usual column.
    page.goto(f"{board.url}/?q=AAPL")
    page.evaluate("document.querySelector('.heat tbody th').textContent = 'NOSUCH-USD'")
    for width in (360, 1440):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate(CUT_OFF) == []


@pytest.mark.broad
def test_long_symbols_of_lists_are_whole_and_a_strategy_stands_beside_trades_that_look_the_same(
    page: "Page", board: ServedBoard
) -> None:
    rows = board.get("/api/trades/open").json["rows"]
    page.goto(board.url)
    page.evaluate(
        "document.querySelectorAll('.list tbody th a').forEach((each) => { each.textContent = 'AVAX2-USDT'; })"
    )
    cut = "[...document.querySelectorAll('.list tbody th a')].filter((each) => each.scrollWidth > each.clientWidth).length"
    for width in (360, 1250, 1440):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate(cut) == 0
    rows = rows[: page.locator("#open tbody tr").count()]
    named = [(row["symbol"], row["timeframe"]) for row in rows]
    twins = [
        row["strategy"].removeprefix("strategy_") for row in rows if named.count((row["symbol"], row["timeframe"])) > 1
    ]
    assert len(twins) >= 2
    assert page.locator("#open .twin").all_inner_texts() == twins


@pytest.mark.broad
def test_the_newest_bars_of_an_expensive_symbol_are_whole(page: "Page", board: ServedBoard) -> None:
    page.goto(f"{board.url}/chart?symbol=AAPL&timeframe=1h")
    page.evaluate(
        """document.querySelectorAll("#bars tbody td:not(:first-child, :nth-child(6), :nth-child(7))").forEach((each) => {
          each.textContent = "238,382.99";
        })"""
    )
    hidden = "(e => e.scrollWidth - e.clientWidth)(document.querySelector('#bars .scroll'))"
    for width in (800, 1280, 1420, 1440, 1920):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate(hidden) <= 0, width


@pytest.mark.broad
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_of_a_page_has_enough_contrast(
    page: "Page", board: ServedBoard, theme: Literal["light", "dark"]
) -> None:
    page.emulate_media(color_scheme=theme)
    found = {}
    for path in (
        "/",
        "/trades",
        "/crossovers",
        "/performance",
        "/freshness",
        "/chart?symbol=AAPL&timeframe=1h",
        "/why?symbol=AAPL&timeframe=1h",
    ):
        page.goto(f"{board.url}{path}")
        if path == "/":
            page.evaluate(EVERY_SHADE)
        faint = page.evaluate(TOO_FAINT)
        if faint:
            found[path] = faint
    assert found == {}


@pytest.mark.broad
def test_every_page_is_in_reach_in_the_menu_at_usual_widths(page: "Page", board: ServedBoard) -> None:
    page.goto(board.url)
    for width in (768, 901, 1001, 1024, 1180, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        hidden = "(e => e.scrollWidth - e.clientWidth)(document.querySelector('.top nav'))"
        assert page.evaluate(hidden) <= 0
        assert page.evaluate("document.documentElement.scrollWidth") == width
        box = page.locator("#search").bounding_box()
        assert box is not None
        assert box["width"] >= 130


@pytest.mark.broad
def test_an_error_shows_names_as_code_and_not_in_backticks(board: ServedBoard) -> None:
    text = board.get("/", sort="x").text
    assert "<code>sort</code> must be one of" in text
    assert "`" not in text


@pytest.mark.broad
def test_a_dark_page_is_printed_in_dark_ink_on_white_with_the_colours_of_its_cells(
    page: "Page", board: ServedBoard
) -> None:
    page.emulate_media(media="print", color_scheme="dark")
    page.goto(board.url)
    styles = "['body', '.panel', '.heat td a'].map(e => getComputedStyle(document.querySelector(e)))"
    for _ in ("by system setting", "by choice"):
        ink, panel, cell = page.evaluate(f"(([a, b, c]) => [a.color, b.backgroundColor, c.printColorAdjust])({styles})")
        assert (ink, panel, cell) == ("rgb(21, 32, 43)", "rgb(255, 255, 255)", "exact")
        page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.set_viewport_size({"width": 1000, "height": 700})
    assert page.evaluate("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"


@pytest.mark.broad
@pytest.mark.parametrize("path", ["/chart?symbol=AAPL&timeframe=1h", "/performance?timeframe=1h"])
def test_a_dark_chart_is_printed_light_with_its_prices_and_is_dark_again_afterwards(
    page: "Page", board: ServedBoard, path: str
) -> None:
    page.emulate_media(color_scheme="dark")
    page.goto(f"{board.url}{path}")
    page.wait_for_selector(".canvas[data-drawn]")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 900, "height": 700})
    paper = page.locator(".canvas .paper")
    box, around = paper.bounding_box(), page.locator(".canvas").bounding_box()
    assert box is not None
    assert around is not None
    assert abs(box["width"] - around["width"]) < 2
    corner = "(canvas) => [...canvas.getContext('2d').getImageData(1, canvas.height - 2, 1, 1).data]"
    assert paper.evaluate(corner) == [255, 255, 255, 255]
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert paper.count() == 0
    assert page.evaluate("document.documentElement.dataset.theme") is None


@pytest.mark.broad
def test_the_figures_of_each_series_fit_a_printed_page_in_one_size(page: "Page", board: ServedBoard) -> None:
    page.goto(f"{board.url}/performance?timeframe=1h")
    page.wait_for_selector(".canvas[data-drawn]")
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 1047, "height": 718})  # A4, landscape, without its margins
    remarks = "[...document.querySelectorAll('#rows .remark')]"
    assert page.evaluate(f"{remarks}.length") > 0
    edges = f"{remarks}.map(each => each.getBoundingClientRect().right)"
    assert max(page.evaluate(edges)) <= page.evaluate("document.documentElement.clientWidth")
    cells = "[...document.querySelectorAll('#rows :is(th, td, small)')]"
    assert page.evaluate(f"[...new Set({cells}.map(each => getComputedStyle(each).fontSize))]") == ["10px"]
    assert page.evaluate("getComputedStyle(document.querySelector('.panel')).borderTopWidth") == "0px"


@pytest.mark.broad
def test_the_values_of_a_chart_do_not_cover_its_prices_of_many_digits(page: "Page", board: ServedBoard) -> None:
    found = board.get("/api/chart", symbol="AAPL", timeframe="1h").json
    for name in ("open", "high", "low", "close", "fast", "slow"):
        found[name] = [None if price is None else price * 1e-9 for price in found[name]]
    page.route("**/api/chart**", lambda route: route.fulfill(json=found))
    for width in (360, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        page.goto(f"{board.url}/chart?symbol=AAPL&timeframe=1h")
        page.wait_for_selector("#chart[data-drawn]")
        page.wait_for_function(
            "() => [...document.querySelectorAll('#chart td:nth-child(3)')].some(e => e.offsetWidth > 90)"
        )
        axis = page.evaluate(
            "Math.min(...[...document.querySelectorAll('#chart td:nth-child(3)')].map(e => e.getBoundingClientRect().left))"
        )
        assert page.evaluate("document.getElementById('values').getBoundingClientRect().right") <= axis


@pytest.mark.broad
def test_the_values_of_a_chart_do_not_cover_its_candles(page: "Page", board: ServedBoard) -> None:
    page.add_init_script(NOTED)
    page.set_viewport_size({"width": 800, "height": 800})
    page.goto(f"{board.url}/chart?symbol=AAPL&timeframe=1h&signals=bollinger,rsi")
    page.wait_for_selector("#chart[data-drawn]")
    page.wait_for_function(
        """() => {
          const series = chart.panes()[0].getSeries().find((each) => each.seriesType() === "Candlestick");
          const { from, to } = chart.timeScale().getVisibleLogicalRange();
          const shown = series.data().slice(Math.max(Math.ceil(from), 0), Math.floor(to) + 1);
          const highest = series.priceToCoordinate(Math.max(...shown.map((bar) => bar.high)));
          const values = document.getElementById("values");
          return values.offsetHeight > 30 && highest >= values.offsetTop + values.offsetHeight;
        }""",
        timeout=10_000,
    )


@pytest.mark.broad
@pytest.mark.parametrize(
    ("path", "api", "place"),
    [
        ("/chart?symbol=AAPL&timeframe=1h", "**/api/chart**", "#chart"),
        ("/performance?timeframe=1h", "**/api/equity**", "#equity"),
    ],
)
def test_a_chart_that_is_slow_or_fails_says_so(
    browser: "Browser", board: ServedBoard, path: str, api: str, place: str
) -> None:
    page = browser.new_page()
    waiting: list[Route] = []

    def wait(route: "Route") -> None:
        waiting.append(route)

    page.route(api, wait)
    page.goto(f"{board.url}{path}")
    page.locator(f"{place} .wait", has_text="Loading …").wait_for()
    while not waiting:
        page.wait_for_timeout(20)
    waiting[0].fulfill(status=503, body="")
    page.locator(f"{place} .wait", has_text="could not be loaded").wait_for()
    page.unroute(api)
    page.wait_for_selector(f"{place}[data-drawn]")
    assert page.locator(f"{place} .wait").is_hidden()
    page.close()
