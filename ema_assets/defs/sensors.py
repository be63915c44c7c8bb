"""The sweep, which takes up whatever the schedules leave, and the sensor that follows the watchlist."""

import hashlib
from collections.abc import Sequence
from datetime import timedelta

from dagster import (
    AddDynamicPartitionsRequest,
    DefaultSensorStatus,
    DeleteDynamicPartitionsRequest,
    RunRequest,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from ema_assets import watchlist
from ema_assets.defs.jobs import refresh_job
from ema_assets.defs.partitions import SYMBOLS
from ema_assets.defs.requests import in_flight, run_request
from ema_assets.defs.resources import MarketResource, StoreResource
from ema_assets.domain.planning import plan_runs
from ema_assets.errors import ConfigurationError
from ema_assets.pipeline.planning import stale_for_sweep
from ema_assets.pipeline.watch import CODE_VERSIONS, sync
from ema_assets.settings import Settings

# Dagster wants a sensor's interval when it loads the definitions.
INTERVAL_SECONDS = Settings.from_env().sweep_seconds
# A schedule's tick and its run's start take some seconds; before this the sweep would launch the same run twice.
SCHEDULE_GRACE = timedelta(seconds=90)


@sensor(
    job=refresh_job,
    minimum_interval_seconds=INTERVAL_SECONDS,
    default_status=DefaultSensorStatus.RUNNING,
    description=(
        "Takes up every stale series that no schedule sees to: new symbols, corrections, ingested files, failed "
        "attempts whose pause is over, changed code, and what a killed run left behind."
    ),
)
def sweep(
    context: SensorEvaluationContext, store: StoreResource, market: MarketResource
) -> list[RunRequest] | SkipReason:
    """Plan runs for all that is stale and not covered yet."""
    now = market.now()
    symbols = context.instance.get_dynamic_partitions(str(SYMBOLS.name))
    with store.open() as database, database.transaction() as transaction:
        stale = stale_for_sweep(transaction, now, SCHEDULE_GRACE)
    runs = plan_runs(stale, symbols, in_flight(context.instance), Settings.from_env().series_per_run)
    if runs:
        return [run_request(run, now) for run in runs]
    if stale.is_empty():
        return SkipReason("nothing is stale that a schedule does not see to")
    return SkipReason(f"{stale.height} stale series are covered by queued or running runs")


@sensor(
    minimum_interval_seconds=INTERVAL_SECONDS,
    default_status=DefaultSensorStatus.RUNNING,
    description="Follows the watchlist file: new symbols become partitions and are loaded, removed ones go.",
)
def sync_watchlist(
    context: SensorEvaluationContext, store: StoreResource, market: MarketResource
) -> SensorResult | SkipReason:
    """Sync instruments, ledger rows and dynamic partitions when the file, or what Dagster knows of it, has changed."""
    path = Settings.from_env().watchlist_path
    try:
        watched = watchlist.load(path)
        now = market.now()
        symbols = watched.symbols
        known = context.instance.get_dynamic_partitions(str(SYMBOLS.name))
        # With the date, sessions are extended in time; with the versions, changed code is adopted after an upgrade.
        mark = hashlib.sha256(f"{path}\n{now.date()}\n{CODE_VERSIONS}\n{watched}".encode()).hexdigest()
        if mark == context.cursor and set(symbols) == set(known):
            return SkipReason(f"{path.name} has not changed: {len(symbols)} symbols")
        with store.open() as database:
            sync(database, watched, now)
    except ConfigurationError as error:
        return SkipReason(f"the watchlist was not synced: {error}")
    return SensorResult(dynamic_partitions_requests=_partition_requests(symbols, known), cursor=mark)


def _partition_requests(
    symbols: Sequence[str], known: Sequence[str]
) -> list[AddDynamicPartitionsRequest | DeleteDynamicPartitionsRequest]:
    """What makes Dagster's dynamic partitions equal `symbols`: each kind in one batch."""
    new = [symbol for symbol in symbols if symbol not in set(known)]
    gone = [symbol for symbol in known if symbol not in set(symbols)]
    requests: list[AddDynamicPartitionsRequest | DeleteDynamicPartitionsRequest] = []
    if new:
        requests.append(SYMBOLS.build_add_request(new))
    if gone:
        requests.append(SYMBOLS.build_delete_request(gone))
    return requests


sensors = [sweep, sync_watchlist]
