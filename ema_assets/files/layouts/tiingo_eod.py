"""Tiingo: end of day prices as CSV and JSON, each price twice, as traded and adjusted."""

from ema_assets.files.declaration import Layout

LAYOUT = Layout(
    name="Tiingo",
    words=frozenset({"tiingo", "iex"}),
    example=(
        "date,close,high,low,open,volume,adjClose,adjHigh,adjLow,adjOpen,adjVolume,divCash,splitFactor\n"
        "2024-01-02,185.64,188.44,183.885,187.15,82488674,184.94,187.72,183.18,186.43,82488674,0.0,1.0"
    ),
    marks=frozenset({"date", "close", "adj close", "div cash", "split factor"}),
    timeframe="1d",
    remark="Close is as traded: days before a split are on the old scale.",
)
