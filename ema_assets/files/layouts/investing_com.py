"""Investing.com: `… Historical Data.csv`, the close as Price, volumes in thousands and millions."""

from ema_assets.files.declaration import Layout

LAYOUT = Layout(
    name="Investing.com",
    words=frozenset({"investing"}),
    example=(
        '"Date","Price","Open","High","Low","Vol.","Change %"\n'
        '"01/18/2024","188.63","186.09","189.14","185.83","78.01M","3.26%"'
    ),
    marks=frozenset({"date", "price", "open", "high", "low", "vol", "change"}),
    columns={"close": "price", "volume": "vol"},
    remark="The order of day and month is that of the site's edition: decided by the dates, or asked.",
)
