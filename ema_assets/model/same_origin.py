"""ASGI middleware that decides which requests a server on this machine answers. It refuses pages of other sites.

Every page that the user's browser shows can reach a server on 127.0.0.1. A page of another site is recognised by
`Origin`, and a page whose name was pointed at 127.0.0.1 (DNS rebinding) by `Host`. Programs send no `Origin`.
"""

import ipaddress
import os
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ema_assets.model.errors import ConfigurationError
from ema_assets.model.variables import text_of

VARIABLE = "EMA_ALLOWED_HOSTS"
HERE = frozenset({"127.0.0.1", "localhost", "::1"})

Message = Mapping[str, Any]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]


def allowed_hosts(env: Mapping[str, str] = os.environ) -> frozenset[str]:
    """Return this machine's own names and those of EMA_ALLOWED_HOSTS, for use behind a proxy; lower case, no ports.

    Raises:
        ConfigurationError: when one of them is not the name of a host.
    """
    named = [name for part in text_of(env, VARIABLE).split(",") if (name := part.strip())]
    return HERE | host_names(named, VARIABLE)


def host_names(names: Iterable[str], source: str) -> frozenset[str]:
    """Return names or addresses of hosts in the form for comparison: lower case, IPv6 compressed and without brackets.

    Raises:
        ConfigurationError: when one of them is not the name of a host; it names `source`.
    """
    found = set()
    for name in names:
        bare = name.lower().removeprefix("[").removesuffix("]")
        try:
            found.add(str(ipaddress.ip_address(bare)))
        except ValueError:
            if not name or host_of(name) != name.lower():
                raise ConfigurationError(
                    f"`{source}` must be names of hosts without ports, received {name!r}"
                ) from None
            found.add(name.lower())
    return frozenset(found)


def in_url(host: str) -> str:
    """Return a name or address of a host as it is written in a URL: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


class SameOriginOnly:
    """Middleware that passes on requests and websockets to `hosts`, unless a page of another origin sent them.

    GraphQL is answered by POST only: an image on any page can send a GET, and Dagster also executes mutations in a GET.
    """

    def __init__(self, app: App, hosts: Collection[str] | None = None) -> None:
        self._app = app
        self._hosts = allowed_hosts() if hosts is None else hosts

    async def __call__(self, scope: Message, receive: Any, send: Send) -> None:
        """Handle one request, one websocket or the start of the server."""
        reason = refusal(scope, self._hosts) if scope["type"] in ("http", "websocket") else None
        if reason is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            # The websocket was not accepted yet, so the client gets status 403.
            await send({"type": "websocket.close", "code": 1008, "reason": reason})
        else:
            head = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": 403, "headers": head})
            await send({"type": "http.response.body", "body": f"{reason}\n".encode()})


def refusal(scope: Message, hosts: Collection[str]) -> str | None:
    """Return why a request or websocket is refused: not sent to `hosts`, or by a page of another origin; else None."""
    headers: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    sent_to, sent_by = headers.get("host", []), headers.get("origin", [])
    if len(sent_to) != 1 or host_of(sent_to[0]) not in hosts:
        return f"Refused: the host is none of {', '.join(sorted(hosts))}; {VARIABLE} allows more."
    if any(_place_of(origin) != sent_to[0].lower() for origin in sent_by):
        return "Refused: sent by a page of another site."
    is_read = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
    if is_read and scope["path"].endswith("/graphql") and "query" in parse_qs(scope["query_string"].decode("latin-1")):
        return "Refused: GraphQL is answered by POST only."
    # Browsers send these headers also without an Origin, such as for a script. Following a link to a page is harmless.
    is_visit = is_read and headers.get("sec-fetch-mode") == ["navigate"]
    if not is_visit and headers.get("sec-fetch-site", ["none"]) not in (["none"], ["same-origin"]):
        return "Refused: sent by a page of another site."
    return None


def host_of(text: str) -> str | None:
    """Return the host in `HOST:PORT`, lower case, without the brackets of IPv6; None if `text` is not of this form."""
    try:
        parts = urlsplit(f"//{text}")
        _ = parts.port
    except ValueError:
        return None
    is_one = not (parts.path or parts.query or parts.fragment) and parts.username is None
    return parts.hostname if is_one else None


def _place_of(origin: str) -> str | None:
    """Return the `HOST:PORT` of an origin, lower case; None for `null` and other texts."""
    try:
        parts = urlsplit(origin.lower())
    except ValueError:
        return None
    return parts.netloc if parts.scheme in ("http", "https") and not parts.path else None
