"""OHLC bars, EMA signals, EMA trends and a 9-30 EMA strategy as partitioned Dagster assets."""
