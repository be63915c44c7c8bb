"""HistData: one file per pair and month, Eastern time without daylight saving."""

import re
from collections.abc import Sequence

from ema_assets.files.declaration import Layout


def _is_bar(row: Sequence[str]) -> bool:
    # Other vendors write the same with a volume, in other zones. HistData has no volume: its last column is always 0.
    return len(row) == 6 and re.fullmatch(r"\d{8} \d{6}", row[0]) is not None and row[5] == "0"


LAYOUT = Layout(
    name="HistData",
    words=frozenset({"dat", "ascii", "histdata"}),
    example="20240102 093000;1.104270;1.104440;1.104050;1.104120;0",
    row=_is_bar,
    headless=("ts", "open", "high", "low", "close", "volume"),
    zone="Etc/GMT+5",
    label="open",
    remark="Eastern Standard Time all year, five hours behind UTC.",
)
