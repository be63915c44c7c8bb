"""Tests of a user's own modules that import files in their folder, which are read again after an edit."""

import importlib
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

from ema_assets.model import own_modules
from ema_assets.model.errors import ConfigurationError
from ema_assets.model.own_modules import load, told
from ema_assets.model.own_packages import place_beside, state_of


class Folder:
    """A folder of modules."""

    def __init__(self, path: Path) -> None:
        path.mkdir(exist_ok=True)
        self.path = path

    def write(self, **texts: str) -> None:
        """Write one file per module name. `__` separates a folder from the name of the file."""
        for name, text in texts.items():
            path = self.path / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def answer(self, name: str = "mine") -> object:
        """Load the module `name` and return its `answer`."""
        return load(self.path / f"{name}.py", "signal").answer


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "signals")


def test_a_file_in_the_same_folder_is_imported_with_a_dot_and_read_again_after_an_edit(folder: Folder) -> None:
    folder.write(mine="from ._helpers import answer\n", _helpers="answer = 41\n")
    assert folder.answer() == 41
    folder.write(_helpers="answer = 42\n")
    assert folder.answer() == 42
    (folder.path / "_helpers.py").unlink()
    with pytest.raises(ConfigurationError, match=r"mine\.py: line 1: cannot be imported: ModuleNotFoundError"):
        folder.answer()
    folder.write(_helpers="answer = 43\n")
    assert folder.answer() == 43
    assert sorted(path.name for path in folder.path.rglob("*")) == ["_helpers.py", "mine.py"], (
        "no bytecode is left there"
    )


def test_an_unchanged_file_is_executed_once_for_all_modules_that_import_it(folder: Folder) -> None:
    folder.write(mine="from ._helpers import answer\n", other="from ._helpers import answer\n")
    folder.write(_helpers="answer = object()\n")
    assert folder.answer() is folder.answer("other") is folder.answer()


def test_an_edit_of_an_indirectly_imported_file_is_seen(folder: Folder) -> None:
    folder.write(mine="from .shared.numbers import answer\n", shared__numbers="from .._deep import answer\n")
    folder.write(_deep="answer = 1\n")
    assert folder.answer() == 1
    folder.write(_deep="answer = 2\n")
    assert folder.answer() == 2


def test_an_import_in_a_function_finds_the_file_as_it_was_when_its_module_was_loaded(folder: Folder) -> None:
    folder.write(mine="def answer():\n    from ._late import number\n    return number\n", _late="number = 1\n")
    first = folder.answer()
    assert callable(first)
    assert first() == 1
    folder.write(_late="number = 2\n")
    second = folder.answer()
    assert callable(second)
    assert (first(), second()) == (1, 2)


def test_files_with_the_same_name_in_two_folders_are_two_modules(tmp_path: Path) -> None:
    answers = []
    for number, name in enumerate(("signals", "strategies")):
        folder = Folder(tmp_path / name)
        folder.write(mine="from ._helpers import answer\n", _helpers=f"answer = {number}\n")
        answers.append(folder.answer())
    assert answers == [0, 1]


def test_an_edit_in_one_folder_does_not_reload_the_modules_of_another(tmp_path: Path) -> None:
    folder, other = Folder(tmp_path / "signals"), Folder(tmp_path / "strategies")
    for each in (folder, other):
        each.write(mine="from ._helpers import answer\n", _helpers="answer = object()\n")
    answer, state = folder.answer(), state_of(folder.path / "mine.py")
    other.answer()
    other.write(_helpers="answer = 'edited'\n")
    assert other.answer() == "edited"
    assert folder.answer() is answer
    assert state_of(folder.path / "mine.py") == state


def test_an_edit_is_seen_through_a_link_to_the_folder(folder: Folder, tmp_path: Path) -> None:
    folder.write(mine="from ._helpers import answer\n", _helpers="answer = 41\n")
    linked = Folder(tmp_path / "linked")
    linked.path.rmdir()
    linked.path.symlink_to(folder.path)
    assert linked.answer() == 41
    before = state_of(linked.path / "mine.py")
    folder.write(_helpers="answer = 'edited'\n")
    assert state_of(linked.path / "mine.py") != before


def test_a_module_knows_its_file(folder: Folder) -> None:
    folder.write(mine="answer = __file__\n")
    assert folder.answer() == str(folder.path / "mine.py")


def test_a_file_that_failed_cannot_be_imported_by_another_file(folder: Folder) -> None:
    folder.write(mine="answer = 1\n1 / 0\n", other="from .mine import answer\n")
    for name in ("mine", "other", "mine"):
        with pytest.raises(ConfigurationError, match="ZeroDivisionError"):
            folder.answer(name)


def test_other_modules_are_found_by_python_itself(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write(mine="answer = 1\n")
    folder.answer()
    finders = list(sys.meta_path)
    monkeypatch.delitem(sys.modules, "json.tool", raising=False)
    assert type(importlib.import_module("json.tool").__loader__) is SourceFileLoader
    folder.answer()
    assert sys.meta_path == finders


def test_own_files_shadow_no_other_module_and_cannot_be_imported_without_a_dot(folder: Folder) -> None:
    folder.write(mine="import json\nanswer = json.dumps(1)\n", json="raise AssertionError\n")
    assert folder.answer() == "1"
    folder.write(mine="from _helpers import answer\n", _helpers="answer = 1\n")
    with pytest.raises(
        ConfigurationError, match=r"No module named '_helpers'; it is a file next to this one: `from \._"
    ):
        folder.answer()
    assert "_helpers" not in sys.modules


def test_dataclasses_with_postponed_annotations_work(folder: Folder) -> None:
    folder.write(
        mine="from __future__ import annotations\nfrom dataclasses import dataclass\n\n"
        "@dataclass\nclass Pair:\n    a: int\n\nanswer = Pair(1).a\n"
    )
    assert folder.answer() == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("answer = 1 / 0\n", "ZeroDivisionError: division by zero"),
        ("\nanswer = (\n", "SyntaxError: '(' was never closed"),
    ],
)
def test_an_error_in_an_imported_file_names_that_file_and_its_line(folder: Folder, text: str, said: str) -> None:
    folder.write(mine="\nfrom ._helpers import answer\n", _helpers=text)
    with pytest.raises(ConfigurationError) as raised:
        folder.answer()
    line = 1 + text.startswith("\n")
    assert str(raised.value) == (
        f"{folder.path}/mine.py: line 2: cannot be imported: {said} (_helpers.py, line {line})"
    )


def test_an_error_in_the_file_itself_names_its_line_once(folder: Folder) -> None:
    folder.write(mine="\nanswer = (\n")
    with pytest.raises(ConfigurationError) as raised:
        folder.answer()
    assert str(raised.value) == (
        f"{folder.path}/mine.py: line 2: cannot be imported: SyntaxError: '(' was never closed"
    )


def test_an_error_in_a_function_of_an_imported_file_names_that_file(folder: Folder) -> None:
    folder.write(mine="from ._helpers import answer\n", _helpers="def answer():\n    return {}['x']\n")
    answer = folder.answer()
    assert callable(answer)
    with pytest.raises(KeyError) as raised:
        answer()
    assert told(raised.value) == "KeyError: 'x' (_helpers.py, line 2)"
    assert place_beside(ValueError("elsewhere")) == ""


def test_what_an_error_says_can_be_stored() -> None:
    assert told(ValueError("\ud800 and \x00")) == "ValueError: \N{REPLACEMENT CHARACTER} and \N{REPLACEMENT CHARACTER}"


def test_an_endless_imported_file_is_named_and_loaded_again_after_it_changes(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_modules, "LIMIT_SECONDS", 0.2)
    folder.write(mine="from ._helpers import answer\n", _helpers="while True:\n    pass\n")
    with pytest.raises(
        ConfigurationError, match=r"mine\.py: line 1: is not done .* \(_helpers\.py, line [12]\); is there"
    ):
        folder.answer()
    with monkeypatch.context() as patched:
        patched.setattr(own_modules, "time_limit", None)
        with pytest.raises(ConfigurationError, match=r"is not done after"):
            folder.answer()
    folder.write(_helpers="answer = 42\n")
    assert folder.answer() == 42
