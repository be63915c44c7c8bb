"""Tests of the public module `read`: what is stored, and what was known at a given time."""

from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from ema_assets import read
from ema_assets.config.watchlist import load
from ema_assets.model.asset_names import CHAIN, OHLC, STRATEGY
from ema_assets.model.errors import ConfigurationError, InvalidKeyError, StoreUnavailable
from ema_assets.model.schemas import ACTION_SCHEMA
from ema_assets.operations.ingest import store_file
from ema_assets.refresh.graph import build
from ema_assets.store import action_facts
from ema_assets.store.database import Database
from ema_assets_tests.core import CORE_TEXT
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, moved, refresh, tables_of, utc, watch
from ema_assets_tests.timeframes import D1, M5, MO1, ORDER, W1

READERS: dict[str, Callable[..., pl.DataFrame]] = dict(
    zip(CHAIN, (read.bars, read.signals, read.trends, read.trades), strict=True)
)
WEEK = (date(2026, 11, 23), date(2026, 11, 27))
# A week has too few bars for a crossover.
WITHOUT_TRADES = [(STRATEGY, "4h"), (STRATEGY, "1d")]
WATCHED = watch({"AAPL": "XNYS", "BTC-USD": "24/7"}, timeframes=ORDER)


@pytest.fixture(autouse=True)
def _is_read_by_the_watchlist_that_is_refreshed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "watchlist.toml"
    path.write_text(f'{CORE_TEXT}\n[[group]]\nsymbols = ["AAPL"]\n')
    monkeypatch.setenv("EMA_WATCHLIST", str(path))


def exchange() -> MemoryExchange:
    return MemoryExchange(
        *(
            bars_on(calendar, symbol, timeframe, *WEEK, seed=number)
            for number, (symbol, calendar) in enumerate([("AAPL", "XNYS"), ("BTC-USD", "24/7")])
            for timeframe in (M5, D1)
        )
    )


def clock(database: Database) -> datetime:
    with database.transaction() as transaction:
        moment = transaction.query("SELECT clock_timestamp() AS now").item()
    assert isinstance(moment, datetime)
    return moment


def everything(database: Database, as_of: datetime | None = None) -> dict[tuple[str, str], pl.DataFrame]:
    return {
        (asset, timeframe.key): READERS[asset](timeframe.key, as_of=as_of, url=database.url)
        for asset in CHAIN
        for timeframe in ORDER
    }


def test_read_returns_what_is_stored(database: Database) -> None:
    refresh(database, WATCHED, exchange(), utc("2026-11-27 12:00"))
    stored = tables_of(database)
    for (asset, timeframe), rows in everything(database).items():
        expected = stored[asset].filter(timeframe=timeframe).select(rows.columns)
        assert rows.equals(expected), (asset, timeframe)
        assert rows.height > 0 or (asset, timeframe) in WITHOUT_TRADES


@pytest.mark.broad
def test_what_was_known_at_a_given_time_can_be_read_later(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """More bars, a late bar, two corrections of one bar and a split are all undone.

    The 264 reads share one connection, because opening a connection takes longer than a read.
    """
    monkeypatch.setattr(read, "database_of", lambda _url: nullcontext(database))
    source = exchange()
    hidden = source.bars.filter(pl.col("ts") == utc("2026-11-24 16:00"))
    source.bars = source.bars.filter(pl.col("ts") != utc("2026-11-24 16:00"))
    known: list[tuple[datetime, dict[tuple[str, str], pl.DataFrame]]] = []

    def happened(now: str) -> None:
        store_file(database, source.bars.filter(pl.col("ts") < utc(now)), "a file", utc(now))
        refresh(database, WATCHED, source, utc(now))
        known.append((clock(database), everything(database)))

    refresh(database, WATCHED, source, utc("2026-11-25 12:00"))
    happened("2026-11-25 16:00")
    source.correct(hidden)
    happened("2026-11-25 16:30")
    for factor in (1.02, 0.99):
        source.correct(moved(source.bars.filter(pl.col("ts") == utc("2026-11-24 15:30")), factor))
        happened("2026-11-25 17:00")
    source.bars = moved(source.bars, 0.5)
    happened("2026-11-27 12:00")
    assert len({rows[OHLC, "1h"].hash_rows().sum() for _, rows in known}) == len(known)
    for moment, rows in known:
        for (asset, timeframe), then in everything(database, moment).items():
            assert then.equals(rows[asset, timeframe]), (moment, asset, timeframe)
    before_all = datetime(2020, 1, 1, tzinfo=UTC)
    with pytest.warns(UserWarning, match="nothing was known at 2020-01-01 00:00 UTC"):
        assert all(rows.is_empty() for rows in everything(database, before_all).values())


@pytest.mark.broad
def test_the_documented_query_returns_what_was_known(database: Database) -> None:
    source = exchange()
    refresh(database, WATCHED, source, utc("2026-11-25 16:00"))
    before = clock(database)
    old = source.bars.filter(symbol="AAPL", timeframe="5m", ts=utc("2026-11-25 15:50"))
    source.correct(moved(old, 1.01))
    refresh(database, WATCHED, source, utc("2026-11-25 16:05"))
    query = "SELECT close FROM market.ohlc_as_of($1) WHERE symbol = 'AAPL' AND timeframe = '5m' AND ts = $2"
    with database.transaction() as transaction:
        then = transaction.query(query, before, utc("2026-11-25 15:50")).item()
        now = transaction.query(query, clock(database), utc("2026-11-25 15:50")).item()
        plan = transaction.query(f"EXPLAIN {query}", before, utc("2026-11-25 15:50"))
    assert then == old["close"].item()
    assert now == then * 1.01
    # The function is inlined, so the filter uses the index and other timeframes are not read.
    text = "\n".join(plan.to_series().to_list())
    assert "ohlc_5m_pkey" in text
    assert "ohlc_1d" not in text


@pytest.mark.broad
@pytest.mark.parametrize("reader", READERS.values())
def test_a_moment_before_anything_was_stored_gives_no_rows_and_a_warning(
    reader: Callable[..., pl.DataFrame], database: Database
) -> None:
    before = clock(database)
    refresh(database, WATCHED, exchange(), utc("2026-11-27 12:00"))
    with pytest.warns(UserWarning, match="the first of these bars was stored at 20") as warned:
        assert reader("1h", ["AAPL"], as_of=before, url=database.url).is_empty()
    assert warned[0].filename == __file__
    # Without a trade there is nothing to warn of.
    assert reader("4h", ["AAPL"], as_of=clock(database), url=database.url).is_empty() == (reader is read.trades)


def test_symbols_and_times_limit_what_is_read(database: Database) -> None:
    refresh(database, WATCHED, exchange(), utc("2026-11-27 12:00"))
    found = read.bars("1h", ["AAPL"], "2026-11-24 15:30", datetime(2026, 11, 24, 17, 30, tzinfo=UTC), url=database.url)
    assert found["ts"].to_list() == [utc("2026-11-24 15:30"), utc("2026-11-24 16:30")]
    later = clock(database) + timedelta(seconds=1)
    assert read.bars("1h", ["AAPL"], "2026-11-24 15:30", "2026-11-24 17:30", as_of=later, url=database.url).equals(
        found
    )
    assert read.bars("5m", [], url=database.url).is_empty()
    assert set(read.trends("4h", url=database.url)["symbol"]) == {"AAPL", "BTC-USD"}


@pytest.mark.broad
def test_symbols_may_be_in_lower_case_and_times_may_be_those_of_numpy_and_pandas(database: Database) -> None:
    refresh(database, WATCHED, exchange(), utc("2026-11-27 12:00"))
    start, end = "2026-11-24 15:30", "2026-11-24 17:30"
    expected = read.bars("1h", ["AAPL"], start, end, url=database.url)
    assert expected.height == 2
    for turned in (
        np.datetime64,
        pd.Timestamp,
        lambda text: pd.Timestamp(text, tz="UTC").tz_convert("Asia/Tokyo"),
        lambda text: pd.DatetimeIndex([text])[0],
        lambda text: pd.Series([text]).astype("datetime64[ns]").to_numpy()[0],
    ):
        assert read.bars("1h", ["aapl", "AAPL"], turned(start), turned(end), url=database.url).equals(expected)
    assert read.bars(
        "1h", pd.Series(["aapl"]), np.datetime64("2026-11-24"), np.datetime64("2026-11-25"), url=database.url
    ).equals(read.bars("1h", ["AAPL"], "2026-11-24", "2026-11-25", url=database.url))
    later = clock(database) + timedelta(seconds=1)
    assert set(read.trades("5m", url=database.url)["symbol"]) == {"AAPL", "BTC-USD"}
    assert set(read.trades("5m", ["aapl"], as_of=pd.Timestamp(later), url=database.url)["symbol"]) == {"AAPL"}
    assert set(read.screener("1h", ["aapl"], url=database.url)["symbol"]) == {"AAPL"}
    assert set(next(read.pages("ohlc", "1h", ["btc-usd"], url=database.url))["symbol"]) == {"BTC-USD"}
    assert len(read.chart("aapl", "1h", url=database.url).axes) > 0
    fact = pl.DataFrame(
        [("AAPL", "split", utc("2026-11-24 14:30"), 7.0, None, None)], schema=ACTION_SCHEMA, orient="row"
    )
    with database.transaction() as transaction:
        action_facts.record(transaction, fact, "mine")
    assert read.actions(["aapl", "elsewhere"], url=database.url)["symbol"].to_list() == ["AAPL"]
    with pytest.raises(
        ConfigurationError, match=r"received 'appl'; `ema-assets symbols add` adds one; did you mean `AAPL`"
    ):
        read.bars("1h", ["aapl", "appl"], url=database.url)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"timeframe": "60m"}, InvalidKeyError, "`timeframe` must be one of 1m, 3m, 5m, .* received '60m'"),
        ({"symbols": "AAPL"}, ConfigurationError, r"`symbols` must be a list such as \[\"AAPL\"\], received 'AAPL'"),
        ({"symbols": ["A|B"]}, InvalidKeyError, "`symbol` must be"),
        ({"start": "yesterday"}, ConfigurationError, "`start` must be a time such as .* received 'yesterday'"),
        ({"end": datetime(2026, 11, 1)}, ConfigurationError, "`end` must be a datetime with a zone"),
        ({"as_of": "15:05"}, ConfigurationError, "`as_of` must be a time"),
        ({"end": pd.NaT}, ConfigurationError, "`end` must be a time such as .* received NaT"),
        ({"end": np.datetime64("NaT")}, ConfigurationError, "`end` must be a time such as .*NaT"),
        ({"end": 5}, ConfigurationError, "`end` must be a time such as .* received 5"),
        ({"symbols": 5}, ConfigurationError, r"`symbols` must be a list such as \[\"AAPL\"\], received 5"),
        ({"symbols": [None, "AAPL|"]}, InvalidKeyError, "`symbol` must be"),
    ],
)
def test_invalid_arguments_are_named(arguments: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read.bars(**{"timeframe": "5m", "url": "postgresql://nobody@127.0.0.1:1/none", **arguments})  # type: ignore[arg-type]


def test_a_timeframe_that_was_never_on_the_watchlist_is_refused(database: Database) -> None:
    refresh(database, WATCHED, exchange(), utc("2026-11-24 16:00"))
    sentence = "`timeframe` must be one that the watchlist has or had, 5m, 15m, 30m, 1h, 4h, 1d, received '2h'"
    for call in (read.bars, read.trends, lambda frame, url: next(read.pages("ohlc", frame, url=url))):
        with pytest.raises(ConfigurationError) as caught:
            call("2h", url=database.url)
        assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"asset": "olhc"}, "`asset` must be one of .*, received 'olhc'"),
        ({"timeframe": "5x"}, "received '5x'"),
        ({"rows": 0}, "`rows` must be at least 1, received 0"),
    ],
)
def test_wrong_arguments_of_pages_are_refused_before_a_page_is_read(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read.pages(**{"asset": "ohlc", "timeframe": "5m", **arguments})  # type: ignore[arg-type]


def test_the_error_for_an_unreachable_database_names_it() -> None:
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1/none"):
        read.trades("5m", url="postgresql://nobody:secret@127.0.0.1:1/none")


@pytest.mark.broad
def test_bars_can_be_read_unadjusted_and_adjusted_for_dividends(database: Database) -> None:
    refresh(database, WATCHED, exchange(), utc("2026-11-27 12:00"))
    split_at, paid_at, later = utc("2026-11-24 14:30"), utc("2026-11-25 14:30"), utc("2026-12-01 14:30")
    rows = [
        ("AAPL", "split", split_at, 4.0, None, None),
        ("AAPL", "dividend", paid_at, None, 1.5, None),
        ("AAPL", "split", later, 10.0, None, None),
        ("AAPL", "dividend", later, None, 9.0, None),
    ]
    with database.transaction() as transaction:
        action_facts.record(transaction, pl.DataFrame(rows, schema=ACTION_SCHEMA, orient="row"), "mine.csv")
    assert read.actions(["AAPL"], url=database.url).height == 4
    for timeframe in ("5m", "1h", "1d"):
        stored = read.bars(timeframe, ["AAPL"], url=database.url)
        assert stored.equals(read.bars(timeframe, ["AAPL"], adjust="splits", url=database.url))
        old = pl.col("ts") < split_at
        traded = read.bars(timeframe, ["AAPL"], adjust="none", url=database.url)
        for name, factor in (("open", 4.0), ("close", 4.0), ("volume", 0.25)):
            expected = stored.select(pl.when(old).then(pl.col(name) * factor).otherwise(name)).to_series()
            assert traded[name].to_list() == expected.to_list(), (timeframe, name)
        before = stored.filter(pl.col("ts") < paid_at)["close"][-1]
        held = read.bars(timeframe, adjust="all", url=database.url).filter(symbol="AAPL")
        expected = stored.select(
            pl.when(pl.col("ts") < paid_at).then(pl.col("close") * (1 - 1.5 / before)).otherwise("close")
        ).to_series()
        assert held["close"].to_list() == expected.to_list(), timeframe
    part = read.bars("1d", ["AAPL"], "2026-11-23", "2026-11-24", adjust="none", url=database.url)
    assert part["close"].to_list() == [read.bars("1d", ["AAPL"], url=database.url)["close"][0] * 4]
    other = read.bars("1d", ["BTC-USD"], url=database.url)
    assert read.bars("1d", ["BTC-USD"], adjust="all", url=database.url).equals(other)


@pytest.mark.broad
@pytest.mark.parametrize("told_at", ["2026-11-25 00:00", "2026-11-25 14:30", "2026-11-25 09:00"])
def test_bars_before_the_open_of_an_ex_date_already_trade_without_the_dividend(
    database: Database, told_at: str
) -> None:
    """The source may date the dividend at midnight, at the regular open or at the first trade of the day."""
    now, opened = utc("2026-11-27 02:00"), utc("2026-11-25 09:00")
    bars = pl.concat(
        bars_on("XNYS extended", "AAPL", timeframe, date(2026, 11, 23), date(2026, 11, 25)) for timeframe in (M5, D1)
    )
    refresh(database, watch({"AAPL": "XNYS extended"}, m5_days=5, d1_days=10), MemoryExchange(bars), now)
    row = ("AAPL", "dividend", utc(told_at), None, 1.5, None)
    with database.transaction() as transaction:
        action_facts.record(transaction, pl.DataFrame([row], schema=ACTION_SCHEMA, orient="row"), "mine.csv")
    for timeframe in ("5m", "1h", "1d"):
        stored = read.bars(timeframe, ["AAPL"], url=database.url)
        before = stored.filter(pl.col("ts") < opened)["close"][-1]
        held = read.bars(timeframe, ["AAPL"], adjust="all", url=database.url)
        factor = pl.when(pl.col("ts") < opened).then(1 - 1.5 / before).otherwise(1.0)
        expected = stored.select(pl.col("close") * factor).to_series()
        assert held["close"].to_list() == expected.to_list(), timeframe


def test_a_week_or_month_with_a_corporate_action_agrees_with_its_days(database: Database) -> None:
    """Its open is from before the action and its close from after it. A dividend scales the bars before its ex-date."""
    is_unknown = pl.col("ts").is_between(utc("2026-11-23 00:00"), utc("2026-11-28 00:00"))
    days = bars_on("XNYS", "AAPL", D1, date(2026, 10, 1), date(2026, 12, 1), seed=1).with_columns(
        volume=pl.when(~is_unknown).then("volume")
    )
    watched = watch({"AAPL": "XNYS"}, d1_days=90, timeframes=(D1, W1, MO1))
    refresh(database, watched, MemoryExchange(days), utc("2026-12-02 12:00"))
    rows = [
        ("AAPL", "split", utc("2026-11-24 14:30"), 4.0, None, None),
        ("AAPL", "dividend", utc("2026-11-25 14:30"), None, 1.5, None),
    ]
    with database.transaction() as transaction:
        action_facts.record(transaction, pl.DataFrame(rows, schema=ACTION_SCHEMA, orient="row"), "mine.csv")
    for adjust in ("none", "all"):
        days = read.bars("1d", ["AAPL"], adjust=adjust, ends=True, url=database.url)
        for timeframe in ("1w", "1M"):
            bars = read.bars(timeframe, ["AAPL"], adjust=adjust, ends=True, url=database.url)
            assert bars.height
            for bar in bars.iter_rows(named=True):
                mine = days.filter(pl.col("ts") >= bar["ts"], pl.col("ts_end") <= bar["ts_end"])
                assert (bar["open"], bar["close"]) == (mine["open"][0], mine["close"][-1]), (adjust, timeframe)
                assert (bar["high"], bar["low"]) == (mine["high"].max(), mine["low"].min())
                known = mine["volume"].drop_nulls()
                assert bar["volume"] == (pytest.approx(known.sum(), rel=1e-12) if known.len() else None), bar["ts"]
    # Without daily bars, the scale of its close applies to the whole week.
    with database.transaction() as transaction:
        transaction.execute("DELETE FROM market.ohlc WHERE timeframe = '1d'")
        transaction.execute("UPDATE market.series_state SET last_ts = NULL WHERE asset = 'ohlc' AND timeframe = '1d'")
    stored = read.bars("1w", ["AAPL"], url=database.url)
    found = read.bars("1w", ["AAPL"], adjust="none", url=database.url)
    inside = pl.col("ts") < utc("2026-11-24 14:30")
    assert found.filter(inside)["close"][-1] == stored.filter(inside)["close"][-1]


def test_an_unknown_adjustment_and_an_adjustment_with_as_of_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="`adjust` must be one of splits, all, none"):
        read.bars("1d", adjust="dividends")
    with pytest.raises(ConfigurationError, match="`adjust` must be 'splits' together with `as_of`, received 'none'"):
        read.bars("1d", adjust="none", as_of="2026-11-20 15:05")


def test_a_symbol_that_was_never_on_the_watchlist_is_refused(database: Database) -> None:
    refresh(database, WATCHED, exchange(), utc("2026-11-27 12:00"), timeframes=[M5])
    wrong = r"`symbols` must be among those that the watchlist has or had, received 'MSFT'"
    for reader in (read.bars, read.signals, read.trends, read.trades, read.screener, read.performance):
        with pytest.raises(ConfigurationError, match=wrong):
            reader("5m", ["AAPL", "MSFT"], url=database.url)
    with pytest.raises(ConfigurationError, match=wrong):
        read.bars("5m", ["MSFT"], adjust="none", url=database.url)
    with pytest.raises(ConfigurationError, match=wrong):
        next(read.pages("ohlc", "5m", ["MSFT"], url=database.url))


@pytest.mark.broad
def test_a_bar_ends_with_its_session_and_longer_timeframes_join_as_of_their_close(database: Database) -> None:
    refresh(database, WATCHED, exchange(), utc("2026-11-27 12:00"))
    url = database.url
    hours = read.trends("1h", ends=True, url=url)
    last = hours.filter(pl.col("symbol") == "AAPL", pl.col("ts") == utc("2026-11-25 20:30"))
    # The session opens at 14:30, so its seventh hour has only 30 minutes.
    assert last["ts_end"].to_list() == [utc("2026-11-25 21:00")]
    others = hours.filter(pl.col("symbol") == "BTC-USD")
    assert (others["ts_end"] - others["ts"] == timedelta(hours=1)).all()
    days = read.bars("1d", ["AAPL"], ends=True, url=url)
    assert days["ts_end"][0] == utc("2026-11-23 21:00")
    bars = read.signals("5m", names=["ema_signals", "ema_trend"], ends=True, finality=True, url=url)
    assert {"ema_9", "trend", "ts_end", "is_preliminary"} <= set(bars.columns)
    joined = bars.sort("ts_end").join_asof(
        hours.sort("ts_end").select("symbol", "ts_end", hour="ts"), on="ts_end", by="symbol", check_sortedness=False
    )
    # The first hour of AAPL's session is known at 15:30, and not one bar earlier.
    at = dict(joined.filter(symbol="AAPL").select("ts", "hour").iter_rows())
    assert at[utc("2026-11-24 15:20")] == utc("2026-11-23 20:30")
    assert at[utc("2026-11-24 15:25")] == utc("2026-11-24 14:30")
    # The same is true with `as_of` and with adjusted prices.
    moment = clock(database)
    assert read.trends("1h", as_of=moment, ends=True, url=url).equals(hours)
    assert read.bars("1d", ["AAPL"], adjust="all", ends=True, url=url).equals(days)


@pytest.mark.broad
def test_the_trades_of_all_strategies_can_be_read_at_once(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "watchlist.toml"
    path.write_text(path.read_text() + '\n[[strategy]]\nname = "all"\nrule = "crossover"\nentries = "all"\n')
    watched = load(path)
    graph = build(watched)
    refresh(database, watched, exchange(), utc("2026-11-27 12:00"), graph=graph)
    found = read.trades("5m", strategy=None, url=database.url)
    assert found.columns[:3] == ["strategy", "symbol", "entry_ts"]
    assert set(found["strategy"]) == set(graph.strategies) > {"strategy_all"}
    for (name,), rows in found.partition_by("strategy", as_dict=True, include_key=False).items():
        assert rows.equals(read.trades("5m", strategy=str(name), url=database.url))


def test_other_trades_can_be_read_with_a_warning_while_a_custom_rule_is_broken(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh(database, WATCHED, exchange(), utc("2026-11-27 12:00"), timeframes=[M5])
    expected = read.trades("5m", url=database.url)
    monkeypatch.setenv("EMA_STRATEGIES_FOLDER", str(tmp_path))
    (tmp_path / "mine.py").write_text("import nowhere\n")
    with pytest.warns(UserWarning, match=r"mine.py: line 1: cannot be imported: .*; nothing is computed until that is"):
        found = read.trades("5m", url=database.url)
    assert found.height
    assert found.equals(expected)


def test_assets_lists_every_asset_with_its_kind_inputs_and_columns() -> None:
    found = read.assets()
    kinds = dict(found.select("asset", "kind").iter_rows())
    assert (kinds["ohlc"], kinds["ema_trend"], kinds[STRATEGY]) == ("bars", "signal", "strategy")
    trend = found.row(by_predicate=pl.col("asset") == "ema_trend", named=True)
    assert trend["reads"] == ["ema_signals"]
    assert trend["is_on"]
    assert {"ts", "trend", "crossover"} <= set(trend["columns"])
    # Signals that CORE_TEXT switches off are not on, and the inputs of an asset are listed before it.
    assert not found.row(by_predicate=pl.col("asset") == "rsi", named=True)["is_on"]
    order = found["asset"].to_list()
    assert all(
        order.index(source) < order.index(row["asset"]) for row in found.rows(named=True) for source in row["reads"]
    )
