"""The equity curve of a strategy, on one series or on several series as a portfolio. Writes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from ema_assets.model.schemas import UTC_TIME
from ema_assets.store import trade_lists
from ema_assets.store.database import Transaction
from ema_assets.strategies.figures import together
from ema_assets.strategies.trade_columns import LONG

MOST_POINTS = 1_000
# Open trades are marked to market at evenly spaced times: the number for all series together, and the most per series.
_MARKS, _MARKS_OF_ONE = 20_000, 400

# How a portfolio is weighted, to be shown with every portfolio.
WEIGHTING = (
    "Equal weights: the capital is divided evenly among the series at the start, each part is traded and compounds by "
    "itself, and nothing is moved between them later. A series without a trade stays in cash. Closed trades count with "
    "their costs; open ones are marked to the close, before costs of their exit, at evenly spaced times."
)


@dataclass(frozen=True, slots=True)
class Equity:
    """Equity as a multiple of the start.

    Attributes:
        curve: ts (opening time of the bar), equity, drawdown_pct (how far below the previous peak, at most 0); sorted
            by ts, at most one row per time, thinned out to about MOST_POINTS rows, evenly spaced.
        series: number of series included.
        left_out: symbols left out because a return is undefined, due to a price of zero or less.
        trades: number of closed trades and of open trades.
        max_drawdown_pct: deepest fall from a peak in percent, at least 0; over all times, not only those of `curve`.
    """

    curve: pl.DataFrame
    series: int
    left_out: tuple[str, ...]
    trades: tuple[int, int]
    max_drawdown_pct: float

    @property
    def total_return_pct(self) -> float | None:
        """The return on the capital in percent; None without any series."""
        return None if self.curve.is_empty() else (float(self.curve["equity"][-1]) - 1) * 100


def equity(transaction: Transaction, strategy: str, timeframe: str, symbols: Sequence[str] | None) -> Equity:
    """Return the equity of `strategy` on `timeframe` for `symbols` (None: all active ones), weighted as WEIGHTING says.

    For one symbol, it is the equity of that series.
    """
    spans = trade_lists.first_bars(transaction, strategy, timeframe, symbols)
    steps = trade_lists.steps(transaction, strategy, timeframe, symbols)
    steps = steps.join(spans.select("symbol"), on="symbol", how="semi")
    left_out = steps.filter(pl.col("net_return_pct").is_null())["symbol"].unique().sort().to_list()
    spans = spans.filter(~pl.col("symbol").is_in(left_out))
    steps = steps.filter(~pl.col("symbol").is_in(left_out))
    if spans.is_empty():
        return Equity(_no_curve(), 0, tuple(left_out), (0, 0), 0.0)
    values = _values(transaction, timeframe, steps, spans).sort("symbol", "ts", maintain_order=True)
    # There is a curve even without a trade. Time without one takes as much room on its axis as any other.
    idle = pl.DataFrame({"symbol": "", "ts": _evenly_spaced(spans, MOST_POINTS, ends=True), "value": 1.0})
    curve = together(pl.concat([values, idle.match_to_schema(values.schema)]).rename({"value": "equity"}), spans.height)
    deepest = curve["drawdown_pct"].min()
    is_open = int(steps["is_open"].sum())
    return Equity(
        curve=_thinned(curve),
        series=spans.height,
        left_out=tuple(left_out),
        trades=(steps.height - is_open, is_open),
        max_drawdown_pct=abs(deepest) if isinstance(deepest, float) else 0.0,
    )


def _values(transaction: Transaction, timeframe: str, steps: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """Return the value of one unit invested in each series, after each trade and at some times while one was open.

    Columns: symbol, ts, value; unsorted.
    """
    after = (1 + pl.col("net_return_pct") / 100).clip(lower_bound=0).cum_prod()
    steps = steps.with_columns(value=after.over("symbol")).with_columns(
        before=pl.col("value").shift(1, fill_value=1.0).over("symbol")
    )
    moments = _moments(spans).join(steps.select("symbol").unique(), on="symbol", how="semi")
    trades = steps.select("symbol", "entry_ts", "side", "entry_price", "entry_cost", "before", ended="ts")
    while_open = (
        moments.sort("at")
        .join_asof(trades.sort("entry_ts"), left_on="at", right_on="entry_ts", by="symbol", check_sortedness=False)
        .filter(pl.col("at") < pl.col("ended"))
    )
    closes = trade_lists.closes_at(transaction, timeframe, while_open.select("symbol", "at"))
    way = pl.when(pl.col("side") == LONG).then(1.0).otherwise(-1.0)
    made = way * (pl.col("close") / pl.col("entry_price") - 1) - pl.col("entry_cost")
    marked = while_open.join(closes, on=["symbol", "at"]).select(
        "symbol",
        ts="at",
        value=pl.col("before") * (1 + made).clip(lower_bound=0),
    )
    return pl.concat(
        [steps.select("symbol", "ts", "value"), marked.match_to_schema(steps.select("symbol", "ts", "value").schema)]
    )


def _moments(spans: pl.DataFrame) -> pl.DataFrame:
    """Return evenly spaced times at which each series is valued: symbol, at."""
    times = _evenly_spaced(spans, max(min(_MARKS // spans.height, _MARKS_OF_ONE), 12), ends=False)
    return spans.select("symbol").join(times.alias("at").to_frame(), how="cross")


def _evenly_spaced(spans: pl.DataFrame, count: int, *, ends: bool) -> pl.Series:
    """Return the times between `count` periods of equal length, from the first bar to the last, `ends` included."""
    first, last = spans["first_ts"].min(), spans["last_ts"].max()
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    numbers = range(count + 1) if ends else range(1, count)
    return pl.Series([first + (last - first) * n / count for n in numbers], dtype=UTC_TIME)


def _thinned(curve: pl.DataFrame) -> pl.DataFrame:
    """Return the first row, and the last row of each of MOST_POINTS periods of equal length."""
    if curve.height <= MOST_POINTS:
        return curve
    first, last = curve["ts"][0], curve["ts"][-1]
    step = max((last - first) / MOST_POINTS, timedelta(seconds=1))
    stretch = (pl.col("ts") - first).dt.total_microseconds() // (step // timedelta(microseconds=1))
    kept = curve.group_by(stretch.alias("_stretch"), maintain_order=True).last().drop("_stretch")
    return pl.concat([curve.head(1), kept]).unique("ts", keep="last", maintain_order=True)


def _no_curve() -> pl.DataFrame:
    return pl.DataFrame(schema={"ts": UTC_TIME, "equity": pl.Float64(), "drawdown_pct": pl.Float64()})
