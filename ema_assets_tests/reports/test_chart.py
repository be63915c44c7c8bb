"""Tests of the large chart of a series: it draws what is stored."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from io import BytesIO

import polars as pl
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ema_assets import read
from ema_assets.model.errors import ConfigurationError, InvalidKeyError
from ema_assets.model.timeframes import Timeframe
from ema_assets.refresh.graph import build
from ema_assets.reports.chart import draw, picture_of
from ema_assets.store.database import Database
from ema_assets_tests.conftest import Databases
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, refresh, rows_of, utc, watch
from ema_assets_tests.timeframes import D1, H1, M5

WATCHED = watch({"AAPL": "XNYS", "MINE": "XNYS"}, m5_days=20)
GRAPH = build(WATCHED)


@pytest.fixture(scope="module")
def market(databases: Databases) -> Iterator[Database]:
    """A database with AAPL on three timeframes; MINE has no bar."""
    url = databases.make()
    first = date(2026, 11, 1)
    exchange = MemoryExchange(*(bars_on("XNYS", "AAPL", each, first, date(2026, 11, 20), seed=3) for each in (M5, D1)))
    with Database(url) as database:
        refresh(database, WATCHED, exchange, utc("2026-11-20 21:30"))
        yield database
    databases.drop(url)


def drawn(market: Database, bars: int = 60, timeframe: Timeframe = H1) -> tuple[Figure, pl.DataFrame]:
    with market.transaction() as transaction:
        picture = picture_of(transaction, GRAPH, "AAPL", timeframe, bars)
    return draw(picture, "SYNTHETIC prices"), picture.bars


def heights(axes: Axes) -> list[float]:
    """The height of each bar."""
    return [bar.get_height() for bar in axes.patches if isinstance(bar, Rectangle)]


@pytest.mark.broad
def test_the_legend_covers_no_candle_and_volumes_have_no_power_of_ten_beside_the_axis(market: Database) -> None:
    with market.transaction() as transaction:
        picture = picture_of(transaction, GRAPH, "AAPL", H1, 60)
    falling = pl.Series([200.0 - place for place in range(60)])
    prices = dict.fromkeys(("open", "high", "low", "close", "fast", "slow"), falling)
    bars = picture.bars.with_columns(**prices, volume=pl.Series([1.5e9] * 59 + [2.5e8]))
    figure = draw(replace(picture, bars=bars, trades=picture.trades.clear()))
    figure.savefig(BytesIO())
    axes, volumes = figure.axes
    legend = axes.get_legend()
    assert legend is not None
    assert legend.get_window_extent().y0 > axes.transData.transform((0, 200.0))[1]
    assert volumes.yaxis.get_offset_text().get_text() == ""
    assert {"500M", "1B"} <= {label.get_text() for label in volumes.get_yticklabels()}


@pytest.mark.broad
@pytest.mark.parametrize("close", [1.08432, 9.7e-10, 253558.37])
def test_the_price_axis_shows_full_prices_without_an_offset(market: Database, close: float) -> None:
    with market.transaction() as transaction:
        picture = picture_of(transaction, GRAPH, "AAPL", H1, 60)
    prices = pl.Series([close * (1 + place / 100_000) for place in range(60)])
    bars = picture.bars.with_columns(open=prices, high=prices, low=prices, close=prices, fast=prices, slow=prices)
    bars = bars.with_columns(volume=0.0)
    figure = draw(replace(picture, bars=bars, trades=picture.trades.clear()))
    figure.savefig(BytesIO())
    axis = figure.axes[0].yaxis
    assert axis.get_offset_text().get_text() == ""
    shown = [float(label.get_text().replace(",", "")) for label in axis.get_ticklabels()]
    assert len(set(shown)) == len(shown)
    assert min(shown) == pytest.approx(close, rel=1e-3)
    # Nothing was traded, and not less than nothing.
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == ["0"]


@pytest.mark.broad
def test_the_chart_draws_the_stored_candles_averages_and_volume(market: Database) -> None:
    figure, bars = drawn(market)
    stored = rows_of(
        market,
        """SELECT o.high, o.low, abs(o.close - o.open), o.volume, e.ema_9, e.ema_30
           FROM market.ohlc o JOIN market.ema_signals e USING (symbol, timeframe, ts)
           WHERE symbol = 'AAPL' AND timeframe = '1h' ORDER BY ts DESC LIMIT 60""",
    )[::-1]
    prices, volumes = figure.axes
    wicks = prices.collections[0].get_segments()  # type: ignore[attr-defined]
    assert [(segment[1][1], segment[0][1]) for segment in wicks] == [row[:2] for row in stored]
    assert heights(prices) == pytest.approx([row[2] for row in stored])
    assert heights(volumes) == [row[3] for row in stored]
    for line, column in zip(prices.lines[:2], (4, 5), strict=True):
        assert list(line.get_ydata()) == [row[column] for row in stored]  # type: ignore[arg-type]
    assert [line.get_label() for line in prices.lines[:2]] == ["EMA 9", "EMA 30"]
    last = bars.row(-1, named=True)
    assert prices.get_title(loc="left") == (
        f"AAPL 1h  ·  bar of {last['ts']:%Y-%m-%d %H:%M} UTC, close {last['close']:.6g}  ·  "
        "trades of strategy_9_30_ema  ·  SYNTHETIC prices"
    )


@pytest.mark.broad
def test_each_trade_has_a_marker_at_its_entry_and_its_exit(market: Database) -> None:
    figure, bars = drawn(market, 400, M5)
    trades = rows_of(
        market,
        """SELECT entry_ts, entry_price, exit_ts, exit_price, side FROM market.strategy_9_30_ema
           WHERE symbol = 'AAPL' AND timeframe = '5m' ORDER BY entry_ts""",
    )
    times = bars["ts"].to_list()
    entries = {
        (times.index(ts), price, "^" if side == "long" else "v") for ts, price, _, _, side in trades if ts in times
    }
    exits = {(times.index(ts), price, "x") for _, _, ts, price, _ in trades if ts in times}
    found = {
        (line.get_xdata()[0], line.get_ydata()[0], line.get_marker())  # type: ignore[index]
        for line in figure.axes[0].lines
        if line.get_marker() in ("^", "v", "x")
    }
    assert entries
    assert exits
    assert found == entries | exits


def test_a_trade_that_began_before_the_first_bar_has_no_entry_in_the_chart(market: Database) -> None:
    ((entry_ts, bars_held),) = rows_of(
        market,
        """SELECT entry_ts, bars_held FROM market.strategy_9_30_ema
           WHERE symbol = 'AAPL' AND timeframe = '1h' AND status = 'open'""",
    )
    figure, bars = drawn(market, max(int(bars_held) - 1, 1))
    assert entry_ts < bars["ts"][0]
    markers = [line.get_marker() for line in figure.axes[0].lines]
    assert not {"^", "v", "x"} & set(markers)


def test_a_chart_of_a_single_bar_is_drawn_as_wide_as_one_of_many(market: Database) -> None:
    figure, bars = drawn(market, 1)
    assert bars.height == 1
    for axes in figure.axes:
        assert axes.get_xlim() == (-29.5, 0.5)
    out = BytesIO()
    figure.savefig(out, format="png")
    assert out.getvalue().startswith(b"\x89PNG")


def test_read_chart_draws_the_same_chart_and_refuses_invalid_arguments(market: Database) -> None:
    figure = read.chart("AAPL", "1h", bars=60, url=market.url)
    mine, _ = drawn(market)
    assert heights(figure.axes[0]) == heights(mine.axes[0])
    with pytest.raises(InvalidKeyError, match="`timeframe` must be one of"):
        read.chart("AAPL", "60m", url=market.url)
    with pytest.raises(ConfigurationError, match="`bars` must be at least 1, received 0"):
        read.chart("AAPL", "1h", bars=0, url=market.url)


@pytest.mark.broad
def test_averages_that_a_strategy_compares_can_be_drawn(databases: Databases) -> None:
    watched = replace(
        WATCHED,
        strategies=(
            *WATCHED.strategies,
            {"name": "quick", "rule": "crossover", "fast": 5, "slow": 13},
        ),
    )
    graph = build(watched)
    url = databases.make()
    exchange = MemoryExchange(bars_on("XNYS", "AAPL", M5, date(2026, 11, 17), date(2026, 11, 20), seed=3))
    with Database(url) as database:
        refresh(database, watched, exchange, utc("2026-11-20 21:30"))
        with database.transaction() as transaction:
            usual = picture_of(transaction, graph, "AAPL", M5, 5)
            quick = picture_of(transaction, graph, "AAPL", M5, 5, averages="5/13")
        stored = rows_of(
            database,
            "SELECT ema_5 FROM market.ema_5 WHERE symbol = 'AAPL' AND timeframe = '5m' ORDER BY ts DESC LIMIT 5",
        )
    databases.drop(url)
    assert (usual.averages, quick.averages) == (("ema_9", "ema_30"), ("ema_5", "ema_13"))
    assert (usual.strategy, quick.strategy) == ("strategy_9_30_ema", "strategy_quick")
    assert quick.bars["fast"].to_list() == [value for (value,) in reversed(stored)]
    assert [line.get_label() for line in draw(quick).axes[0].lines[:2]] == ["EMA 5", "EMA 13"]


@pytest.mark.parametrize(
    ("symbol", "strategy", "sentence"),
    [
        ("MINE", None, "there are no bars of MINE on 1h yet; `ema-assets status` says why"),
        ("AAPL", "mine", "`strategy` must be one of strategy_9_30_ema, received 'mine'"),
    ],
)
def test_a_series_without_bars_and_an_unknown_strategy_are_refused(
    market: Database, symbol: str, strategy: str | None, sentence: str
) -> None:
    with market.transaction() as transaction, pytest.raises(ConfigurationError) as caught:
        picture_of(transaction, GRAPH, symbol, H1, strategy=strategy)
    assert str(caught.value) == sentence


def test_a_missing_matplotlib_is_reported_with_the_command_that_installs_it(
    market: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with market.transaction() as transaction:
        picture = picture_of(transaction, GRAPH, "AAPL", H1)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'ema-assets\[chart\]'"):
        draw(picture)


@pytest.mark.parametrize(
    ("side", "entry", "last", "color"),
    [
        ("long", -6.0, -5.0, "#00897b"),
        ("long", -5.0, -6.0, "#e53935"),
        ("short", -5.0, 1.0, "#e53935"),
        ("short", 1.0, -5.0, "#00897b"),
        ("long", 20.0, 20.0, "#00897b"),
    ],
)
def test_a_trade_through_prices_below_zero_has_the_color_of_what_it_gained(
    market: Database, side: str, entry: float, last: float, color: str
) -> None:
    with market.transaction() as transaction:
        picture = picture_of(transaction, GRAPH, "AAPL", H1, 20)
    times = picture.bars["ts"]
    prices = {"entry_price": entry, "exit_price": last, "last_price": last, "stop_price": None, "stop_now": None}
    trade = {"entry_ts": times[5], "side": side, "exit_ts": times[9], "last_ts": times[9], "return_pct": None, **prices}
    figure = draw(replace(picture, trades=pl.DataFrame([trade])))
    marked = [line for line in figure.axes[0].lines if line.get_marker() in ("^", "v", "x")]
    assert [line.get_color() for line in marked] == [color, color]
