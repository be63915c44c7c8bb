"""The pictures of docs/BOARD.md, taken from a board that runs.

    python -m benchmarks.board_pictures --url http://127.0.0.1:3001 [--folder docs/images] [--chromium chromium]

Start the board first, as docs/BOARD.md says: `ema-assets up`. Drives the installed Chromium.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from ema_assets_tests.browsers import ARGUMENTS


@dataclass(frozen=True)
class Picture:
    """A picture: its file, the page, the theme, the size of the window, and what has to be there first."""

    name: str
    path: str
    theme: str = "light"
    size: tuple[int, int] = (1280, 800)
    shows: str = "main"


PICTURES = (
    Picture("board-heat-map", "/"),
    Picture(
        "board-chart",
        "/chart?symbol={symbol}&timeframe=1h&strategy=strategy_9_30_pullback&signals=bollinger,rsi",
        "dark",
        shows="#chart[data-drawn]",
    ),
    Picture("board-performance", "/performance?timeframe=1h", shows="#equity[data-drawn]"),
    Picture("board-freshness", "/freshness", size=(1280, 640)),
    Picture("board-why", "/why?symbol={late}&timeframe=5m", size=(1280, 700)),
    Picture("board-phone", "/", "dark", (390, 780)),
)


def shoot(page: Page, path: Path) -> None:
    """What `page` shows as a PNG of 256 colors, which takes a third of the bytes of one of all."""
    page.screenshot(path=path)
    # This method keeps rare hues, such as the few green letters of a gain, and the means keep those of large areas.
    method, dither = Image.Quantize.MAXCOVERAGE, Image.Dither.NONE
    with Image.open(path) as found:
        found.convert("RGB").quantize(256, method, kmeans=5, dither=dither).save(path, optimize=True)


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:3001")
    parser.add_argument("--folder", type=Path, default=Path("docs/images"))
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--symbol", default="BTC-USD", help="whose chart is shown")
    parser.add_argument("--late", default="AAPL", help="the symbol that is not fresh")
    asked = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=asked.chromium, args=list(ARGUMENTS))
        for picture in PICTURES:
            width, height = picture.size
            context = browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme="dark" if picture.theme == "dark" else "light",
            )
            page = context.new_page()
            page.goto(asked.url + picture.path.format(symbol=asked.symbol, late=asked.late))
            page.wait_for_selector(picture.shows)
            # The first frame of a chart comes after its data.
            page.wait_for_timeout(700)
            shoot(page, asked.folder / f"{picture.name}.png")
            context.close()
            print(asked.folder / f"{picture.name}.png")
        browser.close()


if __name__ == "__main__":
    main()
