"""Tests of the chart for the terminal, which consists of characters."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from ema_assets.model.timeframes import by_key
from ema_assets.reports.chart import Picture
from ema_assets.reports.terminal_chart import (
    DOWN_ARROW,
    EXIT,
    FAST,
    SLOW,
    UP_ARROW,
    Line,
    bars_that_fit,
    terminal_chart,
)

BEGIN = datetime(2026, 11, 20, 22, tzinfo=UTC)
Bar = tuple[float, float, float, float, float | None]


def picture(bars: Sequence[Bar], trades: Sequence[dict[str, Any]] = (), **columns: Sequence[float | None]) -> Picture:
    """A picture of 1h bars of open, high, low, close and volume. Fields that `trades` leave out have default values."""
    frame = pl.DataFrame(
        list(bars), schema=dict.fromkeys(("open", "high", "low", "close", "volume"), pl.Float64), orient="row"
    )
    times = [BEGIN + timedelta(hours=number) for number in range(len(bars))]
    frame = frame.with_columns(
        pl.Series("ts", times),
        *(pl.Series(name, columns.get(name, [None] * len(bars)), dtype=pl.Float64) for name in ("fast", "slow")),
    )
    usual = {"side": "long", "entry_price": 10.0, "return_pct": 2.5, "stop_now": None}
    gone: dict[str, Any] = {"exit_ts": None, "exit_price": None}
    rows = [{**usual, **gone, **trade} for trade in trades]
    schema: dict[str, Any] = {
        "entry_ts": pl.Datetime("us", "UTC"),
        "side": pl.String,
        "exit_ts": pl.Datetime("us", "UTC"),
    }
    numbers = dict.fromkeys(("entry_price", "exit_price", "return_pct", "stop_now"), pl.Float64)
    return Picture("X", by_key("1h"), frame, pl.DataFrame(rows, schema={**schema, **numbers}), "rule")


def text(lines: Sequence[Line]) -> list[str]:
    return ["".join(cell.text for cell in line).rstrip() for line in lines]


def test_bodies_are_thick_wicks_are_thin_and_both_can_end_at_half_a_cell() -> None:
    # Ten prices on five rows: two prices per row.
    lines = terminal_chart(picture([(1, 9, 0, 4, None), (8, 9, 4, 5, None)]), 40, 9)
    rose, fell = ({line[column].role for line in lines[2:7]} - {""} for column in (0, 3))
    assert (rose, fell) == ({"up"}, {"down"})
    assert text(lines) == [
        "X 1h  bar of 2026-11-20 23:00 UTC  clos…",
        "rule: no trade in these bars",
        "│  ╽   │",
        "│  ┃   │",
        "╽  ╿   ◂5.00",
        "┃      │",
        "╿      ┤0",
        "┬──────┘",
        "11-20 22:00",
    ]


def test_averages_continue_between_bars_and_cover_wicks_but_not_bodies() -> None:
    drawn = text(terminal_chart(picture([(8, 9, 0, 9, None)] * 2, fast=[2, 4], slow=[None, 9]), 60, 12))
    assert drawn[1].startswith(f"{FAST} EMA 9 4.00  {SLOW} EMA 30 9.00  spread -55.56 %")
    assert [line[:6] for line in drawn[3:] if FAST in line] == [f"│  {FAST * 3}", f"{FAST * 3}│  "]
    assert [line[:6] for line in drawn[3:] if SLOW in line] == [f"┃  ┃{SLOW * 2}"]


def test_the_spread_is_shown_only_if_the_slow_average_is_above_zero() -> None:
    bar = (8.0, 9.0, 1.0, 4.0, None)
    averages = {
        (10.0, 8.0): "spread +25.00 %",
        (6.0, 8.0): "spread -25.00 %",
        (1.0, 0.0): "EMA 30 0.00",
        (1.0, -1.0): "EMA 30 -1.00",
    }
    for (fast, slow), ending in averages.items():
        said = text(terminal_chart(picture([bar], fast=[fast], slow=[slow]), 80, 12))[1]
        assert said.endswith(ending)


def test_entries_point_in_the_direction_of_the_trade_and_exits_are_on_the_other_side() -> None:
    bars = [(5.0, 6.0, 4.0, 5.5, None)] * 6 + [(5.0, 10.0, 0.0, 5.5, None)]
    trades = [
        {"entry_ts": BEGIN, "exit_ts": BEGIN + timedelta(hours=2), "exit_price": 10.25},
        {"entry_ts": BEGIN + timedelta(hours=3), "side": "short", "stop_now": 10.5},
    ]
    drawn = terminal_chart(picture(bars, trades), 70, 24)
    places = {
        mark: [(row, line.index(cell)) for row, line in enumerate(drawn) for cell in line if cell.text == mark]
        for mark in (UP_ARROW, DOWN_ARROW, EXIT)
    }
    assert [column for _, column in (*places[UP_ARROW], *places[EXIT], *places[DOWN_ARROW])] == [0, 6, 9]
    (low, _), (high, _) = places[UP_ARROW][0], places[EXIT][0]
    assert low > high == places[DOWN_ARROW][0][0]
    assert text(drawn)[1] == "rule: short +2.50 %, from 10.00 on 2026-11-21 01:00, stop 10.50"
    assert text(terminal_chart(picture(bars, trades[:1]), 90, 24))[1] == (
        "rule: last long +2.50 %, from 10.00 on 2026-11-20 22:00 to 10.25 on 2026-11-21 00:00"
    )


def test_volume_is_drawn_below_the_prices_in_eighths_of_a_row_and_left_out_if_missing() -> None:
    drawn = text(terminal_chart(picture([(1, 2, 1, 2, volume) for volume in (16, 12, 1, None)]), 40, 16))
    assert [line[:12] for line in drawn if "▁" in line or "volume" in line] == ["█  ▄        ", "█  █  ▁     "]
    assert "volume" not in "".join(text(terminal_chart(picture([(1, 2, 1, 2, None)]), 40, 16)))


def test_a_chart_fits_the_width_and_the_height_and_shows_the_newest_bars() -> None:
    bars = [(100.0 + n % 7, 109.0, 99.0, 101.0 + n % 5, float(n)) for n in range(500)]
    for columns, rows in ((80, 24), (200, 50), (40, 8)):
        drawn = text(terminal_chart(picture(bars), columns, rows))
        assert max(map(len, drawn)) <= columns
        assert len(drawn) == max(rows, 10)
        assert f"{BEGIN + timedelta(hours=500 - bars_that_fit(columns)):%m-%d %H:%M}" in drawn[-1]


def test_prices_of_currencies_and_of_the_smallest_coins_are_shown_in_full() -> None:
    pair = [(1.0841, 1.0849, 1.084, 1.08432 + n / 100_000, None) for n in range(300)]
    assert any(line.endswith("◂1.08731") for line in text(terminal_chart(picture(pair), 80, 24)))
    coin = [(9.6e-10, 9.9e-10, 9.5e-10, 9.7e-10, None)] * 300
    drawn = text(terminal_chart(picture(coin), 80, 24))
    assert "close 0.00000000097" in drawn[0]
    assert any(line.endswith("◂0.00000000097") for line in drawn)
    assert any(line.endswith("┤0.00000000096") for line in drawn)


def test_the_time_axis_shows_the_day_where_it_changes() -> None:
    drawn = text(terminal_chart(picture([(1, 2, 1, 2, None)] * 60), 80, 12))
    assert drawn[-1].split() == ["11-20", "22:00", "11-21", "12:00", "11-22", "02:00", "16:00", "11-23", "06:00"]


def test_a_single_bar_with_a_constant_price_is_drawn() -> None:
    drawn = text(terminal_chart(picture([(7, 7, 7, 7, 0)]), 80, 24))
    assert [line for line in drawn if "7" in line[3:]][1:] == ["╻   ◂7.00"]
