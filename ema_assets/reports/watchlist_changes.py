"""Differences between the watchlist and the database that the next sync will remove. Writes nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ema_assets.model.errors import first_of
from ema_assets.model.symbols import Instrument
from ema_assets.store import ledger
from ema_assets.store.database import Transaction

# The most changed symbols that are named.
_NAMED = 20


@dataclass(frozen=True, slots=True)
class WatchlistChanges:
    """Symbols that are only on the watchlist, symbols that are only active in the database, and changed ones.

    `changed` has, per symbol, the names of changed settings: `calendar`, `provider`, `allow_negative`, `timeframes`.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: Mapping[str, tuple[str, ...]]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def __str__(self) -> str:
        return first_of(
            [
                *(f"+{symbol}" for symbol in self.added),
                *(f"-{symbol}" for symbol in self.removed),
                *(f"{symbol} ({', '.join(names)})" for symbol, names in self.changed.items()),
            ],
            _NAMED,
        )


def watchlist_changes(transaction: Transaction, instruments: Sequence[Instrument]) -> WatchlistChanges:
    """Return how a sync of a watchlist with `instruments` would change the symbols in the database."""
    known = {row["symbol"]: row for row in ledger.watched(transaction).iter_rows(named=True)}
    wanted = {each.symbol: _as_written(each) for each in instruments}
    changed = {
        symbol: tuple(name for name in named if known[symbol][name] != named[name])
        for symbol, named in wanted.items()
        if symbol in known
    }
    return WatchlistChanges(
        added=tuple(symbol for symbol in wanted if symbol not in known),
        removed=tuple(symbol for symbol in known if symbol not in wanted),
        changed={symbol: _said(names) for symbol, names in changed.items() if names},
    )


def _as_written(instrument: Instrument) -> dict[str, object]:
    return {
        "calendar": instrument.calendar,
        "provider": instrument.provider,
        "allow_negative": instrument.allow_negative,
        "timeframes": [each.key for each in instrument.with_bars],
        "bars_only": [each.key for each in instrument.bars_only],
    }


def _said(names: Sequence[str]) -> tuple[str, ...]:
    """Return `names` once each, with `bars_only` named `timeframes`, the setting it follows from."""
    return tuple(dict.fromkeys("timeframes" if name == "bars_only" else name for name in names))
