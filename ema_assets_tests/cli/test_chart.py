"""Tests of `ema-assets chart`: a chart of a series in the terminal or as a file."""

from pathlib import Path

import pytest

from ema_assets_tests.cli.conftest import Refused, Run
from ema_assets_tests.cli.shell import with_bars


@pytest.fixture
def env(database_url: str) -> dict[str, str]:
    """A database with three bars of BTC-USD on 1h."""
    return with_bars(
        database_url,
        """SELECT 'BTC-USD', '1h', '2026-11-20T10:00Z'::timestamptz + n * interval '1 hour', 10, 12, 9, 10 + n, n
           FROM generate_series(0, 2) AS n""",
    )


def test_without_an_output_file_the_chart_is_drawn_in_the_terminal(run: Run, env: dict[str, str]) -> None:
    result = run("chart", "BTC-USD", **env, COLUMNS="80", LINES="20")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "BTC-USD 1h  bar of 2026-11-20 12:00 UTC  close 12.00  SYNTHETIC prices"
    assert len(lines) == 19
    assert max(map(len, lines)) <= 80
    assert any("┃" in line for line in lines)
    assert list(Path().glob("*.png")) == []


@pytest.mark.broad
def test_a_chart_is_written_to_a_file_and_this_is_reported(run: Run, env: dict[str, str]) -> None:
    result = run("chart", "BTC-USD", "-o", "btc.png", **env)
    assert result.exit_code == 0, result.output
    assert result.stdout == "Wrote btc.png: 3 bars of BTC-USD on 1h\n"
    assert Path("btc.png").read_bytes().startswith(b"\x89PNG")


def test_a_series_may_be_given_by_the_name_of_its_partition(run: Run, refused: Refused, env: dict[str, str]) -> None:
    named = run("chart", "BTC-USD|1h", "-o", "btc.png", **env)
    assert named.stdout == "Wrote btc.png: 3 bars of BTC-USD on 1h\n"
    assert refused("chart", "BTC-USD|1h", "5m", **env) == "a chart is of one timeframe, received 1h and 5m"
    assert "must be one of" in refused("chart", "BTC-USD|2x", **env)


def test_the_suffix_of_the_file_decides_its_format(run: Run, refused: Refused, env: dict[str, str]) -> None:
    assert run("chart", "BTC-USD", "1h", "-o", "two.svg", "--bars", "2", **env).exit_code == 0
    text = Path("two.svg").read_text()
    assert "<svg" in text
    assert refused("chart", "BTC-USD", "-o", "two.gif", **env) == (
        "the ending of --output must be one of png, svg, pdf, received 'gif'"
    )


@pytest.mark.broad
def test_synthetic_prices_are_marked(run: Run, env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    titles = []
    monkeypatch.setattr("ema_assets.reports.chart._name_axes", lambda *given: titles.append(given[3]))
    run("chart", "BTC-USD", "-o", "one.png", **env)
    run("chart", "BTC-USD", "-o", "one.png", **env, EMA_PROVIDER="binance")
    assert titles == ["SYNTHETIC prices", ""]


def test_a_chart_that_cannot_be_drawn_is_an_error_of_one_sentence(refused: Refused, env: dict[str, str]) -> None:
    assert refused("chart", "NOPE", **env) == "not on the watchlist: NOPE; `ema-assets symbols list` shows what is"
    assert refused("chart", "BTC-USD", "--averages", "12/26", **env) == (
        "`averages` must be one of 9/30, received '12/26'"
    )
    assert refused("chart", "AAPL", **env) == "there are no bars of AAPL on 1h yet; `ema-assets status` says why"
    assert refused("chart", "BTC-USD", "1h", "-o", "nowhere/x.png", **env) == (
        "nowhere/x.png cannot be written: No such file or directory"
    )
