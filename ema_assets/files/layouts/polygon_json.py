"""Polygon, Alpaca, Finnhub and others whose JSON has bars with names of one letter."""

from ema_assets.files.declaration import Layout

LAYOUT = Layout(
    name="t, o, h, l, c, v",
    words=frozenset({"polygon", "alpaca", "finnhub"}),
    example=(
        '{"ticker": "AAPL", "results": [{"v": 5214335, "vw": 187.3, "o": 187.15, "c": 187.02, "h": 187.7, "l": 186.9, '
        '"t": 1704205800000, "n": 60312}]}'
    ),
    marks=frozenset({"t", "o", "h", "l", "c"}),
    label="open",
    remark="Polygon, Alpaca (`bars` of one or many symbols) and Finnhub.",
)
