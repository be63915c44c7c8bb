"""Bisects a batch that a poison series makes fail, so that only that series fails and the others finish."""

import logging
from collections.abc import Callable, Sequence

import adbc_driver_manager
import polars as pl

from ema_assets.model.errors import CodeDiffers, RuleError, SignalError, StoreError, UnsoundCode, first_of
from ema_assets.store import interrupts

_log = logging.getLogger(__name__)

# Classes of SQLSTATE that no series causes: lost connection, wrong transaction state, deadlock, out of resources,
# shutdown or time limit, system error; and lock_not_available, where somebody has set `lock_timeout`. The same work can
# succeed later.
_CAN_HEAL = ("08", "25", "40", "53", "55P03", "57", "58")

# The log names at most this many symbols.
_NAMED = 5


def can_heal(error: BaseException) -> bool:
    """Return whether the database is to blame and the same work can succeed a little later."""
    if isinstance(error, StoreError):
        return True
    if isinstance(error, pl.exceptions.ComputeError):
        # Only rows of statements without parameters stream in while polars reads them. No series causes their errors.
        return "[libpq]" in str(error)
    state = getattr(error, "sqlstate", None)
    return isinstance(error, adbc_driver_manager.Error) and (state is None or state.startswith(_CAN_HEAL))


def bisect(symbols: Sequence[str], work: Callable[[list[str]], None]) -> dict[str, str]:
    """Do `work` for all `symbols` at once; when that fails, for each half, until each failing symbol stands alone.

    `work` must leave nothing behind when it raises. Unsound code fails for all symbols of a batch, because what it
    mixes up in a batch would go unnoticed in a single series. So does code other than the code for which the run was
    launched. Symbols that failed for the same reason are named together in the log.

    Returns:
        Why each failing symbol failed, by symbol.

    Raises:
        StoreError: and other errors that no series causes: a lost database, a deadlock, too little memory.
        BaseException: an interrupt, at once.
    """
    alike: dict[str, list[str]] = {}
    errors = _bisect(symbols, work, alike)
    for reason, (_, *others) in alike.items():
        if others:
            _log.error("%s cannot be processed either: %s", first_of(others, _NAMED), reason)
    return errors


def _bisect(symbols: Sequence[str], work: Callable[[list[str]], None], alike: dict[str, list[str]]) -> dict[str, str]:
    """Bisect, and add symbols that fail alone to `alike`, by reason. Only the first one per reason is logged here."""
    try:
        work(list(symbols))
    except Exception as error:
        # No series is to blame for an error that is raised because the process is to end.
        interrupts.check()
        if can_heal(error) or isinstance(error, MemoryError):
            raise
        is_of_all = isinstance(error, UnsoundCode | CodeDiffers)
        if len(symbols) == 1 or is_of_all:
            reason = _described(error)
            if reason not in alike:
                # For these, the message tells what is wrong with the code, and a traceback would not help.
                trace = None if isinstance(error, SignalError | RuleError | CodeDiffers) else error
                _log.error("%s cannot be processed: %s", first_of(symbols, _NAMED), error, exc_info=trace)
            if not is_of_all:
                alike.setdefault(reason, []).extend(symbols)
            return dict.fromkeys(symbols, reason)
    else:
        return {}
    # After the block above, so that an error does not have all earlier ones as its context.
    middle = len(symbols) // 2
    return _bisect(symbols[:middle], work, alike) | _bisect(symbols[middle:], work, alike)


def _described(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:500]}"
