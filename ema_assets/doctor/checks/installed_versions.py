"""The check of installed versions: Python, and every package that the project requires."""

import sys
from collections.abc import Iterator
from importlib import metadata
from typing import TYPE_CHECKING

from ema_assets.doctor.declaration import Check, Finding, Surroundings, error, ok

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_SHOWN = ("dagster", "polars")
# Dagster's own packages only work together in the same version.
_ALIKE = ("dagster", "dagster-webserver", "dagster-graphql")


def _look(_seen: Surroundings) -> Iterator[Finding]:
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    python = ".".join(map(str, sys.version_info[:3]))
    allowed = metadata.metadata("ema-assets")["Requires-Python"]
    if not SpecifierSet(allowed).contains(python):
        yield error(f"Python {python} does not meet {allowed}", "create the environment again with one that does")
    requirements = [Requirement(each) for each in metadata.requires("ema-assets") or []]
    problems = list(unmet(requirements))
    for text in problems:
        yield error(text, "install it again: pip install --upgrade ema-assets")
    versions = {_version(name) for name in _ALIKE}
    if len(versions) > 1:
        named = ", ".join(f"{name} {_version(name)}" for name in _ALIKE)
        yield error(f"Dagster's packages differ: {named}", "install all of them in one version")
    if not problems:
        shown = ", ".join(f"{name} {_version(name)}" for name in _SHOWN)
        yield ok(f"ema-assets {_version('ema-assets')}, Python {python}, {shown}")


def unmet(requirements: "list[Requirement]") -> Iterator[str]:
    """Yield a sentence per unmet one of `requirements`: not installed, or in another version. Extras are ignored."""
    for requirement in requirements:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        found = _version(requirement.name)
        if found is None:
            yield f"{requirement.name} is not installed"
        elif not requirement.specifier.contains(found, prereleases=True):
            yield f"{requirement.name} {found} is installed, and {requirement.specifier} is needed"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


CHECK = Check("versions", 100, _look)
