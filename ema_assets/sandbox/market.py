"""The market: all bars of the symbols of a universe, in the sessions of their calendars. No HTTP, no clock."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ema_assets.model.symbols import Instrument
from ema_assets.sandbox.minutes import minutes_of
from ema_assets.sandbox.price_path import Profile, bars_at, profile_of
from ema_assets.sandbox.synthetic_bars import (
    NO_BARS,
    STEP_SECONDS,
    Alteration,
    Bars,
    Ints,
    aggregate,
    begun,
    edges,
    joined,
)
from ema_assets.sandbox.trading_days import TradingDays, trading_days

DAY_MINUTES = 24 * 60
_DAY_SECONDS = 86_400
# Small enough for a chunk's scratch arrays to stay in the processor's cache. 16k was the fastest between 4k and 128k.
_CHUNK_BARS = 16_384


@dataclass(frozen=True, slots=True)
class _BarsQuery:
    """The arguments of Market.bars without the symbol and the limit."""

    minutes: int
    start: int
    last: int
    now: int
    alter: Alteration | None
    is_anchored: bool = False


class Market:
    """All bars of a universe. Safe to use from several threads."""

    def __init__(self, universe: Sequence[Instrument], seed: int) -> None:
        self.seed = seed
        self.universe = tuple(universe)
        self._profiles = {instrument.symbol: profile_of(seed, instrument) for instrument in universe}

    def bars(  # noqa: PLR0913 - the parameters of a vendor's request
        self,
        instrument: Instrument,
        minutes: int,
        start: int,
        last: int,
        now: int,
        limit: int,
        *,
        descending: bool = False,
        alter: Alteration | None = None,
        is_anchored: bool = False,
    ) -> Bars:
        """Return at most `limit` bars that open in `[start, last]` and have closed at `now`.

        `minutes` is the length of the bars, 1 or a multiple of 5.

        A daily bar opens at midnight at its exchange, and UTC for crypto. Shorter aggregates are counted from that
        midnight and cut off at the session's ends. With `is_anchored`, they are counted from the session's open,
        and again from the end of a lunch break. `alter` gets the five-minute bars before they are aggregated, and may
        change or drop some.
        """
        sessions = trading_days(instrument.calendar, now)
        # A bar's label may be up to a day away from its trading: the midnight of an exchange on the other side of the
        # world, or the rest of a clock-aligned bucket. Bars of five minutes or less need no margin.
        margin = 0 if minutes * 60 <= STEP_SECONDS else _DAY_SECONDS
        first_day = int(np.searchsorted(sessions.day_close, start - margin, side="right"))
        end_day = int(np.searchsorted(sessions.day_open, min(last + margin, now), side="right"))
        profile = self._profiles[instrument.symbol]
        query = _BarsQuery(minutes, start, last, now, alter, is_anchored)
        parts: list[Bars] = []
        wanted = limit
        while wanted > 0 and first_day < end_day:
            steps = wanted * max(1, minutes * 60 // STEP_SECONDS)
            days = 2 + min(_CHUNK_BARS, steps) // sessions.steps_per_day
            if descending:
                chunk_first, chunk_end = max(first_day, end_day - days), end_day
                end_day = chunk_first
            else:
                chunk_first, chunk_end = first_day, min(end_day, first_day + days)
                first_day = chunk_end
            bars = _chunk(sessions, profile, chunk_first, chunk_end, query)
            if descending:
                bars = bars.pick(slice(None, None, -1))
            bars = bars.pick(slice(0, wanted))
            wanted -= len(bars)
            parts.append(bars)
        if len(parts) <= 1:
            return parts[0] if parts else NO_BARS
        return joined(parts)

    def session(self, instrument: Instrument, now: int) -> tuple[int, int]:
        """Return the opening and closing time of the session in progress at `now`, or of the previous one."""
        sessions = trading_days(instrument.calendar, now)
        day = max(0, int(np.searchsorted(sessions.day_open, now, side="right")) - 1)
        return int(sessions.day_open[day]), int(sessions.day_close[day])

    def sessions(self, instrument: Instrument, start: int, last: int, now: int) -> list[tuple[int, int]]:
        """Return the opening and closing times of the sessions that overlap `[start, last]` and open by `now`."""
        sessions = trading_days(instrument.calendar, now)
        first = int(np.searchsorted(sessions.day_close, start, side="right"))
        until = int(np.searchsorted(sessions.day_open, min(last, now), side="right"))
        return list(zip(sessions.day_open[first:until].tolist(), sessions.day_close[first:until].tolist(), strict=True))

    def session_opens(self, instrument: Instrument, midnights: Ints, now: int) -> Ints:
        """Return the opening times of the sessions whose daily bars are labelled with `midnights`."""
        sessions = trading_days(instrument.calendar, now)
        opens: Ints = sessions.day_open[np.searchsorted(sessions.midnight, midnights)]
        return opens

    def forming(
        self,
        instrument: Instrument,
        minutes: int,
        now: int,
        alter: Alteration | None = None,
        *,
        is_anchored: bool = False,
    ) -> Bars:
        """Return the bar of `minutes` that is open at `now`, as it is at that time; one row or none."""
        span = max(minutes * 60, STEP_SECONDS)
        around = (now - span - _DAY_SECONDS, now, now + span + _DAY_SECONDS)
        whole = self.bars(instrument, minutes, *around, 2_000, is_anchored=is_anchored)
        whole = whole.pick((whole.ts <= now) & (now < whole.end))
        if len(whole) == 0:
            return NO_BARS
        label = int(whole.ts[-1])
        if minutes * 60 < STEP_SECONDS:
            return begun(whole.pick(slice(-1, None)), now)
        step = self.bars(instrument, STEP_SECONDS // 60, now - STEP_SECONDS + 1, now, now + STEP_SECONDS, 1)
        parts = [begun(step.pick(step.end > now), now)]
        if minutes * 60 > STEP_SECONDS:
            parts.insert(0, self.bars(instrument, STEP_SECONDS // 60, label, now, now, 2_000, alter=alter))
        bars = joined(parts)
        if len(bars) == 0:
            return NO_BARS
        return aggregate(bars, np.full(len(bars), label, np.int64))


def _chunk(
    sessions: TradingDays,
    profile: Profile,
    first_day: int,
    end_day: int,
    query: _BarsQuery,
) -> Bars:
    """Return bars of some days, ascending: lay out the steps, select the requested bars, and compute only those."""
    minutes = query.minutes
    a, b = int(sessions.first_segment[first_day]), int(sessions.first_segment[end_day])
    opens, closes = sessions.segment_open[a:b], sessions.segment_close[a:b]
    counts = -((opens - closes) // STEP_SECONDS)  # rounds up: a cut last bar is a bar
    begins = np.cumsum(counts) - counts
    ts = np.repeat(opens - begins * STEP_SECONDS, counts) + np.arange(int(counts.sum()), dtype=np.int64) * STEP_SECONDS
    end = np.minimum(ts + STEP_SECONDS, np.repeat(closes, counts))
    if len(ts) == 0:
        return NO_BARS
    day = np.repeat(
        np.repeat(np.arange(first_day, end_day), np.diff(sessions.first_segment[first_day : end_day + 1])), counts
    )
    if minutes * 60 <= STEP_SECONDS:
        label = ts
    elif minutes == DAY_MINUTES:
        label = sessions.midnight[day]
    else:
        label = _labels(ts, np.repeat(opens, counts) if query.is_anchored else sessions.midnight[day], minutes)
    if minutes * 60 < STEP_SECONDS:
        rows = (end > query.start) & (ts <= query.last) & (ts < query.now)
    else:
        firsts = edges(label)
        lasts = np.append(firsts[1:], len(ts)) - 1
        wanted = (label[firsts] >= query.start) & (label[firsts] <= query.last) & (end[lasts] <= query.now)
        rows = np.repeat(wanted, lasts - firsts + 1)
    if not rows.any():
        return NO_BARS
    ts, end, day = ts[rows], end[rows], day[rows]
    span = sessions.day_close[day] - sessions.day_open[day]
    through_day = (ts - sessions.day_open[day]) / span
    bars = bars_at(profile, ts, end, through_day, sessions.number[day])
    if query.alter is not None:
        bars = query.alter(bars)
    if minutes * 60 == STEP_SECONDS or len(bars) == 0:
        return bars
    if minutes * 60 < STEP_SECONDS:
        bars = minutes_of(profile, bars)
        return bars.pick((bars.ts >= query.start) & (bars.ts <= query.last) & (bars.end <= query.now))
    # `alter` may have dropped bars, so the labels of the remaining ones are looked up again.
    return aggregate(bars, label[rows][np.searchsorted(ts, bars.ts)])


def _labels(ts: Ints, anchors: Ints, minutes: int) -> Ints:
    """Return the opening time of the bar of `minutes` that contains each step, counted from its anchor."""
    seconds = minutes * 60
    return anchors + (ts - anchors) // seconds * seconds
