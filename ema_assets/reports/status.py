"""How fresh everything is, in numbers a person or a script can read."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from ema_assets.config import renames
from ema_assets.model.timeframes import Timeframe, by_key
from ema_assets.refresh.plan import AT_ONCE, Publications, closed_bars
from ema_assets.signals.ema_signals import CONVERGED_AFTER_BARS
from ema_assets.store import latency as latencies
from ema_assets.store import ledger, provider_state
from ema_assets.store.database import Transaction


@dataclass(frozen=True, slots=True)
class AssetStatus:
    """One asset on one timeframe: how many series, how many of them stale, missing (never computed), failing.

    `newest_ts` is the opening time of the newest bar that the asset has reached in any series, UTC.
    """

    asset: str
    timeframe: str
    series: int
    stale: int
    missing: int
    failing: int
    newest_ts: datetime | None


def by_asset(transaction: Transaction, now: datetime, publications: Publications = AT_ONCE) -> list[AssetStatus]:
    """The status of every asset and timeframe, in the order of the lineage and of the timeframes."""
    summary = {(row["asset"], row["timeframe"]): row for row in ledger.summary(transaction).iter_rows(named=True)}
    stale = ledger.stale(transaction, closed_bars(transaction, now, publications), now)
    # A series that waits to be told to Dagster is up to date all the same.
    stale = stale.filter(pl.col("reason") != "not recorded").group_by("asset", "timeframe").agg(n=pl.len())
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


def progress(transaction: Transaction) -> dict[Timeframe, tuple[int, int]]:
    """Per timeframe, how many series have been computed to the end of the chain and told to Dagster, of how many.

    A series of which the provider has no bars counts as done; one that is fed from files counts once it has bars.
    """
    counted = {by_key(key): (done, series) for key, done, series in ledger.progress(transaction).iter_rows()}
    return {timeframe: counted[timeframe] for timeframe in sorted(counted)}


@dataclass(frozen=True, slots=True)
class FailureReason:
    """A reason, how many series fail for it at present, and one of them."""

    reason: str
    count: int
    example: str

    def __str__(self) -> str:
        more = f" and {self.count - 1} more" if self.count > 1 else ""
        return f"{self.example}{more}: {self.reason}"


def failure_reasons(transaction: Transaction) -> list[FailureReason]:
    """Why series fail at present, the commonest reason first."""
    failing = ledger.failing(transaction)
    grouped = failing.group_by("last_error", maintain_order=True).agg(
        n=pl.len(), example=pl.format("{}|{}", "symbol", "timeframe").first()
    )
    return [
        FailureReason(reason, count, example)
        for reason, count, example in grouped.sort("n", descending=True).iter_rows()
    ]


without_bars = ledger.without_bars


# What may have become of a symbol without bars.
WHY_SILENT = "it has ended, was renamed or is halted"


def silent(transaction: Transaction) -> list[str]:
    """A sentence for each symbol that has no bars any more."""
    return [
        f"{symbol}: no bar since {since:%Y-%m-%d}; {WHY_SILENT}, and is asked for once a day"
        for symbol, since in ledger.silent(transaction).iter_rows()
    ]


def warming_up(transaction: Transaction) -> list[str]:
    """A sentence per timeframe on which averages have not converged, shortest first."""
    found = {by_key(row["timeframe"]): row for row in ledger.warming_up(transaction).to_dicts()}
    return [
        f"{timeframe.key} of {row['symbols']} symbol{'' if row['symbols'] == 1 else 's'}: {row['most_bars']} bars at "
        f"most, the averages need {CONVERGED_AFTER_BARS}"
        for timeframe, row in sorted(found.items())
    ]


def symbol_problems(transaction: Transaction, symbols: Sequence[str]) -> list[str]:
    """A sentence for each of `symbols` that was renamed, has ended, or that its provider does not have; sorted."""
    wanted = set(symbols)
    found = {
        symbol: f"no bar since {since:%Y-%m-%d}: {WHY_SILENT}"
        for symbol, since in ledger.silent(transaction).iter_rows()
    }
    for series in ledger.without_bars(transaction):
        found.setdefault(series.partition("|")[0], "its provider has no bars of it; is it spelt right?")
    for symbol, error in ledger.failing(transaction).select("symbol", "last_error").iter_rows():
        if "has no symbol" in str(error):
            found.setdefault(symbol, str(error))
    for symbol in symbols:
        if (renamed := renames.current(symbol)) is not None:
            found[symbol] = (
                f"renamed to {renamed.to} on {renamed.since}: `ema-assets symbols add {renamed.to}` and "
                f"`ema-assets symbols remove {symbol}`"
            )
    return [f"{symbol}: {what}" for symbol, what in sorted(found.items()) if symbol in wanted]


def latency(transaction: Transaction, now: datetime) -> list[dict[str, object]]:
    """From a bar's close to its strategy row, over the last seven days, in the order of the timeframes.

    Each has timeframe, closes, series, p50_seconds, p99_seconds.
    """
    found = latencies.summary(transaction, now - timedelta(days=7)).to_dicts()
    return sorted(found, key=lambda row: by_key(row["timeframe"]))


def not_answering(transaction: Transaction) -> list[str]:
    """A sentence for each provider that does not answer at present."""
    return [
        f"{row['provider']} does not answer, asked {row['failures']} times, again at {row['open_until']:%H:%M:%S} UTC: "
        f"{row['last_error']}"
        for row in provider_state.not_answering(transaction).iter_rows(named=True)
    ]
