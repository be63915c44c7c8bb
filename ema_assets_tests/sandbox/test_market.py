"""Tests of synthetic bars: independent of the requested range, plausible, and consistent across timeframes."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ema_assets.market.calendars import bar_grid
from ema_assets.market.exchanges import exchange_sessions
from ema_assets.model.errors import ConfigurationError
from ema_assets.model.symbols import ALWAYS_OPEN, Instrument
from ema_assets.sandbox.market import DAY_MINUTES, Market
from ema_assets.sandbox.synthetic_bars import NO_BARS, Bars
from ema_assets_tests.timeframes import M5

AAPL, BTC, CHEAP = Instrument("AAPL"), Instrument("BTC-USD", ALWAYS_OPEN), Instrument("DOGE-USD", ALWAYS_OPEN)
TOKYO = Instrument("7203", "XTKS")
MARKET = Market([AAPL, BTC, CHEAP, TOKYO], 7)
NOW = int(datetime(2026, 7, 15, 18, 3, tzinfo=UTC).timestamp())
DAY = 86_400
NEW_YORK = ZoneInfo("America/New_York")

instruments = st.sampled_from([AAPL, BTC, CHEAP, TOKYO])


def at(*moment: int, zone: ZoneInfo | None = None) -> int:
    return int(datetime(*moment, tzinfo=zone or UTC).timestamp())  # type: ignore[arg-type,misc]


def day_of(instrument: Instrument, day: date, minutes: int = 5) -> Bars:
    start = at(day.year, day.month, day.day)
    return MARKET.bars(instrument, minutes, start, start + DAY - 1, NOW, 10_000)


def same(left: Bars, right: Bars) -> bool:
    return all(np.array_equal(getattr(left, name), getattr(right, name)) for name in Bars.__slots__)


@settings(max_examples=60, deadline=None)
@given(instruments, st.integers(at(2012, 1, 1), NOW), st.integers(1, 6 * DAY), st.integers(0, 400), st.integers(1, 99))
def test_a_range_has_the_same_bars_alone_as_inside_a_longer_one(
    instrument: Instrument, start: int, span: int, before: int, limit: int
) -> None:
    """A bar must not depend on the requested range or on the size of a page."""
    alone = MARKET.bars(instrument, 5, start, start + span, NOW, limit)
    longer = MARKET.bars(instrument, 5, start - before * 300, start + 3 * span, NOW, 10_000)
    inside = longer.pick((longer.ts >= start) & (longer.ts <= start + span)).pick(slice(0, limit))
    assert same(alone, inside)


def test_another_market_of_the_same_seed_gives_the_same_bars_and_another_seed_does_not() -> None:
    def bars(market: Market) -> Bars:
        return market.bars(AAPL, 5, NOW - 5 * DAY, NOW, NOW, 100)

    assert same(bars(MARKET), bars(Market([AAPL], 7)))
    assert not np.array_equal(bars(MARKET).close, bars(Market([AAPL], 8)).close)


def test_returns_of_two_symbols_are_not_correlated() -> None:
    a, b = (np.diff(np.log(MARKET.bars(i, 5, 0, NOW, NOW, 5_000).close)) for i in (BTC, CHEAP))
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.05


@settings(max_examples=40, deadline=None)
@given(
    instruments,
    st.integers(at(2012, 2, 1), NOW),
    st.integers(3_600, 20 * DAY),
    st.sampled_from([5, 15, 30, 60, 240, DAY_MINUTES]),
    st.integers(1, 60),
)
def test_descending_bars_are_the_ascending_ones_in_reverse(
    instrument: Instrument, start: int, span: int, minutes: int, limit: int
) -> None:
    ascending = MARKET.bars(instrument, minutes, start, start + span, NOW, 10_000)
    descending = MARKET.bars(instrument, minutes, start, start + span, NOW, limit, descending=True)
    assert same(descending, ascending.pick(slice(None, None, -1)).pick(slice(0, limit)))


@pytest.mark.broad
@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([AAPL, BTC, CHEAP]),
    st.integers(at(2012, 2, 1), NOW - 20 * DAY),
    st.sampled_from([15, 30, 60, 240, DAY_MINUTES]),
)
def test_an_aggregate_agrees_exactly_with_its_five_minute_bars(
    instrument: Instrument, start: int, minutes: int
) -> None:
    aggregate = MARKET.bars(instrument, minutes, start, start + 12 * DAY, NOW, 10_000)
    base = MARKET.bars(instrument, 5, start, start + 14 * DAY, NOW, 10_000)
    ends = np.append(aggregate.ts[1:], aggregate.end[-1:]) if len(aggregate) else aggregate.ts
    for row, (first, until) in enumerate(zip(aggregate.ts, ends, strict=True)):
        parts = base.pick((base.ts >= first) & (base.ts < until))
        assert aggregate.open[row] == parts.open[0]
        assert aggregate.close[row] == parts.close[-1]
        assert aggregate.high[row] == parts.high.max()
        assert aggregate.low[row] == parts.low.min()
        assert aggregate.volume[row] == parts.volume.sum()
        assert aggregate.trades[row] == parts.trades.sum()
        assert aggregate.end[row] == parts.end[-1]


@pytest.mark.parametrize("instrument", [AAPL, BTC, CHEAP, TOKYO], ids=lambda instrument: instrument.symbol)
def test_bars_are_plausible_and_continuous(instrument: Instrument) -> None:
    bars = MARKET.bars(instrument, 5, NOW - 60 * DAY, NOW, NOW, 10_000)
    assert (np.diff(bars.ts) > 0).all()
    assert (bars.low > 0).all()
    assert (bars.high >= np.maximum(bars.open, bars.close)).all()
    assert (bars.low <= np.minimum(bars.open, bars.close)).all()
    assert (bars.volume > 0).all()
    assert (bars.trades > 0).all()
    assert ((bars.vwap >= bars.low) & (bars.vwap <= bars.high)).all()
    neighbours = np.diff(bars.ts) == 300
    gap = np.abs(np.log(bars.open[1:] / bars.close[:-1]))[neighbours]
    assert gap.max() < 0.002
    assert len(np.unique(bars.close)) > 100, "prices need enough digits to move"


def test_stock_prices_have_cents_and_a_plausible_level() -> None:
    for symbol in ("AAPL", "MSFT", "NVDA", "KO"):
        instrument = Instrument(symbol)
        bars = Market([instrument], 7).bars(instrument, DAY_MINUTES, NOW - 3_000 * DAY, NOW, NOW, 10_000)
        assert np.array_equal(np.round(bars.close, 2), bars.close)
        assert bars.close.min() > 3
        assert bars.close.max() < 5_000


def test_volume_is_higher_at_the_open_and_in_the_last_hour_of_a_session_than_at_noon() -> None:
    bars = MARKET.bars(AAPL, 5, NOW - 90 * DAY, NOW, NOW, 10_000)
    hour = np.array([datetime.fromtimestamp(int(t), NEW_YORK).hour for t in bars.ts])
    means = {each: bars.volume[hour == each].mean() for each in (9, 12, 15)}
    assert means[9] > 1.5 * means[12]
    assert means[15] > 1.5 * means[12]


@pytest.mark.parametrize("minutes", [5, 60, DAY_MINUTES])
@pytest.mark.parametrize("instrument", [AAPL, BTC], ids=lambda instrument: instrument.symbol)
def test_crossovers_of_two_averages_have_a_realistic_rate(instrument: Instrument, minutes: int) -> None:
    """EMAs of 9 and 30 bars cross every 20 to 40 bars of a random walk, every few bars of noise, rarely in a trend."""
    close = MARKET.bars(instrument, minutes, 0, NOW, NOW, 3_000, descending=True).close[::-1]
    fast, slow, crossings, above = close[0], close[0], 0, False
    for price in close:
        fast += (price - fast) * 2 / 10
        slow += (price - slow) * 2 / 31
        crossings += above != (fast > slow)
        above = fast > slow
    assert 15 < len(close) / crossings < 60


@pytest.mark.parametrize("calendar", ["XNYS", "XTKS", ALWAYS_OPEN])
def test_the_grid_of_five_minute_bars_is_that_of_the_calendar(calendar: str) -> None:
    first, last = date(2025, 11, 24), date(2025, 12, 2)
    instrument = Instrument("X", calendar)
    bars = Market([instrument], 1).bars(instrument, 5, at(2025, 11, 24), at(2025, 12, 3) - 1, NOW, 10_000)
    grid = bar_grid(exchange_sessions(calendar, first, last), M5)
    assert bars.ts.tolist() == grid["ts"].dt.epoch("s").to_list()
    assert bars.end.tolist() == grid["ts_end"].dt.epoch("s").to_list()


def test_a_half_day_ends_at_one_in_new_york() -> None:
    """This is the Friday after Thanksgiving. Thanksgiving itself has no bars."""
    bars = day_of(AAPL, date(2025, 11, 28))
    assert len(bars) == 42
    assert bars.end[-1] == at(2025, 11, 28, 13, zone=NEW_YORK)
    assert len(day_of(AAPL, date(2025, 11, 27))) == 0


@pytest.mark.parametrize(("day", "utc_hour"), [(date(2026, 3, 6), 14), (date(2026, 3, 9), 13), (date(2025, 11, 3), 14)])
def test_sessions_follow_new_york_through_clock_changes(day: date, utc_hour: int) -> None:
    bars = day_of(AAPL, day)
    assert datetime.fromtimestamp(int(bars.ts[0]), UTC).hour == utc_hour
    assert len(bars) == 78
    (daily,) = MARKET.bars(AAPL, DAY_MINUTES, int(bars.ts[0]) - 12 * 3_600, int(bars.ts[0]), NOW, 10).ts
    assert daily == at(day.year, day.month, day.day, zone=NEW_YORK)


def test_a_day_of_crypto_opens_at_utc_midnight_and_has_288_bars() -> None:
    assert len(day_of(BTC, date(2026, 3, 8))) == 288
    assert day_of(BTC, date(2026, 3, 8), DAY_MINUTES).ts.tolist() == [at(2026, 3, 8)]


def test_hours_are_aligned_to_the_clock_and_cut_at_the_open() -> None:
    hours = day_of(AAPL, date(2026, 7, 14), 60)
    assert [datetime.fromtimestamp(int(t), NEW_YORK).hour for t in hours.ts] == [9, 10, 11, 12, 13, 14, 15]
    assert hours.open[0] == day_of(AAPL, date(2026, 7, 14)).open[0]


@pytest.mark.parametrize("minutes", [5, 15, 60, 240, DAY_MINUTES])
def test_only_closed_bars_are_returned_and_they_do_not_change_later(minutes: int) -> None:
    bars = MARKET.bars(AAPL, minutes, NOW - 3 * DAY, NOW + DAY, NOW, 10_000)
    assert bars.end[-1] <= NOW
    later = MARKET.bars(AAPL, minutes, NOW - 3 * DAY, NOW + DAY, NOW + 3 * DAY, 10_000)
    assert len(later) > len(bars)
    assert same(later.pick(slice(0, len(bars))), bars)


def test_there_are_no_bars_before_history_or_in_an_empty_range() -> None:
    assert same(MARKET.bars(AAPL, 5, 0, at(1980, 1, 1), NOW, 10), NO_BARS)
    assert same(MARKET.bars(AAPL, 5, NOW, NOW - 1, NOW, 10), NO_BARS)


def test_a_calendar_recorded_only_for_some_years_still_has_recent_bars() -> None:
    """exchange_calendars knows the holidays of XBOM only until the end of 2026."""
    instrument = Instrument("INFY", "XBOM")
    assert len(Market([instrument], 7).bars(instrument, 5, NOW - 10 * DAY, NOW, NOW, 100)) == 100


def test_an_unknown_calendar_is_a_configuration_error() -> None:
    instrument = Instrument("X", "NOPE")
    with pytest.raises(ConfigurationError, match="NOPE"):
        Market([instrument], 7).bars(instrument, 5, NOW - DAY, NOW, NOW, 10)
