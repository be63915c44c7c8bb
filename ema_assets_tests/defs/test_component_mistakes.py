"""Tests of mistakes in a `defs.yaml`, and of what the component says about them when it is loaded."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster import Definitions, multiprocess_executor
from dagster.components.testing import DefsFolderSandbox, create_defs_folder_sandbox

from ema_assets.defs.component import EmaAssetsComponent
from ema_assets.model.errors import ConfigurationError
from ema_assets_tests.defs.conftest import own_settings

TYPE = "ema_assets.defs.component.EmaAssetsComponent"
WATCHLIST: dict[str, Any] = {"timeframes": ["5m"], "group": [{"calendar": "24/7", "symbols": ["BTC-USD"]}]}
UNSET = "{{ env.EU_NOT_SET }}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DefsFolderSandbox]:
    own_settings(monkeypatch, tmp_path / "home")
    monkeypatch.delenv("EU_NOT_SET", raising=False)
    with create_defs_folder_sandbox() as sandbox:
        yield sandbox


def mistake(folder: DefsFolderSandbox) -> str:
    """Return the error because of which the definitions of `folder` do not load."""
    with pytest.raises(Exception, match="Error while building") as raised, folder.build_all_defs():
        pass
    assert isinstance(raised.value.__cause__, ConfigurationError)
    return str(raised.value.__cause__)


def write(folder: DefsFolderSandbox, name: str, *attributes: dict[str, Any]) -> Path:
    """Write a component with each of `attributes` into one `defs.yaml`."""
    path = folder.scaffold_component(EmaAssetsComponent, name) / "defs.yaml"
    path.write_text("---\n".join(yaml.safe_dump({"type": TYPE, "attributes": each}) for each in attributes))
    return path


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        *(
            ({name: UNSET}, f"`{name}` is in defs.yaml and has no value; set the variable that it names")
            for name in ("asset_key_prefix", "watchlist", "signals", "strategies")
        ),
        ({"variables": {"EMA_SWEEP_SECONDS": UNSET}}, "EMA_SWEEP_SECONDS is in `variables` and has no value"),
        ({"variables": {"EMA_HOME": "/x"}}, "`variables` must not name EMA_HOME; the attribute `home` says the same"),
        ({"watchlist": "watchlst.toml"}, "`watchlist` must be a file, received "),
        ({"provider": "yaho"}, "`provider` must be one of "),
        ({"database_url": "mysql://x@h/eu"}, "`database_url` must read postgresql://"),
        ({"signals": "nowhere"}, "`signals` must be a folder, received "),
        # YAML reads `off:` without quotes as this key.
        (
            {"watchlist": WATCHLIST | {"signals": {False: ["macd"]}}},
            "`watchlist.signals` has a key that YAML reads as ",
        ),
        ({"watchlist": WATCHLIST | {"timeframes": None}}, "`watchlist.timeframes` has no value"),
        (
            {"watchlist": WATCHLIST | {"group": [{"symbols": ["AAPL", None]}]}},
            "`watchlist.group.1.symbols.2` has no value",
        ),
    ],
)
def test_a_mistake_is_named_as_it_is_written_in_the_file(
    folder: DefsFolderSandbox, attributes: dict[str, Any], said: str
) -> None:
    write(folder, "eu", {"asset_key_prefix": "eu", "watchlist": WATCHLIST} | attributes)
    assert mistake(folder).startswith(said)


def test_a_key_that_yaml_reads_as_a_boolean_is_shown_with_the_quotes_that_it_needs(folder: DefsFolderSandbox) -> None:
    write(folder, "eu", {"asset_key_prefix": "eu", "watchlist": WATCHLIST | {"signals": {False: ["macd"]}}})
    assert mistake(folder).endswith('reads as false; write it in quotes, as in "off":')


def test_a_mistake_in_the_watchlist_of_a_defs_yaml_names_this_file_and_no_generated_one(
    folder: DefsFolderSandbox, tmp_path: Path
) -> None:
    """This mistake is found when the graph is built: the strategy `pullback` reads `wma`."""
    path = write(folder, "eu", {"asset_key_prefix": "eu", "watchlist": WATCHLIST | {"signals": {"off": ["wma"]}}})
    said = mistake(folder)
    assert said.startswith(f"{path}: watchlist: wma cannot be switched off while ")
    assert str(tmp_path / "home") not in said


@pytest.mark.parametrize("in_one_file", [False, True])
def test_two_components_with_one_prefix_are_refused_before_the_second_one_writes_anything(
    folder: DefsFolderSandbox, in_one_file: bool, tmp_path: Path
) -> None:
    first = {"asset_key_prefix": "eu", "watchlist": WATCHLIST}
    second = first | {"watchlist": WATCHLIST | {"timeframes": ["1h"]}}
    if in_one_file:
        path = write(folder, "a", first, second)
    else:
        path = write(folder, "a", first)
        write(folder, "b", second)
    said = f"`asset_key_prefix` 'eu' is also that of the component 0 in {path.parent}; give each its own"
    assert mistake(folder) == said
    assert 'timeframes = ["5m"]' in (tmp_path / "home" / "eu" / "watchlist.toml").read_text()


@pytest.mark.parametrize("prefix", ["", "eu"])
def test_a_component_leaves_the_executor_to_its_project_with_and_without_a_prefix(
    folder: DefsFolderSandbox, prefix: str
) -> None:
    write(folder, "eu", {"asset_key_prefix": prefix, "watchlist": WATCHLIST})
    with folder.build_all_defs() as defs:
        assert defs.executor is None
        assert Definitions.merge(defs, Definitions(executor=multiprocess_executor)).executor is multiprocess_executor


def test_a_component_can_be_loaded_again_after_its_folder_was_renamed(folder: DefsFolderSandbox) -> None:
    path = write(folder, "eu", {"asset_key_prefix": "eu", "watchlist": WATCHLIST}).parent
    with folder.build_all_defs() as before:
        path.rename(path.with_name("europe"))
        with folder.build_all_defs() as defs:
            assert before is not defs
            assert defs.resolve_job_def("eu__refresh").name == "eu__refresh"


@pytest.mark.parametrize("url", ["postgresql://b@h/x", "postgresql://a@h:5432/x", "postgresql+psycopg2://a@H/x"])
def test_two_components_with_different_urls_of_one_database_are_refused(folder: DefsFolderSandbox, url: str) -> None:
    for prefix, each in (("eu", "postgresql://a@h/x"), ("us", url)):
        write(folder, prefix, {"asset_key_prefix": prefix, "watchlist": WATCHLIST, "database_url": each})
    assert "must not share one database" in mistake(folder)
