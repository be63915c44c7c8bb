"""Raises alerts in the transaction in which their bars are computed. Imported only if alerts are configured.

An alert is about a bar that has just closed and was computed for the first time. So nothing is raised for a series that
is computed for the first time, for what a person has materialized, for bars that were computed before (such as with
another code version, or after a correction), for bars from files, and for a bar that is not the newest of its series,
unless it closed within LATEST. Corrections have their own kinds of alerts.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import polars as pl

from ema_assets.alerts.declaration import STRATEGIES, TRENDS, Batch, SeriesKind
from ema_assets.alerts.subscriptions import Alerts, Subscription
from ema_assets.model.asset_names import EMA_TREND
from ema_assets.model.averages import asset_of, ema_name, spans_text, trend_spans
from ema_assets.model.errors import WatchlistError, did_you_mean
from ema_assets.model.schemas import UTC_TIME
from ema_assets.model.symbols import Series
from ema_assets.model.timeframes import Timeframe
from ema_assets.providers import registry
from ema_assets.refresh import longer_trends
from ema_assets.refresh.graph import Graph, Node
from ema_assets.refresh.plan import closed_bars
from ema_assets.store import alert_outbox
from ema_assets.store.database import Transaction

# After a late run, two bars may arrive at once. Alerts are raised for both.
LATEST = timedelta(minutes=15)
# A run begins within minutes after the close for which it was launched.
_SLACK = timedelta(minutes=10)


def checked(alerts: Alerts, graph: Graph, where: str) -> Alerts:
    """Return `alerts`, with the averages that the strategies of each subscription use filled in.

    Raises:
        WatchlistError: when a subscription needs what `graph` does not compute; it names the subscription and what is
            allowed. `where` names the file.
    """
    subscriptions = []
    for subscription in alerts.subscriptions:
        place = f"{where}: alert {subscription.name!r}"
        for name in subscription.strategies or ():
            if name not in graph.strategies:
                raise WatchlistError(
                    f"{place}: `strategies` must name {', '.join(graph.strategies) or 'none, for there are none'}; "
                    f"received {name!r}{did_you_mean(name, graph.strategies)}"
                )
        for averages in subscription.averages or ():
            if averages not in graph.averages:
                raise WatchlistError(
                    f"{place}: `averages` must name averages that a strategy compares, "
                    f"{', '.join(graph.averages) or 'of which there are none'}; received {averages!r}"
                    f"{did_you_mean(averages, graph.averages)}"
                )
        for kind in subscription.series_kinds():
            read = {*kind.reads, *(() if kind.asset in (STRATEGIES, TRENDS) else (kind.asset,))}
            if kind.asset == TRENDS and not graph.averages:
                read.add(EMA_TREND)
            if missing := sorted(name for name in read if not graph.has(name)):
                raise WatchlistError(f"{place}: {kind.name} needs {', '.join(missing)}, which is switched off")
            if kind.asset == STRATEGIES and not graph.strategies:
                raise WatchlistError(f"{place}: {kind.name} needs a strategy, and all of them are switched off")
        subscriptions.append(_narrowed(subscription, graph, place))
    return replace(alerts, subscriptions=tuple(subscriptions))


def _narrowed(subscription: Subscription, graph: Graph, place: str) -> Subscription:
    """Return `subscription` with the averages that its `strategies` use, unless it names `averages` itself.

    Crossovers belong to averages and not to strategies.
    """
    if subscription.strategies is None or subscription.averages is not None:
        return subscription
    variants = (graph.nodes[name].variant for name in subscription.strategies)
    trends = {variant.trend for variant in variants if variant is not None}
    averages = tuple(name for name, trend in graph.averages.items() if trend in trends)
    kind = next((kind.name for kind in subscription.series_kinds() if kind.asset == TRENDS), None)
    if kind is not None and not averages:
        raise WatchlistError(
            f"{place}: {kind} is about two EMAs, and {', '.join(subscription.strategies)} compares none; name the "
            f"`averages`: {', '.join(graph.averages)}"
        )
    return replace(subscription, averages=averages)


def subscribed(alerts: Alerts, node: Node, timeframe: Timeframe) -> list[tuple[Subscription, SeriesKind]]:
    """Return the subscriptions to alerts about `node` on `timeframe`, one pair per subscription and kind."""
    strategy = node.name if node.variant is not None else None
    spans = trend_spans(node.name)
    asset = STRATEGIES if node.variant is not None else TRENDS if spans is not None else node.name
    averages = None if spans is None else spans_text(spans)
    return [
        (subscription, kind)
        for subscription in alerts.subscriptions
        if subscription.is_about(timeframe.key, strategy, averages)
        for kind in subscription.series_kinds()
        if kind.asset == asset
    ]


def raise_alerts(
    transaction: Transaction,
    wanted: Sequence[tuple[Subscription, SeriesKind]],
    node: Node,
    timeframe: Timeframe,
    known: pl.DataFrame,
    rows: pl.DataFrame,
    flipped: pl.DataFrame,
    now: datetime,
) -> int:
    """Write the alerts about `rows`, which were just written, for the `wanted` subscriptions; return how many.

    This usually takes at most two statements: one reads what belongs to the same bars, one writes the alerts. A kind
    that is raised once per leg takes one more. It takes none when no alert is due.

    Args:
        transaction: the transaction in which the rows were written.
        wanted: as `subscribed` returns it.
        node: the asset of the rows.
        timeframe: the timeframe of the rows.
        known: symbol, from_ts, known_through (the last bar computed before, null for none), newest (the last one now).
        rows: symbol, and the columns of the table of `node`.
        flipped: symbol, flipped.
        now: the market's time, UTC.
    """
    known = known.filter(pl.col("known_through").is_not_null() & pl.col("newest").is_not_null())
    if known.is_empty():
        return 0
    known, rows = longer_trends.decided(transaction, node, timeframe, known, rows, now)
    live = known.filter(pl.col("newest") > pl.col("known_through"))
    if live.is_empty():
        # Only past bars have changed, which can only raise alerts about corrections.
        wanted = [each for each in wanted if each[1].is_of_corrections]
    batch = Batch(
        rows=rows.join(live.drop("from_ts"), on="symbol", how="inner", maintain_order="left"),
        flipped=flipped.join(known.select("symbol", "from_ts"), on="symbol", how="inner"),
        now=now,
        spans=trend_spans(node.name),
    )
    beside, batch = _read_ahead(transaction, wanted, timeframe, live, batch)
    found = list(_found(wanted, batch))
    if not found:
        return 0
    news = [each for each in found if not each[1].is_of_corrections]
    raised = [
        *_per_leg(transaction, _of_bars(transaction, news, timeframe, live, beside, now), node, timeframe),
        *_of_corrections(transaction, [each for each in found if each[1].is_of_corrections], timeframe),
    ]
    alerts = [_as_alerts(subscription, kind, node, timeframe, each) for subscription, kind, each in raised]
    return alert_outbox.raise_alerts(transaction, pl.concat(alerts)) if alerts else 0


_Found = tuple[Subscription, SeriesKind, pl.DataFrame]


def _read_ahead(
    transaction: Transaction,
    wanted: Sequence[tuple[Subscription, SeriesKind]],
    timeframe: Timeframe,
    live: pl.DataFrame,
    batch: Batch,
) -> tuple[pl.DataFrame | None, Batch]:
    """Read what the wanted kinds need of the newest bars in other assets; return it and `batch` with it.

    Without such kinds, the first is None and `batch` is unchanged.
    """
    reads: dict[str, tuple[str, ...]] = {}
    named: dict[str, str] = {}
    for _, kind in wanted:
        reads |= kind.reads
        if kind.reads_averages and batch.spans is not None:
            named = dict(zip(map(ema_name, batch.spans), ("fast", "slow"), strict=True))
    for column in named:
        reads[asset_of(column)] = (*reads.get(asset_of(column), ()), column)
    if not reads or live.is_empty():
        return None, batch
    bars = live.select("symbol", ts="newest")
    beside = alert_outbox.surroundings(transaction, timeframe, bars, reads).rename(named)
    read = [named.get(name, name) for asset, names in reads.items() for name in names]
    rows = batch.rows.join(beside.select("symbol", "ts", *read), on=["symbol", "ts"], how="left", maintain_order="left")
    return beside, replace(batch, rows=rows)


def _found(wanted: Sequence[tuple[Subscription, SeriesKind]], batch: Batch) -> Iterator[_Found]:
    for subscription, kind in wanted:
        rows = kind.find(batch, subscription.params)
        if subscription.symbols is not None:
            rows = rows.filter(pl.col("symbol").is_in(list(subscription.symbols)))
        if not rows.is_empty():
            yield subscription, kind, rows


def _of_bars(
    transaction: Transaction,
    found: Sequence[_Found],
    timeframe: Timeframe,
    live: pl.DataFrame,
    beside: pl.DataFrame | None,
    now: datetime,
) -> Iterator[_Found]:
    """Yield the rows of `found` whose bar has just closed, with its close."""
    if not found:
        return
    bars = pl.concat(rows.select("symbol", "ts") for *_, rows in found).unique(maintain_order=True)
    if beside is None or not bars.join(beside, on=["symbol", "ts"], how="anti").is_empty():
        beside = alert_outbox.surroundings(transaction, timeframe, bars, {})
    beside = of_providers(beside).join(live.select("symbol", "newest"), on="symbol")
    told = _just_closed(transaction, beside, timeframe, now).select("symbol", "ts", "close", "is_synthetic")
    for subscription, kind, rows in found:
        news = rows.drop("close", strict=False).join(told, on=["symbol", "ts"], how="inner", maintain_order="left")
        if not news.is_empty():
            yield subscription, kind, news


def _per_leg(transaction: Transaction, found: Iterable[_Found], node: Node, timeframe: Timeframe) -> Iterator[_Found]:
    """Yield `found`; of kinds that are raised once per leg of a trend, the time of its first bar is the occurrence.

    Its number is not: it changes when older history arrives.
    """
    for subscription, kind, rows in found:
        if not kind.is_per_leg:
            yield subscription, kind, rows
            continue
        legs = alert_outbox.last_crosses(transaction, node.name, timeframe, rows["symbol"])
        begins = pl.col("crossed_at").dt.to_string("iso").fill_null("first")
        of_legs = rows.join(legs, on="symbol", how="left", maintain_order="left").with_columns(occurrence=begins)
        yield subscription, kind, of_legs


def _just_closed(transaction: Transaction, bars: pl.DataFrame, timeframe: Timeframe, now: datetime) -> pl.DataFrame:
    """Return the rows of `bars` that closed a short while ago.

    Columns: symbol, ts, newest, calendar, delay_seconds and publication_delay, as its provider reports and declares.
    """
    length, delay = (
        pl.lit(timeframe.duration),
        pl.max_horizontal(pl.duration(seconds="delay_seconds"), "publication_delay"),
    )
    is_newest = pl.col("ts") == pl.col("newest")
    # The next bar has not closed yet, or closed so recently that its run has not begun.
    is_recent = (is_newest & (pl.col("ts") + length * 2 + delay + _SLACK >= now)) | (
        pl.col("ts") + length + delay + LATEST >= now
    )
    recent = bars.filter(is_recent)
    rest = bars.filter(is_newest & ~is_recent)
    parts = [recent]
    # Friday's last bar is still the newest on Monday before the first close of the day. The calendar knows this.
    for (declared,), rows in rest.partition_by("publication_delay", as_dict=True).items():
        closed = closed_bars(transaction, now - declared, timeframes=[timeframe])
        last = closed.group_by("calendar").agg(last=pl.col("ts").max())
        parts.append(rows.join(last, on="calendar").filter(pl.col("ts") >= pl.col("last")).drop("last"))
    return pl.concat(parts)


def _of_corrections(transaction: Transaction, found: Sequence[_Found], timeframe: Timeframe) -> Iterator[_Found]:
    """Yield the rows of `found` that a provider's revision explains. Users know of changes from their own files."""
    if not found:
        return
    symbols = pl.concat(rows["symbol"] for *_, rows in found).unique()
    revisions = alert_outbox.latest_revisions(transaction, timeframe, symbols)
    revisions = of_providers(revisions).select("symbol", "detail", "is_synthetic", occurrence="revision")
    for subscription, kind, rows in found:
        explained = rows.join(revisions, on="symbol", how="inner", maintain_order="left")
        if not explained.is_empty():
            yield subscription, kind, explained


def of_providers(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the `rows` whose `source` is a provider or null.

    Columns added: is_synthetic, whether its prices are synthetic; publication_delay, which it declares. A source with
    any other name is a file.
    """
    providers = {name: registry.find(name) for name in rows["source"].drop_nulls().unique()}
    files = [name for name, provider in providers.items() if provider is None]
    made_up = [name for name, provider in providers.items() if provider is not None and provider.is_synthetic]
    delays = {name: provider.publication_delay for name, provider in providers.items() if provider is not None}
    source = pl.col("source")
    return rows.filter(~source.is_in(files).fill_null(value=False)).with_columns(
        is_synthetic=source.is_in(made_up).fill_null(value=False),
        publication_delay=source.replace_strict(delays, default=timedelta(0), return_dtype=pl.Duration("us")),
    )


def _as_alerts(
    subscription: Subscription, kind: SeriesKind, node: Node, timeframe: Timeframe, rows: pl.DataFrame
) -> pl.DataFrame:
    """Return one alert per row: ALERT_SCHEMA."""
    strategy = node.name if node.variant is not None else None
    if "occurrence" not in rows.columns:
        rows = rows.with_columns(occurrence=pl.col("ts").dt.to_string("iso"))
    spans = trend_spans(node.name)
    fast_span, slow_span = spans or (None, None)
    shared = {"timeframe": timeframe.key, "strategy": strategy, "fast_span": fast_span, "slow_span": slow_span}
    texts = [kind.say({**row, **shared}) for row in rows.iter_rows(named=True)]
    of_trend = "" if spans is None or node.name == EMA_TREND else f" {spans_text(spans)}"
    behind = of_trend if strategy is None else f" {strategy}"
    return rows.select(
        subscription=pl.lit(subscription.name),
        kind=pl.lit(kind.name),
        subject=pl.Series([f"{Series(symbol, timeframe)}{behind}" for symbol in rows["symbol"]]),
        occurrence="occurrence",
        symbol="symbol",
        timeframe=pl.lit(timeframe.key),
        strategy=pl.lit(strategy, pl.String),
        ts=pl.col("ts").cast(UTC_TIME),
        text=pl.Series(texts),
        is_over=pl.lit(value=False),
        is_synthetic="is_synthetic",
    )


def known_of(claimed: pl.DataFrame, seen: pl.DataFrame) -> pl.DataFrame:
    """Return `known` for `raise_alerts`; `claimed` is as `ledger.claim` returns it, `seen` has symbol and last_ts."""
    return claimed.select("symbol", "from_ts", known_through="last_ts").join(
        seen.select("symbol", newest="last_ts"), on="symbol", how="left"
    )
