"""What the catalog of the UI says of assets before any run."""

from pathlib import Path

from dagster import CodeReferencesMetadataValue, LocalFileCodeReference

from ema_assets.config.watchlist import Watchlist
from ema_assets.definitions import assembled
from ema_assets.refresh.graph import build
from ema_assets_tests.defs.conftest import GRAPH


def test_each_asset_names_the_file_and_line_of_what_it_computes() -> None:
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


def test_descriptions_follow_the_parameters() -> None:
    graph = build(Watchlist((), {}, signal_params={"rsi": {"span": 21}, "bollinger": {"deviations": 2.5}}))
    nodes = {node.key.to_user_string(): node for node in assembled(graph).resolve_asset_graph().asset_nodes}
    assert "over 21 bars" in str(nodes["rsi"].description)
    columns = {column.name: column.description for column in nodes["rsi"].metadata["dagster/column_schema"].columns}
    assert str(columns["rsi"]).endswith("null for the first 21 bars")
    assert "2.5 standard deviations" in str(nodes["bollinger"].description)
    assert "EMA of 12 less EMA of 26, with its EMA of 9" in str(nodes["macd"].description)
    assert not [node.name for node in GRAPH.on if "{" in node.description]
