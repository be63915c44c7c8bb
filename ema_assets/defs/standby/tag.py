"""The tag that says which standby process has a run: by it any process of this machine can find and stop it."""

import os
import signal
import socket
from collections.abc import Mapping

import msgspec

# Dagster hides tags that begin like this in its UI.
TAG = ".dagster/ema_assets/standby"
# Asks a standby process to look whether its run is being canceled.
CANCEL = signal.SIGUSR1


class Holder(msgspec.Struct, frozen=True):
    """The process that has the run `run_id`. `identity` tells it from a later owner of its pid."""

    run_id: str
    host: str
    pid: int
    identity: int

    @classmethod
    def of_process(cls, run_id: str, pid: int) -> "Holder":
        """The process `pid` of this machine."""
        # Every run imports this module, and none of them looks at processes, for which psutil is imported.
        from ema_assets.runtime import processes

        return cls(run_id, socket.gethostname(), pid, processes.identity(pid))

    @classmethod
    def of_run(cls, run_id: str, tags: Mapping[str, str]) -> "Holder | None":
        """Who has a run with these `tags`; None when it is no standby process. A retry has the tags of its parent."""
        try:
            found = msgspec.json.decode(tags.get(TAG, ""), type=cls)
        except msgspec.DecodeError:
            return None
        return found if found.run_id == run_id else None

    def tags(self) -> dict[str, str]:
        """The tag for its run."""
        return {TAG: msgspec.json.encode(self).decode()}

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine."""
        return self.host == socket.gethostname()

    def lives(self) -> bool:
        """Whether the process is there; only of one that is here."""
        from ema_assets.runtime import processes

        return self.identity != 0 and processes.identity(self.pid) == self.identity

    def ask_to_cancel(self) -> bool:
        """Have it look whether its run is being canceled; False when it is gone."""
        if not self.lives():
            return False
        try:
            os.kill(self.pid, CANCEL)
        except ProcessLookupError:
            return False
        return True
