"""`ema-assets up`: database, sandbox and Dagster together, in one process tree that ends together.

Not here: what each of them does. Dagster itself is only ever started as a child, never imported.
"""

import fcntl
import json
import os
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from signal import Signals
from typing import IO

from ema_assets.config import watchlist
from ema_assets.config.settings import DAGSTER_EVENT_VARIABLES, Settings, check_clock
from ema_assets.model import clock
from ema_assets.model.errors import ConfigurationError, EmaAssetsError
from ema_assets.model.timeframes import ORDER, Timeframe
from ema_assets.model.urls import masked_url
from ema_assets.operations.sync_watchlist import sync
from ema_assets.refresh.graph import build, configured
from ema_assets.reports import status
from ema_assets.runtime.postgres.server import EmbeddedServer
from ema_assets.runtime.supervisor import Child, ChildExit, Supervisor
from ema_assets.store.database import Database
from ema_assets.store.ledger import summary
from ema_assets.store.setup import prepare_database

HOST = "127.0.0.1"
DEFAULT_PORT = 3000
_START_SECONDS = 120.0
_PROGRESS_SECONDS = 3.0
_LOOK_SECONDS = 0.5

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Running:
    """What a running `up` tells other commands, in `EMA_HOME/up.json`. Holds no secret."""

    pid: int
    ui: str
    provider: str
    sandbox_url: str | None
    started_at: str
    clock: str = ""


def is_alive(settings: Settings) -> bool:
    """True while any `up` of this EMA_HOME lives, also one that is just starting or stopping."""
    try:
        with _lock_path(settings).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def read_pid(settings: Settings) -> int | None:
    """The process of the `up` that lives on this EMA_HOME, also while it is starting or stopping."""
    if not is_alive(settings):
        return None
    text = _lock_path(settings).read_text(encoding="utf-8")
    return int(text) if text else None


def read_state(settings: Settings) -> Running | None:
    """The `up` that runs on this EMA_HOME, or None; also None while it is still starting."""
    if not is_alive(settings):
        return None
    try:
        return Running(**json.loads(_state_path(settings).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def run(settings: Settings, port: int, say: Say) -> int:
    """Start everything, show progress, wait for a signal, stop everything; return the exit code.

    Raises:
        EmaAssetsError: when something cannot be started; everything started so far is stopped.
    """
    settings.home.mkdir(parents=True, exist_ok=True)
    with _only_one(settings), Supervisor() as supervisor:
        _check_port(port)
        watchlist.ensure(settings.watchlist_path)
        watched = watchlist.load(settings.watchlist_path)
        providers = watched.providers(settings.provider)
        if "alpaca" in providers:
            settings.alpaca_keys()
        for name in sorted(providers):
            check_clock(settings.clock, name)
        server: EmbeddedServer | None = None
        try:
            url = settings.database_url
            if url is None:
                say("Starting the embedded PostgreSQL …")
                server = EmbeddedServer(settings.postgres_folder)
                # Known to the supervisor before it is ready: killed at any moment, `up` leaves no server behind.
                server.start(supervisor.on_orphan)
                url = server.url
                if server.pid is not None:
                    supervisor.on_orphan(server.pid)
            prepare_database(url)
            with Database(url) as database:
                _check_time(settings, database)
                sync(database, watched, clock.now(), build(watched, settings.signals_folder))
                env = _environment(settings, url)
                if "sandbox" in providers and settings.sandbox_url is None:
                    say("Starting the sandbox exchange (synthetic prices) …")
                    env["EMA_SANDBOX_URL"] = _start_sandbox(supervisor, settings, env)
                say("Starting Dagster …")
                ui = _start_dagster(supervisor, settings, env, port)
                state = Running(
                    pid=os.getpid(),
                    ui=ui,
                    provider=settings.provider,
                    sandbox_url=env.get("EMA_SANDBOX_URL"),
                    started_at=datetime.now(UTC).isoformat(timespec="seconds"),
                    clock=str(settings.clock or ""),
                )
                _write_state(settings, state)
                _greet(settings, ui, masked_url(url), watched, say)
                ended = _watch(supervisor, database, ui, say)
            if isinstance(ended, ChildExit):
                raise EmaAssetsError(f"{ended}")
            say("Stopping …")
            return 0
        finally:
            # Children first: they hold connections to the database.
            supervisor.close()
            if server is not None:
                # By force: nobody else may use this EMA_HOME, so a server found running was left by a crash.
                server.stop(force=True)
            _state_path(settings).unlink(missing_ok=True)


def _greet(settings: Settings, ui: str, database: str, watched: watchlist.Watchlist, say: Say) -> None:
    say("")
    say(f"  Dagster UI   {ui}")
    say(f"  Database     {database}")
    for name in sorted(watched.providers(settings.provider)):
        prices = "sandbox exchange: SYNTHETIC prices, not market data" if name == "sandbox" else name
        say(f"  Provider     {prices}")
    if settings.clock is not None:
        say(f"  Clock        {settings.clock}: virtual, now {clock.now():%Y-%m-%d %H:%M} UTC")
    say(f"  Watchlist    {settings.watchlist_path} ({len(watched.symbols)} symbols)")
    say(f"  Logs         {settings.logs_folder}")
    say("")
    say("Ctrl-C stops everything; the data stays.")
    say("")


def _check_time(settings: Settings, database: Database) -> None:
    """Refuse a time before that of stored bars: until it has caught up nothing would look stale."""
    with database.transaction() as transaction:
        newest = summary.newest_check(transaction)
    if settings.clock is not None and newest is not None and newest > clock.now():
        raise ConfigurationError(
            f"`{clock.VARIABLE}` must not lie before the bars that are stored, received '{settings.clock}'; go on from "
            f"{newest:%Y-%m-%dT%H:%MZ}, or set EMA_HOME to another folder"
        )


def _watch(supervisor: Supervisor, database: Database, ui: str, say: Say) -> Signals | ChildExit:
    """Say how loading goes until all is up to date, then only what changes for the worse; until a signal comes."""
    news = _News(say)
    assets = configured(Settings.from_env()).fingerprint
    while True:
        ended = supervisor.until_signalled(timeout_seconds=_PROGRESS_SECONDS)
        if ended is not None:
            return ended
        try:
            assets = _reloaded(ui, assets, say)
        except EmaAssetsError as error:
            news.once(f"not loaded: {error}")
        try:
            with database.transaction() as transaction:
                news.problems(status.failure_reasons(transaction), status.without_bars(transaction))
                if not news.is_complete:
                    news.progress(status.progress(transaction))
        except EmaAssetsError as error:
            news.once(f"the database does not answer: {error}")


def _reloaded(ui: str, known: str, say: Say) -> str:
    """Have Dagster load its assets again when the configuration makes others than those it has; return their mark.

    Raises:
        ConfigurationError: when the configuration cannot be loaded; Dagster launches nothing then and says so, too.
    """
    wanted = configured(Settings.from_env()).fingerprint
    if wanted == known:
        return known
    query = json.dumps({"query": "mutation { reloadWorkspace { __typename } }"}).encode()
    request = urllib.request.Request(f"{ui}/graphql", query, {"Content-Type": "application/json"})  # noqa: S310 - ours
    try:
        with urllib.request.urlopen(request, timeout=120):  # noqa: S310 - our own http://127.0.0.1 URL
            say("  signals or strategies have changed: Dagster has loaded its assets again")
    except (urllib.error.URLError, OSError):
        return known
    return wanted


class _News:
    """Says each thing once."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._told: set[str] = set()
        self.is_complete = False

    def once(self, line: str, topic: str | None = None) -> None:
        """Say `line`, unless it or another line on the same `topic` has been said."""
        if (topic or line) not in self._told:
            self._told.add(topic or line)
            self._say(f"  {line}")

    def problems(self, failing: list[status.FailureReason], without_bars: list[str]) -> None:
        for failure in failing:
            self.once(f"failing: {failure}", topic=failure.reason)
        if without_bars:
            self.once(f"the provider has no bars of {', '.join(without_bars)}; are the symbols right?")

    def progress(self, progress: dict[Timeframe, tuple[int, int]]) -> None:
        counts = "  ".join(f"{timeframe.value} {done}/{total}" for timeframe, (done, total) in progress.items())
        self.once(f"series up to date: {counts}")
        if progress and all(done == total for done, total in progress.values()):
            self.is_complete = True
            self.once(f"every series on {len(ORDER)} timeframes is up to date; new bars follow at their closes")


def _environment(settings: Settings, url: str) -> dict[str, str]:
    """The children's environment: explicit where this process decided, so that they decide the same."""
    return {
        **os.environ,
        "EMA_HOME": str(settings.home),
        "EMA_DATABASE_URL": url,
        "EMA_PROVIDER": settings.provider,
        "EMA_WATCHLIST": str(settings.watchlist_path),
        "DAGSTER_HOME": str(settings.dagster_home),
        # The children's current folder is another one.
        **({"EMA_SIGNALS_FOLDER": str(settings.signals_folder)} if os.environ.get("EMA_SIGNALS_FOLDER") else {}),
        **DAGSTER_EVENT_VARIABLES,
        "PYTHONUNBUFFERED": "1",
        # Notices of Dagster about itself (beta parameters, `dg dev`) are nothing a user of `up` can act on.
        "PYTHONWARNINGS": "ignore",
    }


def _start_sandbox(supervisor: Supervisor, settings: Settings, env: dict[str, str]) -> str:
    port = _free_port()
    argv = [sys.executable, "-m", "ema_assets", "sandbox", "--port", str(port)]
    child = supervisor.spawn("the sandbox exchange", argv, env, settings.logs_folder / "sandbox.log")
    base_url = f"http://{HOST}:{port}"
    _wait_for(supervisor, child, f"{base_url}/sandbox")
    return base_url


def _start_dagster(supervisor: Supervisor, settings: Settings, env: dict[str, str], port: int) -> str:
    settings.dagster_home.mkdir(parents=True, exist_ok=True)
    own = Path("dagster.yaml")
    text = (
        own.read_text(encoding="utf-8")
        if own.exists()
        else resources.files("ema_assets").joinpath("dagster.yaml").read_text(encoding="utf-8")
    )
    (settings.dagster_home / "dagster.yaml").write_text(text, encoding="utf-8")
    argv = [sys.executable, "-m", "dagster", "dev", "-m", "ema_assets.definitions", "-h", HOST, "-p", str(port)]
    child = supervisor.spawn(
        "dagster dev",
        argv,
        env,
        settings.logs_folder / "dagster.log",
        # Not the current folder: its dagster.yaml would be found beside DAGSTER_HOME and warned about.
        cwd=settings.dagster_home,
        stop_signal=Signals.SIGINT,
        stop_main_only=True,
        grace_seconds=20.0,
    )
    ui = f"http://{HOST}:{port}"
    _wait_for(supervisor, child, f"{ui}/server_info")
    return ui


def _wait_for(supervisor: Supervisor, child: Child, url: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        ended = supervisor.check()
        if ended is not None:
            raise EmaAssetsError(f"{ended}")
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own http://127.0.0.1 URL
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.2)
    raise EmaAssetsError(f"{child.name} did not answer at {url} within {_START_SECONDS:g} s; see {child.log_path}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise ConfigurationError(
                f"port {port} on {HOST} is in use; stop what listens there, or choose another with "
                f"`ema-assets up --port {port + 1}`"
            ) from None


def _lock_path(settings: Settings) -> Path:
    return settings.home / "up.lock"


def _state_path(settings: Settings) -> Path:
    return settings.home / "up.json"


@contextmanager
def _only_one(settings: Settings) -> Iterator[None]:
    with _lock_path(settings).open("a+b") as lock:
        if not _is_won(lock):
            running = read_state(settings)
            where = f" (process {running.pid}, UI at {running.ui})" if running else ""
            raise ConfigurationError(
                f"`ema-assets up` already runs on {settings.home}{where}; stop it with `ema-assets down`, "
                "or set EMA_HOME to another folder"
            )
        lock.truncate(0)
        lock.write(str(os.getpid()).encode())
        lock.flush()
        # One that was killed has left its own behind, and this one is not ready yet.
        _state_path(settings).unlink(missing_ok=True)
        yield


def _is_won(lock: IO[bytes]) -> bool:
    # `is_alive` of another command holds the lock for an instant, to look.
    deadline = time.monotonic() + _LOOK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def _write_state(settings: Settings, state: Running) -> None:
    path = _state_path(settings)
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(asdict(state), indent=2) + "\n", encoding="utf-8")
    draft.replace(path)
