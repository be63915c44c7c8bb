"""The files in an archive, zip or tar, each of which is read as a file of its own. What is in them is not known here.

A file in an archive has a path: that of the archive, and behind it the name in there, as in `downloads.zip/KO.csv`.
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

# The first bytes of what may be a tar archive, as it is or packed: an archive is looked for in no other file.
_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")
_TAR_MARK, _TAR_PLACE = b"ustar", 257
_ZIP = b"PK\x03\x04"
# Excel's newer files are zip archives with these folders.
_EXCEL = ("xl/", "content.xml")
_TABLES = re.compile(r"\.(csv|tsv|json|ndjson|jsonl|parquet|pq|feather|arrow|xlsx|xls|gz|bz2|xz|zip)$", re.IGNORECASE)
# Of an archive that is broken in one of these ways it is said why when it is read as a file.
_BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError)

Contents = dict[str, Callable[[], bytes]]


def members_of(path: Path) -> list[Path]:
    """The paths of the files of bars in the archive at `path`, in its order.

    There are none when it is no archive, or a zip of a single file of bars, which is that file, packed.
    """
    try:
        contents = _contents(path, path.stat().st_mtime_ns)
        names = bar_files(contents)
    except _BROKEN:
        return []
    return [path / name for name in names] if len(names) > 1 or _is_tar(path) else []


def read_member(path: Path) -> bytes | None:
    """What the file at `path` in an archive holds; None when no part of `path` is an archive.

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
    """Whether a zip archive is a file of Excel or of OpenDocument."""
    return any(name.startswith(_EXCEL) for name in archive.namelist())


def bar_files(names: Iterable[str]) -> list[str]:
    """Those of the files of an archive that may hold bars: vendors put notes beside them, macOS hidden files."""
    seen = [name for name in names if not name.startswith("__MACOSX") and "/." not in f"/{name}"]
    # Text alone may be anything, so it counts where nothing is named as a table is.
    return [name for name in seen if _TABLES.search(name)] or seen


# Archives have thousands of files, and to list them anew for each would take longer than to read it.
@lru_cache(maxsize=1)
def _contents(path: Path, _changed_ns: int) -> Contents:
    """What reads each file of the archive at `path`, by its name; nothing when it is no archive."""
    with path.open("rb") as file:
        begin = file.read(_TAR_PLACE + len(_TAR_MARK))
    if begin.startswith(_ZIP):
        packed = zipfile.ZipFile(path)
        if is_workbook(packed):
            return {}
        infos = [each for each in packed.infolist() if not each.is_dir()]
        return {_plain(each.filename): lambda each=each: packed.read(each) for each in infos}  # type: ignore[misc]
    if _may_be_tar(begin) and tarfile.is_tarfile(path):
        # In memory, so that no file stays open.
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
    """`./KO.csv` and `/KO.csv` as they stand in a path behind that of their archive."""
    return str(PurePosixPath(name.replace("\\", "/").lstrip("/")))
