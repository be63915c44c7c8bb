"""What runs in a cluster: PostgreSQL, broker, exchange and Dagster on this machine, workers on the hosts."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg2

from benchmarks.cluster_hosts import CENTRE, NETWORK, Host, relay
from benchmarks.cluster_market import Market
from ema_assets.config.settings import DAGSTER_EVENT_VARIABLES
from ema_assets.runtime.postgres import cluster
from ema_assets.runtime.postgres.server import EmbeddedServer
from ema_assets.runtime.services import free_port

_INSTANCE = Path(__file__).parents[1] / "deploy" / "celery" / "dagster.yaml"
RABBITMQ, REDIS = "rabbitmq", "redis"
_START_SECONDS = 240.0


@dataclass(slots=True)
class Worker:
    """An `ema-assets worker` on a host."""

    host: Host
    process: "subprocess.Popen[bytes]"

    def pids(self) -> set[int]:
        """Its process and those that execute runs."""
        with suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.process.pid)
            return {parent.pid, *(child.pid for child in parent.children(recursive=True))}
        return set()

    def cpu_seconds(self) -> float:
        """Of all its processes so far."""
        spent = 0.0
        for pid in self.pids():
            with suppress(psutil.NoSuchProcess):
                times = psutil.Process(pid).cpu_times()
                spent += times.user + times.system
        return spent

    def stop(self) -> None:
        """End it as an operator would; kill it when that takes a minute."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@dataclass(slots=True)
class Broker:
    """A broker: its URL for the hosts, how it is stopped, and how it is started again."""

    url: str
    stop: Callable[[], object]
    start: Callable[[], object]


@dataclass(slots=True)
class Cluster:
    """A cluster that runs."""

    soak: Market
    hosts: list[Host]
    folder: Path
    env: dict[str, str]
    broker: Broker
    workers: list[Worker] = field(default_factory=list)

    def start_worker(self, host: Host, processes: int, queues: str = "live,slow", *more: str) -> Worker:
        """Start a worker of so many processes on `host`."""
        words = [sys.executable, "-m", "ema_assets", "worker", "--processes", str(processes), "--queues", queues, *more]
        worker = Worker(host, host.start(words, self.env, self.folder / f"{host.name}.out"))
        self.workers.append(worker)
        return worker

    def stop_workers(self) -> None:
        for worker in self.workers:
            worker.stop()
        self.workers.clear()


def own_postgres(folder: Path) -> EmbeddedServer:
    """The embedded server, listening on the bridge too: through a relay the server would not see a host vanish."""
    cluster.SETTINGS["listen_addresses"] = f"127.0.0.1,{CENTRE}"
    return EmbeddedServer(folder)


def url_from_hosts(server: EmbeddedServer, url: str) -> str:
    """`url` as hosts and this machine reach it, with its password."""
    password = (server.folder / "passfile").read_text().strip().rsplit(":", 1)[1]
    logins = next(server.folder.rglob("*hba*"))
    logins.write_text(f"{logins.read_text()}host all ema {NETWORK}.0/24 scram-sha-256\n")
    connection = psycopg2.connect(server.url)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_reload_conf()")
    connection.close()
    parts = urlsplit(url)
    return f"postgresql://ema:{password}@{CENTRE}:{parts.port}{parts.path}"


@contextmanager
def broker(kind: str, folder: Path) -> Iterator[Broker]:
    """The RabbitMQ of this machine through a relay, or a Redis of its own, which keeps nothing on disk."""
    port = free_port()
    with ExitStack() as undo:
        if kind == RABBITMQ:
            relay(port, "127.0.0.1:5672", undo)
            yield Broker(
                f"pyamqp://guest:guest@{CENTRE}:{port}//", partial(_rabbitmq, "stop"), partial(_rabbitmq, "start")
            )
        else:
            redis = _Redis(folder, port)
            redis.start()
            undo.callback(redis.stop)
            yield Broker(f"redis://{CENTRE}:{port}/0", redis.stop, redis.start)


def _rabbitmq(what: str) -> None:
    subprocess.run(["rabbitmqctl", "--quiet", f"{what}_app"], check=True, stdout=subprocess.DEVNULL)


class _Redis:
    def __init__(self, folder: Path, port: int) -> None:
        self._folder, self._port = folder, port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            ["redis-server", "--bind", CENTRE, "--port", str(self._port), "--save", "", "--protected-mode", "no"],
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def exchange_for(hosts: Sequence[Host], base_url: str, undo: ExitStack) -> None:
    """Let every host reach the exchange of this machine under the same URL: it answers to its own name alone."""
    port, outside = urlsplit(base_url).port or 0, free_port()
    relay(outside, f"127.0.0.1:{port}", undo)
    for host in hosts:
        relay(port, f"{CENTRE}:{outside}", undo, host, "127.0.0.1")


@contextmanager
def centre(folder: Path, env: dict[str, str]) -> Iterator[str]:
    """Code server, daemon and webserver as the Compose file starts them; yields the URL of the UI."""
    home = Path(env["DAGSTER_HOME"])
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_text(_INSTANCE.read_text())
    code, ui = free_port(), free_port()
    workspace = folder / "workspace.yaml"
    workspace.write_text(
        f"load_from:\n- grpc_server: {{host: 127.0.0.1, port: {code}, location_name: ema_assets.definitions}}\n"
    )
    python = sys.executable
    with ExitStack() as undo:
        for name, port, words in (
            ("code", code, ["-m", "dagster", "code-server", "start", "-h", "127.0.0.1", "-p", str(code)]),
            ("webserver", ui, ["-m", "ema_assets.defs.webserver", "-h", "127.0.0.1", "-p", str(ui)]),
            ("daemon", None, ["-m", "dagster._daemon", "run"]),
        ):
            more = ["-m", "ema_assets.definitions"] if name == "code" else ["-w", str(workspace)]
            with (folder / f"{name}.out").open("wb") as output:
                process = subprocess.Popen(
                    [python, *words, *more], env=env, cwd=folder, stdout=output, stderr=subprocess.STDOUT
                )
            undo.callback(process.wait)
            undo.callback(process.terminate)
            if port is not None:
                _await(port, process, folder / f"{name}.out")
        yield f"http://127.0.0.1:{ui}"


def environment(folder: Path, url: str, broker_url: str, **more: str) -> dict[str, str]:
    """The environment of every process; the same on all hosts."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("EMA_", "APCA_", "DAGSTER_", "PG"))}
    return {
        **kept,
        **DAGSTER_EVENT_VARIABLES,
        "DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS": "300",
        "DAGSTER_HOME": str(folder / "dagster"),
        "EMA_HOME": str(folder),
        "EMA_WATCHLIST": str(folder / "watchlist.toml"),
        "EMA_DATABASE_URL": url,
        "EMA_CELERY_BROKER": broker_url,
        "EMA_SWEEP_SECONDS": "5",
        "PYTHONWARNINGS": "ignore",
        "PYTHONUNBUFFERED": "1",
        # Of the shell: the programs below are found from any folder.
        "PYTHONPATH": str(Path(__file__).parents[1]),
        **more,
    }


def empty_queues(broker_url: str, *, and_delete: bool = False) -> None:
    """Lose every message at a broker; with `and_delete` the queues too."""
    from kombu.connection import Connection

    with Connection(broker_url) as connection:
        for name in ("live", "slow"):
            # A queue that is not there is an error that closes the channel.
            with suppress(Exception), connection.channel() as channel:
                channel.queue_purge(name)
                if and_delete:
                    channel.queue_delete(name)


def check_extra() -> None:
    if importlib.util.find_spec("dagster_celery") is None:
        raise SystemExit("this needs Celery: pip install 'ema-assets[cluster]', and redis for Redis")


def _await(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.3)
    raise SystemExit(f"{log.name} does not answer:\n{log.read_text(errors='replace')[-3000:]}")


def answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=10):  # noqa: S310 - our own http://127.0.0.1 URL
        return True
    return False
