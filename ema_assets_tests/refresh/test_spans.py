"""Variants with other EMAs: which assets they add, what these contain, and what a changed span recomputes."""

import math
from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ema_assets.config.watchlist import Watchlist, parse
from ema_assets.defs.assets.computed import computed_assets
from ema_assets.model.averages import converged_after
from ema_assets.model.errors import ConfigurationError
from ema_assets.refresh.graph import Graph, build
from ema_assets.reports import status
from ema_assets.store.database import Database
from ema_assets_tests.core import CORE, CORE_TEXT
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, refresh, rows_of, utc, watch
from ema_assets_tests.timeframes import H1, M5

talib = pytest.importorskip("talib")

NOW = utc("2026-11-18 15:00")
BARS = bars_on("24/7", "BTC-USD", M5, date(2026, 11, 15), date(2026, 11, 18))
MINE = {"name": "mine", "rule": "crossover", "fast": 12, "slow": 26, "entries": "all", "side": "both"}
DIPS = {"name": "dips", "rule": "pullback", "fast": 12, "slow": 20, "entries": "all"}


def watched(*rows: dict[str, Any]) -> Watchlist:
    return replace(watch({"BTC-USD": "24/7"}, m5_days=3), strategies=(*rows, *CORE["strategies"]))


def graph_of(*rows: dict[str, Any], **changes: Any) -> Graph:
    return build(replace(watched(*rows), signals_off=(), **changes))


def refreshed(database: Database, *rows: dict[str, Any], now: Any = NOW, **options: Any) -> dict[str, int]:
    """The assets that were computed on 5m, each with the number of rows written."""
    outcomes = refresh(database, watched(*rows), MemoryExchange(BARS), now, timeframes=[M5, H1], **options)
    return {name: outcome.rows for (name, timeframe), outcome in outcomes.items() if outcome.done and timeframe is M5}


def table(database: Database, name: str) -> pl.DataFrame:
    with database.transaction() as transaction:
        found = transaction.query(f"SELECT * FROM market.{name} WHERE timeframe = '5m'")
    return found.sort("entry_ts" if "entry_ts" in found.columns else "ts")


# --- values -----------------------------------------------------------------------------------------------------------


def test_results_of_other_spans_equal_talib_and_increments_end_as_one_computation(
    database: Database,
) -> None:
    names = ["ema_12", "ema_26", "ema_trend_12_26", "wma_20", "strategy_mine", "strategy_dips"]
    for hours in (30, 29, 3, 0):
        refreshed(database, MINE, DIPS, now=NOW - timedelta(hours=hours))
    found = {name: table(database, name) for name in names}
    refreshed(database, MINE, DIPS, everything=True)
    for name, rows in found.items():
        assert table(database, name).equals(rows), name
        assert rows.height, name
    bars = table(database, "ohlc")
    closes, times = bars["close"].to_numpy(), bars["ts"].to_list()
    for name, expected in (
        ("ema_12", talib.EMA(closes, 12)),
        ("ema_26", talib.EMA(closes, 26)),
        ("wma_20", talib.WMA(closes, 20)),
    ):
        rows = found[name]
        assert rows["ts"].to_list() == times
        assert rows[name].fill_null(math.nan).to_list() == pytest.approx(expected, rel=1e-12, nan_ok=True)
    above = talib.EMA(closes, 12) > talib.EMA(closes, 26)
    flips = [row for row in range(26, len(closes)) if above[row] != above[row - 1]]
    trend = found["ema_trend_12_26"]
    assert trend.drop_nulls("crossover")["ts"].to_list() == [times[row] for row in flips]
    # Each crossover ends a trade and begins the opposite one at its close.
    expected_trades = [
        (times[a], "long" if above[a] else "short", closes[a], times[b], closes[b]) for a, b in pairwise(flips)
    ]
    closed = found["strategy_mine"].filter(status="closed")
    assert closed.select("entry_ts", "side", "entry_price", "exit_ts", "exit_price").rows() == expected_trades
    assert len(expected_trades) > 10
    # A pullback order needs EMA 12 above WMA 20, so no trade begins where it was below at the close before.
    averages = found["ema_12"].join(found["wma_20"], on="ts").with_columns(pl.col("ema_12", "wma_20").shift(1))
    entered = found["strategy_dips"].select(ts="entry_ts").join(averages, on="ts")
    assert (entered["ema_12"] > entered["wma_20"]).all()
    # Views list the variants like any other strategy.
    shown = rows_of(database, "SELECT count(*) FROM results.trades WHERE strategy = 'strategy_mine'")
    assert shown[0][0] >= closed.height


@pytest.mark.broad
def test_a_changed_span_computes_only_what_depends_on_it(database: Database) -> None:
    first = refreshed(database, MINE)
    assert {"ema_12", "ema_26", "ema_trend_12_26", "strategy_mine", "ema_trend"} <= first.keys()
    assert refreshed(database, MINE) == {}
    before = {name: table(database, name) for name in ("ema_26", "ema_trend", "strategy_9_30_ema")}
    changed = refreshed(database, {**MINE, "fast": 13})
    assert changed.keys() == {"ema_13", "ema_trend_13_26", "strategy_mine"}
    # The other assets are unchanged. Assets that no variant reads any more are not computed.
    for name, rows in before.items():
        assert table(database, name).equals(rows)
    later = refreshed(database, {**MINE, "fast": 13}, now=NOW + timedelta(hours=1))
    assert not {"ema_12", "ema_trend_12_26"} & later.keys()
    # With the old span again, only the missed bars are computed.
    back = refreshed(database, MINE, now=NOW + timedelta(hours=1))
    assert back["ema_12"] == back["ema_trend_12_26"] == later["ohlc"] == 12


def test_entries_wait_until_the_averages_of_their_variant_have_converged(database: Database) -> None:
    row = {**MINE, "fast": 5, "slow": 10}
    refreshed(database, row)
    everywhere = table(database, "strategy_mine")["entry_ts"].to_list()
    number = converged_after(10)
    assert number == 69
    converged = table(database, "ohlc")["ts"][number - 1]
    assert min(everywhere) < converged
    refreshed(database, {**row, "entries": "converged"})
    assert table(database, "strategy_mine")["entry_ts"].to_list() == [ts for ts in everywhere if ts >= converged]
    first = rows_of(database, "SELECT min(bar_number) FROM market.ema_10 WHERE timeframe = '5m' AND NOT warming_up")
    assert first == [(number,)]
    refreshed(database, {**row, "slow": 400})
    with database.transaction() as transaction:
        told = status.warming_up(transaction)
    count = table(database, "ohlc").height
    needs = f"EMA 400 needs {converged_after(400)}"
    assert [each for each in told if each.startswith("5m")] == [f"5m of 1 symbol: {count} bars at most, {needs}"]
    assert [each.rpartition(", ")[2] for each in told if each.startswith("1h")] == ["the averages need 208", needs]


# --- the graph --------------------------------------------------------------------------------------------------------


def test_a_variant_reads_existing_averages_and_adds_only_missing_ones() -> None:
    plain = graph_of()
    for spans, made in (
        ({}, set()),
        ({"fast": 9, "slow": 30}, set()),
        ({"fast": 9, "slow": 26}, {"ema_26", "ema_trend_9_26"}),
        ({"fast": 30, "slow": 50}, {"ema_50", "ema_trend_30_50"}),
        ({"fast": 12, "slow": 26}, {"ema_12", "ema_26", "ema_trend_12_26"}),
    ):
        graph = graph_of({"name": "mine", "rule": "crossover", **spans})
        assert graph.nodes.keys() - plain.nodes.keys() == made | {"strategy_mine"}, spans
    two = graph_of(MINE, {**MINE, "name": "other", "cost_bps": 2}, {**DIPS, "slow": 26})
    assert two.nodes.keys() - plain.nodes.keys() == {
        *("ema_12", "ema_26", "ema_trend_12_26", "wma_26"),
        *("strategy_mine", "strategy_other", "strategy_dips"),
    }
    order = list(two.nodes)
    assert order.index("ema_26") < order.index("ema_trend_12_26") < order.index("strategy_mine")


def test_the_inputs_version_and_description_of_a_variant_follow_from_its_spans() -> None:
    graph = graph_of({**MINE, "entries": "converged"}, DIPS)
    node, trend = graph.nodes["strategy_mine"], graph.nodes["ema_trend_12_26"]
    assert node.reads["ema_trend_12_26"] == ("crossover", "spread_pct", "bar_number")
    assert node.main_input == "ema_trend_12_26"
    assert node.code_version == "3 fast=12 side=both slow=26"
    assert node.description.startswith("Trades of the 12-26 EMA crossover strategy, one row per trade. Enters at a cro")
    assert "EMA 12 and EMA 26" in node.description
    assert node.variant is not None
    assert node.variant.converged_after == converged_after(26)
    assert trend.reads == {"ema_12": ("ema_12", "bar_number"), "ema_26": ("ema_26",)}
    assert trend.columns[1].description == "up when ema_12 > ema_26, down when below, carried on when equal"
    dips = graph.nodes["strategy_dips"]
    assert {name: dips.reads[name] for name in ("ema_12", "wma_20")} == {"ema_12": ("ema_12",), "wma_20": ("wma_20",)}
    assert "EMA 12" in dips.description
    assert "WMA 20" in dips.description


def test_averages_of_a_variant_are_assets_with_their_lineage() -> None:
    assets = {each.key.to_user_string(): each for each in computed_assets(graph_of({**MINE, "higher_timeframe": "1h"}))}
    read = {
        name: {key.to_user_string() for key in assets[name].dependency_keys}
        for name in ("ema_12", "ema_trend_12_26", "strategy_mine")
    }
    assert read == {
        "ema_12": {"ohlc"},
        "ema_trend_12_26": {"ema_12", "ema_26"},
        "strategy_mine": {"ohlc", "ema_trend_12_26"},
    }
    assert assets["ema_12"].partitions_def == assets["ema_signals"].partitions_def is not None


def test_the_default_variants_keep_their_versions_and_inputs() -> None:
    graph = build(Watchlist((), {}))
    versions = {name: node.code_version for name, node in graph.nodes.items()}
    assert versions["strategy_9_30_ema"] == "3"
    assert versions["strategy_9_30_pullback"] == "3 rule=pullback@2"
    assert {versions[name] for name in ("ema_signals", "ema_trend", "wma")} == {"1"}
    assert graph.nodes["strategy_9_30_ema"].reads["ema_trend"] == ("crossover", "spread_pct", "bar_number")
    assert graph.nodes["strategy_9_30_pullback"].reads == {
        "ohlc": ("open", "high", "low", "close"),
        "ema_signals": ("ema_9",),
        "wma": ("wma_30",),
        "ema_trend": ("spread_pct", "bar_number"),
    }
    for name in ("strategy_9_30_ema", "strategy_9_30_pullback"):
        variant = graph.nodes[name].variant
        assert variant is not None
        assert variant.converged_after == 208


def test_filters_read_the_trend_of_the_spans_of_their_variant() -> None:
    filtered = {**DIPS, "min_spread_pct": 0.1, "higher_timeframe": "1h"}
    node = graph_of(filtered).nodes["strategy_dips"]
    assert node.reads["ema_trend_12_20"] == ("spread_pct", "bar_number")
    assert "ema_trend" not in node.reads
    higher = [source for _, _, source, timeframe, _ in node.inputs((M5, H1)) if timeframe is H1]
    assert higher.count("ema_trend_12_20") == 2
    assert "ema_trend_12_20" not in graph_of(DIPS).nodes


def test_the_ema_seed_applies_to_the_emas_of_all_spans() -> None:
    nodes = graph_of(MINE, ema_seed="first").nodes
    assert {nodes[name].code_version for name in ("ema_signals", "ema_12", "ema_26")} == {"1 seed=first"}


OWN = """
import polars as pl
from ema_assets.strategies.rule import BySide, Param, Rule

def evaluate(bars, params):
    above = pl.col("close") > pl.col(f"ema_{params['span']}")
    return bars.select(enter_long=above, leave_long=~above)

RULE = Rule(
    name="above",
    title="close above EMA {span}",
    description="Long while the close is above EMA {span}.",
    version="1",
    reads={"ema_{span}": ("ema_{span}",)},
    evaluate=evaluate,
    entry_reasons=BySide(long="above", short="below"),
    exit_reasons=BySide(long="below", short="above"),
    params={"span": Param(30, "Closes in the EMA", least=1, most=2000)},
)
"""


def test_a_custom_rule_reads_an_average_of_any_span(tmp_path: Path) -> None:
    (tmp_path / "above.py").write_text(OWN)

    def reads(span: int) -> set[str]:
        row = {"name": "mine", "rule": "above", "span": span}
        graph = build(replace(watched(row), signals_off=()), strategies_folder=tmp_path)
        return {*graph.nodes["strategy_mine"].reads} - {"ohlc", "ema_trend"}

    assert reads(30) == {"ema_signals"}
    assert reads(200) == {"ema_200"}
    for span in (1, 2000):
        with pytest.raises(
            ConfigurationError, match=rf"rule `above` in .*: `reads` must name assets among .*'ema_{span}'"
        ):
            reads(span)


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ("fast = 26\nslow = 12", "strategy 'mine': `fast` must be less than `slow`, received fast = 26, slow = 12"),
        ("fast = 30", "strategy 'mine': `fast` must be less than `slow`, received fast = 30, slow = 30"),
        ("fast = 12.5", "strategy 'mine': `fast` must be a whole number from 2 to 1000, received 12.5"),
        ("fast = 1", "strategy 'mine': `fast` must be a whole number from 2 to 1000, received 1"),
        ("slow = 1001", "strategy 'mine': `slow` must be a whole number from 2 to 1000, received 1001"),
        ('slow = "26"', "strategy 'mine': `slow` must be a whole number from 2 to 1000, received '26'"),
        ("fast = true", "strategy 'mine': `fast` must be a whole number from 2 to 1000, received True"),
        ("fsat = 12", "strategy 'mine': unknown key `fsat`, .*; did you mean `fast`[?]"),
    ],
)
def test_invalid_spans_are_refused_with_the_allowed_values(spans: str, message: str) -> None:
    row = f'[[strategy]]\nname = "mine"\nrule = "crossover"\n{spans}\n[[group]]\nsymbols = ["AAPL"]\n'
    with pytest.raises(ConfigurationError, match=f"^watchlist: {message}"):
        build(parse(f"{CORE_TEXT}\n{row}"))


def test_an_average_of_a_variant_cannot_be_switched_off_or_have_another_seed() -> None:
    with pytest.raises(ConfigurationError, match="ema_12 cannot be switched off while ema_trend_12_26 reads it"):
        build(replace(watched(MINE), signals_off=("ema_12",)))
    with pytest.raises(ConfigurationError, match=r"how EMAs start is set under `\[ema\]`, not `\[signals.ema_12\]`"):
        graph_of(MINE, signal_params={"ema_12": {"seed": "first"}})


@pytest.mark.parametrize("span", [2, 3, 9, 10, 26, 30, 100, 500, 1000])
def test_an_average_has_converged_when_its_seed_weighs_less_than_a_millionth(span: int) -> None:
    keep = 1 - 2 / (span + 1)
    assert keep ** converged_after(span) < 1e-6 <= keep ** (converged_after(span) - 1)
