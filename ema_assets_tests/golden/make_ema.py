"""Writes ema.csv: generated closes with TA-Lib's EMA 9 and EMA 30.

Run `python -m ema_assets_tests.golden.make_ema` with TA-Lib installed. This is only needed to add a series. The tests
read the file, so they compare with TA-Lib's numbers even if TA-Lib is not installed.
"""

import csv
from pathlib import Path

import numpy as np

from ema_assets_tests.market.series import random_walk

FILE = Path(__file__).with_name("ema.csv")
COLUMNS = ("series", "bar", "close", "ema_9", "ema_30")


def closes() -> dict[str, list[float]]:
    """The series in the file, with decimals as a vendor could send them."""
    return {
        "stock": [round(close, 2) for close in random_walk(130, 930)],
        "tiny coin": [round(close, 10) for close in random_walk(90, 31, price=1.2e-5, volatility=0.05)],
        "big coin": [round(close, 1) for close in random_walk(90, 9, price=68_000.0)],
        "standstill": [42.42] * 40,
    }


def main() -> None:
    """Write the file."""
    import talib

    with FILE.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for name, series in closes().items():
            fast, slow = (talib.EMA(np.array(series), span) for span in (9, 30))
            for bar, values in enumerate(zip(series, fast, slow, strict=True), start=1):
                rows.writerow([name, bar, *("" if np.isnan(value) else repr(float(value)) for value in values)])


if __name__ == "__main__":
    main()
