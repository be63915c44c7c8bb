"""Tests of our webserver, which Dagster's commands start in place of theirs, and of how these commands start it."""

import inspect
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from dagster._cli import dev
from starlette.applications import Starlette

from ema_assets.config.settings import without_provider_keys
from ema_assets.defs import dev_command, webserver
from ema_assets.model.same_origin import SameOriginOnly


def started(monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[list[str], dict[str, Any]]:
    calls: list[tuple[list[str], dict[str, Any]]] = []

    def start(parts: Sequence[str], **options: Any) -> None:
        calls.append((list(parts), options))

    monkeypatch.setattr(dev_command, "_start", start)
    monkeypatch.setenv("APCA_API_KEY_ID", "a key")
    monkeypatch.setenv("APCA_API_SECRET_KEY", "a secret")
    monkeypatch.setenv("EMA_HOME", "home")
    dev_command.start([sys.executable, *words], pass_fds=[3])
    return calls[0]


def test_our_webserver_is_started_without_keys_of_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    words, options = started(monkeypatch, "-m", "dagster_webserver", "--port", "3000")
    assert words == [sys.executable, "-m", "ema_assets.defs.webserver", "--port", "3000"]
    assert options["pass_fds"] == [3]
    assert not options["env"].keys() & {"APCA_API_KEY_ID", "APCA_API_SECRET_KEY"}
    assert options["env"]["EMA_HOME"] == "home"


def test_the_daemon_is_started_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["-m", "dagster._daemon", "run"]
    assert started(monkeypatch, *words) == ([sys.executable, *words], {"pass_fds": [3]})


def test_dagster_still_starts_its_webserver_in_the_known_way() -> None:
    from dagster_webserver import cli  # takes half a second, and only this test needs it

    source = "".join(inspect.getsource(dev.dev_command_impl).split())
    assert 'open_ipc_subprocess([sys.executable,"-m","dagster_webserver"]' in source
    assert "create_app_from_workspace_process_context(" in inspect.getsource(
        cli.host_dagster_ui_with_workspace_process_context
    )


def test_the_app_of_dagster_is_behind_the_check_of_origins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webserver, "_make_app", lambda *_, **__: Starlette())
    assert isinstance(webserver._guarded(None, ""), SameOriginOnly)


def test_only_keys_of_providers_are_removed_from_the_environment() -> None:
    env = {"APCA_API_KEY_ID": "x", "APCA_API_SECRET_KEY": "y", "EMA_ALPACA_FEED": "iex", "PATH": "/bin"}
    assert without_provider_keys(env) == {"EMA_ALPACA_FEED": "iex", "PATH": "/bin"}
