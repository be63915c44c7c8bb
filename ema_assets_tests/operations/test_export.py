"""Tests of the export of results to files: complete, incremental, resumable."""

from collections.abc import Callable
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ema_assets.model.errors import ConfigurationError
from ema_assets.operations import export as exporting
from ema_assets.operations.export import FORMATS, Exported, export
from ema_assets.refresh.graph import Graph, build
from ema_assets.runtime.postgres.archives import back_up, restore
from ema_assets.store.database import Database
from ema_assets_tests.conftest import mostly_broad
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, refresh, tables_of, utc, watch
from ema_assets_tests.timeframes import D1, H1, M5

WEEK = (date(2026, 11, 23), date(2026, 11, 27))
SYMBOLS = {"AAPL": "XNYS", "BTC/USD": "24/7"}
WATCHED = watch(SYMBOLS, timeframes=(M5, H1, D1))
READ: dict[str, Callable[[Path], pl.DataFrame]] = {
    "parquet": pl.read_parquet,
    "csv": lambda path: pl.read_csv(path, try_parse_dates=True),
    "arrow": pl.read_ipc,
}


@pytest.fixture
def source(database: Database) -> MemoryExchange:
    made = MemoryExchange(
        *(bars_on(calendar, symbol, M5, *WEEK, seed=1) for symbol, calendar in SYMBOLS.items()),
        *(bars_on(calendar, symbol, D1, *WEEK, seed=2) for symbol, calendar in SYMBOLS.items()),
    )
    refresh(database, WATCHED, made, utc("2026-11-26 12:00"))
    return made


GRAPH: Graph = build(WATCHED)


def exported(database: Database, folder: Path, form: str = "parquet") -> list[Exported]:
    return list(export(database, GRAPH.on, (M5, H1, D1), list(SYMBOLS), folder, form))


def named(done: list[Exported]) -> list[str]:
    return [f"{each.asset} {each.series}" for each in done if each.rows is not None]


@pytest.mark.parametrize("form", mostly_broad(sorted(FORMATS, reverse=True)))
def test_files_of_every_format_have_all_stored_rows(
    database: Database, source: MemoryExchange, tmp_path: Path, form: str
) -> None:
    done = exported(database, tmp_path, form)
    assert sum(each.rows or 0 for each in done) == sum(rows.height for rows in tables_of(database).values())
    # A symbol may contain characters that are not allowed in a file name.
    path = tmp_path / "ohlc" / "5m" / f"BTC%2FUSD.{form}"
    found = READ[form](path)
    stored = tables_of(database)["ohlc"].filter(symbol="BTC/USD", timeframe="5m").sort("ts")
    assert found.columns[:3] == ["symbol", "timeframe", "ts"]
    assert_frame_equal(
        found.with_columns(pl.col("ts").dt.convert_time_zone("UTC").dt.cast_time_unit("us")),
        stored.select(found.columns),
        check_exact=True,
        check_dtypes=form != "csv",
    )
    assert not list(tmp_path.rglob("*.part"))


def test_an_export_writes_only_changed_series_and_continues_one_that_was_stopped(
    database: Database, source: MemoryExchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "_NOTED_EVERY", 1)
    begun = export(database, GRAPH.on, (M5, H1, D1), list(SYMBOLS), tmp_path, "parquet")
    first = [next(begun) for _ in range(3)]
    begun.close()  # type: ignore[attr-defined]
    # The third series was yielded but not recorded, so it is written again.
    rest = exported(database, tmp_path)
    assert named(rest)[0] == named(first)[2]
    assert set(named(first)[:2]).isdisjoint(named(rest))
    assert named(exported(database, tmp_path)) == []
    source.correct(source.bars.filter(symbol="AAPL", timeframe="1d").head(1).with_columns(volume=1.0))
    refresh(database, WATCHED, source, utc("2026-11-26 12:00"), symbols=["AAPL"], timeframes=[D1], everything=True)
    assert named(exported(database, tmp_path)) == ["ohlc AAPL|1d"]


def test_a_long_series_is_split_into_several_files(
    database: Database, source: MemoryExchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "ROWS_PER_FILE", 100)
    exported(database, tmp_path)
    files = sorted((tmp_path / "ohlc" / "5m").glob("AAPL*.parquet"))
    heights = [pl.read_parquet(path).height for path in files]
    assert len(files) > 1
    assert max(heights) == 100
    stored = tables_of(database)["ohlc"].filter(symbol="AAPL", timeframe="5m").sort("ts")
    assert_frame_equal(pl.read_parquet(files).sort("ts").select("ts", "close"), stored.select("ts", "close"))
    # The series is shorter now, so its further files are deleted.
    with database.transaction() as transaction:
        transaction.execute(
            "DELETE FROM market.ohlc WHERE symbol = 'AAPL' AND timeframe = '5m' AND ts > '2026-11-23T15:00Z'"
        )
        transaction.execute("UPDATE market.series_state SET revision = revision + 1 WHERE symbol = 'AAPL'")
    exported(database, tmp_path)
    assert [path.name for path in (tmp_path / "ohlc" / "5m").glob("AAPL*")] == ["AAPL.parquet"]


def test_a_folder_has_the_export_of_one_database_in_one_format(
    database: Database, source: MemoryExchange, tmp_path: Path
) -> None:
    stopped = export(database, GRAPH.on, (M5, H1, D1), list(SYMBOLS), tmp_path / "stopped", "parquet")
    next(stopped)
    stopped.close()  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match="holds an export of the format parquet, not csv"):
        exported(database, tmp_path / "stopped", "csv")
    exported(database, tmp_path)
    with pytest.raises(ConfigurationError, match="holds an export of the format parquet, not csv"):
        exported(database, tmp_path, "csv")
    with database.transaction() as transaction:
        transaction.execute("UPDATE ema_assets.migration SET applied_at = applied_at - interval '1 day'")
    with pytest.raises(ConfigurationError, match="holds an export of another database"):
        exported(database, tmp_path)
    (tmp_path / "export.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="is not a record of an export"):
        exported(database, tmp_path)


@pytest.mark.broad
def test_an_export_after_a_restore_writes_series_again_although_revisions_repeat(
    database: Database, database_url: str, source: MemoryExchange, tmp_path: Path
) -> None:
    def corrected(volume: float) -> None:
        first = source.bars.filter(symbol="AAPL", timeframe="1d").sort("ts").head(1)
        source.correct(first.with_columns(volume=volume))
        with Database(database_url) as again:
            refresh(again, WATCHED, source, utc("2026-11-26 12:00"), symbols=["AAPL"], timeframes=[D1], everything=True)
            exported(again, tmp_path / "exported")

    back_up(database_url, tmp_path / "backup")
    corrected(1.0)
    database.close()
    restore(database_url, tmp_path / "backup", replace=True)
    corrected(2.0)
    found = pl.read_parquet(tmp_path / "exported" / "ohlc" / "1d" / "AAPL.parquet")
    assert found["volume"][0] == 2.0


@pytest.mark.broad
def test_all_files_of_an_asset_are_read_by_one_pattern(
    database: Database, source: MemoryExchange, tmp_path: Path
) -> None:
    """DuckDB reads all files of an asset by one pattern. Symbol and timeframe are columns of the files."""
    exported(database, tmp_path)
    found = (
        pl.scan_parquet(tmp_path / "ohlc" / "*" / "*.parquet", hive_partitioning=False)
        .group_by("symbol", "timeframe")
        .agg(pl.len().alias("bars"))
        .collect()
    )
    stored = tables_of(database)["ohlc"].group_by("symbol", "timeframe").agg(pl.len().alias("bars"))
    assert_frame_equal(found.sort("symbol", "timeframe"), stored.sort("symbol", "timeframe"))


def test_the_bytes_written_for_the_record_do_not_grow_with_the_square_of_the_series(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[int] = []

    def move(part: Path, path: Path) -> None:
        noted.append(part.stat().st_size)
        part.rename(path)

    monkeypatch.setattr("ema_assets.operations.export.os.replace", move)
    manifest = exporting._Manifest.of(tmp_path, exporting._Identity("2026-11-27", 1), "parquet")
    for number in range(5_000):
        manifest.note(f"ohlc/S{number:05}|5m", "1 1")
    # A save after every 50 series would write the record 100 times, half of its final size on average.
    assert sum(noted) < 25 * (tmp_path / "export.json").stat().st_size
    assert noted == sorted(noted)
