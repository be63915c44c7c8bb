"""Joins a column of dates and a column of times of day to one column of times. Knows no sessions."""

from collections.abc import Sequence
from datetime import timedelta

import polars as pl

from ema_assets.files.times import check_type
from ema_assets.model.errors import BarFileError

# A date and a time of day in one number, to the millisecond: 20240102093500000.
_WHOLE_MILLISECONDS = r"^(?:19|20)\d{12}\d{3}$"
# An hour of the day as a number.
_HOUR = r"^([01]?\d|2[0-4])(?:\.0+)?$"
# The day that precedes a time of day without a date: in spreadsheets, where 24 hours or more have a later day, and in
# the result of Python's `strptime`.
_NO_DAY = r"^1899-12-3[01][T ]"
_NEXT_DAYS = r"^1900-\d{2}-\d{2}[T ]"
_PYTHONS_DAY = r"^1900-01-01[T ]"


def joined(texts: Sequence[pl.Series], *, has_hours: bool = False) -> pl.Series:
    """Join a column of dates and a column of times. If the times have their own date, they are returned alone.

    A duration is the time since midnight. Spreadsheets put 1899-12-30 or 1899-12-31 before a time of day. Numbers up to
    24 are hours if the column is called so (`has_hours`), or if there are several of them on several days.

    Raises:
        BarFileError: when there are more than two columns, a column has a type that no date or time of day has, or a
            time is not within one day.
    """
    if len(texts) == 1:
        return texts[0]
    if len(texts) > 2:
        raise BarFileError("has three columns of times; `--columns` must name ts, or date and time")
    check_type(texts[0], "date")
    day, clock = texts[0].cast(pl.String).str.strip_chars(), _clock_text(texts[1])
    if clock.drop_nulls().head(20).str.contains(r"^\d{4}-\d{2}-\d{2}[T ]").any():
        return clock
    if clock.drop_nulls().str.contains(_WHOLE_MILLISECONDS).all():
        return clock.str.slice(0, len("20240102093500"))
    day = day.str.replace(r"[T ]00:00(:00(\.0+)?)?$", "")
    if clock.drop_nulls().str.contains(_HOUR).all() and (has_hours or (day.n_unique() > 1 and clock.n_unique() > 2)):
        clock = clock.str.extract(_HOUR) + ":00"
    return (
        pl.DataFrame({"d": day, "c": clock})
        .select(pl.concat_str("d", "c", separator=" ", ignore_nulls=True))
        .to_series()
    )


def _clock_text(column: pl.Series) -> pl.Series:
    """Return times of day as text, or times with their own date."""
    if column.dtype == pl.Duration:
        if not column.drop_nulls().is_between(timedelta(0), timedelta(days=1), closed="left").all():
            raise BarFileError(f"`time` must be a time of day, received durations up to {column.max()!s}")
        return column.dt.total_nanoseconds().cast(pl.Time).cast(pl.String)
    check_type(column, "time")
    text = column.cast(pl.String).str.strip_chars()
    if text.str.contains(_NO_DAY).any():
        later = text.filter(text.str.contains(_NEXT_DAYS))
        if len(later):
            raise BarFileError(f"`time` must be a time of day, received {later[0]!r}, which is 24 hours or more")
        return text.str.replace(_NO_DAY, "")
    return text.str.replace(_PYTHONS_DAY, "") if text.str.contains(_PYTHONS_DAY).all() else text
