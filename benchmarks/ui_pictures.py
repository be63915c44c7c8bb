"""The pictures of the Dagster UI in the documentation, taken from one that runs.

    python -m benchmarks.ui_pictures --url http://127.0.0.1:3000 [--watchlist .ema/watchlist.toml]

Start the UI first: `ema-assets up`, and wait until every series is up to date. It launches nothing. For the checks let
the sandbox stop serving AAPL for a few bars, as docs/WHY_NOT_FRESH.md says. With `--watchlist` it makes that file wrong
for half a minute, for the picture of the ticks that say so. Drives the installed Chromium.
"""

import argparse
import re
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from benchmarks.board_pictures import shoot
from ema_assets_tests.browsers import ARGUMENTS

_MISTAKE = 'timeframe = ["5m"]'


def take(page: Page, url: str, folder: Path) -> None:
    """The partitions of the bars, the dialog that launches a backfill, and the check that names missing bars."""
    for symbol in ("MSFT", "AAPL"):
        page.goto(f"{url}/assets/ohlc?view=partitions&partition={symbol}%7C5m")
        page.get_by_text(re.compile(r"Materialized \([1-9]")).wait_for()
        page.get_by_text("stale_because").wait_for()
        page.wait_for_timeout(700)
        if symbol == "MSFT":
            shoot(page, folder / "partitions.png")
    page.get_by_role("button", name=re.compile("Materialize")).first.click()
    page.get_by_text("Launch backfill").or_(page.get_by_text("Launch 1 run")).first.wait_for()
    page.wait_for_timeout(700)
    shoot(page, folder / "backfill-dialog.png")
    page.keyboard.press("Escape")
    page.goto(f"{url}/assets/ohlc?view=checks&checkDetail=no_bar_is_missing")
    page.get_by_text("series_is_well").first.wait_for()
    page.wait_for_timeout(1500)
    shoot(page, folder / "checks.png")


def take_ticks(page: Page, url: str, folder: Path, watchlist: Path) -> None:
    """What a tick of `sync_watchlist` says while the watchlist is wrong. The file is as before afterwards."""
    right = watchlist.read_text(encoding="utf-8")
    watchlist.write_text(f"{_MISTAKE}\n{right}", encoding="utf-8")
    try:
        page.goto(f"{url}/locations/__repository__@ema_assets.definitions/sensors/sync_watchlist")
        page.locator("tr").filter(has_text="Latest tick").get_by_text("View", exact=True).click()
        page.get_by_text("Nothing is launched until this is mended").first.wait_for()
        page.wait_for_timeout(700)
        shoot(page, folder / "ticks.png")
    finally:
        watchlist.write_text(right, encoding="utf-8")


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:3000")
    parser.add_argument("--folder", type=Path, default=Path("docs/images"))
    parser.add_argument("--watchlist", type=Path, help="of the running `up`; it is wrong for half a minute")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    asked = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=asked.chromium, args=list(ARGUMENTS))
        page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        page.set_default_timeout(60_000)
        take(page, asked.url, asked.folder)
        if asked.watchlist is not None:
            take_ticks(page, asked.url, asked.folder, asked.watchlist)
        browser.close()


if __name__ == "__main__":
    main()
