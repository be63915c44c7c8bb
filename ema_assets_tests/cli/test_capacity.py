"""Tests of `ema-assets capacity`."""

import json
import re
from pathlib import Path

from ema_assets_tests.cli.conftest import Refused, Run


def test_a_number_of_symbols_is_estimated_as_a_table_and_as_json(run: Run, refused: Refused) -> None:
    shown = run("capacity", "--symbols", "500", "--timeframes", "5m, 1d", "--everything", "--always-open")
    assert shown.exit_code == 0
    lines = dict(line.strip().rsplit("  ", 1) for line in shown.stdout.splitlines()[1:])
    assert {name.strip(): text for name, text in lines.items()}["new bars"] == f"{500 * 289:,}"
    found = json.loads(run("capacity", "--symbols", "500", "--timeframes", "5m", "--json").stdout)
    assert (found["series"], found["runs_per_day"], found["calls_per_tick"]) == (500, 78, 3)
    assert "received 0" in refused("capacity", "--symbols", "0")
    assert "7x" in refused("capacity", "--symbols", "5", "--timeframes", "7x")
    assert "goes with `--symbols`" in refused("capacity", "--always-open")


def test_the_estimate_of_the_watchlist_uses_its_market_hours_and_what_is_switched_on(run: Run, home: Path) -> None:
    """Once, pairs were counted as stocks, which have a quarter of the bars, and only the chain was counted."""
    stock, pair = 78 + 26 + 13 + 7 + 2 + 1, 288 + 96 + 48 + 24 + 6 + 1
    ours = json.loads(run("capacity", "--json").stdout)
    assert (ours["series"], ours["bars_per_day"], ours["runs_per_day"]) == (3 * 6, 2 * stock + pair, pair)
    only_days = json.loads(run("capacity", "--timeframes", "1d", "--json").stdout)
    assert (only_days["series"], only_days["bars_per_day"], only_days["runs_per_day"]) == (3, 3, 1)

    path = home / "watchlist.toml"
    usual = path.read_text()
    chain, everything = ours["dagster_megabytes"], json.loads(run("capacity", "--json", "--everything").stdout)
    path.write_text(re.sub(r"off = \[.*\]", "off = []", usual))
    more = json.loads(run("capacity", "--json").stdout)
    assert chain < more["dagster_megabytes"] < everything["dagster_megabytes"], "one strategy of two is off"
    path.write_text(usual.replace('name = "Shares"', 'calendar = "XHKG"'))
    hong_kong = json.loads(run("capacity", "--timeframes", "5m", "--json").stdout)
    assert hong_kong["bars_per_day"] == 2 * 66 + 288


def test_symbols_from_files_have_no_bars_per_day(run: Run, refused: Refused, home: Path) -> None:
    path = home / "watchlist.toml"
    both = json.loads(run("capacity", "--json").stdout)
    path.write_text(path.read_text() + '\n[[group]]\nprovider = "file"\nsymbols = ["OLD"]\n')
    assert json.loads(run("capacity", "--json").stdout) == both
    path.write_text('[[group]]\nprovider = "file"\nsymbols = ["OLD"]\n')
    assert refused("capacity") == "all bars of the watchlist come from files, and none per day; say `--symbols`"


def test_a_broken_own_signal_is_a_warning_and_everything_else_is_estimated(run: Run, home: Path) -> None:
    without = run("capacity").stdout
    (home / "signals").mkdir()
    (home / "signals" / "mine.py").write_text("SIGNAL = nothing\n")
    shown = run("capacity")
    assert (shown.exit_code, shown.stdout) == (0, without)
    assert "Nothing is computed until that is corrected; this estimates everything else." in shown.stderr
