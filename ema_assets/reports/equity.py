"""How equity has grown with a strategy: of one series, or of several side by side as a portfolio. Writes nothing."""

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
# Open trades are marked at so many times, evenly apart: of all series together, and of one at most.
_MARKS, _MARKS_OF_ONE = 20_000, 400

# How a portfolio is made, to be said wherever one is shown.
WEIGHTING = (
    "Equal weights: the capital is divided evenly among the series at the start, each part is traded and compounds by "
    "itself, and nothing is moved between them later. A series without a trade stays in cash. Closed trades count with "
    "their costs; open ones are marked to the close, before costs of their exit, at evenly spaced times."
)


@dataclass(frozen=True, slots=True)
class Equity:
    """Equity as a multiple of the start.

    Attributes:
        curve: ts (opening time of the bar), equity, drawdown_pct (how far below the highest before, at most 0); sorted,
            one row per time at most, thinned out to about MOST_POINTS rows.
        series: how many series are in it.
        left_out: symbols that are not, because a return of theirs is not defined: a price of zero or less.
        trades: how many trades have ended, and how many are open.
        max_drawdown_pct: deepest fall from a peak in percent, at least 0; of all times, not only those of `curve`.
    """

    curve: pl.DataFrame
    series: int
    left_out: tuple[str, ...]
    trades: tuple[int, int]
    max_drawdown_pct: float

    @property
    def total_return_pct(self) -> float | None:
        """What became of the capital in percent; None without any series."""
        return None if self.curve.is_empty() else (float(self.curve["equity"][-1]) - 1) * 100


def equity(transaction: Transaction, strategy: str, timeframe: str, symbols: Sequence[str] | None) -> Equity:
    """The equity of `strategy` on the series of `symbols` (None: all active ones) on `timeframe`, as WEIGHTING says.

    Of one symbol it is that series' own.
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
    # Without a trade there is a curve, too.
    ends = pl.DataFrame({"symbol": "", "ts": [spans["first_ts"].min(), spans["last_ts"].max()], "value": 1.0})
    curve = together(pl.concat([values, ends.match_to_schema(values.schema)]).rename({"value": "equity"}), spans.height)
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
    """What one unit in each series was worth after each trade, and at some times while one was open.

    Columns: symbol, ts, value; of one symbol in the order of time.
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
    """Evenly spaced times at which each series is looked at: symbol, at."""
    first, last = spans["first_ts"].min(), spans["last_ts"].max()
    count = max(min(_MARKS // spans.height, _MARKS_OF_ONE), 12)
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    times = pl.Series("at", [first + (last - first) * n / count for n in range(1, count)], dtype=UTC_TIME)
    return spans.select("symbol").join(times.to_frame(), how="cross")


def _thinned(curve: pl.DataFrame) -> pl.DataFrame:
    """The first row, and the last one of each of MOST_POINTS stretches of equal length."""
    if curve.height <= MOST_POINTS:
        return curve
    first, last = curve["ts"][0], curve["ts"][-1]
    step = max((last - first) / MOST_POINTS, timedelta(seconds=1))
    stretch = (pl.col("ts") - first).dt.total_microseconds() // (step // timedelta(microseconds=1))
    kept = curve.group_by(stretch.alias("_stretch"), maintain_order=True).last().drop("_stretch")
    return pl.concat([curve.head(1), kept]).unique("ts", keep="last", maintain_order=True)


def _no_curve() -> pl.DataFrame:
    return pl.DataFrame(schema={"ts": UTC_TIME, "equity": pl.Float64(), "drawdown_pct": pl.Float64()})
