"""Tests of the metrics for Prometheus, the dashboard and the alert rules, with a real database and a real socket."""

import http.client
import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import polars as pl
import psycopg2
import pytest
import yaml
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from ema_assets.config.settings import Settings
from ema_assets.config.watchlist import Watchlist
from ema_assets.defs import run_queue
from ema_assets.defs.run_queue import Runs
from ema_assets.metrics import exposition
from ema_assets.metrics.exposition import Exporter
from ema_assets.metrics.gauges import GAUGES, PREFIX
from ema_assets.metrics.latency_counts import BUCKETS, LatencyCounts
from ema_assets.metrics.serving import Place, server
from ema_assets.model import clock
from ema_assets.model.same_origin import HERE
from ema_assets.model.symbols import Instrument
from ema_assets.store.database import Database
from ema_assets_tests.conftest import Databases
from ema_assets_tests.core import CORE
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, refresh, utc
from ema_assets_tests.timeframes import FETCHED
from ema_assets_tests.waiting import GIVEN_UP_AFTER_SECONDS

REPOSITORY = Path(__file__).parents[2]
HERE_ALONE = Place()
# Friday, 13:40 in New York. The last refresh was at 12:20 there.
NOW, LAST = utc("2026-11-20 18:40"), "2026-11-20 17:20"
Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


def ask(url: str, sql: str) -> None:
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(sql)


def settings_of(url: str, home: Path, **env: str) -> Settings:
    return Settings.from_env({"EMA_HOME": str(home), "EMA_DATABASE_URL": url, "EMA_PROVIDER": "binance", **env})


def samples(families: list[Metric]) -> Samples:
    """The samples by name and labels, without the prefix."""
    found: Samples = {}
    for family in families:
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            found.setdefault(sample.name.removeprefix(PREFIX), {})[labels] = sample.value
    return found


def labelled(**labels: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


def no_dagster(_timeframes: list[str]) -> Runs:
    raise LookupError("no instance")


RUNS = Runs({"queued": 3, "not_started": 0, "starting": 1, "started": 2}, 1_000.0, {"5m": ("success", 2_000.0)})


@pytest.fixture
def at_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of the market is NOW. The time of the machine is real."""
    monkeypatch.setattr(clock, "now", lambda: NOW)
    monkeypatch.setattr(exposition, "LEAST_SECONDS", 0.0)


@pytest.fixture(autouse=True)
def closed_exporters(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close every exporter of a test, even when the test fails."""
    made: list[Exporter] = []
    begin = Exporter.__init__

    def remember(exporter: Exporter, *arguments: Any) -> None:
        begin(exporter, *arguments)
        made.append(exporter)

    monkeypatch.setattr(Exporter, "__init__", remember)
    yield
    for exporter in made:
        exporter.close()


@pytest.fixture(scope="module")
def filled(databases: Databases) -> Iterator[str]:
    """A database with a pair and a share, computed up to LAST, and with rows of everything that metrics count."""
    calendars = {"AAPL": "XNYS", "BTC-USD": "24/7"}
    watched = Watchlist(
        tuple(Instrument(*each) for each in calendars.items()), dict(zip(FETCHED, (3, 60), strict=True)), **CORE
    )
    source = MemoryExchange(
        *(
            bars_on(calendar, symbol, timeframe, first.date(), LAST_DAY, seed)
            for seed, (symbol, calendar) in enumerate(calendars.items())
            for timeframe, first in zip(FETCHED, (utc("2026-11-18"), utc("2026-10-14")), strict=True)
        )
    )
    url = databases.make()
    with Database(url) as database:
        refresh(database, watched, source, utc(LAST))
    ask(
        url,
        """
        INSERT INTO market.bar_rejected (symbol, timeframe, reason, source, rejected_at)
        SELECT 'AAPL', '5m', 'why', 'who', now() - n * interval '20 hours' FROM generate_series(0, 3) n;
        INSERT INTO market.bar_flag (symbol, timeframe, ts, reason, detail) VALUES ('AAPL', '5m', now(), 'why', '');
        INSERT INTO market.bar_gap (symbol, timeframe, first_ts, last_ts, bars, status, next_attempt_at, found_at)
        VALUES ('AAPL', '1h', now(), now(), 1, 'open', now(), now());
        INSERT INTO market.bar_revision
            (symbol, timeframe, kind, detail, changed_from, bars_corrected, bars_late, source, revised_at)
        SELECT 'AAPL', '5m', 'correction', '', now(), 2, 0, 'who', now() - n * interval '20 hours'
        FROM generate_series(0, 4) n;
        DELETE FROM market.provider_call;
        INSERT INTO market.provider_call SELECT 'binance', clock_timestamp() FROM generate_series(1, 7);
        INSERT INTO market.provider_state (provider, failures, open_until, last_error, closed_until)
        VALUES ('coinbase', 3, now() + interval '1 hour', 'gone', now() + interval '1 hour');
        UPDATE market.series_state SET failures = 1, last_error = 'why' WHERE asset = 'ema_trend' AND timeframe = '1d';
        DELETE FROM market.close_latency;
        INSERT INTO market.alert (subscription, kind, subject, occurrence, text)
        SELECT 'mine', 'crossover', 'AAPL|5m', n::text, '' FROM generate_series(1, 7) n;
        INSERT INTO market.alert_channel (channel, failures) VALUES ('phone', 4), ('gone', 2);
        INSERT INTO market.alert_delivery (alert_id, channel, state, due_at, settled_at)
        SELECT id, 'phone', 'waiting', now() + interval '8 hours', NULL FROM market.alert WHERE id <= 3
        UNION ALL SELECT id, 'gone', 'given up', now(), now() - (id - 3) * interval '10 hours' FROM market.alert
        WHERE id > 3;
        """,
    )
    yield url
    databases.drop(url)


LAST_DAY = utc("2026-11-20").date()


def test_every_metric_has_the_values_of_the_database(filled: str, tmp_path: Path, at_now: None) -> None:
    default = {"EMA_PROVIDER": "coinbase", "EMA_BINANCE_REQUESTS_PER_MINUTE": "100"}
    exporter = Exporter(settings_of(filled, tmp_path, **default), lambda _: RUNS)
    found = samples(list(exporter.collect()))
    assert found["database_up"] == found["dagster_up"] == {(): 1.0}
    assert found["symbols"] == {(): 2.0}
    assert found["series"][labelled(asset="ohlc", timeframe="5m")] == 2
    assert found["series_failing"][labelled(asset="ema_trend", timeframe="1d")] == 2
    assert found["series_stale"][labelled(asset="ohlc", timeframe="5m")] == 2
    assert found["series_missing"][labelled(asset="ohlc", timeframe="5m")] == 0
    # The bar that closed at 12:25 in New York could be requested three seconds later, on both calendars.
    late = (NOW - utc("2026-11-20 17:25")).total_seconds() - 3
    for statistic in ("median", "p99", "max"):
        assert found["freshness_lag_seconds"][labelled(timeframe="5m", statistic=statistic)] == pytest.approx(late)
    # The daily bar of the pair closed at midnight and is stored. The daily bar of the share is still open.
    assert found["freshness_lag_seconds"][labelled(timeframe="1d", statistic="max")] == 0
    assert found["provider_calls"] == {labelled(provider="binance"): 7.0, labelled(provider="coinbase"): 0.0}
    assert found["provider_calls_left"][labelled(provider="binance")] == 93
    assert found["provider_calls_allowed"][labelled(provider="binance")] == 100
    assert found["provider_circuit_open"] == {labelled(provider="binance"): 0.0, labelled(provider="coinbase"): 1.0}
    assert found["provider_failures"][labelled(provider="coinbase")] == 3
    assert 3500 < found["provider_closed_seconds"][labelled(provider="coinbase")] <= 3600
    assert found["gaps_open"] == {labelled(timeframe="1h"): 1.0}
    assert found["rejected_bars_day"] == {(): 2.0}
    assert found["flagged_bars_day"] == {(): 1.0}
    assert found["revisions_day"] == {labelled(kind="correction"): 2.0}
    assert found["corrected_bars_day"] == {labelled(kind="correction"): 4.0}
    assert found["revisions_total"] == {(): 5.0}
    phone, gone = labelled(channel="phone"), labelled(channel="gone")
    assert found["alerts_waiting"] == {phone: 3.0, gone: 0.0}
    assert found["alerts_given_up_day"] == {phone: 0.0, gone: 2.0}
    # The channel `gone` has no waiting messages, so it does not count as failing.
    assert found["alert_channel_failures"] == {phone: 4.0, gone: 0.0}
    sizes = found["database_size_bytes"]
    assert sizes[labelled(schema="all")] > sizes[labelled(schema="market")] > sizes[labelled(schema="dagster")]
    assert found["calendar_days_left"][labelled(calendar="XNYS")] > 100
    assert found["dagster_runs"][labelled(status="queued")] == 3
    assert found["dagster_queue_oldest_seconds"][()] > 1e9
    assert found["dagster_last_run_timestamp_seconds"] == {labelled(timeframe="5m", status="success"): 2_000.0}


def test_series_that_failed_and_wait_for_their_next_attempt_are_stale(
    databases: Databases, filled: str, tmp_path: Path, at_now: None
) -> None:
    url = databases.make(like=filled)
    ask(
        url,
        f"""UPDATE market.series_state SET failures = 3, last_error = 'down', next_attempt_at = '{NOW.isoformat()}'::timestamptz
            + interval '1 minute' WHERE asset = 'ohlc' AND timeframe IN ('5m', '1d')""",
    )
    exporter = Exporter(settings_of(url, tmp_path), no_dagster)
    found = samples(list(exporter.collect()))
    for name in ("series_stale", "series_failing"):
        assert found[name][labelled(asset="ohlc", timeframe="5m")] == 2
    # No daily bar has closed since the last request.
    assert found["series_stale"][labelled(asset="ohlc", timeframe="1d")] == 0
    assert exporter.statements <= 24
    exporter.close()
    databases.drop(url)


@pytest.mark.broad
def test_a_scrape_names_no_symbol_and_costs_the_same_for_any_number_of_symbols(
    databases: Databases, filled: str, tmp_path: Path, at_now: None
) -> None:
    counts = []
    more = databases.make(like=filled)
    ask(
        more,
        """
        INSERT INTO market.instrument (symbol, calendar, timeframes)
        SELECT 'S' || n, 'XNYS', timeframes FROM market.instrument, generate_series(1, 300) n WHERE symbol = 'AAPL';
        INSERT INTO market.series_state (asset, symbol, timeframe, checked_through, last_ts)
        SELECT asset, 'S' || n, timeframe, checked_through - n * interval '7 minutes', last_ts
        FROM market.series_state, generate_series(1, 300) n WHERE symbol = 'AAPL';
        """,
    )
    lengths = []
    for url in (filled, more):
        exporter = Exporter(settings_of(url, tmp_path), lambda _: RUNS)
        with served(exporter) as port:
            text = get(port, "/metrics")[1]
        counts.append(exporter.statements)
        assert "ema_assets_database_up 1.0" in text
        lengths.append(len(text.splitlines()))
        assert "AAPL" not in text
        assert "S17" not in text
        exporter.close()
    databases.drop(more)
    assert counts[0] == counts[1] <= 24
    assert lengths[0] == lengths[1]


@pytest.mark.broad
def test_nights_add_no_lag_and_lag_counts_from_the_first_missing_bar(
    databases: Databases, filled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = databases.make(like=filled)
    # The share is complete through the close of Thursday. The pair is three days behind.
    ask(url, "UPDATE market.series_state SET checked_through = '2026-11-19 21:00Z' WHERE symbol = 'AAPL'")
    ask(url, "UPDATE market.series_state SET checked_through = '2026-11-17 17:20Z' WHERE symbol = 'BTC-USD'")
    monkeypatch.setattr(exposition, "LEAST_SECONDS", 0.0)

    def lag(now: str, statistic: str) -> float:
        monkeypatch.setattr(clock, "now", lambda: utc(now))
        return samples(list(exporter.collect()))["freshness_lag_seconds"][labelled(timeframe="5m", statistic=statistic)]

    exporter = Exporter(settings_of(url, tmp_path), no_dagster)
    assert lag("2026-11-20 14:35:02", "median") == 0
    assert lag("2026-11-20 14:35:43", "median") == 40
    assert (
        lag("2026-11-20 14:35:43", "max") == (utc("2026-11-20 14:35:43") - utc("2026-11-17 17:25:03")).total_seconds()
    )
    ask(url, "UPDATE market.instrument SET silent_since = now() WHERE symbol = 'BTC-USD'")
    assert lag("2026-11-20 14:35:43", "max") == 40
    databases.drop(url)


def test_the_histogram_counts_each_close_once_and_only_grows(filled: str, tmp_path: Path, at_now: None) -> None:
    start = datetime.now(UTC) - timedelta(hours=1)
    moment = [start]
    exporter = Exporter(settings_of(filled, tmp_path), no_dagster, lambda: moment[0])

    def histogram() -> dict[str, float]:
        found = samples(list(exporter.collect())).get("close_latency_seconds_bucket", {})
        return {dict(labels)["le"]: value for labels, value in found.items() if dict(labels)["timeframe"] == "5m"}

    def commit(seconds: float, series: int, after: float) -> None:
        at = (start + timedelta(seconds=after)).isoformat()
        ask(
            filled,
            f"""INSERT INTO market.close_latency (timeframe, closed_at, series, seconds, committed_at)
                VALUES ('5m', '{at}', {series}, {seconds}, '{at}')""",
        )

    commit(4.0, 100, -1)  # before this process
    commit(4.0, 10, 5)
    commit(31.0, 2, 6)
    # The counts start at zero, because Prometheus does not count the first value that it sees as an increase.
    assert histogram() == {**dict.fromkeys(map(str, BUCKETS), 0.0), "+Inf": 0.0}
    moment[0] = start + timedelta(seconds=12)
    assert set(histogram().values()) == {0.0}  # younger than ten seconds
    moment[0] = start + timedelta(seconds=16)
    assert {limit: histogram()[limit] for limit in ("2.0", "5.0", "30.0", "45.0", "+Inf")} == {
        "2.0": 0.0,
        "5.0": 10.0,
        "30.0": 10.0,
        "45.0": 12.0,
        "+Inf": 12.0,
    }
    commit(5000.0, 1, 20)
    moment[0] = start + timedelta(seconds=40)
    assert (histogram()["3600.0"], histogram()["+Inf"]) == (12.0, 13.0)


def test_a_latency_equal_to_a_limit_is_in_its_bucket_and_seconds_are_summed_over_series() -> None:
    counts = LatencyCounts(utc("2026-11-25 15:00"))
    for seconds, series in ((5.0, 3), (5000.0, 1)):
        rows = pl.DataFrame({"timeframe": ["5m"], "seconds": [seconds], "series": [series]})
        counts.add(rows, utc("2026-11-25 15:01"))
    buckets, total = counts.cumulative()["5m"]
    assert {limit: dict(buckets)[limit] for limit in ("2.0", "5.0", "3600.0", "+Inf")} == {
        "2.0": 0.0,
        "5.0": 3.0,
        "3600.0": 3.0,
        "+Inf": 4.0,
    }
    assert total == 5015.0


def test_the_metrics_of_a_provider_without_calls_are_zero(filled: str, tmp_path: Path, at_now: None) -> None:
    exporter = Exporter(settings_of(filled, tmp_path, EMA_PROVIDER="alpaca"), no_dagster)
    found = samples(list(exporter.collect()))
    for name in ("provider_calls", "provider_failures", "provider_circuit_open", "provider_closed_seconds"):
        assert found[name][labelled(provider="alpaca")] == 0, name
        assert found[name].keys() == {labelled(provider=name) for name in ("alpaca", "binance", "coinbase")}, name
    assert found["provider_calls_left"].keys() == found["provider_calls"].keys()


def test_no_close_is_counted_twice_when_the_clock_is_set_back() -> None:
    counts = LatencyCounts(NOW)
    after, through = counts.window(NOW - timedelta(hours=1))
    assert (after, through) == (NOW, NOW)
    counts.add(pl.DataFrame({"timeframe": ["5m"], "seconds": [1.0], "series": [3]}), through)
    assert counts.cumulative()["5m"][0][0] == ("1.0", 3.0)


# --- databases and servers that are down ------------------------------------------------------------------------------


def test_a_metric_reports_whether_the_database_is_up(filled: str, tmp_path: Path, at_now: None) -> None:
    exporter = Exporter(settings_of("postgresql://ema:geheim@127.0.0.1:1/x", tmp_path), no_dagster)
    found = samples(list(exporter.collect()))
    assert found.keys() == {"build_info", "database_up"}
    assert found["database_up"] == {(): 0.0}
    exporter._settings = settings_of(filled, tmp_path)
    found = samples(list(exporter.collect()))
    assert (found["database_up"], found["dagster_up"]) == ({(): 1.0}, {(): 0.0})
    assert "dagster_runs" not in found


def test_a_scrape_does_not_start_an_embedded_server(tmp_path: Path) -> None:
    exporter = Exporter(Settings.from_env({"EMA_HOME": str(tmp_path / "home")}), no_dagster)
    assert samples(list(exporter.collect()))["database_up"] == {(): 0.0}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.broad
def test_scrapes_within_the_least_interval_share_one_reading(
    filled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposition, "LEAST_SECONDS", 3600.0)
    readings = []
    exporter = Exporter(settings_of(filled, tmp_path), lambda timeframes: readings.append(timeframes) or RUNS)
    with served(exporter) as port:
        answers = {get(port, "/metrics") for _ in range(3)}
    assert len(answers) == len(readings) == 1


def test_scrapes_that_arrive_during_a_reading_wait_for_it_and_share_it(
    filled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposition, "LEAST_SECONDS", 3600.0)
    arrived = threading.Semaphore(0)
    readings = []

    class Noticing(Exporter):
        def collect(self) -> Iterator[Metric]:
            arrived.release()
            yield from super().collect()

    def read_slowly(timeframes: list[str]) -> Runs:
        readings.append(timeframes)
        if len(readings) == 1:
            for _ in range(3):
                assert arrived.acquire(timeout=GIVEN_UP_AFTER_SECONDS)
        return RUNS

    exporter = Noticing(settings_of(filled, tmp_path), read_slowly)
    with served(exporter) as port, ThreadPoolExecutor(3) as threads:
        answers = list(threads.map(lambda _: get(port, "/metrics"), range(3)))
    assert [status for status, _ in answers] == [200] * 3
    assert len(set(answers)) == len(readings) == 1


def test_read_access_is_enough_for_a_scrape(databases: Databases, filled: str, tmp_path: Path, at_now: None) -> None:
    with databases.member(filled, "ema_reader") as url:
        exporter = Exporter(settings_of(url, tmp_path), no_dagster)
        assert samples(list(exporter.collect()))["database_up"] == {(): 1.0}


# --- over the wire ----------------------------------------------------------------------------------------------------


@contextmanager
def served(exporter: Exporter, place: Place = HERE_ALONE) -> Iterator[int]:
    with server(place, exporter) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        try:
            yield serving.server_port
        finally:
            serving.shutdown()
            thread.join()


def get(port: int, path: str, **headers: str) -> tuple[int, str]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def test_prometheus_can_parse_the_answer_and_other_hosts_are_refused(filled: str, tmp_path: Path, at_now: None) -> None:
    exporter = Exporter(settings_of(filled, tmp_path), lambda _: RUNS)
    with served(exporter) as port:
        status, text = get(port, "/metrics")
        assert status == 200
        families = list(text_string_to_metric_families(text))
        assert get(port, "/")[0] == 200
        assert get(port, "/other")[0] == 404
        for host in ("localhost", f"localhost:{port}", f"[::1]:{port}"):
            assert get(port, "/", Host=host)[0] == 200
        for host in ("evil.example", f"127.0.0.1.evil.example:{port}", "[", ""):
            assert get(port, "/metrics", Host=host)[0] == 403
    with served(exporter, Place("127.0.0.1", 0, HERE | {"metrics"})) as port:
        assert get(port, "/", Host=f"metrics:{port}")[0] == get(port, "/", Host="localhost")[0] == 200
        status, text = get(port, "/", Host="evil.example")
        assert (status, text) == (
            403,
            "the host must be one of 127.0.0.1, ::1, localhost, metrics; `--allow-host` allows more\n",
        )
    types = {family.name.removeprefix(PREFIX): family.type for family in families}
    assert all(family.documentation for family in families)
    assert types == {
        **{gauge.name: "gauge" for gauge in GAUGES},
        **dict.fromkeys(("build_info", "database_up", "dagster_up"), "gauge"),
        "revisions": "counter",
        "close_latency_seconds": "histogram",
    }


# --- Dagster ----------------------------------------------------------------------------------------------------------


def test_run_counts_and_the_last_result_per_timeframe_are_read_from_dagster() -> None:
    def run(number: int, status: DagsterRunStatus, timeframe: str) -> DagsterRun:
        tags = {"ema_assets/timeframe": timeframe}
        repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "__repository__")
        return DagsterRun(
            "refresh",
            f"00000000-0000-4000-8000-{number:012}",
            status=status,
            tags=tags,
            remote_job_origin=RemoteJobOrigin(repository, "refresh"),
        )

    with DagsterInstance.ephemeral() as instance:
        assert run_queue.read(instance, ["5m"]) == Runs(
            dict.fromkeys(("queued", "not_started", "starting", "started"), 0), None, {}
        )
        for number, (state, timeframe) in enumerate(
            [
                ("SUCCESS", "5m"),
                ("FAILURE", "5m"),
                ("SUCCESS", "1d"),
                ("QUEUED", "5m"),
                ("QUEUED", "1h"),
                ("STARTED", "5m"),
            ]
        ):
            instance.add_run(run(number, DagsterRunStatus[state], timeframe))
        found = run_queue.read(instance, ["5m", "1h", "1d"])
    assert found.counts == {"queued": 2, "not_started": 0, "starting": 0, "started": 1}
    assert {timeframe: state for timeframe, (state, _) in found.last.items()} == {"5m": "failure", "1d": "success"}
    assert found.queued_since is not None
    assert all(ended >= found.queued_since - 60 for _, ended in found.last.values())


def test_an_instance_that_could_not_be_made_is_made_at_the_next_read(monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [LookupError("down")]

    def made() -> DagsterInstance:
        for failure in list(failures):
            failures.clear()
            raise failure
        return DagsterInstance.ephemeral()

    monkeypatch.setattr(DagsterInstance, "get", made)
    queue = run_queue.RunQueue()
    with pytest.raises(LookupError):
        queue(["5m"])
    assert queue(["5m"]).queued_since is None


# --- the dashboard and the alert rules --------------------------------------------------------------------------------


def queries() -> dict[str, list[str]]:
    """The queries of each panel of the dashboard."""
    dashboard = json.loads((REPOSITORY / "deploy/grafana/ema-assets.json").read_text())
    return {
        panel["title"]: [target["expr"] for target in panel["targets"]]
        for panel in dashboard["panels"]
        if panel["type"] != "row"
    }


def served_labels(filled: str, tmp_path: Path) -> dict[str, set[str]]:
    """The labels of every served metric, by its name without the prefix."""
    ask(
        filled,
        """INSERT INTO market.close_latency (timeframe, closed_at, series, seconds, committed_at)
           VALUES ('5m', now(), 1, 1, now())""",
    )
    exporter = Exporter(settings_of(filled, tmp_path), lambda _: RUNS, lambda: datetime.now(UTC))
    exporter._latency.counted_through -= timedelta(days=1)
    exporter._now = lambda: datetime.now(UTC) + timedelta(minutes=1)
    found = samples(list(exporter.collect()))
    return {name: {label for key in values for label, _ in key} for name, values in found.items()}


def asked_for(text: str, labels: dict[str, set[str]]) -> set[str]:
    """The metrics in the query `text`, after checks that they are served and have the labels that the query names."""
    names = re.findall(r"ema_assets_(\w+)", text)
    assert names, text
    for name, matchers in re.findall(r"ema_assets_(\w+)(?:\{([^}]*)\})?", text):
        assert name in labels, text
        # Prometheus itself adds the label `job`.
        assert set(re.findall(r"(\w+)=", matchers)) <= labels[name] | {"job"}, text
    by = {label.strip() for group in re.findall(r"by \(([^)]*)\)", text) for label in group.split(",")}
    assert by <= labels[names[0]] | {"instance"}, text
    assert text.count("(") == text.count(")"), text
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}


def test_the_dashboard_queries_every_served_metric_and_no_others(filled: str, tmp_path: Path, at_now: None) -> None:
    labels, texts = served_labels(filled, tmp_path), [text for each in queries().values() for text in each]
    for text in texts:
        assert text.count("ema_assets_") == text.count('{job=~"$job"'), text
    asked = {name for text in texts for name in asked_for(text, labels)}
    # The dashboard shows every served metric.
    every = {*(gauge.name for gauge in GAUGES), "build_info", "database_up", "dagster_up", "revisions_total"}
    assert every | {"close_latency_seconds"} == asked


def test_every_alert_rule_queries_served_metrics_and_names_only_their_labels(
    filled: str, tmp_path: Path, at_now: None
) -> None:
    labels = served_labels(filled, tmp_path)
    content = yaml.safe_load((REPOSITORY / "deploy/prometheus/alerts.yml").read_text())
    rules = [rule for group in content["groups"] for rule in group["rules"]]
    for rule in rules:
        said = " ".join(rule["annotations"].values())
        named = set(re.findall(r"\$labels\.(\w+)", said)) - {"instance"}
        if rule["expr"] == 'up{job="ema-assets"} == 0':
            assert not named
            continue
        (name,) = asked_for(rule["expr"], labels)
        grouped = re.search(r"by \(([^)]*)\)", rule["expr"])
        known = labels.get(name, set()) if grouped is None else set(grouped[1].split(", "))
        assert named <= known, rule
    assert len({rule["alert"] for rule in rules}) == len(rules) > 10


def test_the_scrape_settings_name_the_default_port() -> None:
    from ema_assets.cli.stack import METRICS_PORT

    content = yaml.safe_load((REPOSITORY / "deploy/prometheus/prometheus.yml").read_text())
    (job,) = content["scrape_configs"]
    assert all((REPOSITORY / "deploy/prometheus" / name).is_file() for name in content["rule_files"])
    assert job["static_configs"] == [{"targets": [f"127.0.0.1:{METRICS_PORT}"]}]
    assert MappingProxyType(job)["job_name"] == "ema-assets"
