"""Tests of the documentation site: it has every page, loads nothing from other servers, and converts links."""

import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[1]
HOOK = "deploy/site/outside_pages.py"


class _Loader(yaml.SafeLoader):
    """Reads names of Python objects as None, because the generator of the site is not installed here."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
SITE = yaml.load((REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8"), _Loader)


def _pages(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for each in nav.values() if isinstance(nav, dict) else nav:
            yield from _pages(each)


def test_the_navigation_names_every_page_of_docs_once() -> None:
    named = list(_pages(SITE["nav"]))
    assert len(named) == len(set(named))
    of_docs = {path.name for path in (REPOSITORY / "docs").glob("*.md")}
    outside = {f"repository/{name}" for name in ("CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")}
    assert set(named) == of_docs | outside


def test_the_site_loads_nothing_from_other_servers() -> None:
    # A font of the theme would be loaded from Google, and the program that draws Mermaid diagrams from unpkg.
    assert SITE["theme"]["font"] is False
    assert "extra_javascript" not in SITE
    assert "extra_css" not in SITE
    assert SITE["hooks"] == [HOOK]
    for page in (REPOSITORY / "docs").glob("*.md"):
        text = page.read_text(encoding="utf-8")
        assert "```mermaid" not in text, page.name
        assert re.findall(r"!\[[^\]]*\]\(https?:|<(?:img|script|iframe|link)\b", text) == [], page.name


@pytest.mark.parametrize(
    ("page", "line", "on_site"),
    [
        ("BOARD.md", "[a](../benchmarks/README.md#x)", "[a](repository/benchmarks/README.md#x)"),
        ("BOARD.md", "[a](DATA.md) ![b](images/c.png)", "[a](DATA.md) ![b](images/c.png)"),
        ("repository/benchmarks/README.md", "[a](../docs/BOARD.md)", "[a](../../BOARD.md)"),
        ("repository/CONTRIBUTING.md", "[a](benchmarks/README.md)", "[a](benchmarks/README.md)"),
        ("repository/CONTRIBUTING.md", "[a](docs/SIGNALS.md#b)", "[a](../SIGNALS.md#b)"),
        ("index.md", "[a](https://example.com/b) [c](#d)", "[a](https://example.com/b) [c](#d)"),
        ("index.md", r"| `AAPL\|5m` | a \| b |", r"| `AAPL|5m` | a \| b |"),
        ("index.md", r"`AAPL\|5m`", r"`AAPL\|5m`"),
    ],
)
def test_links_and_tables_are_converted_for_the_site(page: str, line: str, on_site: str) -> None:
    hook = runpy.run_path(str(REPOSITORY / HOOK))
    here = SimpleNamespace(file=SimpleNamespace(src_uri=page))
    assert hook["on_page_markdown"](line, here, config=None, files=None) == on_site
