"""Exporting results as files for other tools: one per asset, timeframe and symbol, written only when it changed."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl

from ema_assets.model.errors import ConfigurationError
from ema_assets.model.symbols import Series
from ema_assets.model.timeframes import Timeframe
from ema_assets.refresh.graph import Node
from ema_assets.store import ledger, tables
from ema_assets.store.database import Database, Transaction

# The most rows per file, and in memory at a time. A longer series continues in numbered files.
ROWS_PER_FILE = 500_000
# The record is saved after this many new series, or a twentieth of those in it if that is more, because each save
# writes the whole record. An export that was stopped continues from the last save.
_NOTED_EVERY = 50
_NOTED_SHARE = 20
_MANIFEST = "export.json"

_WRITERS: Mapping[str, Callable[[pl.DataFrame, Path], object]] = {
    "parquet": lambda rows, path: rows.write_parquet(path),
    "csv": lambda rows, path: rows.write_csv(path),
    "arrow": lambda rows, path: rows.write_ipc(path, compression="zstd"),
}
FORMATS = tuple(_WRITERS)


@dataclass(frozen=True, slots=True)
class Exported:
    """The result for one series: how many rows were written; None when its files were up to date."""

    asset: str
    series: Series
    rows: int | None


def export(
    database: Database,
    nodes: Sequence[Node],
    timeframes: Sequence[Timeframe],
    symbols: Sequence[str],
    folder: Path,
    form: str,
) -> Iterator[Exported]:
    """Write the rows of `nodes` to `folder`, as `ohlc/5m/AAPL.parquet`; only series that have changed since.

    Each file has the columns symbol, timeframe, the time, and those of its asset, sorted by time. A file is complete or
    does not exist: it is written next to its place and moved. Deleted files are not noticed: delete the whole folder to
    export everything again. Yields every series when it is done.

    Raises:
        ConfigurationError: when the folder has an export of another database or in another format.
    """
    manifest = _Manifest.of(folder, _identity(database), form)
    # Saved before the first file, so that a folder has a record even if the export is stopped at once.
    manifest.save()
    for node in nodes:
        for timeframe in timeframes:
            with database.transaction() as transaction:
                transaction.read_one_moment()
                if not tables.has_part(transaction, node.table, timeframe):
                    continue
                revisions = ledger.revisions(transaction, node.name, timeframe, symbols)
                for symbol, revision in revisions.items():
                    series, mark = Series(symbol, timeframe), f"{revision} {node.code_version}"
                    key = f"{node.name}/{series}"
                    if manifest.written.get(key) == mark:
                        yield Exported(node.name, series, None)
                        continue
                    yield Exported(node.name, series, _write(transaction, node, series, folder, form))
                    manifest.note(key, mark)
            manifest.save()


@dataclass(frozen=True, slots=True)
class _Identity:
    """Identifies a database by the time it was created, and distinguishes it from itself before a restore."""

    born: str
    incarnation: int


def _identity(database: Database) -> _Identity:
    with database.transaction() as transaction:
        return _Identity(ledger.began(transaction), ledger.incarnation(transaction))


def write_file(rows: pl.DataFrame, path: Path, form: str) -> None:
    """Write `rows` to `path` in `form`, one of FORMATS: the whole file, or nothing if it fails."""
    part = path.with_name(f".{path.name}.part")
    _WRITERS[form](rows, part)
    os.replace(part, path)  # noqa: PTH105 - the same, and atomic


def _write(transaction: Transaction, node: Node, series: Series, folder: Path, form: str) -> int:
    """Write the files of one series and delete its surplus files; return the number of rows."""
    place = folder / node.name / series.timeframe.key
    place.mkdir(parents=True, exist_ok=True)
    name = quote(series.symbol, safe="^=.-_")
    rows, number = 0, 0
    for page in tables.pages(transaction, node.table, series.timeframe, [series.symbol], ROWS_PER_FILE):
        number += 1
        timeframe = pl.lit(series.timeframe.key).alias("timeframe")
        path = place / _file_name(name, number, form)
        write_file(page.select("symbol", timeframe, pl.exclude("symbol")), path, form)
        rows += page.height
    while (beyond := place / _file_name(name, number := number + 1, form)).exists():
        beyond.unlink()
    return rows


def _file_name(name: str, number: int, form: str) -> str:
    return f"{name}.{form}" if number == 1 else f"{name}~{number}.{form}"


class _Manifest:
    """The record of an export in its folder: by series, the revision that was written."""

    def __init__(self, path: Path, identity: _Identity, form: str, written: dict[str, str]) -> None:
        self.written = written
        self._path, self._identity, self._form = path, identity, form
        self._new = 0

    @classmethod
    def of(cls, folder: Path, identity: _Identity, form: str) -> "_Manifest":
        """Return the record of `folder`, or an empty one. After a restore, the record has no series as written.

        Raises:
            ConfigurationError: when the record cannot be read, or is of another database or format.
        """
        path = folder / _MANIFEST
        if not path.exists():
            return cls(path, identity, form, {})
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            known = (found["format"], found["database"])
            written = dict(found["written"]) if found.get("incarnation") == identity.incarnation else {}
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(f"{path} is not a record of an export; export to another folder") from error
        if known != (form, identity.born):
            what = "another database" if known[0] == form else f"the format {known[0]}, not {form}"
            raise ConfigurationError(f"{folder} holds an export of {what}; export to another folder")
        return cls(path, identity, form, written)

    def note(self, key: str, mark: str) -> None:
        """Remember that a series was written."""
        self.written[key] = mark
        self._new += 1
        if self._new >= max(_NOTED_EVERY, len(self.written) // _NOTED_SHARE):
            self.save()

    def save(self) -> None:
        """Write the record to its file, if anything was noted since the last time."""
        if not self._new and self._path.exists():
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_name(f".{self._path.name}.part")
        part.write_text(
            json.dumps(
                {
                    "format": self._form,
                    "database": self._identity.born,
                    "incarnation": self._identity.incarnation,
                    "written": self.written,
                }
            ),
            encoding="utf-8",
        )
        os.replace(part, self._path)  # noqa: PTH105
        self._new = 0
