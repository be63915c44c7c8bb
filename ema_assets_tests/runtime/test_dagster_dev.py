"""Which dagster.yaml `up` gives to Dagster, and that our questions are ones that Dagster answers."""

from importlib import resources
from pathlib import Path

import pytest

from ema_assets.config.settings import Settings
from ema_assets.runtime import code_location, dagster_dev

OURS = resources.files("ema_assets").joinpath("dagster.yaml").read_text(encoding="utf-8")
OTHERS = {
    "another storage": "storage:\n  postgres:\n    postgres_url: postgresql://x/y\n",
    "another class": "storage:\n  custom:\n    module: theirs.storage\n    class: TheirStorage\n",
    "no storage": "telemetry:\n  enabled: false\n",
    "ours only in a comment": "# storage: custom: module: ema_assets.defs.storage, class: MarketPostgresStorage\n",
    "empty": "",
    "a list": "- 1\n",
    "no YAML": "storage: [\n",
}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return Settings.from_env({"EMA_HOME": str(tmp_path / "home")})


def written(settings: Settings, asked: Path | None = None) -> tuple[str, list[str]]:
    said: list[str] = []
    dagster_dev.write_instance_file(settings, asked, said.append)
    return (settings.dagster_home / "dagster.yaml").read_text(), said


def test_where_there_is_none_that_of_the_package_is_used(settings: Settings) -> None:
    assert written(settings) == (OURS, [])


@pytest.mark.parametrize("kind", OTHERS)
def test_the_file_of_another_project_is_not_used_and_one_line_says_so(settings: Settings, kind: str) -> None:
    Path("dagster.yaml").write_text(OTHERS[kind])
    text, said = written(settings)
    assert text == OURS
    (line,) = said
    assert line.startswith(f"{Path.cwd() / 'dagster.yaml'} is of another project and is not used")
    assert "--dagster-yaml" in line


def test_a_file_that_was_made_from_ours_is_used(settings: Settings) -> None:
    mine = OURS.replace("max_concurrent_runs: 4", "max_concurrent_runs: 9")
    assert mine != OURS
    Path("dagster.yaml").write_text(mine)
    assert written(settings) == (mine, [])


def test_any_file_is_used_when_it_is_asked_for(settings: Settings, tmp_path: Path) -> None:
    Path("dagster.yaml").write_text(OURS)
    asked = tmp_path / "theirs.yaml"
    asked.write_text(OTHERS["another storage"])
    assert written(settings, asked) == (OTHERS["another storage"], [])


@pytest.mark.parametrize("text", [code_location._ASK, code_location._RELOAD])
def test_dagster_knows_what_it_is_asked(text: str) -> None:
    """The fields and types of its own schema; nothing is executed."""
    from dagster_graphql.schema import create_schema
    from graphql import parse, validate

    assert validate(create_schema().graphql_schema, parse(text)) == []
