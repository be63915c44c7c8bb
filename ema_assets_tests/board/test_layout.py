"""Tests of the layout of the board in a real browser: what must stand apart, be whole, or be in reach at some width."""

from typing import TYPE_CHECKING

from ema_assets_tests.board.world import HOSTILE, ServedBoard

if TYPE_CHECKING:
    from playwright.sync_api import Page

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
# The symbols of the heat map of which a part is hidden.
CUT_OFF = """
() => [...document.querySelectorAll(".heat tbody th")].filter((each) => each.scrollWidth > each.clientWidth).map((each) => each.textContent)
"""


def test_the_spread_and_the_bars_since_the_cross_do_not_read_as_one_number(page: "Page", board: ServedBoard) -> None:
    page.goto(board.url)
    for width in (1240, 1440, 1920):
        page.set_viewport_size({"width": width, "height": 800})
        gaps = page.evaluate(BETWEEN_SPREAD_AND_BARS)
        assert gaps
        assert min(gaps) >= 4


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


def test_long_symbols_of_the_heat_map_are_whole_at_every_width(page: "Page", board: ServedBoard) -> None:
    page.goto(board.url)
    assert HOSTILE in page.locator(".heat tbody th").all_inner_texts()
    for width in (360, 800, 1250, 1440, 1920):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate(CUT_OFF) == []
