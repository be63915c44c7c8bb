"""How long the pages of the Dagster UI take to show their content, in a headless Chromium.

    python -m benchmarks.ui --url http://127.0.0.1:3000 [--folder shots] [--chromium chromium] [--json]

The UI must be running (`ema-assets up`). Each page is opened twice in a new browser: the first time as after a login,
the second time with the cache of the browser. The clock runs from the navigation, or from the click for a dialog, until
the text of the page has what a user came for. Screenshots show it. Needs a Chromium, and `websockets`, which
dagster-webserver brings.
"""

import argparse
import asyncio
import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import websockets

_REPOSITORY = "/locations/__repository__@ema_assets.definitions"
_LIMIT_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the UI. It is there when all `texts` (regular expressions) are, and no "Loading" is left.

    `click` is the button that is clicked first, if any.
    """

    name: str
    path: str
    shows: tuple[str, ...]
    click: str | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """Seconds until a page was there, for the first and the second visit; None when it never was."""

    page: str
    first_s: float | None
    again_s: float | None


def pages(backfill: str | None) -> list[Page]:
    """The pages: automation, runs, assets, and the newest backfill if there is one."""
    found = [
        Page("automation: schedules and sensors", "/automation", ("refresh_5m", "sweep", " ago")),
        Page("the 5m schedule", f"{_REPOSITORY}/schedules/refresh_5m", ("Latest tick", "View logs")),
        Page("the sensor sweep", f"{_REPOSITORY}/sensors/sweep", ("Latest tick", "View logs")),
        Page("runs", "/runs", ("refresh", "Success")),
        Page("lineage", "/asset-groups", ("bars", "signals", "strategies")),
        Page("catalog entry of ohlc", "/assets/ohlc", ("Closed OHLC bars",)),
        Page("partitions of ohlc", "/assets/ohlc?view=partitions", (r"Materialized \([1-9]", "5m", "1d")),
        Page("checks of ohlc", "/assets/ohlc?view=checks", ("series_are_fresh",)),
        Page(
            "the dialog to launch a backfill",
            "/assets/ohlc?view=partitions",
            ("Launch backfill", "timeframe"),
            click="Materialize",
        ),
    ]
    if backfill is not None:
        found.append(Page("a backfill", f"/runs/b/{backfill}", ("Partitions target", r"\d% completed")))
    return found


@contextmanager
def _chromium(command: str) -> Iterator[str]:
    """Start a new browser; yield the address of its only tab."""
    with tempfile.TemporaryDirectory(prefix="ema-ui-") as folder:
        browser = subprocess.Popen(
            [
                *(command, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
                *("--disable-background-networking", "--disable-component-update", "--window-size=1500,1000"),
                *("--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            port_file = Path(folder, "DevToolsActivePort")
            deadline = time.monotonic() + 30
            while not port_file.exists() or not port_file.read_text().strip():
                if time.monotonic() > deadline or browser.poll() is not None:
                    raise SystemExit(f"{command} did not start")
                time.sleep(0.1)
            tabs = httpx.get(f"http://127.0.0.1:{port_file.read_text().split()[0]}/json/list").json()
            yield next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
        finally:
            browser.terminate()
            browser.wait(timeout=30)


class _Tab:
    """A tab of the browser, driven by its DevTools protocol."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._sent = 0

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._sent += 1
        await self._socket.send(json.dumps({"id": self._sent, "method": method, "params": params}))
        while True:
            said = json.loads(await self._socket.recv())
            if said.get("id") == self._sent:
                return dict(said.get("result", {}))

    async def value(self, script: str) -> Any:
        said = await self.call("Runtime.evaluate", expression=script, returnByValue=True)
        return said.get("result", {}).get("value")

    async def open(self, url: str, page: Page) -> float | None:
        """Seconds until `page` is there; None when it is not there within the limit."""
        await self.call("Page.navigate", url="about:blank")
        await asyncio.sleep(0.3)
        began = time.monotonic()
        await self.call("Page.navigate", url=f"{url}{page.path}")
        clicked = page.click is None
        while (took := time.monotonic() - began) < _LIMIT_SECONDS:
            if not clicked:
                # For a dialog, the clock runs from the click.
                clicked = bool(await self.value(_click(str(page.click))))
                if clicked:
                    began = time.monotonic()
            elif await self.value(_is_there(page.shows)):
                return took
            await asyncio.sleep(0.05)
        return None

    async def picture(self) -> bytes:
        return base64.b64decode((await self.call("Page.captureScreenshot", format="png"))["data"])


def _is_there(texts: tuple[str, ...]) -> str:
    return (
        "(() => { const shown = document.body?.innerText ?? ''; return !shown.includes('Loading') && "
        f"{json.dumps(texts)}.every(text => new RegExp(text).test(shown)); }})()"
    )


def _click(text: str) -> str:
    return (
        f"(() => {{ const found = [...document.querySelectorAll('button')].find(b => !b.disabled && "
        f"b.innerText.includes({json.dumps(text)})); found?.click(); return !!found; }})()"
    )


async def _look(socket_url: str, url: str, wanted: list[Page], folder: Path | None) -> list[Shown]:
    shown = []
    async with websockets.connect(socket_url, max_size=None) as socket:
        tab = _Tab(socket)
        await tab.call("Page.enable")
        for page in wanted:
            took = []
            for _ in range(2):
                seconds = await tab.open(url, page)
                took.append(None if seconds is None else round(seconds, 2))
            shown.append(Shown(page.name, *took))
            print(f"{page.name}: {took[0]} s, {took[1]} s", file=sys.stderr, flush=True)
            if folder is not None:
                (folder / f"{page.name.replace(' ', '-').replace(':', '')}.png").write_bytes(await tab.picture())
    return shown


def newest_backfill(url: str) -> str | None:
    """The id of the newest backfill."""
    query = "{ partitionBackfillsOrError(limit: 1) { ... on PartitionBackfills { results { id } } } }"
    results = httpx.post(f"{url}/graphql", json={"query": query}, timeout=60).json()["data"][
        "partitionBackfillsOrError"
    ]
    return results["results"][0]["id"] if results["results"] else None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ui", description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:3000")
    parser.add_argument("--chromium", default="chromium", metavar="COMMAND")
    parser.add_argument("--folder", type=Path, help="where screenshots go")
    parser.add_argument("--json", action="store_true", help="print a JSON list instead of a table")
    given = parser.parse_args()
    if given.folder is not None:
        given.folder.mkdir(parents=True, exist_ok=True)
    wanted = pages(newest_backfill(given.url))
    with _chromium(given.chromium) as socket_url:
        shown = asyncio.run(_look(socket_url, given.url, wanted, given.folder))
    if given.json:
        print(json.dumps([asdict(each) for each in shown], indent=2))
        return
    width = max(len(each.page) for each in shown)
    print(f"{'':{width}}  first    again   (load {os.getloadavg()[0]:.1f})")
    for each in shown:
        print(f"{each.page:{width}}  {_seconds(each.first_s)}  {_seconds(each.again_s)}")


def _seconds(value: float | None) -> str:
    return "   never" if value is None else f"{value:6.2f} s"


if __name__ == "__main__":
    main()
