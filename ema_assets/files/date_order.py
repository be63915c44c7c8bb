"""Whether `01/02/2024` is in January or in February: decided by the dates of a whole column, or asked."""

from collections.abc import Mapping

import polars as pl

from ema_assets.model.errors import AmbiguousBarFile, BarFileError, FileReading

_NUMERIC = r"^(\d{1,2})([-/.])(\d{1,2})[-/.](\d{4}|\d{2})$"
_NAMES: Mapping[str, str] = {"dmy": "day/month/year", "mdy": "month/day/year", "ymd": "year/month/day"}


def date_order(days: pl.Series, order: str | None, usual: str | None) -> tuple[str, str]:
    """The order of the numbers in the texts `days`, and how to say it; the latter is empty where no text depends on it.

    `order` is the one that was asked for, `usual` the one that the vendor uses. Dates with points are day first
    everywhere.

    Raises:
        AmbiguousBarFile: when both readings are possible for all dates.
        BarFileError: when none is possible for all of them.
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
    if usual is not None:
        return usual, f"{_NAMES[usual]}, as this vendor writes them"
    shown = days.drop_nulls()[0]
    raise AmbiguousBarFile(
        f"its dates, such as {shown}, may be day/month or month/day: no number in them is above 12",
        sorted((_reading(days, name) for name in possible), key=lambda each: _weekend_days(days, each.answers[0][1])),
    )


def _reading(days: pl.Series, order: str) -> FileReading:
    read = _parsed(days, order)
    weekend = _weekend_days(days, order)
    resting = f"{weekend} of {len(read)} days on a weekend" if weekend else "no day on a weekend"
    span = read.sort().cast(pl.String)
    evidence = f"as {_NAMES[order]} they run from {span[0]} to {span[-1]}, {resting}"
    return FileReading(evidence, (("dates", order),))


def _parsed(days: pl.Series, order: str) -> pl.Series:
    parts = days.drop_nulls().unique(maintain_order=True).str.extract_groups(_NUMERIC).struct.unnest().drop_nulls()
    first, _, second, year = parts.columns
    day, month = (first, second) if order == "dmy" else (second, first)
    years = pl.when(pl.col(year).str.len_chars() == 2).then(pl.lit("20") + pl.col(year)).otherwise(pl.col(year))
    text = pl.concat_str(years, pl.col(month), pl.col(day), separator="-")
    return parts.select(text.str.to_date("%Y-%m-%d", strict=False).alias("day")).to_series().drop_nulls()


def _weekend_days(days: pl.Series, order: str) -> int:
    return int((_parsed(days, order).dt.weekday() > 5).sum())
