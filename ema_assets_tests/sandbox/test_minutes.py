"""Tests of the sandbox's 1m bars: they add up to its 5m bars, and only closed ones are served."""

from datetime import UTC, datetime

import numpy as np
import pytest

from ema_assets.model.symbols import Instrument
from ema_assets.sandbox.market import Market
from ema_assets.sandbox.synthetic_bars import Bars

INSTRUMENTS = (Instrument("AAPL"), Instrument("BTC-USD", "24/7"), Instrument("0700.HK", "XHKG"))
NOW = int(datetime(2026, 11, 25, 17, 2, 30, tzinfo=UTC).timestamp())
START = int(datetime(2026, 11, 23, tzinfo=UTC).timestamp())


def bars(instrument: Instrument, minutes: int, *, now: int = NOW, start: int = START) -> Bars:
    return Market(INSTRUMENTS, 930).bars(instrument, minutes, start, now, now, 100_000)


@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=lambda each: each.symbol)
def test_bars_of_1m_add_up_to_the_bars_of_5m(instrument: Instrument) -> None:
    five, one = bars(instrument, 5), bars(instrument, 1)
    of = np.searchsorted(five.ts, one.ts, side="right") - 1
    closed = one.end <= five.end[of]
    one, of = one.pick(closed), of[closed]
    firsts = np.flatnonzero(np.diff(of, prepend=-1))
    assert len(firsts) == len(five) > 150
    assert (np.diff(firsts) == 5).all()
    lasts = np.append(firsts[1:], len(of)) - 1
    assert (one.open[firsts] == five.open).all()
    assert (one.close[lasts] == five.close).all()
    assert (np.maximum.reduceat(one.high, firsts) == five.high).all()
    assert (np.minimum.reduceat(one.low, firsts) == five.low).all()
    assert (np.add.reduceat(one.volume, firsts) == five.volume).all()
    assert (np.add.reduceat(one.trades, firsts) == five.trades).all()
    assert (one.low <= np.minimum(one.open, one.close)).all()
    assert (one.high >= np.maximum(one.open, one.close)).all()


def test_a_closed_1m_bar_is_served_before_its_5m_bar_has_closed() -> None:
    one = bars(INSTRUMENTS[1], 1)
    assert int(one.end[-1]) == NOW - 30
    before = bars(INSTRUMENTS[1], 1, now=NOW - 60)
    assert len(one) == len(before) + 1
    # Bars that were served before do not change.
    assert (one.close[: len(before)] == before.close).all()


def test_the_forming_1m_bar_has_the_open_of_the_closed_one_and_at_most_its_volume() -> None:
    market = Market(INSTRUMENTS, 930)
    forming = market.forming(INSTRUMENTS[1], 1, NOW)
    assert len(forming) == 1
    assert int(forming.ts[0]) == NOW - 30
    whole = bars(INSTRUMENTS[1], 1, now=NOW + 30)
    assert int(whole.ts[-1]) == int(forming.ts[0])
    assert forming.open[0] == whole.open[-1]
    assert forming.volume[0] <= whole.volume[-1]


def test_a_descending_page_of_1m_bars_is_the_end_of_the_whole_range() -> None:
    market = Market(INSTRUMENTS, 930)
    every = bars(INSTRUMENTS[0], 1)
    page = market.bars(INSTRUMENTS[0], 1, START, NOW, NOW, 50, descending=True)
    assert (page.ts[::-1] == every.ts[-50:]).all()
    assert (page.close[::-1] == every.close[-50:]).all()
