"""A web server that receives messages as Apprise sends them to `json://`, and can refuse them or hang."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ema_assets_tests.waiting import GIVEN_UP_AFTER_SECONDS


class Webhook:
    """The received messages, in order. Messages are refused while `status` is not 200.

    Answers wait until `gate` is set. Messages to a topic in `refused_topics` are always refused, as by ntfy.
    `location` and `retry_after` are the values of the headers `Location` and `Retry-After` of answers.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.status = 200
        self.location: str | None = None
        self.retry_after: str | None = None
        self.refused_topics: set[str] = set()
        self.gets = 0
        self.gate = threading.Event()
        self.gate.set()
        self.received: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        """The URL for a channel."""
        return f"json://127.0.0.1:{self.port}/hook"

    @property
    def titles(self) -> list[str]:
        """The titles of all received messages."""
        return [str(message["title"]) for message in self.received]

    @property
    def lines(self) -> list[str]:
        """The lines of the bodies of all received messages."""
        return [line for message in self.received for line in str(message["message"]).splitlines()]


@contextmanager
def webhook() -> Iterator[Webhook]:
    """A server on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            hook.received.append(body)
            hook.gate.wait(GIVEN_UP_AFTER_SECONDS)
            try:
                self.send_response(503 if body.get("topic") in hook.refused_topics else hook.status)
                if hook.location is not None:
                    self.send_header("Location", hook.location)
                if hook.retry_after is not None:
                    self.send_header("Retry-After", hook.retry_after)
                self.end_headers()
            except OSError:
                pass  # the sender has closed the connection

        def do_GET(self) -> None:
            hook.gets += 1
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hook = Webhook(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hook
    finally:
        hook.gate.set()
        server.shutdown()
        server.server_close()
        thread.join()
