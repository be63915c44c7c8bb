"""Placing the intraday times of a file: their zone, and whether they are opens or closes of bars. No store.

A time with a zone or an epoch is certain, unless the sessions show that its zone ignores summer time. A time without
one is read both as UTC and in the zone of the exchange, and the sessions of the calendar decide, or a person is asked.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import polars as pl

from ema_assets.files.declaration import Layout
from ema_assets.files.options import EXCHANGE, ReadOptions
from ema_assets.files.times import in_zone
from ema_assets.model.counts import counted
from ema_assets.model.errors import AmbiguousBarFile, BarFileError, FileReading
from ema_assets.model.symbols import FX_CALENDAR, without_hours
from ema_assets.operations.file_clocks import FURTHER_ZONES, check_no_local_clock, from_last_seconds
from ema_assets.operations.file_sessions import (
    AT_CLOSE,
    AT_OPEN,
    fitting,
    is_around_the_clock,
    opens_of,
    zone_of,
)

# The percentage of times that must fit the sessions for a reading to count.
_NEARLY_ALL = 95
_UTC = "UTC"
_SERIES = ("symbol", "timeframe")
# Zones beside that of the exchange, by calendar. Weeks and days of most foreign exchange brokers begin at midnight in
# Athens. Futures of Chicago are as often on the clock of New York.
_USUAL_ZONES = {FX_CALENDAR: "Europe/Athens", "CMES": "America/New_York"}


@dataclass(frozen=True, slots=True)
class PlacedTimes:
    """Opening times of bars (UTC), and in words how the times of the file were understood."""

    ts: pl.Series
    zone: str
    label: str


@dataclass(frozen=True, slots=True)
class _Reading:
    """One way to read all times: in `zone`, as the open or the close (`label`) of each bar.

    `at` has the instants (UTC, or null), `count` says how many of them fit the sessions.
    """

    zone: str
    label: str
    at: pl.Series
    count: int

    def is_good(self) -> bool:
        return self.count * 100 >= len(self.at) * _NEARLY_ALL


def place_times(
    bars: pl.DataFrame, sessions: pl.DataFrame, layout: Layout, options: ReadOptions, *, has_ends: bool = False
) -> PlacedTimes:
    """Return the opening times of intraday `bars`, in their order.

    `bars` have symbol, timeframe, calendar, `wall`, `ts`, prices and `line`.

    `sessions` (SESSION_SCHEMA) cover them. With `has_ends`, a time is written as 24:00, at which no bar opens, and all
    are closes.

    Raises:
        AmbiguousBarFile: when two readings fit, or only another one than UTC.
        BarFileError: when times do not exist in the zone, or the rows of a repeated hour cannot be told apart.
    """
    if options.tz == EXCHANGE:
        return _on_own_clocks(bars, sessions, layout, options, has_ends=has_ends)
    # Around the clock, only the end of the week decides, and a zone that differs by an hour looks the same.
    is_zone_known = bars["ts"].null_count() < bars.height or options.tz is not None
    is_tested = layout.is_guessed and (is_zone_known or not _is_around_the_clock(bars))
    told_label = options.label or (AT_CLOSE if has_ends else None if is_tested else layout.label)
    if told_label != AT_OPEN and (closes := from_last_seconds(bars)) is not None:
        bars, told_label = closes, AT_CLOSE
    labels = [AT_OPEN, AT_CLOSE] if told_label is None else [told_label]
    bars = _with_summer_time(bars, sessions, labels, options)
    zones, origin = _zones(bars, layout, options)
    if layout.is_zone_unknown and origin == "" and _is_around_the_clock(bars):
        raise _unknown_zone(layout, [_read(bars, sessions, zone, labels[0]) for zone in zones[::-1]], bars)
    readings = [_read(bars, sessions, zone, label) for zone in zones for label in labels]
    if len(zones) > 1 and len({zone_of(each) for each in bars["calendar"].unique()}) > 1:
        readings += [_read_on_own_clocks(bars, sessions, label) for label in labels]
    if len(zones) > 1 and not any(each.is_good() for each in readings):
        further = [_read(bars, sessions, zone, label) for zone in FURTHER_ZONES for label in labels]
        readings += [each for each in further if each.is_good() and each.zone not in zones]
    if layout.is_guessed and zones == [layout.zone] and not any(each.is_good() for each in readings):
        _check_fits_nowhere_else(bars, sessions, layout, labels)
    if len(zones) > 1:
        readings, origin = _of_one_zone(readings, bars), "the sessions fit no other zone"
    elif _is_around_the_clock(bars) and not origin:
        check_no_local_clock(bars)
        origin = "as crypto is written"
    chosen = _labelled(readings, bars)
    _check_all_exist(bars, chosen, options)
    _check_repeated_hour(bars, chosen)
    ts = chosen.at if chosen.label == AT_OPEN else _opens(bars, chosen, sessions)
    told = "--label" if options.label else f"as {layout.name} writes them" if layout.label == chosen.label else ""
    told = "24:00 is among its times" if has_ends and not options.label else told
    label = f"at the {chosen.label} of a bar"
    return PlacedTimes(
        ts, f"{chosen.zone} ({origin})" if origin else chosen.zone, f"{label} ({told})" if told else label
    )


def _on_own_clocks(
    bars: pl.DataFrame, sessions: pl.DataFrame, layout: Layout, options: ReadOptions, *, has_ends: bool
) -> PlacedTimes:
    """Return the opening times of `bars` whose times are on the clocks of their exchanges; see `place_times`."""

    def place(part: pl.DataFrame, calendar: str) -> PlacedTimes:
        own = replace(options, tz=zone_of(calendar))
        return place_times(part.drop("row"), sessions, layout, own, has_ends=has_ends)

    return by_calendar(bars, place)


def by_calendar(bars: pl.DataFrame, place: Callable[[pl.DataFrame, str], PlacedTimes]) -> PlacedTimes:
    """Return what `place` makes of the bars of each calendar, in the order of `bars`.

    The bars that it receives have `row`, too: their place in `bars`.
    """
    parts, zones, labels = [], [], []
    rows = bars.with_row_index("row")
    for (calendar,), part in rows.partition_by("calendar", as_dict=True, maintain_order=True).items():
        placed = place(part, str(calendar))
        parts.append(part.select("row", ts=placed.ts))
        zones.append(placed.zone)
        labels.append(placed.label)
    ts = pl.concat(parts).sort("row")["ts"] if parts else bars["ts"]
    return PlacedTimes(ts, " and ".join(dict.fromkeys(zones)), " and ".join(dict.fromkeys(labels)))


def _zones(bars: pl.DataFrame, layout: Layout, options: ReadOptions) -> tuple[list[str], str]:
    """Return the zones to try, and the reason if there is only one (empty when it is an assumption)."""
    if bars["ts"].null_count() < bars.height:
        return [_UTC], "as the file says"
    if options.tz is not None:
        return [options.tz], "--tz"
    calendars = bars["calendar"].unique().sort().to_list()
    is_of_layout = not layout.zone_calendars or {without_hours(each) for each in calendars} <= layout.zone_calendars
    if layout.zone is not None and is_of_layout:
        return [layout.zone], f"as {layout.name} writes them"
    if all(each == "24/7" for each in calendars) and not layout.is_zone_unknown:
        return [_UTC], ""
    return _usual_zones(calendars, layout), ""


def _usual_zones(calendars: Sequence[str], layout: Layout) -> list[str]:
    """Return UTC, the zones of the exchanges, those of the vendor, and those usual for foreign exchange and futures."""
    usual = [zone for calendar, zone in _USUAL_ZONES.items() if calendar in calendars]
    return list(dict.fromkeys([_UTC, *(zone_of(each) for each in calendars), *layout.zones, *usual]))


def _with_summer_time(
    bars: pl.DataFrame, sessions: pl.DataFrame, labels: Sequence[str], options: ReadOptions
) -> pl.DataFrame:
    """Return `bars`, without `ts` if `--tz` is the exchange's zone and the file names its standard time all year.

    `EST` in summer is five hours behind UTC, and New York is four: a file that says `EST` may mean either.

    Raises:
        AmbiguousBarFile: when the times fit the sessions in the exchange's zone, and fit worse as the file says.
    """
    zones = {zone_of(each) for each in bars["calendar"].unique()}
    zone = next(iter(zones), _UTC)
    if bars["ts"].null_count() or len(zones) != 1 or zone == _UTC or options.tz not in (None, zone):
        return bars
    local = bars.select("ts", "wall", here=in_zone(pl.col("wall"), zone).dt.convert_time_zone(zone))
    standard = pl.col("wall").dt.replace_time_zone(_UTC) - pl.col("here").dt.base_utc_offset()
    if not local.select((standard == pl.col("ts")).fill_null(False).all()).item():
        return bars
    days = local.filter(pl.col("here").dt.dst_offset() > timedelta(0))["wall"].dt.date().n_unique()
    if days == 0:
        return bars
    clocks = bars.with_columns(ts=pl.lit(None, bars.schema["ts"]))
    best = max((_read(clocks, sessions, zone, each) for each in labels), key=lambda each: each.count)
    told, *others = (_read(bars, sessions, _UTC, each) for each in labels)
    if not best.is_good() or (best.count - told.count) * 2 < days:
        return bars
    if options.tz is not None:
        return clocks
    if options.partial:
        return bars
    calendars = " and ".join(bars["calendar"].unique().sort())
    raise AmbiguousBarFile(
        f"its times name a zone that has no summer time, and {_outside(told)} in it",
        [
            FileReading(_evidence(best, calendars), _answers(best)),
            *(
                FileReading(
                    f"as the file says, labelled at the {each.label}, {each.count} fit", (("label", each.label),)
                )
                for each in others
                if each.is_good()
            ),
            FileReading(f"as the file says {told.count} of {bars.height} fit", (("partial", ""),)),
        ],
    )


def _check_fits_nowhere_else(bars: pl.DataFrame, sessions: pl.DataFrame, layout: Layout, labels: Sequence[str]) -> None:
    """Refuse the zone of a layout that is only guessed when another zone fits the sessions."""
    zones = _usual_zones(bars["calendar"].unique().sort().to_list(), layout)
    others = [_read(bars, sessions, zone, label) for zone in zones if zone != layout.zone for label in labels]
    if any(each.is_good() for each in others):
        raise AmbiguousBarFile(
            f"its times name no zone, and do not fit the sessions as {layout.name} writes them",
            _asked([each for each in others if each.is_good()], bars),
        )


def _is_around_the_clock(bars: pl.DataFrame) -> bool:
    return all(is_around_the_clock(each) for each in bars["calendar"].unique())


def _unknown_zone(layout: Layout, readings: Sequence[_Reading], bars: pl.DataFrame) -> AmbiguousBarFile:
    """Return the error that asks for the zone, best fit first, then in the order of `readings`: most common first."""
    calendars = " and ".join(bars["calendar"].unique().sort())
    return AmbiguousBarFile(
        f"{layout.name} writes times on the clock of the broker's server, and a market that trades around the clock "
        "does not show which that is",
        [
            FileReading(_evidence(each, calendars), (("tz", each.zone),))
            for each in sorted(readings, key=lambda reading: -reading.count)
        ],
    )


def _read(bars: pl.DataFrame, sessions: pl.DataFrame, zone: str, label: str) -> _Reading:
    at = bars.select(pl.coalesce("ts", in_zone(pl.col("wall"), zone)).alias("at")).to_series()
    if zone != _UTC and bars.select(_is_repeated().any()).item():
        at = _in_repeated_hour(bars, at, zone)
    times = bars.select("calendar", "timeframe").with_columns(at)
    return _Reading(zone, label, at, int(fitting(times, sessions, label).sum()))


def _read_on_own_clocks(bars: pl.DataFrame, sessions: pl.DataFrame, label: str) -> _Reading:
    """Read all times as those of the clocks of their exchanges."""
    parts = []
    for (calendar,), part in bars.with_row_index("row").partition_by("calendar", as_dict=True).items():
        reading = _read(part, sessions, zone_of(str(calendar)), label)
        parts.append((part.select("row", at=reading.at), reading.count))
    at = pl.concat(part for part, _ in parts).sort("row")["at"]
    return _Reading(EXCHANGE, label, at, sum(count for _, count in parts))


def _in_repeated_hour(bars: pl.DataFrame, at: pl.Series, zone: str) -> pl.Series:
    """Return `at` with the later instant for the second row of a repeated time, or for the first if newest is first.

    A time is repeated when clocks are turned back.
    """
    frame = bars.with_columns(at, _step().sum().over(_SERIES).alias("direction"))
    place, count = pl.int_range(pl.len()).over(*_SERIES, "wall"), pl.len().over(*_SERIES, "wall")
    is_later = pl.when(pl.col("direction") < 0).then(place < count - 1).otherwise(place > 0)
    later = pl.when(is_later & pl.col("ts").is_null()).then(_latest(zone)).otherwise("at")
    return frame.select(later.alias("at")).to_series()


def _is_repeated() -> pl.Expr:
    """Return an expression for whether a row has no instant and its wall time occurs more than once in its series."""
    return pl.col("ts").is_null() & pl.struct(*_SERIES, "wall").is_duplicated()


def _step() -> pl.Expr:
    """Return an expression: 1 where a row's wall time is after that of the previous row of its series, -1 if before."""
    return pl.col("wall").diff().dt.total_microseconds().sign().over(_SERIES)


def _latest(zone: str) -> pl.Expr:
    """Return an expression for the instant at which clocks in `zone` show `wall`: the later one if they do so twice."""
    wall = pl.col("wall").dt.replace_time_zone(zone, ambiguous="latest", non_existent="null")
    return wall.dt.convert_time_zone(_UTC)


def _of_one_zone(readings: Sequence[_Reading], bars: pl.DataFrame) -> list[_Reading]:
    """Return the readings as UTC if no other zone fits; UTC and the exchange's zone may be the same all year.

    Raises:
        AmbiguousBarFile: when UTC does not fit, or another zone fits as well.
    """
    utc = [each for each in readings if each.zone == _UTC]
    others = [each for each in readings if not any(each.at.equals(own.at) for own in utc)]
    best = max(utc, key=lambda each: each.count)
    if not any(each.is_good() for each in utc):
        message = f"its times name no zone, and as {_UTC} {_outside(best)}"
        fitting_some = [each for each in others or utc if each.count]
        nowhere = "" if fitting_some else ", and they fit no other zone that was tried; `--tz` says what theirs is"
        raise AmbiguousBarFile(message + nowhere, _asked(fitting_some, bars))
    if any(each.is_good() for each in others):
        raise AmbiguousBarFile(
            "its times name no zone, and they fit the sessions in more than one", _asked(readings, bars)
        )
    return utc


def _outside(reading: _Reading) -> str:
    return f"{len(reading.at) - reading.count} of {len(reading.at)} lie outside the sessions"


def _asked(readings: Iterable[_Reading], bars: pl.DataFrame) -> list[FileReading]:
    """Return the best reading of each zone, best first, for the user to choose."""
    best: dict[str, _Reading] = {}
    for each in sorted(readings, key=lambda reading: -reading.count):
        best.setdefault(each.zone, each)
    calendars = " and ".join(bars["calendar"].unique().sort())
    return [FileReading(_evidence(each, calendars), _answers(each)) for each in best.values()]


def _evidence(reading: _Reading, calendars: str) -> str:
    end = f", labelled at the {reading.label} of each bar," if reading.label == AT_CLOSE else ""
    count = f"all {len(reading.at)}" if reading.count == len(reading.at) else f"{reading.count} of {len(reading.at)}"
    zone = "on the clocks of their exchanges" if reading.zone == EXCHANGE else f"as {reading.zone}"
    return f"{zone}{end} {count} times fit the sessions of {calendars}"


def _answers(reading: _Reading) -> tuple[tuple[str, str], ...]:
    label = (("label", reading.label),) if reading.label == AT_CLOSE else ()
    return (("tz", reading.zone), *label)


def _labelled(readings: Sequence[_Reading], bars: pl.DataFrame) -> _Reading:
    """Return the reading with labels at the open, or the only one.

    Raises:
        AmbiguousBarFile: when labels at the close fit better: by a bar on at least half of the days, or of the weeks
            where days follow each other without a pause, or because all of them fit.
    """
    by_label = {each.label: each for each in readings}
    if len(by_label) == 1:
        return readings[0]
    opened, closed = by_label[AT_OPEN], by_label[AT_CLOSE]
    # A week of foreign exchange begins on Sunday evening, at 21:00 or 22:00 UTC.
    weeks = opened.at.dt.offset_by("3h").dt.truncate("1w")
    ends = (weeks if _is_around_the_clock(bars) else opened.at.dt.date()).n_unique()
    # Where bars are missing, such as those of minutes without a trade, few of the others are at the end of a session.
    is_better = (closed.count - opened.count) * 2 >= ends or opened.count < closed.count == closed.at.count()
    if is_better:
        many = len(closed.at)
        raise AmbiguousBarFile(
            "its times seem to be those at which bars close, not open",
            [
                FileReading(f"labelled at the close {closed.count} of {many} fit the sessions", (("label", AT_CLOSE),)),
                FileReading(f"labelled at the open {opened.count} of {many} fit", (("label", AT_OPEN),)),
            ],
        )
    return opened


def _check_all_exist(bars: pl.DataFrame, chosen: _Reading, options: ReadOptions) -> None:
    missing = bars.with_columns(chosen.at).filter(pl.col("at").is_null() & pl.col("wall").is_not_null())
    if not missing.is_empty():
        line, wall = missing.select("line", "wall").row(0)
        raise BarFileError(
            f"line {line}: {wall} does not exist in {chosen.zone}, whose clocks are put forward then "
            f"({counted(missing.height, 'such line')}); "
            + ("another `--tz` is needed" if options.tz else "give `--tz`")
        )


def _check_repeated_hour(bars: pl.DataFrame, chosen: _Reading) -> None:
    """Refuse a file with both bars of a repeated time if the order of its rows does not tell them apart.

    In order of time, its clock goes back once per repeated hour; with the newest row first, it goes forward as often.
    """
    if chosen.zone == _UTC:
        return
    both = bars.filter(_is_repeated() & (in_zone(pl.col("wall"), chosen.zone) != _latest(chosen.zone)))
    if both.is_empty():
        return
    hours = both.group_by(_SERIES).agg(hours=pl.col("wall").dt.date().n_unique(), wall=pl.col("wall").min())
    steps = (
        bars.with_columns(step=_step())
        .group_by(_SERIES)
        .agg(forward=(pl.col("step") > 0).sum(), back=(pl.col("step") < 0).sum())
    )
    shuffled = hours.join(steps, on=_SERIES).filter(pl.min_horizontal("forward", "back") > pl.col("hours"))
    for wall in shuffled["wall"].sort().head(1).dt.to_string("%Y-%m-%d %H:%M"):
        raise BarFileError(
            f"has two bars at {wall}, which the clocks of {chosen.zone} show twice, and its rows are in no order that "
            "tells which is the later one; sort them by time"
        )


def _opens(bars: pl.DataFrame, chosen: _Reading, sessions: pl.DataFrame) -> pl.Series:
    return opens_of(bars.select("calendar", "timeframe").with_columns(chosen.at), sessions)
