"""A timeframe that is one more record in the registry appears everywhere, also in a database that was made without it."""

import json
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from ema_assets.market.exchanges import exchange_sessions
from ema_assets.store.database import Database
from ema_assets_tests.families.package import package_with, run_python, source_of
from ema_assets_tests.families.world import NOW, WATCHED, exchange
from ema_assets_tests.refresh.exchange import refresh, rows_of

_RECORD = 'Timeframe("4h", timedelta(hours=4), RolledUp("5m"), _EVERY_15_MINUTES),'
_NEW_RECORD = 'Timeframe("2h", timedelta(hours=2), RolledUp("5m"), _EVERY_15_MINUTES),'

_WORK = """
import json
from ema_assets import read
from ema_assets.config.settings import Settings
from ema_assets.defs.partitions import TIMEFRAMES
from ema_assets.definitions import assembled
from ema_assets.model.timeframes import KEYS, by_key
from ema_assets.refresh.graph import build
from ema_assets.store.database import Database
from ema_assets_tests.families.world import NOW, WATCHED, exchange
from ema_assets_tests.refresh.exchange import refresh

with Database({url!r}) as database:
    refresh(database, WATCHED, exchange(), NOW)
definitions = assembled(build(WATCHED))
two_hours = by_key("2h")
print(json.dumps({{
    "keys": list(KEYS),
    "partitions": list(TIMEFRAMES.get_partition_keys()),
    "schedules": sorted(schedule.name for schedule in definitions.schedules),
    "cron": two_hours.cron,
    "screener": read.screener("2h", url={url!r}).select("symbol", "timeframe", "trend", "trend_2h").to_dicts(),
    "trades": read.trades("2h", url={url!r}).height,
}}))
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    text = source_of("model/timeframes.py")
    assert text.count(_RECORD) == 1
    return package_with(
        tmp_path, replaced={"model/timeframes.py": text.replace(_RECORD, f"{_NEW_RECORD}\n    {_RECORD}")}
    )


def _expected_bars(database: Database) -> pl.DataFrame:
    """Two hours each from the open of a session, from the stored 5m bars; the last bar of a session may be shorter."""
    fives = pl.DataFrame(
        rows_of(
            database,
            "SELECT symbol, ts, open, high, low, close, volume FROM market.ohlc WHERE timeframe = '5m' ORDER BY 1, 2",
        ),
        schema=["symbol", "ts", "open", "high", "low", "close", "volume"],
        orient="row",
    )
    sessions = pl.concat(
        exchange_sessions(calendar, date(2026, 10, 20), date(2026, 11, 27))
        .select("open", "close")
        .with_columns(symbol=pl.lit(symbol))
        for symbol, calendar in (("AAPL", "XNYS"), ("BTC-USD", "24/7"))
    )
    placed = fives.join_where(
        sessions.rename({"symbol": "of", "open": "opens", "close": "closes"}),
        pl.col("symbol") == pl.col("of"),
        pl.col("ts") >= pl.col("opens"),
        pl.col("ts") < pl.col("closes"),
    )
    number = (pl.col("ts") - pl.col("opens")).dt.total_minutes() // 120
    bars = (
        placed.with_columns(ts_2h=pl.col("opens") + number * timedelta(hours=2))
        .sort("symbol", "ts")
        .group_by("symbol", "ts_2h", "closes", maintain_order=True)
        .agg(
            pl.col("open").first(), pl.col("high").max(), pl.col("low").min(), pl.col("close").last(),
            pl.col("volume").sum(),
        )
    )  # fmt: skip
    ends = pl.min_horizontal(pl.col("ts_2h") + timedelta(hours=2), "closes")
    return bars.filter(ends <= NOW).drop("closes").rename({"ts_2h": "ts"})


def test_one_more_record_is_a_partition_a_table_a_schedule_a_rollup_and_a_row_of_the_screener(
    database: Database, database_url: str, package: Path
) -> None:
    refresh(database, WATCHED, exchange(), NOW)
    said = json.loads(run_python(package, _WORK.format(url=database_url)))
    assert said["keys"] == said["partitions"] == ["5m", "15m", "30m", "1h", "2h", "4h", "1d"]
    assert "refresh_2h" in said["schedules"]
    assert [(row["symbol"], row["timeframe"]) for row in said["screener"]] == [("AAPL", "2h"), ("BTC-USD", "2h")]
    assert all(row["trend"] == row["trend_2h"] for row in said["screener"])
    stored = pl.DataFrame(
        rows_of(
            database,
            "SELECT symbol, ts, open, high, low, close, volume FROM market.ohlc_2h ORDER BY symbol, ts",
        ),
        schema=["symbol", "ts", "open", "high", "low", "close", "volume"],
        orient="row",
    )
    expected = _expected_bars(database)
    assert expected.height > 100
    assert stored.equals(expected.sort("symbol", "ts"))
    assert (
        said["trades"]
        == rows_of(database, "SELECT count(*) FROM market.strategy_9_30_ema WHERE timeframe = '2h'")[0][0]
    )
    counts = dict(
        rows_of(
            database,
            """
            SELECT asset, count(*) FROM market.series_state
            WHERE timeframe = '2h' AND last_ts IS NOT NULL
              -- The bar of the current two hours waits for its end.
              AND (dirty_from IS NULL OR (asset = 'ohlc' AND dirty_end > $1))
            GROUP BY 1
            """,
            NOW,
        )
    )
    assert counts == dict.fromkeys(("ohlc", "ema_signals", "ema_trend", "strategy_9_30_ema"), 2)
