"""Kind `correction_flipped_crossover`: a crossover is not what it was because bars were corrected."""

from ema_assets.alerts.declaration import TRENDS, Row, SeriesKind, averages
from ema_assets.alerts.flips import DAYS, flipped_since, say_flipped


def _say(row: Row) -> str:
    return say_flipped(row, "crossover", f" of {' and '.join(averages(row))}")


KIND = SeriesKind(
    name="correction_flipped_crossover",
    titles=("crossover flipped by a correction", "crossovers flipped by corrections"),
    description=(
        "A correction of bars of the last `correction_days` days has added, removed or changed a crossover of EMA 9 "
        "and EMA 30, or of the averages of a strategy with other spans."
    ),
    asset=TRENDS,
    find=flipped_since,
    say=_say,
    params=DAYS,
    is_of_corrections=True,
)
