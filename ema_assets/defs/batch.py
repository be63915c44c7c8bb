"""What every asset does with the partitions of its run: work, tell Dagster, say what failed."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import sqlalchemy.exc
from dagster import AssetExecutionContext, AssetKey, AssetMaterialization, Failure, MetadataValue, RetryRequested
from dagster_postgres.utils import DagsterPostgresException

from ema_assets.defs.recording import DEFER_TAG, describe, record
from ema_assets.model.symbols import Series
from ema_assets.model.timeframes import ORDER, Timeframe
from ema_assets.refresh.isolate import can_heal
from ema_assets.refresh.outcome import Outcome
from ema_assets.store import ledger
from ema_assets.store.database import Database

_NAMED_FAILURES = 20
# A restart of Postgres takes seconds. What outlasts this is left to the sweep, or to the person who asked.
_RETRIES = 3
_RETRY_SECONDS = 5.0
# Tells the daemon whether a run that fails in a step is launched again; dagster.yaml says yes.
_RETRY_RUN_TAG = "dagster/retry_on_asset_or_op_failure"

# From the provider of a series (None: the configured one) to the labels of its materializations.
Labels = Callable[[str | None], Mapping[str, str]]


def _no_labels(_provider: str | None) -> Mapping[str, str]:
    return {}


def is_everything(context: AssetExecutionContext) -> bool:
    """True when a person asked for these partitions, fresh or not; False in a run for stale series only."""
    return context.run.tags.get(DEFER_TAG) != "true"


def series_by_timeframe(context: AssetExecutionContext) -> dict[Timeframe, list[str]]:
    """The symbols of this run's partitions, by timeframe, shortest first."""
    found: dict[Timeframe, list[str]] = {timeframe: [] for timeframe in ORDER}
    for key in context.partition_keys:
        series = Series.parse(str(key))
        found[series.timeframe].append(series.symbol)
    return {timeframe: symbols for timeframe, symbols in found.items() if symbols}


def refresh_partitions(
    context: AssetExecutionContext,
    database: Database,
    work: Callable[[Timeframe, Sequence[str], bool], Outcome],
    labels: Labels = _no_labels,
) -> None:
    """Do `work` for each timeframe of the run, record what was processed, and name what failed.

    `labels` makes what every materialization says of the provider of its series.

    Raises:
        Failure: in a run for stale series when nothing at all could be done; in a run that a person asked for when
            any partition failed. What succeeded is stored and recorded before.
        RetryRequested: when the database was lost. What was committed is not done again in a run for stale series. When
            that does not help, a run that a person asked for is launched again by the daemon.
    """
    try:
        _refresh_partitions(context, database, work, labels)
    except Exception as error:
        # Dagster's own storage is in the same database.
        if can_heal(error) or isinstance(error, sqlalchemy.exc.OperationalError | DagsterPostgresException):
            raise RetryRequested(_RETRIES, _RETRY_SECONDS) from error
        context.instance.add_run_tags(context.run.run_id, {_RETRY_RUN_TAG: "false"})
        raise


def _refresh_partitions(
    context: AssetExecutionContext,
    database: Database,
    work: Callable[[Timeframe, Sequence[str], bool], Outcome],
    labels: Labels,
) -> None:
    asset = context.asset_key.to_user_string()
    everything = is_everything(context)
    labels = cache(labels)  # it reads the settings, and a run has thousands of series
    total = Outcome()
    failed: dict[str, str] = {}
    worked: list[tuple[Timeframe, list[str], Outcome]] = []
    for timeframe, symbols in series_by_timeframe(context).items():
        outcome = work(timeframe, symbols, everything)
        worked.append((timeframe, symbols, outcome))
        failed |= {f"{symbol}|{timeframe.value}": reason for symbol, reason in outcome.errors.items()}
        total = _sum(total, outcome)
        if not everything:
            _record_processed(context, database, asset, timeframe, symbols, outcome, labels)
        context.log.info(f"{asset} {timeframe.value}: {_sentence(outcome)}")
    if everything:
        # When the step ends well Dagster logs all partitions itself; when it fails, none of them.
        tell = _record_processed if failed else _describe_processed
        for timeframe, symbols, outcome in worked:
            tell(context, database, asset, timeframe, symbols, outcome, labels)
    context.add_output_metadata({**total.metadata(), "sql_statements": database.statements})
    if failed and (everything or not total.done):
        raise Failure(
            description=f"{len(failed)} of {len(failed) + len(total.done)} series failed: {_named(failed)}",
            metadata={"failed": MetadataValue.json(failed)},
            allow_retries=False,
        )


def _sum(one: Outcome, other: Outcome) -> Outcome:
    return Outcome(
        done=one.done + other.done,
        written={**one.written, **other.written},
        errors={**one.errors, **other.errors},
        corrected=one.corrected + other.corrected,
        rejected=one.rejected + other.rejected,
        skipped=one.skipped + other.skipped,
        flagged=one.flagged + other.flagged,
        refetched=one.refetched + other.refetched,
        recomputed=one.recomputed + other.recomputed,
        flipped=one.flipped + other.flipped,
        calls=one.calls + other.calls,
    )


def _sentence(outcome: Outcome) -> str:
    counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in outcome.metadata().items())
    return counts or "nothing to do"


def _named(failed: dict[str, str]) -> str:
    named = [f"{series}: {reason}" for series, reason in list(failed.items())[:_NAMED_FAILURES]]
    more = len(failed) - len(named)
    return "; ".join(named) + (f"; and {more} more" if more else "")


def _partition_metadata(row: dict[str, Any], outcome: Outcome, labels: Labels) -> dict[str, Any]:
    provider = row["provider"]
    metadata: dict[str, Any] = {
        **labels(None if provider is None else str(provider)),
        "rows_written": outcome.written.get(str(row["symbol"]), 0),
    }
    for name in ("first_ts", "last_ts"):
        if row[name] is not None:
            metadata[name] = MetadataValue.timestamp(row[name])
    if row["last_close"] is not None:
        metadata["last_close"] = row["last_close"]
    return metadata


def _record_processed(
    context: AssetExecutionContext,
    database: Database,
    asset: str,
    timeframe: Timeframe,
    symbols: Sequence[str],
    outcome: Outcome,
    labels: Labels,
) -> None:
    """Log a materialization of each series that Dagster has not been told of, also those of a run that died."""
    with database.transaction() as transaction:
        rows = ledger.unrecorded(transaction, asset, timeframe, symbols)
    record(
        context,
        [
            AssetMaterialization(
                asset_key=AssetKey(asset),
                partition=f"{row['symbol']}|{timeframe.value}",
                metadata=_partition_metadata(row, outcome, labels),
                tags={"dagster/data_version": str(row["revision"]), "dagster/code_version": row["code_version"]},
            )
            for row in rows.iter_rows(named=True)
        ],
    )
    with database.transaction() as transaction:
        ledger.mark_recorded(transaction, asset, timeframe, rows)


def _describe_processed(
    context: AssetExecutionContext,
    database: Database,
    asset: str,
    timeframe: Timeframe,
    symbols: Sequence[str],
    outcome: Outcome,
    labels: Labels,
) -> None:
    """Hand Dagster the metadata of the partitions whose materializations it logs itself at the end of the step."""
    with database.transaction() as transaction:
        rows = ledger.unrecorded(transaction, asset, timeframe, symbols)
        describe(
            context,
            AssetKey(asset),
            {
                f"{row['symbol']}|{timeframe.value}": _partition_metadata(row, outcome, labels)
                for row in rows.iter_rows(named=True)
            },
        )
        ledger.mark_recorded(transaction, asset, timeframe, rows)
