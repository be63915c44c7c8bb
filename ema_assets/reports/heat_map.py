"""All series on one map: trend, spread, bars since the last cross, the next cross, freshness. Writes nothing."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from ema_assets.model.asset_names import EMA_TREND
from ema_assets.model.symbols import DOWN, UP
from ema_assets.model.timeframes import Timeframe, by_key
from ema_assets.refresh.plan import AT_ONCE, Publications
from ema_assets.reports.freshness import FINE, conditions
from ema_assets.reports.screen import NEEDED_PCT
from ema_assets.store import series_overview
from ema_assets.store.database import Transaction

# The orders of a map, and what each puts first.
SORTS: Mapping[str, str] = {
    "watchlist": "as on the watchlist",
    "symbol": "by name",
    "bullish": "most timeframes up first",
    "bearish": "most timeframes down first",
    "cross": "nearest to its next cross first",
    "recent": "latest cross first",
    "spread": "widest spread first",
    "trouble": "what is not fresh first",
}


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Every series of the active symbols at one moment.

    Attributes:
        series: one row per series: symbol, timeframe, condition, since; and ts, close, trend, bars_since_cross,
            spread_pct, cross_price, cross_distance_pct, alignment, is_warming_up, revision, all null without a trend;
            unsorted.
        timeframes: the columns of the map, shortest first.
    """

    series: pl.DataFrame
    timeframes: tuple[Timeframe, ...]

    @property
    def symbols(self) -> list[str]:
        """All symbols, sorted by name."""
        return [str(symbol) for symbol in self.series["symbol"].unique().sort()]

    def breadth(self) -> dict[str, dict[str, int]]:
        """Return, per timeframe, how many symbols are up, down, without a trend (`none`), and `not_fresh`."""
        counted = self.series.group_by("timeframe").agg(
            up=(pl.col("trend") == UP).sum(),
            down=(pl.col("trend") == DOWN).sum(),
            none=pl.col("trend").is_null().sum(),
            not_fresh=(~pl.col("condition").is_in(FINE)).sum(),
        )
        return {str(row.pop("timeframe")): row for row in counted.to_dicts()}

    def only(self, symbols: Collection[str] | None) -> "HeatMap":
        """Return the map of only these `symbols` (None: all)."""
        if symbols is None:
            return self
        return HeatMap(self.series.filter(pl.col("symbol").is_in(list(symbols))), self.timeframes)

    def ordered(self, sort: str, watched: Sequence[str], timeframe: str | None = None) -> list[str]:
        """Return the symbols in the order of `sort`, one of SORTS; equal ones in the order of `watched`, then by name.

        For cross, recent and spread, the best value on any timeframe decides, or that on `timeframe` if given.
        """
        place = {symbol: number for number, symbol in enumerate(watched)}
        counted = (pl.col("timeframe") == timeframe) if timeframe is not None else pl.lit(True)
        by = {
            "watchlist": pl.lit(0),
            "symbol": pl.lit(0),
            "bullish": -pl.col("alignment").max(),
            "bearish": pl.col("alignment").min(),
            "cross": NEEDED_PCT.filter(counted).min(),
            "recent": pl.col("bars_since_cross").filter(counted).min(),
            "spread": -pl.col("spread_pct").filter(counted).abs().max(),
            "trouble": -(~pl.col("condition").is_in(FINE)).sum().cast(pl.Int64),
        }[sort]
        ranked = self.series.group_by("symbol").agg(rank=by.cast(pl.Float64))
        if sort == "symbol":
            return ranked.sort("symbol")["symbol"].to_list()
        ranked = ranked.with_columns(
            place=pl.col("symbol").replace_strict(place, default=len(place), return_dtype=pl.Int64)
        )
        return ranked.sort("rank", "place", "symbol", nulls_last=True)["symbol"].to_list()


def heat_map(transaction: Transaction, now: datetime, publications: Publications = AT_ONCE) -> HeatMap:
    """Return the map at `now`, of all active symbols and the timeframes on which anything is computed."""
    return of_trend(transaction, conditions(transaction, now, publications))


def of_trend(transaction: Transaction, found: pl.DataFrame, trend: str = EMA_TREND) -> HeatMap:
    """Return the map of `trend` for the series of `found`: symbol, timeframe, condition, since, has_fresh_averages."""
    screened = series_overview.screened(transaction, trend)
    series = found.join(screened, on=["symbol", "timeframe"], how="left")
    timeframes = tuple(sorted(by_key(key) for key in series["timeframe"].unique()))
    return HeatMap(series, timeframes)


def about_to_cross(found: HeatMap, timeframe: str | None = None) -> pl.DataFrame:
    """Return series with fresh averages, first those whose trend the smallest move in percent would flip next.

    Signals and strategies that wait or fail beside them do not matter.
    Columns: symbol, timeframe, trend, close, cross_price, cross_distance_pct, spread_pct, bars_since_cross. Series
    whose averages have not converged are left out.
    """
    rows = found.series.filter(
        pl.col("has_fresh_averages"), pl.col("cross_distance_pct").is_not_null(), ~pl.col("is_warming_up")
    )
    if timeframe is not None:
        rows = rows.filter(pl.col("timeframe") == timeframe)
    return (
        rows.with_columns(needed=NEEDED_PCT)
        .sort("needed", "symbol", "timeframe")
        .select(
            "symbol",
            "timeframe",
            "trend",
            "close",
            "cross_price",
            "cross_distance_pct",
            "spread_pct",
            "bars_since_cross",
        )
    )
