"""Tests of the story of a series and of a bar: its sentences agree with the tables."""

import re
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result

from ema_assets.cli import main
from ema_assets.model.prices import price_text
from ema_assets.model.symbols import Series
from ema_assets.providers.declaration import Publication
from ema_assets.refresh.plan_requests import FetchRules
from ema_assets.reports import story
from ema_assets.store.database import Database
from ema_assets_tests.refresh.exchange import bars_on, utc, watch
from ema_assets_tests.refresh.life import Life, LivingExchange
from ema_assets_tests.timeframes import D1, FETCHED, H1, M5, ORDER

OPENED, CLOSE = utc("2026-11-25 14:30"), utc("2026-11-25 21:00")
LOST = utc("2026-11-25 15:40")
RULES = FetchRules(
    dict(zip(FETCHED, (3, 60), strict=True)),
    {None: Publication(settling={"5m": (timedelta(minutes=15),), "1d": (timedelta(hours=4),)})},
)
WORKING_DAY = (date(2026, 11, 2), date(2026, 11, 25))


@pytest.fixture
def life(database: Database) -> Life:
    """A daily bar that first has a close from before the auction, and a 5m bar that is missing."""
    days = bars_on("XNYS", "AAPL", D1, *WORKING_DAY, 1)
    minutes = bars_on("XNYS", "AAPL", M5, *WORKING_DAY, 2).filter(pl.col("ts") != LOST)
    exchange = LivingExchange(days, minutes)
    early = days.filter(pl.col("ts") == OPENED).with_columns(close=pl.col("low"))
    exchange.until = [(CLOSE + timedelta(hours=1), early)]
    return Life(database, watch({"AAPL": "XNYS"}, timeframes=ORDER), exchange, RULES, CLOSE + timedelta(seconds=5))


def told(life: Life, timeframe: object, ts: object) -> list[str]:
    with life.database.transaction() as transaction:
        lines = story.of_bar(transaction, Series("AAPL", timeframe), ts)  # type: ignore[arg-type]
    return [re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "<then>", line) for line in lines]


@pytest.mark.broad
def test_a_daily_bar_is_preliminary_then_corrected_then_final(life: Life) -> None:
    (early,) = life.exchange.until[0][1]["close"]
    assert told(life, D1, OPENED)[-2].startswith("It is now open ")
    assert told(life, D1, OPENED)[-1] == "It is preliminary: its provider may still change it."
    life.sweep(CLOSE + timedelta(hours=4))
    lines = told(life, D1, OPENED)
    assert lines[:3] == [
        "AAPL|1d, the bar that opens at 2026-11-25 14:30 UTC:",
        "It was first stored at <then>.",
        f"It was corrected at <then>: its close was {price_text(early)} until then, from memory.",
    ]
    assert lines[-2].endswith("from memory.")
    assert lines[-1] == "It is final: it was requested after the time in which its provider changes bars."


def test_the_story_of_a_missing_bar_states_how_often_it_was_requested(life: Life) -> None:
    assert told(life, M5, LOST)[1:] == [
        "It is missing, noted at 2026-11-25 21:00: open, requested again 0 times.",
        "It will be requested again at 2026-11-25 21:12.",
    ]
    assert told(life, M5, utc("2026-11-22 15:00"))[1:] == [
        "There is no such bar, and none is known to be missing there.",
        "The stored bar after it opens at 2026-11-23 14:30.",
    ]
    assert told(life, M5, utc("2026-11-24 02:00"))[2:] == [
        "The stored bar before it opens at 2026-11-23 20:55.",
        "The stored bar after it opens at 2026-11-24 14:30.",
    ]
    # A day is typed as its date, and opens with its session.
    assert told(life, D1, utc("2026-11-25 00:00"))[-1] == "The stored bar after it opens at 2026-11-25 14:30."
    hour = told(life, H1, utc("2026-11-25 15:30"))
    assert "1 bar of 5m is missing in it." in hour
    assert hour[-3].endswith(", rolled up from 5m.")


@pytest.mark.broad
def test_the_story_of_a_symbol_has_one_line_per_timeframe(life: Life) -> None:
    with life.database.transaction() as transaction:
        lines = story.of_symbol(transaction, "AAPL")
    assert [line.partition(":")[0] for line in lines] == [
        f"AAPL|{key}" for key in ("5m", "15m", "30m", "1h", "4h", "1d")
    ]
    assert "UTC, 21 rolled up from 5m." in lines[3]
    minutes = lines[0]
    assert "UTC, 233 from memory." in minutes
    assert "Last requested at 2026-11-25 21:00, complete through 2026-11-25 21:00." in minutes
    assert "Final through 2026-11-25 20:45." in minutes
    assert "1 bar missing and requested again, in 1 gap." in minutes


@pytest.fixture
def home(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "watchlist.toml").write_text('[[group]]\ncalendar = "XNYS"\nsymbols = ["AAPL"]\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMA_HOME", str(tmp_path))
    monkeypatch.setenv("EMA_DATABASE_URL", database_url)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["quality", *arguments], prog_name="ema-assets")


@pytest.mark.usefixtures("home")
def test_the_command_prints_the_story_of_a_symbol_before_the_tables_and_of_a_bar_alone(life: Life) -> None:
    result = run("--symbol", "AAPL")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("AAPL|5m: 2026-11-23 14:30 to 2026-11-25 20:55 UTC, 233 from memory.")
    assert "\ngaps: 1:\n" in result.stdout
    alone = run("--symbol", "AAPL", "--timeframe", "1d", "--bar", "2026-11-25T14:30")
    assert alone.stdout.startswith("AAPL|1d, the bar that opens at 2026-11-25 14:30 UTC:\n")
    assert "gaps" not in alone.stdout
    assert life.exchange.asked


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--symbol", "AAPL", "--bar", "2026-11-25T14:30"], "--bar needs one --symbol and a --timeframe"),
        (["--timeframe", "1d", "--bar", "2026-11-25T14:30"], "--bar needs one --symbol and a --timeframe"),
        (["--symbol", "AAPL", "--timeframe", "1d"], "--timeframe goes with --bar"),
        (
            ["--symbol", "AAPL", "--timeframe", "1d", "--bar", "yesterday"],
            "--bar must be a time such as 2026-11-25T14:30, received 'yesterday'",
        ),
    ],
)
def test_incomplete_or_invalid_options_are_refused_with_a_reason(arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
