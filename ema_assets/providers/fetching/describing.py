"""Questions to providers about symbols, and their answers: whether they trade, and corporate actions. No HTTP here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import polars as pl

from ema_assets.model.errors import ProviderError
from ema_assets.model.schemas import STATE_SCHEMA
from ema_assets.model.symbols import Instrument


@dataclass(frozen=True, slots=True)
class Question:
    """A question about the states of `instruments`, and their corporate actions from `since` on, a day per symbol.

    `today` is the market's day, UTC. `last_sessions` has the day of the newest session that has begun, per symbol:
    actions of a later day have not taken effect. Where it is not known, `today` counts.
    """

    instruments: Sequence[Instrument]
    since: Mapping[str, date]
    today: date
    last_sessions: Mapping[str, date] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Described:
    """The answer to a question.

    Attributes:
        states: STATE_SCHEMA, one row per symbol of the question; None if they could not be determined.
        actions: ACTION_SCHEMA, all from `since` on; `effective_at` is midnight UTC if only the day is known. None if
            they could not be determined.
        problems: why something could not be determined.
        calls: the number of requests sent, retries included.
    """

    states: pl.DataFrame | None
    actions: pl.DataFrame | None
    problems: tuple[ProviderError, ...] = ()
    calls: int = 0


def states_of(asked: Mapping[str, str], listed: Mapping[str, tuple[str, str]]) -> pl.DataFrame:
    """Return the states (STATE_SCHEMA, sorted by symbol) of symbols, from a vendor's list of all its symbols.

    Args:
        asked: by our symbol, the vendor's spelling.
        listed: by the vendor's spelling, the state and the vendor's words for it.
    """
    rows = [(symbol, *listed.get(vendor, ("unknown", None))) for symbol, vendor in asked.items()]
    columns = [(symbol, state, None, detail) for symbol, state, detail in rows]
    return pl.DataFrame(columns, schema=STATE_SCHEMA, orient="row").sort("symbol")
