"""Times from text and numbers: every usual way to write one, by Polars' own formats. Knows no sessions.

A time is kept as it is written (`wall`, without a zone) and, where the text or the unit says which instant it is, as
that instant (`ts`, UTC).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from zoneinfo import ZoneInfo

import polars as pl

from ema_assets.files.date_order import date_order
from ema_assets.model.schemas import UTC_TIME

WALL = pl.Datetime("us")
_EPOCH = r"^-?\d{9,19}(\.\d+)?$"
_COMPACT = r"^(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[01]\d|2[0-3])[0-5]\d(?:[0-5]\d)?$"
_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_DATE = (
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{8}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2}"
    rf"|\d{{1,2}}[-/. ]*(?i:{_MONTHS})[a-zA-Z]*\.?[-/., ]*\d{{2,4}}"
    rf"|(?i:{_MONTHS})[a-zA-Z]*\.? ?\d{{1,2}},? \d{{4}}|\d{{4}}[- ](?i:{_MONTHS})[a-zA-Z]*[- ]\d{{1,2}}"
)
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2})?(?:[.,]\d+)?(?:\s*[AaPp]\.?[Mm]\.?)?|\d{1,6}"
_OFFSET = r"(?:[A-Z]{1,5}|[A-Z][A-Za-z]+(?:/[A-Za-z_]+)+)?\s*(?:[+-]\d{1,2}(?::?\d{2})?)?"
_WEEKDAY = r"^(?i:mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,?\s+"
_TIME = rf"^(?P<day>{_DATE})(?:(?:[Tt]|,?\s+)(?P<clock>{_CLOCK})\s*(?P<zone>{_OFFSET}))?$"
_CLOCKS = ("%H:%M:%S%.f", "%H:%M", "%I:%M:%S %p", "%I:%M %p", "%H%M%S", "%H%M")
# Short names that mean one zone to everybody who trades. IST, CST and others mean several and are refused.
_ZONES = {
    "Z": 0, "UTC": 0, "GMT": 0, "EST": -5, "EDT": -4, "CET": 1, "CEST": 2, "BST": 1, "EET": 2, "EEST": 3, "JST": 9,
    "HKT": 8,
}  # fmt: skip
_OFFSET_PARTS = re.compile(r"([+-])(\d{1,2}):?(\d{2})?")
# Days since 1899-12-30, as Excel keeps them: 1927 to 2119.
_EXCEL_DAY = r"^[1-7]\d{4}(\.\d+)?$"


@dataclass(frozen=True, slots=True)
class Times:
    """Times of a column, one per row.

    Attributes:
        wall: as written, without a zone; null where the text is no time.
        ts: the instant (UTC) where it is certain; null elsewhere.
        note: how the text was read where that is not obvious, such as `day/month/year`; or empty.
    """

    wall: pl.Series
    ts: pl.Series
    note: str = ""


def read_times(column: pl.Series, order: str | None, *, usual_order: str | None = None) -> Times:
    """The times of `column`: dates, datetimes, epochs in s, ms, µs or ns, or text.

    `order` is that of the numbers in a date, `usual_order` the one that the vendor uses.

    Raises:
        AmbiguousBarFile: when days and months cannot be told apart.
    """
    dtype = column.dtype
    if isinstance(dtype, pl.Datetime):
        wall = column.dt.replace_time_zone(None).cast(WALL)
        ts = column.dt.convert_time_zone("UTC").cast(UTC_TIME) if dtype.time_zone else _none(len(column))
        return Times(wall, ts)
    if dtype == pl.Date:
        return Times(column.cast(WALL), _none(len(column)))
    if dtype.is_float():
        column = column.cast(pl.Decimal(38, 6)) if column.abs().max() else column
    text = column.cast(pl.String).str.strip_chars().str.strip_chars("'\"[]")
    filled = text.drop_nulls().filter(text.drop_nulls() != "")
    if _are_mostly(filled, _EPOCH) and not _are_mostly(filled, _COMPACT):
        return _epochs(text)
    if _are_mostly(filled, _EXCEL_DAY):
        days = text.cast(pl.Float64, strict=False)
        # To the second: a double has no more of a day.
        since = (days * 86_400).round().cast(pl.Int64) * 1_000_000 - 2_209_161_600_000_000
        return Times(since.cast(WALL), _none(len(text)), "days as Excel counts them")
    return _texts(text, order, usual_order)


def _are_mostly(texts: pl.Series, pattern: str) -> bool:
    """True when more than half of `texts` match: below a table may stand something else."""
    return int(texts.str.contains(pattern).sum()) * 2 > len(texts)


def _none(rows: int) -> pl.Series:
    return pl.Series([None] * rows, dtype=UTC_TIME)


def _epochs(text: pl.Series) -> Times:
    """Instants, each in the unit that its size shows. From 1973 on these do not overlap."""
    whole = pl.col("x").str.replace(r"\.\d+$", "").cast(pl.Int64, strict=False)
    fraction = pl.col("x").str.extract(r"(\.\d+)$", 1).cast(pl.Float64, strict=False).fill_null(0.0)
    size = whole.abs()
    micros = (
        pl.when(size >= 10**17).then(whole // 1000)
        .when(size >= 10**14).then(whole)
        .when(size >= 10**11).then(whole * 1000 + (fraction * 1000).round().cast(pl.Int64))
        .otherwise(whole * 1_000_000 + (fraction * 1_000_000).round().cast(pl.Int64))
    )  # fmt: skip
    frame = pl.DataFrame({"x": text}).with_columns(whole.abs().alias("size"))
    ts = frame.select(micros.cast(UTC_TIME)).to_series()
    return Times(ts.dt.replace_time_zone(None), ts, f"epoch {_units(frame['size'].drop_nulls())}")


def _units(sizes: pl.Series) -> str:
    limits = {"s": (0, 10**11), "ms": (10**11, 10**14), "µs": (10**14, 10**17), "ns": (10**17, 2**63 - 1)}
    present = [unit for unit, (low, high) in limits.items() if sizes.is_between(low, high, closed="left").any()]
    return " and ".join(present) or "s"


def _texts(text: pl.Series, order: str | None, usual_order: str | None) -> Times:
    # `20240102153000` in one piece, and Java's name of the zone behind its offset.
    spaced = text.str.replace(r"^(\d{8})(\d{4}|\d{6})$", "$1 $2").str.replace(r"\[[\w/]+$", "")
    parts = spaced.str.replace(_WEEKDAY, "").str.extract_groups(_TIME).struct.unnest()
    found_order, note = date_order(parts["day"], order, usual_order)
    days = _mapped(parts["day"], lambda values: _days(values, found_order), pl.Date())
    clocks = _mapped(parts["clock"], _clock_times, pl.Time())
    has_clock = parts["clock"].is_not_null()
    frame = pl.DataFrame({"day": days, "clock": clocks, "has": has_clock, "zone": parts["zone"]})
    wall = frame.select(
        pl.when(pl.col("has"))
        .then(pl.col("day").dt.combine(pl.col("clock")))
        .otherwise(pl.col("day").cast(WALL))
        .cast(WALL)
    ).to_series()
    return _zoned(wall, frame["zone"], note)


def _mapped(column: pl.Series, read: Callable[[pl.Series], pl.Series], dtype: pl.DataType) -> pl.Series:
    """`read` of the distinct values of `column`, back in its rows: days and clocks repeat in a file of bars."""
    distinct = column.drop_nulls().unique(maintain_order=True)
    if distinct.is_empty():
        return pl.Series([None] * len(column), dtype=dtype)
    return column.replace_strict(distinct, read(distinct), default=None, return_dtype=dtype)


def _days(text: pl.Series, order: str) -> pl.Series:
    year, month, day = r"(?P<y>\d{4})", r"(?P<m>\d{1,2})", r"(?P<d>\d{1,2})"
    short = r"(?P<y>\d{4}|\d{2})"
    name = rf"(?P<n>(?i:{_MONTHS}))[a-zA-Z]*"
    numeric = {
        "dmy": rf"^{day}[-/.]{month}[-/.]{short}$",
        "mdy": rf"^{month}[-/.]{day}[-/.]{short}$",
        "ymd": rf"^(?P<y>\d{{2}})[-/.]{month}[-/.]{day}$",
    }
    patterns = (
        rf"^{year}[-/.]{month}[-/.]{day}$",
        r"^(?P<y>\d{4})(?P<m>\d{2})(?P<d>\d{2})$",
        rf"^{day}[-/. ]*{name}\.?[-/., ]*{short}$",
        rf"^{name}\.? ?{day},? {year}$",
        rf"^{year}[- ]{name}[- ]{day}$",
        numeric[order],
    )
    return pl.DataFrame({"x": text}).select(pl.coalesce(_day(pattern) for pattern in patterns)).to_series()


def _day(pattern: str) -> pl.Expr:
    groups = pl.col("x").str.extract_groups(pattern)
    year = groups.struct.field("y")
    century = pl.when(year.str.slice(0, 1).is_in(["7", "8", "9"])).then(pl.lit("19")).otherwise(pl.lit("20"))
    full_year = pl.when(year.str.len_chars() == 2).then(century + year).otherwise(year)
    if "?P<n>" in pattern:
        written, form = (
            pl.concat_str(full_year, groups.struct.field("n"), groups.struct.field("d"), separator="-"),
            "%Y-%b-%d",
        )
    else:
        written, form = (
            pl.concat_str(full_year, groups.struct.field("m"), groups.struct.field("d"), separator="-"),
            "%Y-%m-%d",
        )
    return written.str.to_date(form, strict=False)


def _clock_times(text: pl.Series) -> pl.Series:
    upper = pl.col("x").str.to_uppercase().str.replace_all(r"([AP])\.?M\.?", " ${1}M").str.replace_all(r"\s+", " ")
    digits = pl.col("x").str.contains(r"^\d+$")
    padded = (
        pl.when(pl.col("x").str.len_chars() <= 4).then(pl.col("x").str.zfill(4)).otherwise(pl.col("x").str.zfill(6))
    )
    clean = pl.when(digits).then(padded).otherwise(upper.str.replace(",", ".", literal=True))
    frame = pl.DataFrame({"x": text}).select(clean)
    return frame.select(pl.coalesce(pl.col("x").str.to_time(form, strict=False) for form in _CLOCKS)).to_series()


def _zoned(wall: pl.Series, zones: pl.Series, note: str) -> Times:
    """Instants where the text names an offset or a zone; a name that is not known makes no time of it."""
    frame = pl.DataFrame({"wall": wall, "zone": zones.str.strip_chars().replace("", None)})
    names = frame["zone"].drop_nulls().unique().to_list()
    if not names:
        return Times(wall, _none(len(wall)), note)
    instants = pl.lit(None, UTC_TIME)
    for name in names:
        offset = _offset(name)
        if offset is not None:
            here = (pl.col("wall") - offset).dt.replace_time_zone("UTC")
        elif _is_zone(name):
            here = in_zone(pl.col("wall"), name)
        else:
            frame = frame.with_columns(pl.when(pl.col("zone") == name).then(None).otherwise("wall").alias("wall"))
            continue
        instants = pl.when(pl.col("zone") == name).then(here).otherwise(instants)
    ts = frame.with_columns(instants.alias("ts"))["ts"]
    return Times(frame["wall"], ts, note)


def _offset(name: str) -> timedelta | None:
    word = re.match(r"[A-Za-z]*", name)
    assert word is not None
    rest = name[word.end() :].strip()
    hours = _ZONES.get(word.group()) if word.group() else 0
    if hours is None:
        return None
    if not rest:
        return timedelta(hours=hours)
    match = _OFFSET_PARTS.fullmatch(rest)
    if match is None:
        return None
    return timedelta(hours=hours) + (-1 if match[1] == "-" else 1) * timedelta(
        hours=int(match[2]), minutes=int(match[3] or 0)
    )


def _is_zone(name: str) -> bool:
    try:
        return "/" in name and ZoneInfo(name) is not None
    except (KeyError, OSError, ValueError):
        return False


def in_zone(wall: pl.Expr, name: str) -> pl.Expr:
    """Instants (UTC) of times on the clocks of a zone; null where the clocks skipped them, the earlier of two."""
    return wall.dt.replace_time_zone(name, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC")


def joined(texts: Sequence[pl.Series]) -> pl.Series:
    """A column of dates and one of times as one; a time that has its own date stands alone."""
    if len(texts) == 1:
        return texts[0]
    day, clock = (text.cast(pl.String).str.strip_chars() for text in texts)
    if clock.drop_nulls().head(20).str.contains(r"^\d{4}-\d{2}-\d{2}[T ]").any():
        return clock
    day = day.str.replace(r"[T ]00:00(:00(\.0+)?)?$", "")
    return (
        pl.DataFrame({"d": day, "c": clock})
        .select(pl.concat_str("d", "c", separator=" ", ignore_nulls=True))
        .to_series()
    )
