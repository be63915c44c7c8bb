"""Comparing the times in a file with the sessions of calendars: how many fit, in each way to read them. No store.

A frame of times has the columns calendar, timeframe and `at` (UTC).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache

import polars as pl

from ema_assets.market import exchanges
from ema_assets.market.calendars import bar_grid, stretch_of
from ema_assets.market.exchanges import exchange_sessions
from ema_assets.model.errors import ConfigurationError
from ema_assets.model.schemas import SESSION_SCHEMA
from ema_assets.model.special_days import NO_SPECIAL_DAYS, SpecialDays
from ema_assets.model.symbols import ALWAYS_OPEN, FX_CALENDAR, without_hours
from ema_assets.model.timeframes import Timeframe, by_key

AT_OPEN, AT_CLOSE = "open", "close"
_MARGIN = timedelta(days=14)
SATURDAY, SUNDAY = 5, 6
# The calendars that are tried for a file that does not fit its own: the largest exchanges of each part of the world.
# Seoul (XKRX) is left out because it takes the library three seconds; each of the others takes 0.02 to 0.6 s.
TRIED_CALENDARS = (
    *("XNYS", "XLON", "XTKS", "XHKG", "XBOM", "XSHG", "XFRA", "XPAR", "XTSE", "XASX", "XSWX", "BVMF", "XJSE"),
    *("XTAI", "XSES", "XMIL", "XMAD", "XSTO", "XMEX"),
)
# The last part of a long history is as conclusive and takes less time.
_TRIED_SPAN = timedelta(days=1100)


def is_around_the_clock(calendar: str) -> bool:
    """Return whether `calendar` trades day and night, so that the time of day is not conclusive."""
    return calendar in (ALWAYS_OPEN, FX_CALENDAR)


@cache
def zone_of(calendar: str) -> str:
    """Return the IANA zone of the exchange of `calendar`; New York for foreign exchange."""
    return exchanges.zone_of(calendar).key


def sessions_around(
    calendars: Iterable[str], first: date, last: date, special_days: Mapping[str, SpecialDays]
) -> pl.DataFrame:
    """Return sessions (SESSION_SCHEMA) of `calendars` from two weeks before `first` to two weeks after `last`.

    `special_days` are keyed by calendar, without the suffix of extended hours.
    """
    parts = [
        exchange_sessions(
            each,
            first - _MARGIN,
            last + _MARGIN,
            special_days.get(without_hours(each), NO_SPECIAL_DAYS),
        )
        for each in sorted(set(calendars))
    ]
    return pl.concat([SESSION_SCHEMA.to_frame(), *parts])


def fitting(times: pl.DataFrame, sessions: pl.DataFrame, label: str) -> pl.Series:
    """Return whether each of `times` can be the open or close (as `label` says) of a bar of its timeframe."""
    rows = times.with_row_index("row")
    fits = [
        _fitting_rows(part, by_key(str(key)), sessions, label)
        for (key,), part in rows.partition_by("timeframe", as_dict=True, maintain_order=True).items()
    ]
    found = pl.concat([pl.Series([], dtype=pl.get_index_type()), *fits])
    return rows["row"].is_in(found.implode())


def _fitting_rows(rows: pl.DataFrame, timeframe: Timeframe, sessions: pl.DataFrame, label: str) -> pl.Series:
    end = "ts" if label == AT_OPEN else "ts_end"
    exact = bar_grid(sessions, timeframe).select("calendar", at=end)
    found = rows.join(exact, on=["calendar", "at"], how="semi")["row"]
    if timeframe.is_fetched:
        return found
    return pl.concat([found, _overlapping_rows(rows, timeframe, sessions, label)])


def _overlapping_rows(rows: pl.DataFrame, timeframe: Timeframe, sessions: pl.DataFrame, label: str) -> pl.Series:
    """Return the rows of bars that are aligned to the clock and overlap a continuous stretch of trading."""
    full = pl.lit(timeframe.duration)
    opens = pl.col("at") if label == AT_OPEN else pl.col("at") - full
    bars = rows.select("row", "calendar", ts=opens).drop_nulls("ts")
    return stretch_of(bars, timeframe, sessions).drop_nulls("ts_end")["row"]


def opens_of(times: pl.DataFrame, sessions: pl.DataFrame) -> pl.Series:
    """Return the opening times (UTC) of bars whose closing times are `times`, in their order.

    A bar that ends with a stretch of trading may be shorter than the others: the grid has its opening time.
    """
    rows = times.with_row_index("row")
    parts = []
    for (key,), part in rows.partition_by("timeframe", as_dict=True, maintain_order=True).items():
        timeframe = by_key(str(key))
        grid = bar_grid(sessions, timeframe).select("calendar", at="ts_end", opens="ts")
        on_grid = part.join(grid, on=["calendar", "at"], how="left")
        # Bars have their full length, aligned to the clock, unless at least half of them end where bars of the grid do.
        is_grid = on_grid["opens"].null_count() * 2 <= on_grid.height
        whole = pl.col("at") - pl.lit(timeframe.duration)
        parts.append(on_grid.select("row", opens=pl.coalesce("opens", whole) if is_grid else whole))
    return pl.concat(parts).sort("row")["opens"] if parts else times["at"]


@dataclass(frozen=True, slots=True)
class Fit:
    """The number of a file's times, or days, that a calendar has."""

    calendar: str
    count: int
    of: int


def better_calendars(days: Collection[date], own: Collection[str]) -> Sequence[Fit]:
    """Return up to two calendars that have nearly all of `days`, best first: neighbours differ by few holidays."""
    if not days:
        return []
    last = max(days)
    recent = {day for day in days if day >= last - _TRIED_SPAN}
    # On both days of the weekend: some exchanges trade on Sundays, and some files have the day before or after each.
    if min(sum(day.weekday() == each for day in recent) for each in (SATURDAY, SUNDAY)) * 20 > len(recent):
        return [Fit(ALWAYS_OPEN, len(recent), len(recent))]
    found = []
    from_sunday = ("XSAU",) if any(day.weekday() == SUNDAY for day in recent) else ()
    for calendar in (*TRIED_CALENDARS, *from_sunday):
        if calendar not in own:
            try:
                sessions = exchange_sessions(calendar, min(recent), last)
            except ConfigurationError:
                continue
            had = set(sessions["session"].to_list())
            # A day of the calendar that the file lacks counts against it, too.
            count = len(recent & had) - len({day for day in had if day not in recent})
            found.append((count, Fit(calendar, len(recent & had), len(recent))))
    best = sorted((each for each in found if each[1].count * 50 >= each[1].of * 49), key=lambda each: -each[0])
    return [fit for _, fit in best[:2]]
