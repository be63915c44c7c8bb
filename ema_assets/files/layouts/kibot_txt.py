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
    words=frozenset({"kibot", "firstrate", "adjsplit", "adjsplitdiv"}),
    example="01/16/2024,09:30,182.16,182.88,181.85,182.45,4098120",
    row=_is_kibot,
    headless=("date", "time", "open", "high", "low", "close", "volume"),
    is_guessed=True,
    zone=_ZONE,
    zone_calendars=frozenset({"XNYS", "XNAS"}),
    label="open",
    remark="This zone is for US stocks only. The order of day and month is decided by the dates, or asked.",
)
