"""Rolls up shorter bars to longer ones, anchored to sessions, or to weeks and months of sessions. No I/O, no clock."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ema_assets.market import rollup_loop
from ema_assets.market.calendars import bar_grid
from ema_assets.model.kernels import Kernel, floats
from ema_assets.model.schemas import UTC_TIME
from ema_assets.model.stretches import as_rows, of_each, stretches
from ema_assets.model.timeframes import Timeframe

CODE_VERSION = "1"

GATHER = Kernel(rollup_loop.gather)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_BEFORE_ALL = -(2**63)


def buckets_of(times: pl.DataFrame, timeframe: Timeframe, sessions: pl.DataFrame) -> pl.DataFrame:
    """Add to `times` (calendar, ts, …) the bar of `timeframe` that contains each ts: columns bucket, bucket_end.

    Both are null if no session contains the ts. Order and all other columns are kept.
    """
    grid = _grid(timeframe, sessions)
    places = pl.Series(_held_by(times, grid))
    return times.hstack(grid.select(pl.col("bucket", "bucket_end").gather(places.set(places < 0, None))))


def _grid(timeframe: Timeframe, sessions: pl.DataFrame) -> pl.DataFrame:
    grid = bar_grid(sessions, timeframe).select("calendar", bucket="ts", bucket_end="ts_end")
    return grid.sort("calendar", "bucket")


def _held_by(times: pl.DataFrame, grid: pl.DataFrame) -> Ints:
    """Return for each of `times` the row of `grid` (calendar, bucket, bucket_end; sorted) that contains it, or -1.

    It is searched per calendar: an asof join of 400,000 bars sorts them twice and takes ten times as long.
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
        # Times before the first bucket have place -1; what is looked up for them does not matter.
        is_held = (places >= 0) & (wanted < _whole(bars["bucket_end"])[places])
        found[rows] = np.where(is_held, places + first, -1)
        first += bars.height
    return found


def _whole(column: pl.Series) -> Ints:
    """Return times as whole microseconds; null becomes the smallest number."""
    whole = column.cast(UTC_TIME).cast(pl.Int64)
    return (whole.fill_null(_BEFORE_ALL) if whole.null_count() else whole).to_numpy()


def roll_up(
    bars: pl.DataFrame,
    timeframe: Timeframe,
    sessions: pl.DataFrame,
    complete_through: pl.DataFrame,
    source: Timeframe | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Roll up `bars` to `timeframe`; return the closed bars, and the first bucket of each symbol that is still open.

    Args:
        bars: BAR_SCHEMA without timeframe, plus `calendar`; sorted by symbol and ts, starting at a bucket's start.
        timeframe: a timeframe longer than that of `bars`.
        sessions: SESSION_SCHEMA, covering the bars.
        complete_through: symbol, complete_through (UTC): up to when `bars` are known to be complete.
        source: the timeframe of `bars` if it is not the source of `timeframe`.

    Returns:
        The closed bars (BAR_SCHEMA and missing_bars). A bucket is published only when its whole time is complete, with
        the bars that really traded; a bucket in which nothing traded has no bar. `missing_bars` counts the source bars
        that do not exist. Then symbol, bucket, bucket_end of each symbol's first bucket that has bars but is not
        complete.
    """
    grid = _with_whole(_grid(timeframe, sessions), timeframe, sessions, source or timeframe.source)
    symbols, begins = stretches(bars["symbol"])
    buckets = _gathered(bars, begins, grid)
    series = np.repeat(np.arange(len(symbols)), np.diff(np.searchsorted(buckets.first, begins)))
    # Joined per series, of which there are few, and not per bucket.
    complete = _whole(of_each(symbols, complete_through)["complete_through"])
    is_complete = _whole(grid["bucket_end"])[buckets.place] <= complete[series]
    open_series, firsts = np.unique(series[~is_complete], return_index=True)
    rows = as_rows(buckets.place[~is_complete][firsts])
    still_open = pl.DataFrame(
        [symbols[as_rows(open_series)].alias("symbol"), *(grid[name][rows] for name in ("bucket", "bucket_end"))]
    )
    if not is_complete.all():
        buckets = _Buckets._make(column[is_complete] for column in buckets)
    return _closed(bars, buckets, grid, timeframe), still_open


def _closed(bars: pl.DataFrame, buckets: "_Buckets", grid: pl.DataFrame, timeframe: Timeframe) -> pl.DataFrame:
    """Return the closed bars with the columns that `roll_up` returns."""
    rows, places = as_rows(buckets.first), as_rows(buckets.place)
    traded = pl.Series(buckets.traded)
    return pl.DataFrame(
        [
            bars["symbol"][rows],
            pl.repeat(timeframe.key, len(rows), dtype=pl.String, eager=True).alias("timeframe"),
            grid["bucket"][places].alias("ts"),
            bars["open"][rows],
            *(pl.Series(name, getattr(buckets, name), nan_to_null=True) for name in ("high", "low")),
            bars["close"][as_rows(buckets.first + buckets.traded - 1)],
            pl.Series("volume", buckets.volume, nan_to_null=True),
            (grid["whole"][places] - traded.cast(pl.Int16)).alias("missing_bars"),
        ]
    )


class _Buckets(NamedTuple):
    """Buckets that have bars, in the order of these bars.

    Attributes:
        place: the bucket's row in the grid.
        first: the row of its first bar.
        traded: the number of its bars.
        high: their highest price, NaN for none. `low` and `volume` likewise.
    """

    place: Ints
    first: Ints
    traded: Ints
    high: Floats
    low: Floats
    volume: Floats


def _gathered(bars: pl.DataFrame, begins: Ints, grid: pl.DataFrame) -> _Buckets:
    """Return the buckets of `grid` that have `bars`, whose series begin at the rows `begins`."""
    calendars, bounds = stretches(grid["calendar"])
    rows_of = dict(zip(calendars, pairwise(bounds.tolist()), strict=True))
    of_series = [rows_of.get(calendar, (0, 0)) for calendar in bars["calendar"][as_rows(begins[:-1])]]
    grid_firsts, grid_ends = np.array(of_series, np.int64).reshape(-1, 2).T
    # No series fills a bucket twice. Unneeded memory would cost a page fault per page.
    most = min(bars.height, int((grid_ends - grid_firsts).sum()))
    places, firsts, traded, count = (np.empty(size, np.int64) for size in (most, most, most, 1))
    high, low, volume = (np.empty(most) for _ in range(3))
    GATHER.fill(
        [places, firsts, traded, high, low, volume, count],
        [
            _whole(bars["ts"]),
            *(floats(bars[name]) for name in ("high", "low", "volume")),
            begins,
            grid_firsts,
            grid_ends,
            _whole(grid["bucket"]),
            _whole(grid["bucket_end"]),
        ],
    )
    found = _Buckets._make(column[: int(count[0])] for column in (places, firsts, traded, high, low, volume))
    return found._replace(volume=_sums(bars["volume"], found)) if bars["volume"].null_count() else found


def _sums(values: pl.Series, buckets: _Buckets) -> Floats:
    """Return the sums within `buckets` of a column with nulls, rounded as polars does; NaN if all values are null."""
    number = np.full(len(values), -1)
    for place, (first, count) in enumerate(zip(buckets.first.tolist(), buckets.traded.tolist(), strict=True)):
        number[first : first + count] = place
    return (
        pl.DataFrame({"number": number, "value": values})
        .filter(pl.col("number") >= 0)
        .group_by("number", maintain_order=True)
        .agg("value", is_known=pl.col("value").is_not_null().any())
        # Each list is summed separately: the rounding of a sum within group_by depends on the other groups.
        .select(pl.when("is_known").then(pl.col("value").list.sum()))["value"]
        .to_numpy()
    )


def _with_whole(grid: pl.DataFrame, timeframe: Timeframe, sessions: pl.DataFrame, source: Timeframe) -> pl.DataFrame:
    """Add to `grid` (calendar, bucket, bucket_end) the number of source bars that each bucket should have: whole."""
    if timeframe.is_intraday:
        # The last bucket of a session may be shorter, and so may the last source bar in it.
        length = (pl.col("bucket_end") - pl.col("bucket")).dt.total_minutes()
        return grid.with_columns(whole=(length / source.minutes).ceil().cast(pl.Int16))
    # Counted, because there may be a lunch break, and extended hours before and after it.
    each = buckets_of(bar_grid(sessions, source).select("calendar", "ts"), timeframe, sessions)
    counted = each.group_by("calendar", "bucket").agg(whole=pl.len().cast(pl.Int16))
    return grid.join(counted, on=["calendar", "bucket"], how="left", maintain_order="left")


def without_owned(closed: pl.DataFrame, owned: pl.DataFrame, timeframe: Timeframe) -> pl.DataFrame:
    """Return `closed` (symbol, ts, …) without the bars that reach into a span of a file.

    `owned` has symbol, first_ts, last_end; it is sorted, and the spans of a symbol do not overlap.
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
    """Return where rolled-up series must start again after their source bars changed: symbol, dirty_from, dirty_end.

    `changed` has symbol, calendar and changed_from (UTC). dirty_from and dirty_end are the start and the end of the
    bucket that contains `changed_from`, or of the next bucket on a day that the calendar lacks, because later bars may
    have changed as well. Both are `changed_from` if `sessions` end before it.
    """
    times = changed.select("symbol", "calendar", pl.col("changed_from").cast(UTC_TIME).alias("ts"))
    found = buckets_of(times, timeframe, sessions)
    if found["bucket"].null_count():
        found = _with_next(found, _grid(timeframe, sessions))
    return found.select("symbol", dirty_from=pl.coalesce("bucket", "ts"), dirty_end=pl.coalesce("bucket_end", "ts"))


def _with_next(times: pl.DataFrame, grid: pl.DataFrame) -> pl.DataFrame:
    """Return `times` (as `buckets_of` returns them) with the next bucket of `grid` if none contains the ts."""
    coming = grid.select("calendar", _next="bucket", _next_end="bucket_end").sort("_next")
    return (
        times.with_row_index("_row")
        .sort("ts")
        .join_asof(
            coming,
            left_on="ts",
            right_on="_next",
            by="calendar",
            strategy="forward",
            check_sortedness=False,
            coalesce=False,
        )
        .sort("_row")
        .with_columns(pl.coalesce("bucket", "_next"), pl.coalesce("bucket_end", "_next_end"))
        .select(times.columns)
    )


def warm_up() -> None:
    """Load or compile the machine code of rollups."""
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
