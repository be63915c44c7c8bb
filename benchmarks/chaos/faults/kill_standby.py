"""SIGKILL of a standby process, at work or waiting."""

from benchmarks.chaos.declaration import Fault
from benchmarks.chaos.killing import killing
from benchmarks.chaos.world import STANDBY

FAULT = Fault(
    name="kill-standby",
    does="SIGKILL of a standby process, at work or waiting",
    heals="the launcher starts another one; the sweep takes up the series of its run",
    cause=killing(STANDBY, "a standby process"),
)
