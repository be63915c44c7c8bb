"""One board on one filled database for all tests that change nothing, and one browser."""

import os
import shutil
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import pytest

from ema_assets.store.database import Database
from ema_assets_tests.board.world import ServedBoard, board_on, fill

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="session")
def untouched(databases) -> Iterator[str]:
    """The URL of a database with two symbols and one with a hostile name, to be copied: nobody connects to it."""
    url = databases.make()
    with Database(url) as database:
        fill(database)
    yield url
    databases.drop(url)


@pytest.fixture(scope="session")
def filled(databases, untouched: str) -> Iterator[str]:
    """A copy of it, for all tests that change nothing."""
    url = databases.make(like=untouched)
    yield url
    databases.drop(url)


@pytest.fixture(scope="session")
def board(filled: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedBoard]:
    with board_on(filled, tmp_path_factory.mktemp("board")) as served:
        yield served


def installed_chromium(env: Mapping[str, str]) -> str:
    """Its path. Without one, the test that asks is skipped, or fails where CI=true."""
    found = next(filter(None, (shutil.which(name, path=env.get("PATH")) for name in CHROMIUMS)), None)
    if found is None:
        missing = "no Chromium is installed: `apt-get install chromium`, or Chrome, makes the browser tests run"
        if env.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return found


@pytest.fixture(scope="module")
def browser(filled: str) -> Iterator["Browser"]:
    """The installed Chromium. While it runs, this thread has an event loop, so the database is filled before."""
    from playwright.sync_api import sync_playwright

    path = installed_chromium(os.environ)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield launched
        launched.close()


@pytest.fixture
def page(browser: "Browser") -> Iterator["Page"]:
    """A tab of its own. What its pages complain about is an error: a blocked script or style, an exception."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    opened = context.new_page()
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    opened.on("dialog", lambda dialog: wrong.append(f"a dialog: {dialog.message}"))
    yield opened
    context.close()
    assert wrong == []
