"""Plans bars before the first bars of fetched series: more of their own bars, or long history. Asks no provider."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from ema_assets.market.calendars import bar_grid
from ema_assets.model.schemas import UTC_TIME
from ema_assets.model.timeframes import Timeframe, by_key
from ema_assets.providers.declaration import LongHistory
from ema_assets.refresh.depths import DEEP_ENOUGH_BARS
from ema_assets.refresh.plan import MARKET
from ema_assets.refresh.plan_requests import FetchRules, rows_of

# A depth counts as changed only if it exceeds the requested one by more than this: holidays make smaller differences.
SLACK = timedelta(days=7)
# Long bars are compared with the short bars of this many sessions.
OVERLAP_SESSIONS = 5
# How far back sessions are read for the bars of a rolled-up series: each session has at least one bar, and five of
# seven days have a session.
LOOK_BACK = timedelta(days=2 * DEEP_ENOUGH_BARS)


@dataclass(frozen=True, slots=True)
class OlderPlan:
    """What to do about the long history of some series of one fetched timeframe.

    Attributes:
        long: symbol, a MARKET, start, end, rows: the long history to be requested, which overlaps stored bars; and
            `seam`, from which on the series has its own bars.
        reaching: symbol, timeframe, from_ts: rolled-up series, and from when on they are to be made of long history.
        settled: symbol, asked_from, long_from, note: series for which nothing (more) is to be requested.
    """

    long: pl.DataFrame
    reaching: pl.DataFrame
    settled: pl.DataFrame


def plan_growth(due: pl.DataFrame, timeframe: Timeframe, rules: FetchRules, now: datetime) -> pl.DataFrame:
    """Plan requests for more of their own bars for series of `due` (`older_history.due`) that do not go back enough.

    Columns: symbol, a MARKET, start, end, rows; sorted by symbol. The requests overlap the stored bars.
    """
    beginning = pl.lit(rules.beginning(timeframe, now), UTC_TIME)
    # The stored bars within the margin show whether the older ones are on the same scale.
    margin = pl.lit(max(timeframe.fetched.gap_margin, timeframe.fetched.overlap))
    end = pl.min_horizontal(pl.max_horizontal("asked_from", "first_ts") + margin, "checked_through")
    return (
        due.filter(pl.col("asked_from") - pl.lit(SLACK) > beginning)
        .select("symbol", *MARKET, start=beginning, end=end)
        .filter(pl.col("start") < pl.col("end"))
        .with_columns(rows_of(timeframe))
        .sort("symbol")
    )


def plan_long(
    due: pl.DataFrame,
    series: pl.DataFrame,
    trading: pl.DataFrame,
    timeframe: Timeframe,
    history: LongHistory | None,
    now: datetime,
    *,
    everything: bool,
) -> OlderPlan:
    """Plan which long history to request for `due` (`older_history.due`), if its provider has long `history`.

    `series` (symbol, timeframe) are the existing series of bars; `trading` (SESSION_SCHEMA) reaches back LOOK_BACK from
    `now` and to the first bar of each series. With `everything`, what was requested before is requested again.
    """
    nothing = pl.lit(None, UTC_TIME)
    asked_from = due.select("symbol", asked_from=nothing, long_from=nothing, note=pl.lit(None, pl.String))
    length = None if history is None or timeframe.is_session else by_key(history.timeframe)
    if due.is_empty() or length is None or history is None:
        return OlderPlan(_no_requests(), _reaching([]), asked_from)
    seams = _with_seam(due, trading)
    fed = _fed(series, timeframe, length)
    begins = pl.concat([_reaching([]).clear().rename({"symbol": "calendar"}), *_begins(fed, trading, now)])
    reaching = (
        seams.join(fed.select("symbol", "timeframe"), on="symbol")
        .join(begins, on=["calendar", "timeframe"])
        .filter(pl.col("from_ts") < pl.col("seam"))
    )
    wanted = seams.join(reaching.group_by("symbol").agg(start=pl.col("from_ts").min()), on="symbol", how="inner")
    if history.depth is not None:
        wanted = wanted.with_columns(pl.max_horizontal("start", pl.lit(now - history.depth, UTC_TIME)))
    is_asked = (pl.col("long_from") - pl.lit(SLACK) <= pl.col("start")).fill_null(False)
    is_asked &= pl.lit(not everything)
    requests = (
        wanted.filter(~is_asked, pl.col("start") < pl.col("seam"))
        .select("symbol", *MARKET, "start", pl.col("overlap_end").alias("end"), "seam")
        .with_columns(rows_of(length))
        .sort("symbol")
    )
    return OlderPlan(
        long=requests,
        reaching=reaching.select("symbol", "timeframe", "from_ts").sort("symbol", "timeframe"),
        settled=asked_from.join(requests, on="symbol", how="anti"),
    )


def _with_seam(due: pl.DataFrame, trading: pl.DataFrame) -> pl.DataFrame:
    """Return `due` with seam and overlap_end.

    The seam is the open of the first session that is not cut at its beginning. Up to overlap_end, long bars are
    compared with short ones. Series without a complete session are left out.
    """
    opens = trading.select("calendar", "open", "close").sort("open")
    seam = due.sort("first_ts").join_asof(
        opens.select("calendar", seam="open"),
        left_on="first_ts",
        right_on="seam",
        by="calendar",
        strategy="forward",
        check_sortedness=False,
        coalesce=False,
    )
    ends = (
        seam.select("symbol", "calendar", "seam", "checked_through")
        .join(opens, on="calendar")
        .filter(pl.col("open") >= pl.col("seam"), pl.col("close") <= pl.col("checked_through"))
        .sort("symbol", "open")
        .group_by("symbol", maintain_order=True)
        .head(OVERLAP_SESSIONS)
        .group_by("symbol")
        .agg(overlap_end=pl.col("close").max())
    )
    return seam.join(ends, on="symbol", how="inner").sort("symbol")


def _fed(series: pl.DataFrame, timeframe: Timeframe, length: Timeframe) -> pl.DataFrame:
    """Return the rows of `series` that are rolled up from `timeframe` and whose bars consist of whole `length` bars."""

    def is_fed(key: str) -> bool:
        each = by_key(key)
        return not each.is_fetched and each.source is timeframe and not each.duration % length.duration

    keys = [key for key in series["timeframe"].unique() if is_fed(key)]
    return series.filter(pl.col("timeframe").is_in(keys))


def _begins(fed: pl.DataFrame, trading: pl.DataFrame, now: datetime) -> list[pl.DataFrame]:
    """Return the session with which a series of DEEP_ENOUGH_BARS begins: calendar, timeframe, from_ts.

    One frame per timeframe. Today's bars (UTC) do not count, so that everything that is loaded on the same day reaches
    equally far back.
    """
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    opens = trading.select("calendar", "session", from_ts="open")
    found = []
    for key in sorted(fed["timeframe"].unique()):
        grid = bar_grid(trading, by_key(key)).filter(pl.col("ts_end") <= today).sort("calendar", "ts")
        first = grid.group_by("calendar", maintain_order=True).tail(DEEP_ENOUGH_BARS).group_by("calendar").first()
        begins = first.join(opens, on=["calendar", "session"])
        found.append(begins.select("calendar", pl.lit(key).alias("timeframe"), "from_ts"))
    return found


def _reaching(rows: Sequence[tuple[str, str, datetime]]) -> pl.DataFrame:
    schema = {"symbol": pl.String(), "timeframe": pl.String(), "from_ts": UTC_TIME}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _no_requests() -> pl.DataFrame:
    schema = {
        "symbol": pl.String(),
        "calendar": pl.String(),
        "provider": pl.String(),
        "delay_seconds": pl.Int64(),
        "start": UTC_TIME,
        "end": UTC_TIME,
        "seam": UTC_TIME,
        "rows": pl.Int64(),
    }
    return pl.DataFrame(schema=schema)
