"""Materializations: from the ledger's rows to events that tell Dagster what was computed from what.

Dagster considers a partition stale when its newest event names other inputs than there are now. So each event carries
its own data version, which is the ledger's revision, and two tags per input: the data version that was read, and a
position in Dagster's event log up to which the input has not changed since. How events are logged is in `recording`.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

import polars as pl
from dagster import AssetExecutionContext, AssetKey, MetadataValue

from ema_assets.defs.event_rows import Made
from ema_assets.defs.recording import log_materializations
from ema_assets.model.asset_names import OHLC
from ema_assets.model.symbols import Series
from ema_assets.model.timeframes import Timeframe, by_key
from ema_assets.refresh.graph import Node
from ema_assets.refresh.outcome import Outcome
from ema_assets.reports import partition_page
from ema_assets.store import ledger
from ema_assets.store.database import Database, Transaction

# For a series that another run or a command has brought up to date.
_NOT_TOLD = "computed before, but not yet reported to Dagster"

# The series of a run end at the same few times.
_moment = lru_cache(MetadataValue.timestamp)

# Takes the provider of a series (None: the configured one). Returns what its materializations say about the prices.
Labels = Callable[[str | None], Mapping[str, str]]


class Recorder:
    """Reports to Dagster, in the step of `context`, what the ledger of `database` says."""

    def __init__(self, context: AssetExecutionContext, database: Database, labels: Labels) -> None:
        self._context = context
        # A project's prefix of the current asset's key applies to the keys of the other assets, too.
        prefix = context.asset_key.path[:-1]
        self._key: Callable[[str], AssetKey] = cache(lambda asset: AssetKey([*prefix, asset]))
        self._tags_of_input = cache(self._named_tags)
        self._database = database
        self._labels = cache(labels)  # it reads the settings, and a run has thousands of series

    def record(
        self, node: Node, timeframe: Timeframe, symbols: Sequence[str], outcome: Outcome, *, everything: bool
    ) -> None:
        """Log a materialization of each series that Dagster was not told of, also of a run that died.

        With `everything`, log one for each of `symbols` that has not failed: Dagster fails a backfill that leaves a
        partition out, even a partition without bars, or of a timeframe that the symbol's group does not have.
        """
        wanted = [symbol for symbol in symbols if symbol not in outcome.errors] if everything else symbols
        with self._database.transaction() as transaction:
            self._record(transaction, node.name, timeframe, wanted, _Told(node, outcome, everything))

    def _record(
        self, transaction: Transaction, asset: str, timeframe: Timeframe, symbols: Sequence[str], told: "_Told"
    ) -> None:
        ledger.lock_recording(transaction, asset, timeframe)
        rows = ledger.to_record(transaction, asset, timeframe, symbols, everything=told.everything)
        if untold := _untold(rows):
            # An event must exist before it can be named.
            for (source, source_timeframe), names in untold.items():
                self._record(transaction, source, source_timeframe, names, _Told())
            rows = ledger.to_record(transaction, asset, timeframe, symbols, everything=told.everything)
        page = _page(transaction, timeframe, rows, told)
        made = [
            self._made(asset, timeframe, row, told, page.get(str(row["symbol"]), {}))
            for row in rows.iter_rows(named=True)
        ]
        if told.everything:
            known = set(rows["symbol"])
            made += [self._of_no_series(Series(symbol, timeframe), told) for symbol in symbols if symbol not in known]
        ids = log_materializations(self._context, self._key(asset), made)
        events = [ids.get(str(Series(symbol, timeframe))) for symbol in rows["symbol"]]
        ledger.mark_recorded(transaction, asset, timeframe, rows.with_columns(event=pl.Series(events, dtype=pl.Int64)))

    def _made(
        self, asset: str, timeframe: Timeframe, row: Mapping[str, Any], told: "_Told", page: Mapping[str, Any]
    ) -> Made:
        provider = None if row["provider"] is None else str(row["provider"])
        metadata: dict[str, Any] = dict(self._labels(provider)) if asset == OHLC else {}
        if told.outcome is not None:
            metadata["rows_written"] = told.outcome.written.get(str(row["symbol"]), 0)
            metadata["stale_because"] = told.outcome.reasons.get(str(row["symbol"]), _NOT_TOLD)
        for name in ("first_ts", "last_ts", "final_through"):
            if row[name] is not None:
                metadata[name] = _moment(row[name])
        if asset == OHLC and row["last_close"] is not None:
            metadata["last_close"] = row["last_close"]
        metadata |= page
        return Made(
            partition=str(Series(row["symbol"], timeframe)),
            metadata=metadata,
            tags={
                "dagster/data_version": str(row["revision"]),
                "dagster/code_version": row["code_version"] or told.code_version,
                **self._input_tags(row),
            },
        )

    def _of_no_series(self, series: Series, told: "_Told") -> Made:
        """Return the event of a partition without a series in the ledger: not every symbol has every timeframe.

        Its version is that of a series that was never computed, and it names its inputs as never materialized.
        """
        reads = () if told.node is None else told.node.reads
        inputs = {"reads": reads, "read_versions": ["0"] * len(reads), "read_events": ["NULL"] * len(reads)}
        remark = f"nothing to compute: {series.timeframe.key} is not among the timeframes of the symbol"
        return Made(
            partition=str(series),
            metadata={"remark": remark},
            tags={
                "dagster/data_version": "0",
                "dagster/code_version": told.code_version,
                **self._input_tags(inputs),
            },
        )

    def _input_tags(self, row: Mapping[str, Any]) -> dict[str, str]:
        """Return the tags by which Dagster compares what was read with what there is now.

        To Dagster, a position in the event log is the id of an event: of all events of the input's partition, those up
        to it were read.
        """
        tags = {}
        for asset, version, event in zip(
            row["reads"] or (), row["read_versions"] or (), row["read_events"] or (), strict=True
        ):
            named_version, named_event = self._tags_of_input(asset)
            tags[named_version] = version
            tags[named_event] = str(event)
        return tags

    def _named_tags(self, asset: str) -> tuple[str, str]:
        name = self._key(asset).to_user_string()
        return f"dagster/input_data_version/{name}", f"dagster/input_event_pointer/{name}"


class _Told:
    """What is reported about a group of series in addition to the ledger's rows.

    Without an outcome: the series were computed by another run, or by a command without Dagster.
    """

    __slots__ = ("code_version", "everything", "node", "outcome")

    def __init__(self, node: Node | None = None, outcome: Outcome | None = None, everything: bool = False) -> None:
        self.node = node
        self.outcome = outcome
        self.code_version = "" if node is None else node.code_version
        self.everything = everything


def _page(
    transaction: Transaction, timeframe: Timeframe, rows: pl.DataFrame, told: _Told
) -> Mapping[str, Mapping[str, Any]]:
    """Return what a trader looks for on the pages of the partitions of `rows`, by symbol and name.

    A chart is drawn where something has happened in the newest bar, and for partitions that a person has requested.
    Rows are counted only for a person: for all series of a tick, counting would take as long as the rest of it.
    """
    node = told.node
    if node is None or rows.is_empty():
        return {}
    last = dict(rows.select("symbol", "last_ts").iter_rows())
    found: dict[str, dict[str, Any]] = {symbol: {} for symbol in last}
    newest = partition_page.newest_rows(transaction, node, timeframe, list(last))
    for symbol, values in partition_page.newest_values(node, newest, list(last)).items():
        found[symbol] |= values
    charted = set(last) if told.everything else partition_page.events(node, newest, last)
    for symbol, text in partition_page.charts(transaction, node, timeframe, charted).items():
        found[symbol]["chart"] = MetadataValue.md(text)
    if told.everything:
        for symbol, count in partition_page.row_counts(transaction, node, timeframe, list(last)).items():
            found[symbol]["dagster/partition_row_count"] = count
    unserved = set() if told.outcome is None else told.outcome.unserved
    for symbol, ts in last.items():
        if (remark := partition_page.remark(node, ts, is_served=symbol not in unserved)) is not None:
            found[symbol]["remark"] = remark
    return found


def _untold(rows: pl.DataFrame) -> dict[tuple[str, Timeframe], list[str]]:
    """Return the inputs of `rows` of which Dagster was not told yet: their symbols per asset and timeframe."""
    found: dict[tuple[str, Timeframe], list[str]] = defaultdict(list)
    for symbol, keys in rows.select("symbol", "untold").drop_nulls().iter_rows():
        for key in keys:
            asset, _, timeframe = key.partition("|")
            found[asset, by_key(timeframe)].append(symbol)
    return found
