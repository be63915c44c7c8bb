"""TradingView: the chart data of `Export chart data`, with columns of indicators behind the prices."""

from ema_assets.files.declaration import Layout

LAYOUT = Layout(
    name="TradingView",
    example="time,open,high,low,close,Volume,EMA\n1704205800,187.15,187.70,186.90,187.02,5214335,186.5",
    marks=frozenset({"time", "open", "high", "low", "close"}),
    unless=frozenset({"date", "symbol", "timeframe"}),
    label="open",
    remark="Epochs in s or ISO times. Symbol and timeframe are in the name: `NASDAQ_AAPL, 5.csv`.",
)
