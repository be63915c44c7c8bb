"""Tests of `ema-assets ingest`: the summary of a file, questions with suggested commands, and the stored bars."""

import json
import shlex
import zipfile
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from click.testing import Result

from ema_assets.store.database import Database
from ema_assets_tests.cli.conftest import Refused, Run
from ema_assets_tests.cli.shell import DEAD, HEAD, SOUND, WATCHLIST, bars_file
from ema_assets_tests.conftest import mostly_broad

BARE = "Date,Open,High,Low,Close,Volume"


def commands_of(result: Result) -> list[list[str]]:
    """Return the arguments of the commands that a refusal suggests."""
    lines = [line.strip() for line in result.stderr.splitlines() if line.startswith("    ema-assets ")]
    return [shlex.split(line)[1:] for line in lines]


def reasons_of(result: Result) -> list[str]:
    return [line.removeprefix("Error: ") for line in result.stderr.splitlines() if line.startswith("Error: ")]


def table_of(result: Result) -> dict[str, list[str]]:
    """Return the rows of the summaries by series: the numbers of bars stored, corrected, already there, missing, …"""
    lines = result.stdout.splitlines()
    heads = [place for place, line in enumerate(lines) if line.startswith("  series ")]
    rows = [line.split() for head in heads for line in lines[head + 1 :] if "|" in line and not line.startswith("    ")]
    return {row[0]: row[1:] for row in rows}


def naive_new_york(folder: Path, *, days: Sequence[int] = (14,)) -> str:
    """Write a file with 5m bars of whole sessions; their times are New York time, at the close of each bar."""
    times = [datetime(2025, 1, day, 9, 35) + number * timedelta(minutes=5) for day in days for number in range(78)]
    return bars_file(folder, HEAD, *(f"NY,5m,{time},10,12,9,11,100" for time in times), name="ny.csv")


def test_a_file_without_readable_bars_is_refused_with_its_path(refused: Refused, tmp_path: Path) -> None:
    def sentence(path: str, *options: str) -> str:
        found = refused("ingest", path, *options, EMA_DATABASE_URL=DEAD)
        assert found.startswith(f"{path}: ")
        return found.removeprefix(f"{path}: ")

    assert sentence(str(tmp_path / "none.csv")) == "no such file"
    assert sentence(bars_file(tmp_path, "ts,open,high,low")).startswith("lacks the column close; needed are ")
    second = sentence(bars_file(tmp_path, HEAD, SOUND, SOUND.replace("2024-02-14", "St. Valentine's")))
    assert (
        second == 'line 3: `ts` must be a time such as 2024-02-14T14:30:00Z, received "St. Valentine\'s" (1 such line)'
    )
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)))
    (tmp_path / "empty.csv").touch()
    (tmp_path / "text.parquet").write_text(HEAD)
    (tmp_path / "folder").mkdir()
    for name in ("binary.csv", "empty.csv", "folder"):
        sentence(str(tmp_path / name))
    assert sentence(str(tmp_path / "*.none")) == "no file matches"


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("--tz", "Mars/Base", "`--tz` must be a zone such as UTC, America/New_York"),
        ("--label", "middle", "`--label` must be one of open, close"),
        ("--dates", "ydm", "`--dates` must be one of dmy, mdy, ymd"),
        ("--decimal", ";", "`--decimal` must be one of ., ,"),
        ("--columns", "ts,open,klose", "`--columns` must be one of ts, date, time, open,"),
        ("--columns", "open,close", "`--columns` must name ts (or date and time) and close at least"),
        ("--columns", "ts,close,close", "`--columns` names close twice"),
        ("--timeframe", "60m", "`timeframe` must be one of 1m, 3m, 5m"),
        ("--calendar", "XXXX", "`calendar` must be "),
    ],
)
def test_an_invalid_option_is_refused_with_the_allowed_values(
    refused: Refused, tmp_path: Path, option: str, value: str, allowed: str
) -> None:
    assert allowed in refused("ingest", str(tmp_path / "x.csv"), option, value, EMA_DATABASE_URL=DEAD)


@pytest.mark.broad
def test_the_interpretation_of_a_file_is_printed_with_its_first_bars_as_stored(
    run: Run, home: Path, database_url: str
) -> None:
    lines = [f"2024-02-{day},{day},{day + 2},{day - 1},{day + 1}.5,{day}00" for day in (20, 16, 15, 14, 13, 12)]
    path = bars_file(
        home,
        "Prices of an exchange",
        BARE.replace(",", ";"),
        *(line.replace(",", ";") for line in lines),
        name="VOD.L.csv",
    )
    result = run("ingest", path, EMA_DATABASE_URL=database_url)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[:16] == [
        f"{path}: 6 bars of VOD.L|1d, 2024-02-12 08:00 to 2024-02-20 08:00 UTC",
        "  layout     columns by their names (text)",
        "  symbol     VOD.L (the name of the file)",
        "  timeframe  1d (the distance of its bars)",
        "  times      the sessions of XLON",
        "  label      the date",
        "  calendar   XLON (the suffix .L)",
        "  note       semicolon separated",
        "  note       1 line above the table left out",
        "  as stored  opening times in UTC",
        "    series    ts                open  high  low  close  volume",
        "    VOD.L|1d  2024-02-12 08:00  12    14    11   13.5   1200",
        "    VOD.L|1d  2024-02-13 08:00  13    15    12   14.5   1300",
        "    VOD.L|1d  2024-02-14 08:00  14    16    13   15.5   1400",
        "    VOD.L|1d  2024-02-15 08:00  15    17    14   16.5   1500",
        "    VOD.L|1d  2024-02-16 08:00  16    18    15   17.5   1600",
    ]
    assert "Added VOD.L (XLON) to the watchlist, its bars from files." in result.stdout


def test_tiny_prices_of_a_file_are_printed_with_all_their_digits(run: Run, home: Path, database_url: str) -> None:
    path = bars_file(
        home,
        HEAD,
        *(f"SHIB-USD,1d,2024-02-{day},0.00001234,0.00001301,0.0000119,0.0000125,7" for day in (14, 15)),
        name="s.csv",
    )
    shown = run("ingest", path, "--dry-run", EMA_DATABASE_URL=database_url).stdout
    assert "0.00001234  0.00001301  0.0000119  0.0000125  7" in shown
    assert "e-05" not in shown


@pytest.mark.broad
def test_each_file_of_an_archive_is_stored_and_an_unclear_one_can_be_given_alone(
    run: Run, home: Path, database_url: str
) -> None:
    path = home / "prices.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("us/KO.csv", f"{BARE}\n2024-02-14,10,12,9,11,100\n")
        archive.writestr("us/PG.csv", f"{BARE}\n2024-02-14,20,22,19,21,100\n2024-02-15,21,23,20,22,100\n")
        archive.writestr("us/odd ones/IBM.csv", f"{BARE}\n02/03/2024,10,12,9,11,100\n")
    result = run("ingest", str(path), EMA_DATABASE_URL=database_url)
    assert result.exit_code == 1
    assert {series: row[0] for series, row in table_of(result).items()} == {"KO|1d": "1", "PG|1d": "2"}
    command = next(each for each in commands_of(result) if each[-2:] == ["--dates", "dmy"])
    assert command[:2] == ["ingest", f"{path}/us/odd ones/IBM.csv"]
    answered = run(*command, EMA_DATABASE_URL=database_url)
    assert answered.exit_code == 0, answered.output
    assert {series: row[0] for series, row in table_of(answered).items()} == {"IBM|1d": "1"}


@pytest.mark.broad
def test_a_dry_run_stores_nothing_and_adds_no_symbol(run: Run, home: Path) -> None:
    before = (home / "watchlist.toml").read_text()
    path = bars_file(home, BARE, "2024-02-14,10,12,9,11,100", name="OLD.csv")
    result = run("ingest", path, "--dry-run", EMA_DATABASE_URL=DEAD)
    assert result.exit_code == 0, result.output
    assert "OLD|1d  2024-02-14 14:30  10    12    9    11     100" in result.stdout
    assert result.stdout.endswith("Nothing was stored: this was a dry run.\n")
    assert (home / "watchlist.toml").read_text() == before


@pytest.mark.broad
def test_times_without_a_zone_are_refused_and_the_suggested_command_stores_them(
    run: Run, home: Path, database_url: str
) -> None:
    path = naive_new_york(home)
    before = (home / "watchlist.toml").read_text()
    asked = run("ingest", path, EMA_DATABASE_URL=database_url)
    assert asked.exit_code == 1
    assert asked.stdout == ""
    assert asked.stderr.splitlines() == [
        f"Error: {path}: its times name no zone, and as UTC 59 of 78 lie outside the sessions",
        "  as America/New_York, labelled at the close of each bar, all 78 times fit the sessions of XNYS:",
        f"    ema-assets ingest {path} --tz America/New_York --label close",
    ]
    assert (home / "watchlist.toml").read_text() == before
    told = run(*commands_of(asked)[0], EMA_DATABASE_URL=database_url)
    assert told.exit_code == 0, told.output
    assert table_of(told)["NY|5m"][0] == "78"
    assert "    NY|5m   2025-01-14 14:30  10    12    9    11     100" in told.stdout.replace(
        "NY|5m  2025", "NY|5m   2025"
    )


@pytest.mark.parametrize(
    ("name", "lines", "reason", "chosen"),
    mostly_broad([
        (
            "KO.csv",
            (BARE, "04/03/2024,10,12,9,11,100", "05/03/2024,10,12,9,11,100"),
            "its dates, such as 04/03/2024, may be day/month or month/day: no number in them is above 12",
            "--dates dmy",
        ),
        (
            "KO.csv",
            ("Date;Open;High;Low;Close", "2024-03-04;1,010;1,012;1,009;1,011"),
            "the comma in its numbers may set thousands apart or be the decimal sign",
            "--decimal .",
        ),
        (
            "KO_1d.csv",
            ("2024-03-04,10,12,9,11,100", "2024-03-05,10,12,9,11,100"),
            "has no head that names its columns",
            "--columns ts,open,high,low,close,volume",
        ),
        (
            "KO.csv",
            ("ts,open,high,low,close", "2024-03-04T15:00,10,12,9,11", "2024-03-04T15:05,10,12,9,11", "2024-03-04T15:10,10,12,9,11"),
            "its times name no zone, and they fit the sessions in more than one",
            "--tz UTC",
        ),
        (
            "KO_5m.csv",
            ("ts,open,high,low,close", *(f"2024-03-04T{hour}:30Z,10,12,9,11" for hour in range(14, 21))),
            "its bars are 1 hour apart, which 5m bars (the name of the file) are not",
            "--timeframe 1h",
        ),
        (
            "KO_1d.csv",
            (BARE, *(f"2024-03-{day:02},10,12,9,11,100" for day in range(1, 32))),
            "11 of 31 days are no sessions of XNYS, 10 of them on a weekend, such as 2024-03-02",
            "--calendar 24/7",
        ),
        (
            "BTCUSD_1h.csv",
            (*(f"{1325376000 + 3600 * hour},4.5,4.5,4.5,4.5,0" for hour in range(6)), "1325397600,5,5.5,4.9,5.2,3"),
            "has no head that names its columns",
            "--columns ts,open,high,low,close,volume",
        ),
        (
            "KO_1d.csv",
            ("Date,Adj Close", "2024-03-04,58.9", "2024-03-05,59.1"),
            "its only price is Adj Close, which is adjusted for dividends, and stored prices are not; get a file with Close",
            "--columns date,close",
        ),
        (
            "KO_1h.csv",
            ("ts,open,high,low,close", *(f"2024-06-{day:02} {hour:02}:30 EST,10,12,9,11" for day in (3, 4) for hour in range(9, 16))),
            "its times name a zone that has no summer time, and 2 of 14 lie outside the sessions in it",
            "--tz America/New_York",
        ),
        (
            "KO_5m.csv",
            ("time,open,high,low,close", *(f"2024-06-03T{hour:02}:{minute:02}:00-04:00,10,12,9,11" for hour, minute in ((15, 45), (15, 50), (15, 55), (16, 0)))),
            "its times seem to be those at which bars close, not open",
            "--label close",
        ),
    ], 3),
)  # fmt: skip
def test_each_question_suggests_a_command_that_works(
    run: Run, home: Path, database_url: str, name: str, lines: tuple[str, ...], reason: str, chosen: str
) -> None:
    path = bars_file(home, *lines, name=name)
    asked = run("ingest", path, EMA_DATABASE_URL=database_url)
    assert asked.exit_code == 1
    assert reasons_of(asked) == [f"{path}: {reason}"]
    command = commands_of(asked)[0]
    assert shlex.join(command) == f"ingest {path} {chosen}"
    told = run(*command, EMA_DATABASE_URL=database_url)
    assert told.exit_code == 0, told.output
    count, *_ = next(iter(table_of(told).values()))
    assert int(count) == int(told.stdout.split(": ", 1)[1].split(" ", 1)[0])


def test_minutes_of_a_new_symbol_suggest_a_group_that_takes_them(run: Run, home: Path, database_url: str) -> None:
    start = datetime(2025, 1, 14)
    times = [start + timedelta(minutes=number) for number in range(2 * 1440)]
    path = bars_file(home, BARE, *(f"{time},10,12,9,11,100" for time in times), name="ETHUSDT_1m.csv")
    asked = run("ingest", path, EMA_DATABASE_URL=database_url)
    assert asked.exit_code == 1
    has = "5m, 15m, 30m, 1h, 4h, 1d; say `--timeframe` if its bars are others"
    assert reasons_of(asked) == [f"{path}: has 1m bars of ETHUSDT, which has {has}"]
    place, *lines = (line.strip() for line in asked.stderr.splitlines() if line.startswith("    "))
    assert place == f"add to {home / 'watchlist.toml'}:"
    group = "\n".join(lines)
    with (home / "watchlist.toml").open("a") as watchlist:
        watchlist.write(f"\n{group}\n")
    told = run("ingest", path, EMA_DATABASE_URL=database_url)
    assert told.exit_code == 0, told.output
    assert {name: (row[0], " ".join(row[7:])) for name, row in table_of(told).items()} == {
        "ETHUSDT|1m": ("2880", ""),
        "ETHUSDT|5m": ("576", "rolled up from 1m"),
        "ETHUSDT|1d": ("2", "rolled up from 1m"),
    }
    story = run("quality", "--symbol", "ETHUSDT", EMA_DATABASE_URL=database_url)
    assert "ETHUSDT|5m: 2025-01-14 00:00 to 2025-01-15 23:55 UTC, 576 rolled up from 1m." in story.stdout


def test_minutes_of_a_watched_symbol_suggest_to_move_it_to_a_group_that_takes_them(
    run: Run, home: Path, database_url: str
) -> None:
    (home / "watchlist.toml").write_text('[[group]]\nprovider = "file"\nsymbols = ["KO", "PEP"]\n')
    times = [datetime(2025, 1, 14, 14, 30) + timedelta(minutes=number) for number in range(390)]
    path = bars_file(home, BARE, *(f"{time}Z,10,12,9,11,100" for time in times), name="KO_1m.csv")
    asked = run("ingest", path, "--dry-run", EMA_DATABASE_URL=database_url)
    place, *lines = (line.strip() for line in asked.stderr.splitlines() if line.startswith("    "))
    assert place == f"take KO out of the group where it is in {home / 'watchlist.toml'}, and add:"
    group = "\n".join(lines)
    (home / "watchlist.toml").write_text(f'[[group]]\nprovider = "file"\nsymbols = ["PEP"]\n{group}\n')
    assert table_of(run("ingest", path, EMA_DATABASE_URL=database_url))["KO|1m"][0] == "390"


def test_a_file_without_a_symbol_is_refused_with_a_command_to_fill_in(run: Run, home: Path) -> None:
    path = bars_file(home, BARE, "2024-02-14,10,12,9,11,100", name="prices.csv")
    asked = run("ingest", path, "--dates", "dmy", EMA_DATABASE_URL=DEAD)
    assert reasons_of(asked) == [f"{path}: says nowhere which symbol its bars are of"]
    assert commands_of(asked) == [["ingest", path, "--symbol", "SYMBOL", "--dates", "dmy"]]


def test_a_ticker_behind_an_exchange_suggests_the_symbol_that_is_meant(
    run: Run, home: Path, database_url: str, tmp_path: Path
) -> None:
    """The continuous future is another series than a contract, so that it is asked about."""
    text = "time,open,high,low,close\n2025-01-14,1,2,1,2\n2025-01-15,1,2,1,2\n"
    path = bars_file(tmp_path, text, name="CME_MINI_ES1!, 1D.csv")
    asked = run("ingest", path, EMA_DATABASE_URL=database_url)
    assert reasons_of(asked) == [f"{path}: CME:ES: an exchange is written behind the symbol here; write ES=F"]
    (command,) = commands_of(asked)
    done = run(*command, EMA_DATABASE_URL=database_url)
    assert "Added ES=F (CMES) to the watchlist, its bars from files." in done.stdout
    assert table_of(done)["ES=F|1d"][0] == "2"


def test_symbols_that_name_their_exchange_are_those_of_that_exchange(
    run: Run, home: Path, database_url: str, tmp_path: Path
) -> None:
    """VOD alone is another share, in New York."""
    rows = [f"2025-01-14,{symbol},1,2,1,2" for symbol in ("NASDAQ:AAPL", "LSE:VOD", "700 HK Equity", "BINANCE:BTCUSDT")]
    done = run("ingest", bars_file(tmp_path, "Date,Symbol,Open,High,Low,Close", *rows), EMA_DATABASE_URL=database_url)
    assert done.exit_code == 0, done.output
    assert "  symbol     AAPL, VOD.L, 0700.HK, BTCUSDT (its column, which says NASDAQ:AAPL)" in done.stdout
    assert "  calendar   XLON (the suffix .L): VOD.L" in done.stdout
    assert {name: row[0] for name, row in table_of(done).items()} == dict.fromkeys(
        ("AAPL|1d", "VOD.L|1d", "0700.HK|1d", "BTCUSDT|1d"), "1"
    )
    name = bars_file(tmp_path, "time,open,high,low,close", "2025-01-15,1,2,1,2", name="LSE_VOD, 1D.csv")
    again = run("ingest", name, EMA_DATABASE_URL=database_url)
    assert "  symbol     VOD.L (the name of the file, which says LSE:VOD)" in again.stdout


def test_an_unclear_symbol_beside_watched_ones_is_to_be_added_first(
    run: Run, home: Path, database_url: str, tmp_path: Path
) -> None:
    rows = [f"2025-01-14,{symbol},1,2,1,2" for symbol in ("KO", "VOD.L", "TOOLONG")]
    path = bars_file(tmp_path, "Date,Symbol,Open,High,Low,Close", *rows)
    assert run("symbols", "add", "KO", "VOD.L", "--provider", "file").exit_code == 0
    asked = run("ingest", path, EMA_DATABASE_URL=database_url)
    assert asked.stderr.endswith(
        "; other symbols of the file are on the watchlist, so add it: `ema-assets symbols add TOOLONG --calendar CODE "
        "--provider file`\n"
    )
    assert run("symbols", "add", "TOOLONG", "--calendar", "XNYS", "--provider", "file").exit_code == 0
    assert table_of(run("ingest", path, EMA_DATABASE_URL=database_url)).keys() == {"KO|1d", "VOD.L|1d", "TOOLONG|1d"}


def test_an_unclear_symbol_beside_watched_ones_of_one_calendar_may_have_that_calendar(
    run: Run, home: Path, database_url: str, tmp_path: Path
) -> None:
    rows = [f"2025-01-14,{symbol},1,2,1,2" for symbol in ("KO", "GOLD", "TOOLONG")]
    path = bars_file(tmp_path, "Date,Symbol,Open,High,Low,Close", *rows)
    assert run("symbols", "add", "KO", "--provider", "file").exit_code == 0
    (command,) = commands_of(run("ingest", path, EMA_DATABASE_URL=database_url))
    assert command == ["ingest", path, "--calendar", "XNYS"]
    assert table_of(run(*command, EMA_DATABASE_URL=database_url)).keys() == {"KO|1d", "GOLD|1d", "TOOLONG|1d"}


def test_the_option_symbol_in_the_spelling_of_another_vendor_is_refused_with_ours(
    refused: Refused, tmp_path: Path
) -> None:
    path = bars_file(tmp_path, HEAD, SOUND)
    sentence = refused("ingest", path, "--symbol", "ko us", EMA_DATABASE_URL=DEAD)
    assert sentence == "KO US: a symbol has no such characters here; write KO"


def test_a_symbol_whose_calendar_is_unclear_is_refused_with_calendars_to_choose_from(run: Run, home: Path) -> None:
    path = bars_file(home, BARE, "2024-02-14,10,12,9,11,100", name="TOOLONG.csv")
    asked = run("ingest", path, EMA_DATABASE_URL=DEAD)
    assert asked.exit_code == 1
    assert reasons_of(asked)[0].startswith(f"{path}: TOOLONG: ")
    assert "`--calendar`" in asked.stderr
    commands = commands_of(asked)
    assert [command[-2:] for command in commands] == [["--calendar", each] for each in ("XNYS", "24/5", "24/7")]
    for command in commands:
        assert run(*command, "--dry-run", EMA_DATABASE_URL=DEAD).exit_code == 0


def test_each_suggested_calendar_is_printed_with_its_own_reason(run: Run, home: Path) -> None:
    weekend = [f"2024-03-{day:02}T{hour:02}:00:00Z,10,12,9,11,100" for day in (8, 9, 10) for hour in range(24)]
    path = bars_file(home, BARE, *weekend, name="TOOLONG_1h.csv")
    asked = run("ingest", path, EMA_DATABASE_URL=DEAD)
    lines = [line.strip().removesuffix(":") for line in asked.stderr.splitlines()[1:]]
    offered = {command: evidence for evidence, command in zip(lines[::2], lines[1::2], strict=True)}
    assert offered == {
        f"ema-assets ingest {path} --calendar XNYS --partial": "with `--partial` what fits is stored and the rest skipped",
        f"ema-assets ingest {path} --calendar 24/5": "its times fit the sessions of 24/5",
        f"ema-assets ingest {path} --calendar 24/7": "its times fit the sessions of 24/7",
    }


def test_a_symbol_in_lower_case_is_the_watched_symbol(run: Run, home: Path) -> None:
    path = bars_file(home, f"Symbol,{BARE}", "aapl,2024-02-14,10,12,9,11,100", "zzz,2024-02-14,10,12,9,11,100")
    told = run("ingest", path, "--dry-run", EMA_DATABASE_URL=DEAD)
    assert "  symbol     AAPL, zzz (its column)" in told.stdout.splitlines()


def test_the_calendar_of_a_watched_symbol_comes_from_the_watchlist(run: Run, home: Path) -> None:
    path = bars_file(home, BARE, "2024-02-14,10,12,9,11,100", name="AAPL.csv")
    asked = run("ingest", path, "--calendar", "XLON", EMA_DATABASE_URL=DEAD)
    assert reasons_of(asked) == [
        (
            f"{path}: AAPL is on the watchlist with the calendar XNYS, and `--calendar` is for new symbols; move it to another "
            f"group in {home / 'watchlist.toml'}"
        )
    ]
    weekends = bars_file(home, BARE, *(f"2024-03-{day:02},1,2,1,2,5" for day in range(1, 32)), name="AAPL.csv")
    advised = run("ingest", weekends, EMA_DATABASE_URL=DEAD)
    assert f'    move AAPL to a group with `calendar = "24/7"` in {home / "watchlist.toml"}' in advised.stderr


@pytest.mark.broad
def test_a_bad_file_is_reported_and_the_others_are_stored(run: Run, home: Path, database_url: str) -> None:
    folder = home / "bars"
    folder.mkdir()
    (folder / ".hidden").write_text("x")
    bars_file(folder, BARE, "2024-02-14,10,12,9,11,100", name="KO.csv")
    bad = bars_file(folder, BARE, "2024-02-14,10,12,9,11,100", "a day,10,12,9,11,100", name="BAD.csv")
    bars_file(folder, BARE, "2024-02-14,10,12,9,11,100", name="PEP.csv")
    result = run("ingest", str(folder), EMA_DATABASE_URL=database_url)
    assert result.exit_code == 1
    assert [reason.partition(": ")[0] for reason in reasons_of(result)] == [bad]
    added = [line for line in result.stdout.splitlines() if line.startswith("Added ")]
    assert [line.split()[1] for line in added] == ["KO", "PEP"]
    again = run("ingest", str(folder / "[KP]*.csv"), EMA_DATABASE_URL=database_url)
    assert again.exit_code == 0, again.output
    rows = [line.split() for line in again.stdout.splitlines() if "|1d " in line and "2024-" not in line]
    assert [(row[0], row[1], row[3]) for row in rows] == [("KO|1d", "0", "1"), ("PEP|1d", "0", "1")]


@pytest.mark.parametrize(("given", "meant"), [("aapl", "AAPL"), ("ko", "KO"), ("brk.b", "BRK.B")])
def test_a_symbol_given_in_small_letters_is_the_one_in_capitals(run: Run, home: Path, given: str, meant: str) -> None:
    bars = bars_file(home, BARE, "2024-02-14,10,12,9,11,100", name="prices.csv")
    result = run("ingest", bars, "--symbol", given, "--dry-run")
    assert f"1 bar of {meant}|1d" in result.stdout


@pytest.mark.broad
def test_ingest_says_what_computes_the_results_of_new_bars_and_of_no_others(
    run: Run, home: Path, database_url: str
) -> None:
    bars = bars_file(home, BARE, "2024-02-14,10,12,9,11,100", name="KO.csv")
    last = [run("ingest", bars, EMA_DATABASE_URL=database_url).stdout.splitlines()[-1] for _ in range(2)]
    assert last[0] == "`ema-assets refresh` computes what follows from it, and so does `ema-assets up`."
    assert last[1].split() == ["KO|1d", "0", "0", "1", "0", "0", "0", "0"]


def test_folders_in_a_folder_and_files_of_an_archive_that_are_not_read_are_named(run: Run, home: Path) -> None:
    folder = home / "bars"
    for name in ("2024", "2025", ".cache"):
        (folder / name).mkdir(parents=True)
    bars_file(folder, BARE, "2024-02-14,10,12,9,11,100", name="KO.csv")
    archive = folder / "more.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for name in ("PG.csv", "PEP.csv", "IBM.txt", ".hidden"):
            packed.writestr(name, f"{BARE}\n2024-02-14,10,12,9,11,100\n")
    result = run("ingest", str(folder), "--dry-run")
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines() == [
        f"{folder}: 2 folders in it are not read: 2024, 2025; name those that have bars",
        f"{archive}: 1 file in it is not read: IBM.txt; name those that have bars",
    ]


def test_a_folder_that_has_only_folders_is_refused_with_their_names(refused: Refused, home: Path) -> None:
    folder = home / "equity"
    for name in ("daily", "minute", ".cache"):
        (folder / name).mkdir(parents=True)
    assert (
        refused("ingest", str(folder))
        == f"{folder}: has no files but folders: daily, minute; name those that have bars"
    )


def test_a_later_download_of_the_same_name_corrects_the_earlier_ones(run: Run, home: Path, database_url: str) -> None:
    folder = home / "bars"
    folder.mkdir()
    names = ["KO.csv", "KO (1).csv", "KO (2).csv", "KO (10).csv"]
    for number, name in enumerate(names):
        bars_file(folder, BARE, f"2024-02-14,10,12,9,{10 + number / 4},100", name=name)
    for files in (folder, folder / "*.csv"):
        result = run("ingest", str(files), EMA_DATABASE_URL=database_url)
        assert result.exit_code == 0, result.output
        read = [line for line in result.stdout.splitlines() if line.endswith("1 bar read")]
        assert [line.removeprefix(f"{folder}/").partition(": ")[0] for line in read] == names
    shown = run(
        "quality", "--symbol", "KO", "--timeframe", "1d", "--bar", "2024-02-14T14:30", EMA_DATABASE_URL=database_url
    )
    assert "close 10.75, volume 100, from KO (10).csv." in shown.stdout


@pytest.mark.broad
def test_overlapping_and_shuffled_files_give_the_bars_of_one_file(run: Run, home: Path, database_url: str) -> None:
    days = [f"2024-03-{day:02},{day},{day + 2},{day - 1}.5,{day + 1},100" for day in (1, 4, 5, 6, 7, 8, 11, 12)]
    whole = bars_file(home, BARE, *days, name="KO.csv")
    parts = [
        bars_file(home, BARE, *reversed(days[:5]), name="KO_1d_2024-03-01.csv"),
        bars_file(home, BARE, *days[6:2:-1], days[7], name="KO_1d_2024-03-06.csv"),
    ]
    assert run("ingest", *parts, EMA_DATABASE_URL=database_url).exit_code == 0
    again = run("ingest", whole, EMA_DATABASE_URL=database_url)
    (row,) = [line.split() for line in again.stdout.splitlines() if line.startswith("  KO|1d")]
    assert row[:4] == ["KO|1d", "0", "0", "8"]


@pytest.mark.broad
def test_a_file_with_one_price_per_day_and_no_volume_is_stored(run: Run, home: Path, database_url: str) -> None:
    path = bars_file(home, "DATE,VALUE", "2024-01-12,4783.83", "2024-01-15,.", "2024-01-16,4765.98", name="SPX.csv")
    result = run("ingest", path, "--calendar", "XNYS", EMA_DATABASE_URL=database_url)
    assert result.exit_code == 0, result.output
    assert "1 row without prices left out" in result.stdout
    shown = run(
        "quality", "--symbol", "SPX", "--timeframe", "1d", "--bar", "2024-01-12T14:30", EMA_DATABASE_URL=database_url
    )
    assert "open 4,783.83, high 4,783.83, low 4,783.83, close 4,783.83" in shown.stdout
    with Database(database_url) as database, database.transaction() as transaction:
        stored = transaction.query("SELECT close, volume FROM market.ohlc WHERE symbol = 'SPX' ORDER BY ts")
        assert stored.rows() == [(4783.83, None), (4765.98, None)]


@pytest.mark.broad
def test_ingested_bars_are_in_the_status_and_their_symbol_is_on_the_watchlist(
    run: Run, home: Path, database_url: str
) -> None:
    path = bars_file(home, HEAD, SOUND, SOUND.replace("AAPL", "OLD"), "OLD,1d,2024-02-15,10,12,9,110,100")
    result = run("ingest", path, EMA_DATABASE_URL=database_url)
    assert result.exit_code == 0, result.output
    assert "Added OLD (XNYS) to the watchlist, its bars from files.\n" in result.stdout
    rows = table_of(result)
    assert rows["AAPL|1d"][:7] == ["1", "0", "0", "0", "0", "0", "0"]
    assert rows["OLD|1d"][:7] == ["1", "0", "0", "0", "0", "0", "1"]
    assert "newer bars of AAPL are SYNTHETIC" in result.stdout
    status = json.loads(run("status", "--json", EMA_DATABASE_URL=database_url).stdout)
    daily = next(each for each in status["assets"] if (each["asset"], each["timeframe"]) == ("ohlc", "1d"))
    assert daily["series"] == 4
    assert daily["newest_ts"].startswith("2024-02-14T")
    assert ["OLD", "XNYS", "file"] in [line.split()[:3] for line in run("symbols", "list").stdout.splitlines()]


@pytest.mark.broad
def test_only_symbols_of_a_synthetic_provider_are_called_synthetic(run: Run, home: Path, database_url: str) -> None:
    group = '[[group]]\ncalendar = "24/7"\nprovider = "binance"\nsymbols = ["ETHUSDT"]\n'
    (home / "watchlist.toml").write_text(WATCHLIST + group)
    real = bars_file(home, HEAD, SOUND.replace("AAPL", "ETHUSDT"), name="real.csv")
    result = run("ingest", real, EMA_DATABASE_URL=database_url)
    assert result.exit_code == 0, result.output
    assert table_of(result)["ETHUSDT|1d"][0] == "1"
    assert "SYNTHETIC" not in result.stdout
    both = bars_file(home, HEAD, SOUND, SOUND.replace("AAPL", "ETHUSDT"), name="both.csv")
    assert "newer bars of AAPL are SYNTHETIC" in run("ingest", both, EMA_DATABASE_URL=database_url).stdout
    real_default = run("ingest", both, EMA_DATABASE_URL=database_url, EMA_PROVIDER="yahoo")
    assert real_default.exit_code == 0
    assert "SYNTHETIC" not in real_default.stdout


def test_skipped_and_rejected_bars_are_counted_and_listed_by_quality(run: Run, home: Path, database_url: str) -> None:
    path = bars_file(
        home,
        HEAD,
        "AAPL,5m,2024-02-14T15:00:00Z,10,12,9,11,100",
        "AAPL,5m,2024-02-14T03:00:00Z,10,12,9,11,100",
        "AAPL,5m,2024-02-14T15:05:00Z,10,12,9,110,100",
        "AAPL,5m,2024-02-14T15:10:00Z,10,12,9,11,100",
    )
    result = run("ingest", path, EMA_DATABASE_URL=database_url)
    head, row = [line for line in result.stdout.splitlines() if line.startswith("  ")][-2:]
    assert head.split() == [
        *("series", "stored", "of", "these", "corrected", "already", "there"),
        *("missing", "flagged", "skipped", "rejected", "why"),
    ]
    assert row.split()[:8] == ["AAPL|5m", "2", "0", "0", "1", "0", "1", "1"]
    shown = run("quality", EMA_DATABASE_URL=database_url)
    assert [line for line in shown.stdout.splitlines() if line[:1] not in ("", " ")] == [
        "gaps: 1:",
        "revisions: 0",
        "flagged: 0",
        "rejected: 1:",
        "skipped: 1:",
    ]
    assert "10.00 12.00 9.00 110.00" in " ".join(shown.stdout.split())
    found = json.loads(run("quality", "--json", EMA_DATABASE_URL=database_url).stdout)
    assert [(each["series"], each["bars"], each["reason"]) for each in found["skipped"]] == [
        ("AAPL|5m", 1, "outside the session")
    ]
    assert [(each["series"], each["ts"], each["reason"]) for each in found["rejected"]] == [
        ("AAPL|5m", "2024-02-14T15:05:00+00:00", "close outside low to high")
    ]
    of_another = run("quality", "--symbol", "MSFT", EMA_DATABASE_URL=database_url)
    assert "rejected: 0" in of_another.stdout


def test_a_symbol_from_files_is_refreshed_without_a_running_provider(run: Run, home: Path, database_url: str) -> None:
    times = [datetime(2025, 1, 14, 14, 30) + number * timedelta(minutes=5) for number in range(78)]
    path = bars_file(home, HEAD, *(f"KO,5m,{time}Z,10,12,9,11,100" for time in times))
    assert run("ingest", path, EMA_DATABASE_URL=database_url).exit_code == 0
    refreshed = run("refresh", "--symbol", "KO", EMA_DATABASE_URL=database_url)
    assert refreshed.exit_code == 0, refreshed.output
    assert "ohlc                1h  1 series, 7 rows written" in refreshed.stdout
    both = run("refresh", "--symbol", "KO", "--symbol", "AAPL", EMA_DATABASE_URL=database_url)
    assert "the sandbox exchange is a provider but does not run" in both.stderr


@pytest.mark.broad
def test_with_files_as_the_default_provider_a_refresh_needs_no_other_provider(
    run: Run, home: Path, database_url: str
) -> None:
    env = {"EMA_PROVIDER": "file", "EMA_DATABASE_URL": database_url}
    path = bars_file(home, HEAD, SOUND)
    told = run("ingest", path, **env)
    assert told.exit_code == 0, told.output
    assert "SYNTHETIC" not in told.stdout
    refreshed = run("refresh", **env)
    assert refreshed.exit_code == 0, refreshed.output
    assert refreshed.stdout.splitlines()[-1] == "Up to date."
    listed = [line.split()[2] for line in run("symbols", "list", **env).stdout.splitlines()[1:]]
    assert listed == ["file", "file", "file"]
