"""Stored bars, adjusted for other corporate actions than those they are stored with. Writes nothing."""

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from ema_assets.market import adjustment
from ema_assets.model.asset_names import OHLC
from ema_assets.model.schemas import PRICES
from ema_assets.model.timeframes import Timeframe
from ema_assets.reports.rows import with_ends
from ema_assets.store import action_facts, ledger, tables
from ema_assets.store.database import Transaction


def adjusted_bars(
    transaction: Transaction,
    timeframe: Timeframe,
    symbols: Sequence[str] | None,
    start: datetime | None,
    end: datetime | None,
    adjust: str,
) -> pl.DataFrame:
    """Return the stored bars from `start` to before `end` (None: open), adjusted by `adjust`, one of ADJUSTMENTS.

    Columns: symbol, ts and the values of bars; sorted by symbol and ts.
    """
    bars = tables.read_range(transaction, tables.BARS, timeframe, symbols, start, end)
    if adjust == adjustment.SPLITS or bars.is_empty():
        return bars
    if timeframe.period is None:
        return adjustment.adjusted(bars, _factors(transaction, timeframe, symbols, adjust))
    return _longer_than_a_session(transaction, bars, timeframe, adjust)


def _factors(
    transaction: Transaction, timeframe: Timeframe, symbols: Sequence[str] | None, adjust: str
) -> pl.DataFrame:
    """Return the factors by which `adjust` multiplies bars: FACTOR_SCHEMA."""
    applied = action_facts.applied(transaction, timeframe, symbols)
    if adjust == adjustment.NONE:
        return adjustment.undoing(applied)
    return adjustment.of_dividends(action_facts.dividends(transaction, timeframe, symbols), applied)


def _longer_than_a_session(
    transaction: Transaction, bars: pl.DataFrame, timeframe: Timeframe, adjust: str
) -> pl.DataFrame:
    """Return adjusted `bars` that are longer than a session, so that actions may fall into them.

    A bar with an action inside is rolled up again from its days, adjusted one by one. If its days are not stored, the
    whole bar has the scale of its close.
    """
    days, symbols = timeframe.source, bars["symbol"].unique().sort().to_list()
    has_days = tables.has_part(transaction, tables.BARS, days)
    with_days = list(ledger.revisions(transaction, OHLC, days, symbols)) if has_days else []
    factors = _factors(transaction, timeframe, [each for each in symbols if each not in set(with_days)], adjust)
    if with_days:
        factors = pl.concat([_factors(transaction, days, with_days, adjust), factors])
    if factors.is_empty():
        return bars
    placed = with_ends(transaction, bars, timeframe)
    found = adjustment.adjusted(placed, factors, at="ts_end")
    is_inside = (pl.col("effective_at") > pl.col("ts")) & (pl.col("effective_at") < pl.col("ts_end"))
    inside = placed.join(factors.select("symbol", "effective_at"), on="symbol").filter(is_inside)
    inside = inside.filter(pl.col("symbol").is_in(with_days)).select(placed.columns).unique(["symbol", "ts"])
    if not inside.is_empty():
        spans = inside.group_by("symbol").agg(first=pl.col("ts").min(), last=pl.col("ts_end").max())
        stored = tables.bars_between(transaction, days, spans)
        # A bar from a file may differ from its days: only bars that equal the rollup are rolled up again.
        same = _rolled_up(stored, inside).join(inside, on=["symbol", "ts", "open", "close"], how="semi")
        anew = _rolled_up(adjustment.adjusted(stored, factors), inside).join(same, on=["symbol", "ts"], how="semi")
        found = found.update(anew, on=["symbol", "ts"])
    return found.select(bars.columns)


def _rolled_up(days: pl.DataFrame, bars: pl.DataFrame) -> pl.DataFrame:
    """Return `days` aggregated over the times of `bars` (symbol, ts, ts_end): symbol, ts, prices, volume."""
    placed = days.sort("ts").join_asof(
        bars.select("symbol", "ts_end", bar="ts").sort("bar"),
        left_on="ts",
        right_on="bar",
        by="symbol",
        strategy="backward",
        check_sortedness=False,
    )
    return (
        placed.filter(pl.col("ts") < pl.col("ts_end"))
        .group_by("symbol", "bar", maintain_order=True)
        .agg(
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            # Null if no day has one, as in a rollup.
            volume=pl.when(pl.col("volume").is_not_null().any()).then(pl.col("volume").sum()),
        )
        .select("symbol", pl.col("bar").alias("ts"), *PRICES, "volume")
    )
