"""Finds the encoding of a text file and converts it to UTF-8. Knows no bars, only the names that columns may have."""

import codecs
import re
from functools import cache

from ema_assets.files.discovery import discover
from ema_assets.model.errors import BarFileError

# The mark of UTF-32 begins with that of UTF-16.
_BOMS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
# Encodings of one or two bytes per letter, with their usual names. Among equal ones the first is taken.
_CODE_PAGES = {
    "cp1252": "Windows-1252",
    "cp1251": "Windows-1251",
    "cp1254": "Windows-1254",
    "gb18030": "GB 18030",
    "cp932": "Shift JIS",
    "cp949": "EUC-KR",
}
# The names of the columns are within this many bytes.
_HEAD_BYTES = 2_000


def as_utf8(data: bytes) -> tuple[bytes, str]:
    """Return the text as UTF-8 without a byte order mark, and the name of its encoding if it is not UTF-8.

    The bytes of one text are valid in many code pages. The code page is the one in which most columns have a name that
    a layout knows and that is not ASCII, such as `Clôture`; without such a name it is Windows-1252.

    Raises:
        BarFileError: when the bytes are not text.
    """
    for mark, encoding in _BOMS.items():
        if data.startswith(mark):
            rest = data[len(mark) :]
            return (rest, "") if encoding == "utf-8" else (_decoded(rest, encoding), encoding.upper())
    start = data[:1000]
    if start.count(0) > len(start) // 4:
        # In UTF-16, every other byte of ASCII text is zero.
        encoding = "utf-16-le" if start[1::2].count(0) > start[::2].count(0) else "utf-16-be"
        return _decoded(data, encoding), encoding.upper()
    if 0 in start:
        raise BarFileError("is no text, no Parquet, no Feather, no Excel and no JSON")
    try:
        data.decode()
    except UnicodeDecodeError:
        page = max(_CODE_PAGES, key=lambda page: _known_names(data[:_HEAD_BYTES], page))
        return _decoded(data, page), _CODE_PAGES[page]
    return data, ""


def _decoded(data: bytes, encoding: str) -> bytes:
    return data.decode(encoding, "replace").encode()


def _known_names(head: bytes, page: str) -> int:
    words = re.findall(r"[^\W\d_]+", head.decode(page, "ignore").lower())
    return len(_foreign_names().intersection(words))


@cache
def _foreign_names() -> frozenset[str]:
    """Return the column names of all layouts that are one word and not ASCII."""
    columns = (name for layout in discover() for name in layout.columns.values())
    names = (each for name in columns for each in ((name,) if isinstance(name, str) else name))
    return frozenset(name for name in names if not name.isascii() and " " not in name)
