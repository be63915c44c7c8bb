"""Every resource of the JSON API: its path, parameters, answer, and when its answer changes. No HTTP."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import get_type_hints

from ema_assets.board import contents, trust_contents
from ema_assets.board.parameters import (
    ANY_STRATEGY,
    ANY_TIMEFRAME,
    AVERAGES,
    DRAWN_AVERAGES,
    GROUP,
    PAGE,
    PER_PAGE,
    STRATEGY,
    SYMBOL,
    SYMBOLS,
    TIMEFRAME,
    Parameter,
    Values,
)
from ema_assets.board.site import Site, series_of
from ema_assets.reports import freshness, heat_map, performance_table, series_chart, trade_table


def by_overview(site: Site, _values: Values) -> str:
    """Return a text that changes with anything that pages show about all series: trends, conditions, trust."""
    return site.overview.tag


def by_minute(site: Site, values: Values) -> str:
    """Return a text that also changes each market minute: for sentences that say how long ago something was."""
    return f"{by_overview(site, values)} {site.overview.now:%Y-%m-%d %H:%M}"


def by_series(site: Site, values: Values) -> str:
    """Return a text that changes with the revisions of one series in the ledger.

    Raises:
        BadRequest: when there is no such series.
    """
    series_of(site.overview, values)
    return site.overviews.revision_of(values["symbol"], values["timeframe"])


@dataclass(frozen=True, slots=True)
class Resource:
    """One path of the API.

    Attributes:
        path: below /api.
        summary: what it answers, in one sentence.
        parameters: of the query.
        answer: returns the body; its docstring is the description, and its return type, one of `shapes`, is the schema.
        revision: returns a text that differs as soon as the answer may.
    """

    path: str
    summary: str
    parameters: tuple[Parameter, ...]
    answer: Callable[[Site, Values], Mapping[str, object]]
    revision: Callable[[Site, Values], str] = by_overview

    @property
    def shape(self) -> type:
        """The type that `answer` returns."""
        found: type = get_type_hints(self.answer)["return"]
        return found


_CHOSEN = (ANY_TIMEFRAME, SYMBOLS, GROUP)
_PAGES = (PAGE, PER_PAGE)

MAP_SORT = Parameter("sort", "What comes first", default="watchlist", choices=tuple(heat_map.SORTS))
MAP_TIMEFRAME = Parameter("timeframe", "For the sort orders cross, recent and spread: only this timeframe counts")
PART = Parameter("q", "Only symbols that contain this text")
TRADE_SORT = Parameter("sort", "What comes first", default="stop", choices=tuple(trade_table.SORTS))
PERFORMANCE_SORT = Parameter("sort", "What comes first", default="return", choices=tuple(performance_table.SORTS))
PERFORMANCE_TIMEFRAME = Parameter("timeframe", "A timeframe; by default 1h or the next longer one")
CONDITION = Parameter("condition", "Only series of this condition", choices=tuple(freshness.CONDITIONS))
BARS = Parameter(
    "bars",
    "How many of the newest bars",
    kind="number",
    default=series_chart.USUAL_BARS,
    most=series_chart.MOST_BARS,
)
SIGNALS = Parameter("signals", "Signals in addition to the averages, separated by commas", kind="list", default=())
TRADES_OF = Parameter("strategy", "The strategy whose trades are returned; none by default")

HEAT_MAP = Resource(
    "/heatmap",
    "Trend, spread and bars since the cross of every symbol and timeframe",
    (MAP_SORT, MAP_TIMEFRAME, AVERAGES, GROUP, SYMBOLS, PART, *_PAGES),
    contents.heat_map_page,
)
CHART = Resource(
    "/chart",
    "Bars, averages, signals and trades of one series",
    (SYMBOL, TIMEFRAME, BARS, SIGNALS, TRADES_OF, DRAWN_AVERAGES),
    contents.chart,
    by_series,
)
WHY = Resource(
    "/why",
    "Why a series is fresh or not, in plain sentences",
    (SYMBOL, TIMEFRAME),
    contents.why_not,
    by_minute,
)
ABOUT_TO_CROSS = Resource(
    "/about-to-cross",
    "Which series are about to cross, and at which price",
    (AVERAGES, *_CHOSEN, *_PAGES),
    contents.about_to_cross,
)
CROSSOVERS = Resource("/crossovers", "The latest crossovers", (AVERAGES, *_CHOSEN, *_PAGES), contents.crossovers)
OPEN_TRADES = Resource(
    "/trades/open", "Open trades with their stops", (ANY_STRATEGY, *_CHOSEN, TRADE_SORT, *_PAGES), contents.open_trades
)
PERFORMANCE = Resource(
    "/performance",
    "How a strategy has done on each series",
    (STRATEGY, PERFORMANCE_TIMEFRAME, SYMBOLS, GROUP, PERFORMANCE_SORT, *_PAGES),
    contents.performance,
)
EQUITY = Resource(
    "/equity",
    "The equity curve of a strategy, of one series or of a portfolio with equal weights",
    (STRATEGY, PERFORMANCE_TIMEFRAME, SYMBOLS, GROUP),
    contents.equity,
)
NOT_FRESH = Resource(
    "/not-fresh",
    "Series that are late, failing or loading, and why",
    (CONDITION, *_CHOSEN, *_PAGES),
    trust_contents.not_fresh,
)
CORRECTIONS = Resource(
    "/corrections", "Corrections of the last 24 hours and their blast radius", _PAGES, trust_contents.corrections
)
GAPS = Resource("/gaps", "Bars that are missing and are requested again", _PAGES, trust_contents.gaps)
LATENCY = Resource("/latency", "From a bar's close to its strategy row", (), trust_contents.latency)
ASSETS = Resource("/assets", "How fresh every asset is, per timeframe", (), trust_contents.by_asset)

ALL = (
    Resource("/symbols", "The symbols of the watchlist, their groups and timeframes", _PAGES, contents.symbols),
    HEAT_MAP,
    CHART,
    WHY,
    ABOUT_TO_CROSS,
    CROSSOVERS,
    OPEN_TRADES,
    PERFORMANCE,
    EQUITY,
    Resource(
        "/trust",
        "Whether the numbers can be trusted now",
        (),
        trust_contents.trusted,
    ),
    NOT_FRESH,
    CORRECTIONS,
    GAPS,
    LATENCY,
    ASSETS,
)
