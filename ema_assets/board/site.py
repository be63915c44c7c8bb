"""What every answer of the board is made from, and what requests name: series, groups, strategies, pages. No HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar, cast, get_type_hints

import polars as pl

from ema_assets.board.links import DagsterLinks
from ema_assets.board.overviews import Configured, Overview, Overviews
from ema_assets.board.parameters import BadRequest, Values, unknown
from ema_assets.board.shapes import Paging
from ema_assets.model.asset_names import EMA_TREND
from ema_assets.model.symbols import Series
from ema_assets.model.timeframes import Timeframe, by_key

Row = TypeVar("Row")

SYMBOLS_AT = ": GET /api/symbols lists all of them"


@dataclass(frozen=True, slots=True)
class Site:
    """What every answer is made from."""

    overviews: Overviews
    links: DagsterLinks
    default_provider: str

    @property
    def overview(self) -> Overview:
        """The newest state of all series."""
        return self.overviews.current()

    @property
    def configured(self) -> Configured:
        """What the files say."""
        return self.overviews.configured()

    @property
    def is_synthetic(self) -> bool:
        """Whether the prices of any symbol are synthetic."""
        return bool(self.configured.watched.synthetic_symbols(self.default_provider))


# --- what requests name -----------------------------------------------------------------------------------------------


def timeframe_of(overview: Overview, key: str | None) -> Timeframe | None:
    """Return the timeframe with the key `key`; None for None.

    Raises:
        BadRequest: naming the timeframes that are on.
    """
    if key is None:
        return None
    known = [each.key for each in overview.heat_map.timeframes]
    if key not in known:
        raise unknown("timeframe", key, known)
    return by_key(key)


def series_of(overview: Overview, values: Values) -> Series:
    """Return the series that a request names, which must be kept up to date.

    Raises:
        BadRequest: naming the known symbols or timeframes.
    """
    symbol, timeframe = values["symbol"], timeframe_of(overview, values["timeframe"])
    assert timeframe is not None
    own = overview.timeframes.get(symbol)
    if own is None:
        raise unknown("symbol", symbol, list(overview.timeframes), where=SYMBOLS_AT)
    if timeframe.key not in own:
        raise unknown("timeframe", timeframe.key, own)
    return Series(symbol, timeframe)


def trend_of(site: Site, averages: str | None) -> str:
    """Return the asset with the trend of these averages, such as `12/26`; that of EMA 9 and 30 for None.

    Raises:
        BadRequest: naming the averages that a strategy compares.
    """
    if averages is None:
        return EMA_TREND
    known = site.configured.graph.averages
    if averages not in known:
        raise unknown("averages", averages, list(known))
    return known[averages]


def chosen_symbols(site: Site, values: Values) -> list[str] | None:
    """Return the symbols of `symbols` and of `group`, of all symbols when neither is given, that contain `q`.

    Return None when none of the three is given.

    Raises:
        BadRequest: naming the known symbols or groups.
    """
    symbols, group = list(values.get("symbols") or ()), values.get("group")
    known = site.overview.timeframes
    for symbol in symbols:
        if symbol not in known:
            raise unknown("symbols", symbol, list(known), where=SYMBOLS_AT)
    groups = site.configured.groups
    if group is not None:
        if group not in groups:
            raise unknown("group", group, list(groups))
        symbols = [*symbols, *groups[group]]
    chosen = list(dict.fromkeys(symbols)) if symbols or group is not None else None
    part = (values.get("q") or "").lower()
    if not part:
        return chosen
    return [symbol for symbol in (known if chosen is None else chosen) if part in symbol.lower()]


def strategies_of(site: Site, name: str | None) -> Sequence[str]:
    """Return the strategy with this name alone, or all of them for None.

    Raises:
        BadRequest: naming the known strategies.
    """
    known = site.configured.strategies
    if name is None:
        return known
    if name not in known:
        raise unknown("strategy", name, known)
    return [name]


def strategy_of(site: Site, name: str | None) -> str:
    """Return the strategy with this name, or the first one for None.

    Raises:
        BadRequest: naming the known strategies, also when there is none at all.
    """
    found = strategies_of(site, name)
    if not found:
        raise BadRequest("every strategy is switched off in the watchlist", "strategy", name or "", (), 404)
    return found[0]


def paging(total: int, values: Values) -> Paging:
    """Return which page of `total` rows is requested."""
    page, per_page = values["page"], values["per_page"]
    return {"page": page, "per_page": per_page, "pages": max(-(-total // per_page), 1), "total": total}


def on_page(rows: pl.DataFrame, values: Values) -> pl.DataFrame:
    """Return the `rows` that are on the requested page."""
    return rows.slice((values["page"] - 1) * values["per_page"], values["per_page"])


def as_shape(rows: pl.DataFrame, shape: type[Row]) -> list[Row]:
    """Return `rows` with exactly the fields of `shape`, a declaration of `shapes`."""
    return [] if rows.is_empty() else cast(list[Row], rows.select(list(get_type_hints(shape))).to_dicts())
