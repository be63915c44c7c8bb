"""Writes a checked answer: accepted and refused bars, flags, the ledger and revisions."""

from dataclasses import dataclass, replace

import polars as pl

from ema_assets.market import corporate_actions
from ema_assets.market.rollups import CODE_VERSION, dirty_buckets
from ema_assets.model.asset_names import OHLC
from ema_assets.model.schemas import BAR_CHANGE_SCHEMA, UTC_TIME
from ema_assets.model.timeframes import by_key
from ema_assets.refresh.answers import Extent, Storing
from ema_assets.refresh.rescale import leftover_bars, rescale_long_history, rescaled_files, stored_bars
from ema_assets.refresh.take_over import delete, take_over, together
from ema_assets.store import ledger, quality, tables


@dataclass(frozen=True, slots=True)
class Checked:
    """The bars of an answer, grouped by what becomes of them; schemas as in `Stored`, `after` as in `Screened`.

    `outside` are the stored bars (symbol, ts) that are outside the sessions now.
    """

    accepted: pl.DataFrame
    rejected: pl.DataFrame
    skipped: pl.DataFrame
    flags: pl.DataFrame
    after: pl.DataFrame
    outside: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Persisted:
    """What writing an answer changed. Both frames are as in `Stored`."""

    changes: pl.DataFrame
    rescaled: pl.DataFrame


def persist(storing: Storing, checked: Checked, asked: pl.DataFrame, splits: pl.DataFrame) -> Persisted:
    """Write the `checked` bars and everything that is known about them.

    `asked` has symbol, calendar, checked_through, asked_at and final_through of each series; `splits` (COMPARED_SCHEMA)
    are the series whose scale has changed.
    """
    transaction, timeframe, source = storing.transaction, storing.timeframe, storing.answer.source
    deleted = delete(transaction, timeframe, checked.outside)
    # Bars that the vendor no longer serves are converted to the new scale here: a cliff would cause a false trade.
    stored = stored_bars(storing, splits)
    leftover = leftover_bars(storing, splits, checked.accepted, stored)
    rescale_long_history(storing, splits)
    _rescale_files(storing, splits, stored)
    tables.reject(transaction, checked.rejected, source)
    quality.count_skipped(transaction, checked.skipped, source)
    looked_at = pl.concat([checked.accepted, checked.rejected, checked.skipped, checked.outside], how="diagonal")
    quality.flag(transaction, timeframe, looked_at.select("symbol", "ts"), checked.after, checked.flags)
    is_owner = storing.answer.extent is Extent.FILE and not timeframe.is_fetched
    if is_owner:
        deleted = together(deleted, take_over(storing, checked.accepted))
    changes = write_bars(storing, pl.concat([checked.accepted, leftover], how="diagonal"), asked, deleted)
    ledger.find_ends(transaction, timeframe, checked.outside["symbol"].unique().sort().to_list())
    past = changes.filter((pl.col("corrected") > 0) | (pl.col("late") > 0))
    if not past.is_empty():
        is_older = storing.answer.extent is Extent.OLDER
        quality.record_revisions(transaction, timeframe, _revisions(past, splits, is_older=is_older), source)
    return Persisted(changes, leftover.group_by("symbol").agg(bars=pl.len()))


def write_bars(storing: Storing, bars: pl.DataFrame, asked: pl.DataFrame, deleted: pl.DataFrame) -> pl.DataFrame:
    """Write `bars` and the ledger rows of `asked`, and mark what is rolled up from them as dirty.

    `asked` is as in `persist`. `deleted` and the returned changes, which include it, are BAR_CHANGE_SCHEMA, one row per
    symbol.
    """
    transaction, timeframe = storing.transaction, storing.timeframe
    changes = tables.write_bars(transaction, timeframe, bars, storing.answer.source)
    if not deleted.is_empty():
        changes = together(changes, deleted)
    spans = bars.group_by("symbol").agg(first_ts=pl.col("ts").min(), last_ts=pl.col("ts").max())
    completed = (
        asked.select("symbol", "calendar", "checked_through", "asked_at", "final_through")
        .join(changes.select("symbol", "changed_from"), on="symbol", how="left")
        .join(spans, on="symbol", how="left")
        # Ingesting rolled-up bars does not change what is still to be rolled up.
        .join(storing.locked.select("symbol", "dirty_from", "dirty_end"), on="symbol", how="left")
        .sort("symbol")
    )
    # Rolled-up bars before what reads bars, which `complete` marks: that is the order in which all runs lock series.
    if any(map(len, storing.locked["feeds"].to_list())):
        _mark_rolled_up_dirty(storing, completed.filter(pl.col("changed_from").is_not_null()))
    ledger.complete(transaction, OHLC, timeframe, completed, CODE_VERSION)
    return changes


def _mark_rolled_up_dirty(storing: Storing, changed: pl.DataFrame) -> None:
    """Mark the bars that are rolled up from the series in `changed` (symbol, calendar, changed_from, …) as dirty."""
    fed = (
        changed.select("symbol", "calendar", "changed_from")
        .join(storing.locked.select("symbol", timeframe="feeds"), on="symbol")
        .explode("timeframe", empty_as_null=True)
        .drop_nulls("timeframe")
    )
    if fed.is_empty():
        return
    starts = []
    for (key,), series in fed.partition_by("timeframe", as_dict=True).items():
        rolled_up = by_key(str(key))
        # A split also rescales bars that are older than all requested ones.
        trading = storing.sessions_around(changed["changed_from"], changed["calendar"], rolled_up)
        starts.append(dirty_buckets(series, rolled_up, trading).with_columns(timeframe=pl.lit(key)))
    ledger.mark_dirty(storing.transaction, OHLC, pl.concat(starts).sort("symbol", "timeframe"))


def _rescale_files(storing: Storing, splits: pl.DataFrame, stored: pl.DataFrame) -> None:
    """Convert file bars that are stored in place of rolled-up ones of the series in `splits` to the new scale."""
    for timeframe, locked, bars in rescaled_files(storing, splits, stored):
        own = replace(storing, timeframe=timeframe, locked=locked)
        never = pl.lit(None, UTC_TIME)
        asked = (
            storing.answer.asked.select("symbol", "calendar")
            .join(bars, on="symbol", how="semi")
            .with_columns(checked_through=never, asked_at=never, final_through=never)
        )
        changes = write_bars(own, bars, asked, BAR_CHANGE_SCHEMA.to_frame())
        quality.record_revisions(storing.transaction, timeframe, _revisions(changes, splits), storing.answer.source)


# How a revision describes a change of scale, by kind.
_SAID = {
    corporate_actions.RESCALED: "the vendor re-adjusted history by {}",
    corporate_actions.LEVEL_SHIFT: "the price level changed by {} for good; the bars before it were brought to it",
}


def _revisions(past: pl.DataFrame, splits: pl.DataFrame, *, is_older: bool = False) -> pl.DataFrame:
    """Describe changes of the `past` as revisions: symbol, changed_from, corrected, late, kind and detail.

    `is_older` is true for bars before the first one, which were not requested before.
    """
    added = (
        "the history reaches further back: older bars were requested"
        if is_older
        else "the source sent bars that were missing"
    )
    is_correction = pl.col("corrected") > 0
    scaled = pl.format("the vendor re-adjusted history for a {} {}", "split", "scale")
    for kind, sentence in _SAID.items():
        scaled = pl.when(pl.col("scale") == kind).then(pl.format(sentence, "split")).otherwise(scaled)
    return past.join(splits.select("symbol", "split", scale="kind"), on="symbol", how="left").select(
        "symbol",
        "changed_from",
        "corrected",
        "late",
        kind=pl.coalesce("scale", pl.when(is_correction).then(pl.lit("correction")).otherwise(pl.lit("late bars"))),
        detail=pl.when(pl.col("scale").is_not_null())
        .then(scaled)
        .when(is_correction)
        .then(pl.lit("the source changed bars that were stored"))
        .otherwise(pl.lit(added)),
    )
