"""How far a provider is complete and when its bars are final: each series follows what its provider states."""

from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ema_assets import read
from ema_assets.model.errors import ConfigurationError
from ema_assets.model.symbols import Instrument
from ema_assets.providers.declaration import Publication
from ema_assets.providers.fetching.base import BarRequest
from ema_assets.refresh.delays import Delays
from ema_assets.refresh.plan import closed_bars
from ema_assets.refresh.plan_requests import FetchRules
from ema_assets.reports import health, status
from ema_assets.store.database import Database
from ema_assets_tests.conftest import empty, heavy
from ema_assets_tests.refresh.exchange import bars_on, rows_of, state_of, utc, watch
from ema_assets_tests.refresh.life import Life, LivingExchange
from ema_assets_tests.timeframes import D1, FETCHED, H1, M5, ORDER

WEEKS = (date(2026, 11, 2), date(2026, 11, 27))
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
DAYS = dict(zip(FETCHED, (3, 60), strict=True))
LATE_DAY = Publication(timedelta(seconds=3), {"1d": (timedelta(minutes=20), timedelta(hours=4))})


def frames(calendar: str, symbol: str) -> list[pl.DataFrame]:
    return [bars_on(calendar, symbol, timeframe, *WEEKS, seed) for seed, timeframe in enumerate(FETCHED)]


def close_of(database: Database, ts: object, timeframe: str) -> float:
    ((close,),) = rows_of(
        database, "SELECT close FROM market.ohlc WHERE ts = $1::timestamptz AND timeframe = $2", ts, timeframe
    )
    return float(close)


@pytest.mark.broad
@pytest.mark.parametrize(
    ("lag", "says_how_far", "publication"),
    [
        pytest.param(15, True, Publication(timedelta(seconds=3)), id="the vendor says that it is behind"),
        pytest.param(20, False, Publication(timedelta(minutes=20)), id="all bars of the provider come that late"),
        pytest.param(20, True, Publication(timedelta(minutes=20)), id="both"),
    ],
)
def test_a_delayed_exchange_gets_one_request_per_bar_and_none_of_its_bars_changes(
    database: Database, lag: int, says_how_far: bool, publication: Publication
) -> None:
    start = utc("2026-11-25 09:50")
    exchange = LivingExchange(*frames("XLON", "AZN.L"), lag=timedelta(minutes=lag), says_how_far=says_how_far)
    life = Life(database, watch({"AZN.L": "XLON"}), exchange, FetchRules(DAYS, {None: publication}), start)
    life.runs.clear()
    life.live(start + MINUTE, start + timedelta(minutes=35), MINUTE)
    assert [calls for _, calls in life.runs if calls == 0] == []
    # 7 bars of 5m close in that time.
    assert 6 <= len(life.runs) <= 8
    assert rows_of(database, "SELECT count(*) FROM market.bar_correction") == [(0,)]
    assert rows_of(database, "SELECT count(*) FROM market.bar_gap") == [(0,)]
    newest = state_of(database, "AZN.L", M5)["last_ts"]
    assert newest == start + timedelta(minutes=35 - lag - 5)
    # The hour that the vendor has completed meanwhile is stored. The next hour is not.
    assert state_of(database, "AZN.L", H1)["last_ts"] == utc("2026-11-25 09:00")


@pytest.mark.broad
def test_the_delay_of_a_vendor_is_stored_and_cleared_when_the_vendor_catches_up(database: Database) -> None:
    def delay() -> int:
        return int(rows_of(database, "SELECT delay_seconds FROM market.instrument")[0][0])

    start = utc("2026-11-25 10:00")
    exchange = LivingExchange(*frames("XLON", "AZN.L"), lag=timedelta(minutes=15))
    life = Life(database, watch({"AZN.L": "XLON"}), exchange, FetchRules(DAYS), start)
    assert delay() == 15 * 60
    assert state_of(database, "AZN.L", M5)["checked_through"] == start - timedelta(minutes=15)
    assert not life.sweep(start + timedelta(minutes=4))
    assert life.sweep(start + timedelta(minutes=5))
    exchange.lag = timedelta(0)
    assert life.sweep(start + timedelta(minutes=10))
    assert delay() == 0
    # Without the delay, the last three bars are due at once.
    assert life.sweep(start + timedelta(minutes=10))
    assert state_of(database, "AZN.L", M5)["checked_through"] == start + timedelta(minutes=10)


@pytest.mark.parametrize(
    ("known_minutes", "said_seconds", "learned"),
    [
        (0, 0, {}),
        (0, -20, {}),
        (0, 1, {"AZN.L": 60}),
        (15, 15 * 60, {}),
        (15, 15 * 60 + 1, {"AZN.L": 16 * 60}),
        (15, 12 * 60, {}),
        (15, 11 * 60, {"AZN.L": 11 * 60}),
        (2, 0, {"AZN.L": 0}),
        (15, None, {}),
    ],
)
def test_a_delay_is_learned_when_it_grows_ends_or_shrinks_by_more_than_trades_may_be_apart(
    known_minutes: int, said_seconds: int | None, learned: dict[str, int]
) -> None:
    now = utc("2026-11-25 10:00")
    request = BarRequest(Instrument("AZN.L", "XLON"), M5, now - DAY, now)
    delays = Delays(now)
    delays.know(pl.DataFrame({"symbol": ["AZN.L"], "delay_seconds": [60 * known_minutes]}))
    if said_seconds is not None:
        delays.hear({request: now - timedelta(seconds=said_seconds)})
    assert delays.learned([request]) == learned
    late = 60 * known_minutes if said_seconds is None else said_seconds
    assert delays.complete_through(request) == now - timedelta(seconds=late)


@pytest.mark.broad
def test_a_daily_bar_is_requested_again_until_it_is_final_and_its_signals_follow(database: Database) -> None:
    """Observed at a vendor: 96.73 at the close, 97.09 after the auction."""
    close = utc("2026-11-25 21:00")
    days, opened = frames("XNYS", "AAPL"), utc("2026-11-25 14:30")
    exchange = LivingExchange(*days)
    (final,) = exchange.bars.filter(pl.col("timeframe") == "1d", pl.col("ts") == opened)["close"]
    preliminary = days[1].filter(pl.col("ts") == opened).with_columns(close=pl.col("close") * 0.999)
    exchange.until = [(close + timedelta(minutes=15), preliminary)]
    life = Life(
        database, watch({"AAPL": "XNYS"}), exchange, FetchRules(DAYS, {None: LATE_DAY}), close - timedelta(hours=1)
    )
    exchange.asked.clear()

    life.live(close + timedelta(seconds=5), close + timedelta(minutes=19), MINUTE)
    assert close_of(database, opened, "1d") == preliminary["close"][0]
    assert state_of(database, "AAPL", D1)["final_through"] < close
    life.live(close + timedelta(minutes=20), close + timedelta(minutes=25), MINUTE)
    assert close_of(database, opened, "1d") == final
    assert state_of(database, "AAPL", D1)["final_through"] < close
    life.live(close + timedelta(hours=4), close + timedelta(hours=12), 10 * MINUTE)
    assert state_of(database, "AAPL", D1)["final_through"] == close
    asked = [each for each in exchange.asked if each.timeframe is D1]
    assert len(asked) == 3
    assert rows_of(database, "SELECT count(*) FROM market.bar_correction WHERE timeframe = '1d'") == [(1,)]
    signals = rows_of(
        database,
        """SELECT o.close FROM market.ema_signals s JOIN market.ohlc o USING (symbol, timeframe, ts)
           WHERE s.timeframe = '1d' AND s.ts = $1""",
        opened,
    )
    assert signals == [(final,)]


@pytest.fixture(scope="module")
def kept(module_database: Database) -> Database:
    return module_database


@pytest.mark.broad
@heavy()
@given(days_ago=st.integers(0, 9), bar=st.integers(0, 77), hours=st.floats(0.6, 3.9))
def test_a_correction_within_the_last_sessions_is_detected_in_the_following_night(
    kept: Database, days_ago: int, bar: int, hours: float
) -> None:
    empty(kept)
    close = utc("2026-11-24 21:00")
    exchange = LivingExchange(*frames("XNYS", "AAPL"))
    rules = FetchRules(dict(zip(FETCHED, (20, 60), strict=True)), {None: Publication(reread_after=timedelta(hours=5))})
    life = Life(kept, watch({"AAPL": "XNYS"}), exchange, rules, close)
    bars = exchange.bars.filter(pl.col("timeframe") == "5m", pl.col("ts") < close)
    sessions = bars["ts"].dt.date().unique().sort()
    wrong = bars.filter(pl.col("ts").dt.date() == sessions[-1 - days_ago])[bar : bar + 1]
    exchange.correct(wrong.with_columns(pl.col("close", "low") * 0.9))
    life.live(close + timedelta(hours=hours), close + timedelta(hours=12), timedelta(minutes=30))
    assert close_of(kept, wrong["ts"][0], "5m") == pytest.approx(wrong["close"][0] * 0.9)
    # Once per night: one request for each fetched timeframe.
    assert [calls for _, calls in life.runs[1:]] == [2]


@pytest.mark.broad
def test_a_silent_symbol_is_reported_requested_once_per_day_and_resumed_with_its_next_bar(database: Database) -> None:
    """An exchange delists a coin and then answers with no bars."""
    end, later = utc("2026-11-10 12:00"), utc("2026-11-20 06:00")
    both = [*frames("24/7", "BTC-USD"), *frames("24/7", "XMR-USD")]
    exchange = LivingExchange(*both)
    alive = exchange.bars
    exchange.bars = alive.filter((pl.col("symbol") == "BTC-USD") | (pl.col("ts") < end))
    life = Life(database, watch({"BTC-USD": "24/7", "XMR-USD": "24/7"}), exchange, FetchRules(DAYS), end)
    days = []
    for day in range(1, 6):
        life.live(end + timedelta(days=day), end + timedelta(days=day, hours=2), timedelta(hours=1))
        with database.transaction() as transaction:
            days.append(status.silent(transaction))
    said = "XMR-USD: no bar since 2026-11-10; it has ended, was renamed or is halted, and is requested once per day"
    assert days == [[], [], [], [said], [said]]
    screened = rows_of(database, "SELECT symbol, silent_since FROM results.screener WHERE timeframe = '1h' ORDER BY 1")
    assert screened == [("BTC-USD", None), ("XMR-USD", utc("2026-11-10 00:00"))]
    with database.transaction() as transaction:
        late = health.late_series(transaction, closed_bars(transaction, end + timedelta(days=5, hours=2)))
    assert [row for row in late.select("symbol", "timeframe").rows() if row[0] == "BTC-USD"] == []
    assert late.filter(pl.col("symbol") == "XMR-USD")["timeframe"].to_list() == ["1d", "5m"]

    asked = [each for each in exchange.asked if each.instrument.symbol == "XMR-USD" and each.end > end + 4 * DAY]
    assert len(asked) <= 6
    exchange.bars = alive
    life.sweep(later)
    life.sweep(later)
    with database.transaction() as transaction:
        assert status.silent(transaction) == []
    assert state_of(database, "XMR-USD", M5)["checked_through"] == later


@pytest.mark.broad
def test_a_symbol_whose_daily_bars_alone_are_missing_is_not_silent(database: Database) -> None:
    """The provider publishes no daily bars for a week, but its 5m bars arrive on time."""
    end, later = utc("2026-11-10 12:00"), utc("2026-11-16 12:00")
    exchange = LivingExchange(*frames("24/7", "BTC-USD"))
    exchange.bars = exchange.bars.filter((pl.col("timeframe") != "1d") | (pl.col("ts") < end))
    life = Life(database, watch({"BTC-USD": "24/7"}), exchange, FetchRules(DAYS), end)
    for day in range(1, 7):
        life.sweep(end + timedelta(days=day))
    assert state_of(database, "BTC-USD", D1)["last_ts"] == utc("2026-11-10 00:00")
    with database.transaction() as transaction:
        assert status.silent(transaction) == []
    life.sweep(later + timedelta(minutes=5))
    assert state_of(database, "BTC-USD", M5)["checked_through"] == later + timedelta(minutes=5)


@pytest.mark.broad
def test_a_silent_symbol_resumes_with_its_first_bar_of_any_timeframe(database: Database) -> None:
    """The 5m bars resume while the daily bars are still missing."""
    end, later = utc("2026-11-10 12:00"), utc("2026-11-20 06:00")
    exchange = LivingExchange(*frames("24/7", "BTC-USD"))
    alive = exchange.bars
    exchange.bars = alive.filter(pl.col("ts") < end)
    life = Life(database, watch({"BTC-USD": "24/7"}), exchange, FetchRules(DAYS), end)
    for day in range(1, 6):
        life.sweep(end + timedelta(days=day))
    with database.transaction() as transaction:
        assert len(status.silent(transaction)) == 1
    exchange.bars = alive.filter((pl.col("timeframe") != "1d") | (pl.col("ts") < end))
    life.sweep(later)
    with database.transaction() as transaction:
        assert status.silent(transaction) == []
    life.sweep(later + timedelta(minutes=5))
    assert state_of(database, "BTC-USD", M5)["checked_through"] == later + timedelta(minutes=5)


def test_the_screener_marks_rows_whose_newest_bar_is_not_final(database: Database) -> None:
    close = utc("2026-11-25 21:00")
    late = Publication(timedelta(seconds=3), {"5m": (timedelta(minutes=15),), "1d": (timedelta(hours=4),)})
    life = Life(
        database,
        watch({"AAPL": "XNYS"}, timeframes=ORDER),
        LivingExchange(*frames("XNYS", "AAPL")),
        FetchRules(DAYS, {None: late}),
        close + timedelta(seconds=5),
    )

    def preliminary() -> set[str]:
        return {frame for (frame,) in rows_of(database, "SELECT timeframe FROM results.screener WHERE is_preliminary")}

    def by_view() -> dict[str, list[tuple[str, str]]]:
        """The bars that are not final, by view and by `read` function. All of them must agree."""
        found: dict[str, list[tuple[str, str]]] = {}
        for view in ("bars", "signals"):
            sql = f"SELECT timeframe, ts FROM results.{view} WHERE is_preliminary ORDER BY 1, 2"
            found[view] = [(key, f"{ts:%H:%M}") for key, ts in rows_of(database, sql)]
        for name, ask in (("read.bars", read.bars), ("read.trends", read.trends)):
            found[name] = sorted(
                (each.key, f"{ts:%H:%M}")
                for each in ORDER
                for (ts,) in ask(each.key, finality=True, url=database.url)
                .filter("is_preliminary")
                .select("ts")
                .iter_rows()
            )
        with pytest.raises(ConfigurationError, match="what was final then is not known"):
            read.bars("5m", finality=True, as_of=close, url=database.url)
        assert found["bars"] == found["signals"] == found["read.bars"] == found["read.trends"]
        return found

    # In 5m, the bars of the last quarter of an hour. In the others, the last bar, which ends with the session.
    newest = [("15m", "20:45"), ("1d", "14:30"), ("1h", "20:30"), ("30m", "20:30"), ("4h", "18:30")]
    assert by_view()["bars"] == sorted([*newest, ("5m", "20:45"), ("5m", "20:50"), ("5m", "20:55")])
    for each in ORDER:
        trades = read.trades(each.key, finality=True, url=database.url)
        shown = rows_of(
            database,
            "SELECT symbol, entry_ts FROM results.trades WHERE timeframe = $1 AND is_preliminary ORDER BY 1, 2",
            each.key,
        )
        # The finality of a trade is that of its newest bar. For an open trade this is the last bar of the series.
        assert trades.filter("is_preliminary").select("symbol", "entry_ts").rows() == shown
        assert trades.filter(status="open")["is_preliminary"].all()
    assert preliminary() == {"5m", "15m", "30m", "1h", "4h", "1d"}
    life.sweep(close + timedelta(minutes=16))
    assert preliminary() == {"1d"}
    assert by_view()["bars"] == [("1d", "14:30")]
    life.sweep(close + timedelta(hours=4, minutes=1))
    assert preliminary() == set()
    assert by_view()["bars"] == []
