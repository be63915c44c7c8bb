"""Tests of proxies and certificates from the environment: common spellings are accepted, errors name the variable."""

import asyncio
import os
import socket
from datetime import timedelta
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ema_assets.model.errors import ConfigurationError
from ema_assets.model.symbols import Instrument
from ema_assets.providers.http import proxies
from ema_assets.providers.http.budget import HttpLimits
from ema_assets.providers.http.proxies import proxy_for, way_to
from ema_assets.providers.http.refusals import Unreachable
from ema_assets_tests.providers.conftest import MIDDAY, QUICK, alpaca, ask, fetch, vendor

VENDOR = "https://data.example.com"
ONE = HttpLimits(attempts=1, backoff_seconds=0.01, answer_timeout_seconds=60)


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.lower().endswith("_proxy") or name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUEST_METHOD"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("exceptions", "url", "is_direct"),
    [
        ("", VENDOR, False),
        ("fd00::/8", VENDOR, False),
        ("localhost,127.0.0.1,10.0.0.0/8,fd00::/8", VENDOR, False),
        ("[::1]", VENDOR, False),
        ("[", VENDOR, False),
        (".,*.,.*", VENDOR, False),
        ("data.example.com", f"{VENDOR}.", True),
        ("10.0.0.0/99,:::,a:b:c", VENDOR, False),
        ("*", VENDOR, True),
        ("localhost, *", VENDOR, True),
        ("example.com", VENDOR, True),
        (".example.com", VENDOR, True),
        ("*.example.com", VENDOR, True),
        ("DATA.Example.COM", VENDOR, True),
        ("localhost data.example.com", VENDOR, True),
        ("ample.com", VENDOR, False),
        ("other.data.example.com", VENDOR, False),
        ("data.example.com:443", VENDOR, True),
        ("data.example.com:8443", VENDOR, False),
        ("data.example.com:8443", f"{VENDOR}:8443", True),
        ("https://data.example.com", VENDOR, True),
        ("http://data.example.com", VENDOR, False),
        ("10.0.0.0/8", "http://10.1.2.3:8930", True),
        ("10.0.0.0/8", "http://11.1.2.3:8930", False),
        ("10.1.2.3:8930", "http://10.1.2.3:8930", True),
        ("10.1.2.3:8931", "http://10.1.2.3:8930", False),
        (".3", "http://10.1.2.3", False),
        ("fd00::/8", "http://[fd12::1]:8930", True),
        ("fd12::1", "http://[fd12::1]", True),
        ("[fd12::1]", "http://[fd12::1]", True),
        ("[fd12::1]:8930", "http://[fd12::1]:8930", True),
        ("[fd12::1]:8931", "http://[fd12::1]:8930", False),
        ("fe00::/8", "http://[fd12::1]", False),
    ],
)
def test_the_variable_no_proxy_is_read_in_all_common_spellings(
    exceptions: str, url: str, is_direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://proxy.example.com:3128")
    monkeypatch.setenv("NO_PROXY", exceptions)
    assert (proxy_for(url) is None) is is_direct
    asyncio.run(alpaca(url).aclose())


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://proxy.example.com:3128", "proxy.example.com:3128"),
        ("proxy.example.com:3128", "proxy.example.com:3128"),
        ("  https://proxy.example.com\n", "proxy.example.com:443"),
        ("http://user:p%40ss@[fd00::1]:8080/", "[fd00::1]:8080"),
    ],
)
def test_a_proxy_is_named_by_host_port_and_variable(text: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", text)
    proxy = proxy_for(VENDOR)
    assert proxy is not None
    assert str(proxy) == f"the proxy {address} of `HTTPS_PROXY`"
    assert "p%40ss" not in repr(proxy)
    asyncio.run(alpaca(VENDOR).aclose())


def test_the_variable_of_the_scheme_precedes_all_proxy_and_lower_case_precedes_upper_case(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALL_PROXY", "all.example.com")
    monkeypatch.setenv("HTTPS_PROXY", "upper.example.com")
    assert str(proxy_for(VENDOR)) == "the proxy upper.example.com:80 of `HTTPS_PROXY`"
    monkeypatch.setenv("https_proxy", "lower.example.com")
    assert str(proxy_for(VENDOR)) == "the proxy lower.example.com:80 of `https_proxy`"
    assert str(proxy_for("http://data.example.com")) == "the proxy all.example.com:80 of `ALL_PROXY`"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ftp://user:hunter2@proxy.example.com", "received one that begins with ftp"),
        ("http://user:hunter2@proxy.example.com:notaport", "such as http://proxy.example.com:3128"),
        ("http://user:hunter2", "such as http://proxy.example.com:3128"),
        ("http://user:hunter2@:3128", "such as http://proxy.example.com:3128"),
        ("http://user:hunter2@proxy.example.com:99999", "such as http://proxy.example.com:3128"),
        ("http://user:hunter2@[proxy", "such as http://proxy.example.com:3128"),
        ("http://user:hunt\ner2@proxy.example.com", "such as http://proxy.example.com:3128"),
    ],
)
def test_an_invalid_proxy_is_refused_with_its_variable_and_without_its_password(
    text: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", text)
    with pytest.raises(ConfigurationError, match="^`HTTPS_PROXY` must be the URL of a proxy") as refused:
        alpaca(VENDOR)
    assert words in str(refused.value)
    assert "hunt" not in str(refused.value)


def test_a_socks_proxy_without_its_package_is_refused_with_the_command_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy.example.com:1080")
    monkeypatch.setattr(proxies, "find_spec", lambda _name: None)
    with pytest.raises(ConfigurationError, match=r"`ALL_PROXY` names a SOCKS proxy.*pip install 'httpx\[socks\]'"):
        alpaca(VENDOR)


def test_calls_to_this_machine_use_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "ftp://nowhere")
    assert [way_to(f"http://{host}:8930").proxy for host in ("127.0.0.1", "localhost", "[::1]")] == [None] * 3


def test_bars_are_fetched_through_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: Request) -> Response:
        return JSONResponse({"bars": {}, "next_page_token": None})

    with vendor(answer) as (proxy, seen):
        monkeypatch.setenv("HTTP_PROXY", proxy.replace("http://", "http://user:hunter2@"))
        got = fetch("http://data.example.com", ask([Instrument("A")], MIDDAY - timedelta(hours=1)))
    assert len(got.completed) == len(seen) == 1
    assert seen[0].headers["host"] == "data.example.com"
    assert seen[0].headers["proxy-authorization"].startswith("Basic ")


def test_a_proxy_that_cannot_be_reached_is_named_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:hunter2@127.0.0.1:{port}")
    got = fetch(VENDOR, ask([Instrument("A")], MIDDAY - timedelta(hours=1)), limits=ONE)
    error = got.only_error()
    assert isinstance(error, Unreachable)
    assert f"cannot be reached at data.example.com by the proxy 127.0.0.1:{port} of `HTTPS_PROXY`: " in str(error)
    assert "hunter2" not in str(error)


def test_a_proxy_that_refuses_to_connect_is_named_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    # This server does not know CONNECT and answers 400.
    with vendor(lambda _: Response()) as (proxy, _seen):
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        got = fetch(VENDOR, ask([Instrument("A")], MIDDAY - timedelta(hours=1)), limits=ONE)
    error = got.only_error()
    assert isinstance(error, Unreachable)
    assert f"by the proxy {proxy.removeprefix('http://')} of `HTTPS_PROXY`: 400" in str(error)


@pytest.mark.parametrize(
    ("name", "words"), [("SSL_CERT_FILE", "a file of certificates"), ("SSL_CERT_DIR", "a folder of certificates")]
)
def test_missing_certificates_are_reported_with_their_variable(
    name: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "/nonexistent.pem")
    with pytest.raises(ConfigurationError, match=f"^`{name}` must be {words}.*'/nonexistent.pem': No such file"):
        alpaca(VENDOR)
    # Calls to this machine do not use these variables.
    asyncio.run(alpaca("http://127.0.0.1:8930", limits=QUICK).aclose())


def test_a_file_without_certificates_is_named_in_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with pytest.raises(ConfigurationError, match=r"`SSL_CERT_FILE` must be a file of certificates in PEM.*ca\.pem"):
        alpaca(VENDOR)


def test_several_folders_of_certificates_may_be_set_as_for_openssl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_DIR", os.pathsep.join(("/nonexistent", str(tmp_path))))
    asyncio.run(alpaca(VENDOR).aclose())
