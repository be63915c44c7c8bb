"""The check of alerts: whether the variables of their channels are set, and which channels refuse messages."""

import os
from collections.abc import Iterator, Mapping

from ema_assets.alerts.channels import Channel
from ema_assets.doctor.declaration import Check, Finding, Surroundings, error, ok, warning
from ema_assets.model.errors import ConfigurationError
from ema_assets.reports.alert_states import alert_problems


def _look(seen: Surroundings) -> Iterator[Finding]:
    if seen.watched is None or seen.watched.alerts is None:
        return
    used = seen.watched.alerts.used()
    found = [*_unset(seen, used), *_not_delivered(seen, used)]
    yield from found
    if not found:
        yield ok(f"{', '.join(used)}: no message was refused; `ema-assets alerts test` sends one")


def _unset(seen: Surroundings, used: Mapping[str, Channel]) -> Iterator[Finding]:
    # A running `up` had them when it started, whatever the environment of this command.
    if seen.running is not None:
        return
    for channel in used.values():
        try:
            channel.url(os.environ)
        except ConfigurationError as refused:
            yield error(str(refused), "without it `ema-assets up` does not start")


def _not_delivered(seen: Surroundings, used: Mapping[str, Channel]) -> Iterator[Finding]:
    if seen.database is None or not seen.is_migrated:
        return
    with seen.database.transaction() as transaction:
        transaction.read_one_moment()
        problems = alert_problems(transaction, seen.now, used)
    for sentence in problems:
        yield warning(
            sentence.removeprefix("alerts: "),
            "mend the channel; `ema-assets alerts test` says whether it takes a message, and ends its pause if it does",
        )


CHECK = Check("alerts", 97, _look)
