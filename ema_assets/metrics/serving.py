"""The server of /metrics on 127.0.0.1. It answers to names of this machine only, so that no web page can read it."""

from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.registry import Collector

from ema_assets.model.same_origin import HERE, host_of

HOST = "127.0.0.1"
_TYPE = ("Content-Type", "text/plain; charset=utf-8")

Respond = Callable[[str, list[tuple[str, str]]], object]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Nothing: a line per scrape says nothing."""


def server(port: int, collector: Collector) -> WSGIServer:
    """A server of what `collector` gives, bound to `port`; 0 takes a free one. It serves in `serve_forever`."""
    registry = CollectorRegistry()
    registry.register(collector)
    metrics: Callable[[dict[str, Any], Respond], Iterable[bytes]] = make_wsgi_app(registry)

    def app(environ: dict[str, Any], respond: Respond) -> Iterable[bytes]:
        if host_of(environ.get("HTTP_HOST", "")) not in HERE:
            respond("403 Forbidden", [_TYPE])
            return [b"ask by 127.0.0.1 or localhost\n"]
        match environ["PATH_INFO"]:
            case "/metrics":
                return metrics(environ, respond)
            case "/":
                respond("200 OK", [_TYPE])
                return [b"metrics of ema-assets are at /metrics\n"]
        respond("404 Not Found", [_TYPE])
        return [b"metrics of ema-assets are at /metrics\n"]

    return make_server(HOST, port, app, server_class=_Server, handler_class=_Quiet)


def serve(port: int, collector: Collector, started: Callable[[int], object]) -> None:
    """Serve to the end of the process. `started` is told the port."""
    with server(port, collector) as serving:
        started(serving.server_port)
        serving.serve_forever()
