"""Tests of the reason that is reported for a channel that cannot be reached. Each reason needs another remedy."""

import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests

from ema_assets.alerts import sending
from ema_assets.alerts.channels import Channel
from ema_assets.alerts.messages import Message
from ema_assets.alerts.unreachable import why_unreachable

SECRET = "s3cret-t0ken"
MESSAGE = Message("title", "body", is_trouble=False)


@contextmanager
def serving(*answers: bytes) -> Iterator[int]:
    """A port whose server sends `answers` one by one, reads a line after each, and then closes the connection."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for answer in answers:
                self.wfile.write(answer)
                self.rfile.readline()

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def problem_of(template: str, **env: str) -> str:
    problem = sending.send(Channel("phone", template), MESSAGE, {"TOKEN": SECRET, **env})
    assert problem is not None
    assert SECRET not in problem.reason
    return problem.reason


def test_a_refused_connection_is_reported() -> None:
    assert problem_of("json://127.0.0.1:1/${TOKEN}").endswith(" to 127.0.0.1: Connection refused")


def test_a_server_without_tls_is_reported() -> None:
    with serving(b"HTTP/1.1 200 OK\r\n\r\n") as port:
        assert problem_of(f"jsons://127.0.0.1:{port}/${{TOKEN}}").endswith(": it does not speak TLS as expected")


def test_an_incomplete_answer_is_reported() -> None:
    with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf") as port:
        problem = problem_of(f"json://127.0.0.1:{port}/${{TOKEN}}")
    # The system may report a reset connection instead.
    assert problem.endswith(
        (": the connection was closed before the answer was complete", ": Connection reset by peer")
    )


def test_the_refusal_of_a_mail_server_is_quoted_without_addresses() -> None:
    answers = (
        b"220 here\r\n",
        b"250 here\r\n",
        b"250 sender ok\r\n",
        b"550 no such user as me@example.com\r\n",
        b"250 reset\r\n",
    )
    with serving(*answers) as port:
        problem = problem_of(f"mailto://127.0.0.1:{port}/?from=desk@example.com&to=me@example.com&mode=insecure")
    assert "550" in problem
    assert "no such user as" in problem
    assert "me@example.com" not in problem


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        ("self-signed certificate", "its certificate is not accepted: self-signed certificate"),
        ("certificate has expired.", "its certificate is not accepted: certificate has expired"),
    ],
)
def test_a_certificate_that_is_not_accepted_is_reported_with_the_reason(cause: str, said: str) -> None:
    inner = ssl.SSLCertVerificationError(1, "verify failed")
    inner.verify_message = cause
    outer = OSError(f"https://hooks.example.com/{SECRET}")
    outer.__cause__ = inner
    assert why_unreachable(outer) == said


def test_a_timeout_is_reported_as_no_answer_in_time() -> None:
    outer = OSError(f"https://hooks.example.com/{SECRET}")
    outer.__context__ = TimeoutError("timed out")
    assert why_unreachable(outer) == "no answer in time"
    assert why_unreachable(requests.ReadTimeout(SECRET)) == "no answer in time"


def test_the_innermost_of_nested_errors_is_reported() -> None:
    outer = OSError(5, f"https://hooks.example.com/{SECRET}")
    outer.__cause__ = OSError(f"https://hooks.example.com/{SECRET}")
    outer.__cause__.__context__ = ConnectionRefusedError(111, "Connection refused")
    assert why_unreachable(outer) == "Connection refused"
