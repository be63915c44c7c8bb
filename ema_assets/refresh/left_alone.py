"""Series that are behind and left alone for a while, because they or their inputs have failed: until when, and why.

No runs are launched for them, so they are not in the plan. A message that nothing is to be done must mention them, too.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import polars as pl

from ema_assets.model.asset_names import OHLC
from ema_assets.model.counts import counted
from ema_assets.model.schemas import UTC_TIME
from ema_assets.model.timeframes import FETCHED, Timeframe, by_key
from ema_assets.refresh.outages import root_of, time_of
from ema_assets.refresh.plan import AT_ONCE, MARKET, Publications, closed_bars
from ema_assets.store import ledger
from ema_assets.store.database import Transaction

# A sentence about many series shows at most this many characters of an error.
_SHOWN_ERROR = 200

_SCHEMA = pl.Schema(
    {
        "asset": pl.String(),
        "symbol": pl.String(),
        "timeframe": pl.String(),
        "reason": pl.String(),
        "since": UTC_TIME,
        "failures": pl.Int64(),
        "next_attempt_at": UTC_TIME,
        "last_error": pl.String(),
    }
)


def series(
    transaction: Transaction,
    now: datetime,
    publications: Publications = AT_ONCE,
    *,
    ahead: timedelta = timedelta(0),
    timeframes: Sequence[Timeframe] | None = None,
) -> pl.DataFrame:
    """Return series that are behind and pausing because of a failure, which `ledger.stale` leaves out.

    Only series of `timeframes` and of the timeframes from which these are rolled up; without `timeframes`, all. When
    nothing fails, this takes one query.

    Columns: asset, symbol, timeframe, reason and since (as in `ledger.stale`), failures, next_attempt_at, last_error.
    """
    pausing = ledger.pausing(transaction, now)
    if timeframes is not None:
        keys = [timeframe.key for timeframe in timeframes]
        bases = [timeframe.base.key for timeframe in timeframes]
        is_base = pl.col("timeframe").is_in(bases) & (pl.col("asset") == OHLC)
        is_read = pl.any_horizontal(pl.col("timeframes").list.contains(key) for key in keys)
        pausing = pausing.filter(pl.col("timeframe").is_in(keys) | (is_base & is_read))
    if pausing.is_empty():
        return _SCHEMA.to_frame()
    return behind(pausing, closed_bars(transaction, now, publications, ahead=ahead, timeframes=timeframes), now)


def behind(pausing: pl.DataFrame, closed: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Return the series of `pausing` that would be stale if nothing had failed, and why; columns as in `series`.

    `pausing` is as `ledger.pausing` returns it, `closed` as `closed_bars` returns it. Fetched bars are behind when a
    timeframe in `closed` lacks them.
    """
    lacking = (
        closed.with_columns(
            pl.Series("timeframe", [by_key(text).base.key for text in closed["timeframe"]], pl.String())
        )
        .group_by(*MARKET, "timeframe")
        .agg(pl.col("ts_end").max(), pl.col("recheck_at").max())
    )
    known = pausing.join(lacking, on=[*MARKET, "timeframe"], how="left", nulls_equal=True, maintain_order="left")
    is_asked_for = (pl.col("asset") == OHLC) & pl.col("timeframe").is_in([timeframe.key for timeframe in FETCHED])
    is_early = pl.col("checked_through") > now + timedelta(seconds=ledger.CLOCK_SLACK_SECONDS)
    asked = (
        pl.when(pl.col("ts_end").is_null())
        .then(None)
        .when(pl.col("checked_through").is_null())
        .then(pl.lit("never asked"))
        .when(pl.col("checked_through") < pl.col("ts_end"))
        .then(pl.lit("bar closed"))
        .when(is_early & (pl.col("checked_through") > pl.col("last_ts")).fill_null(value=True))
        .then(pl.lit("asked too early"))
        .when(pl.col("asked_at") < pl.col("recheck_at"))
        .then(pl.lit("to be confirmed"))
    )
    computed = (
        pl.when(pl.col("dirty_from").is_null())
        .then(None)
        .when(pl.col("last_ts").is_null())
        .then(pl.lit("never computed"))
        .otherwise(pl.lit("input changed"))
    )
    return (
        known.with_columns(reason=pl.when(is_asked_for).then(asked).otherwise(computed))
        .filter(pl.col("reason").is_not_null())
        .with_columns(
            since=pl.when(~is_asked_for)
            .then("dirty_from")
            .when(pl.col("reason") == "to be confirmed")
            .then("recheck_at")
            .otherwise("ts_end")
        )
        .select(_SCHEMA.names())
        .cast(_SCHEMA)
    )


def sentences(alone: pl.DataFrame, now: datetime) -> list[str]:
    """Describe the result of `series`, one sentence per timeframe: how many series, until when, and why.

    For example, `101 series of 5m are behind and left alone until 15:26:13 UTC: sandbox answered 503`.
    """
    lines = []
    for timeframe in sorted(map(by_key, alone["timeframe"].unique())):
        mine = alone.filter(timeframe=timeframe.key)
        count = mine["symbol"].n_unique()
        times = [time_of(mine["next_attempt_at"].sort()[place], now) for place in (0, -1)]
        until = f"{times[0]} UTC" if times[0] == times[1] else f"{times[0]} UTC, the last of them until {times[1]}"
        errors = _errors(mine)
        others = "" if len(errors) == 1 else f" (and {counted(len(errors) - 1, 'other reason')})"
        are = "is" if count == 1 else "are"
        lines.append(
            f"{count} series of {timeframe.key} {are} behind and left alone until {until}: {errors[0]}{others}"
        )
    return lines


def _errors(alone: pl.DataFrame) -> list[str]:
    """Return the errors of the series in `alone`, the most common first, each shortened to one line."""
    failed = alone.filter(pl.col("failures") > 0)
    said = [
        root_of(error or "it failed") if asset == OHLC else f"{asset}: {error or ''}"
        for asset, error in failed.select("asset", "last_error").iter_rows()
    ]
    counted = (
        pl.DataFrame({"error": said}, schema={"error": pl.String()})
        .group_by("error")
        .len()
        .sort("len", "error", descending=[True, False])
    )
    lines = [" ".join(error.split()) for error in counted["error"]]
    return [line if len(line) <= _SHOWN_ERROR else f"{line[: _SHOWN_ERROR - 1]}…" for line in lines]
