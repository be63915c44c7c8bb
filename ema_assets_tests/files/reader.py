"""Helpers of the tests of files: write a file, and read its bars as they would be stored."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ema_assets.config.watchlist_edits import instrument_of
from ema_assets.files.options import ReadOptions
from ema_assets.files.reading import BarsOfFile, read
from ema_assets.model.errors import AmbiguousBarFile, BarFileError
from ema_assets.operations.ingest import UnderstoodFile, understand

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
HEADER = "symbol,timeframe,ts,open,high,low,close,volume"
Row = tuple[str, str, str, float | None, float | None, float | None, float | None, float | None]


def written(folder: Path, content: str | bytes, name: str = "bars.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read_text(folder: Path, content: str | bytes, name: str = "AAPL_1d.csv", **options: Any) -> BarsOfFile:
    """Write and read a file, without a check of its times against sessions."""
    return read(written(folder, content, name), ReadOptions(**options))


def understood(path: Path, **options: Any) -> UnderstoodFile:
    """Read the file at `path`, with its times resolved by the sessions of its symbols' calendars."""
    given = ReadOptions(**options)
    source = read(path, given)
    symbols = source.bars["symbol"].unique()
    calendar = given.calendar or source.layout.calendar
    instruments = {symbol: instrument_of(symbol, calendar, "file") for symbol in symbols}
    return understand(source, instruments, {}, given, NOW)


def rows_of(bars: pl.DataFrame) -> list[Row]:
    """Return bars as tuples, with their times as text in UTC."""
    return [(*row[:2], f"{row[2]:%Y-%m-%d %H:%M}", *row[3:]) for row in bars.rows()]


def rows(folder: Path, content: str | bytes, name: str, **options: Any) -> list[Row]:
    return rows_of(understood(written(folder, content, name), **options).bars)


def refusal(path: Path, **options: Any) -> str:
    """Return the sentence with which a file is refused, without its path."""
    with pytest.raises(BarFileError) as caught:
        understood(path, **options)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path}: ")
    assert "\n" not in sentence
    return sentence.removeprefix(f"{path}: ")


def question(path: Path, **options: Any) -> dict[str, dict[str, str]]:
    """Return the possible readings of an ambiguous file: their options by their evidence."""
    with pytest.raises(AmbiguousBarFile) as caught:
        understood(path, **options)
    return {each.evidence: dict(each.answers) for each in caught.value.readings}
