"""What a watchlist says about timeframes: which are on, how far back bars reach, and whether providers serve them."""

from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from typing import Any

from ema_assets.model.errors import InvalidKeyError, WatchlistError, did_you_mean
from ema_assets.model.symbols import Instrument, parse_timeframe
from ema_assets.model.timeframes import DEFAULT, FETCHED, Timeframe, by_key
from ema_assets.providers import registry

_MOST_DAYS = 20_000
_EXAMPLE = str([each.key for each in DEFAULT]).replace("'", '"')


def timeframes(given: Any, where: str) -> tuple[Timeframe, ...] | None:
    """Return the timeframes that `given` lists, shortest first; None when nothing is given.

    Raises:
        WatchlistError: naming `where`, what was received and what is allowed.
    """
    if given is None:
        return None
    if not isinstance(given, list) or not given or not all(isinstance(key, str) for key in given):
        raise WatchlistError(f"{where}: `timeframes` must be a list such as {_EXAMPLE}, received {given!r}")
    try:
        found = [parse_timeframe(key) for key in given]
    except InvalidKeyError as error:
        raise WatchlistError(f"{where}: timeframes: {error}") from None
    for each in found:
        if found.count(each) > 1:
            raise WatchlistError(f"{where}: `timeframes` lists {each.key} twice; keep one of them")
    return tuple(sorted(found))


def history(table: Any, where: str) -> dict[Timeframe, int]:
    """Return how many calendar days a new series of each fetched timeframe in `table` reaches back.

    Raises:
        WatchlistError: naming the entry, what was received and what is allowed.
    """
    if not isinstance(table, dict):
        raise WatchlistError(f'{where}: `history` must be a table of days, such as `"5m" = 60`')
    fetched = [each.key for each in FETCHED]
    for key, days in table.items():
        if key not in fetched:
            hint = did_you_mean(key, fetched)
            raise WatchlistError(f"{where}: history: unknown key `{key}`, allowed are {', '.join(fetched)}{hint}")
        if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= _MOST_DAYS:
            raise WatchlistError(
                f"{where}: history of {key} must be a whole number of days from 1 to {_MOST_DAYS}, received {days!r}"
            )
    return {by_key(key): days for key, days in table.items()}


def default_history(used: Collection[Timeframe]) -> dict[Timeframe, int]:
    """Return how many days new series reach back by default: enough for averages of `used` timeframes to converge."""
    depth = {each: each.fetched.history_days for each in FETCHED}
    for timeframe in used:
        if timeframe.period is not None:
            from ema_assets.signals.ema_signals import CONVERGED_AFTER_BARS

            days = CONVERGED_AFTER_BARS * timeframe.duration // timedelta(days=1)
            depth[timeframe.base] = max(depth[timeframe.base], min(days, _MOST_DAYS))
    return depth


def check_served(instruments: Iterable[Instrument], default: str, where: str) -> None:
    """Refuse timeframes that the provider of a symbol does not serve; `default` is that of symbols that name none.

    Raises:
        WatchlistError: naming the symbol, the timeframe, the provider and what it serves.
    """
    served: dict[str, Mapping[str, str]] = {}
    for each in instruments:
        name = each.provider or default
        if not each.is_fetched or not registry.is_asked(name):
            continue
        if name not in served:
            served[name] = registry.declared(name).timeframes
        for timeframe in each.timeframes:
            if timeframe.base.key not in served[name]:
                rolled_up = "" if timeframe.is_fetched else f", which is rolled up from {timeframe.base.key}"
                raise WatchlistError(
                    f"{where}: {each.symbol} is to have {timeframe.key}{rolled_up}, but the provider {name} serves "
                    f"{', '.join(served[name])} only; give its group other `timeframes` or another `provider`"
                )
