"""The progress of loading new series, and the time left at the rate of the last minutes. Writes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from ema_assets.model.timeframes import Timeframe, by_key
from ema_assets.store import ledger
from ema_assets.store.database import Transaction

# The rate is measured over these last minutes, because 5m history is loaded at another rate than daily bars.
_WINDOW = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Loading:
    """The numbers of loaded and of all series per timeframe, and the seconds that the rest will take.

    A series is loaded when all of its assets were computed and reported to Dagster. A series without bars at its
    provider counts as loaded; one that is fed from files counts once it has bars. `unrecorded` counts series that are
    computed but not yet reported to Dagster. `seconds_left` is None while nothing has been loaded in the last minutes,
    or if all that is left is failing.
    """

    series: Mapping[Timeframe, tuple[int, int]]
    seconds_left: float | None
    unrecorded: int = 0

    @property
    def is_complete(self) -> bool:
        """True when every series is loaded."""
        return all(done == total for done, total in self.series.values())

    @property
    def is_computed(self) -> bool:
        """True when every series is loaded, except for reports to Dagster, which nobody sends if it is not running."""
        return sum(total - done for done, total in self.series.values()) == self.unrecorded

    @property
    def estimate(self) -> str:
        """The time left in words, such as `about 12 minutes left`; empty when it is not known.

        After a restore without Dagster's tables, everything is computed and only reported to Dagster, which is quick.
        """
        if self.seconds_left is None:
            return "computed; being reported to Dagster" if self.is_computed and not self.is_complete else ""
        if self.seconds_left < 90:
            return "about a minute left"
        minutes = round(self.seconds_left / 60)
        if minutes < 90:
            return f"about {minutes} minutes left"
        return f"about {minutes / 60:.1f} hours left"

    def __str__(self) -> str:
        counts = "  ".join(f"{timeframe.key} {done}/{total}" for timeframe, (done, total) in self.series.items())
        return f"{counts}{f'  ({self.estimate})' if self.estimate else ''}"


def loading(transaction: Transaction, now: datetime) -> Loading:
    """Return how far loading has got at `now`, by the machine's clock."""
    begun = max(ledger.loading_since(transaction) or now, now - _WINDOW)
    counted = {by_key(row["timeframe"]): row for row in ledger.progress(transaction, begun).to_dicts()}
    rows = {timeframe: counted[timeframe] for timeframe in sorted(counted)}
    left, loaded = (sum(row[name] for row in rows.values()) for name in ("rows_left", "rows_loaded"))
    series = {timeframe: (row["done"], row["series"]) for timeframe, row in rows.items()}
    unrecorded = sum(row["unrecorded"] for row in rows.values())
    return Loading(series, seconds_left(left, loaded, now - begun), unrecorded)


def seconds_left(left: int, loaded: int, took: timedelta) -> float | None:
    """Return the seconds that `left` rows take at the rate of `loaded` rows in `took`; None if that is unknown."""
    if not left or not loaded or took <= timedelta(0):
        return None
    return took.total_seconds() * left / loaded
