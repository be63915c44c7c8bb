"""Kind `correction_flipped_trade`: a trade is not what it was because bars were corrected."""

from ema_assets.alerts.declaration import STRATEGIES, Row, SeriesKind
from ema_assets.alerts.flips import DAYS, flipped_since, say_flipped


def _say(row: Row) -> str:
    return say_flipped(row, "trade")


KIND = SeriesKind(
    name="correction_flipped_trade",
    titles=("trade flipped by a correction", "trades flipped by corrections"),
    description="A correction of bars of the last `correction_days` days has added, removed or changed a trade.",
    asset=STRATEGIES,
    find=flipped_since,
    say=_say,
    params=DAYS,
    is_of_corrections=True,
)
