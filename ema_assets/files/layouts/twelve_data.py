"""Twelve Data: JSON with the symbol and the interval next to the bars, and CSV with semicolons."""

from ema_assets.files.declaration import Layout

LAYOUT = Layout(
    name="Twelve Data",
    words=frozenset({"twelvedata"}),
    example=(
        '{"meta": {"symbol": "AAPL", "interval": "5min", "exchange_timezone": "America/New_York"}, "values": '
        '[{"datetime": "2024-01-02 09:30:00", "open": "187.15", "high": "187.70", "low": "186.90", '
        '"close": "187.02", "volume": "5214335"}], "status": "ok"}'
    ),
    marks=frozenset({"datetime", "open", "high", "low", "close"}),
    unless=frozenset({"symbol", "timeframe", "dividends", "stock splits", "ticker"}),
    remark="Times are on the exchange's clock: intraday bars need `--tz` or a calendar that shows it.",
)
