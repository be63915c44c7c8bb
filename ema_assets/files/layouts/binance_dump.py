"""Binance: the monthly and daily dumps of klines. Until 2024 they have no head; some others have one."""

import re
from collections.abc import Sequence

from ema_assets.files.declaration import Layout

_CELLS = ("ts", "open", "high", "low", "close", "volume", "-", "-", "-", "-", "-", "-")


def _is_kline(row: Sequence[str]) -> bool:
    # Milliseconds, and microseconds since 2025.
    is_time = re.compile(r"\d{13}(\d{3})?")
    return len(row) in (11, 12) and bool(is_time.fullmatch(row[0])) and bool(is_time.fullmatch(row[6]))


LAYOUTS = (
    Layout(
        name="Binance dump",
        words=frozenset({"binance"}),
        example=(
            "1704067200000,42283.58,42554.57,42261.02,42475.23,1271.68108,1704070799999,53957248.97,47134,"
            "682.57581,28957416.81,0"
        ),
        row=_is_kline,
        headless=_CELLS,
        label="open",
        remark="Epochs in ms or, since 2025, in µs. Answers of the API saved as JSON too.",
    ),
    Layout(
        name="Binance dump with a head",
        example=(
            "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
            "taker_buy_quote_volume,ignore\n"
            "1735689600000000,93576.00,93702.15,93489.03,93656.18,416.94,1735689899999999,39026001.1,71532,205.1,"
            "19198312.9,0"
        ),
        marks=frozenset({"open time", "open", "close", "close time"}),
        label="open",
    ),
)
