"""A batch that one poison series makes fail: bisect it, so that only that series fails and the others finish."""

import logging
from collections.abc import Callable, Sequence

import adbc_driver_manager

from ema_assets.model.errors import CodeDiffers, RuleError, SignalError, StoreError, UnsoundCode, first_of
from ema_assets.store import interrupts

_log = logging.getLogger(__name__)

# Classes of SQLSTATE that are no series' fault: lost connection, wrong transaction state, deadlock, out of resources,
# shutdown, system error. What comes again later can succeed as it is.
_CAN_HEAL = ("08", "25", "40", "53", "57", "58")

# So many symbols are named in the log.
_NAMED = 5


def can_heal(error: BaseException) -> bool:
    """True when the database is to blame and the same work can succeed a little later."""
    if isinstance(error, StoreError):
        return True
    state = getattr(error, "sqlstate", None)
    return isinstance(error, adbc_driver_manager.Error) and (state is None or state.startswith(_CAN_HEAL))


def bisect(symbols: Sequence[str], work: Callable[[list[str]], None]) -> dict[str, str]:
    """Do `work` for all `symbols` at once; when that fails, for each half, until the culprits stand alone.

    `work` must leave nothing behind when it raises. Returns why each culprit failed. Code that is unsound fails for all
    of them: what it mixes up in a batch would go unnoticed in a single series. So does code that nobody asked for.
    Culprits that failed for the same reason are named together in the log.

    Raises:
        StoreError: and other errors that are no series' own: the database is gone, out of memory, a deadlock.
        BaseException: an interrupt, at once.
    """
    alike: dict[str, list[str]] = {}
    errors = _bisect(symbols, work, alike)
    for reason, (_, *others) in alike.items():
        if others:
            _log.error("%s cannot be processed either: %s", first_of(others, _NAMED), reason)
    return errors


def _bisect(symbols: Sequence[str], work: Callable[[list[str]], None], alike: dict[str, list[str]]) -> dict[str, str]:
    """As `bisect`; adds culprits that stand alone to `alike`, by the reason. Only the first of each is told here."""
    try:
        work(list(symbols))
    except Exception as error:
        # Whatever fails when all is to end, is no series' fault.
        interrupts.check()
        if can_heal(error) or isinstance(error, MemoryError):
            raise
        is_of_all = isinstance(error, UnsoundCode | CodeDiffers)
        if len(symbols) == 1 or is_of_all:
            reason = _described(error)
            if reason not in alike:
                # What is wrong with the code of a signal or rule is in the error, and not where it was raised.
                trace = None if isinstance(error, SignalError | RuleError | CodeDiffers) else error
                _log.error("%s cannot be processed: %s", first_of(symbols, _NAMED), error, exc_info=trace)
            if not is_of_all:
                alike.setdefault(reason, []).extend(symbols)
            return dict.fromkeys(symbols, reason)
    else:
        return {}
    # Behind the block above, so that no error has all those before as its context.
    middle = len(symbols) // 2
    return _bisect(symbols[:middle], work, alike) | _bisect(symbols[middle:], work, alike)


def _described(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:500]}"
