"""Zones that a file states beside its times, and short names of zones that mean several. Knows no sessions."""

import polars as pl

from ema_assets.files.times import is_zone
from ema_assets.model.errors import AmbiguousBarFile, FileReading

# A time of day without a zone.
_ENDS_WITH_CLOCK = r"\d:\d{2}(?::\d{2}(?:\.\d+)?)?$"
_CENTRAL, _CHINA = "America/Chicago", "Asia/Shanghai"
# The zones that each name may mean, the likeliest first. Names with one meaning are read in `times`.
_MEANT = {
    "ET": ("America/New_York",),
    **dict.fromkeys(("CT", "CDT"), (_CENTRAL,)),
    "CST": (_CENTRAL, _CHINA),
    **dict.fromkeys(("MT", "MST", "MDT"), ("America/Denver",)),
    **dict.fromkeys(("PT", "PST", "PDT"), ("America/Los_Angeles",)),
    "IST": ("Asia/Kolkata", "Asia/Jerusalem", "Europe/Dublin"),
    **dict.fromkeys(("AEST", "AEDT"), ("Australia/Sydney",)),
    **dict.fromkeys(("NZST", "NZDT"), ("Pacific/Auckland",)),
    **dict.fromkeys(("WET", "WEST"), ("Europe/Lisbon",)),
    "BRT": ("America/Sao_Paulo",),
    "KST": ("Asia/Seoul",),
    "MSK": ("Europe/Moscow",),
    "SAST": ("Africa/Johannesburg",),
    "SGT": ("Asia/Singapore",),
    "WIB": ("Asia/Jakarta",),
}
_AT_END = rf"\d(?:\s*[AaPp][Mm])?\s+({'|'.join(_MEANT)})$"


def without_unclear_zones(times: pl.Series, tz: str | None) -> pl.Series:
    """Return texts of times without names of zones that may mean several, if `tz` says which zone is meant.

    Raises:
        AmbiguousBarFile: when there are such names and `tz` is None; it names the zones.
    """
    if times.dtype != pl.String:
        return times
    names = times.str.strip_chars().str.extract(_AT_END).drop_nulls().unique().sort().to_list()
    if not names:
        return times
    if tz is None:
        zones = [zone for zone in _MEANT[names[0]] if all(zone in _MEANT[name] for name in names)]
        raise AmbiguousBarFile(
            f"its times name the zone {' and '.join(names)}, which is not the same everywhere",
            [FileReading(f"as {zone}", (("tz", zone),)) for zone in zones],
        )
    return times.str.strip_chars().str.replace(rf"\s+({'|'.join(_MEANT)})$", "")


def with_stated_zone(times: pl.Series, stated: str | None, tz: str | None) -> pl.Series:
    """Return texts of times with the zone that the file states for all of them, if it is UTC or a zone by region.

    Days without a time of day stay as they are. With `tz`, nothing is added.
    """
    if (
        times.dtype != pl.String
        or stated is None
        or tz is not None
        or not (stated in ("UTC", "GMT") or is_zone(stated))
    ):
        return times
    text = times.str.strip_chars()
    return text.str.replace(rf"({_ENDS_WITH_CLOCK})", f"${{1}} {stated}")
