"""Coinbase Exchange: candles as arrays of time, low, high, open, close, volume; newest first."""

import re
from collections.abc import Sequence

from ema_assets.files.declaration import Layout


def _is_candle(row: Sequence[str]) -> bool:
    return len(row) == 6 and re.fullmatch(r"\d{9,10}", row[0]) is not None


LAYOUT = Layout(
    name="Coinbase candles",
    words=frozenset({"coinbase"}),
    example=(
        "[[1704067200, 42220.1, 42555.0, 42261.5, 42470.7, 512.75], "
        "[1704063600, 42190.0, 42310.4, 42250.0, 42261.5, 377.2]]"
    ),
    row=_is_candle,
    headless=("ts", "low", "high", "open", "close", "volume"),
    label="open",
    remark="JSON, or CSV with or without the head `time,low,high,open,close,volume`.",
)
