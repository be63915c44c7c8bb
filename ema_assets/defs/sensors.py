"""The sweep, which takes up whatever the schedules leave, and the sensor that follows the watchlist."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import polars as pl
from dagster import (
    AddDynamicPartitionsRequest,
    DefaultSensorStatus,
    DeleteDynamicPartitionsRequest,
    RunRequest,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from ema_assets.config import watchlist
from ema_assets.defs.configuration import check_configuration, configuration_drift
from ema_assets.defs.crash_loops import Pauses
from ema_assets.defs.guest import tell_anew, what_is_slower
from ema_assets.defs.jobs import REFRESH_JOB
from ema_assets.defs.lost_runs import fail_lost_runs
from ema_assets.defs.namespace import ALONE, Namespace
from ema_assets.defs.one_sentence import in_one_sentence, sentence_of
from ema_assets.defs.requests import held_by_runs, run_request, runs_for
from ema_assets.defs.resources import MarketResource, StoreResource
from ema_assets.model.asset_names import OHLC
from ema_assets.model.counts import counted
from ema_assets.model.errors import NewerDatabase
from ema_assets.operations.sync_watchlist import sync
from ema_assets.refresh import left_alone
from ema_assets.refresh.graph import Graph
from ema_assets.refresh.plan import SCHEDULE_REACH, sentences, stale_for_sweep
from ema_assets.store import ledger, sync_failures
from ema_assets.store.database import first_line
from ema_assets.store.migrations import check_not_newer

# A schedule's tick takes some seconds to launch its run; during this time the sweep would launch the same one. Not
# longer: when a run that began before the close covers the series, the tick leaves the new bar to the sweep, and so
# does a tick whose reach ends before the bar is published.
SCHEDULE_GRACE = SCHEDULE_REACH
# While something is stale, the end of one run can be what the next one waits for: a rolled-up timeframe needs its bars.
_HURRY_SECONDS = 10


def _requests_for_stale(
    context: SensorEvaluationContext,
    store: StoreResource,
    market: MarketResource,
    namespace: Namespace,
    graph: Graph,
    tick: str,
    symbols: Sequence[str] | None = None,
    pauses: Pauses | None = None,
) -> tuple[list[RunRequest], int, list[str]]:
    """Return run requests for stale series that are not covered yet, the number of stale series, and which wait.

    `tick` is the name of the sensor. `symbols` are the partitions as they will be, where that differs from what they
    are. `pauses` hold back runs.
    """
    now = market.now()
    # Schedules tick by the machine's clock, so under a virtual clock no close has its schedule.
    settings = namespace.settings()
    grace = SCHEDULE_GRACE if settings.clock is None else timedelta(0)
    with store.open() as database, database.transaction() as transaction:
        stale = stale_for_sweep(transaction, now, grace, settings.publications)
        waiting = left_alone.sentences(left_alone.series(transaction, now, settings.publications), now)
        if changed := [name for name in ledger.not_adopted(transaction, graph.code_versions) if name != OHLC]:
            # A run would compute none of them; one after another would be launched for as long as the sync fails.
            stale = stale.filter(~pl.col("asset").is_in(changed))
            waiting.append(f"{', '.join(changed)}: changed code or parameters wait for a sync of the watchlist")
        hold = None if pauses is None else partial(pauses.hold, transaction, now)
        runs = runs_for(context.instance, transaction, stale, market.machine_now(), tick, symbols, namespace, hold)
    if pauses is not None:
        waiting += pauses.sentences
    if runs:
        context.log.info("\n".join([*sentences(stale, runs), *waiting]))
    # A series can be stale in several assets, and for several reasons.
    count = stale.select("symbol", "timeframe").n_unique()
    return [run_request(run, now) for run in runs], count, waiting


def _sweep(graph: Graph, namespace: Namespace) -> SensorDefinition:
    @sensor(
        name=namespace.name("sweep"),
        job_name=namespace.name(REFRESH_JOB),
        minimum_interval_seconds=_hurried(namespace),
        default_status=DefaultSensorStatus.RUNNING,
        description=(
            "Takes up every stale series that no schedule sees to: corrections, ingested files, failed attempts whose "
            "pause is over, changed code, and what a killed run left behind."
        ),
    )
    @namespace.own_resources
    @in_one_sentence()
    def sweep(
        context: SensorEvaluationContext, store: StoreResource, market: MarketResource
    ) -> list[RunRequest] | SkipReason:
        """Fail runs whose process has ended, and launch what is stale.

        The cursor is the time since which nothing is stale.
        """
        now, pause = market.machine_now(), namespace.settings().sweep_seconds
        if (quiet := _quiet_for(context.cursor, now)) is not None and quiet < pause - 1:
            return SkipReason(f"there was nothing to launch {quiet:.0f} s ago; it looks again after {pause} s")
        if (sentence := what_is_slower(context.instance)) is not None:
            context.log.info(sentence)
        with store.open() as database, database.transaction() as transaction:
            check_not_newer(transaction)
            fail_lost_runs(context.instance, transaction, now, namespace)
            if (sentence := tell_anew(context.instance, transaction, graph, namespace)) is not None:
                context.log.info(sentence)
        if (reason := configuration_drift(graph, namespace)) is not None:
            return SkipReason(reason)
        pauses = Pauses(context.instance, now, graph, namespace)
        requests, stale, waiting = _requests_for_stale(context, store, market, namespace, graph, "sweep", pauses=pauses)
        context.update_cursor("" if stale else now.isoformat())
        if requests:
            return requests
        if stale:
            pausing = ", or pause" if pauses.sentences else ""
            covered = f"{stale} stale series are covered by queued or running runs{pausing}"
            return SkipReason("; ".join([covered, *waiting]))
        if waiting:
            return SkipReason(f"nothing is launched: {'; '.join(waiting)}")
        return SkipReason("nothing is stale that a schedule does not see to")

    return sweep


def _hurried(namespace: Namespace) -> int:
    """Return the interval of a sensor that finds out quickly whether there is anything to do.

    Dagster looks at sensors every five seconds, and would wait another five when the full interval is not quite over.
    """
    return min(namespace.settings().sweep_seconds, _HURRY_SECONDS) - 1


def _quiet_for(cursor: str | None, now: datetime) -> float | None:
    """Return for how many seconds nothing has been stale, by the sweep's cursor; None when that is not so or unknown.

    It is unknown when the cursor is a time in the future, from a clock that was ahead or from a person, or has no zone.
    """
    try:
        seconds = (now - datetime.fromisoformat(cursor or "")).total_seconds()
    except (ValueError, TypeError):
        return None
    return seconds if seconds >= 0 else None


def _sync_watchlist(graph: Graph, namespace: Namespace) -> SensorDefinition:
    # What the last tick of this process has found; a tick that fails leaves no cursor.
    last = _UNREAD

    @sensor(
        name=namespace.name("sync_watchlist"),
        job_name=namespace.name(REFRESH_JOB),
        minimum_interval_seconds=_hurried(namespace),
        default_status=DefaultSensorStatus.RUNNING,
        description=(
            "Follows the watchlist file: new symbols become partitions and are loaded, removed ones go. Its ticks fail "
            "while the watchlist, or a signal or strategy of yours, is wrong or refused by the database, and say what "
            "is allowed."
        ),
    )
    @namespace.own_resources
    @in_one_sentence()
    def sync_watchlist(
        context: SensorEvaluationContext, store: StoreResource, market: MarketResource
    ) -> SensorResult | SkipReason:
        """Sync instruments, ledger rows and dynamic partitions when the file, or what Dagster knows of it, has changed.

        The first runs of new symbols are launched at once and not left to the next sweep.

        Raises:
            WrongConfiguration: while the watchlist or a file of signals or strategies is wrong, or the database
                refuses what it says.
        """
        nonlocal last
        before, last = last, _WRONG
        with in_one_sentence(_NOTHING_IS_LAUNCHED):
            reason = check_configuration(graph, namespace)
        if reason is not None:
            last = before
            return SkipReason(reason)
        with in_one_sentence(_NOT_SYNCED), _kept_in(store):
            change = _follow(context, store, market.now(), graph, namespace)
            if before != _READ and not change.is_new:
                _forget_failure(store)
        last = _READ
        settings = namespace.settings()
        said = _told(settings.watchlist_path.name, change, before)
        if not change.is_new:
            return SkipReason(said)
        requests, *_ = _requests_for_stale(context, store, market, namespace, graph, "sync_watchlist", change.symbols)
        if requests:
            context.log.info(said)
        return SensorResult(
            run_requests=requests or None,
            skip_reason=None if requests else SkipReason(said),
            dynamic_partitions_requests=change.requests(namespace),
            cursor=change.mark,
        )

    return sync_watchlist


# What a tick has found in the files: nothing yet, an error, or a valid configuration.
_UNREAD, _WRONG, _READ = "unread", "wrong", "read"
_NOTHING_IS_LAUNCHED = (
    "Nothing is launched until this is mended: what is stored stays, and what closes meanwhile is fetched afterwards"
)
_NOT_SYNCED = "The watchlist was not synced: everything goes on with the last one that was right"


@contextmanager
def _kept_in(store: StoreResource) -> Iterator[None]:
    """Keep a failure of the block in the database, for everyone who does not look at ticks."""
    try:
        yield
    except NewerDatabase:
        # For those of the newer version nothing is wrong.
        raise
    except Exception as error:
        # A database that cannot be reached stores nothing, and everybody sees that it cannot be reached.
        with suppress(Exception), store.open() as database, database.transaction() as transaction:
            sync_failures.note(transaction, sentence_of(error) or f"{type(error).__name__}: {first_line(error)}")
        raise


def _forget_failure(store: StoreResource) -> None:
    """Delete the failure as a sync would: a file that is restored after an error has nothing to sync."""
    with store.open() as database, database.transaction() as transaction:
        sync_failures.forget(transaction)


@dataclass(frozen=True, slots=True)
class _Change:
    """What a tick has read: which symbols are partitions from now on, and which changes Dagster does not know yet.

    `held` are removed symbols that a run still needs as partitions, with the id of that run. They are deleted when it
    ends.
    """

    mark: str
    is_new: bool
    symbols: list[str]
    added: list[str]
    gone: list[str]
    held: dict[str, str]

    def requests(self, namespace: Namespace) -> list[AddDynamicPartitionsRequest | DeleteDynamicPartitionsRequest]:
        """Return one request of each kind: every change makes Dagster read the status of all partitions again."""
        found: list[AddDynamicPartitionsRequest | DeleteDynamicPartitionsRequest] = []
        if self.added:
            found.append(namespace.symbols.build_add_request(self.added))
        if self.gone:
            found.append(namespace.symbols.build_delete_request(self.gone))
        return found


def _follow(
    context: SensorEvaluationContext, store: StoreResource, now: datetime, graph: Graph, namespace: Namespace
) -> _Change:
    """Read the watchlist, and sync the database with it when it has changed.

    Raises:
        ConfigurationError, StoreError: when it cannot be synced.
    """
    settings = namespace.settings()
    watched = watchlist.of(settings)
    known = dict.fromkeys(context.instance.get_dynamic_partitions(str(namespace.symbols.name)))
    wanted = dict.fromkeys(watched.symbols)
    # The date is included because sessions are extended daily; the graph, because changed code is adopted after an
    # upgrade.
    text = f"{settings.watchlist_path}\n{now.date()}\n{graph.fingerprint}\n{watched}"
    mark = hashlib.sha256(text.encode()).hexdigest()
    added = [symbol for symbol in wanted if symbol not in known]
    missing = [symbol for symbol in known if symbol not in wanted]
    held = held_by_runs(context.instance, missing)
    gone = [symbol for symbol in missing if symbol not in held]
    is_new = mark != context.cursor or bool(added or gone)
    if is_new:
        with store.open() as database:
            with database.transaction() as transaction:
                check_not_newer(transaction)
            sync(database, watched, now, graph)
    # Dagster changes the partitions before it creates the runs, and appends new ones at the end.
    symbols = [symbol for symbol in known if symbol in wanted or symbol in held] + added
    return _Change(mark, is_new, symbols, added, gone, held)


def _told(name: str, change: _Change, before: str) -> str:
    """Return what a tick says about the file called `name`; `before` is what the previous tick has found."""
    count = counted(len(change.symbols) - len(change.held), "symbol")
    again = "the configuration is right again: " if before == _WRONG else ""
    held = _told_of_held(change.held)
    if change.is_new:
        removed = len(change.gone) + len(change.held)
        return f"{again}{name} was read: {count}, {len(change.added)} of them new, {removed} removed{held}"
    # The first tick of a process follows a reload of the code location, for example after an error was corrected.
    read = "" if before == _READ else "was read and "
    return f"{again}{name} {read}has not changed: {count}{held}"


def _told_of_held(held: Mapping[str, str]) -> str:
    if not held:
        return ""
    (symbol, run), *others = held.items()
    if others:
        return f"; {symbol} and {len(others)} more stay partitions until the runs over them have ended"
    return f"; {symbol} stays a partition until run {run} is over"


def sensors(graph: Graph, namespace: Namespace = ALONE) -> list[SensorDefinition]:
    """Return all sensors, for a process that was loaded with the assets of `graph`; one for alerts if there are any."""
    found = [_sweep(graph, namespace), _sync_watchlist(graph, namespace)]
    # Alerts of a component are delivered by a process with the component's settings: `ema-assets alerts deliver`.
    if graph.alerts is not None and not namespace.prefix:
        from ema_assets.defs.alerts import deliver_alerts

        found.append(deliver_alerts)
    return found
