"""Which rules are discovered, and how an invalid declaration is refused."""

import pkgutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ema_assets.config.settings import Settings
from ema_assets.model.declarations import Param
from ema_assets.model.errors import ConfigurationError
from ema_assets.strategies import rule_discovery, rules
from ema_assets.strategies.rule import Rule
from ema_assets.strategies.watchlist_rows import parse_variants
from ema_assets_tests.strategies.market import CROSSOVER, PULLBACK, RULES

# Reads only what always exists, and has no parameters.
PLAIN: dict[str, Any] = {
    "reads": {"ema_trend": ("crossover",)},
    "trend": "ema_trend",
    "params": {},
    "check": lambda _: None,
}
MINE = replace(CROSSOVER, name="mine", table=None, **PLAIN)


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch):
    """Discovers the rules of the package and of modules that the test declares."""

    def discover_with(**modules: Any) -> dict[str, Rule]:
        names = [each.name for each in pkgutil.iter_modules(rules.__path__)]
        for name, rule in modules.items():
            path = f"{rules.__name__}.{name}"
            module = ModuleType(path)
            if rule is not None:
                module.RULE = rule  # type: ignore[attr-defined]
            monkeypatch.setitem(sys.modules, path, module)
        listed = [type("Module", (), {"name": name}) for name in (*names, *modules)]
        monkeypatch.setattr(pkgutil, "iter_modules", lambda _: listed)
        return rule_discovery.discover()

    return discover_with


def test_the_rules_of_the_package_are_discovered_by_name() -> None:
    rules_by_name = rule_discovery.discover()
    assert rules_by_name["crossover"] is CROSSOVER
    assert rules_by_name["pullback"] is PULLBACK
    assert list(rules_by_name) == sorted(rules_by_name)


def test_another_module_adds_a_rule_in_the_order_of_names(beside) -> None:
    assert list(beside(mine=MINE)) == sorted([*RULES, "mine"])


@pytest.mark.parametrize(("rule", "received"), [(None, "nothing"), ("crossover", "a str")])
def test_a_module_that_declares_no_rule_is_named_in_the_error(beside, rule: object, received: str) -> None:
    with pytest.raises(
        ConfigurationError, match=f"strategies.rules.mine: must declare `RULE`.*; it declares {received}$"
    ):
        beside(mine=rule)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Mine"}, "`name` must be 1 to 24 lower-case letters, digits or _ and start with a letter, received 'Mine'"),
        ({"name": "m" * 25}, "`name` must be 1 to 24 lower-case letters"),
        ({"title": ""}, "rule `mine`: `title` must be a text, received ''"),
        ({"description": None}, "rule `mine`: `description` must be a text, received None"),
        ({"version": 2}, "rule `mine`: `version` must be a text, received 2"),
        ({"reads": ("ema_trend",)}, "rule `mine`: `reads` must give columns by asset"),
        ({"reads": {"ema_trend": "trend"}}, "rule `mine`: `reads` must give a tuple of column names for `ema_trend`, received 'trend'"),
        ({"reads": {"rsi": None}}, "rule `mine`: `reads` must give a tuple of column names for `rsi`, received None"),
        ({"reads": {"rsi": 5}}, "rule `mine`: `reads` must give a tuple of column names for `rsi`, received 5"),
        ({"reads": {"rsi": (5,)}}, r"rule `mine`: `reads` must give a tuple of column names for `rsi`, received \(5,\)"),
        ({"reads": {5: ("rsi",)}}, "rule `mine`: `reads` must give columns by the name of an asset, received 5"),
        ({"params": [Param(3, "")]}, "rule `mine`: `params` must give a Param by name, received "),
        ({"params": None}, "rule `mine`: `params` must give a Param by name, received None"),
        ({"params": {"bars": Param(None, "")}}, "rule `mine`: the default of `bars` must be a number, a text, True or False, received None"),  # type: ignore[arg-type]
        ({"exit_reasons": CROSSOVER.exit_reasons._replace(short="stop")}, "rule `mine`: a word of `exit_reasons` must not be one that every rule has, received 'stop'"),
        ({"reads": {"vwap": ("session",)}}, "rule `mine`: `reads` must not name symbol, .*, received 'session' of `vwap`"),
        ({"reads": {"ema_{span}": ("ema_9",)}}, "rule `mine`: `reads` must have only whole numbers among `params` in braces, received 'ema_{span}'"),
        ({"reads": {"ema_9": ("ema_{x}",)}, "params": {"x": Param(9.0, "")}}, "rule `mine`: `reads` must have only whole numbers .*, received 'ema_{x}'"),
        ({"trend": "rsi"}, "rule `mine`: `trend` must be ema_trend, or such as ema_trend_{fast}_{slow}, received 'rsi'"),
        ({"trend": 9}, "rule `mine`: `trend` must be ema_trend, .*, received 9"),
        ({"params": {"bars": 3}}, "rule `mine`: parameter `bars` must be a Param, received 3"),
        ({"params": {"bars": Param(0, "")}}, "rule `mine`: the default of `bars` must be 1 to 1000, received 0"),
        ({"params": {"fill": Param(1, "")}}, "rule `mine`: a parameter must not have the name of a key of every variant, received 'fill'"),
        ({"params": {"bars": Param(3, "")}, "check": lambda params: f"{params['bars']} is odd"}, "rule `mine`: its defaults do not fit together: 3 is odd"),
        ({"entry_reasons": ("a", "b")}, "rule `mine`: `entry_reasons` must be a BySide, received "),
        ({"exit_reasons": CROSSOVER.exit_reasons._replace(long="Too Late")}, "rule `mine`: a word of `exit_reasons` must be 1 to 48 lower-case"),
        ({"evaluate": None}, "rule `mine`: `evaluate` must be a function, received None"),
        ({"check": 5}, "rule `mine`: `check` must be a function, received 5"),
        ({"table": "mine"}, "rule `mine`: `table` must be strategy_ and a name of 1 to 24 characters, received 'mine'"),
        ({"table": 5}, "rule `mine`: `table` must be strategy_ and a name of 1 to 24 characters, received 5"),
        ({"table": "strategy_mine_4h"}, "rule `mine`: `table` must not end in _4h, as the tables of timeframes and states do"),
        ({"table": "strategy_performance"}, "rule `mine`: `table` must not be strategy_performance, which is another asset"),
        ({"table": "strategy_9_30_ema"}, "the table 'strategy_9_30_ema' is that of the rule `crossover` already, in .*rules.crossover"),
        ({"name": "crossover"}, "there is a rule `crossover` already, in ema_assets.strategies.rules.crossover"),
    ],
)  # fmt: skip
def test_an_invalid_declaration_is_refused_with_its_module_and_the_reason(
    beside, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"^ema_assets.strategies.rules.mine: {message}"):
        beside(mine=replace(MINE, **changes))


# --- a folder of custom rules -----------------------------------------------------------------------------------------

OWN = """
from dataclasses import replace
from ema_assets.strategies.rules.crossover import RULE as CROSSOVER

RULE = replace(CROSSOVER, name={name!r}, table=None)
"""


def test_each_file_of_a_folder_adds_a_rule_unless_its_name_starts_with_an_underscore(tmp_path: Path) -> None:
    (tmp_path / "any name.py").write_text(OWN.format(name="mine"))
    (tmp_path / "_helpers.py").write_text("1 / 0")
    assert list(rule_discovery.discover(tmp_path)) == sorted([*RULES, "mine"])
    assert "mine" not in rule_discovery.discover()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import polars\n1 / 0\n", ": line 2: cannot be imported: ZeroDivisionError: division by zero"),
        ("rule = 1\n", ": must declare `RULE`, a Rule of ema_assets.strategies.rule; it declares nothing"),
        (OWN.format(name="crossover"), ": there is a rule `crossover` already, in ema_assets.strategies.rules.crossover; names must differ"),
        (OWN.format(name="mine").replace("table=None", "table=None, check=lambda params: params['bars']"), ": rule `mine`: `check` must take the defaults: KeyError: 'bars'"),
    ],
)  # fmt: skip
def test_an_error_in_a_file_is_reported_with_its_path(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        rule_discovery.discover(tmp_path)
    assert str(caught.value) == f"{path}{message}"


def test_a_variant_with_the_table_of_a_rule_is_refused(tmp_path: Path) -> None:
    (tmp_path / "breakout.py").write_text(OWN.format(name="breakout").replace("table=None", "table='strategy_mine'"))
    with pytest.raises(ConfigurationError, match="^watchlist: strategy 'mine': `name` 'mine' would be the table of the default variant, which is called 'breakout'$"):  # fmt: skip
        parse_variants([{"name": "mine", "rule": "crossover"}], "watchlist", tmp_path)


def test_a_missing_folder_is_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="none: there is no such folder of strategies$"):
        rule_discovery.discover(tmp_path / "none")


def test_the_folder_is_the_configured_one_or_strategies_in_the_home_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="`EMA_STRATEGIES_FOLDER` must be a folder"):
        Settings.from_env({"EMA_STRATEGIES_FOLDER": str(tmp_path / "none")})
    assert Settings.from_env({"EMA_HOME": str(tmp_path)}).strategies_folder is None
    (tmp_path / "strategies").mkdir()
    assert Settings.from_env({"EMA_HOME": str(tmp_path)}).strategies_folder == tmp_path / "strategies"
    assert Settings.from_env({"EMA_STRATEGIES_FOLDER": str(tmp_path)}).strategies_folder == tmp_path
