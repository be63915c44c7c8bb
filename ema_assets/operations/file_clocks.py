"""Evidence of a local clock in the intraday times of a file: an hour that it shows twice in autumn. No store."""

import polars as pl

from ema_assets.files.times import in_zone
from ema_assets.model.errors import AmbiguousBarFile, FileReading
from ema_assets.model.schemas import PRICES

# Zones that are offered. Clocks of one continent are mostly put back at the same local time, or at the same instant.
_ZONES = (
    *("Europe/Berlin", "Europe/London", "Europe/Athens"),
    *("America/New_York", "America/Chicago", "America/Los_Angeles", "Australia/Sydney"),
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
