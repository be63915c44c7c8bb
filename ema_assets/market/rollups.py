"""From shorter bars to longer ones, anchored to the session, or to weeks and months of sessions. No I/O, no clock."""

import numpy as np
import numpy.typing as npt
import polars as pl

from ema_assets.market import rollup_loop
from ema_assets.market.calendars import bar_grid
from ema_assets.model.kernels import Kernel, floats
from ema_assets.model.schemas import BAR_SCHEMA, UTC_TIME
from ema_assets.model.stretches import stretches
from ema_assets.model.timeframes import Timeframe

CODE_VERSION = "1"

GATHER = Kernel(rollup_loop.gather)

Ints = npt.NDArray[np.int64]
_BEFORE_ALL = -(2**63)


def buckets_of(times: pl.DataFrame, timeframe: Timeframe, sessions: pl.DataFrame) -> pl.DataFrame:
    """Add to `times` (calendar, ts, …) the bar of `timeframe` that holds each ts: columns bucket, bucket_end.

    Both are null where no session holds the ts. Order and all other columns are kept.
    """
    grid = _grid(timeframe, sessions)
    places = pl.Series(_held_by(times, grid))
    return times.hstack(grid.select(pl.col("bucket", "bucket_end").gather(places.set(places < 0, None))))


def _grid(timeframe: Timeframe, sessions: pl.DataFrame) -> pl.DataFrame:
    grid = bar_grid(sessions, timeframe).select("calendar", bucket="ts", bucket_end="ts_end")
    return grid.sort("calendar", "bucket")


def _held_by(times: pl.DataFrame, grid: pl.DataFrame) -> Ints:
    """For each of `times` the row of `grid` (calendar, bucket, bucket_end; sorted) that holds it, else -1.

    Searched per calendar: an asof join of 400,000 bars sorts them twice and takes ten times as long.
    """
    found = np.full(times.height, -1, np.int64)
    moments = _whole(times["ts"])
    calendars = times["calendar"]
    first = 0
    for bars in grid.partition_by("calendar", maintain_order=True):
        is_of_it = (calendars == bars["calendar"][0]).fill_null(value=False)
        rows = slice(None) if is_of_it.all() else is_of_it.to_numpy()
        wanted = moments[rows]
        places = np.searchsorted(_whole(bars["bucket"]), wanted, side="right") - 1
        # Before the first one there is none; what is looked up for it does not matter.
        is_held = (places >= 0) & (wanted < _whole(bars["bucket_end"])[places])
        found[rows] = np.where(is_held, places + first, -1)
        first += bars.height
    return found


def _whole(column: pl.Series) -> Ints:
    """Times as whole microseconds; null is before all others."""
    return column.cast(UTC_TIME).cast(pl.Int64).fill_null(_BEFORE_ALL).to_numpy()


def roll_up(
    bars: pl.DataFrame,
    timeframe: Timeframe,
    sessions: pl.DataFrame,
    complete_through: pl.DataFrame,
    source: Timeframe | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Bars of `timeframe` from those of its source, and the first bucket of each symbol that is still open.

    Args:
        bars: BAR_SCHEMA without timeframe, plus `calendar`; sorted by symbol and ts, starting at a bucket's start.
        timeframe: one of the rolled-up ones.
        sessions: SESSION_SCHEMA, covering the bars.
        complete_through: symbol, complete_through (UTC): up to when `bars` are known to be complete.
        source: the timeframe of `bars` where it is another one.

    Returns:
        The closed bars (BAR_SCHEMA and missing_bars): a bucket is published only when its whole time is complete,
        with the bars that really traded; a bucket in which nothing traded has no bar. `missing_bars` counts the bars
        of the source that are not there. Then symbol, bucket, bucket_end of each symbol's first bucket that holds bars
        but is not complete.
    """
    buckets = _gathered(bars, _grid(timeframe, sessions), complete_through)
    buckets = _with_whole(buckets, timeframe, sessions, source or timeframe.source)
    is_complete = (pl.col("bucket_end") <= pl.col("complete_through")).fill_null(False)
    closed = buckets.filter(is_complete).select(
        "symbol",
        pl.lit(timeframe.key).alias("timeframe"),
        pl.col("bucket").alias("ts"),
        *list(BAR_SCHEMA)[3:],
        missing_bars=pl.col("whole").cast(pl.Int16) - pl.col("traded").cast(pl.Int16),
    )
    still_open = (
        buckets.filter(~is_complete)
        .group_by("symbol", maintain_order=True)
        .agg(pl.col("bucket").first(), pl.col("bucket_end").first())
    )
    return closed, still_open


def _gathered(bars: pl.DataFrame, grid: pl.DataFrame, complete_through: pl.DataFrame) -> pl.DataFrame:
    """One row per bucket of `grid` that holds `bars` of a symbol.

    Columns: symbol, bucket, calendar, bucket_end, open, high, low, close, volume, traded (number of bars),
    complete_through.
    """
    symbols, begins = stretches(bars["symbol"])
    calendars = (
        grid.with_row_index("row").group_by("calendar").agg(first=pl.col("row").min(), end=pl.col("row").max() + 1)
    )
    of_series = (
        bars.select(pl.col("calendar").gather(begins[:-1]))
        .join(calendars, on="calendar", how="left", maintain_order="left")
        .select(pl.col("first", "end").fill_null(0).cast(pl.Int64))
    )
    places, firsts, traded, count = (np.empty(size, np.int64) for size in (bars.height, bars.height, bars.height, 1))
    high, low, volume = (np.empty(bars.height) for _ in range(3))
    GATHER.fill(
        [places, firsts, traded, high, low, volume, count],
        [
            _whole(bars["ts"]),
            *(floats(bars[name]) for name in ("high", "low", "volume")),
            begins,
            of_series["first"].to_numpy(),
            of_series["end"].to_numpy(),
            _whole(grid["bucket"]),
            _whole(grid["bucket_end"]),
        ],
    )
    found = slice(0, int(count[0]))
    firsts, traded = firsts[found], traded[found]
    if bars["volume"].null_count():
        volume[found] = _sums(bars["volume"], firsts, traded)
    # Joined by series, of which there are few, and not by bucket.
    complete = symbols.to_frame("symbol").join(complete_through, on="symbol", how="left", maintain_order="left")
    per_series = np.diff(np.searchsorted(firsts, begins))
    first_rows, grid_rows = _as_rows(firsts), _as_rows(places[found])
    return pl.DataFrame(
        [
            *(bars[name].gather(first_rows) for name in ("symbol", "calendar", "open")),
            bars["close"].gather(_as_rows(firsts + traded - 1)),
            *(grid[name].gather(grid_rows) for name in ("bucket", "bucket_end")),
            complete["complete_through"].gather(_as_rows(np.repeat(np.arange(len(symbols)), per_series))),
            *(pl.Series(name, values[found], nan_to_null=True) for name, values in (("high", high), ("low", low))),
            pl.Series("volume", volume[found], nan_to_null=True),
            pl.Series("traded", traded),
        ]
    )


def _as_rows(places: Ints) -> pl.Series:
    """Places as polars wants them, which it would make of them for each column that is gathered."""
    return pl.Series(places, dtype=pl.UInt32)


def _sums(values: pl.Series, firsts: Ints, counts: Ints) -> npt.NDArray[np.float64]:
    """The sums over stretches of a column with nulls, rounded as polars does; NaN where all are null."""
    number = np.full(len(values), -1)
    for place, (first, count) in enumerate(zip(firsts.tolist(), counts.tolist(), strict=True)):
        number[first : first + count] = place
    return (
        pl.DataFrame({"number": number, "value": values})
        .filter(pl.col("number") >= 0)
        .group_by("number", maintain_order=True)
        .agg("value", is_known=pl.col("value").is_not_null().any())
        # Added up apart: how a sum within group_by rounds depends on the other groups there are.
        .select(pl.when("is_known").then(pl.col("value").list.sum()))["value"]
        .to_numpy()
    )


def _with_whole(buckets: pl.DataFrame, timeframe: Timeframe, sessions: pl.DataFrame, source: Timeframe) -> pl.DataFrame:
    """Add to `buckets` (calendar, bucket, bucket_end) the number of bars of the source that there should be: whole."""
    if timeframe.period is None:
        # The last bucket of a session is shorter, and so may its last bar be.
        length = (pl.col("bucket_end") - pl.col("bucket")).dt.total_minutes()
        return buckets.with_columns(whole=(length / source.minutes).ceil())
    days = buckets_of(sessions.select("calendar", ts="regular_open"), timeframe, sessions)
    counted = days.group_by("calendar", "bucket").agg(whole=pl.len())
    return buckets.join(counted, on=["calendar", "bucket"], how="left", maintain_order="left")


def without_owned(closed: pl.DataFrame, owned: pl.DataFrame, timeframe: Timeframe) -> pl.DataFrame:
    """`closed` (symbol, ts, …) without the bars that reach into a span of a file.

    `owned` has symbol, first_ts, last_end; sorted, the spans of a symbol without overlap.
    """
    if owned.is_empty():
        return closed
    full_end = pl.col("ts") + pl.lit(timeframe.duration)
    return (
        closed.with_columns(_full_end=full_end)
        .sort("_full_end")
        .join_asof(
            owned.sort("first_ts"),
            left_on="_full_end",
            right_on="first_ts",
            by="symbol",
            strategy="backward",
            allow_exact_matches=False,
            check_sortedness=False,
            coalesce=False,
        )
        .filter((pl.col("last_end") <= pl.col("ts")).fill_null(True))
        .select(closed.columns)
        .sort("symbol", "ts")
    )


def dirty_buckets(changed: pl.DataFrame, timeframe: Timeframe, sessions: pl.DataFrame) -> pl.DataFrame:
    """Where a rolled-up series must start again after the bars of its source changed.

    `changed` has symbol, calendar and changed_from (UTC). Returns symbol, dirty_from and dirty_end: start and end of
    the bucket that holds `changed_from`.
    """
    times = changed.select("symbol", "calendar", pl.col("changed_from").cast(UTC_TIME).alias("ts"))
    return (
        buckets_of(times, timeframe, sessions)
        .filter(pl.col("bucket").is_not_null())
        .select("symbol", dirty_from="bucket", dirty_end="bucket_end")
    )


def warm_up() -> None:
    """Make the machine code of rollups ready."""
    whole, price = np.empty(0, np.int64), np.empty(0)
    results = [
        whole.copy(),
        whole.copy(),
        whole.copy(),
        price.copy(),
        price.copy(),
        price.copy(),
        np.zeros(1, np.int64),
    ]
    GATHER.compile(results, [whole, price, price, price, np.zeros(1, np.int64), whole, whole, whole, whole])
