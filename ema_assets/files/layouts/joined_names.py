"""A column per ticker and price: `AAPL.Open` as R's quantmod writes it, `Open_AAPL` as tables of pandas become."""

from ema_assets.files.declaration import Layout

LAYOUT = Layout(
    name="ticker and price in one name",
    example=(
        "Index,AAPL.Open,AAPL.High,AAPL.Low,AAPL.Close,AAPL.Volume,AAPL.Adjusted\n"
        "2024-01-02,187.15,188.44,183.89,185.64,82488700,184.29"
    ),
    # The names that `files.wide` gives these columns.
    marks=frozenset({"joined date", "close"}),
    columns={"date": "joined date", "symbol": "joined ticker"},
    remark="Tickers in capital letters, before the price or behind it, one or many.",
)
