"""Synthetic bars with all columns that variants read, random variants, and a store that continues from states."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from hypothesis import strategies as st

from ema_assets.model.schemas import UTC_TIME
from ema_assets.strategies.rule_discovery import discover
from ema_assets.strategies.simulator.simulation import Simulated, simulate
from ema_assets.strategies.trade_columns import STATE_SCHEMA, TRADE_SCHEMA
from ema_assets.strategies.variant import Variant
from ema_assets.strategies.watchlist_rows import built_in
from ema_assets_tests.timeframes import H1

START = datetime(2026, 7, 1, 13, 30, tzinfo=UTC)
MINUTES = timedelta(minutes=5)

RULES = discover()
CROSSOVER, PULLBACK = RULES["crossover"], RULES["pullback"]
DEFAULT = built_in(RULES)["crossover"]

BAR_SCHEMA = {
    "symbol": pl.String(),
    "ts": UTC_TIME,
    "open": pl.Float64(),
    "high": pl.Float64(),
    "low": pl.Float64(),
    "close": pl.Float64(),
    "crossover": pl.String(),
    "spread_pct": pl.Float64(),
    "ema_9": pl.Float64(),
    "wma_30": pl.Float64(),
    "atr": pl.Float64(),
    "higher_trend": pl.String(),
    "session": UTC_TIME,
    "is_session_last": pl.Boolean(),
    "bar_number": pl.Int64(),
}
NOTHING = pl.DataFrame(schema={"symbol": pl.String(), **STATE_SCHEMA})

Bar = dict[str, Any]


def bars_from(seed: int, bars: int, tick: float = 0.5, step: float = 2.0, missing: float = 0.1) -> list[Bar]:
    """`bars` bars with prices on a coarse grid, so that prices meet levels exactly. Some bars are missing.

    The averages lie near the close, and one stays above the other for some bars in a row. All values are random,
    because the simulator must not depend on where its inputs come from.
    """
    random = np.random.default_rng(seed)
    per_session = int(random.choice([1, 3, 8, 30]))
    result: list[Bar] = []
    turns = float(random.choice([0.03, 0.15, 0.3]))
    close, trend, slot = 100.0, 1, int(random.integers(0, 4))
    for number in range(1, bars + 1):
        slot += 1
        while random.random() < missing:
            slot += 1
        if random.random() < missing / 3:
            slot += per_session - slot % per_session
        jump = random.normal(0, step * (4 if random.random() < 0.1 else 0.5))
        opened = max(close + round(jump / tick) * tick, 5.0)
        moves = np.round(random.normal(0, step, 3) / tick) * tick
        close = max(opened + moves[0], 5.0)
        if random.random() < turns:
            trend = -trend
            crossover = "bullish" if trend > 0 else "bearish"
        else:
            crossover = None
        fast = close + float(np.round(random.normal(0, step) / tick)) * tick
        slow = fast - trend * step * float(random.choice([0.0, 0.5, 1.0, 2.0], p=[0.1, 0.3, 0.3, 0.3]))
        known = random.random() > 0.05
        day, place = divmod(slot, per_session)
        result.append(
            {
                "ts": START + day * timedelta(days=1) + place * MINUTES,
                "open": float(opened),
                "high": float(max(opened, close) + abs(moves[1])),
                "low": float(max(min(opened, close) - abs(moves[2]), 1.0)),
                "close": float(close),
                "crossover": crossover,
                "spread_pct": trend * float(random.choice([0.05, 0.2, 1.0])) if known else None,
                "ema_9": fast if known else None,
                "wma_30": slow if random.random() > 0.05 else None,
                "atr": float(random.choice([0.0, 1.0, 2.0, 4.0])) if random.random() > 0.1 else None,
                "higher_trend": [None, "up", "down"][int(random.integers(0, 3))],
                "session": START + day * timedelta(days=1),
                "is_session_last": place == per_session - 1,
                "bar_number": number,
            }
        )
    return result


def bars_at(*rows: tuple[float, float, float, float], **columns: Mapping[int, Any] | Sequence[Any]) -> list[Bar]:
    """Bars with these open, high, low and close, five minutes apart in one session; other columns by name.

    A column has values for all bars, or for some bars by their position. None of the bars is the last of its session.
    """
    result = []
    for place, (opened, high, low, close) in enumerate(rows):
        bar: Bar = dict.fromkeys(BAR_SCHEMA)
        del bar["symbol"]
        bar.update(ts=START + place * MINUTES, open=opened, high=high, low=low, close=close)
        bar.update(session=START, is_session_last=False, bar_number=place + 1)
        for name, values in columns.items():
            if isinstance(values, Mapping):
                if place in values:
                    bar[name] = values[place]
            else:
                bar[name] = values[place]
        result.append(bar)
    return result


def frame_of(series: Mapping[str, Sequence[Bar]]) -> pl.DataFrame:
    rows = [{"symbol": symbol, **bar} for symbol in sorted(series) for bar in series[symbol]]
    return pl.DataFrame(rows, schema=BAR_SCHEMA)


@st.composite
def variants(draw: st.DrawFn) -> Variant:
    """Any combination of options."""
    side = draw(st.sampled_from(["long", "short", "both"]))
    return Variant(
        "strategy_drawn",
        rule=draw(st.sampled_from([CROSSOVER, PULLBACK])),
        allow_long=side != "short",
        allow_short=side != "long",
        fill=draw(st.sampled_from(["close", "next_open"])),
        cost_bps=draw(st.sampled_from([0.0, 5.0, 100.0])),
        min_spread_pct=draw(st.sampled_from([0.0, 0.2])),
        higher_timeframe=draw(st.sampled_from([None, None, H1])),
        atr_stop=draw(st.sampled_from([None, 0.5, 1.5])),
        atr_target=draw(st.sampled_from([None, 1.0, 2.5])),
        exit_at_session_end=draw(st.booleans()),
    )


@st.composite
def series(draw: st.DrawFn, most: int = 80) -> list[Bar]:
    return bars_from(
        draw(st.integers(0, 2**32 - 1)),
        draw(st.integers(0, most)),
        draw(st.sampled_from([0.01, 0.5, 1.0])),
        draw(st.sampled_from([1.0, 2.0, 8.0])),
        draw(st.sampled_from([0.0, 0.1, 0.4])),
    )


def several(most: int = 80) -> st.SearchStrategy[dict[str, list[Bar]]]:
    return st.dictionaries(st.sampled_from(["AAPL", "BTC-USD", "MSFT", "TSLA"]), series(most), min_size=1)


class Store:
    """Stores trades and states as a refresh does: computed rows replace the stored rows from their start on."""

    def __init__(self, variant: Variant) -> None:
        self.variant = variant
        self.trades = pl.DataFrame(schema={"symbol": pl.String(), **TRADE_SCHEMA})
        self.states = pl.DataFrame(schema={"symbol": pl.String(), "ts": UTC_TIME, **STATE_SCHEMA})

    def go_on(self, bars: pl.DataFrame) -> Simulated:
        """Compute `bars`, for the first time or again, from the newest state before them."""
        starts = bars.group_by("symbol").agg(from_ts=pl.col("ts").min())
        self.states = self.states.join(starts, on="symbol", how="left").filter(
            pl.col("from_ts").is_null() | (pl.col("ts") < pl.col("from_ts"))
        ).drop("from_ts")  # fmt: skip
        self.trades = self.trades.join(starts, on="symbol", how="left").filter(
            pl.col("from_ts").is_null() | (pl.col("entry_ts") < pl.col("from_ts"))
        ).drop("from_ts")  # fmt: skip
        carried = self.states.join(starts, on="symbol", how="semi").sort("ts").group_by("symbol").last().drop("ts")
        result = simulate(bars, carried, self.variant)
        key = ["symbol", "entry_ts"]
        self.trades = pl.concat([self.trades, result.trades]).unique(key, keep="last").sort(key)
        self.states = pl.concat([self.states, result.states]).sort("symbol", "ts")
        return result
