"""With default settings, every timeframe has enough bars after the first load, with each provider."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from ema_assets.config import watchlist
from ema_assets.config.settings import PROVIDERS, Settings
from ema_assets.config.watchlist import Watchlist
from ema_assets.model.symbols import Instrument
from ema_assets.model.timeframes import FETCHED, Timeframe
from ema_assets.operations.refresh_all import refresh_all
from ema_assets.providers import registry
from ema_assets.refresh.clients import open_provider
from ema_assets.refresh.plan_requests import FetchRules
from ema_assets.sandbox.server import RunningSandbox, running_sandbox
from ema_assets.signals.ema_signals import CONVERGED_AFTER_BARS
from ema_assets.store.database import Database
from ema_assets_tests.core import CORE
from ema_assets_tests.refresh.exchange import rows_of, tables_of
from ema_assets_tests.timeframes import H4, M5, ORDER

DEFAULT = watchlist.parse(watchlist.default_text())
# One symbol for each calendar of the default watchlist. The depth depends only on the calendar.
SAMPLE = tuple(
    next(each for each in DEFAULT.instruments if each.calendar == calendar) for calendar in DEFAULT.calendars
)
PRICES = ["open", "high", "low", "close"]


def settings_of(sandbox: RunningSandbox, provider: str) -> Settings:
    """Settings that point `provider` at the sandbox."""
    names = [registry.PROVIDERS[name].config.variables()["base_url"].name for name in PROVIDERS]
    keys = {"APCA_API_KEY_ID": "key", "APCA_API_SECRET_KEY": "secret"}
    return Settings.from_env({**dict.fromkeys(names, sandbox.base_url), **keys, "EMA_PROVIDER": provider})


def load(database: Database, watched: Watchlist, settings: Settings, now: datetime) -> int:
    """Load everything, and return the number of calls."""
    calls = 0
    for asset, timeframe, outcome in refresh_all(
        database,
        watched,
        lambda name: open_provider(settings, name),
        FetchRules.of(settings, watched),
        watched.symbols,
        ORDER,
        clock=lambda: now,
    ):
        assert not outcome.errors, (asset, timeframe, outcome.errors)
        calls += outcome.calls
    return calls


def warming_up(database: Database) -> list[tuple[object, ...]]:
    return rows_of(
        database,
        """
        SELECT symbol, timeframe, max(bar_number) FROM market.ema_signals
        GROUP BY 1, 2 HAVING bool_and(warming_up) ORDER BY 1, 2
        """,
    )


def from_truth(
    sandbox: RunningSandbox, instrument: Instrument, timeframe: Timeframe, first: datetime, now: datetime
) -> pl.DataFrame:
    """Timestamps and prices of the `timeframe` bars made from all 5m bars of the sandbox since the open `first`."""
    at = int(now.timestamp())
    bars = sandbox.handle.market.bars(instrument, 5, int(first.timestamp()), at, at, 1_000_000)
    opens = np.array(
        [opened for opened, _ in sandbox.handle.market.sessions(instrument, int(first.timestamp()), at, at)]
    )
    opened = opens[np.searchsorted(opens, bars.ts, side="right") - 1]
    seconds = timeframe.minutes * 60
    frame = pl.DataFrame(
        {"ts": opened + (bars.ts - opened) // seconds * seconds, **{name: getattr(bars, name) for name in PRICES}}
    )
    return frame.group_by("ts", maintain_order=True).agg(
        pl.col("open").first(), pl.col("high").max(), pl.col("low").min(), pl.col("close").last()
    ).with_columns((pl.col("ts") * 1_000_000).cast(pl.Datetime("us", "UTC")))  # fmt: skip


@pytest.mark.broad
@pytest.mark.usefixtures("no_pace")
@pytest.mark.parametrize("provider", PROVIDERS)
def test_all_timeframes_have_converged_after_the_first_load(database: Database, provider: str) -> None:
    declared = registry.PROVIDERS[provider]
    instruments = tuple(
        each for each in SAMPLE if declared.has("crypto" if each.is_crypto else "stocks", each.calendar)
    )
    watched = Watchlist(instruments, DEFAULT.history_days, **CORE)
    # Clients of vendors use the system clock.
    now = datetime.now(UTC)
    with running_sandbox(instruments, 7, clock=lambda: now) as sandbox:
        load(database, watched, settings_of(sandbox, provider), now)
        assert warming_up(database) == []
        counts = rows_of(database, "SELECT symbol, timeframe, max(bar_number) FROM market.ema_signals GROUP BY 1, 2")
        assert len(counts) == len(instruments) * len(ORDER)
        assert min(count for *_, count in counts) >= CONVERGED_AFTER_BARS
        for instrument in instruments:
            stored = tables_of(database)["ohlc"].filter(symbol=instrument.symbol, timeframe="4h")
            # Yahoo's first day of 5m bars begins one hour late.
            stored = stored.filter((pl.col("missing_bars") == 0) | (pl.int_range(pl.len()) > 0))
            expected = from_truth(sandbox, instrument, H4, stored["ts"][0], now)
            assert stored.select("ts", *PRICES).equals(expected.join(stored, on="ts", how="semi"))
            assert stored.height in (expected.height, expected.height - 1)


@pytest.mark.broad
@pytest.mark.usefixtures("no_pace")
@pytest.mark.parametrize("provider", ["binance", "coinbase"])
def test_pairs_have_enough_4h_bars_even_when_their_5m_bars_do_not_reach_back_far_enough(
    database: Database, provider: str
) -> None:
    (pair,) = (each for each in SAMPLE if each.is_crypto)
    watched = Watchlist((pair,), {**DEFAULT.history_days, M5: 10}, **CORE)
    now = datetime.now(UTC)
    with running_sandbox([pair], 7, clock=lambda: now) as sandbox:
        load(database, watched, settings_of(sandbox, provider), now)
        stored = tables_of(database)["ohlc"].filter(timeframe="4h")
        assert stored.height >= CONVERGED_AFTER_BARS
        expected = from_truth(sandbox, pair, H4, stored["ts"][0], now)
        assert stored.select("ts", *PRICES).equals(expected.join(stored, on="ts", how="semi"))


def test_the_default_depth_equals_that_of_the_fetched_timeframes() -> None:
    assert DEFAULT.history_days == {each: each.fetched.history_days for each in FETCHED}
    assert len(DEFAULT.symbols) == 100
    assert {each.calendar for each in SAMPLE} == set(DEFAULT.calendars)
    assert timedelta(days=DEFAULT.history_days[M5]) < timedelta(days=90)
