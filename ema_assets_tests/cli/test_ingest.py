"""`ema-assets ingest`: files refused by name, and what is said of those that are stored."""

import json
from pathlib import Path

from ema_assets_tests.cli.conftest import Refused, Run
from ema_assets_tests.cli.shell import DEAD, HEAD, SOUND, WATCHLIST, bars_file


def test_a_file_that_holds_no_bars_is_refused_by_name(refused: Refused, tmp_path: Path) -> None:
    def sentence(path: str, *options: str) -> str:
        found = refused("ingest", path, *options, EMA_DATABASE_URL=DEAD)
        assert found.startswith(f"{path}: ")
        return found.removeprefix(f"{path}: ")

    assert sentence(str(tmp_path / "none.csv")) == "no such file"
    assert "from .csv and .parquet files" in sentence(bars_file(tmp_path, HEAD, name="bars.txt"))
    assert "from .csv and .parquet files" in sentence(str(tmp_path))
    lacking = sentence(bars_file(tmp_path, "ts,open,high,low,close"))
    assert lacking.startswith("lacks the columns symbol, timeframe, volume; needed are ")
    assert "--symbol and --timeframe" in lacking
    second = sentence(bars_file(tmp_path, HEAD, SOUND, SOUND.replace("2024-02-14", "14.2.2024")))
    assert second == "line 3: `ts` must be a time such as 2024-02-14T14:30:00Z, received '14.2.2024' (1 such line)"
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)))
    (tmp_path / "empty.csv").touch()
    (tmp_path / "text.parquet").write_text(HEAD)
    (tmp_path / "folder.csv").mkdir()
    for name in ("binary.csv", "empty.csv", "text.parquet", "folder.csv"):
        sentence(str(tmp_path / name))


def test_ingested_bars_are_in_the_status_and_their_symbol_is_on_the_watchlist(
    run: Run, home: Path, database_url: str
) -> None:
    path = bars_file(home, HEAD, SOUND, SOUND.replace("AAPL", "OLD"), "OLD,1d,2024-02-15,10,9,9,11,100")
    result = run("ingest", path, EMA_DATABASE_URL=database_url)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Added OLD (XNYS) to the watchlist, its bars from files.\n")
    rows = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines() if "|1d" in line}
    assert rows["AAPL|1d"][:7] == ["1", "0", "0", "0", "0", "0", "0"]
    assert rows["OLD|1d"][:7] == ["1", "0", "0", "0", "0", "0", "1"]
    assert "newer bars of AAPL are SYNTHETIC" in result.stdout
    status = json.loads(run("status", "--json", EMA_DATABASE_URL=database_url).stdout)
    daily = next(each for each in status["assets"] if (each["asset"], each["timeframe"]) == ("ohlc", "1d"))
    assert daily["series"] == 4
    assert daily["newest_ts"].startswith("2024-02-14T")
    assert ["OLD", "XNYS", "files"] in [line.split() for line in run("symbols", "list").stdout.splitlines()]


def test_only_symbols_of_a_synthetic_provider_are_called_synthetic(run: Run, home: Path, database_url: str) -> None:
    group = '[[group]]\ncalendar = "24/7"\nprovider = "binance"\nsymbols = ["ETHUSDT"]\n'
    (home / "watchlist.toml").write_text(WATCHLIST + group)
    real = bars_file(home, HEAD, SOUND.replace("AAPL", "ETHUSDT"), name="real.csv")
    result = run("ingest", real, EMA_DATABASE_URL=database_url)
    assert result.exit_code == 0, result.output
    assert "ETHUSDT|1d  1 " in result.stdout
    assert "SYNTHETIC" not in result.stdout
    both = bars_file(home, HEAD, SOUND, SOUND.replace("AAPL", "ETHUSDT"), name="both.csv")
    assert "newer bars of AAPL are SYNTHETIC" in run("ingest", both, EMA_DATABASE_URL=database_url).stdout
    real_default = run("ingest", both, EMA_DATABASE_URL=database_url, EMA_PROVIDER="yahoo")
    assert real_default.exit_code == 0
    assert "SYNTHETIC" not in real_default.stdout


def test_what_is_skipped_and_rejected_is_counted_with_its_reason(run: Run, home: Path, database_url: str) -> None:
    path = bars_file(
        home,
        HEAD,
        "AAPL,5m,2024-02-14T15:00:00Z,10,12,9,11,100",
        "AAPL,5m,2024-02-14T03:00:00Z,10,12,9,11,100",
        "AAPL,5m,2024-02-14T15:05:00Z,10,9,12,11,100",
    )
    result = run("ingest", path, EMA_DATABASE_URL=database_url)
    head, row = [line for line in result.stdout.splitlines() if line.startswith("  ")]
    assert head.split() == [
        *("series", "stored", "of", "these", "corrected", "already", "there"),
        *("missing", "flagged", "skipped", "rejected", "why"),
    ]
    assert row.split()[:8] == ["AAPL|5m", "1", "0", "0", "0", "0", "1", "1"]
    shown = run("quality", EMA_DATABASE_URL=database_url)
    assert [line for line in shown.stdout.splitlines() if line[:1] not in ("", " ")] == [
        "gaps: 0",
        "revisions: 0",
        "flagged: 0",
        "rejected: 1:",
        "skipped: 1:",
    ]
    found = json.loads(run("quality", "--json", EMA_DATABASE_URL=database_url).stdout)
    assert [(each["series"], each["bars"]) for each in found["skipped"]] == [("AAPL|5m", 1)]
    assert [(each["series"], each["ts"]) for each in found["rejected"]] == [("AAPL|5m", "2024-02-14T15:05:00+00:00")]
    of_another = run("quality", "--symbol", "MSFT", EMA_DATABASE_URL=database_url)
    assert "rejected: 0" in of_another.stdout
