"""Tests of the public module `backtest`: runs, sweeps, walks, equity curves and refused arguments."""

import math
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ema_assets import backtest, read
from ema_assets.backtest import walking
from ema_assets.model import own_modules
from ema_assets.model.errors import ConfigurationError, InvalidKeyError, RuleError, UnsoundRule
from ema_assets.model.schemas import ACTION_SCHEMA
from ema_assets.reports.rows import rows_of
from ema_assets.store import action_facts
from ema_assets.store.database import Database
from ema_assets.strategies.simulator.simulation import simulate
from ema_assets_tests.backtest.conftest import CALENDARS, STRATEGIES, World
from ema_assets_tests.backtest.figures import assert_same_figures
from ema_assets_tests.conftest import Databases, mostly_broad
from ema_assets_tests.refresh.exchange import utc
from ema_assets_tests.strategies.test_performance import curve, of_curve
from ema_assets_tests.timeframes import H1, M5, M15

SYMBOLS = sorted(CALENDARS)
SPANS: dict[str, Any] = {"fast": [3, 5, 8], "slow": [5, 13], "side": "both", "entries": "all", "cost_bps": 2}


# A rule in a file of the user.
WEAK = """
import polars as pl
from ema_assets.strategies.rule import BySide, Rule
def evaluate(bars, params):
    return bars.select(enter_long=pl.col("rsi") < 30, leave_long=pl.col("rsi") > 60)
RULE = Rule(name="weak", title="Weak", description="Buys what is weak.", version="1",
    reads={"rsi": ("rsi",)}, evaluate=evaluate, entry_reasons=BySide("weak", "strong"),
    exit_reasons=BySide("strong", "weak"))
"""


def stored_trades(world: World, name: str, timeframe: str) -> pl.DataFrame:
    node = world.graph.nodes[f"strategy_{name}"]
    frame = {"5m": M5, "15m": M15, "1h": H1}[timeframe]
    with world.database.transaction() as transaction:
        return rows_of(transaction, node, frame, None, None, None)


def stored_performance(world: World, name: str, timeframe: str) -> pl.DataFrame:
    return read.performance(timeframe, strategy=f"strategy_{name}", url=world.database.url).sort("symbol")


# --- one run ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeframe", mostly_broad(["5m", "15m", "1h"]))
@pytest.mark.parametrize("name", STRATEGIES)
def test_a_run_returns_the_trades_and_figures_that_a_refresh_stores(
    world: World, url: str, name: str, timeframe: str
) -> None:
    options = dict(STRATEGIES[name])
    found = backtest.load(timeframe, url=url).run(str(options.pop("rule")), **options)
    expected = stored_trades(world, name, timeframe)
    assert found.trades.equals(expected.select(found.trades.columns))
    assert found.trades.height > 5 or timeframe == "1h"
    assert_same_figures(found.performance, stored_performance(world, name, timeframe))
    assert found.performance["symbol"].to_list() == SYMBOLS


def test_a_rule_may_read_a_signal_that_the_watchlist_switches_off(world: World, url: str, tmp_path: Path) -> None:
    path = tmp_path / "watchlist.toml"
    path.write_text(world.watchlist.replace("[[strategy]]", '[signals]\noff = ["rsi"]\n\n[[strategy]]', 1))
    folder = tmp_path / "strategies"
    folder.mkdir()
    (folder / "weak.py").write_text(WEAK)
    history = backtest.load("5m", ["BTC-USD"], url=url)
    trades = history.run("weak", entries="all").trades
    rsi = read.signals("5m", ["BTC-USD"], names=["rsi"], url=url)
    at = dict(rsi.select("ts", "rsi").iter_rows())
    assert trades.height > 5
    assert 20 < max(at[ts] for ts in trades["entry_ts"]) < 30
    # Each call reads the file again.
    (folder / "weak.py").write_text(WEAK.replace("< 30", "< 20"))
    assert 0 < max(at[ts] for ts in history.run("weak", entries="all").trades["entry_ts"]) < 20


def test_a_signal_has_the_parameters_of_the_watchlist(url: str, tmp_path: Path) -> None:
    path = tmp_path / "watchlist.toml"
    path.write_text(path.read_text().replace("[[strategy]]", "[signals.rsi]\nspan = 3\n\n[[strategy]]", 1))
    folder = tmp_path / "strategies"
    folder.mkdir()
    (folder / "weak.py").write_text(WEAK)
    history = backtest.load("5m", ["BTC-USD"], url=url)
    closes, span = history.bars["close"].to_numpy(), 3
    rises, falls = np.maximum(np.diff(closes), 0), np.maximum(-np.diff(closes), 0)
    gain, loss = rises[:span].mean(), falls[:span].mean()
    entries, is_in_trade = [], False
    for bar in range(span, len(closes)):
        if bar > span:
            gain, loss = gain + (rises[bar - 1] - gain) / span, loss + (falls[bar - 1] - loss) / span
        rsi = 100 * gain / (gain + loss)
        if not is_in_trade and rsi < 30:
            entries.append(history.bars["ts"][bar])
        is_in_trade = rsi < 30 or (is_in_trade and rsi <= 60)
    assert len(entries) > 50
    assert history.run("weak", entries="all").trades["entry_ts"].to_list() == entries


@pytest.mark.parametrize(
    ("end", "last"),
    [
        ("2026-11-17 18:15", {"24/7": "17 17:00", "XNYS": "17 16:30", "XHKG": "17 07:00"}),
        ("2026-11-17 18:30", {"24/7": "17 17:00", "XNYS": "17 17:30", "XHKG": "17 07:00"}),
        ("2026-11-17 07:30", {"24/7": "17 06:00", "XNYS": "16 20:30", "XHKG": "17 06:00"}),
    ],
)
def test_a_window_contains_only_bars_that_closed_by_its_end(url: str, end: str, last: dict[str, str]) -> None:
    """A bar that closes after the end would reveal a price from after the end."""
    found = backtest.load("1h", url=url).run("crossover", fast=2, slow=4, entries="all", end=end)
    newest = dict(found.closes.group_by("symbol").agg(pl.col("ts").max()).iter_rows())
    assert {symbol: f"{ts:%d %H:%M}" for symbol, ts in newest.items()} == {
        symbol: last[CALENDARS[symbol]] for symbol in SYMBOLS
    }
    still_open = found.trades.filter(status="open")
    assert still_open.height > 0
    assert all(newest[symbol] == ts for symbol, ts in still_open.select("symbol", "last_ts").iter_rows())


def test_a_window_starts_without_trades_and_its_averages_include_earlier_bars(url: str) -> None:
    history = backtest.load("5m", url=url)
    start, end = utc("2026-11-12 12:00"), utc("2026-11-17 18:00")
    whole = history.run("crossover", side="both", entries="all").trades
    found = history.run("crossover", side="both", entries="all", start="2026-11-12 12:00", end="2026-11-17 18:00")
    # The strategy is always in the market, so the trades are the same from the first crossover in the window on.
    expected = whole.filter(pl.col("entry_ts").is_between(start, end, closed="left"))
    same = ["symbol", "entry_ts", "side", "entry_price", "entry_reason"]
    assert found.trades.select(same).equals(expected.select(same))
    assert found.trades.filter(status="open").height == len(SYMBOLS)
    last = history.bars.filter(pl.col("ts") < end).group_by("symbol", maintain_order=True).last()
    still_open = found.trades.filter(status="open")
    assert still_open["last_price"].to_list() == last["close"].to_list()
    assert still_open["last_ts"].to_list() == last["ts"].to_list()
    bars = history.bars.filter(pl.col("ts").is_between(start, end, closed="left"))
    row = found.performance.row(0, named=True)
    mine = bars.filter(symbol=row["symbol"])
    assert (row["first_ts"], row["last_ts"], row["bars"]) == (mine["ts"].min(), mine["ts"].max(), mine.height)
    assert math.isclose(row["buy_and_hold_pct"], (mine["close"][-1] / mine["close"][0] - 1) * 100)


def test_averages_start_at_the_first_loaded_bar(url: str) -> None:
    whole, later = backtest.load("5m", ["AAPL"], url=url), backtest.load("5m", ["AAPL"], "2026-11-16", url=url)
    assert later.bars.equals(whole.bars.filter(pl.col("ts") >= utc("2026-11-16 00:00")))
    options: dict[str, Any] = {"entries": "all", "start": "2026-11-16"}
    assert not whole.run("crossover", **options).trades.equals(later.run("crossover", **options).trades)
    assert repr(later) == f"History('5m', 1 symbols, {later.bars.height} bars)"


def test_trades_have_prices_adjusted_for_dividends_if_requested_and_an_unknown_adjustment_is_refused(
    databases: Databases, world: World, url: str
) -> None:
    world.database.close()  # a database with a session cannot be copied
    copy = databases.make(like=url)
    paid = ("AAPL", "dividend", utc("2026-11-17 14:30"), None, 2.0, None)
    with Database(copy) as database, database.transaction() as transaction:
        action_facts.record(transaction, pl.DataFrame([paid], schema=ACTION_SCHEMA, orient="row"), "mine.csv")
    options: dict[str, Any] = {"side": "both", "entries": "all", "fast": 3, "slow": 5}
    whole, lower = (
        backtest.load("1h", url=copy, adjust=adjust).run("crossover", **options) for adjust in ("splits", "all")
    )
    assert whole.trades.equals(backtest.load("1h", url=url).run("crossover", **options).trades)
    adjusted = read.bars("1h", adjust="all", url=copy)
    assert lower.closes.equals(adjusted.select("symbol", "ts", "close"))
    closes = {(symbol, ts): close for symbol, ts, close in lower.closes.iter_rows()}
    entries = lower.trades.select("symbol", "entry_ts", "entry_price").rows()
    assert [price for *_, price in entries] == [closes[symbol, ts] for symbol, ts, _ in entries]
    # Only prices of AAPL from before its dividend are lower.
    changed = lower.closes.filter(lower.closes["close"] < whole.closes["close"])
    before = (pl.col("symbol") == "AAPL") & (pl.col("ts") < paid[2])
    assert changed.equals(lower.closes.filter(before))
    assert lower.trades.filter((pl.col("symbol") == "AAPL") & (pl.col("entry_ts") < paid[2])).height > 0
    databases.drop(copy)
    with pytest.raises(ConfigurationError, match="`adjust` must be one of"):
        backtest.load("1h", url=url, adjust="dividends")


# --- sweeps -----------------------------------------------------------------------------------------------------------


def test_a_sweep_runs_every_valid_combination_of_options(url: str) -> None:
    history = backtest.load("15m", url=url)
    found = history.sweep("crossover", **SPANS)
    # The fast average must be shorter than the slow one, so (5, 5) and (8, 5) are left out.
    chosen = [(3, 5), (3, 13), (5, 13), (8, 13)]
    assert found.select("fast", "slow", "symbol").rows() == [(*each, symbol) for each in chosen for symbol in SYMBOLS]
    for fast, slow in chosen:
        alone = history.run("crossover", **{**SPANS, "fast": fast, "slow": slow}).performance
        assert found.filter(fast=fast, slow=slow).drop("fast", "slow").equals(alone)
    assert (found["trades"] > 5).all()


def test_values_of_a_sweep_may_be_numpy_arrays_or_series_and_none_means_the_default(url: str) -> None:
    history = backtest.load("15m", ["BTC-USD"], url=url)
    found = history.sweep(
        "crossover", fast=np.arange(3, 5), slow=pl.Series([8, 9]), entries="all", atr_stop=[None, 1.5]
    )
    assert found.select("fast", "slow", "atr_stop").rows() == [
        (fast, slow, stop) for fast in (3, 4) for slow in (8, 9) for stop in (None, 1.5)
    ]
    assert found.schema["fast"] == pl.Int64
    assert found.schema["atr_stop"] == pl.Float64
    assert found["average_r"].is_null().to_list() == [True, False] * 4


def test_an_option_of_a_custom_rule_may_have_the_name_of_a_figure(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "strategies"
    folder.mkdir()
    (folder / "timed.py").write_text(
        "import polars as pl\n"
        "from ema_assets.strategies.rule import BySide, Param, Rule\n"
        "def evaluate(bars, params):\n"
        '    turn = pl.col("bar_number") % params["bars"] == 0\n'
        "    return bars.select(enter_long=turn, leave_long=~turn)\n"
        'RULE = Rule(name="timed", title="Timed", description="Buys every so many bars.", version="1",\n'
        '    reads={"ema_trend": ("bar_number",)}, evaluate=evaluate, params={"bars": Param(20, "How many")},\n'
        '    entry_reasons=BySide("turn", "turn"), exit_reasons=BySide("turn", "turn"))\n'
    )
    history = backtest.load("15m", ["BTC-USD"], url=url)
    found = history.sweep("timed", bars=[5, 10], entries="all")
    assert found.select("bars_option", "bars").rows() == [(5, history.bars.height), (10, history.bars.height)]
    assert found["trades"][0] > 1.9 * found["trades"][1]


def test_an_option_of_a_custom_rule_may_have_the_name_of_a_column_of_windows(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "strategies"
    folder.mkdir()
    params = 'reads={"rsi": ("rsi",)}, params={"window": Param(30, "Low"), "test_from": Param(60, "High")}'
    text = WEAK.replace('reads={"rsi": ("rsi",)}', params).replace("BySide, Rule", "BySide, Param, Rule")
    (folder / "weak.py").write_text(text.replace("< 30", '< params["window"]').replace("> 60", '> params["test_from"]'))
    history = backtest.load("15m", ["BTC-USD"], url=url)
    walk = history.walk_forward("weak", train="4d", test="4d", window=[30, 45], test_from=[60, 70], entries="all")
    assert walk.windows["window"].to_list() == [1, 2]
    assert walk.windows["test_from"].to_list() == [utc("2026-11-13 00:00"), utc("2026-11-17 00:00")]
    assert set(walk.windows["window_option"]) <= {30, 45}
    assert set(walk.windows["test_from_option"]) <= {60, 70}
    assert set(walk.trades["window"]) <= {1, 2}


def test_a_sweep_over_higher_timeframes_uses_the_trend_of_each(url: str) -> None:
    history = backtest.load("5m", ["BTC-USD"], url=url)
    found = history.sweep("crossover", higher_timeframe=[None, "15m", "1h"], entries="all")
    assert found["trades"].n_unique() == 3
    assert found["trades"][0] == found["trades"].max()


def test_only_the_loaded_symbols_need_bars_of_the_higher_timeframe(world: World, url: str, tmp_path: Path) -> None:
    text = world.watchlist.replace('timeframes = ["5m", "15m", "1h"]', 'timeframes = ["5m", "15m"]', 1)
    text = text.replace('calendar = "24/7"\n', 'calendar = "24/7"\ntimeframes = ["5m", "15m", "1h"]\n', 1)
    rows = text.replace('higher_timeframe = "1h"', 'higher_timeframe = "15m"')
    (tmp_path / "watchlist.toml").write_text(rows)
    trades = backtest.load("5m", ["BTC-USD"], url=url).run("crossover", higher_timeframe="1h", entries="all").trades
    assert trades.height
    with pytest.raises(ConfigurationError) as caught:
        backtest.load("5m", ["AAPL", "BTC-USD"], url=url).run("crossover", higher_timeframe="1d")
    message = "`higher_timeframe` must have bars of each symbol, received '1d', which has none of AAPL, BTC-USD"
    assert str(caught.value) == message


def test_the_error_of_a_failing_or_endless_rule_names_the_rule_and_its_line(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "strategies"
    folder.mkdir()
    (folder / "odd.py").write_text(
        "import polars as pl\n"
        "from ema_assets.strategies.rule import BySide, Rule\n"
        "def evaluate(bars, params):\n"
        '    return bars.select(enter_long=pl.col("volume") > 0)\n'
        'RULE = Rule(name="odd", title="Odd", description="Reads what it did not declare.", version="1", reads={},\n'
        '    evaluate=evaluate, entry_reasons=BySide("in", "in"), exit_reasons=BySide("out", "out"))\n'
    )
    with pytest.raises(RuleError, match=r"rule 'odd': `evaluate` failed in .*odd\.py, line 4: ColumnNotFoundError"):
        backtest.load("5m", ["BTC-USD"], url=url).run("odd", entries="all")
    text = (folder / "odd.py").read_text()
    (folder / "odd.py").write_text(
        text.replace('return bars.select(enter_long=pl.col("volume") > 0)', "raise SystemExit(2)")
    )
    with pytest.raises(RuleError, match=r"rule 'odd': `evaluate` failed in .*odd\.py, line 4: SystemExit: 2"):
        backtest.load("5m", ["BTC-USD"], url=url).run("odd", entries="all")
    monkeypatch.setattr(own_modules, "COMPUTE_SECONDS", 0.2)
    (folder / "odd.py").write_text(
        text.replace('return bars.select(enter_long=pl.col("volume") > 0)', "while True: ...")
    )
    with pytest.raises(UnsoundRule, match=r"rule 'odd': `evaluate` in .*odd\.py, line 4: is not done with .* a loop"):
        backtest.load("5m", ["BTC-USD"], url=url).run("odd", entries="all")


@pytest.mark.broad
def test_a_rule_that_reads_the_previous_bar_is_refused(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "strategies"
    folder.mkdir()
    (folder / "momentum.py").write_text(
        "import polars as pl\n"
        "from ema_assets.strategies.rule import BySide, Rule\n"
        "def evaluate(bars, params):\n"
        '    close, prev = pl.col("close"), pl.col("close").shift(1).over("symbol")\n'
        "    return bars.select(enter_long=close > prev, leave_long=close < prev)\n"
        'RULE = Rule(name="momentum", title="Momentum", description="Follows the last bar.", version="1", reads={},\n'
        '    evaluate=evaluate, entry_reasons=BySide("in", "in"), exit_reasons=BySide("out", "out"))\n'
    )
    history = backtest.load("5m", ["BTC-USD"], url=url)
    with pytest.raises(RuleError) as caught:
        history.run("momentum", entries="all")
    said = str(caught.value)
    assert said.startswith(f"rule 'momentum' in {folder / 'momentum.py'}, line 3: `evaluate` must use only the row of ")
    with pytest.raises(RuleError, match="must use only the row of each bar"):
        history.sweep("momentum", entries="all", side=["long", "both"])


def test_a_rule_file_that_cannot_be_imported_is_refused_when_another_rule_is_run(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "strategies"
    folder.mkdir()
    (folder / "broken.py").write_text("import nowhere\n")
    history = backtest.load("5m", ["BTC-USD"], url=url)
    with pytest.raises(ConfigurationError, match=r"broken\.py: line 1: cannot be imported: ModuleNotFoundError"):
        history.run("crossover", entries="all")


@pytest.mark.broad
def test_the_result_of_a_sweep_does_not_depend_on_how_often_frames_are_merged(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = backtest.load("1h", ["BTC-USD", "AAPL"], url=url)
    tried: dict[str, Any] = {**SPANS, "atr_stop": [None, 2], "fill": ["close", "next_open"]}
    whole = history.sweep("crossover", **tried)
    monkeypatch.setattr(backtest.history, "_MANY_FRAMES", 3)
    assert history.sweep("crossover", **tried).equals(whole)


def test_a_sweep_over_a_window_equals_a_run_over_that_window(url: str) -> None:
    history = backtest.load("15m", url=url)
    window = {"start": "2026-11-12", "end": "2026-11-18"}
    found = history.sweep("crossover", **SPANS, **window)
    alone = history.run("crossover", **{**SPANS, "fast": 3, "slow": 13}, **window)
    assert found.filter(fast=3, slow=13).drop("fast", "slow").equals(alone.performance)


# --- walk-forward -----------------------------------------------------------------------------------------------------


def test_a_training_window_may_end_where_the_last_bar_opens() -> None:
    times = pl.datetime_range(datetime(2026, 11, 2, tzinfo=UTC), datetime(2026, 11, 6, tzinfo=UTC), "1d", eager=True)
    bars = pl.DataFrame({"symbol": "A", "ts": times, "ts_end": times + timedelta(days=1)})
    day = timedelta(days=1)
    whole = walking.Window(None, None)
    ((learned, traded),) = walking.windows(bars, whole, day, 4 * day, day)
    assert (learned.of(bars).height, traded.of(bars).height) == (4, 1)
    with pytest.raises(ConfigurationError, match="`train` must be shorter than the bars"):
        walking.windows(bars, whole, day, 4 * day + timedelta(hours=1), day)


@pytest.mark.parametrize("given", [5, None, "", "5", "1.5d", "100000d", timedelta(0), timedelta(days=-1)])
def test_an_invalid_length_of_a_window_is_refused_with_the_name_of_its_argument(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="`train` must be a time such as"):
        walking.length("train", given)
    assert (walking.length("train", "2w"), walking.length("train", "3d")) == (timedelta(days=14), timedelta(days=3))


def closed_at_the_end(found: backtest.Backtest) -> pl.DataFrame:
    """The trades of a run after every trade that is open at the last close has been closed there, with exit costs.

    Trades that were entered at the last close are removed. Trades that the rule closed at the last close get the exit
    reason `window_end`. Only the columns for symbol, times, prices, reasons and net return are returned.
    """
    ends = found.closes.group_by("symbol").agg(last_close_ts=pl.col("ts").max())
    is_last = pl.col("exit_reason").str.ends_with("crossover") & (pl.col("exit_ts") == pl.col("last_close_ts"))
    sign = pl.when(pl.col("side") == "long").then(1).otherwise(-1)
    gained, is_open = sign * (pl.col("last_price") / pl.col("entry_price") - 1), pl.col("status") == "open"
    paid = found.cost * (1 + pl.col("last_price") / pl.col("entry_price"))
    traded = found.trades.join(ends, on="symbol", maintain_order="left")
    return traded.filter(~is_open | (pl.col("entry_ts") < pl.col("last_ts"))).select(
        *("symbol", "entry_ts", "side", "entry_price", "entry_reason"),
        exit_ts=pl.when(is_open).then("last_ts").otherwise("exit_ts"),
        exit_price=pl.when(is_open).then("last_price").otherwise("exit_price"),
        exit_reason=pl.when(is_open | is_last).then(pl.lit("window_end")).otherwise("exit_reason"),
        net_return_pct=pl.when(is_open).then((gained - paid) * 100).otherwise("net_return_pct"),
    )


def test_a_walk_trades_each_window_with_the_options_that_were_best_in_training(url: str) -> None:
    history = backtest.load("15m", url=url)
    walk = history.walk_forward("crossover", train="4d", test=timedelta(days=3), by="expectancy_pct", **SPANS)
    first, last = history.bars["ts"].min(), history.bars["ts"].max()
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    ended = []
    for number, row in enumerate(walk.windows.rows(named=True)):
        begin = first + number * timedelta(days=3)
        middle, end = begin + timedelta(days=4), begin + timedelta(days=7)
        assert (row["window"], row["train_from"], row["test_from"]) == (number + 1, begin, middle)
        assert row["test_until"] == min(end, last + timedelta(minutes=15))
        swept = history.sweep("crossover", **SPANS, start=begin, end=middle)
        means = (
            swept.group_by("fast", "slow", maintain_order=True)
            .agg(known=pl.col("expectancy_pct").count(), mean=pl.col("expectancy_pct").mean())
            .sort("known", "mean", descending=True, maintain_order=True)
        )
        best = means.row(0, named=True)
        assert (row["fast"], row["slow"]) == (best["fast"], best["slow"])
        assert math.isclose(row["train_expectancy_pct"], best["mean"])
        run = history.run("crossover", **{**SPANS, "fast": best["fast"], "slow": best["slow"]}, start=middle, end=end)
        mine = walk.trades.filter(window=number + 1).drop("window")
        if number == 2:
            # No window follows the last one, so its trades may stay open.
            assert mine.equals(run.trades)
        else:
            expected = closed_at_the_end(run)
            assert_frame_equal(mine.select(expected.columns), expected)
            assert mine["status"].unique().to_list() == ["closed"]
            forced = pl.col("exit_reason") == "window_end"
            assert mine.filter(~forced).equals(
                run.trades.join(mine.filter(~forced), on=["symbol", "entry_ts"], how="semi", maintain_order="left")
            )
            ended.append(mine.filter(forced).height)
        of_symbols = mine.filter(status="closed").group_by("symbol").agg(pl.col("net_return_pct").mean())
        mean = of_symbols["net_return_pct"].mean()
        assert isinstance(mean, float)
        assert math.isclose(row["test_expectancy_pct"], mean)
    assert walk.windows.height == 3
    assert walk.windows.select("fast", "slow").n_unique() > 1
    assert min(ended) > 0
    assert walk.trades.select("symbol", "entry_ts").equals(walk.trades.select("symbol", "entry_ts").sort(pl.all()))
    for row in walk.performance.rows(named=True):
        mine = walk.trades.filter(symbol=row["symbol"])
        assert row["trades"] == mine.filter(status="closed").height
        growth = math.prod(1 + net / 100 for net in mine["net_return_pct"])
        assert math.isclose(row["total_return_pct"], (growth - 1) * 100)
        tested = history.bars.filter(pl.col("symbol") == row["symbol"], pl.col("ts") >= walk.windows["test_from"][0])
        assert row["bars"] == tested.height


@pytest.mark.parametrize(
    "more",
    mostly_broad(
        [
            {"fill": "next_open"},
            {"exit_at_session_end": True},
            {"higher_timeframe": "1h"},
            {"atr_stop": 1, "atr_target": 2},
        ]
    ),
)
def test_a_walk_closes_all_trades_at_the_end_of_every_window_but_the_last(url: str, more: dict[str, Any]) -> None:
    history = backtest.load("15m", url=url)
    walk = history.walk_forward("crossover", train="2d", test="2d", by="total_return_pct", **{**SPANS, **more})
    before, last = walk.windows["window"] < walk.windows.height, walk.windows.height
    assert before.sum() >= 2
    trades = walk.trades.filter(pl.col("window") < last).join(walk.windows, on="window")
    assert trades.height > 20
    assert trades["status"].unique().to_list() == ["closed"]
    assert (trades["exit_ts"] < trades["test_until"]).all()
    for row in trades.filter(exit_reason="window_end").rows(named=True):
        of_window = walk.closes.filter(symbol=row["symbol"], window=row["window"])
        assert (row["exit_ts"], row["exit_price"]) == (of_window["ts"][-1], of_window["close"][-1])
    # A trade that ends with both its session and its window has the exit reason `session_end`.
    if "exit_at_session_end" in more:
        assert "window_end" not in trades.filter(symbol="AAPL")["exit_reason"]
        assert "session_end" in trades.filter(symbol="AAPL")["exit_reason"]
    else:
        assert "session_end" not in trades["exit_reason"]
        assert "window_end" in trades["exit_reason"]


@pytest.mark.broad
def test_the_equity_of_a_walk_continues_from_window_to_window(url: str) -> None:
    history = backtest.load("15m", url=url)
    varied = {**SPANS, "cost_bps": [30.0, 2.0]}
    # If win rates are equal, the first choice is kept, so both costs occur.
    walk = history.walk_forward("crossover", train="2d", test="2d", by="win_rate_pct", **varied)
    equity = walk.equity()
    level = dict.fromkeys(SYMBOLS, 1.0)
    assert walk.windows["cost_bps"].n_unique() == 2
    for row in walk.windows.rows(named=True):
        run = history.run(
            "crossover",
            **{**SPANS, **{name: row[name] for name in ("fast", "slow", "cost_bps")}},
            start=row["test_from"],
            end=row["test_until"],
        )
        part = equity.filter(pl.col("ts") >= row["test_from"], pl.col("ts") < row["test_until"])
        traded = run.trades if row["window"] == walk.windows.height else closed_at_the_end(run)
        for (symbol,), expected in run.equity().partition_by("symbol", as_dict=True).items():
            mine = part.filter(symbol=symbol)
            assert mine["ts"].equals(expected["ts"])
            # A trade that is closed at the end of the window pays its exit costs at the last point.
            growth = math.prod(1 + net / 100 for net in traded.filter(symbol=symbol)["net_return_pct"])
            for value, other in zip(mine["equity"], [*expected["equity"][:-1], growth], strict=True):
                assert math.isclose(value, other * level[str(symbol)], rel_tol=1e-9)
            level[str(symbol)] *= growth
    for row in walk.performance.rows(named=True):
        assert math.isclose(level[row["symbol"]], 1 + row["total_return_pct"] / 100, rel_tol=1e-9)
    assert math.isclose(walk.portfolio()["equity"][-1], sum(level.values()) / 3, rel_tol=1e-9)


@pytest.mark.broad
def test_the_windows_of_a_walk_have_no_gaps_and_reach_the_last_bar(url: str) -> None:
    history = backtest.load("1h", ["BTC-USD"], url=url)
    walk = history.walk_forward("crossover", train="1w", test="1d", fast=[3, 5], slow=9, entries="all")
    pairs = pairwise_of(walk.windows)
    assert pairs
    assert all(row == following for row, following in pairs)
    assert history.bars["ts"].max() < walk.windows["test_until"][-1]


def test_a_huge_test_window_takes_all_remaining_bars_and_a_huge_training_window_is_refused(url: str) -> None:
    history = backtest.load("1h", ["BTC-USD"], url=url)
    tried: dict[str, Any] = {"fast": [3, 5], "slow": 9, "entries": "all"}
    walk = history.walk_forward("crossover", train="1w", test=timedelta.max, **tried)
    assert walk.windows.height == 1
    assert walk.closes["ts"].max() == history.bars["ts"].max() < walk.windows["test_until"][0]
    assert walk.windows.equals(history.walk_forward("crossover", train="1w", test="99999w", **tried).windows)
    with pytest.raises(ConfigurationError, match="`train` must be shorter than the bars"):
        history.walk_forward("crossover", train=timedelta.max, test="1d", **tried)


def pairwise_of(windows: pl.DataFrame) -> list[tuple[datetime, datetime]]:
    rows = windows.select("test_from", "test_until").rows()
    return [(before[1], after[0]) for before, after in pairwise(rows)]


def test_training_uses_only_bars_that_closed_by_the_end_of_its_window(url: str) -> None:
    """A bar that is still open at the end of a training window is not part of it, on any exchange."""
    opened = utc("2026-11-10 00:00")
    bars = pl.DataFrame(
        {
            "symbol": ["AAPL", "AAPL", "BTC-USD", "BTC-USD", "BTC-USD"],
            "ts": [opened + timedelta(hours=hour) for hour in (14, 38, 0, 24, 48)],
            "ts_end": [opened + timedelta(hours=hour) for hour in (21, 45, 24, 48, 72)],
        }
    )
    whole, day = walking.Window(None, None), timedelta(days=1)
    learned, _ = walking.windows(bars, whole, day, timedelta(hours=46), day)[0]
    assert learned.of(bars).rows() == bars.filter(pl.col("ts_end") <= opened + timedelta(hours=46)).rows()
    learned, _ = walking.windows(bars, whole, day, timedelta(hours=48), day)[0]
    assert learned.of(bars).height == 4


@pytest.mark.parametrize("end", ["2026-11-17 18:15", "2026-11-17 18:30", "2026-11-16 15:00"])
def test_a_walk_to_an_end_uses_the_bars_of_a_run_to_that_end(url: str, end: str) -> None:
    """Bars of other exchanges open before the newest one closes, and close after the end."""
    history = backtest.load("1h", url=url)
    tried: dict[str, Any] = {"slow": 9, "side": "both", "entries": "all"}
    walk = history.walk_forward("crossover", train="2d", test="1d", end=end, fast=[3, 5], **tried)
    run = history.run("crossover", start=walk.windows["test_from"][0], end=end, fast=3, **tried)
    assert walk.closes.drop("window").equals(run.closes)
    spans = ["symbol", "first_ts", "last_ts", "bars", "buy_and_hold_pct"]
    assert walk.performance.select(spans).equals(run.performance.select(spans))
    assert walk.trades.join(
        walk.closes, left_on=["symbol", "last_ts"], right_on=["symbol", "ts"], how="anti"
    ).is_empty()
    assert walk.windows["test_until"][-1] <= utc(end)


def test_a_training_window_leaves_out_bars_that_have_not_closed_at_the_end_of_the_walk() -> None:
    opened, hour = utc("2026-11-10 00:00"), timedelta(hours=1)
    hours = {"AAPL": [(14, 21), (38, 45), (62, 69)], "BTC-USD": [(0, 24), (24, 48), (48, 72)]}
    rows = [(symbol, opened + a * hour, opened + b * hour) for symbol, each in hours.items() for a, b in each]
    bars = pl.DataFrame(rows, schema=["symbol", "ts", "ts_end"], orient="row")
    end = opened + 70 * hour
    whole = walking.Window(None, end, bars.filter(pl.col("ts_end") > end).select("symbol", "ts"))
    ((learned, traded),) = walking.windows(whole.of(bars), whole, 24 * hour, 62 * hour, 24 * hour)
    assert learned.of(bars).rows() == bars.filter(pl.col("ts_end") <= opened + 62 * hour).rows()
    assert traded.of(bars).select("symbol", "ts").rows() == [("AAPL", opened + 62 * hour)]
    assert traded.end == end


@pytest.mark.broad
def test_a_window_without_a_ranking_has_no_trades(url: str) -> None:
    """No spread is this large, so no choice has a trade and the profit factor of every choice is null."""
    history = backtest.load("1h", ["AAPL"], url=url)
    walk = history.walk_forward("crossover", train="4d", test="4d", by="profit_factor", min_spread_pct=[90.0, 99.0])
    assert walk.windows["min_spread_pct"].is_null().all()
    assert walk.trades.is_empty()
    assert walk.trades.columns[:3] == ["window", "symbol", "entry_ts"]
    assert walk.performance["total_return_pct"].to_list() == [0.0]
    assert (walk.equity()["equity"] == 1.0).all()


# --- equity -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"side": "both", "cost_bps": 25}, {"side": "both", "fill": "next_open"}])
def test_equity_equals_a_curve_that_is_computed_bar_by_bar(url: str, options: dict[str, Any]) -> None:
    found = backtest.load("15m", url=url).run("crossover", entries="all", **options)
    equity = found.equity()
    assert equity.select("symbol", "ts").equals(found.closes.select("symbol", "ts"))
    for symbol in SYMBOLS:
        bars = found.closes.filter(symbol=symbol).rows(named=True)
        trades = found.trades.filter(symbol=symbol).rows(named=True)
        returns, points = curve(bars, trades, options.get("cost_bps", 0) / 10_000)
        at_closes = dict(points[1:])
        mine = equity.filter(symbol=symbol)
        assert len(trades) > 3
        assert all(math.isclose(row["equity"], at_closes[row["ts"]], rel_tol=1e-9) for row in mine.rows(named=True))
        lowest = mine["drawdown_pct"].min()
        assert isinstance(lowest, float)
        if "fill" not in options:
            # With fills at the close, equity changes only at closes.
            assert math.isclose(-lowest, of_curve(returns, points).drawdown * 100, rel_tol=1e-9)


@pytest.mark.broad
def test_a_portfolio_is_the_mean_of_its_symbols_and_each_is_in_cash_before_its_first_bar(url: str) -> None:
    found = backtest.load("15m", url=url).run("crossover", entries="all", side="both")
    whole = found.portfolio()
    curves = {symbol: rows for (symbol,), rows in found.equity().partition_by("symbol", as_dict=True).items()}
    for ts, value in whole.select("ts", "equity").gather_every(37).iter_rows():
        parts = []
        for rows in curves.values():
            known = rows.filter(pl.col("ts") <= ts)["equity"]
            parts.append(known[-1] if len(known) else 1.0)
        assert math.isclose(value, sum(parts) / 3, rel_tol=1e-9)
    highest = whole["equity"].cum_max().clip(lower_bound=1.0)
    assert ((whole["drawdown_pct"] - (whole["equity"] / highest - 1) * 100).abs() < 1e-9).all()
    assert whole["ts"].is_sorted()
    assert whole["ts"].n_unique() == whole.height


def test_equity_ends_at_a_trade_with_a_price_of_zero_or_less_and_a_portfolio_omits_the_symbol() -> None:
    ts = [datetime(2026, 11, day, tzinfo=UTC) for day in range(2, 8)]
    closes = pl.DataFrame(
        {
            "symbol": ["A"] * 6 + ["B"] * 6 + ["C"] * 6,
            "ts": ts * 3,
            "close": [10.0, 11, 12, -3, 5, 6, 10, 20, 20, 30, 30, 30, 5, 6, -1, 7, 8, 9],
        }
    )
    trades = pl.DataFrame(
        {
            "symbol": ["A", "A", "B", "C"],
            "entry_ts": [ts[0], ts[2], ts[0], ts[1]],
            "exit_ts": [ts[1], ts[3], ts[3], ts[4]],
            "side": ["long"] * 4,
            "entry_price": [10.0, 12.0, 10.0, 6.0],
            # The price of C is below zero only between entry and exit.
            "net_return_pct": [10.0, None, 200.0, 100 / 3],
            "bar_returns_sum": [0.1, None, 1.5, None],
        },
        schema_overrides={"ts": closes.schema["ts"]},
    )
    found = backtest.Backtest("crossover", {}, trades, trades.clear(), closes, 0.0)
    curves = found.equity()
    assert curves.filter(symbol="A")["equity"].to_list() == [1.0, 1.1, None, None, None, None]
    assert curves.filter(symbol="B")["equity"].to_list() == [1.0, 2.0, 2.0, 3.0, 3.0, 3.0]
    assert curves.filter(symbol="C")["equity"].to_list() == [1.0, None, None, None, None, None]
    assert found.portfolio()["equity"].to_list() == [1.0, 2.0, 2.0, 3.0, 3.0, 3.0]
    # The same trades in the first of two test windows of a walk-forward.
    placed = closes.with_columns(window=1 + (pl.col("ts") >= ts[4]).cast(pl.Int64))
    of_first = trades.with_columns(window=pl.lit(1, pl.Int64))
    assert backtest.WalkForward(trades.clear(), of_first, trades.clear(), placed, {1: 0.0}).equity().equals(curves)


# --- refused arguments ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda h: h.run("crosover"), "`rule` must be one of crossover, pullback, received 'crosover'; did you mean"),
        (
            lambda h: h.run("crossover", fats=5),
            "backtest: `fats` is not an option of crossover, which has side,.*; did you mean `fast`",
        ),
        (lambda h: h.run("crossover", fast="9"), "backtest: `fast` must be a whole number from 2 to .*received '9'"),
        (lambda h: h.run("crossover", fast=30, slow=9), "backtest: .*`fast`.*`slow`"),
        (lambda h: h.run("crossover", fast=[5, 9]), r"`fast` must be one value here, received \[5, 9\]; `sweep` tries"),
        (lambda h: h.run("crossover", enabled=False), "`enabled` is not an option of crossover, which has side"),
        (
            lambda h: h.run("crossover", start="2027-01-01"),
            "no bars with `start` '2027-01-01'; .* to 2026-11-20 .* UTC",
        ),
        (lambda h: h.run("crossover", end="0001-01-01"), "no bars with `end` '0001-01-01'; .* to 2026-11-20 .* UTC"),
        (lambda h: h.run("crossover", start="soon"), "`start` must be a time such as"),
        (
            lambda h: h.run("crossover", higher_timeframe="4h"),
            "must have bars of each symbol, received .4h., which has none of 0700.HK, AAPL",
        ),
        (lambda h: h.sweep("crossover", fast=5), r"at least one option must have several values, such as fast=\[5"),
        (lambda h: h.sweep("crossover", fast=[]), r"`fast` must have at least one value, received \[\]"),
        (lambda h: h.sweep("crossover", fast=[30, 40], slow=[9]), "backtest: .*`fast`.*`slow`"),
        (lambda h: h.sweep("crossover", fast=[5, 0.5]), "`fast` must be a whole number"),
        (lambda h: h.walk_forward("crossover", train="4d", test="1d"), "at least one option must have several values"),
        (lambda h: h.walk_forward("crossover", train="4d", test="soon", fast=[5, 9]), "`test` must be a time such as"),
        (lambda h: h.walk_forward("crossover", train="0d", test="1d", fast=[5, 9]), "`train` must be a time such as"),
        (lambda h: h.walk_forward("crossover", train="90d", test="1d", fast=[5, 9]), "`train` must be shorter than"),
        (
            lambda h: h.walk_forward("crossover", train="4d", test="1d", by="sharp", fast=[5, 9]),
            "`by` must be one of .*did you mean `sharpe`",
        ),
    ],
)
def test_invalid_arguments_of_a_run_a_sweep_or_a_walk_are_refused(url: str, call: Any, message: str) -> None:
    history = backtest.load("1h", url=url)
    with pytest.raises(ConfigurationError, match=message):
        call(history)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"timeframe": "4x"}, InvalidKeyError, "4x"),
        (
            {"timeframe": "45m"},
            ConfigurationError,
            "`timeframe` must be one that the watchlist has or had, 5m, .*received '45m'",
        ),
        ({"timeframe": "1h", "symbols": "AAPL"}, ConfigurationError, "must be a list such as"),
        ({"timeframe": "1h", "symbols": ["NVDA"]}, ConfigurationError, "received 'NVDA'"),
        ({"timeframe": "1h", "end": "2020-01-01"}, ConfigurationError, "there are no bars on 1h in that time"),
        ({"timeframe": "1h", "end": date(2020, 1, 1)}, ConfigurationError, "there are no bars on 1h in that time"),
        (
            {"timeframe": "1h", "start": 20261101},
            ConfigurationError,
            "`start` must be a time such as .*received 20261101",
        ),
        ({"timeframe": "1h", "symbols": []}, ConfigurationError, "`symbols` must name one at least"),
        ({"timeframe": "1h", "start": datetime(2026, 11, 1)}, ConfigurationError, "a datetime with a zone"),  # noqa: DTZ001
    ],
)
def test_invalid_arguments_of_load_are_refused(
    url: str, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        backtest.load(**arguments, url=url)


@pytest.mark.broad
def test_a_user_with_read_access_can_run_a_backtest(databases: Databases, url: str) -> None:
    mine = backtest.load("15m", url=url).run("crossover", entries="all", higher_timeframe="1h")
    with databases.member(url, "ema_reader") as reader:
        theirs = backtest.load("15m", url=reader).run("crossover", entries="all", higher_timeframe="1h")
    assert theirs.trades.equals(mine.trades)
    assert theirs.trades.height > 0


def test_an_error_in_the_watchlist_is_reported_with_its_file_and_table(url: str, tmp_path: Path) -> None:
    history = backtest.load("1h", url=url)
    path = tmp_path / "watchlist.toml"
    path.write_text(path.read_text().replace("[[strategy]]", "[signals.rsi]\nspann = 3\n\n[[strategy]]", 1))
    with pytest.raises(ConfigurationError, match=r"watchlist.toml: signals.rsi: unknown key `spann`"):
        history.run("crossover")


def test_a_sweep_computes_each_asset_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from ema_assets.reports import in_memory

    computed: list[str] = []
    known: list[int] = []
    before = in_memory.InMemory._computed
    monkeypatch.setattr(
        in_memory.InMemory,
        "_computed",
        lambda self, asset, timeframe: (computed.append(asset), before(self, asset, timeframe))[1],
    )
    monkeypatch.setattr(in_memory, "simulate", lambda *given: (known.append(len(given[0])), simulate(*given))[1])
    backtest.load("1h", ["AAPL"], url=url).sweep("crossover", fast=[3, 5], slow=[8, 13], entries="all")
    assert len(computed) == len(set(computed))
    assert {"ema_3", "ema_5", "ema_8", "ema_13", "ema_trend_5_13"} <= set(computed)
    assert len(known) == 4


def test_a_longer_timeframe_that_was_never_on_is_refused_under_the_name_of_its_option(url: str) -> None:
    history = backtest.load("1h", url=url)
    with pytest.raises(ConfigurationError, match="`higher_timeframe` must be one that .* had, 5m, .*received '2h'"):
        history.run("crossover", higher_timeframe="2h")
