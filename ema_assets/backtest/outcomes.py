"""The results of a backtest: trades, figures, and curves of equity. Reads and simulates nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from ema_assets.strategies.figures import drawdown_pct, level_before, together
from ema_assets.strategies.trade_columns import LONG


@dataclass(frozen=True, slots=True)
class Backtest:
    """What one rule with one choice of options would have done.

    Attributes:
        rule: name of the rule.
        options: options as given.
        trades: symbol and the columns of a trade (docs/STRATEGIES.md), sorted by symbol and entry_ts.
        performance: one row per symbol, sorted, with the columns of `results.performance` after timeframe.
        closes: symbol, ts, close of every bar that was traded on; sorted by symbol and ts.
        cost: cost per side of a trade, as a fraction of the traded value.
    """

    rule: str
    options: Mapping[str, Any]
    trades: pl.DataFrame = field(repr=False)
    performance: pl.DataFrame = field(repr=False)
    closes: pl.DataFrame = field(repr=False)
    cost: float

    def equity(self) -> pl.DataFrame:
        """Return the equity of each symbol at the close of every bar: symbol, ts, equity, drawdown_pct; sorted.

        Equity is a multiple of the start, and null from the first trade on during which a price was not above zero.
        drawdown_pct is how far it is below its previous peak, at most 0.
        """
        trades = self.trades.with_columns(cost=pl.lit(self.cost))
        return _with_drawdown(_equity(self.closes, trades, ["symbol"]))

    def portfolio(self) -> pl.DataFrame:
        """Return the equity of all symbols together: ts, equity, drawdown_pct; sorted.

        The capital is divided evenly among the symbols at the start, and nothing is moved between them later. A symbol
        stays in cash before its first bar. Symbols whose equity is null anywhere are left out.
        """
        return _portfolio(self.equity())


@dataclass(frozen=True, slots=True)
class WalkForward:
    """What a strategy would have done if its options had been chosen repeatedly by what was known at the time.

    Attributes:
        windows: one row per window: window (1, 2, …), train_from, test_from, test_until (exclusive), the chosen options
            (null when there was nothing to choose by), and train_… and test_…: the means over the symbols of the figure
            that they were chosen by, before and after the choice; null when no symbol has it, or one has no bound.
        trades: trades in all test windows: window, symbol and the columns of a trade; sorted by symbol and entry_ts.
        performance: figures of all test windows together, one row per symbol, as in a Backtest.
        closes: symbol, ts, window, close of every bar in the test windows; sorted by symbol and ts.
        costs: cost per side of a trade, as a fraction of the traded value, by window; only windows that were traded.
    """

    windows: pl.DataFrame
    trades: pl.DataFrame = field(repr=False)
    performance: pl.DataFrame = field(repr=False)
    closes: pl.DataFrame = field(repr=False)
    costs: Mapping[int, float] = field(repr=False)

    def equity(self) -> pl.DataFrame:
        """Return the equity of each symbol over all test windows, as `Backtest.equity`. It continues across windows."""
        cost = pl.col("window").replace_strict(self.costs, default=0.0, return_dtype=pl.Float64())
        within = _equity(self.closes, self.trades.with_columns(cost=cost), ["symbol", "window"])
        # A window begins with the equity at the end of the previous one.
        begins = (
            within.group_by("symbol", "window", maintain_order=True)
            .agg(pl.col("equity").last())
            .with_columns(
                before=pl.col("equity").fill_null(1.0).cum_prod().shift(1, fill_value=1.0).over("symbol"),
                is_undefined=pl.col("equity").is_null().cast(pl.Int64).cum_sum().shift(1, fill_value=0).over("symbol")
                > 0,
            )
            .select("symbol", "window", "before", "is_undefined")
        )
        equity = pl.when(~pl.col("is_undefined")).then(pl.col("equity") * pl.col("before"))
        chained = within.join(begins, on=["symbol", "window"], how="left", maintain_order="left")
        return _with_drawdown(chained.select("symbol", "ts", equity=equity))

    def portfolio(self) -> pl.DataFrame:
        """Return the equity of all symbols together, as `Backtest.portfolio`."""
        return _portfolio(self.equity())


def _equity(closes: pl.DataFrame, trades: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """Return `by`, ts and equity at each of `closes`; each curve starts at 1.

    `trades` have their cost per side in the column `cost`. Equity is null from the first trade without a return on.
    """
    # As in `figures`: a price was not above zero at the entry, the exit or a close within the trade.
    has_no_return = pl.col("net_return_pct").is_null() | pl.col("bar_returns_sum").is_null()
    known = trades.with_columns(
        level=level_before(*by), is_undefined=has_no_return.cast(pl.Int64).cum_sum().over(by) > 0
    ).select(*by, "entry_ts", "exit_ts", "side", "entry_price", "net_return_pct", "cost", "level", "is_undefined")
    traded = closes.join_asof(
        known, left_on="ts", right_on="entry_ts", by=by, strategy="backward", check_sortedness=False
    )
    way = pl.when(pl.col("side") == LONG).then(1.0).otherwise(-1.0)
    while_open = 1 + way * (pl.col("close") / pl.col("entry_price") - 1) - pl.col("cost")
    is_open = pl.col("exit_ts").is_null() | (pl.col("ts") < pl.col("exit_ts"))
    growth = pl.when(is_open).then(while_open).otherwise(1 + pl.col("net_return_pct") / 100).clip(lower_bound=0)
    has_traded = pl.col("entry_ts").is_not_null()
    return traded.select(
        *by,
        "ts",
        equity=pl.when(~has_traded).then(1.0).when(~pl.col("is_undefined")).then(pl.col("level") * growth),
    )


def _portfolio(curves: pl.DataFrame) -> pl.DataFrame:
    undefined = curves.filter(pl.col("equity").is_null())["symbol"].unique()
    curves = curves.filter(~pl.col("symbol").is_in(undefined.implode()))
    return together(curves, max(curves["symbol"].n_unique(), 1))


def _with_drawdown(curves: pl.DataFrame) -> pl.DataFrame:
    return curves.with_columns(drawdown_pct=drawdown_pct(pl.col("equity").cum_max().over("symbol")))
