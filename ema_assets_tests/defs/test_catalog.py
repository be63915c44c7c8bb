"""Tests of what the catalog of the UI shows about assets before any run."""

from pathlib import Path

import pytest
from dagster import CodeReferencesMetadataValue, LocalFileCodeReference, instance_for_test

from ema_assets.config.settings import Settings
from ema_assets.config.watchlist import Watchlist
from ema_assets.definitions import assembled
from ema_assets.defs.alerts import deliver_alerts
from ema_assets.defs.assets import step
from ema_assets.defs.assets.sources import sources_in_use
from ema_assets.defs.resources import MarketResource, StoreResource
from ema_assets.refresh.graph import build
from ema_assets.refresh.outcome import Outcome
from ema_assets_tests.defs.conftest import GRAPH
from ema_assets_tests.defs.staleness import ask


def test_each_asset_names_the_file_and_line_of_its_code() -> None:
    graph = build(Watchlist((), {}))
    found = {}
    for node in assembled(graph).resolve_asset_graph().asset_nodes:
        references = node.metadata.get("dagster/code_references")
        if isinstance(references, CodeReferencesMetadataValue):
            (place,) = references.code_references
            assert isinstance(place, LocalFileCodeReference)
            assert place.line_number is not None
            assert Path(place.file_path).read_text().splitlines()[place.line_number - 1].startswith("def ")
            found[node.key.to_user_string()] = f"{Path(place.file_path).parent.name}/{place.label}"
    assert found.keys() == {node.name for node in graph.on}
    assert found["rsi"] == "signals/rsi.py"
    assert found["strategy_9_30_pullback"] == "rules/pullback.py"
    assert found["ohlc"] == "refresh/fetch.py"


def test_descriptions_contain_the_values_of_the_parameters() -> None:
    graph = build(Watchlist((), {}, signal_params={"rsi": {"span": 21}, "bollinger": {"deviations": 2.5}}))
    nodes = {node.key.to_user_string(): node for node in assembled(graph).resolve_asset_graph().asset_nodes}
    assert "over 21 bars" in str(nodes["rsi"].description)
    columns = {column.name: column.description for column in nodes["rsi"].metadata["dagster/column_schema"].columns}
    assert str(columns["rsi"]).endswith("null for the first 21 bars")
    assert "2.5 standard deviations" in str(nodes["bollinger"].description)
    assert "EMA of 12 less EMA of 26, with its EMA of 9" in str(nodes["macd"].description)
    assert not [node.name for node in GRAPH.on if "{" in node.description]


def test_descriptions_that_the_ui_shows_without_markdown_have_no_backticks() -> None:
    """Those of schedules and sensors, and as much of an asset's as a line of the catalog has room for."""
    definitions = assembled(GRAPH)
    automations = [*(definitions.schedules or ()), *(definitions.sensors or ()), deliver_alerts]
    assert len(automations) > 8
    assert [each.name for each in automations if "`" in str(each.description)] == []
    nodes = definitions.resolve_asset_graph().asset_nodes
    assert [node.key.to_user_string() for node in nodes if "`" in str(node.description)[:100]] == []


def test_the_launchpad_says_that_the_namespace_of_resources_is_left_as_it_is() -> None:
    for resource in (StoreResource, MarketResource):
        assert str(resource.model_fields["namespace"].description).endswith("leave it as it is.")


def test_the_log_of_a_run_has_counts_in_the_right_number() -> None:
    outcome = Outcome(done=["AAPL"], written={"AAPL": 178_256}, flagged=1, calls=1, skipped=2)
    said = "1 series, 178,256 rows written, 2 bars skipped, 1 bar flagged, 1 provider call"
    assert step.sentence(outcome) == said


_CATALOG = """
    query {
        assetNodes {
            assetKey { path } groupName description kinds isExecutable dependencyKeys { path }
            owners { ... on TeamAssetOwner { team } } tags { key value }
            freshnessPolicy: internalFreshnessPolicy {
                ... on TimeWindowFreshnessPolicy { failWindowSeconds warnWindowSeconds }
                ... on CronFreshnessPolicy { deadlineCron lowerBoundDeltaSeconds timezone }
            }
            metadataEntries {
                label
                ... on TableSchemaMetadataEntry { schema { columns { name type description } } }
                ... on TableColumnLineageMetadataEntry {
                    lineage { columnName columnDeps { assetKey { path } columnName } }
                }
            }
        }
    }
"""


@pytest.mark.broad
def test_the_catalog_shows_the_sources_of_bars_owners_and_the_lineage_of_columns() -> None:
    with instance_for_test() as instance:
        nodes = {".".join(node["assetKey"]["path"]): node for node in ask(instance, _CATALOG, {})["assetNodes"]}
    sources = {name: node for name, node in nodes.items() if node["groupName"] == "sources"}
    assert sources.keys() == {"source.sandbox", "source.files"}
    assert "Its prices are synthetic." in sources["source.sandbox"]["description"]
    assert "`ema-assets ingest downloads/`" in sources["source.files"]["description"]
    assert not any(node["isExecutable"] for node in sources.values())
    assert {".".join(each["path"]) for each in nodes["ohlc"]["dependencyKeys"]} == set(sources)
    assert all(node["owners"] == [{"team": "ema-assets"}] for node in nodes.values())
    assert all(node["kinds"] and node["groupName"] and node["description"] for node in nodes.values())
    tags = {name: {each["key"]: each["value"] for each in node["tags"]} for name, node in nodes.items()}
    assert [name for name, found in tags.items() if "ema_assets/chain" in found] == sorted(
        ["ohlc", "ema_signals", "ema_trend", "strategy_9_30_ema"], key=list(nodes).index
    )
    assert tags["strategy_9_30_ema"]["ema_assets/rows"] == "trades"
    (lineage,) = [each["lineage"] for each in nodes["ema_trend"]["metadataEntries"] if "lineage" in each]
    made_of = {each["columnName"]: each["columnDeps"] for each in lineage}
    assert {"assetKey": {"path": ["ema_signals"]}, "columnName": "ema_9"} in made_of["spread_pct"]


@pytest.mark.broad
def test_freshness_policies_allow_the_longest_holidays_and_daily_assets_have_a_daily_deadline() -> None:
    with instance_for_test() as instance:
        nodes = {".".join(node["assetKey"]["path"]): node for node in ask(instance, _CATALOG, {})["assetNodes"]}
    policies = {name: node["freshnessPolicy"] for name, node in nodes.items()}
    day = 86_400
    # Tokyo was closed for eleven days in 2019. A long weekend lasts up to five days on every exchange.
    assert policies["ohlc"] == {"failWindowSeconds": 12 * day, "warnWindowSeconds": 5 * day}
    assert policies["strategy_9_30_ema"] == policies["ohlc"]
    daily = {"deadlineCron": "0 6 * * *", "lowerBoundDeltaSeconds": day, "timezone": "UTC"}
    assert policies["strategy_performance"] == policies["screener"] == daily
    assert policies["source.sandbox"] is None


def test_the_sources_are_the_providers_of_the_watchlist_and_files(tmp_path: Path) -> None:
    settings = Settings.from_env({"EMA_HOME": str(tmp_path), "EMA_PROVIDER": "yahoo"})
    assert sources_in_use(settings) == ("yahoo", "file")
    (tmp_path / "watchlist.toml").write_text(
        """[[group]]\nsymbols = ["AAPL"]\n[[group]]\nprovider = "ccxt:kraken"\ncalendar = "24/7"\nsymbols = ["BTC/USD"]"""
    )
    assert sources_in_use(settings) == ("ccxt:kraken", "yahoo", "file")
    keys = {
        key.to_user_string()
        for key in assembled(GRAPH, sources_in_use(settings)).resolve_asset_graph().get_all_asset_keys()
    }
    assert {"source/ccxt_kraken", "source/yahoo", "source/files"} <= keys


def test_a_custom_signal_is_owned_by_its_user(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        """
import polars as pl
from ema_assets.signals.declaration import Column, Signal


def mine(bars, carried, params):
    return bars.select("symbol", "ts", doubled=pl.col("close") * 2)


SIGNAL = Signal(
    name="mine", version="1", description="Twice the close", reads={"ohlc": ("close",)},
    columns=(Column("doubled", "float8", "Twice the close"),), compute=mine, bars_before=lambda params: 0,
)
"""
    )
    graph = assembled(build(Watchlist((), {}), tmp_path)).resolve_asset_graph()
    owners = {node.key.to_user_string(): list(node.owners) for node in graph.asset_nodes}
    assert (owners["mine"], owners["rsi"]) == (["team:yours"], ["team:ema-assets"])
    (mine,) = (node for node in graph.asset_nodes if node.key.to_user_string() == "mine")
    (place,) = mine.metadata["dagster/code_references"].code_references
    assert (place.file_path, place.line_number) == (str(tmp_path / "mine.py"), 6)
