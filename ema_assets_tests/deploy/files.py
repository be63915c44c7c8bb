"""Reads the files of deploy/ for tests: YAML, and the variables that Compose inserts."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from click import Command, Context, Group

from ema_assets.cli import main

REPOSITORY = Path(__file__).parents[2]
DOCKER = REPOSITORY / "deploy" / "docker"
HELM = REPOSITORY / "deploy" / "helm"
# The variables that a user sets.
FILLED_IN = {"DATABASE_PASSWORD": "pAss1", "BROKER_PASSWORD": "pAss2", "EMA_PROVIDER": "alpaca"}

_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def loaded(path: Path) -> dict[str, Any]:
    """The content of a YAML file."""
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def filled_in(text: str, env: Mapping[str, str]) -> str:
    """`text` as Compose reads it with `env`. Raises KeyError if a required variable is not set."""

    def value(match: re.Match[str]) -> str:
        name, kind, rest = match.groups()
        return env.get(name) or (rest if kind == "-" else env[name])

    return _VARIABLE.sub(value, text)


def environment_of(service: Mapping[str, Any], env: Mapping[str, str] = FILLED_IN) -> dict[str, str]:
    """The environment variables of a service."""
    return {name: filled_in(str(value), env) for name, value in service.get("environment", {}).items()}


def parse_ours(words: list[str]) -> None:
    """Parse the command `ema-assets …`. This fails for an unknown command or option."""
    command: Command = main
    arguments = list(words)
    while isinstance(command, Group):
        found = command.get_command(Context(command), arguments.pop(0))
        assert found is not None, words
        command = found
    command.make_context(" ".join(words), arguments, parent=Context(main, **main.context_settings))
