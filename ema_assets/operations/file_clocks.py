"""Evidence of clocks in the intraday times of a file: an hour that they show twice, times in last seconds. No store."""

from datetime import timedelta

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
_TIME = ("symbol", "timeframe", "wall")


def check_no_hour_twice(bars: pl.DataFrame) -> None:
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
