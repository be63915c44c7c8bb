"""What single pages show in addition to the answer of one API resource. Plain values for templates; no markup."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, TypeVar

from ema_assets.board import contents, shapes, trust_contents
from ema_assets.board.parameters import Values
from ema_assets.board.site import Site, chosen_symbols, series_of, strategy_of, trend_of
from ema_assets.model.asset_names import EMA_TREND
from ema_assets.model.averages import FAST_SPAN, SLOW_SPAN, converged_after, ema_name, spans_text, trend_spans
from ema_assets.model.symbols import Series, as_spelt
from ema_assets.model.timeframes import by_key
from ema_assets.reports import freshness as conditions
from ema_assets.reports import heat_map as maps
from ema_assets.reports import performance_table, series_chart, trade_table
from ema_assets.reports.charted_bars import label_of

Paged = TypeVar("Paged", bound=shapes.Paging)

_BESIDE = 8
_LAST_BARS = 10


def _few(values: Values | None = None, **more: Any) -> dict[str, Any]:
    """Return the parameters of a short list next to a page's main content."""
    chosen = {"timeframe": None, "averages": None, "symbols": (), "group": None, "strategy": None, "sort": "stop"}
    return {**chosen, **(values or {}), "page": 1, "per_page": _BESIDE, **more}


def _within(make: Callable[[Site, Values], Paged], site: Site, values: Values) -> Paged:
    """Return what `make` gives for the requested page, or for the last one.

    While a page is open, its list may get shorter.
    """
    found = make(site, values)
    return found if found["page"] <= found["pages"] else make(site, {**values, "page": found["pages"]})


def heat_map(site: Site, values: Values) -> dict[str, Any]:
    """Return the map, and next to it which symbols are about to cross, have crossed, or are near a stop."""
    chosen = {name: values[name] for name in ("group", "symbols", "q", "averages")}
    return {
        "map": _within(contents.heat_map_page, site, values),
        # Its chart draws these averages.
        "strategy": None if values["averages"] is None else _strategy_of(site, trend_of(site, values["averages"])),
        "sorts": maps.SORTS,
        "conditions": conditions.CONDITIONS,
        "fine": conditions.FINE,
        "about": contents.about_to_cross(site, _few(chosen))["rows"],
        "crossed": contents.crossovers(site, _few(chosen))["rows"],
        "open": contents.open_trades(site, _few(chosen)),
    }


def _strategy_of(site: Site, trend: str) -> str | None:
    """Return the first strategy that uses `trend`."""
    nodes = (site.configured.graph.nodes[name] for name in site.configured.strategies)
    return next((node.name for node in nodes if node.variant is not None and node.variant.trend == trend), None)


def chart(site: Site, values: Values) -> dict[str, Any]:
    """Return one series: its newest bar, what can be drawn, neighbours on the watchlist, newest bars and trades."""
    overview, configured = site.overview, site.configured
    series = series_of(overview, values)
    shown = {**values, "bars": _LAST_BARS + 1}
    drawn = contents.chart(site, shown)
    trend = _trend_beside(site, values)
    mine = site.overviews.map_of(trend).series.filter(symbol=series.symbol)
    rows = {row["timeframe"]: row for row in mine.iter_rows(named=True)}
    order = [symbol for symbol in configured.watched.symbols if symbol in overview.timeframes]
    order = order if series.symbol in order else list(overview.timeframes)
    place = order.index(series.symbol)
    few = {"symbols": (series.symbol,), "timeframe": series.timeframe.key}
    fast, slow = trend_spans(trend) or (FAST_SPAN, SLOW_SPAN)
    compared = [label_of(ema_name(fast)), label_of(ema_name(slow))]
    return {
        "series": series,
        "row": rows[series.timeframe.key],
        "own": [(each.key, rows[each.key]) for each in sorted(map(by_key, rows))],
        "is_fine": rows[series.timeframe.key]["condition"] in conditions.FINE,
        "meaning": conditions.CONDITIONS[rows[series.timeframe.key]["condition"]],
        "previous": order[place - 1] if place else None,
        "next": order[place + 1] if place + 1 < len(order) else None,
        "drawable": list(series_chart.drawable(configured.graph)),
        "usual_bars": series_chart.USUAL_BARS,
        "most_bars": series_chart.MOST_BARS,
        "averages": drawn["averages"],
        # For the trend, the crossovers and the next cross on the page; a rule may draw other averages next to them.
        "compared": compared,
        "are_drawn": drawn["averages"] == compared,
        "slow": slow,
        "bars_needed": converged_after(slow),
        "last": _last_bars(drawn),
        "crossed": contents.crossovers(
            site, _few(few, averages=None if trend == EMA_TREND else spans_text((fast, slow)))
        )["rows"],
        "open": contents.open_trades(site, _few(few))["rows"],
        "results": _results(site, series),
        "partition": site.links.partition("ohlc", series.symbol, series.timeframe.key),
    }


def _trend_beside(site: Site, values: Values) -> str:
    """Return the trend shown next to a chart: of the requested averages, or else the one that its strategy uses."""
    if values["averages"] is not None or values["strategy"] is None:
        return trend_of(site, values["averages"])
    graph = site.configured.graph
    variant = graph.nodes[strategy_of(site, values["strategy"])].variant
    # A rule may draw averages that nothing compares.
    return variant.trend if variant is not None and graph.has(variant.trend) else EMA_TREND


def _last_bars(drawn: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the newest bars, newest first, each with its change from the previous one."""
    names = ("time", "open", "high", "low", "close", "volume", "fast", "slow")
    rows = [dict(zip(names, row, strict=True)) for row in zip(*(drawn[name] for name in names), strict=True)]
    for before, row in pairwise([None, *rows]):
        assert row is not None
        row["at"] = datetime.fromtimestamp(row["time"], UTC)
        is_known = before is not None and before["close"] > 0
        row["change_pct"] = (row["close"] / before["close"] - 1) * 100 if before is not None and is_known else None
    return list(reversed(rows[1:] if len(rows) > _LAST_BARS else rows))


def _results(site: Site, series: Series) -> list[dict[str, Any]]:
    """Return how each strategy has done on the series."""
    with site.overviews.readers.transaction() as transaction:
        return [
            {"strategy": name, **row}
            for name in site.configured.strategies
            for row in performance_table.performance(
                transaction, name, series.timeframe.key, [series.symbol]
            ).iter_rows(named=True)
        ]


def trades(site: Site, values: Values) -> dict[str, Any]:
    """Return open trades, and how they may be sorted."""
    return {"found": _within(contents.open_trades, site, values), "sorts": trade_table.SORTS, "fine": conditions.FINE}


def crossovers(site: Site, values: Values) -> dict[str, Any]:
    """Return which symbols have crossed, and which are about to."""
    crossed = contents.crossovers(site, values)
    if not crossed["rows"] and crossed["page"] > 1:
        crossed = contents.crossovers(site, {**values, "page": contents.last_page_of_crossovers(site, values)})
    return {
        "crossed": crossed,
        "about": contents.about_to_cross(site, {**values, "page": 1, "per_page": 40}),
    }


def performance(site: Site, values: Values) -> dict[str, Any]:
    """Return the figures of each series, and the equity curve of all chosen ones as a portfolio."""
    values = {**values, "symbols": tuple(as_spelt(values["symbols"], site.overview.timeframes))}
    found = _within(contents.performance, site, values)
    chosen = {**values, "strategy": found["strategy"], "timeframe": found["timeframe"]}
    curve = None if found["timeframe"] is None else contents.equity(site, chosen)
    timeframes = site.overview.timeframes
    symbols = chosen_symbols(site, values)
    own = [timeframes.get(symbol, ()) for symbol in (timeframes if symbols is None else symbols)]
    return {
        "found": found,
        "chosen": chosen,
        "curve": curve,
        "sorts": list(performance_table.SORTS),
        # A group may have its own timeframes: on others nothing is ever computed.
        "has_timeframe": any(found["timeframe"] in each for each in own),
    }


def freshness(site: Site, values: Values) -> dict[str, Any]:
    """Return what is not fresh and why, gaps, corrections, latency, assets."""
    few = {"page": 1, "per_page": 25}
    assets = _by_name(trust_contents.by_asset(site, {})["rows"])
    return {
        "found": _within(trust_contents.not_fresh, site, values),
        "conditions": conditions.CONDITIONS,
        "gaps": trust_contents.gaps(site, few),
        "corrections": trust_contents.corrections(site, few),
        "latency": trust_contents.latency(site, {})["rows"],
        "assets": assets,
        # Includes timeframes that only have bars, from which others are rolled up.
        "asset_timeframes": [each.key for each in sorted({by_key(key) for rows in assets.values() for key in rows})],
        "breadth": site.overview.heat_map.breadth(),
    }


def _by_name(rows: Iterable[shapes.AssetState]) -> dict[str, dict[str, shapes.AssetState]]:
    """Return the rows keyed by asset and timeframe."""
    found: dict[str, dict[str, shapes.AssetState]] = {}
    for row in rows:
        found.setdefault(row["asset"], {})[row["timeframe"]] = row
    return found


def why(site: Site, values: Values) -> dict[str, Any]:
    """Return the sentences of one series, and its condition on every timeframe."""
    rows = site.overview.heat_map.series.filter(symbol=values["symbol"]).iter_rows(named=True)
    own = {row["timeframe"]: row["condition"] for row in rows}
    found = contents.why_not(site, values)
    return {
        "found": found,
        "own": {each.key: own[each.key] for each in sorted(map(by_key, own))},
        "fine": conditions.FINE,
        "meaning": conditions.CONDITIONS[found["condition"]],
    }
