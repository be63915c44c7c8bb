"""Kraken: the quarterly dumps of OHLCVT, one file per pair and number of minutes."""

import re
from collections.abc import Sequence

from ema_assets.files.declaration import Layout


def _is_bar(row: Sequence[str]) -> bool:
    return len(row) == 7 and re.fullmatch(r"\d{9,10}", row[0]) is not None and row[6].isdigit()


LAYOUT = Layout(
    name="Kraken dump",
    words=frozenset({"kraken"}),
    example="1704067200,42280.4,42554.0,42261.0,42475.2,71.68108,1713",
    row=_is_bar,
    headless=("ts", "open", "high", "low", "close", "volume", "-"),
    label="open",
    remark="The name has pair and minutes: `XBTUSD_60.csv`.",
)
