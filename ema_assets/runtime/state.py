"""Whether an `up` runs on an EMA_HOME, and what it tells other commands: a lock and a small file. Starts nothing."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from ema_assets.config.settings import Settings
from ema_assets.config.shared_files import replace_text
from ema_assets.model.errors import ConfigurationError

_LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Running:
    """What a running `up` tells other commands, in `EMA_HOME/up.json`. Holds no secret."""

    pid: int
    ui: str
    provider: str
    provider_urls: dict[str, str]
    started_at: str
    clock: str = ""
    board: str = ""


def is_alive(settings: Settings) -> bool:
    """Return whether any `up` of this EMA_HOME is alive, including one that is starting or stopping."""
    try:
        with _lock_path(settings).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def read_pid(settings: Settings) -> int | None:
    """Return the pid of the `up` that is alive on this EMA_HOME, even while it is starting or stopping."""
    if not is_alive(settings):
        return None
    text = _lock_path(settings).read_text(encoding="utf-8")
    return int(text) if text else None


def read_state(settings: Settings) -> Running | None:
    """Return the `up` that runs on this EMA_HOME, or None; None also while it is still starting."""
    if not is_alive(settings):
        return None
    try:
        return Running(**json.loads(_state_path(settings).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write_state(settings: Settings, running: Running) -> None:
    """Tell other commands that this `up` is ready."""
    replace_text(_state_path(settings), json.dumps(asdict(running), indent=2) + "\n")


@contextmanager
def only_one(settings: Settings) -> Iterator[None]:
    """Be the only `up` of this EMA_HOME during the block. What it told other commands is deleted at the end.

    Raises:
        ConfigurationError: when another one is alive.
    """
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
        # An `up` that was killed has left its file, and this one is not ready yet.
        _state_path(settings).unlink(missing_ok=True)
        try:
            yield
        finally:
            _state_path(settings).unlink(missing_ok=True)


def _is_won(lock: IO[bytes]) -> bool:
    # `is_alive` in another command locks the file for an instant to look.
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


def _lock_path(settings: Settings) -> Path:
    return settings.home / "up.lock"


def _state_path(settings: Settings) -> Path:
    return settings.home / "up.json"
