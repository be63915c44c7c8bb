"""Which requests a server on this machine answers: ASGI around any app. Pages of other sites in a browser are refused.

A server on 127.0.0.1 is open to every page that the user's browser shows. A page of another site names itself in
`Origin`; one whose name was pointed at 127.0.0.1 (DNS rebinding) shows in `Host`. Programs send no `Origin`.
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
    """This machine's own names, and those of EMA_ALLOWED_HOSTS, under which a proxy serves it; lower case, no ports.

    Raises:
        ConfigurationError: when one of them is no name of a host.
    """
    named = [name for part in text_of(env, VARIABLE).split(",") if (name := part.strip())]
    return HERE | host_names(named, VARIABLE)


def host_names(names: Iterable[str], source: str) -> frozenset[str]:
    """`names` of hosts, or addresses, as they are compared: lower case, IPv6 in its usual form without brackets.

    Raises:
        ConfigurationError: when one of them is no name of a host; it names `source`.
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
    """A name or address of a host as it stands in a URL: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


class SameOriginOnly:
    """Passes requests and websockets on to `app` that were sent to one of `hosts` and by no page of another origin.

    GraphQL is answered by POST alone: an image of any page can send a GET, and Dagster executes mutations of one.
    """

    def __init__(self, app: App, hosts: Collection[str] | None = None) -> None:
        self._app = app
        self._hosts = allowed_hosts() if hosts is None else hosts

    async def __call__(self, scope: Message, receive: Any, send: Send) -> None:
        """One request, websocket or start of the server."""
        reason = refusal(scope, self._hosts) if scope["type"] in ("http", "websocket") else None
        if reason is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            # Before it was accepted: the client sees status 403.
            await send({"type": "websocket.close", "code": 1008, "reason": reason})
        else:
            head = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": 403, "headers": head})
            await send({"type": "http.response.body", "body": f"{reason}\n".encode()})


def refusal(scope: Message, hosts: Collection[str]) -> str | None:
    """Why a request or websocket is refused: sent to none of `hosts`, or by a page of another origin. Else None."""
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
    # What a browser says of itself where it sends no Origin, such as for a script; a link to a page is no harm.
    is_visit = is_read and headers.get("sec-fetch-mode") == ["navigate"]
    if not is_visit and headers.get("sec-fetch-site", ["none"]) not in (["none"], ["same-origin"]):
        return "Refused: sent by a page of another site."
    return None


def host_of(text: str) -> str | None:
    """The host in `HOST:PORT`, lower case, without the brackets of IPv6; None when it is none."""
    try:
        parts = urlsplit(f"//{text}")
        _ = parts.port
    except ValueError:
        return None
    is_one = not (parts.path or parts.query or parts.fragment) and parts.username is None
    return parts.hostname if is_one else None


def _place_of(origin: str) -> str | None:
    """The `HOST:PORT` of an origin, lower case; None for `null` and other texts."""
    try:
        parts = urlsplit(origin.lower())
    except ValueError:
        return None
    return parts.netloc if parts.scheme in ("http", "https") and not parts.path else None
