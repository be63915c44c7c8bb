"""Serves the sandbox on 127.0.0.1: blocking for the command line, in a thread for tests. Routes are not here."""

import errno
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import uvicorn

from ema_assets.model.errors import ConfigurationError
from ema_assets.model.symbols import Instrument
from ema_assets.sandbox.app import DEFAULT_REQUESTS_PER_MINUTE, create_app
from ema_assets.sandbox.exchange import Clock, Sandbox

HOST = "127.0.0.1"
_START_SECONDS = 60.0  # enough for a machine under load
_UNIVERSE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class RunningSandbox:
    """The base URL of a sandbox, and its handle with `handle.faults`, `handle.stats` and `handle.market`."""

    base_url: str
    handle: Sandbox


def serve(
    port: int,
    universe: Callable[[], Sequence[Instrument]],
    seed: int,
    *,
    started: Callable[[str], None] = lambda _base_url: None,
    clock: Clock | None = None,
    requests_per_minute: int = DEFAULT_REQUESTS_PER_MINUTE,
    required_keys: tuple[str, str] | None = None,
) -> None:
    """Serve on 127.0.0.1 until SIGINT or SIGTERM. `started` is called with the base URL. Only errors are logged.

    `universe` is called again every two seconds, so that new symbols of the watchlist are known here, too. When it
    raises a ConfigurationError, the last valid result stays.

    Raises:
        ConfigurationError: when `port` is taken or cannot be used.
    """
    with _listen(port) as listener:
        known = universe()
        app = create_app(known, seed, clock=clock, requests_per_minute=requests_per_minute, required_keys=required_keys)
        follower = threading.Thread(target=_follow, args=(app.state.sandbox, known, universe), daemon=True)
        follower.start()
        started(f"http://{HOST}:{listener.getsockname()[1]}")
        _server(app).run(sockets=[listener])


def _follow(sandbox: Sandbox, known: Sequence[Instrument], universe: Callable[[], Sequence[Instrument]]) -> None:
    while True:
        time.sleep(_UNIVERSE_SECONDS)
        with suppress(ConfigurationError):
            newest = universe()
            if newest != known:
                known = newest
                sandbox.set_universe(newest)


@contextmanager
def running_sandbox(
    universe: Sequence[Instrument],
    seed: int = 7,
    *,
    port: int = 0,
    clock: Clock | None = None,
    requests_per_minute: int = DEFAULT_REQUESTS_PER_MINUTE,
    required_keys: tuple[str, str] | None = None,
) -> Iterator[RunningSandbox]:
    """Serve from a background thread while the block runs. Port 0 takes a free port.

    Raises:
        ConfigurationError: when `port` is taken, or the server does not start within a minute.
    """
    app = create_app(universe, seed, clock=clock, requests_per_minute=requests_per_minute, required_keys=required_keys)
    with serving(app, port) as base_url:
        yield RunningSandbox(base_url, app.state.sandbox)


@contextmanager
def serving(app: object, port: int = 0) -> Iterator[str]:
    """Serve any ASGI app on 127.0.0.1 from a background thread, and yield its base URL.

    Raises:
        ConfigurationError: when `port` is taken, or the server does not start within a minute.
    """
    with _listen(port) as listener:
        server = _server(app)
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listener]}, name="ema-assets-sandbox", daemon=True
        )
        thread.start()
        try:
            deadline = threading.Event()
            for _ in range(int(_START_SECONDS / 0.01)):
                if server.started or not thread.is_alive():
                    break
                deadline.wait(0.01)
            if not server.started:
                raise ConfigurationError(f"the sandbox did not start on {HOST} within {_START_SECONDS:g} seconds")
            yield f"http://{HOST}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=_START_SECONDS)


def _listen(port: int) -> socket.socket:
    # The socket is bound here because uvicorn would exit the process when the port is taken.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        listener.close()
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise ConfigurationError(
                f"port {port} on {HOST} is already in use: stop what listens there or choose another port"
            ) from None
        raise ConfigurationError(f"port {port} on {HOST} cannot be used: {error}") from None
    return listener


def _server(app: object) -> uvicorn.Server:
    logging.getLogger("uvicorn.error").addFilter(_without_cut_bodies)
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        access_log=False,
        log_config=None,
        log_level="error",
        lifespan="off",
        timeout_graceful_shutdown=1,
        ws="none",
    )
    return uvicorn.Server(config)


def _without_cut_bodies(record: logging.LogRecord) -> bool:
    """Drop uvicorn's messages about bodies that are cut on purpose."""
    return "without completing response" not in record.getMessage()
