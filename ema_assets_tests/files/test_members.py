"""Archives of several files of bars: which of their files are read, and as what."""

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


@pytest.mark.parametrize("mode", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
def test_each_file_of_an_archive_is_one_of_its_own_with_its_own_name(tmp_path: Path, mode: str) -> None:
    names = ("us/KO.csv", "./us/PG.csv", "/IBM.csv")
    path = written(tmp_path, _zipped(*names) if mode == "zip" else _bundled(mode, *names), "prices")
    assert _names(path) == ["us/KO.csv", "us/PG.csv", "IBM.csv"]
    read = [rows_of(understood(member).bars) for member in members_of(path)]
    day = ("1d", "2024-03-11 13:30", 59.4, 60.4, 59.3, 60.1, 16120345.0)
    assert read == [[("KO", *day)], [("PG", *day)], [("IBM", *day)]]


def test_notes_and_hidden_files_are_left_out_and_text_counts_where_nothing_else_does(tmp_path: Path) -> None:
    names = ("README.txt", "__MACOSX/._KO.csv", ".DS_Store", "a/.hidden.csv", "KO.csv", "PG.csv.gz")
    assert _names(written(tmp_path, _zipped(*names))) == ["KO.csv", "PG.csv.gz"]
    assert _names(written(tmp_path, _bundled("w", "us/", "us/ko.us.txt", "us/pg.us.txt"))) == [
        "us/ko.us.txt",
        "us/pg.us.txt",
    ]


def test_a_zip_of_one_file_is_that_file_and_a_tar_of_one_is_an_archive(tmp_path: Path) -> None:
    assert _names(written(tmp_path, _zipped("prices.csv", "README.html"), "KO.zip")) == []
    assert _names(written(tmp_path, _bundled("w:gz", "KO.csv"), "prices.tgz")) == ["KO.csv"]


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04 broken", b"\x1f\x8b\x08 broken", TEXT.encode(), b"KO.csv".ljust(257, b"\0") + b"ustar  \0"],
    ids=["empty", "zip", "gzip", "text", "tar"],
)
def test_what_is_broken_or_no_archive_has_no_files(tmp_path: Path, content: bytes) -> None:
    assert members_of(written(tmp_path, content)) == []
    assert members_of(tmp_path / "none.zip") == []


def test_an_archive_that_has_changed_is_listed_anew(tmp_path: Path) -> None:
    assert _names(written(tmp_path, _zipped("KO.csv", "PG.csv"))) == ["KO.csv", "PG.csv"]
    assert _names(written(tmp_path, _zipped("KO.csv", "PG.csv", "IBM.csv"))) == ["KO.csv", "PG.csv", "IBM.csv"]


def test_a_file_that_an_archive_does_not_have_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, _zipped("KO.csv", "PG.csv"), "prices.zip")
    assert refusal(path / "MSFT.csv") == "is not in prices.zip, which has KO.csv, PG.csv"
    assert refusal(written(tmp_path, TEXT, "KO.csv") / "MSFT.csv") == "no such file"
    outside = written(tmp_path, TEXT, "outside.csv")
    assert refusal(path / ".." / outside.name).startswith("is not in prices.zip, which has ")


def test_a_file_that_is_encrypted_or_packed_again_with_others_says_so(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("KO.csv", TEXT)
        archive.writestr("more.zip", _zipped("PG.csv", "IBM.csv"))
    path = written(tmp_path, buffer.getvalue(), "prices.zip")
    assert _names(path) == ["KO.csv", "more.zip"]
    assert refusal(path / "more.zip") == "is an archive of 2 files of bars; unpack it and give the files"
    # The mark of encryption, in the entry and in the list of all entries.
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


def test_each_sheet_of_a_workbook_with_the_same_columns_is_a_file_of_its_own(tmp_path: Path) -> None:
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


def test_the_name_of_an_archive_or_workbook_counts_where_the_name_in_it_says_nothing(tmp_path: Path) -> None:
    for path in (
        _workbook(tmp_path / "KO.xlsx", "2023", "2024"),
        written(tmp_path, _zipped("data/2023.csv", "data/2024.csv"), "KO.zip"),
    ):
        assert [rows_of(understood(member).bars)[0][0] for member in members_of(path)] == ["KO", "KO"]
