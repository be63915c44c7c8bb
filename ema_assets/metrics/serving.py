"""The server of /metrics. It answers only under the host names it was given, so that no web page can read it."""

import socket
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.registry import Collector

from ema_assets.model.same_origin import HERE, host_of, in_url

_TYPE = ("Content-Type", "text/plain; charset=utf-8")

Respond = Callable[[str, list[tuple[str, str]]], object]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the server listens: an address, a port (0 for a free one), and the host names under which it answers."""

    host: str = "127.0.0.1"
    port: int = 0
    names: Collection[str] = HERE

    def url(self, port: int) -> str:
        """Return the URL of the metrics on the `port` that was taken."""
        return f"http://{in_url(self.host)}:{port}/metrics"


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Log nothing: a line per scrape is of no use."""


def server(place: Place, collector: Collector) -> WSGIServer:
    """Return a server of the metrics of `collector`, bound to `place`. It serves in `serve_forever`.

    Raises:
        OSError: when it cannot listen there.
    """
    registry = CollectorRegistry()
    registry.register(collector)
    metrics: Callable[[dict[str, Any], Respond], Iterable[bytes]] = make_wsgi_app(registry)

    def app(environ: dict[str, Any], respond: Respond) -> Iterable[bytes]:
        if host_of(environ.get("HTTP_HOST", "")) not in place.names:
            respond("403 Forbidden", [_TYPE])
            return [f"the host must be one of {', '.join(sorted(place.names))}; `--allow-host` allows more\n".encode()]
        match environ["PATH_INFO"]:
            case "/metrics":
                return metrics(environ, respond)
            case "/":
                respond("200 OK", [_TYPE])
                return [b"metrics of ema-assets are at /metrics\n"]
        respond("404 Not Found", [_TYPE])
        return [b"metrics of ema-assets are at /metrics\n"]

    kind = _Server6 if ":" in place.host else _Server
    return make_server(place.host, place.port, app, server_class=kind, handler_class=_Quiet)


def serve(place: Place, collector: Collector, started: Callable[[str], object]) -> None:
    """Serve until the process ends. `started` is called with the URL.

    Raises:
        OSError: as in `server`.
    """
    with server(place, collector) as serving:
        started(place.url(serving.server_port))
        serving.serve_forever()
