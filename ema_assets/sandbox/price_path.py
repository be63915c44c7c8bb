"""The price of a symbol at any moment, from (seed, symbol, time) alone. No calendar and no clock.

The logarithm of a price is a Brownian motion over wall time, built by Lévy's midpoint construction: one hashed
normal for each dyadic interval, so that any instant costs O(log n) and needs no neighbour. Opens and closes are
points on that path. Highs and lows are drawn from the exact law of a Brownian bridge's extremes between them.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ema_assets.model.symbols import Instrument
from ema_assets.sandbox.synthetic_bars import STEP_SECONDS, Bars, Floats, Ints, edges

Hashes = npt.NDArray[np.uint64]

_DAY_SECONDS = 86_400
# 2^19 steps of five minutes are five years. Over longer times, prices swing around their level and do not drift away.
_OCTAVES = 19
# Up to this octave every bar draws its own normals; above it the path is straight between multiples of 64 steps.
_FINE_OCTAVES = 6
_SLOW_SWING = 0.3  # standard deviation of the five-yearly pivots, in log-price
_OPEN_GAP = 0.1  # of a bar's standard deviation, between a close and the next open
_STEPS_PER_YEAR = 365 * _DAY_SECONDS / STEP_SECONDS
_CRYPTO_VOLUME_UNIT = 1 / 1024  # a dyadic unit, so that a day's volume is exactly the sum of its bars in any order
_FEW_STEPS = 1_024

_KNOWN_CRYPTO_LEVELS = {"BTC": 60_000.0, "ETH": 3_000.0, "SOL": 140.0, "LTC": 80.0, "DOGE": 0.12, "XRP": 0.5}


@dataclass(frozen=True, slots=True)
class Profile:
    """The properties of one symbol: its hash key, price level, volatility, decimals and volume."""

    key: int
    log_level: float
    step_deviation: float
    decimals: int
    volume_level: float
    volume_unit: float


def profile_of(seed: int, instrument: Instrument) -> Profile:
    """Return the properties of `instrument` in the market of `seed`."""
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
    return Profile(
        key=key,
        log_level=math.log(level),
        step_deviation=yearly_deviation / math.sqrt(_STEPS_PER_YEAR),
        decimals=decimals,
        volume_level=volume_level,
        volume_unit=volume_unit,
    )


def bars_at(profile: Profile, ts: Ints, end: Ints, through_day: Floats, day: Ints) -> Bars:
    """Return the five-minute bars that open at `ts` and close at `end`.

    `through_day` is the position of each open within its session, from 0 to 1. `day` is the number of the session.
    """
    step = ts // STEP_SECONDS
    # The path is needed at both ends of every bar. Neighbouring bars share a point.
    place = np.arange(len(step))
    place[1:] += np.cumsum(step[1:] != step[:-1] + 1)
    points = np.empty(int(place[-1]) + 2, np.int64)
    points[place] = step
    points[place + 1] = step + 1
    path = _path(profile, points)

    deviation = profile.step_deviation
    gap, highest, lowest, volume, trades = _hashes(profile.key, _OF_A_BAR, step)
    log_open = path[place] + deviation * _OPEN_GAP * _to_normal(gap)
    log_close = path[place + 1]
    # P(max of a bridge from a to b > m) = exp(-2 (m - a)(m - b) / s²), solved for m with a uniform.
    middle, move2 = (log_open + log_close) / 2, (log_close - log_open) ** 2
    reach = 2 * deviation**2
    up = np.sqrt(move2 - reach * np.log(_to_uniform(highest))) / 2
    down = np.sqrt(move2 - reach * np.log(_to_uniform(lowest))) / 2

    def price(logarithm: Floats) -> Floats:
        return np.maximum(np.round(np.exp(logarithm), profile.decimals), 10.0**-profile.decimals)

    open_, high, low, close = price(log_open), price(middle + up), price(middle - down), price(log_close)
    high = np.maximum(high, np.maximum(open_, close))
    low = np.minimum(low, np.minimum(open_, close))

    activity = 0.6 + 2.4 * (2 * through_day - 1) ** 4  # busy at the open and the close
    noise = 0.55 * _to_normal(volume) + 0.3 * _normal(profile.key, Stream.DAY_VOLUME, day)
    units = np.maximum(1, np.rint(profile.volume_level * activity * np.exp(noise) / profile.volume_unit))
    typical_trade = 20 + 180 * _to_uniform(trades)
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


class Stream:
    """Numbers of a symbol's independent random streams. The octaves of the path use 0 to _OCTAVES."""

    OPEN_GAP = 100
    HIGH = 101
    LOW = 102
    VOLUME = 103
    DAY_VOLUME = 104
    TRADES = 105
    MINUTE = 106
    EXTREMES = 107


_OF_A_BAR = (Stream.OPEN_GAP, Stream.HIGH, Stream.LOW, Stream.VOLUME, Stream.TRADES)


def _path(profile: Profile, steps: Ints) -> Floats:
    """Return the log-price at ascending `steps`. It does not depend on which other steps are requested."""
    coarse = steps >> _FINE_OCTAVES
    runs = np.repeat(np.arange(len(firsts := edges(coarse))), np.diff(np.append(firsts, len(coarse))))
    lattice = coarse[firsts]
    left, right = _coarse_path(profile, _with_next(lattice)).reshape(2, -1)
    through = (steps - (coarse << _FINE_OCTAVES)) / (1 << _FINE_OCTAVES)
    path: Floats = left[runs] + (right - left)[runs] * through
    return _add_octaves(path, profile, range(1, _FINE_OCTAVES + 1), steps)


def _coarse_path(profile: Profile, lattice: Ints) -> Floats:
    steps = lattice << _FINE_OCTAVES
    pivot = steps >> _OCTAVES
    through = (steps - (pivot << _OCTAVES)) / (1 << _OCTAVES)
    left, right = _SLOW_SWING * _normal(profile.key, 0, _with_next(pivot)).reshape(2, -1)
    path: Floats = profile.log_level + left + (right - left) * through
    return _add_octaves(path, profile, range(_FINE_OCTAVES + 1, _OCTAVES + 1), steps)


def _with_next(cells: Ints) -> Ints:
    return np.concatenate([cells, cells + 1])


def _add_octaves(path: Floats, profile: Profile, octaves: range, steps: Ints) -> Floats:
    """Add Lévy's corrections: in each octave, 0 at the ends of an interval of 2^octave steps and most in its middle.

    The corrections are added one by one, so that the order of the sum does not depend on the number of steps.
    """
    together = _together(octaves, steps)
    for at in range(0, len(octaves), together):
        group = octaves[at : at + together]
        shift = np.array(group, np.int64)[:, None]
        size = np.int64(1) << shift
        inside = steps & (size - 1)
        slope = profile.step_deviation / np.sqrt(size.astype(np.float64))
        normal = _to_normal(_hash(_stream_keys(profile.key, group), steps >> shift))
        for correction in np.minimum(inside, size - inside) * slope * normal:
            path += correction
    return path


_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def _stream_keys(key: int, streams: Sequence[int]) -> Hashes:
    return np.array([(key ^ (stream * 0xD1342543DE82EF95)) & _MASK for stream in streams], np.uint64)[:, None]


def _together(streams: Sequence[int], cells: Ints) -> int:
    """Return how many of `streams` to hash at once: all for the few cells of a tick, where calls cost the most."""
    return len(streams) if len(cells) < _FEW_STEPS else 1


def _hashes(key: int, streams: Sequence[int], cells: Ints) -> list[Hashes]:
    """Return the hashes of the cells in each stream."""
    together = _together(streams, cells)
    groups = (streams[at : at + together] for at in range(0, len(streams), together))
    return [row for group in groups for row in _hash(_stream_keys(key, group), cells[None])]


def _hash(stream_keys: Hashes, cells: Ints) -> Hashes:
    """Return 64 well-mixed bits per key (a column) and cell (a row, or one per key).

    They are those of the splitmix64 finaliser (Steele, Lea, Flood 2014) on a keyed counter.
    """
    z: Hashes = cells.astype(np.uint64) * np.uint64(_GOLDEN) + stream_keys
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


def _to_normal(z: Hashes) -> Floats:
    """Return approximately normal numbers: the sum of four 16-bit uniforms, scaled to mean 0 and deviation 1.

    They lie within 3.5. The arithmetic is exact and therefore portable.
    """
    low = np.uint64(0xFFFF)
    total = (z & low) + ((z >> np.uint64(16)) & low) + ((z >> np.uint64(32)) & low) + (z >> np.uint64(48))
    normal: Floats = (total.astype(np.float64) - 2 * 65_535) * (math.sqrt(3) / 65_536)
    return normal


def _to_uniform(z: Hashes) -> Floats:
    """Return numbers that are uniform in the open interval (0, 1)."""
    uniform: Floats = ((z >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return uniform


def _normal(key: int, stream: int, cells: Ints) -> Floats:
    return _to_normal(_hashes(key, (stream,), cells)[0])


def uniform(key: int, stream: int, cells: Ints) -> Floats:
    """Return one number per cell, uniform in the open interval (0, 1). It does not depend on the other cells."""
    return _to_uniform(_hashes(key, (stream,), cells)[0])
