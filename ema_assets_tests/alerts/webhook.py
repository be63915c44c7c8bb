"""A web server that takes messages as `json://` of Apprise sends them, and can refuse them or hang."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ema_assets_tests.waiting import GIVEN_UP_AFTER_SECONDS


class Webhook:
    """What came in, in order. While `status` is not 200 messages are refused; while `gate` is clear answers wait.

    So are always those to a topic in `refused_topics`, as ntfy has topics.
    `location` is where answers lead that are redirects, `retry_after` what they say of the next attempt.
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
        """As a channel has it."""
        return f"json://127.0.0.1:{self.port}/hook"

    @property
    def titles(self) -> list[str]:
        """Of all messages that came in."""
        return [str(message["title"]) for message in self.received]

    @property
    def lines(self) -> list[str]:
        """Of the bodies of all messages."""
        return [line for message in self.received for line in str(message["message"]).splitlines()]


@contextmanager
def webhook() -> Iterator[Webhook]:
    """A server on a port of its own."""

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
                pass  # whoever has sent it is gone

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
