"""The pages of the board: which template shows which answers. Markup is in `templates/`, numbers in `contents`."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from importlib import resources
from typing import Any
from urllib.parse import urlencode

import jinja2
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ema_assets.board import formats, page_contents, trust_contents
from ema_assets.board import resources as api
from ema_assets.board.answering import etag_of, is_known, not_modified, refusal, values_of
from ema_assets.board.parameters import PER_PAGE, BadRequest, Parameter, Values
from ema_assets.board.readers import NothingYet
from ema_assets.board.site import Site
from ema_assets.model.averages import SLOW_SPAN, converged_after
from ema_assets.reports import freshness


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its path, its template, its parameters, and its content in addition to what all pages have."""

    path: str
    template: str
    title: str
    parameters: tuple[Parameter, ...]
    content: Callable[[Site, Values], dict[str, Any]]
    revision: Callable[[Site, Values], str] = api.by_overview


# Rows of the tables of a page; the API returns more at once.
_ROWS = replace(PER_PAGE, default=40)


def _shorter(parameters: tuple[Parameter, ...]) -> tuple[Parameter, ...]:
    return tuple(_ROWS if each is PER_PAGE else each for each in parameters)


ALL = (
    Page("/", "heat_map.html", "Heat map", api.HEAT_MAP.parameters, page_contents.heat_map),
    Page("/chart", "chart.html", "Chart", api.CHART.parameters, page_contents.chart),
    Page("/trades", "trades.html", "Open trades", _shorter(api.OPEN_TRADES.parameters), page_contents.trades),
    Page("/crossovers", "crossovers.html", "Crossovers", _shorter(api.CROSSOVERS.parameters), page_contents.crossovers),
    Page(
        "/performance",
        "performance.html",
        "Performance",
        _shorter(api.PERFORMANCE.parameters),
        page_contents.performance,
    ),
    Page("/freshness", "freshness.html", "Freshness", _shorter(api.NOT_FRESH.parameters), page_contents.freshness),
    Page("/why", "why.html", "Why", api.WHY.parameters, page_contents.why, api.WHY.revision),
    Page("/about", "about.html", "About", (), lambda _site, _values: {}),
)


class Pages:
    """Renders the pages of a site. Everything that is put into a template is escaped."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._version = _version_of_files()
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("ema_assets.board"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(formats.FILTERS)
        self._templates.filters["short"] = _short
        self._templates.globals.update(
            {
                "shade": formats.shade,
                "static": self._static,
                "query": query,
                "links": site.links,
                "version": self._version,
                "bars_needed": converged_after(SLOW_SPAN),
                "next_attempt": freshness.next_attempt,
            }
        )

    def endpoint(self, page: Page) -> Callable[[Request], Response]:
        """Return the function that answers requests for `page`."""

        def endpoint(request: Request) -> Response:
            try:
                values = values_of(page.parameters, request)
                revision = page.revision(self._site, values)
                tag = etag_of(page.path, repr(values), self._version, self._site.configured.tag, revision)
                if is_known(request, tag):
                    return not_modified(tag)
                return self._rendered(page.template, page.title, page, values, tag)
            except NothingYet as error:
                return self._told("empty.html", "Nothing yet", 200, str(error))
            except Exception as error:  # noqa: BLE001 - a page says in a sentence what is wrong, whatever it is
                return self._refused(error)

        return endpoint

    def go(self, request: Request) -> Response:
        """Return where a search leads: the chart of a symbol (`AAPL`, `btc 1h`), or the map of matching symbols."""
        words = request.query_params.get("q", "").replace("|", " ").split()
        try:
            overview = self._site.overview
            known = {symbol.lower(): symbol for symbol in overview.timeframes}
            timeframes = [each.key for each in overview.heat_map.timeframes]
        except Exception as error:  # noqa: BLE001 - as for a page
            return self._refused(error)
        typed = words[0].lower() if words else ""
        begun = [symbol for lower, symbol in known.items() if typed and lower.startswith(typed)]
        symbol = known.get(typed) or (begun[0] if len(begun) == 1 else None)
        if symbol is None:
            return RedirectResponse(f"/?{urlencode({'q': ' '.join(words)})}" if words else "/", 303)
        # `1M` is a month, `1H` an hour.
        asked = [each for word in words[1:] for each in dict.fromkeys((word, word.lower())) if each in timeframes]
        own = overview.timeframes[symbol]
        usual = next((each for each in ("1h", *timeframes) if each in own), own[0])
        target = urlencode({"symbol": symbol, "timeframe": asked[0] if asked and asked[0] in own else usual})
        return RedirectResponse(f"/chart?{target}", 303)

    def nothing_there(self, request: Request, _error: Exception) -> Response:
        """Return the answer to a path without a page."""
        return self._told("error.html", "No such page", 404, f"There is no page {request.url.path}.")

    def unforeseen(self, _request: Request, error: Exception) -> Response:
        """Return the answer when the board itself fails."""
        return self._refused(error)

    def _rendered(self, template: str, title: str, page: Page, values: Values, tag: str) -> Response:
        site = self._site
        content = {
            "title": title,
            "path": page.path,
            "values": values,
            "trust": trust_contents.trust_of(site),
            "now": site.overview.now,
            "timeframes": [each.key for each in site.overview.heat_map.timeframes],
            "groups": list(site.configured.groups),
            "strategies": list(site.configured.strategies),
            "all_averages": list(site.configured.graph.averages),
            "average_names": [f"EMA {span}" for span in (values.get("averages") or "9/30").split("/")],
            **page.content(site, values),
        }
        text = self._templates.get_template(template).render(content)
        return Response(text, 200, {"ETag": tag, "Cache-Control": "no-cache"}, "text/html; charset=utf-8")

    def _refused(self, error: Exception) -> Response:
        status, body = refusal(error)
        title = "The database cannot be read" if status == 503 else "Not shown"
        message = error.for_people if isinstance(error, BadRequest) else body["error"]
        return self._told("error.html", title, status, message)

    def _told(self, template: str, title: str, status: int, message: str) -> Response:
        """Return a page without any number: for when there are none."""
        text = self._templates.get_template(template).render(
            {"title": title, "path": "", "values": {}, "trust": None, "message": message, "status": status}
        )
        return Response(text, status, {"Cache-Control": "no-store"}, "text/html; charset=utf-8")

    def _static(self, name: str) -> str:
        return f"/static/{name}?v={self._version}"


@jinja2.pass_context
def _short(context: jinja2.runtime.Context, moment: datetime | None) -> str:
    """Return a time without its year if that is the year of the page."""
    return formats.short(moment, context.get("now"))


def query(values: Mapping[str, Any], /, **changed: Any) -> str:
    """Return the query of a link: `values` with `changed`, without empty ones; `?` alone when nothing is left."""
    merged = {**values, **changed}
    kept = {
        name: ",".join(value) if isinstance(value, tuple | list) else value
        for name, value in merged.items()
        if value not in (None, "", (), [])
    }
    return f"?{urlencode(kept)}"


def _version_of_files() -> str:
    """Return a text that differs when any file of the pages has changed."""
    digest = hashlib.sha256()
    pending = [resources.files("ema_assets.board").joinpath(name) for name in ("static", "templates")]
    while pending:
        entry = pending.pop()
        if entry.is_dir():
            pending += sorted(entry.iterdir(), key=lambda each: each.name)
        else:
            digest.update(entry.name.encode())
            digest.update(entry.read_bytes())
    return digest.hexdigest()[:12]
