"""Prices as they traded, or adjusted for dividends: stored bars multiplied by factors of later actions. No I/O.

Stored bars are adjusted for splits and other actions for which their vendor rescales, and never for dividends.
"""

import polars as pl

from ema_assets.model.errors import not_one_of
from ema_assets.model.schemas import PRICES, UTC_TIME

# The values of `adjust`: only for splits, as bars are stored; also for dividends; or not at all.
SPLITS, ALL, NONE = "splits", "all", "none"
ADJUSTMENTS = (SPLITS, ALL, NONE)

# The factor by which prices and volumes of all bars before `effective_at` are multiplied.
FACTOR_SCHEMA = pl.Schema(
    {"symbol": pl.String(), "effective_at": UTC_TIME, "price_factor": pl.Float64(), "volume_factor": pl.Float64()}
)


def check_adjustment(adjust: str) -> None:
    """Check that `adjust` is one of ADJUSTMENTS.

    Raises:
        ConfigurationError: naming the allowed values.
    """
    if adjust not in ADJUSTMENTS:
        raise not_one_of("adjust", adjust, ADJUSTMENTS)


def undoing(applied: pl.DataFrame) -> pl.DataFrame:
    """Return the factors (FACTOR_SCHEMA) that undo the rescaling by `applied` (symbol, effective_at, ratio, kind).

    A price before the action was `ratio` times the stored one. A split also changed the number of shares.
    """
    is_split = pl.col("kind") == "split"
    return applied.select(
        "symbol",
        "effective_at",
        price_factor="ratio",
        volume_factor=pl.when(is_split).then(1 / pl.col("ratio")).otherwise(1.0),
    )


def of_dividends(dividends: pl.DataFrame, applied: pl.DataFrame) -> pl.DataFrame:
    """Return the factors (FACTOR_SCHEMA) of `dividends` (symbol, effective_at, amount, known_at, previous_close).

    A dividend multiplies earlier prices by 1 - amount / previous close, the close of the bar before the ex-date, as
    CRSP does (docs/CORPORATE_ACTIONS.md names the sources). `amount` is on the scale of known_at and the stored close
    on that of now, so everything in `applied` after known_at divides the amount: splits, but also spin-offs and changes
    of currency. A dividend as large as the price or larger is left out, and one after a close of zero or less: it is no
    share of such a price.
    """
    changes = applied.select("symbol", "ratio", changed_at="effective_at")
    later = (
        dividends.join(changes, on="symbol")
        .filter(pl.col("changed_at") > pl.col("known_at"))
        .group_by("symbol", "effective_at")
        .agg(scale=pl.col("ratio").product())
    )
    amount = pl.col("amount") / pl.col("scale").fill_null(1.0)
    return (
        dividends.join(later, on=["symbol", "effective_at"], how="left")
        .with_columns(price_factor=1 - amount / pl.col("previous_close"), volume_factor=pl.lit(1.0))
        .filter(pl.col("previous_close") > 0, pl.col("price_factor") > 0)
        .select(list(FACTOR_SCHEMA))
    )


def adjusted(bars: pl.DataFrame, factors: pl.DataFrame, at: str = "ts") -> pl.DataFrame:
    """Return `bars` (symbol, ts, prices, volume; sorted by symbol and ts) times all later `factors` (FACTOR_SCHEMA).

    A factor is later if it takes effect after the opening of the bar, `ts`. With `at` the column `ts_end`, it is later
    if it takes effect at the close or afterwards: an action may take effect within a bar that is longer than a session,
    and the close then comes after the action.
    """
    if factors.is_empty() or bars.is_empty():
        return bars
    columns = bars.columns
    at_once = factors.group_by("symbol", "effective_at").agg(pl.col("price_factor", "volume_factor").product())
    products = at_once.sort("effective_at").with_columns(
        pl.col("price_factor", "volume_factor").cum_prod(reverse=True).over("symbol")
    )
    joined = bars.sort(at).join_asof(
        products,
        left_on=at,
        right_on="effective_at",
        by="symbol",
        strategy="forward",
        allow_exact_matches=at != "ts",
        check_sortedness=False,
    )
    return (
        joined.with_columns(
            *(pl.col(name) * pl.col("price_factor").fill_null(1.0) for name in PRICES),
            pl.col("volume") * pl.col("volume_factor").fill_null(1.0),
        )
        .select(columns)
        .sort("symbol", "ts")
    )
