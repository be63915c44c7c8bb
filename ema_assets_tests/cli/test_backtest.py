"""Tests of `ema-assets backtest`: one run, all combinations of several values, a walk-forward test, and errors."""

import json
from pathlib import Path

import polars as pl
import pytest

from ema_assets import backtest
from ema_assets.store.database import Database
from ema_assets_tests.cli.conftest import Refused, Run
from ema_assets_tests.cli.shell import with_bars
from ema_assets_tests.conftest import Databases


@pytest.fixture
def env(database_url: str) -> dict[str, str]:
    """A database with 600 bars of 1h of two symbols, whose prices oscillate and rise slowly."""
    return with_bars(
        database_url,
        """SELECT symbol, '1h', '2026-10-20T00:00Z'::timestamptz + n * interval '1 hour', p, p + 1, p - 1, p, 1
           FROM (VALUES ('BTC-USD', 40), ('AAPL', 25)) AS s(symbol, length),
                generate_series(0, 599) AS n,
                LATERAL (SELECT 100 + n * 0.02 + 10 * sin(n * 6.28 / length) AS p) AS x""",
    )


def test_a_run_shows_the_symbols_from_best_to_worst_and_all_of_them_together(run: Run, env: dict[str, str]) -> None:
    result = run("backtest", "crossover", "--set", "entries=all", "--set", "cost_bps=2", **env)
    assert result.exit_code == 0, result.output
    found = backtest.load("1h", ["AAPL", "BTC-USD"], url=env["EMA_DATABASE_URL"]).run(
        "crossover", entries="all", cost_bps=2
    )
    best = found.performance.sort("total_return_pct", descending=True)
    lines = result.stdout.splitlines()
    assert lines[0].split()[:3] == ["symbol", "bars", "trades"]
    # Without a comma: columns that a terminal has no room for are listed with commas.
    assert lines[0].endswith("profit factor  buy & hold  remark")
    assert [line.split()[:3] for line in lines[1:3]] == [
        [row["symbol"], "600", str(row["trades"])] for row in best.rows(named=True)
    ]
    for line, total in zip(lines[1:3], best["total_return_pct"], strict=True):
        assert f"{total:+.2f} %" in line
    whole = found.portfolio()
    assert lines[3].startswith(
        f"All of them with equal weights: {(whole['equity'][-1] - 1) * 100:+.2f} %, deepest fall"
    )
    assert lines[4:] == ["SYNTHETIC prices, not market data"]


@pytest.mark.parametrize(
    "given",
    [
        ("--json",),
        ("--set", "fast=3,5", "--set", "slow=9"),
        ("--set", "fast=3,5", "--set", "slow=9", "--train", "1w", "--test", "5d"),
    ],
)
def test_requested_symbols_without_bars_are_reported_on_stderr(
    run: Run, env: dict[str, str], given: tuple[str, ...]
) -> None:
    named = run("backtest", "crossover", "--symbol", "BTC-USD", "--symbol", "MSFT", *given, **env)
    assert named.stderr == "Left out, for want of bars on 1h in that time: MSFT\n"
    assert "MSFT" not in named.stdout
    assert not run("backtest", "crossover", "--symbol", "BTC-USD", *given, **env).stderr


def test_symbols_that_were_just_added_to_the_watchlist_are_symbols_without_bars(run: Run, env: dict[str, str]) -> None:
    assert run("symbols", "add", "PLTR", **env).exit_code == 0
    everything = run("backtest", "crossover", **env)
    assert everything.exit_code == 0, everything.output
    assert everything.stderr == "Left out, for want of bars on 1h in that time: MSFT, PLTR\n"
    alone = run("backtest", "crossover", "--symbol", "PLTR", **env)
    assert alone.stderr == "Error: there are no bars of PLTR yet; `ema-assets status` says why\n"


def test_bars_that_look_like_a_split_are_reported_on_stderr(run: Run, env: dict[str, str]) -> None:
    with Database(env["EMA_DATABASE_URL"]) as database, database.transaction() as transaction:
        transaction.execute(
            """
            INSERT INTO market.bar_flag (symbol, timeframe, ts, reason, detail)
            SELECT 'BTC-USD', timeframe, ts::timestamptz, 'jump', detail FROM (VALUES
                ('1h', '2026-10-21T05:00Z', 'close 50 after 100, like a split of 2:1 not adjusted for'),
                ('1h', '2026-10-22T05:00Z', 'close 80 after 100'),
                ('1d', '2026-10-23T00:00Z', 'close 50 after 100, like a split of 2:1 not adjusted for')
            ) AS f (timeframe, ts, detail)
            """
        )
    for given in (("--json",), ("--set", "fast=3,5")):
        said = run("backtest", "crossover", "--symbol", "BTC-USD", "--symbol", "AAPL", *given, **env).stderr
        assert said == (
            "Traded as falls and rises, but they look like splits that the prices are not adjusted for: BTC-USD "
            "2026-10-21 05:00 (UTC); `ema-assets quality --symbol BTC-USD` shows them\n"
        )
    assert not run("backtest", "crossover", "--symbol", "AAPL", **env).stderr
    history = backtest.load("1h", url=env["EMA_DATABASE_URL"])
    assert history.flagged.select("symbol", "reason").unique().rows() == [("BTC-USD", "jump")]
    assert [f"{ts:%d %H}" for ts in history.flagged["ts"]] == ["21 05", "22 05"]
    later = backtest.load("1h", start="2026-10-21 06:00", end="2026-10-22 05:00", url=env["EMA_DATABASE_URL"])
    assert later.flagged.is_empty()


@pytest.mark.broad
def test_without_a_trade_the_deepest_fall_is_zero(run: Run, env: dict[str, str]) -> None:
    result = run("backtest", "crossover", "--set", "fast=200", "--set", "slow=300", **env)
    line = result.stdout.splitlines()[3]
    assert line == "All of them with equal weights: 0.00 %, deepest fall 0.00 %", result.output


def test_a_symbol_whose_price_fell_below_zero_is_left_out_of_the_total(run: Run, database_url: str) -> None:
    env = with_bars(
        database_url,
        """SELECT symbol, '1h', '2026-10-20T00:00Z'::timestamptz + n * interval '1 hour', p, p + 1, p - 1, p, 1
           FROM (VALUES ('BTC-USD', 100), ('AAPL', 2)) AS s(symbol, level), generate_series(0, 599) AS n,
                LATERAL (SELECT level + 10 * sin(n * 6.28 / 40) AS p) AS x""",
    )
    lines = run("backtest", "crossover", "--set", "entries=all", **env).stdout.splitlines()
    assert lines[1].split()[0] == "BTC-USD"
    total = next(part for part in lines[1].split() if part.startswith(("+", "-")))
    assert lines[3].startswith(f"All but AAPL with equal weights: {total} %, deepest fall ")


def test_all_combinations_of_values_are_tried_and_the_best_are_shown_up_to_the_limit(
    run: Run, env: dict[str, str]
) -> None:
    given = ("backtest", "crossover", "1h", "--symbol", "BTC-USD", "--set", "fast=3,5,9", "--set", "slow=5, 13",
             "--set", "atr_stop=none,2", "--set", "entries=all")  # fmt: skip
    rows = json.loads(run(*given, "--json", **env).stdout)
    swept = backtest.load("1h", ["BTC-USD"], url=env["EMA_DATABASE_URL"]).sweep(
        "crossover", fast=[3, 5, 9], slow=[5, 13], atr_stop=[None, 2], entries="all"
    )
    assert len(rows) == swept.height == 8
    returns = [row["total_return_pct"] for row in rows]
    assert returns == sorted(returns, reverse=True)
    assert sorted(returns) == sorted(swept["total_return_pct"])
    lines = run(*given, "--limit", "3", **env).stdout.splitlines()
    assert lines[0].split()[:4] == ["fast", "slow", "atr_stop", "symbol"]
    shown = rows[0]["fast"], rows[0]["slow"], rows[0]["atr_stop"] or "none"
    assert lines[1].split()[:3] == [f"{each:g}" if isinstance(each, float) else str(each) for each in shown]
    assert lines[4:6] == [
        "5 more rows; --limit shows more of them",
        "8 choices were tried, best first: the best of many is partly luck",
    ]
    assert len(lines) == 7


@pytest.mark.broad
def test_a_walk_forward_test_shows_the_result_after_each_choice(run: Run, env: dict[str, str]) -> None:
    given = ("backtest", "crossover", "--set", "fast=3,5", "--set", "slow=9,13", "--set", "entries=all", "--train",
             "1w", "--test", "5d", "--by", "expectancy_pct")  # fmt: skip
    found = json.loads(run(*given, "--json", **env).stdout)
    walk = backtest.load("1h", ["AAPL", "BTC-USD"], url=env["EMA_DATABASE_URL"]).walk_forward(
        "crossover", fast=[3, 5], slow=[9, 13], entries="all", train="7d", test="5d", by="expectancy_pct"
    )
    assert [row["fast"] for row in found["windows"]] == walk.windows["fast"].to_list()
    assert pl.DataFrame(found["performance"])["trades"].to_list() == walk.performance["trades"].to_list()
    lines = run(*given, **env).stdout.splitlines()
    assert "expectancy_pct before  and after" in lines[0]
    assert len(walk.windows) == 4
    assert lines[1].split()[:2] == ["2026-10-27", "00:00"]
    before, after = walk.windows.select("train_expectancy_pct", "test_expectancy_pct").row(0)
    assert lines[1].split()[-4:] == [f"{before:+.2f}", "%", f"{after:+.2f}", "%"]
    assert lines[6] == "All tests together:"
    assert lines[7].split()[0] == "symbol"
    best = walk.performance.sort("expectancy_pct", descending=True)
    assert [line.split()[0] for line in lines[8:10]] == best["symbol"].to_list()
    assert f"{best['trades'][0]} + {best['open_trades'][0]} open" in lines[8]
    mean = best["total_return_pct"].mean()
    assert isinstance(mean, float)
    assert lines[10].startswith(f"All of them with equal weights: {mean:+.2f} %, deepest fall ")
    assert run(*given, "--limit", "1", **env).stdout.splitlines()[9] == "1 more row; --limit shows more of them"
    assert lines[-1] == "SYNTHETIC prices, not market data"


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_the_trades_of_a_run_and_of_a_walk_are_written_to_a_file(
    run: Run, env: dict[str, str], tmp_path: Path, ending: str
) -> None:
    output = tmp_path / f"trades.{ending}"
    history = backtest.load("1h", ["AAPL", "BTC-USD"], url=env["EMA_DATABASE_URL"])
    for given, trades in (
        (("--set", "fast=3"), history.run("crossover", entries="all", fast=3).trades),
        (
            ("--set", "fast=3,5", "--train", "1w", "--test", "5d"),
            history.walk_forward("crossover", entries="all", train="7d", test="5d", fast=[3, 5]).trades,
        ),
    ):
        result = run("backtest", "crossover", "--set", "entries=all", *given, "--trades", str(output), "--json", **env)
        assert json.loads(result.stdout)
        assert result.stderr.splitlines()[0] == f"Wrote {output}: {trades.height} trades"
        if ending == "csv":
            assert output.read_text() == trades.write_csv()
        else:
            assert pl.read_parquet(output).equals(trades)


@pytest.mark.broad
def test_a_read_only_user_can_run_a_backtest(databases: Databases, run: Run, env: dict[str, str]) -> None:
    mine = run("backtest", "pullback", "--set", "entries=all", "--json", **env)
    with databases.member(env["EMA_DATABASE_URL"], "ema_reader") as reader:
        theirs = run("backtest", "pullback", "--set", "entries=all", "--json", EMA_DATABASE_URL=reader)
    assert theirs.exit_code == 0, theirs.output
    assert json.loads(theirs.stdout) == json.loads(mine.stdout)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (("crosover",), "`rule` must be one of crossover, pullback, received 'crosover'; did you mean `crossover`?"),
        (("crossover", "2h"), "2h is not on, the watchlist has"),
        (("crossover", "--symbol", "NVDA"), "not on the watchlist: NVDA"),
        (("crossover", "--set", "fast"), "`--set` must be such as fast=12 or fast=5,9,12, received 'fast'"),
        (("crossover", "--set", "fast=,"), "`--set` must be such as fast=12 or fast=5,9,12, received 'fast=,'"),
        (
            ("crossover", "--set", "start=2026-11-01"),
            "`start` is not set with `--set`; see `ema-assets backtest --help`",
        ),
        (("crossover", "--set", 'side=long,"a, b"'), "`side` must be one of long, short, both, received 'a, b'"),
        (("crossover", "--set", "fast=9,5,9"), "`fast` has the value 9 twice; leave one of them"),
        (("crossover", "--set", "cost_bps=0,0.0"), "`cost_bps` has the value 0.0 twice; leave one of them"),
        (("crossover", "--set", "fast=1_0"), "`fast` must be a whole number from 2 to 1000, received '1_0'"),
        (("crossover", "--set", "fast=5", "--set", "fast=9"), "`--set fast=…` is given twice; give all values at once"),
        (("crossover", "--set", "fast=9.5"), "`fast` must be a whole number from 2 to"),
        (
            ("crossover", "--set", "exit_at_session_end=yes"),
            "`exit_at_session_end` must be true or false, received 'yes'",
        ),
        (("crossover", "--train", "30d"), "`--train` and `--test` must be given together"),
        (
            ("crossover", "--set", "fast=5", "--train", "30d", "--test", "5d"),
            "`--train` chooses among several values, such as `--set fast=5,9,12`; received none",
        ),
        (("crossover", "4h"), "there are no bars of AAPL"),
        (("crossover", "--trades", "a.xlsx"), "the ending of --trades must be one of csv, parquet, received 'xlsx'"),
        (("crossover", "--set", "fast=3,5", "--trades", "a.csv"), "`--trades` writes the trades of one choice; "),
        (("crossover", "--trades", "/none/a.csv"), "/none/a.csv cannot be written: No such file or directory"),
        (("crossover", "--start", "2030-01-01"), "there are no bars with `start` '2030-01-01'; the loaded"),
    ],
)
def test_an_impossible_backtest_is_an_error_of_one_sentence(
    refused: Refused, env: dict[str, str], given: tuple[str, ...], sentence: str
) -> None:
    assert sentence in refused("backtest", *given, **env)
