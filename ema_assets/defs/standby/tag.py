"""The tag that says which standby process has a run. With it, any process of this machine can find and stop the run."""

import os
import signal
import socket
from collections.abc import Mapping

import msgspec

# Dagster hides tags with this prefix in its UI.
TAG = ".dagster/ema_assets/standby"
# Makes a standby process check whether its run is being canceled.
CANCEL = signal.SIGUSR1


class Holder(msgspec.Struct, frozen=True):
    """The process that has the run `run_id`. `identity` distinguishes it from a later owner of its pid."""

    run_id: str
    host: str
    pid: int
    identity: int

    @classmethod
    def of_process(cls, run_id: str, pid: int) -> "Holder":
        """Return the process `pid` of this machine as the holder of the run."""
        # Every run imports this module, but none needs to inspect processes, for which psutil is imported.
        from ema_assets.runtime import processes

        return cls(run_id, socket.gethostname(), pid, processes.identity(pid))

    @classmethod
    def of_run(cls, run_id: str, tags: Mapping[str, str]) -> "Holder | None":
        """Return which standby process has a run with these `tags`, or None. A retry carries its parent's tags."""
        try:
            found = msgspec.json.decode(tags.get(TAG, ""), type=cls)
        except msgspec.DecodeError:
            return None
        return found if found.run_id == run_id else None

    def tags(self) -> dict[str, str]:
        """Return the tag for its run."""
        return {TAG: msgspec.json.encode(self).decode()}

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine."""
        return self.host == socket.gethostname()

    def lives(self) -> bool:
        """Return whether the process is alive; valid only for a process of this machine."""
        from ema_assets.runtime import processes

        return self.identity != 0 and processes.identity(self.pid) == self.identity

    def ask_to_cancel(self) -> bool:
        """Make it check whether its run is being canceled; return False when the process has ended."""
        if not self.lives():
            return False
        try:
            os.kill(self.pid, CANCEL)
        except ProcessLookupError:
            return False
        return True
