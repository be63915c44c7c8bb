"""The query in docs/STRATEGIES.md finds the maximum drawdown of the equity curve and its dates."""

import math
import re
from pathlib import Path

import polars as pl

from ema_assets.store.database import Database
from ema_assets.strategies.simulator.simulation import simulate
from ema_assets.strategies.variant import Variant
from ema_assets_tests.strategies.market import NOTHING, PULLBACK, bars_from, frame_of
from ema_assets_tests.strategies.test_performance import curve, of_curve

DOCS = Path(__file__).parents[2] / "docs/STRATEGIES.md"


def test_the_documented_query_finds_the_deepest_fall_of_the_equity_curve(database: Database) -> None:
    (sql,) = re.findall(r"```sql\n(.*?)```", DOCS.read_text(), re.DOTALL)
    variant = Variant("x", PULLBACK, allow_short=True, cost_bps=20, atr_target=3)
    drawn = {f"S{seed}": bars_from(seed, 300, step=1.0) for seed in range(8)}
    trades = simulate(frame_of(drawn), NOTHING, variant).trades
    with database.transaction() as transaction, transaction.staged(trades) as staged:
        falls = transaction.query(sql.replace("FROM trades", f"FROM pg_temp.{staged}"))
    assert falls["symbol"].to_list() == sorted(drawn)
    for symbol, bars in drawn.items():
        (row,) = falls.filter(symbol=symbol).rows(named=True)
        rows = trades.filter(pl.col("symbol") == symbol).rows(named=True)
        expected = of_curve(*curve(bars, rows, 0.002))
        assert math.isclose(row["max_drawdown"], expected.drawdown, rel_tol=1e-9)
        assert (row["peak_ts"], row["trough_ts"]) == (expected.peak_ts, expected.trough_ts)
