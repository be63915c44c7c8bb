"""A sweep over pairs of spans by `ema_assets.backtest`, beside a loop over symbols and pairs in backtesting.py.

python -m benchmarks.sweep [--symbols 10 100] [--days 60] [--json]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr
from datetime import UTC, datetime, timedelta
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl

from benchmarks.measure import Cost
from ema_assets import backtest
from ema_assets.config.watchlist import parse
from ema_assets.model.schemas import UTC_TIME
from ema_assets.model.symbols import Instrument
from ema_assets.operations.sync_watchlist import sync
from ema_assets.runtime.postgres.server import EmbeddedServer
from ema_assets.sandbox.market import Market
from ema_assets.store.database import Database
from ema_assets.store.migrations import migrate

LAST = datetime(2026, 11, 20, tzinfo=UTC)
FAST, SLOW = (5, 9, 12, 16), (20, 26, 30, 50)
WINDOWS = {"train": "21d", "test": "7d"}
# Without costs and from the first bar on, which the library does as well.
OPTIONS: dict[str, Any] = {"side": "long", "entries": "all"}
CASH = 1e9  # The library trades whole units: with this much, rounding does not show.
PRICES = ("open", "high", "low", "close", "volume")
# Of the library, which takes long, only so many symbols.
LIBRARY_SYMBOLS = 2
TOLERANCE_PCT = 1e-3


def fill(database: Database, symbols: int, days: int, home: Path) -> None:
    """Store `days` days of 5m bars of `symbols` pairs, as the sandbox makes them, and name them in a watchlist."""
    names = [f"C{number:04}-USD" for number in range(symbols)]
    text = f'[ema]\nseed = "first"\n\n[[group]]\ncalendar = "24/7"\nsymbols = {json.dumps(names)}\n'
    (home / "watchlist.toml").write_text(text)
    sync(database, parse(text), LAST)
    market = Market([Instrument(name, "24/7") for name in names], 930)
    since, until = int((LAST - timedelta(days=days)).timestamp()), int(LAST.timestamp()) - 300
    for name in names:
        bars = market.bars(Instrument(name, "24/7"), 5, since, until, until + 300, sys.maxsize)
        rows = pl.DataFrame(
            {
                "symbol": [name] * len(bars.ts),
                "ts": pl.Series(bars.ts * 1_000_000).cast(UTC_TIME),
                **{price: getattr(bars, price) for price in PRICES},
            }
        )
        with database.transaction() as transaction, transaction.staged(rows) as staged:
            transaction.execute(
                f"""INSERT INTO market.ohlc (symbol, timeframe, ts, open, high, low, close, volume)
                    SELECT symbol, '5m', ts, open, high, low, close, volume FROM pg_temp.{staged}"""  # noqa: S608
            )


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What `work` returns, and the seconds that it took by the clock and of the processor."""
    cpu, began = time.process_time(), time.perf_counter()
    found = work()
    return found, {"wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}


def library(bars: pl.DataFrame, fast: int, slow: int) -> tuple[int, float]:
    """Closed trades and total return in percent of one symbol and one pair, by the library."""
    from backtesting import Backtest, Strategy

    closes = pd.Series(bars["close"].to_numpy())
    above = (closes.ewm(span=fast, adjust=False).mean() > closes.ewm(span=slow, adjust=False).mean()).to_numpy()
    turned = np.zeros(len(above), dtype=int)
    turned[2:] = above[2:].astype(int) - above[1:-1].astype(int)

    class Crossover(Strategy):
        def init(self) -> None: ...

        def next(self) -> None:
            turn = turned[len(self.data) - 1]
            if turn > 0:
                self.buy(size=int(self.equity / self.data.Close[-1]))
            elif turn < 0:
                self.position.close()

    times = pd.DatetimeIndex(bars["ts"].dt.replace_time_zone(None).to_numpy())
    frame = pd.DataFrame({name.capitalize(): bars[name].to_numpy() for name in PRICES}, index=times)
    # It says how far it is, and warns of the trade that is open at the end.
    with warnings.catch_warnings(), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        figures = Backtest(frame, Crossover, cash=CASH, trade_on_close=True, finalize_trades=False).run()
    return int(figures["# Trades"]), float(figures["Return [%]"])


def compare(history: backtest.History, swept: pl.DataFrame) -> dict[str, float]:
    """Seconds that the library takes for the first symbols, whose trades and returns must be the same.

    Raises:
        SystemExit: when they are not.
    """
    few = history.bars["symbol"].unique().sort().head(LIBRARY_SYMBOLS)
    spent = {"wall_s": 0.0, "cpu_s": 0.0}
    pairs = swept.filter(pl.col("symbol").is_in(few.implode()))
    library(history.bars.filter(symbol=few[0]).head(500), FAST[0], SLOW[0])
    for row in pairs.rows(named=True):
        bars = history.bars.filter(symbol=row["symbol"])
        (trades, total), took = timed(partial(library, bars, row["fast"], row["slow"]))
        spent = {name: spent[name] + took[name] for name in spent}
        if trades != row["trades"] or abs(total - row["total_return_pct"]) > TOLERANCE_PCT:
            raise SystemExit(
                f"{row['symbol']} {row['fast']}/{row['slow']}: {row['trades']} trades and "
                f"{row['total_return_pct']} % here, {trades} and {total} % there"
            )
    return {name: seconds / pairs.height for name, seconds in spent.items()}


def measure(symbols: int, days: int) -> dict[str, Any]:
    """Load, sweep and walk once, and the library beside."""
    cost = Cost()
    with tempfile.TemporaryDirectory() as folder, EmbeddedServer(Path(folder) / "postgres") as server:
        os.environ |= {"EMA_HOME": folder, "EMA_WATCHLIST": str(Path(folder) / "watchlist.toml")}
        migrate(server.url)
        with Database(server.url) as database:
            fill(database, symbols, days, Path(folder))
        # Once without the clock: the kernels are read from their cache, and libraries load parts of themselves.
        backtest.load("5m", [f"C{0:04}-USD"], url=server.url).sweep("crossover", fast=[5, 9], **OPTIONS)
        history, load = timed(lambda: backtest.load("5m", url=server.url))
        _, run = timed(lambda: history.run("crossover", fast=FAST[0], slow=SLOW[0], **OPTIONS))
        swept, sweep = timed(lambda: history.sweep("crossover", fast=FAST, slow=SLOW, **OPTIONS))
        _, walk = timed(lambda: history.walk_forward("crossover", **WINDOWS, fast=FAST, slow=SLOW, **OPTIONS))
        peak = cost.report()["peak_mb"]
        each = sweep["cpu_s"] / swept.height
        theirs = compare(history, swept)
    return {
        "symbols": symbols,
        "bars": history.bars.height,
        "load_s": load["wall_s"],
        "run_s": run["wall_s"],
        "sweep_s": sweep["wall_s"],
        "walk_s": walk["wall_s"],
        "choice_ms": each * 1_000,
        "library_ms": theirs["cpu_s"] * 1_000,
        "ratio": theirs["cpu_s"] / each,
        "peak_mb": peak,
    }


def main() -> None:
    """Measure each size in a process of its own, and print a row for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if len(given.symbols) == 1:
        found = [measure(given.symbols[0], given.days)]
    else:
        # Each in a process of its own: memory is that of the largest otherwise.
        own = [sys.executable, "-m", "benchmarks.sweep", "--json", "--days", str(given.days), "--symbols"]
        done = [
            subprocess.run([*own, str(each)], capture_output=True, text=True, check=False) for each in given.symbols
        ]
        if failed := next((each for each in done if each.returncode), None):
            raise SystemExit(failed.stderr)
        found = [row for each in done for row in json.loads(each.stdout)]
    if given.json:
        print(json.dumps(found))
        return
    print(f"{len(FAST) * len(SLOW)} pairs of spans, {given.days} days of 5m bars; CPU ms per pair and symbol")
    print("symbols        bars   load    run  sweep   walk   ours  backtesting.py  ratio  peak MB")
    for row in found:
        print(
            f"{row['symbols']:7} {row['bars']:11,} {row['load_s']:6.2f} {row['run_s']:6.2f} {row['sweep_s']:6.2f} "
            f"{row['walk_s']:6.2f} {row['choice_ms']:6.2f} {row['library_ms']:15.1f} {row['ratio']:6.0f} "
            f"{row['peak_mb']:8.0f}"
        )


if __name__ == "__main__":
    main()
