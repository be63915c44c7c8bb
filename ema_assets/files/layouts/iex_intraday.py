"""IEX Cloud: the minutes of a day as JSON, with the day and the time of day in two fields."""

from ema_assets.files.declaration import Layout

LAYOUT = Layout(
    name="IEX Cloud",
    example=(
        '[{"date": "2024-01-02", "minute": "09:30", "label": "09:30 AM", "open": 187.15, "high": 187.44, "low": 187.03,'
        ' "close": 187.32, "average": 187.2, "volume": 5144, "notional": 962956.8, "numberOfTrades": 61}]'
    ),
    marks=frozenset({"date", "minute", "label", "notional"}),
    columns={"time": "minute"},
    zone="America/New_York",
    label="open",
)
