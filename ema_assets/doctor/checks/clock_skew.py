"""The check of the machine's clock: against the clocks of the database server and of providers, and Dagster's ticks."""

from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from ema_assets.doctor.declaration import Check, Finding, Surroundings, error, ok, warning
from ema_assets.model.errors import ConfigurationError
from ema_assets.reports import automation
from ema_assets.store import diagnosis

# Bars are requested three seconds after their close. With a clock that is wrong by more, a bar may not exist yet.
_WRONG_SECONDS, _FAR_OFF_SECONDS = 1.5, 30.0
_ANSWER_SECONDS = 5.0
_MEANWHILE = "a new start of `ema-assets up` ends this; elsewhere, `ema-assets refresh` does the work meanwhile"
_REMEDY = "let the system keep its clock by NTP, such as chrony or systemd-timesyncd"


def _look(seen: Surroundings) -> Iterator[Finding]:
    if seen.settings.clock is not None:
        yield ok(f"the market's time is virtual: {seen.settings.clock}")
    if seen.database is not None:
        with seen.database.transaction() as transaction:
            transaction.read_one_moment()
            before = datetime.now(UTC).timestamp()
            theirs = diagnosis.server(transaction).unix_seconds
            after = datetime.now(UTC).timestamp()
            waiting = automation.set_back(transaction, datetime.now(UTC))
        yield compared("the database server", theirs, before, after)
        if waiting is not None:
            yield error(waiting, _MEANWHILE)
    for provider, url in _addresses(seen):
        yield from _asked(provider, url)


def compared(whose: str, theirs: float, before: float, after: float, resolution: float = 0.0) -> Finding:
    """Return the finding on this machine's clock compared with another one; all times in seconds since 1970.

    The other clock was read at an instant between `before` and `after` of this one, and up to `resolution` seconds may
    have passed since its last tick.
    """
    off = max(theirs - after, before - theirs - resolution, 0.0)
    text = f"the clocks of this machine and {whose} agree"
    if off <= _WRONG_SECONDS:
        return ok(text)
    direction = "behind" if theirs > after else "ahead of"
    text = f"this machine's clock is {off:,.1f} s {direction} that of {whose}"
    return error(text, _REMEDY) if off > _FAR_OFF_SECONDS else warning(text, _REMEDY)


def _addresses(seen: Surroundings) -> list[tuple[str, str]]:
    """Return providers and URLs whose Date header is read: with `--online` all in use, else services run by `up`."""
    if seen.watched is None:
        return []
    local = seen.settings.service_urls
    found = []
    for name in sorted(seen.watched.providers(seen.settings.provider)):
        config = seen.settings.providers.get(name)
        if config is not None and config.base_url is not None and (seen.is_online or name in local):
            found.append((name, config.base_url))
    return found


def _asked(provider: str, url: str) -> Iterator[Finding]:
    import httpx

    from ema_assets.providers.http.proxies import way_to

    try:
        way = way_to(url)
        before = datetime.now(UTC).timestamp()
        answer = httpx.head(
            url, timeout=_ANSWER_SECONDS, proxy=way.http_proxy, verify=way.certificates, trust_env=False
        )
        theirs = parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (ConfigurationError, httpx.HTTPError, httpx.InvalidURL, KeyError, ValueError):
        return  # whether it can be reached is another check's business
    yield compared(provider, theirs, before, datetime.now(UTC).timestamp(), resolution=1.0)


CHECK = Check("clock", 50, _look)
