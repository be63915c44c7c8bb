"""Tests of the report about a signal or rule that was edited without a new version: its stored values are old."""

from pathlib import Path

import pytest

from ema_assets.config.watchlist import Watchlist
from ema_assets.refresh.graph import build
from ema_assets.runtime.edited_code import EditedCode

SIGNAL = """
import polars as pl
from ema_assets.signals.declaration import Column, Param, Signal

def doubled(bars, carried, params):
    return bars.select("symbol", "ts", twice=pl.col("close") * 2)

SIGNAL = Signal(name="doubled", version="1", description="Twice the close", reads={"ohlc": ("close",)},
                columns=(Column("twice", "float8", "Twice"),), compute=doubled, params={"bars": Param(20, "How many")})
"""
RULE = """
import polars as pl
from ema_assets.strategies.rule import BySide, Rule

def evaluate(bars, params):
    return bars.select(enter_long=pl.col("close") > pl.col("open"))

RULE = Rule(name="rising", title="rising", version="1", description="Rising", reads={}, evaluate=evaluate,
            entry_reasons=BySide(long="up", short="down"), exit_reasons=BySide(long="never", short="never"))
"""
WATCHED = Watchlist((), {}, strategies=({"name": "rise", "rule": "rising"}, {"name": "both", "rule": "rising"}))


class Folders:
    """A folder of signals, a folder of rules, and the reports about edits in them."""

    def __init__(self, home: Path) -> None:
        self.signal, self.rule = home / "signals" / "mine.py", home / "strategies" / "mine.py"
        for path, text in ((self.signal, SIGNAL), (self.rule, RULE)):
            path.parent.mkdir()
            path.write_text(text, encoding="utf-8")
        self.said: list[str] = []
        self.record = home / "own_code.json"
        self.start()
        self.look()

    def start(self) -> None:
        """Start again, as a new process does."""
        self._edited = EditedCode(self.said.append, self.record)

    def look(self) -> list[str]:
        """Look again and return the reports."""
        self.said.clear()
        self._edited.looked(build(WATCHED, self.signal.parent, self.rule.parent))
        return self.said

    def edit(self, path: Path, old: str, new: str) -> list[str]:
        """Edit a file, look again and return the reports."""
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")
        return self.look()


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


def test_a_changed_formula_without_a_new_version_is_reported_once(folders: Folders) -> None:
    (said,) = folders.edit(folders.signal, "* 2", "* 2.5")
    assert said.startswith(f"  {folders.signal} has changed and the `version` of doubled has not: what is stored stays")
    assert folders.look() == []


def test_a_changed_formula_in_an_imported_file_is_reported_once_and_a_comment_is_not(folders: Folders) -> None:
    helpers, deeper = folders.signal.parent / "_helpers.py", folders.signal.parent / "_deeper.py"
    helpers.write_text("from . import _deeper\nFACTOR = _deeper.FACTOR\n", encoding="utf-8")
    deeper.write_text("FACTOR = 2\n", encoding="utf-8")
    folders.edit(folders.signal, "* 2", "* FACTOR")
    folders.edit(folders.signal, "\nimport polars", "\nfrom ._helpers import FACTOR\nimport polars")
    assert folders.edit(deeper, "= 2", "= 2  # twice") == []
    (said,) = folders.edit(deeper, "= 2", "= 3")
    assert said.startswith(
        f"  {folders.signal}, or a file next to it that it imports, has changed and the `version` of doubled has not"
    )
    assert folders.look() == []
    folders.start()
    assert folders.look() == []
    assert len(folders.edit(helpers, "_deeper.FACTOR", "_deeper.FACTOR + 1")) == 1


def test_a_changed_formula_of_a_signal_with_a_column_less_is_reported(folders: Folders) -> None:
    two = """(Column("twice", "float8", "Twice"), Column("more", "float8", "More"))"""
    assert folders.edit(folders.signal, '(Column("twice", "float8", "Twice"),)', two) == []
    assert len(folders.edit(folders.signal, two, '(Column("twice", "float8", "Twice"),)')) == 1


def test_a_changed_default_of_a_parameter_is_reported(folders: Folders) -> None:
    assert len(folders.edit(folders.signal, "Param(20", "Param(30")) == 1


def test_an_edited_rule_of_two_strategies_is_reported_once(folders: Folders) -> None:
    (said,) = folders.edit(folders.rule, ">", ">=")
    assert "the `version` of rising has not" in said


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("* 2)", "* 2)  # twice", id="a comment"),
        pytest.param('version="1"', 'version="2"', id="another version"),
        pytest.param('name="doubled"', 'name="twofold"', id="another name"),
        pytest.param("twice", "double", id="another name of a column"),
        pytest.param('"float8"', '"int8"', id="another kind of a column"),
    ],
)
def test_a_comment_and_what_is_computed_from_the_first_bar_are_not_reported(
    folders: Folders, old: str, new: str
) -> None:
    assert folders.edit(folders.signal, old, new) == []


def test_new_and_removed_files_are_not_reported(folders: Folders) -> None:
    folders.signal.rename(folders.signal.with_name("renamed.py"))
    assert folders.look() == []
    folders.rule.with_name("_helper.py").write_text("x = 1\n", encoding="utf-8")
    assert folders.look() == []


def test_an_edit_while_nothing_ran_is_reported_only_at_the_next_start(folders: Folders) -> None:
    folders.signal.write_text(SIGNAL.replace("* 2", "* 2.5"), encoding="utf-8")
    folders.start()
    (said,) = folders.look()
    assert "the `version` of doubled has not" in said
    folders.start()
    assert folders.look() == []


@pytest.mark.parametrize(
    "text", ["", "[]", '{"python": "3.11", "files": {"a": 1}}', '{"python": "2.7.18", "files": {}}']
)
def test_an_unusable_record_is_rewritten(folders: Folders, text: str) -> None:
    whole = folders.record.read_text(encoding="utf-8")
    folders.record.write_text(text, encoding="utf-8")
    folders.start()
    assert folders.look() == []
    assert folders.record.read_text(encoding="utf-8") == whole


def test_edits_are_reported_even_if_the_record_cannot_be_written(folders: Folders) -> None:
    folders.record.unlink()
    folders.record.mkdir()
    assert len(folders.edit(folders.signal, "* 2", "* 2.5")) == 1
