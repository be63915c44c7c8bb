"""Nasdaq.com: `HistoricalData_….csv`, prices with a dollar sign, newest first."""

from ema_assets.files.declaration import Layout

LAYOUT = Layout(
    name="Nasdaq.com",
    example="Date,Close/Last,Volume,Open,High,Low\n01/02/2024,$185.64,82488670,$187.15,$188.44,$183.885",
    marks=frozenset({"date", "close last", "open", "high", "low"}),
    dates="mdy",
    timeframe="1d",
    remark="The name says no symbol: give `--symbol`.",
)
