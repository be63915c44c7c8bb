"""Column descriptions shown in the UI's catalog."""

from dagster import TableColumn, TableSchema

_KEY = [
    ("symbol", "text", "Instrument, such as AAPL or BTC-USD"),
    ("timeframe", "text", "5m, 15m, 30m, 1h, 4h or 1d"),
]

_COLUMNS = {
    "ohlc": [
        ("ts", "timestamptz", "Opening time of the bar, UTC; a 1d bar carries its session's open"),
        ("open", "float8", "First price"),
        ("high", "float8", "Highest price"),
        ("low", "float8", "Lowest price"),
        ("close", "float8", "Last price"),
        ("volume", "float8", "Units traded"),
    ],
    "ema_signals": [
        ("ts", "timestamptz", "Opening time of the bar, UTC"),
        ("ema_9", "float8", "EMA of 9 closes, seeded with their mean; null for the first 8 bars"),
        ("ema_30", "float8", "EMA of 30 closes, seeded with their mean; null for the first 29 bars"),
        ("bar_number", "int8", "1 for the first bar of the series"),
        ("warming_up", "boolean", "The seed of ema_30 still weighs more than 1e-6 (the first 207 bars)"),
    ],
    "ema_trend": [
        ("ts", "timestamptz", "Opening time of the bar, UTC"),
        ("trend", "text", "up when ema_9 > ema_30, down when below, carried on when equal"),
        ("crossover", "text", "bullish or bearish on the bar where the trend flips"),
        ("spread_pct", "float8", "(ema_9 - ema_30) / ema_30 in percent"),
        ("bars_since_cross", "int8", "0 on a crossover, counting up from it"),
        ("bar_number", "int8", "1 for the first bar of the series"),
    ],
    "strategy_9_30_ema": [
        ("entry_ts", "timestamptz", "Opening time of the bar at whose close the trade was entered, UTC"),
        ("entry_price", "float8", "Close of the entry bar"),
        ("exit_ts", "timestamptz", "Opening time of the bar at whose close it was left; null while open"),
        ("exit_price", "float8", "Close of the exit bar; null while open"),
        ("last_ts", "timestamptz", "Bar the trade is marked to: the exit, or the newest bar"),
        ("last_price", "float8", "Close of that bar"),
        ("return_pct", "float8", "(last_price / entry_price - 1) in percent, before costs"),
        ("bars_held", "int8", "Bars from entry to last_ts"),
        ("status", "text", "open or closed"),
    ],
}


def column_schema(asset: str) -> TableSchema:
    """The columns of `asset`'s table, in order."""
    return TableSchema(
        columns=[
            TableColumn(name=name, type=kind, description=description)
            for name, kind, description in [*_KEY, *_COLUMNS[asset]]
        ]
    )
