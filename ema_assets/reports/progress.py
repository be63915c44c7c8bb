"""How far new series have been loaded, and how long the rest will take at the rate of the last minutes."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from ema_assets.model.timeframes import Timeframe, by_key
from ema_assets.store import ledger
from ema_assets.store.database import Transaction

# The rate is that of these last minutes: 5m history is loaded at another rate than days are.
_WINDOW = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Loading:
    """How many series of each timeframe are loaded, of how many, and the seconds that the rest will take.

    A series is loaded when all of its assets were computed and Dagster has been told. One of which the provider has no
    bars counts as loaded; one that is fed from files counts once it has bars. `unrecorded` counts those of which only
    Dagster has not been told. `seconds_left` is None while nothing has been loaded in the last minutes, or nothing is
    left that does not fail.
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
        """True when every series is loaded, or would be if Dagster were told: where it does not run nobody tells it."""
        return sum(total - done for done, total in self.series.values()) == self.unrecorded

    @property
    def estimate(self) -> str:
        """The time left in words, such as `about 12 minutes left`; empty when it is not known.

        After a restore without what Dagster knows there is nothing to load, and that takes no time to speak of.
        """
        if self.seconds_left is None:
            return "computed; Dagster is being told" if self.is_computed and not self.is_complete else ""
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
    """How far loading has got at `now`, by the machine's clock."""
    begun = max(ledger.loading_since(transaction) or now, now - _WINDOW)
    counted = {by_key(row["timeframe"]): row for row in ledger.progress(transaction, begun).to_dicts()}
    rows = {timeframe: counted[timeframe] for timeframe in sorted(counted)}
    left, loaded = (sum(row[name] for row in rows.values()) for name in ("rows_left", "rows_loaded"))
    series = {timeframe: (row["done"], row["series"]) for timeframe, row in rows.items()}
    unrecorded = sum(row["unrecorded"] for row in rows.values())
    return Loading(series, seconds_left(left, loaded, now - begun), unrecorded)


def seconds_left(left: int, loaded: int, took: timedelta) -> float | None:
    """How long `left` will take when `loaded` took so long; None when that says nothing."""
    if not left or not loaded or took <= timedelta(0):
        return None
    return took.total_seconds() * left / loaded
