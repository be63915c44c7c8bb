"""The parts of the stack: PostgreSQL, and children that answer over HTTP. How they start, and whether they run."""

import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from ema_assets.config.settings import DAGSTER_EVENT_VARIABLES, Settings, without_provider_keys
from ema_assets.model.errors import EmaAssetsError
from ema_assets.runtime.postgres.server import EmbeddedServer
from ema_assets.runtime.supervisor import Child, Program, Supervisor

HOST = "127.0.0.1"
_START_SECONDS = 120.0
_GLANCE_SECONDS = 0.1


class Postgres:
    """The embedded server as a part of the stack. A restart keeps its port, because the children use its URL."""

    name = "PostgreSQL"

    def __init__(self, folder: Path, supervisor: Supervisor) -> None:
        self._server = EmbeddedServer(folder)
        self._supervisor = supervisor
        self._pid: int | None = None

    @property
    def url(self) -> str:
        """Its URL, the same after every start."""
        return self._server.url

    def start(self) -> None:
        """Start it, or take a lease on one that another process has started."""
        # The supervisor knows it before it is ready: whenever `up` is killed, it leaves no server behind.
        self._server.start(self._use)
        self._server.keep_port()
        self._use(self._server.pid)

    def failure(self) -> str | None:
        """Return why it does not run, or None."""
        pid = self._server.pid
        if pid is None:
            return f"PostgreSQL (process {self._pid}) has ended; its log is in {self._server.folder / 'log'}"
        self._use(pid)
        return None

    def stop(self) -> bool:
        """Give the lease back; return True when other processes keep the server running."""
        self._server.stop()
        return self._server.is_running()

    def _use(self, pid: int | None) -> None:
        """Remember the process id, which differs when a command has restarted the server."""
        if pid is not None and pid != self._pid:
            self._pid = pid
            self._supervisor.on_orphan(pid, folder=self._server.folder)


class Service:
    """A child that is usable as soon as `is_ready`. Messages name `where`, the address at which it did not answer."""

    def __init__(self, supervisor: Supervisor, program: Program, is_ready: Callable[[], bool], where: str) -> None:
        self.name = program.name
        self._supervisor = supervisor
        self._program = program
        self._is_ready = is_ready
        self._where = where
        self._child: Child | None = None

    def start(self) -> None:
        """Start it and wait until it is usable.

        Raises:
            EmaAssetsError: when it ends instead, or does not answer in time.
        """
        self.spawn()
        self.wait()

    def spawn(self) -> None:
        """Start it; stop what is left of an earlier process first."""
        self._child = self._supervisor.spawn(self._program, instead_of=self._child)

    def wait(self, *needed: "Service") -> None:
        """Wait until it is usable. It fails when one of the `needed` services fails.

        Raises:
            EmaAssetsError: when one of them ends instead, or it does not answer in time.
        """
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            for each in (*needed, self):
                if (reason := each.failure()) is not None:
                    raise EmaAssetsError(reason)
            if self._is_ready():
                return
            time.sleep(_GLANCE_SECONDS)
        raise EmaAssetsError(
            f"{self.name} did not answer {self._where} within {_START_SECONDS:g} s; see {self._program.log_path}"
        )

    def failure(self) -> str | None:
        """Return how it has ended; None while it runs."""
        ended = self._child.exit() if self._child is not None else None
        return str(ended) if ended is not None else None


def answers(url: str) -> Callable[[], bool]:
    """Return a function that tells whether a server answers at `url`."""

    def is_answered() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - http://127.0.0.1
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    return is_answered


def _own_folders(settings: Settings) -> tuple[tuple[str, Path | None], ...]:
    return (
        ("EMA_SIGNALS_FOLDER", settings.signals_folder),
        ("EMA_STRATEGIES_FOLDER", settings.strategies_folder),
    )


def _module_folders(settings: Settings) -> dict[str, str]:
    """Return the children's PYTHONPATH, if it is set: own signals may import modules from there.

    Dagster leaves out the first folder of the search path while it loads the definitions. It takes that for the folder
    of the script, which PYTHONSAFEPATH has left out already. So the first one is a folder without modules.
    """
    folders = [str(Path(each).absolute()) for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    first = str(settings.dagster_home.absolute())
    return {"PYTHONPATH": os.pathsep.join([first, *folders])} if folders else {}


def environment(settings: Settings, url: str) -> dict[str, str]:
    """Return the children's environment. It names what this process has decided, so that they decide the same."""
    return {
        # A watchlist of thousands of new symbols takes one tick many seconds; Dagster's default limit is 60.
        "DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS": "300",
        **os.environ,
        "EMA_HOME": str(settings.home),
        "EMA_DATABASE_URL": url,
        "EMA_PROVIDER": settings.provider,
        "EMA_WATCHLIST": str(settings.watchlist_path),
        "DAGSTER_HOME": str(settings.dagster_home),
        # The children have another current folder.
        **{name: str(folder) for name, folder in _own_folders(settings) if os.environ.get(name)},
        **_module_folders(settings),
        **DAGSTER_EVENT_VARIABLES,
        "PYTHONUNBUFFERED": "1",
        # The current folder may hold a file with the name of a Python module, such as `secrets.py`.
        "PYTHONSAFEPATH": "1",
        # Dagster's notices about itself (beta parameters, `dg dev`) are nothing that a user of `up` can act on.
        "PYTHONWARNINGS": "ignore",
    }


def without_secrets(env: Mapping[str, str]) -> dict[str, str]:
    """Return `env` for a child that uses neither providers nor the database."""
    hidden = ("EMA_DATABASE_URL", "EMA_CELERY_BROKER", "PGPASSWORD", "PGPASSFILE")
    return {name: value for name, value in without_provider_keys(env).items() if name not in hidden}


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
