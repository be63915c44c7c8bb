"""Tests of the example of a custom provider: one new file is enough for its bars to go through the whole chain."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ema_assets.store.database import Database
from ema_assets_tests.timeframes import ORDER
from ema_assets_tests.waiting import GIVEN_UP_AFTER_SECONDS

REPOSITORY = Path(__file__).parents[2]
# The example in docs/PROVIDERS.md.
(TOY,) = [
    block
    for block in re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs/PROVIDERS.md").read_text(), re.DOTALL)
    if "PROVIDER = " in block
]

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
    """Run the command line of the copy of the package in `folder`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("EMA_", "APCA_"))}
    return subprocess.run(
        [sys.executable, "-m", "ema_assets", *arguments],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(folder), "EMA_HOME": str(folder / "home"), **env},
        capture_output=True,
        text=True,
        timeout=GIVEN_UP_AFTER_SECONDS,
        check=False,
    )


@pytest.mark.broad
def test_a_provider_in_one_new_file_serves_bars_through_the_whole_chain(database: Database, tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "ema_assets", tmp_path / "ema_assets", ignore=shutil.ignore_patterns("__pycache__"))
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


@pytest.mark.broad
def test_the_variables_and_the_name_of_a_custom_provider_are_checked(database: Database, tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "ema_assets", tmp_path / "ema_assets", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "ema_assets/providers/toy.py").write_text(TOY)
    wrong = run(tmp_path, "plan", EMA_DATABASE_URL=database.url, EMA_TOY_SWING="51")
    assert wrong.stderr == "Error: `EMA_TOY_SWING` must be a whole number from 1 to 50, received '51'\n"
    misspelt = run(tmp_path, "plan", EMA_DATABASE_URL=database.url, EMA_PROVIDER="toyy")
    assert misspelt.stderr == (
        "Error: `EMA_PROVIDER` must be one of sandbox, alpaca, yahoo, binance, coinbase, toy, ccxt:<exchange>, file, received 'toyy'; did you mean `toy`?\n"
    )
