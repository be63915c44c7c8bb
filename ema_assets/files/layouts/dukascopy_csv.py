"""Dukascopy: the CSV of its historical data feed, times in GMT or with an offset."""

from ema_assets.files.declaration import Layout

LAYOUT = Layout(
    name="Dukascopy",
    words=frozenset({"dukascopy", "candlestick"}),
    example="Gmt time,Open,High,Low,Close,Volume\n02.01.2024 09:30:00.000,1.10427,1.10444,1.10405,1.10412,512.36",
    marks=frozenset({"gmt time", "open", "close"}),
    zone="UTC",
    label="open",
    dates="dmy",
)
