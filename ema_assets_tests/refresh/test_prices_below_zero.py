"""A future whose price falls below zero, as that of CL=F did on 2020-04-20: which results have a value."""

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ema_assets import backtest
from ema_assets.config.watchlist import Watchlist
from ema_assets.model.symbols import Instrument
from ema_assets.operations import refresh_performance
from ema_assets.reports.screen import screen
from ema_assets.store import trade_lists
from ema_assets.store.database import Database
from ema_assets.strategies.rule_discovery import discover
from ema_assets.strategies.watchlist_rows import variant_of
from ema_assets_tests.backtest.figures import assert_same_figures
from ema_assets_tests.conftest import Databases
from ema_assets_tests.refresh.exchange import MemoryExchange, refresh, rows_of, utc
from ema_assets_tests.timeframes import D1, FETCHED

FIRST = utc("2020-02-01")
DAYS = 400
LAST = FIRST + timedelta(days=DAYS)
# The future falls below zero before its averages have converged.
STRATEGIES = (
    {"name": "crossover", "entries": "all"},
    {"name": "pullback", "side": "both", "entries": "all"},
    {"name": "both", "rule": "crossover", "side": "both", "fill": "next_open", "cost_bps": 10, "atr_stop": 3.0,
     "entries": "all"},
)  # fmt: skip
WATCHED = Watchlist(
    (Instrument("CL=F", "24/7", allow_negative=True), Instrument("UP", "24/7", allow_negative=True)),
    dict(zip(FETCHED, (2, DAYS + 1), strict=True)),
    strategies=STRATEGIES,
)
COMPUTED = ("ema_signals", "ema_trend", "atr", "bollinger", "macd", "rsi", "vwap", "wma", "relative_volume")
TRADED = ("strategy_9_30_ema", "strategy_both", "strategy_9_30_pullback")


def days_of(symbol: str, closes: list[float]) -> pl.DataFrame:
    opens = [closes[0], *closes[:-1]]
    return pl.DataFrame(
        {
            "symbol": symbol,
            "timeframe": "1d",
            "ts": [FIRST + timedelta(days=day) for day in range(len(closes))],
            "open": opens,
            "high": [max(pair) + 0.5 for pair in zip(opens, closes, strict=True)],
            "low": [min(pair) - 0.5 for pair in zip(opens, closes, strict=True)],
            "close": closes,
            "volume": 1000.0,
        },
        schema_overrides={"ts": pl.Datetime("us", "UTC")},
    )


def closes_through_zero() -> list[float]:
    """Waves of two months around 2, whose averages cross on both sides of zero, with the fall of April 20."""
    closes = waves(2, 30)
    closes[79] = -37.63
    return closes


def waves(middle: float, height: float) -> list[float]:
    return [round(middle + height * math.cos(day / 10) + 3 * math.cos(1.7 * day), 2) for day in range(DAYS)]


def market() -> MemoryExchange:
    return MemoryExchange(days_of("CL=F", closes_through_zero()), days_of("UP", waves(60, 15)))


@pytest.fixture(scope="module")
def stored(databases: Databases) -> Iterator[Database]:
    url = databases.make()
    with Database(url) as database:
        refresh(database, WATCHED, market(), LAST, timeframes=[D1])
        refresh_performance.refresh(database)
        yield database
    databases.drop(url)


def frame(database: Database, table: str) -> pl.DataFrame:
    with database.transaction() as transaction:
        return transaction.query(f"SELECT * FROM {table} WHERE timeframe = '1d' ORDER BY symbol, 3")


def of_future(database: Database, sql: str) -> list[tuple[Any, ...]]:
    return rows_of(database, f"{sql} AND symbol = 'CL=F' AND timeframe = '1d' ORDER BY 1")


@pytest.mark.broad
def test_every_bar_is_stored_and_no_stored_number_is_nan_or_infinite(stored: Database) -> None:
    bars = frame(stored, "market.ohlc").filter(symbol="CL=F")
    assert bars["close"].to_list() == closes_through_zero()
    for table in (*COMPUTED, *TRADED, *(f"{name}_state" for name in TRADED), "strategy_performance"):
        found = frame(stored, f"market.{table}")
        assert found.height > 0, table
        for column in found.select(pl.selectors.float()):
            assert column.drop_nulls().is_finite().all(), f"{table}.{column.name}"


@pytest.mark.broad
def test_averages_trend_and_crossovers_are_computed_below_zero_too(stored: Database) -> None:
    closes, ema = closes_through_zero(), None
    found = {row[0]: row for row in of_future(stored, "SELECT ts, ema_9, ema_30 FROM market.ema_signals WHERE true")}
    for day, close in enumerate(closes):
        if day >= 8:
            ema = float(np.mean(closes[:9])) if ema is None else 0.2 * close + 0.8 * ema
            assert found[FIRST + timedelta(days=day)][1] == pytest.approx(ema, rel=1e-12, abs=1e-12)
    trends = of_future(stored, "SELECT ts, trend, crossover, spread_pct FROM market.ema_trend WHERE trend IS NOT NULL")
    below_zero = set()
    for ts, trend, crossover, spread_pct in trends:
        _, fast, slow = found[ts]
        assert trend == ("up" if fast > slow else "down")
        assert spread_pct == (pytest.approx((fast - slow) / slow * 100) if slow > 0 else None)
        if slow <= 0 and crossover is not None:
            below_zero.add(crossover)
    assert below_zero, "the series must cross below zero"


def test_a_percentage_of_a_price_is_null_unless_the_price_is_above_zero(stored: Database) -> None:
    joined = of_future(
        stored,
        """SELECT ts, o.close, a.atr, a.atr_pct, b.bb_middle, b.bb_upper - b.bb_lower, b.bb_bandwidth, b.bb_percent_b
           FROM market.ohlc o JOIN market.atr a USING (symbol, timeframe, ts)
           JOIN market.bollinger b USING (symbol, timeframe, ts) WHERE a.atr IS NOT NULL AND b.bb_middle IS NOT NULL""",
    )
    for _, close, atr, atr_pct, middle, width, bandwidth, percent_b in joined:
        assert atr_pct == (pytest.approx(atr / close * 100) if close > 0 else None)
        assert bandwidth == (pytest.approx(width / middle) if middle > 0 else None)
        assert percent_b is not None
    assert {close > 0 for _, close, *_ in joined} == {middle > 0 for *_, middle, _, _, _ in joined} == {True, False}


@pytest.mark.parametrize("strategy", TRADED)
def test_a_trade_has_a_return_only_if_its_entry_and_last_price_are_above_zero(stored: Database, strategy: str) -> None:
    trades = [row for row in frame(stored, f"market.{strategy}").to_dicts() if row["symbol"] == "CL=F"]
    closes = dict(zip((FIRST + timedelta(days=day) for day in range(DAYS)), closes_through_zero(), strict=True))
    undefined = 0
    for trade in trades:
        entry, last, sign = trade["entry_price"], trade["last_price"], 1 if trade["side"] == "long" else -1
        is_defined = entry > 0 and last > 0
        assert trade["return_pct"] == (
            pytest.approx(sign * (last / entry - 1) * 100, abs=1e-12) if is_defined else None
        )
        assert (trade["net_return_pct"] is None) == (not is_defined)
        # A multiple of the risk is a ratio of price differences, so it needs no percentage.
        if trade["stop_price"] is not None and sign * (entry - trade["stop_price"]) > 0:
            assert trade["r_multiple"] == pytest.approx(sign * (last - entry) / (sign * (entry - trade["stop_price"])))
        within = [close for ts, close in closes.items() if trade["entry_ts"] < ts < trade["last_ts"]]
        is_walked = is_defined and all(close > 0 for close in within)
        for name in ("bar_returns_sum", "equity_peak", "equity_trough", "drawdown"):
            assert (trade[name] is not None) == is_walked, name
        undefined += not is_walked
    (row,) = of_future(
        stored, f"SELECT undefined_returns, trades FROM results.performance WHERE strategy = '{strategy}'"
    )
    assert row[0] == undefined
    assert undefined > 0
    assert any(trade["return_pct"] is not None for trade in trades)


@pytest.mark.parametrize("options", STRATEGIES)
def test_a_backtest_gives_the_same_figures_for_prices_below_zero(stored: Database, options: dict[str, Any]) -> None:
    given = {"rule": options["name"], **{name: value for name, value in options.items() if name != "name"}}
    found = backtest.load("1d", url=stored.url).run(**given)
    name = variant_of(options, options["name"], discover(), "watchlist").name
    assert_same_figures(found.performance, frame(stored, "results.performance").filter(strategy=name).sort("symbol"))
    of_future = found.equity().filter(symbol="CL=F")["equity"]
    assert of_future[0] == 1.0
    assert of_future[-1] is None


def test_performance_has_no_totals_over_undefined_returns_and_a_remark_that_gives_the_reason(stored: Database) -> None:
    trades = [row for row in frame(stored, "market.strategy_both").to_dicts() if row["symbol"] == "CL=F"]
    found = {row["symbol"]: row for row in frame(stored, "results.performance").to_dicts()
             if row["strategy"] == "strategy_both"}  # fmt: skip
    future, other = found["CL=F"], found["UP"]
    for name in ("total_return_pct", "annualized_return_pct", "max_drawdown_pct", "max_drawdown_from", "sharpe",
                 "sortino", "calmar", "costs_pct", "most_won", "most_lost", "buy_and_hold_pct",
                 "buy_and_hold_annualized_pct"):  # fmt: skip
        assert future[name] is None, name
    closed = [trade for trade in trades if trade["status"] == "closed"]
    known = [trade["net_return_pct"] for trade in closed if trade["net_return_pct"] is not None]
    assert len(known) < len(closed) == future["trades"]
    assert future["win_rate_pct"] == pytest.approx(sum(each > 0 for each in known) / len(known) * 100)
    assert future["expectancy_pct"] == pytest.approx(sum(known) / len(known))
    assert future["average_r"] == pytest.approx(np.mean([each["r_multiple"] for each in closed if each["r_multiple"]]))
    assert future["remark"] == "prices of zero or less"
    # A series that stays above zero has totals like any other.
    assert other["undefined_returns"] == 0
    assert None not in (other["total_return_pct"], other["max_drawdown_pct"], other["buy_and_hold_pct"])
    assert other["remark"] is None or other["remark"] == "too few trades"


@pytest.mark.broad
def test_increments_equal_one_computation_to_the_bit(stored: Database, databases: Databases) -> None:
    url, exchange = databases.make(), market()
    with Database(url) as database:
        for day in (60, 79, 80, 81, 95, 150, 151, 222, 300, 399, 400):
            refresh(database, WATCHED, exchange, FIRST + timedelta(days=day), timeframes=[D1])
        for table in (*COMPUTED, *TRADED):
            assert_frame_equal(frame(database, f"market.{table}"), frame(stored, f"market.{table}"), check_exact=True)
    databases.drop(url)


@pytest.mark.broad
def test_the_screener_shows_a_price_below_zero_without_percentages_of_it(databases: Databases) -> None:
    """The day is one on which the future closes below zero. The open short trade has its stop above zero."""
    url = databases.make()
    stopped = {"name": "crossover", "side": "both", "atr_stop": 3.0, "entries": "all"}
    watched = replace(WATCHED, strategies=(stopped, *STRATEGIES[1:]))
    with Database(url) as database:
        refresh(database, watched, market(), FIRST + timedelta(days=97), timeframes=[D1])
        (row,) = rows_of(
            database,
            """SELECT close, spread_pct, cross_price, cross_distance_pct, atr_pct, stop_distance_pct
               FROM results.screener WHERE symbol = 'CL=F' AND timeframe = '1d'""",
        )
        assert row[0] == closes_through_zero()[96] < 0
        ema_9, ema_30 = rows_of(
            database, "SELECT ema_9, ema_30 FROM market.ema_signals WHERE symbol = 'CL=F' ORDER BY ts DESC LIMIT 1"
        )[0]
        assert row[1] == (pytest.approx((ema_9 - ema_30) / ema_30 * 100) if ema_30 > 0 else None)
        assert row[2] == pytest.approx((ema_30 * 29 / 31 - ema_9 * 8 / 10) / (2 / 10 - 2 / 31))
        assert row[3:] == (None, None, None)
        with database.transaction() as transaction:
            lists = (
                screen(transaction, D1),
                screen(transaction, D1, strategy="strategy_both"),
                trade_lists.open_trades(transaction, ["strategy_both"], ["1d"], None),
            )
        for found in lists:
            distances = {symbol: found.filter(symbol=symbol)["stop_distance_pct"].item() for symbol in ("CL=F", "UP")}
            assert found.filter(symbol="CL=F")["stop_price"].item() > 0
            assert distances["CL=F"] is None
            assert distances["UP"] is not None
    databases.drop(url)
