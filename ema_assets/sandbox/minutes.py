"""One-minute bars that add up to given five-minute bars exactly. No calendar and no clock."""

import numpy as np
import numpy.typing as npt

from ema_assets.sandbox.price_path import Profile, Stream, uniform
from ema_assets.sandbox.synthetic_bars import Bars, Floats, Ints

MINUTE_SECONDS = 60
# The width of the band around the straight line from open to close in which prices lie, as a share of the longer bar's
# range.
_STRAY = 0.6


def minutes_of(profile: Profile, bars: Bars) -> Bars:
    """Return the minutes of `bars`, which last whole minutes, with the same open, close, extremes and sums per bar."""
    counts = (bars.end - bars.ts) // MINUTE_SECONDS
    of = np.repeat(np.arange(len(bars)), counts)
    firsts = np.cumsum(counts) - counts
    number = np.arange(len(of)) - firsts[of]
    ts = bars.ts[of] + number * MINUTE_SECONDS
    cells = ts // MINUTE_SECONDS
    high, low = bars.high[of], bars.low[of]

    through = (number + 1) / counts[of]
    straight = bars.open[of] + (bars.close - bars.open)[of] * through
    strayed = straight + (uniform(profile.key, Stream.MINUTE, cells) - 0.5) * _STRAY * (high - low)
    is_last = number == counts[of] - 1
    close = np.where(is_last, bars.close[of], np.clip(np.round(strayed, profile.decimals), low, high))
    open_ = np.where(number == 0, bars.open[of], np.concatenate([close[:1], close[:-1]]))

    # One minute reaches the highest price, and one the lowest.
    draws = uniform(profile.key, Stream.EXTREMES, bars.ts // MINUTE_SECONDS)
    highest = firsts + (draws * counts).astype(np.int64)
    lowest = firsts + ((draws * 7.3) % 1.0 * counts).astype(np.int64)
    highs, lows = np.maximum(open_, close), np.minimum(open_, close)
    highs[highest], lows[lowest] = bars.high, bars.low

    units = np.rint(bars.volume / profile.volume_unit).astype(np.int64)
    volume: Floats = _shares(units, counts, of, is_last) * np.float64(profile.volume_unit)
    return Bars(
        ts=ts,
        end=ts + MINUTE_SECONDS,
        open=open_,
        high=highs,
        low=lows,
        close=close,
        volume=volume,
        trades=_shares(bars.trades, counts, of, is_last),
        vwap=np.round((open_ + highs + lows + close) / 4, profile.decimals + 4),
    )


def _shares(whole: Ints, counts: Ints, of: Ints, is_last: npt.NDArray[np.bool_]) -> Ints:
    """Divide each number in `whole` into `counts` equal parts. The last part gets the remainder."""
    part = whole // counts
    shares: Ints = part[of]
    shares[is_last] += whole - part * counts
    return shares
