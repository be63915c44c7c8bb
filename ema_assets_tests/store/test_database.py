"""Tests of the database connection: parameters, transactions, and errors when the server is gone."""

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, date, datetime, timedelta, timezone
from urllib.parse import parse_qsl, urlsplit

import adbc_driver_manager
import polars as pl
import psycopg2
import pytest
from polars.testing import assert_frame_equal

from ema_assets.model.errors import StoreUnavailable
from ema_assets.model.schemas import UTC_TIME
from ema_assets.model.urls import watched_url
from ema_assets.store import database as store_database
from ema_assets.store.database import Database, identifier
from ema_assets_tests.waiting import wait_until

MOMENT = datetime(2026, 11, 25, 15, 30, 0, 123456, tzinfo=UTC)
ADD_AAPL = "INSERT INTO market.instrument (symbol, calendar) VALUES ('AAPL', 'XNYS')"


def end_connection(url: str, pid: int) -> None:
    """End the server's side of a connection and wait until it is gone."""
    with closing(psycopg2.connect(url)) as other, other, other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 60000)", (pid,))


@pytest.mark.parametrize(
    ("sql", "value", "expected"),
    [
        ("$1::text", "a 'quoted' name; DROP TABLE x", "a 'quoted' name; DROP TABLE x"),
        ("$1::text", None, None),
        ("$1::float8", None, None),
        ("$1::timestamptz", None, None),
        ("$1::boolean", None, None),
        ("$1::bigint", 2**53 + 1, 2**53 + 1),
        ("$1::float8", 0.1, 0.1),
        ("$1::boolean", True, True),
        ("$1::timestamptz", MOMENT, MOMENT),
        ("$1::timestamptz", MOMENT.astimezone(timezone(timedelta(hours=-5))), MOMENT),
        ("$1::timestamptz", MOMENT.replace(tzinfo=None), MOMENT),
        ("$1::timestamptz", MOMENT.replace(year=1960, microsecond=7), MOMENT.replace(year=1960, microsecond=7)),
        ("cardinality($1::text[])", [], 0),
        ("cardinality($1::timestamptz[])", [], 0),
        ("array_to_string($1::text[], '-', 'null')", ["a", None, "b,}"], "a-null-b,}"),
        ("array_to_string($1::boolean[], '-')", [True, False], "t-f"),
        ("($1::timestamptz[])[2]", [None, MOMENT], MOMENT),
        ("($1::float8[])[1]", (0.1, 2.5), 0.1),
        ("($1::timestamptz[])[1]", pl.Series([MOMENT]), MOMENT),
        ("($1::timestamptz[])[1]", pl.Series([None], dtype=pl.Datetime("us", "UTC")), None),
        ("cardinality($1::text[])", pl.Series([], dtype=pl.String), 0),
    ],
)
def test_a_parameter_arrives_with_its_value_and_type(
    module_database: Database, sql: str, value: object, expected: object
) -> None:
    with module_database.transaction() as transaction:
        assert transaction.query(f"SELECT {sql} AS found", value)["found"].item() == expected


def test_several_parameters_are_bound_by_number(database: Database) -> None:
    with database.transaction() as transaction:
        found = transaction.query("SELECT $2::text AS b, $1::text[] AS a, $3::text AS c", ["x", "y"], "z", None)
    assert found.row(0) == ("z", ["x", "y"], None)


def test_a_query_without_rows_keeps_its_columns(database: Database) -> None:
    with database.transaction() as transaction:
        found = transaction.query("SELECT symbol, ts FROM market.ohlc WHERE symbol = $1", "NONE")
    assert found.schema == {"symbol": pl.String(), "ts": pl.Datetime("us", "UTC")}


def test_staged_rows_are_read_back_unchanged_and_their_table_is_dropped(database: Database) -> None:
    rows = pl.DataFrame(
        {
            "symbol": ["a", "b", None],
            "ts": pl.Series([MOMENT, None, MOMENT]),
            "price": [1e-300, None, 1e300],
            "n": pl.Series([1, None, -(2**62)], dtype=pl.Int64),
        }
    )
    with database.transaction() as transaction:
        with transaction.staged(rows) as one, transaction.staged(rows.head(0)) as other:
            assert one != other
            assert_frame_equal(transaction.query(f"SELECT * FROM pg_temp.{one}"), rows)
            assert transaction.query(f"SELECT * FROM pg_temp.{other}").is_empty()
        assert transaction.query("SELECT to_regclass('pg_temp.staged_1') AS found").item() is None


def test_parameters_that_are_equal_but_differ_in_sign_or_type_are_distinguished(database: Database) -> None:
    with database.transaction() as transaction:
        zeros = [transaction.query("SELECT $1::float8::text AS said", zero).item() for zero in (0.0, -0.0, 0.0)]
        ones = [transaction.query("SELECT pg_typeof($1)::text AS kind", one).item() for one in (1, True, 1)]
    assert zeros == ["0", "-0", "0"]
    assert ones == ["bigint", "boolean", "bigint"]


@pytest.mark.parametrize("most", [3, 2])
def test_few_rows_are_bound_and_more_rows_go_to_a_table_with_the_same_result(
    database: Database, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(store_database, "BOUND_UP_TO_ROWS", most)
    rows = pl.DataFrame(
        {
            "symbol": ["a", "b", None],
            "ts": pl.Series([MOMENT, None, MOMENT]).cast(UTC_TIME),
            "price": [0.1 + 0.2, None, 1e-300],
            "n": pl.Series([1, None, -(2**62)], dtype=pl.Int64),
            "missing": pl.Series([1, None, -7], dtype=pl.Int16),
            "is_on": [True, None, False],
        }
    )
    with database.transaction() as transaction:
        before = database.statements
        with transaction.given(rows) as given:
            found = transaction.query(f"SELECT g.*, $1 AS note FROM {given.after(1)}", "same", *given.values)
        assert database.statements - before == (1 if most == 3 else 3)
        with transaction.given(rows.clear()) as nothing:
            assert transaction.query(f"SELECT * FROM {nothing.after(0)}", *nothing.values).is_empty()
    assert_frame_equal(found.drop("note"), rows)
    assert found["note"].to_list() == ["same"] * 3


def test_large_staged_tables_get_statistics(database: Database) -> None:
    rows = pl.DataFrame({"n": range(20_001)})
    with database.transaction() as transaction, transaction.staged(rows) as name:
        found = transaction.query("SELECT reltuples FROM pg_class WHERE relname = $1", name)
    assert found.item() == 20_001


def test_a_table_has_statistics_after_rows_were_copied_to_it(database: Database) -> None:
    rows = pl.DataFrame({"n": range(600)})
    with database.transaction() as transaction:
        transaction.execute("CREATE TABLE market.numbers (n bigint)")
        transaction.append("market.numbers", rows)
        assert transaction.query("SELECT sum(n)::bigint FROM market.numbers").item() == rows["n"].sum()
        found = transaction.query("SELECT reltuples FROM pg_class WHERE relname = 'numbers'")
    assert found.item() == 600


def test_few_rows_that_are_copied_to_a_large_table_change_no_statistics(database: Database) -> None:
    """A tick of many series adds one row per series, and its runs must not wait for each other's statistics."""
    known = []
    with database.transaction() as transaction:
        transaction.execute("CREATE TABLE market.numbers (n bigint)")
        for count in (600, 60, 66):
            transaction.append("market.numbers", pl.DataFrame({"n": range(count)}))
            known += transaction.query("SELECT reltuples FROM pg_class WHERE relname = 'numbers'")[
                "reltuples"
            ].to_list()
    assert known == [600, 600, 726]


def test_an_error_rolls_back_the_transaction_and_the_connection_stays_usable(database: Database) -> None:
    def fail_in_python() -> None:
        with database.transaction() as transaction, transaction.staged(pl.DataFrame({"a": [1]})):
            transaction.execute(ADD_AAPL)
            raise ZeroDivisionError

    def fail_in_sql() -> None:
        with database.transaction() as transaction:
            transaction.execute(ADD_AAPL)
            transaction.execute("SELECT 1 / 0")

    with pytest.raises(ZeroDivisionError):
        fail_in_python()
    with pytest.raises(adbc_driver_manager.Error, match="division by zero"):
        fail_in_sql()
    with database.transaction() as transaction:
        assert transaction.query("SELECT * FROM market.instrument").is_empty()
        assert transaction.query("SELECT to_regclass('pg_temp.staged_1') AS found").item() is None


def test_other_connections_see_no_changes_before_the_end_of_the_transaction(
    database: Database, database_url: str
) -> None:
    def seen() -> int:
        with Database(database_url) as other, other.transaction() as transaction:
            return transaction.query("SELECT * FROM market.instrument").height

    with database.transaction() as transaction:
        transaction.execute(ADD_AAPL)
        assert seen() == 0
    assert seen() == 1


def test_the_error_of_a_closed_port_names_the_url_without_the_password() -> None:
    database = Database("postgresql://ema:s3cret@127.0.0.1:1/market")
    with pytest.raises(StoreUnavailable) as caught, database.transaction():
        pass
    sentence = str(caught.value)
    assert sentence.startswith("cannot connect to postgresql://ema:***@127.0.0.1:1/market: ")
    assert sentence.endswith("is the server running and EMA_DATABASE_URL right?")
    assert "s3cret" not in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("where", ["the user part", "the query"])
def test_a_wrong_password_is_reported_without_showing_it(database_url: str, where: str) -> None:
    parts = urlsplit(database_url)
    at = f"{parts.hostname}:{parts.port}{parts.path}"
    login = f"ema:wr0ng@{at}" if where == "the user part" else f"{at}?user=ema&password=wr0ng"
    database = Database(f"postgresql://{login}")
    with pytest.raises(StoreUnavailable, match="password authentication failed") as caught, database.transaction():
        pass
    assert "wr0ng" not in str(caught.value)
    assert "wr0ng" not in repr(database)


def test_a_lost_connection_is_reopened_by_the_next_transaction(database: Database, database_url: str) -> None:
    with database.transaction() as transaction:
        pid = transaction.query("SELECT pg_backend_pid() AS pid").item()
    end_connection(database_url, pid)
    with pytest.raises(StoreUnavailable, match=r"the connection to .* was lost"), database.transaction() as transaction:
        transaction.query("SELECT 1 AS one")
    with database.transaction() as transaction:
        assert transaction.query("SELECT pg_backend_pid() AS pid").item() != pid


def test_a_connection_lost_in_the_middle_of_a_transaction_is_reported(database: Database, database_url: str) -> None:
    def lose_the_connection() -> None:
        with database.transaction() as transaction:
            transaction.execute(ADD_AAPL)
            end_connection(database_url, transaction.query("SELECT pg_backend_pid() AS pid").item())
            transaction.query("SELECT 1 AS one")

    with pytest.raises(StoreUnavailable, match="was lost"):
        lose_the_connection()
    with database.transaction() as transaction:
        assert transaction.query("SELECT * FROM market.instrument").is_empty()


def test_a_statement_that_the_server_terminates_is_reported_as_a_lost_connection(
    database: Database, database_url: str
) -> None:
    """Here the server can still report the reason (class 57P). Between two statements it cannot."""
    with database.transaction() as transaction:
        pid = transaction.query("SELECT pg_backend_pid() AS pid").item()

    def wait() -> None:
        with database.transaction() as transaction:
            transaction.query("SELECT 1 FROM pg_sleep(600)")

    def end_once_it_waits() -> None:
        with closing(psycopg2.connect(database_url)) as other, other.cursor() as cursor:
            other.autocommit = True

            def waits() -> bool:
                cursor.execute("SELECT wait_event FROM pg_stat_activity WHERE pid = %s", (pid,))
                return cursor.fetchone() == ("PgSleep",)

            wait_until(waits, "the statement at work", poll_seconds=0.02)
        end_connection(database_url, pid)

    with ThreadPoolExecutor() as pool:
        ended = pool.submit(end_once_it_waits)
        with pytest.raises(StoreUnavailable, match="was lost: terminating connection"):
            wait()
        ended.result()
    with database.transaction() as transaction:
        assert transaction.query("SELECT 1 AS one").item() == 1


@pytest.mark.parametrize(
    "said",
    [
        "could not receive data from server: Connection timed out",
        "could not send data to server: No route to host",
        "SSL SYSCALL error: EOF detected",
    ],
)
def test_an_error_of_the_socket_is_reported_as_a_lost_connection(database: Database, said: str) -> None:
    """Such as after a network was cut off. libpq gives such errors no state."""
    with pytest.raises(StoreUnavailable, match=f"was lost: .*{said.split(': ')[1]}$"), database.transaction():
        raise adbc_driver_manager.OperationalError(
            f"IO: [libpq] Failed to commit: {said}\n", status_code=adbc_driver_manager.AdbcStatusCode.IO
        )


def test_an_error_in_sql_is_not_reported_as_a_lost_connection(database: Database) -> None:
    with pytest.raises(adbc_driver_manager.Error, match="no_such_table"), database.transaction() as transaction:
        transaction.query("SELECT 'the connection was closed' FROM no_such_table")


def test_closing_twice_is_not_an_error_and_the_next_transaction_reconnects(database: Database) -> None:
    database.close()
    database.close()
    with database.transaction() as transaction:
        assert transaction.query("SELECT 1 AS one").item() == 1


def test_statements_are_counted(database: Database) -> None:
    before = database.statements
    with database.transaction() as transaction:
        transaction.query("SELECT 1 AS one")
        transaction.execute("SELECT 2 AS two")
    assert database.statements - before == 2


@pytest.mark.parametrize("name", ["ohlc", "ema_9", "_x"])
def test_a_valid_identifier_is_returned_unchanged(name: str) -> None:
    assert identifier(name) == name


@pytest.mark.parametrize("name", ["", "9x", "Ohlc", "a b", "a;", 'a"', "a.b", "ohlc\n"])
def test_an_invalid_identifier_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(name))):
        identifier(name)


def test_keepalives_end_a_disconnected_session_on_both_sides_within_half_a_minute(database: Database) -> None:
    limits = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count")
    with Database(database.url) as other, other.transaction() as transaction:
        found = [transaction.query("SELECT current_setting($1) AS found", name)["found"].item() for name in limits]
    assert found == ["10", "5", "3"]
    query = dict(parse_qsl(urlsplit(watched_url("postgresql://u@h/db?keepalives_idle=60&sslmode=require")).query))
    # A value that the user has set stays.
    assert query == {
        "keepalives_idle": "60",
        "sslmode": "require",
        "keepalives_interval": "5",
        "keepalives_count": "3",
        "tcp_user_timeout": "30000",
    }


def test_days_are_in_utc_whatever_the_time_zone_of_the_server_is(database: Database, database_url: str) -> None:
    name = urlsplit(database_url).path.strip("/")
    with database.transaction() as transaction:
        transaction.execute(f"ALTER DATABASE {identifier(name)} SET timezone = 'Asia/Kolkata'")
    with Database(database_url) as other, other.transaction() as transaction:
        found = transaction.query("SELECT ('2026-11-25 20:00Z'::timestamptz)::date AS day")
    assert found.item() == date(2026, 11, 25)


def test_planner_settings_of_the_embedded_server_apply_unless_the_database_sets_its_own(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = urlsplit(database_url).path.strip("/")
    with database.transaction() as transaction:
        transaction.execute(f"ALTER DATABASE {identifier(name)} SET random_page_cost = 3")
    # The server of the tests is embedded and sets both in its file. The test uses a setting that is not in that file.
    monkeypatch.setattr(store_database, "_SETTINGS", store_database._SETTINGS.replace("'jit'", "'geqo'"))
    with Database(database_url) as other, other.transaction() as transaction:
        found = transaction.query(
            "SELECT current_setting('geqo') AS geqo, current_setting('random_page_cost') AS random_page_cost"
        )
    assert found.row(0, named=True) == {"geqo": "off", "random_page_cost": "3"}
