"""SIGKILL of Dagster's daemon, which owns the queue, the schedules and the standby processes."""

from benchmarks.chaos.declaration import Fault
from benchmarks.chaos.killing import killing
from benchmarks.chaos.world import DAEMON

FAULT = Fault(
    name="kill-daemon",
    does="SIGKILL of Dagster's daemon",
    heals="`up` starts it again",
    cause=killing(DAEMON, "the daemon"),
)
