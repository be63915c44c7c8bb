"""The sensor that delivers alerts where no process of their own does, as with plain `dagster dev`.

It is imported only when the watchlist has an `[[alert]]`. Apprise is imported when there is something to send.
"""

from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING

from dagster import DefaultSensorStatus, SensorEvaluationContext, SkipReason, sensor

from ema_assets.defs.namespace import known
from ema_assets.defs.one_sentence import in_one_sentence
from ema_assets.model.counts import counted
from ema_assets.model.errors import ConfigurationError
from ema_assets.runtime.locate import leased_database
from ema_assets.store.migrations import migrate_once

if TYPE_CHECKING:
    from ema_assets.runtime.alert_worker import Looks

INTERVAL_SECONDS = 15
# Dagster's default limit for a tick is 60 s, and a daemon without threads evaluates no other sensor meanwhile.
PATIENCE_SECONDS = 20.0


@sensor(
    minimum_interval_seconds=INTERVAL_SECONDS,
    default_status=DefaultSensorStatus.RUNNING,
    description=(
        'Sends waiting alerts, unless a separate process does: "ema-assets up" starts one, and '
        '"ema-assets alerts deliver" is one.'
    ),
)
@in_one_sentence()
def deliver_alerts(context: SensorEvaluationContext) -> SkipReason:
    """Deliver the alerts that are due. The sensor launches no run; its skip reason says what was done."""
    from ema_assets.runtime.alert_worker import Configuration

    here = known("")
    try:
        configured = Configuration(here.environment).now()
    except ConfigurationError as error:
        return SkipReason(f"nothing is sent: {error}")
    if configured is None:
        return SkipReason("there are no alerts to send")
    url = leased_database(here.settings())
    # Dagster may keep its own records elsewhere, so this tick may be the first to need the tables.
    migrate_once(url)
    done = _looks().deliver(url, configured, timedelta(seconds=INTERVAL_SECONDS), PATIENCE_SECONDS)
    if done is None:
        return SkipReason("messages are still on their way; a later tick says what became of them")
    if not done.is_ours:
        return SkipReason("another process delivers alerts")
    for problem in done.failed:
        context.log.warning(problem)
    return SkipReason(f"{counted(done.sent, 'alert')} sent" if done.sent else "no alert was due")


@cache
def _looks() -> "Looks":
    """Return the object that all ticks of this process share.

    A look that outlasts its tick is finished by a later one.
    """
    from ema_assets.runtime.alert_worker import Looks

    return Looks()
