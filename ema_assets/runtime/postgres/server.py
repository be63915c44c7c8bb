"""The embedded server as the rest of the project sees it: start or attach, its URL, the lease, stop."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Self
from urllib.parse import quote

from ema_assets.model.errors import EmbeddedServerError
from ema_assets.runtime.postgres import cluster, identity, postmaster
from ema_assets.runtime.postgres.launch import Launch, dismiss, is_free, reap
from ema_assets.runtime.postgres.postmaster import DATABASE, HOST, USER
from ema_assets.runtime.postgres.server_files import (
    Files,
    Lease,
    give_to_the_owner,
    is_leased,
    locked,
    make_folder,
    write,
)


class EmbeddedServer:
    """The PostgreSQL server of one folder, shared by all processes that use it.

    A caller of `start` holds a lease until `stop`; the last one to give its lease back ends the server.

    Args:
        folder: where everything of the server lives; made when missing. May hold spaces.
        port: the TCP port on 127.0.0.1. None takes the port of the last start when it is free, otherwise any free one.
        start_timeout_seconds: how long `start` waits for the first login, crash recovery included.
    """

    def __init__(self, folder: Path, *, port: int | None = None, start_timeout_seconds: float = 120.0) -> None:
        self._files = Files(folder)
        self.folder = self._files.folder
        self._lease = Lease(self._files)
        self._configured_port = port
        self._start_timeout_seconds = start_timeout_seconds
        self._owned_pid: int | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def owned(self) -> bool:
        """Whether this object started the server."""
        return self._owned_pid is not None

    @property
    def pid(self) -> int | None:
        """Process id of the running postmaster, None when there is none."""
        running = postmaster.find(self._files)
        return running.pid if running else None

    @property
    def url(self) -> str:
        """`postgresql://ema@127.0.0.1:PORT/ema?passfile=…`: no password, only the path of the file that holds it.

        Raises:
            EmbeddedServerError: when no server of this folder is running.
        """
        url = read_running(self.folder)
        if url is None:
            raise EmbeddedServerError(f"no PostgreSQL is running in {self.folder}")
        return url

    def is_running(self) -> bool:
        """Return whether a server of this folder runs, whoever started it."""
        return postmaster.find(self._files) is not None

    def start(self, on_started: Callable[[int], object] | None = None) -> None:
        """Take a lease on the server. Start the server if it does not run, and wait until a login succeeds.

        The cluster is created if there is none. A lease that this object already holds is kept, so that a server that
        has died can be restarted.

        Args:
            on_started: called with the pid as soon as this call has started a server, before it is ready: whoever must
                stop the server if this process is killed needs to know it by then.

        Raises:
            EmbeddedServerError: when it does not start; the message ends with the last lines of its log.
        """
        make_folder(self.folder)
        self._hold(partial(self._launch, on_started=on_started))

    def attach(self) -> bool:
        """Take a lease if the server runs; return whether it does. Never starts a server."""
        return self.folder.exists() and self._hold(None)

    def keep_port(self) -> None:
        """Make later starts use the port of the running server or fail: others depend on its URL."""
        running = postmaster.find(self._files)
        if running is not None:
            self._configured_port = running.port

    def stop(self, *, force: bool = False) -> None:
        """Give the lease back, and end the server when no other process holds one. The data stay.

        With `force`, end it even if others use it. Clients are disconnected and their transactions rolled back (a fast
        shutdown); after 30 s the server is shut down immediately and recovers at its next start.

        Raises:
            EmbeddedServerError: when it cannot be signalled, or does not end.
        """
        if not (self._lease.is_taken or force) or not self.folder.exists():
            return
        with locked(self._files):
            self._owned_pid = None
            self._lease.give_back()
            running = postmaster.find(self._files)
            if running is not None and (force or not is_leased(self._files)):
                postmaster.end(running.pid)
                dismiss(self._files)
                reap()

    def _hold(self, launch: Callable[[float], int] | None) -> bool:
        """Take a lease on the server, started by `launch` if it does not run; return whether one runs."""
        deadline = time.monotonic() + self._start_timeout_seconds
        with locked(self._files):
            try:
                is_running = self._is_up(deadline)
                if not is_running and launch is not None:
                    self._owned_pid, is_running = launch(deadline), True
                if is_running:
                    self._lease.take()
            except OSError as error:
                raise EmbeddedServerError(f"the PostgreSQL in {self.folder} cannot be started: {error}") from error
            finally:
                give_to_the_owner(self._files)
            return is_running

    def _launch(self, deadline: float, on_started: Callable[[int], object] | None) -> int:
        """Start the server; return its pid."""
        if self._configured_port is not None and not is_free(self._configured_port):
            raise EmbeddedServerError(
                f"`port` {self._configured_port} is taken by another program: choose another, or none to have a "
                f"free one found"
            )
        programs = cluster.programs()
        user = identity.choose(self._files, programs)
        if not self._files.data.exists():
            cluster.create(self._files, programs, user)
        cluster.check_version(self._files, programs)
        return Launch(self._files, programs, user, self._configured_port, deadline, on_started).run()

    def _is_up(self, deadline: float) -> bool:
        """Return whether a server is already running, after waiting for one that is shutting down to end."""
        running = postmaster.find(self._files)
        if running is None:
            return False
        if self._configured_port is not None and running.port != self._configured_port:
            raise EmbeddedServerError(
                f"`port` must be {running.port} while the PostgreSQL in {self.folder} is running on it, "
                f"received {self._configured_port}"
            )
        self._owned_pid = running.pid if running.pid == self._owned_pid else None
        is_ready = postmaster.log_in_and_prepare(self._files, running.port, running.pid, deadline)
        if is_ready and not self._files.port.exists():
            write(self._files.port, f"{running.port}\n")  # the process that started it was killed just before doing so
        return is_ready


def read_running(folder: Path) -> str | None:
    """Return the URL of the server that runs in `folder`; None when none is ready.

    Starts nothing, waits for nothing.
    """
    files = Files(folder)
    running = postmaster.find(files)
    # Without a port of any earlier start, the database may not have been created yet.
    if running is None or not running.is_ready or not files.port.exists():
        return None
    return f"postgresql://{USER}@{HOST}:{running.port}/{DATABASE}?passfile={quote(str(files.passfile), safe='/')}"
