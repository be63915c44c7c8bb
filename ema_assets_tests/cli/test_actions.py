"""Tests of `ema-assets actions`: how corporate actions are imported, listed and removed."""

import json
from datetime import UTC, datetime
from pathlib import Path

from ema_assets.config import watchlist
from ema_assets.model.schemas import ACTION_SCHEMA
from ema_assets.operations.sync_watchlist import sync
from ema_assets.store import action_facts
from ema_assets.store.database import Database
from ema_assets_tests.cli.conftest import Refused, Run
from ema_assets_tests.cli.shell import WATCHLIST


def import_without_aapl(run: Run, home: Path, path: Path, env: dict[str, str]) -> None:
    """Import the file while AAPL is not on the watchlist."""
    watched = home / "watchlist.toml"
    listed = watched.read_text()
    watched.write_text(listed.replace("AAPL", "NVDA"))
    run("actions", "import", str(path), **env)
    watched.write_text(listed)


def test_actions_of_a_file_are_listed(run: Run, home: Path, database_url: str) -> None:
    path = home / "mine.csv"
    path.write_text("symbol,kind,date,ratio\nAAPL,split,2020-08-31,4:1\nGE,spin-off,2024-04-02,1253:1000\n")
    assert "No corporate actions" in run("actions", "list", EMA_DATABASE_URL=database_url).stdout
    result = run("actions", "import", str(path), EMA_DATABASE_URL=database_url)
    assert result.stdout == f"{path}: 2 corporate actions read, 2 of them new or changed.\n"
    rows = [line.split() for line in run("actions", "list", EMA_DATABASE_URL=database_url).stdout.splitlines()]
    assert [row[0] for row in rows if row[0] in ("AAPL", "GE")] == ["AAPL", "GE"]
    none = run("actions", "list", "--symbol", "MSFT", EMA_DATABASE_URL=database_url)
    assert none.stdout == "No corporate actions are known of MSFT.\n"
    (row,) = json.loads(run("actions", "list", "--symbol", "GE", "--json", EMA_DATABASE_URL=database_url).stdout)[
        "actions"
    ]
    assert (row["kind"], row["ratio"], row["source"]) == ("spin-off", 1.253, "mine.csv")
    # An action of a watched symbol takes effect at the open of its calendar, others at midnight.
    (row,) = json.loads(run("actions", "list", "--symbol", "AAPL", "--json", EMA_DATABASE_URL=database_url).stdout)[
        "actions"
    ]
    assert row["effective_at"].startswith("2020-08-31T13:30")


def test_a_symbol_in_small_letters_is_the_one_in_capitals(run: Run, home: Path, database: Database) -> None:
    env = {"EMA_DATABASE_URL": database.url}
    sync(database, watchlist.parse(WATCHLIST), datetime(2026, 11, 20, 15, tzinfo=UTC))
    path = home / "mine.csv"
    path.write_text("symbol,kind,date,ratio\naapl,split,2020-08-31,4:1\nge,spin-off,2024-04-02,1253:1000\n")
    assert run("actions", "import", str(path), **env).exit_code == 0
    found = json.loads(run("actions", "list", "--json", **env).stdout)["actions"]
    assert [(row["symbol"], row["effective_at"][:16]) for row in found] == [
        ("AAPL", "2020-08-31T13:30"),
        ("GE", "2024-04-02T00:00"),
    ]
    done = run("actions", "remove", "aapl", "split", "2020-08-31", **env)
    assert done.stdout == "AAPL: the split of 2020-08-31 is forgotten.\n"


def test_a_missing_file_is_refused_with_its_path(refused: Refused, tmp_path: Path) -> None:
    assert refused("actions", "import", str(tmp_path / "none.csv")) == f"{tmp_path / 'none.csv'}: no such file"


def test_a_file_without_actions_records_nothing(run: Run, refused: Refused, tmp_path: Path, database_url: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("symbol,kind,date,ratio\n")
    result = run("actions", "import", str(path), EMA_DATABASE_URL=database_url)
    assert (result.exit_code, result.stdout) == (
        0,
        f"{path}: 0 corporate actions read, 0 of them new or changed.\n",
    )
    path.write_text("")
    assert refused("actions", "import", str(path)).startswith(f"{path}: cannot be read as csv: ")


def test_an_action_that_was_imported_by_mistake_can_be_removed(
    run: Run, refused: Refused, home: Path, database_url: str
) -> None:
    env = {"EMA_DATABASE_URL": database_url}
    path = home / "mine.csv"
    path.write_text("symbol,kind,date,ratio\nAAPL,split,2026-10-09,4:1\nAAPL,split,2020-08-31,4:1\n")
    run("actions", "import", str(path), **env)
    # The same action, imported while its symbol is not on the watchlist.
    path.write_text("symbol,kind,date,ratio\nAAPL,split,2026-10-09,4:1\n")
    import_without_aapl(run, home, path, env)
    with Database(database_url) as database, database.transaction() as transaction:
        told = action_facts.known(transaction, ["AAPL"]).select(list(ACTION_SCHEMA)).head(1)
        action_facts.record(transaction, told, "yahoo")
    done = run("actions", "remove", "AAPL", "split", "2026-10-09", **env)
    assert done.stdout == "AAPL: the split of 2026-10-09 is forgotten.\n"
    again = refused("actions", "remove", "AAPL", "split", "2026-10-09", **env)
    assert "no split of AAPL on 2026-10-09 is known; known of it is split of 2020-08-31 13:30 UTC from" in again
    assert run("actions", "remove", "AAPL", "split", "2020-08-31", **env).exit_code == 0
    (left,) = json.loads(run("actions", "list", "--json", **env).stdout)["actions"]
    assert (left["source"], left["effective_at"][:10]) == ("yahoo", "2020-08-31")
    # A provider that moves a split to another day reports both, and only a person can say which one is wrong.
    done = run("actions", "remove", "AAPL", "split", "2020-08-31", **env)
    said = "It came from yahoo. If it is reported again, it comes back."
    assert done.stdout.splitlines() == ["AAPL: the split of 2020-08-31 is forgotten.", said]
    assert json.loads(run("actions", "list", "--json", **env).stdout)["actions"] == []
    unknown = refused("actions", "remove", "MSFT", "split", "2020-08-31", **env)
    assert unknown == "no split of MSFT on 2020-08-31 is known, and no other action of it is known"
    assert "`kind` must be one of" in refused("actions", "remove", "AAPL", "spilt", "2020-08-31", **env)
    assert "`date` must be a day" in refused("actions", "remove", "AAPL", "split", "31.8.2020", **env)


def test_an_action_that_was_imported_before_its_symbol_was_watched_is_listed_once(
    run: Run, home: Path, database_url: str
) -> None:
    env = {"EMA_DATABASE_URL": database_url}
    path = home / "mine.csv"
    path.write_text("symbol,kind,date,ratio\nAAPL,split,2020-08-31,4:1\n")
    import_without_aapl(run, home, path, env)
    done = run("actions", "import", str(path), **env)
    assert done.stdout == f"{path}: 1 corporate action read, 0 of them new or changed.\n"
    (row,) = json.loads(run("actions", "list", "--json", **env).stdout)["actions"]
    assert row["effective_at"].startswith("2020-08-31T13:30")
