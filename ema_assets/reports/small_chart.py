"""A chart that fits into a thousand characters: candles, averages, entries and exits as an SVG in Markdown. No I/O.

The Dagster UI shows Markdown below 1,000 characters in place, and hides longer Markdown behind a button. It removes
raw SVG, but not an image whose source is a data URI.
"""

from collections.abc import Iterable, Mapping, Sequence

import polars as pl

BARS = 40
# The longest Markdown that the UI shows without a button.
MOST_CHARACTERS = 999
_HEIGHT, _STEP = 60, 4
# Pixels per unit: on a screen of 1440 pixels, the page of a partition has room for 370 below its longest names.
_SCALE = 2.25
# A moving average is drawn through every third bar: a third of the characters, and no visible difference.
_EVERY = 3
# Colours that are readable on a light and on a dark page.
_UP, _DOWN, _FAST, _SLOW, _ENTRY, _EXIT = "teal", "tomato", "orange", "violet", "lime", "red"


def small_chart(title: str, bars: pl.DataFrame, entries: Iterable[int] = (), exits: Iterable[int] = ()) -> str:
    """Return Markdown with a chart of the last `BARS` rows of `bars`, or of fewer if they do not fit.

    Args:
        title: what the picture shows, for those who cannot see it.
        bars: open, high, low, close, and `fast` and `slow`, which may be null; oldest first, at least one row.
        entries: rows of `bars` in which a trade was entered.
        exits: rows of `bars` in which a trade was closed.

    Returns:
        At most MOST_CHARACTERS characters; only the title if not even one bar fits.
    """
    entered, left, count = sorted(entries), sorted(exits), min(BARS, bars.height)
    # Plain lists: for so few numbers, each frame expression would cost more than all the drawing, and ticks draw many.
    columns = bars.select("open", "high", "low", "close", "fast", "slow").to_dict(as_series=False)
    while count > 0:
        first = bars.height - count
        marks = ([row - first for row in rows if row >= first] for rows in (entered, left))
        text = (
            f"![{title}](<data:image/svg+xml,{_svg({name: each[first:] for name, each in columns.items()}, *marks)}>)"
        )
        if len(text) <= MOST_CHARACTERS:
            return text
        # All bars take about the same number of characters, so two attempts are usually enough.
        count = min(count - 1, count * MOST_CHARACTERS // len(text))
    return title[:MOST_CHARACTERS]


def _svg(prices: Mapping[str, list[float | None]], entries: Sequence[int], exits: Sequence[int]) -> str:
    heights = _heights(prices)
    opens, highs, lows, closes = (heights[name] for name in ("open", "high", "low", "close"))
    # y grows downwards from the top: a higher price has a smaller y.
    bodies = [
        (min(a, b), max(abs(a - b), 1)) for a, b in zip(opens, closes, strict=True) if a is not None and b is not None
    ]
    # Decided by the prices, because a small rise may end at the same height.
    rose = [a is not None and b is not None and a >= b for a, b in zip(prices["close"], prices["open"], strict=True)]
    wicks = [(high, low - high) for high, low in zip(highs, lows, strict=True) if high is not None and low is not None]
    drawn = [
        _strokes("gray", 1, enumerate(wicks)),
        _strokes(_UP, 3, ((row, body) for row, body in enumerate(bodies) if rose[row])),
        _strokes(_DOWN, 3, ((row, body) for row, body in enumerate(bodies) if not rose[row])),
        _line(_FAST, heights["fast"]),
        _line(_SLOW, heights["slow"]),
        _strokes(_ENTRY, 2, ((row, (_HEIGHT - 3, 4)) for row in entries)),
        _strokes(_EXIT, 2, ((row, (0, 4)) for row in exits)),
    ]
    width = len(opens) * _STEP
    size = f"viewBox='0 0 {width} {_HEIGHT + 1}' width='{width * _SCALE:.0f}'"
    head = f"xmlns='http://www.w3.org/2000/svg' {size} fill='none'"
    return f"<svg {head}>{''.join(drawn)}</svg>".replace("<", "%3C").replace(">", "%3E")


def _heights(prices: Mapping[str, list[float | None]]) -> dict[str, list[int | None]]:
    """Return the y of each price: 0 for the highest price of all, `_HEIGHT` for the lowest."""
    known = [price for each in prices.values() for price in each if price is not None]
    top, bottom = max(known), min(known)
    scale = _HEIGHT / (top - bottom) if top > bottom else 0.0
    return {
        name: [None if price is None else round((top - price) * scale) for price in each]
        for name, each in prices.items()
    }


def _strokes(color: str, width: int, strokes: Iterable[tuple[int, tuple[int, int]]]) -> str:
    """Return a path of vertical strokes (row, (top, length)), each relative to the end of the previous one."""
    path, x, y = "", 0, 0
    for row, (top, length) in strokes:
        to = row * _STEP + 2
        path += f"m{to - x}{_signed(top - y)}v{length}"
        x, y = to, top + length
    thick = f" stroke-width='{width}'" if width > 1 else ""
    return f"<path stroke='{color}'{thick} d='{path}'/>" if path else ""


def _line(color: str, heights: Sequence[int | None]) -> str:
    """Return a path through the heights, broken where there is none. In SVG, points after an `m` point are lines."""
    path, x, y, is_drawing = "", 0, 0, False
    last = len(heights) - 1
    for row, height in enumerate(heights):
        if height is None:
            is_drawing = False
        elif not is_drawing or (last - row) % _EVERY == 0:
            to = row * _STEP + 2
            path += f"{' ' if is_drawing else 'm'}{to - x}{_signed(height - y)}"
            x, y, is_drawing = to, height, True
    return f"<path stroke='{color}' d='{path}'/>" if path else ""


def _signed(number: int) -> str:
    """Return a number to be appended to another one: a minus sign separates them as well as a blank does."""
    return str(number) if number < 0 else f" {number}"
