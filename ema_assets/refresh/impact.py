"""How far a revision reached: what is computed again because the past has changed, and what is not what it was."""

import polars as pl

from ema_assets.model.timeframes import Timeframe
from ema_assets.store import ledger, quality, tables
from ema_assets.store.database import Transaction

_NOTHING = pl.Schema({"symbol": pl.String(), "recomputed": pl.Int64()})


def revised(
    transaction: Transaction, asset: str, timeframe: Timeframe, claimed: pl.DataFrame, *, everything: bool
) -> pl.DataFrame:
    """Those of `claimed`, as `ledger.claim` returns it, whose input has changed in the past: symbol, from_ts, last_ts.

    A series that is computed from the beginning for new code has no part in this: nothing was revised. With
    `everything` all are computed from there, and the ledger knows which ones have changed, and where.
    """
    if everything:
        since = ledger.dirty_since(transaction, asset, timeframe, claimed["symbol"].to_list())
        claimed = claimed.drop("from_ts").join(since.rename({"dirty_from": "from_ts"}), on="symbol")
    is_past = (pl.col("from_ts") > ledger.BEGINNING) & (pl.col("from_ts") <= pl.col("last_ts"))
    return claimed.filter(is_past).select("symbol", "from_ts", "last_ts")


def recomputed(past: pl.DataFrame, rows: pl.DataFrame, time: str) -> pl.DataFrame:
    """How many of `rows`, with times in the column `time`, are not new, of series in `past`: symbol, recomputed."""
    if past.is_empty():
        return _NOTHING.to_frame()
    old = rows.join(past, on="symbol").filter(pl.col(time).is_between("from_ts", "last_ts"))
    return old.group_by("symbol").agg(recomputed=pl.len().cast(pl.Int64))


def report(
    transaction: Transaction,
    timeframe: Timeframe,
    again: pl.DataFrame,
    flips: str | None = None,
    flipped: pl.DataFrame | None = None,
) -> None:
    """Add to the blast radius of the revisions behind what was computed again.

    `again` is from `recomputed`; `flipped` has symbol and flipped, and `flips` says of what.
    """
    if flipped is None:
        flipped = again.clear().rename({"recomputed": "flipped"})
    if again.is_empty() and flipped.is_empty():
        return
    reach = again.join(flipped, on="symbol", how="full", coalesce=True).fill_null(0)
    nothing = pl.lit(0, pl.Int64)
    quality.add_impact(
        transaction,
        timeframe,
        reach.select(
            "symbol",
            "recomputed",
            crossovers=pl.col("flipped") if flips == tables.CROSSOVERS else nothing,
            trades=pl.col("flipped") if flips == tables.TRADES else nothing,
        ),
    )
