"""What a provider knows of its symbols beside bars: whether they trade, and what happened to them. No HTTP here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from ema_assets.model.errors import ProviderError
from ema_assets.model.schemas import STATE_SCHEMA
from ema_assets.model.symbols import Instrument


@dataclass(frozen=True, slots=True)
class Question:
    """What became of `instruments`, and from `since` (a day per symbol) on which corporate actions there are.

    `today` is the market's day, UTC.
    """

    instruments: Sequence[Instrument]
    since: Mapping[str, date]
    today: date


@dataclass(frozen=True, slots=True)
class Described:
    """The answer to a question.

    Attributes:
        states: STATE_SCHEMA, one row per symbol that was asked about; None when that could not be found out.
        actions: ACTION_SCHEMA, all from `since` on; `effective_at` is the midnight UTC of a day that is meant as a
            whole. None when that could not be found out.
        problems: why something could not be found out.
        calls: how many requests were sent, retries included.
    """

    states: pl.DataFrame | None
    actions: pl.DataFrame | None
    problems: tuple[ProviderError, ...] = ()
    calls: int = 0


def states_of(asked: Mapping[str, str], listed: Mapping[str, tuple[str, str]]) -> pl.DataFrame:
    """The states (STATE_SCHEMA) of symbols, from a vendor's list of all that it has.

    Args:
        asked: how the vendor spells each of our symbols.
        listed: by the vendor's spelling, the state and the words that stand for it.
    """
    rows = [(symbol, *listed.get(vendor, ("unknown", None))) for symbol, vendor in asked.items()]
    columns = [(symbol, state, None, detail) for symbol, state, detail in rows]
    return pl.DataFrame(columns, schema=STATE_SCHEMA, orient="row").sort("symbol")
