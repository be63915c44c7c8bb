"""Copies the package with additional or changed files, and runs Python with the copy."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import ema_assets
from ema_assets_tests.waiting import GIVEN_UP_AFTER_SECONDS

_PACKAGE = Path(ema_assets.__file__).parent
_REPOSITORY = _PACKAGE.parent


def package_with(
    folder: Path, *, new: Mapping[str, str] | None = None, replaced: Mapping[str, str] | None = None
) -> Path:
    """Copy the package into `folder`, add the files `new` (path within the package to text), and return `folder`.

    `replaced` maps the path of an existing file to its new text in the copy.
    """
    copy = folder / "ema_assets"
    shutil.copytree(_PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in (new or {}).items():
        path = copy / name
        assert not path.exists(), f"{name} is part of the package already"
        path.write_text(text, encoding="utf-8")
    for name, text in (replaced or {}).items():
        assert (copy / name).exists(), f"{name} is no part of the package"
        (copy / name).write_text(text, encoding="utf-8")
    return folder


def source_of(name: str) -> str:
    """The text of a file of the package."""
    return (_PACKAGE / name).read_text(encoding="utf-8")


def run_python(folder: Path, code: str, **environment: str) -> str:
    """Run `code` in a process that imports the package of `folder`; return what it prints.

    Raises:
        AssertionError: with the output of the process when it fails.
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), str(_REPOSITORY))), **environment},
        capture_output=True,
        text=True,
        timeout=GIVEN_UP_AFTER_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
