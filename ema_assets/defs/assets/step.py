"""The step of a partitioned asset: do the work of its run's partitions, tell Dagster, name what failed."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

import sqlalchemy.exc
from dagster import (
    AssetExecutionContext,
    AssetKey,
    DagsterExecutionInterruptedError,
    Failure,
    MetadataValue,
    RetryRequested,
)
from dagster_postgres.utils import DagsterPostgresException

from ema_assets.defs import partition_checks
from ema_assets.defs.backfills import PartitionsRemoved, run_partitions
from ema_assets.defs.materializations import Labels, Recorder
from ema_assets.defs.recording import keep_events_for_us
from ema_assets.defs.run_tags import DEFER_TAG, FAILED_TAG, RETRY_RUN_TAG
from ema_assets.model.asset_names import OHLC
from ema_assets.model.errors import first_of
from ema_assets.model.symbols import Series
from ema_assets.model.timeframes import Timeframe
from ema_assets.refresh.graph import Node
from ema_assets.refresh.isolate import can_heal
from ema_assets.refresh.outcome import Outcome
from ema_assets.reports import health
from ema_assets.store import ledger
from ema_assets.store.database import Database

# Of what has failed, so many reasons are shown, and so many series that failed for each.
_NAMED_REASONS, _NAMED_SERIES = 20, 5
# A restart of Postgres takes seconds. A longer outage is left to the sweep, or to the person who launched the run.
_RETRIES = 3
_RETRY_SECONDS = 5.0
_SINGULAR = {"rows": "row", "bars": "bar", "calls": "call"}

# Takes a timeframe, its symbols and whether fresh series are to be processed, too. Returns their outcome.
Work = Callable[[Timeframe, Sequence[str], bool], Outcome]


def series_by_timeframe(context: AssetExecutionContext) -> dict[Timeframe, list[str]]:
    """Return the symbols of this run's partitions per timeframe, shortest timeframe first."""
    found: defaultdict[Timeframe, list[str]] = defaultdict(list)
    for key in run_partitions(context):
        series = Series.parse(key)
        found[series.timeframe].append(series.symbol)
    return {timeframe: found[timeframe] for timeframe in sorted(found)}


def refresh_partitions(
    context: AssetExecutionContext,
    node: Node,
    database: Database,
    work: Work,
    labels: Labels,
    say_checks: Callable[[], None],
) -> None:
    """Do `work` for each timeframe of the run, report to Dagster what was processed, and name what failed.

    A run with the tag `dagster/defer_asset_events` processes stale series only and records those. Any other run was
    launched by a person for its partitions: all are processed and recorded, fresh or not.

    `labels` returns what a materialization of bars says about their provider. `say_checks` logs the checks of the run,
    whose own step Dagster skips after a failure.

    Raises:
        Failure: in a run for stale series when nothing at all could be done; in a run that a person launched when any
            partition failed. Whatever succeeded is stored and recorded before.
        RetryRequested: when the database was lost. A run for stale series does not repeat what was committed. When
            retries do not help, the daemon launches a run of a person again.
    """
    try:
        _refresh_partitions(context, node, database, work, labels)
    except PartitionsRemoved as removed:
        _end(context, removed)
    except Exception as error:
        # Dagster's own storage is in the same database.
        if can_heal(error) or isinstance(error, sqlalchemy.exc.OperationalError | DagsterPostgresException):
            raise RetryRequested(_RETRIES, _RETRY_SECONDS) from error
        context.instance.add_run_tags(context.run.run_id, {RETRY_RUN_TAG: "false"})
        try:
            say_checks()
        except Exception:
            # The reason why the step failed matters more.
            context.log.exception("the checks of this run cannot be reported")
        raise


def _refresh_partitions(
    context: AssetExecutionContext, node: Node, database: Database, work: Work, labels: Labels
) -> None:
    everything = context.run.tags.get(DEFER_TAG) != "true"
    if everything:
        _check_partitions(context)
        _check_symbols(context, database)
    # When Dagster insists on logging events without inputs, the next run for stale series logs ours after them.
    is_told_here = keep_events_for_us(context)
    recorder = Recorder(context, database, labels)
    counts: Counter[str] = Counter()
    failed: dict[str, str] = {}
    done = 0
    for timeframe, symbols in series_by_timeframe(context).items():
        outcome = work(timeframe, symbols, everything)
        if is_told_here:
            recorder.record(node, timeframe, symbols, outcome, everything=everything)
        failed |= {str(Series(symbol, timeframe)): reason for symbol, reason in outcome.errors.items()}
        done += len(outcome.done)
        counts.update(outcome.metadata())
        context.log.info(f"{node.name} {timeframe.key}: {sentence(outcome)}")
    context.add_output_metadata({**counts, "sql_statements": database.statements})
    if failed and (everything or not done):
        _show_failed(context, database, failed)
        raise Failure(
            description=f"{len(failed)} of {len(failed) + done} series failed: {failures_text(failed)}",
            metadata={"failed": MetadataValue.json(failed)},
            allow_retries=False,
        )


def _end(context: AssetExecutionContext, removed: PartitionsRemoved) -> NoReturn:
    """End a run whose timeframe was removed from the watchlist while it waited.

    Dagster cannot finish a step with such partitions. A run of a person fails. Any other run has nothing to do, so it
    counts as canceled: nobody needs to act on it.
    """
    context.instance.add_run_tags(context.run.run_id, {RETRY_RUN_TAG: "false"})
    if context.run.tags.get(DEFER_TAG) != "true":
        raise Failure(description=str(removed), allow_retries=False)
    # Without this, Dagster takes the interruption for a failure.
    context.instance.report_run_canceling(context.run, f"Nothing to do: {removed}.")
    raise DagsterExecutionInterruptedError(str(removed))


def _check_partitions(context: AssetExecutionContext) -> None:
    """Refuse a run that a person has launched without partitions, or with a range that ends before it begins."""
    if context.op_execution_context.has_partitions and run_partitions(context):
        return
    raise Failure(
        description='this run has no partition: choose symbols and timeframes under "Materialize…", and write a '
        'range in the order in which "Partitions" of the asset lists them',
        allow_retries=False,
    )


def _check_symbols(context: AssetExecutionContext, database: Database) -> None:
    """Refuse partitions of symbols that are not on the watchlist, such as one that was added in the UI."""
    symbols = list(dict.fromkeys(Series.parse(key).symbol for key in run_partitions(context)))
    with database.transaction() as transaction:
        unknown = ledger.unknown_symbols(transaction, symbols)
    if unknown:
        names = " ".join(unknown)
        raise Failure(
            description=f"not on the watchlist: {', '.join(unknown)}. Partitions follow the watchlist, and one that is "
            f"added here is removed within a minute. `ema-assets symbols add {names}` adds the symbol, its partitions "
            "and its history",
            allow_retries=False,
        )


def _show_failed(context: AssetExecutionContext, database: Database, failed: dict[str, str]) -> None:
    """Name the failed series where a person looks: in the list of runs, and on the partitions of bars.

    The checks that would do so run after all assets and are skipped when an asset has failed. `say_checks` logs the
    checks of whole assets.
    """
    first, *more = failed
    context.instance.add_run_tags(context.run.run_id, {FAILED_TAG: f"{first} and {len(more)} more" if more else first})
    with database.transaction() as transaction:
        problems = health.series_problems(health.failing(transaction), health.NO_LATE_SERIES)
        wanted = {partition: reason for partition, reason in problems.items() if partition in failed}
        bars = AssetKey([*context.asset_key.path[:-1], OHLC])
        for evaluation in partition_checks.begun(transaction, bars, wanted):
            context.log_event(evaluation)


def sentence(outcome: Outcome) -> str:
    """Return what was done, for the log of a run: `20 series, 178,256 rows written, 1 bar flagged`."""
    return ", ".join(_counted(name, count) for name, count in outcome.metadata().items()) or "nothing to do"


def _counted(name: str, count: int) -> str:
    """Return a count of `Outcome.metadata` in words: `1 bar flagged`, `1,200 rows written`."""
    words = name.split("_")
    if count == 1:
        words = [_SINGULAR.get(word, word) for word in words]
    return f"{count:,} {' '.join(words)}"


def failures_text(failed: Mapping[str, str]) -> str:
    """Return why series have failed: the first reasons, each once, after the first series that failed for it."""
    by_reason: dict[str, list[str]] = {}
    for series, reason in failed.items():
        by_reason.setdefault(reason, []).append(series)
    shown = list(by_reason.items())[:_NAMED_REASONS]
    more = len(failed) - sum(len(series) for _, series in shown)
    told = [f"{first_of(series, _NAMED_SERIES)}: {reason}" for reason, series in shown]
    return "; ".join(told) + (f"; and {more} more" if more else "")
