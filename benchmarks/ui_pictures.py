"""The pictures of the Dagster UI in docs/BACKFILL.md and docs/WHY_NOT_FRESH.md, taken from one that runs.

    python -m benchmarks.ui_pictures --url http://127.0.0.1:3000 [--folder docs/images] [--chromium chromium]

Start the UI first: `ema-assets up`, and wait until partitions are there. It launches nothing. Drives the installed
Chromium.
"""

import argparse
import re
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from benchmarks.board_pictures import ARGUMENTS


def take(page: Page, url: str, folder: Path) -> None:
    """The dialog that launches a backfill, and the checks of the bars."""
    page.goto(f"{url}/assets/ohlc?view=partitions")
    page.get_by_text(re.compile(r"Materialized \([1-9]")).wait_for()
    page.get_by_role("button", name=re.compile("Materialize")).first.click()
    page.get_by_text("Launch backfill").or_(page.get_by_text("Launch run")).first.wait_for()
    page.wait_for_timeout(700)
    page.screenshot(path=folder / "backfill-dialog.png")
    page.keyboard.press("Escape")
    page.goto(f"{url}/assets/ohlc?view=checks")
    page.get_by_text("series_is_well").first.wait_for()
    page.get_by_text("series_is_well").first.click()
    page.wait_for_timeout(1500)
    page.screenshot(path=folder / "checks.png")


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:3000")
    parser.add_argument("--folder", type=Path, default=Path("docs/images"))
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    asked = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=asked.chromium, args=list(ARGUMENTS))
        page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        page.set_default_timeout(60_000)
        take(page, asked.url, asked.folder)
        browser.close()


if __name__ == "__main__":
    main()
