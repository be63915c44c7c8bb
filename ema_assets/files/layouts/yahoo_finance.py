"""Yahoo Finance: its web download, and what yfinance saves."""

from ema_assets.files.declaration import Layout

LAYOUTS = (
    Layout(
        name="Yahoo Finance",
        words=frozenset({"yahoo", "yfinance"}),
        example=(
            "Date,Open,High,Low,Close,Adj Close,Volume\n"
            "2024-01-02,187.149994,188.440002,183.889999,185.639999,184.938217,82488700"
        ),
        marks=frozenset({"date", "open", "close", "adj close", "volume"}),
        remark="Close is read, Adj Close is not: it is adjusted for dividends.",
    ),
    Layout(
        name="yfinance history",
        example=(
            "Datetime,Open,High,Low,Close,Volume,Dividends,Stock Splits\n"
            "2024-01-02 09:30:00-05:00,187.15,187.70,186.90,187.02,5214335,0.0,0.0"
        ),
        marks=frozenset({"close", "dividends", "stock splits"}),
        remark="Prices are adjusted for dividends unless `auto_adjust=False` was given; stored prices are not.",
    ),
)
