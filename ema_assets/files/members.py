"""The files in a zip or tar archive and the sheets of a workbook, each read as a separate file.

The path of such a file is the path of the archive followed by the name in it: `downloads.zip/KO.csv`.
"""

import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from io import BytesIO
from pathlib import Path, PurePosixPath

from ema_assets.files.cells import Table
from ema_assets.files.marks import BZIP2, GZIP, OLD_EXCEL, TAR, TAR_PLACE, XZ, ZIP
from ema_assets.files.names import from_name
from ema_assets.files.workbooks import sheets_of
from ema_assets.model.errors import BarFileError, first_of

# The first bytes of files that may be tar archives, plain or compressed. Other files are not searched for an archive.
_PACKED = (GZIP, BZIP2, XZ)
# A message names at most this many files or sheets.
_NAMED = 5
# Files of Excel and OpenDocument are zip archives with these entries.
_EXCEL = ("xl/", "content.xml")
_TABLES = re.compile(r"\.(csv|tsv|json|ndjson|jsonl|parquet|pq|feather|arrow|xlsx|xls|gz|bz2|xz|zip)$", re.IGNORECASE)
# Errors of broken archives. They are reported later, when the archive is read as a file.
BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError)


@dataclass(frozen=True, slots=True)
class _Container:
    """An archive or a workbook.

    Attributes:
        read: A function per file or sheet that reads it, by name.
        bars: The names of the files or sheets that `ingest` reads one by one; empty when it is read as one file.
        others: The names of the files of an archive that are not read, except for hidden ones.
    """

    read: Mapping[str, Callable[[], bytes | Table]]
    bars: Sequence[str]
    others: Sequence[str] = ()


_NO_CONTAINER = _Container({}, ())


def members_of(path: Path) -> list[Path]:
    """Return the paths of the bar files in the archive at `path`, or of the sheets in the workbook, in its order.

    The list is empty when `path` is neither. It is also empty for a zip with a single bar file whose name says no
    more than that of the zip, and for a workbook with a single table, which are read as one file.
    """
    try:
        return [path / name for name in _container(path, path.stat().st_mtime_ns).bars]
    except (*BROKEN, BarFileError):
        return []


def left_out(path: Path) -> list[str]:
    """Return the names of the files in the archive at `path` that are not read, such as notes; not the hidden ones."""
    try:
        return list(_container(path, path.stat().st_mtime_ns).others)
    except (*BROKEN, BarFileError):
        return []


def read_member(path: Path) -> bytes | Table | None:
    """Return the contents of the file at `path` in an archive, or the table of the sheet at `path` in a workbook.

    It is None when no part of `path` is an archive or a workbook.

    Raises:
        BarFileError: when the archive or the workbook has no such file or sheet, or the sheet is not a table.
    """
    if path.exists():
        return None
    outer = next((each for each in path.parents if each.is_file()), None)
    container = _container(outer, outer.stat().st_mtime_ns) if outer else _NO_CONTAINER
    if not outer or not container.read:
        return None
    name = path.relative_to(outer).as_posix()
    if name not in container.read:
        raise BarFileError(f"is not in {outer.name}, which has {first_of(list(container.read), _NAMED)}")
    return container.read[name]()


def is_workbook(archive: zipfile.ZipFile) -> bool:
    """Return whether a zip archive is an Excel or OpenDocument file."""
    return any(name.startswith(_EXCEL) for name in archive.namelist())


def bar_files(names: Iterable[str]) -> list[str]:
    """Return the names that may be bar files, without the notes that vendors add and the hidden files of macOS."""
    seen = _visible(names)
    # Other names, such as *.txt, may be anything. They count only when no file has the ending of a table.
    return [name for name in seen if _TABLES.search(name)] or seen


def _visible(names: Iterable[str]) -> list[str]:
    return [name for name in names if not name.startswith("__MACOSX") and "/." not in f"/{name}"]


def _others(names: Iterable[str], bars: Iterable[str]) -> list[str]:
    return sorted(set(_visible(names)) - set(bars))


# An archive may have thousands of files, and listing them again for each file would take longer than reading it.
@lru_cache(maxsize=1)
def _container(path: Path, _changed_ns: int) -> _Container:
    with path.open("rb") as file:
        begin = file.read(TAR_PLACE + len(TAR))
    if begin.startswith(OLD_EXCEL):
        return _workbook(path)
    if begin.startswith(ZIP):
        packed = zipfile.ZipFile(path)
        if is_workbook(packed):
            return _workbook(path)
        infos = [each for each in packed.infolist() if not each.is_dir()]
        files = {_plain(each.filename): partial(packed.read, each) for each in infos}
        bars = bar_files(files)
        is_one_file = len(bars) == 1 and not _says_more(bars[0], path)
        return _Container(files, () if is_one_file else bars, _others(files, bars))
    if _may_be_tar(begin) and tarfile.is_tarfile(path):
        # The archive is kept in memory, so that no file stays open.
        bundle = tarfile.open(fileobj=BytesIO(path.read_bytes()))  # noqa: SIM115 - read later
        files = {_plain(each.name): partial(_of, bundle, each) for each in bundle if each.isfile()}
        bars = bar_files(files)
        return _Container(files, bars, _others(files, bars))
    return _NO_CONTAINER


def _says_more(name: str, path: Path) -> bool:
    """Return whether the `name` of the only file in an archive has a symbol, and that of the archive (`path`) none."""
    return from_name(Path(name)).symbol is not None and from_name(path).symbol is None


def _workbook(path: Path) -> _Container:
    read, bars = sheets_of(path.read_bytes())
    return _Container(read, bars if len(bars) > 1 else ())


def _may_be_tar(begin: bytes) -> bool:
    return begin.startswith(TAR, TAR_PLACE) or begin.startswith(_PACKED)


def _of(bundle: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = bundle.extractfile(member)
    assert file is not None, "only of files"
    return file.read()


def _plain(name: str) -> str:
    """Return the name of a member as it follows the archive's path: `KO.csv` for `./KO.csv` and `/KO.csv`."""
    return str(PurePosixPath(name.replace("\\", "/").lstrip("/")))
