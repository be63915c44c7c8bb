"""Times from text and numbers in every usual notation, parsed by Polars' own formats. Knows no sessions.

A time is kept as it is written (`wall`, without a zone). Where the text or the unit tells the instant, it is also kept
as an instant (`ts`, UTC).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import polars as pl

from ema_assets.files.date_order import WEEKDAYS, date_order
from ema_assets.model.errors import BarFileError
from ema_assets.model.schemas import UTC_TIME

WALL = pl.Datetime("us")
_EPOCH = r"^-?\d{9,19}(\.\d+)?$"
_COMPACT = (
    r"^(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:(?:[01]\d|2[0-3])[0-5]\d(?:[0-5]\d)?|24(?:00){1,2})$"
)
_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_DATE = (
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{8}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2}"
    rf"|\d{{1,2}}[-/. ]*(?i:{_MONTHS})[a-zA-Z]*\.?[-/., ]*\d{{2,4}}"
    rf"|(?i:{_MONTHS})[a-zA-Z]*\.? ?\d{{1,2}},? \d{{4}}|\d{{4}}[- ](?i:{_MONTHS})[a-zA-Z]*[- ]\d{{1,2}}"
)
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2})?(?:[.,]\d+)?(?:\s*[AaPp]\.?[Mm]\.?)?|\d{1,6}"
_OFFSET = r"(?:[A-Z]{1,5}|[A-Z][A-Za-z]+(?:/[A-Za-z_]+)+)?\s*(?:[+-]\d{1,2}(?::?\d{2})?)?"
_WEEKDAY = rf"(?i:{'|'.join(WEEKDAYS)})[a-z]*\.?"
_WEEKDAY_BEFORE = rf"^{_WEEKDAY},?\s+"
# `01/02/2024 Tue`, `02.01.2024 (Tuesday) 09:30` and, in Japan and Korea, `2024/01/02(火)`.
_WEEKDAY_BEHIND = rf"([\d日일]),?(?:\s*\((?:{_WEEKDAY}|[月火水木金土日월화수목금토일])\)|\s+{_WEEKDAY})(\s|$)"
# How .NET writes an instant in JSON: ms since 1970 in UTC. The offset after it changes nothing.
_NET_INSTANT = r"^\\?/Date\((-?\d+)(?:[+-]\d{4})?\)\\?/$"
_TIME = rf"^(?P<day>{_DATE})(?:(?:[TtD:]|,?\s+)(?P<clock>{_CLOCK})\s*(?P<zone>{_OFFSET}))?$"
_CLOCKS = ("%H:%M:%S%.f", "%H:%M", "%I:%M:%S %p", "%I:%M %p", "%H%M%S", "%H%M")
# Short names that mean one zone to every trader. IST, CST and others mean several zones and are refused.
_ZONES = {
    "Z": 0, "UTC": 0, "GMT": 0, "EST": -5, "EDT": -4, "CET": 1, "CEST": 2, "BST": 1, "EET": 2, "EEST": 3, "JST": 9,
    "HKT": 8,
}  # fmt: skip
_OFFSET_PARTS = re.compile(r"([+-])(\d{1,2}):?(\d{2})?")
# The end of a day as ISO 8601 allows it: midnight of the next day.
_END_OF_DAY = r"^24(?::?00){1,2}(?:[.,]0+)?$"
# East Asian dates: `2024年01月18日` and `2024- 01- 18`.
_EASTERN_DAY = r"^(\d{4})(?:年|년|[-.]) ?(\d{1,2})(?:月|월|[-.]) ?(\d{1,2})(?:日|일|\.$|\.( ))?"
# Days since 1899-12-30, as Excel stores them: 1927 to 2119.
_EXCEL_DAY = r"^[1-7]\d{4}(\.\d+)?$"
# Units of epochs per second, the longest unit first. Below, the range of bar times in seconds: 1900 to 2100.
_UNITS = {"s": 1, "ms": 10**3, "µs": 10**6, "ns": 10**9}
_FIRST, _LAST = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (1900, 2100))
# Neighbouring epochs of one unit are at most this many usual steps apart: one-minute bars over a night.
_MOST_STEPS = 2000
# Bars are at most this far apart (seconds). It takes this many steps to tell.
_LONGEST_STEP = 400 * 86_400
_ENOUGH_STEPS = 5


@dataclass(frozen=True, slots=True)
class Times:
    """Times of a column, one per row.

    Attributes:
        wall: The time as written, without a zone; null where the text is not a time.
        ts: The instant (UTC) where it is certain; null elsewhere.
        note: How the text was read where that is not obvious, such as `day/month/year`; otherwise empty.
        is_end: Which times are written as 24:00, the end of a day; None when none is.
    """

    wall: pl.Series
    ts: pl.Series
    note: str = ""
    is_end: pl.Series | None = None


def read_times(column: pl.Series, order: str | None, *, usual_order: str | None = None) -> Times:
    """Return the times of `column`: dates, datetimes, epochs in s, ms, µs or ns, or text.

    Args:
        column: The column.
        order: The requested order of the numbers in a date; None when unknown.
        usual_order: The order that the vendor uses; None when unknown.

    Raises:
        AmbiguousBarFile: when days and months cannot be told apart.
        BarFileError: when the column has a type that no time has.
    """
    dtype = column.dtype
    if isinstance(dtype, pl.Datetime):
        wall = column.dt.replace_time_zone(None).cast(WALL)
        ts = column.dt.convert_time_zone("UTC").cast(UTC_TIME) if dtype.time_zone else _none(len(column))
        return Times(wall, ts)
    if dtype == pl.Date:
        return Times(column.cast(WALL), _none(len(column)))
    check_type(column, "ts")
    text = _text_of_floats(column) if dtype.is_float() else column.cast(pl.String)
    text = text.str.strip_chars().str.strip_chars("'\"[]").str.replace(_NET_INSTANT, "$1")
    filled = text.drop_nulls().filter(text.drop_nulls() != "")
    if _are_mostly(filled, _EPOCH) and not _are_mostly(filled, _COMPACT):
        return _epochs(*_parts_of_floats(column), is_float=True) if dtype.is_float() else _epochs(*_parts(text))
    if _are_mostly(filled, _EXCEL_DAY):
        days = text.cast(pl.Float64, strict=False)
        # Rounded to the second, because a double of days is not more precise.
        since = (days * 86_400).round().cast(pl.Int64) * 1_000_000 - 2_209_161_600_000_000
        return Times(since.cast(WALL), _none(len(text)), "days as Excel counts them")
    return _texts(text, order, usual_order)


def check_type(column: pl.Series, role: str) -> None:
    """Raise BarFileError when `column` has a type that no time has; `role` is what the message calls it."""
    dtype = column.dtype
    if not (
        dtype.is_numeric() or dtype in (pl.String, pl.Categorical, pl.Enum, pl.Time, pl.Date, pl.Datetime, pl.Null)
    ):
        raise BarFileError(f"`{role}` must be a time, a date, an epoch or text, its column holds {dtype}")


def _finite(column: pl.Series) -> pl.Series:
    """Return floats as Float64, null where they are not finite."""
    return column.cast(pl.Float64).set(~column.is_finite(), None)


def _text_of_floats(column: pl.Series) -> pl.Series:
    """Return floats as text: without a fraction, such as 20240102, when all are whole."""
    finite = _finite(column)
    whole = finite.cast(pl.Int64, strict=False)
    is_whole = (whole.cast(pl.Float64) == finite).all()
    return (whole if is_whole else finite.cast(pl.Decimal(38, 6), strict=False)).cast(pl.String)


def _are_mostly(texts: pl.Series, pattern: str) -> bool:
    """Return whether more than half of `texts` match. The rest may be text below the table."""
    return int(texts.str.contains(pattern).sum()) * 2 > len(texts)


def _none(rows: int) -> pl.Series:
    return pl.Series([None] * rows, dtype=UTC_TIME)


def _parts(text: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Split numbers into whole parts (Int64) and fractions (Float64) of the same sign."""
    x = pl.col("x")
    fraction = x.str.extract(r"(\.\d+)$", 1).cast(pl.Float64, strict=False).fill_null(0.0)
    parts = pl.DataFrame({"x": text}).select(
        x.str.replace(r"\.\d+$", "").cast(pl.Int64, strict=False).alias("whole"),
        pl.when(x.str.starts_with("-")).then(-fraction).otherwise(fraction).alias("fraction"),
    )
    return parts["whole"], parts["fraction"]


def _parts_of_floats(column: pl.Series) -> tuple[pl.Series, pl.Series]:
    finite = _finite(column)
    return finite.floor().cast(pl.Int64, strict=False), (finite - finite.floor()).fill_null(0.0)


def _epochs(whole: pl.Series, fraction: pl.Series, *, is_float: bool = False) -> Times:
    """Return the instants of epochs, given as whole numbers and fractions, each in the unit found for it.

    Integers in ns are truncated to µs. Floats are rounded to µs, because a double is up to 128 ns off.
    """
    frame = pl.DataFrame({"whole": whole, "fraction": fraction, "unit": _units(whole)})
    number, rest, unit = pl.col("whole"), pl.col("fraction"), pl.col("unit")
    micros = (
        pl.when(unit == "ns").then((number + (500 if is_float else 0)) // 1000)
        .when(unit == "µs").then(number)
        .when(unit == "ms").then(number * 1000 + (rest * 1000).round().cast(pl.Int64))
        .otherwise(number * 1_000_000 + (rest * 1_000_000).round().cast(pl.Int64))
    )  # fmt: skip
    ts = frame.select(micros.cast(UTC_TIME)).to_series()
    present = frame["unit"].unique().to_list()
    return Times(ts.dt.replace_time_zone(None), ts, f"epoch {' and '.join(each for each in _UNITS if each in present)}")


def _units(whole: pl.Series) -> pl.Series:
    """Return the unit of each epoch: the longest one with a time from 1900 to 2100, or a shorter one of its neighbours.

    Near 1970, an epoch is small in every unit, so its neighbours decide. A file may also change its unit, for example
    from ms to µs. Then there is a wide gap between the two.
    """
    number = pl.col("whole")
    fitting = (pl.when(number.is_between(_FIRST * per, _LAST * per)).then(pl.lit(unit)) for unit, per in _UNITS.items())
    units = pl.DataFrame({"whole": whole}).with_columns(
        pl.when(number.is_not_null()).then(pl.coalesce(*fitting, pl.lit("ns"))).alias("unit")
    )
    distinct = units.drop_nulls().unique().sort("whole")
    found = distinct["unit"].unique().to_list()
    present = [unit for unit in reversed(_UNITS) if unit in found]
    read_as = {unit: unit for unit in present}
    for shorter, longer in pairwise(present):
        if _are_neighbours(distinct.filter(pl.col("unit").is_in([shorter, longer]))):
            read_as[longer] = read_as[shorter]
    if len(set(read_as.values())) == 1:
        read_as = dict.fromkeys(present, _unit_of_steps(distinct["whole"], present[0]))
    return units["unit"].replace(read_as)


def _are_neighbours(epochs: pl.DataFrame) -> bool:
    """Return whether sorted `epochs` (`whole`, `unit`) of two units are as close together as epochs of one unit.

    In one unit, the steps of both are as long. In two units, those of the longer one are far shorter numbers.
    """
    steps = epochs.select(
        "unit",
        pl.col("whole").diff().alias("step"),
        (pl.col("unit") != pl.col("unit").shift()).alias("is_between"),
    )
    usual = steps.filter(~pl.col("is_between")).group_by("unit").agg(pl.col("step").median())["step"].min()
    gap = steps.filter("is_between")["step"].min()
    return usual is not None and bool(gap <= _MOST_STEPS * usual)  # type: ignore[operator]


def _unit_of_steps(epochs: pl.Series, unit: str) -> str:
    """Return `unit`, or a shorter one when sorted `epochs` in that unit are further apart than bars can be."""
    steps = epochs.diff().drop_nulls()
    if len(steps) < _ENOUGH_STEPS:
        return unit
    step: float = steps.median()  # type: ignore[assignment]
    return next((name for name, per in _UNITS.items() if per >= _UNITS[unit] and step <= _LONGEST_STEP * per), "ns")


def _texts(text: pl.Series, order: str | None, usual_order: str | None) -> Times:
    # Split `20240102153000` and, as FIX and Interactive Brokers write it, `20240102-15:30:00`, and remove the zone name
    # that Java writes after the offset.
    spaced = text.str.replace(r"^(\d{8})(?:(\d{4}|\d{6})$|[-;](\d{6}|\d{1,2}:\d{2}:\d{2}))", "$1 $2$3")
    spaced = spaced.str.replace(r"\[[\w/]+$", "")
    plain = spaced.str.replace(_WEEKDAY_BEFORE, "").str.replace(_WEEKDAY_BEHIND, "$1$2")
    plain = plain.str.replace(_EASTERN_DAY, "$1-$2-$3$4")
    parts = plain.str.extract_groups(_TIME).struct.unnest()
    found_order, note = date_order(parts["day"], spaced, order, usual_order)
    days = _mapped(parts["day"], lambda values: _days(values, found_order), pl.Date())
    ends = parts["clock"].str.contains(_END_OF_DAY).fill_null(False)
    clocks = _mapped(parts["clock"].set(ends, "00:00"), _clock_times, pl.Time())
    days = days.dt.offset_by("1d").zip_with(ends, days)
    has_clock = parts["clock"].is_not_null()
    frame = pl.DataFrame({"day": days, "clock": clocks, "has": has_clock, "zone": parts["zone"]})
    wall = frame.select(
        pl.when(pl.col("has"))
        .then(pl.col("day").dt.combine(pl.col("clock")))
        .otherwise(pl.col("day").cast(WALL))
        .cast(WALL)
    ).to_series()
    return replace(_zoned(wall, frame["zone"], note), is_end=ends if ends.any() else None)


def _mapped(column: pl.Series, read: Callable[[pl.Series], pl.Series], dtype: pl.DataType) -> pl.Series:
    """Apply `read` to the distinct values of `column` only, because days and times of day repeat in a bar file."""
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
    month, form = ("n", "%Y-%b-%d") if "?P<n>" in pattern else ("m", "%Y-%m-%d")
    written = pl.concat_str(full_year, groups.struct.field(month), groups.struct.field("d"), separator="-")
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
    """Return times with instants where the text names an offset or a zone. With an unknown name, the time is null."""
    frame = pl.DataFrame({"wall": wall, "zone": zones.str.strip_chars().replace("", None)})
    names = frame["zone"].drop_nulls().unique().to_list()
    if not names:
        return Times(wall, _none(len(wall)), note)
    instants = pl.lit(None, UTC_TIME)
    for name in names:
        offset = _offset(name)
        if offset is not None:
            here = (pl.col("wall") - offset).dt.replace_time_zone("UTC")
        elif is_zone(name):
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


def is_zone(name: str) -> bool:
    """Return whether `name` is a zone by region, such as America/New_York."""
    try:
        return "/" in name and ZoneInfo(name) is not None
    except (KeyError, OSError, ValueError):
        return False


def in_zone(wall: pl.Expr, name: str) -> pl.Expr:
    """Return the instants (UTC) of times on the clocks of a zone.

    A time that the clocks skipped is null. A time that occurred twice is the earlier instant.
    """
    return wall.dt.replace_time_zone(name, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC")
