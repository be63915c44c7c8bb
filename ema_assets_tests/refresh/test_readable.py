"""Readers of stored results get the valid part of the configuration, and the error of the rest."""

from pathlib import Path

import pytest

from ema_assets.config.watchlist import parse
from ema_assets.model.errors import ConfigurationError
from ema_assets.refresh.graph import Graph, build
from ema_assets.refresh.readable import readable
from ema_assets_tests.core import CORE_TEXT
from ema_assets_tests.families.test_a_new_rule import ROW, RULE
from ema_assets_tests.refresh.test_signals import TOY

BROKEN = "\nimport nowhere_to_be_found\n"
# Two strategies besides the built-in ones, and a custom signal with a parameter.
WATCHLIST = f"{CORE_TEXT}\n{ROW}\n" + '[[strategy]]\nname = "bears"\nrule = "crossover"\nside = "short"\n'
WATCHLIST += '[[group]]\ncalendar = "24/7"\nsymbols = ["BTC-USD"]\n'
PARAMETER = '[signals.below_high]\nbars = 5\n\n[[strategy]]\nname = "bears"'


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A valid signal and a valid rule, each in its folder."""
    signals, strategies = tmp_path / "signals", tmp_path / "strategies"
    signals.mkdir()
    strategies.mkdir()
    (signals / "below_high.py").write_text(TOY)
    (strategies / "strong.py").write_text(RULE)
    return signals, strategies


def read(watchlist: str, folders: tuple[Path, Path]) -> tuple[Graph, str | None]:
    watched = parse(watchlist, "watchlist.toml")
    said = None
    try:
        build(watched, *folders)
    except ConfigurationError as error:
        said = str(error)
    graph, wrong = readable(watched, *folders)
    assert wrong == said
    return graph, wrong


def test_a_valid_configuration_gives_the_usual_graph(folders: tuple[Path, Path]) -> None:
    graph, wrong = read(WATCHLIST, folders)
    assert wrong is None
    assert {"below_high", "strategy_strong", "strategy_bears"} <= graph.nodes.keys()


def test_a_rule_that_cannot_be_loaded_is_left_out_with_its_strategies(folders: tuple[Path, Path]) -> None:
    (folders[1] / "strong.py").write_text(BROKEN)
    graph, wrong = read(WATCHLIST, folders)
    assert (
        wrong
        == f"{folders[1] / 'strong.py'}: line 2: cannot be imported: ModuleNotFoundError: No module named 'nowhere_to_be_found'"
    )
    assert "strategy_strong" not in graph.nodes
    assert {"below_high", "strategy_9_30_ema", "strategy_bears"} <= graph.nodes.keys()


def test_a_broken_file_leaves_out_nothing_from_other_files(folders: tuple[Path, Path]) -> None:
    for folder in folders:
        (folder / "a_first.py").write_text(BROKEN)
    graph, wrong = read(WATCHLIST, folders)
    assert wrong is not None
    assert "a_first.py: line 2" in wrong
    assert {"below_high", "strategy_strong", "strategy_bears"} <= graph.nodes.keys()


def test_a_signal_that_cannot_be_loaded_is_left_out_with_everything_that_reads_it(folders: tuple[Path, Path]) -> None:
    (folders[1] / "strong.py").write_text(RULE.replace("reads={}", 'reads={"below_high": ("below_high_pct",)}'))
    (folders[0] / "z_reader.py").write_text(
        TOY.replace('name="below_high"', 'name="reader"')
        .replace("below_high_pct", "reader_pct")
        .replace('{"ohlc": ("close",)}', '{"ohlc": ("close",), "below_high": ("below_high_pct",)}')
    )
    watchlist = WATCHLIST.replace('[[strategy]]\nname = "bears"', PARAMETER)
    graph, wrong = read(watchlist, folders)
    assert wrong is None
    assert graph.nodes["below_high"].params == {"bars": 5}
    (folders[0] / "below_high.py").write_text(BROKEN)
    graph, wrong = read(watchlist, folders)
    assert wrong is not None
    assert graph.nodes.keys().isdisjoint({"below_high", "reader", "strategy_strong"})
    assert {"rsi", "strategy_9_30_ema", "strategy_bears"} <= graph.nodes.keys()


def test_a_signal_is_kept_when_its_file_sorts_before_that_of_the_signal_it_reads(folders: tuple[Path, Path]) -> None:
    (folders[0] / "a_reader.py").write_text(
        TOY.replace('name="below_high"', 'name="reader"')
        .replace("below_high_pct", "reader_pct")
        .replace('{"ohlc": ("close",)}', '{"ohlc": ("close",), "below_high": ("below_high_pct",)}')
    )
    (folders[0] / "broken.py").write_text(BROKEN)
    graph, wrong = read(WATCHLIST, folders)
    assert wrong is not None
    assert {"reader", "below_high"} <= graph.nodes.keys()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("strength = 0.8", "strength = 8"),
        ("strength = 0.8", "strenght = 0.8"),
        ('rule = "strong_close"', 'rule = "strong_clse"'),
    ],
)
def test_a_mistake_in_a_row_leaves_out_only_that_strategy(folders: tuple[Path, Path], old: str, new: str) -> None:
    assert old in WATCHLIST
    graph, wrong = read(WATCHLIST.replace(old, new), folders)
    assert wrong is not None
    assert "strategy_strong" not in graph.nodes
    assert {"strategy_9_30_ema", "strategy_bears"} <= graph.nodes.keys()


def test_an_invalid_parameter_keeps_the_signal_with_its_default(folders: tuple[Path, Path]) -> None:
    watchlist = WATCHLIST.replace('[[strategy]]\nname = "bears"', PARAMETER.replace("= 5", "= 0"))
    graph, wrong = read(watchlist, folders)
    assert wrong == "watchlist.toml: signals.below_high: `bars` must be a whole number from 1 to 1000, received 0"
    assert graph.nodes["below_high"].params == {"bars": 3}
