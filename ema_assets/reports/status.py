"""The freshness of everything, in numbers that a person or a script can read. Writes nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from ema_assets.model.asset_names import EMA_SIGNALS
from ema_assets.model.averages import EMA, SLOW_SPAN, averaged, converged_after
from ema_assets.model.counts import counted, times
from ema_assets.model.timeframes import by_key
from ema_assets.refresh import left_alone
from ema_assets.refresh.plan import AT_ONCE, Publications, closed_bars
from ema_assets.reports import symbol_states
from ema_assets.store import latency as latencies
from ema_assets.store import ledger, provider_state, sync_failures
from ema_assets.store.database import Transaction

# What differs in one error of a signal or rule from run to run: the bar that it names, and its time limit.
_VARYING = r" of \S+ at \d{4}-\d\d-\d\d \d\d:\d\d UTC| with [0-9,]+ bars after \d+ seconds"


@dataclass(frozen=True, slots=True)
class AssetStatus:
    """Counts for one asset on one timeframe: its series, and those of them that are stale, missing or failing.

    Missing series were never computed, although their provider may have bars of them. Failing series that wait for
    their next attempt count as stale, too.
    `newest_ts` is the opening time of the newest bar that the asset has reached in any series, UTC.
    """

    asset: str
    timeframe: str
    series: int
    stale: int
    missing: int
    failing: int
    newest_ts: datetime | None


def by_asset(
    transaction: Transaction,
    now: datetime,
    publications: Publications = AT_ONCE,
    symbols: Sequence[str] | None = None,
) -> list[AssetStatus]:
    """Return the status of every asset and timeframe, in the order of the lineage and of the timeframes.

    Counts all symbols, or only `symbols`.
    """
    rows = ledger.summary(transaction, symbols).iter_rows(named=True)
    summary = {(row["asset"], row["timeframe"]): row for row in rows}
    closed = closed_bars(transaction, now, publications)
    due = ledger.stale(transaction, closed, now).select("asset", "symbol", "timeframe", "reason")
    alone = left_alone.behind(ledger.pausing(transaction, now), closed, now).select(due.columns)
    stale = pl.concat([due, alone])
    if symbols is not None:
        stale = stale.filter(pl.col("symbol").is_in(list(symbols)))
    # A series that only has to be reported to Dagster is up to date, and one with several reasons counts once.
    stale = stale.filter(pl.col("reason") != "not recorded")
    stale = stale.group_by("asset", "timeframe").agg(n=pl.col("symbol").n_unique())
    stale_count = {(asset, timeframe): count for asset, timeframe, count in stale.iter_rows()}
    known = ledger.known_timeframes(transaction)
    return [
        AssetStatus(
            asset=asset,
            timeframe=timeframe.key,
            series=row["series"],
            stale=stale_count.get((asset, timeframe.key), 0),
            missing=row["never_computed"],
            failing=row["failing"],
            newest_ts=row["newest_ts"],
        )
        for asset in ledger.assets(transaction)
        for timeframe in known
        if (row := summary.get((asset, timeframe.key))) is not None
    ]


@dataclass(frozen=True, slots=True)
class FailureReason:
    """A reason, the number of series that currently fail for it, and one of them.

    Reasons that differ only in the bar that they name, or in a time limit, count as one and have the same `topic`.
    """

    reason: str
    count: int
    example: str
    topic: str

    def __str__(self) -> str:
        more = f" and {self.count - 1} more" if self.count > 1 else ""
        return f"{self.example}{more}: {self.reason}"


def failure_reasons(transaction: Transaction) -> list[FailureReason]:
    """Return the reasons why series are currently failing, the most common one first."""
    failing = ledger.failing(transaction)
    topic = pl.col("last_error").str.replace_all(_VARYING, "")
    grouped = failing.group_by(topic.alias("topic"), maintain_order=True).agg(
        reason=pl.col("last_error").first(), count=pl.len(), example=pl.format("{}|{}", "symbol", "timeframe").first()
    )
    return [FailureReason(**row) for row in grouped.sort("count", descending=True, maintain_order=True).to_dicts()]


without_bars = ledger.without_bars


silent = symbol_states.silent
states_apart = symbol_states.states_apart
symbol_problems = symbol_states.problems
symbols_halted = symbol_states.halted


def warming_up(transaction: Transaction) -> list[str]:
    """Return a sentence per timeframe and asset whose averages have not converged: shortest timeframe and span first.

    The assets are `ema_signals` and the EMAs of other spans that strategies read.
    """
    return [
        f"{timeframe.key} of {counted(row['symbols'], 'symbol')}: {row['most_bars']} bars at "
        f"most, {'the averages need' if span == SLOW_SPAN else f'EMA {span} needs'} {converged_after(span)}"
        for timeframe, span, row in sorted(
            (
                (by_key(row["timeframe"]), span, row)
                for asset, span in _spans_on(transaction)
                for row in ledger.warming_up(transaction, asset).to_dicts()
            ),
            key=lambda found: found[:2],
        )
    ]


def _spans_on(transaction: Transaction) -> Iterator[tuple[str, int]]:
    """Yield the assets with EMAs that are switched on, each with its longest span."""
    for asset in ledger.assets(transaction):
        said = averaged(asset)
        if asset == EMA_SIGNALS:
            yield asset, SLOW_SPAN
        elif said is not None and said.kind == EMA:
            yield asset, said.spans[0]


def latency(transaction: Transaction, now: datetime) -> list[dict[str, object]]:
    """Return the latency from a bar's close to its strategy row over the last seven days, shortest timeframe first.

    Each row has timeframe, closes, series, p50_seconds, p99_seconds.
    """
    found = latencies.summary(transaction, now - timedelta(days=7)).to_dicts()
    return sorted(found, key=lambda row: by_key(row["timeframe"]))


def not_synced(transaction: Transaction) -> str | None:
    """Return since when and why the watchlist, or a user's signal or strategy, is not synced; None when it is."""
    failure = sync_failures.last(transaction)
    return None if failure is None else f"not taken up since {failure.since:%Y-%m-%d %H:%M} UTC: {failure.reason}"


def not_answering(transaction: Transaction, default_provider: str | None = None) -> list[str]:
    """Return a sentence per provider in use that currently does not answer, or did not describe all its symbols.

    `default_provider` is as in `provider_state.not_answering`.
    """
    return [
        f"{row['provider']} does not answer, tried {times(row['failures'])}, again at "
        # With the day, because a pause may last for days.
        f"{row['open_until']:%Y-%m-%d %H:%M:%S} UTC: {row['last_error']}"
        for row in provider_state.not_answering(transaction, default_provider).iter_rows(named=True)
    ] + [
        f"{provider} did not report the state of all its symbols, and is asked again the next night: {error}"
        for provider, error in provider_state.not_describing(transaction, default_provider).iter_rows()
    ]
