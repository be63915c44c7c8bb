"""Tests of wrong settings and databases: each is an error of one sentence, and no password is ever printed."""

from datetime import date, timedelta
from pathlib import Path
from subprocess import CompletedProcess
from urllib.parse import quote, urlsplit

import psycopg2
import pytest
from click.testing import Result

from ema_assets.cli import environment
from ema_assets.config.settings import Settings
from ema_assets.runtime.postgres.server import EmbeddedServer, read_running
from ema_assets.store.database import Database
from ema_assets_tests.cli.conftest import Refused, Run
from ema_assets_tests.cli.shell import (
    DEAD,
    HEAD,
    bars_file,
    free_port,
    in_a_process,
    sentence_of,
    start,
    with_password,
)
from ema_assets_tests.waiting import GIVEN_UP_AFTER_SECONDS


def test_who_waits_for_results_is_told_what_computes_them_where_nothing_runs(tmp_path: Path) -> None:
    env = {"EMA_HOME": str(tmp_path)}
    alone = environment.how_far(Settings.from_env(env))
    assert alone == "`ema-assets refresh` computes it, and so does `ema-assets up`"
    # A Dagster of the user's may compute.
    shared = environment.how_far(Settings.from_env({**env, "EMA_DATABASE_URL": "postgresql://trader@127.0.0.1/market"}))
    assert shared == "`ema-assets status` says how far it is"


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        (
            "EMA_PROVIDER",
            "foo",
            "`EMA_PROVIDER` must be one of sandbox, alpaca, yahoo, binance, coinbase, ccxt:<exchange>, file, received 'foo'",
        ),
        (
            "EMA_SERIES_PER_RUN",
            "abc",
            "`EMA_SERIES_PER_RUN` must be a whole number from 1 to 100000, received 'abc'",
        ),
        (
            "EMA_ALPACA_BASE_URL",
            "nonsense",
            "`EMA_ALPACA_BASE_URL` must be an http or https URL such as https://data.alpaca.markets, received 'nonsense'",
        ),
    ],
)
@pytest.mark.parametrize("command", ["up", "down", "status", "refresh", "migrate", "sandbox"])
def test_a_wrong_setting_is_reported_with_the_allowed_values(
    refused: Refused, command: str, name: str, value: str, sentence: str
) -> None:
    assert refused(command, **{name: value}) == sentence


@pytest.mark.parametrize("command", ["refresh", "up"])
@pytest.mark.parametrize(
    ("keys", "missing"),
    [
        ({}, "APCA_API_KEY_ID and APCA_API_SECRET_KEY"),
        ({"APCA_API_KEY_ID": "the-key"}, "APCA_API_SECRET_KEY"),
        ({"APCA_API_SECRET_KEY": "the-secret"}, "APCA_API_KEY_ID"),
    ],
)
def test_missing_keys_of_alpaca_are_reported_with_their_variables(
    refused: Refused, command: str, keys: dict[str, str], missing: str
) -> None:
    ports = ("--port", str(free_port()), "--no-board") if command == "up" else ()
    sentence = refused(command, *ports, **{"EMA_PROVIDER": "alpaca", **keys}, EMA_DATABASE_URL=DEAD)
    assert sentence == f"the provider alpaca needs keys: set {missing} to yours"


@pytest.mark.parametrize("command", ["up", "down", "status", "refresh", "migrate", "sandbox"])
def test_a_home_that_is_a_file_is_refused(refused: Refused, tmp_path: Path, command: str) -> None:
    (tmp_path / "file").touch()
    sentence = refused(command, EMA_HOME=str(tmp_path / "file"))
    assert sentence == f"`EMA_HOME` must be a folder, received the file {tmp_path / 'file'}"


@pytest.mark.parametrize("command", [("status",), ("status", "--json"), ("refresh",), ("migrate",), ("up",)])
def test_an_unreachable_database_is_reported_without_its_password(
    run: Run, command: tuple[str, ...], home: Path
) -> None:
    settings = {"EMA_DATABASE_URL": DEAD, "EMA_SANDBOX_URL": "http://127.0.0.1:9"}
    done: Result | CompletedProcess[str]
    if command == ("up",):
        done = in_a_process(*command, "--port", str(free_port()), "--no-board", **settings)
        assert done.returncode == 1
    else:
        done = run(*command, **settings)
        assert done.exit_code == 1
    sentence = sentence_of(done.stderr)
    assert sentence.startswith("cannot connect to postgresql://trader:***@127.0.0.1:9/market: ")
    assert "refused" in sentence
    assert sentence.endswith("; is the server running and EMA_DATABASE_URL right?")
    assert "heim" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "url",
    [
        "mysql://trader:geheim@127.0.0.1:9/market",
        "postgresql://trader:geheim@127.0.0.1:9",
        "postgresql://trader:g@geheim@127.0.0.1:9/market",
        "postgresql://trader:%zzgeheim@127.0.0.1:9/market",
        "postgresql://trader:/geheim@127.0.0.1:9/market",
        "geheim",
    ],
)
@pytest.mark.parametrize("command", [("status", "--json"), ("up",)])
def test_a_malformed_database_url_is_refused_without_its_password(
    refused: Refused, command: tuple[str, ...], url: str
) -> None:
    sentence = refused(*command, EMA_DATABASE_URL=url)
    assert sentence.startswith("`EMA_DATABASE_URL` must read postgresql://USER:PASSWORD@HOST:PORT/DATABASE")
    assert "geheim" not in sentence


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://trader:geheim@127.0.0.1:nine/market",
        "postgresql://trader:geheim@127.0.0.1:9/market?sslmod=require",
        "postgresql://trader@127.0.0.1:9/market?password=geheim",
        "postgresql://trader:geheim@no-such-host.invalid/market?connect_timeout=2",
    ],
)
def test_an_error_of_the_driver_is_one_sentence_without_the_password(refused: Refused, url: str) -> None:
    assert "geheim" not in refused("status", EMA_DATABASE_URL=url)


def test_a_wrong_password_and_a_missing_database_are_reported(refused: Refused, database_url: str) -> None:
    url, password = with_password(database_url)
    wrong = refused("status", EMA_DATABASE_URL=url.replace(quote(password, safe=""), "geheim"))
    assert "password authentication failed" in wrong
    missing = refused("status", EMA_DATABASE_URL=url.replace(urlsplit(url).path, "/nothing"))
    assert 'database "nothing" does not exist' in missing
    assert not any(secret in wrong + missing for secret in (password, "geheim"))


def test_no_command_prints_the_password(run: Run, database_url: str) -> None:
    url, password = with_password(database_url)
    for command in (("status",), ("status", "--json"), ("migrate",)):
        shown = run(*command, EMA_DATABASE_URL=url)
        assert shown.exit_code == 0, shown.output
        assert password not in shown.output
    assert "postgresql://ema:***@127.0.0.1:" in run("status", EMA_DATABASE_URL=url).stdout


def test_a_statement_that_the_database_refuses_is_an_error_of_one_sentence(refused: Refused, database_url: str) -> None:
    """The tables may be those of a newer version, or somebody may have dropped one."""
    connection = psycopg2.connect(database_url)
    with connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE market.series_state CASCADE")
    connection.close()
    sentence = refused("status", EMA_DATABASE_URL=database_url)
    assert sentence.startswith("the database or its driver refused: ")
    assert "market.series_state" in sentence


@pytest.mark.broad
def test_a_pgpassword_for_another_server_does_not_affect_the_embedded_one(home: Path) -> None:
    done = in_a_process("migrate", PGPASSWORD="of another server", PGSSLMODE="require")
    assert done.returncode == 0, done.stderr
    assert "Applied 0001 baseline." in done.stdout


@pytest.mark.broad
def test_concurrent_commands_share_the_embedded_server_and_the_last_one_stops_it(home: Path, tmp_path: Path) -> None:
    """Once, the command that had started the server stopped it while others still used it."""
    days = [date(2020, 1, 1) + timedelta(number) for number in range(1500)]
    counts = {"AAPL": 3, "MSFT": 1500, "BTC-USD": 700}
    files = {
        symbol: bars_file(
            tmp_path, HEAD, *(f"{symbol},1d,{day},10,12,9,11,100" for day in days[:count]), name=f"{symbol}.csv"
        )
        for symbol, count in counts.items()
    }
    started = [start("ingest", "--partial", path) for path in files.values()]
    done = [process.communicate(timeout=GIVEN_UP_AFTER_SECONDS) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], done
    assert read_running(home / "postgres") is None
    with (
        EmbeddedServer(home / "postgres") as server,
        Database(server.url) as database,
        database.transaction() as transaction,
    ):
        stored = transaction.query("SELECT symbol, count(*) AS bars FROM market.ohlc GROUP BY 1")
    assert set(stored["symbol"]) == set(counts)
    assert dict(stored.iter_rows())["AAPL"] == 3  # including 1 January, which is no session of the calendar


def test_a_dagster_yaml_that_does_not_exist_is_refused(run: Run, tmp_path: Path) -> None:
    result = run("up", "--dagster-yaml", str(tmp_path / "none.yaml"))
    assert result.exit_code == 2
    assert "Invalid value for '--dagster-yaml'" in result.stderr
