"""Synthetic bars: any bar of any symbol, from (seed, symbol, time) alone. No HTTP, no clock, no state but sessions.

The logarithm of a price is a Brownian motion over wall time, built by Lévy's midpoint construction: one hashed
normal for each dyadic interval, so that any instant costs O(log n) and needs no neighbour. Opens and closes are
points of that path; highs and lows are drawn from the exact law of a Brownian bridge's extremes between them.
Times are whole seconds since 1970, UTC, in int64 arrays.
"""

import hashlib
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import polars as pl

from ema_assets.market.calendars import exchange_sessions, segments
from ema_assets.model.errors import ConfigurationError
from ema_assets.model.symbols import ALWAYS_OPEN, Instrument
from ema_assets.model.timeframes import FETCHED

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Hashes = npt.NDArray[np.uint64]

# Bars before these days do not exist. Forty years of sessions fill one daily page of 10,000.
STOCK_HISTORY_START = date(1984, 1, 1)
CRYPTO_HISTORY_START = date(2012, 1, 1)

STEP_SECONDS = int(FETCHED[0].duration.total_seconds())
DAY_MINUTES = 24 * 60
_DAY_SECONDS = 86_400
_NEW_YORK = "America/New_York"

# 2^19 steps of five minutes are five years: beyond that prices swing around their level instead of running away.
_OCTAVES = 19
# Up to this octave every bar draws its own normals; above it the path is straight between multiples of 64 steps.
_FINE_OCTAVES = 6
_SLOW_SWING = 0.3  # standard deviation of the five-yearly pivots, in log-price
_OPEN_GAP = 0.1  # of a bar's standard deviation, between a close and the next open
_STEPS_PER_YEAR = 365 * _DAY_SECONDS / STEP_SECONDS
_CRYPTO_VOLUME_UNIT = 1 / 1024  # a dyadic unit, so that a day's volume is exactly the sum of its bars in any order

# Small enough for a chunk's scratch arrays to stay in the processor's cache; 16k was the fastest of 4k to 128k.
_CHUNK_BARS = 16_384
_FEW_STEPS = 1_024

_KNOWN_CRYPTO_LEVELS = {"BTC": 60_000.0, "ETH": 3_000.0, "SOL": 140.0, "LTC": 80.0, "DOGE": 0.12, "XRP": 0.5}


@dataclass(frozen=True, slots=True)
class Bars:
    """Columns of equal length, one row a bar. `end` is the second at which the bar closes."""

    ts: Ints
    end: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    trades: Ints
    vwap: Floats

    def __len__(self) -> int:
        return len(self.ts)

    def pick(self, rows: slice | npt.NDArray[np.bool_]) -> "Bars":
        """Return only `rows`, a mask or a slice."""
        return Bars(*(getattr(self, field.name)[rows] for field in fields(self)))


Alteration = Callable[[Bars], Bars]

_NO_INTS = np.empty(0, np.int64)
_NO_FLOATS = np.empty(0, np.float64)
NO_BARS = Bars(_NO_INTS, _NO_INTS, _NO_FLOATS, _NO_FLOATS, _NO_FLOATS, _NO_FLOATS, _NO_FLOATS, _NO_INTS, _NO_FLOATS)


@dataclass(frozen=True, slots=True)
class _Sessions:
    """Trading days of one calendar, ascending; day `i` holds the segments `first_segment[i]:first_segment[i + 1]`."""

    covered_until: int
    day_open: Ints
    day_close: Ints
    midnight: Ints
    first_segment: Ints
    segment_open: Ints
    segment_close: Ints
    steps_per_day: int


@dataclass(frozen=True, slots=True)
class _Question:
    """What Market.bars was asked, but for the symbol and the limit."""

    minutes: int
    start: int
    last: int
    now: int
    alter: Alteration | None


@dataclass(frozen=True, slots=True)
class _Profile:
    """What sets one symbol apart: its hash key and its habits."""

    key: int
    log_level: float
    step_deviation: float
    decimals: int
    volume_level: float
    volume_unit: float


class Market:
    """Every bar of a universe. Safe to use from several threads."""

    def __init__(self, universe: Sequence[Instrument], seed: int) -> None:
        self.seed = seed
        self.universe = tuple(universe)
        self._profiles = {instrument.symbol: _profile(seed, instrument) for instrument in universe}

    def bars(
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
    ) -> Bars:
        """Up to `limit` bars of `minutes` that open in `[start, last]` and have closed at `now`.

        A day's bar opens at midnight: New York's for stocks, UTC's for crypto. Shorter aggregates are aligned to
        the clock counted from that midnight and cut at the session's ends. `alter` sees the five-minute bars,
        before they are aggregated, and may change or drop some.
        """
        sessions = _sessions_of(instrument.calendar, now)
        # A bar's label may lie up to a day from its trading: the midnight of an exchange on the other side of the
        # world, or the rest of a clock-aligned bucket. Five-minute bars need no margin.
        margin = 0 if minutes * 60 == STEP_SECONDS else _DAY_SECONDS
        first_day = int(np.searchsorted(sessions.day_close, start - margin, side="right"))
        end_day = int(np.searchsorted(sessions.day_open, min(last + margin, now), side="right"))
        profile = self._profiles[instrument.symbol]
        question = _Question(minutes, start, last, now, alter)
        found: list[Bars] = []
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
            bars = _chunk(sessions, profile, chunk_first, chunk_end, question)
            if descending:
                bars = bars.pick(slice(None, None, -1))
            bars = bars.pick(slice(0, wanted))
            wanted -= len(bars)
            found.append(bars)
        if len(found) <= 1:
            return found[0] if found else NO_BARS
        return Bars(*(np.concatenate([getattr(part, field.name) for part in found]) for field in fields(Bars)))

    def session(self, instrument: Instrument, now: int) -> tuple[int, int]:
        """Opening and closing time of the session in progress at `now`, or of the one before."""
        sessions = _sessions_of(instrument.calendar, now)
        day = max(0, int(np.searchsorted(sessions.day_open, now, side="right")) - 1)
        return int(sessions.day_open[day]), int(sessions.day_close[day])

    def sessions(self, instrument: Instrument, start: int, last: int, now: int) -> list[tuple[int, int]]:
        """Opening and closing times of the sessions that overlap `[start, last]`, as far as `now` and a little more."""
        sessions = _sessions_of(instrument.calendar, now)
        first = int(np.searchsorted(sessions.day_close, start, side="right"))
        until = int(np.searchsorted(sessions.day_open, min(last, now), side="right"))
        return list(zip(sessions.day_open[first:until].tolist(), sessions.day_close[first:until].tolist(), strict=True))

    def session_opens(self, instrument: Instrument, midnights: Ints, now: int) -> Ints:
        """The opening times of the sessions whose bars of a day are labelled with `midnights`."""
        sessions = _sessions_of(instrument.calendar, now)
        opens: Ints = sessions.day_open[np.searchsorted(sessions.midnight, midnights)]
        return opens

    def forming(self, instrument: Instrument, minutes: int, now: int, alter: Alteration | None = None) -> Bars:
        """The bar of `minutes` that has opened and not closed at `now`, as far as it has come; one row or none."""
        span = max(minutes * 60, STEP_SECONDS)
        whole = self.bars(instrument, minutes, now - span - _DAY_SECONDS, now, now + span + _DAY_SECONDS, 2_000)
        whole = whole.pick((whole.ts <= now) & (now < whole.end))
        if len(whole) == 0:
            return NO_BARS
        label = int(whole.ts[-1])
        step = self.bars(instrument, STEP_SECONDS // 60, now - STEP_SECONDS + 1, now, now + STEP_SECONDS, 1)
        parts = [_begun(step.pick(step.end > now), now)]
        if minutes * 60 > STEP_SECONDS:
            parts.insert(0, self.bars(instrument, STEP_SECONDS // 60, label, now, now, 2_000, alter=alter))
        bars = Bars(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Bars)))
        if len(bars) == 0:
            return NO_BARS
        return _aggregate(bars, np.full(len(bars), label, np.int64))


def _begun(bars: Bars, now: int) -> Bars:
    """Five-minute bars as they look at `now`, before they have closed."""
    through = (now - bars.ts) / STEP_SECONDS
    close = np.round(bars.open + (bars.close - bars.open) * through, 8)
    return Bars(
        ts=bars.ts,
        end=bars.end,
        open=bars.open,
        high=np.maximum(bars.open, close),
        low=np.minimum(bars.open, close),
        close=close,
        volume=np.maximum(1.0, np.floor(bars.volume * through)),
        trades=np.maximum(1, (bars.trades * through).astype(np.int64)),
        vwap=bars.vwap,
    )


# By calendar. The same for every market, and half a second of work.
_known_sessions: dict[str, _Sessions] = {}
_sessions_lock = threading.Lock()


def _sessions_of(calendar: str, now: int) -> _Sessions:
    with _sessions_lock:
        known = _known_sessions.get(calendar)
        if known is None or known.covered_until <= now:
            known = _known_sessions[calendar] = _build_sessions(calendar, now)
        return known


def _build_sessions(calendar: str, now: int) -> _Sessions:
    today = datetime.fromtimestamp(now, UTC).date()
    oldest = CRYPTO_HISTORY_START if calendar == ALWAYS_OPEN else STOCK_HISTORY_START
    next_year = date(today.year + 1, 12, 31)
    soon = today + timedelta(days=3)
    # Some calendars are recorded only for some years, and exchange_calendars refuses a range beyond them.
    for first, until in ((oldest, next_year), (oldest, soon), (today - timedelta(days=5 * 365), soon)):
        try:
            frame = exchange_sessions(calendar, first, until)
        except ConfigurationError:
            raise
        except ValueError:
            continue
        if not frame.is_empty():
            return _session_arrays(frame, calendar, until)
    raise ConfigurationError(f"the sandbox finds no sessions of the calendar {calendar!r} around {today}")


def _session_arrays(frame: pl.DataFrame, calendar: str, until: date) -> _Sessions:
    def seconds(column: pl.Series) -> Ints:
        return column.dt.epoch("s").to_numpy().astype(np.int64)

    zone = "UTC" if calendar == ALWAYS_OPEN else _NEW_YORK
    stretches = segments(frame)
    per_day = stretches.group_by("session", maintain_order=True).len()["len"].to_numpy().astype(np.int64)
    opens, closes = seconds(frame["open"]), seconds(frame["close"])
    covered = datetime(until.year, until.month, until.day, tzinfo=ZoneInfo("UTC"))
    return _Sessions(
        covered_until=int(covered.timestamp()),
        day_open=opens,
        day_close=closes,
        midnight=seconds(frame["session"].cast(pl.Datetime("us")).dt.replace_time_zone(zone)),
        first_segment=np.concatenate([np.zeros(1, np.int64), np.cumsum(per_day)]),
        segment_open=seconds(stretches["segment_open"]),
        segment_close=seconds(stretches["segment_close"]),
        steps_per_day=max(1, int(np.median(closes - opens)) // STEP_SECONDS),
    )


def _chunk(
    sessions: _Sessions,
    profile: _Profile,
    first_day: int,
    end_day: int,
    question: _Question,
) -> Bars:
    """Bars of some days, ascending: lay out the steps, choose the bars wanted, compute only those."""
    minutes = question.minutes
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
    label = _labels(ts, sessions.midnight, day, minutes)
    edges = _edges(label)
    lasts = np.append(edges[1:], len(ts)) - 1
    wanted = (label[edges] >= question.start) & (label[edges] <= question.last) & (end[lasts] <= question.now)
    if not wanted.any():
        return NO_BARS
    rows = np.repeat(wanted, lasts - edges + 1)
    ts, end, day = ts[rows], end[rows], day[rows]
    span = sessions.day_close[day] - sessions.day_open[day]
    through_day = (ts - sessions.day_open[day]) / span
    bars = _values(profile, ts, end, through_day, sessions.midnight[day] // _DAY_SECONDS)
    if question.alter is not None:
        bars = question.alter(bars)
    if minutes * 60 == STEP_SECONDS or len(bars) == 0:
        return bars
    # `alter` may have dropped bars, so the labels that are left are looked up again.
    return _aggregate(bars, label[rows][np.searchsorted(ts, bars.ts)])


def _labels(ts: Ints, midnight: Ints, day: Ints, minutes: int) -> Ints:
    if minutes * 60 == STEP_SECONDS:
        return ts
    if minutes == DAY_MINUTES:
        return midnight[day]
    seconds = minutes * 60
    return midnight[day] + (ts - midnight[day]) // seconds * seconds


def _edges(label: Ints) -> Ints:
    """Index of the first row of each run of equal labels."""
    return np.concatenate([np.zeros(1, np.int64), np.flatnonzero(label[1:] != label[:-1]) + 1])


def _aggregate(bars: Bars, label: Ints) -> Bars:
    edges = _edges(label)
    lasts = np.append(edges[1:], len(label)) - 1
    volume = np.add.reduceat(bars.volume, edges)
    return Bars(
        ts=label[edges],
        end=bars.end[lasts],
        open=bars.open[edges],
        high=np.maximum.reduceat(bars.high, edges),
        low=np.minimum.reduceat(bars.low, edges),
        close=bars.close[lasts],
        volume=volume,
        trades=np.add.reduceat(bars.trades, edges),
        vwap=np.round(np.add.reduceat(bars.vwap * bars.volume, edges) / volume, 6),
    )


def _profile(seed: int, instrument: Instrument) -> _Profile:
    digest = hashlib.blake2b(f"{seed}|{instrument.symbol}".encode(), digest_size=32).digest()
    key, a, b, c = (int.from_bytes(digest[i : i + 8], "little") for i in (0, 8, 16, 24))
    level_draw, deviation_draw, volume_draw = a / 2**64, b / 2**64, c / 2**64
    if instrument.is_crypto:
        coin = instrument.symbol.replace("/", "-").partition("-")[0]
        level = _KNOWN_CRYPTO_LEVELS.get(coin, 0.05 * 10_000**level_draw)
        yearly_deviation = 0.5 + 0.4 * deviation_draw
        volume_level, volume_unit = 400_000 / level, _CRYPTO_VOLUME_UNIT
    else:
        level = 20 * 45**level_draw
        yearly_deviation = 0.14 + 0.26 * deviation_draw
        volume_level, volume_unit = 4_000 * 100**volume_draw, 1.0
    decimals = 2 if level >= 100 or not instrument.is_crypto else 5 - math.floor(math.log10(level))
    return _Profile(
        key=key,
        log_level=math.log(level),
        step_deviation=yearly_deviation / math.sqrt(_STEPS_PER_YEAR),
        decimals=decimals,
        volume_level=volume_level,
        volume_unit=volume_unit,
    )


def _values(profile: _Profile, ts: Ints, end: Ints, through_day: Floats, day: Ints) -> Bars:
    step = ts // STEP_SECONDS
    # The path is needed at both ends of every bar; neighbours share one point.
    place = np.arange(len(step))
    place[1:] += np.cumsum(step[1:] != step[:-1] + 1)
    points = np.empty(int(place[-1]) + 2, np.int64)
    points[place] = step
    points[place + 1] = step + 1
    path = _path(profile, points)

    deviation = profile.step_deviation
    log_open = path[place] + deviation * _OPEN_GAP * _normal(profile.key, _Stream.OPEN_GAP, step)
    log_close = path[place + 1]
    # P(max of a bridge from a to b > m) = exp(-2 (m - a)(m - b) / s²), solved for m with a uniform.
    middle, move2 = (log_open + log_close) / 2, (log_close - log_open) ** 2
    reach = 2 * deviation**2
    up = np.sqrt(move2 - reach * np.log(_uniform(profile.key, _Stream.HIGH, step))) / 2
    down = np.sqrt(move2 - reach * np.log(_uniform(profile.key, _Stream.LOW, step))) / 2

    def price(logarithm: Floats) -> Floats:
        return np.maximum(np.round(np.exp(logarithm), profile.decimals), 10.0**-profile.decimals)

    open_, high, low, close = price(log_open), price(middle + up), price(middle - down), price(log_close)
    high = np.maximum(high, np.maximum(open_, close))
    low = np.minimum(low, np.minimum(open_, close))

    activity = 0.6 + 2.4 * (2 * through_day - 1) ** 4  # busy at the open and the close
    noise = 0.55 * _normal(profile.key, _Stream.VOLUME, step) + 0.3 * _normal(profile.key, _Stream.DAY_VOLUME, day)
    units = np.maximum(1, np.rint(profile.volume_level * activity * np.exp(noise) / profile.volume_unit))
    typical_trade = 20 + 180 * _uniform(profile.key, _Stream.TRADES, step)
    return Bars(
        ts=ts,
        end=end,
        open=open_,
        high=high,
        low=low,
        close=close,
        volume=units * profile.volume_unit,
        trades=1 + (units / typical_trade).astype(np.int64),
        vwap=np.round((open_ + high + low + close) / 4, profile.decimals + 4),
    )


class _Stream:
    """Independent sources of randomness of one symbol; the octaves of the path use 0 to _OCTAVES."""

    OPEN_GAP = 100
    HIGH = 101
    LOW = 102
    VOLUME = 103
    DAY_VOLUME = 104
    TRADES = 105


def _path(profile: _Profile, steps: Ints) -> Floats:
    """Log-price at ascending `steps`; the same step gives the same number in any company."""
    coarse = steps >> _FINE_OCTAVES
    runs = np.repeat(np.arange(len(edges := _edges(coarse))), np.diff(np.append(edges, len(coarse))))
    lattice = coarse[edges]
    left, right = _coarse_path(profile, lattice), _coarse_path(profile, lattice + 1)
    through = (steps - (coarse << _FINE_OCTAVES)) / (1 << _FINE_OCTAVES)
    path: Floats = left[runs] + (right - left)[runs] * through
    return _add_octaves(path, profile, range(1, _FINE_OCTAVES + 1), steps)


def _coarse_path(profile: _Profile, lattice: Ints) -> Floats:
    steps = lattice << _FINE_OCTAVES
    pivot = steps >> _OCTAVES
    through = (steps - (pivot << _OCTAVES)) / (1 << _OCTAVES)
    left, right = (_SLOW_SWING * _normal(profile.key, 0, at) for at in (pivot, pivot + 1))
    path: Floats = profile.log_level + left + (right - left) * through
    return _add_octaves(path, profile, range(_FINE_OCTAVES + 1, _OCTAVES + 1), steps)


def _add_octaves(path: Floats, profile: _Profile, octaves: range, steps: Ints) -> Floats:
    """Add Lévy's corrections: at each octave nothing at the ends of an interval of 2^octave steps, most in its middle.

    For the few steps of a tick the calls cost more than the numbers, so all octaves are hashed in one go. They are
    added one by one, so that the order of the sum does not depend on how many steps there are.
    """
    together = len(octaves) if len(steps) < _FEW_STEPS else 1
    for at in range(0, len(octaves), together):
        group = octaves[at : at + together]
        shift = np.array(group, np.int64)[:, None]
        size = np.int64(1) << shift
        inside = steps & (size - 1)
        slope = profile.step_deviation / np.sqrt(size.astype(np.float64))
        keys = np.array([_stream_key(profile.key, octave) for octave in group], np.uint64)[:, None]
        for correction in np.minimum(inside, size - inside) * slope * _to_normal(_hash(keys, steps >> shift)):
            path += correction
    return path


_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def _stream_key(key: int, stream: int) -> int:
    return (key ^ (stream * 0xD1342543DE82EF95)) & _MASK


def _hash(stream_key: np.uint64 | Hashes, cells: Ints) -> Hashes:
    """64 well-mixed bits for each cell: the splitmix64 finaliser (Steele, Lea, Flood 2014) over a keyed counter."""
    z: Hashes = cells.astype(np.uint64)
    z *= np.uint64(_GOLDEN)
    z += stream_key
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


def _to_normal(z: Hashes) -> Floats:
    """About normal, mean 0 and deviation 1, within 3.5: the sum of four 16-bit uniforms. Exact, so portable."""
    low = np.uint64(0xFFFF)
    total = (z & low) + ((z >> np.uint64(16)) & low) + ((z >> np.uint64(32)) & low) + (z >> np.uint64(48))
    normal: Floats = (total.astype(np.float64) - 2 * 65_535) * (math.sqrt(3) / 65_536)
    return normal


def _normal(key: int, stream: int, cells: Ints) -> Floats:
    return _to_normal(_hash(np.uint64(_stream_key(key, stream)), cells))


def _uniform(key: int, stream: int, cells: Ints) -> Floats:
    """Uniform in (0, 1), never an end."""
    z = _hash(np.uint64(_stream_key(key, stream)), cells)
    uniform: Floats = ((z >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return uniform
