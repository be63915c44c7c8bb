"""The time from a bar's close to its strategy row, split into legs. Measures nothing itself."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from ema_assets.model.timeframes import by_key
from ema_assets.store import latency
from ema_assets.store.database import Transaction

# The number of newest closes per timeframe, within the last day.
CLOSES = 100
_REACH = timedelta(days=1)

# The legs in their order, named after the moment that ends each; the first begins at the close.
LEGS = {
    "requested": "a tick has requested the run",
    "queued": "the run is queued",
    "launched": "it is launched",
    "started": "it has started",
    "bars_stored": "bars are fetched or rolled up, and stored",
    "bars_recorded": "Dagster knows of the bars",
    "signals": "averages and trend are stored and recorded",
    "computed": "trades are computed",
    "written": "strategy rows are written",
    "recorded": "Dagster knows of the strategy rows",
}


@dataclass(frozen=True, slots=True)
class Leg:
    """The seconds that one leg took over a number of closes: the median, and what 99 % of them did not exceed."""

    timeframe: str
    leg: str
    closes: int
    p50_seconds: float
    p99_seconds: float


def legs(transaction: Transaction, now: datetime) -> list[Leg]:
    """Return the legs of the newest CLOSES closes of each timeframe, shortest timeframe first, in the order of LEGS.

    A moment that was not recorded, as without a queue, makes no leg: the next leg begins where the previous one ended.
    """
    moments = latency.moments(transaction, now - _REACH, CLOSES)
    return [] if moments is None else sorted(legs_of(moments), key=lambda each: by_key(each.timeframe))


def legs_of(moments: pl.DataFrame) -> list[Leg]:
    """Return the legs between `moments`, as returned by `store.latency.moments`."""
    if moments.is_empty():
        return []
    names = ["closed", *LEGS]
    # Each leg begins at the last known moment before it. An unknown moment has a null leg, and the next leg is whole.
    reached = [pl.coalesce([pl.col(before) for before in reversed(names[: place + 1])]) for place in range(len(names))]
    seconds = moments.select(
        "timeframe",
        *(
            ((pl.col(name) - reached[place]).dt.total_microseconds() / 1e6).alias(name)
            for place, name in enumerate(names[1:])
        ),
    )
    found = []
    for (timeframe,), rows in seconds.partition_by("timeframe", as_dict=True, maintain_order=True).items():
        for name in LEGS:
            values = rows[name].drop_nulls()
            if not values.is_empty():
                middle, most = (values.quantile(share, "higher") for share in (0.5, 0.99))
                assert middle is not None
                assert most is not None
                found.append(Leg(str(timeframe), name, len(values), middle, most))
    return found
