"""The check of calendars: how far into the future sessions and holidays of the calendars in use are known."""

from collections.abc import Iterator
from datetime import date, timedelta

from ema_assets.doctor.declaration import Check, Finding, Surroundings, error, ok, warning
from ema_assets.model.errors import ConfigurationError
from ema_assets.store import sessions

_SOON = timedelta(days=30)
_REMEDY = (
    "install a newer exchange-calendars, or name the coming holidays in the watchlist under `[calendar.…]`; a running "
    "`up` takes over what is known"
)


def _look(seen: Surroundings) -> Iterator[Finding]:
    today, until = seen.market_now.date(), seen.market_now + _SOON
    ending: dict[str, date | None] = {}
    if seen.database is not None and seen.is_migrated:
        with seen.database.transaction() as transaction:
            transaction.read_one_moment()
            ending = dict(sessions.ending_calendars(transaction, until).iter_rows())
        used = "in use"
    elif seen.watched is not None:
        from ema_assets.market.exchanges import holidays_known_through

        for calendar in seen.watched.calendars:
            try:
                last = holidays_known_through(calendar)
            except ConfigurationError as refused:
                yield error(str(refused), "correct it in the watchlist")
                continue
            if last is not None and last < until.date():
                ending[calendar] = last
        used = "of the watchlist"
    else:
        return
    for calendar, last in ending.items():
        text = f"no day of {calendar} is known" if last is None else f"{calendar} is known up to {last}"
        yield (error if last is None or last < today else warning)(text, _REMEDY)
    if not ending:
        yield ok(f"sessions and holidays of all calendars {used} are known for {_SOON.days} days")


CHECK = Check("calendars", 40, _look)
