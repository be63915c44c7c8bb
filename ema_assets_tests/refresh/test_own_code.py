"""Tests of which edition of a user's own file computes an asset."""

from pathlib import Path

import pytest

from ema_assets.config import watchlist
from ema_assets.refresh.graph import Graph, build
from ema_assets.refresh.own_code import edition_of, function_of
from ema_assets_tests.families.test_a_new_rule import RULE, WATCHLIST

SIGNAL = """
import polars as pl
from ema_assets.signals.declaration import Column, Signal
from ._helpers import doubled


def twice(bars, carried, params):
    return bars.select("symbol", "ts", twice=doubled(pl.col("close")))


SIGNAL = Signal(
    name="twice",
    version="1",
    description="Twice the close",
    reads={"ohlc": ("close",)},
    columns=(Column("twice", "float8", "A value"),),
    compute=twice,
    bars_before=lambda params: 0,
)
"""
HELPERS = "def doubled(column):\n    return column * 2\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "_helpers.py").write_text(HELPERS)
    (tmp_path / "twice.py").write_text(SIGNAL)
    return tmp_path


def graph(folder: Path) -> Graph:
    return build(watchlist.parse('[[group]]\ncalendar = "24/7"\nsymbols = ["BTC-USD"]\n'), folder)


@pytest.mark.parametrize("name", ["twice.py", "_helpers.py"])
def test_an_edit_of_a_signal_or_of_a_file_that_it_imports_is_another_edition(folder: Path, name: str) -> None:
    before = edition_of(graph(folder).nodes["twice"])
    assert before is not None
    assert edition_of(graph(folder).nodes["twice"]) == before
    path = folder / name
    path.write_text(path.read_text() + "\n# edited\n")
    assert edition_of(graph(folder).nodes["twice"]) not in {None, before}


def test_the_same_files_are_the_same_edition_on_every_host(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for path in folder.iterdir():
        (elsewhere / path.name).write_text(path.read_text())
    assert edition_of(graph(folder).nodes["twice"]) == edition_of(graph(elsewhere).nodes["twice"])


def test_code_of_the_package_has_no_edition(folder: Path) -> None:
    nodes = graph(folder).nodes
    assert [edition_of(nodes[name]) for name in ("ohlc", "rsi", "ema_trend", "strategy_9_30_ema")] == [None] * 4
    assert function_of(nodes["ohlc"]) is None


@pytest.mark.parametrize("callable_", ["partial(twice)", "partial(partial(twice))", "wraps(twice)(partial(twice))"])
def test_an_edit_of_a_signal_with_a_partial_function_is_another_edition(folder: Path, callable_: str) -> None:
    path = folder / "twice.py"
    edited = SIGNAL.replace("compute=twice", f"compute={callable_}")
    path.write_text(f"from functools import partial, wraps\n{edited}")
    before = edition_of(graph(folder).nodes["twice"])
    path.write_text(path.read_text() + "\n# edited\n")
    assert None not in {before, edition_of(graph(folder).nodes["twice"])}
    assert edition_of(graph(folder).nodes["twice"]) != before


def test_a_callable_without_code_of_its_own_has_no_edition(folder: Path) -> None:
    called = "\n\nclass Twice:\n    def __call__(self, *args):\n        return twice(*args)\n\n\nSIGNAL ="
    text = SIGNAL.replace("\n\nSIGNAL =", called).replace("compute=twice", "compute=Twice()")
    (folder / "twice.py").write_text(text)
    assert edition_of(graph(folder).nodes["twice"]) is None


def test_an_edit_of_a_rule_is_another_edition(tmp_path: Path) -> None:
    def edition() -> str | None:
        return edition_of(build(watchlist.parse(WATCHLIST), strategies_folder=tmp_path).nodes["strategy_strong"])

    (tmp_path / "strong.py").write_text(RULE)
    before = edition()
    (tmp_path / "strong.py").write_text(f"# edited\n{RULE}")
    assert edition() not in {None, before}
    assert before is not None
