"""`ema-assets capacity`."""

import json

from ema_assets_tests.cli.conftest import Refused, Run


def test_a_watchlist_of_some_size_is_estimated_as_a_table_and_as_json(run: Run, refused: Refused) -> None:
    shown = run("capacity", "--symbols", "500", "--timeframes", "5m, 1d", "--everything", "--always-open")
    assert shown.exit_code == 0
    lines = dict(line.strip().rsplit("  ", 1) for line in shown.stdout.splitlines()[1:])
    assert {name.strip(): text for name, text in lines.items()}["new bars"] == f"{500 * 289:,}"
    found = json.loads(run("capacity", "--symbols", "500", "--timeframes", "5m", "--json").stdout)
    assert (found["series"], found["runs_per_day"], found["calls_per_tick"]) == (500, 78, 3)
    ours = json.loads(run("capacity", "--json").stdout)
    assert (ours["series"], ours["runs_per_day"]) == (3 * 6, 78 + 26 + 13 + 7 + 2 + 1)
    assert "received 0" in refused("capacity", "--symbols", "0")
    assert "7x" in refused("capacity", "--symbols", "5", "--timeframes", "7x")
