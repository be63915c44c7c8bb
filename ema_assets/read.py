"""The results as polars frames, for notebooks and scripts. A small public module: these names stay.

    from ema_assets import read

    read.bars("1h", symbols=["AAPL", "MSFT"], start="2026-11-01")
    read.signals("1h", ["AAPL"], names=["ema_signals", "rsi"])
    read.trades("5m", as_of="2026-11-20 15:05")
    read.screener("1h").sort("cross_distance_pct")
    read.chart("AAPL", "1h").savefig("aapl.png")

Times are UTC: a datetime with a zone, a time of numpy or pandas, or text such as `2026-11-20 15:05`. Symbols may be
written as `aapl`. Every function opens its own connection to the database that the settings name (EMA_DATABASE_URL, or
the embedded server that `ema-assets up` runs), or to `url`.

`as_of` gives what was known then: bars that came later are left out, later corrections are undone, and signals, trends
and trades are those of the bars known at that moment. It always looks at whole series, since an EMA has no start.

With `finality=True`, bars, signals, trends and trades have a column `is_preliminary` too: the bar of the row, or the
newest one of a trade, may still change at its provider, and with it the row. What was final at an `as_of` is not known.

With `ends=True`, bars, signals and trends have a column `ts_end` too: when the bar closes, with its session at the
latest. Until then nobody knows the row. Join a longer timeframe by it, and nothing comes from the future.

What is too large for memory comes in parts: `for part in read.pages("ohlc", "5m"): …`.

Raises everywhere: InvalidKeyError for a symbol or timeframe that cannot be one, ConfigurationError for a time that is
none, a symbol that never was on the watchlist, or a signal or strategy that does not exist, StoreUnavailable when the
database cannot be reached. A signal or strategy of yours that is wrong is a Python warning: the others can be read.
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
    """Closed bars: symbol, ts, open, high, low, close, volume; sorted by symbol and ts.

    `ts` is the opening time, from `start` to before `end`; of all symbols when none are named.

    `adjust` says which corporate actions the prices allow for: `splits` gives bars as they are stored, adjusted for
    splits and what else their vendor rescales for; `none` undoes what `actions` knows of that, which gives prices as
    they traded; `all` also multiplies by 1 - amount / previous close before each dividend, as CRSP does
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
    """Corporate actions: symbol, kind, effective_at, ratio, amount, value, source, known_at; sorted by symbol and time.

    `ratio` is the old price over the new one (7 for a split of 7:1), `amount` a dividend per share, `value` a new
    symbol or currency. Of all symbols when none are named.
    """
    chosen = symbols_of(symbols)
    with database_of(url) as database, database.transaction() as transaction:
        # Facts may be of symbols that are on no watchlist yet.
        return action_facts.known(transaction, spelt(transaction, chosen))


def assets() -> pl.DataFrame:
    """What there is: asset, kind (`bars`, `signal`, `strategy`), is_on, reads, columns, description; parents first.

    As the watchlist and the folders of your own signals and strategies say now. `reads` are the assets it is computed
    from, `columns` those of its table behind symbol and timeframe.
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
    """Signals side by side: symbol, ts, and the columns of every one of `names`; other arguments as `bars`.

    `ema_signals` has ema_9, ema_30, bar_number (1 for the first bar of the series). A bar is there when the first of
    `names` has it; what another does not have is null. Of a column that two of them have, the first one's is given.
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
    """Trends: symbol, ts, trend, crossover, spread_pct, bars_since_cross, bar_number; arguments as `bars`."""
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
    """Trades of `strategy`, entered from `start` to before `end`; sorted by symbol and entry_ts.

    Columns: symbol, entry_ts, side, entry_price, entry_reason, exit_ts, exit_price, exit_reason and more, as
    docs/STRATEGIES.md defines them. The open trade has no exit and is marked to the newest bar. With None those of all
    strategies that are switched on, one after the other, with a first column `strategy`.
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
    """One row per symbol on `timeframe` (None: one for each timeframe), as in the view `results.screener`; unsorted.

    `averages` are EMAs that are compared, such as `12/26`: those of a strategy with other spans.
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
    """How each strategy, or one, has done on each series, as in the view `results.performance`; unsorted.

    As of its last refresh, a few minutes ago. docs/STRATEGIES.md defines every figure.
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
    """The newest `bars` bars of a series with volume, the trades of `strategy` and its averages, as a picture.

    A matplotlib figure, which notebooks show and `savefig` writes. The first strategy is taken where none is named.
    `averages` are other EMAs, such as `12/26`: those of a strategy with these spans.

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
    """All rows of `asset` (`ohlc`, a signal or a strategy), at most `rows` at a time, sorted by symbol and time.

    All parts are of the same moment: the one at which the first is read.
    """
    node = _named(asset, None)
    if rows < 1:
        raise ConfigurationError(f"`rows` must be at least 1, received {rows!r}")
    chosen, frame = symbols_of(symbols), parse_timeframe(timeframe)
    with database_of(url) as database, database.transaction() as transaction:
        transaction.read_one_moment()
        check_timeframe(transaction, node.table, frame)
        chosen = stored_symbols(transaction, chosen)
        yield from tables.pages(transaction, node.table, frame, chosen, rows)


def _configured() -> graph.Graph:
    """What the configuration makes. A mistake there is a warning: what is stored can be read all the same."""
    settings = Settings.from_env()
    known, wrong = readable(graph.watchlist_of(settings), settings.signals_folder, settings.strategies_folder)
    if wrong is not None:
        # Of the caller of the public function that has called this one.
        warnings.warn(f"{wrong}; nothing is computed until that is corrected", stacklevel=3)
    return known


def _named(name: str, kind: str | None, argument: str | None = None) -> graph.Node:
    """The asset `name`, a signal or a strategy when `kind` says so, as which the `argument` is called by itself."""
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
    """What a public function was asked for."""

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
        if query.ends:
            rows = stored.with_ends(transaction, rows, frame)
        if query.finality:
            newest = "ts" if node.variant is None else "last_ts"
            rows = stored.with_preliminary(transaction, rows, frame, chosen, newest)
    if moment is None:
        # It was narrowed where it was read.
        return rows
    within = [pl.lit(True)]
    if first is not None:
        within.append(pl.col(node.table.time) >= first)
    if last is not None:
        within.append(pl.col(node.table.time) < last)
    return rows.filter(*within)
