"""Backfills: any choice of partitions is covered by as few runs as possible, which leave room for the newest bars.

Dagster makes one run per contiguous range, of symbols on one timeframe or of timeframes of one symbol: twenty scattered
symbols on six timeframes are 120 runs. A run can process any partitions, though. So our runs span the chosen partitions
as a rectangle and carry the list of chosen ones: as a tag until the run is stored, from then on as the run's
partitions. The place where Dagster requests the runs of a backfill is not public API: when it is not as we know it,
Dagster makes its own runs, with the same result. Only this module uses Dagster's private API to make runs of backfills.
"""

import importlib
import inspect
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from dagster import (
    AssetExecutionContext,
    DagsterInvalidInvocationError,
    DagsterRun,
    MultiPartitionsDefinition,
    OpExecutionContext,
    PartitionKeyRange,
    RunRequest,
)
from dagster._core.definitions.partitions.subset import KeyRangesPartitionsSubset

from ema_assets.config.settings import Settings
from ema_assets.defs.namespace import ALONE
from ema_assets.defs.run_tags import (
    BACKFILL_PRIORITY,
    BACKGROUND_LANE,
    FAILED_TAG,
    LANE_TAG,
    PARTITION_TAG,
    PRIORITY_TAG,
    PURPOSE_TAG,
    RANGE_END_TAG,
    RANGE_START_TAG,
    RETRY_RUN_TAG,
)
from ema_assets.model.asset_names import ROWS_TAG
from ema_assets.model.errors import InvalidKeyError
from ema_assets.model.symbols import Series
from ema_assets.model.timeframes import by_key

BACKFILL_TAG = "dagster/backfill"
# Carries the chosen partitions from Dagster's daemon to the storage; a stored tag could not be as long.
CHOSEN_TAG = "ema_assets/partitions"

_NOT_AS_KNOWN = (ImportError, AttributeError, TypeError)
_ASK = "build_run_requests_with_backfill_policies"
_BUILD = "_build_run_requests_with_backfill_policy"
_REQUESTED = "_get_requested_asset_graph_subset_from_run_requests"
# The names of the parameters that Dagster passes for one group of assets with the same partitions.
_BUILD_PARAMETERS = [
    "asset_keys",
    "asset_check_keys",
    "backfill_policy",
    "partition_keys",
    "partitions_def",
    "tags",
    "dynamic_partitions_store",
]


@dataclass(frozen=True, slots=True)
class Chunk:
    """The partitions of one run, in order, and the corners of the rectangle that spans them."""

    partitions: tuple[str, ...]
    first: Series
    last: Series
    is_whole: bool


def chunks(chosen: Iterable[str], symbols: Sequence[str], timeframes: Sequence[str], most: int) -> list[Chunk]:
    """Cover the `chosen` partitions with as few runs as `most` partitions per run allow.

    A symbol's timeframes stay in one run, so that they are computed in order. `symbols` and `timeframes` list the
    partitions of both dimensions in their order, which determines what a rectangle spans.
    """
    place = {timeframe: number for number, timeframe in enumerate(timeframes)}
    by_symbol: defaultdict[str, list[str]] = defaultdict(list)
    for partition in chosen:
        series = Series.parse(partition)
        by_symbol[series.symbol].append(series.timeframe.key)
    groups: list[list[str]] = []
    size = 0
    for symbol in (each for each in symbols if each in by_symbol):
        size += len(by_symbol[symbol])
        if not groups or size > most:
            groups.append([])
            size = len(by_symbol[symbol])
        groups[-1].append(symbol)
    return [_chunk(group, by_symbol, symbols, timeframes, place) for group in groups]


def _chunk(
    group: Sequence[str],
    by_symbol: dict[str, list[str]],
    symbols: Sequence[str],
    timeframes: Sequence[str],
    place: dict[str, int],
) -> Chunk:
    keys = [(symbol, key) for symbol in group for key in sorted(by_symbol[symbol], key=place.__getitem__)]
    places = [place[key] for _, key in keys]
    across = symbols.index(group[-1]) - symbols.index(group[0]) + 1
    area = across * (max(places) - min(places) + 1)
    return Chunk(
        partitions=tuple(str(Series(symbol, by_key(key))) for symbol, key in keys),
        first=Series(group[0], by_key(timeframes[min(places)])),
        last=Series(group[-1], by_key(timeframes[max(places)])),
        is_whole=area == len(keys),
    )


# The partitions that the last run spans. Dagster makes an object of each, again in every step.
_spanned: dict[str, list[str]] = {}


class PartitionsRemoved(Exception):
    """A run's range begins or ends with a partition that no longer exists."""


def run_partitions(context: AssetExecutionContext | OpExecutionContext) -> list[str]:
    """Return the partitions that the run of `context` is for: only the chosen ones when it spans others, too.

    Raises:
        PartitionsRemoved: when the watchlist has lost the timeframe of such a partition since the run was launched, or
            never had the partition. Symbols remain partitions as long as a run names them.
    """
    run_id = context.run.run_id
    try:
        if run_id not in _spanned:
            _spanned.clear()
            _spanned[run_id] = [str(key) for key in context.partition_keys]
    except DagsterInvalidInvocationError:
        tags = context.run.tags
        named = (PARTITION_TAG, RANGE_START_TAG, RANGE_END_TAG)
        ends = dict.fromkeys(tags[tag] for tag in named if tag in tags)
        raise PartitionsRemoved(
            f"the watchlist does not have all partitions of this run: {' to '.join(ends)}"
        ) from None
    spanned, chosen = _spanned[run_id], _chosen(context.run)
    return [key for key in spanned if chosen is None or key in chosen]


def as_stored(run: DagsterRun, parent: DagsterRun | None) -> DagsterRun:
    """Return `run` as the storage keeps it: runs of a person get their chosen partitions and follow the newest bars.

    `parent` is the run that this one retries, automatically or because a person asked for it, within its backfill or
    not. Runs whose partitions are not series are returned unchanged.
    """
    if not _is_of_series(run):
        return run
    tags = {LANE_TAG: BACKGROUND_LANE, PRIORITY_TAG: BACKFILL_PRIORITY, **run.tags}
    for of_parent in (FAILED_TAG, RETRY_RUN_TAG) if parent is not None else ():
        # Dagster copies all tags, including those that say how the parent run has ended.
        tags.pop(of_parent, None)
    chosen = tags.pop(CHOSEN_TAG, None)
    subset = run.partitions_subset
    if chosen is not None:
        subset = _subset(json.loads(chosen))
    elif subset is None and parent is not None and _corners(parent) == _corners(run):
        subset = parent.partitions_subset
    return run._replace(tags=tags, partitions_subset=subset)


def _is_of_series(run: DagsterRun) -> bool:
    """Return whether `run` is for partitions such as `AAPL|5m`."""
    with suppress(InvalidKeyError):
        return bool(Series.parse(run.tags.get(RANGE_START_TAG) or run.tags.get(PARTITION_TAG, "")))
    return False


def _corners(run: DagsterRun) -> tuple[str | None, str | None]:
    return run.tags.get(RANGE_START_TAG), run.tags.get(RANGE_END_TAG)


def as_planned(run: DagsterRun) -> DagsterRun:
    """Return the stored `run`, changed so that Dagster logs only its chosen partitions as planned.

    Dagster would log every partition that it spans, and show all as in progress or failed.
    """
    if (chosen := _chosen(run)) is not None:
        from dagster._core.definitions.partitions.subset import DefaultPartitionsSubset

        # Replaces the method on this one object.
        run.__dict__["get_resolved_partitions_subset_for_events"] = lambda _: DefaultPartitionsSubset(chosen)
    return run


def _subset(chosen: Sequence[str]) -> KeyRangesPartitionsSubset:
    """Return the chosen partitions as key ranges, one per partition.

    The other kind of subset that a run can have is for time.
    """
    from dagster._core.definitions.partitions.snap import PartitionsSnap

    return KeyRangesPartitionsSubset(
        key_ranges=[PartitionKeyRange(each, each) for each in chosen],
        # Says how to expand ranges of several partitions; each of ours has one.
        partitions_snap=PartitionsSnap.from_def(ALONE.symbols),
    )


def _chosen(run: DagsterRun) -> set[str] | None:
    """Return the chosen partitions of `run`, or None when it processes all that it spans."""
    subset = run.partitions_subset
    if LANE_TAG not in run.tags or not isinstance(subset, KeyRangesPartitionsSubset):
        return None
    return {each.start for each in subset.key_ranges}


def install() -> bool:
    """Make Dagster call this module for the runs of backfills; return False when Dagster is not as we know it.

    It is for Dagster's daemon, which makes these runs. Calling it again changes nothing.
    """
    try:
        building: Any = importlib.import_module("dagster._core.definitions.automation_tick_evaluation_context")
        bookkeeping: Any = importlib.import_module("dagster._core.execution.asset_backfill")
        ask, build = getattr(bookkeeping, _ASK), getattr(building, _BUILD)
        requested = getattr(bookkeeping, _REQUESTED)
        if build is _build:
            return True
        if _parameters(ask) != ["asset_partitions", "asset_graph", "dynamic_partitions_store"]:
            return False
        if _parameters(build) != _BUILD_PARAMETERS or _parameters(requested) != ["run_requests", "asset_graph_view"]:
            return False
    except _NOT_AS_KNOWN:
        return False
    _dagsters.update(ask=ask, build=build, requested=requested)
    setattr(bookkeeping, _ASK, _ask)
    setattr(building, _BUILD, _build)
    setattr(bookkeeping, _REQUESTED, _requested)
    return True


def _parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


# Dagster's own functions, which handle all other assets.
_dagsters: dict[str, Any] = {}
# The asset graph of the backfill whose runs are being requested.
_graph: ContextVar[Any] = ContextVar("graph", default=None)


def _ask(asset_partitions: Iterable[Any], asset_graph: Any, dynamic_partitions_store: Any) -> Sequence[RunRequest]:
    """Stand in for Dagster's `build_run_requests_with_backfill_policies`, which passes no asset graph to `_build`."""
    token = _graph.set(asset_graph)
    try:
        found: Sequence[RunRequest] = _dagsters["ask"](asset_partitions, asset_graph, dynamic_partitions_store)
        return found
    finally:
        _graph.reset(token)


def _build(
    asset_keys: list[Any],
    asset_check_keys: list[Any],
    backfill_policy: Any,
    partition_keys: frozenset[str],
    partitions_def: Any,
    tags: dict[str, Any],
    dynamic_partitions_store: Any,
) -> Sequence[RunRequest]:
    """Stand in for Dagster's `_build_run_requests_with_backfill_policy`."""
    if not _are_ours(asset_keys, partitions_def):
        own: Sequence[RunRequest] = _dagsters["build"](
            asset_keys,
            asset_check_keys,
            backfill_policy,
            partition_keys,
            partitions_def,
            tags,
            dynamic_partitions_store,
        )
        return own
    symbols, timeframes = (
        each.partitions_def.get_partition_keys(dynamic_partitions_store=dynamic_partitions_store)
        for each in partitions_def.partitions_defs
    )
    most = Settings.from_env().series_per_run
    return [
        RunRequest(
            asset_selection=asset_keys,
            asset_check_keys=asset_check_keys,
            tags={
                **tags,
                RANGE_START_TAG: str(chunk.first),
                RANGE_END_TAG: str(chunk.last),
                PURPOSE_TAG: f"backfill, {len(chunk.partitions)} series",
                **({} if chunk.is_whole else {CHOSEN_TAG: json.dumps(chunk.partitions)}),
            },
        )
        for chunk in chunks(partition_keys, symbols, timeframes, most)
    ]


def _are_ours(asset_keys: Sequence[Any], partitions_def: Any) -> bool:
    """Return whether all of these assets belong to this package, in any namespace.

    A host's own assets may have the same partitions. They read them from their context and have their own backfill
    policy.
    """
    graph = _graph.get()
    if graph is None or not isinstance(partitions_def, MultiPartitionsDefinition):
        return False
    return all(ROWS_TAG in graph.get(key).tags for key in asset_keys)


def _requested(run_requests: Sequence[RunRequest], asset_graph_view: Any) -> Any:
    """Stand in for Dagster's `_get_requested_asset_graph_subset_from_run_requests`: count only chosen partitions.

    Dagster would count the whole range as in progress.
    """
    from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
    from dagster._core.definitions.events import AssetKeyPartitionKey

    found = _dagsters["requested"]([each for each in run_requests if CHOSEN_TAG not in each.tags], asset_graph_view)
    for request in run_requests:
        if CHOSEN_TAG in request.tags:
            pairs = {
                AssetKeyPartitionKey(key, partition)
                for key in request.asset_selection or ()
                for partition in json.loads(request.tags[CHOSEN_TAG])
            }
            found = found | AssetGraphSubset.from_asset_partition_set(
                pairs, asset_graph_view.asset_graph, validate_time_range=False
            )
    return found
