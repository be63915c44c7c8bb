"""Tests of settings from the environment, and of the forms of the database's URL."""

from contextlib import closing
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote

import psycopg2.extensions
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url

from ema_assets.config.settings import Settings, postgres_programs
from ema_assets.model.errors import ConfigurationError
from ema_assets.model.urls import dagster_url, libpq_url, masked_url, watched_url
from ema_assets.providers import alpaca, binance, coinbase, sandbox, yahoo


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings(**env: str) -> Settings:
    return Settings.from_env(env)


def config(found: Settings, module: ModuleType) -> Any:
    """Return the configuration of the provider that `module` declares."""
    return found.config_of(module.PROVIDER)


def refusal(**env: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        settings(**env)
    return str(caught.value)


def test_every_setting_has_a_default(folder: Path) -> None:
    found = settings()
    assert found.home == folder / ".ema"
    assert (found.database_url, config(found, sandbox).base_url) == (None, None)
    assert (found.provider, found.is_synthetic) == ("sandbox", True)
    assert found.watchlist_path == folder / ".ema" / "watchlist.toml"
    assert (found.series_per_run, config(found, sandbox).seed) == (1000, 930)
    assert (found.run_retention_days, found.rejected_retention_days, found.correction_retention_days) == (14, 90, 0)
    assert config(found, alpaca).base_url == "https://data.alpaca.markets"
    assert (config(found, alpaca).feed, config(found, alpaca).history_feed) == ("iex", "sip")
    assert (config(found, yahoo).base_url, config(found, binance).base_url) == (
        "https://query1.finance.yahoo.com",
        "https://data-api.binance.vision",
    )
    assert config(found, coinbase).base_url == "https://api.exchange.coinbase.com"
    rates = [config(found, each).requests_per_minute for each in (alpaca, yahoo, binance, coinbase)]
    assert rates == [200, 100, 2_400, 480]
    folders = {found.postgres_folder, found.dagster_home, found.logs_folder}
    assert len(folders) == 3
    assert all(each.parent == found.home for each in folders)


def test_empty_variables_count_as_not_set() -> None:
    names = (
        "EMA_HOME EMA_DATABASE_URL EMA_PROVIDER EMA_WATCHLIST EMA_ALPACA_BASE_URL EMA_ALPACA_FEED EMA_ALPACA_HISTORY_FEED APCA_API_KEY_ID "
        "APCA_API_SECRET_KEY EMA_SANDBOX_URL EMA_SANDBOX_SEED EMA_SERIES_PER_RUN EMA_ALPACA_TRADING_URL "
        "EMA_ALPACA_REQUESTS_PER_MINUTE EMA_YAHOO_BASE_URL EMA_YAHOO_TRANSPORT EMA_YAHOO_REQUESTS_PER_MINUTE EMA_BINANCE_BASE_URL "
        "EMA_BINANCE_REQUESTS_PER_MINUTE EMA_COINBASE_BASE_URL EMA_COINBASE_REQUESTS_PER_MINUTE EMA_CCXT_REQUESTS_PER_MINUTE EMA_RUN_RETENTION_DAYS EMA_REJECTED_RETENTION_DAYS "
        "EMA_CORRECTION_RETENTION_DAYS"
    )
    assert settings(**dict.fromkeys(names.split(), " ")) == settings()


def test_a_key_of_alpaca_selects_alpaca_unless_another_provider_is_named() -> None:
    found = settings(APCA_API_KEY_ID="key", APCA_API_SECRET_KEY="secret")
    assert (found.provider, found.is_synthetic) == ("alpaca", False)
    assert found.publications[None].delay == timedelta(seconds=3)
    assert settings(APCA_API_KEY_ID="key", EMA_PROVIDER="sandbox").provider == "sandbox"


def test_a_watchlist_in_the_current_folder_wins_over_the_default_and_a_named_one_over_both(folder: Path) -> None:
    (folder / "watchlist.toml").touch()
    assert settings().watchlist_path == folder / "watchlist.toml"
    assert settings(EMA_WATCHLIST="mine.toml").watchlist_path == folder / "mine.toml"
    assert settings(EMA_HOME="~/x").home == Path.home() / "x"


def test_no_repr_contains_secrets() -> None:
    found = settings(
        APCA_API_KEY_ID="the-key", APCA_API_SECRET_KEY="the-secret", EMA_DATABASE_URL="postgresql://u:the-word@h/db"
    )
    assert not any(secret in repr(found) for secret in ("the-key", "the-secret", "the-word"))
    assert {each.name for each in fields(found) if not each.repr} == {"database_url"}
    assert {each.name for each in fields(config(found, alpaca)) if not each.repr} == {"key_id", "secret_key"}


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("EMA_ALPACA_REQUESTS_PER_MINUTE", 1, 100_000),
        ("EMA_YAHOO_REQUESTS_PER_MINUTE", 1, 100_000),
        ("EMA_BINANCE_REQUESTS_PER_MINUTE", 1, 3_000),
        ("EMA_COINBASE_REQUESTS_PER_MINUTE", 1, 600),
        ("EMA_CCXT_REQUESTS_PER_MINUTE", 1, 100_000),
        ("EMA_SANDBOX_SEED", 0, 2**31 - 1),
        ("EMA_SERIES_PER_RUN", 1, 100_000),
        ("EMA_RUN_RETENTION_DAYS", 1, 36_500),
        ("EMA_REJECTED_RETENTION_DAYS", 1, 36_500),
        ("EMA_CORRECTION_RETENTION_DAYS", 0, 36_500),
    ],
)
def test_a_number_out_of_range_is_refused_with_its_range(name: str, least: int, most: int) -> None:
    settings(**{name: str(least)})
    settings(**{name: f" {most} "})
    for text in (str(least - 1), str(most + 1), "many", "1.5", "-"):
        assert refusal(**{name: text}) == f"`{name}` must be a whole number from {least} to {most}, received {text!r}"


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("EMA_PROVIDER", "sandbox, alpaca, yahoo, binance, coinbase, ccxt:<exchange>, file"),
        ("EMA_ALPACA_FEED", "iex, sip"),
        ("EMA_ALPACA_HISTORY_FEED", "sip, iex"),
        ("EMA_YAHOO_TRANSPORT", "httpx, curl_cffi"),
    ],
)
def test_an_unknown_choice_is_refused_with_the_allowed_ones(name: str, allowed: str) -> None:
    sentence = refusal(**{name: "google"})
    assert sentence.startswith(f"`{name}` must be one of {allowed}")
    assert sentence.endswith("received 'google'")


@pytest.mark.parametrize(
    "name",
    ["EMA_ALPACA_BASE_URL", "EMA_YAHOO_BASE_URL", "EMA_BINANCE_BASE_URL", "EMA_COINBASE_BASE_URL", "EMA_SANDBOX_URL"],
)
@pytest.mark.parametrize(
    "text", ["localhost:80", "ftp://host", "http://", "https:///x", "http://[", "http://h:port", "x"]
)
def test_an_address_that_is_not_an_http_url_is_refused(name: str, text: str) -> None:
    assert refusal(**{name: text}).startswith(f"`{name}` must be an http or https URL such as https://")


def test_a_slash_at_the_end_of_an_address_is_removed() -> None:
    found = settings(EMA_SANDBOX_URL="http://127.0.0.1:8930/")
    assert config(found, sandbox).base_url == "http://127.0.0.1:8930"


# --- the database's URL ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "mysql://user:s3cret@host/db",
        "s3cret",
        "postgresql://user:s3cret@host",
        "postgresql://user:s3cret@host/",
        "postgresql://user:s3/cret@host/db",
        "postgresql://user:s3?cret@host/db",
        "postgresql://user:s3#cret@host/db",
        "postgresql://user:s3[cret@host/db",
        "postgresql://host/a/b",
        "host=localhost password=s3cret dbname=db",
    ],
)
def test_an_invalid_database_url_is_refused_without_repeating_it(text: str) -> None:
    sentence = refusal(EMA_DATABASE_URL=text)
    assert "must read postgresql://USER:PASSWORD@HOST:PORT/DATABASE" in sentence
    assert "percent-encoded" in sentence
    assert "cret" not in sentence


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://u@h/db", "postgresql://u@h/db"),
        ("postgres://u:p@h:5433/db", "postgresql://u:p@h:5433/db"),
        ("postgresql+psycopg2://u@h/db?sslmode=require", "postgresql://u@h/db?sslmode=require"),
        ("postgresql://u:p%2Fw%40x@h/db", "postgresql://u:p%2Fw%40x@h/db"),
        ("postgresql:///db?host=/run/postgresql", "postgresql:///db?host=/run/postgresql"),
        ("postgresql://one:5432,two:5432/db", "postgresql://one:5432,two:5432/db"),
    ],
)
def test_a_database_url_is_converted_to_the_form_of_libpq(text: str, expected: str) -> None:
    found = settings(EMA_DATABASE_URL=text).database_url
    assert found == expected == libpq_url(text)
    assert psycopg2.extensions.parse_dsn(expected)["dbname"] == "db"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@h/db",
        "postgresql://u:p%2Fw@h:5433/db?sslmode=require",
        "postgresql:///db?host=%2Frun%2Fpostgresql",
        "postgresql://u@h/db?options=-csearch_path%3Dother&application_name=x",
    ],
)
def test_dagster_gets_a_driver_and_a_schema_of_its_own(url: str) -> None:
    found = make_url(dagster_url(url))
    assert found.drivername == "postgresql+psycopg2"
    kept = dict(make_url(url).query)
    of_its_own = kept.pop("options", None)
    wanted = "-csearch_path=dagster -ctimezone=UTC"
    assert {**found.query} == {**kept, "options": wanted if of_its_own is None else f"{of_its_own} {wanted}"}
    assert found.set(drivername="postgresql", query={}) == make_url(url).set(query={})


def test_options_of_a_database_url_apply_except_for_the_schema_and_time_zone_of_dagster(database_url: str) -> None:
    options = quote("-c search_path=other -cstatement_timeout=7s -c timezone=Asia/Tokyo -cwork_mem=5MB")
    join = "&" if "?" in database_url else "?"
    url = f"{database_url}{join}options={options}&application_name=a+b"

    def shown(of: str) -> list[str]:
        names = ("search_path", "TimeZone", "statement_timeout", "work_mem", "application_name")
        with closing(psycopg2.connect(of)) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT current_setting(n) FROM unnest(%s) WITH ORDINALITY AS s(n, i) ORDER BY i", [[*names]]
            )
            return [value for (value,) in cursor.fetchall()]

    assert shown(libpq_url(url)) == ["other", "Asia/Tokyo", "7s", "5MB", "a+b"]
    assert shown(dagster_url(url).replace("+psycopg2", "")) == ["dagster", "UTC", "7s", "5MB", "a+b"]
    assert shown(watched_url(url)) == ["other", "Asia/Tokyo", "7s", "5MB", "a+b"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u:p@h:1/db", "postgresql://u:***@h:1/db"),
        ("postgresql://u:@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u@h/db", "postgresql://u@h/db"),
        ("postgresql://h:5432/db", "postgresql://h:5432/db"),
        ("postgresql:///db?user=u&password=p&host=h", "postgresql:///db?user=u&password=***&host=h"),
        ("postgresql://u@h/db?sslpassword=p", "postgresql://u@h/db?sslpassword=***"),
        ("postgresql://u@h/db?passfile=/home/u/pass", "postgresql://u@h/db?passfile=/home/u/pass"),
    ],
)
def test_a_password_is_masked_anywhere_in_a_url(url: str, expected: str) -> None:
    assert masked_url(url) == expected


@given(st.text("abcXYZ019:@%.-_~!$'()*+;=", min_size=4))
def test_every_password_is_masked(password: str) -> None:
    assert f"-{password}-" not in masked_url(f"postgresql://user:-{password}-@host:5432/db?sslmode=require")


@pytest.mark.parametrize(
    "name", ["EMA_HOME", "EMA_WATCHLIST", "EMA_SIGNALS_FOLDER", "EMA_STRATEGIES_FOLDER", "EMA_POSTGRES_BIN"]
)
def test_a_path_in_the_home_of_an_unknown_user_is_refused_with_its_variable(name: str) -> None:
    def read() -> None:
        postgres_programs({name: "~nobody-at-all/x"})
        Settings.from_env({name: "~nobody-at-all/x"})

    with pytest.raises(ConfigurationError, match=rf"`{name}` must be a path, received '~nobody-at-all/x'"):
        read()
