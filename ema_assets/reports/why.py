"""Why a series is fresh or not, in plain sentences, and what to do about it. Writes nothing."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from ema_assets.model.counts import counted, times
from ema_assets.model.symbols import Series
from ema_assets.refresh.plan import next_closes
from ema_assets.reports import automation, freshness, status, story
from ema_assets.store import series_overview
from ema_assets.store.database import Transaction

# While anything runs, some bar is stored every few minutes, with or without crypto.
_IDLE_AFTER = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Why:
    """The answer to "why is AAPL|5m not fresh?".

    Attributes:
        condition: one of freshness.CONDITIONS.
        headline: the answer in one sentence.
        reasons: how that came about, one sentence each, in the order in which data flows.
        advice: what to do, one sentence each; empty when nothing is to be done.
        story: what is known of the bars of the series: sources, gaps, corrections.
        chain: the assets of the series in the order of their lineage, as returned by `series_overview.chain`.
        waiting: assets whose input has changed and that wait to be computed.
        base: the series whose bars it is rolled up from; None when its bars are fetched.
    """

    series: Series
    condition: str
    headline: str
    reasons: tuple[str, ...]
    advice: tuple[str, ...]
    story: tuple[str, ...]
    chain: pl.DataFrame
    waiting: tuple[str, ...]
    base: Series | None

    @property
    def is_fine(self) -> bool:
        """True when the series needs nobody's attention."""
        return self.condition in freshness.FINE


@dataclass(frozen=True, slots=True)
class _Known:
    """The facts that the sentences are made from."""

    series: Series
    row: Mapping[str, Any]
    provider: str
    now: datetime
    chain: pl.DataFrame
    not_answering: tuple[str, ...]
    is_idle: bool
    last_work: datetime | None

    @property
    def waiting(self) -> tuple[str, ...]:
        """The assets whose input has changed.

        While a rolled-up bar is forming, new input for it does not count: it changes no bar that has closed.
        """
        return tuple(self.chain.filter(pl.col("dirty_from").is_not_null(), ~pl.col("is_forming"))["asset"])


def why(
    transaction: Transaction,
    series: Series,
    conditions: pl.DataFrame,
    provider: str,
    now: datetime,
    instant: datetime,
) -> Why | None:
    """Return why `series` is in its condition; None when it is not in `conditions`, as it is not kept up to date.

    Args:
        transaction: any.
        series: one series.
        conditions: as returned by `freshness.conditions` at `now`.
        provider: the provider of symbols that name none.
        now: the market's time.
        instant: the machine's time.
    """
    rows = conditions.filter(symbol=series.symbol, timeframe=series.timeframe.key)
    if rows.is_empty():
        return None
    row = rows.row(0, named=True)
    last_work = series_overview.last_work(transaction)
    known = _Known(
        series=series,
        row=row,
        provider=row["provider"] or provider,
        now=now,
        chain=series_overview.chain(transaction, series.symbol, series.timeframe.key),
        not_answering=tuple(status.not_answering(transaction, provider)),
        is_idle=last_work is None or last_work < instant - _IDLE_AFTER,
        last_work=last_work,
    )
    timeframe = series.timeframe
    prefix = f"{series}: "
    return Why(
        series=series,
        condition=row["condition"],
        headline=_headline(known),
        reasons=tuple(_reasons(transaction, known)),
        advice=tuple(_advice(known)),
        story=tuple(
            line.removeprefix(prefix)
            for line in story.of_symbol(transaction, series.symbol)
            if line.startswith(prefix) or not line.startswith(f"{series.symbol}|")
        ),
        chain=known.chain,
        waiting=known.waiting,
        base=None if timeframe.is_fetched else Series(series.symbol, timeframe.source),
    )


def _headline(known: _Known) -> str:
    row, series = known.row, known.series
    newest = "" if row["last_ts"] is None else f" Its newest bar opened at {_at(row['last_ts'])} UTC."
    missing = "" if row["since"] is None else _missing(known)
    if row["condition"] == freshness.FROM_FILES and row["last_ts"] is None:
        return f"{series} has no bars: they come from files, and none with {series.timeframe.key} bars was ingested."
    said = {
        freshness.FRESH: f"{series} is fresh: every bar that has closed is stored and computed.",
        freshness.FROM_FILES: f"{series} comes from files, and everything is computed from what they hold.",
        freshness.DUE: f"{series} is about to be fresh: {missing} being fetched.",
        freshness.LATE: f"{series} is not fresh: {missing} not stored yet.",
        freshness.FAILING: f"{series} is not fresh: {_attempts(row['failures'])} failed.",
        freshness.INCOMPLETE: f"{series} is not fresh: its provider was asked and did not send its newest bars.",
        freshness.COMPUTING: f"{series} is not fresh: its bars are stored, and what follows from them is not computed.",
        freshness.LOADING: f"{series} is new: its history has not been loaded yet.",
        freshness.SILENT: f"{series} gets no bars any more.",
        freshness.WITHOUT_BARS: f"{series} has no bars: its provider was asked and has none.",
    }
    return said[row["condition"]] + newest


def _missing(known: _Known) -> str:
    """Return which bars are missing, with the verb: those that closed after the last request."""
    row = known.row
    if row["checked_through"] < row["since"] - known.series.timeframe.duration:
        said = f"bars that closed after {_at(row['checked_through'])}, up to {_at(row['since'])} UTC"
        return f"{said}, {_ago(known)} ago, are"
    return f"the bar that closed at {_at(row['since'])} UTC, {_ago(known)} ago, is"


def _ago(known: _Known) -> str:
    late = known.now - known.row["since"]
    minutes = int(late.total_seconds() // 60)
    if minutes < 120:
        return counted(minutes, "minute")
    return f"{minutes // 60} hours" if minutes < 48 * 60 else f"{minutes // 1440} days"


def _attempts(failures: int) -> str:
    return f"the last {'attempt' if failures == 1 else counted(failures, 'attempt')}"


def _reasons(transaction: Transaction, known: _Known) -> Iterator[str]:
    row, series = known.row, known.series
    if row["is_fetched"]:
        yield from _of_market(transaction, known)
        yield f"Its bars come from {known.provider}."
    else:
        yield "Its bars come from files and are not requested from a provider."
    if not series.timeframe.is_fetched:
        yield _of_rollup(series, is_requested=row["is_fetched"])
    if row["is_fetched"] and row["checked_through"] is not None:
        asked = "" if row["asked_at"] is None else f", last at {row['asked_at']:%Y-%m-%d %H:%M:%S}"
        yield f"Bars that closed up to {_at(row['checked_through'])} UTC were requested{asked}."
    for sentence in known.not_answering:
        if sentence.startswith(f"{known.provider} "):
            yield f"{sentence.removesuffix('.')}."
    if row["failures"]:
        yield from _of_failure(row, known.now)
    if row["condition"] == freshness.INCOMPLETE:
        yield from _of_gap(row)
    dirty = known.waiting
    if dirty and row["condition"] not in (freshness.LOADING, freshness.FAILING):
        yield f"An input of {', '.join(dirty)} has changed: {'they wait' if len(dirty) > 1 else 'it waits'} for a run."


def _of_failure(row: Mapping[str, Any], now: datetime) -> Iterator[str]:
    yield f"Last error: {row['last_error']}"
    if row["next_attempt_at"] is not None:
        yield freshness.next_attempt(row["next_attempt_at"], now)


def _of_rollup(series: Series, *, is_requested: bool) -> str:
    key, source = series.timeframe.key, series.timeframe.source.key
    if is_requested:
        return f"Bars of {key} are rolled up from those of {source}, so they wait for these."
    return f"Where no file has bars of {key}, they are rolled up from those of {source}."


def _of_gap(row: Mapping[str, Any]) -> Iterator[str]:
    """Yield sentences about the bars missing after the newest one."""
    bars, asked = row["missing_bars"], row["asked_again"]
    missing = f"{counted(bars, 'bar is', 'bars are')} missing from {_at(row['missing_from'])} UTC on"
    yield f"By the calendar, {missing}: the provider answered, and left {'it' if bars == 1 else 'them'} out."
    if asked:
        yield f"{'It was' if bars == 1 else 'They were'} requested again {times(asked)}."
    yield f"{'It is' if bars == 1 else 'They are'} requested next at {row['asked_again_at']:%Y-%m-%d %H:%M:%S} UTC."


def _of_market(transaction: Transaction, known: _Known) -> Iterator[str]:
    closes = next_closes(transaction, known.series.timeframe, known.now).filter(calendar=known.row["calendar"])
    for close in closes.head(1).iter_rows(named=True):
        where = f"the calendar {known.row['calendar']}"
        verb = "is forming and closes" if close["ts"] <= known.now else f"opens at {_at(close['ts'])} UTC and closes"
        yield f"By {where}, the next bar {verb} at {_at(close['ts_end'])} UTC."


def _advice(known: _Known) -> Iterator[str]:
    row, symbol = known.row, known.series.symbol
    match row["condition"]:
        case freshness.FAILING:
            yield "It is tried again automatically, after a pause that grows with each failure."
            if automation.ENDS_RUNS in str(row["last_error"]):
                yield "Do not try it by hand: it would end the command, too."
                yield "Repair its file, or switch it off in the watchlist: the next run takes up what you have changed."
            else:
                yield f"To try at once: `ema-assets refresh --symbol {symbol} --retry`."
            if "has no symbol" in str(row["last_error"]):
                yield "Check how the symbol is written: `ema-assets symbols check`."
        case freshness.LATE | freshness.COMPUTING if known.is_idle:
            since = "never" if known.last_work is None else f"not since {known.last_work:%Y-%m-%d %H:%M:%S} UTC"
            yield (
                f"Nothing was stored for any series lately ({since}): see whether `ema-assets up` runs, and under "
                "Automation in the Dagster UI whether its schedules and sensors are on."
            )
        case freshness.LATE | freshness.COMPUTING:
            yield "The next sweep takes it up, within a minute or so; other series are stored meanwhile."
            yield "If it does not, `ema-assets doctor` says what holds it up."
            yield f"To bring it up to date at once: `ema-assets refresh --symbol {symbol}`."
        case freshness.INCOMPLETE:
            yield "They are requested again automatically, less and less often; if they never come, they did not trade."
            yield "See whether the symbol is halted, has ended or is misspelt: `ema-assets symbols check`."
        case freshness.LOADING:
            yield "A sweep loads it; `ema-assets status` estimates how long loading takes."
        case freshness.SILENT | freshness.WITHOUT_BARS:
            yield "See what became of the symbol, or whether it is misspelt: `ema-assets symbols check`."


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"
