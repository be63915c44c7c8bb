"""Tests of the process of `ema-assets metrics` without a running stack. The tests of the metrics are in metrics/."""

import json
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest

from ema_assets.config.settings import Settings
from ema_assets.providers import registry
from ema_assets.runtime import dagster_parts
from ema_assets.runtime.postgres.server import EmbeddedServer, read_running
from ema_assets.store.migrations import migrate
from ema_assets_tests.cli.shell import in_a_process, sentence_of, start
from ema_assets_tests.waiting import wait_until

# Runs a command as process 1 of a namespace, as in a container, without root.
_AS_THE_FIRST = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")


def _has_namespaces() -> bool:
    return (
        shutil.which("unshare") is not None
        and subprocess.run([*_AS_THE_FIRST, "true"], capture_output=True, check=False).returncode == 0
    )


@pytest.mark.broad
def test_metrics_are_served_without_a_database_until_the_process_is_terminated(home: Path) -> None:
    before = sorted(home.rglob("*"))
    with start("metrics", "--port", "0", EMA_LOG_FORMAT="json") as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())["message"]
        url = said.removeprefix("Metrics on ").removesuffix(".")
        assert url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(url, timeout=60) as answer:
            text = answer.read().decode()
        process.terminate()
        _, stderr = process.communicate(timeout=60)
    assert "\nema_assets_database_up 0.0\n" in text
    assert process.returncode == -signal.SIGTERM
    (warning,) = [json.loads(line) for line in stderr.splitlines()]
    assert warning["level"] == "WARNING"
    assert warning["message"].startswith("the database cannot be read: no database: EMA_DATABASE_URL is not set")
    assert sorted(home.rglob("*")) == before


@pytest.mark.broad
@pytest.mark.skipif(not _has_namespaces(), reason="needs namespaces of users and processes")
def test_the_first_process_of_a_container_ends_at_sigterm(home: Path) -> None:
    command = [*_AS_THE_FIRST, sys.executable, "-m", "ema_assets", "metrics", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (first,) = psutil.Process(process.pid).children()
        first.terminate()
        try:
            _, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, stderr) == (0, "")


@pytest.mark.broad
def test_an_embedded_postgresql_is_read_but_neither_kept_running_nor_started(home: Path) -> None:
    settings = Settings.from_env()
    dagster_parts.write_instance_file(settings, None, print)

    def says(line: str) -> bool:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return f"\nema_assets_{line}\n" in answer.read().decode()

    server = EmbeddedServer(settings.postgres_folder)
    with start("metrics", "--port", "0") as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1].removesuffix(".")
        try:
            with server:
                migrate(server.url)
                wait_until(lambda: says("database_up 1.0") and says("dagster_up 1.0"), "database and Dagster are read")
            # The server in the block had the last lease.
            assert read_running(settings.postgres_folder) is None
            wait_until(lambda: says("database_up 0.0"), "a scrape without a database")
            assert read_running(settings.postgres_folder) is None
        finally:
            process.kill()
            server.stop(force=True)


@pytest.mark.broad
def test_a_port_in_use_is_reported(home: Path, taken_port: int) -> None:
    done = in_a_process("metrics", "--port", str(taken_port))
    assert done.returncode == 1
    assert sentence_of(done.stderr).startswith(f"port {taken_port} on 127.0.0.1 is in use; choose another")
    done = in_a_process("up", "--port", "39171", "--metrics-port", str(taken_port))
    assert done.returncode == 1
    assert f"`ema-assets up --metrics-port {taken_port + 1}`" in sentence_of(done.stderr)


@pytest.mark.broad
def test_the_address_and_allowed_hosts_can_be_set_and_wrong_ones_are_refused(home: Path) -> None:
    with start("metrics", "--host", "::1", "--port", "0", "--allow-host", "metrics.example") as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1].removesuffix(".")
        assert url.startswith("http://[::1]:")
        request = urllib.request.Request(url.replace("/metrics", "/"), headers={"Host": "metrics.example:80"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.read() == b"metrics of ema-assets are at /metrics\n"
        process.kill()
    for options, said in (
        (("--host", " "), "`--host` must be an address to listen on such as 127.0.0.1, received none"),
        (("--host", "203.0.113.7", "--port", "9464"), "metrics cannot be served on 203.0.113.7, port 9464: "),
        (("--allow-host", "http://x"), "`--allow-host` must be names of hosts without ports, received 'http://x'"),
    ):
        done = in_a_process("metrics", *options)
        assert done.returncode == 1
        assert sentence_of(done.stderr).startswith(said)


def test_the_variables_that_hold_keys_are_known() -> None:
    assert registry.secrets() == {"APCA_API_KEY_ID", "APCA_API_SECRET_KEY"}
