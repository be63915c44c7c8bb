"""Kind `correction_flipped_crossover`: a crossover is not what it was, for bars were corrected."""

from ema_assets.alerts.declaration import Row, SeriesKind
from ema_assets.alerts.flips import DAYS, flipped_since, say_flipped
from ema_assets.model.asset_names import EMA_TREND


def _say(row: Row) -> str:
    return say_flipped(row, "crossover")


KIND = SeriesKind(
    name="correction_flipped_crossover",
    titles=("crossover flipped by a correction", "crossovers flipped by corrections"),
    description=(
        "A correction of bars of the last `correction_days` days has added, removed or changed a crossover of EMA 9 "
        "and EMA 30."
    ),
    asset=EMA_TREND,
    find=flipped_since,
    say=_say,
    params=DAYS,
    is_of_corrections=True,
)
