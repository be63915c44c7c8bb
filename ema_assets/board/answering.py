"""From a request to an answer: parameters, ETags, 304, JSON and HTML, errors in one sentence. No content of its own."""

import hashlib
import logging
from collections.abc import Mapping
from typing import Any

import adbc_driver_manager
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ema_assets.board.parameters import BadRequest, Parameter, Values
from ema_assets.model.errors import ConfigurationError, EmaAssetsError, StoreError

_JSON = msgspec.json.Encoder()
_log = logging.getLogger("ema_assets.board")


def values_of(parameters: tuple[Parameter, ...], request: Request) -> Values:
    """Return the values of `parameters` in a request.

    Raises:
        BadRequest: when a value is not allowed.
    """
    return {parameter.name: parameter.read(request.query_params) for parameter in parameters}


def etag_of(*parts: str) -> str:
    """Return an ETag that differs with `parts`. It is weak: a proxy or this server may compress the same answer."""
    return f'W/"{hashlib.sha256(chr(0).join(parts).encode(errors="surrogatepass")).hexdigest()[:24]}"'


def is_known(request: Request, etag: str) -> bool:
    """Return whether the client already has this answer."""
    sent = [each.strip() for each in request.headers.get("if-none-match", "").split(",")]
    return "*" in sent or etag in sent


def not_modified(etag: str) -> Response:
    """Return a 304 response, without a body."""
    return Response(status_code=304, headers={"ETag": etag, "Cache-Control": "no-cache"})


def json_answer(content: Any, etag: str | None = None, status: int = 200) -> Response:
    """Return any plain value as JSON; times as ISO 8601."""
    headers = {"Cache-Control": "no-cache" if etag else "no-store", **({"ETag": etag} if etag else {})}
    return Response(_JSON.encode(content), status, headers, "application/json")


def refusal(error: Exception) -> tuple[int, dict[str, Any]]:
    """Return status and body that report `error` to the client; an unforeseen error is logged and not reported."""
    match error:
        case BadRequest():
            found: Mapping[str, Any] = {
                "parameter": error.parameter,
                "received": error.received,
                "allowed": error.allowed,
            }
            return error.status, {"error": str(error), **{name: value for name, value in found.items() if value != []}}
        case StoreError():
            return 503, {"error": str(error)}
        case ConfigurationError():
            return 500, {"error": f"the configuration is wrong: {error}"}
        case EmaAssetsError():
            return 500, {"error": str(error)}
        case adbc_driver_manager.Error():
            _log.exception("the database refused")
            return 503, {"error": "the database refused to answer; the log of the board has the reason"}
    _log.exception("unforeseen", exc_info=error)
    return 500, {"error": "an unexpected error occurred; the log of the board has it"}
