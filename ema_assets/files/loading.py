"""Loads the table in the file at a path. The first bytes tell the kind of file. The only I/O of this room."""

import bz2
import gzip
import json
import lzma
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import polars as pl

from ema_assets.files.cells import Table, numbered
from ema_assets.files.json_rows import read_json
from ema_assets.files.marks import BZIP2, GZIP, OLD_EXCEL, TAR, TAR_PLACE, XZ, ZIP
from ema_assets.files.members import BROKEN, bar_files, is_workbook, read_member
from ema_assets.files.text import read_text
from ema_assets.files.workbooks import read_workbook
from ema_assets.model.errors import BarFileError

_UNPACKED: dict[bytes, tuple[str, Callable[[bytes], bytes]]] = {
    GZIP: ("gzip", gzip.decompress),
    BZIP2: ("bzip2", bz2.decompress),
    XZ: ("xz", lzma.decompress),
}
_MOST_PACKINGS = 3
# Kinds of files that are not unpacked here, with the position and the bytes that identify them.
_NOT_UNPACKED = {
    "a zstd file": (0, b"\x28\xb5\x2f\xfd"),
    "an LZ4 file": (0, b"\x04\x22\x4d\x18"),
    "a 7z archive": (0, b"7z\xbc\xaf\x27\x1c"),
    "a RAR archive": (0, b"Rar!\x1a\x07"),
    "a tar archive": (TAR_PLACE, TAR),
    "an empty zip archive": (0, b"PK\x05\x06"),
}


def load(path: Path) -> Table:
    """Return the table in the file at `path`: delimited text, JSON, Excel, Parquet or Feather, compressed or not.

    The path may be the path of an archive or a workbook, followed by the name of a file or sheet in it.

    Raises:
        BarFileError: when there is no such file or no table in it; the message begins with the path.
    """
    try:
        member = read_member(path)
        if isinstance(member, Table):
            return member
        return _table(path.read_bytes() if member is None else member, ())
    except (FileNotFoundError, NotADirectoryError):
        raise BarFileError(f"{path}: no such file") from None
    except BarFileError as error:
        raise BarFileError(f"{path}: {error}") from None
    except pl.exceptions.PolarsError as error:
        raise BarFileError(f"{path}: cannot be read: {_line(error)}") from None
    except (*BROKEN, RuntimeError, UnicodeError) as error:
        raise BarFileError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or _line(error)}") from None


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _table(data: bytes, packings: tuple[str, ...]) -> Table:
    if len(packings) > _MOST_PACKINGS:
        raise BarFileError("is packed too many times")
    for mark, (name, unpack) in _UNPACKED.items():
        if data.startswith(mark):
            return _table(unpack(data), (*packings, name))
    if data.startswith(ZIP):
        with zipfile.ZipFile(BytesIO(data)) as archive:
            if not is_workbook(archive):
                return _table(archive.read(_only_member(archive)), (*packings, "zip"))
    table = _plain(data)
    if not packings:
        return table
    return Table(
        table.cells, table.heads, f"{table.form} in {' in '.join(reversed(packings))}", table.notes, table.facts
    )


def _plain(data: bytes) -> Table:
    if data.startswith(b"PAR1"):
        return _typed(pl.read_parquet(BytesIO(data)), "Parquet")
    if data.startswith(b"ARROW1"):
        return _typed(pl.read_ipc(BytesIO(data)), "Feather")
    if data.startswith(b"\xff\xff\xff\xff"):
        return _typed(pl.read_ipc_stream(BytesIO(data)), "Arrow stream")
    for name, (place, mark) in _NOT_UNPACKED.items():
        if data.startswith(mark, place):
            raise BarFileError(f"is {name}; unpack it and give the files")
    if data.startswith(b"FEA1"):
        raise BarFileError("is Feather of version 1; write it as version 2 or as Parquet")
    if data.startswith((ZIP, OLD_EXCEL)):
        return read_workbook(data)
    if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")) and (text := _json_text(data)) is not None:
        return read_json(text)
    return read_text(data)


def _json_text(data: bytes) -> str | None:
    """Return the text of a file that begins like JSON; None when it is not, as for the head `[time],[open]`."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    try:
        # Nothing is converted: an integer of thousands of digits would be an error.
        json.loads(text.lstrip().splitlines()[0], parse_int=str)
    except json.JSONDecodeError as error:
        # The first line of a document of several lines is an error only at its end. Any other error means: not JSON.
        return text if error.pos >= len(text.lstrip().splitlines()[0].rstrip()) - 1 else None
    return text


def _only_member(archive: zipfile.ZipFile) -> str:
    names = bar_files(each.filename for each in archive.infolist() if not each.is_dir())
    if len(names) != 1:
        raise BarFileError(f"is an archive of {len(names) or 'no'} files of bars; unpack it and give the files")
    return names[0]


def _typed(frame: pl.DataFrame, form: str) -> Table:
    cells = pl.DataFrame([_as_text(column).alias(str(place)) for place, column in enumerate(frame)])
    return Table(cells.with_columns(numbered()), (tuple(frame.columns),), form)


def _as_text(column: pl.Series) -> pl.Series:
    """Return categories and bytes of text as text, and every other column unchanged."""
    if column.dtype in (pl.Categorical, pl.Enum):
        return column.cast(pl.String)
    if column.dtype != pl.Binary:
        return column
    try:
        return column.cast(pl.String)
    except pl.exceptions.ComputeError:
        # The bytes are not text. If the column is needed, it is refused later.
        return column
