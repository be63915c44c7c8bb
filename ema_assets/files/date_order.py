"""Decides whether `01/02/2024` is in January or in February from the dates of a whole column, or raises a question."""

from collections.abc import Mapping

import polars as pl

from ema_assets.model.errors import AmbiguousBarFile, BarFileError, FileReading

_NUMERIC = r"^(\d{1,2})([-/.])(\d{1,2})[-/.](\d{4}|\d{2})$"
_NAMES: Mapping[str, str] = {"dmy": "day/month/year", "mdy": "month/day/year", "ymd": "year/month/day"}
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WEEKDAY = rf"(?:^|[\s(])((?i:{'|'.join(WEEKDAYS)}))"
# Fewer days may be a selection, in which days are neighbours by chance.
_LEAST_DAYS = 4
# Trading days are this many days apart over a long weekend.
_NEXT_DAYS = 5
# With this many rows per day, bars are taken as intraday. The hourly bars of a stock exchange are fewer per day, and a
# file of longer bars has fewer symbols.
_INTRADAY_ROWS = 24


def date_order(days: pl.Series, texts: pl.Series, order: str | None, usual: str | None) -> tuple[str, str]:
    """Return the order of the numbers in the texts `days`, and a description, which is empty if no text depends on it.

    Dates with points are day first everywhere. When both orders are possible, the one that fits the weekdays is chosen,
    or the one in which the days are neighbours, if they are months apart in the other.

    Args:
        days: The texts of the days.
        texts: The texts that they were taken from, which may have weekdays, too.
        order: The requested order, or None.
        usual: The order that the vendor uses, or None.

    Raises:
        AmbiguousBarFile: when both orders are possible and the days show neither, or contradict the usual one.
        BarFileError: when no order, or not the requested one, is possible for all days.
    """
    parts = days.drop_nulls().unique(maintain_order=True).str.extract_groups(_NUMERIC).struct.unnest()
    parts = parts.rename(dict(zip(parts.columns, ("a", "sign", "b", "c"), strict=True))).drop_nulls()
    if parts.is_empty():
        return order or "dmy", ""
    firsts, seconds = (int(parts[name].cast(pl.Int64).max()) for name in ("a", "b"))  # type: ignore[arg-type]
    possible = [name for name, top in (("dmy", seconds), ("mdy", firsts)) if top <= 12]
    if order is not None:
        if order != "ymd" and order not in possible:
            raise BarFileError(
                f"`--dates {order}` cannot be: a month of {max(firsts if order == 'mdy' else seconds, 13)} is in it"
            )
        return order, _NAMES[order]
    if not possible:
        if firsts <= 99 and seconds <= 12:
            return "ymd", _NAMES["ymd"]
        raise BarFileError("its dates are neither day/month/year nor month/day/year throughout")
    if len(possible) == 1:
        return possible[0], f"{_NAMES[possible[0]]}, for no month is above 12"
    if (parts["sign"] == ".").all():
        return "dmy", f"{_NAMES['dmy']}, as dates with points are written"
    return _of_both_possible(days, texts, usual)


def _of_both_possible(days: pl.Series, texts: pl.Series, usual: str | None) -> tuple[str, str]:
    weekdays = texts.str.extract(_WEEKDAY).str.to_lowercase()
    fitting = [name for name in ("dmy", "mdy") if _fit_weekdays(days, weekdays, name)]
    if len(fitting) == 1:
        return fitting[0], f"{_NAMES[fitting[0]]}, as the weekdays beside the dates say"
    of_days = _order_of_neighbours(days)
    if usual is not None and of_days in (None, usual):
        return usual, f"{_NAMES[usual]}, as this vendor writes them"
    if usual is None and of_days is not None:
        other = _NAMES["mdy" if of_days == "dmy" else "dmy"]
        return of_days, f"{_NAMES[of_days]}, for as {other} its days would be months apart"
    shown = days.drop_nulls()[0]
    raise AmbiguousBarFile(
        f"its dates, such as {shown}, may be day/month or month/day: no number in them is above 12",
        sorted(
            (_reading(days, name) for name in ("dmy", "mdy")), key=lambda each: _weekend_days(days, each.answers[0][1])
        ),
    )


def _fit_weekdays(days: pl.Series, weekdays: pl.Series, order: str) -> bool:
    """Return whether there are days with a weekday beside them, and all have it if read in `order`."""
    pairs = pl.DataFrame({"day": days, "beside": weekdays}).drop_nulls().unique()
    numbers = _read(pairs["day"], order).dt.weekday()
    return pairs.height > 0 and numbers.to_list() == [WEEKDAYS.index(each) + 1 for each in pairs["beside"]]


def _order_of_neighbours(days: pl.Series) -> str | None:
    """Return the order in which most days are neighbours, while few are in the other; None without one.

    The days of one month in one order are the same day of many months in the other. If that day is the first, they may
    be monthly bars, unless there are many rows per day.
    """
    for order, other in (("dmy", "mdy"), ("mdy", "dmy")):
        near, far = _parsed(days, order).unique().sort(), _parsed(days, other).unique().sort()
        may_be_monthly = bool((far.dt.day() == 1).all()) and len(days.drop_nulls()) < len(far) * _INTRADAY_ROWS
        steps = len(near) - 1
        are_neighbours = _neighbours(near) * 4 >= steps * 3 and _neighbours(far) * 4 <= steps
        if len(near) >= _LEAST_DAYS and are_neighbours and not may_be_monthly:
            return order
    return None


def _neighbours(days: pl.Series) -> int:
    """Return how many of sorted `days` follow the previous day within a long weekend."""
    return int((days.diff().drop_nulls().dt.total_days() <= _NEXT_DAYS).sum())


def _reading(days: pl.Series, order: str) -> FileReading:
    read = _parsed(days, order)
    weekend = _weekend_days(days, order)
    resting = f"{weekend} of {len(read)} days on a weekend" if weekend else "no day on a weekend"
    span = read.sort().cast(pl.String)
    evidence = f"as {_NAMES[order]} they run from {span[0]} to {span[-1]}, {resting}"
    return FileReading(evidence, (("dates", order),))


def _parsed(days: pl.Series, order: str) -> pl.Series:
    return _read(days.drop_nulls().unique(maintain_order=True), order).drop_nulls()


def _read(days: pl.Series, order: str) -> pl.Series:
    """Return the days (Date) of the texts, null where one is not three numbers or no day in this order."""
    parts = days.str.extract_groups(_NUMERIC).struct.unnest()
    first, _, second, year = parts.columns
    day, month = (first, second) if order == "dmy" else (second, first)
    years = pl.when(pl.col(year).str.len_chars() == 2).then(pl.lit("20") + pl.col(year)).otherwise(pl.col(year))
    text = pl.concat_str(years, pl.col(month), pl.col(day), separator="-")
    return parts.select(text.str.to_date("%Y-%m-%d", strict=False).alias("day")).to_series()


def _weekend_days(days: pl.Series, order: str) -> int:
    return int((_parsed(days, order).dt.weekday() > 5).sum())
