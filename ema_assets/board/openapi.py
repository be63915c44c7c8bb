"""The JSON API described by OpenAPI 3.1, made from the declarations of its resources. Answers no request."""

from collections.abc import Sequence
from typing import Any

import msgspec

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
_AT = "#/components/schemas/{name}"
_ETAG = {"ETag": {"schema": {"type": "string"}, "description": "From the revisions of what the answer shows"}}


def description(resources: Sequence[Resource], version: str) -> dict[str, Any]:
    """Return the whole document."""
    references, shapes = msgspec.json.schema_components([each.shape for each in resources], ref_template=_AT)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ema-assets board",
            "version": version,
            "description": (
                "Read-only. Times are UTC, ISO 8601, except in charts and equity curves, which count seconds since "
                "1970. Every answer has an ETag. A request that sends it back as If-None-Match gets a 304 without a "
                "body while nothing has changed."
            ),
        },
        "servers": [{"url": "/api"}],
        "paths": {
            each.path: {"get": _operation(each, schema)} for each, schema in zip(resources, references, strict=True)
        },
        "components": {"schemas": {"Error": _ERROR, **{name: _exact(shape) for name, shape in shapes.items()}}},
    }


def _exact(shape: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that allows no other fields."""
    return {**shape, "additionalProperties": False}


def _operation(resource: Resource, schema: dict[str, Any]) -> dict[str, Any]:
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
