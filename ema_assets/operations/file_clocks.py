"""Evidence of clocks in the intraday times of a file: hours shown twice or never, times in last seconds. No store."""

from datetime import datetime, timedelta

import polars as pl

from ema_assets.files.times import in_zone
from ema_assets.model.errors import AmbiguousBarFile, FileReading
from ema_assets.model.schemas import PRICES

# Zones that are offered. Clocks of one continent are mostly put back at the same local time, or at the same instant.
_ZONES = (
    *("Europe/Berlin", "Europe/London", "Europe/Athens"),
    *("America/New_York", "America/Chicago", "America/Los_Angeles", "Australia/Sydney"),
)
# Zones that are tried when times fit neither as UTC nor on the clock of the exchange: those of traders elsewhere.
FURTHER_ZONES = (
    *("Europe/London", "Europe/Berlin", "Europe/Athens", "Europe/Moscow", "Asia/Kolkata", "Asia/Singapore"),
    *("Asia/Tokyo", "Australia/Sydney", "America/New_York", "America/Chicago", "America/Los_Angeles"),
    "America/Sao_Paulo",
)
_HOUR = timedelta(hours=1)
# As many gaps per skipped hour are taken for chance: an exchange that was down for maintenance.
_FEW_GAPS = 3
_TIME = ("symbol", "timeframe", "wall")


def check_no_local_clock(bars: pl.DataFrame) -> None:
    """Check that nothing in the times without a zone of `bars` shows that a local clock wrote them.

    Raises:
        AmbiguousBarFile: when an hour occurs twice in autumn, or not at all in spring.
    """
    _check_no_hour_twice(bars)
    _check_no_hour_skipped(bars)


def _check_no_hour_twice(bars: pl.DataFrame) -> None:
    """Check that no local clock explains the times without a zone of `bars` that occur twice with other prices.

    `bars` have symbol, timeframe, `wall`, and prices. Only where markets never close do times have to be taken as UTC
    without further evidence; this is the evidence against it.

    Raises:
        AmbiguousBarFile: when all such times lie in the hour that the clocks of a zone show twice; it names the zones.
    """
    distinct = bars.select(*_TIME, *PRICES).unique()
    twice = distinct.filter(pl.struct(_TIME).is_duplicated()).select("wall").unique()
    zones = [zone for zone in _ZONES if not twice.is_empty() and _shows_twice(twice, zone)]
    if not zones:
        return
    (first,) = twice["wall"].sort().head(1).dt.to_string("%Y-%m-%d %H:%M")
    raise AmbiguousBarFile(
        f"its times name no zone, and {first} occurs twice with other prices, as when clocks are put back",
        [
            *(FileReading(f"as {zone}, whose clocks show this hour twice", (("tz", zone),)) for zone in zones),
            FileReading("as UTC the second bar of each such time is a duplicate", (("tz", "UTC"),)),
        ],
    )


def _check_no_hour_skipped(bars: pl.DataFrame) -> None:
    """Check that no local clock explains what is missing in the times without a zone of `bars`.

    When clocks are put forward in spring, the times of an hour do not occur. It is evidence when bars are missing in
    each such hour of a zone, and nearly nowhere else.

    Raises:
        AmbiguousBarFile: when there is such a zone; it names all.
    """
    times = bars.filter(pl.col("ts").is_null()).select(*_TIME).unique().sort(_TIME)
    steps = times.with_columns(after=pl.col("wall").shift(-1).over("symbol", "timeframe")).drop_nulls("after")
    usual = steps.select((pl.col("after") - pl.col("wall")).median()).item()
    if usual is None or usual > _HOUR:
        return
    gaps = steps.filter(pl.col("after") - pl.col("wall") > usual)
    skipped = gaps.filter(pl.col("after") - pl.col("wall") == usual + _HOUR)
    zones = [zone for zone in _ZONES if not skipped.is_empty() and _skips(times, skipped, zone, gaps.height)]
    if not zones:
        return
    (first,) = skipped.select(pl.col("wall").min() + usual).to_series().dt.to_string("%Y-%m-%d %H:%M")
    raise AmbiguousBarFile(
        f"its times name no zone, and an hour from {first} on is missing, as when clocks are put forward",
        [
            *(FileReading(f"as {zone}, whose clocks skip this hour", (("tz", zone),)) for zone in zones),
            FileReading("as UTC this hour has no bars", (("tz", "UTC"),)),
        ],
    )


def _skips(times: pl.DataFrame, skipped: pl.DataFrame, zone: str, gaps: int) -> bool:
    """Return whether bars are missing in each hour that the clocks of `zone` skip, in all series, and in few others."""
    hours = 0
    for series in times.partition_by("symbol", "timeframe"):
        low, high = series.select(pl.col("wall").min().alias("low"), pl.col("wall").max().alias("high")).row(0)
        own = set(skipped.join(series.head(1), on=["symbol", "timeframe"], how="semi")["after"].to_list())
        ends = [end for end in _ends_of_skipped_hours(low, high, zone) if low < end - _HOUR and end < high]
        if not own.issuperset(ends):
            return False
        hours += len(ends)
    return hours > 0 and gaps <= hours * _FEW_GAPS


def _ends_of_skipped_hours(low: datetime, high: datetime, zone: str) -> list[datetime]:
    hours = pl.DataFrame({"wall": pl.datetime_range(low.replace(minute=0, second=0), high, "1h", eager=True)})
    local = pl.col("wall").cast(pl.Datetime("us")).dt.replace_time_zone(zone, non_existent="null", ambiguous="earliest")
    return [wall + _HOUR for wall in hours.filter(local.is_null())["wall"]]


def _shows_twice(times: pl.DataFrame, zone: str) -> bool:
    wall = pl.col("wall")
    latest = wall.dt.replace_time_zone(zone, ambiguous="latest", non_existent="null").dt.convert_time_zone("UTC")
    return bool(times.select((in_zone(wall, zone) != latest).fill_null(False).all()).item())


def from_last_seconds(bars: pl.DataFrame) -> pl.DataFrame | None:
    """Return `bars` with times moved to the next whole minute if all are in the last second of a minute; else None.

    Some exchanges write the close of a bar like this: 00:59:59, or 00:59:59.999.
    """
    second = bars.select(pl.coalesce(pl.col("ts").dt.second(), pl.col("wall").dt.second())).to_series().drop_nulls()
    if second.is_empty() or not (second == 59).all():
        return None
    return bars.with_columns(pl.col("ts", "wall").dt.truncate("1m") + timedelta(minutes=1))
