"""Tests of `ema-assets worker`: errors for missing requirements, and the Celery worker that it becomes."""

import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ema_assets.defs.run_coordinator import LaneRunCoordinator
from ema_assets.store import diagnosis, migrations
from ema_assets.store.database import Transaction
from ema_assets.store.migrations import all_migrations
from ema_assets_tests.cli.conftest import Refused, Run
from ema_assets_tests.conftest import Databases

REPOSITORY = Path(__file__).parents[2]
DEPLOYED = REPOSITORY / "deploy" / "celery" / "dagster.yaml"
BROKER = "pyamqp://guest:guest@127.0.0.1:5672//"
DATABASE = "postgresql://ema@127.0.0.1:9/ema"


def with_celery(monkeypatch: pytest.MonkeyPatch, *, is_here: bool) -> None:
    """Pretend that Celery is installed or not, and that the client of Redis is not."""
    find = importlib.util.find_spec
    installed = {"dagster_celery": object() if is_here else None, "redis": None}
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: installed[name] if name in installed else find(name, *more),
    )


def test_a_missing_requirement_is_reported_in_one_sentence(
    refused: Refused, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with_celery(monkeypatch, is_here=False)
    assert refused("worker") == "a worker needs Celery: pip install 'ema-assets[cluster]'"
    with_celery(monkeypatch, is_here=True)
    assert "`EMA_DATABASE_URL`" in refused("worker")
    assert "`EMA_CELERY_BROKER`" in refused("worker", EMA_DATABASE_URL=DATABASE)
    assert refused("worker", EMA_DATABASE_URL=DATABASE, EMA_CELERY_BROKER="redis://broker/0") == (
        "`EMA_CELERY_BROKER` is a Redis, which needs a package: pip install 'celery[redis]'"
    )
    for home, received in (("", "nothing"), (str(tmp_path), str(tmp_path))):
        said = refused("worker", EMA_DATABASE_URL=DATABASE, EMA_CELERY_BROKER=BROKER, DAGSTER_HOME=home)
        assert "`DAGSTER_HOME`" in said
        assert said.endswith(f"received {received}")
        assert "guest" not in said


def test_the_process_becomes_a_celery_worker(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_celery(monkeypatch, is_here=True)
    (tmp_path / "dagster.yaml").write_text(DEPLOYED.read_text())
    began: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _program, words: began.append(words))
    env = {"EMA_DATABASE_URL": DATABASE, "EMA_CELERY_BROKER": BROKER, "DAGSTER_HOME": str(tmp_path)}
    assert run("worker", "--processes", "3", "--runs-per-process", "20", **env).exit_code == 0
    ((python, *words),) = began
    assert python == sys.executable
    assert words[:5] == ["-m", "celery", "-A", "ema_assets.defs.celery_worker", "worker"]
    assert words[5:11] == ["-Q", "live,slow", "-c", "3", "--max-tasks-per-child", "20"]
    # Two workers with one name would block each other at the broker.
    assert words[words.index("-n") + 1] == f"live-slow-{os.getpid()}@%h"
    # `ps` shows the arguments to all users, so the password must not be among them.
    assert "guest" not in " ".join(words)
    assert importlib.util.find_spec("ema_assets.defs.celery_worker") is not None


def test_a_worker_with_an_unreadable_watchlist_does_not_start(
    refused: Refused, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Otherwise each run would fail and be launched again. Only runs of components need no watchlist."""
    with_celery(monkeypatch, is_here=True)
    (tmp_path / "dagster.yaml").write_text(DEPLOYED.read_text())
    monkeypatch.setattr(os, "execv", lambda *_: None)
    env = {"EMA_DATABASE_URL": DATABASE, "EMA_CELERY_BROKER": BROKER, "DAGSTER_HOME": str(tmp_path)}
    absent, wrong = tmp_path / "absent.toml", tmp_path / "wrong.toml"
    assert refused("worker", EMA_WATCHLIST=str(absent), **env).startswith(f"{absent}: no such file")
    wrong.write_text("timeframes = 5")
    assert str(wrong) in refused("worker", EMA_WATCHLIST=str(wrong), **env)
    home = tmp_path / "new"
    said = run("worker", EMA_HOME=str(home), EMA_WATCHLIST="", **env)
    assert said.exit_code == 0
    assert said.stderr.startswith(
        f"This worker has no watchlist at {home / 'watchlist.toml'}: only runs of a component"
    )


def test_a_worker_that_cannot_use_the_database_does_not_start(
    refused: Refused, databases: Databases, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Otherwise it would lose each run that it takes from the broker."""
    with_celery(monkeypatch, is_here=True)
    (tmp_path / "dagster.yaml").write_text(DEPLOYED.read_text())
    url = databases.make()
    env = {"EMA_DATABASE_URL": url, "EMA_CELERY_BROKER": BROKER, "DAGSTER_HOME": str(tmp_path)}
    with monkeypatch.context() as patches:
        patches.setattr(diagnosis, "server", _read_only(diagnosis.server))
        assert "a worker writes, and the role " in refused("worker", **env)
    with monkeypatch.context() as patches:
        patches.setattr(migrations, "all_migrations", lambda: all_migrations()[:-1])
        assert "install the newer version" in refused("worker", **env)
    databases.drop(url)


def _read_only(look: Callable[[Transaction], diagnosis.Server]) -> Callable[[Transaction], diagnosis.Server]:
    return lambda transaction: replace(look(transaction), may_write=False)


def test_a_worker_can_be_limited_to_one_queue(
    run: Run, refused: Refused, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with_celery(monkeypatch, is_here=True)
    (tmp_path / "dagster.yaml").write_text(DEPLOYED.read_text())
    began: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _program, words: began.append(words))
    env = {"EMA_DATABASE_URL": DATABASE, "EMA_CELERY_BROKER": BROKER, "DAGSTER_HOME": str(tmp_path)}
    assert run("worker", "--queues", " live ", **env).exit_code == 0
    assert began[0][began[0].index("-Q") + 1] == "live"
    assert refused("worker", "--queues", "live,fast", **env) == (
        "`--queues` must be of live, slow, received 'live,fast'"
    )


def test_the_dagster_yaml_for_celery_differs_from_ours_only_in_coordinator_and_launcher() -> None:
    deployed: dict[str, Any] = yaml.safe_load(DEPLOYED.read_text())
    ours: dict[str, Any] = yaml.safe_load((REPOSITORY / "dagster.yaml").read_text())
    assert deployed.pop("run_launcher") == {
        "module": "ema_assets.defs.celery_launcher",
        "class": "LaneRunLauncher",
        "config": {"broker": {"env": "EMA_CELERY_BROKER"}},
    }
    assert importlib.util.find_spec("ema_assets.defs.celery_launcher") is not None
    assert deployed["run_coordinator"].pop("module") == LaneRunCoordinator.__module__
    assert deployed["run_coordinator"].pop("class") == LaneRunCoordinator.__name__
    del ours["run_launcher"], ours["run_coordinator"]["module"], ours["run_coordinator"]["class"]
    assert deployed == ours
