"""Tests of the views in `results` against plain Python: performance figures, screener columns, the role of readers."""

import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import polars as pl
import psycopg2
import pytest

from ema_assets.config.watchlist import Watchlist
from ema_assets.market.calendars import bar_grid
from ema_assets.market.exchanges import exchange_sessions
from ema_assets.model.schemas import UTC_TIME
from ema_assets.model.symbols import Instrument
from ema_assets.model.timeframes import Timeframe, by_key
from ema_assets.operations import refresh_performance
from ema_assets.operations.sync_watchlist import adopt_graph
from ema_assets.refresh.graph import build
from ema_assets.signals.ema_signals import SIGNAL as EMA_SIGNAL
from ema_assets.signals.ema_trend import ema_trend
from ema_assets.store import results
from ema_assets.store.database import Database
from ema_assets.store.migrations import migrate
from ema_assets.store.planner_settings import ADDS_UP_ONCE
from ema_assets.strategies import figures
from ema_assets.strategies.trade_columns import TRADE_SCHEMA
from ema_assets_tests.backtest.figures import assert_same_figures
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, refresh, utc, watch
from ema_assets_tests.strategies.test_performance import curve, of_curve
from ema_assets_tests.timeframes import D1, FETCHED, M5, ORDER

CALENDARS = {"AAPL": "XNYS", "0700.HK": "XHKG", "BTC-USD": "24/7"}
STRATEGIES = (
    {"name": "guarded", "rule": "crossover", "side": "both", "fill": "next_open", "cost_bps": 25, "atr_stop": 1.0},
    {"name": "bears", "rule": "crossover", "side": "short"},
    {"name": "intraday", "rule": "pullback", "side": "both", "exit_at_session_end": True, "atr_target": 2.0},
)
WATCHED = Watchlist(
    tuple(Instrument(symbol, calendar) for symbol, calendar in CALENDARS.items()),
    dict(zip(FETCHED, (12, 400), strict=True)),
    strategies=STRATEGIES,
)
GRAPH = build(WATCHED)
NOW = utc("2026-11-20 15:00")
COSTS = {"strategy_guarded": 0.0025}


def exchange() -> MemoryExchange:
    return MemoryExchange(
        *(
            bars_on(
                calendar,
                symbol,
                timeframe,
                date(2026, 11, 11) if timeframe is M5 else date(2025, 11, 3),
                date(2026, 11, 20),
                seed,
            )
            for seed, (symbol, calendar) in enumerate(CALENDARS.items())
            for timeframe in FETCHED
        )
    )


@pytest.fixture(scope="module")
def filled(databases) -> Iterator[Database]:
    """A database in which everything is computed and performance is refreshed."""
    url = databases.make()
    with Database(url) as database:
        refresh(database, WATCHED, exchange(), NOW)
        refresh_performance.refresh(database)
        yield database
    databases.drop(url)


def rows(database: Database, sql: str, *values: object) -> list[dict[str, Any]]:
    with database.transaction() as transaction:
        return transaction.query(sql, *values).rows(named=True)


def near(found: float | None, expected: float | None, rel: float = 1e-9) -> bool:
    if found is None or expected is None:
        return found is expected
    return math.isclose(found, expected, rel_tol=rel, abs_tol=1e-9)


# --- performance ------------------------------------------------------------------------------------------------------


def bars_a_year(database: Database, calendar: str, timeframe: Timeframe) -> float:
    """Return the number of bars per year, from the library's sessions of the last 365 stored days."""
    (known,) = rows(database, "SELECT min(session) a, max(session) b FROM market.session WHERE calendar = $1", calendar)
    days = min(365, (known["b"] - known["a"]).days + 1)
    sessions = exchange_sessions(calendar, known["b"] - timedelta(days=days - 1), known["b"])
    return bar_grid(sessions, timeframe).height * 365.25 / days


def longest(won: list[bool], wanted: bool) -> int:
    best = run = 0
    for each in won:
        run = run + 1 if each is wanted else 0
        best = max(best, run)
    return best


def annualized(growth: float, times: float) -> float | None:
    """Return the growth per year in percent; None when it is too large to be meaningful."""
    if growth == 0:
        return -100.0
    return None if math.log(growth) * times > 50 else (math.exp(math.log(growth) * times) - 1) * 100


def expected_of(bars: list[dict[str, Any]], trades: list[dict[str, Any]], cost: float, year: float) -> dict[str, Any]:
    """Compute every figure from prices of trades and a curve per bar, without the sums that strategies store."""
    returns, points = curve(bars, trades, cost)
    path = of_curve(returns, points)
    closed = [each for each in trades if each["exit_ts"] is not None]
    nets, costs = [], []
    for each in trades:
        sign = 1 if each["side"] == "long" else -1
        last = each["exit_price"] if each["exit_ts"] is not None else each["last_price"]
        paid = cost * (1 + (last / each["entry_price"] if each["exit_ts"] is not None else 0))
        costs.append(paid * 100)
        each["net"] = (sign * (last / each["entry_price"] - 1) - paid) * 100
        if each["exit_ts"] is not None:
            nets.append(each["net"])
    wins, losses = [net for net in nets if net > 0], [net for net in nets if net <= 0]
    at = {bar["ts"]: number for number, bar in enumerate(bars)}
    held = sum(at[each["exit_ts"] or bars[-1]["ts"]] - at[each["entry_ts"]] for each in trades)
    enough = len(closed) >= results.FEWEST_TRADES
    elapsed = (bars[-1]["ts"] - bars[0]["ts"]) / timedelta(days=365.25)
    times = 1 / max(len(bars) / year, elapsed)
    annual = annualized(path.equity, times)
    hold = bars[-1]["close"] / bars[0]["close"]
    return {
        "first_ts": bars[0]["ts"],
        "last_ts": bars[-1]["ts"],
        "bars": len(bars),
        "trades": len(closed),
        "open_trades": len(trades) - len(closed),
        "win_rate_pct": len(wins) / len(nets) * 100 if nets else None,
        "average_win_pct": math.fsum(wins) / len(wins) if wins else None,
        "average_loss_pct": math.fsum(losses) / len(losses) if losses else None,
        "best_trade_pct": max(nets, default=None),
        "worst_trade_pct": min(nets, default=None),
        "expectancy_pct": math.fsum(nets) / len(nets) if nets else None,
        "profit_factor": math.fsum(wins) / -math.fsum(losses) if enough and math.fsum(losses) else None,
        "total_return_pct": (path.equity - 1) * 100,
        "annualized_return_pct": annual if enough else None,
        "max_drawdown_pct": path.drawdown * 100,
        "max_drawdown_from": (path.peak_ts or bars[0]["ts"]) if path.drawdown > 0 else None,
        "max_drawdown_to": path.trough_ts,
        "exposure_pct": held / len(bars) * 100,
        "sharpe": path.mean / path.deviation * math.sqrt(len(bars) * times) if enough and path.deviation else None,
        "sortino": path.mean / path.downside * math.sqrt(len(bars) * times) if enough and path.downside else None,
        "calmar": annual / (path.drawdown * 100) if enough and path.drawdown and annual is not None else None,
        "most_won": longest([net > 0 for net in nets], True),
        "most_lost": longest([net > 0 for net in nets], False),
        "costs_pct": math.fsum(costs),
        "buy_and_hold_pct": (hold - 1) * 100,
        "buy_and_hold_annualized_pct": annualized(hold, times),
        "remark": None if enough else "too few trades",
    }


def assert_figures(row: dict[str, Any], expected: dict[str, Any]) -> None:
    where = f"{row['strategy']} {row['symbol']}|{row['timeframe']}"
    for name, value in expected.items():
        found = row[name]
        if isinstance(value, float) and found is not None:
            # Annualizing raises rounded numbers to a large power.
            assert near(found, value, 1e-6 if "annualized" in name or name == "calmar" else 1e-8), (
                where,
                name,
                found,
                value,
            )
        else:
            assert found == value, (where, name, found, value)


def series_of(database: Database, strategy: str, symbol: str, timeframe: str) -> tuple[list[Any], list[Any]]:
    bars = rows(
        database,
        "SELECT ts, close FROM market.ohlc WHERE symbol = $1 AND timeframe = $2 ORDER BY ts",
        symbol,
        timeframe,
    )
    trades = rows(
        database,
        f"""SELECT side, entry_ts, entry_price, exit_ts, exit_price, last_price FROM market.{strategy}
            WHERE symbol = $1 AND timeframe = $2 ORDER BY entry_ts""",
        symbol,
        timeframe,
    )
    return bars, trades


def test_every_figure_matches_one_computed_from_trades_and_an_equity_curve_per_bar(filled: Database) -> None:
    found = rows(filled, "SELECT * FROM results.performance")
    keys = {(row["strategy"], row["symbol"], row["timeframe"]) for row in found}
    assert keys == {
        (strategy, symbol, frame.key) for strategy in GRAPH.strategies for symbol in CALENDARS for frame in ORDER
    }
    seen = set()
    for row in found:
        bars, trades = series_of(filled, row["strategy"], row["symbol"], row["timeframe"])
        year = bars_a_year(filled, CALENDARS[row["symbol"]], by_key(row["timeframe"]))
        assert_figures(row, expected_of(bars, trades, COSTS.get(row["strategy"], 0.0), year))
        seen.add((row["trades"] > 0, row["open_trades"], row["remark"], row["sharpe"] is not None))
    # All cases occur: no trade, an open trade, too few trades, enough trades.
    assert (False, 0, "too few trades", False) in seen
    assert {(True, 0, None, True), (True, 1, None, True), (True, 1, "too few trades", False)} <= seen


def test_a_series_with_bars_and_no_trades_has_a_row_with_zeros(filled: Database) -> None:
    row = rows(filled, "SELECT * FROM results.performance WHERE trades = 0 AND open_trades = 0")[0]
    zeros = ("total_return_pct", "max_drawdown_pct", "exposure_pct", "most_won", "most_lost", "costs_pct")
    assert [row[name] for name in zeros] == [0] * len(zeros)
    for name in (
        "win_rate_pct",
        "profit_factor",
        "sharpe",
        "sortino",
        "calmar",
        "max_drawdown_from",
        "annualized_return_pct",
    ):
        assert row[name] is None
    assert row["buy_and_hold_pct"] != 0
    assert row["remark"] == "too few trades"


TS = datetime(2026, 11, 2, tzinfo=UTC)


def by_hand(
    database: Database,
    closes: Sequence[float],
    trades: Sequence[tuple[str, int, int | None]],
    *,
    is_checked: bool = True,
    days: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Store a 1d series with these closes and trades (side, entry, exit) and return its row of performance.

    `days` are the days of the closes. Without it they are consecutive.
    """
    watched = Watchlist((Instrument("X", "24/7"),), dict(zip(FETCHED, (5, 30), strict=True)))
    refresh(database, watched, MemoryExchange(), TS + timedelta(days=30))
    bars = [
        {"ts": TS + timedelta(days=day), "close": close}
        for day, close in zip(days or range(len(closes)), closes, strict=True)
    ]
    stored = []
    for side, entry, end in trades:
        sign = 1.0 if side == "long" else -1.0
        last = len(bars) - 1 if end is None else end
        e = [max(1 + sign * (close / closes[entry] - 1), 0.0) for close in closes[entry : last + 1]]
        growths = [b / a - 1 if a else 0.0 for a, b in zip(e, e[1:], strict=False)]
        falls = [
            (1 - e[low] / e[high] if e[high] else 0.0, -high, -low)
            for high in range(len(e))
            for low in range(high, len(e))
        ]
        fall, high, low = max(falls)
        stored.append(
            {
                "entry_ts": bars[entry]["ts"],
                "side": side,
                "entry_price": closes[entry],
                "exit_ts": None if end is None else bars[end]["ts"],
                "exit_price": None if end is None else closes[end],
                "last_ts": bars[last]["ts"],
                "last_price": closes[last],
                "return_pct": sign * (closes[last] / closes[entry] - 1) * 100,
                "net_return_pct": sign * (closes[last] / closes[entry] - 1) * 100,
                "bars_held": last - entry,
                "status": "open" if end is None else "closed",
                "bar_returns_sum": sum(growths),
                "bar_returns_square_sum": sum(each**2 for each in growths),
                "bar_returns_negative_square_sum": sum(min(each, 0) ** 2 for each in growths),
                "equity_peak": max(e),
                "equity_peak_ts": bars[entry + e.index(max(e))]["ts"],
                "equity_trough": min(e),
                "equity_trough_ts": bars[entry + e.index(min(e))]["ts"],
                "drawdown": fall,
                "drawdown_peak_ts": bars[entry - high]["ts"] if fall else None,
                "drawdown_trough_ts": bars[entry - low]["ts"] if fall else None,
            }
        )
    kinds = {name: kind for name, kind in TRADE_SCHEMA.items() if name in stored[0]}
    frame = pl.DataFrame(stored, schema=kinds)
    with database.transaction() as transaction:
        for number, bar in enumerate(bars, 1):
            transaction.execute(
                "INSERT INTO market.ohlc VALUES ('X', '1d', $1, $2::float8, $2::float8, $2::float8, $2::float8, 1)",
                bar["ts"], bar["close"],
            )  # fmt: skip
            transaction.execute(
                "INSERT INTO market.ema_trend (symbol, timeframe, ts, bar_number) VALUES ('X', '1d', $1, $2)",
                bar["ts"],
                number,
            )
        transaction.execute(
            "UPDATE market.series_state SET first_ts = $1, last_ts = $2 WHERE timeframe = '1d'",
            bars[0]["ts"],
            bars[-1]["ts"],
        )
        with transaction.staged(frame) as staged:
            columns = ", ".join(frame.columns)
            transaction.execute(
                f"INSERT INTO market.strategy_9_30_ema (symbol, timeframe, {columns}) "
                f"SELECT 'X', '1d', {columns} FROM pg_temp.{staged}"
            )
    refresh_performance.refresh(database)
    (row,) = rows(
        database,
        "SELECT * FROM results.performance WHERE strategy = 'strategy_9_30_ema' AND symbol = 'X' AND timeframe = '1d'",
    )
    year = bars_a_year(database, "24/7", D1)
    if is_checked:
        assert_figures(row, expected_of(bars, stored, 0.0, year))
    # A backtest in memory gives the same figures, also for a second symbol with the same bars and trades.
    symbols = pl.DataFrame({"symbol": ["X", "Y"]})
    traded = symbols.join(pl.DataFrame(bars, schema={"ts": UTC_TIME, "close": pl.Float64()}), how="cross")
    spans = figures.spans(traded, symbols.with_columns(bars_per_year=pl.lit(year)))
    every = symbols.join(pl.DataFrame(stored, schema=TRADE_SCHEMA), how="cross")
    with database.transaction() as transaction:
        view = transaction.query(
            "SELECT * FROM results.performance WHERE strategy = 'strategy_9_30_ema' AND symbol = 'X' AND timeframe = '1d'"
        )
    second = view.with_columns(symbol=pl.lit("Y"))
    assert_same_figures(figures.figures(every, spans, results.FEWEST_TRADES), pl.concat([view, second]))
    return row


def test_buy_and_hold_is_null_when_the_first_close_is_zero() -> None:
    times = [TS, TS + timedelta(days=1)] * 2
    bars = pl.DataFrame({"symbol": ["X", "X", "Y", "Y"], "ts": times, "close": [0.0, 1.0, 1.0, 2.0]})
    found = figures.spans(bars, pl.DataFrame({"symbol": ["X", "Y"], "bars_per_year": [365.0, 365.0]}))
    assert found["buy_and_hold_pct"].to_list() == [None, 100.0]


@pytest.mark.broad
def test_a_loss_that_is_rounded_to_everything_does_not_prevent_the_figures(database: Database) -> None:
    """Years of reverse splits multiply the first prices of some stocks by more than a million millions."""
    row = by_hand(database, [3e13, 2e13, 4e-4, 5e-4], [("long", 2, 3)], is_checked=False)
    assert (row["buy_and_hold_pct"], row["buy_and_hold_annualized_pct"]) == (-100, -100)
    assert near(row["total_return_pct"], 25.0)


@pytest.mark.broad
def test_an_open_trade_counts_at_its_last_price_but_not_as_a_closed_trade(database: Database) -> None:
    row = by_hand(database, [10, 11, 12, 9, 12.1], [("long", 1, None)])
    assert (row["trades"], row["open_trades"], row["win_rate_pct"]) == (0, 1, None)
    assert near(row["total_return_pct"], 10.0)
    assert (row["max_drawdown_from"], row["max_drawdown_to"]) == (TS + timedelta(days=2), TS + timedelta(days=3))


@pytest.mark.broad
def test_a_history_with_holes_is_annualized_by_elapsed_time(database: Database) -> None:
    """Twenty bars over four years: ten trades of 1 % each give 2.5 % per year, not 500 %."""
    closes = [100 * 1.01 ** (number // 2 + number % 2) for number in range(20)]
    trades = [("long", number, number + 1) for number in range(0, 20, 2)]
    row = by_hand(database, closes, trades, days=[number * 77 for number in range(20)])
    assert near(row["total_return_pct"], (1.01**10 - 1) * 100)
    years = 19 * 77 / 365.25
    assert near(row["annualized_return_pct"], (1.01 ** (10 / years) - 1) * 100)
    # Ten bars gain 1 % and ten gain nothing; there are five bars per year.
    assert near(row["sharpe"], 0.005 / math.sqrt(0.0005 / 19) * math.sqrt(20 / years))


@pytest.mark.broad
def test_a_drawdown_over_several_trades_has_the_dates_of_its_peak_and_its_trough(database: Database) -> None:
    row = by_hand(database, [10, 12, 11, 11, 10, 10, 9.5, 9.9], [("long", 0, 2), ("long", 3, 4), ("long", 5, 7)])
    assert (row["max_drawdown_from"], row["max_drawdown_to"]) == (TS + timedelta(days=1), TS + timedelta(days=6))


@pytest.mark.broad
def test_a_drawdown_from_the_start_begins_at_the_first_bar(database: Database) -> None:
    row = by_hand(database, [10, 10, 10, 9, 9, 8], [("long", 1, 3), ("long", 4, 5)])
    assert (row["max_drawdown_from"], row["max_drawdown_to"]) == (TS, TS + timedelta(days=5))


@pytest.mark.broad
def test_equity_stays_at_zero_after_a_short_trade_that_loses_everything(database: Database) -> None:
    # Nine trades come first: the ratios are shown only for ten trades or more.
    few = [("long", 2 * n, 2 * n + 1) for n in range(9)]
    closes = [10, 11] * 9 + [10, 30, 5, 6, 5, 6]
    row = by_hand(database, closes, [*few, ("short", 18, 19), ("long", 20, 21), ("long", 22, 23)])
    assert row["total_return_pct"] == -100
    assert row["annualized_return_pct"] == -100
    assert row["max_drawdown_pct"] == 100
    assert row["max_drawdown_to"] == TS + timedelta(days=19)
    assert row["calmar"] == -1
    assert row["worst_trade_pct"] == -200


@pytest.mark.broad
def test_equity_too_small_for_a_number_of_postgresql_is_not_an_error(database: Database) -> None:
    """PostgreSQL refuses numbers below 1e-308."""
    closes = [100.0, 1e-4] * 60
    row = by_hand(database, closes, [("long", 2 * n, 2 * n + 1) for n in range(60)], is_checked=False)
    assert near(row["total_return_pct"], -100)
    assert near(row["max_drawdown_pct"], 100)
    assert row["most_lost"] == 60


@pytest.mark.broad
def test_the_longest_winning_and_losing_streaks_are_counted(database: Database) -> None:
    closes = [10, 11, 10, 11, 10, 9, 10, 11, 10, 9, 10, 9, 10, 10]
    row = by_hand(database, closes, [("long", 2 * n, 2 * n + 1) for n in range(7)])
    assert (row["most_won"], row["most_lost"]) == (2, 3)


def test_a_removed_symbol_and_a_disabled_strategy_have_no_performance(filled: Database) -> None:
    with filled.transaction() as transaction:
        transaction.execute("SAVEPOINT before")
        transaction.execute("UPDATE market.instrument SET is_active = false WHERE symbol = 'AAPL'")
        transaction.execute("UPDATE market.asset SET is_on = false WHERE asset = 'strategy_bears'")
        sql = transaction.query("SELECT pg_get_viewdef('market.strategy_performance'::regclass) AS sql").item()
        found = transaction.query(sql.rstrip("; "))
        transaction.execute("ROLLBACK TO SAVEPOINT before")
    assert set(found["symbol"]) == {"0700.HK", "BTC-USD"}
    assert "strategy_bears" not in set(found["strategy"])


@pytest.mark.broad
def test_a_series_with_one_bar_on_a_removed_timeframe_is_not_an_error(database: Database) -> None:
    """The number of its bars per year is no longer known, and a single bar spans no time."""
    exchange = MemoryExchange(bars_on("24/7", "BTC-USD", M5, date(2026, 11, 18), date(2026, 11, 18)))
    now = utc("2026-11-18 04:30")
    refresh(database, watch({"BTC-USD": "24/7"}, timeframes=(M5, by_key("4h"))), exchange, now)
    refresh(database, watch({"BTC-USD": "24/7"}, timeframes=(M5,)), exchange, now)
    refresh_performance.refresh(database)
    with database.transaction() as transaction:
        found = transaction.query("SELECT timeframe, bars, annualized_return_pct, sharpe FROM results.performance")
    assert sorted(found.rows()) == [("4h", 1, None, None), ("5m", 54, None, None)]


# --- refreshing performance -------------------------------------------------------------------------------------------


def test_a_reader_in_a_transaction_neither_blocks_nor_sees_a_refresh_of_performance(filled: Database) -> None:
    with closing(psycopg2.connect(filled.url)) as reader, reader.cursor() as cursor:
        reader.set_session(isolation_level="REPEATABLE READ")
        cursor.execute("SELECT count(*) FROM results.performance WHERE trades < 0")
        with filled.transaction() as transaction:
            transaction.execute("SET LOCAL lock_timeout = '60s'")
            transaction.execute(
                "UPDATE market.strategy_9_30_ema SET net_return_pct = 7 WHERE symbol = 'AAPL' AND timeframe = '5m'"
            )
            results.refresh_performance(transaction)
        sql = """SELECT best_trade_pct FROM results.performance
                 WHERE strategy = 'strategy_9_30_ema' AND symbol = 'AAPL' AND timeframe = '5m'"""
        cursor.execute(sql)
        assert cursor.fetchone() != (7.0,)
        reader.commit()
        cursor.execute(sql)
        assert cursor.fetchone() == (7.0,)


@pytest.mark.parametrize("first", ["ANALYZE", "DELETE FROM pg_statistic"])
def test_a_refresh_of_performance_sums_all_trades_in_one_pass(filled: Database, first: str) -> None:
    """A planner that expects a single series summed them once per series: 528 series took minutes instead of 0.2 s."""
    with closing(psycopg2.connect(filled.url)) as connection, connection.cursor() as cursor:
        cursor.execute(first)
        cursor.execute(ADDS_UP_ONCE)
        cursor.execute("SELECT pg_get_viewdef('market.strategy_performance'::regclass)")
        (sql,) = cursor.fetchone() or ("",)
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql.rstrip('; ')}")
        (found,) = cursor.fetchone() or ([],)
        connection.rollback()
    nodes = [found[0]["Plan"]]
    for node in nodes:
        nodes += node.get("Plans", [])
    sums = [node["Actual Loops"] for node in nodes if node["Node Type"] == "WindowAgg"]
    assert set(sums) == {1}
    # At most the first and the last bar of each series are read.
    series = nodes[0]["Actual Rows"]
    reads = [node for node in nodes if node.get("Relation Name", "").startswith("ohlc_")]
    bars = [node["Actual Rows"] * node["Actual Loops"] for node in reads]
    assert series > 10
    assert 0 < sum(bars) <= 2 * series


@pytest.mark.broad
def test_a_refresh_of_performance_in_a_new_database_analyzes_the_ledger(database: Database) -> None:
    """Without statistics of the ledger, a hundred symbols took minutes. Autovacuum is off in the tests."""
    watched = Watchlist((Instrument("BTC-USD", "24/7"),), dict(zip(FETCHED, (2, 10), strict=True)))
    refresh(database, watched, MemoryExchange(), NOW)
    known = "SELECT count(*) > 0 AS n FROM pg_stats WHERE schemaname = 'market' AND tablename = 'series_state'"
    with database.transaction() as transaction:
        before = transaction.query(known).item()
    refresh_performance.refresh(database)
    with database.transaction() as transaction:
        assert (before, transaction.query(known).item()) == (False, True)


@pytest.mark.broad
def test_performance_is_refreshed_only_after_a_strategy_was_computed_and_not_too_often(databases) -> None:
    url = databases.make()
    watched = Watchlist((Instrument("BTC-USD", "24/7"),), dict(zip(FETCHED, (2, 10), strict=True)))
    market = MemoryExchange(bars_on("24/7", "BTC-USD", M5, date(2026, 11, 18), date(2026, 11, 20)))
    strategies = build(watched).strategies
    with Database(url) as database:

        def why_not() -> str | None:
            with database.transaction() as transaction:
                return refresh_performance.why_not(transaction, strategies)

        def age(minutes: int, seconds: float = 1.0) -> None:
            """Pretend that the last refresh was `minutes` ago and took `seconds`."""
            with database.transaction() as transaction:
                transaction.execute(
                    "UPDATE market.performance_refresh SET refreshed_at = now() - $1::bigint * interval '1 minute', seconds = $2",
                    minutes,
                    seconds,
                )

        refresh(database, watched, MemoryExchange(), NOW - timedelta(minutes=5))
        with database.transaction() as transaction:
            transaction.execute("UPDATE market.series_state SET computed_at = NULL")
        assert why_not() == "no strategy has been computed yet"
        refresh(database, watched, market, NOW)
        assert why_not() is None
        refresh_performance.refresh(database)
        reason = why_not()
        assert reason is not None
        assert reason.startswith("added up ")
        assert reason.endswith("again after 300 s")
        age(6)
        assert why_not() is None
        # A refresh that took half a minute is not repeated after six minutes.
        age(6, 30.0)
        assert (reason := why_not()) is not None
        assert "which took 30.0 s; again after 600 s" in reason
        with database.transaction() as transaction:
            transaction.execute("UPDATE market.series_state SET computed_at = now() - interval '1 hour'")
        age(6)
        assert (reason := why_not()) is not None
        assert reason.startswith("no strategy was computed since ")
        # A refresh misses rows whose transaction ended after the refresh began.
        with database.transaction() as transaction:
            transaction.execute("UPDATE market.series_state SET computed_at = now() - interval '6 minutes 30 seconds'")
        assert why_not() is None
    databases.drop(url)


# --- the screener -----------------------------------------------------------------------------------------------------


def newest(database: Database, table: str) -> dict[tuple[str, str], dict[str, Any]]:
    found = rows(
        database, f"SELECT DISTINCT ON (symbol, timeframe) * FROM market.{table} ORDER BY symbol, timeframe, ts DESC"
    )
    return {(row["symbol"], row["timeframe"]): row for row in found}


def test_a_row_of_the_screener_shows_the_newest_values_of_its_series(filled: Database) -> None:
    trends, emas, bars = newest(filled, "ema_trend"), newest(filled, "ema_signals"), newest(filled, "ohlc")
    rsi, atr = newest(filled, "rsi"), newest(filled, "atr")
    opened = {
        (row["symbol"], row["timeframe"]): row
        for row in rows(filled, "SELECT * FROM market.strategy_9_30_ema WHERE status = 'open'")
    }
    found = {(row["symbol"], row["timeframe"]): row for row in rows(filled, "SELECT * FROM results.screener")}
    assert found.keys() == {(symbol, frame.key) for symbol in CALENDARS for frame in ORDER}
    assert opened
    for key, row in found.items():
        trend, ema, close = trends[key], emas[key], bars[key]["close"]
        expected = {name: trend[name] for name in ("ts", "trend", "bars_since_cross", "spread_pct")}
        expected |= {"close": close, "ema_9": ema["ema_9"], "ema_30": ema["ema_30"]}
        expected |= {f"trend_{frame.key}": trends[key[0], frame.key]["trend"] for frame in ORDER}
        told = [trends[key[0], frame.key]["trend"] for frame in ORDER]
        expected |= {"alignment": told.count("up") - told.count("down")}
        expected |= {"rsi": rsi[key]["rsi"], "atr_pct": atr[key]["atr_pct"]}
        trade = opened.get(key, {})
        expected |= {"trade_side": trade.get("side"), "trade_since": trade.get("entry_ts")}
        expected |= {"trade_price": trade.get("entry_price"), "trade_return_pct": trade.get("return_pct")}
        expected |= {"stop_price": trade.get("stop_now")}
        assert {name: row[name] for name in expected} == expected, key
        if ema["ema_30"] is None:
            assert row["cross_price"] is row["cross_distance_pct"] is None
            continue
        at = (ema["ema_30"] * 29 / 31 - ema["ema_9"] * 8 / 10) / (2 / 10 - 2 / 31)
        assert near(row["cross_price"], at if at > 0 else None), key
        assert near(row["cross_distance_pct"], (at / close - 1) * 100 if at > 0 else None), key


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes_of(below)


def test_a_query_of_the_screener_for_one_symbol_joins_no_rows_of_other_symbols(filled: Database) -> None:
    with closing(psycopg2.connect(filled.url)) as connection, connection.cursor() as cursor:
        cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) SELECT * FROM results.screener WHERE symbol = 'AAPL'")
        plan = cursor.fetchall()[0][0][0]["Plan"]
    joined = [node["Actual Rows"] for node in nodes_of(plan) if "Join Type" in node]
    assert len(joined) > 3
    assert max(joined) == len(ORDER)


def test_a_close_at_the_cross_price_makes_the_averages_equal_and_one_beyond_it_flips_the_trend(
    filled: Database,
) -> None:
    emas = newest(filled, "ema_signals")
    flipped = set()
    for row in rows(filled, "SELECT * FROM results.screener WHERE cross_price IS NOT NULL"):
        ema = emas[row["symbol"], row["timeframe"]]
        carried = pl.DataFrame([{name: ema[name] for name in ("symbol", "ema_9", "ema_30", "bar_number")}])
        now = pl.DataFrame(
            [{"symbol": row["symbol"], "trend": row["trend"], "bars_since_cross": row["bars_since_cross"]}]
        )

        def after(close: float, carried: pl.DataFrame = carried, row: dict[str, Any] = row) -> pl.DataFrame:
            bar = pl.DataFrame([{"symbol": row["symbol"], "ts": row["ts"] + timedelta(days=7), "close": close}])
            return EMA_SIGNAL.compute(bar, carried, EMA_SIGNAL.defaults)

        both = after(row["cross_price"])
        assert near(both["ema_9"].item(), both["ema_30"].item(), 1e-12)
        beyond = 1 - 1e-6 if row["trend"] == "up" else 1 + 1e-6
        typed = now.cast({"trend": pl.String(), "bars_since_cross": pl.Int64()})
        kept = ema_trend(after(row["cross_price"] * (2 - beyond)), typed)
        assert kept["trend"].item() == row["trend"]
        assert kept["crossover"].item() is None
        flip = ema_trend(after(row["cross_price"] * beyond), typed)
        assert flip["trend"].item() == ("down" if row["trend"] == "up" else "up")
        flipped.add(flip["crossover"].item())
    assert flipped == {"bullish", "bearish"}


@pytest.mark.broad
def test_the_screener_omits_removed_symbols_and_shows_null_for_disabled_signals(databases) -> None:
    url = databases.make()
    both = (Instrument("BTC-USD", "24/7"), Instrument("ETH-USD", "24/7"))
    market = MemoryExchange(
        *(bars_on("24/7", each.symbol, M5, date(2026, 11, 18), date(2026, 11, 20), n) for n, each in enumerate(both))
    )
    days = dict(zip(FETCHED, (2, 10), strict=True))
    with Database(url) as database:
        refresh(database, Watchlist(both, days), market, NOW)
        sql = "SELECT * FROM results.screener WHERE timeframe = '5m' ORDER BY symbol"
        before = rows(database, sql)
        assert [row["symbol"] for row in before] == ["BTC-USD", "ETH-USD"]
        assert before[0]["rsi"] is not None
        off = Watchlist(
            both[:1], days, signals_off=("rsi", "macd"), strategies=({"name": "crossover", "enabled": False},)
        )
        refresh(database, off, market, NOW)
        (row,) = rows(database, sql)
        assert row.keys() == before[0].keys()
        hidden = {
            "rsi",
            "trade_side",
            "trade_since",
            "trade_price",
            "trade_return_pct",
            "stop_price",
            "stop_distance_pct",
        }
        assert {name: None if name in hidden else value for name, value in before[0].items()} == row
        (gone,) = rows(database, "SELECT count(*) AS n FROM results.performance WHERE strategy = 'strategy_9_30_ema'")
        assert gone["n"] == 0
    databases.drop(url)


@pytest.mark.broad
def test_the_screener_shows_the_distance_to_the_stop_of_the_open_trade(databases) -> None:
    url = databases.make()
    watched = Watchlist(
        WATCHED.instruments, WATCHED.history_days, strategies=({"name": "crossover", "side": "both", "atr_stop": 9.0},)
    )
    with Database(url) as database:
        refresh(database, watched, exchange(), NOW)
        found = rows(database, "SELECT * FROM results.screener WHERE stop_price IS NOT NULL")
        assert {row["trade_side"] for row in found} == {"long", "short"}
        for row in found:
            assert near(row["stop_distance_pct"], (row["close"] / row["stop_price"] - 1) * 100)
    databases.drop(url)


# --- who may read -----------------------------------------------------------------------------------------------------


def refused(cursor: Any, sql: str) -> bool:
    cursor.execute("SAVEPOINT here")
    try:
        cursor.execute(sql)
    except psycopg2.errors.InsufficientPrivilege:
        cursor.execute("ROLLBACK TO SAVEPOINT here")
        return True
    return False


def test_the_reader_role_can_only_read_results_and_market(filled: Database) -> None:
    with closing(psycopg2.connect(filled.url)) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE dagster.secret (n integer)")
        cursor.execute("SET LOCAL ROLE ema_reader")
        for name in ("bars", "signals", "trades", "performance", "screener"):
            cursor.execute(f"SELECT count(*) FROM results.{name}")
            assert cursor.fetchone() > (0,), name
        for name in ("ohlc", "series_state", "strategy_guarded", "strategy_performance"):
            cursor.execute(f"SELECT count(*) FROM market.{name}")
            assert cursor.fetchone() > (0,), name
        for sql in (
            "SELECT * FROM dagster.secret",
            "INSERT INTO market.performance_refresh VALUES (now(), 1)",
            "UPDATE market.ohlc SET close = 1",
            "DELETE FROM market.strategy_9_30_ema",
            "TRUNCATE market.ohlc",
            "CREATE TABLE market.mine (n integer)",
            "CREATE TABLE results.mine (n integer)",
            "REFRESH MATERIALIZED VIEW market.strategy_performance",
            "DROP VIEW results.screener",
        ):
            assert refused(cursor, sql), sql
        connection.rollback()


@pytest.mark.broad
def test_the_reader_role_can_read_tables_that_are_created_later(databases) -> None:
    url = databases.make()
    with Database(url) as database:
        with database.transaction() as transaction:
            adopt_graph(transaction, GRAPH)
        with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
            cursor.execute("SET ROLE ema_reader")
            for made_later in ("market.strategy_intraday", "results.screener", "market.rsi"):
                cursor.execute(f"SELECT count(*) FROM {made_later}")
                assert cursor.fetchone() == (0,)
    databases.drop(url)


@pytest.mark.broad
def test_a_migration_succeeds_for_a_user_who_may_not_create_roles(databases) -> None:
    """The role belongs to the server, so the test renames it for a moment and migrates as a limited user."""
    url = databases.make(migrated=False)
    parts = urlsplit(url)
    databases.execute("CREATE ROLE limited")
    databases.execute(f"ALTER DATABASE {parts.path[1:]} OWNER TO limited")
    databases.execute("ALTER ROLE ema_reader RENAME TO ema_reader_away")
    try:
        limited = f"{url}{'&' if parts.query else '?'}options=-crole%3Dlimited"
        migrate(limited)
        with Database(limited) as database:
            with database.transaction() as transaction:
                adopt_graph(transaction, GRAPH)
            assert rows(database, "SELECT * FROM results.screener") == []
            assert rows(database, "SELECT FROM pg_roles WHERE rolname = 'ema_reader'") == []
    finally:
        databases.execute("ALTER ROLE ema_reader_away RENAME TO ema_reader")
        databases.drop(url)
        databases.execute("DROP ROLE limited")
