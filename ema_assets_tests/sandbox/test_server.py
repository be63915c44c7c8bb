"""Tests of the server of the sandbox: its port, errors about it, and its end."""

import signal
import subprocess
import sys
from contextlib import suppress

import httpx
import pytest

from ema_assets.model.errors import ConfigurationError
from ema_assets.model.symbols import Instrument
from ema_assets.sandbox.server import running_sandbox, serve
from ema_assets_tests.waiting import wait_until

_SERVE = """
import sys
from ema_assets.model.symbols import Instrument
from ema_assets.sandbox.server import serve
serve(int(sys.argv[1]), lambda: [Instrument("AAPL")], 3)
"""


def _port(base_url: str) -> int:
    return int(base_url.rpartition(":")[2])


def test_a_port_in_use_is_a_configuration_error() -> None:
    with running_sandbox([Instrument("AAPL")]) as sandbox:
        port = _port(sandbox.base_url)
        with pytest.raises(ConfigurationError, match=rf"port {port} on 127.0.0.1 is already in use"):
            serve(port, lambda: [Instrument("AAPL")], 7)


def test_an_invalid_port_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="port 70000"):
        serve(70_000, list, 7)


def test_the_port_is_free_again_after_the_block() -> None:
    with running_sandbox([Instrument("AAPL")]) as first:
        port = _port(first.base_url)
    with running_sandbox([Instrument("AAPL")], port=port) as second:
        assert second.base_url == first.base_url


@pytest.mark.broad
def test_serve_answers_silently_and_ends_at_sigterm() -> None:
    with running_sandbox([]) as free:
        port = _port(free.base_url)
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE, str(port)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:

            def about() -> dict[str, object] | None:
                with suppress(httpx.TransportError):
                    found: dict[str, object] = client.get("/sandbox").json()
                    return found
                return None

            told = wait_until(about, "an answer")
        assert told is not None
        assert told["seed"] == 3
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=180)
    finally:
        process.kill()
    assert (out, err) == (b"", b"")
