"""A chart of one series in characters: candles, two averages, entries and exits, volume, axes. Prints nothing.

A bar is a column. A cell has two halves, so a chart of 20 rows distinguishes 40 prices. It is drawn here and not by
plotext, whose candles take three columns per bar and show no trades; every terminal font has box characters.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ema_assets.model.prices import percent_text, price_text
from ema_assets.reports.chart import Picture
from ema_assets.reports.charted_bars import label_of, newest_spread
from ema_assets.strategies.trade_columns import LONG

FAST, SLOW = "•", "◦"
UP_ARROW, DOWN_ARROW, EXIT = "▲", "▼", "\N{MULTIPLICATION SIGN}"
LEAST_COLUMNS, LEAST_ROWS = 40, 8
# What the upper and the lower half of a cell show: nothing, a wick or a body.
_NOTHING, _WICK, _BODY = range(3)
_CELLS = {
    (_NOTHING, _NOTHING): " ",
    (_WICK, _WICK): "│",
    (_BODY, _BODY): "┃",
    (_WICK, _NOTHING): "╵",
    (_NOTHING, _WICK): "╷",
    (_BODY, _NOTHING): "╹",
    (_NOTHING, _BODY): "╻",
    (_BODY, _WICK): "╿",
    (_WICK, _BODY): "╽",
}
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_VOLUME_ROWS = 2
# A chart of few bars spaces them out: the most columns per bar.
_WIDEST_STEP = 3
# The columns between the bars and the labels of the price axis.
_AXIS = 2
_ROWS_PER_PRICE = 4


@dataclass(frozen=True, slots=True)
class Cell:
    """One character and what it belongs to: `up`, `down`, `fast`, `slow`, `axis`, `last`, or nothing."""

    text: str = " "
    role: str = ""


Line = list[Cell]


@dataclass(frozen=True, slots=True)
class _Scale:
    """The conversion of prices to half rows, counted from the bottom."""

    low: float
    high: float
    rows: int

    def half(self, price: float) -> int:
        share = (price - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return min(max(round(share * (2 * self.rows - 1)), 0), 2 * self.rows - 1)

    def row(self, price: float) -> int:
        """Return the row of `price`, counted from the top."""
        return self.rows - 1 - self.half(price) // 2


def bars_that_fit(columns: int) -> int:
    """Return how many bars a chart of `columns` columns can show; the price axis takes the rest."""
    return max(columns - 12, 1)


def terminal_chart(picture: Picture, columns: int, rows: int, note: str = "") -> list[Line]:
    """Return a chart of the newest bars of `picture` that fit: about `rows` lines of at most `columns` cells.

    `note` is added to the title, for example that prices are synthetic.
    """
    columns, rows = max(columns, LEAST_COLUMNS), max(rows, LEAST_ROWS)
    bars = picture.bars.tail(bars_that_fit(columns)).rows(named=True)
    # The price labels of the smallest coins are wider than others.
    fitting = min(bars_that_fit(columns), max(columns - _AXIS - max(map(len, map(price_text, _prices(bars)))), 1))
    bars = bars[-fitting:]
    step = min(_WIDEST_STEP, max(1, fitting // len(bars)))
    prices = _prices(bars)
    has_volume = any(bar["volume"] for bar in bars)
    told = _told(picture, bars, note)
    under = 2 + has_volume * _VOLUME_ROWS + len(told)
    scale = _Scale(min(prices), max(prices), max(rows - under, 4))
    width = len(bars) * step
    grid = [[Cell()] * width for _ in range(scale.rows)]
    _draw_averages(grid, bars, step, scale)
    _draw_candles(grid, bars, step, scale)
    _draw_trades(grid, picture, bars, step, scale)
    lines = [row + _price_axis(number, scale, bars[-1]["close"]) for number, row in enumerate(grid)]
    if has_volume:
        lines += _volume(bars, step)
    lines += _time_axis([bar["ts"] for bar in bars], step, is_intraday=picture.timeframe.is_intraday)
    return [line[:columns] for line in [*_wrapped(told, columns), *lines]]


def _prices(bars: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return all prices that the scale must include."""
    return [price for bar in bars for price in (bar["low"], bar["high"], bar["fast"], bar["slow"]) if _is_there(price)]


def _is_there(price: object) -> bool:
    return isinstance(price, float | int) and math.isfinite(price)


def _told(picture: Picture, bars: Sequence[Mapping[str, Any]], note: str) -> list[list[tuple[str, str]]]:
    """Return the lines above the chart, each as parts with their roles."""
    last = bars[-1]
    title = [f"{picture.symbol} {picture.timeframe.key}", f"bar of {last['ts']:%Y-%m-%d %H:%M} UTC"]
    title += [f"close {price_text(last['close'])}", *([note] if note else [])]
    lines: list[list[tuple[str, str]]] = [[("  ".join(title), "")]]
    averages = [
        (f"{mark} {label_of(column)} {price_text(last[role])}", role)
        for mark, role, column in zip((FAST, SLOW), ("fast", "slow"), picture.averages, strict=True)
        if _is_there(last[role])
    ]
    if len(averages) == 2 and (spread := newest_spread(picture.bars)) is not None:
        averages.append((f"spread {percent_text(spread)}", ""))
    lines += [averages] if averages else []
    if picture.strategy is not None:
        lines.append([(f"{picture.strategy}: {_last_trade(picture)}", "")])
    return lines


def _last_trade(picture: Picture) -> str:
    if picture.trades.is_empty():
        return "no trade in these bars"
    trade = picture.trades.row(-1, named=True)
    side, entry = trade["side"], f"{price_text(trade['entry_price'])} on {trade['entry_ts']:%Y-%m-%d %H:%M}"
    gain = f" {percent_text(trade['return_pct'])}" if _is_there(trade["return_pct"]) else ""
    if trade["exit_ts"] is not None:
        return (
            f"last {side}{gain}, from {entry} to {price_text(trade['exit_price'])} on {trade['exit_ts']:%Y-%m-%d %H:%M}"
        )
    stop = f", stop {price_text(trade['stop_now'])}" if _is_there(trade["stop_now"]) else ""
    return f"{side}{gain}, from {entry}{stop}"


def _wrapped(told: Sequence[Sequence[tuple[str, str]]], columns: int) -> list[Line]:
    """Return each line as cells, cut off with an ellipsis if it does not fit."""
    lines = []
    for parts in told:
        cells = [Cell(letter, role) for text, role in parts for letter in f"{text}  "][:-2]
        lines.append(cells if len(cells) <= columns else [*cells[: columns - 1], Cell("…")])
    return lines


def _draw_averages(grid: list[Line], bars: Sequence[Mapping[str, Any]], step: int, scale: _Scale) -> None:
    for role, mark in (("slow", SLOW), ("fast", FAST)):
        for place, bar in enumerate(bars):
            if _is_there(bar[role]):
                # The line continues between bars that are spaced out.
                for column in range(place * step, place * step + step):
                    grid[scale.row(bar[role])][column] = Cell(mark, role)


def _draw_candles(grid: list[Line], bars: Sequence[Mapping[str, Any]], step: int, scale: _Scale) -> None:
    for place, bar in enumerate(bars):
        role = "up" if bar["close"] >= bar["open"] else "down"
        halves = [_NOTHING] * (2 * scale.rows)
        for ends, kind in (((bar["low"], bar["high"]), _WICK), ((bar["open"], bar["close"]), _BODY)):
            low, high = sorted(map(scale.half, ends))
            halves[low : high + 1] = [kind] * (high + 1 - low)
        for row in range(scale.rows):
            lower, upper = halves[2 * (scale.rows - 1 - row)], halves[2 * (scale.rows - 1 - row) + 1]
            # An average is visible through a wick, not through a body.
            if _BODY in (upper, lower) or ((upper or lower) and grid[row][place * step].text == " "):
                grid[row][place * step] = Cell(_CELLS[upper, lower], role)


def _draw_trades(
    grid: list[Line], picture: Picture, bars: Sequence[Mapping[str, Any]], step: int, scale: _Scale
) -> None:
    """Draw entries as arrows in the direction of the trade, below the bar or above it, and exits on the other side."""
    places = {bar["ts"]: place for place, bar in enumerate(bars)}
    for trade in picture.trades.iter_rows(named=True):
        is_long = trade["side"] == LONG
        for ts, mark, is_below in (
            (trade["entry_ts"], UP_ARROW if is_long else DOWN_ARROW, is_long),
            (trade["exit_ts"], EXIT, not is_long),
        ):
            if ts not in places:
                continue
            bar = bars[places[ts]]
            row = scale.row(bar["low"]) + 1 if is_below else scale.row(bar["high"]) - 1
            grid[min(max(row, 0), scale.rows - 1)][places[ts] * step] = Cell(mark, "up" if is_long else "down")


def _price_axis(row: int, scale: _Scale, close: float) -> Line:
    """Return the axis of this row, with its price if it has a label; the last close has its own label."""
    if row == scale.row(close):
        return _cells(f" ◂{price_text(close)}", "last")
    labels = _labels(scale)
    # A label next to that of the last close would be in its way.
    if row not in labels or abs(row - scale.row(close)) < 2:
        return _cells(" │", "axis")
    return _cells(f" ┤{labels[row]}", "axis")


def _labels(scale: _Scale) -> dict[int, str]:
    """Return labels with round prices, by their rows."""
    span = scale.high - scale.low
    if span <= 0:
        return {}
    rough = span / max(scale.rows // _ROWS_PER_PRICE, 2)
    unit = 10.0 ** math.floor(math.log10(rough))
    price_step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.999)
    decimals = max(0, -math.floor(math.log10(price_step)))
    first = math.ceil(scale.low / price_step)
    found = {}
    for number in range(first, math.floor(scale.high / price_step) + 1):
        found[scale.row(number * price_step)] = f"{number * price_step:,.{decimals}f}"
    return found


def _volume(bars: Sequence[Mapping[str, Any]], step: int) -> list[Line]:
    most = max(bar["volume"] or 0 for bar in bars)
    lines: list[Line] = [[Cell()] * (len(bars) * step) for _ in range(_VOLUME_ROWS)]
    for place, bar in enumerate(bars):
        eighths = math.ceil((bar["volume"] or 0) / most * 8 * _VOLUME_ROWS)
        role = "up" if bar["close"] >= bar["open"] else "down"
        for number in range(_VOLUME_ROWS):
            filled = min(max(eighths - 8 * (_VOLUME_ROWS - 1 - number), 0), 8)
            lines[number][place * step] = Cell(_EIGHTHS[filled], role)
    lines[0] += _cells(" ┤volume", "axis")
    lines[1] += _cells(" │", "axis")
    return lines


def _time_axis(times: Sequence[datetime], step: int, *, is_intraday: bool) -> list[Line]:
    """Return ticks, and below them the opening times of their bars, with the day where it has changed."""
    width = len(times) * step
    room = 14
    ticks: list[Line] = [_cells("─", "axis") * width, []]
    words = [" "] * (width + room)
    day = None
    for place in range(0, len(times), math.ceil(room / step)):
        ts = times[place]
        text = f"{ts:%m-%d %H:%M}" if is_intraday else f"{ts:%Y-%m-%d}"
        if is_intraday and ts.date() == day:
            text = f"{ts:%H:%M}"
        day = ts.date()
        ticks[0][place * step] = Cell("┬", "axis")
        words[place * step : place * step + len(text)] = text
    ticks[0] += _cells("─┘", "axis")
    ticks[1] = _cells("".join(words).rstrip(), "axis")
    return ticks


def _cells(text: str, role: str) -> Line:
    return [Cell(letter, role) for letter in text]
