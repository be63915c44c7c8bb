"""`ema-assets actions`: facts from a file, and what is known."""

import json
from pathlib import Path

from ema_assets_tests.cli.conftest import Refused, Run


def test_actions_of_a_file_are_listed(run: Run, home: Path, database_url: str) -> None:
    path = home / "mine.csv"
    path.write_text("symbol,kind,date,ratio\nAAPL,split,2020-08-31,4:1\nGE,spin-off,2024-04-02,1253:1000\n")
    assert "No corporate actions" in run("actions", "list", EMA_DATABASE_URL=database_url).stdout
    result = run("actions", "import", str(path), EMA_DATABASE_URL=database_url)
    assert result.stdout == f"{path}: 2 corporate actions read, 2 of them new or changed.\n"
    rows = [line.split() for line in run("actions", "list", EMA_DATABASE_URL=database_url).stdout.splitlines()]
    assert [row[0] for row in rows if row[0] in ("AAPL", "GE")] == ["AAPL", "GE"]
    (row,) = json.loads(run("actions", "list", "--symbol", "GE", "--json", EMA_DATABASE_URL=database_url).stdout)[
        "actions"
    ]
    assert (row["kind"], row["ratio"], row["source"]) == ("spin-off", 1.253, "mine.csv")
    # On the watchlist with a calendar, it takes effect at the open; else at midnight.
    (row,) = json.loads(run("actions", "list", "--symbol", "AAPL", "--json", EMA_DATABASE_URL=database_url).stdout)[
        "actions"
    ]
    assert row["effective_at"].startswith("2020-08-31T13:30")


def test_a_file_that_holds_no_actions_is_refused_by_name(refused: Refused, tmp_path: Path) -> None:
    assert refused("actions", "import", str(tmp_path / "none.csv")) == f"{tmp_path / 'none.csv'}: no such file"
