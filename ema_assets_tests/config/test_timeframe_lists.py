"""Tests of timeframes in the watchlist: per file and group, depth of history, needs of providers and strategies."""

from pathlib import Path

import pytest

from ema_assets.config import watchlist
from ema_assets.config.settings import Settings
from ema_assets.model.errors import WatchlistError
from ema_assets.model.timeframes import DEFAULT, by_key
from ema_assets.refresh.graph import build
from ema_assets_tests.timeframes import D1, H1, H4, M1, M5, M15, W1

GROUPS = """
[[group]]
symbols = ["AAPL"]

[[group]]
calendar = "24/7"
timeframes = ["1w", "1m"]
symbols = ["BTC-USD"]
"""


def refusal(text: str) -> str:
    with pytest.raises(WatchlistError) as caught:
        build(watchlist.parse(text, "my.toml"))
    assert str(caught.value).startswith("my.toml: ")
    return str(caught.value).removeprefix("my.toml: ")


def test_a_group_has_its_own_timeframes_those_of_the_file_or_the_default_ones() -> None:
    usual = watchlist.parse(GROUPS)
    assert [each.timeframes for each in usual.instruments] == [DEFAULT, (M1, W1)]
    assert usual.default_timeframes == DEFAULT
    own = watchlist.parse('timeframes = ["1h", "15m"]\n' + GROUPS)
    assert [each.timeframes for each in own.instruments] == [(M15, H1), (M1, W1)]
    assert own.timeframes == (M1, M15, H1, W1)
    assert own.with_bars == (M1, M5, M15, H1, D1, W1)
    assert build(own).timeframes == own.timeframes
    assert build(own).fingerprint != build(usual).fingerprint


def test_the_default_watchlist_has_the_default_timeframes() -> None:
    assert watchlist.parse(watchlist.default_text()).default_timeframes == DEFAULT


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("'5m'", '`timeframes` must be a list such as ["5m", "15m", "30m", "1h", "4h", "1d"], received \'5m\''),
        ("[]", "`timeframes` must be a list such as"),
        ("[5]", "`timeframes` must be a list such as"),
        ("['60m']", "timeframes: `timeframe` must be one of 1m, 3m, 5m,"),
        ("['5m', '1h', '5m']", "`timeframes` lists 5m twice; keep one of them"),
    ],
)
def test_a_mistake_in_timeframes_is_refused_with_what_is_allowed(given: str, sentence: str) -> None:
    assert refusal(f"timeframes = {given}\n{GROUPS}").startswith(sentence)
    group = f"[[group]]\nname = 'x'\ntimeframes = {given}\nsymbols = ['A']"
    assert refusal(group).startswith(f"group 'x': {sentence}")


def test_daily_history_is_deep_enough_for_averages_of_weeks_and_months() -> None:
    def depth(keys: str, history: str = "") -> int:
        return watchlist.parse(f"timeframes = [{keys}]\n{history}\n[[group]]\nsymbols = ['A']").history_days[D1]

    assert depth("'5m', '1d'") == 730
    assert depth("'1w'") == 208 * 7
    assert depth("'1M'") == 208 * 31
    assert depth("'12M'") == 20_000
    # An explicit number of days in the file wins.
    assert depth("'1w'", "[history]\n'1d' = 400") == 400


def test_a_strategy_whose_higher_timeframe_is_not_watched_is_refused() -> None:
    row = "[[strategy]]\nname = 'x'\nrule = 'crossover'\nhigher_timeframe = '{}'\n"
    assert refusal(GROUPS + row.format("4h")) == (
        "strategy_x reads the trend on 4h, which is not among the `timeframes` of BTC-USD; add it there, or "
        "set another `higher_timeframe`"
    )
    assert refusal(GROUPS + row.format("2h")).startswith(
        "strategy_x reads the trend on 2h, which is not among the `timeframes` of AAPL and 1 more;"
    )
    # The strategy does not need the higher timeframe for symbols that only have longer timeframes.
    only_weeks = GROUPS.replace('["1w", "1m"]', '["1w"]')
    assert build(watchlist.parse(only_weeks + row.format("4h"))).has("strategy_x")
    two_hours = f"timeframes = ['15m', '2h']\n{only_weeks}{row.format('2h')}"
    assert build(watchlist.parse(two_hours)).nodes["strategy_x"].variant.higher_timeframe is by_key("2h")
    assert H4.key in refusal(two_hours.replace("'2h'\n", "'4h'\n"))


def test_a_timeframe_that_the_provider_does_not_serve_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "watchlist.toml"
    monkeypatch.setenv("EMA_WATCHLIST", str(path))
    monkeypatch.setenv("EMA_PROVIDER", "yahoo")
    path.write_text("timeframes = ['3m']\n[[group]]\nsymbols = ['AAPL']", encoding="utf-8")
    assert watchlist.of(Settings.from_env()).timeframes == (by_key("3m"),)
    served = dict.fromkeys(("5m", "1d"), "x")
    monkeypatch.setattr("ema_assets.providers.registry.declared", lambda name: type("P", (), {"timeframes": served}))
    with pytest.raises(WatchlistError) as caught:
        watchlist.of(Settings.from_env())
    assert str(caught.value) == (
        f"{path}: AAPL is to have 3m, which is rolled up from 1m, but the provider yahoo serves 5m, 1d only; give its "
        "group other `timeframes` or another `provider`"
    )
