"""The blast radius of a revision: which rows are computed again because the past has changed, and what differs."""

import polars as pl

from ema_assets.model.timeframes import Timeframe
from ema_assets.store import ledger, quality, tables
from ema_assets.store.database import Transaction
from ema_assets.strategies.variant import Variant

_NOTHING = pl.Schema({"symbol": pl.String(), "recomputed": pl.Int64()})


def revised(
    transaction: Transaction,
    asset: str,
    timeframe: Timeframe,
    claimed: pl.DataFrame,
    variant: Variant | None = None,
    *,
    everything: bool,
) -> pl.DataFrame:
    """Return the series of `claimed` whose input has changed in the past: symbol, from_ts, last_ts.

    `claimed` is as `ledger.claim` returns it. A series that is computed from the beginning because of new code is left
    out: nothing was revised. So is one of a `variant` that waited for its higher timeframe, whose newest trend is new.
    With `everything`, all series are computed from the beginning, and the ledger knows which of them have changed, and
    from when on.
    """
    if everything:
        since = ledger.dirty_since(transaction, asset, timeframe, claimed["symbol"].to_list())
        claimed = claimed.drop("from_ts").join(since.rename({"dirty_from": "from_ts"}), on="symbol")
    is_past = (pl.col("from_ts") > ledger.BEGINNING) & (pl.col("from_ts") <= pl.col("last_ts"))
    past = claimed.filter(is_past).select("symbol", "from_ts", "last_ts")
    longer = None if variant is None else variant.longer_trend(timeframe)
    if longer is None or past.is_empty():
        return past
    newest = ledger.newest_bars(transaction, *longer, past["symbol"])
    return past.join(newest, left_on=["symbol", "from_ts"], right_on=["symbol", "last_ts"], how="anti")


def recomputed(past: pl.DataFrame, rows: pl.DataFrame, time: str) -> pl.DataFrame:
    """Count the `rows` of each series in `past` that are not new: symbol, recomputed. `time` is the column of times."""
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
    """Add what was computed again to the blast radius of the revisions that caused it.

    `again` is as `recomputed` returns it; `flipped` has symbol and flipped, the number of changed crossovers or trades;
    `flips` says which of the two. It is called after all series are locked: runs of other assets and timeframes add to
    the same revisions.
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
