"""Reference implementations of the computations, slow and obvious: one row at a time, in plain Python.

Nothing here imports the code under test.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl


def ema(closes: Sequence[float], span: int) -> list[float | None]:
    """Return the EMA, seeded with the mean of the first `span` closes; None before."""
    alpha = 2 / (span + 1)
    result: list[float | None] = []
    value: float | None = None
    for number, close in enumerate(closes, start=1):
        if number == span:
            value = math.fsum(closes[:span]) / span
        elif value is not None:
            value = alpha * close + (1 - alpha) * value
        result.append(value)
    return result


def trend(
    fast: Sequence[float | None], slow: Sequence[float | None]
) -> list[tuple[str | None, str | None, int | None]]:
    """Return trend, crossover and bars since the last crossover, per bar."""
    result: list[tuple[str | None, str | None, int | None]] = []
    current: str | None = None
    since: int | None = None
    for quick, steady in zip(fast, slow, strict=True):
        before = current
        if quick is not None and steady is not None and quick != steady:
            current = "up" if quick > steady else "down"
        crossover = None
        if before is not None and current != before:
            crossover = "bullish" if current == "up" else "bearish"
            since = 0
        elif since is not None:
            since += 1
        result.append((current, crossover, since))
    return result


@dataclass
class Trade:
    """One long trade; `exit` is None while it is open."""

    entry: int
    entry_price: float
    exit: int | None
    exit_price: float | None
    last: int
    last_price: float

    @property
    def status(self) -> str:
        """`open` or `closed`."""
        return "open" if self.exit is None else "closed"


def trades(closes: Sequence[float], crossovers: Sequence[str | None]) -> list[Trade]:
    """Return the trades that buy at the close of a bullish crossover and sell at the close of the next bearish one."""
    done: list[Trade] = []
    held: Trade | None = None
    for bar, (close, crossover) in enumerate(zip(closes, crossovers, strict=True)):
        if crossover == "bullish":
            held = Trade(bar, close, None, None, bar, close)
            done.append(held)
        elif crossover == "bearish" and held is not None:
            held.exit, held.exit_price, held.last, held.last_price = bar, close, bar, close
            held = None
        elif held is not None:
            held.last, held.last_price = bar, close
    return done


def stretches(session: dict[str, datetime | None]) -> list[tuple[datetime, datetime]]:
    """Return the times of continuous trading in one session (open, break_start, break_end, close)."""
    opens, closes = session["open"], session["close"]
    assert opens is not None
    assert closes is not None
    if session["break_start"] is None or session["break_end"] is None:
        return [(opens, closes)]
    return [(opens, session["break_start"]), (session["break_end"], closes)]


def buckets(sessions: pl.DataFrame, length: timedelta) -> list[tuple[datetime, datetime]]:
    """Return the opening and closing time of every bar of `length`, by a walk through the calendar."""
    result = []
    for session in sessions.iter_rows(named=True):
        for start, end in stretches(session):
            at = start
            while at < end:
                result.append((at, min(at + length, end)))
                at += length
    return result


def rolled_up(
    bars: Sequence[dict[str, object]], sessions: pl.DataFrame, length: timedelta, complete_through: datetime
) -> list[tuple[object, ...]]:
    """Return every complete bucket that has bars.

    Columns: ts, open, high, low, close, volume, and how many of its 5m bars are missing.
    """
    result: list[tuple[object, ...]] = []
    for start, end in buckets(sessions, length):
        inside = [bar for bar in bars if start <= bar["ts"] < end]  # type: ignore[operator]
        if inside and end <= complete_through:
            result.append(
                (
                    start,
                    inside[0]["open"],
                    max(bar["high"] for bar in inside),  # type: ignore[type-var]
                    min(bar["low"] for bar in inside),  # type: ignore[type-var]
                    inside[-1]["close"],
                    math.fsum(bar["volume"] for bar in inside),  # type: ignore[misc]
                    math.ceil((end - start) / timedelta(minutes=5)) - len(inside),
                )
            )
    return result
