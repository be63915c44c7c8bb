"""Dagster as parts of the stack: code server, daemon and webserver, their commands and their files.

`dagster dev` starts the same three, one after another, from a process that imports Dagster for nothing else, and ends
all of them when one has ended. Here they are children of `up` itself: they import at the same time, and each is
restarted alone. The code server starts a child that holds the definitions. When that child ends, nobody restarts it; a
reload of the code location makes a new one. Dagster is never imported here.
"""

import atexit
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from signal import Signals
from tempfile import mkdtemp
from typing import Any

from ema_assets.config.settings import Settings, without_provider_keys
from ema_assets.model.errors import ConfigurationError
from ema_assets.runtime import processes
from ema_assets.runtime.code_location import CodeLocation
from ema_assets.runtime.services import HOST, Service, answers
from ema_assets.runtime.supervisor import Program, Supervisor

STORAGE = ("ema_assets.defs.storage", "MarketPostgresStorage")
_MODULE = "ema_assets.definitions"
# The longest path of a socket, in bytes: Linux allows 107, macOS 103.
_LONGEST_PATH = 103


class CodeServer(Service):
    """The code server.

    It loads the definitions, and reloads them on request. Its address is a socket of the file system.

    When reloads do not bring its own child back, it is restarted.
    """

    def __init__(self, supervisor: Supervisor, program: Program, socket: Path, location: CodeLocation) -> None:
        # Dagster makes the socket when the definitions are loaded.
        super().__init__(supervisor, program, socket.exists, f"at {socket}")
        self._socket = socket
        self._location = location
        # Pid and identity of its child.
        self._server: tuple[int, int] | None = None

    def spawn(self) -> None:
        """Start it. A socket that an earlier server has left is deleted first."""
        self._socket.unlink(missing_ok=True)
        super().spawn()
        self._location.begin_anew(self._is_served)

    def failure(self) -> str | None:
        """Return how it has ended, or that the definitions do not come back; None when all is well."""
        return super().failure() or self._location.lost()

    def _is_served(self) -> bool:
        """Return whether its own child, which holds the definitions, is alive."""
        if self._child is None or self._child.has_ended():
            return True  # `failure` reports that.
        if self._server is None or processes.identity(self._server[0]) != self._server[1]:
            found = processes.children(self._child.pid)
            self._server = (found[0], processes.identity(found[0])) if found else None
        return self._server is not None


@dataclass(frozen=True, slots=True)
class Programs:
    """The three commands, and the socket on which the code server listens."""

    code_server: Program
    daemon: Program
    webserver: Program
    socket: Path


def parts(supervisor: Supervisor, programs: Programs, ui: str, location: CodeLocation) -> list[Service]:
    """Start all three at once and wait for the webserver, which waits for the code server.

    Return them in order of need.
    """
    code_server = CodeServer(supervisor, programs.code_server, programs.socket, location)
    daemon = Service(supervisor, programs.daemon, lambda: True, "")
    webserver = Service(supervisor, programs.webserver, answers(f"{ui}/server_info"), f"at {ui}")
    for each in (code_server, daemon, webserver):
        each.spawn()
    webserver.wait(code_server, daemon)
    return [code_server, webserver, daemon]


def programs(settings: Settings, env: dict[str, str], port: int) -> Programs:
    """Write the file that names the code server, and return the commands. SIGINT to each process alone stops it.

    It then stops its own children.
    """
    folder = settings.dagster_home
    socket = _socket(folder)
    workspace = folder / "up" / "workspace.yaml"
    workspace.parent.mkdir(parents=True, exist_ok=True)
    server = {"location_name": _MODULE, "socket": str(socket), "additional_metadata": {"module_name": _MODULE}}
    # JSON is valid YAML.
    workspace.write_text(json.dumps({"load_from": [{"grpc_server": server}]}), encoding="utf-8")
    log_format: list[str | Path] = ["--log-format", "json" if settings.log_format == "json" else "colored"]
    target: list[str | Path] = ["--workspace", workspace, *log_format]

    def program(name: str, *argv: str | Path) -> Program:
        return Program(
            name,
            [sys.executable, "-m", "ema_assets.defs.command", *argv],
            # With it, Dagster logs errors of definitions once, and without its own frames.
            {**env, "DAGSTER_IS_DEV_CLI": "1"},
            settings.logs_folder / "dagster.log",
            # Not the current folder: Dagster would find its dagster.yaml in addition to DAGSTER_HOME and warn.
            cwd=folder,
            stop_signal=Signals.SIGINT,
            stop_main_only=True,
            grace_seconds=20.0,
        )

    code_server: list[str | Path] = ["dagster._cli", "code-server", "start", "--socket", socket, *log_format]
    code_server += ["--log-level", "warning", "--inject-env-vars-from-instance"]
    code_server += ["--location-name", _MODULE, "--module-name", _MODULE]
    web = program(
        "Dagster's webserver",
        *("--after", socket, "ema_assets.defs.webserver", "--host", HOST, "--port", str(port)),
        *("--dagster-log-level", "info", *target),
    )
    return Programs(
        code_server=program("Dagster's code server", *code_server),
        daemon=program("Dagster's daemon", "--after", socket, "dagster._daemon.cli", "run", *target),
        # Strangers can reach it.
        webserver=replace(web, env=without_provider_keys(web.env)),
        socket=socket,
    )


def _socket(folder: Path) -> Path:
    """Return a path where nobody else can put a socket, and that is short enough for one."""
    socket = folder.absolute() / "up" / "code_server"
    if len(bytes(socket)) <= _LONGEST_PATH:
        return socket
    own = mkdtemp(prefix="ema-assets-")
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    return Path(own) / "code_server"


def write_instance_file(settings: Settings, asked: Path | None, say: Callable[[str], None]) -> None:
    """Write DAGSTER_HOME/dagster.yaml: `asked`, or one of ours in the current folder, or that of the package.

    Raises:
        ConfigurationError: when `asked` cannot be read or is no YAML.
    """
    settings.dagster_home.mkdir(parents=True, exist_ok=True)
    text = resources.files("ema_assets").joinpath("dagster.yaml").read_text(encoding="utf-8")
    here = Path("dagster.yaml")
    if asked is not None:
        text = _readable(asked)
    elif here.exists():
        found = here.read_text(encoding="utf-8", errors="replace")
        if _is_ours(found):
            text = found
        else:
            say(f"{here.absolute()} is of another project and is not used; `--dagster-yaml` would use it.")
    (settings.dagster_home / "dagster.yaml").write_text(text, encoding="utf-8")


def _readable(path: Path) -> str:
    """Return the text of a file of settings, which Dagster would refuse with a traceback if they could not be read."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        settings = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        reason = error if mark is None else f"line {mark.line + 1}: {getattr(error, 'problem', None)}"
        raise ConfigurationError(f"{path}: not valid YAML: {reason}") from error
    if not isinstance(settings, dict | None):
        raise ConfigurationError(f"{path}: must have settings of Dagster by name, such as `storage:`")
    return text


def _is_ours(text: str) -> bool:
    """Return whether a dagster.yaml keeps runs and events where ours does, so was made from it."""
    import yaml

    try:
        custom: Any = yaml.safe_load(text)["storage"]["custom"]
        return (custom["module"], custom["class"]) == STORAGE
    except (yaml.YAMLError, LookupError, TypeError):
        return False
