"""Stores long history: validates and screens it, compares it with the later short bars, and keeps what lies before."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import polars as pl

from ema_assets.market.calendars import bar_grid, latest_of, segments
from ema_assets.market.outliers import screen_outliers
from ema_assets.market.rollups import roll_up
from ema_assets.market.seams import misfits
from ema_assets.market.validation import OFF_GRID, validate
from ema_assets.model.asset_names import OHLC
from ema_assets.model.schemas import BAR_CHANGE_SCHEMA, STORED_CLOSE_SCHEMA, SUSPECT_SCHEMA, UTC_TIME
from ema_assets.model.timeframes import Timeframe
from ema_assets.refresh.answers import Stored, outdated
from ema_assets.store import ledger, long_history, older_history, quality, tables
from ema_assets.store.database import Transaction

# If more than this share of the bars is off our grid, the provider's bars begin at other times than ours.
_MOST_OFF_GRID = 0.1


@dataclass(frozen=True, slots=True)
class LongAnswer:
    """Long bars as they were received, and what they are for.

    Attributes:
        bars: BAR_SCHEMA, all of the timeframe `length`, unchecked.
        asked: symbol, calendar, start, end, seam: `bars` are all that exist from start to end; from the seam on the
            series has its own bars.
        reaching: symbol, timeframe, from_ts: the rolled-up series for which the bars are.
        length: the timeframe of the bars.
        source: the provider.
        word: the provider's word for the timeframe.
        trading: SESSION_SCHEMA, covering the bars.
        now: UTC.
        begun_again: as in `Answer`.
    """

    bars: pl.DataFrame
    asked: pl.DataFrame
    reaching: pl.DataFrame
    length: Timeframe
    source: str
    word: str
    trading: pl.DataFrame
    now: datetime
    begun_again: Mapping[str, int]

    @property
    def brought_by(self) -> str:
        """The source of the bars: the provider and its word for the timeframe."""
        return f"{self.source} {self.word}"


def store_long_history(
    transaction: Transaction, timeframe: Timeframe, answer: LongAnswer
) -> tuple[Stored, pl.DataFrame]:
    """Store the bars of `answer` that lie before the series of `timeframe`, if they fit these.

    Returns:
        What became of the bars, and the settled series as `older_history.settle` takes them.
    """
    locked = ledger.lock(transaction, OHLC, timeframe, sorted(answer.asked["symbol"]))
    begun_again = outdated(locked, answer.begun_again)
    if begun_again:
        is_kept = ~pl.col("symbol").is_in(begun_again)
        answer = replace(answer, bars=answer.bars.filter(is_kept), asked=answer.asked.filter(is_kept))
    instruments = answer.asked.select("symbol", "calendar").join(
        locked.select("symbol", "allow_negative"), on="symbol", how="left"
    )
    validated = validate(answer.bars, answer.length, instruments, answer.trading, answer.now)
    on_grid, off_grid = _by_grid(validated.accepted.join(instruments, on="symbol", how="left"), answer)
    screened = screen_outliers(on_grid, STORED_CLOSE_SCHEMA.to_frame())
    reasons = _reasons(transaction, timeframe, answer, screened.kept, off_grid)
    reasons |= dict.fromkeys(screened.shifts["symbol"], "their price level shifts")
    is_used = ~pl.col("symbol").is_in(list(reasons))
    before = screened.kept.join(answer.asked.select("symbol", "seam"), on="symbol").filter(
        is_used, pl.col("ts") < pl.col("seam")
    )
    long_history.write_long_bars(transaction, timeframe, answer.length, before, answer.brought_by)
    has_bars = pl.col("symbol").is_in(before["symbol"].unique().implode())
    older_history.reach_back(transaction, answer.reaching.filter(has_bars))
    columns = validated.skipped.columns
    rejected = pl.concat([validated.rejected, screened.rejected.select(columns)])
    skipped = pl.concat([validated.skipped, off_grid.select(columns), screened.unconfirmed.select(columns)])
    tables.reject(transaction, rejected, answer.brought_by)
    quality.count_skipped(transaction, skipped, answer.brought_by)
    flags = pl.concat([screened.flags, validated.flags]).join(before, on=["symbol", "ts"], how="semi")
    quality.flag(transaction, answer.length, before.select("symbol", "ts"), screened.after, flags)
    stored = Stored(
        accepted=before.drop("seam"),
        changes=BAR_CHANGE_SCHEMA.to_frame(),
        rejected=rejected,
        skipped=skipped,
        flags=flags,
        missing=pl.DataFrame(schema={"symbol": pl.String(), "bars": pl.Int64()}),
        suspected=SUSPECT_SCHEMA.to_frame(),
        rescaled=pl.DataFrame(schema={"symbol": pl.String(), "bars": pl.Int64()}),
        outdated=begun_again,
    )
    return stored, _settled(answer, before, reasons)


def _by_grid(accepted: pl.DataFrame, answer: LongAnswer) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the bars that begin on our grid, and the others with a reason."""
    grid = bar_grid(answer.trading, answer.length).select("calendar", "ts")
    columns = [name for name in accepted.columns if name not in ("calendar", "allow_negative")]
    on_grid = accepted.join(grid, on=["calendar", "ts"], how="semi", maintain_order="left").select(columns)
    off_grid = accepted.join(grid, on=["calendar", "ts"], how="anti", maintain_order="left").select(columns)
    return on_grid, off_grid.with_columns(reason=pl.lit(OFF_GRID))


def _reasons(
    transaction: Transaction, timeframe: Timeframe, answer: LongAnswer, kept: pl.DataFrame, off_grid: pl.DataFrame
) -> dict[str, str]:
    """Return by symbol why its long bars are not used; symbols whose bars are used are missing."""
    overlap = answer.asked.select("symbol", "calendar", "end", start="seam")
    short = long_history.bars_between(transaction, timeframe, overlap)
    rolled, _ = roll_up(
        short.join(overlap.select("symbol", "calendar"), on="symbol", maintain_order="left"),
        answer.length,
        answer.trading,
        overlap.select("symbol", complete_through=pl.col("end").cast(UTC_TIME)),
    )
    opens = segments(answer.trading).select("calendar", opened="segment_open").sort("opened")
    placed = latest_of(rolled.join(overlap.select("symbol", "calendar"), on="symbol"), opens, "opened")
    came = kept.select("symbol").unique()
    reasons = misfits(kept, placed.with_columns(slot=pl.col("ts") - pl.col("opened")).join(came, on="symbol"))
    lonely = came.join(placed, on="symbol", how="anti")["symbol"]
    reasons |= dict.fromkeys(lonely, "there are no shorter bars to compare them with")
    counts = (
        off_grid.group_by("symbol")
        .agg(off=pl.len())
        .join(kept.group_by("symbol").agg(on=pl.len()), on="symbol", how="left")
    )
    for symbol, off, on in counts.with_columns(pl.col("on").fill_null(0)).iter_rows():
        if off > _MOST_OFF_GRID * (off + on):
            reasons[symbol] = f"of {off + on} bars {off} begin at other times than sessions make them"
    return reasons


def _settled(answer: LongAnswer, before: pl.DataFrame, reasons: dict[str, str]) -> pl.DataFrame:
    counts = before.group_by("symbol").agg(bars=pl.len(), first=pl.col("ts").min())
    rows = answer.asked.join(counts, on="symbol", how="left").select("symbol", "start", "seam", "bars", "first")
    notes = []
    for symbol, _, seam, bars, first in rows.iter_rows():
        what = f"{answer.length.key} bars of {answer.source}"
        if symbol in reasons:
            notes.append(f"The {what} before {seam:%Y-%m-%d} are not used: {reasons[symbol]}.")
        elif bars:
            notes.append(f"{bars:,} {what} from {first:%Y-%m-%d} on stand before {seam:%Y-%m-%d}.")
        else:
            notes.append(f"There are no {what} before {seam:%Y-%m-%d}.")
    return rows.select(
        "symbol",
        asked_from=pl.lit(None, UTC_TIME),
        long_from="start",
        note=pl.Series(notes, dtype=pl.String()),
    )
