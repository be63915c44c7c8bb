"""How many series of each asset are stale, by the ledger and the clock."""

from datetime import timedelta

from ema_assets.providers.declaration import Publication
from ema_assets.refresh.plan import Publications, closed_bars
from ema_assets.reports import status
from ema_assets.store import ledger
from ema_assets.store.database import Database
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, refresh, utc, watch
from ema_assets_tests.timeframes import FEW, M5


def test_a_series_that_is_stale_for_several_reasons_is_counted_once(database: Database) -> None:
    calendars = {"AAPL": "XNYS", "MSFT": "XNYS"}
    watched = watch(calendars, m5_days=3, d1_days=60, timeframes=FEW)
    days = (utc("2026-11-18").date(), utc("2026-11-20").date())
    source = MemoryExchange(*(bars_on("XNYS", symbol, M5, *days) for symbol in calendars))
    refresh(database, watched, source, utc("2026-11-20 15:00:30"))
    now = utc("2026-11-20 15:20:30")
    # Bars are asked for once more ten minutes after their close.
    publications: Publications = {None: Publication(settling={"5m": (timedelta(minutes=10),)})}
    with database.transaction() as transaction:
        transaction.execute(
            """
            INSERT INTO market.bar_gap (symbol, timeframe, first_ts, last_ts, bars, status, next_attempt_at, found_at)
            VALUES ('AAPL', '5m', $1, $1, 1, 'open', $1, $1)
            """,
            utc("2026-11-20 14:30"),
        )
        transaction.execute(
            "UPDATE market.series_state SET asked_at = $1 WHERE asset = 'ohlc'", utc("2026-11-20 15:00")
        )
        stale = ledger.stale(transaction, closed_bars(transaction, now, publications), now)
        found = status.by_asset(transaction, now, publications)
    reasons = stale.filter(asset="ohlc", timeframe="5m").group_by("symbol").agg("reason").sort("symbol")
    assert {symbol: sorted(why) for symbol, why in reasons.iter_rows()} == {
        "AAPL": ["bar closed", "bars missing", "to be confirmed"],
        "MSFT": ["bar closed", "to be confirmed"],
    }
    assert {(each.series, each.stale) for each in found if (each.asset, each.timeframe) == ("ohlc", "5m")} == {(2, 2)}
