"""MetaTrader 4 and 5: the exported history of a symbol. Times are those of the broker's server."""

import re
from collections.abc import Sequence

from ema_assets.files.declaration import Layout

_ZONE = "Times are on the clock of the broker's server, which the file does not name: intraday bars need `--tz`."


def _is_bar(row: Sequence[str]) -> bool:
    return (
        len(row) == 7
        and re.fullmatch(r"\d{4}\.\d{2}\.\d{2}", row[0]) is not None
        and re.fullmatch(r"\d{2}:\d{2}(:\d{2})?", row[1]) is not None
    )


LAYOUTS = (
    Layout(
        name="MetaTrader 4",
        words=frozenset({"mt", "mt4", "mt5"}),
        example="2024.01.02,09:30,1.10427,1.10444,1.10405,1.10412,512",
        row=_is_bar,
        headless=("date", "time", "open", "high", "low", "close", "volume"),
        zones=("Europe/Athens",),
        is_zone_unknown=True,
        is_guessed=True,
        label="open",
        remark=_ZONE + " `EURUSD60.csv` is EURUSD, 1h.",
    ),
    Layout(
        name="MetaTrader 5",
        example=(
            "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n"
            "2024.01.02\t09:30:00\t1.10427\t1.10444\t1.10405\t1.10412\t512\t0\t3"
        ),
        marks=frozenset({"date", "open", "close", "tickvol", "spread"}),
        columns={"volume": ("vol", "tickvol")},
        zones=("Europe/Athens",),
        is_zone_unknown=True,
        label="open",
        remark=_ZONE + " The volume is VOL, or TICKVOL where VOL is always 0.",
    ),
)
