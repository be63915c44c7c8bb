"""Databases for the tests of the board, and boards that serve them."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from ema_assets.board.app import BoardOptions, create_app
from ema_assets.board.listening import listen, server
from ema_assets.board.overviews import Times
from ema_assets.config import watchlist
from ema_assets.config.settings import Settings
from ema_assets.model.symbols import Instrument
from ema_assets.operations import refresh_performance, sync_watchlist
from ema_assets.refresh.graph import build
from ema_assets.store.database import Database, Transaction
from ema_assets_tests.core import OFF
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, refresh, utc
from ema_assets_tests.timeframes import D1, FEW, M5
from ema_assets_tests.waiting import wait_until

NOW = utc("2026-11-20 21:00:30")
# A watchlist refuses such a symbol, but a database may contain it.
HOSTILE = "<script>alert(1)</script>"

WATCHLIST = f"""
timeframes = ["5m", "1h", "1d"]

[signals]
off = [{", ".join(f'"{name}"' for name in OFF if name not in ("rsi", "bollinger"))}]

[[strategy]]
name = "crossover"
entries = "all"

[[strategy]]
name = "pullback"
enabled = false

[[strategy]]
name = "quick"
rule = "crossover"
fast = 5
slow = 13
entries = "all"

[[group]]
name = "Shares"
symbols = ["AAPL"]

[[group]]
name = "Crypto"
calendar = "24/7"
symbols = ["BTC-USD"]
"""


class Headers(dict[str, str]):
    """The headers of an answer. Their names are not case-sensitive."""

    def __init__(self, items: Iterable[tuple[str, str]]) -> None:
        super().__init__((name.lower(), value) for name, value in items)

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


@dataclass(frozen=True)
class Answer:
    """An answer of the board."""

    status: int
    headers: Headers
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class ServedBoard:
    """A board that listens at `url`. `now` is the time of the market, and `passed` is added to that of the machine."""

    url: str
    now: datetime
    passed: timedelta = timedelta()

    def get(self, path: str, /, headers: Mapping[str, str] | None = None, method: str = "GET", **query: Any) -> Answer:
        """Send a request, as a client that does not accept compression."""
        address = f"{self.url}{path}{f'?{urlencode(query)}' if query else ''}"
        request = urllib.request.Request(address, headers=dict(headers or {}), method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return Answer(answer.status, Headers(answer.headers.items()), answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, Headers(error.headers.items()), error.read())

    def another(self, path: str, etag: str, /, **query: Any) -> Answer:
        """Poll with an ETag, as a page does, until the answer has changed."""

        def answered() -> Answer | None:
            answer = self.get(path, {"If-None-Match": etag}, **query)
            return answer if answer.status == 200 else None

        found = wait_until(answered, f"another answer of {path}")
        assert found is not None
        return found


@contextmanager
def board_on(database_url: str, folder: Path, text: str = WATCHLIST, **options: Any) -> Iterator[ServedBoard]:
    """A board on the database, on a free port of a real socket."""
    folder.mkdir(exist_ok=True)
    (folder / "watchlist.toml").write_text(text)
    env = {"EMA_HOME": str(folder), "EMA_DATABASE_URL": database_url, "EMA_PROVIDER": "sandbox"}
    env["EMA_WATCHLIST"] = str(folder / "watchlist.toml")
    served = ServedBoard("", NOW)
    given = BoardOptions(
        database_url,
        options.get("dagster_url", "http://dagster.test"),
        "sandbox",
        options.get("allowed_hosts", frozenset()),
    )
    app = create_app(
        given, lambda: Settings.from_env(env), Times(lambda: served.now, lambda: datetime.now(UTC) + served.passed)
    )
    with listen("127.0.0.1", 0) as listener:
        served.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        running = server(app)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        wait_until(lambda: running.started, "a board that serves")
        try:
            yield served
        finally:
            running.should_exit = True
            thread.join()


def fill(database: Database) -> None:
    """Store two symbols with everything computed, and one bar of a third symbol with a hostile name."""
    exchange = MemoryExchange(
        bars_on("XNYS", "AAPL", M5, date(2026, 11, 9), date(2026, 11, 20), 1),
        bars_on("XNYS", "AAPL", D1, date(2026, 6, 1), date(2026, 11, 20), 2),
        bars_on("24/7", "BTC-USD", M5, date(2026, 11, 14), date(2026, 11, 20), 3),
        bars_on("24/7", "BTC-USD", D1, date(2026, 6, 1), date(2026, 11, 20), 4),
        bars_on("24/7", HOSTILE, M5, date(2026, 11, 20), date(2026, 11, 20), 5).tail(37).head(1),
    )
    parsed = watchlist.parse(WATCHLIST)
    watched = replace(
        parsed,
        instruments=(*parsed.instruments, Instrument(HOSTILE, "24/7", timeframes=FEW)),
        history_days={M5: 12, D1: 180},
    )
    refresh(database, watched, exchange, NOW, graph=build(watched))
    refresh_performance.refresh(database)


def fill_widely(database: Database, symbols: int) -> None:
    """Insert `symbols` symbols on three timeframes by SQL, each with one bar, averages and a trend."""
    watched = watchlist.parse(WATCHLIST)
    names = [f"S{number:04}" for number in range(symbols)]
    instruments = tuple(Instrument(name, "24/7", timeframes=FEW) for name in names)
    sync_watchlist.sync(database, replace(watched, instruments=instruments), NOW, build(watched))
    with database.transaction() as transaction:
        for asset, values in (
            ("ohlc", "open, high, low, close, volume) SELECT symbol, timeframe, $1, 10, 11, 9, 10.5, 100"),
            ("ema_signals", "ema_9, ema_30, bar_number) SELECT symbol, timeframe, $1, 10.2, 10.1, 300"),
            (
                "ema_trend",
                "trend, spread_pct, bars_since_cross, bar_number) SELECT symbol, timeframe, $1, 'up', 2, 3, 300",
            ),
        ):
            transaction.execute(
                f"INSERT INTO market.{asset} (symbol, timeframe, ts, {values} FROM market.series_state WHERE asset = $2",
                utc("2026-11-20 20:55"),
                asset,
            )
        transaction.execute(
            """
            UPDATE market.series_state SET last_ts = $1, first_ts = $1, checked_through = $2, asked_at = $2,
                   computed_at = now(), recorded_at = now(), dirty_from = NULL, revision = 1
            """,
            utc("2026-11-20 20:55"),
            utc("2026-11-20 21:00"),
        )


def a_correction_and_a_gap(transaction: Transaction, missing: datetime) -> None:
    """Insert a corrected 5m bar of AAPL, and a missing one that will be requested."""
    transaction.execute(
        """
        INSERT INTO market.bar_revision (symbol, timeframe, kind, detail, changed_from, bars_corrected, bars_late,
            source, rows_recomputed, crossovers_flipped, trades_flipped)
        VALUES ('AAPL', '5m', 'correction', 'one bar', $1, 1, 0, 'sandbox', 312, 2, 1)
        """,
        utc("2026-11-20 15:00"),
    )
    transaction.execute(
        """
        INSERT INTO market.bar_gap (symbol, timeframe, first_ts, last_ts, bars, status, next_attempt_at, found_at)
        VALUES ('AAPL', '5m', $1, $1, 1, 'open', $2, $2)
        """,
        missing,
        utc("2026-11-20 21:30"),
    )
