"""What a walk-forward chooses by: the mean of a figure over symbols, also where that figure has no bound."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from ema_assets.backtest.walking import Walk, Window
from ema_assets.store.results import FEWEST_TRADES
from ema_assets.strategies.figures import SPAN_SCHEMA, figures
from ema_assets.strategies.trade_columns import TRADE_SCHEMA

DAY = timedelta(days=1)
FIRST = datetime(2026, 1, 5, tzinfo=UTC)
MIDDLE, END = FIRST + 100 * DAY, FIRST + 200 * DAY
TRAIN, TEST = Window(FIRST, MIDDLE), Window(MIDDLE, END)
SYMBOLS = ("A", "B")


def spans_of(window: Window) -> pl.DataFrame:
    rows = [(symbol, window.start, FIRST + 199 * DAY, 100, 0.0, 365.25) for symbol in SYMBOLS]
    return pl.DataFrame(rows, schema={"symbol": pl.String(), **SPAN_SCHEMA}, orient="row")


def closed(symbol: str, place: int, gain: float, start: datetime) -> dict[str, object]:
    """A closed trade over one bar, whose net return is `gain` percent."""
    times = dict.fromkeys(("entry_ts", "exit_ts", "last_ts", "equity_peak_ts", "equity_trough_ts"), start + place * DAY)
    fall = max(-gain / 100, 0.0)
    return {
        **dict.fromkeys(TRADE_SCHEMA),
        **times,
        "symbol": symbol,
        "side": "long",
        "entry_price": 100.0,
        "last_price": 100.0 + gain,
        "status": "closed",
        "return_pct": gain,
        "net_return_pct": gain,
        "bars_held": 1,
        "drawdown": fall,
        "equity_peak": max(1 + gain / 100, 1.0),
        "equity_trough": min(1 + gain / 100, 1.0),
        "bar_returns_sum": gain / 100,
        "bar_returns_square_sum": (gain / 100) ** 2,
        "bar_returns_negative_square_sum": fall**2,
    }


def trades_of(gains: Mapping[str, Sequence[float]]) -> Callable[[Window], pl.DataFrame]:
    """The same trades per symbol in each window."""

    def trades(window: Window) -> pl.DataFrame:
        assert window.start is not None
        rows = [
            closed(symbol, place, gain, window.start)
            for symbol, each in gains.items()
            for place, gain in enumerate(each)
        ]
        return pl.DataFrame(rows, schema={"symbol": pl.String(), **TRADE_SCHEMA})

    return trades


NO_BARS = pl.DataFrame(schema={"symbol": pl.String(), "ts": pl.Datetime("us", "UTC"), "close": pl.Float64()})
MIXED = [2.0, -1.0] * 6
WON = [1.0] * 12


@pytest.mark.parametrize("by", ["profit_factor", "calmar"])
def test_a_choice_that_has_lost_nothing_is_better_than_any_that_has(by: str) -> None:
    walk = Walk([(TRAIN, TEST)], by, spans_of)
    walk.add({"fast": 5}, 0.0, trades_of({"A": MIXED, "B": MIXED}))
    walk.add({"fast": 9}, 0.0, trades_of({"A": WON, "B": MIXED}))
    walk.add({"fast": 12}, 0.0, trades_of({"A": WON, "B": WON}))
    (row,) = walk.result(NO_BARS).windows.rows(named=True)
    # Of choices without a bound, which are equal, the first is taken.
    assert row["fast"] == 9
    assert (row[f"train_{by}"], row[f"test_{by}"]) == (None, None)


def test_a_choice_that_fewer_symbols_have_a_figure_for_comes_later_even_without_a_bound() -> None:
    walk = Walk([(TRAIN, TEST)], "profit_factor", spans_of)
    walk.add({"fast": 5}, 0.0, trades_of({"A": MIXED, "B": MIXED}))
    walk.add({"fast": 9}, 0.0, trades_of({"A": WON, "B": [1.0]}))
    (row,) = walk.result(NO_BARS).windows.rows(named=True)
    assert row["fast"] == 5
    assert (row["train_profit_factor"], row["test_profit_factor"]) == (2.0, 2.0)


def test_each_window_is_measured_by_its_own_bars() -> None:
    bars = {FIRST: 90, MIDDLE: 40, FIRST + 10 * DAY: 70, END: 20}

    def spans(window: Window) -> pl.DataFrame:
        assert window.start is not None
        return spans_of(window).with_columns(bars=pl.lit(bars[window.start], pl.Int64))

    pairs = [(TRAIN, TEST), (Window(FIRST + 10 * DAY, END), Window(END, END + 100 * DAY))]
    trades = trades_of({"A": MIXED, "B": WON})
    walk = Walk(pairs, "sharpe", spans)
    walk.add({"fast": 5}, 0.0, trades)
    found = walk.result(NO_BARS).windows.select("train_sharpe", "test_sharpe").rows()
    expected = [
        tuple(figures(trades(each), spans(each), FEWEST_TRADES)["sharpe"].mean() for each in pair) for pair in pairs
    ]
    assert found == expected
    assert len({sharpe for row in found for sharpe in row}) == 4
