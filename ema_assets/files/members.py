"""The files in a zip or tar archive, each of which is read as a separate file. Their contents are not read here.

The path of a file in an archive is the archive's path followed by the file's name in it: `downloads.zip/KO.csv`.
"""

import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from io import BytesIO
from pathlib import Path, PurePosixPath

from ema_assets.model.errors import BarFileError

# The first bytes of files that may be tar archives, plain or compressed. Other files are not searched for an archive.
_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")
_TAR_MARK, _TAR_PLACE = b"ustar", 257
_ZIP = b"PK\x03\x04"
# Files of Excel and OpenDocument are zip archives with these entries.
_EXCEL = ("xl/", "content.xml")
_TABLES = re.compile(r"\.(csv|tsv|json|ndjson|jsonl|parquet|pq|feather|arrow|xlsx|xls|gz|bz2|xz|zip)$", re.IGNORECASE)
# Errors of broken archives. They are reported later, when the archive is read as a file.
_BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError)

Contents = dict[str, Callable[[], bytes]]


def members_of(path: Path) -> list[Path]:
    """Return the paths of the bar files in the archive at `path`, in its order.

    The list is empty when `path` is not an archive. It is also empty for a zip of a single bar file, which is treated
    as that file in compressed form.
    """
    try:
        contents = _contents(path, path.stat().st_mtime_ns)
        names = bar_files(contents)
    except _BROKEN:
        return []
    return [path / name for name in names] if len(names) > 1 or _is_tar(path) else []


def read_member(path: Path) -> bytes | None:
    """Return the contents of the file at `path` in an archive; None when no part of `path` is an archive.

    Raises:
        BarFileError: when the archive has no such file.
    """
    if path.exists():
        return None
    archive = next((each for each in path.parents if each.is_file()), None)
    contents = _contents(archive, archive.stat().st_mtime_ns) if archive else {}
    if not archive or not contents:
        return None
    name = path.relative_to(archive).as_posix()
    if name not in contents:
        raise BarFileError(f"no such file in {archive.name}")
    return contents[name]()


def is_workbook(archive: zipfile.ZipFile) -> bool:
    """Return whether a zip archive is an Excel or OpenDocument file."""
    return any(name.startswith(_EXCEL) for name in archive.namelist())


def bar_files(names: Iterable[str]) -> list[str]:
    """Return the names that may be bar files, without the notes that vendors add and the hidden files of macOS."""
    seen = [name for name in names if not name.startswith("__MACOSX") and "/." not in f"/{name}"]
    # Other names, such as *.txt, may be anything. They count only when no file has the ending of a table.
    return [name for name in seen if _TABLES.search(name)] or seen


# An archive may have thousands of files, and listing them again for each file would take longer than reading it.
@lru_cache(maxsize=1)
def _contents(path: Path, _changed_ns: int) -> Contents:
    """Return a function per file of the archive at `path` that reads it, by name; empty when it is not an archive."""
    with path.open("rb") as file:
        begin = file.read(_TAR_PLACE + len(_TAR_MARK))
    if begin.startswith(_ZIP):
        packed = zipfile.ZipFile(path)
        if is_workbook(packed):
            return {}
        infos = [each for each in packed.infolist() if not each.is_dir()]
        return {_plain(each.filename): lambda each=each: packed.read(each) for each in infos}  # type: ignore[misc]
    if _may_be_tar(begin) and tarfile.is_tarfile(path):
        # The archive is kept in memory, so that no file stays open.
        bundle = tarfile.open(fileobj=BytesIO(path.read_bytes()))  # noqa: SIM115 - read later
        return {_plain(each.name): lambda each=each: _of(bundle, each) for each in bundle if each.isfile()}  # type: ignore[misc]
    return {}


def _is_tar(path: Path) -> bool:
    with path.open("rb") as file:
        return not file.read(len(_ZIP)).startswith(_ZIP)


def _may_be_tar(begin: bytes) -> bool:
    return begin.startswith(_TAR_MARK, _TAR_PLACE) or begin.startswith(_PACKED)


def _of(bundle: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = bundle.extractfile(member)
    assert file is not None, "only of files"
    return file.read()


def _plain(name: str) -> str:
    """Return the name of a member as it follows the archive's path: `KO.csv` for `./KO.csv` and `/KO.csv`."""
    return str(PurePosixPath(name.replace("\\", "/").lstrip("/")))
