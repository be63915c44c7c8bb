"""A day and a night at each vendor, on a virtual clock and a real socket: no result uses more than was known.

The day has bars, a hole in all symbols, a correction, the close, the auction, the evening, the night, a spin-off at the
next open and a symbol that ends. After each sweep, all results equal those computed from the stored bars.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_series_equal

from ema_assets.config.watchlist import Watchlist
from ema_assets.operations.sync_watchlist import sync
from ema_assets.providers.fetching.base import ProviderClient
from ema_assets.providers.registry import PROVIDERS
from ema_assets.refresh.plan_requests import FetchRules
from ema_assets.reports import status
from ema_assets.sandbox.faults import CorrectedBar, Ended, Hole, Split
from ema_assets.sandbox.server import RunningSandbox, running_sandbox
from ema_assets.store.database import Database
from ema_assets_tests.providers import conftest as vendors
from ema_assets_tests.refresh.exchange import rows_of, utc, watch
from ema_assets_tests.refresh.life import bring_up_to_date
from ema_assets_tests.timeframes import D1, FETCHED, H1, M5, M15

pytestmark = pytest.mark.e2e

OPEN, CLOSE, NEXT_OPEN = utc("2026-07-15 13:30"), utc("2026-07-15 20:00"), utc("2026-07-16 13:30")
ROLLED_UP = (M15, H1)
TIMEFRAMES = (M5, *ROLLED_UP, D1)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
WRONG = OPEN + timedelta(minutes=35)
HOLE = (OPEN + 90 * MINUTE, OPEN + 115 * MINUTE)
RATIO = 1.253


@dataclass
class Vendor:
    """One vendor, its spelling of the two symbols, and whether their exchange has a close."""

    opened: Callable[..., ProviderClient]
    symbols: tuple[str, str]
    spelt: tuple[str, str]
    has_close: bool


VENDORS = {
    "alpaca": Vendor(vendors.alpaca, ("AAPL", "MSFT"), ("AAPL", "MSFT"), has_close=True),
    "yahoo": Vendor(vendors.yahoo, ("AAPL", "MSFT"), ("AAPL", "MSFT"), has_close=True),
    "binance": Vendor(vendors.binance, ("BTC-USD", "DOGE-USD"), ("BTCUSDT", "DOGEUSDT"), has_close=False),
    "coinbase": Vendor(vendors.coinbase, ("BTC-USD", "DOGE-USD"), ("BTC-USD", "DOGE-USD"), has_close=False),
}


class Day:
    """A sandbox, a database, and a clock that the test sets from one moment to the next."""

    def __init__(self, name: str, sandbox: RunningSandbox, database: Database, watched: Watchlist) -> None:
        self.vendor, self.sandbox, self.database, self.watched = VENDORS[name], sandbox, database, watched
        days = dict(zip(FETCHED, (3, 60), strict=True))
        self.rules = FetchRules(days, {None: PROVIDERS[name].publication})
        self.now = OPEN
        sync(database, watched, OPEN)

    def open_provider(self, _name: str | None) -> ProviderClient:
        return self.vendor.opened(self.sandbox.base_url, clock=lambda: self.now)

    def sweep(self, now: datetime) -> None:
        """Refresh what is stale at `now`, then check all results."""
        self.now = now
        _Clock.now = now
        if bring_up_to_date(self.database, self.watched, self.open_provider, self.rules, now):
            self.look(now)

    def look(self, now: datetime) -> None:
        """Check that every result follows from the stored bars, and that no bar is from the future."""
        bars = self.frame("SELECT symbol, timeframe, ts, open, high, low, close FROM market.ohlc ORDER BY 1, 2, 3")
        for timeframe in TIMEFRAMES:
            mine = bars.filter(timeframe=timeframe.key)
            if not timeframe.is_session:
                assert mine.filter(pl.col("ts") >= now).is_empty(), (now, timeframe.key)
        signals = self.frame("SELECT symbol, timeframe, ts, ema_9, ema_30 FROM market.ema_signals ORDER BY 1, 2, 3")
        assert signals.select("symbol", "timeframe", "ts").equals(bars.select("symbol", "timeframe", "ts"))
        for span in (9, 30):
            known = [value for (_, _), group in bars.group_by("symbol", "timeframe", maintain_order=True)
                     for value in ema(group["close"].to_list(), span)]  # fmt: skip
            expected = pl.Series(f"ema_{span}", known, pl.Float64)
            assert_series_equal(signals[expected.name], expected, rel_tol=1e-9, abs_tol=1e-12)
        for timeframe in ROLLED_UP:
            self._look_at_rolled_up(bars, timeframe.key, timeframe.minutes)
        screened = self.frame("SELECT symbol, timeframe, ts, close FROM results.screener")
        last = bars.group_by("symbol", "timeframe").agg(pl.col("ts").last(), pl.col("close").last())
        both = screened.join(last, on=["symbol", "timeframe"], suffix="_stored")
        assert both.height == screened.height == len(TIMEFRAMES) * 2
        assert both["ts"].equals(both["ts_stored"])
        assert both["close"].equals(both["close_stored"])

    def _look_at_rolled_up(self, bars: pl.DataFrame, key: str, minutes: int) -> None:
        fives = bars.filter(timeframe="5m").sort("ts")
        opened = pl.lit(OPEN) if self.vendor.has_close else pl.lit(OPEN.replace(hour=0, minute=0))
        bucket = (pl.col("ts") - opened).dt.total_minutes() % (24 * 60) // minutes * minutes
        day = ((pl.col("ts") - opened).dt.total_minutes() // (24 * 60)) * 24 * 60
        start = opened + pl.duration(minutes=day + bucket)
        wanted = (
            fives.with_columns(bucket=start)
            .group_by("symbol", "bucket")
            .agg(
                open=pl.col("open").first(),
                high=pl.col("high").max(),
                low=pl.col("low").min(),
                close=pl.col("close").last(),
            )
        )
        stored = bars.filter(timeframe=key).join(
            wanted, left_on=["symbol", "ts"], right_on=["symbol", "bucket"], how="left", suffix="_wanted"
        )
        for name in ("open", "high", "low", "close"):
            assert stored[name].to_list() == stored[f"{name}_wanted"].to_list(), (self.now, key, name)

    def printed(self, ts: datetime) -> float:
        """The close of the market's five-minute bar of the first symbol at `ts`."""
        instrument = self.watched.instruments[0]
        at = int(ts.timestamp())
        return float(self.sandbox.handle.market.bars(instrument, 5, at, at, at + 300, 1).close[0])

    def frame(self, sql: str) -> pl.DataFrame:
        with self.database.transaction() as transaction:
            return transaction.query(sql)

    def close_of(self, timeframe: str, ts: datetime) -> float:
        ((close,),) = rows_of(
            self.database,
            "SELECT close FROM market.ohlc WHERE symbol = $1 AND timeframe = $2 AND ts = $3",
            self.vendor.symbols[0],
            timeframe,
            ts,
        )
        assert isinstance(close, float)
        return close


def ema(closes: list[float], span: int) -> list[float | None]:
    """The definition of docs/SIGNALS.md: the average starts with the mean of the first `span` closes."""
    found: list[float | None] = [None] * min(span - 1, len(closes))
    if len(closes) >= span:
        value = sum(closes[:span]) / span
        found.append(value)
        for close in closes[span:]:
            value += (close - value) * 2 / (span + 1)
            found.append(value)
    return found


class _Clock:
    now = OPEN


@pytest.fixture(params=list(VENDORS))
def day(request: pytest.FixtureRequest, database: Database, no_pace: None) -> Iterator[Day]:
    vendor = VENDORS[request.param]
    calendar = "XNYS" if vendor.has_close else "24/7"
    watched = watch(dict.fromkeys(vendor.symbols, calendar), m5_days=3, d1_days=60, timeframes=TIMEFRAMES)
    with running_sandbox(watched.instruments, clock=lambda: _Clock.now) as sandbox:
        yield Day(request.param, sandbox, database, watched)


@pytest.mark.broad
def test_no_result_uses_more_than_was_known_during_a_day_and_a_night(day: Day) -> None:
    faults, (first, second) = day.sandbox.handle.faults, day.vendor.spelt
    hole = faults.add(Hole(symbols=[first, second], start=HOLE[0], end=HOLE[1]))
    if day.vendor.has_close:
        auction = day.printed(CLOSE - 5 * MINUTE) * 0.996
        faults.add(
            CorrectedBar(symbols=[first], ts=CLOSE - 5 * MINUTE, close=auction, low=auction * 0.99, seconds=900.0)
        )
    day.sweep(OPEN + 41 * MINUTE)
    was = day.close_of("5m", WRONG)
    faults.add(CorrectedBar(symbols=[first], ts=WRONG, close=was * 0.99, low=was * 0.9))
    for minutes in (46, 81, 121, 181):
        day.sweep(OPEN + minutes * MINUTE)
    assert rows_of(day.database, "SELECT sum(bars)::bigint FROM market.bar_gap WHERE status = 'open'") == [(10,)]

    day.sweep(CLOSE + 5 * timedelta(seconds=1))
    preliminary = day.close_of("1d", OPEN) if day.vendor.has_close else 0.0
    for minutes in (10, 21, 26, 241, 301):
        day.sweep(CLOSE + minutes * MINUTE)
    if day.vendor.has_close:
        assert preliminary > day.close_of("1d", OPEN) == pytest.approx(auction)
        assert day.close_of("5m", CLOSE - 5 * MINUTE) == pytest.approx(auction)
    # The correction came forty minutes after its bar. The nightly run reads the last sessions again.
    for hours in (4.2, 5.2):
        day.sweep(utc("2026-07-16 00:00") + hours * HOUR)
    assert day.close_of("5m", WRONG) == pytest.approx(was * 0.99)

    faults.clear(hole)
    day.sweep(utc("2026-07-16 12:00"))
    day.sweep(NEXT_OPEN - MINUTE)
    if day.vendor.has_close:
        faults.add(Split(symbols=[first], at=NEXT_OPEN, ratio=RATIO))
    faults.add(Ended(symbols=[second], at=NEXT_OPEN))
    before = rows_of(day.database, "SELECT count(*) FROM market.strategy_9_30_ema")
    for minutes in (6, 11):
        day.sweep(NEXT_OPEN + minutes * MINUTE)
    if day.vendor.has_close:
        assert day.close_of("5m", WRONG) == pytest.approx(was * 0.99 / RATIO, rel=1e-4)
        flipped = rows_of(day.database, "SELECT crossovers_flipped, trades_flipped FROM market.bar_revision "
                                        "WHERE kind NOT IN ('correction', 'late bars')")  # fmt: skip
        assert set(flipped) == {(0, 0)}
        assert before <= rows_of(day.database, "SELECT count(*) FROM market.strategy_9_30_ema")

    for days in range(1, 6):
        day.sweep(NEXT_OPEN + timedelta(days=days, hours=11))
    with day.database.transaction() as transaction:
        silent = status.silent(transaction)
    assert [line.split(":")[0] for line in silent] == [day.vendor.symbols[1]]
    filled = rows_of(
        day.database,
        "SELECT count(*) FROM market.ohlc WHERE timeframe = '5m' AND ts >= $1 AND ts < $2",
        *HOLE,
    )
    assert filled == [(10,)]
