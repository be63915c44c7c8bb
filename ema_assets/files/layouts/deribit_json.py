"""Deribit: answers of its chart API saved as JSON, a list per column."""

from ema_assets.files.declaration import Layout

LAYOUT = Layout(
    name="Deribit chart",
    words=frozenset({"deribit"}),
    example="volume,ticks,open,low,high,cost,close\n121.4,1704067200000,42283.5,42261.0,42554.5,5140000.0,42475.0",
    marks=frozenset({"ticks", "cost", "open", "close"}),
    columns={"ts": "ticks"},
    label="open",
    calendar="24/7",
    remark="JSON as its API answers.",
)
