"""The JSON API described by OpenAPI 3.1, made from the declarations of its resources. Answers nothing."""

from collections.abc import Iterable
from typing import Any

from ema_assets.board.resources import Resource

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {"type": "string", "description": "What is wrong, what was received and what is allowed"},
        "parameter": {"type": "string"},
        "received": {"type": "string"},
        "allowed": {"type": "array", "items": {"type": "string"}},
    },
}
_PAGED = {
    "type": "object",
    "required": ["rows"],
    "properties": {
        "rows": {"type": "array", "items": {}},
        "page": {"type": "integer"},
        "per_page": {"type": "integer"},
        "pages": {"type": "integer"},
        "total": {"type": "integer", "description": "Rows on all pages"},
        "has_more": {"type": "boolean", "description": "Of crossovers, which are not counted: there is another page"},
    },
}
_ETAG = {"ETag": {"schema": {"type": "string"}, "description": "From the revisions of what the answer shows"}}


def description(resources: Iterable[Resource], version: str) -> dict[str, Any]:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ema-assets board",
            "version": version,
            "description": (
                "Read-only. Times are UTC, ISO 8601, but for charts and equity curves, which count seconds since 1970. "
                "Every answer has an ETag: sent back as If-None-Match, it is answered by 304 without a body while "
                "nothing has changed."
            ),
        },
        "servers": [{"url": "/api"}],
        "paths": {each.path: {"get": _operation(each)} for each in resources},
        "components": {"schemas": {"Error": _ERROR, "Page": _PAGED}},
    }


def _operation(resource: Resource) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Page"} if resource.lists else {"type": "object"}
    answers: dict[str, Any] = {
        "200": {
            "description": resource.summary,
            "headers": _ETAG,
            "content": {"application/json": {"schema": schema}},
        },
        "304": {"description": "Nothing has changed since the ETag of If-None-Match", "headers": _ETAG},
        "400": _refusal("A parameter cannot be read, is given twice or does not exist"),
        "503": _refusal("The database cannot be reached, or nothing was computed in it yet"),
    }
    if resource.parameters:
        answers["404"] = _refusal("A symbol, timeframe, group, signal or strategy that does not exist")
    return {
        "operationId": resource.path.strip("/").replace("/", "_").replace("-", "_"),
        "summary": resource.summary,
        "description": (resource.answer.__doc__ or resource.summary).strip(),
        "parameters": [parameter.described() for parameter in resource.parameters],
        "responses": dict(sorted(answers.items())),
    }


def _refusal(what: str) -> dict[str, Any]:
    return {
        "description": what,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
