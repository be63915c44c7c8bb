"""Kibot and FirstRate Data: bars of US stocks without a head, Eastern time with daylight saving."""

import re
from collections.abc import Sequence

from ema_assets.files.declaration import Layout

_ZONE = "America/New_York"


def _is_kibot(row: Sequence[str]) -> bool:
    return (
        len(row) == 7
        and re.fullmatch(r"\d{2}/\d{2}/\d{4}", row[0]) is not None
        and re.fullmatch(r"\d{2}:\d{2}", row[1]) is not None
    )


LAYOUT = Layout(
    name="Kibot",
    words=frozenset({"kibot", "firstrate"}),
    example="01/02/2024,09:30,187.15,187.70,186.90,187.02,5214335",
    row=_is_kibot,
    headless=("date", "time", "open", "high", "low", "close", "volume"),
    zone=_ZONE,
    label="open",
    dates="mdy",
    remark="Eastern time with daylight saving.",
)
