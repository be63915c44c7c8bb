"""Tests of what the page of a partition in Dagster's UI shows to a trader after real runs."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest
from dagster import AssetKey, AssetMaterialization, AssetRecordsFilter, DagsterEventType

from ema_assets.model.asset_names import EMA_SIGNALS, EMA_TREND
from ema_assets.model.prices import price_text
from ema_assets.model.timeframes import by_key
from ema_assets.reports.partition_page import newest_rows, newest_values
from ema_assets.reports.small_chart import MOST_CHARACTERS
from ema_assets.signals.declaration import Column, Signal
from ema_assets_tests.defs.conftest import GRAPH, World
from ema_assets_tests.defs.test_refresh_runs import fault, metadata_of
from ema_assets_tests.refresh.exchange import rows_of, utc

STRATEGY = "strategy_9_30_ema"
RANGE = {"dagster/asset_partition_range_start": "AAPL|5m", "dagster/asset_partition_range_end": "MSFT|5m"}


@pytest.mark.broad
@pytest.mark.settled
def test_the_page_of_a_signal_shows_its_newest_values(world: World) -> None:
    told = metadata_of(world, world.run(RANGE))
    for symbol in ("AAPL", "MSFT"):
        ((fast, slow, trend, spread, since),) = rows_of(
            world.database,
            """SELECT ema_9, ema_30, trend, spread_pct, bars_since_cross
               FROM market.ema_signals JOIN market.ema_trend USING (symbol, timeframe, ts)
               WHERE symbol = $1 AND timeframe = '5m' ORDER BY ts DESC LIMIT 1""",
            symbol,
        )
        averages, trends = told[EMA_SIGNALS, f"{symbol}|5m"], told[EMA_TREND, f"{symbol}|5m"]
        assert {name: averages[name].value for name in ("ema_9", "ema_30")} == {
            "ema_9": float(f"{fast:.8g}"),
            "ema_30": float(f"{slow:.8g}"),
        }
        assert trends["trend"].value == trend
        assert trends["spread_pct"].value == float(f"{spread:.8g}")
        assert trends["bars_since_cross"].value == since


def test_the_page_of_a_signal_shows_columns_of_every_kind() -> None:
    values = {"a": 1.5, "b": 2, "c": "up", "d": True, "e": utc("2026-11-20 15:25"), "f": None}
    columns = tuple(map(Column, values, ["float8", "int8", "text", "boolean", "timestamptz", "float8"], "abcdef"))
    signal = Signal("mine", "", "1", {"ohlc": ("close",)}, columns, lambda bars, *_: bars, shown=tuple(values))
    node = replace(GRAPH.nodes["rsi"], signal=signal)
    shown = newest_values(
        node, pl.DataFrame({"symbol": ["AAPL"], **{name: [each] for name, each in values.items()}}), []
    )
    assert shown == {"AAPL": {"a": 1.5, "b": 2, "c": "up", "d": True, "e": "2026-11-20 15:25:00 UTC"}}
    assert AssetMaterialization("mine", metadata=shown["AAPL"]).metadata.keys() == set("abcde")


@pytest.mark.broad
@pytest.mark.settled
def test_the_page_of_a_strategy_shows_its_open_trade_or_its_last_trade(world: World) -> None:
    (symbol, timeframe, entry_ts, side, price, return_pct), *_ = rows_of(
        world.database,
        """SELECT symbol, timeframe, entry_ts, side, entry_price, return_pct FROM market.strategy_9_30_ema
           WHERE status = 'open' ORDER BY 1, 2""",
    )
    partition = f"{symbol}|{timeframe}"
    both = {"dagster/asset_partition_range_start": partition, "dagster/asset_partition_range_end": partition}
    told = metadata_of(world, world.run(both))
    said = {name: entry.value for name, entry in told[STRATEGY, partition].items()}
    assert said["open_trade"] == f"{side} since {entry_ts:%Y-%m-%d %H:%M} UTC at {price_text(price)}"
    assert said["open_trade_pct"] == float(f"{return_pct:.8g}")
    with world.database.transaction() as transaction:
        transaction.execute(
            """UPDATE market.strategy_9_30_ema
               SET status = 'closed', exit_ts = '2026-11-20T15:25Z', exit_price = 101.5, exit_reason = 'stop',
                   return_pct = -1.256
               WHERE symbol = $1 AND timeframe = $2 AND status = 'open'""",
            symbol,
            timeframe,
        )
        newest = newest_rows(transaction, GRAPH.nodes[STRATEGY], by_key(timeframe), [symbol, "NEVER"])
        shown = newest_values(GRAPH.nodes[STRATEGY], newest, [symbol, "NEVER"])
    assert shown == {
        symbol: {
            "open_trade": "none",
            "last_trade": f"{side} from {entry_ts:%Y-%m-%d %H:%M} UTC at {price_text(price)} to 2026-11-20 15:25 UTC at 101.50 "
            "(stop), -1.26 %",
        },
        "NEVER": {"open_trade": "none so far"},
    }


@pytest.mark.broad
@pytest.mark.settled
def test_a_run_of_a_person_adds_charts_as_inline_images(world: World) -> None:
    told = metadata_of(world, world.run(RANGE))
    charts = {key: said["chart"].value for key, said in told.items() if "chart" in said}
    assert charts.keys() == {(asset, f"{symbol}|5m") for asset in (EMA_TREND, STRATEGY) for symbol in ("AAPL", "MSFT")}
    for (_, partition), text in charts.items():
        assert text.startswith(f"![{partition.replace('|', ' ')}](<data:image/svg+xml,%3Csvg ")
        assert len(text) <= MOST_CHARACTERS


@pytest.mark.broad
@pytest.mark.settled
def test_a_tick_draws_a_chart_of_a_trend_only_after_a_crossover_in_the_newest_bar(world: World) -> None:
    charted, happened = set(), set()
    for _ in range(3):
        before = world.now
        world.now = before.replace(minute=before.minute + 5)
        for run in world.sweep():
            for (asset, partition), said in metadata_of(world, run).items():
                symbol, _, timeframe = partition.partition("|")
                if asset == EMA_TREND:
                    sql = (
                        "SELECT ts FROM market.ema_trend WHERE symbol = $1 AND timeframe = $2 ORDER BY ts DESC LIMIT 1"
                    )
                    flips = f"SELECT crossover IS NOT NULL FROM market.ema_trend WHERE ts = ({sql}) AND symbol = $1"
                    (has_flipped,) = rows_of(world.database, f"{flips} AND timeframe = $2", symbol, timeframe)[0]
                    if has_flipped:
                        happened.add((asset, partition, world.now))
                    if "chart" in said:
                        charted.add((asset, partition, world.now))
    assert happened, "no crossover happened in any of the ticks"
    assert charted == happened


@pytest.mark.broad
@pytest.mark.settled
def test_no_two_materializations_of_a_step_share_a_millisecond(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Events tab has one row per millisecond, so it would show only one of them."""
    monkeypatch.setattr("ema_assets.defs.recording._EVENTS_A_BATCH", 3)
    run = world.run(RANGE)
    records = world.instance.get_records_for_run(run.run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION).records
    times: dict[str, Counter[int]] = {}
    for record in records:
        entry = record.event_log_entry
        times.setdefault(str(entry.step_key), Counter())[round(entry.timestamp * 1000)] += 1
    assert {step: max(counts.values()) for step, counts in times.items()} == dict.fromkeys(times, 1)
    assert sum(len(counts) for counts in times.values()) == len(records)
    for step, counts in times.items():
        began, ended = (
            round(each.event_log_entry.timestamp * 1000)
            for kind in (DagsterEventType.STEP_START, DagsterEventType.STEP_SUCCESS)
            for each in world.instance.get_records_for_run(run.run_id, of_type=kind).records
            if each.event_log_entry.step_key == step
        )
        assert began <= max(counts) <= ended, "the last one is noted when they are"
    found = world.instance.fetch_materializations(AssetRecordsFilter(asset_key=AssetKey("ohlc")), limit=2)
    assert [record.timestamp for record in found.records] == sorted(
        (record.timestamp for record in found.records), reverse=True
    )


@pytest.mark.broad
@pytest.mark.settled
def test_a_partition_shows_why_it_was_stale_and_after_a_run_of_a_person_its_number_of_rows(world: World) -> None:
    told = metadata_of(world, world.run(RANGE))
    for asset in ("ohlc", EMA_TREND, STRATEGY):
        said = told[asset, "AAPL|5m"]
        ((rows,),) = rows_of(world.database, f"SELECT count(*) FROM market.{asset}_5m WHERE symbol = 'AAPL'")
        assert said["dagster/partition_row_count"].value == rows
        assert said["stale_because"].value == "a person asked for it"
        # Only bars have prices of a provider.
        origin = ["sandbox", "synthetic, from the sandbox exchange"] if asset == "ohlc" else []
        assert [said[name].value for name in ("provider", "prices") if name in said] == origin
    world.now += timedelta(minutes=5)
    told = {key: said for run in world.sweep() for key, said in metadata_of(world, run).items()}
    assert told["ohlc", "AAPL|5m"]["stale_because"].value == "bar closed 2026-11-20 15:35 UTC"
    assert told[EMA_TREND, "AAPL|5m"]["stale_because"].value == "new bars"
    assert "dagster/partition_row_count" not in told["ohlc", "AAPL|5m"]
    with world.database.transaction() as transaction:
        transaction.execute(
            """UPDATE market.series_state SET dirty_from = '2026-11-20T15:00Z'
               WHERE symbol = 'MSFT' AND timeframe = '5m' AND asset = 'ema_signals'"""
        )
    told = {key: said for run in world.sweep() for key, said in metadata_of(world, run).items()}
    assert told[EMA_SIGNALS, "MSFT|5m"]["stale_because"].value == "input changed, from 2026-11-20 15:00 UTC on"


@pytest.mark.settled
def test_a_run_of_a_person_remarks_that_the_provider_returned_no_bars(world: World) -> None:
    fault(world, kind="missing_symbol", symbols=["MSFT"])
    told = metadata_of(world, world.run(RANGE))
    assert told["ohlc", "MSFT|5m"]["remark"].value == "the provider returned no bars; what is stored stays as it was"
    assert "remark" not in told["ohlc", "AAPL|5m"]
