"""The output of `yfinance.download(…).to_csv()`, after `files.wide` has converted it to one row per bar."""

from ema_assets.files.declaration import Layout

LAYOUT = Layout(
    name="yfinance download",
    example=(
        "Price,Close,High,Low,Open,Volume\n"
        "Ticker,AAPL,AAPL,AAPL,AAPL,AAPL\n"
        "Date,,,,,\n"
        "2024-01-02,185.64,188.44,183.89,187.15,82488700"
    ),
    # The names that `files.wide` gives these columns.
    marks=frozenset({"wide date", "close"}),
    columns={"date": "wide date", "symbol": "wide ticker"},
    remark=(
        "Two or three rows of names, one ticker or many. Prices are adjusted for dividends unless "
        "`auto_adjust=False` was given; stored prices are not."
    ),
)
