"""A provider of one's own is one new file: nothing else is touched, and its bars go through the whole chain."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ema_assets.model.timeframes import ORDER
from ema_assets.store.database import Database

PACKAGE = Path(__file__).parents[2] / "ema_assets"

TOY = '''"""Toy: bars that are made up in memory. A declaration and a client in one file."""

import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from ema_assets.model.variables import Number
from ema_assets.providers.declaration import Provider, ProviderConfig, setting

if TYPE_CHECKING:
    from ema_assets.providers.fetching.base import BarRequest, FetchBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class ToyConfig(ProviderConfig):
    """How far prices swing."""

    swing: int = setting(Number("EMA_TOY_SWING", 10, 1, 50, "how far prices swing, in percent"))


class ToyClient:
    """Prices that swing around 100."""

    name = "toy"

    def __init__(self, config: ToyConfig) -> None:
        self.calls = 0
        self._swing = config.swing

    async def fetch(self, requests: "Sequence[BarRequest]") -> "AsyncIterator[FetchBatch]":
        import polars as pl

        from ema_assets.providers.fetching.base import RAW_BAR_SCHEMA, FetchBatch

        for request in requests:
            self.calls += 1
            step = int(request.timeframe.duration.total_seconds())
            first = -(-int(request.start.timestamp()) // step) * step
            rows = [
                (request.instrument.symbol, request.timeframe.key, ts * 1_000_000, *self._prices(ts), 1.0)
                for ts in range(first, int(request.end.timestamp()), step)
            ]
            raw = {**RAW_BAR_SCHEMA, "ts": pl.Int64()}
            bars = pl.DataFrame(rows, schema=raw, orient="row").cast({"ts": RAW_BAR_SCHEMA["ts"]})
            yield FetchBatch(bars, (request,), ())

    def _prices(self, ts: int) -> tuple[float, float, float, float]:
        open_, close = (100 + self._swing * math.sin(at / 9_000) for at in (ts, ts + 300))
        return open_, max(open_, close) + 0.1, min(open_, close) - 0.1, close

    async def aclose(self) -> None:
        pass


PROVIDER = Provider(
    name="toy",
    title="Toy",
    covers="any symbol",
    open=lambda config, budget: ToyClient(config),
    config=ToyConfig,
    timeframes={"5m": "5m", "1d": "1d"},
    asset_classes=frozenset({"crypto"}),
    publication_delay=timedelta(seconds=1),
)
'''

WATCHLIST = """
[history]
"5m" = 6
"1d" = 60

[[group]]
calendar = "24/7"
provider = "toy"
symbols = ["TOY-USD", "TOY-EUR"]
"""


def run(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The command line over the copy of the package in `folder`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("EMA_", "APCA_"))}
    return subprocess.run(
        [sys.executable, "-m", "ema_assets", *arguments],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(folder), "EMA_HOME": str(folder / "home"), **env},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_provider_in_one_new_file_serves_bars_through_the_whole_chain(database: Database, tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "ema_assets", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "ema_assets/providers/toy.py").write_text(TOY)
    (tmp_path / "watchlist.toml").write_text(WATCHLIST)
    done = run(tmp_path, "refresh", EMA_DATABASE_URL=database.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("Up to date.\n")
    with database.transaction() as transaction:
        rows = {
            table: dict(
                transaction.query(
                    f"SELECT symbol || '|' || timeframe AS series, count(*) FROM market.{table} GROUP BY 1"
                ).iter_rows()
            )
            for table in ("ohlc", "ema_signals", "rsi", "ema_trend", "strategy_9_30_ema")
        }
    series = {f"{symbol}|{timeframe.key}" for symbol in ("TOY-USD", "TOY-EUR") for timeframe in ORDER}
    assert set(rows["ohlc"]) == series
    assert min(rows["ohlc"][f"{symbol}|5m"] for symbol in ("TOY-USD", "TOY-EUR")) >= 6 * 288
    assert rows["ohlc"] == rows["ema_signals"] == rows["rsi"] == rows["ema_trend"]
    assert {"TOY-USD|5m", "TOY-EUR|5m"} <= set(rows["strategy_9_30_ema"])


def test_its_variables_and_its_name_are_checked_as_those_of_any_other(database: Database, tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "ema_assets", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "ema_assets/providers/toy.py").write_text(TOY)
    wrong = run(tmp_path, "plan", EMA_DATABASE_URL=database.url, EMA_TOY_SWING="51")
    assert wrong.stderr == "Error: `EMA_TOY_SWING` must be a whole number from 1 to 50, received '51'\n"
    misspelt = run(tmp_path, "plan", EMA_DATABASE_URL=database.url, EMA_PROVIDER="toyy")
    assert misspelt.stderr == (
        "Error: `EMA_PROVIDER` must be one of sandbox, alpaca, yahoo, binance, toy, received 'toyy'; did you mean `toy`?\n"
    )
