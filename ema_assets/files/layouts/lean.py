"""LEAN, the engine of QuantConnect: its files of daily and hourly US stocks, prices in ten-thousandths of a dollar."""

import re
from collections.abc import Sequence

from ema_assets.files.declaration import Layout


def _is_stock(row: Sequence[str]) -> bool:
    # Files of other kinds of instruments have prices with a decimal point. Prices of stocks are whole cents.
    return (
        len(row) == 6
        and re.fullmatch(r"\d{8} \d{2}:00", row[0]) is not None
        and all(re.fullmatch(r"\d{1,7}00", price) is not None for price in row[1:5])
    )


LAYOUT = Layout(
    name="LEAN",
    example="20240102 00:00,1871500,1884400,1838900,1856400,82488674",
    row=_is_stock,
    headless=("ts", "open", "high", "low", "close", "volume"),
    is_guessed=True,
    zone="America/New_York",
    label="open",
    price_decimals=4,
    remark="Prices are in ten-thousandths and as they traded: docs/CORPORATE_ACTIONS.md.",
)
