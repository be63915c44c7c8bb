"""Headers of every answer of the board, and what it refuses beside pages of other sites: other methods. No pages."""

from collections.abc import Iterable

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ema_assets.model.same_origin import allowed_hosts, refusal

# Everything comes from the board itself, and nothing is written into its pages: no inline script, no inline style.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
}
_READING = ("GET", "HEAD")


class Protection:
    """Lets only reading requests through that were sent to an allowed host, and by no page of another origin.

    `hosts` are names beside those of this machine and of EMA_ALLOWED_HOSTS.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._hosts = allowed_hosts() | {host.strip("[]").lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refused = self._refused(scope)
        app = self._app if refused is None else refused

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await app(scope, receive, with_headers)

    def _refused(self, scope: Scope) -> PlainTextResponse | None:
        if (reason := refusal(scope, self._hosts)) is not None:
            return PlainTextResponse(f"{reason}\n", 403)
        if scope["method"] not in _READING:
            return PlainTextResponse("the board only reads\n", 405, {"Allow": ", ".join(_READING)})
        return None
