"""Performance figures of any trades, as docs/STRATEGIES.md defines them. No I/O.

The materialized view `market.strategy_performance` computes the same figures in SQL, from the stored trades.
"""

import polars as pl

from ema_assets.model.schemas import UTC_TIME
from ema_assets.strategies.trade_columns import CLOSED

# The bars and the time that there were to trade on, one row per symbol.
SPAN_SCHEMA = {
    "first_ts": UTC_TIME,
    "last_ts": UTC_TIME,
    "bars": pl.Int64(),
    "buy_and_hold_pct": pl.Float64(),
    "bars_per_year": pl.Float64(),
}

# Figures that strategies can be ranked by, best first.
MORE_IS_BETTER = (
    "total_return_pct",
    "annualized_return_pct",
    "expectancy_pct",
    "profit_factor",
    "win_rate_pct",
    "sharpe",
    "sortino",
    "calmar",
)

# Ratios that can be unbounded, and the condition: there are gains and nothing to divide them by.
NO_BASE = {
    "profit_factor": (pl.col("best_trade_pct") > 0) & (pl.col("worst_trade_pct") >= 0),
    "calmar": (pl.col("annualized_return_pct") > 0) & (pl.col("max_drawdown_pct") == 0),
}

_SECONDS_PER_YEAR = 365.25 * 86_400
# Tolerance below which two figures count as equal.
_ROUNDING = 1e-12
# Equity below e^-300 counts as nothing. A figure above e^50 is meaningless.
_LEAST_LOG, _MOST_LOG = -300.0, 50.0
# Figures that accumulate over all trades. They are null when one trade has no defined return.
_ADDED_UP = ("growth", "fall", "most_won", "most_lost", "costs_pct", "mean")


def spans(bars: pl.DataFrame, bars_per_year: pl.DataFrame) -> pl.DataFrame:
    """Return the bars and the time that there were to trade on: symbol and SPAN_SCHEMA, one row per symbol of `bars`.

    Args:
        bars: symbol, ts and close, sorted.
        bars_per_year: symbol and bars_per_year.
    """
    gained = (pl.col("close").last() / pl.col("close").first() - 1) * 100
    return (
        bars.group_by("symbol", maintain_order=True)
        .agg(
            first_ts=pl.col("ts").first(),
            last_ts=pl.col("ts").last(),
            bars=pl.len().cast(pl.Int64),
            buy_and_hold_pct=pl.when((pl.col("close") > 0).all()).then(gained),
        )
        .join(bars_per_year, on="symbol", how="left", maintain_order="left")
        .select("symbol", *SPAN_SCHEMA)
    )


def figures(trades: pl.DataFrame, spans: pl.DataFrame, fewest_trades: int) -> pl.DataFrame:
    """Return one row per row of `spans`, in its order: symbol and the columns of `results.performance` from first_ts.

    Args:
        trades: symbol and TRADE_COLUMNS, sorted by symbol and entry_ts.
        spans: symbol and SPAN_SCHEMA.
        fewest_trades: The number of closed trades below which a row has no ratios.
    """
    return _columns(_judged(trades, spans, fewest_trades))


def _judged(trades: pl.DataFrame, spans: pl.DataFrame, fewest_trades: int) -> pl.DataFrame:
    """Return `spans` with the sums of the trades, per bar and per year."""
    known = _summed(_fallen(trades))
    measured = spans.join(known, on="symbol", how="left", maintain_order="left").with_columns(
        pl.col("trades", "open_trades", "won", "undefined_returns", "undefined_closed", "bars_in_trades").fill_null(0),
        pl.col("costs_pct", "fall", "returns", "squares", "negative_squares").fill_null(0.0),
        pl.col("most_won", "most_lost").fill_null(0),
        pl.col("growth").fill_null(1.0),
    )
    bars = pl.col("bars")
    elapsed = (pl.col("last_ts") - pl.col("first_ts")).dt.total_microseconds() / 1e6 / _SECONDS_PER_YEAR
    is_defined = pl.col("undefined_returns") == 0
    return (
        measured.with_columns(
            mean=pl.col("returns") / bars,
            deviation=((pl.col("squares") - pl.col("returns") ** 2 / bars) / (bars - 1)).clip(lower_bound=0).sqrt(),
            downside=(pl.col("negative_squares").clip(lower_bound=0) / bars).sqrt(),
            # Usually the number of bars decides. A history with holes took longer than its bars suggest.
            years=pl.max_horizontal(bars / pl.col("bars_per_year"), elapsed),
            is_enough=pl.col("trades") - pl.col("undefined_closed") >= fewest_trades,
        )
        .with_columns(pl.when(is_defined).then(pl.col(name)).alias(name) for name in _ADDED_UP)
        .with_columns(
            annualized=_annualized(pl.col("growth"), pl.col("years")),
            bought_annualized=_annualized(1 + pl.col("buy_and_hold_pct") / 100, pl.col("years")),
            # From the number of bars that a year really had: the return of a bar after a hole covers the whole hole.
            root=(bars / pl.col("years")).sqrt(),
        )
    )


def _columns(judged: pl.DataFrame) -> pl.DataFrame:
    """Return the figures in the order and under the names of the view."""
    bars, is_defined = pl.col("bars"), pl.col("undefined_returns") == 0

    def ratio(value: pl.Expr, base: pl.Expr) -> pl.Expr:
        return pl.when(pl.col("is_enough") & (base != 0)).then(value / base)

    has_fallen = is_defined & pl.col("fall_to").is_not_null()
    return judged.select(
        "symbol",
        "first_ts",
        "last_ts",
        "bars",
        "trades",
        "open_trades",
        win_rate_pct=_of(pl.col("won") * 100, pl.col("trades") - pl.col("undefined_closed")),
        average_win_pct="average_win_pct",
        average_loss_pct="average_loss_pct",
        best_trade_pct="best_trade_pct",
        worst_trade_pct="worst_trade_pct",
        expectancy_pct="expectancy_pct",
        profit_factor=ratio(pl.col("gained").fill_null(0.0), pl.col("lost")),
        average_r="average_r",
        average_bars_held="average_bars_held",
        total_return_pct=(pl.col("growth") - 1) * 100,
        annualized_return_pct=pl.when("is_enough").then("annualized"),
        max_drawdown_pct=pl.col("fall") * 100,
        max_drawdown_from=pl.when(has_fallen).then(pl.coalesce("fall_from", "first_ts")),
        max_drawdown_to=pl.when(has_fallen).then("fall_to"),
        exposure_pct=pl.col("bars_in_trades") / bars * 100,
        sharpe=ratio(pl.col("mean"), pl.col("deviation")) * pl.col("root"),
        sortino=ratio(pl.col("mean"), pl.col("downside")) * pl.col("root"),
        calmar=ratio(pl.col("annualized"), pl.col("fall") * 100),
        most_won="most_won",
        most_lost="most_lost",
        costs_pct="costs_pct",
        buy_and_hold_pct="buy_and_hold_pct",
        buy_and_hold_annualized_pct="bought_annualized",
        remark=pl.when(~is_defined)
        .then(pl.lit("prices of zero or less"))
        .when(~pl.col("is_enough"))
        .then(pl.lit("too few trades")),
        undefined_returns="undefined_returns",
    )


def has_no_bound(ratio: str) -> pl.Expr:
    """Return whether `ratio`, one of NO_BASE, is null because nothing was lost, so that there is nothing to divide by.

    It is false for rows with too few trades, which have no ratios at all.
    """
    return (pl.col("remark").is_null() & pl.col(ratio).is_null() & NO_BASE[ratio]).fill_null(value=False)


def ranked_by(column: str) -> pl.Expr:
    """Return the sort key for ranking rows by `column`: its value, or infinity where it is unbounded."""
    return pl.when(has_no_bound(column)).then(float("inf")).otherwise(column) if column in NO_BASE else pl.col(column)


def level_before(*by: str) -> pl.Expr:
    """Return the equity at the beginning of each trade, as a multiple of the initial one; 0 once everything was lost.

    The trades must be in order. The columns `by` identify the equity curve that a trade belongs to.
    """
    net = pl.col("net_return_pct")
    logs = _growth_log().fill_null(0.0)
    lost_before = (net <= -100).fill_null(False).cast(pl.Int64).cum_sum().shift(1, fill_value=0).over(by) > 0
    before = logs.cum_sum().shift(1, fill_value=0.0).over(by).clip(lower_bound=_LEAST_LOG).exp()
    return pl.when(lost_before).then(0.0).otherwise(before)


def together(curves: pl.DataFrame, parts: int) -> pl.DataFrame:
    """Return the equity of a capital that was divided into `parts` equal parts: ts, equity and drawdown_pct, by ts.

    `curves` has symbol, ts and equity, sorted by ts per symbol. Equity begins at 1. Parts without a row are cash.
    """
    gained = pl.col("equity") - pl.col("equity").shift(1, fill_value=1.0).over("symbol")
    return (
        curves.select("ts", gained=gained)
        .group_by("ts")
        .agg(pl.col("gained").sum())
        .sort("ts")
        .select("ts", equity=1 + pl.col("gained").cum_sum() / parts)
        .with_columns(drawdown_pct=drawdown_pct(pl.col("equity").cum_max()))
    )


def drawdown_pct(highest: pl.Expr) -> pl.Expr:
    """Return how far `equity` is below its previous `highest`, or below its start, 1, in percent; at most 0."""
    return (pl.col("equity") / highest.clip(lower_bound=1.0) - 1) * 100


def _growth_log() -> pl.Expr:
    """Return the logarithm of a trade's growth factor of equity, to be summed as in the view; null when all is lost."""
    net = pl.col("net_return_pct")
    return pl.when(net > -100).then((1 + net / 100).log())


def _fallen(trades: pl.DataFrame) -> pl.DataFrame:
    """Return `trades` with the deepest fall of equity that reached its low in each trade.

    Columns:
        fall: The depth as a fraction; null for none.
        fall_from: The bar of the peak; null for the start.
        fall_to: The bar of the low.
        level: Equity at entry.
        place: 1, 2, … per symbol.
        last_won, last_lost: The place of the last trade before that won or lost; 0 for none.
    """
    net, place = pl.col("net_return_pct"), pl.col("place")
    levelled = trades.with_columns(
        level=level_before("symbol"), place=pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("symbol")
    ).with_columns(
        # A trade whose equity never rose above its start has no peak of its own.
        top=pl.when(pl.col("equity_peak") > 1 + _ROUNDING).then(pl.col("level") * pl.col("equity_peak")),
        won_at=pl.when(net > 0).then(place),
        lost_at=pl.when(net <= 0).then(place),
    )
    highest = pl.col("top").fill_null(float("-inf")).cum_max().shift(1, fill_value=float("-inf")).over("symbol")
    peaked = levelled.with_columns(
        highest=highest,
        last_won=pl.col("won_at").forward_fill().shift(1).over("symbol").fill_null(0),
        last_lost=pl.col("lost_at").forward_fill().shift(1).over("symbol").fill_null(0),
    ).with_columns(
        # Among equal peaks, the first one counts.
        highest_ts=pl.when(pl.col("top") > pl.col("highest"))
        .then(pl.col("equity_peak_ts"))
        .forward_fill()
        .shift(1)
        .over("symbol"),
        # A peak that is not above the start does not count, because the start came first.
        peak=pl.max_horizontal(pl.lit(1.0), "highest"),
    )
    level, trough, peak = pl.col("level"), pl.col("equity_trough"), pl.col("peak")
    compared = peaked.with_columns(
        # A trade whose equity never fell below its start makes no earlier fall deeper.
        from_before=pl.when((level > 0) & (trough < 1 - _ROUNDING)).then(1 - level * trough / peak).otherwise(0.0),
        within=pl.when(level > 0).then(pl.col("drawdown")).otherwise(0.0),
    )
    from_before, within = pl.col("from_before"), pl.col("within")
    # Both falls are equally deep when they begin at equal peaks, and when everything is lost. Then the fall began at
    # the higher peak.
    is_before = (from_before > within + _ROUNDING) | (
        (from_before > within - _ROUNDING) & (level * pl.col("equity_peak") <= peak * (1 + _ROUNDING))
    )
    return compared.with_columns(
        fall=pl.when(pl.max_horizontal("from_before", "within") > 0).then(
            pl.when(is_before).then(from_before).otherwise(within)
        ),
        fall_from=pl.when(is_before)
        .then(pl.when(pl.col("highest") > 1).then("highest_ts"))
        .otherwise(pl.col("drawdown_peak_ts")),
        fall_to=pl.when(is_before).then("equity_trough_ts").otherwise(pl.col("drawdown_trough_ts")),
    )


def _summed(fallen: pl.DataFrame) -> pl.DataFrame:
    """Return the sums, means and extremes of the trades, one row per symbol."""
    net = pl.col("net_return_pct")
    is_closed = pl.col("status") == CLOSED
    of_closed, gains, losses = net.filter(is_closed), is_closed & (net > 0), is_closed & (net <= 0)
    is_deepest = pl.col("fall") == pl.col("fall").max()
    has_level = pl.col("level") > 0
    log = _growth_log().sum().clip(lower_bound=_LEAST_LOG)
    return fallen.group_by("symbol", maintain_order=True).agg(
        trades=is_closed.sum().cast(pl.Int64),
        open_trades=(~is_closed).sum().cast(pl.Int64),
        won=gains.sum().cast(pl.Int64),
        average_win_pct=net.filter(gains).mean(),
        average_loss_pct=net.filter(losses).mean(),
        gained=net.filter(gains).sum(),
        lost=-net.filter(losses).sum(),
        expectancy_pct=of_closed.mean(),
        best_trade_pct=of_closed.max(),
        worst_trade_pct=of_closed.min(),
        average_r=pl.col("r_multiple").filter(is_closed).mean(),
        average_bars_held=pl.col("bars_held").filter(is_closed).mean(),
        most_won=(pl.col("place") - pl.col("last_lost")).filter(gains).max(),
        most_lost=(pl.col("place") - pl.col("last_won")).filter(losses).max(),
        costs_pct=(pl.col("return_pct") - net).sum(),
        growth=pl.when((net <= -100).any()).then(0.0).otherwise(log.exp()),
        bars_in_trades=pl.col("bars_held").sum(),
        # Once everything is lost, bars have no return.
        returns=pl.col("bar_returns_sum").filter(has_level).sum(),
        squares=pl.col("bar_returns_square_sum").filter(has_level).sum(),
        negative_squares=pl.col("bar_returns_negative_square_sum").filter(has_level).sum(),
        fall=pl.col("fall").max(),
        fall_from=pl.col("fall_from").filter(is_deepest).first(),
        fall_to=pl.col("fall_to").filter(is_deepest).first(),
        undefined_returns=(net.is_null() | pl.col("bar_returns_sum").is_null()).sum().cast(pl.Int64),
        undefined_closed=of_closed.is_null().sum().cast(pl.Int64),
    )


def _annualized(growth: pl.Expr, years: pl.Expr) -> pl.Expr:
    """Return the growth in percent per year; null when it is too large to be meaningful."""
    log = growth.log() / years
    return (
        pl.when(growth == 0).then(-100.0).when(log < _MOST_LOG).then((log.clip(lower_bound=-_MOST_LOG).exp() - 1) * 100)
    )


def _of(value: pl.Expr, base: pl.Expr) -> pl.Expr:
    return pl.when(base != 0).then(value / base)
