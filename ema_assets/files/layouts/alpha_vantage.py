"""Alpha Vantage: JSON with numbered names, and CSV with dividends."""

from ema_assets.files.declaration import Layout

LAYOUTS = (
    Layout(
        name="Alpha Vantage",
        words=frozenset({"alphavantage"}),
        example=(
            '{"Meta Data": {"2. Symbol": "IBM"}, "Time Series (Daily)": {"2024-01-02": {"1. open": "162.83", '
            '"2. high": "163.29", "3. low": "160.46", "4. close": "161.50", "5. volume": "3825044"}}}'
        ),
        marks=frozenset({"1 open", "2 high", "3 low", "4 close"}),
        zones=("America/New_York",),
    ),
    Layout(
        name="Alpha Vantage, adjusted",
        example=(
            "timestamp,open,high,low,close,adjusted_close,volume,dividend_amount,split_coefficient\n"
            "2024-01-02,162.83,163.29,160.46,161.50,152.11,3825044,0.0000,1.0"
        ),
        marks=frozenset({"timestamp", "close", "adjusted close", "dividend amount", "split coefficient"}),
        timeframe="1d",
        remark="Close is as traded: days before a split are on the old scale.",
    ),
)
