"""Tests of deploy/docker/ that need no Docker: commands, variables, ports, keys, the image and its health check."""

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from dagster._cli.code_server import start_command
from dagster._daemon.cli import run_command

from ema_assets.config.settings import DAGSTER_EVENT_VARIABLES, Settings, without_provider_keys
from ema_assets_tests.deploy.files import (
    DOCKER,
    FILLED_IN,
    REPOSITORY,
    environment_of,
    filled_in,
    loaded,
    parse_ours,
)

COMPOSE, CELERY = loaded(DOCKER / "compose.yaml"), loaded(DOCKER / "compose.celery.yaml")
DOCKERFILE = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
LAST_STAGE = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
OURS = {
    **{name: each for name, each in COMPOSE["services"].items() if name != "postgres"},
    "worker": CELERY["services"]["worker"],
}
# These services execute ticks and runs. No other service calls a provider.
CALL_PROVIDERS = {"code", "daemon", "worker"}
HOME = "/opt/dagster/dagster_home"


# --- services ---------------------------------------------------------------------------------------------------------


def test_each_service_runs_a_valid_command_of_ema_assets_or_dagster() -> None:
    for name, service in OURS.items():
        match service["command"]:
            case ["ema-assets", *words]:
                parse_ours(words)
            case ["python", "-m", module, *_]:
                assert importlib.util.find_spec(module) is not None, name
            case ["dagster-daemon", "run", *words]:
                here = [word.replace(HOME, str(DOCKER)) for word in words]
                assert run_command.make_context("run", here).params["workspace"] == (str(DOCKER / "workspace.yaml"),)
            case ["dagster", "code-server", "start", *words]:
                assert start_command.make_context("start", words).params["port"] == 4000
            case other:
                pytest.fail(f"{name}: {other}")


def test_the_services_of_dagster_log_in_the_format_of_the_image() -> None:
    (log_format,) = re.findall(r"EMA_LOG_FORMAT=(\w+)", DOCKERFILE)
    (of_image,) = re.findall(r"^CMD (\[.*\])$", LAST_STAGE, re.MULTILINE)
    commands = [json.loads(of_image), *(OURS[name]["command"] for name in ("code", "daemon", "webserver"))]
    assert [command[command.index("--log-format") + 1] for command in commands] == [log_format] * 4


def test_the_ui_is_the_guarded_webserver_and_ports_are_published_only_on_this_machine() -> None:
    assert OURS["webserver"]["command"][:3] == ["python", "-m", "ema_assets.defs.webserver"]
    services = [*COMPOSE["services"].items(), *CELERY["services"].items()]
    published = {name: service["ports"] for name, service in services if "ports" in service}
    ports = {"webserver": 3000, "board": 3001, "metrics": 9464}
    assert published == {name: [f"127.0.0.1:{port}:{port}"] for name, port in ports.items()}
    assert not any("network_mode" in service or "privileged" in service for _, service in services)


def test_only_services_that_call_providers_have_their_keys() -> None:
    keys = {"APCA_API_KEY_ID": "id", "APCA_API_SECRET_KEY": "secret"}
    for name, service in OURS.items():
        env = environment_of(service, {**FILLED_IN, **keys})
        assert (without_provider_keys(env) != env) == (name in CALL_PROVIDERS), name
        assert not {"id", "secret"} & set(without_provider_keys(env).values()), name
    # With Celery, the daemon only passes runs on.
    daemon = environment_of(CELERY["services"]["daemon"])
    assert {name: daemon[name] for name in keys} == dict.fromkeys(keys, "")
    assert {name for name, each in CELERY["services"].items() if "EMA_CELERY_BROKER" in each["environment"]} == {
        "daemon",
        "webserver",
        "worker",
    }


def test_the_variables_of_each_service_are_valid_settings() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "ema_assets").rglob("*.py"))
    known = set(re.findall(r'"((?:EMA|APCA)_[A-Z_]+)"', code))
    for name, service in OURS.items():
        env = environment_of(service, {**FILLED_IN, "APCA_API_KEY_ID": "id", "APCA_API_SECRET_KEY": "secret"})
        assert set(env) <= known, name
        # The folder deploy/docker/config is mounted at /etc/ema-assets.
        here = {variable: value.replace("/etc/ema-assets", str(DOCKER / "config")) for variable, value in env.items()}
        settings = Settings.from_env(here)
        assert settings.provider == "alpaca", name
        assert settings.database_url == "postgresql://ema:pAss1@postgres:5432/ema", name
        assert settings.watchlist_path == DOCKER / "config" / "watchlist.toml", name
        assert settings.signals_folder == DOCKER / "config" / "signals", name


def test_compose_files_contain_no_passwords_and_no_defaults_for_them() -> None:
    for path in (DOCKER / "compose.yaml", DOCKER / "compose.celery.yaml"):
        text = path.read_text(encoding="utf-8")
        for line in re.findall(r"^.*(?:PASS|://ema:).*$", text, re.MULTILINE):
            assert re.search(r"\$\{\w+_PASSWORD:\?", line), line
        for missing in ("DATABASE_PASSWORD", "EMA_PROVIDER"):
            with pytest.raises(KeyError, match=missing):
                filled_in(text, {name: value for name, value in FILLED_IN.items() if name != missing})
    named = set(re.findall(r"^#? ?([A-Z_]+)=", (DOCKER / ".env.example").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(FILLED_IN) | {"APCA_API_KEY_ID", "APCA_API_SECRET_KEY", "EMA_ALLOWED_HOSTS", "IMAGE_EXTRAS"} <= named


def test_services_have_few_privileges_and_restart_after_failures() -> None:
    for name, service in OURS.items():
        assert service["image"] == "ema-assets", name
        assert service["cap_drop"] == ["ALL"], name
        assert service["read_only"] is True, name
        assert "user" not in service, name
        assert service["restart"] == ("on-failure:3" if name == "migrate" else "unless-stopped"), name
        mounted = {volume.split(":", 1)[1].rsplit("}:")[-1] for volume in service["volumes"]}
        assert mounted == {"/etc/ema-assets:ro", "/var/lib/ema-assets", f"{HOME}/storage"}, name
        assert "healthcheck" in service, name
        assert name == "migrate" or "m" in service["deploy"]["resources"]["reservations"]["memory"], name
    major = re.match(r"postgres:(\d+)", COMPOSE["services"]["postgres"]["image"])
    assert major is not None
    assert int(major[1]) >= 15
    # A run is tagged with the host of its process, so the next container must have the same host name.
    assert OURS["daemon"]["hostname"] == "daemon"


def test_the_workspace_names_the_service_and_the_port_of_the_code_location() -> None:
    ((location,),) = (each.values() for each in loaded(DOCKER / "workspace.yaml")["load_from"])
    assert location["host"] in COMPOSE["services"]
    assert COMPOSE["services"][location["host"]]["expose"] == [str(location["port"])]


def test_the_services_use_the_dagster_yaml_of_one_machine_or_that_of_celery() -> None:
    assert loaded(DOCKER / "dagster.yaml") == loaded(REPOSITORY / "dagster.yaml")
    assert (DOCKER / CELERY["configs"]["instance"]["file"]).resolve() == REPOSITORY / "deploy/celery/dagster.yaml"
    mounted = {"source": "instance", "target": f"{HOME}/dagster.yaml"}
    assert {name for name, each in CELERY["services"].items() if each.get("configs") == [mounted]} == {
        "daemon",
        "webserver",
        "worker",
    }


def test_every_file_that_the_page_names_exists() -> None:
    page = (REPOSITORY / "docs" / "DOCKER.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\bdeploy/[\w./-]+\w", page)) - {"deploy/docker/.env", "deploy/docker/alerts.env"}
    assert len(named) >= 8
    assert [path for path in named if not (REPOSITORY / path).exists() and not path.endswith("watchlist.toml")] == []


# --- the image --------------------------------------------------------------------------------------------------------


def test_the_image_installs_the_locked_versions_and_does_not_run_as_root() -> None:
    installs = [line for line in DOCKERFILE.splitlines() if line.startswith("RUN uv pip install")]
    assert ["--constraints requirements.lock" in line or "--no-deps" in line for line in installs] == [True, True]
    assert DOCKERFILE.count("\nFROM ") == 2
    assert "pip" not in re.sub(r"#.*", "", LAST_STAGE)
    (user,) = re.findall(r"^USER (\d+):\d+$", LAST_STAGE, re.MULTILINE)
    assert int(user) > 0
    assert LAST_STAGE.index("\nUSER ") < LAST_STAGE.index("\nHEALTHCHECK ") < LAST_STAGE.index("\nCMD ")
    assert f"--uid {user} " in LAST_STAGE


def test_the_environment_of_the_image_has_the_variables_of_the_stack_and_no_secrets() -> None:
    (block,) = re.findall(r"^ENV (PATH=.*?[^\\])$", LAST_STAGE, re.MULTILINE | re.DOTALL)
    env = dict(line.strip(" \\").split("=", 1) for line in block.splitlines())
    assert {name: env[name] for name in DAGSTER_EVENT_VARIABLES} == DAGSTER_EVENT_VARIABLES
    assert env["DAGSTER_HOME"] == HOME
    assert Settings.from_env({name: value for name, value in env.items() if name != "EMA_HOME"}).log_format == "json"
    assert not re.search(r"PASSWORD|SECRET|DATABASE_URL|BROKER", block)


def is_sent(path: str) -> bool:
    """Whether .dockerignore lets `path` into the build context. The last line that matches decides."""
    sent = True
    for line in (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.removeprefix("!")
        if line and not line.startswith("#") and (fnmatch(path, pattern) or path.startswith(f"{pattern}/")):
            sent = line.startswith("!")
    return sent


def test_the_build_context_contains_what_the_image_copies_and_no_secrets() -> None:
    copied = [
        word for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE) for word in line.split()[:-1]
    ]
    assert "requirements.lock" in copied
    assert [path for path in copied if not (REPOSITORY / path).exists() or not is_sent(path)] == []
    secret = (".env", "deploy/docker/.env", "deploy/docker/alerts.env", ".git/config", ".ema/postgres/passfile")
    assert [path for path in secret if is_sent(path)] == []


def test_the_command_dagster_webserver_runs_the_guarded_webserver(tmp_path: Path) -> None:
    script = DOCKER / "dagster-webserver"
    assert os.access(script, os.X_OK)
    (tmp_path / "python").write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    (tmp_path / "python").chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run([script, "-p", "80", "a b"], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "-m|ema_assets.defs.webserver|-p|80|a b|"


# --- the health check -------------------------------------------------------------------------------------------------


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/server_info" else 204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), _Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def healthy() -> ModuleType:
    spec = importlib.util.spec_from_file_location("healthy", DOCKER / "healthy.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_health_check_imports_only_the_standard_library() -> None:
    """It runs every few seconds, and an import of Dagster takes two CPU seconds."""
    tree = ast.walk(ast.parse((DOCKER / "healthy.py").read_text()))
    imported = {
        name
        for node in tree
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom)
            else [each.name for each in node.names] if isinstance(node, ast.Import)
            else []
        )
    }  # fmt: skip
    assert "socket" in imported
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names


def test_a_service_that_answers_is_healthy(healthy: ModuleType, port: int) -> None:
    assert healthy.problem(f"http://127.0.0.1:{port}/server_info") is None
    assert healthy.problem(f"tcp://127.0.0.1:{port}") is None


@pytest.mark.broad
def test_a_service_with_another_answer_or_no_answer_is_not_healthy(healthy: ModuleType, port: int) -> None:
    assert healthy.problem(f"http://127.0.0.1:{port}/other") == f"http://127.0.0.1:{port}/other answers 204"
    for url in ("tcp://127.0.0.1:1", "http://127.0.0.1:1/server_info", "tcp://127.0.0.1"):
        assert healthy.problem(url).startswith(f"{url}: ")
