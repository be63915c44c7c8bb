"""The routes of the board: pages, JSON API, files. What they show is made elsewhere."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from ema_assets.board import openapi
from ema_assets.board import resources as api
from ema_assets.board.answering import etag_of, is_known, json_answer, not_modified, refusal, values_of
from ema_assets.board.links import DagsterLinks
from ema_assets.board.overviews import Overviews, Times
from ema_assets.board.pages import ALL, Pages
from ema_assets.board.parameters import refuse_others
from ema_assets.board.protection import ReadingOnly, WithHeaders
from ema_assets.board.readers import Readers
from ema_assets.board.site import Site
from ema_assets.config.settings import Settings
from ema_assets.model.same_origin import HERE, SameOriginOnly

_SMALLEST_COMPRESSED = 1_000
_COMPRESSION = 5


@dataclass(frozen=True, slots=True)
class BoardOptions:
    """What a board needs in addition to the settings.

    Attributes:
        database_url: libpq form.
        dagster_url: the Dagster UI that pages link to; None for no links.
        default_provider: the provider of symbols that name none.
        allowed_hosts: host names that browsers may use, besides those of this machine: see `same_origin.host_names`.
    """

    database_url: str
    dagster_url: str | None
    default_provider: str
    allowed_hosts: frozenset[str] = frozenset()


def create_app(options: BoardOptions, settings: Callable[[], Settings], times: Times) -> Starlette:
    """Build the board. `settings` is called again every few seconds, so that edits of the watchlist are seen."""
    readers = Readers(options.database_url)
    overviews = Overviews(readers, settings, times)
    site = Site(overviews, DagsterLinks(options.dagster_url), options.default_provider)
    pages = Pages(site)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        overviews.close()

    return Starlette(
        routes=[*_page_routes(pages), *_api_routes(site), Mount("/static", _Files(), name="static")],
        middleware=[
            Middleware(WithHeaders),
            Middleware(SameOriginOnly, hosts=HERE | options.allowed_hosts),
            Middleware(ReadingOnly),
            Middleware(GZipMiddleware, minimum_size=_SMALLEST_COMPRESSED, compresslevel=_COMPRESSION),
        ],
        exception_handlers={404: pages.nothing_there, 500: pages.unforeseen},
        lifespan=lifespan,
    )


def _page_routes(pages: Pages) -> Iterable[BaseRoute]:
    for page in ALL:
        yield Route(page.path, pages.endpoint(page), methods=["GET"])
    yield Route("/go", pages.go, methods=["GET"])


def _api_routes(site: Site) -> Iterable[BaseRoute]:
    version = metadata.version("ema-assets")
    document = openapi.description(api.ALL, version)
    tag = etag_of("openapi", version, repr(document))

    def described(request: Request) -> Response:
        return not_modified(tag) if is_known(request, tag) else json_answer(document, tag)

    def unknown(request: Request) -> Response:
        known = ["/api/openapi.json", *(f"/api{each.path}" for each in api.ALL)]
        said = f"there is no {request.url.path}; GET /api/openapi.json describes what there is"
        return json_answer({"error": said, "allowed": known}, status=404)

    yield Route("/api/openapi.json", described, methods=["GET"])
    for each in api.ALL:
        yield Route(f"/api{each.path}", _endpoint(site, each, version), methods=["GET"])
    yield Route("/api/{rest:path}", unknown, methods=["GET"])


def _endpoint(site: Site, resource: api.Resource, version: str) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        try:
            refuse_others(resource.parameters, [name for name, _ in request.query_params.multi_items()])
            values = values_of(resource.parameters, request)
            revision = resource.revision(site, values)
            tag = etag_of(resource.path, repr(values), version, site.configured.tag, revision)
            if is_known(request, tag):
                return not_modified(tag)
            return json_answer(resource.answer(site, values), tag)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets JSON and one sentence
            status, body = refusal(error)
            return json_answer(body, status=status)

    return endpoint


class _Files(StaticFiles):
    """The files of the package. Their addresses carry a version, so that browsers keep them."""

    def __init__(self) -> None:
        super().__init__(directory=Path(str(resources.files("ema_assets.board").joinpath("static"))))

    def file_response(self, *args: object, **kwargs: object) -> Response:
        """Return a file, to be kept for a year if its address has a version."""
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        scope = args[2] if len(args) > 2 else kwargs["scope"]
        has_version = isinstance(scope, dict) and b"v=" in scope["query_string"]
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if has_version else "no-cache"
        return response
