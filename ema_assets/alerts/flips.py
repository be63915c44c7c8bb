"""What both kinds about corrections share: which flips are recent enough to be reported."""

from collections.abc import Mapping
from datetime import timedelta

import polars as pl

from ema_assets.alerts.declaration import Batch, Row
from ema_assets.model.declarations import Param, Params

DAYS: Mapping[str, Param] = {
    "correction_days": Param(7, "Corrections of bars older than this many days are not reported", most=3650)
}


def flipped_since(batch: Batch, params: Params) -> pl.DataFrame:
    """Return symbol, ts (the first corrected bar), flipped and from_ts, where that bar is recent enough.

    Loading older history changes trades, too, and nobody wants alerts about those.
    """
    recent = batch.now - timedelta(days=params["correction_days"])
    return batch.flipped.filter((pl.col("flipped") > 0) & (pl.col("from_ts") >= recent)).select(
        "symbol", "flipped", "from_ts", ts="from_ts"
    )


def say_flipped(row: Row, what: str, whose: str = "") -> str:
    """Return a sentence: how many of `what` have changed, since when, and why."""
    count = row["flipped"]
    flipped = f"a {what}{whose} has changed" if count == 1 else f"{count} {what}s{whose} have changed"
    return f"{flipped}: {row['detail']}, from {row['from_ts']:%Y-%m-%d %H:%M} UTC on"
