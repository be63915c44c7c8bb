"""The results as polars frames, for notebooks and scripts. A small public module, whose names are stable.

    from ema_assets import read

    read.bars("1h", symbols=["AAPL", "MSFT"], start="2026-11-01")
    read.signals("1h", ["AAPL"], names=["ema_signals", "rsi"])
    read.trades("5m", as_of="2026-11-20 15:05")
    read.screener("1h").sort("cross_distance_pct")
    read.chart("AAPL", "1h").savefig("aapl.png")

Times are UTC: a datetime with a zone, a time of numpy or pandas, or text such as `2026-11-20 15:05`. Symbols may be
written as `aapl`. Every function opens its own connection to the database that the settings name (EMA_DATABASE_URL, or
the embedded server of EMA_HOME), or to `url`. An embedded server that does not run is started, and runs until the
process ends.

`as_of` returns what was known then: bars that came later are left out, later corrections are undone, and signals,
trends and trades are computed from the bars known at that moment. It always reads whole series, because an EMA depends
on all earlier bars.

With `finality=True`, bars, signals, trends and trades have an additional column `is_preliminary`: the bar of the row,
or the newest bar of a trade, may still change at its provider, and with it the row. It cannot be combined with `as_of`.

With `ends=True`, bars, signals and trends have an additional column `ts_end`: when the bar closes, at the latest with
its session. Before that moment, nobody knows the row. Join a longer timeframe by it to avoid look-ahead.

Results that are too large for memory come in parts: `for part in read.pages("ohlc", "5m"): …`.

All functions raise InvalidKeyError for an invalid symbol or timeframe, ConfigurationError for an invalid time, a symbol
that never was on the watchlist, or an unknown signal or strategy, and StoreUnavailable when the database cannot be
reached. A mistake in one of your own signals or strategies is a Python warning: the others can be read.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from ema_assets.arguments import Time, check_timeframe, database_of, spelt, stored_symbols, symbols_of, utc
from ema_assets.config.settings import Settings
from ema_assets.market import adjustment
from ema_assets.model.asset_names import EMA_SIGNALS, EMA_TREND, OHLC, STRATEGY
from ema_assets.model.averages import FAST_SPAN, SLOW_SPAN, spans_of
from ema_assets.model.errors import ConfigurationError, not_one_of
from ema_assets.model.symbols import parse_timeframe
from ema_assets.model.timeframes import Timeframe
from ema_assets.refresh import graph
from ema_assets.refresh.readable import readable
from ema_assets.reports import chart as pictures
from ema_assets.reports import rows as stored
from ema_assets.reports.adjusted_bars import adjusted_bars
from ema_assets.store import action_facts, results, tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["actions", "assets", "bars", "chart", "pages", "performance", "screener", "signals", "trades", "trends"]


def bars(  # noqa: PLR0913 - what a person may ask for, by name
    timeframe: str,
    symbols: Sequence[str] | None = None,
    start: Time | None = None,
    end: Time | None = None,
    *,
    adjust: str = adjustment.SPLITS,
    as_of: Time | None = None,
    finality: bool = False,
    ends: bool = False,
    url: str | None = None,
) -> pl.DataFrame:
    """Return closed bars: symbol, ts, open, high, low, close, volume; sorted by symbol and ts.

    `ts` is the opening time (UTC), from `start` to before `end`. All symbols are returned when none are named.

    `adjust` says which corporate actions prices are adjusted for: `splits` returns bars as stored, adjusted for splits
    and everything else their vendor rescales for; `none` undoes the actions that `actions` returns, which gives prices
    as traded; `all` also multiplies by 1 - amount / previous close before each dividend, as CRSP does
    (docs/CORPORATE_ACTIONS.md names the sources). With `as_of` only `splits` is possible.
    """
    adjustment.check_adjustment(adjust)
    if adjust == adjustment.SPLITS:
        return _rows(graph.BARS, _Query(timeframe, symbols, start, end, as_of, url, finality, ends))
    if as_of is not None:
        raise ConfigurationError(f"`adjust` must be 'splits' together with `as_of`, received {adjust!r}")
    chosen, frame = symbols_of(symbols), parse_timeframe(timeframe)
    first, last = utc("start", start), utc("end", end)
    with database_of(url) as database, database.transaction() as transaction:
        transaction.read_one_moment()
        chosen = stored_symbols(transaction, chosen)
        rows = adjusted_bars(transaction, frame, chosen, first, last, adjust)
        rows = stored.with_ends(transaction, rows, frame) if ends else rows
        return stored.with_preliminary(transaction, rows, frame, chosen, "ts") if finality else rows


def actions(symbols: Sequence[str] | None = None, *, url: str | None = None) -> pl.DataFrame:
    """Return corporate actions: symbol, kind, effective_at, ratio, amount, value, source, known_at.

    `ratio` is the old price over the new one (7 for a split of 7:1), `amount` a dividend per share, `value` a new
    symbol or currency. Sorted by symbol and effective_at. All symbols are returned when none are named.
    """
    chosen = symbols_of(symbols)
    with database_of(url) as database, database.transaction() as transaction:
        # Actions may be known of symbols that are not on the watchlist yet.
        return action_facts.known(transaction, spelt(transaction, chosen))


def assets() -> pl.DataFrame:
    """Return all assets: asset, kind (`bars`, `signal`, `strategy`), is_on, reads, columns, description; inputs first.

    They follow from the watchlist and the folders of your own signals and strategies as they are now. `reads` are the
    assets that it is computed from, `columns` the columns of its table after symbol and timeframe.
    """
    known = _configured()
    return pl.DataFrame(
        {
            "asset": list(known.nodes),
            "kind": [_kind(node) for node in known.nodes.values()],
            "is_on": [known.has(name) for name in known.nodes],
            "reads": [list(node.reads) for node in known.nodes.values()],
            "columns": [[column.name for column in node.columns] for node in known.nodes.values()],
            "description": [node.description.partition("\n")[0] for node in known.nodes.values()],
        },
        schema_overrides={"reads": pl.List(pl.String())},
    )


def signals(  # noqa: PLR0913 - what a person may ask for, by name
    timeframe: str,
    symbols: Sequence[str] | None = None,
    start: Time | None = None,
    end: Time | None = None,
    *,
    names: Sequence[str] = (EMA_SIGNALS,),
    as_of: Time | None = None,
    finality: bool = False,
    ends: bool = False,
    url: str | None = None,
) -> pl.DataFrame:
    """Return signals side by side: symbol, ts, and the columns of every one of `names`; other arguments as in `bars`.

    `ema_signals` has ema_9, ema_30, bar_number (1 for the first bar of the series). The rows are those of the first of
    `names`; values that another signal does not have are null. A column that several signals have is taken from the
    first.
    """
    if isinstance(names, str) or not names:
        raise ConfigurationError(f'`names` must be a list such as ["rsi", "atr"], received {names!r}')
    found: pl.DataFrame | None = None
    for name in names:
        is_first = found is None
        query = _Query(timeframe, symbols, start, end, as_of, url, finality and is_first, ends and is_first)
        rows = _rows(_named(name, "signal", "names"), query)
        if found is None:
            found = rows
        else:
            new = [column for column in rows.columns if column not in found.columns]
            rows = rows.select("symbol", "ts", *new)
            found = found.join(rows, on=["symbol", "ts"], how="left", maintain_order="left")
    assert found is not None
    return found


def trends(
    timeframe: str,
    symbols: Sequence[str] | None = None,
    start: Time | None = None,
    end: Time | None = None,
    *,
    as_of: Time | None = None,
    finality: bool = False,
    ends: bool = False,
    url: str | None = None,
) -> pl.DataFrame:
    """Return trends: symbol, ts, trend, crossover, spread_pct, bars_since_cross, bar_number; arguments as in `bars`."""
    return _rows(_named(EMA_TREND, "signal"), _Query(timeframe, symbols, start, end, as_of, url, finality, ends))


def trades(
    timeframe: str,
    symbols: Sequence[str] | None = None,
    start: Time | None = None,
    end: Time | None = None,
    *,
    strategy: str | None = STRATEGY,
    as_of: Time | None = None,
    finality: bool = False,
    url: str | None = None,
) -> pl.DataFrame:
    """Return trades of `strategy` entered from `start` to before `end`; sorted by symbol and entry_ts.

    Columns: symbol, entry_ts, side, entry_price, entry_reason, exit_ts, exit_price, exit_reason and more, as
    docs/STRATEGIES.md defines them. An open trade has no exit and is marked to the newest bar. With None, the trades of
    all strategies that are switched on follow one another, with a first column `strategy`.
    """
    query = _Query(timeframe, symbols, start, end, as_of, url, finality)
    if strategy is not None:
        return _rows(_named(strategy, "strategy"), query)
    known = _configured()
    named = [
        _rows(known.nodes[name], query).select(pl.lit(name).alias("strategy"), pl.all()) for name in known.strategies
    ]
    return pl.concat(named) if named else pl.DataFrame(schema={"strategy": pl.String(), "symbol": pl.String()})


def screener(
    timeframe: str | None = None,
    symbols: Sequence[str] | None = None,
    *,
    averages: str = "9/30",
    url: str | None = None,
) -> pl.DataFrame:
    """Return one row per symbol on `timeframe` (None: on every timeframe), as in the view `results.screener`; unsorted.

    `averages` names a pair of EMAs, such as `12/26`, that a strategy with these spans compares.
    """
    spans = spans_of(averages)
    if spans != (FAST_SPAN, SLOW_SPAN):
        known = _configured().averages
        if spans is None or averages not in known:
            raise not_one_of("averages", averages, known)
    return _view(results.screener_view(spans).rpartition(".")[2], timeframe, symbols, None, url)


def performance(
    timeframe: str | None = None,
    symbols: Sequence[str] | None = None,
    *,
    strategy: str | None = None,
    url: str | None = None,
) -> pl.DataFrame:
    """Return the performance of each strategy, or one, on each series, as in the view `results.performance`; unsorted.

    It is as of the last refresh, usually a few minutes ago. docs/STRATEGIES.md defines every figure.
    """
    chosen = _named(strategy, "strategy").name if strategy is not None else None
    return _view("performance", timeframe, symbols, chosen, url)


def chart(
    symbol: str,
    timeframe: str,
    *,
    bars: int = pictures.USUAL_BARS,
    strategy: str | None = None,
    averages: str | None = None,
    url: str | None = None,
) -> "Figure":
    """Return a chart of the newest `bars` bars of a series with volume, the trades of `strategy` and its averages.

    It is a matplotlib figure, which notebooks show and `savefig` writes. The default of `strategy` is the first one.
    `averages` names another pair of EMAs, such as `12/26`, that a strategy with these spans compares.

    Raises:
        ConfigurationError: when there are no bars of the series, when nothing compares these averages, or when
            matplotlib, an extra, is not installed.
    """
    named = symbols_of([symbol])
    frame = parse_timeframe(timeframe)
    if bars < 1:
        raise ConfigurationError(f"`bars` must be at least 1, received {bars!r}")
    with database_of(url) as database, database.transaction() as transaction:
        known, (chosen,) = _configured(), spelt(transaction, named) or []
        return pictures.draw(pictures.picture_of(transaction, known, chosen, frame, bars, strategy, averages))


def pages(
    asset: str,
    timeframe: str,
    symbols: Sequence[str] | None = None,
    *,
    rows: int = 100_000,
    url: str | None = None,
) -> Iterator[pl.DataFrame]:
    """Return all rows of `asset` (`ohlc`, a signal or a strategy), at most `rows` at a time, sorted by symbol and time.

    All parts are as of the same moment, when the first one is read.
    """
    node = _named(asset, None)
    if rows < 1:
        raise ConfigurationError(f"`rows` must be at least 1, received {rows!r}")
    return _pages(node, parse_timeframe(timeframe), symbols_of(symbols), rows, url)


def _pages(
    node: graph.Node, frame: Timeframe, chosen: list[str] | None, rows: int, url: str | None
) -> Iterator[pl.DataFrame]:
    with database_of(url) as database, database.transaction() as transaction:
        transaction.read_one_moment()
        check_timeframe(transaction, node.table, frame)
        chosen = stored_symbols(transaction, chosen)
        yield from tables.pages(transaction, node.table, frame, chosen, rows)


def _configured() -> graph.Graph:
    """Return the graph of the configuration. A mistake in it is a warning, because stored rows can still be read."""
    settings = Settings.from_env()
    known, wrong = readable(graph.watchlist_of(settings), settings.signals_folder, settings.strategies_folder)
    if wrong is not None:
        # Attributed to the caller of the public function that called this one.
        warnings.warn(f"{wrong}; nothing is computed until that is corrected", stacklevel=3)
    return known


def _named(name: str, kind: str | None, argument: str | None = None) -> graph.Node:
    """Return the asset `name` of `kind` (None: any).

    Raises:
        ConfigurationError: when there is none; it names the `argument` (None: that is called like the kind).
    """
    known = _configured()
    of_kind = {each.name: each for each in known.nodes.values() if kind is None or _kind(each) == kind}
    if name not in of_kind:
        raise not_one_of(argument or kind or "asset", name, of_kind)
    return of_kind[name]


def _kind(node: graph.Node) -> str:
    return "bars" if node.name == OHLC else "signal" if node.signal is not None else "strategy"


def _view(
    view: str, timeframe: str | None, symbols: Sequence[str] | None, strategy: str | None, url: str | None
) -> pl.DataFrame:
    frame = parse_timeframe(timeframe).key if timeframe is not None else None
    chosen = symbols_of(symbols)
    with database_of(url) as database, database.transaction() as transaction:
        chosen = stored_symbols(transaction, chosen)
        return results.select(transaction, view, frame, chosen, strategy)


@dataclass(frozen=True, slots=True)
class _Query:
    """The arguments of a public function."""

    timeframe: str
    symbols: Sequence[str] | None
    start: Time | None
    end: Time | None
    as_of: Time | None
    url: str | None
    finality: bool
    ends: bool = False


def _rows(node: graph.Node, query: _Query) -> pl.DataFrame:
    if query.finality and query.as_of is not None:
        raise ConfigurationError("`finality` must be False together with `as_of`: what was final then is not known")
    chosen, frame = symbols_of(query.symbols), parse_timeframe(query.timeframe)
    first, last, moment = utc("start", query.start), utc("end", query.end), utc("as_of", query.as_of)
    with database_of(query.url) as database, database.transaction() as transaction:
        check_timeframe(transaction, node.table, frame)
        chosen = stored_symbols(transaction, chosen)
        if moment is None:
            rows = stored.rows_of(transaction, node, frame, chosen, first, last)
        else:
            known = _configured()
            rows = stored.rows_as_of(transaction, known, node.name, frame, chosen, moment)
            first_known = tables.first_stored(transaction, frame, chosen) if rows.is_empty() else None
            if first_known is not None and moment < first_known:
                warnings.warn(
                    f"nothing was known at {moment:%Y-%m-%d %H:%M} UTC: the first of these bars was stored at "
                    f"{first_known:%Y-%m-%d %H:%M} UTC; `end` leaves out later bars, whenever they were stored",
                    # Attributed to the caller of the public function that called this one.
                    stacklevel=3,
                )
        if query.ends:
            rows = stored.with_ends(transaction, rows, frame)
        if query.finality:
            newest = "ts" if node.variant is None else "last_ts"
            rows = stored.with_preliminary(transaction, rows, frame, chosen, newest)
    if moment is None:
        # The query has applied `start` and `end` already.
        return rows
    within = [pl.lit(True)]
    if first is not None:
        within.append(pl.col(node.table.time) >= first)
    if last is not None:
        within.append(pl.col(node.table.time) < last)
    return rows.filter(*within)
