"""A database with bars of three exchanges and strategies of every kind. The tests only read it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from ema_assets.config.watchlist import parse
from ema_assets.operations import refresh_performance
from ema_assets.refresh.graph import Graph, build
from ema_assets.store.database import Database
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, refresh, utc
from ema_assets_tests.timeframes import M5

CALENDARS = {"AAPL": "XNYS", "0700.HK": "XHKG", "BTC-USD": "24/7"}
NOW = utc("2026-11-20 15:00")

# Together they use both rules, all sides and fills, every filter and limit, and custom spans.
STRATEGIES: Mapping[str, Mapping[str, Any]] = {
    "guarded": {"rule": "crossover", "side": "both", "fill": "next_open", "cost_bps": 25.0, "atr_stop": 1.0},
    "spans": {"rule": "crossover", "side": "both", "entries": "all", "fast": 5, "slow": 13},
    "intraday": {"rule": "pullback", "side": "both", "exit_at_session_end": True, "atr_target": 2.0, "entries": "all"},
    "with_the_hour": {"rule": "crossover", "side": "short", "higher_timeframe": "1h", "entries": "all"},
    "wide": {"rule": "crossover", "min_spread_pct": 0.05, "entries": "all", "cost_bps": 5.0},
}


@dataclass(frozen=True)
class World:
    """The database, the graph that filled it, and the text of its watchlist."""

    database: Database
    graph: Graph
    watchlist: str


def written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')


def _watchlist() -> str:
    rows = [
        "\n".join(["[[strategy]]", f'name = "{name}"', *(f"{key} = {written(each)}" for key, each in options.items())])
        for name, options in STRATEGIES.items()
    ]
    groups = [f'[[group]]\ncalendar = "{calendar}"\nsymbols = ["{symbol}"]' for symbol, calendar in CALENDARS.items()]
    head = 'timeframes = ["5m", "15m", "1h"]\n\n[history]\n"5m" = 12\n"1d" = 30\n\n[ema]\nseed = "first"'
    return "\n\n".join([head, *rows, *groups]) + "\n"


@pytest.fixture(scope="module")
def world(databases) -> Iterator[World]:
    """A database with twelve days of 5m bars and everything computed from them."""
    watched = parse(_watchlist(), "watchlist.toml")
    source = MemoryExchange(
        *(
            bars_on(calendar, symbol, M5, date(2026, 11, 9), date(2026, 11, 20), seed)
            for seed, (symbol, calendar) in enumerate(CALENDARS.items())
        )
    )
    url = databases.make()
    with Database(url) as database:
        refresh(database, watched, source, NOW)
        refresh_performance.refresh(database)
        yield World(database, build(watched), _watchlist())
    databases.drop(url)


@pytest.fixture
def url(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of the database. The settings name its watchlist."""
    path = tmp_path / "watchlist.toml"
    path.write_text(world.watchlist)
    monkeypatch.setenv("EMA_WATCHLIST", str(path))
    monkeypatch.setenv("EMA_HOME", str(tmp_path))
    return world.database.url
