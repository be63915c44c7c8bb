"""FRED and others that publish one value per day, and a point for a missing value."""

from ema_assets.files.declaration import Layout

LAYOUTS = (
    Layout(
        name="FRED",
        words=frozenset({"fred"}),
        example="observation_date,SP500\n2024-01-02,4742.83",
        marks=frozenset({"observation date"}),
        timeframe="1d",
        remark="One value is open, high, low and close. The column's name is the symbol.",
    ),
    Layout(
        name="FRED, older",
        example="DATE,VALUE\n2024-01-02,4742.83",
        marks=frozenset({"date", "value"}),
        unless=frozenset({"open", "high", "low", "close", "volume", "symbol", "ticker", "time"}),
        timeframe="1d",
    ),
)
