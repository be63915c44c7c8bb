"""Starts the installed browser with Playwright. No browser is downloaded."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)


def installed_chromium(env: Mapping[str, str]) -> str:
    """The path of the installed Chromium. Without one, the calling test is skipped, or fails if CI=true."""
    found = next(filter(None, (shutil.which(name, path=env.get("PATH")) for name in CHROMIUMS)), None)
    if found is None:
        missing = "no Chromium is installed: `apt-get install chromium`, or Chrome, makes the browser tests run"
        if env.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return found


@contextmanager
def chromium(env: Mapping[str, str]) -> Iterator["Browser"]:
    """Start the installed Chromium. Without one, the calling test is skipped, or fails if CI=true."""
    from playwright.sync_api import sync_playwright

    path = installed_chromium(env)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield launched
        launched.close()
