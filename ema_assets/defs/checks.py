"""Asset checks: bars sound, series fresh, failures named. All read the ledger; none reads history."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import polars as pl
from dagster import (
    AssetCheckEvaluation,
    AssetCheckExecutionContext,
    AssetCheckKey,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetExecutionContext,
    AssetKey,
    multi_asset_check,
)

from ema_assets.defs import partition_checks
from ema_assets.defs.namespace import ALONE, Namespace
from ema_assets.defs.recording import evaluations_of, log_checks
from ema_assets.defs.resources import MarketResource, StoreResource
from ema_assets.defs.ui_tables import ui_table
from ema_assets.model.asset_names import OHLC
from ema_assets.refresh.graph import Graph, Node
from ema_assets.refresh.plan import closed_bars
from ema_assets.reports import health

_ROWS_SHOWN = 50

_SPECS = [
    AssetCheckSpec(
        "bars_are_sound",
        asset=AssetKey(OHLC),
        description="No bar was rejected in the last 24 hours: prices above zero and finite, low ≤ open, close ≤ high.",
    ),
    AssetCheckSpec(
        "series_are_fresh",
        asset=AssetKey(OHLC),
        description=(
            "Every series has bars, was requested at most two bars before the last close, and lacks no hour of trading "
            "after its last bar."
        ),
    ),
    AssetCheckSpec(
        "bars_are_plausible",
        asset=AssetKey(OHLC),
        description=(
            "Names the bars that were flagged in the last 24 hours: a jump or a wick far beyond what is usual, or "
            "prices that were repaired. A flagged bar may be right, so this informs and does not fail."
        ),
    ),
    AssetCheckSpec(
        "no_bar_is_missing",
        asset=AssetKey(OHLC),
        description=(
            "No bar that the calendar has is missing and still requested. Bars that the provider kept leaving out did "
            "not trade, and are only counted."
        ),
    ),
    AssetCheckSpec(
        "the_past_stands",
        asset=AssetKey(OHLC),
        description=(
            "No stored bar was changed in the last 24 hours: corrections and splits, how many rows were computed again "
            "for each, and which crossovers and trades have changed."
        ),
    ),
    AssetCheckSpec(
        "calendars_reach_ahead",
        asset=AssetKey(OHLC),
        description=(
            "Every calendar in use has sessions for the next 30 days. exchange_calendars knows some only to the end of "
            "the year: without sessions nothing looks stale; install its newest release."
        ),
    ),
]


def _specs(graph: Graph, namespace: Namespace) -> list[AssetCheckSpec]:
    found = [
        *_SPECS,
        *(
            AssetCheckSpec("no_series_fails", asset=AssetKey(node.name), description=_no_series_fails(node))
            for node in graph.on
        ),
    ]
    return [each.replace_key(AssetCheckKey(_within(namespace, each.asset_key), each.name)) for each in found]


def _within(namespace: Namespace, key: AssetKey | None) -> AssetKey:
    """Return the key that an asset of this module has in `namespace`."""
    assert key is not None
    return namespace.key(key.path[-1])


def _no_series_fails(node: Node) -> str:
    said = "The last attempt succeeded for every series; the failing ones are named with the reason."
    if node.name == OHLC:
        return said
    *others, last = node.reads
    reads = f"{', '.join(others)} or {last}" if others else last
    # One check instead of two: each costs a run of any size 5 ms per asset.
    return f"{said} And none waits for more than 15 minutes to be computed after a change of {reads}."


def series_checks(graph: Graph, namespace: Namespace = ALONE) -> AssetChecksDefinition:
    """Return all checks of all assets as one definition: they read the ledger once and cost a run one step."""

    # A backfill of some assets includes the checks of these.
    @multi_asset_check(name=namespace.name("series_checks"), specs=_specs(graph, namespace), can_subset=True)
    @namespace.own_resources
    def checks(context: AssetCheckExecutionContext, store: StoreResource, market: MarketResource) -> Iterator[Any]:
        results, partitions = _results(graph, store, market, namespace)
        wanted = {(key.asset_key, key.name) for key in context.selected_asset_check_keys}
        yield from log_checks(
            context, [each for each in results if (each.asset_key, each.check_name) in wanted], partitions
        )

    return checks


def log_for_failed_step(
    context: AssetExecutionContext, graph: Graph, store: StoreResource, market: MarketResource, namespace: Namespace
) -> None:
    """Log the checks of all assets of a run in which a step has failed: Dagster skips the step of the checks.

    Otherwise they would show the previous result, and none at all once an asset is materialized again.
    """
    results, _ = _results(graph, store, market, namespace)
    # A run of a whole job has no selection.
    chosen = context.run.asset_selection
    results = [each for each in results if not chosen or each.asset_key in chosen]
    for evaluation in evaluations_of(context, results):
        context.log_event(evaluation)


def _results(
    graph: Graph, store: StoreResource, market: MarketResource, namespace: Namespace
) -> tuple[list[AssetCheckResult], list[AssetCheckEvaluation]]:
    """Return the results of all checks, and of the partition checks whose result has changed."""
    now, machine_now = market.now(), market.machine_now()
    day_ago = machine_now - timedelta(hours=24)
    with store.open() as database, database.transaction() as transaction:
        rejected = health.rejected_since(transaction, day_ago)
        flagged = health.flagged_since(transaction, day_ago)
        gaps = health.open_gaps(transaction)
        not_traded = health.settled_gaps(transaction)
        revised = health.revised_since(transaction, day_ago)
        ending = health.ending_calendars(transaction, now + timedelta(days=30))
        late = health.late_series(transaction, closed_bars(transaction, now, market.publications()))
        failing = health.failing(transaction)
        waiting = health.waiting_since(transaction, machine_now - timedelta(minutes=15))
        partitions = partition_checks.changed(transaction, namespace.key(OHLC), health.series_problems(failing, late))
    results = [
        _result(OHLC, "bars_are_sound", rejected, "{} rejected bar{s}", count=int(rejected["bars"].sum())),
        _result(OHLC, "series_are_fresh", late, "{} series late or without bars"),
        _result(OHLC, "bars_are_plausible", flagged, "{} flagged bar{s}", informs=True),
        _result(OHLC, "no_bar_is_missing", gaps, "{} open gap{s}", also={"bars_not_traded": not_traded}),
        _result(OHLC, "the_past_stands", revised, "{} revision{s}"),
        _result(OHLC, "calendars_reach_ahead", ending, "{} ending calendar{s}"),
    ]
    for node in graph.on:
        rows = failing.filter(asset=node.name)
        waits = waiting.filter(asset=node.name)
        if rows.is_empty() and not waits.is_empty():
            results.append(_result(node.name, "no_series_fails", waits, "{} series waiting"))
        else:
            also = {"series_waiting": waits.height}
            results.append(
                _result(node.name, "no_series_fails", rows, "{} series failing", AssetCheckSeverity.ERROR, also=also)
            )
    return [each._replace(asset_key=_within(namespace, each.asset_key)) for each in results], partitions


def _result(
    asset: str,
    check: str,
    rows: pl.DataFrame,
    counted: str,
    severity: AssetCheckSeverity = AssetCheckSeverity.WARN,
    also: Mapping[str, object] | None = None,
    *,
    count: int | None = None,
    informs: bool = False,
) -> AssetCheckResult:
    """Return the result of a check that should find no `rows`. In `counted`, {} is the count and {s} the plural ending.

    `count` replaces the number of rows. A check that only `informs` passes in any case.
    """
    number = rows.height if count is None else count
    metadata: dict[str, Any] = {"count": number, **(also or {})}
    if not rows.is_empty():
        metadata[counted.format("", s="s").strip()] = ui_table(rows.head(_ROWS_SHOWN))
    said = counted.format("No" if rows.is_empty() else f"{number:,}", s="" if number == 1 else "s")
    return AssetCheckResult(
        passed=informs or rows.is_empty(),
        asset_key=AssetKey(asset),
        check_name=check,
        severity=severity,
        description=said,
        metadata=metadata,
    )
