"""The board on a socket: its address, and what happens when the port is taken. No routes here."""

import errno
import logging
import socket
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette

from ema_assets.model.errors import ConfigurationError
from ema_assets.model.same_origin import in_url

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 3001


def serve(app: Starlette, host: str, port: int, started: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; `started` receives the address. Port 0 takes a free one.

    Raises:
        ConfigurationError: when the port is taken, or the address cannot be used.
    """
    with listen(host, port) as listener:
        started(f"http://{in_url(host)}:{listener.getsockname()[1]}")
        server(app).run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. It is bound here and not by uvicorn, which ends the process when the port is taken.

    Raises:
        ConfigurationError: as in `serve`.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(512)
    except (OSError, OverflowError) as error:
        listener.close()
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise ConfigurationError(
                f"port {port} on {host} is in use; stop what listens there, or choose another for the board with "
                f"`--port {port + 1}` (of `ema-assets up`: `--board-port {port + 1}`)"
            ) from None
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ConfigurationError(f"the board cannot listen on {host}, port {port}: {reason}") from None
    return listener


def server(app: Starlette) -> uvicorn.Server:
    """Return the server of `app`, to be run on listening sockets."""
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    config = uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        log_level="warning",
        timeout_graceful_shutdown=1,
        ws="none",
        server_header=False,
    )
    return uvicorn.Server(config)
