"""Synthetic prices and frames for tests. All results depend only on the arguments."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from hypothesis import strategies as st

from ema_assets.model.schemas import UTC_TIME

START = datetime(2026, 7, 1, tzinfo=UTC)


def random_walk(bars: int, seed: int, price: float = 100.0, volatility: float = 0.02) -> list[float]:
    """Return `bars` closes of a geometric random walk that starts near `price`."""
    steps = np.random.default_rng(seed).normal(0.0, volatility, bars)
    return [float(close) for close in price * np.exp(np.cumsum(steps))]


def bars_of(closes: Mapping[str, Sequence[float]], **columns: pl.Expr) -> pl.DataFrame:
    """Return symbol, ts, close, volume of several symbols, with a bar every five minutes from START; sorted."""
    return pl.concat(
        [
            pl.DataFrame(
                {
                    "symbol": pl.Series([symbol] * len(series), dtype=pl.String),
                    "ts": pl.Series([START + n * timedelta(minutes=5) for n in range(len(series))], dtype=UTC_TIME),
                    "close": pl.Series(list(series), dtype=pl.Float64),
                    "volume": pl.Series([5.0] * len(series), dtype=pl.Float64),
                }
            )
            for symbol, series in sorted(closes.items())
        ]
    ).with_columns(**columns)


@st.composite
def price_series(draw: st.DrawFn, most: int = 120) -> list[float]:
    """Draw closes of various kinds: walks, standstills, jumps, tiny and huge prices, or none."""
    bars = draw(st.integers(0, most))
    seed = draw(st.integers(0, 2**32 - 1))
    price = draw(st.sampled_from([1e-8, 0.5, 100.0, 68_000.0, 4e11]))
    closes = random_walk(bars, seed, price, draw(st.sampled_from([0.0, 1e-6, 0.01, 0.2])))
    if bars and draw(st.booleans()):
        # A coarse tick gives equal neighbours, and so equal EMAs and late crossovers.
        closes = [max(round(close / price * 4) / 4, 0.25) * price for close in closes]
    return closes


def several_series(most: int = 120) -> st.SearchStrategy[dict[str, list[float]]]:
    """Return a strategy for one to four symbols with closes of different lengths."""
    return st.dictionaries(st.sampled_from(["AAPL", "BTC-USD", "BRK.B", "^GSPC"]), price_series(most), min_size=1)


def cut(frame: pl.DataFrame, points: Mapping[str, Sequence[int]]) -> list[pl.DataFrame]:
    """Cut `frame` into parts, before the given positions of each symbol. No bar is lost."""
    most = max((len(each) for each in points.values()), default=0)
    numbered = frame.with_columns(pl.int_range(pl.len()).over("symbol").alias("_position"))
    part_of = pl.lit(0)
    for symbol, positions in points.items():
        for position in positions:
            part_of = part_of + ((pl.col("symbol") == symbol) & (pl.col("_position") >= position)).cast(pl.Int32)
    numbered = numbered.with_columns(part_of.alias("_part"))
    return [numbered.filter(pl.col("_part") == number).drop("_position", "_part") for number in range(most + 1)]
