"""Short names of zones that do not mean one zone to everybody, such as CST and IST. Knows no sessions."""

import polars as pl

from ema_assets.model.errors import AmbiguousBarFile, FileReading

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
