"""Trades of the strategy against a trader who walks through the bars one by one."""

import math

import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ema_assets.domain.calendars import UTC_TIME
from ema_assets.domain.strategy import trades_9_30
from ema_assets_tests.domain import reference
from ema_assets_tests.domain.series import START, bars_of, cut

NOTHING = pl.DataFrame(
    schema={"symbol": pl.String(), "entry_ts": UTC_TIME, "entry_price": pl.Float64(), "entry_bar_number": pl.Int64()}
)

KEY = ["symbol", "entry_ts"]


@st.composite
def traded_bars(draw: st.DrawFn) -> list[tuple[float, str | None]]:
    """Close and crossover of each bar; crossovers take turns, as flips do."""
    closes = draw(st.lists(st.floats(0.01, 1e6), max_size=30))
    turn = draw(st.booleans())
    result: list[tuple[float, str | None]] = []
    for close in closes:
        crossover = None
        if draw(st.integers(0, 2)) == 0:
            crossover, turn = ("bullish" if turn else "bearish"), not turn
        result.append((close, crossover))
    return result


SERIES = st.dictionaries(st.sampled_from(["AAPL", "MSFT", "BTC-USD"]), traded_bars(), min_size=1)


def frame_of(series: dict[str, list[tuple[float, str | None]]]) -> pl.DataFrame:
    crossovers = [crossover for symbol in sorted(series) for _, crossover in series[symbol]]
    return bars_of({symbol: [close for close, _ in rows] for symbol, rows in series.items()}).with_columns(
        pl.Series("crossover", crossovers, dtype=pl.String),
        pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("symbol").alias("bar_number"),
    )


@given(SERIES)
def test_trades_equal_those_of_the_reference(series: dict[str, list[tuple[float, str | None]]]) -> None:
    bars = frame_of(series)
    found = trades_9_30(bars, NOTHING)
    for symbol, rows in series.items():
        times = bars.filter(symbol=symbol)["ts"].to_list()
        expected = reference.trades([close for close, _ in rows], [crossover for _, crossover in rows])
        mine = found.filter(symbol=symbol)
        assert mine.drop("symbol", "return_pct").rows() == [
            (
                times[trade.entry],
                trade.entry_price,
                None if trade.exit is None else times[trade.exit],
                trade.exit_price,
                times[trade.last],
                trade.last_price,
                trade.last - trade.entry,
                trade.status,
            )
            for trade in expected
        ]
        for gain, trade in zip(mine["return_pct"], expected, strict=True):
            wanted = 100 * (trade.last_price - trade.entry_price) / trade.entry_price
            assert math.isclose(gain, wanted, rel_tol=1e-9, abs_tol=1e-12)


@given(SERIES, st.data())
def test_computing_in_increments_gives_the_same_trades_as_in_one_go(
    series: dict[str, list[tuple[float, str | None]]], data: st.DataObject
) -> None:
    bars = frame_of(series)
    numbers = bars.select("symbol", "ts", "bar_number")
    points = {symbol: sorted(data.draw(st.lists(st.integers(0, 30), max_size=4))) for symbol in series}
    trades = trades_9_30(bars.clear(), NOTHING)
    for part in cut(bars, points):
        still_open = trades.filter(status="open").join(
            numbers.rename({"ts": "entry_ts", "bar_number": "entry_bar_number"}), on=KEY, how="left"
        )
        found = trades_9_30(part, still_open.select(NOTHING.columns))
        touched = part["symbol"].unique().implode()
        found = found.filter(pl.col("symbol").is_in(touched))
        # As in the store: a trade that was open is written again, all others stay.
        trades = pl.concat([trades, found]).unique(KEY, keep="last").sort(KEY)
    assert_frame_equal(trades, trades_9_30(bars, NOTHING).sort(KEY), check_exact=True)


def test_a_carried_trade_without_a_new_bar_is_marked_to_its_entry() -> None:
    carried = NOTHING.vstack(pl.DataFrame([("AAPL", START, 50.0, 12)], schema=NOTHING.schema, orient="row"))
    found = trades_9_30(frame_of({"AAPL": []}), carried)
    assert found.rows(named=True) == [
        {
            "symbol": "AAPL",
            "entry_ts": START,
            "entry_price": 50.0,
            "exit_ts": None,
            "exit_price": None,
            "last_ts": START,
            "last_price": 50.0,
            "return_pct": 0.0,
            "bars_held": 0,
            "status": "open",
        }
    ]


def test_a_bearish_crossover_without_a_trade_opens_nothing() -> None:
    assert trades_9_30(frame_of({"AAPL": [(1.0, None), (2.0, "bearish"), (3.0, None)]}), NOTHING).is_empty()


def test_bars_of_one_symbol_never_close_the_trade_of_another() -> None:
    found = trades_9_30(frame_of({"AAPL": [(1.0, "bullish")], "MSFT": [(2.0, "bearish"), (3.0, "bullish")]}), NOTHING)
    assert found.select("symbol", "status").rows() == [("AAPL", "open"), ("MSFT", "open")]
