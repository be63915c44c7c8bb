"""What is said of series that are late or fail."""

from datetime import datetime

import polars as pl
import pytest

from ema_assets.model.schemas import UTC_TIME
from ema_assets.reports import health
from ema_assets_tests.refresh.exchange import utc

LAST, ASKED = utc("2026-11-20 15:25"), utc("2026-11-20 15:30")


def late(
    last_bar: datetime | None, missing_bars: int | None = None, silent_since: datetime | None = None
) -> pl.DataFrame:
    """AAPL|5m as `late_series` returns it."""
    row = ("AAPL", "5m", ASKED, last_bar, missing_bars, silent_since)
    schema = {
        "symbol": pl.String(),
        "timeframe": pl.String(),
        "asked_through": UTC_TIME,
        "last_bar": UTC_TIME,
        "missing_bars": pl.Int64(),
        "silent_since": UTC_TIME,
    }
    return pl.DataFrame([row], schema=schema, orient="row")


def failing(*rows: tuple[str, str, str, str]) -> pl.DataFrame:
    return pl.DataFrame(
        list(rows), schema=dict.fromkeys(("asset", "symbol", "timeframe", "last_error"), pl.String()), orient="row"
    )


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (late(None), "the provider has no bar of it"),
        (late(LAST, 12), "no bar since 2026-11-20 15:25 UTC, though trading went on"),
        (late(LAST, None, ASKED), "no bar since 2026-11-20 15:25 UTC, though trading went on"),
        (late(LAST, 0), "not requested since 2026-11-20 15:30 UTC; its last bar is of 2026-11-20 15:25 UTC"),
        (late(LAST), "not requested since 2026-11-20 15:30 UTC; its last bar is of 2026-11-20 15:25 UTC"),
    ],
)
def test_a_late_series_says_what_is_missing(row: pl.DataFrame, words: str) -> None:
    assert health.series_problems(failing(), row) == {"AAPL|5m": words}


def test_a_series_whose_bars_fail_says_only_why() -> None:
    bars, trend = ("ohlc", "AAPL", "5m", "HTTP 500"), ("ema_trend", "AAPL", "5m", "no memory")
    other = ("ohlc", "MSFT", "5m", "unknown symbol")
    assert health.series_problems(failing(bars, trend, other), late(LAST, 12)) == {
        "AAPL|5m": "ohlc: HTTP 500; ema_trend: no memory",
        "MSFT|5m": "ohlc: unknown symbol",
    }
    assert health.series_problems(failing(trend), late(None)) == {
        "AAPL|5m": "the provider has no bar of it; ema_trend: no memory"
    }
