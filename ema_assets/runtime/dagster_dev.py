"""`dagster dev` as a part of the stack: its command, its dagster.yaml, and what it does not restart by itself.

Measured with Dagster 1.13: when the webserver or the daemon ends, `dagster dev` ends within five seconds, with exit
code 0; all of it is started again then. When the proxy before the code server ends, `dagster dev` starts it again. When
the code server itself ends, nobody does; a reload of the code location makes a new one. Dagster is never imported here.
"""

import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from signal import Signals
from typing import Any

from ema_assets.config.settings import Settings
from ema_assets.runtime.code_location import CodeLocation
from ema_assets.runtime.services import HOST, Service
from ema_assets.runtime.supervisor import Program, Supervisor

STORAGE = ("ema_assets.defs.storage", "MarketPostgresStorage")


class DagsterDev(Service):
    """Webserver, daemon and code server. A code server that reloads do not bring back is a reason to start anew."""

    def __init__(self, supervisor: Supervisor, program: Program, ui: str, location: CodeLocation) -> None:
        super().__init__(supervisor, program, f"{ui}/server_info")
        self._location = location

    def start(self) -> None:
        """Start it and wait for its webserver."""
        self._location.forget_trouble()
        super().start()

    def failure(self) -> str | None:
        """How it has ended, or that its code server does not come back."""
        return super().failure() or self._location.lost()


def program(settings: Settings, env: dict[str, str], port: int) -> Program:
    """The command, stopped by SIGINT to itself alone: it then sees to its own children."""
    argv = [sys.executable, "-m", "dagster", "dev", "-m", "ema_assets.definitions", "-h", HOST, "-p", str(port)]
    if settings.log_format == "json":
        argv += ["--log-format", "json"]
    return Program(
        "dagster dev",
        argv,
        env,
        settings.logs_folder / "dagster.log",
        # Not the current folder: its dagster.yaml would be found beside DAGSTER_HOME and warned about.
        cwd=settings.dagster_home,
        stop_signal=Signals.SIGINT,
        stop_main_only=True,
        grace_seconds=20.0,
    )


def write_instance_file(settings: Settings, asked: Path | None, say: Callable[[str], None]) -> None:
    """Write DAGSTER_HOME/dagster.yaml: the one `asked` for, ours of the current folder, or that of the package."""
    settings.dagster_home.mkdir(parents=True, exist_ok=True)
    text = resources.files("ema_assets").joinpath("dagster.yaml").read_text(encoding="utf-8")
    here = Path("dagster.yaml")
    if asked is not None:
        text = asked.read_text(encoding="utf-8")
    elif here.exists():
        found = here.read_text(encoding="utf-8", errors="replace")
        if _is_ours(found):
            text = found
        else:
            say(f"{here.absolute()} is of another project and is not used; `--dagster-yaml` would use it.")
    (settings.dagster_home / "dagster.yaml").write_text(text, encoding="utf-8")


def _is_ours(text: str) -> bool:
    """Whether a dagster.yaml keeps runs and events where ours does, so was made from it."""
    import yaml

    try:
        custom: Any = yaml.safe_load(text)["storage"]["custom"]
        return (custom["module"], custom["class"]) == STORAGE
    except (yaml.YAMLError, LookupError, TypeError):
        return False
