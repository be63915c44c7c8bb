"""A hook of MkDocs: what pages of docs/ link to outside that folder becomes a part of the site.

Such a file lies under `repository/` there, by its path in the repository. Links are rewritten to where it lies; so the
pages can be read on the site and in the repository alike.
"""

import os
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import File, Files
    from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).parents[2]
_OUTSIDE = "repository"
# In the navigation, whether or not a page links to them.
_ALWAYS = ("CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")
_LINK = re.compile(r"(?<=\]\()(?!https?://|#)([^)#\s]+)(?=[)#])")


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Add what is linked to, also by what is added itself."""
    from mkdocs.structure.files import File

    waiting = [*_ALWAYS]
    for page in files.documentation_pages():
        waiting += _targets(page)
    while waiting:
        name = waiting.pop()
        if name.startswith("docs/") or files.get_file_from_path(f"{_OUTSIDE}/{name}") is not None:
            continue
        added = File.generated(config, f"{_OUTSIDE}/{name}", content=(REPOSITORY / name).read_bytes())
        files.append(added)
        if name.endswith(".md"):
            waiting += _targets(added)
    return files


def on_page_markdown(markdown: str, page: "Page", **_: object) -> str:
    """Let links lead to where their targets lie on the site, and code in tables read as on GitHub."""
    uri = page.file.src_uri
    linked = _LINK.sub(lambda found: moved(uri, found[1]), markdown)
    return re.sub(r"^\|.*$", lambda row: _without_escapes(row[0]), linked, flags=re.MULTILINE)


def moved(uri: str, target: str) -> str:
    """What a link of the page `uri` of the site must say, which says `target` in the repository."""
    name = in_repository(uri, target)
    on_site = name.removeprefix("docs/") if name.startswith("docs/") else f"{_OUTSIDE}/{name}"
    return os.path.relpath(on_site, PurePosixPath(uri).parent)


def in_repository(uri: str, target: str) -> str:
    """The path in the repository of what the page `uri` of the site links to as `target`."""
    source = uri.removeprefix(f"{_OUTSIDE}/") if uri.startswith(f"{_OUTSIDE}/") else f"docs/{uri}"
    return os.path.normpath(PurePosixPath(source).parent / target)


def _targets(page: "File") -> list[str]:
    return [in_repository(page.src_uri, target) for target in _LINK.findall(page.content_string)]


def _without_escapes(row: str) -> str:
    """A row of a table in which code has no escaped bars: they end no cell here, and GitHub alone drops the escape."""
    return re.sub(r"`[^`]*`", lambda code: code[0].replace(r"\|", "|"), row)
