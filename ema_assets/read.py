"""The results as polars frames, for notebooks and scripts. A small public module: these names stay.

    from ema_assets import read

    read.bars("1h", symbols=["AAPL", "MSFT"], start="2026-11-01")
    read.trades("5m", as_of="2026-11-20 15:05")

Times are UTC: a datetime with a zone, or text such as `2026-11-20 15:05`. Every function opens its own connection to
the database that the settings name (EMA_DATABASE_URL, or the embedded server that `ema-assets up` runs), or to `url`.

`as_of` gives what was known then: bars that came later are left out, later corrections are undone, and signals, trends
and trades are those of the bars known at that moment. It always looks at whole series, since an EMA has no start.

Raises everywhere: InvalidKeyError for a symbol or timeframe that cannot be one, ConfigurationError for a time that is
none, StoreUnavailable when the database cannot be reached.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import polars as pl

from ema_assets.errors import ConfigurationError
from ema_assets.keys import parse_symbol, parse_timeframe
from ema_assets.lineage import EMA_SIGNALS, EMA_TREND, OHLC, STRATEGY
from ema_assets.pipeline import graph, reading
from ema_assets.settings import Settings
from ema_assets.store.database import Database
from ema_assets.store.locate import database_url

__all__ = ["bars", "signals", "trades", "trends"]

Time = datetime | str


def bars(
    timeframe: str,
    symbols: Sequence[str] | None = None,
    start: Time | None = None,
    end: Time | None = None,
    *,
    as_of: Time | None = None,
    url: str | None = None,
) -> pl.DataFrame:
    """Closed bars: symbol, ts, open, high, low, close, volume; sorted by symbol and ts.

    `ts` is the opening time, from `start` to before `end`; of all symbols when none are named.
    """
    return _rows(OHLC, "ts", timeframe, symbols, start, end, as_of, url)


def signals(
    timeframe: str,
    symbols: Sequence[str] | None = None,
    start: Time | None = None,
    end: Time | None = None,
    *,
    as_of: Time | None = None,
    url: str | None = None,
) -> pl.DataFrame:
    """EMAs: symbol, ts, ema_9, ema_30, bar_number (1 for the first bar of the series); arguments as `bars`."""
    return _rows(EMA_SIGNALS, "ts", timeframe, symbols, start, end, as_of, url)


def trends(
    timeframe: str,
    symbols: Sequence[str] | None = None,
    start: Time | None = None,
    end: Time | None = None,
    *,
    as_of: Time | None = None,
    url: str | None = None,
) -> pl.DataFrame:
    """Trends: symbol, ts, trend, crossover, spread_pct, bars_since_cross, bar_number; arguments as `bars`."""
    return _rows(EMA_TREND, "ts", timeframe, symbols, start, end, as_of, url)


def trades(
    timeframe: str,
    symbols: Sequence[str] | None = None,
    start: Time | None = None,
    end: Time | None = None,
    *,
    as_of: Time | None = None,
    url: str | None = None,
) -> pl.DataFrame:
    """Trades of the 9-30 EMA strategy, entered from `start` to before `end`; sorted by symbol and entry_ts.

    Columns: symbol, entry_ts, entry_price, exit_ts, exit_price, last_ts, last_price, return_pct, bars_held, status. The
    open trade has no exit and is marked to the newest bar.
    """
    return _rows(STRATEGY, "entry_ts", timeframe, symbols, start, end, as_of, url)


def _rows(
    asset: str,
    time: str,
    timeframe: str,
    symbols: Sequence[str] | None,
    start: Time | None,
    end: Time | None,
    as_of: Time | None,
    url: str | None,
) -> pl.DataFrame:
    if isinstance(symbols, str):
        raise ConfigurationError(f'`symbols` must be a list such as ["{symbols}"], received {symbols!r}')
    chosen = [parse_symbol(symbol) for symbol in symbols] if symbols is not None else None
    frame, first, last = parse_timeframe(timeframe), _utc("start", start), _utc("end", end)
    moment = _utc("as_of", as_of)
    settings = Settings.from_env()
    known = graph.configured(settings)
    with Database(url or database_url(settings)) as database, database.transaction() as transaction:
        if moment is None:
            return reading.rows_of(transaction, known.nodes[asset], frame, chosen, first, last)
        rows = reading.rows_as_of(transaction, known, asset, frame, chosen, moment)
    within = [pl.lit(True)]
    if first is not None:
        within.append(pl.col(time) >= first)
    if last is not None:
        within.append(pl.col(time) < last)
    return rows.filter(*within)


def _utc(name: str, time: Time | None) -> datetime | None:
    if time is None:
        return None
    try:
        moment = datetime.fromisoformat(time) if isinstance(time, str) else time
    except ValueError:
        raise ConfigurationError(
            f"`{name}` must be a time such as '2026-11-20 15:05', UTC, received {time!r}"
        ) from None
    if moment.tzinfo is None:
        if not isinstance(time, str):
            raise ConfigurationError(f"`{name}` must be a datetime with a zone, received {time!r}")
        return moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC)
