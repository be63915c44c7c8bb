"""What the board knows, as plain values, for both the pages and the JSON API. No HTTP, no markup, no SQL."""

from typing import cast

import polars as pl

from ema_assets.board import shapes
from ema_assets.board.overviews import Overview
from ema_assets.board.parameters import BadRequest, Values, unknown
from ema_assets.board.site import (
    Site,
    as_shape,
    chosen_symbols,
    on_page,
    paging,
    series_of,
    strategies_of,
    strategy_of,
    timeframe_of,
    trend_of,
)
from ema_assets.model.timeframes import Timeframe, by_key, usual_among
from ema_assets.reports import equity as equities
from ema_assets.reports import heat_map, performance_table, series_chart, trade_table, why
from ema_assets.reports.charted_bars import label_of
from ema_assets.reports.freshness import SILENT
from ema_assets.store import series_overview

_UTC = pl.Datetime("us", "UTC")


# --- all series -------------------------------------------------------------------------------------------------------


def symbols(site: Site, values: Values) -> shapes.Symbols:
    """The symbols in the order of the watchlist, with their groups and timeframes."""
    overview, configured = site.overview, site.configured
    groups = {symbol: name for name, members in configured.groups.items() for symbol in members}
    place = {symbol: number for number, symbol in enumerate(configured.watched.symbols)}
    rows = (
        overview.heat_map.series.group_by("symbol")
        .agg("timeframe")
        .with_columns(place=pl.col("symbol").replace_strict(place, default=len(place), return_dtype=pl.Int64))
        .sort("place", "symbol")
    )
    shown: list[shapes.WatchedSymbol] = [
        {
            "symbol": row["symbol"],
            "group": groups.get(row["symbol"]),
            "timeframes": [each.key for each in sorted(map(by_key, row["timeframe"]))],
        }
        for row in on_page(rows, values).iter_rows(named=True)
    ]
    return {**paging(rows.height, values), "rows": shown}


def heat_map_page(site: Site, values: Values) -> shapes.HeatMapPage:
    """One page of the heat map: a row per symbol, a cell per timeframe, and the breadth of all symbols chosen."""
    overview = site.overview
    timeframe_of(overview, values["timeframe"])
    found = site.overviews.map_of(trend_of(site, values["averages"])).only(chosen_symbols(site, values))
    ordered = found.ordered(values["sort"], site.configured.watched.symbols, values["timeframe"])
    shown = on_page(pl.DataFrame({"symbol": ordered}, schema={"symbol": pl.String()}), values)["symbol"].to_list()
    cells: dict[str, dict[str, shapes.Cell]] = {symbol: {} for symbol in shown}
    mine = found.series.filter(pl.col("symbol").is_in(shown))
    for symbol, cell in zip(mine["symbol"], as_shape(mine, shapes.Cell), strict=True):
        cells[symbol][cell["timeframe"]] = cell
    rows: list[shapes.MapRow] = [
        {
            "symbol": symbol,
            "alignment": next(
                (cell["alignment"] for cell in cells[symbol].values() if cell["alignment"] is not None), None
            ),
            "cells": [cells[symbol].get(each.key) for each in found.timeframes],
        }
        for symbol in shown
    ]
    return {
        "timeframes": [each.key for each in found.timeframes],
        "breadth": cast(dict[str, shapes.Breadth], found.breadth()),
        **paging(len(ordered), values),
        "rows": rows,
    }


def about_to_cross(site: Site, values: Values) -> shapes.NearCrosses:
    """Series with fresh averages by how small a move of the price would flip them, the smallest first."""
    overview = site.overview
    timeframe_of(overview, values["timeframe"])
    found = site.overviews.map_of(trend_of(site, values["averages"])).only(chosen_symbols(site, values))
    rows = heat_map.about_to_cross(found, values["timeframe"])
    return {**paging(rows.height, values), "rows": as_shape(on_page(rows, values), shapes.NearCross)}


def crossovers(site: Site, values: Values) -> shapes.Crossings:
    """The latest crossovers, newest first. `has_more` says whether there is another page."""
    page, per_page = values["page"], values["per_page"]
    timeframes, chosen, trend = _crossed_on(site, values)
    with site.overviews.readers.transaction() as transaction:
        rows = series_overview.crossovers(transaction, timeframes, chosen, per_page + 1, (page - 1) * per_page, trend)
    return {
        "page": page,
        "per_page": per_page,
        "has_more": rows.height > per_page,
        "rows": as_shape(rows.head(per_page), shapes.Crossing),
    }


def last_page_of_crossovers(site: Site, values: Values) -> int:
    """Return the number of the last page.

    Counting takes much longer than reading one page, so answers do not include it.
    """
    timeframes, chosen, trend = _crossed_on(site, values)
    with site.overviews.readers.transaction() as transaction:
        count = series_overview.crossovers_in_all(transaction, timeframes, chosen, trend)
    per_page: int = values["per_page"]
    return max(-(-count // per_page), 1)


def _crossed_on(site: Site, values: Values) -> tuple[list[str], list[str] | None, str]:
    """Return the timeframes, the symbols (None: all) and the trend whose crossovers a request names."""
    timeframe = timeframe_of(site.overview, values["timeframe"])
    known = site.overview.heat_map.timeframes if timeframe is None else (timeframe,)
    return [each.key for each in known], chosen_symbols(site, values), trend_of(site, values["averages"])


# --- trades -----------------------------------------------------------------------------------------------------------


def open_trades(site: Site, values: Values) -> shapes.OpenTrades:
    """Open trades with their stops, in the order of `sort`; nearest to the stop, those of silent symbols come last."""
    overview = site.overview
    timeframe = timeframe_of(overview, values["timeframe"])
    chosen, strategies = chosen_symbols(site, values), strategies_of(site, values["strategy"])
    timeframes = [each.key for each in overview.heat_map.timeframes] if timeframe is None else [timeframe.key]
    with site.overviews.readers.transaction() as transaction:
        rows = trade_table.open_trades(transaction, strategies, timeframes, chosen, values["sort"])
    known = overview.heat_map.series.select("symbol", "timeframe", "condition")
    rows = rows.join(known, on=["symbol", "timeframe"], how="left", maintain_order="left")
    if values["sort"] == trade_table.BY_STOP:
        # Nobody can trade them.
        rows = rows.sort((pl.col("condition") == SILENT).fill_null(value=False), maintain_order=True)
    gains = rows["return_pct"].drop_nulls()
    return {
        "winning": int((gains > 0).sum()),
        "losing": int((gains < 0).sum()),
        "without_stop": rows["stop_now"].null_count(),
        **paging(rows.height, values),
        "rows": as_shape(on_page(rows, values), shapes.OpenTrade),
    }


def performance(site: Site, values: Values) -> shapes.Performances:
    """How a strategy has done on each series of a timeframe, as of the last refresh of the figures."""
    overview = site.overview
    timeframe = timeframe_of(overview, values["timeframe"]) or _usual(overview)
    strategy, chosen = strategy_of(site, values["strategy"]), chosen_symbols(site, values)
    if timeframe is None:
        return {"strategy": strategy, "timeframe": None, "refreshed_at": None, **paging(0, values), "rows": []}
    with site.overviews.readers.transaction() as transaction:
        rows = performance_table.performance(transaction, strategy, timeframe.key, chosen, values["sort"])
        refreshed_at = performance_table.refreshed_at(transaction)
    return {
        "strategy": strategy,
        "timeframe": timeframe.key,
        "refreshed_at": refreshed_at,
        **paging(rows.height, values),
        "rows": as_shape(on_page(rows, values), shapes.Performance),
    }


def _usual(overview: Overview) -> Timeframe | None:
    """Return the timeframe that is shown when none is named: an hour or the next longer one."""
    known = overview.heat_map.timeframes
    return usual_among(known) if known else None


def equity(site: Site, values: Values) -> shapes.EquityCurve:
    """The equity curve of a strategy on one series, or on several as a portfolio."""
    overview = site.overview
    timeframe = timeframe_of(overview, values["timeframe"]) or _usual(overview)
    strategy, chosen = strategy_of(site, values["strategy"]), chosen_symbols(site, values)
    if timeframe is None:
        raise BadRequest("there is no series yet", "timeframe", "", (), 404)
    with site.overviews.readers.transaction() as transaction:
        found = equities.equity(transaction, strategy, timeframe.key, chosen)
    return {
        "strategy": strategy,
        "timeframe": timeframe.key,
        "symbols": None if chosen is None else len(chosen),
        "series": found.series,
        "left_out": found.left_out,
        "weighting": equities.WEIGHTING,
        "trades_closed": found.trades[0],
        "trades_open": found.trades[1],
        "total_return_pct": found.total_return_pct,
        "max_drawdown_pct": found.max_drawdown_pct,
        "time": found.curve["ts"].dt.epoch("s").to_list(),
        "equity": found.curve["equity"].round(6).to_list(),
        "drawdown_pct": found.curve["drawdown_pct"].round(4).to_list(),
    }


# --- one series -------------------------------------------------------------------------------------------------------


def chart(site: Site, values: Values) -> shapes.DrawnSeries:
    """Bars, averages, signals and trades of one series, column by column; times in seconds since 1970, UTC.

    `averages` names what `fast` and `slow` are: the requested ones, those that `strategy` compares, or EMA 9 and EMA
    30.
    """
    series = series_of(site.overview, values)
    graph = site.configured.graph
    known = series_chart.drawable(graph)
    for name in values["signals"]:
        if name not in known:
            raise unknown("signals", name, list(known))
    strategy = None if values["strategy"] is None else strategy_of(site, values["strategy"])
    trend_of(site, values["averages"])
    with site.overviews.readers.transaction() as transaction:
        found = series_chart.series_chart(
            transaction,
            graph,
            series.symbol,
            series.timeframe,
            bars=values["bars"],
            signals=values["signals"],
            strategy=strategy,
            averages=values["averages"],
        )
    lines = [line.place for line in found.lines]
    rounded = found.bars.with_columns(pl.col("fast", "slow", *lines).cast(pl.Float64).round_sig_figs(9))
    trades = found.trades.with_columns(pl.col("entry_ts", "exit_ts", "last_ts").cast(_UTC).dt.epoch("s"))
    drawn: list[shapes.DrawnLine] = [
        {
            "signal": line.signal,
            "column": line.column,
            "on_price": line.on_price,
            "unit": line.unit,
            "values": rounded[line.place].to_list(),
        }
        for line in found.lines
    ]
    return {
        "symbol": series.symbol,
        "timeframe": series.timeframe.key,
        "is_whole": found.is_whole,
        "time": rounded["ts"].cast(_UTC).dt.epoch("s").to_list(),
        "open": rounded["open"].to_list(),
        "high": rounded["high"].to_list(),
        "low": rounded["low"].to_list(),
        "close": rounded["close"].to_list(),
        "volume": rounded["volume"].to_list(),
        "averages": [label_of(each) for each in found.averages],
        "fast": rounded["fast"].to_list(),
        "slow": rounded["slow"].to_list(),
        "lines": drawn,
        "strategy": strategy,
        "trades": as_shape(trades, shapes.DrawnTrade),
    }


def why_not(site: Site, values: Values) -> shapes.WhyNot:
    """Why a series is fresh or not, in plain sentences, and what to do."""
    overview = site.overview
    series = series_of(overview, values)
    with site.overviews.readers.transaction() as transaction:
        found = why.why(
            transaction,
            series,
            overview.heat_map.series,
            site.default_provider,
            overview.now,
            site.overviews.times.machine(),
        )
    assert found is not None
    return {
        "series": str(series),
        "symbol": series.symbol,
        "timeframe": series.timeframe.key,
        "condition": found.condition,
        "is_fine": found.is_fine,
        "headline": found.headline,
        "reasons": found.reasons,
        "advice": found.advice,
        "story": found.story,
        "base": None if found.base is None else found.base.timeframe.key,
        "chain": [
            {
                "asset": row["asset"],
                "last_ts": row["last_ts"],
                "revision": row["revision"],
                "computed_at": row["computed_at"],
                "failures": row["failures"],
                "last_error": row["last_error"],
                "is_dirty": row["asset"] in found.waiting,
                "dagster": site.links.partition(row["asset"], series.symbol, series.timeframe.key),
            }
            for row in found.chain.iter_rows(named=True)
        ],
    }
