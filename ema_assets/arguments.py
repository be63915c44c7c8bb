"""Arguments of the public functions of `read` and `backtest`: symbols, times, a database. Reads no series."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, date, datetime, time

import numpy as np

from ema_assets.config.settings import Settings
from ema_assets.model.errors import ConfigurationError, ForkedProcess, did_you_mean
from ema_assets.model.symbols import as_spelt, parse_symbol
from ema_assets.model.timeframes import Timeframe
from ema_assets.runtime.locate import existing_database
from ema_assets.store import ledger, tables
from ema_assets.store.database import Database, Transaction

# A Timestamp of pandas is a datetime of Python.
Time = datetime | date | str | np.datetime64

# The process that has called one of these functions, here or before this process was forked from it.
_used_by: int | None = None


def check_process() -> None:
    """Refuse a process that was forked from one that has called a public function, since it would never finish.

    The threads of polars exist in the first process only.

    Raises:
        ForkedProcess: in such a process.
    """
    global _used_by  # noqa: PLW0603 - a fork copies it, which is how it is noticed
    if _used_by not in (None, os.getpid()):
        raise ForkedProcess(
            "this process was forked from one that had used polars, which would wait here forever; start processes by "
            'multiprocessing.get_context("spawn"), or use threads'
        )
    _used_by = os.getpid()


def symbols_of(symbols: Sequence[str] | None) -> list[str] | None:
    """Return the symbols as a list; None, which means all of them, stays None.

    Raises:
        ConfigurationError: when `symbols` is a text or not iterable.
        InvalidKeyError: for an item that cannot be a symbol.
    """
    if symbols is None:
        return None
    if isinstance(symbols, str) or not isinstance(symbols, Iterable):
        example = symbols if isinstance(symbols, str) else "AAPL"
        raise ConfigurationError(f'`symbols` must be a list such as ["{example}"], received {symbols!r}')
    # An item that is no text, such as a NaN from a pandas column, is named in the error.
    return [parse_symbol(symbol if isinstance(symbol, str) else repr(symbol)) for symbol in symbols]


def spelt(transaction: Transaction, symbols: Sequence[str] | None) -> list[str] | None:
    """Return `symbols` as the watchlist spells them, others unchanged: `aapl` means AAPL unless both exist."""
    if symbols is None:
        return None
    unknown = ledger.unknown_symbols(transaction, symbols)
    return as_spelt(symbols, ledger.known_symbols(transaction)) if unknown else list(symbols)


def stored_symbols(transaction: Transaction, symbols: Sequence[str] | None) -> list[str] | None:
    """Return `symbols` as `spelt` does.

    Raises:
        ConfigurationError: for symbols that never were on the watchlist: a frame without rows would say that they did
            not trade.
    """
    if symbols is None or not ledger.unknown_symbols(transaction, symbols):
        return None if symbols is None else list(symbols)
    known = ledger.known_symbols(transaction)
    found = as_spelt(symbols, known)
    if unknown := [symbol for symbol in found if symbol not in known]:
        hint = did_you_mean(unknown[0].upper(), known) if len(unknown) == 1 else ""
        raise ConfigurationError(
            f"`symbols` must be among those that the watchlist has or had, received {', '.join(map(repr, unknown))}; "
            f"`ema-assets symbols add` adds one{hint}"
        )
    return found


def check_timeframe(
    transaction: Transaction, table: tables.Table, timeframe: Timeframe, name: str = "timeframe"
) -> None:
    """Refuse a timeframe that was never on, given as the argument `name`.

    Raises:
        ConfigurationError: naming the timeframes that were.
    """
    if not tables.has_part(transaction, table, timeframe):
        known = ", ".join(each.key for each in ledger.known_timeframes(transaction)) or "none yet"
        raise ConfigurationError(
            f"`{name}` must be one that the watchlist has or had, {known}, received {timeframe.key!r}"
        )


@contextmanager
def database_of(url: str | None) -> Iterator[Database]:
    """Open the database at `url`, or the one that the settings name.

    Raises:
        ForkedProcess: as in `check_process`.
    """
    check_process()
    with nullcontext(url) if url else existing_database(Settings.from_env()) as found, Database(found) as database:
        yield database


def utc(name: str, given: Time | None) -> datetime | None:
    """Return the argument `name` as a moment in UTC: text is UTC unless it has a zone, a date is its midnight UTC.

    Times of numpy and pandas without a zone are UTC, as these libraries mean them. A Python datetime without a zone
    would mean local time, so it is refused.

    Raises:
        ConfigurationError: for an invalid time, and for a Python datetime without a zone.
    """
    if given is None:
        return None
    try:
        moment = datetime.fromisoformat(given) if isinstance(given, str) else _of_python(given)
    except (ValueError, OverflowError):
        moment = None
    if isinstance(moment, date) and not isinstance(moment, datetime):
        return datetime.combine(moment, time(), UTC)
    if not isinstance(moment, datetime):
        raise ConfigurationError(f"`{name}` must be a time such as '2026-11-20 15:05', UTC, received {given!r}")
    if moment.tzinfo is None:
        if not (isinstance(given, str | np.datetime64) or hasattr(given, "to_pydatetime")):
            raise ConfigurationError(f"`{name}` must be a datetime with a zone, received {given!r}")
        return moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC)


def _of_python(given: object) -> object:
    """Return a time of numpy or pandas as a Python object, None for NaT, and anything else unchanged."""
    if given != given:  # noqa: PLR0124 - NaT, of numpy and of pandas alike
        return None
    if isinstance(given, np.datetime64):
        return given.astype("datetime64[us]").item()
    # A Timestamp is recognised by this method, because pandas need not be installed.
    turn = getattr(given, "to_pydatetime", None)
    return turn(warn=False) if isinstance(given, datetime) and turn is not None else given
