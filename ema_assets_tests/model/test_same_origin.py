"""Tests that requests from pages of other sites are refused, and those from programs and own pages are answered."""

import asyncio
from typing import Any

import pytest

from ema_assets.model.errors import ConfigurationError
from ema_assets.model.same_origin import HERE, SameOriginOnly, allowed_hosts

OWN = "127.0.0.1:3000"
BROWSER = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}
MUTATION = "query=mutation%7BshutdownRepositoryLocation%7D"

ANSWERED: dict[str, dict[str, Any]] = {
    "a program": {"method": "POST", "path": "/graphql", "host": OWN},
    "another name of this machine": {"host": "localhost:3000"},
    "IPv6": {"host": "[::1]:3000", "origin": "http://[::1]:3000"},
    "without a port": {"host": "LOCALHOST"},
    "the own page": {"method": "POST", "path": "/graphql", "host": OWN, "origin": f"http://{OWN}", **BROWSER},
    "the own page's socket": {"type": "websocket", "path": "/graphql", "host": OWN, "origin": f"http://{OWN}"},
    "a program's socket": {"type": "websocket", "path": "/graphql", "host": OWN},
    "a link of another page": {"host": OWN, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
    "an address that was typed": {"host": OWN, "sec-fetch-site": "none", "sec-fetch-mode": "navigate"},
    "the page to write queries": {"path": "/graphql", "host": OWN},
    "behind a proxy": {"method": "POST", "host": "ema.example.com", "origin": "https://ema.example.com"},
}
REFUSED: dict[str, dict[str, Any]] = {
    "another page's POST": {"method": "POST", "host": OWN, "origin": "https://evil.example"},
    "another page's POST as text": {
        "method": "POST", "host": OWN, "origin": "https://evil.example", "content-type": "text/plain",
    },
    "a page of another port": {"method": "POST", "host": OWN, "origin": "http://127.0.0.1:8888"},
    "a page in a sandboxed frame": {"method": "POST", "host": OWN, "origin": "null"},
    "a page of a file": {"method": "POST", "host": OWN, "origin": "file://"},
    "another page's socket": {"type": "websocket", "host": OWN, "origin": "https://evil.example"},
    "a name that points here": {"host": "evil.example:3000"},
    "a name that points here, its own page": {
        "method": "POST", "host": "evil.example:3000", "origin": "http://evil.example:3000",
    },
    "a name that begins as ours": {"host": "127.0.0.1.evil.example"},
    "a user in the host": {"host": "localhost@evil.example"},
    "a path in the host": {"host": "localhost/x"},
    "no number for a port": {"host": "localhost:x"},
    "no host": {},
    "a mutation as an image": {"path": "/graphql", "host": OWN, "query_string": MUTATION},
    "a mutation as a link": {
        "path": "/graphql", "host": OWN, "query_string": MUTATION, "sec-fetch-site": "cross-site",
        "sec-fetch-mode": "navigate",
    },
    "a mutation under a prefix": {"path": "/dagster/graphql", "host": OWN, "query_string": f"x=1&{MUTATION}"},
    "a form of another page": {
        "method": "POST", "host": OWN, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate",
    },
    "a script of another page": {"host": OWN, "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    "a page of another name of this machine": {"host": OWN, "sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
}  # fmt: skip


def answer(request: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages that are sent back. The app sends none of them if the request is refused."""
    parts = {"type": "http", "method": "GET", "path": "/", "query_string": ""}
    headers = [(name.encode(), value.encode()) for name, value in request.items() if name not in parts]
    scope: dict[str, Any] = {**parts, **{name: value for name, value in request.items() if name in parts}}
    scope |= {"query_string": scope["query_string"].encode(), "headers": headers}
    sent: list[dict[str, Any]] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "answered"})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(SameOriginOnly(app, HERE | {"ema.example.com"})(scope, None, send))
    return sent


@pytest.mark.parametrize("kind", ANSWERED)
def test_programs_and_own_pages_are_answered(kind: str) -> None:
    assert answer(ANSWERED[kind]) == [{"type": "answered"}]


@pytest.mark.parametrize("kind", REFUSED)
def test_pages_of_other_sites_are_refused(kind: str) -> None:
    first, *rest = answer(REFUSED[kind])
    if REFUSED[kind].get("type") == "websocket":
        assert (first["type"], first["code"], rest) == ("websocket.close", 1008, [])
    else:
        assert (first["status"], len(rest)) == (403, 1)
        assert rest[0]["body"].startswith(b"Refused: ")


def test_a_request_with_two_host_headers_is_refused() -> None:
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "query_string": b"",
        "headers": [(b"host", b"localhost")] * 2,
    }
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(SameOriginOnly(None, HERE)(scope, None, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 403


def test_the_lifespan_of_a_server_is_passed_on_to_the_app() -> None:
    passed: list[Any] = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        passed.append(scope["type"])

    asyncio.run(SameOriginOnly(app, HERE)({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert passed == ["lifespan"]


def test_a_variable_allows_more_hosts() -> None:
    assert allowed_hosts({}) == HERE
    assert allowed_hosts({"EMA_ALLOWED_HOSTS": " Ema.Example.com, 10.0.0.7 , [FD00::1]"}) == HERE | {
        "ema.example.com",
        "10.0.0.7",
        "fd00::1",
    }
    for wrong in ("http://x", "x:3000", "x/y", "*:*", "[::1]:80"):
        with pytest.raises(ConfigurationError, match="must be names of hosts without ports"):
            allowed_hosts({"EMA_ALLOWED_HOSTS": wrong})
