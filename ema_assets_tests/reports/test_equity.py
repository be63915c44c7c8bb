"""Tests of equity curves with results calculated by hand: trades that win, lose and stay open."""

from datetime import timedelta

import polars as pl
import pytest

from ema_assets.reports import equity as equities
from ema_assets.store.database import Database
from ema_assets_tests.refresh.exchange import utc

START = utc("2026-11-02 00:00")


def put(database: Database, sql: str, *values: object) -> None:
    with database.transaction() as transaction:
        transaction.execute(sql, *values)


def trade(database: Database, symbol: str, begin: int, end: int, pct: float | None, **more: object) -> None:
    side, status, cost = more.get("side", "long"), more.get("status", "closed"), more.get("cost_pct", 0.0)
    bar_returns = None if pct is None else more.get("bar_returns", 0.0)
    put(
        database,
        """
        INSERT INTO market.strategy_9_30_ema (symbol, timeframe, entry_ts, side, entry_price, last_ts, last_price,
            return_pct, net_return_pct, bars_held, status, bar_returns_sum)
        VALUES ($1, '1h', $2, $3, 100, $4, 100, $5::text::float8 + $7::text::float8, $5::text::float8, 1, $6,
            $8::text::float8)
        """,
        symbol,
        START + timedelta(hours=begin),
        side,
        START + timedelta(hours=end),
        None if pct is None else str(pct),
        status,
        str(cost),
        None if bar_returns is None else str(bar_returns),
    )


@pytest.fixture
def traded(database: Database) -> Database:
    """A and B with a hundred 1h bars. The price is 110 from hour 40 to hour 60, else 100."""
    put(database, "INSERT INTO market.instrument (symbol, calendar) VALUES ('A', '24/7'), ('B', '24/7'), ('C', '24/7')")
    for asset in ("ohlc", "strategy_9_30_ema"):
        put(
            database,
            """
            INSERT INTO market.series_state (asset, symbol, timeframe, first_ts, last_ts, computed_at)
            SELECT $1, unnest(ARRAY['A', 'B']), '1h', $2, $3, now()
            """,
            asset,
            START,
            START + timedelta(hours=99),
        )
    put(
        database,
        """
        INSERT INTO market.ohlc (symbol, timeframe, ts, open, high, low, close, volume)
        SELECT s, '1h', $1 + make_interval(hours => n), p, p, p, p, 1
        FROM unnest(ARRAY['A', 'B']) AS s, generate_series(0, 99) AS n,
             LATERAL (SELECT CASE WHEN n BETWEEN 40 AND 60 THEN 110 ELSE 100 END::float8 AS p) price
        """,
        START,
    )
    return database


def found(database: Database, symbols: list[str] | None = None) -> equities.Equity:
    with database.transaction() as transaction:
        return equities.equity(transaction, "strategy_9_30_ema", "1h", symbols)


def at(curve: pl.DataFrame, hour: int) -> float:
    """The value of the curve at an hour, or its last value before that."""
    return float(curve.filter(pl.col("ts") <= START + timedelta(hours=hour))["equity"][-1])


def test_the_equity_of_a_series_compounds_and_follows_the_price_of_an_open_trade(traded: Database) -> None:
    trade(traded, "A", 10, 20, 10.0)
    trade(traded, "A", 30, 70, -50.0)
    own = found(traded, ["A"])
    assert at(own.curve, 15) == 1
    assert at(own.curve, 25) == pytest.approx(1.1)
    assert at(own.curve, 50) == pytest.approx(1.1 * 1.1)
    assert at(own.curve, 68) == pytest.approx(1.1)
    assert own.total_return_pct == pytest.approx(-45.0)
    assert own.max_drawdown_pct == pytest.approx((1 - 0.55 / 1.21) * 100)
    assert (own.series, own.trades, own.left_out) == (1, (2, 0), ())


def test_a_curve_that_never_falls_has_a_drawdown_of_zero_without_a_sign(traded: Database) -> None:
    trade(traded, "A", 10, 20, 10.0)
    assert str(found(traded, ["A"]).max_drawdown_pct) == "0.0"


def test_an_open_trade_has_already_paid_its_entry_costs(traded: Database) -> None:
    trade(traded, "A", 30, 70, 0.0, cost_pct=2.0)
    trade(traded, "B", 30, 99, 0.0, cost_pct=1.0, status="open")
    for symbol in ("A", "B"):
        curve = found(traded, [symbol]).curve
        assert at(curve, 35) == pytest.approx(0.99)
        assert at(curve, 50) == pytest.approx(1.09)


def test_a_portfolio_is_the_mean_of_its_series_including_those_in_cash(traded: Database) -> None:
    trade(traded, "A", 10, 20, 10.0)
    trade(traded, "B", 30, 99, 4.0, side="short", status="open")
    both = found(traded)
    assert at(both.curve, 25) == pytest.approx((1.1 + 1) / 2)
    # A short trade loses a tenth while the price is a tenth higher.
    assert at(both.curve, 50) == pytest.approx((1.1 + 0.9) / 2)
    assert both.total_return_pct == pytest.approx(7.0)
    assert (both.series, both.trades) == (2, (1, 1))
    assert found(traded, ["B"]).total_return_pct == pytest.approx(4.0)


def test_a_total_loss_is_final_and_a_series_with_an_undefined_return_is_left_out(traded: Database) -> None:
    trade(traded, "A", 10, 20, -130.0)
    trade(traded, "A", 30, 40, 50.0)
    trade(traded, "B", 10, 20, None)
    whole = found(traded)
    assert whole.total_return_pct == pytest.approx(-100.0)
    assert (whole.series, whole.left_out) == (1, ("B",))
    nothing = found(traded, ["B"])
    assert (nothing.total_return_pct, nothing.series, nothing.curve.height) == (None, 0, 0)
    assert found(traded, ["C"]).series == 0


def test_a_series_with_a_price_of_zero_or_less_within_a_trade_is_left_out(traded: Database) -> None:
    trade(traded, "A", 10, 20, 10.0)
    trade(traded, "B", 10, 20, 10.0, bar_returns=None)
    trade(traded, "B", 30, 40, 50.0)
    whole = found(traded)
    assert (whole.series, whole.left_out, whole.trades) == (1, ("B",), (1, 0))
    assert whole.total_return_pct == pytest.approx(10.0)


def test_a_long_curve_is_thinned_out_and_keeps_its_end(traded: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(40):
        trade(traded, "A", 2 * number, 2 * number + 1, 1.0)
    whole = found(traded, ["A"])
    monkeypatch.setattr(equities, "MOST_POINTS", 10)
    thin = found(traded, ["A"])
    assert thin.curve.height <= 12 < whole.curve.height
    assert thin.curve["ts"].is_sorted()
    assert (thin.curve.row(0), thin.curve.row(-1)) == (whole.curve.row(0), whole.curve.row(-1))
    assert thin.max_drawdown_pct == whole.max_drawdown_pct


def test_time_without_a_trade_has_as_many_points_as_time_with_one(
    traded: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(equities, "MOST_POINTS", 99)
    trade(traded, "A", 10, 20, 10.0)
    for number in range(30, 40):
        trade(traded, "A", number, number + 1, 1.0)
    curve = found(traded, ["A"]).curve
    spans = [
        curve.filter(pl.col("ts").is_between(START + timedelta(hours=n), START + timedelta(hours=n + 9)))
        for n in (0, 10, 30, 80)
    ]
    assert all(9 <= span.height <= 10 for span in spans)
