"""The columns of a trade are declared once: the table, the catalog, the frames and the docs have the same ones."""

import re
from pathlib import Path

from ema_assets.config.watchlist import Watchlist
from ema_assets.model.declarations import problems_with_columns
from ema_assets.refresh.graph import build
from ema_assets.strategies.trade_columns import STATE_COLUMNS, STATE_SCHEMA, TRADE_COLUMNS, TRADE_SCHEMA

DOCS = Path(__file__).parents[2] / "docs/STRATEGIES.md"


def test_the_declarations_are_valid() -> None:
    for columns in (TRADE_COLUMNS, STATE_COLUMNS):
        assert list(problems_with_columns(columns)) == []
        assert all(column.description.strip() for column in columns)


def test_the_table_the_catalog_and_the_frame_of_a_strategy_have_the_declared_columns() -> None:
    node = build(Watchlist((), {})).nodes["strategy_9_30_pullback"]
    names = [column.name for column in node.columns]
    assert names == [node.table.time, *node.table.values] == list(TRADE_SCHEMA)
    assert list(node.states.values) == [*STATE_SCHEMA, "bar_number"]


def test_columns_with_a_value_in_every_trade_are_not_nullable() -> None:
    assert [column.name for column in TRADE_COLUMNS if not column.is_nullable] == [
        "entry_ts", "entry_price", "last_ts", "last_price", "bars_held", "status",
    ]  # fmt: skip
    assert {column.name: column.choices for column in TRADE_COLUMNS if column.choices} == {"status": ("open", "closed")}


def test_the_docs_define_every_column() -> None:
    section = DOCS.read_text().split("## The columns of a trade")[1].split("**Together.**")[0]
    defined = {name for line in section.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`", line.split("|")[1])}  # fmt: skip
    # The docs define these two further above, among the terms that all rules share.
    defined |= {"entry_ts", "exit_ts"}
    assert defined == {column.name for column in TRADE_COLUMNS}
