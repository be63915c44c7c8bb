"""Worker hosts: network namespaces on a bridge of this machine, whose links can be cut. Not what runs on them."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

# Of this process alone, so that two of them do not meet.
_NUMBER = 1 + os.getpid() % 250
_BRIDGE, NETWORK = f"ema-br{_NUMBER}", f"10.93.{_NUMBER}"
# This machine as the hosts see it.
CENTRE = f"{NETWORK}.1"


@dataclass(frozen=True, slots=True)
class Host:
    """A namespace with one link to the bridge."""

    name: str

    def start(self, command: Sequence[str], env: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
        """Start `command` on it; what it prints is added to `log`."""
        with log.open("ab") as output:
            return subprocess.Popen(
                ["ip", "netns", "exec", self.name, *command],
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def cut_off(self) -> None:
        """Take its link down: nothing is refused, packets just do not arrive."""
        _ip("link", "set", _link(self.name), "down")

    def join(self) -> None:
        """Bring the link up again."""
        _ip("link", "set", _link(self.name), "up")


@contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    """Make so many hosts; all are gone after the block."""
    names = [f"ema-{_NUMBER}-{number + 1}" for number in range(count)]
    with ExitStack() as undo:
        _made(undo, ("link", "add", _BRIDGE, "type", "bridge"), ("link", "del", _BRIDGE))
        _ip("addr", "add", f"{CENTRE}/24", "dev", _BRIDGE)
        _ip("link", "set", _BRIDGE, "up")
        for number, name in enumerate(names):
            _made(undo, ("netns", "add", name), ("netns", "del", name))
            link, inner = _link(name), "eth0"
            _made(undo, ("link", "add", link, "type", "veth", "peer", "name", inner, "netns", name))
            _ip("link", "set", link, "master", _BRIDGE, "up")
            for words in (
                ("addr", "add", f"{NETWORK}.{number + 11}/24", "dev", inner),
                ("link", "set", inner, "up"),
                ("link", "set", "lo", "up"),
            ):
                _ip("-n", name, *words)
        yield [Host(name) for name in names]


def relay(
    port: int, target: str, undo: ExitStack, host: Host | None = None, address: str = CENTRE
) -> "subprocess.Popen[bytes]":
    """Pass connections to `address`:`port` on to `target`, on `host` or on this machine, until `undo` is closed."""
    words = ["socat", f"TCP-LISTEN:{port},bind={address},fork,reuseaddr", f"TCP:{target}"]
    if host is not None:
        words = ["ip", "netns", "exec", host.name, *words]
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    undo.callback(_ended(process))
    return process


def _ended(process: "subprocess.Popen[bytes]") -> Callable[[], None]:
    def end() -> None:
        # It has a process per connection.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()

    return end


def _link(name: str) -> str:
    return f"v-{name}"


def _made(undo: ExitStack, add: Sequence[str], remove: Sequence[str] | None = None) -> None:
    _ip(*add)
    if remove is not None:
        undo.callback(_ip, *remove)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"ip {' '.join(words)}: {done.stderr.strip()}; this needs Linux and root")
