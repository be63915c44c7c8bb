"""The notations of timeframes that vendors and people use. Reads nothing."""

import re
from datetime import timedelta

from ema_assets.model.timeframes import USUAL, Timeframe, lasting

_UNITS = {
    "s": 1, "sec": 1, "second": 1,
    "m": 60, "min": 60, "minute": 60, "t": 60,
    "h": 3600, "hr": 3600, "hour": 3600,
    "d": 86_400, "day": 86_400,
    "w": 604_800, "wk": 604_800, "week": 604_800,
}  # fmt: skip
_WORDS = {
    "daily": 86_400, "day": 86_400, "hourly": 3600, "hour": 3600, "eod": 86_400, "weekly": 604_800,
    "historical_daily": 86_400,
}  # fmt: skip
# `5m`, `5min`, `1 hour`, `M5`, `H1`, `PT5M`, `P1D`.
_LENGTH = re.compile(r"pt?(\d+)([hmd])|(\d+) ?_?-?([a-z]+?)s?|([a-z]+)(\d+)")


def seconds(text: str) -> int | None:
    """Return the length that `text` names, in seconds; None when it names none.

    A number alone is in minutes, as in charts and terminals (`5`, `60`, `240`), or in seconds, as in exchanges (`300`,
    `3600`). No timeframe's number of minutes is another one's number of seconds.
    """
    word = text.strip().lower()
    if word in _WORDS:
        return _WORDS[word]
    if word in _UNITS and word in ("d", "h", "w"):
        return _UNITS[word]
    if word.isdigit():
        lengths = {int(each.duration.total_seconds()) for each in USUAL if each.period is None}
        return int(word) if int(word) in lengths and int(word) >= 300 else int(word) * 60
    match = _LENGTH.fullmatch(word)
    if match is None:
        return None
    count, unit = match[1] or match[3] or match[6], match[2] or match[4] or match[5]
    return int(count) * _UNITS[unit] if unit in _UNITS else None


def timeframe_of(length_seconds: float | None) -> Timeframe | None:
    """Return the timeframe of a day or less whose full bars have this length; None when there is none."""
    return None if length_seconds is None else lasting(timedelta(seconds=length_seconds))


def timeframe_key(text: str) -> str | None:
    """Return the key of the timeframe that `text` names in any notation; None when there is none."""
    found = timeframe_of(seconds(text))
    return found.key if found else None
