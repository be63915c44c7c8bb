"""Tests of `ema-assets ingest` with files on another price scale than the stored bars."""

from pathlib import Path

import polars as pl

from ema_assets_tests.cli.conftest import Run
from ema_assets_tests.cli.shell import bars_file
from ema_assets_tests.refresh.exchange import moved
from ema_assets_tests.refresh.test_scales_of_files import TODAY, as_traded, different


def written(folder: Path, bars: pl.DataFrame) -> str:
    lines = bars.select(pl.col("ts").dt.date().cast(pl.String), "open", "high", "low", "close", "volume").rows()
    return bars_file(
        folder, "Date,Open,High,Low,Close,Volume", *(",".join(map(str, line)) for line in lines), name="KO.csv"
    )


def test_a_level_that_no_ratio_of_small_numbers_explains_is_called_a_split_of_about_so_much(
    run: Run, home: Path, database_url: str
) -> None:
    bars = TODAY[:40]
    assert run("ingest", written(home, bars), EMA_DATABASE_URL=database_url).exit_code == 0
    noise = 1 + (pl.int_range(pl.len()) % 5) * 0.01
    other = bars[20:].with_columns(pl.col("open", "high", "low", "close") / 586.3 * noise)
    done = run("ingest", written(home, other), EMA_DATABASE_URL=database_url)
    assert "is adjusted for a split of about 5" in done.stdout


def test_a_file_as_traded_is_converted_to_the_stored_scale_and_one_that_tells_no_scale_is_refused(
    run: Run, home: Path, database_url: str
) -> None:
    assert run("ingest", written(home, TODAY), EMA_DATABASE_URL=database_url).exit_code == 0
    once, twice = as_traded(TODAY[:120], 4.0), pl.concat([moved(TODAY[:80], 8.0), moved(TODAY[80:120], 2.0)])
    for bars, splits in ((once, "a 4:1 split"), (twice, "splits of 4:1 and 2:1")):
        old = run("ingest", written(home, bars), EMA_DATABASE_URL=database_url)
        assert (old.exit_code, old.stderr) == (0, "")
        assert old.stdout.splitlines()[-1] == (
            f"KO|1d: the file is not adjusted for {splits}; its bars of before were brought to the scale of what is stored"
        )
    unlike = pl.concat([moved(TODAY[:80], 8.0), different(TODAY[80:120])])
    refused = run("ingest", written(home, unlike), EMA_DATABASE_URL=database_url)
    assert refused.exit_code == 1
    assert refused.stderr.startswith(
        "Error: KO|1d: up to 2026-06-03 13:30 UTC the file and the stored bars are on two "
    )
