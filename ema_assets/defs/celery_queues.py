"""The queues of Celery workers: which one a run goes to, and how urgent it is there. No Celery and no Dagster here."""

import importlib.util
from collections.abc import Mapping

from ema_assets.model.errors import ConfigurationError

# Runs for bars that have just closed, and all others: history, missing bars, upkeep, backfills, runs of a person.
LIVE, SLOW = "live", "slow"
QUEUES = (LIVE, SLOW)
# Tags of dagster-celery, and below them the tags of Dagster and of ours from which they are derived.
QUEUE_TAG, URGENCY_TAG = "dagster-celery/queue", "dagster-celery/run_priority"
TASK_TAG = "dagster-celery/task_id"
_LANE_TAG, _PRIORITY_TAG = "ema_assets/lane", "dagster/priority"
_MOST_URGENT = 9
# How many of Dagster's priorities make one step in a queue: live runs differ by one per timeframe, the others by kind.
_STEP = {LIVE: 1, SLOW: 5}


def tags_of(tags: Mapping[str, str], broker: str) -> dict[str, str]:
    """Return the tags that send a run with `tags` to its queue at the URL `broker`.

    Tags that are set already are kept.
    """
    queue = tags.get(QUEUE_TAG) or queue_of(tags)
    return {QUEUE_TAG: queue, URGENCY_TAG: tags.get(URGENCY_TAG) or str(_urgency_of(tags, queue, broker))}


def queue_of(tags: Mapping[str, str]) -> str:
    """Return `live` for runs of the lane `live`, `slow` for all others."""
    return LIVE if tags.get(_LANE_TAG) == LIVE else SLOW


def _urgency_of(tags: Mapping[str, str], queue: str, broker: str) -> int:
    """Return the urgency, from 0 to 9. RabbitMQ delivers the highest first, Redis the lowest."""
    try:
        below = max(0, -int(tags.get(_PRIORITY_TAG, "0")))
    except ValueError:
        below = 0
    urgency = max(0, _MOST_URGENT - below // _STEP.get(queue, 1))
    return _MOST_URGENT - urgency if is_redis(broker) else urgency


def is_redis(broker: str) -> bool:
    """Return whether the URL names a Redis: plain, with TLS, by a socket or by sentinels."""
    return broker.partition("://")[0] in ("redis", "rediss", "redis+socket", "sentinel")


def check_client(broker: str) -> None:
    """Refuse the URL of a broker for which no client is installed. Celery would fail with a traceback.

    Raises:
        ConfigurationError: naming the package and how it is installed.
    """
    if is_redis(broker) and importlib.util.find_spec("redis") is None:
        raise ConfigurationError("`EMA_CELERY_BROKER` is a Redis, which needs a package: pip install 'celery[redis]'")
