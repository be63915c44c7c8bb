"""Tests of archives and workbooks with several files of bars: which of them are read, and under which names."""

import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from ema_assets.files.members import members_of
from ema_assets_tests.files.reader import refusal, rows_of, understood, written

TEXT = "Date,Open,High,Low,Close,Volume\n2024-03-11,59.4,60.4,59.3,60.1,16120345\n"


def _zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, TEXT)
    return buffer.getvalue()


def _bundled(mode: Any, *names: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.type, entry.size = (tarfile.DIRTYPE, 0) if name.endswith("/") else (tarfile.REGTYPE, len(TEXT))
            archive.addfile(entry, io.BytesIO(TEXT.encode()))
    return buffer.getvalue()


def _names(path: Path) -> list[str]:
    return [str(each.relative_to(path)) for each in members_of(path)]


def test_the_only_file_of_a_zip_gives_the_symbol_if_the_name_of_the_zip_does_not(tmp_path: Path) -> None:
    path = written(tmp_path, _zipped("KO.csv", "readme.txt"), "archive.zip")
    assert _names(path) == ["KO.csv"]
    assert understood(path / "KO.csv").bars["symbol"].to_list() == ["KO"]
    assert _names(written(tmp_path, _zipped("KO.csv"), "PEP.zip")) == []


@pytest.mark.parametrize("mode", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
def test_each_file_of_an_archive_is_read_under_its_own_name(tmp_path: Path, mode: str) -> None:
    names = ("us/KO.csv", "./us/PG.csv", "/IBM.csv")
    path = written(tmp_path, _zipped(*names) if mode == "zip" else _bundled(mode, *names), "prices")
    assert _names(path) == ["us/KO.csv", "us/PG.csv", "IBM.csv"]
    read = [rows_of(understood(member).bars) for member in members_of(path)]
    day = ("1d", "2024-03-11 13:30", 59.4, 60.4, 59.3, 60.1, 16120345.0)
    assert read == [[("KO", *day)], [("PG", *day)], [("IBM", *day)]]


def test_notes_and_hidden_files_are_skipped_and_text_files_count_if_there_are_no_others(tmp_path: Path) -> None:
    names = ("README.txt", "__MACOSX/._KO.csv", ".DS_Store", "a/.hidden.csv", "KO.csv", "PG.csv.gz")
    assert _names(written(tmp_path, _zipped(*names))) == ["KO.csv", "PG.csv.gz"]
    assert _names(written(tmp_path, _bundled("w", "us/", "us/ko.us.txt", "us/pg.us.txt"))) == [
        "us/ko.us.txt",
        "us/pg.us.txt",
    ]


def test_a_zip_with_one_file_counts_as_that_file_and_a_tar_with_one_file_as_an_archive(tmp_path: Path) -> None:
    assert _names(written(tmp_path, _zipped("prices.csv", "README.html"), "KO.zip")) == []
    assert _names(written(tmp_path, _bundled("w:gz", "KO.csv"), "prices.tgz")) == ["KO.csv"]


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04 broken", b"\x1f\x8b\x08 broken", TEXT.encode(), b"KO.csv".ljust(257, b"\0") + b"ustar  \0"],
    ids=["empty", "zip", "gzip", "text", "tar"],
)
def test_broken_archives_and_other_files_have_no_members(tmp_path: Path, content: bytes) -> None:
    assert members_of(written(tmp_path, content)) == []
    assert members_of(tmp_path / "none.zip") == []


def test_a_changed_archive_is_listed_again(tmp_path: Path) -> None:
    assert _names(written(tmp_path, _zipped("KO.csv", "PG.csv"))) == ["KO.csv", "PG.csv"]
    assert _names(written(tmp_path, _zipped("KO.csv", "PG.csv", "IBM.csv"))) == ["KO.csv", "PG.csv", "IBM.csv"]


def test_a_file_that_is_not_in_the_archive_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, _zipped("KO.csv", "PG.csv"), "prices.zip")
    assert refusal(path / "MSFT.csv") == "is not in prices.zip, which has KO.csv, PG.csv"
    assert refusal(written(tmp_path, TEXT, "KO.csv") / "MSFT.csv") == "no such file"
    outside = written(tmp_path, TEXT, "outside.csv")
    assert refusal(path / ".." / outside.name).startswith("is not in prices.zip, which has ")


def test_an_encrypted_file_and_an_archive_within_an_archive_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("KO.csv", TEXT)
        archive.writestr("more.zip", _zipped("PG.csv", "IBM.csv"))
    path = written(tmp_path, buffer.getvalue(), "prices.zip")
    assert _names(path) == ["KO.csv", "more.zip"]
    assert refusal(path / "more.zip") == "is an archive of 2 files of bars; unpack it and give the files"
    # Set the flag of encryption in the entry and in the central directory.
    data = bytearray(_zipped("KO.csv", "PG.csv"))
    data[data.index(b"PK\x03\x04") + 6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    assert "is encrypted" in refusal(written(tmp_path, bytes(data), "secret.zip") / "KO.csv")


def _workbook(path: Path, *sheets: str) -> Path:
    import xlsxwriter

    with xlsxwriter.Workbook(path) as book:
        for name in sheets:
            sheet = book.add_worksheet(name)
            if name == "Notes":
                sheet.write_row(0, 0, ["Date", "Amount"])
                continue
            for place, line in enumerate(TEXT.splitlines()):
                sheet.write_row(place, 0, line.split(","))
    return path


@pytest.mark.broad
def test_each_sheet_of_a_workbook_with_the_same_columns_is_a_member(tmp_path: Path) -> None:
    path = _workbook(tmp_path / "prices.xlsx", "KO", "Notes", "PG")
    assert _names(path) == ["KO", "PG"]
    assert [rows_of(understood(member).bars)[0][:3] for member in members_of(path)] == [
        ("KO", "1d", "2024-03-11 13:30"),
        ("PG", "1d", "2024-03-11 13:30"),
    ]
    assert refusal(path / "Notes").startswith("holds no table of bars: ")
    assert refusal(path / "MSFT") == "is not in prices.xlsx, which has KO, Notes, PG"
    assert _names(_workbook(tmp_path / "one.xlsx", "KO", "Notes")) == []
    assert _names(_workbook(tmp_path / "single.xlsx", "KO")) == []


def test_the_name_of_a_container_gives_the_symbol_if_the_names_in_it_do_not(tmp_path: Path) -> None:
    for path in (
        _workbook(tmp_path / "KO.xlsx", "2023", "2024"),
        written(tmp_path, _zipped("data/2023.csv", "data/2024.csv"), "KO.zip"),
    ):
        assert [rows_of(understood(member).bars)[0][0] for member in members_of(path)] == ["KO", "KO"]
