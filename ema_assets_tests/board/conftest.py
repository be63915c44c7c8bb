"""Fixtures: one board on one filled database for all tests that change nothing, and a browser."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from ema_assets.store.database import Database
from ema_assets_tests.board.world import ServedBoard, board_on, fill
from ema_assets_tests.browsers import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="session")
def untouched(databases) -> Iterator[str]:
    """The URL of a database with two symbols and one with a hostile name. It is only copied. Nothing connects to it."""
    url = databases.make()
    with Database(url) as database:
        fill(database)
    yield url
    databases.drop(url)


@pytest.fixture(scope="session")
def filled(databases, untouched: str) -> Iterator[str]:
    """A copy of `untouched` for all tests that change nothing."""
    url = databases.make(like=untouched)
    yield url
    databases.drop(url)


@pytest.fixture(scope="session")
def board(filled: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedBoard]:
    with board_on(filled, tmp_path_factory.mktemp("board")) as served:
        yield served


@pytest.fixture(scope="module")
def browser(filled: str) -> Iterator["Browser"]:
    """A browser. While it runs, this thread has an event loop, so the database is filled first."""
    with chromium(os.environ) as launched:
        yield launched


@pytest.fixture
def page(browser: "Browser") -> Iterator["Page"]:
    """A new tab. The test fails if a page in it logs an error or warning, throws an exception or opens a dialog."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    opened = context.new_page()
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    opened.on("dialog", lambda dialog: wrong.append(f"a dialog: {dialog.message}"))
    yield opened
    context.close()
    assert wrong == []
