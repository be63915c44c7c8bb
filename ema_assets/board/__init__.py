"""The board: one web page over `reports/`, for traders. It reads as `ema_reader`, writes nothing and holds no SQL."""
