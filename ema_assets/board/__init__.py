"""The board: one web page over `reports/`, for traders. Reads as `ema_reader`, writes nothing, holds no SQL."""
