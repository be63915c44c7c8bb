"""Where the time from a bar's close to its strategy row goes, leg by leg. Nothing is measured here."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from ema_assets.model.timeframes import by_key
from ema_assets.store import latency
from ema_assets.store.database import Transaction

# Of each timeframe the newest closes, of the last day.
CLOSES = 100
_REACH = timedelta(days=1)

# A leg by the moment that ends it, in their order; the first begins at the close.
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
    """How long one leg took in so many closes, in seconds: the median, and what 99 % of them did not exceed."""

    timeframe: str
    leg: str
    closes: int
    p50_seconds: float
    p99_seconds: float


def legs(transaction: Transaction, now: datetime) -> list[Leg]:
    """The legs of the newest CLOSES closes of each timeframe, shortest timeframe first, in the order of LEGS.

    A moment that was not recorded, as without a queue, makes no leg: the next one begins where the one before it ended.
    """
    moments = latency.moments(transaction, now - _REACH, CLOSES)
    return [] if moments is None else sorted(legs_of(moments), key=lambda each: by_key(each.timeframe))


def legs_of(moments: pl.DataFrame) -> list[Leg]:
    """The legs between `moments`, as `store.latency.moments` returns them."""
    if moments.is_empty():
        return []
    names = ["closed", *LEGS]
    # Of a moment that is not known: the one before, so that its own leg is null and the next is whole.
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
