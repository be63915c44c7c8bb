"""What the public functions of `read` and `backtest` are given: symbols, times, a database. Reads no series."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, date, datetime, time

from ema_assets.config.settings import Settings
from ema_assets.model.errors import ConfigurationError
from ema_assets.model.symbols import parse_symbol
from ema_assets.model.timeframes import Timeframe
from ema_assets.runtime.locate import required_database
from ema_assets.store import ledger, tables
from ema_assets.store.database import Database, Transaction

Time = datetime | date | str


def symbols_of(symbols: Sequence[str] | None) -> list[str] | None:
    """The symbols as they are stored; None, which means all of them, stays None.

    Raises:
        ConfigurationError: when it is no list.
        InvalidKeyError: for what cannot be a symbol.
    """
    if isinstance(symbols, str):
        raise ConfigurationError(f'`symbols` must be a list such as ["{symbols}"], received {symbols!r}')
    return [parse_symbol(symbol) for symbol in symbols] if symbols is not None else None


def check_symbols(transaction: Transaction, symbols: Sequence[str] | None) -> None:
    """Refuse symbols that never were on the watchlist: a frame without rows would say that nothing has traded."""
    if symbols is not None and (unknown := ledger.unknown_symbols(transaction, symbols)):
        raise ConfigurationError(
            f"`symbols` must be among those that the watchlist has or had, received {', '.join(map(repr, unknown))}; "
            "`ema-assets symbols add` adds one"
        )


def check_timeframe(transaction: Transaction, table: tables.Table, timeframe: Timeframe) -> None:
    """Refuse a timeframe that was never on."""
    if not tables.has_part(transaction, table, timeframe):
        known = ", ".join(each.key for each in ledger.known_timeframes(transaction)) or "none yet"
        raise ConfigurationError(
            f"`timeframe` must be one that the watchlist has or had, {known}, received {timeframe.key!r}"
        )


@contextmanager
def database_of(url: str | None) -> Iterator[Database]:
    """The database at `url`, or the one that the settings name."""
    with nullcontext(url) if url else required_database(Settings.from_env()) as found, Database(found) as database:
        yield database


def utc(name: str, given: Time | None) -> datetime | None:
    """The moment that the argument `name` says: text is UTC unless it has a zone, a date is its midnight, UTC.

    Raises:
        ConfigurationError: for what is no time, and for a datetime without a zone.
    """
    if given is None:
        return None
    try:
        moment = datetime.fromisoformat(given) if isinstance(given, str) else given
    except ValueError:
        moment = None
    if isinstance(moment, date) and not isinstance(moment, datetime):
        return datetime.combine(moment, time(), UTC)
    if not isinstance(moment, datetime):
        raise ConfigurationError(f"`{name}` must be a time such as '2026-11-20 15:05', UTC, received {given!r}")
    if moment.tzinfo is None:
        if not isinstance(given, str):
            raise ConfigurationError(f"`{name}` must be a datetime with a zone, received {given!r}")
        return moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC)
