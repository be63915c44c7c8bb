"""Tests of files of corporate actions: which rows are accepted, and how invalid ones are reported."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from ema_assets.model.errors import ActionFileError
from ema_assets.operations.import_actions import import_actions, read_actions
from ema_assets.store import action_facts
from ema_assets.store.database import Database

HEAD = "symbol,kind,date,ratio,amount,value"


def written(folder: Path, *lines: str) -> Path:
    path = folder / "actions.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_actions_of_every_kind_are_read_and_take_effect_at_the_open(tmp_path: Path, database: Database) -> None:
    path = written(
        tmp_path,
        HEAD,
        "AAPL,split,2026-11-25,7:1,,",
        "GE,Spin-Off,2024-04-02,1253:1000,,",
        "BCAN,split,2024-03-22,1:190,,",
        "AZN.L,currency change,2026-11-25,100,,GBP",
        "AAPL,dividend,2026-11-28,,0.25,",
        "FB,rename,2022-06-09,,,META",
        "TWTR,delisting,2022-11-08,,,",
    )
    actions = read_actions(path, {"AAPL": "XNYS", "GE": "XNYS", "AZN.L": "XLON"})

    def at(*moment: int) -> datetime:
        return datetime(*moment, tzinfo=UTC)  # type: ignore[misc, arg-type]

    assert actions.rows() == [
        ("AAPL", "split", at(2026, 11, 25, 14, 30), 7.0, None, None),
        ("GE", "spin-off", at(2024, 4, 2, 13, 30), 1.253, None, None),
        ("BCAN", "split", at(2024, 3, 22), 1 / 190, None, None),
        ("AZN.L", "currency change", at(2026, 11, 25, 8), 100.0, None, "GBP"),
        # A Saturday has no open.
        ("AAPL", "dividend", at(2026, 11, 28), None, 0.25, None),
        ("FB", "rename", at(2022, 6, 9), None, None, "META"),
        ("TWTR", "delisting", at(2022, 11, 8), None, None, None),
    ]
    assert import_actions(database, actions, path.name) == 7
    assert import_actions(database, actions, path.name) == 0
    with database.transaction() as transaction:
        assert action_facts.known(transaction, ["GE"])["source"].to_list() == ["actions.csv"]


def test_a_symbol_is_spelt_as_on_the_watchlist_or_else_in_capitals(tmp_path: Path) -> None:
    path = written(tmp_path, HEAD, *(f"{each},delisting,2026-11-25,,," for each in ("aapl", "kpepe-usd", "msft")))
    found = read_actions(path, {"AAPL": "XNYS", "kPEPE-USD": "24/7"})
    assert found["symbol"].to_list() == ["AAPL", "kPEPE-USD", "MSFT"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("AAPL,takeover,2026-11-25,7:1,,", "line 2: `kind` must be one of split, spin-off, dividend, currency change"),
        ("AAPL,split,25.11.2026,7:1,,", "line 2: `date` must be a day such as 2026-11-25, received '25.11.2026'"),
        ("AAPL,split,2026-11-25,,,", "line 2: a split needs `ratio`"),
        ("AAPL,split,2026-11-25,7:0,,", "line 2: `ratio` must be a number such as 7:1 or 1.253, received '0'"),
        ("AAPL,split,2026-11-25,1:1,,", "line 2: `ratio` must not be 1, received '1:1'"),
        ("AAPL,dividend,2026-11-25,,-1,", "line 2: `amount` must be a number above zero, received '-1'"),
        ("FB,rename,2026-11-25,,,", "line 2: a rename needs `value`"),
        ("A B,split,2026-11-25,2,,", "line 2: "),
    ],
)
def test_an_invalid_line_is_refused_with_its_number(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(ActionFileError) as caught:
        read_actions(written(tmp_path, HEAD, line), {})
    assert words in str(caught.value)


def test_a_missing_or_incomplete_file_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ActionFileError, match=r"none\.csv: no such file"):
        read_actions(tmp_path / "none.csv", {})
    for unreadable in (tmp_path, tmp_path / f"{'a' * 300}.csv"):
        with pytest.raises(ActionFileError, match="cannot be read as csv: "):
            read_actions(unreadable, {})
    with pytest.raises(ActionFileError, match="lacks the columns symbol, kind, date; needed are"):
        read_actions(written(tmp_path, "when,what", "1,2"), {})
    with pytest.raises(ActionFileError, match="line 2: a split needs `ratio`"):
        read_actions(written(tmp_path, "symbol,kind,date", "AAPL,split,2026-11-25"), {})


def test_two_different_actions_of_a_kind_on_one_day_are_refused_and_a_repeated_one_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "actions.csv"
    head = "symbol,kind,date,ratio,amount,value\nMSFT,dividend,2024-06-14,,0.25,\n"
    path.write_text(head + "MSFT,split,2024-06-14,2:1,,\nMSFT,dividend,2024-06-14,,0.25,\n")
    assert read_actions(path, {})["kind"].to_list() == ["dividend", "split"]
    path.write_text(head + "AAPL,dividend,2024-06-14,,0.3,\nMSFT,dividend,2024-06-14,,0.10,\n")
    with pytest.raises(ActionFileError) as caught:
        read_actions(path, {})
    assert "lines 2 and 4: MSFT has two different actions of the kind dividend on one day" in str(caught.value)
    assert "or write one with the sum of the amounts" in str(caught.value)
    path.write_text(head.splitlines()[0] + "\nFB,rename,2022-06-09,,,META\nFB,rename,2022-06-09,,,MVRS\n")
    with pytest.raises(ActionFileError, match=r"keep the right line$"):
        read_actions(path, {})
