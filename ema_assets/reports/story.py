"""The story of a series or a single bar in sentences: its source, how far it reaches, whether it is final."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from ema_assets.market.calendars import place, reach
from ema_assets.model.counts import counted, times_in_a_row
from ema_assets.model.prices import price_text
from ema_assets.model.schemas import UTC_TIME
from ema_assets.model.symbols import Series
from ema_assets.model.timeframes import source_named
from ema_assets.reports.symbol_states import said_of, silent_sentence
from ema_assets.store import bar_history, ledger, older_history, sessions, states
from ema_assets.store.database import Transaction


def of_symbol(transaction: Transaction, symbol: str) -> list[str]:
    """Return what is known of the bars of `symbol`: lines about the symbol, then one line per timeframe."""
    brought = bar_history.sources(transaction, symbol)
    older = {row["timeframe"]: row for row in older_history.notes(transaction, symbol).iter_rows(named=True)}
    lines: list[str] = []
    known = [timeframe.key for timeframe in ledger.known_timeframes(transaction)]
    for row in bar_history.series(transaction, symbol, known).iter_rows(named=True):
        if not lines:
            lines += [*_of_state(transaction, symbol), *_of_delay(row)]
        who = " and ".join(
            f"{bars:,} {_from(source)}"
            for source, bars in brought.filter(timeframe=row["timeframe"]).select("source", "bars").iter_rows()
        )
        told = [*_of_series(row, who), *_of_older(older.get(row["timeframe"]))]
        lines.append(f"{symbol}|{row['timeframe']}: {' '.join(told)}")
    return lines


def _of_state(transaction: Transaction, symbol: str) -> Iterator[str]:
    for row in states.known(transaction, [symbol]).iter_rows(named=True):
        if row["silent_since"] is not None:
            yield f"{symbol} has {silent_sentence(row)}."
        else:
            yield f"{symbol}: {said_of(row)}."


def _of_delay(row: Mapping[str, Any]) -> Iterator[str]:
    if row["delay_seconds"]:
        yield f"Its provider is {row['delay_seconds'] // 60} minutes behind the exchange."


def _of_series(row: Mapping[str, Any], who: str) -> Iterator[str]:
    if row["last_ts"] is None:
        yield "no bars." if row["checked_through"] is None else "requested, and the provider has no bars."
    else:
        yield f"{_at(row['first_ts'])} to {_at(row['last_ts'])} UTC, {who}."
    if row["asked_at"] is not None:
        yield f"Last requested at {_at(row['asked_at'])}, complete through {_at(row['checked_through'])}."
    if row["final_through"] is not None:
        yield f"Final through {_at(row['final_through'])}."
    if row["open_gaps"]:
        bars, gaps = counted(row["open_bars"], "bar"), counted(row["open_gaps"], "gap")
        yield f"{bars} missing and requested again, in {gaps}."
    counts = {
        "not traded": row["not_traded"],
        "corrected": row["corrections"],
        "flagged": row["flags"],
        "rejected": row["rejected"],
        "skipped": row["skipped"],
    }
    if said := ", ".join(f"{count:,} {what}" for what, count in counts.items() if count):
        yield f"Bars: {said}."
    if row["failures"]:
        yield f"Failed {times_in_a_row(row['failures'])}: {row['last_error']}"


def _of_older(row: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield a sentence about bars older than the first one, if there is a note on them."""
    if row is None:
        return
    if row["failures"]:
        yield f"Older bars failed {counted(row['failures'], 'time')}: {row['note']}; tried again {_at(row['due_at'])}."
    else:
        yield row["note"]


def of_bar(transaction: Transaction, series: Series, ts: datetime) -> list[str]:
    """Return what is known of the bar of `series` that opens at `ts` (UTC), one line per event, oldest first."""
    symbol, timeframe = series.symbol, series.timeframe
    bars = bar_history.bar(transaction, symbol, timeframe, ts)
    lines = [f"{series}, the bar that opens at {_at(ts)} UTC:"]
    if bars.is_empty():
        lines += _of_missing(transaction, series, ts)
    else:
        row = bars.row(0, named=True)
        lines.append(f"It was first stored at {row['stored_at']:%Y-%m-%d %H:%M:%S}.")
    for at, what, close, detail in bar_history.events(transaction, symbol, timeframe, ts).iter_rows():
        said = f"{detail}."
        if what == "corrected":
            said = f"its close was {price_text(close)} until then, {_from(detail)}."
        lines.append(f"It was {what} at {at:%Y-%m-%d %H:%M:%S}: {said}")
    if not bars.is_empty():
        values = {name: price_text(row[name]) for name in ("open", "high", "low", "close")}
        values["volume"] = "unknown" if row["volume"] is None else f"{row['volume']:,.10g}"
        now = ", ".join(f"{name} {text}" for name, text in values.items())
        lines.append(f"It is now {now}, {_from(row['source'])}.")
        if row["missing_bars"]:
            # Bars of files, and of long history, are rolled up from other timeframes than usual.
            origin = source_named(row["source"])
            of = "" if origin is None else f" of {origin.key}"
            lines.append(f"{counted(row['missing_bars'], f'bar{of} is', f'bars{of} are')} missing in it.")
        lines.append(_finality(transaction, series, ts, row))
    return lines


def _of_missing(transaction: Transaction, series: Series, ts: datetime) -> Iterator[str]:
    gaps = bar_history.gap_at(transaction, series.symbol, series.timeframe, ts)
    if gaps.is_empty():
        yield "There is no such bar, and none is known to be missing there."
        before, after = bar_history.beside(transaction, series.symbol, series.timeframe, ts).row(0)
        if before is not None:
            yield f"The stored bar before it opens at {_at(before)}."
        if after is not None:
            yield f"The stored bar after it opens at {_at(after)}."
        return
    row = gaps.row(0, named=True)
    requested = f"requested again {counted(row['asked'], 'time')}"
    yield f"It is missing, noted at {_at(row['found_at'])}: {row['status']}, {requested}."
    if row["next_attempt_at"] is not None:
        yield f"It will be requested again at {_at(row['next_attempt_at'])}."


def _finality(transaction: Transaction, series: Series, ts: datetime, row: Mapping[str, Any]) -> str:
    if not row["is_fetched"]:
        return "Bars of files are final."
    calendars = sessions.calendars_of(transaction, [series.symbol])
    around = reach(series.timeframe)
    trading = sessions.between(transaction, calendars["calendar"].to_list(), ts - around, ts + around)
    placed = place(calendars.with_columns(ts=ts).cast({"ts": UTC_TIME}), series.timeframe, trading)
    closed = placed["ts_end"][0]
    if row["final_through"] is not None and closed <= row["final_through"]:
        return "It is final: it was requested after the time in which its provider changes bars."
    return "It is preliminary: its provider may still change it."


def _from(source: str | None) -> str:
    if source is None:
        return "from an unknown source"
    return source if source.startswith("rolled up") else f"from {source}"


def _at(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M}"
